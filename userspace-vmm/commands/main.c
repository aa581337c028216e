// SPDX-License-Identifier: GPL-2.0-only
/*
 * The `keel` command: its subcommands, one table with the options of all
 * of them, and the one place where errors are printed.
 */
#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "commands.h"

#ifndef KEEL_VERSION
#define KEEL_VERSION "unknown"
#endif

#define DEFAULT_APPEND "console=ttyS0"
#define ROOTFS_APPEND DEFAULT_APPEND " loglevel=1 panic=-1"
#define DEFAULT_MEM (512 * MIB)
#define CONFIG_MAX (64 * KIB)

/* Such as 512, which is in MiB, 512M or 2G. Return: -1: it is no size, or does not fit. */
static int parse_size(const char *text, u64 *bytes)
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

/*
 * The long name is also that of the line in a configuration file. What --help
 * prints comes from here, and shell completion reads --help.
 */
struct option_row {
	unsigned int commands;
	char letter;
	const char *name;
	const char *arg;	/* what --help calls it; NULL: takes none */
	const char *help;
	int (*set)(struct run_config *cfg, const struct option_row *row, const char *arg);
	size_t field;		/* in struct run_config, or the kind of a device */
	const char *wants;	/* said when set() fails */
	double min, max;	/* of a number */
};

static void *field_of(struct run_config *cfg, const struct option_row *row)
{
	return (char *)cfg + row->field;
}

static int set_string(struct run_config *cfg, const struct option_row *row, const char *arg)
{
	*(const char **)field_of(cfg, row) = arg;
	return 0;
}

static int set_flag(struct run_config *cfg, const struct option_row *row, const char *arg)
{
	*(bool *)field_of(cfg, row) = true;
	return 0;
}

static int add_device(struct run_config *cfg, const struct option_row *row, const char *arg)
{
	if (cfg->device_count == MAX_DEVICES)
		return -1;
	cfg->devices[cfg->device_count++] = (struct device_option){ row->field, arg };
	return 0;
}

/* Decimal digits, and perhaps a fraction. */
static int parse_number(const struct option_row *row, const char *arg, double *n)
{
	char *end;

	if (arg[strspn(arg, "0123456789.")])
		return -1;
	*n = strtod(arg, &end);
	return end != arg && !*end && *n >= row->min && *n <= row->max ? 0 : -1;
}

static int set_number(struct run_config *cfg, const struct option_row *row, const char *arg)
{
	return parse_number(row, arg, field_of(cfg, row));
}

static int set_whole(struct run_config *cfg, const struct option_row *row, const char *arg)
{
	unsigned int *field = field_of(cfg, row);
	double n;

	if (parse_number(row, arg, &n) < 0)
		return -1;
	*field = n;
	return *field == n ? 0 : -1;
}

static int set_size(struct run_config *cfg, const struct option_row *row, const char *arg)
{
	u64 *field = field_of(cfg, row);

	return parse_size(arg, field) < 0 || *field < row->min || *field > row->max ? -1 : 0;
}

static int set_mem(struct run_config *cfg, const struct option_row *row, const char *arg)
{
	return set_size(cfg, row, arg) < 0 || cfg->mem % 4096 ? -1 : 0;
}

static int set_serial(struct run_config *cfg, const struct option_row *row, const char *arg)
{
	if (!strcmp(arg, "stdio"))
		cfg->serial = SERIAL_STDIO;
	else if (!strcmp(arg, "none"))
		cfg->serial = SERIAL_NONE;
	else if (!strncmp(arg, "file:", 5) && arg[5])
		cfg->serial = SERIAL_FILE;
	else
		return -1;
	cfg->serial_path = cfg->serial == SERIAL_FILE ? arg + 5 : NULL;
	return 0;
}

/* What is wrong when add_device() fails; what the option says is looked at later. */
#define DEVICES	"a machine has at most 24 devices"
_Static_assert(MAX_DEVICES == 24, "DEVICES says so");

enum {
	RUN	= BIT(0),
	DOCTOR	= BIT(1),
	PS	= BIT(2),
	CONSOLE	= BIT(3),
	STOP	= BIT(4),
	KILL	= BIT(5),
	PAUSE	= BIT(6),
	RESUME	= BIT(7),
	TOP	= BIT(8),
	SNAPSHOT = BIT(9),
	RESTORE	= BIT(10),
	SCREENSHOT = BIT(11),
	MACHINE	= RUN | RESTORE,
	ALL	= ~0,
};

