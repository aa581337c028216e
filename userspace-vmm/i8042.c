// SPDX-License-Identifier: GPL-2.0-only
/*
 * What is left of a keyboard controller: the reset line.
 *
 * There is no keyboard, and the FADT says that there is no 8042, so Linux
 * does not probe for one. Its reboot code still pulses the reset line here,
 * after waiting for an empty input buffer, so status must read as 0.
 */
#include "i8042.h"

#define CMD_PULSE_RESET 0xfe

/** i8042_data_access() - bus callback for port 0x60 */
void i8042_data_access(void *dev, struct bus_access *access)
{
	if (!access->write)
		access->value = 0;
}

/** i8042_command_access() - bus callback for port 0x64 */
void i8042_command_access(void *dev, struct bus_access *access)
{
	struct i8042 *kbd = dev;

	if (!access->write)
		access->value = 0;
	else if ((access->value & 0xff) == CMD_PULSE_RESET)
		kbd->reset(kbd->opaque);
}

/**
 * port_92_access() - bus callback for system control port A
 *
 * Bit 1 is the A20 gate, always open here; bit 0 is the fast reset.
 */
void port_92_access(void *dev, struct bus_access *access)
{
	struct i8042 *kbd = dev;

	if (!access->write)
		access->value = 0x02;
	else if (access->value & 0x01)
		kbd->reset(kbd->opaque);
}
