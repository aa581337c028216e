#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only
# The ACPI tables through a disassembler and back (package acpica-tools).
set -u
here=$(cd "$(dirname "$0")" && pwd)
build=$(dirname "${KEEL:-$here/../../build/userspace-vmm/keel}")
if ! command -v iasl >/dev/null; then
	echo '1..0 # SKIP iasl is not installed (acpica-tools)'
	exit 0
fi
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
trap 'exit 1' INT TERM HUP
# shellcheck source=selftests/tap.sh
. "$here/../../selftests/tap.sh"

"$build/tests/acpi-test" "$tmp" >"$tmp/log" 2>&1
result $? 'tables are written' "$tmp/log"
cd "$tmp" || exit 1
for t in DSDT FACP APIC; do
	iasl -d $t.dat >log 2>&1 && ! grep -qiE 'warning|error|invalid' $t.dsl
	result $? "$t is disassembled without complaint" "$tmp/log"
done
iasl -we -p again DSDT.dsl >log 2>&1
result $? 'DSDT compiles again without a warning' "$tmp/log"
cat DSDT.dsl >log
grep -q 'PNP0501' DSDT.dsl && grep -q '0x03F8' DSDT.dsl
result $? 'DSDT has the serial port' "$tmp/log"
grep -q '_S5' DSDT.dsl
result $? 'DSDT has S5' "$tmp/log"
grep -q 'PNP0A03' DSDT.dsl &&
	grep -q "$(sed -n 's/^#define PCI_WINDOW 0x\([0-9a-f]*\)ULL/0x\1/p' "$here/../devices/pci.h" | tr a-f A-F | sed 's/^0X/0x/')" DSDT.dsl
result $? 'DSDT has the window for BARs, where pci.h says' "$tmp/log"
cat FACP.dsl >log
grep -q 'Control Method Power Button (V1) : 0' FACP.dsl
result $? 'the power button is fixed hardware' "$tmp/log"
end
