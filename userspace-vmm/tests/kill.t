#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only
#
# keel kill ends a machine that its guest has taken over, whatever it answers. The
# machine is socat, which is none: it says that it ends and goes on, or never comes to
# the end of a sentence.
set -u
here=$(cd "$(dirname "$0")" && pwd)
keel=${KEEL:-$here/../../build/userspace-vmm/keel}
if ! command -v socat >/dev/null; then
	echo '1..0 # SKIP socat is not installed'
	exit 0
fi
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
trap 'exit 1' INT TERM HUP
# Root's have a directory that no variable moves.
name=liar-$$ XDG_RUNTIME_DIR=$tmp
export XDG_RUNTIME_DIR
dir=/run/keel
[ "$(id -u)" = 0 ] || dir=$tmp/keel
[ -d "$dir" ] || mkdir -m 700 "$dir"
# shellcheck source=selftests/tap.sh
. "$here/../../selftests/tap.sh"

# start ANSWER: a shell command
start()
{
	socat "UNIX-LISTEN:$dir/$name.sock,fork" "SYSTEM:$1" 2>/dev/null &
	pid=$!
	until [ -S "$dir/$name.sock" ]; do
		sleep 0.1
	done
}

# kills ANSWER WHAT
kills()
{
	start "$1"
	timeout 60 "$keel" kill "$name" && ! kill -0 $pid 2>/dev/null
	result $? "$2"
	kill -9 $pid 2>/dev/null
	wait $pid 2>/dev/null
	rm -f "$dir/$name.sock"
}

kills 'read request; echo {}; sleep 60' 'one that says it ends, and does not'
kills 'while printf x; do sleep 2; done' 'one that never ends its answer'

# In another PID namespace the number of its process is 0.
if ! unshare --pid --fork true 2>/dev/null; then
	skip 'one whose process is out of sight' 'no PID namespace can be made here'
else
	start 'read request; echo {}'
	unshare --pid --fork "$keel" kill "$name" 2>"$tmp/err"
	[ $? = 1 ] && [ "$(wc -l <"$tmp/err")" = 1 ] && grep -q 'cannot get hold of its process: ' "$tmp/err"
	result $? 'one whose process is out of sight' "$tmp/err"
	kill -9 $pid
	wait $pid 2>/dev/null
	rm -f "$dir/$name.sock"
fi
end
