// SPDX-License-Identifier: GPL-2.0-only
/*
 * The framebuffer adapter's registers, input devices, and what a viewer gets.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>
#include <arpa/inet.h>
#include <linux/input.h>

#include "driver.h"
#include "socket.h"
#include "tap.h"

#define MEMORY PCI_WINDOW
#define REGISTER(n) (PCI_WINDOW + VIDEO_MEMORY + 0x500 + 2 * (n))

static struct driver d;
static struct err err;
static char path[64];

static void set(unsigned int n, u16 value)
{
	driver_write(&d, REGISTER(n), 2, value);
}

static void set_mode(u16 width, u16 height)
{
	set(BOCHS_ENABLE, 0);
	set(BOCHS_XRES, width);
	set(BOCHS_YRES, height);
	set(BOCHS_BPP, 32);
	set(BOCHS_VIRT_WIDTH, width);
	set(BOCHS_X_OFFSET, 0);
	set(BOCHS_Y_OFFSET, 0);
	set(BOCHS_ENABLE, 0x41);
}

static bool shown(struct picture *p)
{
	return picture_find(d.host.display->bochs.fd, p);
}

static void test_registers(void)
{
	struct bochs *b = &d.host.display->bochs;
	u32 address = 0x80000800, id = 0;
	struct picture p;

	bus_access(&d.bus, 0xcf8, &address, 4, true);
	bus_access(&d.bus, 0xcfc, &id, 4, false);
	is(id, 0x11111234, "what Linux looks for");
	is(driver_read(&d, REGISTER(BOCHS_ID), 2), 0xb0c5, "its version");
	set(BOCHS_ID, 0xb0c0);
	is(driver_read(&d, REGISTER(BOCHS_ID), 2), 0xb0c5, "which stays");
	set(BOCHS_MEMORY_64K, 1);
	is(driver_read(&d, REGISTER(BOCHS_MEMORY_64K), 2), 256, "16 MiB");
	is(driver_read(&d, REGISTER(BOCHS_MEMORY_64K + 1), 2), 0xffff, "no register");
	is(driver_read(&d, REGISTER(BOCHS_ID), 4), 0xffffffff, "not two at once");
	ok(!shown(&p), "no picture");
	set_mode(800, 600);
	is(driver_read(&d, REGISTER(BOCHS_XRES), 2), 800, "a register");
	ok(shown(&p) && p.width == 800 && p.height == 600 && p.stride == 3200 && !p.offset,
	   "a picture");
	set(BOCHS_VIRT_WIDTH, 1024);
	set(BOCHS_X_OFFSET, 5);
	set(BOCHS_Y_OFFSET, 600);
	ok(shown(&p) && p.width == 800 && p.stride == 4096 && p.offset == 600 * 4096 + 20,
	   "somewhere in a larger one");
	set(BOCHS_VIRT_WIDTH, 10);
	ok(shown(&p) && p.stride == 3200, "a row is not shorter than what is shown of it");
	set(BOCHS_BPP, 16);
	ok(!shown(&p), "only pixels of 32 bits");
	set_mode(2048, 2048);
	ok(shown(&p), "all of the memory");
	set(BOCHS_X_OFFSET, 1);
	ok(!shown(&p), "and a pixel more");
	set_mode(0xffff, 0xffff);
	set(BOCHS_VIRT_WIDTH, 0xffff);
	set(BOCHS_Y_OFFSET, 0xffff);
	ok(!shown(&p), "the largest numbers");
	set_mode(0, 600);
	ok(!shown(&p), "nothing wide");
	set_mode(640, 480);
	bochs_save(b);
	set_mode(800, 600);
	b->saved.reg[BOCHS_ID] = 7;
	is(bochs_load(b), 0, "from a snapshot");
	ok(shown(&p) && p.width == 640, "the picture that was there");
	is(driver_read(&d, REGISTER(BOCHS_ID), 2), 0xb0c5, "but not what is never written");
	b->saved.pci.config[0] ^= 1;
	is(bochs_load(b), -1, "another device's state");
	driver_write(&d, MEMORY + VIDEO_MEMORY - 8, 8, 0x1122334455667788ULL);
	is(driver_read(&d, MEMORY + VIDEO_MEMORY - 8, 8), 0x1122334455667788ULL, "memory");
	ok(pwrite(b->fd, "", 1, 0) < 0 && ftruncate(b->fd, 0) < 0 &&
	   mmap(NULL, 4096, PROT_WRITE, MAP_SHARED, b->fd, 0) == MAP_FAILED,
	   "which who has the file cannot change");
}

static bool get(int fd, void *to, size_t n)
{
	return recv(fd, to, n, MSG_WAITALL) == (ssize_t)n;
}

static int view(void)
{
	static const u8 want[] = { 3, 32, 2, 88, 32, 24, 0, 255, 0, 255, 0, 255, 0, 255, 16, 8, 0 };
	static const u8 encodings[] = { 2, 0, 0, 2, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0x21 };
	struct timeval patience = { .tv_sec = 20 };
	struct sockaddr_un addr = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM, 0);
	u8 in[64];

	strcpy(addr.sun_path, path);
	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
	ok(!connect(fd, (struct sockaddr *)&addr, sizeof(addr)) && get(fd, in, 12) &&
	   send(fd, "RFB 003.008\n", 12, 0) == 12 && get(fd, in, 2) &&
	   send(fd, "\1", 1, 0) == 1 && get(fd, in, 4) &&
	   send(fd, "\1", 1, 0) == 1 && get(fd, in, 24), "a viewer");
	ok(!memcmp(in, want, sizeof(want)), "its size, pixels as the guest has them");
	get(fd, in + 24, in[23]);
	send(fd, encodings, sizeof(encodings), 0);
	return fd;
}

/* An update of one rectangle. Return: its height, and in @rect all of it. */
static u16 update(int fd, bool incremental, u16 rect[4], u32 *encoding, u32 *pixels)
{
	u8 ask[10] = { 3, incremental, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff };
	u8 head[4];
	u16 in[4];
	u32 e, i;

	send(fd, ask, sizeof(ask), 0);
	if (!get(fd, head, 4) || !get(fd, in, 8) || !get(fd, &e, 4))
		return 0;
	for (i = 0; i < 4; i++)
		rect[i] = ntohs(in[i]);
	*encoding = ntohl(e);
	if (!*encoding && !get(fd, pixels, 4UL * rect[2] * rect[3]))
		return 0;
	return rect[3];
}

