// SPDX-License-Identifier: GPL-2.0-only
/*
 * The screen by VNC. The protocol is libvncserver's, which is loaded when it is
 * wanted: with all that it needs it is larger than the rest of this program.
 *
 * A thread serves the viewers. While there are any, rows of the framebuffer that
 * changed are copied to a picture of our own, to know them by, and because encoders
 * look at pixels more than once, and must not see two values.
 */
#include <dlfcn.h>
#include <errno.h>
#include <linux/input.h>
#include <rfb/keysym.h>
#include <rfb/rfb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/select.h>
#include <unistd.h>

#include "devices.h"
#include "display.h"
#include "jail.h"
#include "socket.h"

#define LIBRARY "libvncserver.so.1"

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
	__typeof__(rfbGetScreen) *get_screen;
	__typeof__(rfbInitServer) *init;
	__typeof__(rfbLogEnable) *log_enable;
	__typeof__(rfbMarkRectAsModified) *mark;
	__typeof__(rfbNewClient) *new_client;
	__typeof__(rfbNewFramebuffer) *new_framebuffer;
	__typeof__(rfbProcessEvents) *process;
	__typeof__(rfbScreenCleanup) *cleanup;
} rfb;

struct display {
	struct bochs bochs;
	struct virtio_device *keyboard, *tablet;
	int listen_fd;
	int wake_fd;		/* eventfd: end */
	pthread_t thread;
	bool serving;		/* thread runs */

	/* The thread's */
	rfbScreenInfo *screen;
	struct picture shown;
	u32 *pixels;		/* of the viewers; NULL: nobody looks */
	u64 next_frame;		/* when to look for changes again, ns */
	int buttons;
};

static int load_library(struct err *err)
{
	static const struct {
		const char *name;
		void *fn;
	} symbols[] = {
#define SYMBOL(field, function) { function, &rfb.field }
		SYMBOL(get_screen, "rfbGetScreen"),
		SYMBOL(init, "rfbInitServerWithPthreadsAndZRLE"),
		SYMBOL(log_enable, "rfbLogEnable"),
		SYMBOL(mark, "rfbMarkRectAsModified"),
		SYMBOL(new_client, "rfbNewClient"),
		SYMBOL(new_framebuffer, "rfbNewFramebuffer"),
		SYMBOL(process, "rfbProcessEvents"),
		SYMBOL(cleanup, "rfbScreenCleanup"),
	};
	void *library = dlopen(LIBRARY, RTLD_NOW | RTLD_LOCAL), *fn;
	size_t i;

	if (!library)
		return err_set(err, "--display needs " LIBRARY ": %s; type: sudo apt install libvncserver1",
			       dlerror());
	for (i = 0; i < ARRAY_SIZE(symbols); i++) {
		fn = dlsym(library, symbols[i].name);
		if (!fn)
			return err_set(err, LIBRARY " has no %s", symbols[i].name);
		memcpy(symbols[i].fn, &fn, sizeof(fn));
	}
	return 0;
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
	struct display *d = viewer->screen->screenData;
	struct virtio_input_event event = { EV_KEY, key_code(symbol), !!down };

	if (event.code)
		input_report(d->keyboard, &event, 1);
}

static void pointer_event(int buttons, int x, int y, rfbClientPtr viewer)
{
	struct display *d = viewer->screen->screenData;
	int pressed = buttons & ~d->buttons;
	struct virtio_input_event events[] = {
		{ EV_ABS, ABS_X, (u64)x * TABLET_MAX / viewer->screen->width },
		{ EV_ABS, ABS_Y, (u64)y * TABLET_MAX / viewer->screen->height },
		{ EV_KEY, BTN_LEFT, !!(buttons & BUTTON_LEFT) },
		{ EV_KEY, BTN_MIDDLE, !!(buttons & BUTTON_MIDDLE) },
		{ EV_KEY, BTN_RIGHT, !!(buttons & BUTTON_RIGHT) },
		{ EV_REL, REL_WHEEL, pressed & WHEEL_UP ? 1 : -1 },
	};

	/* What is as it was, Linux ignores; a step of the wheel is not. */
	input_report(d->tablet, events,
		     ARRAY_SIZE(events) - !(pressed & (WHEEL_UP | WHEEL_DOWN)));
	d->buttons = buttons;
}

