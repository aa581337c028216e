// SPDX-License-Identifier: GPL-2.0-only
/*
 * A 16550A UART, as Linux's 8250 driver and its probing expect it.
 *
 * Register and bit names are those of <linux/serial_reg.h>. The transmitter
 * is a ring that the console empties: while the ring has room a byte counts
 * as sent at once; when the terminal is slow, THRE stays clear and the guest
 * waits. The receiver takes no more than its FIFO holds; the rest stays with
 * the console.
 */
#include <string.h>
#include <linux/serial_reg.h>

#include "serial.h"

/*
 * A guest that reads LSR this often without doing anything else polls for
 * input. A driver that uses interrupts says so in IER instead.
 */
#define LSR_POLLING 16

void serial_init(struct serial *s, struct irq_line irq,
		 void (*wake)(void *opaque), void *wake_opaque)
{
	memset(s, 0, sizeof(*s));
	pthread_mutex_init(&s->lock, NULL);
	s->divisor[0] = 12;	/* 9600 baud */
	s->irq = irq;
	s->wake = wake;
	s->wake_opaque = wake_opaque;
}

static bool thr_empty(const struct serial *s)
{
	return SERIAL_TX_RING - s->tx_count >= SERIAL_TX_RESERVE;
}

static unsigned int rx_depth(const struct serial *s)
{
	return s->fcr & UART_FCR_ENABLE_FIFO ? SERIAL_RX_FIFO : 1;
}

static unsigned int rx_trigger(const struct serial *s)
{
	static const u8 level[] = { 1, 4, 8, 14 };

	return s->fcr & UART_FCR_ENABLE_FIFO ? level[s->fcr >> 6] : 1;
}

static u8 line_status(const struct serial *s)
{
	return s->lsr_break | (s->rx_count ? UART_LSR_DR : 0) |
	       (thr_empty(s) ? UART_LSR_THRE | UART_LSR_TEMT : 0);
}

/* In loopback the modem outputs come back as the modem inputs. */
static u8 modem_status(const struct serial *s)
{
	if (!(s->mcr & UART_MCR_LOOP))
		return UART_MSR_DCD | UART_MSR_DSR | UART_MSR_CTS;
	return (s->mcr & UART_MCR_RTS ? UART_MSR_CTS : 0) |
	       (s->mcr & UART_MCR_DTR ? UART_MSR_DSR : 0) |
	       (s->mcr & UART_MCR_OUT1 ? UART_MSR_RI : 0) |
	       (s->mcr & UART_MCR_OUT2 ? UART_MSR_DCD : 0);
}

/* The highest pending interrupt, in the order of the data sheet. */
static u8 interrupt_id(const struct serial *s)
{
	if ((s->ier & UART_IER_RLSI) && s->lsr_break)
		return UART_IIR_RLSI;
	if ((s->ier & UART_IER_RDI) && s->rx_count)
		return s->rx_count >= rx_trigger(s) ? UART_IIR_RDI : UART_IIR_RX_TIMEOUT;
	if ((s->ier & UART_IER_THRI) && s->thre_pending)
		return UART_IIR_THRI;
	return UART_IIR_NO_INT;
}

static void update_irq(struct serial *s)
{
	bool level = interrupt_id(s) != UART_IIR_NO_INT;

	if (level != s->line)
		irq_set(&s->irq, level);
	s->line = level;
}

static void wake(struct serial *s)
{
	if (s->wake)
		s->wake(s->wake_opaque);
}

static bool rx_accepts(const struct serial *s)
{
	return (s->ier & UART_IER_RDI) || s->lsr_polls >= LSR_POLLING;
}

/* Return: whether there was room. */
static bool rx_put(struct serial *s, u8 byte)
{
	if (s->rx_count >= rx_depth(s))
		return false;
	s->rx[(s->rx_head + s->rx_count++) % SERIAL_RX_FIFO] = byte;
	return true;
}

static void wake_for_input(struct serial *s)
{
	if (!s->want_rx || !rx_accepts(s) || s->rx_count >= rx_depth(s))
		return;
	s->want_rx = false;
	wake(s);
}

static u8 read_rbr(struct serial *s)
{
	u8 byte = 0;

	if (s->rx_count) {
		byte = s->rx[s->rx_head];
		s->rx_head = (s->rx_head + 1) % SERIAL_RX_FIFO;
		s->rx_count--;
	}
	if (!s->rx_count)
		wake_for_input(s);
	return byte;
}

static void write_thr(struct serial *s, u8 byte)
{
	if (s->mcr & UART_MCR_LOOP) {
		rx_put(s, byte);
		s->thre_pending = true;
		return;
	}
	if (s->tx_count < SERIAL_TX_RING) {
		s->tx[(s->tx_head + s->tx_count++) % SERIAL_TX_RING] = byte;
		if (s->tx_count == 1)
			wake(s);
	}
	s->thre_pending = thr_empty(s);
}

static void write_ier(struct serial *s, u8 value)
{
	u8 changed = s->ier ^ value;

	/*
	 * Bits 4-7 do not exist in a 16550A: Linux tells later chips by
	 * them. Enabling THRI with an empty transmitter interrupts at once,
	 * which is how drivers start sending.
	 */
	s->ier = value & 0x0f;
	if ((changed & value & UART_IER_THRI) && thr_empty(s))
		s->thre_pending = true;
	wake_for_input(s);
}

