/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * PCI configuration space by mechanism 1, 64-bit BARs in one window, MSI-X,
 * and the reset register that chipsets put in the middle of its ports.
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

/* Where BARs are; _CRS of the host bridge in dsdt.asl repeats it. */
#define PCI_WINDOW 0xc0000000ULL
#define PCI_WINDOW_SIZE 0x20000000ULL

#define PCI_BARS 3		/* of 64 bits: registers 0, 2 and 4 */
#define PCI_UNMAPPED (~0ULL)

#define MSIX_VECTORS 16
#define MSIX_TABLE_SIZE 0x1000	/* of a BAR: the table, then the PBA */
#define MSIX_PBA 0x800

/**
 * struct msix_vector - one interrupt of a device
 * @entry: as the guest sees it: address, data, control
 * @fd: eventfd that raises it; keeps what is raised while it is masked
 * @gsi: its row in the hypervisor's routing table
 * @attached: the hypervisor takes from @fd, and sends @entry
 */
struct msix_vector {
	u32 entry[4];
	int fd;
	unsigned int gsi;
	bool attached;
};

/* What a snapshot keeps of a device. */
struct pci_saved {
	u8 config[PCI_CONFIG_SIZE];
	u32 entry[MSIX_VECTORS][4];
	u32 pending;
};

struct pci_bar {
	u64 size;		/* a power of two; 0: there is none */
	u64 base;		/* PCI_UNMAPPED while it is not decoded */
	bus_fn fn;
	void *dev;
	/* Where it is has changed; called with pci->lock held. */
	void (*map)(void *dev, u64 base);
};

/* A function 0 on bus 0. */
struct pci_device {
	u8 config[PCI_CONFIG_SIZE];
	u8 writable[PCI_CONFIG_SIZE];	/* mask of bits the guest may change */
	u8 cap_last, cap_end;
	struct pci_bar bar[PCI_BARS];

	u8 msix_cap;			/* 0: none */
	u8 msix_bar;
	u32 msix_offset;
	unsigned int vectors;
	struct msix_vector vector[MSIX_VECTORS];
};

/* What the hypervisor does for devices; in tests there is none. */
struct pci_host_ops {
	void (*msi)(void *opaque, struct msix_vector *vector, bool on);
	void (*ioeventfd)(void *opaque, u64 gpa, int fd, bool on);
	/* One range of @size bytes is memory; 0: none. */
	void (*memory)(void *opaque, u64 gpa, void *host, u64 size);
};

struct pci {
	pthread_mutex_t lock;	/* address; config, BARs, vectors of all devices */
	u32 address;

	struct pci_device *slot[PCI_SLOTS];	/* set at creation */
	struct pci_device host_bridge;
	u64 window_used;
	unsigned int gsi_next;
	void (*reset)(void *opaque);
	const struct pci_host_ops *host;
	void *opaque;
};

void pci_init(struct pci *pci, void (*reset)(void *opaque),
	      const struct pci_host_ops *host, void *opaque);
void pci_access(void *dev, struct bus_access *access);
void pci_mmio_access(void *dev, struct bus_access *access);

int pci_add(struct pci *pci, struct pci_device *dev, u16 vendor, u16 device,
	    u32 class, struct err *err);
u8 *pci_add_cap(struct pci_device *dev, u8 id, unsigned int size);
void pci_add_bar(struct pci *pci, struct pci_device *dev, unsigned int n,
		 const struct pci_bar *bar);
int pci_add_msix(struct pci *pci, struct pci_device *dev, unsigned int bar,
		 u32 offset, unsigned int vectors, struct err *err);
void pci_msix_raise(struct pci_device *dev, unsigned int vector);
void pci_save(struct pci *pci, struct pci_device *dev, struct pci_saved *saved);
int pci_load(struct pci *pci, struct pci_device *dev, const struct pci_saved *saved);
void pci_remove(struct pci *pci, struct pci_device *dev);

#endif