#define SECONDS	"give a number of seconds", 0.001, 1e9
#define FIELD(f) offsetof(struct run_config, f)
#define TEXT(f) .set = set_string, .field = FIELD(f)
#define FLAG(f) .set = set_flag, .field = FIELD(f)
#define DEVICE(kind) .set = add_device, .field = kind, .wants = DEVICES

static const struct option_row rows[] = {
	{ MACHINE, 0, "name", "NAME", "what other commands call it [the configuration's, or vm]",
	  TEXT(name) },
	{ RUN, 'k', "kernel", "FILE", "bzImage (/boot/vmlinuz-*), or ELF file with a PVH note",
	  TEXT(kernel) },
	{ RUN, 'i', "initrd", "FILE", "initial ramdisk", TEXT(initrd) },
	{ RUN, 'a', "append", "STRING", "kernel command line [" DEFAULT_APPEND "]",
	  TEXT(append) },
	{ RUN, 'm', "mem", "SIZE", "memory, in MiB or with suffix K, M, G, T [512M]",
	  set_mem, FIELD(mem), "give a multiple of 4K from 2M on, for instance 512M or 2G",
	  MIN_MEM, 1ULL << 52 },
	{ RUN, 'c', "cpus", "N", "virtual processors [1]",
	  set_whole, FIELD(cpus), "give a number from 1 to 254", 1, MAX_CPUS },
	{ MACHINE | DOCTOR, 'd', "device", "NODE", "/dev/keel, or /dev/kvm for stock KVM [/dev/keel]",
	  TEXT(device) },
	{ MACHINE, 's', "serial", "WHERE", "stdio, none, or file:PATH (output only) [stdio]",
	  .set = set_serial, .wants = "give stdio, none or file:PATH" },
	{ RUN, 0, "disk", "FILE", "a disk: FILE[,ro][,overlay[=FILE]][,format=FORMAT]",
	  DEVICE(DEVICE_DISK) },
	{ RUN, 0, "net", "WHERE", "a card: tap=NAME, or user[,forward=HOSTPORT:GUESTPORT]...",
	  DEVICE(DEVICE_NET) },
	{ RUN, 0, "console", "WHERE", "/dev/hvc0 on file:PATH or unix:PATH",
	  DEVICE(DEVICE_CONSOLE) },
	{ RUN, 0, "balloon", "MIB", "take free memory back, and that much in any case",
	  DEVICE(DEVICE_BALLOON) },
	{ RUN, 0, "vsock", "CID", "sockets between host and guest",
	  DEVICE(DEVICE_VSOCK) },
	{ RUN, 0, "share", "DIR", "a directory, by virtiofs: DIR[,tag=T][,ro]",
	  DEVICE(DEVICE_SHARE) },
	{ RUN, 0, "rootfs", "DIR", "a directory as the root: DIR[,ro|,overlay]; no kernel: the host's",
	  TEXT(rootfs) },
	{ RUN, 0, "display", "WHERE", "a screen, keyboard and pointer: vnc, or vnc=ADDRESS",
	  DEVICE(DEVICE_DISPLAY) },
	{ RUN, 0, "rng", NULL, "give the guest random numbers",
	  DEVICE(DEVICE_RNG) },
	{ MACHINE, 't', "timeout", "S", "end the guest after S seconds",
	  set_number, FIELD(timeout), SECONDS },
	{ STOP, 't', "timeout", "S", "kill it after S seconds [30]",
	  set_number, FIELD(timeout), SECONDS },
	{ MACHINE, 0, "detach", NULL, "in the background; keel console shows its serial port",
	  FLAG(detach) },
	{ MACHINE, 0, "jail", NULL, "as root: namespaces, an empty root, another user, limits",
	  FLAG(jail) },
	{ MACHINE, 0, "jail-user", "USER", "a name or number [one that is nobody else's]",
	  TEXT(jail_user) },
	{ MACHINE, 0, "cpu-max", "CPUS", "the time of so many CPUs, for instance 1.5",
	  set_number, FIELD(cpu_max), "give a number of CPUs from 0.01 on", 0.01, 10000 },
	{ MACHINE, 0, "memory-max", "SIZE", "all memory, that of the guest included",
	  set_size, FIELD(memory_max), "give a size from 1M on", MIB, 1ULL << 63 },
	{ MACHINE, 0, "pids-max", "N", "threads and processes",
	  set_whole, FIELD(pids_max), "give a number from 1 to 4194304", 1, 1U << 22 },
	{ MACHINE, 0, "no-sandbox", NULL, "for debugging: confine nothing",
	  FLAG(no_sandbox) },
	{ MACHINE, 0, "gdb", "WHERE", "wait for gdb on a TCP port of localhost or a unix socket",
	  TEXT(gdb) },
	{ RUN, 0, "config", "FILE", "a file of such options, as OPTION = VALUE",
	  TEXT(config) },
	{ MACHINE, 0, "stats", NULL, "count exits, print them at the end",
	  FLAG(stats) },
	{ MACHINE, 'v', "verbose", NULL, "print the registers when the guest is ended",
	  FLAG(verbose) },
	{ DOCTOR | PS | TOP, 'j', "json", NULL, "print the results as JSON", FLAG(json) },
	{ TOP, 0, "once", NULL, "once, over one second, in plain text", FLAG(once) },
	{ DOCTOR, 0, "root", "DIR", "look at a tree copied from another machine",
	  TEXT(root) },
	{ ALL, 'h', "help", NULL, "this text", .set = NULL },
};

