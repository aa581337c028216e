// SPDX-License-Identifier: GPL-2.0-only
/*
 * Sockets for others on this machine, without any authentication of our own.
 */
#include <errno.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "jail.h"
#include "socket.h"

union address {
	struct sockaddr any;
	struct sockaddr_in in;
	struct sockaddr_un un;
};

/**
 * connect_unix() - connect to a socket of this machine
 * @path: its name
 * @flags: SOCK_NONBLOCK, or 0
 *
 * Return: a descriptor, or -1 with errno; ECONNREFUSED: it was left by somebody who died.
 */
int connect_unix(const char *path, int flags)
{
	struct sockaddr_un addr = { .sun_family = AF_UNIX };
	int fd, saved;

	if (strlen(path) >= sizeof(addr.sun_path)) {
		errno = ENAMETOOLONG;
		return -1;
	}
	strcpy(addr.sun_path, path);
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | flags, 0);
	if (fd < 0 || !connect(fd, (struct sockaddr *)&addr, sizeof(addr)))
		return fd;
	saved = errno;
	close(fd);
	errno = saved;
	return -1;
}

/**
 * listen_local() - listen where nobody but this machine can connect
 * @option: who wants to, for messages
 * @where: a TCP port of the loopback interface, or the path of a unix socket
 *
 * Return: a descriptor that does not block, or -1.
 */
int listen_local(const char *option, const char *where, struct err *err)
{
	bool port = strspn(where, "0123456789") == strlen(where);
	union address addr = { .any.sa_family = port ? AF_INET : AF_UNIX };
	socklen_t len = port ? sizeof(addr.in) : sizeof(addr.un);
	long number = port ? strtol(where, NULL, 10) : 0;
	struct stat st;
	int fd, one = 1;

	if (!*where || number > 65535 || (port && !number) || strlen(where) >= sizeof(addr.un.sun_path))
		return err_set(err, "%s %s: give a TCP port or the path of a socket", option, where);
	if (port) {
		addr.in.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
		addr.in.sin_port = htons(number);
	} else {
		strcpy(addr.un.sun_path, where);
		fd = connect_unix(where, 0);
		/* A file of another kind refuses, too. */
		if (fd < 0 && errno == ECONNREFUSED && !lstat(where, &st) && S_ISSOCK(st.st_mode))
			unlink(where);
		close(fd);
	}
	fd = socket(addr.any.sa_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	if (fd < 0 || bind(fd, &addr.any, len) < 0 || listen(fd, 8) < 0) {
		err_sys(err, "%s: cannot listen on %s", option, where);
		close(fd);
		return -1;
	}
	if (!port)
		jail_unlinks(where);
	return fd;
}

/**
 * listen_close() - listen no more, and remove the name
 * @fd: of listen_local(); -1 is harmless
 */
void listen_close(int fd)
{
	union address addr;
	socklen_t len = sizeof(addr);

	if (fd < 0)
		return;
	if (!getsockname(fd, &addr.any, &len) && addr.any.sa_family == AF_UNIX)
		unlink(addr.un.sun_path);
	close(fd);
}

/**
 * send_fds() - send() without a signal, and descriptors with it
 * @fd: a unix socket
 * @fds: what to pass, SOCKET_FDS at most
 */
ssize_t send_fds(int fd, const void *data, size_t len, const int *fds, unsigned int count,
		 int flags)
{
	union {
		struct cmsghdr head;
		u8 space[CMSG_SPACE(SOCKET_FDS * sizeof(int))];
	} control = { .head = { CMSG_LEN(count * sizeof(int)), SOL_SOCKET, SCM_RIGHTS } };
	struct iovec iov = { (void *)data, len };
	struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1 };
	ssize_t n;

	if (count) {
		memcpy(CMSG_DATA(&control.head), fds, count * sizeof(int));
		msg.msg_control = &control;
		msg.msg_controllen = CMSG_SPACE(count * sizeof(int));
	}
	do {
		n = sendmsg(fd, &msg, flags | MSG_NOSIGNAL);
	} while (n < 0 && errno == EINTR);
	return n;
}

/**
 * recv_fd() - recv(), and a descriptor that comes with it
 * @fd: a unix socket
 * @passed: replaced by what comes; what it was, unless -1, is closed
 */
ssize_t recv_fd(int fd, void *data, size_t len, int *passed, int flags)
{
	union {
		struct cmsghdr head;
		u8 space[CMSG_SPACE(sizeof(int))];
	} control;
	struct iovec iov = { data, len };
	struct msghdr msg = {
		.msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = &control,
		.msg_controllen = CMSG_LEN(sizeof(int)),	/* no room for a second one */
	};
	ssize_t n = recvmsg(fd, &msg, flags | MSG_CMSG_CLOEXEC);

	if (n > 0 && msg.msg_controllen >= CMSG_LEN(sizeof(int)) &&
	    control.head.cmsg_type == SCM_RIGHTS) {
		if (*passed >= 0)
			close(*passed);
		memcpy(passed, CMSG_DATA(&control.head), sizeof(int));
	}
	return n;
}
