// SPDX-License-Identifier: GPL-2.0-only
/*
 * The UART as a driver sees it: probing, interrupts, flow control, and as the
 * console sees it.
 */
#include <string.h>
#include <linux/serial_reg.h>

#include "serial.h"
#include "tap.h"

static struct serial s;
static bool line;
static unsigned int edges, wakes;

static void set_line(void *opaque, unsigned int gsi, bool level)
{
	edges += level && !line;
	line = level;
}

static void count_wake(void *opaque)
{
	wakes++;
}

static void reset(void)
{
	struct irq_line irq = { set_line, NULL, 4 };

	line = false;
	edges = 0;
	wakes = 0;
	serial_init(&s, irq, count_wake, NULL);
}

static u8 in(unsigned int reg)
{
	struct bus_access a = { .offset = reg, .size = 1, .value = ~0ULL };

	serial_access(&s, &a);
	return a.value;
}

static void out(unsigned int reg, u8 value)
{
	struct bus_access a = { .offset = reg, .size = 1, .write = true,
				.value = value };

	serial_access(&s, &a);
}

/* What Linux's autoconfig() does to tell a 16550A from everything else. */
static void test_probe(void)
{
	reset();
	out(UART_IER, 0);
	is(in(UART_IER), 0, "IER can be cleared");
	out(UART_IER, 0x0f);
	is(in(UART_IER), 0x0f, "IER has four bits");
	out(UART_IER, 0xff);
	is(in(UART_IER), 0x0f, "and no more");
	out(UART_IER, 0);

	out(UART_MCR, UART_MCR_LOOP | 0x0a);
	is(in(UART_MSR) & 0xf0, 0x90, "loopback test");
	out(UART_MCR, 0);
	is(in(UART_MSR) & 0xf0, UART_MSR_DCD | UART_MSR_DSR | UART_MSR_CTS,
	   "a terminal is connected");

	out(UART_FCR, UART_FCR_ENABLE_FIFO);
	is(in(UART_IIR) >> 6, 3, "FIFOs work: 16550A");
	out(UART_FCR, 0);
	is(in(UART_IIR) >> 6, 0, "FIFOs are off");

	out(UART_LCR, UART_LCR_DLAB | UART_LCR_WLEN8);
	out(UART_DLL, 1);
	out(UART_DLM, 2);
	is(in(UART_DLL), 1, "divisor, low");
	is(in(UART_DLM), 2, "divisor, high");
	out(UART_LCR, UART_LCR_WLEN8);
	is(in(UART_IER), 0, "the divisor does not show through IER");
	out(UART_SCR, 0x5a);
	is(in(UART_SCR), 0x5a, "scratch register");
	is(in(UART_LSR), UART_LSR_THRE | UART_LSR_TEMT, "idle line status");
}

static void test_transmit(void)
{
	u8 buf[64];
	int i;

	reset();
	out(UART_FCR, UART_FCR_ENABLE_FIFO);
	out(UART_IER, UART_IER_THRI);
	ok(line, "enabling THRI with an empty transmitter interrupts");
	is(in(UART_IIR) & 0x0f, UART_IIR_THRI, "as THRI");
	ok(!line, "reading IIR acknowledges");
	is(in(UART_IIR) & 0x0f, UART_IIR_NO_INT, "nothing else");
	out(UART_IER, UART_IER_THRI);
	ok(!line, "writing the same IER does not interrupt again");

	edges = 0;
	for (i = 0; i < 16; i++)
		out(UART_TX, 'a' + i);
	is(edges, 1, "one interrupt for a FIFO of 16");
	is(wakes, 1, "the console is woken once");
	is(serial_tx_peek(&s, buf, sizeof(buf)), 16, "all are to be written");
	ok(!memcmp(buf, "abcdefghijklmnop", 16), "in order");
	serial_tx_consume(&s, 10);
	is(serial_tx_peek(&s, buf, sizeof(buf)), 6, "some were written");
	is(buf[0], 'k', "the rest follows");
	serial_tx_consume(&s, 1000);
	is(serial_tx_peek(&s, buf, sizeof(buf)), 0, "consuming too much is harmless");
}

