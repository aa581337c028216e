// SPDX-License-Identifier: GPL-2.0-only
/* VMs, vCPUs, memory slots and the run loop of the test library. */

#include <errno.h>
#include <fcntl.h>
#include <link.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "guest.h"
#include "vm.h"

const char *keel_device = "/dev/keel";
unsigned int keel_scale = 1;

void fail(const char *fmt, ...)
{
	int err = errno;
	va_list ap;

	fflush(stdout);
	fprintf(stderr, "# ");
	va_start(ap, fmt);
	vfprintf(stderr, fmt, ap);
	va_end(ap);
	fprintf(stderr, " (errno %d: %s)\n", err, strerror(err));
	fflush(stderr);
	_exit(1);
}

void on_cpu(int cpu)
{
	cpu_set_t one;

	CPU_ZERO(&one);
	CPU_SET(cpu, &one);
	if (sched_setaffinity(0, sizeof(one), &one))
		fail("CPU %d: %s", cpu, strerror(errno));
}

int dev_open(void)
{
	int fd = open(keel_device, O_RDWR | O_CLOEXEC);

	if (fd < 0)
		fail("open %s", keel_device);
	return fd;
}

bool dev_is_kvm(void)
{
	const char *name = strrchr(keel_device, '/');

	return !strcmp(name ? name + 1 : keel_device, "kvm");
}

bool host_is_amd(void)
{
	u32 a = 0, b, c = 0, d;

	asm volatile("cpuid" : "+a"(a), "=b"(b), "+c"(c), "=d"(d));
	return b == 0x68747541 || b == 0x6f677948;	/* "Auth", "Hygo" */
}

/* scripts/host says which emulator it is: Bochs is the one it has for VMX. */
static bool host_is_bochs(void)
{
	const char *host = getenv("KEEL_HOST");

	return host && !strcmp(host, "vmx");
}

bool host_is_bochs_svm(void)
{
	return host_is_bochs() && host_is_amd();
}

bool host_is_bochs_vmx(void)
{
	return host_is_bochs() && !host_is_amd();
}

bool host_is_debug_kernel(void)
{
	struct utsname name;

	return !uname(&name) && strstr(name.release, "-debug");
}

/* Whether a line that starts with @key has @word, among blanks. */
bool file_has_word(const char *path, const char *key, const char *word)
{
	char *line = NULL, *at, *save;
	FILE *f = fopen(path, "r");
	bool found = false;
	size_t size = 0;

	while (f && !found && getline(&line, &size, f) > 0) {
		if (strncmp(line, key, strlen(key)))
			continue;
		for (at = strtok_r(line, " \t\n", &save); at && !found;
		     at = strtok_r(NULL, " \t\n", &save))
			found = !strcmp(at, word);
	}
	free(line);
	if (f)
		fclose(f);
	return found;
}

/* Whether a module parameter in sysfs exists and starts with @value. */
bool host_has_module_param(const char *path, char value)
{
	int fd = open(path, O_RDONLY);
	char c = 0;
	bool ok;

	if (fd < 0)
		return false;
	ok = read(fd, &c, 1) == 1 && c == value;
	close(fd);
	return ok;
}

/* As a shell's "echo text >path": files of sysfs, tracefs, cgroups. */
bool host_write(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_TRUNC);
	bool ok;

	if (fd < 0)
		return false;
	ok = write(fd, text, strlen(text)) == (ssize_t)strlen(text);
	close(fd);
	return ok;
}

/* ioctl with the error as a negative number, for one-line expectations. */
int sys_ioctl(int fd, unsigned long cmd, const void *arg)
{
	int ret = ioctl(fd, cmd, arg);

	return ret < 0 ? -errno : ret;
}

int dev_cap(long cap)
{
	int fd = dev_open();
	int ret = ioctl(fd, KVM_CHECK_EXTENSION, cap);

	close(fd);
	return ret;
}

int vm_cap(struct vm *vm, long cap)
{
	return ioctl(vm->fd, KVM_CHECK_EXTENSION, cap);
}

