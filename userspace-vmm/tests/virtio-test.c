// SPDX-License-Identifier: GPL-2.0-only
/*
 * Virtio: the transport's registers, rings that are right and rings that are
 * not, disks with all their requests.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>
#include <linux/fuse.h>
#include <linux/virtio_blk.h>

#include "daemon.h"
#include "disk.h"
#include "driver.h"
#include "tap.h"
#include "vhost.h"

#define QUEUE_SIZE 64
#define NEEDS_RESET VIRTIO_CONFIG_S_NEEDS_RESET

static struct driver d;
static struct err err;

static u8 status(void)
{
	return driver_read(&d, DRIVER_COMMON + VIRTIO_PCI_COMMON_STATUS, 1);
}

static void begin(int (*create)(struct virtio_host *host, const char *arg,
				struct err *err), const char *arg)
{
	if (!ok(!driver_init(&d, &err) && !create(&d.host, arg, &err), "%s",
		arg ? arg : "a device"))
		printf("# %s\n", err.text);
	driver_enable(&d);
}

static void set_desc(unsigned int i, u64 addr, u32 len, u16 flags, u16 next)
{
	driver_desc(&d, 0)[i] = (struct vring_desc){ addr, len, flags, next };
}

static void test_registers(void)
{
	begin(rng_create, NULL);
	is(driver_read(&d, DRIVER_COMMON + VIRTIO_PCI_COMMON_NUMQ, 2), 1, "one queue");
	is(driver_read(&d, DRIVER_COMMON + VIRTIO_PCI_COMMON_Q_SIZE, 2), VQ_SIZE,
	   "its largest size");
	driver_write(&d, DRIVER_COMMON + VIRTIO_PCI_COMMON_Q_SELECT, 2, 1);
	is(driver_read(&d, DRIVER_COMMON + VIRTIO_PCI_COMMON_Q_SIZE, 2), 0,
	   "no second one");
	driver_write(&d, DRIVER_COMMON + VIRTIO_PCI_COMMON_Q_SELECT, 2, 0xffff);
	driver_write(&d, DRIVER_COMMON + VIRTIO_PCI_COMMON_Q_ENABLE, 2, 1);
	is(status(), 0, "a queue that is not there cannot be enabled");
	driver_write(&d, DRIVER_COMMON + VIRTIO_PCI_COMMON_STATUS, 1, 3);
	driver_write(&d, DRIVER_COMMON + VIRTIO_PCI_COMMON_STATUS, 1, 11);
	is(status(), 3, "no features without VERSION_1");
	driver_write(&d, DRIVER_COMMON + VIRTIO_PCI_COMMON_GFSELECT, 4, 1);
	driver_write(&d, DRIVER_COMMON + VIRTIO_PCI_COMMON_GF, 4, 3);
	driver_write(&d, DRIVER_COMMON + VIRTIO_PCI_COMMON_STATUS, 1, 11);
	is(status(), 3, "none that is not offered");
	driver_write(&d, DRIVER_COMMON + VIRTIO_PCI_COMMON_STATUS, 1, 7);
	ok(status() & NEEDS_RESET, "not ready without features");
	driver_write(&d, DRIVER_COMMON + VIRTIO_PCI_COMMON_STATUS, 1, 0);
	is(status(), 0, "reset");
	driver_write(&d, DRIVER_COMMON + VIRTIO_PCI_COMMON_Q_MSIX, 2, 2);
	is(driver_read(&d, DRIVER_COMMON + VIRTIO_PCI_COMMON_Q_MSIX, 2), 0xffff,
	   "a vector that is not there");
	driver_write(&d, DRIVER_COMMON + VIRTIO_PCI_COMMON_Q_SIZE, 2, 48);
	ok(status() & NEEDS_RESET, "a size that is no power of two");
	is(driver_start(&d, QUEUE_SIZE, 0), 15, "a driver starts");
	driver_write(&d, DRIVER_COMMON + VIRTIO_PCI_COMMON_Q_DESCLO, 4, 0x77000);
	is(driver_read(&d, DRIVER_COMMON + VIRTIO_PCI_COMMON_Q_DESCLO, 4), DRIVER_DESC(0),
	   "a ring in use stays where it is");
	driver_end(&d);
}

static void test_places(void)
{
	static const struct {
		u64 desc, avail, used;
		const char *name;
	} places[] = {
		{ 0x10008, 0x14000, 0x18000, "descriptors that are not aligned" },
		{ 0x10000, 0x14001, 0x18000, "an available ring that is not aligned" },
		{ 0x10000, 0x14000, 0x18002, "a used ring that is not aligned" },
		{ DRIVER_RAM - 16, 0x14000, 0x18000, "descriptors beyond the end" },
		{ 0x10000, DRIVER_RAM - 4, 0x18000, "an available ring beyond the end" },
		{ 0x10000, 0x14000, 0xfffffffffffffffcULL, "a used ring that wraps" },
	};
	size_t i;

	begin(rng_create, NULL);
	for (i = 0; i < ARRAY_SIZE(places); i++) {
		u64 base = DRIVER_COMMON + VIRTIO_PCI_COMMON_Q_DESCLO;

		driver_write(&d, DRIVER_COMMON + VIRTIO_PCI_COMMON_STATUS, 1, 0);
		driver_write(&d, base, 8, places[i].desc);
		driver_write(&d, base + 8, 8, places[i].avail);
		driver_write(&d, base + 16, 8, places[i].used);
		driver_write(&d, DRIVER_COMMON + VIRTIO_PCI_COMMON_Q_ENABLE, 2, 1);
		ok((status() & NEEDS_RESET) &&
		   !driver_read(&d, DRIVER_COMMON + VIRTIO_PCI_COMMON_Q_ENABLE, 2),
		   "%s", places[i].name);
	}
	driver_end(&d);
}

/* The device must notice, want a reset, and work after it. */
static void expect_broken(const char *name)
{
	driver_submit(&d, 0, QUEUE_SIZE, 0);
	ok(!driver_wait(&d, 0, 1) && (status() & NEEDS_RESET), "%s", name);
	is(driver_start(&d, QUEUE_SIZE, 0), 15, "... starts again");
}