_Static_assert(MAX_CPUS == 254 && MIN_MEM == 2 * MIB, "option_row.wants says so");

static int run_doctor(struct run_config *cfg)
{
	return cmd_doctor(cfg->root, cfg->device, cfg->json);
}

static const struct command {
	unsigned int bit;
	const char *name;
	const char *args;	/* before the options, in --help */
	unsigned int min_args, max_args;
	int (*run)(struct run_config *cfg);
	const char *what;
	const char *more;	/* after the options, in --help */
} commands[] = {
	{ RUN, "run", "[FILE.keel | --kernel FILE | --rootfs DIR [--] [COMMAND...]]", 0, 1, cmd_run,
	  "boot a Linux kernel as a guest, its serial port on this terminal",
	  "\nKeys: Ctrl-A x quits, Ctrl-A p presses the power button, Ctrl-A h tells more.\n"
	  "\n"
	  "Exit status, if not that of COMMAND:\n"
	  "    0  the guest powered off\n"
	  "    1  error, explained in one line\n"
	  "    2  wrong usage\n"
	  "    3  the guest asked for a reboot\n"
	  "    4  the guest's processor shut down (triple fault)\n"
	  "    5  --timeout ran out\n"
	  "    6  ended with Ctrl-A x\n"
	  "  128+N  ended by signal N\n" },
	{ PS, "ps", "", 0, 0, cmd_ps, "list the machines that run", NULL },
	{ CONSOLE, "console", "NAME", 1, 1, cmd_console, "attach to the serial port of a machine",
	  "\nKeys: Ctrl-A x leaves, Ctrl-A p presses the power button, Ctrl-A h tells more.\n" },
	{ STOP, "stop", "NAME", 1, 1, cmd_stop, "press the power button, and kill what does not react",
	  "\nExit status: 0 when the guest powered off, 5 when it had to be killed.\n" },
	{ KILL, "kill", "NAME", 1, 1, cmd_kill, "end a machine at once", NULL },
	{ PAUSE, "pause", "NAME", 1, 1, cmd_pause, "stop the processors and the clock of a machine", NULL },
	{ RESUME, "resume", "NAME", 1, 1, cmd_resume, "let a paused machine go on", NULL },
	{ TOP, "top", "NAME", 1, 1, cmd_top, "show what makes a machine exit, per second", NULL },
	{ SNAPSHOT, "snapshot", "NAME FILE", 2, 2, cmd_snapshot,
	  "write the state of a machine to a file; it runs on", NULL },
	{ SCREENSHOT, "screenshot", "NAME FILE.png", 2, 2, cmd_screenshot,
	  "write what a machine with a display shows to a file", NULL },
	{ RESTORE, "restore", "FILE", 1, 1, cmd_restore, "go on with a machine from its snapshot",
	  "\nKeys and exit status are those of keel run.\n" },
	{ DOCTOR, "doctor", "", 0, 0, run_doctor,
	  "check every requirement of keel, and say what to do about those not met",
	  "\nExit status: 0 if every must-have is met, 1 if not, 2 for wrong usage.\n" },
};

static int main_help(void)
{
	size_t i;

	printf("Usage: keel COMMAND [OPTION]...\n"
	       "Run virtual machines on the keel hypervisor.\n\nCommands:\n");
	for (i = 0; i < ARRAY_SIZE(commands); i++)
		printf("  %-10s %s\n", commands[i].name, commands[i].what);
	printf("\nOptions:\n"
	       "  -h, --help      this text; `keel COMMAND --help` tells about a command\n"
	       "  -V, --version   print the version\n"
	       "\nManual pages: keel(1), keel-run(1), and so on for each command.\n");
	return finish_output();
}

