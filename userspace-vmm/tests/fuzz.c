// SPDX-License-Identifier: GPL-2.0-only
/*
 * libFuzzer target: any rings, any accesses to registers.
 *
 * The first byte chooses a device; the rest is a list of what a guest may do to
 * it. Besides the sanitizers it checks that whatever vq_pop() gives out lies in
 * guest memory, and that a queue comes to its end.
 */
#include <stdio.h>
#include <sys/mman.h>
#include <unistd.h>

#include "driver.h"

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

static void play(struct driver *d, struct input *in)
{
	u64 a, b, value;
	u32 address;

	while (in->left) {
		switch (take(in, 1) % 8) {
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
		}
	}
}

int LLVMFuzzerTestOneInput(const u8 *data, size_t size)
{
	struct input in = { data, size };
	static struct driver d;
	static char disk[32];
	struct err err;
	int ret;

	if (!disk[0]) {
		int fd = memfd_create("disk", 0);

		if (fd < 0 || ftruncate(fd, 65536) < 0)
			abort();
		snprintf(disk, sizeof(disk), "/proc/self/fd/%d", fd);
	}
	if (take(&in, 1) % 2) {
		walk(&in);
		return 0;
	}
	if (driver_init(&d, &err) < 0)
		abort();
	switch (take(&in, 1) % 4) {
	case 0:
		ret = rng_create(&d.host, NULL, &err);
		break;
	case 1:
		ret = blk_create(&d.host, disk, &err);
		break;
	case 2:
		ret = balloon_create(&d.host, "1", &err);
		break;
	default:
		ret = console_create(&d.host, "file:/dev/null", &err);
		break;
	}
	if (ret < 0)
		abort();
	driver_enable(&d);
	play(&d, &in);
	driver_end(&d);
	return 0;
}
