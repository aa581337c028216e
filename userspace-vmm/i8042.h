/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Reset through the keyboard controller and port 0x92.
 */
#ifndef I8042_H
#define I8042_H

#include "bus.h"

#define I8042_DATA_PORT 0x60
#define I8042_COMMAND_PORT 0x64
#define PORT_92 0x92

struct i8042 {
	void (*reset)(void *opaque);
	void *opaque;
};

void i8042_data_access(void *dev, struct bus_access *access);
void i8042_command_access(void *dev, struct bus_access *access);
void port_92_access(void *dev, struct bus_access *access);

#endif
