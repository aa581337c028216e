/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * A small driver for virtio devices, for tests and the fuzzer: the guest's side
 * of the registers and of the rings, without a guest.
 */
#ifndef DRIVER_H
#define DRIVER_H

#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <linux/pci_regs.h>
#include <linux/virtio_pci.h>

#include "devices.h"
#include "display.h"

#define DRIVER_RAM (2 * MIB)
#define DRIVER_BAR PCI_WINDOW
#define DRIVER_COMMON DRIVER_BAR
#define DRIVER_CONFIG (DRIVER_BAR + 0x800)
#define DRIVER_NOTIFY (DRIVER_BAR + 0x1000)
#define DRIVER_MSIX (DRIVER_BAR + 0x2000)

/* Rings of queue N: 64 KiB each, from 64 KiB on. */
#define DRIVER_DESC(n) (0x10000ULL * ((n) + 1))
#define DRIVER_AVAIL(n) (DRIVER_DESC(n) + 0x4000)
#define DRIVER_USED(n) (DRIVER_DESC(n) + 0x8000)
#define DRIVER_DATA 0x100000ULL

struct driver {
	struct guest_ram ram;
	struct pci pci;
	struct virtio_host host;
	struct bus bus, mmio;
};

__attribute__((unused))
static int driver_init(struct driver *d, struct err *err)
{
	memset(d, 0, sizeof(*d));
	if (ram_alloc(&d->ram, DRIVER_RAM, err) < 0 || ram_share(&d->ram, err) < 0)
		return -1;
	pci_init(&d->pci, NULL, NULL, NULL);
	d->host.pci = &d->pci;
	d->host.ram = &d->ram;
	d->host.wake_fd = -1;
	bus_add(&d->bus, "pci", PCI_PORTS, PCI_PORTS_SIZE, false, pci_access, &d->pci);
	bus_add(&d->mmio, "pci", PCI_WINDOW, PCI_WINDOW_SIZE, false, pci_mmio_access,
		&d->pci);
	return 0;
}

__attribute__((unused))
static void driver_end(struct driver *d)
{
	display_destroy(d->host.display);
	virtio_remove_all(&d->host);
	ram_free(&d->ram);
}

__attribute__((unused))
static u64 driver_read(struct driver *d, u64 gpa, unsigned int size)
{
	u64 value = 0;

	bus_access(&d->mmio, gpa, &value, size, false);
	return value;
}

__attribute__((unused))
static void driver_write(struct driver *d, u64 gpa, unsigned int size, u64 value)
{
	bus_access(&d->mmio, gpa, &value, size, true);
}

/* Decode the BAR of the device in slot 1. */
__attribute__((unused))
static void driver_enable(struct driver *d)
{
	u32 address = 0x80000800 | PCI_COMMAND;
	u16 command = PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER;

	bus_access(&d->bus, 0xcf8, &address, 4, true);
	bus_access(&d->bus, 0xcfc, &command, 2, true);
}

/* Up to DRIVER_OK, with all features but what is masked. Return: the status. */
__attribute__((unused))
static u8 driver_start(struct driver *d, u16 queue_size, u64 without)
{
	unsigned int i, queues = driver_read(d, DRIVER_COMMON +
					     VIRTIO_PCI_COMMON_NUMQ, 2);
	u64 features = 0;
	struct err err;

	virtio_serve_all(&d->host, &err);
	driver_write(d, DRIVER_COMMON + VIRTIO_PCI_COMMON_STATUS, 1, 0);
	driver_write(d, DRIVER_COMMON + VIRTIO_PCI_COMMON_STATUS, 1, 3);
	for (i = 0; i < 2; i++) {
		driver_write(d, DRIVER_COMMON + VIRTIO_PCI_COMMON_DFSELECT, 4, i);
		features |= driver_read(d, DRIVER_COMMON + VIRTIO_PCI_COMMON_DF, 4) <<
			    32 * i;
	}
	features &= ~without;
	for (i = 0; i < 2; i++) {
		driver_write(d, DRIVER_COMMON + VIRTIO_PCI_COMMON_GFSELECT, 4, i);
		driver_write(d, DRIVER_COMMON + VIRTIO_PCI_COMMON_GF, 4,
			     features >> 32 * i & 0xffffffff);
	}
	driver_write(d, DRIVER_COMMON + VIRTIO_PCI_COMMON_STATUS, 1, 11);
	/* A BAR that was moved away reads as all ones. */
	for (i = 0; i < queues && i < VIRTIO_QUEUES; i++) {
		driver_write(d, DRIVER_COMMON + VIRTIO_PCI_COMMON_Q_SELECT, 2, i);
		driver_write(d, DRIVER_COMMON + VIRTIO_PCI_COMMON_Q_SIZE, 2, queue_size);
		driver_write(d, DRIVER_COMMON + VIRTIO_PCI_COMMON_Q_MSIX, 2, i + 1);
		driver_write(d, DRIVER_COMMON + VIRTIO_PCI_COMMON_Q_DESCLO, 4,
			     DRIVER_DESC(i));
		driver_write(d, DRIVER_COMMON + VIRTIO_PCI_COMMON_Q_AVAILLO, 4,
			     DRIVER_AVAIL(i));
		driver_write(d, DRIVER_COMMON + VIRTIO_PCI_COMMON_Q_USEDLO, 4,
			     DRIVER_USED(i));
		driver_write(d, DRIVER_COMMON + VIRTIO_PCI_COMMON_Q_ENABLE, 2, 1);
		memset(d->ram.host + DRIVER_DESC(i), 0, 0x10000);
	}
	driver_write(d, DRIVER_COMMON + VIRTIO_PCI_COMMON_STATUS, 1, 15);
	return driver_read(d, DRIVER_COMMON + VIRTIO_PCI_COMMON_STATUS, 1);
}

static inline struct vring_desc *driver_desc(struct driver *d, unsigned int queue)
{
	return (struct vring_desc *)(d->ram.host + DRIVER_DESC(queue));
}

static inline volatile struct vring_used *driver_used(struct driver *d, unsigned int queue)
{
	return (volatile struct vring_used *)(d->ram.host + DRIVER_USED(queue));
}

/* Make a chain available, and kick. */
__attribute__((unused))
static void driver_submit(struct driver *d, unsigned int queue, u16 size, u16 head)
{
	struct vring_avail *avail = (struct vring_avail *)(d->ram.host + DRIVER_AVAIL(queue));

	avail->ring[avail->idx % size] = head;
	__atomic_store_n(&avail->idx, avail->idx + 1, __ATOMIC_RELEASE);
	driver_write(d, DRIVER_NOTIFY + 4 * queue, 2, queue);
}

/* Return: whether the used index became that, or the device wants a reset. */
__attribute__((unused))
static bool driver_wait(struct driver *d, unsigned int queue, u16 idx)
{
	unsigned int ms;

	for (ms = 0; ms < 10000; ms++) {
		if (driver_used(d, queue)->idx == idx)
			return true;
		if (driver_read(d, DRIVER_COMMON + VIRTIO_PCI_COMMON_STATUS, 1) &
		    VIRTIO_CONFIG_S_NEEDS_RESET)
			return false;
		poll(NULL, 0, 1);
	}
	return false;
}

#endif
