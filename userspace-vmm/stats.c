// SPDX-License-Identifier: GPL-2.0-only
/*
 * Names and counts of exits, for --stats.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "machine.h"

static const char *const names[EXIT_REASONS] = {
	[KVM_EXIT_UNKNOWN] = "unknown",
	[KVM_EXIT_EXCEPTION] = "exception",
	[KVM_EXIT_IO] = "io",
	[KVM_EXIT_HYPERCALL] = "hypercall",
	[KVM_EXIT_DEBUG] = "debug",
	[KVM_EXIT_HLT] = "hlt",
	[KVM_EXIT_MMIO] = "mmio",
	[KVM_EXIT_IRQ_WINDOW_OPEN] = "irq-window",
	[KVM_EXIT_SHUTDOWN] = "shutdown",
	[KVM_EXIT_FAIL_ENTRY] = "fail-entry",
	[KVM_EXIT_INTR] = "intr",
	[KVM_EXIT_SET_TPR] = "set-tpr",
	[KVM_EXIT_TPR_ACCESS] = "tpr-access",
	[KVM_EXIT_NMI] = "nmi",
	[KVM_EXIT_INTERNAL_ERROR] = "internal-error",
	[KVM_EXIT_SYSTEM_EVENT] = "system-event",
	[KVM_EXIT_IOAPIC_EOI] = "ioapic-eoi",
	[KVM_EXIT_X86_RDMSR] = "rdmsr",
	[KVM_EXIT_X86_WRMSR] = "wrmsr",
	[EXIT_REASONS - 1] = "others",
};

/**
 * exit_name() - a short name for a KVM_EXIT_* number
 * @reason: the number
 */
const char *exit_name(u32 reason)
{
	if (reason >= EXIT_REASONS || !names[reason])
		return "no name";
	return names[reason];
}

static void print_exits(const struct vcpu *v)
{
	unsigned int i;

	fprintf(stderr, "vcpu%u:", v->id);
	for (i = 0; i < EXIT_REASONS; i++) {
		if (v->exits[i])
			fprintf(stderr, " %s=%llu", exit_name(i), v->exits[i]);
	}
	fprintf(stderr, " signals=%llu\n", v->interrupted);
}

static void print_bus(const char *name, struct bus *bus)
{
	unsigned int i;

	fprintf(stderr, "%s:", name);
	for (i = 0; i < bus->count; i++) {
		u64 hits = atomic_load(&bus->region[i].hits);

		if (hits)
			fprintf(stderr, " %s=%llu", bus->region[i].name, hits);
	}
	fprintf(stderr, " unclaimed=%llu\n",
		(u64)atomic_load(&bus->unclaimed));
}

static bool read_all(int fd, void *buf, size_t len, u64 offset)
{
	return pread(fd, buf, len, offset) == (ssize_t)len;
}

#define STATS_MAX 1024
#define STATS_NAME_MAX 256

/*
 * The binary statistics of KVM describe themselves: a header, descriptors
 * with names, and the values (Documentation/virt/kvm/api.rst, 4.135).
 * Histograms are left out.
 */
static void print_kvm_stats(const char *title, unsigned int id, int vcpu_fd)
{
	union {
		struct kvm_stats_desc desc;
		char bytes[sizeof(struct kvm_stats_desc) + STATS_NAME_MAX];
	} one;
	int fd = ioctl(vcpu_fd, KVM_GET_STATS_FD, NULL);
	struct kvm_stats_header head;
	const char *name = one.bytes + sizeof(one.desc);
	size_t desc_size, i;
	u64 value;

	if (fd < 0)
		return;
	if (!read_all(fd, &head, sizeof(head), 0) ||
	    head.num_desc > STATS_MAX || head.name_size > STATS_NAME_MAX) {
		close(fd);
		return;
	}
	desc_size = sizeof(one.desc) + head.name_size;
	fprintf(stderr, "%s%u:", title, id);
	for (i = 0; i < head.num_desc; i++) {
		if (!read_all(fd, one.bytes, desc_size,
			      head.desc_offset + i * desc_size) ||
		    one.desc.size != 1 ||
		    !read_all(fd, &value, sizeof(value),
			      head.data_offset + one.desc.offset) || !value)
			continue;
		fprintf(stderr, " %.*s=%llu", (int)head.name_size, name,
			value);
	}
	fprintf(stderr, "\n");
	close(fd);
}

/**
 * stats_print() - what happened, to standard error
 * @m: a machine whose vCPUs have stopped but are still open
 */
void stats_print(struct machine *m)
{
	unsigned int i;

	for (i = 0; i < m->vcpu_count; i++)
		print_exits(&m->vcpus[i]);
	print_bus("pio", &m->pio);
	print_bus("mmio", &m->mmio);
	for (i = 0; i < m->vcpu_count; i++)
		print_kvm_stats("kernel-vcpu", i, m->vcpus[i].fd);
}
