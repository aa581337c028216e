// SPDX-License-Identifier: GPL-2.0-only
/*
 * Check every requirement of keel, and say what to do about those
 * that are not met.
 *
 * Each check reads files only and adds one or more results. Paths can be
 * looked up below another root, for a tree copied from another machine.
 */
#include <cpuid.h>
#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/utsname.h>
#include <unistd.h>
#include <linux/kvm.h>

#include "keel.h"

enum verdict {
	PASS,
	WARN,		/* works, but worth knowing */
	FAIL,		/* keel cannot work */
	SKIP,		/* could not be found out, or does not apply */
};

struct result {
	const char *name;
	enum verdict verdict;
	char what[256];
	char fix[256];	/* what to type; empty if nothing */
};

#define MAX_RESULTS 24

struct doctor {
	const char *root;
	const char *device;
	struct result result[MAX_RESULTS];
	unsigned int count;
	char release[65];
	bool native;		/* the root is that of this machine */
	bool intel;
	bool amd;
	bool has_ext;		/* vmx or svm in /proc/cpuinfo */
	bool module;		/* keel is loaded */
	bool wants_keel;	/* the device is keel's, not KVM's */
};

static void add(struct doctor *d, const char *name, enum verdict verdict,
		const char *fmt, ...) __printf(4, 5);

static void add(struct doctor *d, const char *name, enum verdict verdict,
		const char *fmt, ...)
{
	struct result *r = &d->result[d->count];
	va_list ap;

	if (d->count < MAX_RESULTS - 1)
		d->count++;
	memset(r, 0, sizeof(*r));
	r->name = name;
	r->verdict = verdict;
	va_start(ap, fmt);
	vsnprintf(r->what, sizeof(r->what), fmt, ap);
	va_end(ap);
}

/* Without which keel cannot work. Return: @met. */
static bool must(struct doctor *d, const char *name, bool met, const char *yes,
		 const char *no)
{
	add(d, name, met ? PASS : FAIL, "%s", met ? yes : no);
	return met;
}

static void fix(struct doctor *d, const char *fmt, ...) __printf(2, 3);

/* What to type about the result that was added last. */
static void fix(struct doctor *d, const char *fmt, ...)
{
	struct result *r = &d->result[d->count - 1];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(r->fix, sizeof(r->fix), fmt, ap);
	va_end(ap);
}

static const char *at(const struct doctor *d, const char *fmt, ...) __printf(2, 3);

/* A path below the root; valid until the next call. */
static const char *at(const struct doctor *d, const char *fmt, ...)
{
	static char path[512];
	va_list ap;
	int n;

	n = snprintf(path, sizeof(path), "%s", d->root);
	if (n >= 0 && n < (int)sizeof(path)) {
		va_start(ap, fmt);
		vsnprintf(path + n, sizeof(path) - n, fmt, ap);
		va_end(ap);
	}
	return path;
}

static bool exists(const char *path)
{
	return !access(path, F_OK);
}

/* The first line of a file without its newline; empty if there is none. */
static bool first_line(const char *path, char *line, size_t size)
{
	FILE *f = fopen(path, "re");

	line[0] = '\0';
	if (!f)
		return false;
	if (!fgets(line, size, f))
		line[0] = '\0';
	fclose(f);
	line[strcspn(line, "\n")] = '\0';
	return true;
}

static bool has_word(const char *list, const char *word)
{
	size_t len = strlen(word);
	const char *p = list;

	while ((p = strstr(p, word))) {
		if ((p == list || isspace((unsigned char)p[-1])) &&
		    (!p[len] || isspace((unsigned char)p[len])))
			return true;
		p += len;
	}
	return false;
}

