// SPDX-License-Identifier: GPL-2.0-only
/*
 * Counters for machines (KVM_GET_STATS_FD) and for people (debugfs), both made
 * of the lists in stats.h.
 *
 * The file's layout, which its header describes: header, the object's name,
 * one descriptor with its name for each counter, the counters themselves.
 */
#include <linux/anon_inodes.h>
#include <linux/debugfs.h>
#include <linux/file.h>
#include <linux/fs.h>
#include <linux/kernel.h>
#include <linux/seq_file.h>
#include <linux/slab.h>
#include <linux/uaccess.h>

#include "keel.h"

#define NAME_SIZE	48	/* of the object's and of each counter's name */

/* a descriptor ends in its name, to which sizeof() adds in some kernels only */
#define DESC_SIZE	(offsetof(struct kvm_stats_desc, name) + NAME_SIZE)
#define ID_OFFSET	sizeof(struct kvm_stats_header)
#define DESC_OFFSET	(ID_OFFSET + NAME_SIZE)

struct stat_desc {
	const char *name;
	u32 type;		/* KVM_STATS_TYPE_ */
};

#define COUNT(n)	{ #n, KVM_STATS_TYPE_CUMULATIVE },
#define NOW(n)		{ #n, KVM_STATS_TYPE_INSTANT },

static const struct stat_desc vm_descs[] = { KEEL_VM_STATS(COUNT, NOW) };
static const struct stat_desc vcpu_descs[] = { KEEL_VCPU_STATS(COUNT) };

#define NR_VM_STATS	ARRAY_SIZE(vm_descs)
#define NR_VCPU_STATS	ARRAY_SIZE(vcpu_descs)

static_assert(sizeof(struct keel_vm_stats) == NR_VM_STATS * sizeof(u64));
static_assert(sizeof(struct keel_vcpu_stats) == NR_VCPU_STATS * sizeof(u64));

/* ---- KVM_GET_STATS_FD ---- */

/**
 * struct stats_file - one open file of counters
 * @vm: held; a vCPU lives as long as its VM
 * @counters: live, written by their owners
 * @count: of counters
 * @head_size: bytes in @head
 * @head: header, name and descriptors, constant
 */
struct stats_file {
	struct keel_vm *vm;
	const u64 *counters;
	size_t count;
	size_t head_size;
	u8 head[] __aligned(8);
};

static size_t stats_size(const struct stats_file *s)
{
	return s->head_size + s->count * sizeof(u64);
}

static ssize_t stats_read(struct file *file, char __user *to, size_t size, loff_t *pos)
{
	struct stats_file *s = file->private_data;
	ssize_t done, n;
	u64 *copy;
	size_t i;
	loff_t at;

	done = simple_read_from_buffer(to, size, pos, s->head, s->head_size);
	if (done < 0 || done == size || *pos < s->head_size)
		return done;

	copy = kmalloc_array(s->count, sizeof(u64), GFP_KERNEL);
	if (!copy)
		return done ?: -ENOMEM;
	for (i = 0; i < s->count; i++)
		copy[i] = READ_ONCE(s->counters[i]);
	at = *pos - s->head_size;
	n = simple_read_from_buffer(to + done, size - done, &at, copy,
				    s->count * sizeof(u64));
	kfree(copy);
	if (n < 0)
		return done ?: n;
	*pos = at + s->head_size;
	return done + n;
}

static loff_t stats_llseek(struct file *file, loff_t offset, int whence)
{
	return fixed_size_llseek(file, offset, whence, stats_size(file->private_data));
}

static int stats_release(struct inode *inode, struct file *file)
{
	struct stats_file *s = file->private_data;

	keel_vm_put(s->vm);
	kvfree(s);
	return 0;
}

static const struct file_operations stats_fops = {
	.owner = THIS_MODULE,
	.read = stats_read,
	.llseek = stats_llseek,
	.release = stats_release,
};

static void fill_head(struct stats_file *s, const struct stat_desc *descs, const char *id)
{
	struct kvm_stats_header *header = (void *)s->head;
	struct kvm_stats_desc *desc;
	size_t i;

	header->name_size = NAME_SIZE;
	header->num_desc = s->count;
	header->id_offset = ID_OFFSET;
	header->desc_offset = DESC_OFFSET;
	header->data_offset = s->head_size;
	strscpy(s->head + ID_OFFSET, id, NAME_SIZE);
	for (i = 0; i < s->count; i++) {
		desc = (void *)(s->head + DESC_OFFSET + i * DESC_SIZE);
		desc->flags = descs[i].type | KVM_STATS_UNIT_NONE | KVM_STATS_BASE_POW10;
		desc->size = 1;
		desc->offset = i * sizeof(u64);
		strscpy(desc->name, descs[i].name, NAME_SIZE);
	}
}

