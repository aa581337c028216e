/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The control sockets of machines: the directory they are in, and the server
 * in each machine. A request and its reply are a line of JSON each.
 */
#ifndef CONTROL_H
#define CONTROL_H

#include <poll.h>

#include "keel.h"

#define CONTROL_CLIENTS 8
#define CONTROL_FDS (1 + CONTROL_CLIENTS)
#define CONTROL_LINE 4096
#define CONTROL_HISTORY 16384
#define NAME_MAX_LEN 64
#define SOCKET_SUFFIX ".sock"
#define SOCKET_PATH 108	/* sizeof(sockaddr_un.sun_path) */

struct machine;

struct control_client {
	int fd;			/* -1: free */
	int file;		/* that came with a request; -1: none */
	bool console;		/* bytes of the serial port from now on */
	size_t len;
	char line[CONTROL_LINE];
};

/* Used by the main thread only. */
struct control {
	int fd;			/* -1: none */
	char name[NAME_MAX_LEN + 1];
	char path[SOCKET_PATH];
	time_t start;
	pid_t pid;
	int statm;		/* of /proc */
	int file;		/* of the request that is served, or -1 */
	struct json_object *reply;	/* to it, to be filled */
	int pass_fd;		/* goes with the reply; -1: none */
	struct json_object *ended;	/* helpers, a text each; NULL: none */
	struct control_client client[CONTROL_CLIENTS];
	u8 history[CONTROL_HISTORY];	/* the console's last output, a ring */
	u64 written;
};

int rundir_open(char *path, size_t size, struct err *err);
int control_connect(const char *name, struct err *err);

int control_open(struct machine *m, struct err *err);
void control_close(struct control *c);
void control_poll(struct machine *m, struct pollfd *fds);
void control_events(struct machine *m, const struct pollfd *fds);
void control_console_output(void *control, const u8 *data, size_t len);
void control_helper_ended(struct control *c, const char *text);

#endif
