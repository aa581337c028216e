/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef SOCKET_H
#define SOCKET_H

#include <sys/types.h>

#include "keel.h"

int listen_local(const char *option, const char *where, struct err *err);
void listen_close(int fd);
ssize_t send_fd(int fd, const void *data, size_t len, int passed, int flags);
ssize_t recv_fd(int fd, void *data, size_t len, int *passed, int flags);

#endif
