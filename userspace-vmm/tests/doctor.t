#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only
# keel doctor on machines that exist only as a few files.
set -u
here=$(cd "$(dirname "$0")" && pwd)
keel=${KEEL:-$here/../../build/userspace-vmm/keel}
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
trap 'exit 1' INT TERM HUP
# shellcheck source=selftests/tap.sh
. "$here/../../selftests/tap.sh"

# A machine that has all; the tests then break one thing each.
machine()
{
	rm -rf "$tmp/m"
	mkdir -p "$tmp/m/proc/sys/kernel" "$tmp/m/sys/module/module/parameters" \
		"$tmp/m/sys/kernel/security" "$tmp/m/lib/modules/6.1.0-1-amd64/build" \
		"$tmp/m/dev"
	echo 6.1.0-1-amd64 >"$tmp/m/proc/sys/kernel/osrelease"
	echo N >"$tmp/m/sys/module/module/parameters/sig_enforce"
	echo '[none] integrity confidentiality' >"$tmp/m/sys/kernel/security/lockdown"
	: >"$tmp/m/lib/modules/6.1.0-1-amd64/build/Makefile"
	mkdir "$tmp/m/boot"
	printf 'CONFIG_VIRTUALIZATION=y\nCONFIG_KVM=m\n' >"$tmp/m/boot/config-6.1.0-1-amd64"
	if [ "$1" = intel ]; then
		printf 'processor\t: 0\nvendor_id\t: GenuineIntel\nflags\t\t: fpu vme vmx est ept vpid\nvmx flags\t: vnmi ept vpid unrestricted_guest\n\n'
	else
		printf 'processor\t: 0\nvendor_id\t: AuthenticAMD\nflags\t\t: fpu vme svm nopl npt nrip_save\n\n'
	fi >"$tmp/m/proc/cpuinfo"
}

# says PATTERN WHAT: one line of the report
says()
{
	"$keel" doctor --root "$tmp/m" >"$tmp/out" 2>&1
	[ $? = 1 ] && grep -qE "$1" "$tmp/out"
	result $? "$2" "$tmp/out"
}

# msr INDEX VALUE: a file that reads like /dev/cpu/0/msr
msr()
{
	mkdir -p "$tmp/m/dev/cpu/0"
	perl -e 'open F, ">", $ARGV[0]; seek F, hex $ARGV[1], 0; print F pack("Q", $ARGV[2])' \
		"$tmp/m/dev/cpu/0/msr" "$1" "$2"
}

machine intel
says '^ok +cpu +VT-x' 'Intel'
says '^ok +second-level paging +EPT' 'Intel: EPT'
says '^ok +unrestricted guest' 'Intel: unrestricted guest'
says '^ok +firmware lock' 'Intel: not locked'
says '^ok +other hypervisor' 'nobody else'
says '^ok +kernel headers' 'headers'
says '^ok +module signature' 'unsigned modules'
says '^FAIL +keel module' 'keel is not loaded'
says '^FAIL +device node +/dev/keel' 'no node'
machine amd
says '^ok +cpu +AMD-V' 'AMD'
says '^ok +second-level paging +nested paging' 'AMD: NPT'
machine amd
sed -i 's/svm//' "$tmp/m/proc/cpuinfo"
says '^FAIL +cpu +the processor has no AMD-V' 'no SVM'
says 'make run' 'and what to type'
machine intel
sed -i 's/vmx est/est hypervisor/' "$tmp/m/proc/cpuinfo"
says 'virtual machine, and it was given no VT-x' 'a virtual machine'
machine intel
sed -i 's/unrestricted_guest//' "$tmp/m/proc/cpuinfo"
says '^FAIL +unrestricted guest' 'no unrestricted guest'
machine intel
sed -i 's/ept//g' "$tmp/m/proc/cpuinfo"
says '^FAIL +second-level paging' 'no EPT'
machine intel
msr 3a 1
says '^FAIL +firmware lock' 'VT-x locked off'
msr 3a 5
says '^ok +firmware lock' 'VT-x locked on'
machine amd
msr c0010114 16
says '^FAIL +firmware lock' 'SVM locked off'
machine amd
says '^\? +firmware lock' 'nothing tells'
mkdir -p "$tmp/m/sys/module/keel"
says '^ok +firmware lock' 'keel is loaded, and has looked'
machine amd
mkdir -p "$tmp/m/sys/module/kvm_amd"
echo 0 >"$tmp/m/sys/module/kvm_amd/refcnt"
says '^FAIL +other hypervisor +kvm_amd is loaded, and keel does not' 'KVM idle'
says 'sudo rmmod kvm_amd kvm' 'and what to type'
mkdir "$tmp/m/sys/module/keel"
says '^note +other hypervisor +kvm_amd is loaded; idle' 'KVM idle beside keel'
echo 2 >"$tmp/m/sys/module/kvm_amd/refcnt"
says '^FAIL +other hypervisor +kvm_amd is loaded and in use' 'KVM in use'
machine amd
mkdir -p "$tmp/m/sys/module/vboxdrv"
echo 1 >"$tmp/m/sys/module/vboxdrv/refcnt"
says '^FAIL +other hypervisor +vboxdrv' 'VirtualBox in use'
machine amd
rm -r "$tmp/m/lib"
says '^FAIL +kernel headers' 'no headers'
says 'sudo apt install linux-headers-6.1.0-1-amd64' 'and what to type'
machine amd
echo 'none [integrity] confidentiality' >"$tmp/m/sys/kernel/security/lockdown"
says '^FAIL +module signature .*lockdown' 'lockdown'
machine amd
echo Y >"$tmp/m/sys/module/module/parameters/sig_enforce"
says '^FAIL +module signature .*sig_enforce' 'signatures enforced'
machine amd
echo 5.10.0-1-amd64 >"$tmp/m/proc/sys/kernel/osrelease"
says '^FAIL +kernel +Linux 5.10.* too old' 'old kernel'
machine amd
for good in 6.1.0-1-amd64 6.12.9 6.18.7; do
	echo $good >"$tmp/m/proc/sys/kernel/osrelease"
	says "^ok +kernel +Linux $good\$" "kernel $good"
