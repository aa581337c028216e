# SPDX-License-Identifier: GPL-2.0-only
# shellcheck shell=bash disable=SC2153,SC2154
# VT-x (and AMD-V as a Ryzen has it): Bochs. Sourced by scripts/host.
#
# Bochs shares no files, so an ISO carries the kernel and an initramfs with all
# that the command needs. Four serial ports bring back what happens: the
# kernel's log, standard output, standard error, and the exit status.

vmx_initrd()
{
	local root=$1 lib=$1/lib/modules/$RELEASE f name params

	busybox_root "$root" "$TOP/scripts/lib/vmx-init"
	mkdir -p "$root/keel/modules" "$root/$PWD"
	cp "$TOP/scripts/lib/host-run" "$root/keel/"
	command_script "$PWD" >"$root/keel/command"
	touch "$root/keel/modules/order"
	module_list >"$JOB/modules"
	while read -r name params; do
		pack_module "$root/keel/modules" "$name" "$params"
	done <"$JOB/modules"
	if [ -n "$PACK_MODULES" ]; then
		for name in ${PACK_MODULES//,/ }; do
			pack_module "$lib" "$name"
		done
		cp "$MODDIR"/modules.{order,builtin,builtin.modinfo} "$lib/"
		depmod -b "$root" "$RELEASE"
	fi
	# A program that is named by its path comes along without being asked for.
	if [[ ${COMMAND[0]} == */* && -f ${COMMAND[0]} ]]; then
		FILES+=("${COMMAND[0]}")
	fi
	for f in ${FILES[@]+"${FILES[@]}"}; do
		pack_file "$f" "$root"
	done
	if [ "$INTERACTIVE" = 1 ]; then
		stty size >"$root/keel/tty"
		echo "${TERM:-vt100}" >>"$root/keel/tty"
	fi
}

# What Linux must not use of a CPU model because Bochs 2.7 has it wrong.
vmx_quirks()
{
	case $MODEL in
	# Delay loops wait in MWAITX for ever. XRSTORS raises #GP on a good image now and
	# then (selftests/dirtylog, with stock KVM too), and Linux warns of bad FPU state.
	ryzen) echo " clearcpuid=mwaitx,xsaves,xsavec" ;;
	# CPUID gives the size of the plain area for the compacted one: Linux would
	# warn and do without XSAVE at all.
	*skylake_x) echo " clearcpuid=xsaves,xsavec" ;;
	esac
}

vmx_iso()
{
	local iso=$JOB/iso append

	mkdir -p "$iso/isolinux" "$JOB/root"
	vmx_initrd "$JOB/root"
	pack_cpio "$JOB/root" >"$iso/initrd"
	rm -rf "$JOB/root"
	cp "$BZIMAGE" "$iso/vmlinuz"
	cp /usr/lib/ISOLINUX/isolinux.bin /usr/lib/syslinux/modules/bios/ldlinux.c32 "$iso/isolinux/"
	# Lines of information cost time on the emulated serial port; init turns them
	# on again once the kernel is up.
	append="console=ttyS0,115200 loglevel=5 panic=0 tsc=reliable no_timer_check"
	append+=" random.trust_cpu=on audit=0 keel.interactive=$INTERACTIVE"
	# One tick is one instruction, whatever the model's CPUID says of its clock.
	append+=" tsc_early_khz=$((IPS / 1000))$(vmx_quirks)"
	# A guest that has interrupts off and does not exit keeps its CPU (stock KVM's
	# too): Bochs forgets the host's interrupts until the guest touches its flag.
	append+=" nosoftlockup"
	# Bochs' MWAIT sleeps through another CPU's store to what MONITOR watches: a
	# CPU that is woken so wakes at its next timer, up to 120 s later.
	append+=" idle=halt"
	cat >"$iso/isolinux/isolinux.cfg" <<CFG
default keel
prompt 0
timeout 0
label keel
  kernel /vmlinuz
  append initrd=/initrd $append$APPEND
CFG
	xorriso -as mkisofs -quiet -o "$JOB/host.iso" -b isolinux/isolinux.bin \
		-c isolinux/boot.cat -no-emul-boot -boot-load-size 4 -boot-info-table \
		"$iso" >"$JOB/xorriso.log" 2>&1 || { cat "$JOB/xorriso.log" >&2; die "no ISO"; }
	rm -rf "$iso"
}

vmx_config()
{
	local line cpu="model=$MODEL, count=$CPUS, ips=$IPS, reset_on_triple_fault=0"

	[ -z "$QUANTUM" ] || cpu+=", quantum=$QUANTUM"
	cat <<RC
megs: $MEM
romimage: file=/usr/share/bochs/BIOS-bochs-latest
vgaromimage: file=/usr/share/bochs/VGABIOS-lgpl-latest
cpu: $cpu
pci: enabled=1, chipset=i440fx
ata0-master: type=cdrom, path=$JOB/host.iso, status=inserted
boot: cdrom
floppy_bootsig_check: disabled=1
clock: sync=none, time0=1735689600, rtc_sync=0
display_library: term
com1: enabled=1, mode=file, dev=$JOB/kernel.log
com2: enabled=1, $VMX_CONSOLE
com3: enabled=1, mode=file, dev=$JOB/stderr
com4: enabled=1, mode=file, dev=$JOB/status
log: $JOB/bochs.log
panic: action=fatal
error: action=report
info: action=ignore
debug: action=ignore
RC
	for line in ${BOCHS_LINES[@]+"${BOCHS_LINES[@]}"}; do
		echo "$line"
	done
}

# A kernel that panicked spins for ever: end it instead of waiting for the timeout.
vmx_watch_panic()
{
	# --pid: tail must not outlive the emulator, whoever kills us.
	tail -n +1 -f --pid="$1" "$JOB/kernel.log" 2>/dev/null | grep -a -m 1 -q 'end Kernel panic' || return 0
	sleep 1
	kill "$1" 2>/dev/null
}

# Bochs draws its display on a terminal that it makes up. Nobody looks at it, but
# when it is full, after some minutes, Bochs would wait for ever.
vmx_drain_display()
{
	local pts=''

	while [ -z "$pts" ]; do
		sleep 0.5
		kill -0 "$1" 2>/dev/null || return 0
		pts=$(sed -n 's/.*connected to screen "\([^"]*\)".*/\1/p' "$JOB/emulator.log" | head -n 1)
	done
	stty -F "$pts" raw -echo && exec cat "$pts" >/dev/null
}

host_vmx()
{
	local emulator=0 readers=() run

	KERNEL=${KERNEL:-small} CPUS=${CPUS:-1} MEM=${MEM:-512} IPS=${IPS:-50000000}
	need bochs 'bochs bochs-term bochsbios'
	need xorriso xorriso
	need_busybox
	need script bsdutils
	[ -e /usr/lib/ISOLINUX/isolinux.bin ] || die "isolinux is missing: apt-get install isolinux"
	find_kernel
	VMX_CONSOLE="mode=file, dev=$JOB/stdout"
	vmx_iso
	touch "$JOB"/{kernel.log,stdout,stderr,status}
	if [ "$INTERACTIVE" = 1 ]; then
		need socat socat
		stty raw -echo
		exec 3<&0
		socat "-,raw,echo=0" "pty,raw,echo=0,link=$JOB/console" <&3 &
		CHILDREN+=($!)
		while [ ! -e "$JOB/console" ]; do sleep 0.1; done
		VMX_CONSOLE="mode=term, dev=$JOB/console"
	fi
	vmx_config >"$JOB/bochsrc"
	echo c >"$JOB/commands"
	# The only display without a window wants a terminal; script makes one up.
	run="exec bochs -q -f $JOB/bochsrc -rc $JOB/commands"
	setpriv --pdeathsig KILL timeout -k 5 "$TIMEOUT" \
		setpriv --pdeathsig KILL script -qec "$run" /dev/null \
		</dev/null >"$JOB/emulator.log" 2>&1 &
	EMULATOR=$!
	CHILDREN+=("$EMULATOR")
	if [ "$INTERACTIVE" = 0 ]; then
		tail -c +1 -f -s 0.2 --pid="$EMULATOR" "$JOB/stdout" & readers+=($!)
		tail -c +1 -f -s 0.2 --pid="$EMULATOR" "$JOB/stderr" >&2 & readers+=($!)
	fi
	[ "$VERBOSE" = 0 ] || { tail -n +1 -f --pid="$EMULATOR" "$JOB/kernel.log" >&2 & CHILDREN+=($!); }
	vmx_drain_display "$EMULATOR" >/dev/null 2>&1 &
	CHILDREN+=($!)
	vmx_watch_panic "$EMULATOR" >/dev/null 2>&1 &
	CHILDREN+=($! ${readers[@]+"${readers[@]}"})
	wait "$EMULATOR" || emulator=$?
	[ -z "${readers[*]-}" ] || wait "${readers[@]}" 2>/dev/null || true
	grep -a PANIC "$JOB/bochs.log" | grep -av 'soft power off' >>"$JOB/emulator.log" || true
	tr -d '\r\n' <"$JOB/status" >"$JOB/status.txt"
	mv "$JOB/status.txt" "$JOB/status"
	verdict "$emulator"
}
