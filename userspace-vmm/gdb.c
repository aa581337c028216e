// SPDX-License-Identifier: GPL-2.0-only
/*
 * gdb's remote serial protocol (GDB manual, appendix E): gdb debugs the guest,
 * one thread for each vCPU.
 *
 * Everything but gdb_debug_exit() runs in the main thread, and all but Ctrl-C
 * while the vCPUs are parked.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "machine.h"
#include "socket.h"

#define PACKET_MAX 4096
#define BREAKS_MAX 64
#define HW_BREAKS 4
#define INT3 0xcc
#define DR6_BS 0x4000
#define DR7_ENABLED 0x600

/* Numbers of the Z packet. */
enum { SW_BREAK, HW_BREAK, WATCH_WRITE, WATCH_READ, WATCH_ACCESS };

struct breakpoint {
	u8 type;
	u8 saved;		/* what INT3 replaces */
	u8 len;
	u64 addr;
};

/* What the g packet has, in the order of target_xml. */
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
	unsigned int cpu;		/* of Hg */
	unsigned int step_cpu;		/* of Hc */
	bool running;			/* gdb waits for a stop reply */
	int step;			/* the vCPU that steps, or -1 */
	struct breakpoint breaks[BREAKS_MAX];
	unsigned int break_count;
	char in[PACKET_MAX + 8];
	size_t len;
	char out[2 * PACKET_MAX];
} gdb = { .listen_fd = -1, .fd = -1, .step = -1 };

#define REG(name, bits, type) "<reg name='" name "' bitsize='" #bits "' type='" type "'/>"
#define R64(name) REG(name, 64, "int")
#define R32(name) REG(name, 32, "int")
#define ST(name) REG(name, 80, "i387_ext")

static const char target_xml[] =
	"<?xml version='1.0'?><target version='1.0'><architecture>i386:x86-64</architecture><feature name='org.gnu.gdb.i386.core'>"
	R64("rax") R64("rbx") R64("rcx") R64("rdx") R64("rsi") R64("rdi")
	REG("rbp", 64, "data_ptr") REG("rsp", 64, "data_ptr")
	R64("r8") R64("r9") R64("r10") R64("r11") R64("r12") R64("r13") R64("r14") R64("r15")
	REG("rip", 64, "code_ptr") R32("eflags")
	R32("cs") R32("ss") R32("ds") R32("es") R32("fs") R32("gs")
	ST("st0") ST("st1") ST("st2") ST("st3") ST("st4") ST("st5") ST("st6") ST("st7")
	R32("fctrl") R32("fstat") R32("ftag") R32("fiseg") R32("fioff") R32("foseg") R32("fooff") R32("fop")
	"</feature><feature name='org.gnu.gdb.i386.segments'>" R64("fs_base") R64("gs_base")
	"</feature></target>";

/**
 * gdb_open() - listen for gdb
 * @where: a TCP port of this machine only, or the path of a unix socket
 */
int gdb_open(const char *where, struct err *err)
{
	gdb.listen_fd = listen_local("--gdb", where, err);
	return gdb.listen_fd < 0 ? -1 : 0;
}

/** gdb_close() - nobody debugs any more */
void gdb_close(void)
{
	listen_close(gdb.listen_fd);
	if (gdb.fd >= 0)
		close(gdb.fd);
	gdb.listen_fd = -1;
	gdb.fd = -1;
}

/** gdb_debug_exit() - KVM_EXIT_DEBUG, in the vCPU's thread */
void gdb_debug_exit(struct vcpu *v)
{
	atomic_store(&v->stop, true);
	atomic_store(&v->debugged, true);
	machine_wake(v->machine);
}

static void reply(const char *text)
{
	u8 sum = 0;
	size_t i;

	for (i = 0; text[i]; i++)
		sum += text[i];
	if (gdb.fd >= 0 && dprintf(gdb.fd, "$%s#%02x", text, sum) < 0)
		shutdown(gdb.fd, SHUT_RDWR);
}

