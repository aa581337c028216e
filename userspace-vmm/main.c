// SPDX-License-Identifier: GPL-2.0-only
/*
 * The `keel` command: subcommands, their options, and the one place
 * where errors are printed and turned into an exit status.
 */
#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "machine.h"

#ifndef KEEL_VERSION
#define KEEL_VERSION "unknown"
#endif

#define DEFAULT_APPEND "console=ttyS0"
#define DEFAULT_MEM (512 * MIB)

static const char main_help[] =
"Usage: keel COMMAND [OPTION]...\n"
"Run virtual machines on the keel hypervisor.\n"
"\n"
"Commands:\n"
"  run      boot a Linux kernel as a guest on this terminal\n"
"  doctor   check what this machine needs to run keel\n"
"\n"
"Options:\n"
"  -h, --help      this text; `keel COMMAND --help` tells about a command\n"
"  -V, --version   print the version\n"
"\n"
"Manual pages: keel(1), keel-run(1), keel-doctor(1).\n";

static const char run_help[] =
"Usage: keel run --kernel FILE [OPTION]...\n"
"Boot a Linux kernel as a guest, its serial port on this terminal.\n"
"\n"
"  -k, --kernel FILE    bzImage (/boot/vmlinuz-*), or ELF file with a PVH note\n"
"  -i, --initrd FILE    initial ramdisk\n"
"  -a, --append STRING  kernel command line [" DEFAULT_APPEND "]\n"
"  -m, --mem SIZE       memory, in MiB or with suffix K, M, G, T [512M]\n"
"  -c, --cpus N         virtual processors [1]\n"
"  -d, --device NODE    /dev/keel, or /dev/kvm for stock KVM [/dev/keel]\n"
"  -s, --serial WHERE   stdio, none, or file:PATH (output only) [stdio]\n"
"      --disk FILE[,ro][,overlay[=FILE]][,format=FORMAT]\n"
"                       a disk, /dev/vda and so on; may be repeated\n"
"      --net tap=NAME | user[,forward=HOSTPORT:GUESTPORT]...\n"
"                       a network card; may be repeated\n"
"      --console WHERE  /dev/hvc0 on file:PATH or unix:PATH\n"
"      --balloon MIB    take free memory back, and that much in any case\n"
"      --vsock CID      sockets between host and guest\n"
"      --rng            give the guest random numbers\n"
"  -t, --timeout S      end the guest after S seconds\n"
"      --stats          count exits, print them at the end\n"
"  -v, --verbose        print the registers when the guest is ended\n"
"  -h, --help           this text\n"
"\n"
"Keys: Ctrl-A x quits, Ctrl-A p presses the power button, Ctrl-A h tells more.\n"
"\n"
"Exit status:\n"
"    0  the guest powered off\n"
"    1  error, explained in one line\n"
"    2  wrong usage\n"
"    3  the guest asked for a reboot\n"
"    4  the guest's processor shut down (triple fault)\n"
"    5  --timeout ran out\n"
"    6  ended with Ctrl-A x\n"
"  128+N  ended by signal N\n";

static const char doctor_help[] =
"Usage: keel doctor [OPTION]...\n"
"Check every requirement of keel and tell what to do about those not met.\n"
"\n"
"  -d, --device NODE    the device node to check [/dev/keel]\n"
"  -j, --json           print the results as JSON\n"
"      --root DIR       look at a tree copied from another machine\n"
"  -h, --help           this text\n"
"\n"
"Exit status: 0 if every must-have is met, 1 if not, 2 for wrong usage.\n";

static int fail(int status, const char *command, const char *fmt, ...) __printf(3, 4);

/* The one place where an error becomes visible. */
static int fail(int status, const char *command, const char *fmt, ...)
{
	struct err err;
	va_list ap;

	va_start(ap, fmt);
	err_vset(&err, fmt, ap);
	va_end(ap);
	fprintf(stderr, "keel%s%s: %s\n", *command ? " " : "", command,
		err.text);
	return status;
}

/* Standard output may be full or closed; help that did not appear failed. */
static int print(const char *text)
{
	if (fputs(text, stdout) < 0 || fflush(stdout))
		return fail(EXIT_FAIL, "", "cannot write: %s", strerror(errno));
	return 0;
}

/**
 * parse_size() - read a size such as 512, 512M or 2G
 * @text: the text; a plain number is in MiB
 * @bytes: filled
 *
 * Return: 0, or -1 if it is no size or does not fit.
 */
int parse_size(const char *text, u64 *bytes)
{
	static const char suffixes[] = "KMGT";
	unsigned int shift = 20;
	const char *s;
	char *end;
	u64 n;

	if (!isdigit((unsigned char)*text))
		return -1;
	errno = 0;
	n = strtoull(text, &end, 10);
	if (errno)
		return -1;
	if (*end) {
		s = strchr(suffixes, toupper((unsigned char)*end));
		if (!s || end[1])
			return -1;
		shift = 10 * (s - suffixes + 1);
	}
	if (n > ~0ULL >> shift)
		return -1;
	*bytes = n << shift;
	return 0;
}

