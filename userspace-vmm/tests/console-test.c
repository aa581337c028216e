// SPDX-License-Identifier: GPL-2.0-only
/*
 * The console between a serial port and file descriptors: escape key, back
 * pressure, end of input, a reader that goes away.
 */
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <unistd.h>
#include <linux/serial_reg.h>

#include "console.h"
#include "tap.h"

static struct serial s;
static struct console con;

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

static void start(bool tty)
{
	serial_init(&s, (struct irq_line){ 0 }, NULL, NULL);
	out(UART_FCR, UART_FCR_ENABLE_FIFO);
	memset(&con, 0, sizeof(con));
	con.serial = &s;
	con.in_fd = -1;
	con.out_fd = -1;
	con.tty = tty;
}

static void test_escape(void)
{
	start(true);
	is(console_key(&con, 'a'), CONSOLE_NOTHING, "a letter");
	is(console_key(&con, 0x01), CONSOLE_NOTHING, "the escape key");
	is(console_key(&con, 'x'), CONSOLE_QUIT, "x quits");
	is(console_key(&con, 'x'), CONSOLE_NOTHING, "x alone does not");
	console_key(&con, 0x01);
	is(console_key(&con, 'p'), CONSOLE_POWER_BUTTON, "p");
	console_key(&con, 0x01);
	console_key(&con, 0x01);
	is(con.queued, 3, "two letters and one Ctrl-A are for the guest");
	is(con.queue[2], 0x01, "the last is Ctrl-A");

	start(false);
	console_key(&con, 0x01);
	is(console_key(&con, 'x'), CONSOLE_NOTHING,
	   "no escape key in what comes from a pipe");
	is(con.queued, 2, "both bytes are for the guest");
}

static void test_full_queue(void)
{
	unsigned int i;

	start(true);
	for (i = 0; i < 3 * CONSOLE_QUEUE; i++)
		console_key(&con, 'a');
	is(con.queued, CONSOLE_QUEUE, "a guest that does not read");
	console_key(&con, 0x01);
	is(console_key(&con, 'x'), CONSOLE_QUIT, "does not keep us from quitting");
}

/* One turn of the main loop. */
static void turn(void)
{
	struct pollfd fds[2];

	console_poll(&con, fds);
	poll(fds, 2, 0);
	console_events(&con, fds);
}

static void test_pipe(void)
{
	unsigned int sent = 0, got = 0, bad = 0, i;
	u8 buf[1000];
	int fds[2];

	start(false);
	if (pipe(fds) < 0)
		return;
	con.in_fd = fds[0];
	for (i = 0; i < 20; i++) {
		memset(buf, 'a' + i, sizeof(buf));
		sent += write(fds[1], buf, sizeof(buf));
	}
	for (i = 0; i < 100; i++)
		turn();
	is(con.queued, CONSOLE_QUEUE, "a pipe is read until the queue is full");
	close(fds[1]);
	out(UART_IER, UART_IER_RDI);
	for (i = 0; i < 100000 && got < sent; i++) {
		turn();
		while (in(UART_LSR) & UART_LSR_DR) {
			bad += in(UART_RX) != 'a' + got / 1000;
			got++;
		}
	}
	is(got, sent, "all of it arrives");
	is(bad, 0, "in order");
	turn();
	turn();
	ok(con.in_fd == -1, "then the input has ended");
	close(fds[0]);
}

static void test_output(void)
{
	u8 buf[64];
	int fds[2];

	start(false);
	if (pipe(fds) < 0)
		return;
	con.out_fd = fds[1];
	out(UART_TX, 'h');
	out(UART_TX, 'i');
	turn();
	is(read(fds[0], buf, sizeof(buf)), 2, "output comes out");
	ok(!memcmp(buf, "hi", 2), "as it went in");
	out(UART_TX, '!');
	console_flush(&con);
	is(read(fds[0], buf, sizeof(buf)), 1, "flushing writes the rest");
	close(fds[0]);
	out(UART_TX, '?');
	turn();
	ok(con.out_fd == -1 && !con.failed, "a reader that is gone is no error");
	out(UART_TX, '?');
	turn();
	is(serial_tx_peek(&s, buf, 1), 0, "the guest does not notice");
	close(fds[1]);
}

/* Output that is lost must not look like output that nobody reads. */
static void test_output_error(void)
{
	u8 byte;

	start(false);
	con.out_fd = open("/dev/full", O_WRONLY);
	con.out_path = "/dev/full";
	out(UART_TX, '!');
	turn();
	ok(con.failed && strstr(con.err.text, "/dev/full: No space left"),
	   "a full disk: %s", con.err.text);
	ok(con.out_fd == -1, "it is not tried again");
	out(UART_TX, '!');
	turn();
	is(serial_tx_peek(&s, &byte, 1), 0, "the guest does not wait for it");

	start(false);
	con.out_fd = open("/dev/null", O_RDONLY);
	out(UART_TX, '!');
	console_close(&con);
	ok(con.failed && strstr(con.err.text, "standard output: Bad file"),
	   "found only at the end: %s", con.err.text);
}

int main(void)
{
	signal(SIGPIPE, SIG_IGN);
	test_escape();
	test_full_queue();
	test_pipe();
	test_output();
	test_output_error();
	return tap_done();
}
