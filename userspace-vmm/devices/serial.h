/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * A 16550A UART.
 */
#ifndef SERIAL_H
#define SERIAL_H

#include <pthread.h>

#include "bus.h"

#define SERIAL_RX_FIFO 16
#define SERIAL_TX_RING 16384
/* Guests send a whole FIFO's worth without looking: keep that much free. */
#define SERIAL_TX_RESERVE 64

struct serial {
	pthread_mutex_t lock;	/* everything below */
	u8 ier;
	u8 fcr;
	u8 lcr;
	u8 mcr;
	u8 scr;
	u8 divisor[2];
	u8 lsr_break;
	bool thre_pending;	/* transmitter-empty interrupt is latched */
	bool line;		/* last level given to the irq line */
	bool want_rx;		/* the console has input that did not fit */
	unsigned int lsr_polls;	/* reads of LSR since the last other access */
	u8 rx[SERIAL_RX_FIFO];
	unsigned int rx_head;
	unsigned int rx_count;
	u8 tx[SERIAL_TX_RING];
	unsigned int tx_head;
	unsigned int tx_count;

	struct irq_line irq;	/* set at creation */
	void (*wake)(void *opaque);
	void *wake_opaque;
};

void serial_init(struct serial *s, struct irq_line irq,
		 void (*wake)(void *opaque), void *wake_opaque);
void serial_access(void *dev, struct bus_access *access);

/* The console's side; any thread. */
size_t serial_rx_push(struct serial *s, const u8 *data, size_t len);
void serial_rx_break(struct serial *s);
size_t serial_tx_peek(struct serial *s, u8 *data, size_t len);
void serial_tx_consume(struct serial *s, size_t len);

#endif