static void write_fcr(struct serial *s, u8 value)
{
	if ((s->fcr ^ value) & UART_FCR_ENABLE_FIFO)
		value |= UART_FCR_CLEAR_RCVR;
	if (value & UART_FCR_CLEAR_RCVR) {
		s->rx_count = 0;
		s->lsr_break = 0;
		wake_for_input(s);
	}
	s->fcr = value & (UART_FCR_ENABLE_FIFO | UART_FCR_TRIGGER_MASK);
}

static u8 read_iir(struct serial *s)
{
	u8 iir = interrupt_id(s);

	if (iir == UART_IIR_THRI)
		s->thre_pending = false;
	if (s->fcr & UART_FCR_ENABLE_FIFO)
		iir |= 0xc0;	/* "FIFOs enabled and working": a 16550A */
	return iir;
}

static u8 read_lsr(struct serial *s)
{
	u8 lsr = line_status(s);

	s->lsr_break = 0;
	if (s->lsr_polls < LSR_POLLING)
		s->lsr_polls++;
	else
		wake_for_input(s);
	return lsr;
}

static u8 serial_read(struct serial *s, unsigned int reg)
{
	if (s->lcr & UART_LCR_DLAB && reg <= UART_DLM)
		return s->divisor[reg];
	switch (reg) {
	case UART_RX:
		return read_rbr(s);
	case UART_IER:
		return s->ier;
	case UART_IIR:
		return read_iir(s);
	case UART_LCR:
		return s->lcr;
	case UART_MCR:
		return s->mcr;
	case UART_LSR:
		return read_lsr(s);
	case UART_MSR:
		return modem_status(s);
	default:
		return s->scr;
	}
}

static void serial_write(struct serial *s, unsigned int reg, u8 value)
{
	if (s->lcr & UART_LCR_DLAB && reg <= UART_DLM)
		s->divisor[reg] = value;
	else if (reg == UART_TX)
		write_thr(s, value);
	else if (reg == UART_IER)
		write_ier(s, value);
	else if (reg == UART_FCR)
		write_fcr(s, value);
	else if (reg == UART_LCR)
		s->lcr = value;
	else if (reg == UART_MCR)
		s->mcr = value & 0x1f;
	else if (reg == UART_SCR)
		s->scr = value;		/* LSR and MSR are read-only */
}

/** serial_access() - bus callback, for the eight bytewise registers */
void serial_access(void *dev, struct bus_access *access)
{
	struct serial *s = dev;
	unsigned int reg = access->offset & 7;

	pthread_mutex_lock(&s->lock);
	if (reg != UART_LSR && (reg != UART_RX || access->write))
		s->lsr_polls = 0;
	if (access->write)
		serial_write(s, reg, access->value);
	else
		access->value = serial_read(s, reg);
	update_irq(s);
	pthread_mutex_unlock(&s->lock);
}

/**
 * serial_rx_push() - offer input to the guest
 * @data: bytes typed
 *
 * Return: how many were taken. If not all, the wake callback runs when there
 * is room. Nothing is taken before a driver listens, because opening the
 * port clears the FIFO.
 */
size_t serial_rx_push(struct serial *s, const u8 *data, size_t len)
{
	size_t n = 0;

	pthread_mutex_lock(&s->lock);
	while (n < len && rx_accepts(s) && !(s->mcr & UART_MCR_LOOP) && rx_put(s, data[n]))
		n++;
	s->want_rx = n < len;
	update_irq(s);
	pthread_mutex_unlock(&s->lock);
	return n;
}

/** serial_rx_break() - a break condition on the line (SysRq on Linux) */
void serial_rx_break(struct serial *s)
{
	pthread_mutex_lock(&s->lock);
	if (rx_accepts(s) && rx_put(s, 0))
		s->lsr_break = UART_LSR_BI;
	update_irq(s);
	pthread_mutex_unlock(&s->lock);
}

/**
 * serial_tx_peek() - copy output without removing it
 * @data: buffer
 *
 * Return: bytes copied; remove them with serial_tx_consume() once written.
 */
size_t serial_tx_peek(struct serial *s, u8 *data, size_t len)
{
	size_t n;

	pthread_mutex_lock(&s->lock);
	for (n = 0; n < len && n < s->tx_count; n++)
		data[n] = s->tx[(s->tx_head + n) % SERIAL_TX_RING];
	pthread_mutex_unlock(&s->lock);
	return n;
}

/** serial_tx_consume() - the first bytes of the output are out */
void serial_tx_consume(struct serial *s, size_t len)
{
	bool was_full;

	pthread_mutex_lock(&s->lock);
	if (len > s->tx_count)
		len = s->tx_count;
	was_full = !thr_empty(s);
	s->tx_head = (s->tx_head + len) % SERIAL_TX_RING;
	s->tx_count -= len;
	if (was_full && thr_empty(s))
		s->thre_pending = true;
	update_irq(s);
	pthread_mutex_unlock(&s->lock);
}
