// SPDX-License-Identifier: GPL-2.0-only
/*
 * The state of a machine in a file: a header, items with names and sizes,
 * and the memory, with holes where it is zero.
 *
 * One walk over the items does both directions, in the order in which the
 * hypervisor has to be given them: a LAPIC after the register with its base
 * address, its timer's deadline after both it and the TSC.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "machine.h"

#define MAGIC "KEELSNAP"
#define VERSION 3
#define STATE_MAX (64 * MIB)
#define MSRS_MAX 512
#define XSAVE_MAX (16 * KIB)
#define PAGE 4096ULL
#define DEVICES_TEXT 8192

struct header {
	char magic[8];
	u32 version;
	u32 cpus;
	u64 mem;
	u64 state_size;
	u64 ram_offset;		/* the file ends where the memory does */
	u64 checksum;		/* of header, with 0 here, and state */
};

struct item_head {
	char name[24];
	u64 size;
};

/* One walk. */
struct walk {
	struct machine *m;
	bool load;
	u8 *buf;
	size_t size, at;
	struct err *err;
};

/* The file that a restored machine comes from. */
static struct {
	int fd;
	const char *path;
	struct header head;
	u8 *state;
	char devices[DEVICES_TEXT];	/* the options that add them */
} from = { .fd = -1 };

static u64 checksum(struct header head, const u8 *state)
{
	u64 sum = 0xcbf29ce484222325ULL, i;	/* FNV-1a */
	const u8 *p = (const u8 *)&head;

	head.checksum = 0;
	for (i = 0; i < sizeof(head); i++)
		sum = (sum ^ p[i]) * 0x100000001b3ULL;
	for (i = 0; i < head.state_size; i++)
		sum = (sum ^ state[i]) * 0x100000001b3ULL;
	return sum;
}

static int item(struct walk *w, const char *name, void *data, size_t size)
{
	struct item_head head = { .size = size };
	size_t need = w->at + sizeof(head) + size;

	snprintf(head.name, sizeof(head.name), "%s", name);
	if (w->load) {
		if (need > w->size || memcmp(w->buf + w->at, &head, sizeof(head)))
			return err_set(w->err, "%s: no %s of this machine's shape; it was made by another version of keel",
				       from.path, name);
		memcpy(data, w->buf + w->at + sizeof(head), size);
	} else {
		u8 *more = realloc(w->buf, need);

		if (!more)
			return err_sys(w->err, "cannot allocate the state");
		w->buf = more;
		memcpy(more + w->at, &head, sizeof(head));
		memcpy(more + w->at + sizeof(head), data, size);
	}
	w->at = need;
	return 0;
}

/* What one ioctl reads and another writes. */
static int call_item(struct walk *w, int fd, const char *name, unsigned long get,
		     unsigned long set, void *data, size_t size)
{
	if (!w->load && machine_ioctl(w->m, fd, get, name, (unsigned long)data, w->err) < 0)
		return -1;
	if (item(w, name, data, size) < 0)
		return -1;
	return w->load ? machine_ioctl(w->m, fd, set, name, (unsigned long)data, w->err) : 0;
}

#define CALL(w, fd, name, get, set, data) \
	call_item(w, fd, name, get, set, data, sizeof(*(data)))