void vm_ioctl(struct vm *vm, unsigned long cmd, const void *arg, const char *name)
{
	if (ioctl(vm->fd, cmd, arg) < 0)
		fail("VM ioctl %s", name);
}

void vcpu_ioctl(struct vcpu *vcpu, unsigned long cmd, const void *arg, const char *name)
{
	if (ioctl(vcpu->fd, cmd, arg) < 0)
		fail("vCPU %d ioctl %s", vcpu->id, name);
}

int vm_slot(struct vm *vm, u32 slot, u32 flags, u64 gpa, u64 size, const void *hva)
{
	struct kvm_userspace_memory_region r = {
		.slot = slot,
		.flags = flags,
		.guest_phys_addr = gpa,
		.memory_size = size,
		.userspace_addr = (uintptr_t)hva,
	};

	return sys_ioctl(vm->fd, KVM_SET_USER_MEMORY_REGION, &r);
}

void *vm_add_slot(struct vm *vm, u32 slot, u32 flags, u64 gpa, u64 size)
{
	void *hva = mmap(NULL, size, PROT_READ | PROT_WRITE,
			 MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	int ret;

	if (hva == MAP_FAILED)
		fail("mmap of %llu bytes", (unsigned long long)size);
	ret = vm_slot(vm, slot, flags, gpa, size, hva);
	if (ret)
		fail("slot %u at %#llx: %d", slot, (unsigned long long)gpa, ret);
	return hva;
}

struct image {
	uintptr_t start, end;
};

/*
 * The loaded segments of this program. Writable pages are touched, so that a
 * test process does not share them with its parent any more: what the guest
 * sees then does not hang on MMU notifiers, which have tests of their own.
 */
static int find_image(struct dl_phdr_info *info, size_t size, void *data)
{
	struct image *image = data;

	(void)size;
	for (int i = 0; i < info->dlpi_phnum; i++) {
		const ElfW(Phdr) *ph = &info->dlpi_phdr[i];
		uintptr_t start, end;

		if (ph->p_type != PT_LOAD)
			continue;
		start = ph->p_vaddr & -PAGE_SIZE;
		end = (ph->p_vaddr + ph->p_memsz + PAGE_SIZE - 1) & -PAGE_SIZE;
		if (!image->start || start < image->start)
			image->start = start;
		if (end > image->end)
			image->end = end;
		for (; (ph->p_flags & PF_W) && start < end; start += PAGE_SIZE) {
			volatile char *c = (volatile char *)start;

			*c = *c;
		}
	}
	return 1;
}

void vm_add_memory(struct vm *vm, unsigned int flags)
{
	struct image image = { 0 };
	int ret;

	vm->low = mmap(NULL, LOW_SIZE, PROT_READ | PROT_WRITE, MAP_ANONYMOUS |
		       (flags & VM_LOW_SHARED ? MAP_SHARED : MAP_PRIVATE), -1, 0);
	if (vm->low == MAP_FAILED)
		fail("mmap of guest memory");
	ret = vm_slot(vm, SLOT_LOW, 0, 0, LOW_SIZE, vm->low);
	if (ret)
		fail("slot 0: %d", ret);

	dl_iterate_phdr(find_image, &image);
	if (image.start != LOW_SIZE)
		fail("program linked at %#lx", (unsigned long)image.start);
	ret = vm_slot(vm, SLOT_IMAGE, 0, image.start, image.end - image.start,
		      (void *)image.start);
	if (ret)
		fail("slot 1, the program: %d", ret);
	guest_tables(vm);
}

void vm_create_fd(struct vm *vm)
{
	vm->fd = ioctl(vm->dev, KVM_CREATE_VM, 0);
	if (vm->fd < 0)
		fail("KVM_CREATE_VM");
	vm->run_size = ioctl(vm->dev, KVM_GET_VCPU_MMAP_SIZE, 0);
	if (vm->run_size < sizeof(struct kvm_run))
		fail("KVM_GET_VCPU_MMAP_SIZE: %zd", vm->run_size);
}

struct vm *vm_create(unsigned int flags)
{
	struct vm *vm = calloc(1, sizeof(*vm));

	vm->dev = dev_open();
	vm_create_fd(vm);
	/* VMX without unrestricted guest wants it; all others accept it. */
	if (ioctl(vm->fd, KVM_SET_TSS_ADDR, 0xfffbd000UL))
		fail("KVM_SET_TSS_ADDR");
	if (!(flags & VM_NO_MEMORY))
		vm_add_memory(vm, flags);
	if (flags & VM_IRQCHIP)
		VM_IOCTL(vm, KVM_CREATE_IRQCHIP, NULL);
	if (flags & VM_SPLIT) {
		struct kvm_enable_cap cap = {
			.cap = KVM_CAP_SPLIT_IRQCHIP, .args = { 24 },
		};

		VM_IOCTL(vm, KVM_ENABLE_CAP, &cap);
	}
	if (flags & VM_PIT) {
		struct kvm_pit_config pit = { .flags = KVM_PIT_SPEAKER_DUMMY };

		VM_IOCTL(vm, KVM_CREATE_PIT2, &pit);
	}
	return vm;
}

void vm_destroy(struct vm *vm)
{
	for (int i = 0; i < vm->nr_vcpus; i++)
		vcpu_close(&vm->vcpu[i]);
	close(vm->fd);
	close(vm->dev);
	if (vm->low)
		munmap(vm->low, LOW_SIZE);
	free(vm);
}

struct vcpu *vcpu_create_bare(struct vm *vm, int id)
{
	struct vcpu *vcpu = &vm->vcpu[vm->nr_vcpus];

	if (vm->nr_vcpus == MAX_VCPUS)
		fail("more than %d vCPUs", MAX_VCPUS);
	vcpu->vm = vm;
	vcpu->id = id;
	vcpu->fd = ioctl(vm->fd, KVM_CREATE_VCPU, id);
	if (vcpu->fd < 0)
		fail("KVM_CREATE_VCPU %d", id);
	vcpu->run = mmap(NULL, vm->run_size, PROT_READ | PROT_WRITE, MAP_SHARED,
			 vcpu->fd, 0);
	if (vcpu->run == MAP_FAILED)
		fail("mmap of vCPU %d", id);
	vm->nr_vcpus++;
	return vcpu;
}

struct vcpu *vcpu_create(struct vm *vm)
{
	struct vcpu *vcpu = vcpu_create_bare(vm, vm->nr_vcpus);

	vcpu_set_cpuid(vcpu);
	return vcpu;
}

void vcpu_close(struct vcpu *vcpu)
{
	if (vcpu->run)
		munmap(vcpu->run, vcpu->vm->run_size);
	if (vcpu->fd >= 0)
		close(vcpu->fd);
	vcpu->run = NULL;
	vcpu->fd = -1;
}

int vcpu_run(struct vcpu *vcpu)
{
	return sys_ioctl(vcpu->fd, KVM_RUN, NULL);
}

static void report_abort(struct vcpu *vcpu)
{
	fprintf(stderr, "# guest, vCPU %d: %s:%d: %s (%#llx, %#llx)\n", vcpu->id,
		guest_report.file, guest_report.line, guest_report.what,
		(unsigned long long)guest_report.a,
		(unsigned long long)guest_report.b);
}

static enum ucall handle_port(struct vcpu *vcpu)
{
	struct kvm_run *run = vcpu->run;
	u8 *data = (u8 *)run + run->io.data_offset;
	u32 value = 0;

	if (run->io.direction != KVM_EXIT_IO_OUT || run->io.count != 1)
		return UCALL_NONE;
	memcpy(&value, data, run->io.size);
	switch (run->io.port) {
	case PORT_SYNC:
		vcpu->sync = value;
		return UCALL_SYNC;
	case PORT_DONE:
		return UCALL_DONE;
	case PORT_ABORT:
		report_abort(vcpu);
		return UCALL_ABORT;
	default:
		return UCALL_NONE;
	}
}

/*
 * Run until the guest says something. Characters it prints are gathered in
 * vcpu->out; signals and EAGAIN (an AP that has just been started) loop.
 */
enum ucall guest_run(struct vcpu *vcpu)
{
	for (;;) {
		int ret = vcpu_run(vcpu);

		if (ret == -EINTR || ret == -EAGAIN)
			continue;
		if (ret == -EFAULT && vcpu->retry_efault) {
			vcpu->efaults++;
			sched_yield();
			continue;
		}
		if (ret < 0) {
			errno = -ret;
			fail("KVM_RUN of vCPU %d at %#llx", vcpu->id,
			     (unsigned long long)vcpu_rip(vcpu));
		}
		if (vcpu->run->exit_reason != KVM_EXIT_IO)
			return UCALL_NONE;
		if (vcpu->run->io.port == PORT_PUTC &&
		    vcpu->run->io.direction == KVM_EXIT_IO_OUT) {
			if (vcpu->out_len < sizeof(vcpu->out) - 1)
				vcpu->out[vcpu->out_len++] =
					*((char *)vcpu->run + vcpu->run->io.data_offset);
			continue;
		}
		return handle_port(vcpu);
	}
}

__attribute__((noreturn))
static void fail_exit(struct vcpu *vcpu, enum ucall uc, const char *want)
{
	struct kvm_run *run = vcpu->run;

	errno = 0;
	if (uc == UCALL_ABORT)
		fail("the guest failed");
	if (uc == UCALL_SYNC)
		fail("vCPU %d: sync %llu instead of %s", vcpu->id,
		     (unsigned long long)vcpu->sync, want);
	if (uc == UCALL_DONE)
		fail("vCPU %d: done instead of %s", vcpu->id, want);
	if (run->exit_reason == KVM_EXIT_INTERNAL_ERROR)
		fail("vCPU %d: internal error %u at %#llx", vcpu->id,
		     run->internal.suberror, (unsigned long long)vcpu_rip(vcpu));
	if (run->exit_reason == KVM_EXIT_MMIO)
		fail("vCPU %d: MMIO %s %#llx len %u at %#llx", vcpu->id,
		     run->mmio.is_write ? "write" : "read",
		     (unsigned long long)run->mmio.phys_addr, run->mmio.len,
		     (unsigned long long)vcpu_rip(vcpu));
	fail("vCPU %d: exit %u (%s) at %#llx instead of %s", vcpu->id,
	     run->exit_reason, exit_name(run->exit_reason),
	     (unsigned long long)vcpu_rip(vcpu), want);
}

void guest_run_done(struct vcpu *vcpu)
{
	enum ucall uc = guest_run(vcpu);

	if (uc != UCALL_DONE)
		fail_exit(vcpu, uc, "done");
}

u64 guest_run_sync(struct vcpu *vcpu)
{
	enum ucall uc = guest_run(vcpu);

	if (uc != UCALL_SYNC)
		fail_exit(vcpu, uc, "sync");
	return vcpu->sync;
}

/* Finish a pending port or MMIO access without running the guest. */
void vcpu_complete_io(struct vcpu *vcpu)
{
	int ret;

	vcpu->run->immediate_exit = 1;
	ret = vcpu_run(vcpu);
	vcpu->run->immediate_exit = 0;
	if (ret != -EINTR)
		fail("KVM_RUN with immediate_exit: %d", ret);
}

static void on_kick(int sig)
{
	(void)sig;
}

static void *run_done_thread(void *arg)
{
	guest_run_done(arg);
	return NULL;
}

static void *vcpu_thread(void *arg)
{
	struct vcpu *vcpu = arg;

	vcpu->tid = gettid();
	return vcpu->thread_fn(vcpu);
}

void vcpu_start_fn(struct vcpu *vcpu, void *(*fn)(void *))
{
	struct sigaction sa = { .sa_handler = on_kick };

	sigaction(SIGUSR1, &sa, NULL);
	vcpu->thread_fn = fn;
	vcpu->tid = 0;
	if (pthread_create(&vcpu->thread, NULL, vcpu_thread, vcpu))
		fail("pthread_create");
	vcpu->threaded = true;
}

void vcpu_start(struct vcpu *vcpu)
{
	vcpu_start_fn(vcpu, run_done_thread);
}

void vcpu_join(struct vcpu *vcpu)
{
	if (vcpu->threaded)
		pthread_join(vcpu->thread, NULL);
	vcpu->threaded = false;
}

void vcpu_kick(struct vcpu *vcpu)
{
	pthread_kill(vcpu->thread, SIGUSR1);
}

static char thread_state(pid_t tid)
{
	char path[64], state = 0;
	FILE *f;

	snprintf(path, sizeof(path), "/proc/self/task/%d/stat", tid);
	f = fopen(path, "r");
	if (!f)
		return 0;
	if (fscanf(f, "%*d (%*[^)]) %c", &state) != 1)
		state = 0;
	fclose(f);
	return state;
}

/*
 * What KVM_RUN waits for otherwise (pages, locks, a grace period) is
 * uninterruptible: an interruptible sleep is HLT's.
 */
void vcpu_wait_asleep(struct vcpu *vcpu)
{
	for (int i = 0; i < 20000; i++) {
		if (vcpu->tid && thread_state(vcpu->tid) == 'S')
			return;
		usleep(1000);
	}
	fail("vCPU %d does not sleep", vcpu->id);
}

int vm_irq_line(struct vm *vm, u32 gsi, int level)
{
	struct kvm_irq_level irq = { .irq = gsi, .level = level };

	return sys_ioctl(vm->fd, KVM_IRQ_LINE, &irq);
}

static u64 stat_of(int of, const char *name)
{
	int fd = ioctl(of, KVM_GET_STATS_FD, NULL);
	struct kvm_stats_header head;
	struct kvm_stats_desc *desc;
	size_t size;
	u64 val = 0;

	if (fd < 0 || pread(fd, &head, sizeof(head), 0) != sizeof(head))
		fail("KVM_GET_STATS_FD");
	size = sizeof(*desc) + head.name_size;
	desc = malloc(size);
	for (u32 i = 0; i < head.num_desc; i++) {
		if (pread(fd, desc, size, head.desc_offset + i * size) != (ssize_t)size)
			fail("statistics descriptor %u", i);
		if (strcmp(desc->name, name))
			continue;
		if (pread(fd, &val, 8, head.data_offset + desc->offset) != 8)
			fail("statistic %s", name);
		free(desc);
		close(fd);
		return val;
	}
	fail("no statistic %s", name);
}

u64 vm_stat(struct vm *vm, const char *name)
{
	return stat_of(vm->fd, name);
}

u64 vcpu_stat(struct vcpu *vcpu, const char *name)
{
	return stat_of(vcpu->fd, name);
}

const char *exit_name(u32 reason)
{
	static const char * const names[] = {
		[KVM_EXIT_UNKNOWN] = "UNKNOWN",
		[KVM_EXIT_EXCEPTION] = "EXCEPTION",
		[KVM_EXIT_IO] = "IO",
		[KVM_EXIT_HYPERCALL] = "HYPERCALL",
		[KVM_EXIT_DEBUG] = "DEBUG",
		[KVM_EXIT_HLT] = "HLT",
		[KVM_EXIT_MMIO] = "MMIO",
		[KVM_EXIT_IRQ_WINDOW_OPEN] = "IRQ_WINDOW_OPEN",
		[KVM_EXIT_SHUTDOWN] = "SHUTDOWN",
		[KVM_EXIT_FAIL_ENTRY] = "FAIL_ENTRY",
		[KVM_EXIT_INTR] = "INTR",
		[KVM_EXIT_INTERNAL_ERROR] = "INTERNAL_ERROR",
		[KVM_EXIT_IOAPIC_EOI] = "IOAPIC_EOI",
	};

	if (reason < sizeof(names) / sizeof(names[0]) && names[reason])
		return names[reason];
	return "?";
}
