/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Included once by each test program: the kernel's kselftest harness, and a
 * main() that takes the device and, if wished, the names of the tests to run:
 *
 *	prog [DEVICE [TEST ...]]
 *
 * Environment: KEEL_DEVICE (default /dev/keel), KEEL_SCALE (default 1; a factor
 * for loops that take long under an emulator), KEEL_TIMEOUT (seconds per test,
 * default 60), TIMEOUT_SCALE (a factor for that, on a busy machine).
 */
#ifndef SELFTEST_TEST_H
#define SELFTEST_TEST_H

#include <kselftest_harness.h>

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "guest.h"
#include "vm.h"

static bool test_wanted(const char *name, int argc, char **argv)
{
	if (argc < 3)
		return true;
	for (int i = 2; i < argc; i++) {
		if (!strcmp(argv[i], name))
			return true;
	}
	return false;
}

static void select_tests(int argc, char **argv, int timeout)
{
	struct __fixture_metadata *f;

	for (f = __fixture_list; f; f = f->next) {
		struct __test_metadata **p = &f->tests;

		while (*p) {
			(*p)->timeout = timeout;
			if (test_wanted((*p)->name, argc, argv))
				p = &(*p)->next;
			else
				*p = (*p)->next;
		}
	}
}

int main(int argc, char **argv)
{
	const char *env = getenv("KEEL_DEVICE");
	int timeout = 60, fd;

	if (argc > 1)
		keel_device = argv[1];
	else if (env && *env)
		keel_device = env;
	env = getenv("KEEL_SCALE");
	if (env && atoi(env) > 0)
		keel_scale = atoi(env);
	env = getenv("KEEL_TIMEOUT");
	if (env && atoi(env) > 0)
		timeout = atoi(env);
	/* May be a fraction, but this file is built without floating point. */
	env = getenv("TIMEOUT_SCALE");
	if (env && atoi(env) > 0)
		timeout *= atoi(env) + !!strchr(env, '.');
	select_tests(argc, argv, timeout);
	/* A program without its device has tested nothing: that is no skip. */
	fd = open(keel_device, O_RDWR);
	if (fd < 0) {
		printf("TAP version 13\nBail out! %s: %s\n", keel_device,
		       strerror(errno));
		return KSFT_FAIL;
	}
	close(fd);
	return test_harness_run(argc, argv);
}

#endif