static int parse_cpus(const char *text, unsigned int *cpus)
{
	unsigned long n;
	char *end;

	if (!isdigit((unsigned char)*text))
		return -1;
	errno = 0;
	n = strtoul(text, &end, 10);
	if (errno || *end || !n || n > MAX_CPUS)
		return -1;
	*cpus = n;
	return 0;
}

static int parse_timeout(const char *text, double *seconds)
{
	char *end;

	if (!isdigit((unsigned char)*text) && *text != '.')
		return -1;
	*seconds = strtod(text, &end);
	if (*end || !(*seconds >= 0.001) || !(*seconds <= 1e9))
		return -1;
	return 0;
}

static int parse_serial(const char *text, struct run_config *cfg)
{
	if (!strcmp(text, "stdio"))
		cfg->serial = SERIAL_STDIO;
	else if (!strcmp(text, "none"))
		cfg->serial = SERIAL_NONE;
	else if (!strncmp(text, "file:", 5) && text[5])
		cfg->serial = SERIAL_FILE;
	else
		return -1;
	cfg->serial_path = cfg->serial == SERIAL_FILE ? text + 5 : NULL;
	return 0;
}

enum {
	OPT_STATS = 256,
	OPT_ROOT,
	OPT_DEVICE,		/* plus enum device_kind; the last ones */
};

static const struct option run_options[] = {
	{ "kernel", required_argument, NULL, 'k' },
	{ "initrd", required_argument, NULL, 'i' },
	{ "append", required_argument, NULL, 'a' },
	{ "mem", required_argument, NULL, 'm' },
	{ "cpus", required_argument, NULL, 'c' },
	{ "device", required_argument, NULL, 'd' },
	{ "serial", required_argument, NULL, 's' },
	{ "timeout", required_argument, NULL, 't' },
	{ "disk", required_argument, NULL, OPT_DEVICE + DEVICE_DISK },
	{ "net", required_argument, NULL, OPT_DEVICE + DEVICE_NET },
	{ "console", required_argument, NULL, OPT_DEVICE + DEVICE_CONSOLE },
	{ "balloon", required_argument, NULL, OPT_DEVICE + DEVICE_BALLOON },
	{ "vsock", required_argument, NULL, OPT_DEVICE + DEVICE_VSOCK },
	{ "rng", no_argument, NULL, OPT_DEVICE + DEVICE_RNG },
	{ "stats", no_argument, NULL, OPT_STATS },
	{ "verbose", no_argument, NULL, 'v' },
	{ "help", no_argument, NULL, 'h' },
	{ 0 },
};

/* Return: -1 to go on, otherwise an exit status. */
static int run_option(int opt, const char *arg, struct run_config *cfg)
{
	switch (opt) {
	case 'k':
		cfg->kernel = arg;
		break;
	case 'i':
		cfg->initrd = arg;
		break;
	case 'a':
		cfg->append = arg;
		break;
	case 'm':
		if (parse_size(arg, &cfg->mem) < 0 || cfg->mem < MIN_MEM ||
		    cfg->mem % 4096 || cfg->mem > 1ULL << 52)
			return fail(EXIT_USAGE, "run", "--mem %s: give a multiple of 4K from %lluM on, for instance 512M or 2G",
				    arg, MIN_MEM / MIB);
		break;
	case 'c':
		if (parse_cpus(arg, &cfg->cpus) < 0)
			return fail(EXIT_USAGE, "run", "--cpus %s: give a number from 1 to %d",
				    arg, MAX_CPUS);
		break;
	case 'd':
		cfg->device = arg;
		break;
	case 's':
		if (parse_serial(arg, cfg) < 0)
			return fail(EXIT_USAGE, "run", "--serial %s: give stdio, none or file:PATH",
				    arg);
		break;
	case 't':
		if (parse_timeout(arg, &cfg->timeout) < 0)
			return fail(EXIT_USAGE, "run", "--timeout %s: give a number of seconds",
				    arg);
		break;
	case OPT_STATS:
		cfg->stats = true;
		break;
	case 'v':
		cfg->verbose = true;
		break;
	case 'h':
		return print(run_help);
	default:
		if (cfg->device_count == MAX_DEVICES)
			return fail(EXIT_USAGE, "run", "too many devices, at most %d",
				    MAX_DEVICES);
		cfg->devices[cfg->device_count++] =
			(struct device_option){ opt - OPT_DEVICE, arg };
		break;
	}
	return -1;
}

/*
 * getopt_long() found an option that is unknown ('?') or lacks its argument
 * (':'). The one meant is the argument before optind, but for an unknown letter
 * in the middle of a group.
 */