static void test_rings(void)
{
	struct vring_desc *table;
	unsigned int i;

	begin(rng_create, NULL);
	is(driver_start(&d, QUEUE_SIZE, 0), 15, "a driver starts");
	set_desc(5, DRIVER_DATA, 16, VRING_DESC_F_WRITE, 0);
	driver_submit(&d, 0, QUEUE_SIZE, 5);
	ok(driver_wait(&d, 0, 1), "a request is served");
	is(driver_used(&d, 0)->ring[0].id, 5, "that one");
	is(driver_used(&d, 0)->ring[0].len, 16, "all of it");
	is(driver_read(&d, DRIVER_MSIX + MSIX_PBA, 8), 2, "it interrupts");

	table = (struct vring_desc *)(d.ram.host + DRIVER_DATA);
	table[0] = (struct vring_desc){ DRIVER_DATA + 0x1000, 100,
		VRING_DESC_F_WRITE | VRING_DESC_F_NEXT, 2 };
	table[2] = (struct vring_desc){ DRIVER_DATA + 0x2000, 100, VRING_DESC_F_WRITE, 0 };
	set_desc(0, DRIVER_DATA, 48, VRING_DESC_F_INDIRECT, 0);
	driver_submit(&d, 0, QUEUE_SIZE, 0);
	ok(driver_wait(&d, 0, 2), "an indirect one");
	is(driver_used(&d, 0)->ring[1].len, 200, "both parts");
	memmove(d.ram.host + DRIVER_DATA + 3, table, 48);
	set_desc(0, DRIVER_DATA + 3, 48, VRING_DESC_F_INDIRECT, 0);
	driver_submit(&d, 0, QUEUE_SIZE, 0);
	ok(driver_wait(&d, 0, 3), "one with a table that is not aligned");

	set_desc(0, DRIVER_DATA, 16, VRING_DESC_F_WRITE | VRING_DESC_F_NEXT, QUEUE_SIZE);
	expect_broken("a next one beyond the table");
	for (i = 0; i < 2; i++)
		set_desc(i, DRIVER_DATA, 16, VRING_DESC_F_WRITE | VRING_DESC_F_NEXT, !i);
	expect_broken("a circle");
	set_desc(0, DRIVER_RAM - 8, 16, VRING_DESC_F_WRITE, 0);
	expect_broken("a buffer that is not all memory");
	set_desc(0, ~0ULL - 7, 16, VRING_DESC_F_WRITE, 0);
	expect_broken("a buffer that wraps");
	set_desc(0, DRIVER_DATA, 16, VRING_DESC_F_WRITE | VRING_DESC_F_NEXT, 1);
	set_desc(1, DRIVER_DATA, 16, 0, 0);
	expect_broken("one to read behind one to write");
	set_desc(0, DRIVER_DATA, 17, VRING_DESC_F_INDIRECT, 0);
	expect_broken("a table with a part of an entry");
	set_desc(0, DRIVER_DATA, 0, VRING_DESC_F_INDIRECT, 0);
	expect_broken("an empty table");
	set_desc(0, DRIVER_DATA, 16, VRING_DESC_F_INDIRECT | VRING_DESC_F_NEXT, 1);
	expect_broken("a table with something behind it");
	table[0] = (struct vring_desc){ DRIVER_DATA, 16, VRING_DESC_F_INDIRECT, 0 };
	set_desc(0, DRIVER_DATA, 16, VRING_DESC_F_INDIRECT, 0);
	expect_broken("a table in a table");
	set_desc(0, DRIVER_RAM, 16, VRING_DESC_F_INDIRECT, 0);
	expect_broken("a table that is not in memory");
	*(u16 *)(d.ram.host + DRIVER_AVAIL(0) + 2) = QUEUE_SIZE;
	expect_broken("more requests than the ring has entries");
	driver_submit(&d, 0, QUEUE_SIZE, QUEUE_SIZE);
	ok(!driver_wait(&d, 0, 1), "a head beyond the table");
	driver_end(&d);
}