static void test_viewer(void)
{
	static u32 pixels[1024 * 768], want[1024 * 768];
	u32 encoding, i;
	u16 rect[4];
	int fd;

	for (i = 0; i < ARRAY_SIZE(want); i++)
		want[i] = i * 2654435761U & 0xffffff;
	set_mode(800, 600);
	for (i = 0; i < 800 * 600; i += 2)
		driver_write(&d, MEMORY + 4 * i, 8, want[i] | (u64)want[i + 1] << 32);
	fd = view();
	is(update(fd, false, rect, &encoding, pixels), 600, "all of the picture");
	ok(!memcmp(pixels, want, 4UL * 800 * 600), "every pixel");
	driver_write(&d, MEMORY + 4 * (800 * 77 + 5), 4, want[0] = 0x123456);
	ok(update(fd, true, rect, &encoding, pixels) == 1 && rect[1] == 77 && pixels[5] == want[0],
	   "one row has changed");
	set(BOCHS_Y_OFFSET, 1);
	ok(update(fd, true, rect, &encoding, pixels) > 500 && rect[1] < 2, "all has moved");
	set_mode(1024, 768);
	update(fd, true, rect, &encoding, pixels);
	ok(encoding == 0xffffff21 && rect[2] == 1024 && rect[3] == 768, "another mode");
	update(fd, false, rect, &encoding, pixels);
	driver_write(&d, MEMORY, 8, 0xff00001122ULL);
	ok(update(fd, true, rect, &encoding, pixels) == 1 && pixels[0] == 0x1122 && pixels[1] == 0xff, "in the same colours");
	set(BOCHS_ENABLE, 0);
	update(fd, true, rect, &encoding, pixels);
	ok(encoding == 0xffffff21 && rect[2] == 640 && rect[3] == 480, "no picture");
	close(fd);
	set_mode(800, 600);
	poll(NULL, 0, 200);
	fd = view();
	is(update(fd, false, rect, &encoding, pixels), 600, "another viewer, which stays");
}

static u8 config(u8 select, u8 subsel)
{
	driver_write(&d, DRIVER_CONFIG, 1, select);
	driver_write(&d, DRIVER_CONFIG + 1, 1, subsel);
	return driver_read(&d, DRIVER_CONFIG + 2, 1);
}

