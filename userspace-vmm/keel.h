/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What every file of the `keel` command shares: short integer
 * types, error reporting and the configuration of a run.
 */
#ifndef KEEL_H
#define KEEL_H

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <linux/types.h>

typedef __u8 u8;
typedef __u16 u16;
typedef __u32 u32;
typedef __u64 u64;
typedef u64 gpa_t;

#define KIB (1ULL << 10)
#define MIB (1ULL << 20)
#define GIB (1ULL << 30)

#define BIT(n) (1U << (n))
#define ARRAY_SIZE(a) (sizeof(a) / sizeof((a)[0]))
#define ALIGN_UP(x, a) (((x) + (a) - 1) & ~((u64)(a) - 1))
#define ALIGN_DOWN(x, a) ((x) & ~((u64)(a) - 1))

#define __printf(format, args) __attribute__((__format__(printf, format, args)))

#define KEEL_DEVICE "/dev/keel"
#define LOAD_KEEL "sudo modprobe keel, or from a checkout: sudo insmod build/$(uname -r)/keel.ko"

/*
 * An error is one line of text. Functions that can fail take a struct err,
 * fill it and return a negative value; only main() prints it.
 */
struct err {
	char text[512];
};

int err_set(struct err *err, const char *fmt, ...) __printf(2, 3);
int err_vset(struct err *err, const char *fmt, va_list ap) __printf(2, 0);
void one_line(char *text);
bool whole_number(const char *text, u64 *n);
int err_sys(struct err *err, const char *fmt, ...) __printf(2, 3);

/* The exit status of the command. Documented in keel-run(1) and --help. */
enum exit_code {
	EXIT_GUEST_POWEROFF	= 0,
	EXIT_FAIL		= 1,
	EXIT_USAGE		= 2,
	EXIT_GUEST_REBOOT	= 3,
	EXIT_GUEST_TRIPLE_FAULT	= 4,
	EXIT_TIMEOUT		= 5,
	EXIT_USER_QUIT		= 6,
	EXIT_SIGNAL_BASE	= 128,
};

enum serial_mode {
	SERIAL_STDIO,
	SERIAL_NONE,
	SERIAL_FILE,
};

/* What the options that add devices say; devices.c has the same order. */
enum device_kind {
	DEVICE_DISK,
	DEVICE_NET,
	DEVICE_RNG,
	DEVICE_CONSOLE,
	DEVICE_BALLOON,
	DEVICE_VSOCK,
	DEVICE_SHARE,
	DEVICE_DISPLAY,
};

#define MAX_DEVICES 24

struct device_option {
	enum device_kind kind;
	const char *arg;
};

/* What the options of all commands say; commands/main.c has the table. */
struct run_config {
	const char *name;
	const char *kernel;
	const char *initrd;
	const char *append;
	const char *device;
	const char *serial_path;
	enum serial_mode serial;
	u64 mem;
	unsigned int cpus;
	double timeout;
	struct device_option devices[MAX_DEVICES];
	unsigned int device_count;
	bool stats;
	bool verbose;
	bool json;
	bool detach;
	bool once;
	bool no_sandbox;
	bool jail;
	const char *jail_user;
	double cpu_max;
	u64 memory_max;
	unsigned int pids_max;
	const char *root;
	const char *config;
	const char *gdb;
	const char *restore;	/* a snapshot */
	const char *rootfs;
	char **command;		/* in the rootfs; NULL: none was given */
	const char *args[2];	/* what is no option */
	unsigned int arg_count;
};

/* The largest xAPIC id is 254; the guest's ACPI tables use xAPIC entries. */
#define MAX_CPUS 254
#define MIN_MEM (2 * MIB)

int device_open(const char *path, struct err *err);

u64 monotonic_ns(void);		/* pm.c */
/* The subcommand at work, for messages. */
extern const char *command_name;

/* Nobody looks at standard error any more. */
extern bool fail_to_syslog;

/* Say what is wrong, with the command's name, and return @status. */
int fail(int status, const char *fmt, ...) __printf(2, 3);
int finish_output(void);

#endif
