// SPDX-License-Identifier: GPL-2.0-only
/*
 * A disk that is a raw file or a block device (virtio 1.2, section 5.2), by
 * io_uring. What fails on the host is an I/O error in the guest.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/stat.h>
#include <unistd.h>
#include <liburing.h>
#include <linux/falloc.h>
#include <linux/virtio_blk.h>

#include "devices.h"
#include "disk.h"
#include "jail.h"

#define SECTOR 512
#define RANGE_SECTORS (1U << 21)	/* discard 1 GiB at once */

struct request {
	struct vq_chain chain;
	struct request *next;		/* while it is free */
	struct virtio_blk_outhdr head;
	struct virtio_blk_discard_write_zeroes range;
	struct iovec *iov;		/* what is to be moved */
	unsigned int segments;
	u64 offset;			/* in the file */
	u64 left;
	u32 filled;			/* bytes that the guest gets */
	u8 *status;
	bool punch;			/* the second try at zeroes */
};

struct blk {
	struct virtio_device dev;
	struct virtio_blk_config config;
	char id[VIRTIO_BLK_ID_BYTES];
	int file;
	bool ring_ready;
	struct io_uring ring;		/* dev.lock, as all of this */
	struct request *requests;
	struct request *free;
	unsigned int running;
};

static void finish(struct blk *blk, struct request *r, u8 status)
{
	*r->status = status;
	virtio_push(&blk->dev, 0, &r->chain, status ? 1 : r->filled + 1);
	r->next = blk->free;
	blk->free = r;
}

/* Queue what is left of a request; the guest's range was checked. */
static void issue(struct blk *blk, struct request *r)
{
	struct io_uring_sqe *sqe = io_uring_get_sqe(&blk->ring);
	u64 range = (u64)r->range.num_sectors * SECTOR;

	if (!sqe) {
		io_uring_submit(&blk->ring);
		sqe = io_uring_get_sqe(&blk->ring);
	}
	if (!sqe) {
		finish(blk, r, VIRTIO_BLK_S_IOERR);
		return;
	}
	switch (r->head.type) {
	case VIRTIO_BLK_T_IN:
		io_uring_prep_readv(sqe, blk->file, r->iov, r->segments, r->offset);
		break;
	case VIRTIO_BLK_T_OUT:
		io_uring_prep_writev(sqe, blk->file, r->iov, r->segments, r->offset);
		break;
	case VIRTIO_BLK_T_FLUSH:
		io_uring_prep_fsync(sqe, blk->file, IORING_FSYNC_DATASYNC);
		break;
	default:
		io_uring_prep_fallocate(sqe, blk->file, FALLOC_FL_KEEP_SIZE |
					(r->punch ? FALLOC_FL_PUNCH_HOLE :
					 FALLOC_FL_ZERO_RANGE), r->offset, range);
		break;
	}
	io_uring_sqe_set_data(sqe, r);
	blk->running++;
}

static bool in_disk(const struct blk *blk, u64 sector, u64 bytes)
{
	return !(bytes % SECTOR) && sector <= blk->config.capacity &&
	       bytes / SECTOR <= blk->config.capacity - sector;
}

/* Return: 0 if it is to be issued, otherwise the status it ends with plus 1. */
static int prepare(struct blk *blk, struct request *r)
{
	struct virtio_blk_discard_write_zeroes *range = &r->range;
	bool ro = blk->dev.features & (1ULL << VIRTIO_BLK_F_RO);
	u64 sector = r->head.sector;

	switch (r->head.type) {
	case VIRTIO_BLK_T_IN:
		r->iov = r->chain.iov + r->chain.out;
		r->segments = r->chain.in;
		break;
	case VIRTIO_BLK_T_OUT:
		r->iov = r->chain.iov;
		r->segments = r->chain.out;
		break;
	case VIRTIO_BLK_T_FLUSH:
		return 0;
	case VIRTIO_BLK_T_GET_ID:
		r->filled = vq_write(&r->chain, blk->id, sizeof(blk->id));
		return VIRTIO_BLK_S_OK + 1;
	case VIRTIO_BLK_T_DISCARD:
	case VIRTIO_BLK_T_WRITE_ZEROES:
		if (vq_read(&r->chain, range, sizeof(*range)) != sizeof(*range) ||
		    vq_len(r->chain.iov, r->chain.out) ||
		    range->num_sectors > RANGE_SECTORS ||
		    !in_disk(blk, range->sector, (u64)range->num_sectors * SECTOR) || ro)
			return VIRTIO_BLK_S_IOERR + 1;
		r->punch = r->head.type == VIRTIO_BLK_T_DISCARD ||
			   (range->flags & VIRTIO_BLK_WRITE_ZEROES_FLAG_UNMAP);
		r->offset = range->sector * SECTOR;
		return range->num_sectors ? 0 : VIRTIO_BLK_S_OK + 1;
	default:
		return VIRTIO_BLK_S_UNSUPP + 1;
	}
	r->left = vq_len(r->iov, r->segments);
	r->offset = sector * SECTOR;
	if (!in_disk(blk, sector, r->left) ||
	    (ro && r->head.type == VIRTIO_BLK_T_OUT))
		return VIRTIO_BLK_S_IOERR + 1;
	return r->left ? 0 : VIRTIO_BLK_S_OK + 1;
}

