// SPDX-License-Identifier: GPL-2.0-only
/*
 * keel-vnc NAME MEMORY LISTENER KEYBOARD TABLET: shows a machine's screen by VNC. The
 * protocol is libvncserver's. The arguments after the name are descriptors that
 * display.c hands over.
 *
 * While there are viewers, rows of the framebuffer that changed are copied to a picture
 * of our own, to know them by, and because encoders look at pixels more than once, and
 * must not see two values.
 */
#include <linux/capability.h>
#include <linux/input.h>
#include <rfb/keysym.h>
#include <rfb/rfb.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/select.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "display.h"

#define FRAME_NS 40000000
#define VIEWER_WAIT_MS 2000	/* for one that does not read */
#define BLANK_WIDTH 640		/* while the guest shows nothing */
#define BLANK_HEIGHT 480

#define BUTTON_LEFT 1
#define BUTTON_MIDDLE 2
#define BUTTON_RIGHT 4
#define WHEEL_UP 8
#define WHEEL_DOWN 16

static struct {
	int memory_fd, listen_fd, keyboard, tablet;
	const u8 *memory;	/* of the guest's adapter */
	rfbScreenInfo *screen;
	struct picture shown;
	u32 *pixels;		/* of the viewers; NULL: nobody looks */
	u64 next_frame;		/* when to look for changes again, ns */
	int buttons;
} d;

static u64 now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * 1000000000ULL + ts.tv_nsec;
}

/* A machine that does not read in time misses it. */
static void report(int fd, const struct virtio_input_event *events, size_t n)
{
	send(fd, events, n * sizeof(*events), MSG_DONTWAIT | MSG_NOSIGNAL);
}

/* The key of a US keyboard that has a symbol; 0: none. */
static u16 key_code(rfbKeySym symbol)
{
	/* By their codes, from 1 on. */
	static const char plain[] = "\0331234567890-=\b\tqwertyuiop[]\r\377asdfghjkl;'`\377\\zxcvbnm,./";
	static const char shifted[] = "\033!@#$%^&*()_+\b\tQWERTYUIOP{}\r\377ASDFGHJKL:\"~\377|ZXCVBNM<>?";
	static const struct {
		u16 symbol, code;
	} keys[] = {
		{ XK_Escape, KEY_ESC }, { XK_BackSpace, KEY_BACKSPACE }, { XK_Tab, KEY_TAB },
		{ XK_ISO_Left_Tab, KEY_TAB }, { XK_Return, KEY_ENTER }, { XK_space, KEY_SPACE },
		{ XK_Control_L, KEY_LEFTCTRL }, { XK_Control_R, KEY_RIGHTCTRL },
		{ XK_Shift_L, KEY_LEFTSHIFT }, { XK_Shift_R, KEY_RIGHTSHIFT },
		{ XK_Alt_L, KEY_LEFTALT }, { XK_Alt_R, KEY_RIGHTALT },
		{ XK_Meta_L, KEY_LEFTALT }, { XK_Meta_R, KEY_RIGHTALT },
		{ XK_Mode_switch, KEY_RIGHTALT }, { XK_ISO_Level3_Shift, KEY_RIGHTALT },
		{ XK_Super_L, KEY_LEFTMETA }, { XK_Super_R, KEY_RIGHTMETA }, { XK_Menu, KEY_COMPOSE },
		{ XK_Caps_Lock, KEY_CAPSLOCK }, { XK_Num_Lock, KEY_NUMLOCK },
		{ XK_Scroll_Lock, KEY_SCROLLLOCK }, { XK_Print, KEY_SYSRQ }, { XK_Pause, KEY_PAUSE },
		{ XK_F11, KEY_F11 }, { XK_F12, KEY_F12 },
		{ XK_Home, KEY_HOME }, { XK_Up, KEY_UP }, { XK_Page_Up, KEY_PAGEUP },
		{ XK_Left, KEY_LEFT }, { XK_Right, KEY_RIGHT }, { XK_End, KEY_END },
		{ XK_Down, KEY_DOWN }, { XK_Page_Down, KEY_PAGEDOWN },
		{ XK_Insert, KEY_INSERT }, { XK_Delete, KEY_DELETE }, { XK_less, KEY_COMMA },
		{ XK_KP_Enter, KEY_KPENTER }, { XK_KP_Divide, KEY_KPSLASH },
		{ XK_KP_Multiply, KEY_KPASTERISK }, { XK_KP_Subtract, KEY_KPMINUS },
		{ XK_KP_Add, KEY_KPPLUS }, { XK_KP_Decimal, KEY_KPDOT }, { XK_KP_Delete, KEY_KPDOT },
		{ XK_KP_0, KEY_KP0 }, { XK_KP_1, KEY_KP1 }, { XK_KP_2, KEY_KP2 }, { XK_KP_3, KEY_KP3 },
		{ XK_KP_4, KEY_KP4 }, { XK_KP_5, KEY_KP5 }, { XK_KP_6, KEY_KP6 }, { XK_KP_7, KEY_KP7 },
		{ XK_KP_8, KEY_KP8 }, { XK_KP_9, KEY_KP9 },
		{ XK_KP_Insert, KEY_KP0 }, { XK_KP_End, KEY_KP1 }, { XK_KP_Down, KEY_KP2 },
		{ XK_KP_Page_Down, KEY_KP3 }, { XK_KP_Left, KEY_KP4 }, { XK_KP_Begin, KEY_KP5 },
		{ XK_KP_Right, KEY_KP6 }, { XK_KP_Home, KEY_KP7 }, { XK_KP_Up, KEY_KP8 },
		{ XK_KP_Page_Up, KEY_KP9 },
	};
	const char *at;
	size_t i;

	if (symbol > ' ' && symbol < 0x7f) {
		at = strchr(plain, symbol);
		if (at)
			return at - plain + 1;
		at = strchr(shifted, symbol);
		return at ? at - shifted + 1 : 0;
	}
	if (symbol >= XK_F1 && symbol <= XK_F10)
		return symbol - XK_F1 + KEY_F1;
	for (i = 0; i < ARRAY_SIZE(keys); i++) {
		if (keys[i].symbol == symbol)
			return keys[i].code;
	}
	return 0;
}

