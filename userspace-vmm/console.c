// SPDX-License-Identifier: GPL-2.0-only
/*
 * The serial port's other end: standard input and output, a
 * file, or nothing. On a terminal an escape key talks to keel itself.
 *
 * Everything here runs in the main thread. The vCPU threads only fill and
 * empty the UART's buffers and wake this one.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "console.h"

#define OUT_CHUNK 512		/* a writable pipe takes this much at once */
#define FLUSH_MS 1000
#define GATHER_NS 1000000

static const char help[] =
	"\r\nCtrl-A x   %s\r\n"
	"Ctrl-A p   press the power button\r\n"
	"Ctrl-A b   send a break\r\n"
	"Ctrl-A h   this help\r\n"
	"Ctrl-A Ctrl-A   send Ctrl-A\r\n";

/**
 * console_open() - connect a serial port
 *
 * Also puts a terminal into raw mode; console_close() puts it back.
 */
int console_open(struct console *con, const struct run_config *cfg,
		 struct serial *serial, struct err *err)
{
	memset(con, 0, sizeof(*con));
	con->serial = serial;
	con->in_fd = -1;
	con->out_fd = -1;
	if (cfg->serial == SERIAL_FILE) {
		con->out_fd = open(cfg->serial_path, O_WRONLY | O_CREAT |
				   O_TRUNC | O_CLOEXEC, 0666);
		if (con->out_fd < 0)
			return err_sys(err, "cannot write serial output to %s",
				       cfg->serial_path);
		con->out_path = cfg->serial_path;
	}
	if (cfg->serial != SERIAL_STDIO || cfg->detach)
		return 0;
	con->in_fd = STDIN_FILENO;
	con->out_fd = STDOUT_FILENO;
	con->tty = isatty(STDIN_FILENO);
	if (!con->tty)
		return 0;
	/* To the terminal even when the guest's output goes elsewhere. */
	fprintf(stderr, "keel: Ctrl-A x quits, Ctrl-A h tells the other keys\n");
	return term_raw(STDIN_FILENO, err);
}

/* Only the first error is kept: the others follow from it. */
static void output_failed(struct console *con)
{
	if (!con->failed)
		err_sys(&con->err, "cannot write serial output to %s",
			con->out_path ? con->out_path : "standard output");
	con->failed = true;
}

/* Drop output from now on. The last errors of a file come with close(). */
static void stop_output(struct console *con)
{
	if (con->out_path && con->out_fd >= 0 && close(con->out_fd) < 0)
		output_failed(con);
	con->out_fd = -1;
}

/**
 * console_close() - write what is left, give the terminal back
 * @con: the console; harmless if it was never opened
 */
void console_close(struct console *con)
{
	if (!con->serial)
		return;
	console_flush(con);
	term_restore();
	stop_output(con);
	con->serial = NULL;
}

static void enqueue(struct console *con, u8 byte)
{
	/*
	 * A guest that does not read must not keep the user from the escape
	 * key, so a full queue drops what is typed at a terminal. A pipe is
	 * not read while the queue is full, and loses nothing.
	 */
	if (con->queued < CONSOLE_QUEUE)
		con->queue[con->queued++] = byte;
}

/**
 * console_key() - one byte from the terminal
 *
 * Return: what the user wants of keel, usually nothing.
 */
enum console_request console_key(struct console *con, u8 byte)
{
	if (!con->tty) {
		enqueue(con, byte);
		return CONSOLE_NOTHING;
	}
	if (!con->escape) {
		con->escape = byte == ESCAPE_KEY;
		if (!con->escape)
			enqueue(con, byte);
		return CONSOLE_NOTHING;
	}
	con->escape = false;
	switch (byte) {
	case 'x':
	case 'X':
		return CONSOLE_QUIT;
	case 'p':
		return CONSOLE_POWER_BUTTON;
	case 'b':
		return CONSOLE_BREAK;
	case ESCAPE_KEY:
	case 'a':
		enqueue(con, ESCAPE_KEY);
		break;
	default:
		fprintf(stderr, help, con->remote ? "leave: the guest runs on" :
			"quit: end the guest at once");
		break;
	}
	return CONSOLE_NOTHING;
}

/**
 * console_input() - bytes for the guest from elsewhere
 * @len: how many; console_room() says how many are not lost
 */
