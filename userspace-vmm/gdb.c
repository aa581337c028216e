// SPDX-License-Identifier: GPL-2.0-only
/*
 * gdb's remote serial protocol (GDB manual, appendix E): gdb debugs the guest,
 * one thread for each vCPU.
 *
 * Everything but gdb_debug_exit() runs in the main thread, and all but Ctrl-C
 * while the vCPUs are parked.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "machine.h"

#define PACKET_MAX 4096
#define BREAKS_MAX 64
#define HW_BREAKS 4
#define INT3 0xcc
#define DR6_BS 0x4000
#define DR7_ENABLED 0x600

/* Numbers of the Z packet. */
enum { SW_BREAK, HW_BREAK, WATCH_WRITE, WATCH_READ, WATCH_ACCESS };

struct breakpoint {
	bool used;
	u8 type;
	u8 saved;		/* what INT3 replaces */
	u8 len;
	u64 addr;
};

/* What the g packet has, in the order of target_xml(). */
struct __attribute__((packed)) registers {
	u64 general[16];
	u64 rip;
	u32 eflags;
	u32 segment[6];
	u8 st[8][10];
	u32 fpu[8];
	u64 fs_base, gs_base;
};

static struct {
	int listen_fd, fd;
	const char *path;
	unsigned int cpu;		/* of Hg */
	bool running;			/* gdb waits for a stop reply */
	int step;			/* the vCPU that steps, or -1 */
	struct breakpoint breaks[BREAKS_MAX];
	char in[PACKET_MAX + 8];
	size_t len;
	char out[2 * PACKET_MAX];
	char xml[4096];
} gdb = { .listen_fd = -1, .fd = -1, .step = -1 };

static void target_xml(void)
{
	static const char *const names[] = {
		"rax", "rbx", "rcx", "rdx", "rsi", "rdi", "rbp", "rsp", "r8", "r9", "r10", "r11",
		"r12", "r13", "r14", "r15", "rip", "eflags", "cs", "ss", "ds", "es", "fs", "gs",
		"st0", "st1", "st2", "st3", "st4", "st5", "st6", "st7", "fctrl", "fstat", "ftag",
		"fiseg", "fioff", "foseg", "fooff", "fop", "fs_base", "gs_base",
	};
	size_t i, at;

	at = sprintf(gdb.xml, "<?xml version=\"1.0\"?><target version=\"1.0\"><architecture>i386:x86-64</architecture><feature name=\"org.gnu.gdb.i386.core\">");
	for (i = 0; i < ARRAY_SIZE(names); i++) {
		bool st = i >= 24 && i < 32, wide = i < 17 || i >= 40;

		if (i == 40)
			at += sprintf(gdb.xml + at, "</feature><feature name=\"org.gnu.gdb.i386.segments\">");
		at += sprintf(gdb.xml + at, "<reg name=\"%s\" bitsize=\"%d\" type=\"%s\"/>", names[i],
			      st ? 80 : wide ? 64 : 32,
			      st ? "i387_ext" : i == 16 ? "code_ptr" : i == 6 || i == 7 ? "data_ptr" : "int");
	}
	sprintf(gdb.xml + at, "</feature></target>");
}

/**
 * gdb_open() - listen for gdb
 * @where: a TCP port of this machine only, or the path of a unix socket
 * @err: filled on failure
 */
