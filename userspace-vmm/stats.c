// SPDX-License-Identifier: GPL-2.0-only
/*
 * Names and counts of exits, for --stats and keel top.
 */
#include <errno.h>
#include <json-c/json.h>
#include <stdio.h>
#include <string.h>
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

/** exit_name() - a short name for a KVM_EXIT_* number */
const char *exit_name(u32 reason)
{
	if (reason >= EXIT_REASONS || !names[reason])
		return "no name";
	return names[reason];
}

static void add_count(json_object *o, const char *name, u64 n)
{
	if (n)
		json_object_object_add(o, name, json_object_new_int64(n));
}

/* Its thread may be counting: one word each, none of them torn. */
static json_object *exits_json(const struct vcpu *v)
{
	json_object *o = json_object_new_object();
	unsigned int i;

	for (i = 0; i < EXIT_REASONS; i++)
		add_count(o, exit_name(i), __atomic_load_n(&v->exits[i], __ATOMIC_RELAXED));
	add_count(o, "signals", __atomic_load_n(&v->interrupted, __ATOMIC_RELAXED));
	return o;
}

static json_object *bus_json(struct bus *bus)
{
	json_object *o = json_object_new_object();
	unsigned int i;

	for (i = 0; i < bus->count; i++)
		add_count(o, bus->region[i].name, atomic_load(&bus->region[i].hits));
	add_count(o, "unclaimed", atomic_load(&bus->unclaimed));
	return o;
}

#define STATS_MAX 1024
#define STATS_NAME_MAX 256

/*
 * The binary statistics of KVM describe themselves: a header, descriptors
 * with names, and the values (Documentation/virt/kvm/api.rst, 4.135).
 * Histograms are left out.
 */
static json_object *kvm_stats_json(int fd)
{
	json_object *o = json_object_new_object();
	union {
		struct kvm_stats_desc desc;
		char bytes[sizeof(struct kvm_stats_desc) + STATS_NAME_MAX + 1];
	} one;
	struct kvm_stats_header head;
	ssize_t desc_size;
	u32 i;
	u64 value;

	if (pread(fd, &head, sizeof(head), 0) != sizeof(head) ||
	    head.num_desc > STATS_MAX || head.name_size > STATS_NAME_MAX)
		head.num_desc = 0;
	desc_size = sizeof(one.desc) + head.name_size;
	for (i = 0; i < head.num_desc; i++) {
		memset(&one, 0, sizeof(one));
		if (pread(fd, one.bytes, desc_size, head.desc_offset + i * desc_size) == desc_size &&
		    one.desc.size == 1 && pread(fd, &value, sizeof(value), head.data_offset +
						one.desc.offset) == sizeof(value))
			add_count(o, one.bytes + sizeof(one.desc), value);
	}
	return o;
}

/**
 * stats_json() - what has happened so far
 * @m: the machine; its vCPUs may be running
 *
 * Return: for each vCPU the exits to us and the hypervisor's counters, and
 * the accesses to devices: names and numbers, by group.
 */
json_object *stats_json(struct machine *m)
{
	json_object *o = json_object_new_object();
	unsigned int i;
	char key[32];

	for (i = 0; i < m->vcpu_count; i++) {
		snprintf(key, sizeof(key), "vcpu%u", i);
		json_object_object_add(o, key, exits_json(&m->vcpus[i]));
	}
	json_object_object_add(o, "pio", bus_json(&m->pio));
	json_object_object_add(o, "mmio", bus_json(&m->mmio));
	for (i = 0; i < m->vcpu_count; i++) {
		snprintf(key, sizeof(key), "kernel-vcpu%u", i);
		json_object_object_add(o, key, kvm_stats_json(m->vcpus[i].stats_fd));
	}
	return o;
}

/**
 * stats_print() - what happened, to standard error
 * @m: a machine whose vCPUs have stopped but are still open
 */
void stats_print(struct machine *m)
{
	json_object *stats = stats_json(m);

	json_object_object_foreach(stats, group, values) {
		if (!json_object_object_length(values))
			continue;
		fprintf(stderr, "%s:", group);
		json_object_object_foreach(values, name, value)
			fprintf(stderr, " %s=%s", name, json_object_get_string(value));
		fprintf(stderr, "\n");
	}
	json_object_put(stats);
}