/* Return: whether a row is another than so far. */
static bool take_row(struct display *d, u32 y)
{
	const u8 *from = d->bochs.memory + d->shown.offset + y * d->shown.stride;
	size_t len = 4UL * d->shown.width;
	u8 *to = (u8 *)d->pixels + y * len;

	if (!memcmp(to, from, len))
		return false;
	memcpy(to, from, len);
	return true;
}

/* Find out what the guest shows; viewers learn of another size. Return: -1: no memory. */
static int take_mode(struct display *d)
{
	struct picture p, was = d->shown;
	rfbScreenInfo *s = d->screen;
	rfbClientPtr viewer;
	u32 *pixels;

	if (!bochs_picture(&d->bochs, &p))
		p = (struct picture){ .width = BLANK_WIDTH, .height = BLANK_HEIGHT };
	if (!d->pixels || p.width != was.width || p.height != was.height || !p.stride != !was.stride) {
		pixels = calloc((size_t)p.width * p.height, sizeof(*pixels));
		if (!pixels)
			return -1;
		rfb.new_framebuffer(s, (char *)pixels, p.width, p.height, 8, 3, 4);
		s->serverFormat.depth = 24;
		s->serverFormat.redShift = 16;
		s->serverFormat.blueShift = 0;
		for (viewer = s->clientHead; viewer; viewer = viewer->next)
			s->setTranslateFunction(viewer);
		free(d->pixels);
		d->pixels = pixels;
	}
	d->shown = p;
	return 0;
}

static void take_changes(struct display *d)
{
	u32 y, first = 0;

	d->next_frame = monotonic_ns() + FRAME_NS;
	if (take_mode(d) < 0)
		return;
	/* Where there is no picture, there is no stride. */
	for (y = 0; d->shown.stride && y <= d->shown.height; y++) {
		if (y < d->shown.height && take_row(d, y))
			continue;
		if (first < y)
			rfb.mark(d->screen, 0, first, d->shown.width, y);
		first = y + 1;
	}
}

static void accept_viewer(struct display *d)
{
	int fd = accept4(d->listen_fd, NULL, NULL, SOCK_CLOEXEC);

	if (fd < 0)
		return;
	if (!d->pixels)
		take_changes(d);
	if (d->pixels && fd < FD_SETSIZE)
		rfb.new_client(d->screen, fd);
	else
		close(fd);
}

static void *serve(void *arg)
{
	struct display *d = arg;
	rfbScreenInfo *s = d->screen;

	pthread_setname_np(pthread_self(), "display");
	jail_thread(JAIL_DISPLAY);
	for (;;) {
		struct timeval frame = { .tv_usec = FRAME_NS / 1000 };
		int max = d->listen_fd > d->wake_fd ? d->listen_fd : d->wake_fd;
		fd_set fds = s->allFds;

		FD_SET(d->listen_fd, &fds);
		FD_SET(d->wake_fd, &fds);
		if (select((max > s->maxFd ? max : s->maxFd) + 1, &fds, NULL, NULL,
			   s->clientHead ? &frame : NULL) < 0)
			continue;
		if (FD_ISSET(d->wake_fd, &fds))
			break;
		if (FD_ISSET(d->listen_fd, &fds))
			accept_viewer(d);
		if (s->clientHead && monotonic_ns() >= d->next_frame)
			take_changes(d);
		rfb.process(s, 0);
		if (!s->clientHead && d->pixels) {
			free(d->pixels);
			d->pixels = NULL;
		}
	}
	return NULL;
}