int gdb_open(const char *where, struct err *err)
{
	struct sockaddr_un un = { .sun_family = AF_UNIX };
	struct sockaddr_in in = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	bool port = strspn(where, "0123456789") == strlen(where);
	long number = port ? strtol(where, NULL, 10) : 0;
	int one = 1;

	if (!*where || number > 65535 || strlen(where) >= sizeof(un.sun_path))
		return err_set(err, "--gdb %s: give a TCP port or the path of a socket", where);
	in.sin_port = htons(number);
	strcpy(un.sun_path, where);
	gdb.listen_fd = socket(port ? AF_INET : AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (gdb.listen_fd >= 0)
		setsockopt(gdb.listen_fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	if (gdb.listen_fd < 0 ||
	    bind(gdb.listen_fd, port ? (struct sockaddr *)&in : (struct sockaddr *)&un,
		 port ? sizeof(in) : sizeof(un)) < 0 || listen(gdb.listen_fd, 1) < 0)
		return err_sys(err, "cannot listen for gdb on %s", where);
	gdb.path = port ? NULL : where;
	target_xml();
	return 0;
}

/**
 * gdb_close() - nobody debugs any more
 */
void gdb_close(void)
{
	if (gdb.path)
		unlink(gdb.path);
	if (gdb.listen_fd >= 0)
		close(gdb.listen_fd);
	if (gdb.fd >= 0)
		close(gdb.fd);
	gdb.listen_fd = -1;
	gdb.fd = -1;
}

/**
 * gdb_debug_exit() - KVM_EXIT_DEBUG, in the vCPU's thread
 * @v: the vCPU
 */
void gdb_debug_exit(struct vcpu *v)
{
	atomic_store(&v->stop, true);
	atomic_store(&v->debugged, true);
	machine_wake(v->machine);
}

static void reply(const char *text)
{
	u8 sum = 0;
	size_t i, n;
	char *p;

	if (gdb.fd < 0)
		return;
	n = strlen(text);
	p = malloc(n + 8);
	if (!p)
		return;
	for (i = 0; i < n; i++)
		sum += text[i];
	n = sprintf(p, "$%s#%02x", text, sum);
	if (send(gdb.fd, p, n, MSG_NOSIGNAL) != (ssize_t)n)
		shutdown(gdb.fd, SHUT_RDWR);
	free(p);
}

static void to_hex(char *out, const void *data, size_t len)
{
	const u8 *p = data;

	*out = '\0';
	while (len--)
		out += sprintf(out, "%02x", *p++);
}

static size_t from_hex(void *data, size_t max, const char *hex)
{
	unsigned int byte;
	size_t n = 0;
	u8 *p = data;

	while (n < max && sscanf(hex + 2 * n, "%2x", &byte) == 1)
		p[n++] = byte;
	return n;
}

/* Linear addresses as the chosen vCPU translates them; RAM only. */
static int access_memory(struct machine *m, u64 addr, u8 *data, size_t len, bool write)
{
	while (len) {
		struct kvm_translation t = { .linear_address = addr };
		size_t n = 4096 - addr % 4096;
		u8 *p;

		if (n > len)
			n = len;
		if (ioctl(m->vcpus[gdb.cpu].fd, KVM_TRANSLATE, &t) < 0 || !t.valid)
			return -1;
		p = ram_ptr(&m->ram, t.physical_address, n);
		if (!p)
			return -1;
		memcpy(write ? p : data, write ? data : p, n);
		addr += n;
		data += n;
		len -= n;
	}
	return 0;
}

static int read_registers(struct machine *m, struct registers *out)
{
	int fd = m->vcpus[gdb.cpu].fd, i;
	struct kvm_sregs s;
	struct kvm_regs r;
	struct kvm_fpu f;

	if (ioctl(fd, KVM_GET_REGS, &r) < 0 || ioctl(fd, KVM_GET_SREGS, &s) < 0 ||
	    ioctl(fd, KVM_GET_FPU, &f) < 0)
		return -1;
	*out = (struct registers){
		.general = { r.rax, r.rbx, r.rcx, r.rdx, r.rsi, r.rdi, r.rbp, r.rsp, r.r8, r.r9,
			     r.r10, r.r11, r.r12, r.r13, r.r14, r.r15 },
		.rip = r.rip,
		.eflags = r.rflags,
		.segment = { s.cs.selector, s.ss.selector, s.ds.selector, s.es.selector,
			     s.fs.selector, s.gs.selector },
		.fpu = { f.fcw, f.fsw, f.ftwx, 0, f.last_ip, 0, f.last_dp, f.last_opcode },
		.fs_base = s.fs.base,
		.gs_base = s.gs.base,
	};
	for (i = 0; i < 8; i++)
		memcpy(out->st[i], f.fpr[i], 10);
	return 0;
}

/* All but selectors and floating point, which gdb gives back unchanged. */
static int write_registers(struct machine *m, const struct registers *in)
{
	u64 g[16];
	int fd = m->vcpus[gdb.cpu].fd;
	struct kvm_sregs s;
	struct kvm_regs r;

	memcpy(g, in->general, sizeof(g));
	r = (struct kvm_regs){
		.rax = g[0], .rbx = g[1], .rcx = g[2], .rdx = g[3], .rsi = g[4], .rdi = g[5],
		.rbp = g[6], .rsp = g[7], .r8 = g[8], .r9 = g[9], .r10 = g[10], .r11 = g[11],
		.r12 = g[12], .r13 = g[13], .r14 = g[14], .r15 = g[15],
		.rip = in->rip, .rflags = in->eflags,
	};
	if (ioctl(fd, KVM_GET_SREGS, &s) < 0)
		return -1;
	s.fs.base = in->fs_base;
	s.gs.base = in->gs_base;
	return ioctl(fd, KVM_SET_SREGS, &s) < 0 || ioctl(fd, KVM_SET_REGS, &r) < 0 ? -1 : 0;
}

/* Which of the CPU's breakpoints is in which debug register: in list order. */
static struct breakpoint *hw_break(unsigned int slot)
{
	struct breakpoint *b;

	for (b = gdb.breaks; b < gdb.breaks + BREAKS_MAX; b++) {
		if (b->used && b->type != SW_BREAK && !slot--)
			return b;
	}
	return NULL;
}

/* DR7 of Intel SDM volume 3, 18.2.4. @extra: more KVM_GUESTDBG flags. */
static void set_debug(struct machine *m, struct vcpu *v, u32 extra)
{
	static const u8 kinds[] = { [HW_BREAK] = 0, [WATCH_WRITE] = 1, [WATCH_READ] = 3, [WATCH_ACCESS] = 3 };
	static const u8 lengths[] = { [1] = 0, [2] = 1, [4] = 3, [8] = 2 };
	struct kvm_guest_debug debug = { .control = extra };
	struct breakpoint *b;
	unsigned int i;

	for (b = gdb.breaks; b < gdb.breaks + BREAKS_MAX; b++) {
		if (b->used && b->type == SW_BREAK)
			debug.control |= KVM_GUESTDBG_USE_SW_BP;
	}
	for (i = 0; i < HW_BREAKS && (b = hw_break(i)); i++) {
		u8 len = b->type == HW_BREAK ? 0 : lengths[b->len];

		debug.control |= KVM_GUESTDBG_USE_HW_BP;
		debug.arch.debugreg[i] = b->addr;
		debug.arch.debugreg[7] |= DR7_ENABLED | 2ULL << (2 * i) |
					  (u64)(kinds[b->type] | len << 2) << (16 + 4 * i);
	}
	if (debug.control & KVM_GUESTDBG_SINGLESTEP &&
	    ioctl(m->vm_fd, KVM_CHECK_EXTENSION, KVM_CAP_SET_GUEST_DEBUG2) & KVM_GUESTDBG_BLOCKIRQ)
		debug.control |= KVM_GUESTDBG_BLOCKIRQ;
	if (debug.control)
		debug.control |= KVM_GUESTDBG_ENABLE;
	ioctl(v->fd, KVM_SET_GUEST_DEBUG, &debug);
}

static int set_break(struct machine *m, unsigned int type, u64 addr, unsigned int len)
{
	struct breakpoint *b = gdb.breaks, new = { .used = true, .type = type, .len = len, .addr = addr };
	u8 int3 = INT3;

	while (b < gdb.breaks + BREAKS_MAX && b->used)
		b++;
	if (b == gdb.breaks + BREAKS_MAX || (type != SW_BREAK && hw_break(HW_BREAKS - 1)) ||
	    (type > HW_BREAK && len != 1 && len != 2 && len != 4 && len != 8))
		return -1;
	if (type == SW_BREAK && (access_memory(m, addr, &new.saved, 1, false) < 0 ||
				 access_memory(m, addr, &int3, 1, true) < 0))
		return -1;
	*b = new;
	return 0;
}

/* @addr or, without @exact, all of them. */
static int clear_breaks(struct machine *m, bool exact, unsigned int type, u64 addr)
{
	struct breakpoint *b;

	for (b = gdb.breaks; b < gdb.breaks + BREAKS_MAX; b++) {
		if (!b->used || (exact && (b->type != type || b->addr != addr)))
			continue;
		if (b->type == SW_BREAK && access_memory(m, b->addr, &b->saved, 1, true) < 0 && exact)
			return -1;
		b->used = false;
		if (exact)
			return 0;
	}
	return 0;
}

static void resume(struct machine *m, int step)
{
	struct err err;
	unsigned int i;

	for (i = 0; i < m->vcpu_count; i++)
		set_debug(m, &m->vcpus[i], (int)i == step ? KVM_GUESTDBG_SINGLESTEP : 0);
	gdb.step = step;
	gdb.running = true;
	if (step >= 0)
		vcpu_unpark(&m->vcpus[step]);
	else if (machine_resume(m, &err) < 0)
		machine_fail(m, &err);
}

/* gdb lets go: the guest runs as if it had never been there. */
static void release(struct machine *m)
{
	struct err err;
	unsigned int i;

	if (machine_pause(m, &err) < 0)
		machine_fail(m, &err);
	clear_breaks(m, false, 0, 0);
	for (i = 0; i < m->vcpu_count; i++)
		atomic_store(&m->vcpus[i].debugged, false);
	resume(m, -1);
	gdb.running = false;
}

static void stop_reply(struct machine *m, int sig, const char *reason)
{
	gdb.running = false;
	gdb.step = -1;
	(void)m;
	snprintf(gdb.out, sizeof(gdb.out), "T%02x%sthread:%x;", sig, reason, gdb.cpu + 1);
	reply(gdb.out);
}

/* Return: false for an INT3 of the guest's own, which it gets. */
static bool report_debug(struct machine *m, struct vcpu *v)
{
	const struct kvm_debug_exit_arch *arch = &v->run->debug.arch;
	static const char *const watch[] = { [WATCH_WRITE] = "watch", [WATCH_READ] = "rwatch",
					     [WATCH_ACCESS] = "awatch" };
	struct breakpoint *b;
	char reason[64] = "";
	unsigned int i;

	gdb.cpu = v->id;
	if (arch->exception == 3) {
		for (b = gdb.breaks; b < gdb.breaks + BREAKS_MAX; b++) {
			if (b->used && b->type == SW_BREAK && b->addr == arch->pc)
				break;
		}
		if (b == gdb.breaks + BREAKS_MAX) {
			set_debug(m, v, KVM_GUESTDBG_INJECT_BP);
			return false;
		}
		strcpy(reason, "swbreak:;");
	} else if (!(arch->dr6 & DR6_BS)) {
		for (i = 0; i < HW_BREAKS; i++) {
			b = arch->dr6 & BIT(i) ? hw_break(i) : NULL;
			if (b && b->type == HW_BREAK)
				strcpy(reason, "hwbreak:;");
			else if (b)
				snprintf(reason, sizeof(reason), "%s:%llx;", watch[b->type], b->addr);
		}
	}
	stop_reply(m, 5, reason);
	return true;
}

/* After every wakeup: has a vCPU hit something? */
static void check_debugged(struct machine *m)
{
	struct err err;
	unsigned int i;

	for (i = 0; i < m->vcpu_count && gdb.running; i++) {
		struct vcpu *v = &m->vcpus[i];
		int step = gdb.step;

		if (!atomic_exchange(&v->debugged, false))
			continue;
		if (machine_pause(m, &err) < 0)
			machine_fail(m, &err);
		else if (!report_debug(m, v) && step >= 0)
			vcpu_unpark(v);
		else if (gdb.running && machine_resume(m, &err) < 0)
			machine_fail(m, &err);
	}
}

static void choose_thread(struct machine *m, const char *id)
{
	long n = strtol(id, NULL, 16);

	if (n > 0 && n <= (long)m->vcpu_count)
		gdb.cpu = n - 1;
}

static void answer_query(struct machine *m, const char *p)
{
	unsigned long offset, len, i, at;

	gdb.out[0] = '\0';
	if (!strncmp(p, "qSupported", 10)) {
		sprintf(gdb.out, "PacketSize=%x;qXfer:features:read+;swbreak+;hwbreak+", PACKET_MAX);
	} else if (sscanf(p, "qXfer:features:read:target.xml:%lx,%lx", &offset, &len) == 2) {
		at = strlen(gdb.xml);
		if (offset > at)
			offset = at;
		if (len > PACKET_MAX - 8)
			len = PACKET_MAX - 8;
		snprintf(gdb.out, len + 2, "%c%s", at - offset > len ? 'm' : 'l', gdb.xml + offset);
	} else if (!strcmp(p, "qfThreadInfo")) {
		for (i = at = 0; i < m->vcpu_count; i++)
			at += sprintf(gdb.out + at, "%c%lx", i ? ',' : 'm', i + 1);
	} else if (!strcmp(p, "qsThreadInfo")) {
		strcpy(gdb.out, "l");
	} else if (!strcmp(p, "qC")) {
		sprintf(gdb.out, "QC%x", gdb.cpu + 1);
	} else if (!strncmp(p, "qAttached", 9)) {
		strcpy(gdb.out, "1");
	} else if (!strncmp(p, "qThreadExtraInfo,", 17)) {
		char text[16];

		sprintf(text, "vCPU %lu", (strtoul(p + 17, NULL, 16) - 1) & 0xff);
		to_hex(gdb.out, text, strlen(text));
	}
	reply(gdb.out);
}

/* "vCont;ACTION[:THREAD];...": one that steps does so alone. */
static void vcont(struct machine *m, const char *p)
{
	for (; p; p = strchr(p + 1, ';')) {
		if (p[1] != 's' && p[1] != 'S')
			continue;
		p += strcspn(p, ":");
		if (*p)
			choose_thread(m, p + 1);
		resume(m, gdb.cpu);
		return;
	}
	resume(m, -1);
}

static void packet(struct machine *m, char *p)
{
	static u8 data[PACKET_MAX / 2];
	struct registers regs;
	unsigned int type, len;
	u64 addr;
	int ret = -1;

	switch (*p) {
	case '?':
		stop_reply(m, 5, "");
		return;
	case 'q':
		answer_query(m, p);
		return;
	case 'g':
		if (read_registers(m, &regs) < 0)
			break;
		to_hex(gdb.out, &regs, sizeof(regs));
		reply(gdb.out);
		return;
	case 'G':
		if (from_hex(&regs, sizeof(regs), p + 1) == sizeof(regs))
			ret = write_registers(m, &regs);
		break;
	case 'm':
		if (sscanf(p + 1, "%llx,%x", &addr, &len) != 2 || len > sizeof(data) ||
		    access_memory(m, addr, data, len, false) < 0)
			break;
		to_hex(gdb.out, data, len);
		reply(gdb.out);
		return;
	case 'M':
		if (sscanf(p + 1, "%llx,%x:", &addr, &len) == 2 && len <= sizeof(data) &&
		    strchr(p, ':') && from_hex(data, len, strchr(p, ':') + 1) == len)
			ret = access_memory(m, addr, data, len, true);
		break;
	case 'Z':
	case 'z':
		if (sscanf(p + 1, "%x,%llx,%x", &type, &addr, &len) != 3 || type > WATCH_ACCESS)
			break;
		ret = *p == 'Z' ? set_break(m, type, addr, len) : clear_breaks(m, true, type, addr);
		break;
	case 'c':
		resume(m, -1);
		return;
	case 's':
		resume(m, gdb.cpu);
		return;
	case 'v':
		if (!strcmp(p, "vCont?"))
			reply("vCont;c;C;s;S");
		else if (!strncmp(p, "vCont;", 6))
			vcont(m, p + 5);
		else
			reply("");
		return;
	case 'H':
		choose_thread(m, p + 2);
		ret = 0;
		break;
	case 'T':
		ret = 0;
		break;
	case 'D':
		reply("OK");
		release(m);	/* gdb hangs up once it has read that */
		return;
	case 'k':
		machine_end(m, END_QUIT);
		return;
	default:
		reply("");
		return;
	}
	reply(ret < 0 ? "E01" : "OK");
}

static void interrupt(struct machine *m)
{
	struct err err;

	if (machine_pause(m, &err) < 0)
		machine_fail(m, &err);
	else
		stop_reply(m, 2, "");
}

/* Take whole packets off the input. */
static void parse(struct machine *m)
{
	char *p = gdb.in, *end = gdb.in + gdb.len, *hash;

	while (p < end && gdb.fd >= 0) {
		if (*p == 3 && gdb.running)
			interrupt(m);
		if (*p != '$') {
			p++;
			continue;
		}
		hash = memchr(p, '#', end - p);
		if (!hash || end - hash < 3)
			break;
		*hash = '\0';
		send(gdb.fd, "+", 1, MSG_NOSIGNAL);
		packet(m, p + 1);
		p = hash + 3;
	}
	gdb.len = gdb.fd < 0 ? 0 : end - p;
	memmove(gdb.in, p, gdb.len);
}

/**
 * gdb_poll() - what to wait for
 * @fd: filled
 */
void gdb_poll(struct pollfd *fd)
{
	*fd = (struct pollfd){ .fd = gdb.fd >= 0 ? gdb.fd : gdb.listen_fd, .events = POLLIN };
}

/**
 * gdb_events() - serve gdb, and tell it of what the vCPUs hit
 * @m: the machine
 * @fd: as filled by gdb_poll(), after poll()
 */
void gdb_events(struct machine *m, const struct pollfd *fd)
{
	ssize_t n;

	check_debugged(m);
	if (fd->fd < 0 || !fd->revents)
		return;
	if (gdb.fd < 0) {
		gdb.fd = accept4(gdb.listen_fd, NULL, NULL, SOCK_CLOEXEC);
		gdb.len = 0;
		if (gdb.fd >= 0) {
			struct err err;

			gdb.running = false;
			if (machine_pause(m, &err) < 0)
				machine_fail(m, &err);
		}
		return;
	}
	n = recv(gdb.fd, gdb.in + gdb.len, sizeof(gdb.in) - 1 - gdb.len, MSG_DONTWAIT);
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n <= 0 || gdb.len + n == sizeof(gdb.in) - 1) {
		release(m);
		close(gdb.fd);
		gdb.fd = -1;
		return;
	}
	gdb.len += n;
	gdb.in[gdb.len] = '\0';
	parse(m);
}
