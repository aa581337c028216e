// SPDX-License-Identifier: GPL-2.0-only
/*
 * The front-end's side of vhost-user: the kernel's vhost requests as messages
 * to a daemon, with descriptors beside them.
 */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "socket.h"
#include "vhost.h"

#define VERSION 1
#define FLAG_REPLY 4
#define FLAG_NEED_REPLY 8

#define PROTOCOL_REPLY_ACK 3
#define PROTOCOL_CONFIG 9
#define NO_FD 0x100
#define REPLY_SECONDS 30	/* pause.c waits longer for a vCPU that waits here */

enum {
	GET_FEATURES = 1,
	SET_FEATURES = 2,
	SET_OWNER = 3,
	SET_MEM_TABLE = 5,
	SET_VRING_NUM = 8,
	SET_VRING_ADDR = 9,
	SET_VRING_BASE = 10,
	GET_VRING_BASE = 11,
	SET_VRING_KICK = 12,
	SET_VRING_CALL = 13,
	GET_PROTOCOL_FEATURES = 15,
	SET_PROTOCOL_FEATURES = 16,
	SET_VRING_ENABLE = 18,
	GET_CONFIG = 24,
};

#define MAX_CONFIG 256

struct message {
	struct {
		u32 request;
		u32 flags;
		u32 size;
	} head;
	union {
		u64 value;
		struct vhost_vring_state state;
		struct vhost_vring_addr addr;
		struct {
			u32 count;
			u32 padding;
			struct {
				u64 gpa;
				u64 size;
				u64 user;
				u64 offset;
			} region[2];
		} memory;
		struct {
			u32 offset;
			u32 size;
			u32 flags;
			u8 bytes[MAX_CONFIG];
		} config;
	} body;
} __attribute__((__packed__));

/* Signals, of which a vCPU that is to stop gets one after the other, do not move @end. */
static int receive(int fd, void *buf, size_t len, u64 end)
{
	struct pollfd p = { .fd = fd, .events = POLLIN };
	size_t got = 0;
	ssize_t n;
	u64 now;

	while (got < len) {
		now = monotonic_ns();
		n = now < end ? poll(&p, 1, (end - now) / 1000000 + 1) : 0;
		if (n > 0) {
			n = recv(fd, (char *)buf + got, len - got, MSG_DONTWAIT);
			if (!n)
				errno = EPIPE;
			else if (n > 0)
				got += n;
		} else if (!n) {
			errno = ETIMEDOUT;
		}
		if (n <= 0 && errno != EINTR && errno != EAGAIN)
			return -1;
	}
	return 0;
}

/* Send; the answer, or the acknowledgment, replaces what was sent. */
static int exchange(struct vhost *v, struct message *m, const int *fds,
		    unsigned int count, bool answer)
{
	ssize_t len = sizeof(m->head) + m->head.size;
	u32 request = m->head.request;

	m->head.flags = VERSION | (answer ? 0 : FLAG_NEED_REPLY);
	if (send_fds(v->fd, m, len, fds, count, 0) != len)
		return -1;
	if (receive(v->fd, &m->head, sizeof(m->head), v->end) < 0)
		return -1;
	if (m->head.request != request || !(m->head.flags & FLAG_REPLY) ||
	    m->head.size > sizeof(m->body)) {
		errno = EPROTO;
		return -1;
	}
	if (receive(v->fd, &m->body, m->head.size, v->end) < 0)
		return -1;
	if (!answer && m->body.value) {
		errno = EREMOTEIO;
		return -1;
	}
	return 0;
}

/* One that did not answer is asked no more: it might still. A refusal is an answer. */
static int talk(struct vhost *v, struct message *m, const int *fds,
		unsigned int count, bool answer)
{
	int error = EPIPE;

	if (!atomic_load(&v->daemon.lost)) {
		if (!exchange(v, m, fds, count, answer))
			return 0;
		error = errno;
		if (error != EREMOTEIO)
			daemon_lost(&v->daemon, error == EPIPE || error == ECONNRESET ? SIGTERM : SIGKILL,
				    v->dev.host->wake_fd);
	}
	errno = error;
	return -1;
}

