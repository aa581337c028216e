// SPDX-License-Identifier: GPL-2.0-only
/*
 * keel run: one machine from its start to its end, and the exit status.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <syslog.h>
#include <time.h>
#include <unistd.h>

#include "commands.h"
#include "jail.h"
#include "machine.h"
#include "rootfs.h"

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
	case END_EXIT:
		return m->exit_status;
	case END_QUIT:
		return EXIT_USER_QUIT;
	case END_SIGNAL:
		return fail(EXIT_SIGNAL_BASE + m->signal, "ended by signal %d (%s)",
			    m->signal, strsignal(m->signal));
	default:
		return EXIT_FAIL;
	}
}

/*
 * Before anything that a child cannot have, as a VM is. Return: in the child the
 * pipe that detach_ready() writes to; in the parent -1 and the exit status.
 */
static int detach_start(int *status)
{
	int fds[2];
	pid_t pid;
	char byte;

	if (pipe2(fds, O_CLOEXEC) < 0) {
		*status = fail(EXIT_FAIL, "cannot make a pipe: %s", strerror(errno));
		return -1;
	}
	pid = fork();
	if (!pid) {
		setsid();
		close(fds[0]);
		return fds[1];
	}
	close(fds[1]);
	if (pid < 0)
		*status = fail(EXIT_FAIL, "cannot make a process: %s", strerror(errno));
	else if (read(fds[0], &byte, 1) == 1)
		*status = 0;
	else	/* it has said why */
		*status = waitpid(pid, status, 0) == pid && WIFEXITED(*status) ?
			  WEXITSTATUS(*status) : EXIT_FAIL;
	close(fds[0]);
	return -1;
}

/* Let go of whoever started the machine. */
static void let_go(void)
{
	int fd = open("/dev/null", O_RDWR | O_CLOEXEC);

	dup2(fd, STDIN_FILENO);
	dup2(fd, STDOUT_FILENO);
	dup2(fd, STDERR_FILENO);
	fail_to_syslog = true;
	/* Later neither the log nor what tells local time can be opened. */
	openlog("keel", LOG_NDELAY, LOG_USER);
	tzset();
}

/* The machine is there: say its name. */
static int detach_ready(int report, const char *name, struct err *err)
{
	if (printf("%s\n", name) < 0 || fflush(stdout))
		return err_sys(err, "cannot write the machine's name");
	let_go();
	if (write(report, "", 1) != 1)
		return err_sys(err, "who started the machine is gone");
	close(report);
	return 0;
}

int cmd_run(struct run_config *cfg)
{
	static struct machine m;
	struct err err;
	int ret, status, report = -1;
	unsigned int i;
	pid_t pid;

	signal(SIGCHLD, SIG_DFL);	/* ignored, no process could be waited for */
	if (cfg->restore && snapshot_open(cfg, &err) < 0)
		return fail(EXIT_FAIL, "%s", err.text);
	if (cfg->rootfs && rootfs_prepare(cfg, &err) < 0)
		return fail(EXIT_FAIL, "%s", err.text);
	if (!cfg->kernel && !cfg->restore)
		return fail(EXIT_USAGE, "--kernel FILE is missing; for instance --kernel /boot/vmlinuz-$(uname -r)");
	if (cfg->detach) {
		report = detach_start(&status);
		if (report < 0)
			return status;
	}
	pid = jail_start(cfg, &err);
	if (pid < 0)
		return fail(EXIT_FAIL, "%s", err.text);
	if (pid) {
		if (cfg->detach) {
			close(report);
			let_go();
		}
		return jail_wait(pid);
	}
	ret = machine_create(&m, cfg, &err);
	if (!ret && cfg->detach)
		ret = detach_ready(report, m.control.name, &err);
	if (!ret)
		ret = machine_run(&m, &err);
	status = ret ? fail(EXIT_FAIL, "%s", err.text) : end_status(&m);
	for (i = 0; cfg->verbose && i < m.vcpu_count; i++)
		vcpu_print_registers(&m.vcpus[i]);
	if (cfg->stats && m.vcpus)
		stats_print(&m);
	machine_destroy(&m);
	return status;
}

int cmd_restore(struct run_config *cfg)
{
	cfg->restore = cfg->args[0];
	return cmd_run(cfg);
}