done
for new in 6.19.0 6.20.1-rc1 7.0.0; do
	echo $new >"$tmp/m/proc/sys/kernel/osrelease"
	says "^FAIL +kernel +Linux $new is too new, keel does not load from 6.19 on" "kernel $new"
done
says 'linux-image-amd64.*make run' 'and what to type'
mkdir "$tmp/m/sys/module/keel"
says '^ok +kernel +Linux 7.0.0' 'unless it is loaded all the same'
machine amd
says '^ok +kernel options' 'a kernel with KVM'
sed -i 's/^CONFIG_KVM=m/# CONFIG_KVM is not set/' "$tmp/m/boot/config-6.1.0-1-amd64"
says '^FAIL +kernel options .*without CONFIG_KVM' 'a kernel without KVM'
mv "$tmp/m/boot/config-6.1.0-1-amd64" "$tmp/m/lib/modules/6.1.0-1-amd64/build/.config"
says '^FAIL +kernel options .*without CONFIG_KVM' 'its headers say so'
rm "$tmp/m/lib/modules/6.1.0-1-amd64/build/.config"
says '^\? +kernel options .*must have CONFIG_KVM' 'an unknown configuration'
machine amd
mkdir -p "$tmp/m/sys/hypervisor"
echo xen >"$tmp/m/sys/hypervisor/type"
says '^FAIL +other hypervisor +Linux runs on Xen' 'Xen'
machine amd
: >"$tmp/m/dev/keel"
says '^FAIL +device node .*not a character device' 'a file in the place of the node'
machine amd
if [ "$(id -u)" = 0 ] && command -v setpriv >/dev/null &&
   mknod -m 660 "$tmp/m/dev/keel" c 10 232 2>/dev/null; then
	root=$keel
	chmod 755 "$tmp"
	cp "$root" "$tmp/keel"
	cat >"$tmp/as-nobody" <<-END
		#!/bin/sh
		exec setpriv --reuid 65534 --regid 65534 --clear-groups "$tmp/keel" "\$@"
	END
	chmod 755 "$tmp/as-nobody"
	keel=$tmp/as-nobody
	chgrp daemon "$tmp/m/dev/keel"
	says '^FAIL +device node .*permission denied; type: sudo usermod -aG daemon' 'no permission'
	chmod 600 "$tmp/m/dev/keel"
	says '^FAIL +device node .*permission denied; run it as root' 'nor for a group'
	keel=$root
else
	skip 'no permission' 'not root, or no setpriv or mknod'
fi
rm -rf "$tmp/m"
mkdir "$tmp/m"
says '^FAIL +cpu' 'nothing at all'

machine amd
"$keel" doctor --json --root "$tmp/m" |
	perl -MJSON::PP -e 'local $/; my $j = decode_json(<STDIN>);
		exit !(!$j->{ok} && @{$j->{checks}} >= 8 && $j->{checks}[0]{result} eq "pass")'
result $? 'JSON'
end
