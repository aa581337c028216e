// SPDX-License-Identifier: GPL-2.0-only
/*
 * One PCI bus with a host bridge, by configuration mechanism 1 (PCI
 * Local Bus Specification 3.0, section 3.2.2.3.2).
 */
#include <string.h>
#include <linux/pci_regs.h>

#include "pci.h"

/* Offsets from PCI_PORTS. */
#define CONFIG_ADDRESS		0
#define CONFIG_RESET		1
#define CONFIG_DATA		4

#define ADDRESS_ENABLE		0x80000000U
#define ADDRESS_WRITABLE	0x80fffffcU
#define RESET_NOW		0x04

/*
 * Without any bridge Linux does not believe in mechanism 1, and complains that
 * there is no PCI. This is what virtual machines without a chipset of their own
 * call theirs.
 */
#define BRIDGE_VENDOR		0x8086
#define BRIDGE_DEVICE		0x0d57
#define CLASS_HOST_BRIDGE	0x0600

/**
 * pci_init() - a bus with nothing but its host bridge
 * @pci: the bus
 * @reset: called when the guest writes the reset register
 * @opaque: argument of @reset
 */
void pci_init(struct pci *pci, void (*reset)(void *opaque), void *opaque)
{
	u16 vendor = BRIDGE_VENDOR, device = BRIDGE_DEVICE;
	u16 class = CLASS_HOST_BRIDGE;
	u8 *config = pci->host_bridge.config;

	memset(pci, 0, sizeof(*pci));
	pthread_mutex_init(&pci->lock, NULL);
	pci->reset = reset;
	pci->opaque = opaque;
	memcpy(config + PCI_VENDOR_ID, &vendor, sizeof(vendor));
	memcpy(config + PCI_DEVICE_ID, &device, sizeof(device));
	memcpy(config + PCI_CLASS_DEVICE, &class, sizeof(class));
	pci->slot[0] = &pci->host_bridge;
}

/* The device that the address register selects, or NULL. */
static struct pci_device *selected(const struct pci *pci)
{
	unsigned int bus = (pci->address >> 16) & 0xff;
	unsigned int slot = (pci->address >> 11) & 0x1f;
	unsigned int function = (pci->address >> 8) & 7;

	if (!(pci->address & ADDRESS_ENABLE) || bus || function)
		return NULL;
	return pci->slot[slot];
}

/* One byte of the data window. */
static void data_byte(struct pci *pci, unsigned int offset, bool write, u8 *byte)
{
	struct pci_device *dev = selected(pci);
	unsigned int reg = (pci->address & 0xfc) + offset;
	u8 mask;

	if (!write) {
		*byte = dev ? dev->config[reg] : 0xff;
	} else if (dev) {
		mask = dev->writable[reg];
		dev->config[reg] = (dev->config[reg] & ~mask) | (*byte & mask);
	}
}

/**
 * pci_access() - bus callback for ports 0xcf8 to 0xcff
 * @dev: the struct pci
 * @access: the access
 *
 * The address register is reached by accesses of four bytes only. A byte at
 * 0xcf9 is the chipset's reset register: bit 2 resets, bit 1 says how hard.
 */
void pci_access(void *dev, struct bus_access *access)
{
	bool byte = access->size == 1, reset = false;
	struct pci *pci = dev;
	u8 data[8];
	unsigned int i;

	memcpy(data, &access->value, sizeof(data));
	pthread_mutex_lock(&pci->lock);
	if (access->offset == CONFIG_ADDRESS && access->size == 4) {
		if (access->write)
			pci->address = access->value & ADDRESS_WRITABLE;
		else
			access->value = pci->address;
	} else if (access->offset == CONFIG_RESET && byte) {
		reset = access->write && (access->value & RESET_NOW);
		if (!access->write)
			access->value = 0;
	} else if (access->offset >= CONFIG_DATA) {
		for (i = 0; i < access->size; i++)
			data_byte(pci, access->offset - CONFIG_DATA + i,
				  access->write, &data[i]);
		if (!access->write)
			memcpy(&access->value, data, access->size);
	}
	pthread_mutex_unlock(&pci->lock);
	if (reset)
		pci->reset(pci->opaque);
}
