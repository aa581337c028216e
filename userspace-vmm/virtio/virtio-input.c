// SPDX-License-Identifier: GPL-2.0-only
/*
 * A keyboard, or a pointer that says where it is (virtio 1.2, section 5.8).
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include <linux/input.h>

#include "display.h"

#define EVENTS 0
#define STATUS 1	/* the lamps of a keyboard: we have none */

#define PENDING 64
#define STALE_MAX 1024

struct input {
	struct virtio_device dev;
	bool tablet;
	struct virtio_input_config config;
	struct virtio_input_event pending[PENDING];	/* whole reports */
	unsigned int count;
	int source;	/* a socket: a message is a report, without what ends it */
};

static void set_bits(struct virtio_input_config *c, unsigned int first, unsigned int last)
{
	for (; first <= last; first++) {
		c->u.bitmap[first / 8] |= 1 << first % 8;
		c->size = first / 8 + 1;
	}
}

static void event_bits(struct virtio_input_config *c, bool tablet)
{
	if (c->subsel == EV_KEY && tablet) {
		set_bits(c, BTN_LEFT, BTN_MIDDLE);
	} else if (c->subsel == EV_KEY) {
		set_bits(c, KEY_ESC, KEY_COMPOSE);	/* all of a PC's keyboard */
	} else if (c->subsel == EV_REP && !tablet) {
		set_bits(c, REP_DELAY, REP_PERIOD);
	} else if (c->subsel == EV_REL && tablet) {
		set_bits(c, REL_WHEEL, REL_WHEEL);
	} else if (c->subsel == EV_ABS && tablet) {
		set_bits(c, ABS_X, ABS_Y);
	}
}

/* The driver selects what it reads next. */
static void write_config(struct virtio_device *dev, u64 offset, u64 value)
{
	struct input *in = (struct input *)dev;
	struct virtio_input_config *c = &in->config;

	if (offset > offsetof(struct virtio_input_config, subsel))
		return;
	((u8 *)c)[offset] = value;
	c->size = 0;
	memset(&c->u, 0, sizeof(c->u));
	switch (c->select) {
	case VIRTIO_INPUT_CFG_ID_NAME:
		c->size = snprintf(c->u.string, sizeof(c->u.string), "keel %s",
				   in->tablet ? "tablet" : "keyboard");
		break;
	case VIRTIO_INPUT_CFG_ID_DEVIDS:
		c->u.ids.bustype = BUS_VIRTUAL;
		c->u.ids.product = 1 + in->tablet;
		c->size = sizeof(c->u.ids);
		break;
	case VIRTIO_INPUT_CFG_EV_BITS:
		event_bits(c, in->tablet);
		break;
	case VIRTIO_INPUT_CFG_ABS_INFO:
		if (in->tablet && c->subsel <= ABS_Y) {
			c->u.abs.max = TABLET_MAX;
			c->size = sizeof(c->u.abs);
		}
		break;
	}
}

static void flush(struct input *in)
{
	struct vq_chain chain;
	unsigned int done = 0;
	size_t n;

	while (done < in->count && virtio_pop(&in->dev, EVENTS, &chain)) {
		n = vq_write(&chain, &in->pending[done++], sizeof(*in->pending));
		virtio_push(&in->dev, EVENTS, &chain, n);
	}
	in->count -= done;
	memmove(in->pending, in->pending + done, in->count * sizeof(*in->pending));
}

static void process(struct virtio_device *dev, unsigned int queue)
{
	struct vq_chain chain;

	if (queue == EVENTS)
		flush((struct input *)dev);
	while (queue == STATUS && virtio_pop(dev, queue, &chain))
		virtio_push(dev, queue, &chain, 0);
}

/* Return: whether there was one. */
static bool receive(struct input *in, struct virtio_input_event *events, size_t *n)
{
	ssize_t len = recv(in->source, events, REPORT_MAX * sizeof(*events), MSG_DONTWAIT);

	*n = len > 0 ? len / sizeof(*events) : 0;
	if (!len || (len < 0 && errno != EAGAIN)) {
		in->dev.fd = -1;
		virtio_broken(&in->dev);	/* who sends is gone */
	}
	return len > 0;
}

/* Something was pressed, released or moved. A guest that does not read misses it. */
static void event(struct virtio_device *dev)
{
	struct virtio_input_event events[REPORT_MAX];
	struct input *in = (struct input *)dev;
	size_t n;

	/* One at a time: who sends need not stop, and others want the lock. */
	if (!receive(in, events, &n) || in->count + n >= PENDING)
		return;
	memcpy(in->pending + in->count, events, n * sizeof(*events));
	in->count += n;
	in->pending[in->count++] = (struct virtio_input_event){ .type = EV_SYN };
	flush(in);
}

/* What came when nobody listened is not meant for who listens now. */
static int start(struct virtio_device *dev)
{
	struct virtio_input_event events[REPORT_MAX];
	unsigned int i = 0;
	size_t n;

	/* More than a socket holds; who sends need not stop. */
	while (i++ < STALE_MAX && receive((struct input *)dev, events, &n))
		;
	return 0;
}

static void stop(struct virtio_device *dev)
{
	((struct input *)dev)->count = 0;
}

static void destroy(struct virtio_device *dev)
{
	close(((struct input *)dev)->source);
}

static const struct virtio_device_ops ops = {
	.name = "input",
	.type = VIRTIO_ID_INPUT,
	.class = 0x098000,	/* input, other */
	.queues = 2,
	.size = sizeof(struct input),
	.config = offsetof(struct input, config),
	.config_len = sizeof(struct virtio_input_config),
	.process = process,
	.event = event,
	.start = start,
	.stop = stop,
	.destroy = destroy,
	.write_config = write_config,
};

/**
 * input_create() - give a machine one
 * @host: what devices share
 * @tablet: a pointer; otherwise a keyboard
 * @source: a socket from which reports come; is closed with the device
 */
int input_create(struct virtio_host *host, bool tablet, int source, struct err *err)
{
	struct input *in = virtio_add(host, &ops, err);

	if (!in)
		return -1;
	in->tablet = tablet;
	in->source = source;
	in->dev.fd = source;
	return 0;
}
