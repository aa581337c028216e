// SPDX-License-Identifier: GPL-2.0-only
/*
 * One PCI bus with a host bridge, by configuration mechanism 1 (PCI
 * Local Bus Specification 3.0, section 3.2.2.3.2).
 */
#include <poll.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>
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
#define CLASS_HOST_BRIDGE	0x060000

/* Those below are the I/O APIC's pins. */
#define FIRST_MSI_GSI		24

static void put16(u8 *p, u16 value)
{
	memcpy(p, &value, sizeof(value));
}

static void put32(u8 *p, u32 value)
{
	memcpy(p, &value, sizeof(value));
}

static u16 get16(const u8 *p)
{
	u16 value;

	memcpy(&value, p, sizeof(value));
	return value;
}

static void init_config(struct pci_device *dev, u16 vendor, u16 device,
			u32 class)
{
	memset(dev, 0, sizeof(*dev));
	put16(dev->config + PCI_VENDOR_ID, vendor);
	put16(dev->config + PCI_DEVICE_ID, device);
	put32(dev->config + PCI_CLASS_REVISION, class << 8);
	dev->cap_end = PCI_STD_HEADER_SIZEOF;
}

/**
 * pci_init() - a bus with nothing but its host bridge
 * @reset: called when the guest writes the reset register
 * @host: what the hypervisor does; NULL: nothing
 * @opaque: argument of the callbacks
 */
void pci_init(struct pci *pci, void (*reset)(void *opaque),
	      const struct pci_host_ops *host, void *opaque)
{
	memset(pci, 0, sizeof(*pci));
	pthread_mutex_init(&pci->lock, NULL);
	pci->reset = reset;
	pci->host = host;
	pci->opaque = opaque;
	pci->gsi_next = FIRST_MSI_GSI;
	init_config(&pci->host_bridge, BRIDGE_VENDOR, BRIDGE_DEVICE,
		    CLASS_HOST_BRIDGE);
	pci->slot[0] = &pci->host_bridge;
}

/**
 * pci_add() - put a device into the next free slot, before the guest runs
 * @dev: cleared and filled
 * @vendor: its ids
 * @device: likewise
 * @class: base class, subclass and programming interface
 */
int pci_add(struct pci *pci, struct pci_device *dev, u16 vendor, u16 device,
	    u32 class, struct err *err)
{
	unsigned int i = 0;

	while (i < PCI_SLOTS && pci->slot[i])
		i++;
	if (i == PCI_SLOTS)
		return err_set(err, "too many devices: the PCI bus has %d slots",
			       PCI_SLOTS);
	init_config(dev, vendor, device, class);
	put16(dev->writable + PCI_COMMAND, PCI_COMMAND_MEMORY |
	      PCI_COMMAND_MASTER | PCI_COMMAND_INTX_DISABLE);
	dev->writable[PCI_CACHE_LINE_SIZE] = 0xff;
	dev->writable[PCI_INTERRUPT_LINE] = 0xff;
	pci->slot[i] = dev;
	return 0;
}

/**
 * pci_add_cap() - append a capability
 * @id: PCI_CAP_ID_*
 * @size: with its two bytes of header
 *
 * Return: where it is in the configuration space, for the rest to be filled.
 */
u8 *pci_add_cap(struct pci_device *dev, u8 id, unsigned int size)
{
	u8 *cap = dev->config + dev->cap_end;

	dev->config[PCI_STATUS] |= PCI_STATUS_CAP_LIST;
	dev->config[dev->cap_last ? dev->cap_last + PCI_CAP_LIST_NEXT :
		    PCI_CAPABILITY_LIST] = dev->cap_end;
	dev->cap_last = dev->cap_end;
	dev->cap_end += ALIGN_UP(size, 4);
	cap[PCI_CAP_LIST_ID] = id;
	return cap;
}

/**
 * pci_add_bar() - give a device a range of addresses
 * @n: which, 0 to 2
 * @bar: size and callbacks
 *
 * It has a place already: there may be no firmware that gives it one.
 */
void pci_add_bar(struct pci *pci, struct pci_device *dev, unsigned int n,
		 const struct pci_bar *bar)
{
	u8 *reg = dev->config + PCI_BASE_ADDRESS_0 + 8 * n;
	u8 *mask = dev->writable + PCI_BASE_ADDRESS_0 + 8 * n;
	u64 at = ALIGN_UP(pci->window_used, bar->size);

	pci->window_used = at + bar->size;
	put32(reg, (PCI_WINDOW + at) | PCI_BASE_ADDRESS_MEM_TYPE_64);
	put32(mask, ~(bar->size - 1));
	put32(mask + 4, ~0U);
	dev->bar[n] = *bar;
	dev->bar[n].base = PCI_UNMAPPED;
}

