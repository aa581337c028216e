# SPDX-License-Identifier: GPL-2.0-only
# shellcheck shell=bash
# What the client tests have in common: counting tests in TAP, waiting.

n=0
bad=0

ok()
{
	n=$((n + 1))
	echo "ok $n - $1"
}

not_ok()
{
	n=$((n + 1))
	bad=$((bad + 1))
	echo "not ok $n - $1"
}

skip()
{
	n=$((n + 1))
	echo "ok $n - $1 # SKIP $2"
}

# check NAME COMMAND...: one test
check()
{
	local name=$1

	shift
	if "$@"; then ok "$name"; else not_ok "$name"; fi
}

bail()
{
	echo "Bail out! $*"
	exit 1
}

# wait_until SECONDS COMMAND...: until it succeeds; TIMEOUT_SCALE is a factor, on a busy machine
wait_until()
{
	local end

	end=$(awk "BEGIN { print int($SECONDS + $1 * ${TIMEOUT_SCALE:-1} + 1) }")
	shift
	until "$@"; do
		[ $SECONDS -lt "$end" ] || return 1
		sleep 0.5
	done
}

# The plan; fails when a test has.
finish()
{
	echo "1..$n"
	[ $bad = 0 ]
}
