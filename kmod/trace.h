/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Tracepoints: everything that happens between a guest and keel, by name.
 *
 * trace-cmd record -e keel, or /sys/kernel/tracing/events/keel. main.c defines
 * CREATE_TRACE_POINTS; everybody else includes this file and calls.
 */
#undef TRACE_SYSTEM
#define TRACE_SYSTEM keel

#if !defined(KEEL_TRACE_H) || defined(TRACE_HEADER_MULTI_READ)
#define KEEL_TRACE_H

#include <linux/tracepoint.h>

#include "keel.h"

#ifndef KEEL_EXIT_NAMES
/* X(enum keel_exit_reason, name); a user-space reader sees the same list. */
#define KEEL_EXIT_NAMES(X, LAST)				\
	X(KEEL_EXIT_NONE, "none")				\
	X(KEEL_EXIT_FAIL_ENTRY, "fail_entry")			\
	X(KEEL_EXIT_INTERRUPT, "interrupt")			\
	X(KEEL_EXIT_NMI, "nmi")					\
	X(KEEL_EXIT_IRQ_WINDOW, "irq_window")			\
	X(KEEL_EXIT_NMI_WINDOW, "nmi_window")			\
	X(KEEL_EXIT_EXCEPTION, "exception")			\
	X(KEEL_EXIT_PAGE_FAULT, "page_fault")			\
	X(KEEL_EXIT_IO, "io")					\
	X(KEEL_EXIT_CPUID, "cpuid")				\
	X(KEEL_EXIT_HLT, "hlt")					\
	X(KEEL_EXIT_RDMSR, "rdmsr")				\
	X(KEEL_EXIT_WRMSR, "wrmsr")				\
	X(KEEL_EXIT_HYPERCALL, "hypercall")			\
	X(KEEL_EXIT_CR, "cr")					\
	X(KEEL_EXIT_DR, "dr")					\
	X(KEEL_EXIT_XSETBV, "xsetbv")				\
	X(KEEL_EXIT_RDPMC, "rdpmc")				\
	X(KEEL_EXIT_WBINVD, "wbinvd")				\
	X(KEEL_EXIT_PAUSE, "pause")				\
	X(KEEL_EXIT_MWAIT, "mwait")				\
	X(KEEL_EXIT_MONITOR, "monitor")				\
	X(KEEL_EXIT_INVALID_OPCODE, "invalid_opcode")		\
	X(KEEL_EXIT_TASK_SWITCH, "task_switch")			\
	X(KEEL_EXIT_SOFT_INTERRUPT, "soft_interrupt")		\
	X(KEEL_EXIT_TRIPLE_FAULT, "triple_fault")		\
	X(KEEL_EXIT_MACHINE_CHECK, "machine_check")		\
	X(KEEL_EXIT_EMULATE, "emulate")				\
	LAST(KEEL_EXIT_UNKNOWN, "unknown")

#define KEEL_EVENT_NAMES(X, LAST)				\
	X(KEEL_EVENT_INTERRUPT, "interrupt")			\
	X(KEEL_EVENT_NMI, "nmi")				\
	X(KEEL_EVENT_EXCEPTION, "exception")			\
	X(KEEL_EVENT_SOFT_INTERRUPT, "soft_interrupt")		\
	X(KEEL_EVENT_SOFT_EXCEPTION, "soft_exception")		\
	LAST(KEEL_EVENT_PRIV_SOFT_EXCEPTION, "priv_soft_exception")

/* trace-cmd's parser wants no comma after the last. */
#define KEEL_TRACE_SYMBOL(value, name)	{ value, name },
#define KEEL_TRACE_LAST(value, name)	{ value, name }
#endif

#define KEEL_TRACE_ENUM(value, name)	TRACE_DEFINE_ENUM(value);
KEEL_EXIT_NAMES(KEEL_TRACE_ENUM, KEEL_TRACE_ENUM)
KEEL_EVENT_NAMES(KEEL_TRACE_ENUM, KEEL_TRACE_ENUM)
#undef KEEL_TRACE_ENUM

/*
 * RIP is read from the hardware only when somebody is tracing. The vCPU is
 * loaded wherever these two are called.
 */
TRACE_EVENT(keel_entry,
	TP_PROTO(struct keel_vcpu *vcpu),
	TP_ARGS(vcpu),

	TP_STRUCT__entry(
		__field(u32, vcpu)
		__field(u64, rip)
	),

	TP_fast_assign(
		keel_need(vcpu, KEEL_RIP);
		__entry->vcpu = vcpu->id;
		__entry->rip = vcpu->regs.rip;
	),

	TP_printk("vcpu %u rip 0x%llx", __entry->vcpu, __entry->rip)
);

