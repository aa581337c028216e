#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only
# The fuzzer of rings and registers, for FUZZ_SECONDS.
here=$(cd "$(dirname "$0")" && pwd)
dir=$(dirname "${KEEL:-$here/../../build/userspace-vmm/keel}")/tests
if [ ! -x "$dir/fuzz" ]; then
	echo '1..0 # SKIP not built: clang or its fuzzer is missing'
	exit 0
fi
mkdir -p "$dir/corpus"
status=0
"$dir/fuzz" -max_total_time="${FUZZ_SECONDS:-20}" -max_len=512 -timeout=20 \
	-artifact_prefix="$dir/" "$dir/corpus" >"$dir/fuzz.log" 2>&1 || status=1
if [ $status = 0 ]; then
	echo "ok 1 - fuzz: $(sed -n 's/^Done //p' "$dir/fuzz.log")"
else
	grep -vE '^#|NEW_FUNC' "$dir/fuzz.log" | tail -n 40 | sed 's/^/# /'
	echo "not ok 1 - fuzz: see $dir/fuzz.log"
fi
echo 1..1
exit $status
