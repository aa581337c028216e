// SPDX-License-Identifier: GPL-2.0-only
/*
 * libFuzzer target: any rings, any accesses to registers.
 *
 * The first bytes choose a device; the rest is a list of what a guest may do to
 * it. Besides the sanitizers it checks that whatever vq_pop() gives out, and the
 * kernel's vhost is told of, lies in guest memory, and that a queue comes to its end.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/if_tun.h>
#include <stdio.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "daemon.h"
#include "driver.h"
#include "i8042.h"
#include "pm.h"
#include "rtc.h"
#include "serial.h"
#include "vhost.h"

int LLVMFuzzerTestOneInput(const u8 *data, size_t size);

struct input {
	const u8 *p;
	size_t left;
};

static u64 take(struct input *in, size_t n)
{
	u64 value = 0;

	if (n > in->left)
		n = in->left;
	memcpy(&value, in->p, n);
	in->p += n;
	in->left -= n;
	return value;
}

/* What a daemon says, in place of daemon.c: one answers our requests, the other is fuzzed. */
static struct {
	int fd;			/* -1: none */
	bool answers;
	u64 value;
	pthread_t thread;
} peer = { .fd = -1 };

static void *answer(void *unused)
{
	struct {
		u32 request, flags, size;
		u8 body[512];
	} m;

	(void)unused;
	while (recv(peer.fd, &m, 12, MSG_WAITALL) == 12 &&
	       (!m.size || (m.size <= sizeof(m.body) &&
			    recv(peer.fd, m.body, m.size, MSG_WAITALL) == (ssize_t)m.size))) {
		bool get = m.request == 1 || m.request == 11 || m.request == 15 || m.request == 24;
		u64 value = m.request == 1 ? peer.value | 1ULL << VHOST_USER_F_PROTOCOL_FEATURES :
			    m.request == 15 ? 1 << 3 | 1 << 9 : peer.value & 1 && !get;

		if (!get && !(m.flags & 8))
			continue;
		m.flags = 5;
		if (m.request != 24)
			m.size = 8;
		memcpy(m.body, &value, 8);
		if (send(peer.fd, &m, 12 + m.size, MSG_NOSIGNAL) < 0)
			break;
	}
	return NULL;
}

int daemon_start(struct daemon *d, char *const argv[], const int *fds, unsigned int count,
		 struct err *err)
{
	(void)err;
	d->pid = 1;
	peer.answers = strcmp(argv[0], "passt");
	peer.fd = peer.answers ? accept(fds[0], NULL, NULL) : dup(fds[0]);
	if (count == 2 && write(fds[1], "1\n", 2) != 2)	/* passt is up */
		abort();
	if (peer.fd < 0 || (peer.answers && pthread_create(&peer.thread, NULL, answer, NULL)))
		abort();
	return 0;
}

void daemon_stop(struct daemon *d)
{
	if (!d->pid)
		return;
	if (peer.answers)
		pthread_join(peer.thread, NULL);
	close(peer.fd);
	peer.fd = -1;
	d->pid = 0;
}

int daemon_failed(struct daemon *d, struct err *err)
{
	(void)d;
	(void)err;
	return -1;
}

void daemon_lost(struct daemon *d, int sig, int wake_fd)
{
	(void)wake_fd;
	d->lost = sig;
}

int daemon_ready(struct daemon *d, int fd, struct err *err)
{
	char byte;

	return read(fd, &byte, 1) == 1 ? 0 : daemon_failed(d, err);
}

int daemon_wait(struct daemon *d, struct err *err)
{
	return daemon_failed(d, err);
}

/*
 * The kernel's vhost, and a tap device, whose part here are open() and ioctl(). They
 * say no to what the input chooses, and must be told nothing that is wrong.
 */
static struct {
	int vhost, tap, error;	/* -1: none */
	u64 ram, features;
	u32 num[VIRTIO_QUEUES];
} kernel;

int __real_open(const char *path, int flags, ...);
int __real_ioctl(int fd, unsigned long request, ...);
int __wrap_open(const char *path, int flags, mode_t mode);
int __wrap_ioctl(int fd, unsigned long request, void *arg);
unsigned int __wrap_if_nametoindex(const char *name);

unsigned int __wrap_if_nametoindex(const char *name)
{
	(void)name;
	return 1;
}

int __wrap_open(const char *path, int flags, mode_t mode)
{
	if (!strncmp(path, "/dev/vhost-", 11))
		return kernel.vhost = eventfd(0, EFD_CLOEXEC);
	if (!strcmp(path, "/dev/net/tun"))
		return kernel.tap = eventfd(0, EFD_CLOEXEC);
	return __real_open(path, flags, mode);
}