/**
 * pci_add_msix() - give a device interrupts
 * @bar: in which of its BARs the table is
 * @offset: where there; MSIX_TABLE_SIZE bytes
 * @vectors: how many, MSIX_VECTORS at most
 */
int pci_add_msix(struct pci *pci, struct pci_device *dev, unsigned int bar,
		 u32 offset, unsigned int vectors, struct err *err)
{
	u8 *cap = pci_add_cap(dev, PCI_CAP_ID_MSIX, PCI_CAP_MSIX_SIZEOF);
	struct msix_vector *v;

	dev->msix_cap = cap - dev->config;
	dev->msix_bar = bar;
	dev->msix_offset = offset;
	put16(cap + PCI_MSIX_FLAGS, vectors - 1);
	put32(cap + PCI_MSIX_TABLE, offset | (2 * bar));
	put32(cap + PCI_MSIX_PBA, (offset + MSIX_PBA) | (2 * bar));
	put16(dev->writable + dev->msix_cap + PCI_MSIX_FLAGS,
	      PCI_MSIX_FLAGS_ENABLE | PCI_MSIX_FLAGS_MASKALL);
	for (; dev->vectors < vectors; dev->vectors++) {
		v = &dev->vector[dev->vectors];
		v->entry[3] = PCI_MSIX_ENTRY_CTRL_MASKBIT;
		v->gsi = pci->gsi_next++;
		v->fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
		if (v->fd < 0)
			return err_sys(err, "cannot create an eventfd");
	}
	return 0;
}

/**
 * pci_msix_raise() - an interrupt, from any thread
 * @vector: which; one that it does not have is ignored
 */
void pci_msix_raise(struct pci_device *dev, unsigned int vector)
{
	if (vector < dev->vectors)
		eventfd_write(dev->vector[vector].fd, 1);
}

/**
 * pci_remove() - give back what pci_add_msix() took, when the guest is gone
 * @dev: the device; harmless if it was never added
 */
void pci_remove(struct pci *pci, struct pci_device *dev)
{
	unsigned int i;

	for (i = 0; i < PCI_SLOTS; i++) {
		if (pci->slot[i] == dev)
			pci->slot[i] = NULL;
	}
	while (dev->vectors)
		close(dev->vector[--dev->vectors].fd);
}

static void update_vector(struct pci *pci, struct pci_device *dev,
			  struct msix_vector *v, bool changed)
{
	u16 flags = get16(dev->config + dev->msix_cap + PCI_MSIX_FLAGS);
	bool on = (flags & PCI_MSIX_FLAGS_ENABLE) &&
		  !(flags & PCI_MSIX_FLAGS_MASKALL) &&
		  !(v->entry[3] & PCI_MSIX_ENTRY_CTRL_MASKBIT);

	if (pci->host && (on != v->attached || (on && changed)))
		pci->host->msi(pci->opaque, v, on);
	v->attached = on;
}

/* The guest has written something that other things follow from. */
static void update_device(struct pci *pci, struct pci_device *dev)
{
	bool on = dev->config[PCI_COMMAND] & PCI_COMMAND_MEMORY;
	struct pci_bar *bar;
	unsigned int i;
	u64 base;

	for (i = 0; i < PCI_BARS; i++) {
		bar = &dev->bar[i];
		if (!bar->size)
			continue;
		memcpy(&base, dev->config + PCI_BASE_ADDRESS_0 + 8 * i, sizeof(base));
		base &= PCI_BASE_ADDRESS_MEM_MASK;
		if (!on || base - PCI_WINDOW > PCI_WINDOW_SIZE - bar->size)
			base = PCI_UNMAPPED;
		if (base != bar->base && bar->map)
			bar->map(bar->dev, base);
		bar->base = base;
	}
	for (i = 0; i < dev->vectors; i++)
		update_vector(pci, dev, &dev->vector[i], false);
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

static void data_access(struct pci *pci, unsigned int offset,
			struct bus_access *access)
{
	struct pci_device *dev = selected(pci);
	unsigned int i, reg = (pci->address & 0xfc) + offset;
	u8 *value = (u8 *)&access->value, mask;

	if (!dev)
		return;
	if (!access->write) {
		memcpy(value, dev->config + reg, access->size);
		return;
	}
	for (i = 0; i < access->size; i++, reg++) {
		mask = dev->writable[reg];
		dev->config[reg] = (dev->config[reg] & ~mask) | (value[i] & mask);
	}
	update_device(pci, dev);
}

/**
 * pci_access() - bus callback for ports 0xcf8 to 0xcff
 *
 * The address register is reached by accesses of four bytes only. A byte at
 * 0xcf9 is the chipset's reset register: bit 2 resets, bit 1 says how hard.
 */
void pci_access(void *dev, struct bus_access *access)
{
	bool byte = access->size == 1, reset = false;
	struct pci *pci = dev;

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
		data_access(pci, access->offset - CONFIG_DATA, access);
	}
	pthread_mutex_unlock(&pci->lock);
	if (reset)
		pci->reset(pci->opaque);
}