/* One field of the first processor in /proc/cpuinfo. */
static bool cpuinfo(const struct doctor *d, const char *field, char *value,
		    size_t size)
{
	size_t cap = 0, len = strlen(field);
	FILE *f = fopen(at(d, "/proc/cpuinfo"), "re");
	bool found = false;
	char *line = NULL;

	value[0] = '\0';
	if (!f)
		return false;
	while (!found && getline(&line, &cap, f) > 0 && *line != '\n') {
		char *colon = strchr(line, ':');

		if (!colon || strncmp(line, field, len) ||
		    (line[len] != '\t' && line[len] != ':'))
			continue;
		line[strcspn(line, "\n")] = '\0';
		snprintf(value, size, "%s", colon + 1);
		found = true;
	}
	free(line);
	fclose(f);
	return found;
}

/* From then on Linux gives what keel uses of it to KVM's own modules only. */
#define FIRST_TOO_NEW 19

static void check_kernel(struct doctor *d)
{
	unsigned int major = 0, minor = 0;

	if (sscanf(d->release, "%u.%u", &major, &minor) != 2) {
		add(d, "kernel", SKIP, "cannot tell the version of %s",
		    d->release);
		return;
	}
	if (major < 6 || (major == 6 && minor < 1)) {
		add(d, "kernel", FAIL, "Linux %s is too old, 6.1 is needed",
		    d->release);
	} else if (!d->module &&
		   (major > 6 || (major == 6 && minor >= FIRST_TOO_NEW))) {
		add(d, "kernel", FAIL, "Linux %s is too new, keel does not load from 6.%d on",
		    d->release, FIRST_TOO_NEW);
	} else {
		add(d, "kernel", PASS, "Linux %s", d->release);
		return;
	}
	fix(d, "boot Debian's 6.1 or 6.12 (sudo apt install linux-image-amd64), or make run, which emulates a host");
}

/* keel shares helpers with KVM that a kernel without it does not have. */
static void check_config(struct doctor *d)
{
	char *line = NULL;
	bool kvm = false;
	size_t cap = 0;
	FILE *f;

	f = fopen(at(d, "/boot/config-%s", d->release), "re");
	if (!f)
		f = fopen(at(d, "/lib/modules/%s/build/.config", d->release),
			  "re");
	if (!f) {
		add(d, "kernel options", SKIP, "cannot read the kernel's configuration; it must have CONFIG_KVM");
		return;
	}
	while (!kvm && getline(&line, &cap, f) > 0)
		kvm = !strcmp(line, "CONFIG_KVM=m\n") ||
		      !strcmp(line, "CONFIG_KVM=y\n");
	free(line);
	fclose(f);
	if (!must(d, "kernel options", kvm, "CONFIG_KVM is there",
		  "the kernel was built without CONFIG_KVM, whose helpers keel uses"))
		fix(d, "build the kernel with CONFIG_KVM=m, or boot Debian's");
}

/*
 * The processor itself knows the extension but the kernel does not list it:
 * Linux takes the flag away when the firmware has locked it off.
 */
static bool hidden_by_kernel(const struct doctor *d)
{
	unsigned int a, b, c, e;

	if (!d->native)
		return false;
	if (d->intel && __get_cpuid(1, &a, &b, &c, &e))
		return c & BIT(5);
	if (d->amd && __get_cpuid(0x80000001, &a, &b, &c, &e))
		return c & BIT(2);
	return false;
}

static void fix_firmware(struct doctor *d)
{
	fix(d, "enable \"%s\" in the firmware setup (BIOS), then power-cycle",
	    d->amd ? "SVM Mode" : "Intel Virtualization Technology");
}

static void fix_too_old(struct doctor *d)
{
	fix(d, "make run, which emulates a host that has it");
}