static void check_ring(u64 address, u64 len)
{
	if (address < kernel.ram || address > kernel.ram + DRIVER_RAM ||
	    len > kernel.ram + DRIVER_RAM - address)
		abort();
}

static void check_told(unsigned long request, void *arg)
{
	struct vhost_vring_state *state = arg;
	struct vhost_vring_addr *addr = arg;
	struct vhost_vring_file *file = arg;
	struct vhost_memory *memory = arg;
	u32 num;

	/* They all begin with the queue's number. */
	if ((_IOC_NR(request) >= 0x10 && _IOC_NR(request) <= 0x22 && state->index >= VIRTIO_QUEUES) ||
	    (request == VHOST_SET_FEATURES && *(u64 *)arg & ~kernel.features))
		abort();
	switch (request) {
	case VHOST_SET_MEM_TABLE:
		if (memory->nregions != 1 || memory->regions[0].guest_phys_addr ||
		    memory->regions[0].memory_size != DRIVER_RAM)
			abort();
		check_ring(memory->regions[0].userspace_addr, DRIVER_RAM);
		break;
	case VHOST_SET_VRING_NUM:
		if (!state->num || state->num > VQ_SIZE || state->num & (state->num - 1))
			abort();
		kernel.num[state->index] = state->num;
		break;
	case VHOST_SET_VRING_ADDR:
		num = kernel.num[addr->index];
		if (!num)
			abort();
		check_ring(addr->desc_user_addr, num * sizeof(struct vring_desc));
		check_ring(addr->avail_user_addr, 6 + 2 * num);
		check_ring(addr->used_user_addr, 6 + num * sizeof(struct vring_used_elem));
		break;
	case VHOST_SET_VRING_ERR:
		kernel.error = file->fd;
		break;
	}
}

int __wrap_ioctl(int fd, unsigned long request, void *arg)
{
	bool creates = request == VHOST_SET_OWNER || request == VHOST_GET_FEATURES ||
		       request == VHOST_VSOCK_SET_GUEST_CID || request == TUNSETIFF ||
		       request == TUNSETVNETHDRSZ;

	if (fd < 0 || (fd != kernel.vhost && fd != kernel.tap))
		return __real_ioctl(fd, request, arg);
	if (fd == kernel.vhost)
		check_told(request, arg);
	if (request == VHOST_GET_FEATURES)
		*(u64 *)arg = kernel.features = peer.value | 1ULL << VIRTIO_F_VERSION_1;
	if (request == VHOST_GET_VRING_BASE)
		((struct vhost_vring_state *)arg)->num = peer.value >> 7;
	if (creates || !(peer.value & 1) || !(peer.value >> _IOC_NR(request) % 40 & 1))
		return 0;
	errno = EINVAL;
	return -1;
}

static void nothing(void *unused)
{
	(void)unused;
}

static void arm(void *unused, bool on)
{
	(void)unused;
	(void)on;
}

/* What is no virtio device. */
static void ports(struct input *in)
{
	static const u16 port[] = { 0x3f8, RTC_PORT, I8042_PORT, PM_BASE, PCI_PORTS };
	struct i8042 i8042 = { .reset = nothing };
	struct irq_line irq = { 0 };
	static struct serial serial;
	static struct rtc rtc;
	static struct pci pci;
	static struct pm pm;
	struct bus bus = { 0 };
	u8 bytes[64] = { 0 };
	u64 value;
	u32 n;

	serial_init(&serial, irq, nothing, NULL);
	rtc_init(&rtc, irq, arm, NULL, NULL);
	pm_init(&pm, irq, nothing, NULL, NULL);
	pci_init(&pci, nothing, NULL, NULL);
	bus_add(&bus, "serial", 0x3f8, 8, true, serial_access, &serial);
	bus_add(&bus, "rtc", RTC_PORT, RTC_PORT_COUNT, true, rtc_access, &rtc);
	bus_add(&bus, "i8042", I8042_PORT, I8042_PORT_COUNT, true, i8042_access, &i8042);
	bus_add(&bus, "pm", PM_BASE, PM_SIZE, false, pm_access, &pm);
	bus_add(&bus, "pci", PCI_PORTS, PCI_PORTS_SIZE, false, pci_access, &pci);
	while (in->left) {
		n = take(in, 1);
		value = take(in, 4);
		bus_access(&bus, port[n % ARRAY_SIZE(port)] + take(in, 1) % 16, &value,
			   1 << (n >> 4) % 4, n & 8);
		if (n > 250)
			pm_press_power_button(&pm);
		if (n > 240)
			rtc_tick(&rtc);
		if (n > 230)
			serial_rx_push(&serial, bytes, take(in, 1) % sizeof(bytes));
		if (n > 220)
			serial_tx_consume(&serial, serial_tx_peek(&serial, bytes, sizeof(bytes)));
	}
}