static int bad_option(const char *command, int opt, char **argv,
		      const struct option *known)
{
	const char letter[] = { '-', optopt, '\0' }, *name = argv[optind - 1];

	while (known->name && known->val != optopt)
		known++;
	if (opt == '?' && optopt && !known->name)
		name = letter;
	return fail(EXIT_USAGE, command, "%s: %s; see keel %s --help", name,
		    opt == '?' ? "unknown option" : "its argument is missing",
		    command);
}

static int main_run(int argc, char **argv)
{
	struct run_config cfg = {
		.append = DEFAULT_APPEND,
		.device = KEEL_DEVICE,
		.mem = DEFAULT_MEM,
		.cpus = 1,
	};
	int opt, status;

	while ((opt = getopt_long(argc, argv, ":k:i:a:m:c:d:s:t:vh",
				  run_options, NULL)) != -1) {
		if (opt == '?' || opt == ':')
			return bad_option("run", opt, argv, run_options);
		status = run_option(opt, optarg, &cfg);
		if (status >= 0)
			return status;
	}
	if (optind < argc)
		return fail(EXIT_USAGE, "run", "%s: unexpected argument; see keel run --help",
			    argv[optind]);
	if (!cfg.kernel)
		return fail(EXIT_USAGE, "run", "--kernel FILE is missing; for instance --kernel /boot/vmlinuz-$(uname -r)");
	return cmd_run(&cfg);
}

static int main_doctor(int argc, char **argv)
{
	static const struct option options[] = {
		{ "device", required_argument, NULL, 'd' },
		{ "json", no_argument, NULL, 'j' },
		{ "root", required_argument, NULL, OPT_ROOT },
		{ "help", no_argument, NULL, 'h' },
		{ 0 },
	};
	const char *device = KEEL_DEVICE, *root = "";
	bool json = false;
	int opt;

	while ((opt = getopt_long(argc, argv, ":d:jh", options, NULL)) != -1) {
		switch (opt) {
		case 'd':
			device = optarg;
			break;
		case 'j':
			json = true;
			break;
		case OPT_ROOT:
			root = optarg;
			break;
		case 'h':
			return print(doctor_help);
		default:
			return bad_option("doctor", opt, argv, options);
		}
	}
	if (optind < argc)
		return fail(EXIT_USAGE, "doctor", "%s: unexpected argument; see keel doctor --help",
			    argv[optind]);
	return cmd_doctor(root, device, json);
}

static int end_status(struct machine *m)
{
	switch (atomic_load(&m->end)) {
	case END_POWEROFF:
		return EXIT_GUEST_POWEROFF;
	case END_REBOOT:
		return EXIT_GUEST_REBOOT;
	case END_TRIPLE_FAULT:
		return fail(EXIT_GUEST_TRIPLE_FAULT, "run", "the guest's processor shut down (triple fault)");
	case END_TIMEOUT:
		return fail(EXIT_TIMEOUT, "run", "the guest did not end within %g seconds",
			    m->cfg->timeout);
	case END_QUIT:
		return EXIT_USER_QUIT;
	case END_SIGNAL:
		return fail(EXIT_SIGNAL_BASE + m->signal, "run", "ended by signal %d (%s)",
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
int cmd_run(const struct run_config *cfg)
{
	static struct machine m;
	struct err err;
	int ret, status;

	ret = machine_create(&m, cfg, &err);
	if (!ret)
		ret = machine_run(&m, &err);
	if (ret)
		status = fail(EXIT_FAIL, "run", "%s", err.text);
	else
		status = end_status(&m);
	print_registers(&m);
	if (cfg->stats && m.vcpus)
		stats_print(&m);
	machine_destroy(&m);
	return status;
}

/*
 * A standard descriptor that is closed would be the next file that is opened,
 * a device for instance. In its place, something that reads as
 * empty and cannot be written either.
 */
static int open_standard_files(void)
{
	int fd;

	for (fd = STDIN_FILENO; fd <= STDERR_FILENO; fd++) {
		if (fcntl(fd, F_GETFD) < 0 && open("/dev/null", O_RDONLY) != fd)
			return -1;
	}
	return 0;
}

int main(int argc, char **argv)
{
	static const struct {
		const char *name;
		int (*run)(int argc, char **argv);
	} commands[] = {
		{ "run", main_run },
		{ "doctor", main_doctor },
	};
	const char *name = argc > 1 ? argv[1] : NULL;
	size_t i;

	if (open_standard_files() < 0)
		return fail(EXIT_FAIL, "", "cannot open /dev/null: %s",
			    strerror(errno));
	if (!name)
		return fail(EXIT_USAGE, "", "a command is missing; see keel --help");
	if (!strcmp(name, "--help") || !strcmp(name, "-h"))
		return print(main_help);
	if (!strcmp(name, "--version") || !strcmp(name, "-V"))
		return print("keel " KEEL_VERSION "\n");
	opterr = 0;
	for (i = 0; i < ARRAY_SIZE(commands); i++) {
		if (!strcmp(name, commands[i].name))
			return commands[i].run(argc - 1, argv + 1);
	}
	return fail(EXIT_USAGE, "", "%s: unknown command; see keel --help", name);
}