static int command_help(const struct command *c)
{
	const struct option_row *row;
	char text[40];

	printf("Usage: keel %s %s%s[OPTION]...\n%c%s.\n\n", c->name, c->args,
	       *c->args ? " " : "", toupper((unsigned char)*c->what), c->what + 1);
	for (row = rows; row < rows + ARRAY_SIZE(rows); row++) {
		if (!(row->commands & c->bit))
			continue;
		snprintf(text, sizeof(text), "--%s%s%s", row->name,
			 row->arg ? " " : "", row->arg ? row->arg : "");
		printf("  %c%c%c %-16s %s\n", row->letter ? '-' : ' ',
		       row->letter ? row->letter : ' ', row->letter ? ',' : ' ',
		       text, row->help);
	}
	if (c->more)
		printf("%s", c->more);
	return finish_output();
}

static bool row_is(const struct option_row *row, size_t field)
{
	return row->set == set_string && row->field == field;
}

static int set_option(const struct option_row *row, struct run_config *cfg,
		      const char *where, const char *arg)
{
	if (row->set(cfg, row, arg) < 0)
		return fail(EXIT_USAGE, "%s%s%s%s: %s", where, row->name, arg ? " " : "",
			    arg ? arg : "", row->wants);
	return 0;
}

static char *trim(char *s)
{
	size_t n;

	s += strspn(s, " \t\r");
	for (n = strlen(s); n && strchr(" \t\r", s[n - 1]); n--)
		s[n - 1] = '\0';
	return s;
}

/* One line of a file; @value is NULL if it has no equals sign. */
static int config_line(const struct command *c, struct run_config *cfg,
		       unsigned int number, const char *name, const char *value)
{
	const struct option_row *row;
	char where[300];

	snprintf(where, sizeof(where), "%s:%u: ", cfg->config, number);
	for (row = rows; row < rows + ARRAY_SIZE(rows); row++) {
		if (!(row->commands & c->bit) || strcmp(row->name, name))
			continue;
		if (!row->set || row_is(row, FIELD(config)))
			break;
		if (!row->arg != !value)
			return fail(EXIT_USAGE, "%s%s %s", where, name,
				    value ? "takes no value" : "needs a value: write OPTION = VALUE");
		return set_option(row, cfg, where, value);
	}
	return fail(EXIT_USAGE, "%s%s: unknown option; see keel %s --help", where, name, c->name);
}

