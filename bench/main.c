// SPDX-License-Identifier: GPL-2.0-only
/* Measures operations of a hypervisor that speaks KVM's ABI, in ticks of the TSC. */

#include <errno.h>
#include <fnmatch.h>
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "bench.h"

#define WARM_UP		2	/* batches that are not counted */
#define MAX_REPEAT	1000
#define MAX_OTHERS	1024	/* VMs */

volatile u32 guest_n;
volatile u64 guest_ticks;
volatile u64 guest_value;

static u32 repeat = 5;
static u64 loop_cost[3];	/* by enum bench_loop, of 1,000 rounds of an empty loop */

struct surroundings around;

static const struct bench_op * const all_ops[] = {
	exit_ops, call_ops, irq_ops, memory_ops, footprint_ops,
};

static void usage(FILE *to)
{
	fprintf(to,
"Usage: bench [OPTION...] DEVICE [OPERATION...]\n"
"       bench --growth [OPTION...] DEVICE AXIS...\n"
"       bench --parallel DEVICE\n"
"       bench --boot -- DEVICE WORD VMM ARG...\n"
"\n"
"Measures on DEVICE, /dev/keel or /dev/kvm, what operations cost, in ticks of\n"
"the TSC: instructions where an emulator counts these, else cycles of the TSC.\n"
"OPERATION is a name or a shell pattern; by default all are measured. Prints a\n"
"line for each: name, ticks, operations in a batch, lowest, highest batch; and\n"
"\"end\" when all were measured.\n"
"\n"
"  -l, --list      the operations: name, kind, title\n"
"  -r, --repeat N  batches of which the median counts (default 5)\n"
"  --memory MIB    size of the slot in operations on one (default 1024), and of\n"
"                  one beside it that takes no part\n"
"  --dirty N       pages of it that are written between two dirty logs (default\n"
"                  1000), and as many of the one beside\n"
"  --slots N       more of these, of a page each\n"
"  --vcpus N       in the VM in all; the others do not run\n"
"  --vms N         in all\n"
"  --growth        a few operations with more and more of AXIS, which is one of the\n"
"                  last five options; each line has the axis and the number in front\n"
"  --parallel      faults of 1 to 8 vCPUs side by side: vCPUs, pages per second\n"
"                  when they are of one VM, and when they are of one each\n"
"  --boot          keel's VMM on DEVICE, from start to end: \"ticks\", and the kernel's\n"
"                  counters of the first vCPU; WORD must be in what the guest prints\n"
"  -v, --verbose   say on standard error what is being measured\n"
"  -h, --help\n"
"\n"
"Ends with 1 when an operation did not happen as it should.\n");
	exit(to == stderr ? 2 : 0);
}

/* Run the guest up to where it has done a batch and reports. */
void batch_guest(struct bench *b)
{
	guest_run_sync(b->vcpu);
	b->ticks = guest_ticks;
}

static void one_batch(struct bench *b)
{
	const struct bench_op *op = b->op;
	u64 before = 0, exits;

	guest_n = b->n;
	guest_ticks = 0;
	guest_value = 0;
	if (op->before)
		op->before(b);
	if (op->exits)
		before = vcpu_stat(b->vcpu, "exits");
	if (op->batch)
		op->batch(b);
	else
		batch_guest(b);
	if (op->exits) {
		exits = vcpu_stat(b->vcpu, "exits") - before;
		/* The host's interrupts are exits, too. */
		if (exits < b->n || exits > b->n * op->exits + b->n / 8 + 50)
			fail("%s: %llu exits in %u operations", op->name,
			     (unsigned long long)exits, b->n);
	}
	if (op->check)
		op->check(b);
	if (!b->ticks)
		fail("%s: nothing was measured", op->name);
}

int by_value(const void *a, const void *b)
{
	u64 x = *(const u64 *)a, y = *(const u64 *)b;

	return x < y ? -1 : x > y;
}

/* The guest's address space beyond the library's 4 GiB, flat. */
void map_high(struct vm *vm)
{
	u64 *pdpt = low(vm, GPA_PDPT);

	for (u64 i = 4; i < 512; i++)
		pdpt[i] = i << 30 | PTE_P | PTE_W | PTE_PS | PTE_A | PTE_D;
}