static void key_event(rfbBool down, rfbKeySym symbol, rfbClientPtr viewer)
{
	struct virtio_input_event event = { EV_KEY, key_code(symbol), !!down };

	if (event.code)
		report(d.keyboard, &event, 1);
}

static void pointer_event(int buttons, int x, int y, rfbClientPtr viewer)
{
	int pressed = buttons & ~d.buttons;
	struct virtio_input_event events[] = {
		{ EV_ABS, ABS_X, (u64)x * TABLET_MAX / viewer->screen->width },
		{ EV_ABS, ABS_Y, (u64)y * TABLET_MAX / viewer->screen->height },
		{ EV_KEY, BTN_LEFT, !!(buttons & BUTTON_LEFT) },
		{ EV_KEY, BTN_MIDDLE, !!(buttons & BUTTON_MIDDLE) },
		{ EV_KEY, BTN_RIGHT, !!(buttons & BUTTON_RIGHT) },
		{ EV_REL, REL_WHEEL, pressed & WHEEL_UP ? 1 : -1 },
	};

	/* What is as it was, Linux ignores; a step of the wheel is not. */
	report(d.tablet, events, ARRAY_SIZE(events) - !(pressed & (WHEEL_UP | WHEEL_DOWN)));
	d.buttons = buttons;
}

/* Return: whether a row is another than so far. */
static bool take_row(u32 y)
{
	const u8 *from = d.memory + d.shown.offset + y * d.shown.stride;
	size_t len = 4UL * d.shown.width;
	u8 *to = (u8 *)d.pixels + y * len;

	if (!memcmp(to, from, len))
		return false;
	memcpy(to, from, len);
	return true;
}