static const char *to_hex(const void *data, size_t len)
{
	const u8 *p = data;
	size_t i;

	gdb.out[0] = '\0';
	for (i = 0; i < len; i++)
		sprintf(gdb.out + 2 * i, "%02x", p[i]);
	return gdb.out;
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

/* KVM has them in the same order, but for these two. */
static void swap_rsp_rbp(struct registers *r)
{
	u64 rsp = r->general[6];

	r->general[6] = r->general[7];
	r->general[7] = rsp;
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
		.rip = r.rip,
		.eflags = r.rflags,
		.segment = { s.cs.selector, s.ss.selector, s.ds.selector, s.es.selector,
			     s.fs.selector, s.gs.selector },
		.fpu = { f.fcw, f.fsw, f.ftwx, 0, f.last_ip, 0, f.last_dp, f.last_opcode },
		.fs_base = s.fs.base,
		.gs_base = s.gs.base,
	};
	memcpy(out->general, &r, sizeof(out->general));
	swap_rsp_rbp(out);
	for (i = 0; i < 8; i++)
		memcpy(out->st[i], f.fpr[i], 10);
	return 0;
}

/* All but selectors and floating point, which gdb gives back unchanged. */
static int write_registers(struct machine *m, struct registers *in)
{
	struct kvm_regs r = { .rip = in->rip, .rflags = in->eflags };
	int fd = m->vcpus[gdb.cpu].fd;
	struct kvm_sregs s;

	swap_rsp_rbp(in);
	memcpy(&r, in->general, sizeof(in->general));
	if (ioctl(fd, KVM_GET_SREGS, &s) < 0)
		return -1;
	s.fs.base = in->fs_base;
	s.gs.base = in->gs_base;
	return ioctl(fd, KVM_SET_SREGS, &s) < 0 || ioctl(fd, KVM_SET_REGS, &r) < 0 ? -1 : 0;
}

/* Which of the CPU's breakpoints is in which debug register: in list order. */
static struct breakpoint *hw_break(unsigned int slot)
{
	unsigned int i;

	for (i = 0; i < gdb.break_count; i++) {
		if (gdb.breaks[i].type != SW_BREAK && !slot--)
			return &gdb.breaks[i];
	}
	return NULL;
}

static struct breakpoint *find_break(unsigned int type, u64 addr)
{
	unsigned int i;