TRACE_EVENT(keel_exit,
	TP_PROTO(struct keel_vcpu *vcpu),
	TP_ARGS(vcpu),

	TP_STRUCT__entry(
		__field(u32, vcpu)
		__field(u32, reason)
		__field(u64, hw_reason)
		__field(u64, rip)
	),

	TP_fast_assign(
		keel_need(vcpu, KEEL_RIP);
		__entry->vcpu = vcpu->id;
		__entry->reason = vcpu->exit.reason;
		__entry->hw_reason = vcpu->exit.hw_reason;
		__entry->rip = vcpu->regs.rip;
	),

	TP_printk("vcpu %u reason %s hw 0x%llx rip 0x%llx", __entry->vcpu,
		  __print_symbolic(__entry->reason,
				   KEEL_EXIT_NAMES(KEEL_TRACE_SYMBOL, KEEL_TRACE_LAST)),
		  __entry->hw_reason, __entry->rip)
);

TRACE_EVENT(keel_inject,
	TP_PROTO(struct keel_vcpu *vcpu, const struct keel_event *event),
	TP_ARGS(vcpu, event),

	TP_STRUCT__entry(
		__field(u32, vcpu)
		__field(u8, type)
		__field(u8, vector)
		__field(bool, has_error)
		__field(u32, error)
	),

	TP_fast_assign(
		__entry->vcpu = vcpu->id;
		__entry->type = event->type;
		__entry->vector = event->vector;
		__entry->has_error = event->has_error;
		__entry->error = event->has_error ? event->error : 0;
	),

	TP_printk("vcpu %u %s vector 0x%x has_error %d error 0x%x", __entry->vcpu,
		  __print_symbolic(__entry->type,
				   KEEL_EVENT_NAMES(KEEL_TRACE_SYMBOL, KEEL_TRACE_LAST)),
		  __entry->vector, __entry->has_error, __entry->error)
);

/* Second-level fault; reads vcpu->exit.fault. */
TRACE_EVENT(keel_page_fault,
	TP_PROTO(struct keel_vcpu *vcpu),
	TP_ARGS(vcpu),

	TP_STRUCT__entry(
		__field(u32, vcpu)
		__field(u64, gpa)
		__field(bool, write)
		__field(bool, exec)
		__field(bool, present)
		__field(bool, table)
	),

	TP_fast_assign(
		__entry->vcpu = vcpu->id;
		__entry->gpa = vcpu->exit.fault.gpa;
		__entry->write = vcpu->exit.fault.write;
		__entry->exec = vcpu->exit.fault.exec;
		__entry->present = vcpu->exit.fault.present;
		__entry->table = vcpu->exit.fault.table;
	),

	TP_printk("vcpu %u gpa 0x%llx %s%s%s", __entry->vcpu, __entry->gpa,
		  __entry->exec ? "exec" : __entry->write ? "write" : "read",
		  __entry->present ? " present" : "",
		  __entry->table ? " table" : "")
);

TRACE_EVENT(keel_mmio,
	TP_PROTO(struct keel_vcpu *vcpu, bool write, gpa_t gpa, int len, u64 value),
	TP_ARGS(vcpu, write, gpa, len, value),

	TP_STRUCT__entry(
		__field(u32, vcpu)
		__field(bool, write)
		__field(u8, len)
		__field(u64, gpa)
		__field(u64, value)
	),

	TP_fast_assign(
		__entry->vcpu = vcpu->id;
		__entry->write = write;
		__entry->len = len;
		__entry->gpa = gpa;
		__entry->value = value;
	),

	TP_printk("vcpu %u %s gpa 0x%llx len %u value 0x%llx", __entry->vcpu,
		  __entry->write ? "write" : "read",
		  __entry->gpa, __entry->len, __entry->value)
);

TRACE_EVENT(keel_pio,
	TP_PROTO(struct keel_vcpu *vcpu, bool write, u16 port, int size, u32 value),
	TP_ARGS(vcpu, write, port, size, value),

	TP_STRUCT__entry(
		__field(u32, vcpu)
		__field(bool, write)
		__field(u8, size)
		__field(u16, port)
		__field(u32, value)
	),

	TP_fast_assign(
		__entry->vcpu = vcpu->id;
		__entry->write = write;
		__entry->size = size;
		__entry->port = port;
		__entry->value = value;
	),

	TP_printk("vcpu %u %s port 0x%x size %u value 0x%x", __entry->vcpu,
		  __entry->write ? "out" : "in",
		  __entry->port, __entry->size, __entry->value)
);

