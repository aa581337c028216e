// SPDX-License-Identifier: GPL-2.0-only
/*
 * What is left of a keyboard controller: the reset line.
 *
 * There is no keyboard, and the FADT says that there is no 8042, so Linux
 * does not probe for one. Its reboot code still pulses the reset line here,
 * after waiting for an empty input buffer, so status must read as 0.
 */
#include "i8042.h"

#define COMMAND 4		/* the data port is 0 */
#define CMD_PULSE_RESET 0xfe

/** i8042_access() - bus callback for ports 0x60 to 0x64 */
void i8042_access(void *dev, struct bus_access *access)
{
	struct i8042 *kbd = dev;

	if (!access->write)
		access->value = 0;
	else if (access->offset == COMMAND && (access->value & 0xff) == CMD_PULSE_RESET)
		kbd->reset(kbd->opaque);
}