/* Before acknowledgments are agreed on. */
static int tell(struct vhost *v, u32 request, u64 value, u32 size)
{
	struct message m = {
		.head = { request, VERSION, size },
		.body.value = value,
	};
	ssize_t len = sizeof(m.head) + size;

	return send_fds(v->fd, &m, len, NULL, 0, 0) == len ? 0 : -1;
}

static int ask(struct vhost *v, u32 request, u64 *value)
{
	struct message m = { .head.request = request };
	int ret = talk(v, &m, NULL, 0, true);

	*value = m.body.value;
	return ret;
}

/* Greet a daemon. */
static int say_hello(struct vhost *v, struct err *err)
{
	u64 wanted = 1ULL << PROTOCOL_REPLY_ACK | 1ULL << PROTOCOL_CONFIG, there;

	if (ask(v, GET_FEATURES, &v->offered) < 0 ||
	    ask(v, GET_PROTOCOL_FEATURES, &there) < 0)
		return err_sys(err, "vhost-user: no answer");
	if (!(v->offered >> VHOST_USER_F_PROTOCOL_FEATURES & 1) ||
	    !(there >> PROTOCOL_REPLY_ACK & 1))
		return err_set(err, "vhost-user: the daemon is too old");
	if (tell(v, SET_PROTOCOL_FEATURES, there & wanted, sizeof(u64)) < 0 ||
	    tell(v, SET_OWNER, 0, 0) < 0)
		return err_sys(err, "vhost-user");
	return 0;
}

/**
 * vhost_user_listen() - a socket for a daemon, which we are connected to already
 * @listener: filled: for the daemon to listen on
 */
int vhost_user_listen(struct vhost *v, int *listener, struct err *err)
{
	struct sockaddr_un addr = { .sun_family = AF_UNIX };
	socklen_t len = sizeof(addr);

	v->user = true;
	v->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	*listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	/* No path at all: the kernel chooses an abstract one. */
	if (v->fd >= 0 && *listener >= 0 &&
	    !bind(*listener, (struct sockaddr *)&addr, sizeof(sa_family_t)) &&
	    !listen(*listener, 1) &&
	    !getsockname(*listener, (struct sockaddr *)&addr, &len) &&
	    !connect(v->fd, (struct sockaddr *)&addr, len))
		return 0;
	err_sys(err, "cannot make a socket");
	close(*listener);
	return -1;
}

/**
 * vhost_user_start() - start a daemon, and greet it
 * @v: from vhost_user_listen(); what the daemon needs to be told is in its daemon
 * @argv: its arguments
 * @fds: what it keeps; the first is the listener, which is closed here
 * @count: of @fds
 */
int vhost_user_start(struct vhost *v, char *const argv[], const int *fds, unsigned int count,
		     struct err *err)
{
	int ret = daemon_start(&v->daemon, argv, fds, count, err);

	close(fds[0]);
	if (ret < 0)
		return -1;
	v->dev.fd = v->fd;
	v->end = monotonic_ns() + START_SECONDS * 1000000000ULL;
	v->patience = REPLY_SECONDS;
	if (say_hello(v, err) < 0)
		return daemon_failed(&v->daemon, err);
	return 0;
}

/**
 * vhost_user_event() - virtio_device_ops.event, with the daemon's socket as fd
 *
 * The daemon says nothing by itself: an answer was read meanwhile, or it is gone.
 */
void vhost_user_event(struct virtio_device *dev)
{
	char byte;

	if (recv(dev->fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT) < 0 && errno == EAGAIN)
		return;
	dev->fd = -1;
	dev->lost = "who serves it is gone";
	daemon_lost(&((struct vhost *)dev)->daemon, SIGTERM, dev->host->wake_fd);
	virtio_broken(dev);
}

