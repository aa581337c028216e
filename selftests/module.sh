#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only
#
# The module itself: loading, refusing to load, unloading, and the machine's
# CPUs coming and going under it. Plain sh as in busybox; keel is loaded when
# it starts, and loaded again when it ends.
#
#	module.sh [FILE.ko]
#
# LOADS: how often to load, run a guest and unload (default 10). CYCLES: how often a CPU
# goes and comes while VMs are made (default 20; 0: not). KVM: the module that
# must be there to refuse beside (default: kvm_amd or kvm_intel, if one is there).

dir=$(dirname "$0")
ko=$1
# shellcheck source=selftests/tap.sh
. "$dir/tap.sh"
find_module

one_load()
{
	insmod "$ko" && runs /dev/keel && rmmod keel && ! loaded
}

many_loads()
{
	i=0
	while [ $i -lt "$loads" ]; do
		one_load || { echo "# at load $((i + 1))"; return 1; }
		i=$((i + 1))
		# what the first ones leave are caches of the kernel's
		[ $i -ne "$warm" ] || before=$(memory)
	done
	after=$(memory)
}

# KiB that are free, and in slabs that could not be
memory()
{
	sync
	echo 3 >/proc/sys/vm/drop_caches
	sleep 1
	awk '/^MemFree/ { f = $2 } /^SUnreclaim/ { s = $2 } END { print f, s }' /proc/meminfo
}

# The kernel takes free pages for a CPU by 252 KiB or twice that: with 100 loads four
# pages a load show, and of slabs 400 bytes.
memory_stays()
{
	[ "$after" != '0 0' ] && [ $((${before% *} - ${after% *})) -le 1100 ] && [ $((${after#* } - ${before#* })) -le 24 ]
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

# EFER's offset in /dev/cpu/N/msr, in units of 8 bytes
efer=$((0xc0000080 / 8))

# the 8 bytes of it, lowest first, as decimal numbers
read_efer()
{
	dd if="/dev/cpu/$1/msr" bs=8 count=1 skip=$efer 2>/dev/null | od -An -tu1
}

# write_efer CPU BYTE...
write_efer()
{
	msr=/dev/cpu/$1/msr
	shift
	# shellcheck disable=SC2059 # the bytes, in octal
	printf "$(printf '\\%03o' "$@")" | dd of="$msr" bs=8 count=1 seek=$efer conv=notrunc 2>/dev/null
}

# EFER.SVME, of the second byte
svme()
{
	# shellcheck disable=SC2046 # eight words
	set -- $(read_efer "$1")
	[ $(($2 & 16)) != 0 ]
}

# Somebody has switched SVM on, on the last CPU: keel lets go of the others, and says so.
taken_cpu()
{
	# shellcheck disable=SC2046 # eight words
	set -- $(read_efer 1)
	dmesg -c >/dev/null
	write_efer 1 "$1" $(($2 | 16)) "$3" "$4" "$5" "$6" "$7" "$8"
	svme 1 || return 1
	said=$("$dir/hello" /dev/keel 2>&1)
	refused=$?
	lines=$(dmesg | grep 'keel: ' | sed 's/^[^]]*] //' | sort -u)
	svme 0
	left=$?
	svme 1
	kept=$?
	write_efer 1 "$@"
	[ $refused != 0 ] && [ $left != 0 ] && [ $kept = 0 ] && [ "$(echo "$lines" | wc -l)" = 1 ] &&
		echo "$lines" | grep -q 'another hypervisor may own .* on 1 of 2 CPUs' && echo "$said" | grep -qi busy && return 0
	echo "# hello $refused, CPU 0 $left, CPU 1 $kept: $said $lines"
	return 1
}

# Each VM is the first and the last: the CPUs' extension goes on and off all the time.
cpu_cycles_and_vms()
{
	said=/tmp/vms.$$
	# to start it from a slow root takes longer than the VM lives
	cp "$dir/hello" $said.hello
	(
		while [ ! -e $said.stop ]; do
			$said.hello /dev/keel >$said.1 2>&1 || { echo "hello: status $?"; cat $said.1; break; }
			echo made
		done
	) >$said &
	maker=$!
	i=0
	while [ $i -lt "$cycles" ] && echo 0 >$cpu/online && echo 1 >$cpu/online; do
		i=$((i + 1))
	done
	touch $said.stop
	wait $maker
	grep -v '^made' $said | sed 's/^/# /'
	vms=$(grep -c '^made' $said)
	echo "# $vms VMs, $i times"
	[ $i = "$cycles" ] && [ "$vms" -ge 3 ] && ! grep -qv '^made' $said
	good=$?
	rm -f $said $said.*
	return $good
}

echo "TAP version 13"
loaded && rmmod keel

loads=${LOADS:-10}
warm=$(((loads + 3) / 4))
before='0 0' after='0 0'
check "load, run a guest, unload, $loads times" many_loads
echo "# KiB free, in slabs: $before after $warm loads, $after after $loads"
if [ -e /sys/kernel/debug/kmemleak ]; then
	skip "no memory is lost by that" "KASAN keeps what was freed; kmemleak looks"
elif [ "$(nproc)" != 1 ]; then
	skip "no memory is lost by that" "with several CPUs megabytes come and go"
else
	check "no memory is lost by that" memory_stays
fi

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
insmod "$ko"
cycles=${CYCLES:-20}
if [ ! -w $cpu/online ]; then
	skip "a CPU goes and comes $cycles times while VMs are made" "there is one CPU"
elif [ "$cycles" = 0 ]; then
	skip "a CPU goes and comes while VMs are made" "CYCLES=0"
else
	check "a CPU goes and comes $cycles times while VMs are made" cpu_cycles_and_vms
fi
if [ "$KVM" != kvm_amd ] || [ ! -w /dev/cpu/1/msr ]; then
	skip "no VM while another hypervisor has a CPU" "it takes AMD-V, two CPUs and CONFIG_X86_MSR"
	skip "a VM when it has let go" "the same"
else
	check "no VM while another hypervisor has a CPU" taken_cpu
	check "a VM when it has let go" runs /dev/keel
fi
check "and keel unloads after that" rmmod keel

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