static u32 pending_vectors(const struct pci_device *dev)
{
	u32 pending = 0;
	unsigned int i;

	for (i = 0; i < dev->vectors; i++) {
		struct pollfd fd = { dev->vector[i].fd, POLLIN, 0 };

		if (!dev->vector[i].attached && poll(&fd, 1, 0) > 0)
			pending |= BIT(i);
	}
	return pending;
}

/** pci_save() - what a snapshot keeps of a device */
void pci_save(struct pci *pci, struct pci_device *dev, struct pci_saved *saved)
{
	unsigned int i;

	pthread_mutex_lock(&pci->lock);
	memcpy(saved->config, dev->config, sizeof(saved->config));
	for (i = 0; i < dev->vectors; i++)
		memcpy(saved->entry[i], dev->vector[i].entry, sizeof(saved->entry[i]));
	saved->pending = pending_vectors(dev);
	pthread_mutex_unlock(&pci->lock);
}

/**
 * pci_load() - give a new device what was saved of another one
 * @saved: what was saved; not to be trusted
 *
 * Return: 0, or -1 if it was another kind of device.
 */
int pci_load(struct pci *pci, struct pci_device *dev, const struct pci_saved *saved)
{
	unsigned int i;

	if (memcmp(dev->config, saved->config, 4))
		return -1;
	pthread_mutex_lock(&pci->lock);
	for (i = 0; i < PCI_CONFIG_SIZE; i++)
		dev->config[i] = (dev->config[i] & ~dev->writable[i]) |
				 (saved->config[i] & dev->writable[i]);
	for (i = 0; i < dev->vectors; i++) {
		memcpy(dev->vector[i].entry, saved->entry[i], sizeof(saved->entry[i]));
		dev->vector[i].entry[3] &= PCI_MSIX_ENTRY_CTRL_MASKBIT;
		if (saved->pending & BIT(i))
			pci_msix_raise(dev, i);
	}
	update_device(pci, dev);
	pthread_mutex_unlock(&pci->lock);
	return 0;
}

/* The table and the PBA have registers of four bytes, or pairs of them. */
static void msix_access(struct pci *pci, struct pci_device *dev, u32 offset,
			struct bus_access *access)
{
	if (access->size < 4 || offset % access->size)
		return;
	if (offset / PCI_MSIX_ENTRY_SIZE < dev->vectors) {
		struct msix_vector *v = &dev->vector[offset / PCI_MSIX_ENTRY_SIZE];
		u32 *reg = &v->entry[offset % PCI_MSIX_ENTRY_SIZE / 4];

		if (!access->write) {
			memcpy(&access->value, reg, access->size);
			return;
		}
		memcpy(reg, &access->value, access->size);
		v->entry[3] &= PCI_MSIX_ENTRY_CTRL_MASKBIT;
		update_vector(pci, dev, v, true);
	} else if (!access->write) {
		access->value = offset == MSIX_PBA ? pending_vectors(dev) : 0;
	}
}

static struct pci_bar *find_bar(struct pci *pci, u64 gpa, unsigned int size,
				struct pci_device **dev)
{
	unsigned int i;

	for (i = 0; i < PCI_SLOTS * PCI_BARS; i++) {
		struct pci_bar *bar;

		*dev = pci->slot[i / PCI_BARS];
		if (!*dev)
			continue;
		bar = &(*dev)->bar[i % PCI_BARS];
		if (bar->base != PCI_UNMAPPED && gpa >= bar->base &&
		    gpa - bar->base < bar->size &&
		    size <= bar->size - (gpa - bar->base))
			return bar;
	}
	return NULL;
}

/** pci_mmio_access() - bus callback for the window in which BARs are */
void pci_mmio_access(void *dev, struct bus_access *access)
{
	u64 gpa = PCI_WINDOW + access->offset, offset;
	struct pci *pci = dev;
	struct pci_device *found;
	struct pci_bar *bar;

	pthread_mutex_lock(&pci->lock);
	bar = find_bar(pci, gpa, access->size, &found);
	if (bar) {
		offset = gpa - bar->base;
		if (found->msix_cap && bar == &found->bar[found->msix_bar] &&
		    offset - found->msix_offset < MSIX_TABLE_SIZE) {
			msix_access(pci, found, offset - found->msix_offset,
				    access);
			bar = NULL;
		}
	}
	pthread_mutex_unlock(&pci->lock);
	if (bar) {
		access->offset = offset;
		bar->fn(bar->dev, access);
	}
}
