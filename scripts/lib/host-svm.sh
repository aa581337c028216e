# SPDX-License-Identifier: GPL-2.0-only
# shellcheck shell=bash disable=SC2153,SC2154,SC2054
# AMD-V: QEMU TCG, with this machine's root over 9p. Sourced by scripts/host.

# What the initramfs loads to reach the root; what is built in has no file.
SVM_MODULES=(virtio_pci virtio_console 9pnet_virtio 9p overlay)

# The initramfs that mounts the root over 9p: it depends on the kernel's modules,
# busybox and the scripts that make it up only.
svm_initrd()
{
	local key

	key=$({ echo "$RELEASE"; stat -c '%Y' "$MODDIR/modules.dep" 2>/dev/null || true
		cat "$TOP"/scripts/lib/{common.sh,host-svm.sh,svm-init} "$(command -v busybox)"; } |
		fingerprint)
	INITRD=$CACHE/initrd-svm-$RELEASE-$key
	cached "$INITRD" svm_make_initrd
}

svm_make_initrd()
{
	local m

	busybox_root "$1" "$TOP/scripts/lib/svm-init"
	mkdir "$1/newroot"
	mkdir "$1/modules"
	touch "$1/modules/order"
	# Somebody's own kernel may have no modules at all.
	[ ! -e "$MODDIR/modules.dep" ] || for m in "${SVM_MODULES[@]}"; do
		pack_module "$1/modules" "$m"
	done
	pack_cpio "$1"
}

