// SPDX-License-Identifier: GPL-2.0-only
/*
 * --display: the adapter, a keyboard and a pointer. Viewers are served by another
 * program (commands/keel-vnc.c), which sees the adapter's memory and sends what is typed.
 */
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "devices.h"
#include "display.h"
#include "socket.h"

#define PROGRAM "keel-vnc"

/* Beside our own program; from elsewhere if that is not known. */
static void find_program(char path[PATH_MAX])
{
	ssize_t n = readlink("/proc/self/exe", path, PATH_MAX - sizeof(PROGRAM));

	path[n > 0 ? n : 0] = '\0';
	strcpy(n > 0 ? strrchr(path, '/') + 1 : path, PROGRAM);
}

/* @listener is only the program's from here on: when it dies viewers are refused. */
static int start(struct display *d, const char *name, int listener, int keyboard, int tablet,
		 int ready, struct err *err)
{
	int fds[] = { d->bochs.fd, listener, keyboard, tablet }, ret;
	char program[PATH_MAX], text[ARRAY_SIZE(fds)][12];
	char *const argv[] = { program, (char *)name, text[0], text[1], text[2], text[3], NULL };
	size_t i;

	find_program(program);
	strcpy(d->daemon.serves, "--display");
	for (i = 0; i < ARRAY_SIZE(fds); i++)
		snprintf(text[i], sizeof(text[i]), "%d", fds[i]);
	ret = daemon_start(&d->daemon, argv, fds, ARRAY_SIZE(fds), err);
	close(listener);
	close(keyboard);
	close(tablet);
	if (!ret)
		ret = daemon_ready(&d->daemon, ready, err);
	if (ret && strstr(err->text, "libvncserver"))
		err_set(err, "--display needs libvncserver; type: sudo apt install libvncserver1");
	return ret;
}

/**
 * display_create() - a display, its keyboard and its pointer, shown by VNC
 * @host: what devices share; has no display yet
 * @arg: the option's
 * @err: filled on failure; call display_destroy() all the same
 */
int display_create(struct virtio_host *host, const char *arg, struct err *err)
{
	int keyboard[2] = { -1, -1 }, tablet[2] = { -1, -1 };
	char path[sizeof(host->display->path)] = "";
	struct display *d;
	int listener;

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
	listener = listen_local("--display", path, err);
	if (listener >= 0 && strchr(path, '/'))
		strcpy(d->path, path);
	if (bochs_add(&d->bochs, host->pci, err) < 0 || listener < 0)
		return -1;
	/* Each message is a report. */
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, keyboard) < 0 ||
	    socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, tablet) < 0)
		return err_sys(err, "--display");
	if (input_create(host, false, keyboard[0], err) < 0 ||
	    input_create(host, true, tablet[0], err) < 0)
		return -1;
	return start(d, host->machine, listener, keyboard[1], tablet[1], keyboard[0], err);
}

/**
 * display_destroy() - when no vCPU runs any more
 * @d: the display; NULL is harmless
 */
void display_destroy(struct display *d)
{
	if (!d)
		return;
	daemon_stop(&d->daemon);
	if (*d->path)
		unlink(d->path);
	bochs_remove(&d->bochs);
	free(d);
}