static int read_config(const struct command *c, struct run_config *cfg)
{
	static char text[CONFIG_MAX];	/* the options point into it */
	char *line, *next, *equals;
	unsigned int number = 1;
	struct stat st;
	ssize_t n = -1;
	int fd, status;

	fd = open(cfg->config, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	if (fd >= 0 && !fstat(fd, &st) && S_ISREG(st.st_mode))
		n = read(fd, text, sizeof(text) - 1);
	else if (fd >= 0)
		errno = EINVAL;
	if (fd >= 0)
		close(fd);
	if (n < 0)
		return fail(EXIT_FAIL, "cannot read configuration %s: %s", cfg->config,
			    strerror(errno));
	if (n == sizeof(text) - 1 || memchr(text, '\0', n))
		return fail(EXIT_FAIL, "%s is no configuration: lines of OPTION = VALUE", cfg->config);
	for (line = text; line; line = next, number++) {
		next = strchr(line, '\n');
		if (next)
			*next++ = '\0';
		line = trim(line);
		if (!*line || *line == '#')
			continue;
		equals = strchr(line, '=');
		if (equals)
			*equals++ = '\0';
		status = config_line(c, cfg, number, trim(line), equals ? trim(equals) : NULL);
		if (status)
			return status;
	}
	return 0;
}

#define OPTIONS_MAX 256
#define LONG_ONLY 256		/* what getopt calls row i: its letter, or i more than this */

static const struct option_row *find_row(const struct command *c, int opt)
{
	const struct option_row *row;

	for (row = rows; row < rows + ARRAY_SIZE(rows); row++) {
		if ((row->commands & c->bit) &&
		    (opt == LONG_ONLY + (row - rows) || (row->letter && opt == row->letter)))
			return row;
	}
	return NULL;
}

/*
 * getopt_long() found an option that is unknown ('?') or lacks its argument
 * (':'). The one meant is the argument before optind, but for an unknown letter
 * in the middle of a group.
 */
static int bad_option(const struct command *c, int opt, char **argv)
{
	const char letter[] = { '-', optopt, '\0' }, *name = argv[optind - 1];

	if (opt == '?' && optopt && !find_row(c, optopt))
		name = letter;
	return fail(EXIT_USAGE, "%s: %s; see keel %s --help", name,
		    opt == '?' ? "unknown option" : "its argument is missing", c->name);
}

static int add_argument(const struct command *c, struct run_config *cfg, const char *arg)
{
	if (cfg->arg_count == c->max_args)
		return fail(EXIT_USAGE, "%s: unexpected argument; see keel %s --help", arg, c->name);
	cfg->args[cfg->arg_count++] = arg;
	return 0;
}

/*
 * What a configuration file says comes first, and the command line overrides it.
 * Behind --rootfs what is no option starts a command, and so does -- in any case.
 * Return: an exit status; 0 to go on; -1 for --help.
 */
static int parse_options(const struct command *c, struct run_config *cfg, int argc, char **argv)
{
	struct option longs[ARRAY_SIZE(rows) + 1] = { 0 };
	char letters[2 * ARRAY_SIZE(rows) + 3] = "-:";
	struct {
		const struct option_row *row;
		const char *arg;
	} given[OPTIONS_MAX];
	size_t i, n = 0, at = 2;
	int opt, status = 0;

	for (i = 0; i < ARRAY_SIZE(rows); i++) {
		if (!(rows[i].commands & c->bit))
			continue;
		longs[n++] = (struct option){ rows[i].name, !!rows[i].arg, NULL, LONG_ONLY + i };
		if (rows[i].letter)
			letters[at++] = rows[i].letter;
		if (rows[i].letter && rows[i].arg)
			letters[at++] = ':';
	}
	optind = 0;
	n = 0;
	while (!status && (opt = getopt_long(argc, argv, letters, longs, NULL)) != -1) {
		const struct option_row *row = find_row(c, opt);

		if (opt == 1 && c->bit == RUN && cfg->rootfs) {
			optind--;
			break;
		}
		if (opt == 1) {
			status = add_argument(c, cfg, optarg);
			continue;
		}
		if (!row)
			return bad_option(c, opt, argv);
		if (!row->set)
			return -1;
		if (n == ARRAY_SIZE(given))
			return fail(EXIT_USAGE, "too many options");
		if (row_is(row, FIELD(config)) || row_is(row, FIELD(rootfs)))
			row->set(cfg, row, optarg);
		given[n].row = row;
		given[n++].arg = optarg;
	}
	if (optind < argc && c->bit == RUN)
		cfg->command = argv + optind;
	for (; !cfg->command && optind < argc && !status; optind++)
		status = add_argument(c, cfg, argv[optind]);
	if (!status && cfg->arg_count < c->min_args)
		return fail(EXIT_USAGE, "%s is missing; see keel %s --help", c->args, c->name);
	if (!status && c->bit == RUN && cfg->arg_count) {
		if (cfg->config)
			return fail(EXIT_USAGE, "%s: unexpected argument beside --config",
				    cfg->args[0]);
		cfg->config = cfg->args[0];
	}
	if (!status && cfg->config)
		status = read_config(c, cfg);
	for (i = 0; i < n && !status; i++)
		status = set_option(given[i].row, cfg, "--", given[i].arg);
	return status;
}

static int run_command(const struct command *c, int argc, char **argv)
{
	static struct run_config cfg = {
		.device = KEEL_DEVICE,
		.root = "",
		.mem = DEFAULT_MEM,
		.cpus = 1,
	};
	int status;

	command_name = c->name;
	status = parse_options(c, &cfg, argc, argv);
	if (status)
		return status < 0 ? command_help(c) : status;
	if (cfg.command && !cfg.rootfs)
		return fail(EXIT_USAGE, "%s: unexpected argument; a command is for --rootfs",
			    cfg.command[0]);
	if (!cfg.append)
		cfg.append = cfg.rootfs ? ROOTFS_APPEND : DEFAULT_APPEND;
	return c->run(&cfg);
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
	const char *name = argc > 1 ? argv[1] : NULL;
	size_t i;

	if (open_standard_files() < 0)
		return fail(EXIT_FAIL, "cannot open /dev/null: %s", strerror(errno));
	if (!name)
		return fail(EXIT_USAGE, "a command is missing; see keel --help");
	if (!strcmp(name, "--help") || !strcmp(name, "-h"))
		return main_help();
	if (!strcmp(name, "--version") || !strcmp(name, "-V")) {
		puts("keel " KEEL_VERSION);
		return finish_output();
	}
	opterr = 0;
	for (i = 0; i < ARRAY_SIZE(commands); i++) {
		if (!strcmp(name, commands[i].name))
			return run_command(&commands[i], argc - 1, argv + 1);
	}
	return fail(EXIT_USAGE, "%s: unknown command; see keel --help", name);
}
