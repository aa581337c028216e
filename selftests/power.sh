#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only
#
# With a VM running the host sleeps and wakes up, or starts another kernel by kexec,
# or crashes into one: keel's hold on the CPUs must be gone each time, and back after
# sleep. Plain sh as in busybox; keel is loaded when it starts.
#
#	power.sh suspend | kexec BZIMAGE | crash BZIMAGE
#
# The second kernel's initramfs is made here, and this script is its /init: it goes on
# counting, and ends the host as the first kernel's /init would have.

second_init()
{
	/bin/busybox mount -t proc proc /proc
	/bin/busybox mount -t devtmpfs dev /dev
	/bin/busybox --install -s
	dmesg -n 8
	dir=/
	# shellcheck source=selftests/tap.sh
	. /tap.sh
	find_module
	cpus=1
	# shellcheck source=/dev/null
	. /state
	while [ ! -e "$KEEL_STDOUT" ] || [ ! -e "$KEEL_STATUS" ]; do sleep 1; done
	exec >"$KEEL_STDOUT" 2>&1
	ok "the second kernel is up"
	[ "$cpus" = 1 ] || check "with $cpus CPUs" test "$(nproc)" = "$cpus"
	check "keel loads there" insmod "$ko"
	check "and runs a guest" runs /dev/keel
	end
	echo $? >"$KEEL_STATUS"
	poweroff -f
	sleep 60
}

[ $$ != 1 ] || second_init

case $1 in
suspend | kexec | crash) ;;
*) echo "Bail out! usage: power.sh suspend | kexec BZIMAGE | crash BZIMAGE"; exit 2 ;;
esac
dir=$(dirname "$0")
# shellcheck source=selftests/tap.sh
. "$dir/tap.sh"
find_module

# load_second HOW BZIMAGE CPUS APPEND
load_second()
{
	t=/tmp/second
	mkdir -p $t/bin $t/sbin $t/usr/bin $t/usr/sbin $t/proc $t/dev $t/tmp $t/keel/modules
	cp "$KEEL_BUSYBOX" $t/bin/busybox
	ln -s busybox $t/bin/sh
	cp "$0" $t/init
	cp "$dir/tap.sh" "$dir/hello" $t
	cp "$ko" $t/keel/modules
	echo "n=1 cpus=$3 KEEL_STDOUT=$KEEL_STDOUT KEEL_STATUS=$KEEL_STATUS" >$t/state
	(cd $t && find . | "$KEEL_BUSYBOX" cpio -o -H newc) >/tmp/second.cpio 2>/dev/null
	"$dir/kexec" "$1" "$2" /tmp/second.cpio "$(sed 's/crashkernel=[^ ]*//' /proc/cmdline) $4"
}

# suspend LEVEL: none is the real thing
suspend()
{
	echo "$1" >/sys/power/pm_test && echo mem >/sys/power/state
}

# Before the guest takes most of the CPUs' time.
case $1 in
kexec) load_second load "$2" "$(nproc)" ;;
# One CPU, as is usual: the others may be anything.
crash) load_second crash "$2" 1 'nr_cpus=1 reset_devices' ;;
esac || { echo "Bail out! the second kernel is not loaded"; exit 1; }

echo "TAP version 13"
keep=
[ "$1" != kexec ] || keep=keep
if ! hold 2 $keep; then
	not_ok "a guest runs"
	end
	exit
fi
ok "a guest runs"
case $1 in
suspend)
	echo 1 >/sys/module/suspend/parameters/pm_test_delay
	check "suspend and resume, but for the firmware" suspend core
	check "the guest goes on, and its clock" progress
	if { echo deep >/sys/power/mem_sleep; } 2>/dev/null; then
		check "S3 and back" suspend none
		check "the guest goes on, and its clock" progress
	elif [ "$KEEL_HOST" = vmx ]; then
		not_ok "S3 is there: Bochs has it"
	else
		skip "S3 and back" "the firmware has none"
		skip "the guest goes on, and its clock" "no S3"
	fi
	drop
	check "another guest runs" runs /dev/keel
	;;
kexec)
	# what was printed has to get out
	sleep 1
	"$dir/kexec" go
	not_ok "into the second kernel"
	;;
crash)
	sleep 1
	echo c >/proc/sysrq-trigger
	not_ok "into the crash kernel"
	;;
esac
end