static int msr_items(struct walk *w, int fd)
{
	static struct {
		struct kvm_msr_list head;
		u32 index[MSRS_MAX];
	} list;
	static struct {
		u64 count;
		struct kvm_msr_entry entry[MSRS_MAX];
	} msrs;
	struct {
		struct kvm_msrs head;
		struct kvm_msr_entry entry;
	} one = { .head.nmsrs = 1 };
	u32 i;

	if (!w->load) {
		memset(&msrs, 0, sizeof(msrs));
		list.head.nmsrs = MSRS_MAX;
		if (M_IOCTL(w->m, w->m->dev_fd, KVM_GET_MSR_INDEX_LIST, &list, w->err) < 0)
			return -1;
		for (i = 0; i < list.head.nmsrs; i++) {
			one.entry = (struct kvm_msr_entry){ .index = list.index[i] };
			/* Listed, but not of the CPU that this guest has. */
			if (ioctl(fd, KVM_GET_MSRS, &one) == 1)
				msrs.entry[msrs.count++] = one.entry;
		}
	}
	if (item(w, "msrs", &msrs, sizeof(msrs)) < 0)
		return -1;
	for (i = 0; w->load && i < msrs.count && i < MSRS_MAX; i++) {
		one.entry = msrs.entry[i];
		if (ioctl(fd, KVM_SET_MSRS, &one) != 1)
			return err_set(w->err, "%s: KVM_SET_MSRS refuses MSR %#x; the snapshot is of another CPU or hypervisor",
				       w->m->cfg->device, one.entry.index);
	}
	return 0;
}

static int vcpu_items(struct walk *w, int fd)
{
	static u8 xsave[XSAVE_MAX] __attribute__((aligned(64)));
	int size = ioctl(w->m->vm_fd, KVM_CHECK_EXTENSION, KVM_CAP_XSAVE2);
	struct kvm_debugregs debug;
	struct kvm_vcpu_events events;
	struct kvm_lapic_state lapic;
	struct kvm_mp_state mp;
	struct kvm_sregs sregs;
	struct kvm_xcrs xcrs;
	struct kvm_regs regs;

	if (size < (int)sizeof(struct kvm_xsave))
		size = sizeof(struct kvm_xsave);
	if (size > (int)sizeof(xsave))
		return err_set(w->err, "KVM_GET_XSAVE2 wants %d bytes", size);
	/* Reading it takes a waiting INIT or SIPI, so it comes first. */
	if (!w->load && M_IOCTL(w->m, fd, KVM_GET_MP_STATE, &mp, w->err) < 0)
		return -1;
	if (CALL(w, fd, "sregs", KVM_GET_SREGS, KVM_SET_SREGS, &sregs) < 0 ||
	    CALL(w, fd, "regs", KVM_GET_REGS, KVM_SET_REGS, &regs) < 0 ||
	    call_item(w, fd, "xsave", size > (int)sizeof(struct kvm_xsave) ?
		      KVM_GET_XSAVE2 : KVM_GET_XSAVE, KVM_SET_XSAVE, xsave, size) < 0 ||
	    CALL(w, fd, "xcrs", KVM_GET_XCRS, KVM_SET_XCRS, &xcrs) < 0 ||
	    CALL(w, fd, "lapic", KVM_GET_LAPIC, KVM_SET_LAPIC, &lapic) < 0 ||
	    msr_items(w, fd) < 0 ||
	    CALL(w, fd, "debugregs", KVM_GET_DEBUGREGS, KVM_SET_DEBUGREGS, &debug) < 0)
		return -1;
	if (!w->load && M_IOCTL(w->m, fd, KVM_GET_VCPU_EVENTS, &events, w->err) < 0)
		return -1;
	events.flags |= KVM_VCPUEVENT_VALID_NMI_PENDING;
	if (item(w, "events", &events, sizeof(events)) < 0 || item(w, "mp-state", &mp, sizeof(mp)) < 0)
		return -1;
	if (w->load && (M_IOCTL(w->m, fd, KVM_SET_VCPU_EVENTS, &events, w->err) < 0 ||
			M_IOCTL(w->m, fd, KVM_SET_MP_STATE, &mp, w->err) < 0))
		return -1;
	return 0;
}

static int part_items(struct walk *w)
{
	struct machine *m = w->m;
	unsigned int i;

	for (i = 0; i < m->part_count; i++) {
		const struct snapshot_part *p = &m->parts[i];

		if (!w->load && p->save)
			p->save(p->dev);
		if (item(w, p->name, p->data, p->size) < 0)
			return -1;
		if (w->load && p->load && p->load(p->dev) < 0)
			return err_set(w->err, "%s: the state of %s is impossible", from.path, p->name);
	}
	return 0;
}

