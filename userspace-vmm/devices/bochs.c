// SPDX-License-Identifier: GPL-2.0-only
/*
 * The framebuffer adapter: memory in BAR 0, and in BAR 2 the registers of the
 * VBE display interface that Bochs invented, of 16 bits each, as Linux's bochs
 * driver and firmware find them on QEMU's "bochs-display".
 */
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#include <linux/pci_regs.h>

#include "display.h"

#define VENDOR			0x1234
#define DEVICE			0x1111
#define CLASS_DISPLAY_OTHER	0x038000

#define REGISTERS_SIZE		0x1000
#define REGISTERS		0x500	/* where they are in there */

#define ID_VALUE		0xb0c5

/* Where the memory is mapped nowhere, by tests for instance. */
static void memory_access(void *opaque, struct bus_access *access)
{
	struct bochs *b = opaque;

	if (access->write)
		memcpy(b->memory + access->offset, &access->value, access->size);
	else
		memcpy(&access->value, b->memory + access->offset, access->size);
}

static void memory_map(void *opaque, u64 base)
{
	struct bochs *b = opaque;
	struct pci *pci = b->bus;

	if (pci->host && b->pci.bar[0].base != PCI_UNMAPPED)
		pci->host->memory(pci->opaque, 0, b->memory, 0);
	if (pci->host && base != PCI_UNMAPPED)
		pci->host->memory(pci->opaque, base, b->memory, VIDEO_MEMORY);
}

static void register_access(void *opaque, struct bus_access *access)
{
	u64 n = (access->offset - REGISTERS) / 2;
	struct bochs *b = opaque;

	if (n >= BOCHS_REGISTERS || access->offset % 2 || access->size != 2)
		return;
	if (!access->write)
		access->value = b->reg[n];
	else if (n != BOCHS_ID && n != BOCHS_MEMORY_64K)
		b->reg[n] = access->value;
}

/**
 * bochs_add() - put the adapter on the bus
 * @b: cleared; call bochs_remove() also after a failure
 */
int bochs_add(struct bochs *b, struct pci *bus, struct err *err)
{
	struct pci_bar memory = { .size = VIDEO_MEMORY, .fn = memory_access, .map = memory_map, .dev = b };
	struct pci_bar registers = { .size = REGISTERS_SIZE, .fn = register_access, .dev = b };

	b->bus = bus;
	b->memory = MAP_FAILED;
	b->fd = memfd_create("keel-display", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	if (b->fd >= 0 && !ftruncate(b->fd, VIDEO_FILE))
		b->memory = mmap(NULL, VIDEO_FILE, PROT_READ | PROT_WRITE, MAP_SHARED, b->fd, 0);
	if (b->memory == MAP_FAILED ||
	    fcntl(b->fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_FUTURE_WRITE | F_SEAL_SEAL) < 0)
		return err_sys(err, "cannot allocate the memory of the display");
	b->reg = (atomic_ushort *)(b->memory + VIDEO_MEMORY);
	b->reg[BOCHS_ID] = ID_VALUE;
	b->reg[BOCHS_MEMORY_64K] = VIDEO_MEMORY / (64 * KIB);
	if (pci_add(bus, &b->pci, VENDOR, DEVICE, CLASS_DISPLAY_OTHER, err) < 0)
		return -1;
	pci_add_bar(bus, &b->pci, 0, &memory);
	pci_add_bar(bus, &b->pci, 1, &registers);
	return 0;
}

/**
 * bochs_remove() - take it away, when no vCPU runs any more
 * @b: the adapter
 */
void bochs_remove(struct bochs *b)
{
	pci_remove(b->bus, &b->pci);
	if (b->memory != MAP_FAILED)
		munmap(b->memory, VIDEO_FILE);
	close(b->fd);
}

/**
 * bochs_save() - what a snapshot keeps of the registers
 * @opaque: the adapter; its saved state is filled
 */
void bochs_save(void *opaque)
{
	struct bochs *b = opaque;

	pci_save(b->bus, &b->pci, &b->saved.pci);
	memcpy(b->saved.reg, b->memory + VIDEO_MEMORY, sizeof(b->saved.reg));
}

/**
 * bochs_load() - give a new adapter what is in its saved state
 * @opaque: the adapter
 *
 * Return: 0, or -1 if that is impossible.
 */
int bochs_load(void *opaque)
{
	struct bochs *b = opaque;

	b->saved.reg[BOCHS_ID] = b->reg[BOCHS_ID];
	b->saved.reg[BOCHS_MEMORY_64K] = b->reg[BOCHS_MEMORY_64K];
	memcpy(b->memory + VIDEO_MEMORY, b->saved.reg, sizeof(b->saved.reg));
	return pci_load(b->bus, &b->pci, &b->saved.pci);
}