/* One request of a disk; the data is at DRIVER_DATA + 4096. Return: status. */
static int request(u32 type, u64 sector, u32 len)
{
	u16 done = driver_used(&d, 0)->idx;
	bool in = type == VIRTIO_BLK_T_IN || type == VIRTIO_BLK_T_GET_ID;
	struct virtio_blk_outhdr head = { .type = type, .sector = sector };
	u8 *state = d.ram.host + DRIVER_DATA + 64;

	memcpy(d.ram.host + DRIVER_DATA, &head, sizeof(head));
	*state = 0xff;
	set_desc(0, DRIVER_DATA, sizeof(head), VRING_DESC_F_NEXT, len ? 1 : 2);
	set_desc(1, DRIVER_DATA + 4096, len, VRING_DESC_F_NEXT |
		 (in ? VRING_DESC_F_WRITE : 0), 2);
	set_desc(2, DRIVER_DATA + 64, 1, VRING_DESC_F_WRITE, 0);
	driver_submit(&d, 0, QUEUE_SIZE, 0);
	return driver_wait(&d, 0, done + 1) ? *state : -1;
}

static int range_request(u32 type, u64 sector, u32 sectors, u32 flags)
{
	struct virtio_blk_discard_write_zeroes range = { sector, sectors, flags };

	memcpy(d.ram.host + DRIVER_DATA + 4096, &range, sizeof(range));
	return request(type, 0, sizeof(range));
}

#define DISK_SECTORS 2048

static void make_file(const char *path)
{
	int fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	bool good = !ftruncate(fd, DISK_SECTORS * 512ULL);
	u32 i;

	for (i = 0; i < DISK_SECTORS * 512 / 4; i += 128)
		good &= pwrite(fd, &i, 4, i * 4ULL) == 4;
	ok(good, "a file");
	close(fd);
}

static bool all_zero(const u8 *p, size_t len)
{
	while (len--) {
		if (*p++)
			return false;
	}
	return true;
}

