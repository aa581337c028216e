# SPDX-License-Identifier: GPL-2.0-only
# shellcheck shell=bash
# What every script here shares: where things are, and how to stop.

# Or a command that fails inside $( ) does not end what it is part of.
shopt -s inherit_errexit

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

# The busybox that is packed has no libraries beside it.
need_busybox()
{
	need busybox busybox-static
	[ -z "$(libraries "$(command -v busybox)")" ] ||
		die "busybox is not a static one: apt-get install busybox-static"
}

# Root's rights for one command, where sudo gives them.
as_root()
{
	if [ "$(id -u)" = 0 ]; then
		"$@"
	elif command -v sudo >/dev/null 2>&1; then
		sudo "$@"
	else
		die "not root, and there is no sudo: run as root: $*"
	fi
}

# debian_kernel SERIES: the release of the Debian kernel to use of a series (of any,
# when that is empty): the newest that can be booted and built for, else booted,
# else built for. Prints nothing when there is none.
debian_kernel()
{
	local f r rank

	for f in /boot/vmlinuz-"${1:+$1.}"*-amd64 /usr/src/linux-headers-"${1:+$1.}"*-amd64; do
		r=${f#/boot/vmlinuz-}
		r=${r#/usr/src/linux-headers-}
		case $r in *-rt-amd64 | *-cloud-amd64) continue ;; esac
		rank=0
		[ ! -e "/boot/vmlinuz-$r" ] || rank=2
		[ ! -e "/usr/src/linux-headers-$r/Makefile" ] || rank=$((rank + 1))
		[ $rank = 0 ] || echo "$rank $r"
	done | sort -k 1,1n -k 2,2V | sed -n '$s/^. //p'
}

# cached FILE COMMAND [ARG...]: unless FILE is there, make it of what COMMAND
# prints, which gets an empty directory to work in as its last argument. A
# half-written file never has the name.
cached()
(
	file=$1
	shift
	[ ! -e "$file" ] || exit 0
	mkdir -p "$(dirname "$file")"
	tmp=$(mktemp -d "$(dirname "$file")/new.XXXXXX")
	trap 'rm -rf "$tmp"' EXIT
	trap 'exit 1' INT TERM HUP
	mkdir "$tmp/dir"
	"$@" "$tmp/dir" >"$tmp/file"
	mv "$tmp/file" "$file"
)

# pack_cpio DIR: DIR as a compressed initramfs on standard output.
pack_cpio()
{
	(cd "$1" && find . | sort | cpio -o -H newc --quiet -R 0:0) | gzip -1
}

# busybox_root DIR INIT: a root of busybox and INIT in DIR.
busybox_root()
{
	mkdir -p "$1"/{bin,sbin,usr/bin,usr/sbin,proc,sys,dev,tmp,root,etc,run}
	cp "$(command -v busybox)" "$1/bin/busybox"
	ln -s busybox "$1/bin/sh"
	cp "$2" "$1/init"
	chmod 755 "$1/init"
	echo 'root:x:0:0:root:/root:/bin/sh' >"$1/etc/passwd"
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
	# An initramfs is unpacked by a slow emulator.
	find "$root/$as" -name '*.o' -type f -delete
	find "$root/$as" -type f | while read -r f; do
		[ "$(head -c 4 "$f" | tr -d '\0')" = $'\x7fELF' ] || continue
		libraries "$f"
	done | sort -u | while read -r lib; do
		[ -e "$root/$lib" ] && continue
		mkdir -p "$root/$(dirname "$lib")"
		cp -L -- "$lib" "$root/$lib"
	done
}

# pack_module DIR NAME [PARAMETERS]: a module of the kernel RELEASE, whose modules
# are in MODDIR, or a .ko file, with all it depends on, for insmod in the order of
# DIR/order. What is built in has no file.
pack_module()
{
	local dir=$1 name=$2 params=${3:-} depends m verb path

	mkdir -p "$dir"
	touch "$dir/order"
	if [[ $name == *.ko ]]; then
		# Not in modules.dep: what it needs is written in it.
		depends=$(modinfo -F depends "$name" | tr ',' ' ')
		for m in $depends; do
			pack_module "$dir" "$m"
		done
		copy_module "$name" "$dir" "$params"
		return
	fi
	depends=$(modprobe -d "${MODDIR%/lib/modules/*}/" -S "$RELEASE" \
		--show-depends "$name" 2>/dev/null) || die "kernel $RELEASE has no module $name"
	while read -r verb path _; do
		[ "$verb" = insmod ] || continue
		m=${path##*/}
		m=${m%%.ko*}
		# The file may be called kvm-intel.
		[ "${m//-/_}" = "${name//-/_}" ] || { copy_module "$path" "$dir"; continue; }
		copy_module "$path" "$dir" "$params"
	done <<<"$depends"
}

# copy_module FILE DIR [PARAMETERS]: once, as the plain .ko that every insmod takes.
copy_module()
{
	local name=${1##*/} params=${3:-}

	name=${name%%.ko*}.ko
	[ ! -e "$2/$name" ] || return 0
	case $1 in
	*.ko) cp "$1" "$2/$name" ;;
	*.ko.xz) xz -dc "$1" >"$2/$name" ;;
	*.ko.zst) zstd -qdc "$1" >"$2/$name" ;;
	*) die "$1: unknown kind of module" ;;
	esac
	echo "$name${params:+ $params}" >>"$2/order"
}