# What lies in a directory of which the host has an empty one of its own would
# fail there in obscure ways.
svm_check_places()
{
	local p real

	for p in "$TOP" "$PWD" "$MODDIR" "${COMMAND[0]}" $(cut -d ' ' -f 1 "$JOB/modules"); do
		[[ $p == */* ]] || continue
		for real in "$(realpath -s -- "$p")" "$(realpath -m -- "$p")"; do
			case $real in
			/tmp/* | /run/* | /var/tmp/*)
				die "$p: the emulated host does not see it, its /tmp, /var/tmp and /run are its own"
				;;
			esac
		done
	done
}

svm_job_files()
{
	local s

	command_script "$PWD" >"$JOB/command"
	module_list >"$JOB/modules"
	printf '%s\n' "$MODDIR" >"$JOB/moddir"
	for s in ${SHARES[@]+"${SHARES[@]}"}; do
		echo "$s"
	done >"$JOB/shares"
	cp "$TOP/scripts/lib/svm-run" "$JOB/run"
	cp "$TOP/scripts/lib/host-run" "$JOB/"
}

# The rate of the host's TSC, which Linux there would otherwise measure, badly on a
# busy machine: its clock then ran several times too fast. Once per boot.
svm_tsc_khz()
{
	local out

	if [ "$ICOUNT" = 1 ]; then
		echo 1000000
		return
	fi
	out=$CACHE/tsc-khz-$(cat /proc/sys/kernel/random/boot_id)
	if [ ! -s "$out" ] && command -v gcc >/dev/null 2>&1; then
		gcc -O2 -o "$JOB/tsc-khz" "$TOP/scripts/lib/tsc-khz.c" &&
			"$JOB/tsc-khz" >"$out.$$" && mv "$out.$$" "$out"
	fi
	cat "$out" 2>/dev/null || true
}

# The arguments common to all runs, in QEMU_CMD.
svm_qemu_command()
{
	local n=0 s append khz

	append="console=ttyS0 panic=-1 tsc=reliable no_timer_check random.trust_cpu=on audit=0"
	append+=" apparmor=0 keel.interactive=$INTERACTIVE$APPEND"
	# What finds least for its price: KASAN sees most of what the latter two do.
	if [ "$KERNEL" = debug ]; then
		append+=" slub_debug=- no_debug_objects"
		[ "$LEAKS" = 1 ] || append+=" kmemleak=off"
	fi
	khz=$(svm_tsc_khz)
	[ -z "$khz" ] || append+=" tsc_early_khz=$khz"
	QEMU_CMD=(qemu-system-x86_64 -machine q35,vmport=off,smbus=off -cpu "$CPU"
		-smp "$CPUS" -m "$MEM" -nodefaults -no-user-config -display none -no-reboot
		-kernel "$BZIMAGE" -initrd "$INITRD" -append "$append"
		-chardev "file,id=log,path=$JOB/kernel.log" -serial chardev:log
		-virtfs "local,path=/,mount_tag=keelroot,readonly=on,security_model=none,multidevs=remap"
		-virtfs "local,path=$JOB,mount_tag=keeljob,security_model=none,multidevs=remap"
		-device virtio-serial-pci,max_ports=4
		-chardev "file,id=status,path=$JOB/status"
		-device 'virtserialport,chardev=status,name=keel.status,nr=3')
	for s in ${SHARES[@]+"${SHARES[@]}"}; do
		QEMU_CMD+=(-virtfs "local,path=$s,mount_tag=keelshare$n,security_model=none,multidevs=remap")
		n=$((n + 1))
	done
	if [ "$ICOUNT" = 1 ]; then
		QEMU_CMD+=(-accel tcg -icount 'shift=0,sleep=off')
	else
		QEMU_CMD+=(-accel 'tcg,thread=multi')
	fi
	if [ "$INTERACTIVE" = 1 ]; then
		QEMU_CMD+=(-chardev 'stdio,id=con,signal=off' -device 'virtconsole,chardev=con,nr=0')
	else
		QEMU_CMD+=(-chardev "file,id=out,path=$JOB/stdout.fifo"
			-device 'virtserialport,chardev=out,name=keel.stdout,nr=1'
			-chardev "file,id=err,path=$JOB/stderr.fifo"
			-device 'virtserialport,chardev=err,name=keel.stderr,nr=2')
	fi
	QEMU_CMD+=(${QEMU_ARGS[@]+"${QEMU_ARGS[@]}"})
}

host_svm()
{
	local emulator=0 kill_after=5 readers=()

	KERNEL=${KERNEL:-6.1} MEM=${MEM:-2048}
	# With several CPUs QEMU's icount hangs at boot.
	if [ "$ICOUNT" = 1 ]; then
		[ "${CPUS:-1}" = 1 ] || die "--icount goes with --cpus 1 only"
		CPUS=1
	fi
	CPUS=${CPUS:-2}
	need qemu-system-x86_64 qemu-system-x86
	need_busybox
	need cpio cpio
	find_kernel
	svm_initrd
	svm_job_files
	svm_check_places
	svm_qemu_command
	: >"$JOB/kernel.log"
	[ "$VERBOSE" = 0 ] || { tail -n +1 -f "$JOB/kernel.log" >&2 & CHILDREN+=($!); }

	# pdeathsig: should this script be killed outright, the emulator dies too.
	if [ "$INTERACTIVE" = 1 ]; then
		stty size >"$JOB/tty" 2>/dev/null || true
		echo "${TERM:-vt100}" >>"$JOB/tty"
		stty raw -echo 2>/dev/null || true
		exec 3<&0
		setpriv --pdeathsig KILL timeout --foreground -k $kill_after "$TIMEOUT" \
			setpriv --pdeathsig KILL "${QEMU_CMD[@]}" <&3 2>"$JOB/emulator.log" &
	else
		mkfifo "$JOB/stdout.fifo" "$JOB/stderr.fifo"
		cat "$JOB/stdout.fifo" & readers+=($!)
		cat "$JOB/stderr.fifo" >&2 & readers+=($!)
		setpriv --pdeathsig KILL timeout -k $kill_after "$TIMEOUT" \
			setpriv --pdeathsig KILL "${QEMU_CMD[@]}" </dev/null \
			>/dev/null 2>"$JOB/emulator.log" &
	fi
	EMULATOR=$!
	CHILDREN+=("$EMULATOR" ${readers[@]+"${readers[@]}"})
	wait "$EMULATOR" || emulator=$?
	# A QEMU that failed to start never opened the pipes: its readers would wait.
	if [ -n "${readers[*]-}" ] && [ ! -s "$JOB/started" ]; then
		kill "${readers[@]}" 2>/dev/null || true
	fi
	[ -z "${readers[*]-}" ] || wait "${readers[@]}" 2>/dev/null || true
	verdict "$emulator"
}
