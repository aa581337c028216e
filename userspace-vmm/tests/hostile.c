// SPDX-License-Identifier: GPL-2.0-only
/*
 * In a guest: drive every virtio device with random queues and registers.
 *	hostile SECONDS SEED
 *
 * A device's driver is taken away first and given back at the end. What a device
 * is let write to is this program's own memory or no memory at all, and so is what
 * a balloon is given: a guest that ruins itself would show nothing. The interrupts
 * are harmless ones, for the same reason.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>
#include <linux/pci_regs.h>
#include <linux/virtio_config.h>
#include <linux/virtio_pci.h>
#include <linux/virtio_ring.h>

#define DEVICES 16
#define PAGES 32		/* of each device, of which queue N has 3 N to 3 N + 2 */
#define PAGE 4096
#define QUEUES 4
#define TABLE_PAGE (3 * QUEUES)	/* of descriptors; devices do not write here */
#define DATA_PAGE (TABLE_PAGE + 1)
#define CONFIG 0x800
#define NOTIFY 0x1000
#define MSIX 0x2000
#define BAR_SIZE 0x4000
#define VIRTIO_ID_BALLOON 5
#define VIRTIO_ID_FS 26

struct device {
	char name[32];
	int id;
	int config;		/* the file */
	volatile uint8_t *bar;
	uint8_t *mem;
	uint64_t gpa[PAGES];
	unsigned int queues;
	uint16_t size[QUEUES];
	unsigned int resets;	/* that it asked for */
	unsigned int answers;	/* used indices that moved */
	int alive;		/* it can still be started */
};

static struct device devices[DEVICES];
static unsigned int count;
static uint64_t seed;

static uint32_t rnd(uint32_t n)
{
	seed = seed * 6364136223846793005ULL + 1442695040888963407ULL;
	return (seed >> 33) % n;
}

static uint64_t rnd64(void)
{
	return (uint64_t)rnd(1U << 31) << 40 ^ (uint64_t)rnd(1U << 31) << 20 ^ rnd(1U << 31);
}

static void put(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY);

	if (fd < 0 || write(fd, text, strlen(text)) < 0)
		fprintf(stderr, "hostile: %s: %s\n", path, strerror(errno));
	if (fd >= 0)
		close(fd);
}

static uint64_t physical(const void *p)
{
	int fd = open("/proc/self/pagemap", O_RDONLY);
	uint64_t entry = 0;

	if (fd < 0 || pread(fd, &entry, 8, (uintptr_t)p / PAGE * 8) != 8 || !(entry << 9)) {
		perror("hostile: pagemap");
		exit(1);
	}
	close(fd);
	return (entry & ((1ULL << 55) - 1)) * PAGE;
}

