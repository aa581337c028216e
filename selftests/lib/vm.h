/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The host half of the test library: a VM on top of the KVM ABI.
 *
 * Memory of a VM made by vm_create():
 *
 *	0 .. LOW_SIZE		slot 0, anonymous: GDT, IDT, page tables,
 *				real-mode code, stacks
 *	IMAGE_BASE ..		slot 1, this very program, at the address at
 *				which it is linked
 *	everything else		nothing: MMIO
 *
 * Guest virtual, guest physical and, for the program's own image, host virtual
 * addresses are the same number, so a variable of the program is shared
 * between the test and its guest.
 */
#ifndef SELFTEST_VM_H
#define SELFTEST_VM_H

#include <linux/kvm.h>
#include <linux/types.h>
#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

typedef uint64_t u64;
typedef uint32_t u32;
typedef uint16_t u16;
typedef uint8_t u8;

/* Linux 6.8's, not in Debian 12's headers. */
#ifndef KVM_CAP_USER_MEMORY2
#define KVM_CAP_USER_MEMORY2	231
struct kvm_userspace_memory_region2 {
	u32 slot, flags;
	u64 guest_phys_addr, memory_size, userspace_addr, guest_memfd_offset;
	u32 guest_memfd, pad1;
	u64 pad2[14];
};

#define KVM_SET_USER_MEMORY_REGION2 _IOW(KVMIO, 0x49, struct kvm_userspace_memory_region2)
#endif

/* Linux 6.11's */
#ifndef KVM_CAP_PRE_FAULT_MEMORY
#define KVM_CAP_PRE_FAULT_MEMORY	236
struct kvm_pre_fault_memory {
	u64 gpa, size, flags, padding[5];
};

#define KVM_PRE_FAULT_MEMORY	_IOWR(KVMIO, 0xd5, struct kvm_pre_fault_memory)
#endif

#define PAGE_SIZE	4096UL
#define MAX_VCPUS	64

#define LOW_SIZE	0x400000UL	/* and IMAGE_BASE, see the linker's default */
#define GPA_GDT		0x1000UL
#define GPA_IDT		0x2000UL
#define GPA_TSS		0x3000UL	/* 128 bytes per vCPU */
#define TSS_STRIDE	128
#define GPA_REAL	0x8000UL	/* real-mode code, one page */
#define GPA_PML4	0x10000UL
#define GPA_PDPT	0x11000UL
#define GPA_PD		0x12000UL	/* four of them: 0 .. 4 GiB in 2M pages */
#define GPA_PAE_PDPT	0x16000UL
#define GPA_PT		0x17000UL	/* free for a test's own tables */
#define GPA_SCRATCH	0x20000UL	/* free for the test */
#define GPA_STACKS	0x200000UL
#define STACK_SIZE	0x4000UL

#define SLOT_LOW	0
#define SLOT_IMAGE	1
#define SLOT_USER	2		/* first slot a test may use */

#define GPA_MMIO	0x10000000UL	/* never backed by the library */
#define GPA_USER	0x20000000UL	/* where tests put slots of their own */

/* Selectors in the GDT that the library lays out. */
#define SEL_CODE64	0x08
#define SEL_DATA	0x10
#define SEL_CODE32	0x18
#define SEL_UCODE64	0x23
#define SEL_UDATA	0x2b
#define SEL_TSS		0x40		/* + 16 * vCPU */

struct vm;

struct vcpu {
	struct vm *vm;
	int fd;
	int id;
	struct kvm_run *run;
	pthread_t thread;
	void *(*thread_fn)(void *vcpu);
	volatile pid_t tid;	/* of the thread, 0 before it runs */
	bool threaded;
	bool retry_efault;	/* memory is away for a while: access it again */
	u32 efaults;
	u64 sync;		/* value of the last guest_sync() */
	char out[256];		/* what the guest printed */
	unsigned int out_len;
};

struct vm {
	int dev;
	int fd;
	size_t run_size;
	void *low;
	struct vcpu vcpu[MAX_VCPUS];
	int nr_vcpus;
};

/* What ended guest_run(). */
enum ucall {
	UCALL_NONE,		/* another exit: look at run->exit_reason */
	UCALL_SYNC,		/* guest_sync(value) */
	UCALL_DONE,		/* guest_done() */
	UCALL_ABORT,		/* a GUEST_ASSERT failed; it has been printed */
};

#define VM_IRQCHIP	0x1	/* PIC, IOAPIC and LAPICs in the kernel */
#define VM_SPLIT	0x2	/* LAPICs only */
#define VM_PIT		0x4
#define VM_NO_MEMORY	0x8
#define VM_LOW_SHARED	0x10	/* slot 0 is shared memory: survives fork() */