static void test_input(void)
{
	struct virtio_input_event events[] = { { EV_KEY, KEY_A, 1 }, { EV_KEY, KEY_B, 1 } };
	struct virtio_input_event *got;
	int source[2], ret;
	unsigned int i;

	driver_init(&d, &err);
	got = (void *)(d.ram.host + DRIVER_DATA);
	ret = socketpair(AF_UNIX, SOCK_SEQPACKET, 0, source);
	ret |= input_create(&d.host, true, source[0], &err);
	driver_enable(&d);
	ok(!ret && config(VIRTIO_INPUT_CFG_ID_NAME, 0) == 11, "a tablet");
	is(config(VIRTIO_INPUT_CFG_ABS_INFO, ABS_Y), sizeof(struct virtio_input_absinfo), "an axis");
	is(driver_read(&d, DRIVER_CONFIG + 12, 4), TABLET_MAX, "and its end");
	is(config(VIRTIO_INPUT_CFG_ABS_INFO, ABS_Z), 0, "no third one");
	is(config(VIRTIO_INPUT_CFG_EV_BITS, EV_KEY), BTN_MIDDLE / 8 + 1, "buttons");
	is(config(VIRTIO_INPUT_CFG_EV_BITS, EV_LED), 0, "no lamps");
	is(config(0xff, 0xff), 0, "nothing else");
	driver_write(&d, DRIVER_CONFIG + 2, 4, ~0U);
	driver_write(&d, DRIVER_CONFIG + sizeof(struct virtio_input_config) - 1, 1, ~0U);
	is(config(VIRTIO_INPUT_CFG_EV_BITS, EV_ABS), 1, "what cannot be written is not");

	send(source[1], events, sizeof(events), 0);
	is(driver_start(&d, 64, 0), 15, "a driver");
	for (i = 0; i < 40; i++)
		send(source[1], events, sizeof(*events), 0);
	poll(NULL, 0, 50);
	is(driver_used(&d, 0)->idx, 0, "nothing before there is room");
	for (i = 0; i < 64; i++) {
		driver_desc(&d, 0)[i] = (struct vring_desc){
			DRIVER_DATA + 8 * i, i == 3 ? 4 : 8, VRING_DESC_F_WRITE, 0 };
		driver_submit(&d, 0, 64, i);
	}
	ok(driver_wait(&d, 0, 64), "then what was kept, whole reports");
	ok(got[0].code == KEY_A && got[1].type == EV_SYN && got[62].code == KEY_A &&
	   got[63].type == EV_SYN, "in their order");
	is(driver_used(&d, 0)->ring[3].len, 4, "a buffer that is too short");
	send(source[1], events, sizeof(events), 0);
	driver_desc(&d, 0)[0].flags = 0;
	driver_desc(&d, 1)[0] = (struct vring_desc){ DRIVER_DATA, 8, 0, 0 };
	driver_submit(&d, 1, 64, 0);
	ok(driver_wait(&d, 1, 1), "lamps are taken");
	close(source[1]);
	driver_wait(&d, 0, 0x7777);
	ok(driver_read(&d, DRIVER_COMMON + VIRTIO_PCI_COMMON_STATUS, 1) & VIRTIO_CONFIG_S_NEEDS_RESET,
	   "who sends is gone: the device wants a reset");
	ok(driver_start(&d, 64, 0) & VIRTIO_CONFIG_S_NEEDS_RESET, "and does not come back");
	driver_end(&d);
}

static void test_listen(void)
{
	int fd = open(path, O_CREAT | O_EXCL, 0600);

	close(fd);
	ok(fd >= 0 && listen_local("--display", path, &err) < 0, "a file that is no socket: %s", err.text);
	is(unlink(path), 0, "is left alone");
	ok(listen_local("--display", "0", &err) < 0 && strstr(err.text, "give a TCP port"), "no port at all");
	fd = listen_local("--display", path, &err);
	close(fd);	/* and who dies leaves a socket, which is replaced */
	ok(fd >= 0, "where nothing is, it listens");
}

/* Return: those that a process may have. */
static u64 capabilities(pid_t pid)
{
	unsigned long long permitted = ~0ULL;
	char name[40], line[100];
	FILE *f;

	snprintf(name, sizeof(name), "/proc/%d/status", pid);
	f = fopen(name, "re");
	while (f && fgets(line, sizeof(line), f) && sscanf(line, "CapPrm: %llx", &permitted) != 1)
		;
	if (f)
		fclose(f);
	return permitted;
}

int main(void)
{
	unsigned int ms;
	char arg[80];

	snprintf(path, sizeof(path), "/tmp/keel-display-test.%d", getpid());
	snprintf(arg, sizeof(arg), "vnc=%s", path);
	test_input();
	test_listen();
	driver_init(&d, &err);
	d.host.machine = "test";
	if (display_create(&d.host, arg, &err) < 0) {
		printf("1..0 # SKIP %s\n", err.text);
		return 0;
	}
	driver_enable(&d);
	test_registers();
	test_viewer();
	is(capabilities(d.host.display->daemon.pid), 0, "the program has no capabilities");
	kill(d.host.display->daemon.pid, SIGKILL);
	for (ms = 0; ms < 10000 && !daemon_ended(&err); ms++)
		poll(NULL, 0, 1);
	ok(strstr(err.text, "keel-vnc has ended (signal 9, Killed), and --display is dead"),
	   "the program's end is told");
	ok(connect_unix(path, 0) < 0 && errno == ECONNREFUSED, "nobody is there any more for viewers");
	driver_end(&d);
	ok(access(path, F_OK) < 0, "the socket is gone");
	return tap_done();
}
