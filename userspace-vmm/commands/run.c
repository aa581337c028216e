// SPDX-License-Identifier: GPL-2.0-only
/*
 * keel run: one machine from its start to its end, and the exit status.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <syslog.h>
#include <time.h>
#include <unistd.h>

#include "commands.h"
#include "jail.h"
#include "machine.h"
#include "rootfs.h"
#include "terminal.h"

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

static pid_t machine;

/* What is meant for the machine; job control is for the terminal, too. */
static void pass_on(int sig)
{
	if (sig == SIGTSTP) {
		term_suspend();
		kill(machine, SIGSTOP);
		raise(SIGSTOP);
		return;
	}
	if (sig == SIGCONT)
		term_resume();
	kill(machine, sig);
}

/* What was ignored when we were started, as nohup does with SIGHUP, stays so. */
static void pass_signals(void)
{
	static const int signals[] = { SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGTSTP, SIGCONT };
	const struct sigaction pass = { .sa_handler = pass_on, .sa_flags = SA_RESTART };
	struct sigaction old;
	size_t i;

	for (i = 0; i < ARRAY_SIZE(signals); i++) {
		if (!sigaction(signals[i], NULL, &old) && old.sa_handler != SIG_IGN)
			sigaction(signals[i], &pass, NULL);
	}
}

/*
 * While the machine is in a process of its own: until it is there with --detach, and
 * otherwise until it ends, with the terminal. Return: the exit status.
 */
static int accompany(const struct run_config *cfg, int fd)
{
	char name[NAME_MAX_LEN + 1] = "";
	struct err err;
	int status;

	if (!cfg->detach)
		pass_signals();
	if (recv(fd, name, sizeof(name) - 1, 0) <= 0) {
		close(fd);	/* it has said why not */
	} else if (cfg->detach) {
		close(fd);
		return 0;
	} else if (attach(name, fd, "kill", &err) < 0) {
		fail(EXIT_FAIL, "%s", err.text);
		kill(machine, SIGTERM);
	}
	if (waitpid(machine, &status, 0) != machine)
		return EXIT_FAIL;
	if (WIFEXITED(status))
		return WEXITSTATUS(status);
	return fail(EXIT_SIGNAL_BASE + WTERMSIG(status), "the machine was killed by signal %d",
		    WTERMSIG(status));
}

/*
 * Before anything that a child cannot have, as a VM is. Return: in the child, where the
 * machine is to be, a socket to the parent; there -1 and, at the end, the exit status.
 */
static int start_apart(const struct run_config *cfg, int *status)
{
	pid_t parent = getpid();
	int ends[2];

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) < 0) {
		*status = fail(EXIT_FAIL, "cannot make a socket: %s", strerror(errno));
		return -1;
	}
	machine = fork();
	if (machine) {
		close(ends[1]);
		*status = machine < 0 ? fail(EXIT_FAIL, "cannot make a process: %s", strerror(errno)) :
			  accompany(cfg, ends[0]);
		return -1;
	}
	close(ends[0]);
	if (cfg->detach) {
		setsid();
		return ends[1];
	}
	/* What is typed comes from there, and without the terminal the machine does not go on. */
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (getppid() != parent)
		_exit(EXIT_FAIL);
	dup2(ends[1], STDIN_FILENO);
	close(ends[1]);
	return STDIN_FILENO;
}

/* Have the terminal as it was before we say how the machine ended. */
static void leave_terminal(void)
{
	char typed[4096];

	shutdown(STDIN_FILENO, SHUT_WR);
	while (read(STDIN_FILENO, typed, sizeof(typed)) > 0)
		;
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
static int say_ready(const struct run_config *cfg, int report, const char *name, struct err *err)
{
	if (cfg->detach) {
		if (printf("%s\n", name) < 0 || fflush(stdout))
			return err_sys(err, "cannot write the machine's name");
		let_go();
	}
	if (send(report, name, strlen(name), MSG_NOSIGNAL) < 0)
		return err_sys(err, "who started the machine is gone");
	if (cfg->detach)
		close(report);
	return 0;
}

int cmd_run(struct run_config *cfg)
{
	static struct machine m;
	struct err err;
	int ret, status = EXIT_FAIL, report = -1;
	unsigned int i;
	pid_t pid;

	if (cfg->restore && snapshot_open(cfg, &err) < 0)
		return fail(EXIT_FAIL, "%s", err.text);
	if (cfg->rootfs && rootfs_prepare(cfg, &err) < 0)
		return fail(EXIT_FAIL, "%s", err.text);
	if (!cfg->kernel && !cfg->restore)
		return fail(EXIT_USAGE, "--kernel FILE is missing; for instance --kernel /boot/vmlinuz-$(uname -r)");
	if (cfg->detach || (cfg->serial == SERIAL_STDIO && isatty(STDIN_FILENO))) {
		report = start_apart(cfg, &status);
		if (report < 0)
			return status;
	}
	pid = jail_start(cfg, &err);
	if (pid < 0)
		return fail(EXIT_FAIL, "%s", err.text);
	if (pid) {
		if (report >= 0)
			close(report);
		if (cfg->detach)
			let_go();
		return jail_wait(pid);
	}
	ret = machine_create(&m, cfg, &err);
	if (!ret && report >= 0)
		ret = say_ready(cfg, report, m.control.name, &err);
	if (!ret)
		ret = machine_run(&m, &err);
	if (report == STDIN_FILENO)
		leave_terminal();
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
