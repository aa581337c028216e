#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only
#
# The module on a CPU that it cannot use: it does not load, says why in one line,
# and leaves nothing behind. Plain sh as in busybox.
#
#	refuse.sh LOG DOCTOR
#
# LOG: what keel's line in the log must say, DOCTOR: what a line of keel doctor must
# fail with (both for grep -E).

dir=$(dirname "$0")
# shellcheck source=selftests/tap.sh
. "$dir/tap.sh"
find_module

insmod_fails()
{
	said=$(insmod "$ko" 2>&1) && return 1
	echo "$said" | grep -q 'No such device' && return 0
	echo "# $said"
	return 1
}

# The loader's word about modules from elsewhere also bears keel's name; busybox'
# insmod tries both of the kernel's calls, and so may have keel say it twice.
one_line()
{
	lines=$(dmesg | grep 'keel: ' | grep -v 'taints kernel' | sed 's/^[^]]*] //' | sort -u)
	[ "$(echo "$lines" | wc -l)" = 1 ] && echo "$lines" | grep -qE "$1" && return 0
	echo "$lines" | sed 's/^/# /'
	return 1
}

nothing_left()
{
	! loaded && [ ! -e /dev/keel ] && [ ! -e /sys/kernel/debug/keel ] && [ ! -e /sys/module/keel ]
}

doctor_fails()
{
	said=$("$dir/../userspace-vmm/keel" doctor)
	[ $? = 1 ] && echo "$said" | grep -qE "^FAIL .*($1)" && return 0
	echo "$said" | sed 's/^/# /'
	return 1
}

echo "TAP version 13"
dmesg -c >/dev/null
check "keel does not load" insmod_fails
check "one line says why: $1" one_line "$1"
check "nothing of it is left" nothing_left
check "keel doctor fails: $2" doctor_fails "$2"
check "a second try fails alike" insmod_fails
end
