# SPDX-License-Identifier: GPL-2.0-only
# shellcheck shell=bash
# What every script here shares: where things are, and how to stop.

TOP=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd -P)
CACHE=${XDG_CACHE_HOME:-${HOME:-/root}/.cache}/keel
# depmod, modprobe and friends live in sbin, which Debian leaves out of a user's path.
PATH=$PATH:/usr/sbin:/sbin
export TOP CACHE PATH

die()
{
	echo "${0##*/}: $*" >&2
	exit 2
}

note()
{
	echo "${0##*/}: $*" >&2
}

# A short fingerprint of standard input, to name what is cached.
fingerprint()
{
	sha256sum | cut -c1-12
}

# need PROGRAM PACKAGE: stop with what to type when a program is missing.
need()
{
	command -v "$1" >/dev/null 2>&1 ||
		die "$1 is missing: apt-get install $2 (or scripts/setup, which installs everything)"
}

# debian_kernels GLOB: releases of the installed Debian kernels, oldest first.
debian_kernels()
{
	local f

	for f in /boot/vmlinuz-$1; do
		[ -e "$f" ] && echo "${f#/boot/vmlinuz-}"
	done | sort -V
}