static int walk(struct walk *w)
{
	static char devices[DEVICES_TEXT];
	struct machine *m = w->m;
	struct kvm_pit_state2 pit;
	struct kvm_irqchip chip;
	unsigned int i;

	if (!w->load && devices_to_text(m->cfg, devices, sizeof(devices)) < 0)
		return err_set(w->err, "the options of devices are too long for a snapshot");
	if (item(w, "devices", devices, sizeof(devices)) < 0 ||
	    item(w, "cpuid", &m->cpuid, sizeof(m->cpuid)) < 0)
		return -1;
	for (i = 0; i < m->vcpu_count; i++) {
		if (vcpu_items(w, m->vcpus[i].fd) < 0)
			return -1;
	}
	for (i = 0; i <= KVM_IRQCHIP_IOAPIC; i++) {
		memset(&chip, 0, sizeof(chip));
		chip.chip_id = i;
		if (CALL(w, m->vm_fd, "irqchip", KVM_GET_IRQCHIP, KVM_SET_IRQCHIP, &chip) < 0)
			return -1;
	}
	if (CALL(w, m->vm_fd, "pit", KVM_GET_PIT2, KVM_SET_PIT2, &pit) < 0)
		return -1;
	m->clock.flags = 0;
	if (item(w, "clock", &m->clock, sizeof(m->clock)) < 0 || part_items(w) < 0)
		return -1;
	if (w->load && w->at != w->size)
		return err_set(w->err, "%s: has devices that this keel does not know", from.path);
	return 0;
}

/**
 * snapshot_add() - name state that belongs into a snapshot
 *
 * The arguments are those of struct snapshot_part, in the same order whenever a machine
 * has the same devices.
 */
void snapshot_add(struct machine *m, const char *name, void *data, size_t size, void *dev,
		  void (*save)(void *dev), int (*load)(void *dev))
{
	if (m->part_count < SNAPSHOT_PARTS)
		m->parts[m->part_count++] =
			(struct snapshot_part){ name, data, size, dev, save, load };
}

static int write_at(int fd, const void *data, size_t len, u64 offset)
{
	errno = ENOSPC;		/* should it write less */
	return pwrite(fd, data, len, offset) == (ssize_t)len ? 0 : -1;
}

static int write_ram(const struct guest_ram *ram, int fd, u64 offset)
{
	static const u8 zero[PAGE];
	u64 at;

	for (at = 0; at < ram->size; at += PAGE) {
		if (memcmp(ram->host + at, zero, PAGE) &&
		    write_at(fd, ram->host + at, PAGE, offset + at) < 0)
			return -1;
	}
	return ftruncate(fd, offset + ram->size);
}

/**
 * snapshot_save() - write a paused machine to a file
 * @fd: the file, empty
 */
int snapshot_save(struct machine *m, int fd, struct err *err)
{
	struct walk w = { .m = m, .err = err };
	struct header head = { .version = VERSION, .cpus = m->vcpu_count, .mem = m->ram.size };
	int ret = -1;

	if (walk(&w) < 0)
		goto out;
	memcpy(head.magic, MAGIC, sizeof(head.magic));
	head.state_size = w.at;
	head.ram_offset = ALIGN_UP(sizeof(head) + w.at, PAGE);
	head.checksum = checksum(head, w.buf);
	if (!write_at(fd, &head, sizeof(head), 0) && !write_at(fd, w.buf, w.at, sizeof(head)) &&
	    !write_ram(&m->ram, fd, head.ram_offset) && !fsync(fd))
		ret = 0;
	else
		err_sys(err, "cannot write the snapshot");
out:
	free(w.buf);
	return ret;
}

/**
 * snapshot_open() - look at a file to restore
 * @cfg: its memory, number of CPUs and devices are filled
 *
 * The file stays open for snapshot_load(). Its memory is not part of the
 * checksum: as much as a machine has would take long.
 */
