// SPDX-License-Identifier: GPL-2.0-only
/*
 * keel doctor: a shell script, which is part of this program.
 */
#include <cpuid.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "commands.h"

__asm__(".pushsection .rodata\n"
	"doctor_sh: .incbin \"commands/doctor.sh\"\n"
	".byte 0\n"
	".popsection");
extern const char doctor_sh[];

/* The other vendor's bit is reserved: 0. */
static bool cpuid_has_extension(void)
{
	unsigned int a, b, c, d;

	return (__get_cpuid(1, &a, &b, &c, &d) && c & BIT(5)) ||
	       (__get_cpuid(0x80000001, &a, &b, &c, &d) && c & BIT(2));
}

/**
 * cmd_doctor() - keel doctor
 * @root: where to look for /proc, /sys, /dev and /lib; "" for this machine
 * @device: the device node
 * @json: print JSON
 *
 * Return: the exit status, if there is no shell.
 */
int cmd_doctor(const char *root, const char *device, bool json)
{
	struct err err = { "" };
	char node[512];

	snprintf(node, sizeof(node), "%s%s", root, device);
	device_open(node, &err);	/* closed by the exec */
	execl("/bin/sh", "sh", "-c", doctor_sh, "keel doctor", root, device, json ? "1" : "",
	      !*root && cpuid_has_extension() ? "1" : "", err.text, NULL);
	return fail(EXIT_FAIL, "cannot run /bin/sh: %s", strerror(errno));
}