static void check_cpu(struct doctor *d, const char *flags)
{
	const char *name = d->amd ? "AMD-V (svm)" : "VT-x (vmx)";

	if (!d->intel && !d->amd) {
		add(d, "cpu", FAIL, "not an Intel or AMD processor that keel knows");
		return;
	}
	d->has_ext = has_word(flags, d->amd ? "svm" : "vmx");
	if (d->has_ext) {
		add(d, "cpu", PASS, "%s is there", name);
		return;
	}
	if (hidden_by_kernel(d)) {
		add(d, "cpu", FAIL, "the processor has %s, but the firmware keeps it switched off",
		    name);
		fix_firmware(d);
	} else if (has_word(flags, "hypervisor")) {
		add(d, "cpu", FAIL, "this is a virtual machine, and it was given no %s",
		    name);
		fix(d, "switch nested virtualization on in its host, or use make run, which emulates a host");
	} else {
		add(d, "cpu", FAIL, "the processor has no %s", name);
		fix_too_old(d);
	}
}

static void check_paging(struct doctor *d, const char *flags)
{
	char vmx[1024];
	bool known = cpuinfo(d, "vmx flags", vmx, sizeof(vmx));

	if (!d->has_ext) {
		add(d, "second-level paging", SKIP, "needs the extension first");
		return;
	}
	if (d->amd) {
		if (must(d, "second-level paging", has_word(flags, "npt"),
			 "nested paging (npt) is there", "no nested paging (npt)"))
			return;
		if (has_word(flags, "hypervisor"))
			fix(d, "this is a virtual machine: give it nested paging on its host (QEMU: -cpu host)");
		else
			fix_too_old(d);
		return;
	}
	if (!must(d, "second-level paging",
		  has_word(flags, "ept") || has_word(vmx, "ept"),
		  "EPT is there", "no EPT: this processor is too old"))
		fix_too_old(d);
	if (known) {
		if (!must(d, "unrestricted guest", has_word(vmx, "unrestricted_guest"),
			  "real mode can run as a guest",
			  "the processor cannot run real mode as a guest"))
			fix_too_old(d);
	} else {
		add(d, "unrestricted guest", SKIP, "this kernel does not tell");
		fix(d, "look at what keel says when it is loaded: sudo dmesg | grep keel");
	}
}

static bool read_msr(const struct doctor *d, u32 index, u64 *value)
{
	int fd = open(at(d, "/dev/cpu/0/msr"), O_RDONLY | O_CLOEXEC);
	bool ok;

	if (fd < 0)
		return false;
	ok = pread(fd, value, sizeof(*value), index) == sizeof(*value);
	close(fd);
	return ok;
}

/* IA32_FEATURE_CONTROL (SDM volume 4) and VM_CR (APM volume 2, 15.30.1). */
#define MSR_FEATURE_CONTROL	0x3a
#define FEATURE_CONTROL_LOCKED	BIT(0)
#define FEATURE_CONTROL_VMX	BIT(2)
#define MSR_VM_CR		0xc0010114
#define VM_CR_SVMDIS		BIT(4)

static void check_firmware(struct doctor *d)
{
	bool locked;
	u64 msr;

	if (!d->intel && !d->amd)
		return;
	if (!read_msr(d, d->amd ? MSR_VM_CR : MSR_FEATURE_CONTROL, &msr)) {
		/* Linux itself looked at the lock when it listed the flag. */
		if (d->intel && d->has_ext) {
			add(d, "firmware lock", PASS, "not locked off, as far as the kernel's flags tell");
			return;
		}
		add(d, "firmware lock", SKIP, "cannot read the lock register");
		fix(d, "sudo modprobe msr && sudo keel doctor");
		return;
	}
	locked = d->amd ? msr & VM_CR_SVMDIS :
		 (msr & FEATURE_CONTROL_LOCKED) && !(msr & FEATURE_CONTROL_VMX);
	if (!must(d, "firmware lock", !locked, "not locked off",
		  "the firmware has locked the extension off"))
		fix_firmware(d);
}