/* The last byte of what the guest wants filled. */
static u8 *take_status(struct vq_chain *chain)
{
	unsigned int i = chain->out + chain->in;

	while (i-- > chain->out) {
		struct iovec *iov = &chain->iov[i];

		if (iov->iov_len)
			return (u8 *)iov->iov_base + --iov->iov_len;
	}
	return NULL;
}

static void process(struct virtio_device *dev, unsigned int queue)
{
	struct blk *blk = (struct blk *)dev;
	struct request *r;
	int ret;

	while (blk->free && virtio_pop(dev, queue, &blk->free->chain)) {
		r = blk->free;
		r->status = take_status(&r->chain);
		if (!r->status || vq_read(&r->chain, &r->head, sizeof(r->head)) !=
		    sizeof(r->head)) {
			virtio_broken(dev);
			break;
		}
		blk->free = r->next;
		r->filled = 0;
		r->left = 0;
		ret = prepare(blk, r);
		if (ret)
			finish(blk, r, ret - 1);
		else
			issue(blk, r);
	}
	io_uring_submit(&blk->ring);
}

/* A part was moved: take it off the front. */
static void advance(struct request *r, u64 done)
{
	r->left -= done;
	r->offset += done;
	while (r->segments && done >= r->iov->iov_len) {
		done -= r->iov++->iov_len;
		r->segments--;
	}
	if (done) {
		r->iov->iov_base = (u8 *)r->iov->iov_base + done;
		r->iov->iov_len -= done;
	}
}

static void complete(struct blk *blk, struct request *r, int res)
{
	bool range = r->head.type == VIRTIO_BLK_T_DISCARD ||
		     r->head.type == VIRTIO_BLK_T_WRITE_ZEROES;

	if (res == -EINTR || res == -EAGAIN) {
		issue(blk, r);
	} else if (res == -EOPNOTSUPP && range && !r->punch) {
		r->punch = true;
		issue(blk, r);
	} else if (res == -EOPNOTSUPP && r->head.type == VIRTIO_BLK_T_DISCARD) {
		finish(blk, r, VIRTIO_BLK_S_OK);	/* it was advice */
	} else if (res < 0 || (!res && r->left)) {
		finish(blk, r, VIRTIO_BLK_S_IOERR);
	} else if ((u64)res < r->left) {
		if (r->head.type == VIRTIO_BLK_T_IN)
			r->filled += res;
		advance(r, res);
		issue(blk, r);
	} else {
		if (r->head.type == VIRTIO_BLK_T_IN)
			r->filled += res;
		finish(blk, r, VIRTIO_BLK_S_OK);
	}
}

static void take_completed(struct blk *blk)
{
	struct io_uring_cqe *cqe;

	while (!io_uring_peek_cqe(&blk->ring, &cqe)) {
		struct request *r = io_uring_cqe_get_data(cqe);
		int res = cqe->res;

		io_uring_cqe_seen(&blk->ring, cqe);
		blk->running--;
		complete(blk, r, res);
	}
}

static void event(struct virtio_device *dev)
{
	struct blk *blk = (struct blk *)dev;
	eventfd_t count;

	eventfd_read(dev->fd, &count);
	take_completed(blk);
	/* What had to wait for a free request, and what goes on. */
	process(dev, 0);
}

static void make_free(struct blk *blk)
{
	unsigned int i;

	blk->free = NULL;
	for (i = 0; i < VQ_SIZE; i++) {
		blk->requests[i].next = blk->free;
		blk->free = &blk->requests[i];
	}
}

/* The kernel must not write into guest memory any more when this returns. */
static void stop(struct virtio_device *dev)
{
	struct blk *blk = (struct blk *)dev;
	struct io_uring_cqe *cqe;

	while (blk->running) {
		io_uring_submit(&blk->ring);	/* what goes on, too */
		if (!io_uring_wait_cqe(&blk->ring, &cqe))
			take_completed(blk);
	}
}