/* The walker alone: memory is nothing but the input, over and over. */
static void walk(struct input *in)
{
	static struct driver d;
	struct virtio_queue q = { .size = 1 << (take(in, 1) % 9) };
	struct vq_chain chain;
	struct err err;
	unsigned int i, n;
	u32 at;

	if (driver_init(&d, &err) < 0)
		abort();
	q.event_idx = take(in, 1) & 1;
	for (i = 0; i < 3; i++)
		q.gpa[i] = take(in, 3);
	for (at = 0; in->left && at + in->left <= 0x40000; at += in->left)
		memcpy(d.ram.host + at, in->p, in->left);
	if (!vq_enable(&q, &d.ram)) {
		for (n = 0; n < 100000 && vq_pop(&q, &d.ram, &chain) > 0; n++) {
			if (chain.out + chain.in > VQ_SIZE)
				abort();
			for (i = 0; i < chain.out + chain.in; i++) {
				u8 *p = chain.iov[i].iov_base;

				if (p < d.ram.host || chain.iov[i].iov_len > DRIVER_RAM ||
				    p + chain.iov[i].iov_len > d.ram.host + DRIVER_RAM)
					abort();
			}
			vq_push(&q, &chain, 0);
			vq_wants_interrupt(&q);
		}
		if (n > 0x10000)
			abort();
	}
	driver_end(&d);
}

/* A request to a disk that is right but for its contents, and its answer. */
static void disk_request(struct driver *d, struct input *in)
{
	u16 idx = driver_used(d, 0)->idx;
	u64 head[2] = { take(in, 1) % 16, take(in, 2) };
	u64 range[2] = { take(in, 2), take(in, 4) };
	u32 len = take(in, 1) % 2 ? 16 : take(in, 1) % 16 * 512;
	unsigned int ms;

	memcpy(d->ram.host + DRIVER_DATA, head, sizeof(head));
	memcpy(d->ram.host + DRIVER_DATA + 4096, range, sizeof(range));
	driver_desc(d, 0)[0] = (struct vring_desc){ DRIVER_DATA, 16, VRING_DESC_F_NEXT, 1 };
	driver_desc(d, 0)[1] = (struct vring_desc){ DRIVER_DATA + 4096, len,
		VRING_DESC_F_NEXT | (take(in, 1) & VRING_DESC_F_WRITE), 2 };
	driver_desc(d, 0)[2] = (struct vring_desc){ DRIVER_DATA + 64, 1,
		VRING_DESC_F_WRITE, 0 };
	driver_submit(d, 0, 1 << (take(in, 1) % 9), 0);
	for (ms = 0; ms < 3 && driver_used(d, 0)->idx == idx; ms++)
		poll(NULL, 0, 1);
}

/* The framebuffer adapter: whatever its registers say, a picture is in its memory. */
static void play_display(struct driver *d, struct input *in)
{
	static struct bochs b;
	struct picture p;
	struct err err;
	u32 address;
	u64 a;

	memset(&b, 0, sizeof(b));
	if (bochs_add(&b, &d->pci, &err) < 0)
		abort();
	driver_enable(d);
	while (in->left) {
		a = take(in, 1);
		switch (a % 4) {
		case 0:
			driver_write(d, PCI_WINDOW + VIDEO_MEMORY + 0x500 + a / 4 % 16 * 2, 2,
				     take(in, 2));
			break;
		case 1:
			driver_write(d, PCI_WINDOW + take(in, 4), 1 << a / 4 % 4, take(in, 8));
			break;
		case 2:
			driver_read(d, PCI_WINDOW + take(in, 4), 1 << a / 4 % 4);
			break;
		case 3:
			address = 0x80000800 | (take(in, 1) & 0xfc);
			a = take(in, 4);
			bus_access(&d->bus, 0xcf8, &address, 4, true);
			bus_access(&d->bus, 0xcfc, &a, 4, true);
			break;
		}
		if (picture_find(b.fd, &p) &&
		    p.offset + p.stride * (p.height - 1) + 4 * p.width > VIDEO_MEMORY)
			abort();
	}
	bochs_remove(&b);
}