static void check_owner(struct doctor *d)
{
	static const struct {
		const char *module;
		const char *unload;
	} owners[] = {
		{ "kvm_intel", "sudo rmmod kvm_intel kvm" },
		{ "kvm_amd", "sudo rmmod kvm_amd kvm" },
		{ "vboxdrv", "sudo rmmod vboxnetadp vboxnetflt vboxdrv" },
		{ "vmmon", "sudo systemctl stop vmware" },
		{ "mshv_root", "boot without it" },
	};
	bool found = false;
	char line[64];
	size_t i;

	for (i = 0; i < ARRAY_SIZE(owners); i++) {
		const char *module = owners[i].module;
		bool used;

		if (!exists(at(d, "/sys/module/%s", module)))
			continue;
		found = true;
		used = first_line(at(d, "/sys/module/%s/refcnt", module), line,
				  sizeof(line)) &&
		       strtol(line, NULL, 10) > 0;
		if (used)
			add(d, "other hypervisor", FAIL,
			    "%s is loaded and in use", module);
		else if (!d->module && !strncmp(module, "kvm", 3))
			add(d, "other hypervisor", FAIL,
			    "%s is loaded, and keel does not load beside it",
			    module);
		else
			add(d, "other hypervisor", WARN,
			    "%s is loaded; idle now, but it can take the processor's extension",
			    module);
		fix(d, "%s%s", used ? "end its virtual machines, then " : "",
		    owners[i].unload);
	}
	if (first_line(at(d, "/sys/hypervisor/type"), line, sizeof(line)) &&
	    !strcmp(line, "xen")) {
		found = true;
		add(d, "other hypervisor", FAIL, "Linux runs on Xen");
		fix(d, "boot Linux without Xen");
	}
	if (!found)
		add(d, "other hypervisor", PASS, "none that uses VT-x or AMD-V is loaded");
}

static void check_headers(struct doctor *d)
{
	if (exists(at(d, "/lib/modules/%s/build/Makefile", d->release))) {
		add(d, "kernel headers", PASS, "those of %s are installed",
		    d->release);
		return;
	}
	add(d, "kernel headers", d->module ? WARN : FAIL,
	    "those of the running kernel %s are missing, the module cannot be built",
	    d->release);
	if (strstr(d->release, "-amd64"))
		fix(d, "sudo apt install linux-headers-%s", d->release);
	else
		fix(d, "this kernel is not Debian's: get its headers from where it came, or boot Debian's");
}

/*
 * Unsigned modules are refused under lockdown, with sig_enforce, and that is
 * what Debian's kernels do under Secure Boot.
 */
static void check_signature(struct doctor *d)
{
	bool lockdown, enforce;
	char line[128];

	first_line(at(d, "/sys/kernel/security/lockdown"), line, sizeof(line));
	lockdown = strstr(line, "[integrity]") ||
		   strstr(line, "[confidentiality]");
	first_line(at(d, "/sys/module/module/parameters/sig_enforce"), line,
		   sizeof(line));
	enforce = line[0] == 'Y' || line[0] == '1';
	if (!lockdown && !enforce) {
		add(d, "module signature", PASS, "unsigned modules are allowed");
		return;
	}
	add(d, "module signature", d->module ? WARN : FAIL,
	    "the kernel takes signed modules only (%s)",
	    lockdown ? "lockdown" : "sig_enforce");
	fix(d, "switch Secure Boot off in the firmware, or sign keel.ko with a key enrolled by mokutil --import");
}

static void check_module(struct doctor *d)
{
	char line[64];

	if (d->module) {
		first_line(at(d, "/sys/module/keel/version"), line, sizeof(line));
		add(d, "keel module", PASS, "is loaded%s%s",
		    *line ? ", version " : "", line);
		return;
	}
	add(d, "keel module", FAIL, "is not loaded");
	fix(d, LOAD_KEEL);
}

static void check_node(struct doctor *d)
{
	const char *path = at(d, "%s", d->device);
	struct err err;
	struct stat st;
	int fd;

	if (stat(path, &st) < 0) {
		add(d, "device node", FAIL, "%s: %s", d->device,
		    strerror(errno));
		fix(d, "%s", d->wants_keel ? LOAD_KEEL :
		    "sudo modprobe kvm_intel (or kvm_amd)");
		return;
	}
	if (!S_ISCHR(st.st_mode)) {
		add(d, "device node", FAIL, "%s is not a character device",
		    d->device);
		return;
	}
	fd = device_open(path, &err);
	if (fd < 0) {
		add(d, "device node", FAIL, "%s", err.text);
		return;
	}
	add(d, "device node", PASS, "%s can be opened", d->device);
	close(fd);
}

