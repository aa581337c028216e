/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * A screen: the framebuffer adapter that the guest has, its keyboard and pointer,
 * and the VNC server that shows them.
 */
#ifndef DISPLAY_H
#define DISPLAY_H

#include <linux/virtio_input.h>

#include "virtio.h"

#define VIDEO_MEMORY (16 * MIB)

#define BOCHS_REGISTERS 11

/**
 * struct bochs - the adapter
 * @fd: its memory as a file, which cannot change its size
 */
struct bochs {
	struct pci_device pci;
	struct pci *bus;
	int fd;
	u8 *memory;
	pthread_mutex_t lock;	/* all below */
	u16 reg[BOCHS_REGISTERS];

	struct {	/* what a snapshot keeps beside the memory */
		struct pci_saved pci;
		u16 reg[BOCHS_REGISTERS];
	} saved;
};

/* What is shown: pixels of 32 bits, in the order blue, green, red, nothing. */
struct picture {
	u32 width, height;
	u64 offset, stride;	/* bytes */
};

int bochs_add(struct bochs *b, struct pci *bus, struct err *err);
void bochs_remove(struct bochs *b);
void bochs_save(void *b);
int bochs_load(void *b);
bool bochs_picture(struct bochs *b, struct picture *p);

/* virtio-input.c */
#define TABLET_MAX 0x7fff

struct virtio_device *input_create(struct virtio_host *host, bool tablet, struct err *err);
void input_report(struct virtio_device *dev, const struct virtio_input_event *events,
		  unsigned int n);

/* vnc.c; display_create() is in devices.h */
int display_serve(struct display *d, struct err *err);
struct bochs *display_adapter(struct display *d);
int display_picture(struct display *d, struct picture *p);
void display_destroy(struct display *d);

#endif