static void play(struct driver *d, struct input *in, int keyboard)
{
	struct virtio_input_event keys[8] = { 0 };

	u64 a, b, value;
	u32 address;

	while (in->left) {
		switch (take(in, 1) % 9) {
		case 0:		/* memory: where rings are */
			a = 0x10000 + take(in, 2) % 0x3000 * 16;
			for (b = take(in, 1) % 64; b; b--)
				d->ram.host[a++] = take(in, 1);
			break;
		case 1:
			a = take(in, 2) % 0x4000;
			b = take(in, 1) % 4;
			driver_write(d, DRIVER_BAR + a, 1 << b, take(in, 1 << b));
			break;
		case 2:
			a = take(in, 2) % 0x4000;
			driver_read(d, DRIVER_BAR + a, 1 << take(in, 1) % 4);
			break;
		case 3:		/* configuration space */
			address = 0x80000800 | (take(in, 1) & 0xfc);
			value = take(in, 4);
			bus_access(&d->bus, 0xcf8, &address, 4, true);
			bus_access(&d->bus, 0xcfc, &value, 4, true);
			driver_enable(d);
			break;
		case 4:
			driver_start(d, 1 << (take(in, 1) % 9), take(in, 8));
			break;
		case 5:		/* a descriptor that is nearly right */
			a = take(in, 1);
			driver_desc(d, a % 3)[take(in, 1)] = (struct vring_desc){
				DRIVER_DATA + take(in, 3) % 0x110000, take(in, 2),
				take(in, 1), take(in, 2) % 300 };
			break;
		case 6:
			a = take(in, 1) % 3;
			driver_submit(d, a, 1 << (take(in, 1) % 9), take(in, 1));
			break;
		case 7:
			disk_request(d, in);
			break;
		case 8:
			value = take(in, 8);
			if (kernel.error >= 0)
				eventfd_write(kernel.error, 1);	/* it has found a queue broken */
			else if (keyboard >= 0)
				send(keyboard, keys, value % 9 * sizeof(*keys), MSG_DONTWAIT | MSG_NOSIGNAL);
			else if (peer.fd >= 0 && !peer.answers &&
				 send(peer.fd, &value, take(in, 1) % 9, MSG_DONTWAIT | MSG_NOSIGNAL) < 0)
				break;
			break;
		}
	}
}

int LLVMFuzzerTestOneInput(const u8 *data, size_t size)
{
	struct input in = { data, size };
	static struct driver d;
	int keyboard[2] = { -1, -1 };
	static char disk[32], qcow2[48];
	struct err err;
	int ret;

	if (!disk[0]) {
		int fd = memfd_create("disk", 0);

		if (fd < 0 || ftruncate(fd, 65536) < 0)
			abort();
		snprintf(disk, sizeof(disk), "/proc/self/fd/%d", fd);
		snprintf(qcow2, sizeof(qcow2), "%s,format=qcow2", disk);
	}
	switch (take(&in, 1) % 4) {
	case 0:
		walk(&in);
		return 0;
	case 1:
		ports(&in);
		return 0;
	}
	peer.value = take(&in, 5);
	if (driver_init(&d, &err) < 0)
		abort();
	memset(&kernel, 0, sizeof(kernel));
	kernel.vhost = -1;
	kernel.tap = -1;
	kernel.error = -1;
	kernel.ram = (uintptr_t)d.ram.host;
	switch (take(&in, 1) % 11) {
	case 0:
		ret = rng_create(&d.host, NULL, &err);
		break;
	case 1:
		ret = blk_create(&d.host, disk, &err);
		break;
	case 2:
		ret = balloon_create(&d.host, "1", &err);
		break;
	case 3:
		ret = net_create(&d.host, "user", &err);
		break;
	case 4:
		ret = fs_create(&d.host, "/proc,tag=t", &err);
		break;
	case 5:
		ret = blk_create(&d.host, qcow2, &err);
		break;
	case 6:
		ret = socketpair(AF_UNIX, SOCK_SEQPACKET, 0, keyboard);
		ret = ret ? ret : input_create(&d.host, size % 2, keyboard[0], &err);
		break;
	case 7:
		play_display(&d, &in);
		driver_end(&d);
		return 0;
	case 8:
		ret = net_create(&d.host, "tap=keel", &err);
		break;
	case 9:
		ret = vsock_create(&d.host, "7", &err);
		break;
	default:
		ret = console_create(&d.host, "file:/dev/null", &err);
		break;
	}
	if (ret < 0)
		abort();
	driver_enable(&d);
	play(&d, &in, keyboard[1]);
	close(keyboard[1]);
	driver_end(&d);
	return 0;
}
