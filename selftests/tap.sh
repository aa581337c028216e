# SPDX-License-Identifier: GPL-2.0-only
# shellcheck shell=sh disable=SC2154
# Tests that are scripts count here (clients/lib.sh and userspace-vmm/tests/*.t, too). And what module.sh, refuse.sh and
# power.sh have in common: the module's file ($ko), a VM in the background. They set
# $dir, and may set $ko; plain sh as in busybox.

n=0
bad=0

ok()
{
	n=$((n + 1))
	echo "ok $n - $1"
}

not_ok()
{
	n=$((n + 1))
	bad=$((bad + 1))
	echo "not ok $n - $1"
}

skip()
{
	n=$((n + 1))
	echo "ok $n - $1 # SKIP $2"
}

# check NAME COMMAND...: one test
check()
{
	tap_name=$1
	shift
	if "$@"; then ok "$tap_name"; else not_ok "$tap_name"; fi
}

# result STATUS NAME [FILE...]: one test; if it failed the ends of the files tell of it
result()
{
	tap_status=$1 tap_name=$2
	shift 2
	[ "$tap_status" != 0 ] || { ok "$tap_name"; return; }
	not_ok "$tap_name"
	[ $# = 0 ] || tail -n 20 "$@" | cut -c1-300 | sed 's/^/# /'
}

bail()
{
	echo "Bail out! $*"
	exit 1
}

# The plan; fails when a test has.
end()
{
	echo "1..$n"
	[ $bad -eq 0 ]
}

find_module()
{
	[ -z "$ko" ] || [ -f "$ko" ] || bail "no $ko"
	for f in "$ko" "build/$(uname -r)/keel.ko" /keel/modules/keel.ko; do
		[ -n "$f" ] && [ -f "$f" ] && ko=$f && break
	done
	[ -f "$ko" ] || bail 'no keel.ko'
}

loaded()
{
	grep -q '^keel ' /proc/modules
}

# hold VCPUS [keep]: start a VM that runs for ever: its process is $vm, its output $out
hold()
{
	out=/tmp/hold.$$
	"$dir/hold" /dev/keel "$@" >"$out" 2>&1 &
	vm=$!
	for _ in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do
		grep -q running "$out" && return 0
		sleep 1
	done
	echo "# the guest does not run: $(cat "$out")"
	return 1
}

drop()
{
	kill -9 "$vm" 2>/dev/null
	wait "$vm" 2>/dev/null
	rm -f "$out"
}

progress()
{
	a=$(tail -n 1 "$out")
	sleep 3
	b=$(tail -n 1 "$out")
	[ "$a" != running ] || a=0
	[ "$b" != running ] && [ "$b" -gt "$a" ]
}

# runs DEVICE: guests run on it; what the program said is shown if they do not
runs()
{
	said=$("$dir/hello" "$1" 2>&1) && return 0
	echo "$said" | sed 's/^/# /'
	return 1
}