/* Not adjacent. */
void add_slots(struct vm *vm)
{
	static char page[PAGE_SIZE] __attribute__((aligned(PAGE_SIZE)));

	for (u32 i = 0; i < around.slots; i++) {
		if (vm_slot(vm, SLOT_MANY + i, 0, GPA_SLOTS + i * 2 * PAGE_SIZE, PAGE_SIZE, page))
			fail("slot %u of %u", i, around.slots);
	}
}

static void guest_once(void)
{
	guest_done();
}

void add_vcpu(struct vm *vm)
{
	struct vcpu *vcpu = vcpu_create(vm);

	vcpu_set_long(vcpu, guest_once);
	guest_run_done(vcpu);
}

/* The operation's own vCPUs, which its setup() made, come first. */
static void surround(struct bench *b)
{
	if (around.memory || around.dirty)
		add_memory_beside(b);
	add_slots(b->vm);
	while ((u32)b->vm->nr_vcpus < around.vcpus)
		add_vcpu(b->vm);
}

/*
 * The other VMs are another process's, as those of other clients are. It waits to
 * be killed.
 */
static pid_t start_others(void)
{
	int ready[2];
	pid_t pid;
	char c;

	if (around.vms < 2)
		return 0;
	if (pipe(ready))
		fail("pipe");
	pid = fork();
	if (pid < 0)
		fail("fork");
	if (!pid) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		for (u32 i = 1; i < around.vms; i++)
			add_vcpu(vm_create(VM_IRQCHIP));
		if (write(ready[1], "", 1) != 1)
			fail("write to a pipe");
		for (;;)
			pause();
	}
	close(ready[1]);
	if (read(ready[0], &c, 1) != 1)
		fail("the other VMs");
	close(ready[0]);
	return pid;
}

static void stop_others(pid_t pid)
{
	if (!pid)
		return;
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
}

/*
 * In thousandths of a tick, what the loop itself costs taken out; sorted. Returns
 * why it was not measured, or NULL.
 */
static const char *measure(const struct bench_op *op, u64 *cost)
{
	struct bench b = { .op = op, .n = op->n, .fd = -1 };
	pid_t others = start_others();

	if (!op->no_vm) {
		b.vm = vm_create(op->vm_flags);
		b.vcpu = vcpu_create(b.vm);
		map_high(b.vm);
	}
	if (op->setup)
		op->setup(&b);
	if (b.skip)
		goto out;
	if (b.vm)
		surround(&b);
	if (op->guest) {
		vcpu_set_long(b.vcpu, op->guest);
		guest_run_sync(b.vcpu);
	}
	for (u32 i = 0; i < WARM_UP + repeat; i++) {
		u64 each;

		one_batch(&b);
		if (i < WARM_UP)
			continue;
		each = b.ticks * 1000 / b.n;
		cost[i - WARM_UP] = each - (each > loop_cost[op->loop] ? loop_cost[op->loop] : 0);
	}
	qsort(cost, repeat, sizeof(*cost), by_value);
out:
	if (op->cleanup)
		op->cleanup(&b);
	if (b.vm)
		vm_destroy(b.vm);
	remove_memory_beside();
	stop_others(others);
	return b.skip;
}

static void guest_empty(void)
{
	GUEST_BATCHES(, );
}

static void host_empty(struct bench *b)
{
	HOST_BATCH(b, );
}

static void measure_loops(void)
{
	static const struct bench_op empty[] = {
		[LOOP_GUEST] = { .name = "empty guest loop", .n = 10000, .guest = guest_empty },
		[LOOP_HOST] = { .name = "empty host loop", .n = 10000, .no_vm = true,
				.batch = host_empty },
	};
	u64 cost[MAX_REPEAT];

	for (int i = 0; i < 2; i++) {
		measure(&empty[i], cost);
		loop_cost[i] = cost[repeat / 2];
	}
}

static void print_ticks(u64 thousandths)
{
	printf(",%llu.%llu", (unsigned long long)thousandths / 1000,
	       (unsigned long long)thousandths / 100 % 10);
}

static bool wanted(const struct bench_op *op, int argc, char **argv)
{
	for (int i = 0; i < argc; i++) {
		if (!fnmatch(argv[i], op->name, 0))
			return true;
	}
	return !argc;
}