void console_input(struct console *con, const u8 *data, size_t len)
{
	while (len--)
		enqueue(con, *data++);
}

static void push_input(struct console *con)
{
	size_t n = serial_rx_push(con->serial, con->queue, con->queued);

	con->queued -= n;
	memmove(con->queue, con->queue + n, con->queued);
}

/**
 * console_read() - take what was typed
 * @con: gets it into its queue, and loses in_fd at the end of input
 *
 * Return: what the user wants of keel, usually nothing.
 */
enum console_request console_read(struct console *con)
{
	enum console_request want, request = CONSOLE_NOTHING;
	size_t room = console_room(con);
	u8 buf[256];
	ssize_t i, n;

	if (con->tty || room > sizeof(buf))
		room = sizeof(buf);
	if (!room)
		return request;
	n = read(con->in_fd, buf, room);
	if (n < 0 && (errno == EINTR || errno == EAGAIN))
		return request;
	if (n <= 0)
		con->in_fd = -1;	/* end of input: the guest runs on, and prints */
	for (i = 0; i < n; i++) {
		want = console_key(con, buf[i]);
		if (want != CONSOLE_NOTHING)
			request = want;
	}
	return request;
}

/*
 * A pipe that is closed, a terminal that hung up: the guest need not know.
 * Here errno is that of write().
 */
static bool reader_gone(int fd)
{
	struct stat st;

	if (errno == EIO && !fstat(fd, &st) && S_ISREG(st.st_mode))
		return false;
	return errno == EPIPE || errno == EIO;
}

/* Return: bytes written; 0 also when nothing will ever be again. */
static size_t write_output(struct console *con)
{
	u8 buf[OUT_CHUNK];
	size_t len = serial_tx_peek(con->serial, buf, sizeof(buf));
	ssize_t n = len;

	if (!len)
		return 0;
	if (con->out_fd >= 0)
		n = write(con->out_fd, buf, len);
	if (n < 0 && (errno == EINTR || errno == EAGAIN))
		return 0;
	if (n < 0) {
		if (!reader_gone(con->out_fd))
			output_failed(con);
		stop_output(con);
		n = len;
	}
	if (con->tap)
		con->tap(con->tap_opaque, buf, n);
	serial_tx_consume(con->serial, n);
	return n;
}

/**
 * console_poll() - what to wait for
 * @fds: filled: input, output; one that is not needed has fd -1
 */
void console_poll(struct console *con, struct pollfd fds[2])
{
	u8 byte;

	if (con->queued)
		push_input(con);
	fds[0] = (struct pollfd){ .fd = -1, .events = POLLIN };
	fds[1] = (struct pollfd){ .fd = -1, .events = POLLOUT };
	if (con->tty || con->queued < CONSOLE_QUEUE)
		fds[0].fd = con->in_fd;
	while (con->out_fd < 0 && write_output(con))
		;
	if (serial_tx_peek(con->serial, &byte, 1))
		fds[1].fd = con->out_fd;
}

/**
 * console_events() - serve what poll() found
 * @fds: as filled by console_poll(), after poll()
 */
enum console_request console_events(struct console *con, const struct pollfd fds[2])
{
	enum console_request request = CONSOLE_NOTHING;

	if (fds[1].fd >= 0 && fds[1].revents)
		write_output(con);
	if (fds[0].fd >= 0 && fds[0].revents)
		request = console_read(con);
	if (con->queued)
		push_input(con);
	return request;
}

/**
 * console_gather() - let output pile up a little
 *
 * The guest writes byte by byte. Woken by the first one, wait for a
 * millisecond so that many are written at once, and not each of them costs a
 * switch between two threads.
 */
void console_gather(struct console *con)
{
	static const struct timespec nap = { .tv_nsec = GATHER_NS };
	u8 byte;

	if (serial_tx_peek(con->serial, &byte, 1))
		nanosleep(&nap, NULL);
}

/** console_flush() - write what the guest has sent, waiting a little */
void console_flush(struct console *con)
{
	struct pollfd fds[2];

	for (;;) {
		console_poll(con, fds);
		if (fds[1].fd < 0 || poll(&fds[1], 1, FLUSH_MS) <= 0)
			return;
		write_output(con);
	}
}
