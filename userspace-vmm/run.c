// SPDX-License-Identifier: GPL-2.0-only
/*
 * keel run: one machine from its start to its end, and the exit status.
 */
#include <stdio.h>
#include <string.h>

#include "machine.h"

static int end_status(struct machine *m)
{
	switch (atomic_load(&m->end)) {
	case END_POWEROFF:
		return EXIT_GUEST_POWEROFF;
	case END_REBOOT:
		return EXIT_GUEST_REBOOT;
	case END_TRIPLE_FAULT:
		return fail(EXIT_GUEST_TRIPLE_FAULT, "the guest's processor shut down (triple fault)");
	case END_TIMEOUT:
		return fail(EXIT_TIMEOUT, "the guest did not end within %g seconds",
			    m->cfg->timeout);
	case END_QUIT:
		return EXIT_USER_QUIT;
	case END_SIGNAL:
		return fail(EXIT_SIGNAL_BASE + m->signal, "ended by signal %d (%s)",
			    m->signal, strsignal(m->signal));
	default:
		return EXIT_FAIL;
	}
}

static void print_registers(struct machine *m)
{
	unsigned int i;

	for (i = 0; i < m->vcpu_count; i++) {
		if (m->vcpus[i].dump[0])
			fprintf(stderr, "%s\n", m->vcpus[i].dump);
	}
}

/**
 * cmd_run() - keel run
 * @cfg: the options
 *
 * Return: the exit status.
 */
int cmd_run(struct run_config *cfg)
{
	static struct machine m;
	struct err err;
	int ret, status;

	if (!cfg->kernel)
		return fail(EXIT_USAGE, "--kernel FILE is missing; for instance --kernel /boot/vmlinuz-$(uname -r)");
	ret = machine_create(&m, cfg, &err);
	if (!ret)
		ret = machine_run(&m, &err);
	status = ret ? fail(EXIT_FAIL, "%s", err.text) : end_status(&m);
	print_registers(&m);
	if (cfg->stats && m.vcpus)
		stats_print(&m);
	machine_destroy(&m);
	return status;
}