int snapshot_open(struct run_config *cfg, struct err *err)
{
	struct header *h = &from.head;
	struct walk w = { .load = true, .err = err };
	struct stat st;

	from.path = cfg->restore;
	from.fd = open(from.path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	if (from.fd < 0 || fstat(from.fd, &st) < 0)
		return err_sys(err, "cannot open %s", from.path);
	if (!S_ISREG(st.st_mode) || pread(from.fd, h, sizeof(*h), 0) != sizeof(*h) ||
	    memcmp(h->magic, MAGIC, sizeof(h->magic)))
		return err_set(err, "%s is not a snapshot of keel", from.path);
	if (h->version != VERSION)
		return err_set(err, "%s has version %u, this keel restores version %d", from.path,
			       h->version, VERSION);
	if (h->state_size > STATE_MAX || h->ram_offset < sizeof(*h) + h->state_size ||
	    h->mem < MIN_MEM || h->mem % PAGE || h->mem > 1ULL << 52 || !h->cpus ||
	    h->cpus > MAX_CPUS || (u64)st.st_size - h->ram_offset != h->mem)
		return err_set(err, "%s is broken: truncated, or its header is impossible", from.path);
	from.state = malloc(h->state_size);
	if (!from.state || pread(from.fd, from.state, h->state_size, sizeof(*h)) != (ssize_t)h->state_size ||
	    checksum(*h, from.state) != h->checksum)
		return err_set(err, "%s is broken: its checksum is wrong", from.path);
	w.buf = from.state;
	w.size = h->state_size;
	if (item(&w, "devices", from.devices, sizeof(from.devices)) < 0)
		return -1;
	if (from.devices[DEVICES_TEXT - 1] ||
	    devices_from_text(cfg, from.devices, sizeof(from.devices)) < 0)
		return err_set(err, "%s: has devices that this keel does not know", from.path);
	cfg->mem = h->mem;
	cfg->cpus = h->cpus;
	return 0;
}

/**
 * snapshot_cpuid() - before the vCPUs are there: the CPU that the guest knows
 * @m: the machine; its CPUID is that of this host, and is replaced
 */
int snapshot_cpuid(struct machine *m, struct err *err)
{
	struct walk w = { .m = m, .load = true, .buf = from.state,
			  .size = from.head.state_size, .err = err,
			  .at = sizeof(struct item_head) + DEVICES_TEXT };
	struct kvm_cpuid_entry2 here = m->cpuid.entry[0], *there = m->cpuid.entry;

	if (item(&w, "cpuid", &m->cpuid, sizeof(m->cpuid)) < 0)
		return -1;
	if (m->cpuid.head.nent > CPUID_MAX_ENTRIES || here.ebx != there->ebx ||
	    here.ecx != there->ecx || here.edx != there->edx)
		return err_set(err, "%s is of a CPU of another maker", from.path);
	return 0;
}

/**
 * snapshot_load() - give a new machine the state of the file
 * @m: the machine, with its vCPUs; left paused, with the guest's clock in it
 */
int snapshot_load(struct machine *m, struct err *err)
{
	struct walk w = { .m = m, .load = true, .buf = from.state,
			  .size = from.head.state_size, .err = err };
	off_t base = from.head.ram_offset, end = base + from.head.mem, hole;
	off_t at = lseek(from.fd, base, SEEK_DATA);
	ssize_t n = 1;
	int ret;

	for (; at >= 0 && at < end && n > 0; at = lseek(from.fd, at + n, SEEK_DATA)) {
		hole = lseek(from.fd, at, SEEK_HOLE);
		n = pread(from.fd, m->ram.host + (at - base), (hole < end ? hole : end) - at, at);
	}
	if (n <= 0 || (at < 0 && errno != ENXIO))
		return err_sys(err, "cannot read %s", from.path);
	ret = walk(&w);
	free(from.state);
	from.state = NULL;
	close(from.fd);
	m->paused = true;
	if (!ret)
		virtio_resume_all(&m->virtio);
	return ret;
}
