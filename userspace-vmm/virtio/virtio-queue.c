// SPDX-License-Identifier: GPL-2.0-only
/*
 * Split virtqueues (virtio 1.2, section 2.7).
 *
 * Everything that the guest wrote is read once, and checked here; users see
 * nothing but iovecs that lie in guest memory. What does not hold makes a queue
 * broken, which vq_pop() reports and the device turns into "needs reset".
 */
#include <string.h>

#include "virtio.h"

/**
 * vq_enable() - find a ring in guest memory
 * @q: the queue, with what the guest set
 * @ram: guest memory
 *
 * Return: 0, or -1 if it is not all there or not aligned.
 */
int vq_enable(struct virtio_queue *q, const struct guest_ram *ram)
{
	q->desc = ram_ptr(ram, q->gpa[0], sizeof(*q->desc) * q->size);
	q->avail = ram_ptr(ram, q->gpa[1], sizeof(u16) * (3 + q->size));
	q->used = ram_ptr(ram, q->gpa[2], sizeof(u16) * 3 +
			  sizeof(struct vring_used_elem) * q->size);
	if (!q->desc || !q->avail || !q->used || (q->gpa[0] & 15) ||
	    (q->gpa[1] & 1) || (q->gpa[2] & 3))
		return -1;
	q->enabled = true;
	return 0;
}

/* Return: 0, or -1: not guest memory, or too much. */
static int add_segment(struct vq_chain *chain, const struct guest_ram *ram,
		       const struct vring_desc *d)
{
	unsigned int n = chain->out + chain->in;
	bool in = d->flags & VRING_DESC_F_WRITE;
	void *p = ram_ptr(ram, d->addr, d->len);

	if (!p || n == VQ_SIZE || (!in && chain->in))
		return -1;
	chain->iov[n] = (struct iovec){ p, d->len };
	if (in)
		chain->in++;
	else
		chain->out++;
	return 0;
}

/*
 * Collect a chain from a table of @size descriptors. Each step adds a segment,
 * of which there are VQ_SIZE at most, or enters the one indirect table: it ends.
 */
static int walk(struct virtio_queue *q, const struct guest_ram *ram,
		struct vq_chain *chain)
{
	const struct vring_desc *table = q->desc;
	u32 size = q->size, i = chain->head;
	struct vring_desc d;

	for (;;) {
		if (i >= size)
			return -1;
		/* Once; the guest's own table need not be aligned. */
		memcpy(&d, (const u8 *)table + i * sizeof(d), sizeof(d));
		atomic_signal_fence(memory_order_seq_cst);
		if (d.flags & VRING_DESC_F_INDIRECT) {
			/* No table in a table, and nothing behind one. */
			if (table != q->desc || (d.flags & VRING_DESC_F_NEXT) ||
			    !d.len || d.len % sizeof(d))
				return -1;
			table = ram_ptr(ram, d.addr, d.len);
			if (!table)
				return -1;
			size = d.len / sizeof(d);
			i = 0;
			continue;
		}
		if (add_segment(chain, ram, &d) < 0)
			return -1;
		if (!(d.flags & VRING_DESC_F_NEXT))
			return 0;
		i = d.next;
	}
}

/**
 * vq_pop() - take the next request
 * @q: an enabled queue
 * @ram: guest memory
 *
 * Return: 1; 0 if there is none, and then the guest kicks when there is; -1 if
 * the queue is broken.
 */
int vq_pop(struct virtio_queue *q, const struct guest_ram *ram,
	   struct vq_chain *chain)
{
	u16 *event = (u16 *)&q->used->ring[q->size];
	u16 idx = __atomic_load_n(&q->avail->idx, __ATOMIC_ACQUIRE);

	if (idx == q->next_avail && q->event_idx) {
		__atomic_store_n(event, idx, __ATOMIC_RELAXED);
		atomic_thread_fence(memory_order_seq_cst);
		idx = __atomic_load_n(&q->avail->idx, __ATOMIC_ACQUIRE);
	}
	if (idx == q->next_avail)
		return 0;
	if ((u16)(idx - q->next_avail) > q->size)
		return -1;
	chain->head = __atomic_load_n(&q->avail->ring[q->next_avail % q->size],
				      __ATOMIC_RELAXED);
	chain->out = 0;
	chain->in = 0;
	if (walk(q, ram, chain) < 0)
		return -1;
	q->next_avail++;
	return 1;
}

/**
 * vq_push() - give a request back
 * @chain: the request
 * @written: bytes of its writable part that were filled, from its start
 */
void vq_push(struct virtio_queue *q, const struct vq_chain *chain, u32 written)
{
	struct vring_used_elem *e = &q->used->ring[q->next_used % q->size];

	e->id = chain->head;
	e->len = written;
	__atomic_store_n(&q->used->idx, ++q->next_used, __ATOMIC_RELEASE);
}

/** vq_wants_interrupt() - is the guest to be told of what was pushed? */
bool vq_wants_interrupt(struct virtio_queue *q)
{
	u16 old = q->signalled, event;

	if (old == q->next_used)
		return false;
	q->signalled = q->next_used;
	atomic_thread_fence(memory_order_seq_cst);
	if (!q->event_idx)
		return !(__atomic_load_n(&q->avail->flags, __ATOMIC_RELAXED) &
			 VRING_AVAIL_F_NO_INTERRUPT);
	event = __atomic_load_n(&q->avail->ring[q->size], __ATOMIC_RELAXED);
	return vring_need_event(event, q->next_used, old);
}

/**
 * vq_len() - bytes in a part of a request
 * @iov: the part
 * @n: its entries
 */
u64 vq_len(const struct iovec *iov, unsigned int n)
{
	u64 len = 0;

	while (n--)
		len += iov[n].iov_len;
	return len;
}

/* Copy, and take what was copied off the front. */
static size_t copy(struct iovec *iov, unsigned int n, u8 *buf, size_t len,
		   bool in)
{
	size_t done = 0;

	for (; n && done < len; iov++, n--) {
		size_t part = iov->iov_len < len - done ? iov->iov_len : len - done;

		if (in)
			memcpy(iov->iov_base, buf + done, part);
		else
			memcpy(buf + done, iov->iov_base, part);
		iov->iov_base = (u8 *)iov->iov_base + part;
		iov->iov_len -= part;
		done += part;
	}
	return done;
}

/**
 * vq_read() - take bytes off the front of what the guest has filled
 * @chain: the request
 *
 * Return: how many there were.
 */
size_t vq_read(struct vq_chain *chain, void *to, size_t len)
{
	return copy(chain->iov, chain->out, to, len, false);
}

/**
 * vq_write() - fill the front of what the guest wants filled
 * @chain: the request
 * @from: with what
 * @len: how many bytes
 *
 * Return: how many there was room for.
 */
size_t vq_write(struct vq_chain *chain, const void *from, size_t len)
{
	return copy(chain->iov + chain->out, chain->in, (u8 *)from, len, true);
}
