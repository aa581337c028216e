#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only
#
# keel doctor: check every requirement of keel, and say what to do about those
# that are not met. doctor.c has this text in it, and hands over what it takes a
# program to find out:
#
#	sh -c TEXT 'keel doctor' ROOT NODE JSON EXTENSION PROBLEM
#
# ROOT: where /proc, /sys, /dev and /lib are looked for. NODE: the device node.
# JSON: not empty for that. EXTENSION: not empty if CPUID itself has VT-x or AMD-V.
# PROBLEM: why NODE cannot be opened.
root=$1 node=$2 json=$3 extension=$4 problem=$5
out='' ok=true nl='
'
load="sudo modprobe keel, or from a checkout: sudo insmod build/\$(uname -r)/keel.ko"
emulate="make run, which emulates a host"
# From then on Linux gives what keel uses of it to KVM's own modules only.
too_new=19

# report NAME RESULT WHAT [FIX]: pass; warn: works, but worth knowing; fail: keel
# cannot work; skip: could not be found out, or does not apply
report()
{
	[ "$2" != fail ] || ok=false
	if [ "$json" ]; then
		out="$out${out:+,$nl}    {\"name\": \"$1\", \"result\": \"$2\", \"what\": \"$(quote "$3")\", \"fix\": \"$(quote "${4:-}")\"}"
		return
	fi
	case $2 in
	pass) mark='ok  ' ;;
	warn) mark='note' ;;
	fail) mark='FAIL' ;;
	skip) mark='?   ' ;;
	esac
	out="$out$mark  $(printf '%-20s' "$1") $3$nl"
	[ ! "${4:-}" ] || out="$out      $(printf '%-20s' '') -> $4$nl"
}

quote()
{
	printf '%s' "$1" | tr '[:cntrl:]' '?' | sed 's/[\\"]/\\&/g'
}

# has LIST WORD
has()
{
	case " $1 " in
	*" $2 "*) return 0 ;;
	esac
	return 1
}

# first_line FILE: nothing if there is none
first_line()
{
	[ ! -e "$root$1" ] || head -n 1 "$root$1" 2>/dev/null
}

# cpuinfo FIELD: of the first processor
cpuinfo()
{
	sed -n "/^$1[[:blank:]]*:/{s/[^:]*: *//p;q}" "$root/proc/cpuinfo" 2>/dev/null
}

