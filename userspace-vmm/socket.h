/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef SOCKET_H
#define SOCKET_H

#include <sys/types.h>

#include "keel.h"

#define SOCKET_FDS 2

int connect_unix(const char *path, int flags);
int listen_local(const char *option, const char *where, struct err *err);
void listen_close(int fd);
ssize_t send_fds(int fd, const void *data, size_t len, const int *fds, unsigned int count,
		 int flags);
ssize_t recv_fd(int fd, void *data, size_t len, int *passed, int flags);

#endif
