# SPDX-License-Identifier: GPL-2.0-only
# shellcheck shell=bash disable=SC2153,SC2154
# VT-x: Bochs. Sourced by scripts/host.

host_vmx()
{
	die "vmx: not there yet"
}