	for (i = 0; i < gdb.break_count; i++) {
		if (gdb.breaks[i].type == type && gdb.breaks[i].addr == addr)
			return &gdb.breaks[i];
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

	for (i = 0; i < gdb.break_count; i++) {
		if (gdb.breaks[i].type == SW_BREAK)
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
	struct breakpoint new = { .type = type, .len = len, .addr = addr };
	u8 int3 = INT3;

	if (gdb.break_count == BREAKS_MAX || (type != SW_BREAK && hw_break(HW_BREAKS - 1)) ||
	    (type > HW_BREAK && len != 1 && len != 2 && len != 4 && len != 8))
		return -1;
	if (type == SW_BREAK && (access_memory(m, addr, &new.saved, 1, false) < 0 ||
				 access_memory(m, addr, &int3, 1, true) < 0))
		return -1;
	gdb.breaks[gdb.break_count++] = new;
	return 0;
}

static int clear_break(struct machine *m, struct breakpoint *b)
{
	if (b && b->type == SW_BREAK && access_memory(m, b->addr, &b->saved, 1, true) < 0)
		return -1;
	if (b)
		*b = gdb.breaks[--gdb.break_count];
	return 0;
}

static bool pause_all(struct machine *m)
{
	struct err err;

	if (!machine_pause(m, &err))
		return true;
	machine_fail(m, &err);
	return false;
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
	unsigned int i;

	pause_all(m);
	for (i = gdb.break_count; i--;)
		clear_break(m, &gdb.breaks[i]);
	gdb.break_count = 0;
	for (i = 0; i < m->vcpu_count; i++)
		atomic_store(&m->vcpus[i].debugged, false);
	resume(m, -1);
	gdb.running = false;
}

static void stop_reply(int sig, const char *reason)
{
	gdb.running = false;
	gdb.step = -1;
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
	if (arch->exception == 3 && !find_break(SW_BREAK, arch->pc)) {
		set_debug(m, v, KVM_GUESTDBG_INJECT_BP);
		return false;
	}
	if (arch->exception == 3)
		strcpy(reason, "swbreak:;");
	for (i = 0; i < HW_BREAKS && arch->exception != 3 && !(arch->dr6 & DR6_BS); i++) {
		b = arch->dr6 & BIT(i) ? hw_break(i) : NULL;
		if (b && b->type == HW_BREAK)
			strcpy(reason, "hwbreak:;");
		else if (b)
			snprintf(reason, sizeof(reason), "%s:%llx;", watch[b->type], b->addr);
	}
	stop_reply(5, reason);
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

		if (!atomic_exchange(&v->debugged, false) || !pause_all(m))
			continue;
		if (!report_debug(m, v) && step >= 0)
			vcpu_unpark(v);
		else if (gdb.running && machine_resume(m, &err) < 0)
			machine_fail(m, &err);
	}
}

/* Hg or Hc; 0 and -1 are any and all of them. */
static void choose_thread(struct machine *m, const char *p)
{
	long n = strtol(p + 2, NULL, 16);

	if (n > 0 && n <= (long)m->vcpu_count)
		*(p[1] == 'c' ? &gdb.step_cpu : &gdb.cpu) = n - 1;
}

static const char *query(struct machine *m, const char *p)
{
	unsigned long offset, len, i, at;

	if (!strncmp(p, "qSupported", 10)) {
		sprintf(gdb.out, "PacketSize=%x;qXfer:features:read+;swbreak+;hwbreak+", PACKET_MAX);
	} else if (sscanf(p, "qXfer:features:read:target.xml:%lx,%lx", &offset, &len) == 2) {
		at = strlen(target_xml);
		if (offset > at)
			offset = at;
		if (len > PACKET_MAX - 8)
			len = PACKET_MAX - 8;
		snprintf(gdb.out, len + 2, "%c%s", at - offset > len ? 'm' : 'l', target_xml + offset);
	} else if (!strcmp(p, "qfThreadInfo")) {
		for (i = at = 0; i < m->vcpu_count; i++)
			at += sprintf(gdb.out + at, "%c%lx", i ? ',' : 'm', i + 1);
	} else if (!strcmp(p, "qC")) {
		sprintf(gdb.out, "QC%x", gdb.cpu + 1);
	} else {
		return !strcmp(p, "qsThreadInfo") ? "l" : !strncmp(p, "qAttached", 9) ? "1" : "";
	}
	return gdb.out;
}

static void packet(struct machine *m, char *p)
{
	static u8 data[PACKET_MAX / 2];
	const char *answer = "E01";
	struct registers regs;
	unsigned int type, len;
	u64 addr;

	switch (*p) {
	case '?':
		stop_reply(5, "");
		return;
	case 'q':
		answer = query(m, p);
		break;
	case 'g':
		if (!read_registers(m, &regs))
			answer = to_hex(&regs, sizeof(regs));
		break;
	case 'G':
		if (from_hex(&regs, sizeof(regs), p + 1) == sizeof(regs) && !write_registers(m, &regs))
			answer = "OK";
		break;
	case 'm':
		if (sscanf(p + 1, "%llx,%x", &addr, &len) == 2 && len <= sizeof(data) &&
		    !access_memory(m, addr, data, len, false))
			answer = to_hex(data, len);
		break;
	case 'M':
		if (sscanf(p + 1, "%llx,%x:", &addr, &len) == 2 && len <= sizeof(data) &&
		    strchr(p, ':') && from_hex(data, len, strchr(p, ':') + 1) == len &&
		    !access_memory(m, addr, data, len, true))
			answer = "OK";
		break;
	case 'Z':
	case 'z':
		if (sscanf(p + 1, "%x,%llx,%x", &type, &addr, &len) == 3 && type <= WATCH_ACCESS &&
		    !(*p == 'Z' ? set_break(m, type, addr, len) :
				  clear_break(m, find_break(type, addr))))
			answer = "OK";
		break;
	case 'c':
		resume(m, -1);
		return;
	case 's':
		resume(m, gdb.step_cpu);
		return;
	case 'H':
		choose_thread(m, p);
		answer = "OK";
		break;
	case 'T':
		answer = "OK";
		break;
	case 'D':
		reply("OK");
		release(m);	/* gdb hangs up once it has read that */
		return;
	case 'k':
		machine_end(m, END_QUIT);
		return;
	default:
		answer = "";
	}
	reply(answer);
}

/* Take whole packets off the input. */
static void parse(struct machine *m)
{
	char *p = gdb.in, *end = gdb.in + gdb.len, *hash;

	while (p < end && gdb.fd >= 0) {
		if (*p == 3 && gdb.running && pause_all(m))
			stop_reply(2, "");
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

/** gdb_poll() - what to wait for */
void gdb_poll(struct pollfd *fd)
{
	*fd = (struct pollfd){ .fd = gdb.fd >= 0 ? gdb.fd : gdb.listen_fd, .events = POLLIN };
}

/**
 * gdb_events() - serve gdb, and tell it of what the vCPUs hit
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
		gdb.running = false;
		if (gdb.fd >= 0)
			pause_all(m);
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