static int stats_fd(struct keel_vm *vm, const u64 *counters,
		    const struct stat_desc *descs, size_t count, const char *id)
{
	struct stats_file *s;
	struct file *file;
	size_t head_size;
	int fd;

	head_size = DESC_OFFSET + count * DESC_SIZE;
	s = kvzalloc(sizeof(*s) + head_size, GFP_KERNEL_ACCOUNT);
	if (!s)
		return -ENOMEM;
	s->vm = vm;
	s->counters = counters;
	s->count = count;
	s->head_size = head_size;
	fill_head(s, descs, id);

	fd = get_unused_fd_flags(O_CLOEXEC);
	if (fd < 0)
		goto out_free;
	file = anon_inode_getfile("kvm-stats", &stats_fops, s, O_RDONLY);
	if (IS_ERR(file)) {
		put_unused_fd(fd);
		fd = PTR_ERR(file);
		goto out_free;
	}
	file->f_mode |= FMODE_PREAD | FMODE_LSEEK;
	keel_vm_get(vm);
	fd_install(fd, file);
	return fd;

out_free:
	kvfree(s);
	return fd;
}

/**
 * keel_vm_stats_fd() - KVM_GET_STATS_FD on a VM
 * @vm: the virtual machine
 *
 * Return: a file descriptor, -ENOMEM, -EMFILE.
 */
int keel_vm_stats_fd(struct keel_vm *vm)
{
	char id[NAME_SIZE];

	snprintf(id, sizeof(id), "kvm-%s", vm->name);
	return stats_fd(vm, (const u64 *)&vm->stats, vm_descs, NR_VM_STATS, id);
}

/**
 * keel_vcpu_stats_fd() - KVM_GET_STATS_FD on a vCPU
 * @vcpu: the virtual CPU
 *
 * Return: a file descriptor, -ENOMEM, -EMFILE.
 */
int keel_vcpu_stats_fd(struct keel_vcpu *vcpu)
{
	char id[NAME_SIZE];

	snprintf(id, sizeof(id), "kvm-%s/vcpu-%u", vcpu->vm->name, vcpu->id);
	return stats_fd(vcpu->vm, (const u64 *)&vcpu->stats, vcpu_descs, NR_VCPU_STATS, id);
}

/* ---- debugfs ---- */

static struct dentry *debugfs_root;

static u64 vcpu_counter(struct keel_vcpu *vcpu, size_t i)
{
	return READ_ONCE(((const u64 *)&vcpu->stats)[i]);
}

/* One line per counter: name, the sum, and each vCPU's own. */
static int counters_show(struct seq_file *m, void *unused)
{
	struct keel_vm *vm = m->private;
	struct keel_vcpu *vcpu;
	unsigned long id;
	size_t i;
	u64 sum;

	for (i = 0; i < NR_VM_STATS; i++)
		seq_printf(m, "%-24s %14llu\n", vm_descs[i].name,
			   READ_ONCE(((const u64 *)&vm->stats)[i]));

	seq_printf(m, "\n%-24s %14s", "vcpu", "all");
	keel_for_each_vcpu(vm, id, vcpu)
		seq_printf(m, " %14lu", id);
	seq_putc(m, '\n');
	for (i = 0; i < NR_VCPU_STATS; i++) {
		sum = 0;
		keel_for_each_vcpu(vm, id, vcpu)
			sum += vcpu_counter(vcpu, i);
		seq_printf(m, "%-24s %14llu", vcpu_descs[i].name, sum);
		keel_for_each_vcpu(vm, id, vcpu)
			seq_printf(m, " %14llu", vcpu_counter(vcpu, i));
		seq_putc(m, '\n');
	}
	return 0;
}
DEFINE_SHOW_ATTRIBUTE(counters);

/**
 * keel_vm_debugfs_create() - make the directory of a VM
 * @vm: the virtual machine, named
 *
 * Nothing depends on it: that debugfs is off or has no memory is no error.
 */
void keel_vm_debugfs_create(struct keel_vm *vm)
{
	vm->debugfs = debugfs_create_dir(vm->name, debugfs_root);
	debugfs_create_file("stats", 0444, vm->debugfs, vm, &counters_fops);
}

/**
 * keel_vm_debugfs_destroy() - remove it; waits for readers
 * @vm: the virtual machine
 */
void keel_vm_debugfs_destroy(struct keel_vm *vm)
{
	debugfs_remove_recursive(vm->debugfs);
	vm->debugfs = NULL;
}

void __init keel_debugfs_init(void)
{
	debugfs_root = debugfs_create_dir(KBUILD_MODNAME, NULL);
}

void keel_debugfs_exit(void)
{
	debugfs_remove_recursive(debugfs_root);
	debugfs_root = NULL;
}