extern const char *keel_device;
extern unsigned int keel_scale;	/* of loops that are heavy under an emulator */

__attribute__((format(printf, 1, 2), noreturn)) void fail(const char *fmt, ...);

void on_cpu(int cpu);	/* this thread, and those that it starts, only there */
int dev_open(void);
bool dev_is_kvm(void);		/* stock KVM, by the path's last component */
bool host_is_amd(void);
bool host_is_bochs_svm(void);	/* Bochs' AMD-V, with faults of its own */
bool host_is_bochs_vmx(void);	/* Bochs' VT-x, with others */
bool host_is_debug_kernel(void);	/* scripts/kernels/debug.config: slow */
bool file_has_word(const char *path, const char *key, const char *word);
bool host_has_module_param(const char *path, char value);
bool host_write(const char *path, const char *text);
int dev_cap(long cap);
int sys_ioctl(int fd, unsigned long cmd, const void *arg);

void vm_create_fd(struct vm *vm);	/* of a VM whose device is open: no memory, nothing set */
struct vm *vm_create(unsigned int flags);
void vm_add_memory(struct vm *vm, unsigned int flags);	/* what vm_create() gives */
void vm_destroy(struct vm *vm);
int vm_cap(struct vm *vm, long cap);
int vm_slot(struct vm *vm, u32 slot, u32 flags, u64 gpa, u64 size, const void *hva);
void *vm_add_slot(struct vm *vm, u32 slot, u32 flags, u64 gpa, u64 size);
int vm_irq_line(struct vm *vm, u32 gsi, int level);
u64 vm_stat(struct vm *vm, const char *name);	/* of KVM_GET_STATS_FD */
u64 vcpu_stat(struct vcpu *vcpu, const char *name);
void vm_ioctl(struct vm *vm, unsigned long cmd, const void *arg, const char *name);
#define VM_IOCTL(vm, cmd, arg)	vm_ioctl(vm, cmd, arg, #cmd)

struct vcpu *vcpu_create(struct vm *vm);		/* next id, CPUID set */
struct vcpu *vcpu_create_bare(struct vm *vm, int id);	/* nothing set */
void vcpu_close(struct vcpu *vcpu);
void vcpu_ioctl(struct vcpu *vcpu, unsigned long cmd, const void *arg, const char *name);
#define VCPU_IOCTL(vcpu, cmd, arg) vcpu_ioctl(vcpu, cmd, arg, #cmd)
int vcpu_run(struct vcpu *vcpu);	/* 0 or -errno, one KVM_RUN */
enum ucall guest_run(struct vcpu *vcpu);
void guest_run_done(struct vcpu *vcpu);	/* run until guest_done(), else fail */
u64 guest_run_sync(struct vcpu *vcpu);	/* run until guest_sync(), else fail */
void vcpu_complete_io(struct vcpu *vcpu);
void vcpu_start(struct vcpu *vcpu);	/* guest_run_done() in a thread */
void vcpu_start_fn(struct vcpu *vcpu, void *(*fn)(void *));
void vcpu_join(struct vcpu *vcpu);
void vcpu_kick(struct vcpu *vcpu);	/* SIGUSR1 to its thread, EINTR there */
void vcpu_wait_asleep(struct vcpu *vcpu);	/* until its thread waits in HLT */
const char *exit_name(u32 reason);

struct kvm_cpuid2 *cpuid_supported(int dev);
struct kvm_cpuid_entry2 *cpuid_find(struct kvm_cpuid2 *cpuid, u32 leaf, u32 index);
void vcpu_set_cpuid(struct vcpu *vcpu);
u64 vcpu_get_msr(struct vcpu *vcpu, u32 msr);
int vcpu_set_msr(struct vcpu *vcpu, u32 msr, u64 val);	/* entries taken: 0 or 1 */
int vcpu_try_get_msr(struct vcpu *vcpu, u32 msr, u64 *val);
void vcpu_regs(struct vcpu *vcpu, struct kvm_regs *regs);
void vcpu_sregs(struct vcpu *vcpu, struct kvm_sregs *sregs);
u64 vcpu_rip(struct vcpu *vcpu);

/* modes.c: put a vCPU into a mode, at an entry point, ready to run. */
void vcpu_set_long(struct vcpu *vcpu, void (*entry)(void));
void vcpu_set_long_arg(struct vcpu *vcpu, void (*entry)(void), u64 arg);
void vcpu_set_prot32(struct vcpu *vcpu, const void *entry);
void vcpu_set_pae(struct vcpu *vcpu, const void *entry);
/* Copy code that lies between two labels to GPA_REAL and start it there. */
void vcpu_set_real(struct vcpu *vcpu, const void *start, const void *end);
void *low(struct vm *vm, u64 gpa);

#endif
