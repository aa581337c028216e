// SPDX-License-Identifier: GPL-2.0-only
/*
 * A network card (virtio 1.2, section 5.1) on a tap device, served by
 * vhost-net.
 */
#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>
#include <linux/if_tun.h>
#include <linux/virtio_net.h>

#include "devices.h"
#include "net.h"
#include "vhost.h"

#define TAP_FEATURES (1ULL << VIRTIO_NET_F_CSUM | 1ULL << VIRTIO_NET_F_GUEST_CSUM | \
		      1ULL << VIRTIO_NET_F_HOST_TSO4 | 1ULL << VIRTIO_NET_F_HOST_TSO6 | \
		      1ULL << VIRTIO_NET_F_HOST_ECN | 1ULL << VIRTIO_NET_F_GUEST_TSO4 | \
		      1ULL << VIRTIO_NET_F_GUEST_TSO6 | 1ULL << VIRTIO_NET_F_GUEST_ECN)

struct net {
	struct vhost vhost;
	struct virtio_net_config config;
	int tap;
};

static int set_backend(struct net *net, int fd)
{
	struct vhost_vring_file rx = { 0, fd }, tx = { 1, fd };

	return ioctl(net->vhost.fd, VHOST_NET_SET_BACKEND, &rx) |
	       ioctl(net->vhost.fd, VHOST_NET_SET_BACKEND, &tx);
}

static int start(struct virtio_device *dev)
{
	static const struct {
		unsigned int feature, offload;
	} offloads[] = {
		{ VIRTIO_NET_F_GUEST_CSUM, TUN_F_CSUM },
		{ VIRTIO_NET_F_GUEST_TSO4, TUN_F_TSO4 },
		{ VIRTIO_NET_F_GUEST_TSO6, TUN_F_TSO6 },
		{ VIRTIO_NET_F_GUEST_ECN, TUN_F_TSO_ECN },
	};
	struct net *net = (struct net *)dev;
	unsigned long offload = 0;
	size_t i;

	for (i = 0; i < ARRAY_SIZE(offloads); i++) {
		if (virtio_has(dev, offloads[i].feature))
			offload |= offloads[i].offload;
	}
	/* The guest may ask for what makes no sense without checksums. */
	if (ioctl(net->tap, TUNSETOFFLOAD, offload) < 0 ||
	    vhost_start(dev) < 0)
		return -1;
	return set_backend(net, net->tap);
}

static void stop(struct virtio_device *dev)
{
	set_backend((struct net *)dev, -1);
	vhost_stop(dev);
}

static void destroy(struct virtio_device *dev)
{
	vhost_destroy(dev);
	close(((struct net *)dev)->tap);
}

static const struct virtio_device_ops ops = {
	.name = "net",
	.type = VIRTIO_ID_NET,
	.class = 0x020000,	/* Ethernet */
	.queues = 2,
	.size = sizeof(struct net),
	.config = offsetof(struct net, config),
	.config_len = offsetof(struct virtio_net_config, status),	/* the address */
	.event = vhost_event,
	.start = start,
	.stop = stop,
	.destroy = destroy,
};

static int open_tap(struct net *net, const char *name, struct err *err)
{
	struct ifreq ifr = { .ifr_flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR };
	int header = sizeof(struct virtio_net_hdr_v1);

	if (strlen(name) >= sizeof(ifr.ifr_name))
		return err_set(err, "--net tap=%s: a name has at most %zu characters",
			       name, sizeof(ifr.ifr_name) - 1);
	/* Root would get a new one, which leads nowhere. */
	if (!if_nametoindex(name))
		return err_set(err, "--net tap=%s: no such device; type: sudo ip tuntap add %s mode tap user $USER",
			       name, name);
	strcpy(ifr.ifr_name, name);
	net->tap = open("/dev/net/tun", O_RDWR | O_CLOEXEC | O_NONBLOCK);
	if (net->tap < 0)
		return err_sys(err, "cannot open /dev/net/tun; try: sudo modprobe tun");
	if (ioctl(net->tap, TUNSETIFF, &ifr) < 0)
		return err_sys(err, "cannot use tap device %s%s", name,
			       errno == EPERM ? ", it is another user's" :
			       errno == EBUSY ? ", a machine has it" :
			       errno == EINVAL ? ", is it one?" : "");
	if (ioctl(net->tap, TUNSETVNETHDRSZ, &header) < 0)
		return err_sys(err, "tap device %s", name);
	return 0;
}

/**
 * net_mac() - an address that a machine keeps
 * @host: has its name
 * @name: of the card; the host's name for it
 * @mac: filled: locally administered, not a group
 */
void net_mac(const struct virtio_host *host, const char *name, u8 mac[6])
{
	const char *const parts[] = { host->machine ? host->machine : "", "/", name };
	u64 hash = 0xcbf29ce484222325ULL;	/* FNV-1a */
	size_t i;

	for (i = 0; i < ARRAY_SIZE(parts); i++) {
		const char *s = parts[i];

		while (*s)
			hash = (hash ^ (u8)*s++) * 0x100000001b3ULL;
	}
	memcpy(mac, &hash, 6);
	mac[0] = (mac[0] & ~1) | 2;
}

static int tap_create(struct virtio_host *host, const char *name, struct err *err)
{
	struct vhost *v = vhost_add(host, &ops, err);
	struct net *net = (struct net *)v;

	if (!v)
		return -1;
	net->tap = -1;
	net_mac(host, name, net->config.mac);
	if (open_tap(net, name, err) < 0 || vhost_open(v, "/dev/vhost-net", err) < 0)
		return -1;
	v->dev.features = ((v->dev.features | 1ULL << VIRTIO_NET_F_MRG_RXBUF) & v->offered) |
			  TAP_FEATURES | 1ULL << VIRTIO_NET_F_MAC;
	return 0;
}

/**
 * net_create() - --net
 * @host: gets it
 * @arg: the option's argument
 */
int net_create(struct virtio_host *host, const char *arg, struct err *err)
{
	if (!strncmp(arg, "tap=", 4) && arg[4])
		return tap_create(host, arg + 4, err);
	if (!strcmp(arg, "user") || !strncmp(arg, "user,", 5))
		return net_user_create(host, arg + (arg[4] ? 5 : 4), err);
	return err_set(err, "--net %s: give tap=NAME, or user", arg);
}