/* What every kind of disk does. */
static void test_disk(const char *arg)
{
	u8 *data = d.ram.host + DRIVER_DATA + 4096;

	is(driver_read(&d, DRIVER_CONFIG, 8), DISK_SECTORS, "%s: capacity", arg);
	is(driver_start(&d, QUEUE_SIZE, 0), 15, "a driver starts");
	is(request(VIRTIO_BLK_T_IN, 7, 1024), VIRTIO_BLK_S_OK, "read");
	is(*(u32 *)data, 7 * 128, "the right sector");
	is(*(u32 *)(data + 512), 8 * 128, "and the next");
	is(driver_used(&d, 0)->ring[0].len, 1025, "data and status");
	memset(data, 0x5a, 512);
	is(request(VIRTIO_BLK_T_OUT, 7, 512), VIRTIO_BLK_S_OK, "write");
	is(request(VIRTIO_BLK_T_FLUSH, 0, 0), VIRTIO_BLK_S_OK, "flush");
	memset(data, 0, 512);
	is(request(VIRTIO_BLK_T_IN, 7, 1024), VIRTIO_BLK_S_OK, "read it back");
	ok(data[0] == 0x5a && data[511] == 0x5a && *(u32 *)(data + 512) == 8 * 128,
	   "what was written, and what was beside it");
	is(request(VIRTIO_BLK_T_IN, DISK_SECTORS - 1, 512), VIRTIO_BLK_S_OK, "the last one");
	is(request(VIRTIO_BLK_T_IN, DISK_SECTORS - 1, 1024), VIRTIO_BLK_S_IOERR,
	   "across the end");
	is(request(VIRTIO_BLK_T_OUT, 1ULL << 55, 512), VIRTIO_BLK_S_IOERR,
	   "an offset that overflows");
	is(request(77, 0, 0), VIRTIO_BLK_S_UNSUPP, "an unknown request");
	is(request(VIRTIO_BLK_T_GET_ID, 0, 20), VIRTIO_BLK_S_OK, "its name");
	is(range_request(VIRTIO_BLK_T_WRITE_ZEROES, 7, 8, 0), VIRTIO_BLK_S_OK, "zeroes");
	is(request(VIRTIO_BLK_T_IN, 6, 10 * 512), VIRTIO_BLK_S_OK, "read them");
	ok(all_zero(data + 512, 8 * 512) && *(u32 *)data == 6 * 128 &&
	   *(u32 *)(data + 9 * 512) == 15 * 128, "those sectors and no others");
	is(range_request(VIRTIO_BLK_T_DISCARD, 64, 64, 0), VIRTIO_BLK_S_OK, "discard");
	is(range_request(VIRTIO_BLK_T_DISCARD, DISK_SECTORS - 1, 2, 0), VIRTIO_BLK_S_IOERR,
	   "discard across the end");
}

static void test_raw(const char *dir)
{
	char path[256], arg[300];

	snprintf(path, sizeof(path), "%s/disk", dir);
	make_file(path);
	begin(blk_create, path);
	test_disk("raw");
	is(request(VIRTIO_BLK_T_IN, 0, 100), VIRTIO_BLK_S_IOERR, "a part of a sector");
	is(range_request(VIRTIO_BLK_T_DISCARD, ~0ULL, ~0U, 0), VIRTIO_BLK_S_IOERR,
	   "a range that overflows");
	set_desc(0, DRIVER_DATA, 16, 0, 0);
	driver_submit(&d, 0, QUEUE_SIZE, 0);
	ok(!driver_wait(&d, 0, 0x7777), "no room for a status breaks the queue");
	is(driver_start(&d, QUEUE_SIZE, 1ULL << VIRTIO_RING_F_EVENT_IDX), 15, "starts again");
	is(request(VIRTIO_BLK_T_IN, 8, 512), VIRTIO_BLK_S_OK, "and works, without event index");
	driver_end(&d);

	snprintf(arg, sizeof(arg), "%s,ro", path);
	begin(blk_create, arg);
	is(driver_start(&d, QUEUE_SIZE, 0), 15, "a driver starts");
	is(request(VIRTIO_BLK_T_IN, 8, 512), VIRTIO_BLK_S_OK, "read");
	is(request(VIRTIO_BLK_T_OUT, 8, 512), VIRTIO_BLK_S_IOERR, "no write");
	is(range_request(VIRTIO_BLK_T_WRITE_ZEROES, 8, 1, 0), VIRTIO_BLK_S_IOERR,
	   "no zeroes either");
	driver_end(&d);
}

/* As a snapshot does: to another device, with the memory that the first one had. */
static void move(int (*create)(struct virtio_host *host, const char *arg, struct err *err),
		 const char *arg)
{
	struct virtio_saved saved;
	u8 *memory = malloc(DRIVER_RAM);

	virtio_pause_all(&d.host);
	virtio_save(d.host.first);
	saved = d.host.first->saved;
	memcpy(memory, d.ram.host, DRIVER_RAM);
	driver_end(&d);
	ok(!driver_init(&d, &err) && !create(&d.host, arg, &err), "another %s", arg);
	memcpy(d.ram.host, memory, DRIVER_RAM);
	free(memory);
	d.host.first->saved = saved;
	is(virtio_load(d.host.first), 0, "it takes the state");
	virtio_resume_all(&d.host);
	is(virtio_serve_all(&d.host, &err), 0, "it is served");
}

