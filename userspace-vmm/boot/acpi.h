/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The tables by which a guest finds its processors and devices.
 */
#ifndef ACPI_H
#define ACPI_H

#include "keel.h"

/* Where the tables go; the memory map given to the guest reserves it. */
#define ACPI_BASE 0xe0000ULL
#define ACPI_SIZE 0x20000ULL

int acpi_build(u8 *mem, gpa_t base, size_t size, unsigned int cpus,
	       gpa_t *rsdp, struct err *err);

#endif