static void test_slow_terminal(void)
{
	unsigned int sent = 0, bad = 0, got = 0;
	u8 buf[4096], next = 0;
	size_t n, i;

	reset();
	out(UART_IER, UART_IER_THRI);
	in(UART_IIR);
	while (in(UART_LSR) & UART_LSR_THRE) {
		out(UART_TX, sent++);
		if (sent > SERIAL_TX_RING)
			break;
	}
	ok(sent <= SERIAL_TX_RING - SERIAL_TX_RESERVE + 1,
	   "THRE goes away before the buffer is full");
	in(UART_IIR);
	ok(!line, "and does not interrupt meanwhile");
	/* Linux sends 16 for one THRI without looking: there is room. */
	for (i = 0; i < 16; i++)
		out(UART_TX, sent++);
	while ((n = serial_tx_peek(&s, buf, sizeof(buf)))) {
		for (i = 0; i < n; i++)
			bad += buf[i] != next++;
		got += n;
		serial_tx_consume(&s, n);
	}
	is(got, sent, "nothing is lost");
	is(bad, 0, "nothing is swapped");
	ok(line && (in(UART_IIR) & 0x0f) == UART_IIR_THRI,
	   "room again: THRI");
}

static void test_receive(void)
{
	static const u8 text[] = "0123456789abcdefghijklmnopqrstuvwxyz";
	size_t done, i;

	reset();
	is(serial_rx_push(&s, text, 36), 0, "nothing before a driver listens");
	out(UART_FCR, UART_FCR_ENABLE_FIFO | UART_FCR_R_TRIG_10);
	is(wakes, 0, "still not");
	out(UART_IER, UART_IER_RDI);
	is(wakes, 1, "now the console is asked for its input");
	done = serial_rx_push(&s, text, 3);
	is(done, 3, "three bytes");
	ok(line, "interrupt");
	is(in(UART_IIR) & 0x0f, UART_IIR_RX_TIMEOUT, "below the trigger: timeout");
	done += serial_rx_push(&s, text + done, 36 - done);
	is(done, 16, "the FIFO takes sixteen");
	is(in(UART_IIR) & 0x0f, UART_IIR_RDI, "above the trigger: data");
	ok(in(UART_LSR) & UART_LSR_DR, "data ready");

	wakes = 0;
	for (i = 0; i < 16; i++) {
		if (in(UART_RX) != text[i])
			break;
	}
	is(i, 16, "sixteen bytes in order");
	is(wakes, 1, "an empty FIFO asks for more");
	ok(!line && !(in(UART_LSR) & UART_LSR_DR), "nothing left");
	done += serial_rx_push(&s, text + done, 36 - done);
	is(done, 32, "the next sixteen");
	out(UART_FCR, UART_FCR_ENABLE_FIFO | UART_FCR_CLEAR_RCVR);
	ok(!line && !(in(UART_LSR) & UART_LSR_DR), "clearing the FIFO");

	out(UART_FCR, 0);
	is(serial_rx_push(&s, text, 5), 1, "without FIFO: one byte");
	is(in(UART_IIR) & 0x0f, UART_IIR_RDI, "data");
	is(in(UART_RX), '0', "the byte");
}

static void test_priorities(void)
{
	reset();
	out(UART_FCR, UART_FCR_ENABLE_FIFO);
	out(UART_IER, UART_IER_RDI | UART_IER_THRI | UART_IER_RLSI);
	serial_rx_push(&s, (const u8 *)"x", 1);
	serial_rx_break(&s);
	is(in(UART_IIR) & 0x0f, UART_IIR_RLSI, "line status first");
	is(in(UART_LSR) & UART_LSR_BI, UART_LSR_BI, "a break");
	is(in(UART_LSR) & UART_LSR_BI, 0, "reported once");
	is(in(UART_IIR) & 0x0f, UART_IIR_RDI, "then data");
	in(UART_RX);
	in(UART_RX);
	is(in(UART_IIR) & 0x0f, UART_IIR_THRI, "then the transmitter");
	is(in(UART_IIR) & 0x0f, UART_IIR_NO_INT, "then nothing");
}

static void test_polling_guest(void)
{
	unsigned int i;

	reset();
	serial_rx_push(&s, (const u8 *)"k", 1);
	for (i = 0; i < 100 && !wakes; i++)
		in(UART_LSR);
	is(wakes, 1, "a guest that polls gets input without interrupts");
	is(serial_rx_push(&s, (const u8 *)"k", 1), 1, "the byte is taken");
	ok(in(UART_LSR) & UART_LSR_DR, "it shows");
	is(in(UART_RX), 'k', "and can be read");
	ok(!line, "no interrupt");
}

static void test_loopback(void)
{
	u8 c;

	reset();
	out(UART_MCR, UART_MCR_LOOP);
	out(UART_TX, 'z');
	is(in(UART_LSR) & UART_LSR_DR, UART_LSR_DR, "loopback: received");
	is(in(UART_RX), 'z', "what was sent");
	is(serial_tx_peek(&s, &c, 1), 0, "and not printed");
}

int main(void)
{
	test_probe();
	test_transmit();
	test_slow_terminal();
	test_receive();
	test_priorities();
	test_polling_guest();
	test_loopback();
	return tap_done();
}