static void test_saved(const char *dir)
{
	struct virtio_saved saved;
	unsigned int i;
	char path[256];
	u16 idx;

	snprintf(path, sizeof(path), "%s/disk", dir);
	make_file(path);
	begin(blk_create, path);
	is(driver_start(&d, QUEUE_SIZE, 0), 15, "a driver starts");
	for (i = 0; i < 100; i++)
		request(VIRTIO_BLK_T_IN, 7, 512);
	idx = driver_used(&d, 0)->idx;
	virtio_pause_all(&d.host);
	driver_submit(&d, 0, QUEUE_SIZE, 0);
	poll(NULL, 0, 20);
	is(driver_used(&d, 0)->idx, idx, "a paused device does nothing");
	move(blk_create, path);
	ok(driver_wait(&d, 0, idx + 1), "what was waiting is done");
	is(status(), 15, "its driver is there");
	is(request(VIRTIO_BLK_T_IN, 8, 512), VIRTIO_BLK_S_OK, "and goes on");
	virtio_pause_all(&d.host);
	virtio_resume_all(&d.host);
	is(request(VIRTIO_BLK_T_IN, 9, 512), VIRTIO_BLK_S_OK, "after a pause, too");
	if (!access("/usr/bin/qemu-storage-daemon", X_OK)) {
		driver_end(&d);
		strcat(path, ",overlay");
		begin(blk_create, path);
		is(driver_start(&d, QUEUE_SIZE, 0), 15, "a driver of a daemon's disk starts");
			is(request(VIRTIO_BLK_T_IN, 8, 512), VIRTIO_BLK_S_OK, "read");
		move(blk_create, path);
		is(request(VIRTIO_BLK_T_IN, 9, 512), VIRTIO_BLK_S_OK, "and again");
		ok(d.host.first->lost, "what has no name is lost");
	}
	virtio_pause_all(&d.host);
	virtio_save(d.host.first);
	saved = d.host.first->saved;
	d.host.first->saved.queue[0].size = 3;
	is(virtio_load(d.host.first), -1, "a size that is impossible");
	d.host.first->saved = saved;
	d.host.first->saved.queue[0].gpa[2] = DRIVER_RAM;
	is(virtio_load(d.host.first), -1, "a ring that is not in memory");
	d.host.first->saved = saved;
	d.host.first->saved.reg.driver_features = ~0ULL;
	is(virtio_load(d.host.first), -1, "features that it does not have");
	d.host.first->saved.reg.status &= ~VIRTIO_CONFIG_S_FEATURES_OK;
	is(virtio_load(d.host.first), -1, "a driver that has agreed on none");
	d.host.first->saved = saved;
	d.host.first->saved.pci.config[2] ^= 1;
	is(virtio_load(d.host.first), -1, "another device's state");
	driver_end(&d);
}

/* Within a while: a process is not over when its sockets are closed. */
static bool one_ended(void)
{
	unsigned int ms;

	for (ms = 0; ms < 10000; ms++) {
		if (daemon_ended(&err))
			return true;
		poll(NULL, 0, 1);
	}
	return false;
}

/* Of those that this thread has started. */
static bool signal_daemon(int sig)
{
	FILE *children = fopen("/proc/thread-self/children", "re");
	int pid = 0;
	bool done = children && fscanf(children, "%d", &pid) == 1 && !kill(pid, sig);

	if (children)
		fclose(children);
	return done;
}

static void on_alarm(int sig)
{
}