/* Find out what the guest shows; viewers learn of another size. Return: -1: no memory. */
static int take_mode(void)
{
	struct picture p, was = d.shown;
	rfbScreenInfo *s = d.screen;
	rfbClientPtr viewer;
	u32 *pixels;

	if (!picture_find(d.memory_fd, &p))
		p = (struct picture){ .width = BLANK_WIDTH, .height = BLANK_HEIGHT };
	if (!d.pixels || p.width != was.width || p.height != was.height || !p.stride != !was.stride) {
		pixels = calloc((size_t)p.width * p.height, sizeof(*pixels));
		if (!pixels)
			return -1;
		rfbNewFramebuffer(s, (char *)pixels, p.width, p.height, 8, 3, 4);
		s->serverFormat.depth = 24;
		s->serverFormat.redShift = 16;
		s->serverFormat.blueShift = 0;
		for (viewer = s->clientHead; viewer; viewer = viewer->next)
			s->setTranslateFunction(viewer);
		free(d.pixels);
		d.pixels = pixels;
	}
	d.shown = p;
	return 0;
}

static void take_changes(void)
{
	u32 y, first = 0;

	d.next_frame = now_ns() + FRAME_NS;
	if (take_mode() < 0)
		return;
	/* Where there is no picture, there is no stride. */
	for (y = 0; d.shown.stride && y <= d.shown.height; y++) {
		if (y < d.shown.height && take_row(y))
			continue;
		if (first < y)
			rfbMarkRectAsModified(d.screen, 0, first, d.shown.width, y);
		first = y + 1;
	}
}

static void accept_viewer(void)
{
	int fd = accept4(d.listen_fd, NULL, NULL, SOCK_CLOEXEC);

	if (fd < 0)
		return;
	if (!d.pixels)
		take_changes();
	if (d.pixels && fd < FD_SETSIZE)
		rfbNewClient(d.screen, fd);
	else
		close(fd);
}

static bool make_screen(const char *name)
{
	rfbScreenInfo *s;

	rfbLogEnable(false);
	s = rfbGetScreen(NULL, NULL, BLANK_WIDTH, BLANK_HEIGHT, 8, 3, 4);
	if (!s)
		return false;
	d.screen = s;
	/* We listen, and not to passwords. */
	s->port = 0;
	s->ipv6port = 0;
	s->desktopName = name;
	s->alwaysShared = true;
	s->cursor = NULL;
	s->deferUpdateTime = 0;
	s->maxClientWait = VIEWER_WAIT_MS;
	s->kbdAddEvent = key_event;
	s->ptrAddEvent = pointer_event;
	rfbInitServer(s);
	return true;
}

/* The right to any file was for starting it, from a directory that is another user's alone. */
static int drop_capabilities(void)
{
	struct __user_cap_header_struct head = { _LINUX_CAPABILITY_VERSION_3, 0 };
	struct __user_cap_data_struct none[_LINUX_CAPABILITY_U32S_3] = { 0 };

	return syscall(SYS_capset, &head, none);
}

int main(int argc, char **argv)
{
	rfbScreenInfo *s;

	if (argc != 6)
		return 2;
	if (drop_capabilities() < 0) {
		perror(argv[1]);
		return 1;
	}
	signal(SIGPIPE, SIG_IGN);
	d.memory_fd = atoi(argv[2]);
	d.listen_fd = atoi(argv[3]);
	d.keyboard = atoi(argv[4]);
	d.tablet = atoi(argv[5]);
	d.memory = mmap(NULL, VIDEO_MEMORY, PROT_READ, MAP_SHARED, d.memory_fd, 0);
	if (d.memory == MAP_FAILED || !make_screen(argv[1]) ||
	    send(d.keyboard, "", 1, 0) != 1) {	/* ready */
		perror(argv[1]);
		return 1;
	}
	for (s = d.screen;;) {
		struct timeval frame = { .tv_usec = FRAME_NS / 1000 };
		fd_set fds = s->allFds;

		FD_SET(d.listen_fd, &fds);
		if (select((d.listen_fd > s->maxFd ? d.listen_fd : s->maxFd) + 1, &fds, NULL, NULL,
			   s->clientHead ? &frame : NULL) < 0)
			continue;
		if (FD_ISSET(d.listen_fd, &fds))
			accept_viewer();
		if (s->clientHead && now_ns() >= d.next_frame)
			take_changes();
		rfbProcessEvents(s, 0);
		if (!s->clientHead && d.pixels) {
			free(d.pixels);
			d.pixels = NULL;
		}
	}
}