TRACE_EVENT(keel_msr,
	TP_PROTO(struct keel_vcpu *vcpu, bool write, u32 msr, u64 value, bool fault),
	TP_ARGS(vcpu, write, msr, value, fault),

	TP_STRUCT__entry(
		__field(u32, vcpu)
		__field(u32, msr)
		__field(u64, value)
		__field(bool, write)
		__field(bool, fault)
	),

	TP_fast_assign(
		__entry->vcpu = vcpu->id;
		__entry->write = write;
		__entry->msr = msr;
		__entry->value = value;
		__entry->fault = fault;
	),

	TP_printk("vcpu %u %s 0x%x value 0x%llx%s", __entry->vcpu,
		  __entry->write ? "wrmsr" : "rdmsr", __entry->msr, __entry->value,
		  __entry->fault ? " #GP" : "")
);

TRACE_EVENT(keel_cpuid,
	TP_PROTO(struct keel_vcpu *vcpu, u32 function, u32 index, u32 eax, u32 ebx,
		 u32 ecx, u32 edx),
	TP_ARGS(vcpu, function, index, eax, ebx, ecx, edx),

	TP_STRUCT__entry(
		__field(u32, vcpu)
		__field(u32, function)
		__field(u32, index)
		__field(u32, eax)
		__field(u32, ebx)
		__field(u32, ecx)
		__field(u32, edx)
	),

	TP_fast_assign(
		__entry->vcpu = vcpu->id;
		__entry->function = function;
		__entry->index = index;
		__entry->eax = eax;
		__entry->ebx = ebx;
		__entry->ecx = ecx;
		__entry->edx = edx;
	),

	TP_printk("vcpu %u function 0x%x index 0x%x: eax 0x%x ebx 0x%x ecx 0x%x edx 0x%x",
		  __entry->vcpu, __entry->function, __entry->index,
		  __entry->eax, __entry->ebx, __entry->ecx, __entry->edx)
);

TRACE_EVENT(keel_hypercall,
	TP_PROTO(struct keel_vcpu *vcpu, u64 nr, u64 a0, u64 a1, u64 a2, u64 a3),
	TP_ARGS(vcpu, nr, a0, a1, a2, a3),

	TP_STRUCT__entry(
		__field(u32, vcpu)
		__field(u64, nr)
		__field(u64, a0)
		__field(u64, a1)
		__field(u64, a2)
		__field(u64, a3)
	),

	TP_fast_assign(
		__entry->vcpu = vcpu->id;
		__entry->nr = nr;
		__entry->a0 = a0;
		__entry->a1 = a1;
		__entry->a2 = a2;
		__entry->a3 = a3;
	),

	TP_printk("vcpu %u nr 0x%llx a0 0x%llx a1 0x%llx a2 0x%llx a3 0x%llx",
		  __entry->vcpu, __entry->nr, __entry->a0, __entry->a1,
		  __entry->a2, __entry->a3)
);

/* A GSI is driven; @source is one of KEEL_IRQ_SOURCE_. */
TRACE_EVENT(keel_set_irq,
	TP_PROTO(struct keel_vm *vm, u32 gsi, int level, int source),
	TP_ARGS(vm, gsi, level, source),

	TP_STRUCT__entry(
		__string(vm, vm->name)
		__field(u32, gsi)
		__field(int, level)
		__field(int, source)
	),

	TP_fast_assign(
		keel_assign_str(vm, vm->name);
		__entry->gsi = gsi;
		__entry->level = level;
		__entry->source = source;
	),

	TP_printk("vm %s gsi %u level %d source %d", __get_str(vm),
		  __entry->gsi, __entry->level, __entry->source)
);

/* A vCPU takes an interrupt from its LAPIC or the PIC. */
TRACE_EVENT(keel_ack_irq,
	TP_PROTO(struct keel_vcpu *vcpu, int vector),
	TP_ARGS(vcpu, vector),

	TP_STRUCT__entry(
		__field(u32, vcpu)
		__field(int, vector)
	),

	TP_fast_assign(
		__entry->vcpu = vcpu->id;
		__entry->vector = vector;
	),

	TP_printk("vcpu %u vector 0x%x", __entry->vcpu, __entry->vector)
);

#endif /* KEEL_TRACE_H */

#undef TRACE_INCLUDE_PATH
#define TRACE_INCLUDE_PATH .
#undef TRACE_INCLUDE_FILE
#define TRACE_INCLUDE_FILE trace

/* This part must be outside protection */
#include <trace/define_trace.h>
