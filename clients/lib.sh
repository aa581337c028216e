# SPDX-License-Identifier: GPL-2.0-only
# shellcheck shell=bash disable=SC2154
# What the client tests have in common: counting tests in TAP, waiting. They set $top.

# shellcheck source=selftests/tap.sh
. "$top/selftests/tap.sh"

# scaled SECONDS: what is allowed; TIMEOUT_SCALE is a factor, on a busy machine
scaled()
{
	awk "BEGIN { print int($1 * ${TIMEOUT_SCALE:-1} + 1) }"
}

# wait_until SECONDS COMMAND...: until it succeeds
wait_until()
{
	local deadline=$((SECONDS + $(scaled "$1")))

	shift
	until "$@"; do
		[ $SECONDS -lt $deadline ] || return 1
		sleep 0.5
	done
}
