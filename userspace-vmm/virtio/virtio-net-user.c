// SPDX-License-Identifier: GPL-2.0-only
/*
 * A network card that needs no privilege: passt turns its frames into sockets
 * of the host. They travel on a stream, each behind its length (32 bits,
 * big-endian).
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>
#include <linux/virtio_net.h>

#include "daemon.h"
#include "devices.h"
#include "net.h"

#define RX 0
#define TX 1
#define FRAME_MAX 65535
#define MAX_FORWARDS 16

struct net_user {
	struct virtio_device dev;
	struct virtio_net_config config;
	struct daemon daemon;
	int socket;
	u8 in[4 + FRAME_MAX];	/* lengths and frames, the first one from its start */
	size_t in_len;
	u8 out[4 + FRAME_MAX];	/* of a frame that was sent in part */
	size_t out_len;
};

/* Length of the first frame, when all of it is there; otherwise 0. */
static size_t whole_frame(struct net_user *net)
{
	u32 len;

	if (net->in_len < sizeof(len))
		return 0;
	memcpy(&len, net->in, sizeof(len));
	len = ntohl(len);
	if (!len || len > FRAME_MAX) {
		virtio_broken(&net->dev);	/* whatever that is, it is not passt */
		return 0;
	}
	return len <= net->in_len - sizeof(len) ? len : 0;
}

/* Return: false if the guest has to make room first. */
static bool deliver(struct net_user *net, size_t len)
{
	struct virtio_net_hdr_v1 head = { .num_buffers = 1 };
	struct vq_chain chain;
	u32 written = 0;

	if (!virtio_pop(&net->dev, RX, &chain))
		return false;
	if (vq_len(chain.iov + chain.out, chain.in) >= sizeof(head) + len) {
		written = vq_write(&chain, &head, sizeof(head));
		written += vq_write(&chain, net->in + 4, len);
	}
	virtio_push(&net->dev, RX, &chain, written);
	net->in_len -= 4 + len;
	memmove(net->in, net->in + 4 + len, net->in_len);
	return true;
}

static void receive(struct net_user *net)
{
	size_t len;
	ssize_t n;

	for (;;) {
		while ((len = whole_frame(net))) {
			/* Without room nothing is read until there is a kick. */
			net->dev.fd = deliver(net, len) ? net->socket : -1;
			if (net->dev.fd < 0)
				return;
		}
		n = recv(net->socket, net->in + net->in_len,
			 sizeof(net->in) - net->in_len, MSG_DONTWAIT);
		if (n < 0 && errno == EAGAIN)
			return;
		if (n <= 0) {
			net->dev.fd = -1;
			daemon_lost(&net->daemon, SIGTERM, net->dev.host->wake_fd);
			virtio_broken(&net->dev);
			return;
		}
		net->in_len += n;
	}
}

static bool flush(struct net_user *net)
{
	ssize_t n = send(net->socket, net->out, net->out_len, MSG_DONTWAIT | MSG_NOSIGNAL);

	if (n > 0) {
		net->out_len -= n;
		memmove(net->out, net->out + n, net->out_len);
	}
	return !net->out_len;
}

/* As on any network, what finds no room is lost. */
static void transmit(struct net_user *net, struct vq_chain *chain)
{
	struct virtio_net_hdr_v1 head;
	size_t len;
	u32 prefix;

	if (vq_read(chain, &head, sizeof(head)) != sizeof(head) ||
	    (net->out_len && !flush(net)))
		return;
	len = vq_read(chain, net->out + 4, FRAME_MAX);
	if (!len || vq_len(chain->iov, chain->out))
		return;
	prefix = htonl(len);
	memcpy(net->out, &prefix, 4);
	net->out_len = 4 + len;
	if (!flush(net) && net->out_len == 4 + len)
		net->out_len = 0;
}

static void process(struct virtio_device *dev, unsigned int queue)
{
	struct net_user *net = (struct net_user *)dev;
	struct vq_chain chain;

	if (queue == RX) {
		receive(net);
		return;
	}
	while (virtio_pop(dev, queue, &chain)) {
		transmit(net, &chain);
		virtio_push(dev, queue, &chain, 0);
	}
}

