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

# pack_cpio DIR: DIR as a compressed initramfs on standard output.
pack_cpio()
{
	(cd "$1" && find . | sort | cpio -o -H newc --quiet -R 0:0) | gzip -1
}

# Libraries that FILE needs, one path per line. ldd runs the loader on it, which
# is fine for what we pack: our own programs and Debian's.
libraries()
{
	{ ldd "$1" 2>/dev/null || true; } | sed -n 's/.*=> \(\/[^ ]*\) .*/\1/p; s/^[[:space:]]*\(\/[^ ]*\) .*/\1/p'
}

# pack_file PATH[:AS] ROOT: copy a file or directory, at the same place or AS, with
# the shared libraries of every program in it. Links are followed.
pack_file()
{
	local from=${1%%:*} as=$1 root=$2 f lib

	[ -e "$from" ] || die "--file $from: no such file"
	[ "$as" = "$from" ] && as=$(realpath -s -- "$from")
	as=${as#"$from":}
	mkdir -p "$root/$(dirname "$as")"
	cp -rL --no-preserve=ownership -- "$from" "$root/$as"
	find "$root/$as" -type f | while read -r f; do
		[ "$(head -c 4 "$f" | tr -d '\0')" = $'\x7fELF' ] || continue
		libraries "$f"
	done | sort -u | while read -r lib; do
		[ -e "$root/$lib" ] && continue
		mkdir -p "$root/$(dirname "$lib")"
		cp -L -- "$lib" "$root/$lib"
	done
}

# copy_module FILE DIR: as the plain .ko that every insmod takes.
copy_module()
{
	local name

	name=$(basename "$1")
	case $1 in
	*.ko) cp "$1" "$2/" ;;
	*.ko.xz) xz -dc "$1" >"$2/${name%.xz}" ;;
	*.ko.zst) zstd -qdc "$1" >"$2/${name%.zst}" ;;
	*) die "$1: unknown kind of module" ;;
	esac
}