/* One that does not answer holds nobody up for long, and only once. */
static void test_hangs(const char *arg)
{
	/* As a vCPU gets signals while it is to stop. */
	const struct itimerval often = { { .tv_usec = 20000 }, { .tv_usec = 20000 } }, never = { 0 };
	struct sigaction sa = { .sa_handler = on_alarm };
	u64 start;

	begin(blk_create, arg);
	is(driver_start(&d, QUEUE_SIZE, 0), 15, "another one");
	ok(signal_daemon(SIGSTOP), "it hangs");
	((struct vhost *)d.host.first)->patience = 1;
	sigaction(SIGALRM, &sa, NULL);
	setitimer(ITIMER_REAL, &often, NULL);
	start = monotonic_ns();
	virtio_pause_all(&d.host);
	setitimer(ITIMER_REAL, &never, NULL);
	ok(strstr(d.host.first->lost, "does not answer"), "what it has done is not known");
	ok(monotonic_ns() - start < 5000000000ULL, "after some seconds");
	virtio_resume_all(&d.host);
	ok(status() & NEEDS_RESET, "the device wants a reset");
	ok(signal_daemon(SIGCONT), "it answers, too late");
	ok(driver_start(&d, QUEUE_SIZE, 0) & NEEDS_RESET, "and is not asked again");
	ok(one_ended() && strstr(err.text, "qemu-storage-daemon has ended (it did not answer; signal 9, Killed), and --disk /"),
	   "it is said: %s", err.text);
	driver_end(&d);
	begin(blk_create, arg);
	is(driver_start(&d, QUEUE_SIZE, 0), 15, "another one");
	ok(signal_daemon(SIGSTOP), "it hangs");
	start = monotonic_ns();
	driver_end(&d);
	ok(monotonic_ns() - start < 12000000000ULL, "it is ended, and not asked");
}

static void test_overlay(const char *dir)
{
	char arg[300];

	if (access("/usr/bin/qemu-storage-daemon", X_OK)) {
		ok(true, "an overlay # SKIP qemu-storage-daemon is not installed");
		return;
	}
	snprintf(arg, sizeof(arg), "%s/disk", dir);
	make_file(arg);
	strcat(arg, ",overlay");
	begin(blk_create, arg);
	test_disk("overlay");
	is(driver_start(&d, QUEUE_SIZE, 0), 15, "the driver starts again");
	is(request(VIRTIO_BLK_T_IN, 15, 512), VIRTIO_BLK_S_OK, "and works");
	ok(signal_daemon(SIGKILL), "the daemon dies");
	ok(!driver_wait(&d, 0, 0x7777) && (status() & NEEDS_RESET), "the device wants a reset");
	ok(one_ended() && strstr(err.text, "qemu-storage-daemon has ended (signal 9, Killed), and --disk /"),
	   "and it is said: %s", err.text);
	ok(!daemon_ended(&err), "once");
	ok(driver_start(&d, QUEUE_SIZE, 0) & NEEDS_RESET, "and does not come back");
	driver_end(&d);
	ok(access(arg, F_OK), "nothing is left");
	test_hangs(arg);
}

/* Return: the error of a request to a file system; what follows its head is in data. */
static int fuse_request(u32 opcode, const void *arg, size_t len)
{
	struct fuse_in_header head = {
		.len = sizeof(head) + len, .opcode = opcode, .unique = 9, .nodeid = FUSE_ROOT_ID,
	};
	struct fuse_out_header out;
	u8 *data = d.ram.host + DRIVER_DATA;
	u16 idx = driver_used(&d, 1)->idx;

	memcpy(data, &head, sizeof(head));
	memcpy(data + sizeof(head), arg, len);
	driver_desc(&d, 1)[0] = (struct vring_desc){ DRIVER_DATA, head.len, VRING_DESC_F_NEXT, 1 };
	driver_desc(&d, 1)[1] = (struct vring_desc){ DRIVER_DATA + 4096, 4096, VRING_DESC_F_WRITE, 0 };
	driver_submit(&d, 1, QUEUE_SIZE, 0);
	if (!driver_wait(&d, 1, idx + 1))
		return -EIO;
	memcpy(&out, data + 4096, sizeof(out));
	memmove(data, data + 4096 + sizeof(out), 4096 - sizeof(out));
	return out.unique == 9 ? out.error : -EIO;
}

