#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only
#
# Runs the programs in directory $1 and makes one TAP stream of theirs.

dir=$1
count=0
failed=0

result() {
	count=$((count + 1))
	echo "$1 $count - $2"
	[ "$1" = ok ] || failed=1
}

# A program's own lines, renumbered; its plan is replaced by ours.
run() {
	name=$1
	if [ ! -x "$dir/$name" ]; then
		result ok "$name # SKIP not built: a library is missing"
		return
	fi
	out=$dir/$name.tap
	"$dir/$name" >"$out" 2>&1
	status=$?
	if grep -q '^1\.\.0 # SKIP' "$out"; then
		result ok "$name $(sed -n 's/^1\.\.0 \(# SKIP.*\)/\1/p' "$out")"
		return
	fi
	awk -v n="$count" -v name="$name" '
		/^1\.\./ { next }
		/^(not )?ok / {
			bad = /^not/
			sub(/^(not )?ok [0-9]+ - /, "")
			printf "%sok %d - %s: %s\n", bad ? "not " : "", ++n, name, $0
			next
		}
		{ print /^#/ ? $0 : "# " $0 }' "$out"
	count=$((count + $(grep -cE '^(not )?ok ' "$out")))
	grep -q '^not ok' "$out" && failed=1
	if [ $status -eq 0 ] && grep -q '^1\.\.[1-9]' "$out"; then
		result ok "$name: came to its end"
	else
		result "not ok" "$name: exit status $status"
	fi
}

fuzz() {
	seconds=${FUZZ_SECONDS:-30}
	if [ ! -x "$dir/fuzz" ]; then
		result ok "fuzz # SKIP not built: clang or its fuzzer is missing"
		return
	fi
	mkdir -p "$dir/corpus"
	if "$dir/fuzz" -max_total_time="$seconds" -max_len=48 \
		-artifact_prefix="$dir/" "$dir/corpus" >"$dir/fuzz.log" 2>&1; then
		result ok "fuzz: $(sed -n 's/^Done //p' "$dir/fuzz.log")"
	else
		tail -n 40 "$dir/fuzz.log" | sed 's/^/# /'
		result "not ok" "fuzz: see $dir/fuzz.log"
	fi
}

run fault_test
run replay_test
run native_test
run decode_test
fuzz
echo "1..$count"
exit $failed
