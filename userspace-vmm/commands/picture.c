// SPDX-License-Identifier: GPL-2.0-only
/*
 * Where in the file of a framebuffer adapter the picture is.
 */
#include <unistd.h>

#include "display.h"

#define ENABLED BIT(0)

/**
 * picture_find() - what is to be seen
 * @fd: the adapter's memory and registers
 * @p: filled, all of it inside of the memory
 *
 * Return: whether there is a picture.
 */
bool picture_find(int fd, struct picture *p)
{
	u16 reg[BOCHS_REGISTERS];
	u32 width;

	if (pread(fd, reg, sizeof(reg), VIDEO_MEMORY) != sizeof(reg))
		return false;
	width = reg[BOCHS_VIRT_WIDTH] > reg[BOCHS_XRES] ? reg[BOCHS_VIRT_WIDTH] : reg[BOCHS_XRES];
	p->width = reg[BOCHS_XRES];
	p->height = reg[BOCHS_YRES];
	p->stride = 4ULL * width;
	p->offset = reg[BOCHS_Y_OFFSET] * p->stride + 4ULL * reg[BOCHS_X_OFFSET];
	return (reg[BOCHS_ENABLE] & ENABLED) && reg[BOCHS_BPP] == 32 && p->width && p->height &&
	       p->offset + p->stride * p->height <= VIDEO_MEMORY;
}
