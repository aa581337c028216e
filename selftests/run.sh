#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only
#
# Run the programs on one device and print one TAP line for each.
#
#	run.sh DEVICE [PROGRAM ...]
#
# Plain sh as in busybox, since it also runs from an initramfs. What the
# programs print is indented as a TAP subtest, so nothing gets lost.

dir=$(dirname "$0")
device=${1:-/dev/keel}
[ $# -gt 0 ] && shift

if [ $# -eq 0 ]; then
	for f in "$dir"/*; do
		case $f in *.o|*.sh|*/hold|*/kexec) continue ;; esac
		[ -f "$f" ] && [ -x "$f" ] &&
			set -- "$@" "$(basename "$f")"
	done
fi

# A busy machine needs longer.
if [ -n "$TIMEOUT_SCALE" ]; then
	KEEL_TIMEOUT=$(awk "BEGIN { print int(${KEEL_TIMEOUT:-60} * $TIMEOUT_SCALE) }")
	export KEEL_TIMEOUT
fi

n=0
bad=0
pass=0
fail=0
skip=0
echo "TAP version 13"
echo "1..$#"
for name in "$@"; do
	n=$((n + 1))
	out=$("$dir/$name" "$device" 2>&1)
	rc=$?
	printf '%s\n' "$out" | sed 's/^/    /'
	s=$(printf '%s\n' "$out" | grep -c '^ok .*# SKIP')
	p=$(printf '%s\n' "$out" | grep -c '^ok ')
	p=$((p - s))
	f=$(printf '%s\n' "$out" | grep -c '^not ok ')
	pass=$((pass + p))
	fail=$((fail + f))
	skip=$((skip + s))
	if [ $rc -eq 0 ] && [ $((p + s)) -eq 0 ]; then
		bad=$((bad + 1))
		echo "not ok $n - $name # has run no test"
	elif [ $rc -eq 0 ] && [ "$f" -eq 0 ]; then
		if [ "$p" -eq 0 ]; then
			echo "ok $n - $name # SKIP all $s tests skipped"
		else
			echo "ok $n - $name # $p passed, $s skipped"
		fi
	else
		bad=$((bad + 1))
		echo "not ok $n - $name # $p passed, $f failed, $s skipped, exit $rc"
	fi
done
echo "# $device: $n programs, $bad failed; tests: $pass passed, $fail failed, $skip skipped"
[ $bad -eq 0 ]
