// SPDX-License-Identifier: GPL-2.0-only
/*
 * A console, /dev/hvc0 in Linux (virtio 1.2, section 5.3), with its other end
 * at a file or a unix socket.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "devices.h"
#include "socket.h"

#define RX 0
#define TX 1

struct hvc {
	struct virtio_device dev;
	int out;
};

static void receive(struct virtio_device *dev)
{
	struct hvc *hvc = (struct hvc *)dev;
	struct vq_chain chain;
	ssize_t n;
	u8 buf[256];

	for (;;) {
		n = recv(hvc->out, buf, sizeof(buf), MSG_DONTWAIT | MSG_PEEK);
		if (n < 0 && errno == EAGAIN)
			return;
		/* At the end of input, or without room, nothing more is read. */
		dev->fd = -1;
		if (n <= 0 || !virtio_pop(dev, RX, &chain))
			return;
		dev->fd = hvc->out;
		n = vq_write(&chain, buf, n);
		if (recv(hvc->out, buf, n, MSG_DONTWAIT) != n)
			n = 0;
		virtio_push(dev, RX, &chain, n);
	}
}

/*
 * Whoever reads slowly keeps the guest waiting, but not us; whoever is gone does
 * not. A socket that is writable has room for more than drivers write at once.
 */
static void transmit(struct virtio_device *dev)
{
	struct hvc *hvc = (struct hvc *)dev;
	struct vq_chain chain;
	ssize_t n;

	for (;;) {
		struct pollfd room = { hvc->out, POLLOUT, 0 };

		dev->out_fd = poll(&room, 1, 0) > 0 ? -1 : hvc->out;
		if (dev->out_fd >= 0 || !virtio_pop(dev, TX, &chain))
			return;
		/* What cannot be written is lost, as on a line that is cut. */
		n = writev(hvc->out, chain.iov, chain.out);
		(void)n;
		virtio_push(dev, TX, &chain, 0);
	}
}

static void process(struct virtio_device *dev, unsigned int queue)
{
	if (queue == RX)
		receive(dev);
	else
		transmit(dev);
}

static void event(struct virtio_device *dev)
{
	receive(dev);
	if (dev->out_fd >= 0)
		transmit(dev);
}

static void destroy(struct virtio_device *dev)
{
	close(((struct hvc *)dev)->out);
}

static const struct virtio_device_ops ops = {
	.name = "console",
	.type = VIRTIO_ID_CONSOLE,
	.class = 0x078000,	/* communication, other */
	.queues = 2,
	.size = sizeof(struct hvc),
	.process = process,
	.event = event,
	.destroy = destroy,
};

static int open_end(struct hvc *hvc, const char *arg, struct err *err)
{
	if (!strncmp(arg, "file:", 5) && arg[5]) {
		hvc->out = open(arg + 5, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
	} else if (!strncmp(arg, "unix:", 5) && arg[5]) {
		hvc->out = connect_unix(arg + 5, SOCK_NONBLOCK);
		hvc->dev.fd = hvc->out;
		if (hvc->out < 0)
			return err_sys(err, "--console %s: nobody listens there", arg);
	} else {
		return err_set(err, "--console %s: give file:PATH, or unix:PATH of a socket", arg);
	}
	return hvc->out < 0 ? err_sys(err, "--console %s", arg) : 0;
}

int console_create(struct virtio_host *host, const char *arg, struct err *err)
{
	struct hvc *hvc = virtio_add(host, &ops, err);

	if (!hvc)
		return -1;
	hvc->out = -1;
	return open_end(hvc, arg, err);
}