static void test_share(const char *dir)
{
	struct fuse_init_in init = { .major = FUSE_KERNEL_VERSION, .minor = 31 };
	struct fuse_entry_out entry;
	char arg[300];

	if (access("/usr/lib/qemu/virtiofsd", X_OK) || geteuid()) {
		ok(true, "a share # SKIP no virtiofsd, or not root");
		return;
	}
	snprintf(arg, sizeof(arg), "%s,tag=t,ro", dir);
	begin(fs_create, arg);
	ok(driver_read(&d, DRIVER_CONFIG, 4) == 't' && driver_read(&d, DRIVER_CONFIG + 36, 4) == 1,
	   "its tag and its queues");
	is(driver_start(&d, QUEUE_SIZE, 0), 15, "a driver starts");
	is(fuse_request(FUSE_INIT, &init, sizeof(init)), 0, "a session");
	is(fuse_request(FUSE_LOOKUP, "nothing", 8), -ENOENT, "no such file");
	is(fuse_request(FUSE_LOOKUP, "disk", 5), 0, "a file");
	memcpy(&entry, d.ram.host + DRIVER_DATA, sizeof(entry));
	is(entry.attr.size, DISK_SECTORS * 512, "its size");
	is(fuse_request(FUSE_UNLINK, "disk", 5), -EROFS, "which stays");
	is(driver_start(&d, QUEUE_SIZE, 0), 15, "the driver starts again");
	ok(fs_create(&d.host, arg, &err) < 0 && strstr(err.text, "another one has the tag t;"),
	   "a tag twice: %s", err.text);
	driver_end(&d);
	ok(fs_create(&d.host, "/dev/null", &err) < 0, "not a directory");
	virtio_remove_all(&d.host);
}

static void test_balloon(void)
{
	u32 pfns[] = { 0x120000 >> 12, 0xfffffff0, 0x122000 >> 12 };

	begin(balloon_create, "1");
	is(driver_read(&d, DRIVER_CONFIG, 4), 256, "pages that are wanted");
	driver_write(&d, DRIVER_CONFIG + 4, 4, 3);
	is(driver_read(&d, DRIVER_CONFIG + 4, 4), 3, "pages that the driver says it gave");
	is(driver_start(&d, QUEUE_SIZE, 0), 15, "a driver starts");
	memset(d.ram.host + 0x120000, 0x77, 0x8000);
	memcpy(d.ram.host + DRIVER_DATA, pfns, sizeof(pfns));
	set_desc(0, DRIVER_DATA, sizeof(pfns), 0, 0);
	driver_submit(&d, 0, QUEUE_SIZE, 0);
	ok(driver_wait(&d, 0, 1), "pages, one of which is no memory");
	ok(all_zero(d.ram.host + 0x120000, 4096) && all_zero(d.ram.host + 0x122000, 4096) &&
	   d.ram.host[0x121000] == 0x77, "those are given back");
	driver_desc(&d, 2)[0] = (struct vring_desc){ 0x123800, 0x2000, VRING_DESC_F_WRITE, 0 };
	driver_submit(&d, 2, QUEUE_SIZE, 0);
	ok(driver_wait(&d, 2, 1), "a report of what is free");
	ok(d.ram.host[0x123fff] == 0x77 && all_zero(d.ram.host + 0x124000, 4096) &&
	   d.ram.host[0x125000] == 0x77, "whole pages are given back");
	driver_end(&d);
	ok(balloon_create(&d.host, "2", &err) < 0, "all of the memory is too much");
	ok(balloon_create(&d.host, "+1", &err) < 0 &&
	   balloon_create(&d.host, "-18446744073709551615", &err) < 0, "signs are none");
}

static void test_console(const char *dir)
{
	struct sockaddr_un addr = { .sun_family = AF_UNIX };
	int listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0), end;
	char arg[100], buf[16] = "";

	snprintf(arg, sizeof(arg), "unix:%s/socket", dir);
	strcpy(addr.sun_path, arg + 5);
	ok(!bind(listener, (struct sockaddr *)&addr, sizeof(addr)) && !listen(listener, 1),
	   "somebody listens");
	begin(console_create, arg);
	end = accept(listener, NULL, NULL);
	is(driver_start(&d, QUEUE_SIZE, 0), 15, "a driver starts");
	ok(write(end, "hello", 5) == 5, "input without room");
	poll(NULL, 0, 20);
	set_desc(0, DRIVER_DATA, 3, VRING_DESC_F_WRITE, 0);
	driver_submit(&d, 0, QUEUE_SIZE, 0);
	ok(driver_wait(&d, 0, 1), "room for a part");
	is(driver_used(&d, 0)->ring[0].len, 3, "which is filled");
	driver_submit(&d, 0, QUEUE_SIZE, 0);
	ok(driver_wait(&d, 0, 2) && !memcmp(d.ram.host + DRIVER_DATA, "lo", 2), "the rest");
	driver_desc(&d, 1)[0] = (struct vring_desc){ DRIVER_DATA, 2, 0, 0 };
	driver_submit(&d, 1, QUEUE_SIZE, 0);
	ok(driver_wait(&d, 1, 1) && read(end, buf, sizeof(buf)) == 2 && !strcmp(buf, "lo"),
	   "output");
	close(end);
	driver_submit(&d, 1, QUEUE_SIZE, 0);
	ok(driver_wait(&d, 1, 2), "output to nobody");
	close(listener);
	driver_end(&d);
	unlink(addr.sun_path);
	ok(console_create(&d.host, "here", &err) < 0, "neither file nor socket");
	virtio_remove_all(&d.host);
}

