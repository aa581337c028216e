#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only
#
# Wrong usage and bad files: exactly one line on standard error, nothing on
# standard output, the right exit status, nothing left behind. Needs no
# virtualization: everything here fails before the device matters.
# shellcheck disable=SC2059,SC2086 # $run and the like are several words
set -u
here=$(cd "$(dirname "$0")" && pwd)
keel=${KEEL:-$here/../../build/userspace-vmm/keel}
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
trap 'exit 1' INT TERM HUP
# shellcheck source=selftests/tap.sh
. "$here/../../selftests/tap.sh"

# All that is started here starts in an empty directory and inherits a lock: the
# end of the file looks at both.
case $keel in
*/*) keel=$(realpath "$keel") ;;
esac
mkdir "$tmp/cwd"
cd "$tmp/cwd" || exit 1
# shellcheck disable=SC3045 # dash and busybox have it
ulimit -c unlimited 2>/dev/null
exec 9>"$tmp/lock"
flock 9

# check STATUS PATTERN WHAT COMMAND...
check()
{
	want=$1 pattern=$2 what=$3
	shift 3
	timeout 20 "$@" >"$tmp/out" 2>"$tmp/err" </dev/null
	echo "status $?, want $want and /$pattern/" >"$tmp/status"
	grep -q "^status $want," "$tmp/status" && [ "$(wc -l <"$tmp/err")" = 1 ] &&
		[ ! -s "$tmp/out" ] && grep -qE "$pattern" "$tmp/err"
	result $? "$what" "$tmp/status" "$tmp/err" "$tmp/out"
}

says()
{
	"$keel" $1 >"$tmp/out" 2>"$tmp/err" && [ ! -s "$tmp/err" ] && grep -qE "$2" "$tmp/out"
	result $? "keel $1"
}

run="$keel run"
none=/nonexistent/keel-test
# A file that passes for a bzImage as far as the loader can tell: 1 KiB of
# header, then the kernel itself.
bzimage()
{
	perl -e '
		my ($size, $init, $version, $xload) = map { oct } @ARGV;
		my $h = "\0" x 8192;
		substr($h, 0x1f1, 1) = chr(1);
		substr($h, 0x1f4, 4) = pack("V", 448);
		substr($h, 0x1fe, 4) = pack("vv", 0xaa55, 0x6aeb);
		substr($h, 0x202, 4) = "HdrS";
		substr($h, 0x206, 2) = pack("v", $version);
		substr($h, 0x211, 1) = chr(1);
		substr($h, 0x22c, 4) = pack("V", 0x7fffffff);
		substr($h, 0x236, 2) = pack("v", $xload);
		substr($h, 0x238, 4) = pack("V", 2047);
		substr($h, 0x258, 8) = pack("Q", 0x1000000);
		substr($h, 0x260, 4) = pack("V", $init);
		print substr($h, 0, $size);
	' "$@"
}
bzimage 0x2000 0x400000 0x20f 1 >"$tmp/good"
bzimage 0xfa0 0x400000 0x20f 1 >"$tmp/short"
bzimage 0x2000 0x400000 0x20f 0 >"$tmp/32bit"
bzimage 0x2000 0x400000 0x201 1 >"$tmp/old"
: >"$tmp/empty"
echo 'not a kernel' >"$tmp/text"
head -c 100000 /dev/zero >"$tmp/zeroes"
gzip -c "$tmp/text" >"$tmp/gz"
cp /bin/sh "$tmp/program"
head -c 32 /bin/sh >"$tmp/elfhead"
mkfifo "$tmp/fifo"
head -c 70000000 /dev/zero >"$tmp/big"
cp "$tmp/good" "$tmp/secret"
chmod 000 "$tmp/secret"
name=$(printf 'new\nline')

check 2 'command is missing' 'no command' "$keel"
check 2 'frobnicate.*unknown command' 'unknown command' "$keel" frobnicate
check 2 'kernel FILE is missing' 'no kernel' $run
check 2 'too many options' 'a letter too often' $run "-$(printf %0300d 0 | tr 0 v)"
check 2 'unknown option' 'unknown option' $run --frobnicate
check 2 '^keel run: -z: unknown option' 'unknown option before another' $run -zv
check 2 '^keel run: -z: unknown option' 'unknown option behind others' $run --stats -vz
check 2 '^keel run: --verbose=1: unknown' 'argument for an option without' $run --verbose=1
check 2 '^keel run: --s: unknown' 'ambiguous option' $run --s
check 2 '^keel run: --kernel: its argument is missing' 'option without its argument' \
	$run --kernel
check 2 '^keel run: -vk: its argument is missing' 'the same in a group' $run -vk
rngs=$(printf '%025d' 0 | sed 's/0/ --rng/g')
check 2 '^keel run: --rng: a machine has at most 24 devices' 'too many devices' \
	$run --kernel "$tmp/good" $rngs
check 2 'unexpected argument' 'stray argument' $run --kernel "$tmp/good" "$tmp/good" stray
check 2 'unexpected argument' 'two configurations' $run --config "$tmp/a.keel" "$tmp/b.keel"
check 2 'unexpected argument' 'doctor: stray argument' "$keel" doctor stray
check 2 'unknown option' 'doctor: unknown option' "$keel" doctor --frobnicate
for m in 0 -1 '' x 12x 1K 2049K 3M1 99999999999999999999 16777216T 0x10 5k; do
	check 2 '^keel run: --mem .*: give a multiple of 4K from 2M on' "--mem '$m'" \
		$run --kernel "$tmp/good" --mem "$m"
done
for c in 0 -1 '' x 2x 255 9999 99999999999999999999; do
	check 2 '^keel run: --cpus .*: give a number from 1 to' "--cpus '$c'" \
		$run --kernel "$tmp/good" --cpus "$c"
done
for t in 0 -1 x 1x nan inf 1e99; do
	check 2 '^keel run: --timeout .*: give a number' "--timeout $t" \
		$run --kernel "$tmp/good" --timeout "$t"
done
check 2 '^keel run: --cpu-max 0: give' 'no CPU time' $run --kernel "$tmp/good" --cpu-max 0
check 2 '^keel run: --memory-max 1K: give' 'no memory' $run --kernel "$tmp/good" --memory-max 1K
check 2 '^keel run: --pids-max x: give' 'no number of threads' $run --kernel "$tmp/good" --pids-max x
check 1 '^keel run: --jail-user.* need --jail$' 'limits without a jail' \
	$run --kernel "$tmp/good" --cpu-max 1
check 2 '^keel run: --cpus .*new.line' 'newline in an argument' \
	$run --kernel "$tmp/good" --cpus "$name"
for s in x file: tcp; do
	check 2 '^keel run: --serial .*: give' "--serial $s" \
		$run --kernel "$tmp/good" --serial "$s"
done

# conf TEXT: a configuration file of it
conf()
{
	printf "$1" >"$tmp/vm.keel"
}

check 1 "cannot read configuration $none" 'no such configuration' $run $none
check 1 'cannot read configuration' 'configuration is a directory' $run "$tmp"
check 1 'is no configuration' 'configuration is a program' $run "$tmp/program"
conf 'cpus = 2\n\nmemory = 1G\n'
check 2 'vm.keel:3: memory: unknown option' 'unknown option in a configuration' $run "$tmp/vm.keel"
conf 'cpus = none'
check 2 'vm.keel:1: cpus none: give a number' 'bad value in a configuration' $run "$tmp/vm.keel"
conf '# a machine\nkernel\n'
check 2 'vm.keel:2: kernel needs a value' 'no value in a configuration' $run "$tmp/vm.keel"
conf 'stats = yes\n'
check 2 'vm.keel:1: stats takes no value' 'value of a flag' $run "$tmp/vm.keel"
conf 'config = x\n'
check 2 'vm.keel:1: config: unknown' 'configuration in a configuration' $run "$tmp/vm.keel"
conf "stats\n  kernel=$none \nmem = 64M\n"
check 1 "cannot open kernel $none" 'kernel of a configuration' $run "$tmp/vm.keel"
check 1 'text: not a Linux kernel' 'the command line overrides it' \
	$run --config "$tmp/vm.keel" --kernel "$tmp/text"

check 1 "cannot open kernel $none" 'no such kernel' $run --kernel "$none"
check 1 'is not a regular file' 'kernel is a directory' $run --kernel "$tmp"
check 1 'is not a regular file' 'kernel is a FIFO' $run --kernel "$tmp/fifo"
check 1 'is not a regular file' 'kernel is a device' $run --kernel /dev/zero
check 1 'not a Linux kernel' 'kernel is empty' $run --kernel "$tmp/empty"
check 1 'not a Linux kernel' 'kernel is text' $run --kernel "$tmp/text"
check 1 'not a Linux kernel' 'kernel is zeroes' $run --kernel "$tmp/zeroes"
check 1 'compressed with gzip' 'kernel is compressed' $run --kernel "$tmp/gz"
check 1 'truncated' 'kernel is cut off' $run --kernel "$tmp/short"
check 1 'not an x86-64 kernel' 'kernel is for 32 bits' $run --kernel "$tmp/32bit"
check 1 'too old' 'kernel is old' $run --kernel "$tmp/old"
check 1 'program: ' 'kernel is a program' $run --kernel "$tmp/program"
check 1 'truncated' 'kernel is the start of an ELF file' $run --kernel "$tmp/elfhead"
for m in 4M 19M; do
	check 1 'alone needs 20 MiB of memory; give a larger --mem' "kernel larger than --mem $m" \
		$run --kernel "$tmp/good" --mem $m
done
check 1 'cannot open kernel .*new.line' 'newline in a name' $run --kernel "$tmp/$name"
check 1 'cannot open initrd' 'no such initrd' $run --kernel "$tmp/good" --initrd "$none"
check 1 'is not a regular file' 'initrd is a directory' $run --kernel "$tmp/good" --initrd "$tmp"
check 1 'initrd .* does not fit into 64 MiB of memory' 'initrd larger than memory' \
	$run --kernel "$tmp/good" --initrd "$tmp/big" --mem 64M
check 1 'initrd .* does not fit' 'initrd just too large' \
	$run --kernel "$tmp/good" --initrd "$tmp/big" --mem 72M
check 1 'append is 3000 bytes long; the kernel takes 2047' 'long command line' \
	$run --kernel "$tmp/good" --append "$(printf '%03000d' 0)"

check 1 "$none: no such device; load the module" 'no device node' \
	$run --kernel "$tmp/good" --device "$none"
check 1 'is not a hypervisor' 'device is /dev/null' \
	$run --kernel "$tmp/good" --device /dev/null
check 1 'is not a hypervisor|cannot open' 'device is a file' \
	$run --kernel "$tmp/good" --device "$tmp/text"
check 1 'cannot open .*Is a directory' 'device is a directory' \
	$run --kernel "$tmp/good" --device "$tmp"
check 1 'cannot map .* give a smaller --mem' 'more memory than addresses' \
	$run --kernel "$tmp/good" --mem 4096T

for c in console stop kill pause resume top; do
	check 2 'NAME is missing' "$c: no name" "$keel" $c
	check 1 'no machine is called keel-test' "$c: no such machine" "$keel" $c keel-test
	check 1 'is no name for a machine' "$c: bad name" "$keel" $c ../keel-test
done
check 2 'NAME FILE is missing' 'snapshot: no file' "$keel" snapshot keel-test
check 1 'no machine is called keel-test' 'snapshot: no such machine' "$keel" snapshot keel-test "$tmp/snap"
check 1 'cannot open' 'restore: no such file' "$keel" restore "$none"
check 1 'is not a snapshot' 'restore: a directory' "$keel" restore "$tmp"
check 1 'is not a snapshot' 'restore: a FIFO' "$keel" restore "$tmp/fifo"
check 1 'is not a snapshot' 'restore: a program' "$keel" restore "$tmp/program"
check 1 'is not a snapshot' 'restore: an empty file' "$keel" restore "$tmp/empty"
# snapshot_head VERSION CPUS MEM STATE RAM CHECKSUM [SIZE]: a file with that header
snapshot_head()
{
	perl -e 'my @a = map { oct } @ARGV; print "KEELSNAP", pack("VVQQQQ", @a[0..5]); truncate STDOUT, $a[6]' \
		"$@" >"$tmp/head"
}
snapshot_head 2 1 0x4000000 0 0x1000 0 0x4001000
check 1 'has version 2' 'restore: another version' "$keel" restore "$tmp/head"
snapshot_head 3 0 0x4000000 0 0x1000 0 0x4001000
check 1 'is broken: .* header' 'restore: no CPU' "$keel" restore "$tmp/head"
snapshot_head 3 0xff 0x4000000 0 0x1000 0 0x4001000
check 1 'is broken: .* header' 'restore: too many CPUs' "$keel" restore "$tmp/head"
snapshot_head 3 1 0xffffffffffffe000 0 0x3000 0 0x1000
check 1 'is broken: .* header' 'restore: impossible memory' "$keel" restore "$tmp/head"
snapshot_head 3 1 0x4000000 0xffffffffffffffff 0x1000 0 0x4001000
check 1 'is broken: .* header' 'restore: impossible state' "$keel" restore "$tmp/head"
snapshot_head 3 1 0x4000000 0 0x1000 0 0x4000000
check 1 'is broken: truncated' 'restore: truncated' "$keel" restore "$tmp/head"
snapshot_head 3 1 0x4000000 0 0x1000 0 0x4001000
check 1 'is broken: its checksum' 'restore: wrong checksum' "$keel" restore "$tmp/head"

# The rest as somebody else, when we may become that.
if [ "$(id -u)" = 0 ] && command -v setpriv >/dev/null &&
   mknod -m 600 "$tmp/node" c 10 232 2>/dev/null; then
	nobody="setpriv --reuid 65534 --regid 65534 --clear-groups"
	chmod 755 "$tmp"
	cp "$keel" "$tmp/keel"
	check 1 'cannot open kernel .*Permission denied' 'kernel without permission' \
		$nobody "$tmp/keel" run --kernel "$tmp/secret"
	check 1 'node: permission denied; run it as root' 'device without permission' \
		$nobody "$tmp/keel" run --kernel "$tmp/good" --device "$tmp/node"
	chgrp daemon "$tmp/node" && chmod 660 "$tmp/node"
	check 1 'type: sudo usermod -aG daemon' 'device of a group' \
		$nobody "$tmp/keel" run --kernel "$tmp/good" --device "$tmp/node"
else
	skip 'no permission' 'not root, or no setpriv or mknod'
fi

says --help '^Usage: keel COMMAND'
says --version '^keel [0-9a-f]'
says 'run --help' '^Usage: keel run'
says 'doctor --help' '^Usage: keel doctor'
check 1 'cannot write' 'help that cannot be written' sh -c "'$keel' --help >/dev/full"
check 1 'cannot write' 'help to nowhere' sh -c "'$keel' --help >&-"
check 1 'cannot write' 'doctor that cannot write' sh -c "'$keel' doctor >/dev/full"

exec 9>&-
[ -z "$(ls -A .)" ] && flock -w 2 "$tmp/lock" true
result $? 'no file and no process is left behind'
# shellcheck disable=SC2012 # for a person
ls -A . | sed 's/^/# /'
end
