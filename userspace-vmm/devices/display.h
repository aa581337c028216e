/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * A screen: the framebuffer adapter that the guest has, its keyboard and pointer,
 * and the program that shows them.
 */
#ifndef DISPLAY_H
#define DISPLAY_H

#include <linux/virtio_input.h>

#include "daemon.h"
#include "virtio.h"

#define VIDEO_MEMORY (16 * MIB)
#define VIDEO_FILE (VIDEO_MEMORY + 4096)	/* registers lie behind */

/* Registers, of 16 bits each, by their numbers. */
enum {
	BOCHS_ID, BOCHS_XRES, BOCHS_YRES, BOCHS_BPP, BOCHS_ENABLE, BOCHS_BANK, BOCHS_VIRT_WIDTH,
	BOCHS_VIRT_HEIGHT, BOCHS_X_OFFSET, BOCHS_Y_OFFSET, BOCHS_MEMORY_64K, BOCHS_REGISTERS,
};

/**
 * struct bochs - the adapter
 * @fd: its memory and registers as a file, which others cannot change
 */
struct bochs {
	struct pci_device pci;
	struct pci *bus;
	int fd;
	u8 *memory;
	atomic_ushort *reg;

	struct {	/* what a snapshot keeps beside the memory */
		struct pci_saved pci;
		u16 reg[BOCHS_REGISTERS];
	} saved;
};

struct display {
	struct bochs bochs;
	char path[112];		/* of the socket for viewers, to be removed; or empty */
	struct daemon daemon;
};

int bochs_add(struct bochs *b, struct pci *bus, struct err *err);
void bochs_remove(struct bochs *b);
void bochs_save(void *b);
int bochs_load(void *b);

/* virtio-input.c */
#define TABLET_MAX 0x7fff
#define REPORT_MAX 16

int input_create(struct virtio_host *host, bool tablet, int source, struct err *err);

/* display.c; display_create() is in devices.h */
void display_destroy(struct display *d);

/* What is shown: pixels of 32 bits, in the order blue, green, red, nothing. */
struct picture {
	u32 width, height;
	u64 offset, stride;	/* bytes */
};

/* picture.c */
bool picture_find(int fd, struct picture *p);

#endif