static int set_memory(struct vhost *v, const struct vhost_memory *table)
{
	const struct guest_ram *ram = v->dev.host->ram;
	struct message m = { .head.request = SET_MEM_TABLE };
	int fds[2] = { ram->fd, ram->fd };
	u32 i;

	m.body.memory.count = table->nregions;
	for (i = 0; i < table->nregions; i++) {
		const struct vhost_memory_region *r = &table->regions[i];

		m.body.memory.region[i].gpa = r->guest_phys_addr;
		m.body.memory.region[i].size = r->memory_size;
		m.body.memory.region[i].user = r->userspace_addr;
		m.body.memory.region[i].offset = r->userspace_addr - (uintptr_t)ram->host;
	}
	m.head.size = 8 + i * sizeof(m.body.memory.region[0]);
	return talk(v, &m, fds, i, false);
}

static int set_file(struct vhost *v, u32 request, const struct vhost_vring_file *file)
{
	struct message m = {
		.head = { .request = request, .size = sizeof(u64) },
		.body.value = file->index | (file->fd < 0 ? NO_FD : 0),
	};

	return talk(v, &m, &file->fd, file->fd >= 0, false);
}

/**
 * vhost_user_call() - a request of the kernel's vhost
 * @request: VHOST_*
 * @arg: as for ioctl()
 *
 * Return: 0, or -1 and errno.
 */
int vhost_user_call(struct vhost *v, unsigned long request, void *arg)
{
	static const struct {
		unsigned long ioctl;
		u32 request;
	} same[] = {
		{ VHOST_SET_FEATURES, SET_FEATURES },
		{ VHOST_SET_VRING_NUM, SET_VRING_NUM },
		{ VHOST_SET_VRING_ADDR, SET_VRING_ADDR },
		{ VHOST_SET_VRING_BASE, SET_VRING_BASE },
		{ VHOST_GET_VRING_BASE, GET_VRING_BASE },
	};
	bool answer = request == VHOST_GET_VRING_BASE;
	struct message m = { .head.request = 0 };
	size_t i;

	if (request == VHOST_SET_MEM_TABLE)
		return set_memory(v, arg);
	if (request == VHOST_SET_VRING_KICK)
		return set_file(v, SET_VRING_KICK, arg);
	if (request == VHOST_SET_VRING_CALL)
		return set_file(v, SET_VRING_CALL, arg);
	for (i = 0; i < ARRAY_SIZE(same); i++) {
		if (same[i].ioctl == request)
			m.head.request = same[i].request;
	}
	/* What is exchanged is laid out as the kernel's structures are. */
	m.head.size = _IOC_SIZE(request);
	memcpy(&m.body, arg, m.head.size);
	if (talk(v, &m, NULL, 0, answer) < 0)
		return -1;
	if (answer)
		memcpy(arg, &m.body.state, sizeof(m.body.state));
	return 0;
}

/**
 * vhost_user_enable() - let the daemon look at a queue
 * @queue: which
 */
int vhost_user_enable(struct vhost *v, unsigned int queue)
{
	struct message m = {
		.head = { .request = SET_VRING_ENABLE, .size = sizeof(m.body.state) },
		.body.state = { queue, 1 },
	};

	return talk(v, &m, NULL, 0, false);
}

/** vhost_user_get_config() - read the device's configuration space */
int vhost_user_get_config(struct vhost *v, void *config, u32 len, struct err *err)
{
	struct message m = {
		.head = { .request = GET_CONFIG, .size = 12 + len },
		.body.config.size = len,
	};

	if (talk(v, &m, NULL, 0, true) < 0)
		return err_sys(err, "vhost-user: configuration");
	if (m.head.size < 12 + len)
		return err_set(err, "vhost-user: the daemon's configuration is too short");
	memcpy(config, m.body.config.bytes, len);
	return 0;
}
