#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only
#
# The module itself: loading, refusing to load, unloading, and the machine's
# CPUs coming and going under it. Plain sh as in busybox; keel is loaded when
# it starts, and loaded again when it ends.
#
#	module.sh [FILE.ko]
#
# LOADS: how often to load, run a guest and unload (default 10). KVM: the module that
# must be there to refuse beside (default: kvm_amd or kvm_intel, if one is there).

dir=$(dirname "$0")
ko=$1
# shellcheck source=selftests/tap.sh
. "$dir/tap.sh"

one_load()
{
	insmod "$ko" && runs /dev/keel && rmmod keel && ! loaded
}

many_loads()
{
	i=0
	while [ $i -lt "${LOADS:-10}" ]; do
		one_load || { echo "# at load $((i + 1))"; return 1; }
		i=$((i + 1))
	done
}

busy()
{
	! rmmod keel 2>/dev/null && loaded
}

unloads_after_kill()
{
	drop
	for _ in 1 2 3 4 5 6 7 8 9 10; do
		rmmod keel 2>/dev/null && return 0
		sleep 1
	done
	return 1
}

second_node()
{
	insmod "$ko" kvm_node=1 && [ -c /dev/kvm ] && runs /dev/kvm
}

# A CPU goes and comes back under a guest with more vCPUs than CPUs are left.
cpu_cycle()
{
	echo 0 >"$cpu/online" || return 1
	progress
	without=$?
	# Whatever came of it: the tests after this one want all CPUs.
	echo 1 >"$cpu/online" && [ $without = 0 ] && progress
}

echo "TAP version 13"
loaded && rmmod keel

check "load, run a guest, unload, ${LOADS:-10} times" many_loads

insmod "$ko"
check "a guest runs" hold 2
check "rmmod is refused while a VM is alive" busy
check "the guest goes on after that" progress
cpu=/sys/devices/system/cpu/cpu1
if [ -w $cpu/online ]; then
	check "a CPU goes offline and comes back under the guest" cpu_cycle
else
	skip "a CPU goes offline and comes back under the guest" "there is one CPU"
fi
check "unload after the VMM was killed" unloads_after_kill

check "kvm_node=1 provides /dev/kvm, which works" second_node
rmmod keel
check "and takes it away again" test ! -e /dev/kvm

for kvm in ${KVM:-kvm_amd kvm_intel}; do
	modprobe "$kvm" 2>/dev/null && break
	kvm=
done
if [ -n "$KVM" ] && [ -z "$kvm" ]; then
	not_ok "$KVM loads"
elif [ -z "$kvm" ]; then
	skip "refuse to load beside KVM" "no KVM module here"
	skip "say who has the CPU" "no KVM module here"
	skip "load when KVM is gone" "no KVM module here"
else
	# shellcheck disable=SC2016 # for eval
	check "refuse to load beside KVM" eval '! insmod "$ko" 2>/dev/null && ! loaded'
	check "say who has the CPU" eval 'dmesg | tail -n 5 | grep -q "keel: KVM is loaded"'
	rmmod "$kvm" kvm
	check "load when KVM is gone" insmod "$ko"
fi
loaded || insmod "$ko"
end
