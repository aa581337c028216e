/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Reset through the keyboard controller.
 */
#ifndef I8042_H
#define I8042_H

#include "bus.h"

#define I8042_PORT 0x60
#define I8042_PORT_COUNT 5

struct i8042 {
	void (*reset)(void *opaque);
	void *opaque;
};

void i8042_access(void *dev, struct bus_access *access);

#endif
