/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef SOCKET_H
#define SOCKET_H

#include "keel.h"

int listen_local(const char *option, const char *where, struct err *err);
void listen_close(int fd);

#endif