static int open_device(struct device *d, const char *name)
{
	uint16_t ids[2] = { 0 };
	char path[128];
	int fd, i;

	snprintf(d->name, sizeof(d->name), "%.31s", name);
	snprintf(path, sizeof(path), "/sys/bus/pci/devices/%.31s/config", name);
	d->config = open(path, O_RDWR);
	if (d->config < 0 || pread(d->config, ids, 4, 0) != 4 || ids[0] != 0x1af4) {
		close(d->config);
		return -1;
	}
	d->id = ids[1] - 0x1040;
	snprintf(path, sizeof(path), "/sys/bus/pci/devices/%.31s/driver/unbind", name);
	if (!access(path, F_OK))
		put(path, name);
	snprintf(path, sizeof(path), "/sys/bus/pci/devices/%.31s/enable", name);
	put(path, "1");
	snprintf(path, sizeof(path), "/sys/bus/pci/devices/%.31s/resource0", name);
	fd = open(path, O_RDWR);
	d->bar = mmap(NULL, BAR_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	d->mem = mmap(NULL, PAGES * PAGE, PROT_READ | PROT_WRITE,
		      MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE | MAP_LOCKED, -1, 0);
	if (d->bar == MAP_FAILED || d->mem == MAP_FAILED) {
		perror("hostile: mmap");
		exit(1);
	}
	close(fd);
	for (i = 0; i < PAGES; i++)
		d->gpa[i] = physical(d->mem + i * PAGE);
	return 0;
}

static void w(struct device *d, unsigned int at, unsigned int size, uint64_t value)
{
	switch (size) {
	case 1:
		d->bar[at] = value;
		break;
	case 2:
		*(volatile uint16_t *)(d->bar + at) = value;
		break;
	case 4:
		*(volatile uint32_t *)(d->bar + at) = value;
		break;
	case 8:
		*(volatile uint64_t *)(d->bar + at) = value;
		break;
	}
}

static uint32_t r(struct device *d, unsigned int at, unsigned int size)
{
	return size == 1 ? d->bar[at] : size == 2 ? *(volatile uint16_t *)(d->bar + at) :
	       *(volatile uint32_t *)(d->bar + at);
}

/* Memory of ours, mostly; otherwise none: the hole for devices, its edges, the far end. */
static uint64_t address(struct device *d, unsigned int page)
{
	switch (rnd(24)) {
	case 0: return 0xc0000000 + rnd64() % 0x3ec00000;
	case 1: return rnd64() | 1ULL << 62;
	case 2: return ~0ULL - rnd(64);
	case 3: return 0xc0000000 - rnd(2) * 8;
	default: return d->gpa[page] + (rnd(4) ? 0 : rnd(16));
	}
}

/* A length that stays in the page, or is far too long for any memory. */
static uint32_t length(uint64_t at)
{
	return rnd(30) ? rnd(PAGE - at % PAGE + 1) : 0x80000000 + rnd(0x7fffffff);
}

static void fill_desc(struct device *d, struct vring_desc *desc)
{
	static const uint32_t lengths[] = { 16, 1, 12, 512, 44, 0 };

	desc->addr = address(d, DATA_PAGE + rnd(PAGES - DATA_PAGE));
	desc->len = length(desc->addr);
	if (!rnd(3) && desc->addr % PAGE < PAGE - 512)	/* what requests look like */
		desc->len = lengths[rnd(6)];
	desc->flags = (rnd(40) ? rnd(4) : rnd(65536)) & ~VRING_DESC_F_INDIRECT;
	desc->next = rnd(16) ? rnd(8) : rnd(65536);
	if (rnd(12))
		return;
	desc->flags = VRING_DESC_F_INDIRECT | (rnd(8) ? 0 : rnd(4));
	desc->addr = address(d, TABLE_PAGE);
	desc->len = 16 * rnd(20) + (rnd(8) ? 0 : rnd(16));
}

/* Contents that look like heads of requests, or like page numbers, which must be ours. */
static void fill_data(struct device *d)
{
	uint32_t *p = (uint32_t *)(d->mem + (DATA_PAGE + rnd(PAGES - DATA_PAGE)) * PAGE);
	struct vring_desc *table = (struct vring_desc *)(d->mem + TABLE_PAGE * PAGE);
	unsigned int i;

	for (i = 0; i < PAGE / 4; i++) {
		if (d->id == VIRTIO_ID_BALLOON)
			p[i] = rnd(2) ? d->gpa[DATA_PAGE + rnd(PAGES - DATA_PAGE)] / PAGE :
					0x80000000 + rnd(1U << 31);
		else
			p[i] = rnd(3) ? rnd(64) : rnd(1U << 31) << rnd(2);
	}
	for (i = 0; i < 20; i++)
		fill_desc(d, table + i);
}

/* A request that is right but for its contents: of a disk, of a file system. */
static void fill_request(struct device *d, struct vring_desc *desc)
{
	uint32_t *head = (uint32_t *)(d->mem + DATA_PAGE * PAGE), len = 16;

	if (d->id == VIRTIO_ID_FS) {
		len = 40 + 8 * rnd(12);
		head[0] = len;
		head[1] = rnd(3) ? rnd(56) : 26;	/* the session's start */
		head[4] = 1;
	} else {
		head[0] = rnd(14);
		head[2] = rnd(4096);
	}
	desc[0] = (struct vring_desc){ d->gpa[DATA_PAGE], len, VRING_DESC_F_NEXT, 1 };
	desc[1] = (struct vring_desc){ d->gpa[DATA_PAGE + 1], 512 * rnd(9), VRING_DESC_F_NEXT |
				       (rnd(3) ? VRING_DESC_F_WRITE : 0), 2 };
	desc[2] = (struct vring_desc){ d->gpa[DATA_PAGE + 2], 1 + rnd(2) * 100, VRING_DESC_F_WRITE, 0 };
}

/* Interrupts on or off: the flags of the capability. */
static void set_msix(struct device *d, int on)
{
	uint16_t flags = on ? PCI_MSIX_FLAGS_ENABLE : 0;
	uint8_t config[256];
	unsigned int at;

	if (pread(d->config, config, sizeof(config), 0) != sizeof(config))
		return;
	for (at = config[PCI_CAPABILITY_LIST]; at && config[at] != PCI_CAP_ID_MSIX; at = config[at + 1])
		;
	if (at && pwrite(d->config, &flags, 2, at + PCI_MSIX_FLAGS) < 0)
		return;
}

static void start(struct device *d)
{
	unsigned int q, i, ms;
	uint64_t features = 0;

	w(d, VIRTIO_PCI_COMMON_STATUS, 1, 0);
	for (ms = 0; ms < 5000 && r(d, VIRTIO_PCI_COMMON_STATUS, 1); ms++)
		usleep(1000);
	w(d, VIRTIO_PCI_COMMON_STATUS, 1, 3);
	for (i = 0; i < 2; i++) {
		w(d, VIRTIO_PCI_COMMON_DFSELECT, 4, i);
		features |= (uint64_t)r(d, VIRTIO_PCI_COMMON_DF, 4) << 32 * i;
	}
	if (!rnd(4))
		features &= rnd64() | 1ULL << VIRTIO_F_VERSION_1;
	if (!rnd(16))
		features ^= 1ULL << rnd(64);
	for (i = 0; i < 2; i++) {
		w(d, VIRTIO_PCI_COMMON_GFSELECT, 4, i);
		w(d, VIRTIO_PCI_COMMON_GF, 4, features >> 32 * i);
	}
	w(d, VIRTIO_PCI_COMMON_STATUS, 1, 11);
	d->queues = r(d, VIRTIO_PCI_COMMON_NUMQ, 2);
	if (d->queues > QUEUES)
		d->queues = QUEUES;
	for (q = 0; q < d->queues; q++) {
		memset(d->mem + 3 * q * PAGE, 0, 3 * PAGE);
		w(d, VIRTIO_PCI_COMMON_Q_SELECT, 2, q);
		d->size[q] = 1 << rnd(9);
		w(d, VIRTIO_PCI_COMMON_Q_SIZE, 2, rnd(32) ? d->size[q] : rnd(65536));
		w(d, VIRTIO_PCI_COMMON_Q_MSIX, 2, rnd(5));
		for (i = 0; i < 3; i++) {
			uint64_t at = rnd(32) ? d->gpa[3 * q + i] : address(d, 3 * q + i);

			w(d, VIRTIO_PCI_COMMON_Q_DESCLO + 8 * i, 4, at);
			w(d, VIRTIO_PCI_COMMON_Q_DESCHI + 8 * i, 4, at >> 32);
		}
		if (rnd(32))
			w(d, VIRTIO_PCI_COMMON_Q_ENABLE, 2, 1);
	}
	w(d, VIRTIO_PCI_COMMON_STATUS, 1, 15);
}

static void requests(struct device *d)
{
	unsigned int q = rnd(d->queues), i, n = 1 + rnd(12);
	struct vring_desc *desc = (struct vring_desc *)(d->mem + 3 * q * PAGE);
	struct vring_avail *avail = (struct vring_avail *)(d->mem + (3 * q + 1) * PAGE);
	volatile struct vring_used *used = (struct vring_used *)(d->mem + (3 * q + 2) * PAGE);
	uint16_t before = used->idx;

	fill_data(d);
	for (i = 0; i < 8; i++)
		fill_desc(d, &desc[rnd(16) ? i : rnd(256)]);
	if (d->id != VIRTIO_ID_BALLOON && rnd(3)) {
		fill_request(d, desc);
		n = 1;
		avail->ring[avail->idx % d->size[q]] = 0;
	}
	for (i = 0; n > 1 && i < n; i++)
		avail->ring[(uint16_t)(avail->idx + i) % d->size[q]] = rnd(24) ? rnd(8) : rnd(65536);
	avail->flags = rnd(4);
	__atomic_store_n(&avail->idx, (uint16_t)(avail->idx + (rnd(32) || n == 1 ? n : rnd(65536))),
			 __ATOMIC_RELEASE);
	w(d, NOTIFY + 4 * q, 2, q);
	usleep(rnd(3) * 500);
	d->answers += used->idx != before;
}

static void registers(struct device *d)
{
	unsigned int size = 1 << rnd(4), at = rnd(5) ? rnd(64) : rnd(NOTIFY + 16);
	static const uint8_t status[] = { 1, 3, 4, 8, 11, 15, 64, 128, 255 };

	at &= ~(size - 1);
	switch (rnd(4)) {
	case 0:
		w(d, VIRTIO_PCI_COMMON_STATUS, 1, status[rnd(sizeof(status))]);
		break;
	case 1:		/* rings at memory that is not ours would be written to */
		if (at + size <= VIRTIO_PCI_COMMON_Q_DESCLO || at > VIRTIO_PCI_COMMON_Q_USEDHI + 3)
			w(d, at, size, rnd64() >> rnd(64));
		break;
	default:
		if (size < 8)
			r(d, at, size);
		break;
	}
}

static void interrupts(struct device *d)
{
	unsigned int at = MSIX + PCI_MSIX_ENTRY_SIZE * rnd(20);

	w(d, at, 4, 0xfee00000);
	w(d, at + 4, 4, 0);
	w(d, at + 8, 4, 0x21 + rnd(14));	/* vectors that Linux does not give out */
	w(d, at + 12, 4, rnd(3) ? 0 : rnd(1U << 31));
	(void)r(d, MSIX + 0x800 + 4 * rnd(64), 4);
}

/* Registers of PCI, put back at once. */
static void config_space(struct device *d)
{
	uint8_t saved[256];
	unsigned int i, n = 1 + rnd(4);

	if (pread(d->config, saved, sizeof(saved), 0) != sizeof(saved))
		return;
	for (i = 0; i < n; i++) {
		uint32_t value = rnd64();
		unsigned int at = rnd(2) ? PCI_COMMAND + rnd(40) : rnd(256);

		if (pwrite(d->config, &value, 1 << rnd(3), at) < 0)
			break;
	}
	for (i = 0; i < sizeof(saved); i += 4) {
		if (pwrite(d->config, saved + i, 4, i) < 0)
			break;
	}
}

static void play(struct device *d)
{
	unsigned int i, n = rnd(40);

	start(d);
	set_msix(d, rnd(2));
	for (i = 0; i < n; i++) {
		switch (rnd(10)) {
		case 0:
			registers(d);
			break;
		case 1:
			interrupts(d);
			break;
		case 2:
			if (!rnd(4))
				config_space(d);
			break;
		default:
			requests(d);
			break;
		}
		if (r(d, VIRTIO_PCI_COMMON_STATUS, 1) & VIRTIO_CONFIG_S_NEEDS_RESET) {
			d->resets++;
			break;
		}
	}
}

int main(int argc, char **argv)
{
	time_t end = time(NULL) + (argc > 1 ? atoi(argv[1]) : 10);
	DIR *dir = opendir("/sys/bus/pci/devices");
	unsigned int i, tries, rounds = 0;
	struct dirent *entry;

	seed = argc > 2 ? atoi(argv[2]) : 1;
	while (dir && (entry = readdir(dir)) && count < DEVICES) {
		if (*entry->d_name != '.')
			count += !open_device(&devices[count], entry->d_name);
	}
	if (dir)
		closedir(dir);
	for (; time(NULL) < end; rounds++)
		play(&devices[rounds % count]);
	for (i = 0; i < count; i++) {
		struct device *d = &devices[i];

		/* One of some starts has nothing wrong, unless a daemon is gone. */
		for (tries = 100; tries; tries--) {
			start(d);
			if (!(r(d, VIRTIO_PCI_COMMON_STATUS, 1) & VIRTIO_CONFIG_S_NEEDS_RESET))
				break;
		}
		w(d, VIRTIO_PCI_COMMON_STATUS, 1, 0);
		set_msix(d, 0);
		d->alive = tries > 0;
		printf("device=%s resets=%s answers=%s alive=%d\n", d->name, d->resets ? "some" : "none",
		       d->answers ? "some" : "none", d->alive);
		fprintf(stderr, "%s: %u resets, %u answers\n", d->name, d->resets, d->answers);
		munmap((void *)d->bar, BAR_SIZE);
	}
	printf("rounds=%u\n", rounds);
	for (i = 0; i < count; i++) {
		if (devices[i].alive)
			put("/sys/bus/pci/drivers_probe", devices[i].name);
	}
	return !count;
}