static void examine(struct doctor *d)
{
	char vendor[64];
	static char flags[8192];
	struct utsname uts;

	if (!uname(&uts))
		snprintf(d->release, sizeof(d->release), "%s", uts.release);
	if (!d->native)
		first_line(at(d, "/proc/sys/kernel/osrelease"), d->release,
			   sizeof(d->release));
	cpuinfo(d, "vendor_id", vendor, sizeof(vendor));
	cpuinfo(d, "flags", flags, sizeof(flags));
	d->intel = has_word(vendor, "GenuineIntel") ||
		   has_word(vendor, "CentaurHauls") ||
		   strstr(vendor, "Shanghai");
	d->amd = has_word(vendor, "AuthenticAMD") ||
		 has_word(vendor, "HygonGenuine");
	d->module = exists(at(d, "/sys/module/keel"));
	d->wants_keel = strcmp(d->device, "/dev/kvm");

	if (d->wants_keel)
		check_kernel(d);
	check_cpu(d, flags);
	check_paging(d, flags);
	check_firmware(d);
	if (d->wants_keel) {
		check_config(d);
		check_owner(d);
		check_headers(d);
		check_signature(d);
		check_module(d);
	}
	check_node(d);
}

static void print_json_string(const char *s)
{
	putchar('"');
	for (; *s; s++) {
		if (*s == '"' || *s == '\\')
			printf("\\%c", *s);
		else if ((unsigned char)*s < ' ')
			printf("\\u%04x", *s);
		else
			putchar(*s);
	}
	putchar('"');
}

static void print_json(const struct doctor *d, bool ok)
{
	static const char *const names[] = { "pass", "warn", "fail", "skip" };
	unsigned int i;

	printf("{\n  \"ok\": %s,\n  \"checks\": [\n", ok ? "true" : "false");
	for (i = 0; i < d->count; i++) {
		const struct result *r = &d->result[i];

		printf("    {\"name\": ");
		print_json_string(r->name);
		printf(", \"result\": \"%s\", \"what\": ", names[r->verdict]);
		print_json_string(r->what);
		printf(", \"fix\": ");
		print_json_string(r->fix);
		printf("}%s\n", i + 1 < d->count ? "," : "");
	}
	printf("  ]\n}\n");
}

static void print_text(const struct doctor *d, bool ok)
{
	static const char *const names[] = { "ok  ", "note", "FAIL", "?   " };
	unsigned int i;

	for (i = 0; i < d->count; i++) {
		const struct result *r = &d->result[i];

		printf("%s  %-20s %s\n", names[r->verdict], r->name, r->what);
		if (r->fix[0])
			printf("      %-20s -> %s\n", "", r->fix);
	}
	printf("%s\n", ok ? "All that keel must have is here." :
	       "Something that keel must have is missing.");
}

/**
 * cmd_doctor() - keel doctor
 * @root: where to look for /proc, /sys, /dev and /lib; "" for this machine
 * @device: the device node
 * @json: print JSON
 *
 * Return: the exit status.
 */
int cmd_doctor(const char *root, const char *device, bool json)
{
	static struct doctor d;
	bool ok = true;
	unsigned int i;

	d.root = root;
	d.native = !*root;
	d.device = device;
	examine(&d);
	for (i = 0; i < d.count; i++)
		ok = ok && d.result[i].verdict != FAIL;
	if (json)
		print_json(&d, ok);
	else
		print_text(&d, ok);
	if (fflush(stdout) || ferror(stdout)) {
		fprintf(stderr, "keel doctor: cannot write: %s\n",
			strerror(errno));
		return EXIT_FAIL;
	}
	return ok ? 0 : EXIT_FAIL;
}