static void destroy(struct virtio_device *dev)
{
	struct blk *blk = (struct blk *)dev;

	if (blk->ring_ready)
		io_uring_queue_exit(&blk->ring);
	close(dev->fd);
	close(blk->file);
	free(blk->requests);
}

static const struct virtio_device_ops ops = {
	.name = "disk",
	.type = VIRTIO_ID_BLOCK,
	.class = 0x018000,	/* mass storage */
	.queues = 1,
	.size = sizeof(struct blk),
	.config = offsetof(struct blk, config),
	.config_len = sizeof(struct virtio_blk_config),
	.process = process,
	.event = event,
	.stop = stop,
	.destroy = destroy,
};

static int open_ring(struct blk *blk, struct err *err)
{
	/*
	 * No filter sees what is asked of the ring, so it takes what is asked
	 * here and nothing else.
	 */
	static const u8 used[] = { IORING_OP_READV, IORING_OP_WRITEV, IORING_OP_FSYNC,
				   IORING_OP_FALLOCATE };
	struct io_uring_restriction only[ARRAY_SIZE(used)] = { 0 };
	int ret = io_uring_queue_init(VQ_SIZE, &blk->ring, IORING_SETUP_R_DISABLED);
	size_t i;

	if (ret < 0) {
		errno = -ret;
		return err_sys(err, "disk: io_uring is needed (/proc/sys/kernel/io_uring_disabled?)");
	}
	blk->ring_ready = true;
	blk->dev.fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (blk->dev.fd < 0)
		return err_sys(err, "cannot create an eventfd");
	for (i = 0; i < ARRAY_SIZE(used); i++) {
		only[i].opcode = IORING_RESTRICTION_SQE_OP;
		only[i].sqe_op = used[i];
	}
	ret = io_uring_register_eventfd(&blk->ring, blk->dev.fd);
	if (!ret && !jail_off())
		ret = io_uring_register(blk->ring.ring_fd, IORING_REGISTER_RESTRICTIONS, only,
					ARRAY_SIZE(only));
	if (!ret)
		ret = io_uring_register(blk->ring.ring_fd, IORING_REGISTER_ENABLE_RINGS, NULL, 0);
	if (ret < 0) {
		errno = -ret;
		return err_sys(err, "disk: io_uring");
	}
#ifdef KEEL_TEST_HOOK
	jail_ring = &blk->ring;
#endif
	blk->requests = calloc(VQ_SIZE, sizeof(*blk->requests));
	if (!blk->requests)
		return err_sys(err, "disk: requests");
	make_free(blk);
	return 0;
}

static int raw_create(struct virtio_host *host, const struct disk *disk,
		      struct err *err)
{
	const char *name = strrchr(disk->path, '/');
	struct blk *blk = virtio_add(host, &ops, err);
	struct virtio_blk_config *c;
	off_t size;

	if (!blk)
		return -1;
	c = &blk->config;
	blk->file = disk_open(disk->path, disk->ro, err);
	if (blk->file < 0)
		return -1;
	name = name ? name + 1 : disk->path;
	memcpy(blk->id, name, strnlen(name, sizeof(blk->id)));
	size = lseek(blk->file, 0, SEEK_END);
	c->capacity = size < 0 ? 0 : size / SECTOR;
	c->seg_max = VQ_SIZE - 2;
	c->blk_size = SECTOR;
	c->max_discard_sectors = RANGE_SECTORS;
	c->max_discard_seg = 1;
	c->discard_sector_alignment = 8;
	c->max_write_zeroes_sectors = RANGE_SECTORS;
	c->max_write_zeroes_seg = 1;
	c->write_zeroes_may_unmap = 1;
	blk->dev.features |= 1ULL << VIRTIO_BLK_F_SEG_MAX |
			     1ULL << VIRTIO_BLK_F_BLK_SIZE |
			     1ULL << VIRTIO_BLK_F_FLUSH |
			     (disk->ro ? 1ULL << VIRTIO_BLK_F_RO :
			      1ULL << VIRTIO_BLK_F_DISCARD |
			      1ULL << VIRTIO_BLK_F_WRITE_ZEROES);
	if (!c->capacity)
		return err_set(err, "disk %s is empty; give it a size, for instance with truncate -s 1G",
			       disk->path);
	return open_ring(blk, err);
}

/**
 * blk_create() - --disk
 * @host: gets it
 * @arg: the option's argument
 */
int blk_create(struct virtio_host *host, const char *arg, struct err *err)
{
	struct disk disk;
	int ret = disk_parse(&disk, arg, err);

	if (!ret)
		ret = disk_is_raw(&disk) ? raw_create(host, &disk, err) :
					   blk_user_create(host, &disk, err);
	disk_forget(&disk);
	return ret;
}