check_kernel()
{
	major=${release%%.*}
	minor=${release#*.}
	minor=${minor%%[!0-9]*}
	fix="boot Debian's 6.1 or 6.12 (sudo apt install linux-image-amd64), or $emulate"
	if [ -z "$major" ] || [ -z "$minor" ]; then
		report kernel skip "cannot tell the version of $release"
	elif [ "$major" -lt 6 ] || { [ "$major" = 6 ] && [ "$minor" -lt 1 ]; }; then
		report kernel fail "Linux $release is too old, 6.1 is needed" "$fix"
	elif [ ! "$loaded" ] && { [ "$major" -gt 6 ] || [ "$minor" -ge $too_new ]; }; then
		report kernel fail "Linux $release is too new, keel does not load from 6.$too_new on" "$fix"
	else
		report kernel pass "Linux $release"
	fi
}

# Linux takes the flag away when the firmware has locked the extension off.
check_cpu()
{
	if [ ! "$flag" ]; then
		report cpu fail "not an Intel or AMD processor that keel knows"
	elif has "$flags" $flag; then
		report cpu pass "$name is there"
	elif [ "$extension" ]; then
		report cpu fail "the processor has $name, but the firmware keeps it switched off" "$unlock"
	elif has "$flags" hypervisor; then
		report cpu fail "this is a virtual machine, and it was given no $name" \
			"switch nested virtualization on in its host, or use $emulate"
	else
		report cpu fail "the processor has no $name" "$emulate that has it"
	fi
}

check_paging()
{
	vmx=$(cpuinfo 'vmx flags')
	if [ ! "$flag" ] || ! has "$flags" "$flag"; then
		report 'second-level paging' skip "needs the extension first"
		return
	fi
	if [ $flag = svm ] && has "$flags" npt; then
		report 'second-level paging' pass "nested paging (npt) is there"
	elif [ $flag = svm ] && has "$flags" hypervisor; then
		report 'second-level paging' fail "no nested paging (npt)" \
			"this is a virtual machine: give it nested paging on its host (QEMU: -cpu host)"
	elif [ $flag = svm ]; then
		report 'second-level paging' fail "no nested paging (npt)" "$emulate that has it"
	elif has "$flags $vmx" ept; then
		report 'second-level paging' pass "EPT is there"
	else
		report 'second-level paging' fail "no EPT: this processor is too old" "$emulate that has it"
	fi
	if [ $flag = svm ]; then
		return
	elif [ ! "$vmx" ]; then
		report 'unrestricted guest' skip "this kernel does not tell" \
			"look at what keel says when it is loaded: sudo dmesg | grep keel"
	elif has "$vmx" unrestricted_guest; then
		report 'unrestricted guest' pass "real mode can run as a guest"
	else
		report 'unrestricted guest' fail "the processor cannot run real mode as a guest" \
			"$emulate that has it"
	fi
}

# IA32_FEATURE_CONTROL: locked without VMX (SDM volume 4); VM_CR.SVMDIS (APM volume
# 2, 15.30.1).
check_firmware()
{
	case $flag in
	vmx) index=$((0x3a)) mask=5 locked=1 ;;
	svm) index=$((0xc0010114)) mask=16 locked=16 ;;
	*) return ;;
	esac
	msr=$(dd if="$root/dev/cpu/0/msr" bs=8 count=1 iflag=skip_bytes skip=$index 2>/dev/null |
		od -An -tu8)
	if [ "$msr" ] && [ $((msr & mask)) = $locked ]; then
		report 'firmware lock' fail "the firmware has locked the extension off" "$unlock"
	elif [ "$msr" ]; then
		report 'firmware lock' pass "not locked off"
	elif [ "$flag" = vmx ] && has "$flags" vmx; then
		# Linux itself looked at the lock when it listed the flag.
		report 'firmware lock' pass "not locked off, as far as the kernel's flags tell"
	elif [ "$loaded" ]; then
		report 'firmware lock' pass "not locked off: keel looked when it was loaded"
	else
		report 'firmware lock' skip "cannot read the lock register" \
			"sudo modprobe msr && sudo keel doctor"
	fi
}

# keel shares helpers with KVM that a kernel without it does not have.
check_config()
{
	config=$root/boot/config-$release
	[ -r "$config" ] || config=$root/lib/modules/$release/build/.config
	if [ ! -r "$config" ]; then
		report 'kernel options' skip \
			"cannot read the kernel's configuration; it must have CONFIG_KVM"
	elif grep -q '^CONFIG_KVM=[my]$' "$config"; then
		report 'kernel options' pass "CONFIG_KVM is there"
	else
		report 'kernel options' fail \
			"the kernel was built without CONFIG_KVM, whose helpers keel uses" \
			"build the kernel with CONFIG_KVM=m, or boot Debian's"
	fi
}

# owner MODULE FIX: another hypervisor that takes the extension
owner()
{
	[ -e "$root/sys/module/$1" ] || return 0
	alone=false
	if [ "$(first_line "/sys/module/$1/refcnt")" -gt 0 ] 2>/dev/null; then
		report 'other hypervisor' fail "$1 is loaded and in use" \
			"end its virtual machines, then $2"
	elif [ ! "$loaded" ] && [ "${1#kvm}" != "$1" ]; then
		report 'other hypervisor' fail "$1 is loaded, and keel does not load beside it" "$2"
	else
		report 'other hypervisor' warn \
			"$1 is loaded; idle now, but it can take the processor's extension" "$2"
	fi
}