static void event(struct virtio_device *dev)
{
	receive((struct net_user *)dev);
}

static void destroy(struct virtio_device *dev)
{
	struct net_user *net = (struct net_user *)dev;

	close(net->socket);
	daemon_stop(&net->daemon);
}

static const struct virtio_device_ops ops = {
	.name = "net",
	.type = VIRTIO_ID_NET,
	.class = 0x020000,	/* Ethernet */
	.queues = 2,
	.size = sizeof(struct net_user),
	.config = offsetof(struct net_user, config),
	.config_len = offsetof(struct virtio_net_config, status),	/* the address */
	.process = process,
	.event = event,
	.destroy = destroy,
};

/* passt's own words say little of what is wrong, and of a port that is taken nothing. */
static int check_forward(const char *value, struct err *err)
{
	struct sockaddr_in addr = { .sin_family = AF_INET };
	unsigned int host, guest;
	int fd, ret, one = 1;
	char rest;

	if (value[strspn(value, "0123456789:")] ||
	    sscanf(value, "%5u:%5u%c", &host, &guest, &rest) != 2 || !host || host > 65535 ||
	    !guest || guest > 65535)
		return err_set(err, "--net user,forward=%s: give HOSTPORT:GUESTPORT, for instance 8080:80",
			       value);
	addr.sin_port = htons(host);
	fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	ret = bind(fd, (struct sockaddr *)&addr, sizeof(addr));
	if (ret < 0)
		err_sys(err, "--net user,forward=%s: cannot have the host's port %u", value, host);
	close(fd);
	return ret;
}

/* Frames of the usual size: the guest's buffers have no room for others. */
static int start_passt(struct net_user *net, char *options, struct err *err)
{
	static char *const tokens[] = { "forward", NULL };
	char fd[16], up[32], *argv[11 + 2 * MAX_FORWARDS] = {
		"passt", "--foreground", "--quiet", "--mtu", "1500", "--fd", fd, "--pid", up,
	};
	unsigned int n = 9, forwards = 0;
	int pair[2], ready[2], fds[2], ret;

	while (*options) {
		const char *at = options;
		char *value;

		if (getsubopt(&options, tokens, &value) < 0 || !value || !*value ||
		    forwards++ == MAX_FORWARDS)
			return err_set(err, "--net user: what is %s? Known is forward=HOSTPORT:GUESTPORT",
				       at);
		if (check_forward(value, err) < 0)
			return -1;
		argv[n++] = "--tcp-ports";
		argv[n++] = value;
	}
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0)
		return err_sys(err, "cannot make a socket");
	net->socket = pair[0];
	if (pipe2(ready, O_CLOEXEC) < 0) {
		close(pair[1]);
		return err_sys(err, "cannot make a pipe");
	}
	/* When it writes down its number it has opened all it needs, as another user. */
	fchmod(ready[1], 0622);
	fds[0] = pair[1];
	fds[1] = ready[1];
	snprintf(fd, sizeof(fd), "%d", pair[1]);
	snprintf(up, sizeof(up), "/proc/self/fd/%d", ready[1]);
	strcpy(net->daemon.serves, "--net user");
	net->daemon.jails_itself = true;
	ret = daemon_start(&net->daemon, argv, fds, 2, err);
	close(pair[1]);
	close(ready[1]);
	if (!ret)
		ret = daemon_ready(&net->daemon, ready[0], err);
	close(ready[0]);
	return ret;
}

/**
 * net_user_create() - --net user[,forward=HOSTPORT:GUESTPORT]...
 * @host: gets it
 * @options: what follows "user," in the option
 */
int net_user_create(struct virtio_host *host, const char *options, struct err *err)
{
	struct net_user *net = virtio_add(host, &ops, err);
	char *copy;
	int ret;

	if (!net)
		return -1;
	net->socket = -1;
	net_mac(host, "user", net->config.mac);
	net->dev.features |= 1ULL << VIRTIO_NET_F_MAC;
	copy = strdup(options);
	if (!copy)
		return err_sys(err, "--net");
	ret = start_passt(net, copy, err);
	net->dev.fd = net->socket;
	free(copy);
	return ret;
}