static void test_ended(void)
{
	char *const argv[] = { "sh", "-c", "echo first; echo its last words >&2; exit 3", NULL };
	struct daemon one = { .serves = "--this" }, other = { .serves = "--that" };

	ok(!daemon_start(&other, (char *[]){ "sleep", "100", NULL }, NULL, 0, &err) &&
	   !daemon_start(&one, argv, NULL, 0, &err), "two programs");
	ok(one_ended() && !strcmp(err.text, "sh has ended (status 3), and --this is dead until the machine is started again; "
				  "it last said: its last words"), "one has ended: %s", err.text);
	ok(!daemon_ended(&err), "the other one has not");
	daemon_stop(&one);
	/* 7 MB; it ends when it cannot any more. */
	is(daemon_start(&one, (char *[]){ "seq", "1000000", NULL }, NULL, 0, &err), 0, "one that prints");
	ok(one_ended() && strstr(err.text, "seq has ended (status 1)") && !strstr(err.text, "last said"),
	   "has no more than a little room: %s", err.text);
	daemon_stop(&one);
	daemon_stop(&other);
	ok(!daemon_ended(&err), "what was stopped is none that has ended");
}

static void refuses(int (*create)(struct virtio_host *host, const char *arg, struct err *err),
		    const char *arg, const char *why)
{
	driver_init(&d, &err);
	ok(create(&d.host, arg, &err) < 0 && strstr(err.text, why), "%s: %s", arg, err.text);
	driver_end(&d);
}

/* To wait for a FIFO is not what a disk is opened for, but neither is EAGAIN later. */
static void test_flags(const char *dir)
{
	char path[300];
	int fd;

	snprintf(path, sizeof(path), "%s/disk", dir);
	make_file(path);
	fd = disk_open(path, false, &err);
	is(fcntl(fd, F_GETFL) & (O_ACCMODE | O_NONBLOCK), O_RDWR, "a disk is opened to write, and to wait");
	close(fd);
	fd = disk_open(path, true, &err);
	is(fcntl(fd, F_GETFL) & (O_ACCMODE | O_NONBLOCK), O_RDONLY, "or to read");
	close(fd);
}

static void test_refused(const char *dir)
{
	struct sockaddr_in addr = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	socklen_t len = sizeof(addr);
	char arg[300];

	refuses(net_create, "tap=keelnone", "no such device; type: sudo ip tuntap add keelnone mode tap");
	refuses(net_create, "user,forward=abc", "forward=abc: give HOSTPORT:GUESTPORT");
	refuses(net_create, "user,forward=70000:80", "forward=70000:80: give");
	refuses(net_create, "user,forward=+80:80", "forward=+80:80: give");
	refuses(net_create, "user,forward=4294967376:80", "forward=4294967376:80: give");
	refuses(net_create, "user,forward=80:80x", "forward=80:80x: give");
	ok(!bind(listener, (struct sockaddr *)&addr, len) && !listen(listener, 1) &&
	   !getsockname(listener, (struct sockaddr *)&addr, &len), "a port is taken");
	snprintf(arg, sizeof(arg), "user,forward=%d:80", ntohs(addr.sin_port));
	refuses(net_create, arg, "cannot have the host's port ");
	close(listener);
	if (access("/usr/bin/qemu-storage-daemon", X_OK))
		return;
	snprintf(arg, sizeof(arg), "%s/disk,format=vmdk", dir);
	refuses(blk_create, arg, "/disk: qemu-storage-daemon failed: qemu-storage-daemon: ");
}

int main(void)
{
	const char *dir = tap_dir();

	signal(SIGPIPE, SIG_IGN);	/* as machine.c does */
	test_registers();
	test_places();
	test_rings();
	test_raw(dir);
	test_saved(dir);
	test_overlay(dir);
	test_share(dir);
	test_balloon();
	test_console(dir);
	test_ended();
	test_flags(dir);
	test_refused(dir);
	return tap_done();
}
