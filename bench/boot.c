// SPDX-License-Identifier: GPL-2.0-only
/* A whole guest: what another VMM does with the device, from its start to its end. */

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "bench.h"

/* Return: as of waitpid(). */
static int run(char **argv, int out, int err)
{
	pid_t pid = fork();
	int status;

	if (pid < 0)
		fail("fork");
	if (!pid) {
		dup2(out, STDOUT_FILENO);
		dup2(err, STDERR_FILENO);
		execv(argv[0], argv);
		fail("%s", argv[0]);
	}
	if (waitpid(pid, &status, 0) != pid)
		fail("waitpid");
	return status;
}

static FILE *open_temp(void)
{
	FILE *f = tmpfile();

	if (!f)
		fail("no temporary file");
	fcntl(fileno(f), F_SETFL, O_APPEND);
	return f;
}

static bool has_line(FILE *f, const char *want)
{
	char line[256];

	rewind(f);
	while (fgets(line, sizeof(line), f)) {
		if (strstr(line, want))
			return true;
	}
	return false;
}

static void show(FILE *f)
{
	char line[256];

	rewind(f);
	while (fgets(line, sizeof(line), f))
		fputs(line, stderr);
}

/* The ticks count sleep, too; this does not. */
static void print_cpu_time(void)
{
	struct rusage r;

	getrusage(RUSAGE_CHILDREN, &r);
	printf("cpu_ns,%llu\n", (r.ru_utime.tv_sec + r.ru_stime.tv_sec) * 1000000000ULL +
	       (r.ru_utime.tv_usec + r.ru_stime.tv_usec) * 1000ULL);
}

/* The kernel's counters of the first vCPU, a line each. */
static void print_counters(FILE *f)
{
	static const char start[] = "kernel-vcpu0:";
	char line[4096], *at, *name, *value;

	rewind(f);
	while (fgets(line, sizeof(line), f)) {
		if (strncmp(line, start, sizeof(start) - 1))
			continue;
		strtok_r(line, " \n", &at);
		while ((name = strtok_r(NULL, " \n", &at))) {
			value = strchr(name, '=');
			if (!value)
				continue;
			*value = 0;
			printf("%s,%s\n", name, value + 1);
		}
	}
}

/* @argv is keel's VMM with its arguments; the guest ends itself, and says @want before. */
void measure_boot(int argc, char **argv, const char *want)
{
	FILE *out = open_temp(), *err = open_temp();
	char *args[argc + 4];
	u64 ticks;
	int status;

	memcpy(args, argv, argc * sizeof(args[0]));
	args[argc] = "--stats";
	args[argc + 1] = "--device";
	args[argc + 2] = (char *)keel_device;
	args[argc + 3] = NULL;
	ticks = rdtsc();
	status = run(args, fileno(out), fileno(err));
	ticks = rdtsc() - ticks;
	if (status || !has_line(out, want)) {
		show(out);
		show(err);
		fail("%s: status %#x, or the guest did not print %s", argv[0], status, want);
	}
	printf("ticks,%llu\n", (unsigned long long)ticks);
	print_cpu_time();
	print_counters(err);
	fclose(out);
	fclose(err);
}