check_owners()
{
	alone=true
	owner kvm_intel "sudo rmmod kvm_intel kvm"
	owner kvm_amd "sudo rmmod kvm_amd kvm"
	owner vboxdrv "sudo rmmod vboxnetadp vboxnetflt vboxdrv"
	owner vmmon "sudo systemctl stop vmware"
	owner mshv_root "boot without it"
	if [ "$(first_line /sys/hypervisor/type)" = xen ]; then
		report 'other hypervisor' fail "Linux runs on Xen" "boot Linux without Xen"
	elif $alone; then
		report 'other hypervisor' pass "none that uses VT-x or AMD-V is loaded"
	fi
}

check_headers()
{
	if [ -e "$root/lib/modules/$release/build/Makefile" ]; then
		report 'kernel headers' pass "those of $release are installed"
		return
	fi
	case $release in
	*-amd64*) fix="sudo apt install linux-headers-$release" ;;
	*) fix="this kernel is not Debian's: get its headers from where it came, or boot Debian's" ;;
	esac
	report 'kernel headers' "$unless_loaded" \
		"those of the running kernel $release are missing, the module cannot be built" "$fix"
}

# Under lockdown, which is what Debian's kernels do under Secure Boot, or with
# sig_enforce.
check_signature()
{
	signed=''
	case $(first_line /sys/module/module/parameters/sig_enforce) in
	Y*|1*) signed=sig_enforce ;;
	esac
	case $(first_line /sys/kernel/security/lockdown) in
	*'[integrity]'*|*'[confidentiality]'*) signed=lockdown ;;
	esac
	if [ ! $signed ]; then
		report 'module signature' pass "unsigned modules are allowed"
	else
		report 'module signature' "$unless_loaded" "the kernel takes signed modules only ($signed)" \
			"switch Secure Boot off in the firmware, or sign keel.ko with a key enrolled by mokutil --import"
	fi
}

check_module()
{
	version=$(first_line /sys/module/keel/version)
	if [ "$loaded" ]; then
		report 'keel module' pass "is loaded${version:+, version $version}"
	else
		report 'keel module' fail "is not loaded" "$load"
	fi
}

check_node()
{
	if [ ! -e "$root$node" ]; then
		[ "$node" != /dev/kvm ] || load="sudo modprobe kvm_intel (or kvm_amd)"
		report 'device node' fail "$node: no such device" "$load"
	elif [ ! -c "$root$node" ]; then
		report 'device node' fail "$node is not a character device"
	elif [ "$problem" ]; then
		report 'device node' fail "$problem"
	else
		report 'device node' pass "$node can be opened"
	fi
}

release=$(first_line /proc/sys/kernel/osrelease)
flags=$(cpuinfo flags)
case $(cpuinfo vendor_id) in
GenuineIntel|CentaurHauls|*Shanghai*) flag=vmx name='VT-x (vmx)' unlock='Intel Virtualization Technology' ;;
AuthenticAMD|HygonGenuine) flag=svm name='AMD-V (svm)' unlock='SVM Mode' ;;
*) flag='' name='' unlock='' ;;
esac
unlock="enable \"$unlock\" in the firmware setup (BIOS), then power-cycle"
loaded='' unless_loaded=fail
[ ! -e "$root/sys/module/keel" ] || loaded=1 unless_loaded=warn

[ "$node" = /dev/kvm ] || check_kernel
check_cpu
check_paging
check_firmware
if [ "$node" != /dev/kvm ]; then
	check_config
	check_owners
	check_headers
	check_signature
	check_module
fi
check_node

if [ "$json" ]; then
	out="{$nl  \"ok\": $ok,$nl  \"checks\": [$nl$out$nl  ]$nl}"
elif $ok; then
	out="${out}All that keel must have is here."
else
	out="${out}Something that keel must have is missing."
fi
if ! printf '%s\n' "$out" 2>/dev/null; then
	echo "keel doctor: cannot write the report" >&2
	exit 1
fi
$ok
