/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * PCI configuration space by mechanism 1, and the reset register that
 * chipsets put in the middle of its ports.
 */
#ifndef PCI_H
#define PCI_H

#include <pthread.h>

#include "bus.h"

#define PCI_PORTS 0xcf8
#define PCI_PORTS_SIZE 8
#define PCI_RESET_PORT 0xcf9	/* what the FADT names as the reset register */
#define PCI_RESET_VALUE 0x06
#define PCI_SLOTS 32
#define PCI_CONFIG_SIZE 256

/* A function 0 on bus 0. */
struct pci_device {
	u8 config[PCI_CONFIG_SIZE];
	u8 writable[PCI_CONFIG_SIZE];	/* mask of bits the guest may change */
};

struct pci {
	pthread_mutex_t lock;	/* address, and the config of all devices */
	u32 address;

	struct pci_device *slot[PCI_SLOTS];	/* set at creation */
	struct pci_device host_bridge;
	void (*reset)(void *opaque);
	void *opaque;
};

void pci_init(struct pci *pci, void (*reset)(void *opaque), void *opaque);
void pci_access(void *dev, struct bus_access *access);

#endif