void measure_and_print(const struct bench_op *op, const char *prefix)
{
	u64 cost[MAX_REPEAT];
	const char *skip = measure(op, cost);

	if (skip) {
		fprintf(stderr, "%s: skipped: %s\n", op->name, skip);
		return;
	}
	printf("%s%s", prefix, op->name);
	print_ticks(cost[repeat / 2]);
	printf(",%u", op->n);
	print_ticks(cost[0]);
	print_ticks(cost[repeat - 1]);
	printf("\n");
	fflush(stdout);
}

const struct bench_op *find_op(const char *name)
{
	for (unsigned int i = 0; i < sizeof(all_ops) / sizeof(all_ops[0]); i++) {
		for (const struct bench_op *op = all_ops[i]; op->name; op++) {
			if (!strcmp(op->name, name))
				return op;
		}
	}
	fail("no operation %s", name);
}

static int run(bool list, bool verbose, int argc, char **argv)
{
	bool any = false;

	for (unsigned int i = 0; i < sizeof(all_ops) / sizeof(all_ops[0]); i++) {
		for (const struct bench_op *op = all_ops[i]; op->name; op++) {
			if (!wanted(op, argc, argv))
				continue;
			any = true;
			if (list) {
				printf("%s\t%s\t%s\n", op->name, op->kind, op->title);
				continue;
			}
			if (verbose)
				fprintf(stderr, "%s\n", op->name);
			measure_and_print(op, "");
		}
	}
	if (!any)
		fprintf(stderr, "bench: no such operation (--list)\n");
	else if (!list)
		printf("end\n");
	return any ? 0 : 2;
}

static int run_growth(int argc, char **argv)
{
	for (int i = 0; i < argc; i++) {
		if (!measure_growth(argv[i])) {
			fprintf(stderr, "bench: nothing grows by %s (--help)\n", argv[i]);
			return 2;
		}
	}
	printf("end\n");
	return 0;
}

/* The option's argument. */
static u32 number(u32 min, u32 max)
{
	char *end;
	unsigned long val = strtoul(optarg, &end, 10);

	if (*end || end == optarg || val < min || val > max) {
		fprintf(stderr, "bench: %s is no number from %u to %u\n", optarg, min, max);
		exit(2);
	}
	return val;
}

int main(int argc, char **argv)
{
	static const struct option options[] = {
		{ "list", no_argument, NULL, 'l' },
		{ "repeat", required_argument, NULL, 'r' },
		{ "memory", required_argument, NULL, 'm' },
		{ "dirty", required_argument, NULL, 'd' },
		{ "slots", required_argument, NULL, 'S' },
		{ "vcpus", required_argument, NULL, 'C' },
		{ "vms", required_argument, NULL, 'V' },
		{ "growth", no_argument, NULL, 'g' },
		{ "parallel", no_argument, NULL, 'p' },
		{ "boot", no_argument, NULL, 'b' },
		{ "verbose", no_argument, NULL, 'v' },
		{ "help", no_argument, NULL, 'h' },
		{ }
	};
	bool list = false, verbose = false, growth = false, parallel = false, boot = false;
	int c;

	while ((c = getopt_long(argc, argv, "lr:vh", options, NULL)) != -1) {
		switch (c) {
		case 'l':
			list = true;
			break;
		case 'r':
			repeat = number(1, MAX_REPEAT);
			break;
		case 'm':
			around.memory = (u64)number(1, 124 << 10) << 20;
			break;
		case 'd':
			around.dirty = number(1, 1 << 20);
			break;
		case 'S':
			around.slots = number(0, 32000);
			break;
		case 'C':
			around.vcpus = number(1, MAX_VCPUS);
			break;
		case 'V':
			around.vms = number(1, MAX_OTHERS);
			break;
		case 'g':
			growth = true;
			break;
		case 'p':
			parallel = true;
			break;
		case 'b':
			boot = true;
			break;
		case 'v':
			verbose = true;
			break;
		case 'h':
			usage(stdout);
			break;
		default:
			usage(stderr);
		}
	}
	argc -= optind;
	argv += optind;
	if (list)
		return run(true, false, argc, argv);
	if (!argc || (growth && argc < 2) || (boot && argc < 3))
		usage(stderr);
	keel_device = argv[0];
	if (parallel || boot) {
		if (parallel)
			measure_parallel();
		else
			measure_boot(argc - 2, argv + 2, argv[1]);
		printf("end\n");
		return 0;
	}
	measure_loops();
	if (growth)
		return run_growth(argc - 1, argv + 1);
	return run(false, verbose, argc - 1, argv + 1);
}