static int make_screen(struct display *d, const char *name, struct err *err)
{
	rfbScreenInfo *s;

	if (load_library(err) < 0)
		return -1;
	rfb.log_enable(false);
	s = rfb.get_screen(NULL, NULL, BLANK_WIDTH, BLANK_HEIGHT, 8, 3, 4);
	d->wake_fd = eventfd(0, EFD_CLOEXEC);
	if (!s || d->wake_fd < 0)
		return err_sys(err, "--display");
	d->screen = s;
	/* We listen, and not to passwords. */
	s->port = 0;
	s->ipv6port = 0;
	s->desktopName = name;
	s->alwaysShared = true;
	s->cursor = NULL;
	s->deferUpdateTime = 0;
	s->maxClientWait = VIEWER_WAIT_MS;
	s->screenData = d;
	s->kbdAddEvent = key_event;
	s->ptrAddEvent = pointer_event;
	rfb.init(s);
	return 0;
}

/**
 * display_create() - a display, its keyboard and its pointer, shown by VNC
 * @host: what devices share; has no display yet
 * @arg: the option's
 * @err: filled on failure; call display_destroy() all the same
 */
int display_create(struct virtio_host *host, const char *arg, struct err *err)
{
	char path[112] = "";
	struct display *d;

	if (host->display)
		return err_set(err, "--display %s: a machine has one", arg);
	if (!strncmp(arg, "vnc=", 4) && arg[4])
		snprintf(path, sizeof(path), "%s", arg + 4);
	else if (!strcmp(arg, "vnc"))
		snprintf(path, sizeof(path), "%.*s.vnc", (int)(strlen(host->socket) - 5), host->socket);
	else
		return err_set(err, "--display %s: give vnc, or vnc=ADDRESS", arg);
	if (strspn(path, "0123456789") != strlen(path) && !strchr(path, '/'))
		return err_set(err, "--display %s: give a TCP port of this machine, or the path of a socket; from elsewhere, go through ssh -L",
			       arg);
	d = calloc(1, sizeof(*d));
	if (!d)
		return err_sys(err, "--display");
	host->display = d;
	d->wake_fd = -1;
	d->listen_fd = listen_local("--display", path, err);
	if (bochs_add(&d->bochs, host->pci, err) < 0 || d->listen_fd < 0)
		return -1;
	d->keyboard = input_create(host, false, err);
	d->tablet = d->keyboard ? input_create(host, true, err) : NULL;
	return d->tablet ? make_screen(d, host->machine, err) : -1;
}

/**
 * display_serve() - start the thread that waits for viewers
 * @d: the display; NULL is harmless
 * @err: filled on failure
 */
int display_serve(struct display *d, struct err *err)
{
	if (!d)
		return 0;
	d->serving = !device_thread(&d->thread, serve, d, "the display", err);
	return d->serving ? 0 : -1;
}

/**
 * display_adapter() - what the guest sees of it
 * @d: the display
 */
struct bochs *display_adapter(struct display *d)
{
	return &d->bochs;
}

/**
 * display_picture() - what is to be seen, and where
 * @d: the display; NULL: there is none
 * @p: filled
 *
 * Return: the descriptor of the video memory, or -1: nothing is shown.
 */
int display_picture(struct display *d, struct picture *p)
{
	return d && bochs_picture(&d->bochs, p) ? d->bochs.fd : -1;
}

/**
 * display_destroy() - before the other devices, when no vCPU runs any more
 * @d: the display; NULL is harmless
 */
void display_destroy(struct display *d)
{
	if (!d)
		return;
	if (d->serving && !eventfd_write(d->wake_fd, 1))
		pthread_join(d->thread, NULL);
	if (d->screen)
		rfb.cleanup(d->screen);
	free(d->pixels);
	listen_close(d->listen_fd);
	close(d->wake_fd);
	bochs_remove(&d->bochs);
	free(d);
}
