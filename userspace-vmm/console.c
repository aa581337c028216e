// SPDX-License-Identifier: GPL-2.0-only
/*
 * The serial port's other end: standard input and output, a
 * file, or nothing. A terminal is another process's (commands/run.c).
 *
 * Everything here runs in the main thread. The vCPU threads only fill and
 * empty the UART's buffers and wake this one.
 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "console.h"

#define OUT_CHUNK 512		/* a writable pipe takes this much at once */
#define FLUSH_MS 1000
#define GATHER_NS 1000000

/** console_open() - connect a serial port */
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
	return 0;
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
 * console_close() - write what is left
 * @con: the console; harmless if it was never opened
 */
void console_close(struct console *con)
{
	if (!con->serial)
		return;
	console_flush(con);
	stop_output(con);
	con->serial = NULL;
}

/**
 * console_input() - bytes for the guest from elsewhere
 * @len: how many; console_room() says how many are not lost
 */
void console_input(struct console *con, const u8 *data, size_t len)
{
	if (len > console_room(con))
		len = console_room(con);
	memcpy(con->queue + con->queued, data, len);
	con->queued += len;
}

static void push_input(struct console *con)
{
	size_t n = serial_rx_push(con->serial, con->queue, con->queued);

	con->queued -= n;
	memmove(con->queue, con->queue + n, con->queued);
}

static void read_input(struct console *con)
{
	ssize_t n = read(con->in_fd, con->queue + con->queued, console_room(con));

	if (n > 0)
		con->queued += n;
	else if (!n || (errno != EINTR && errno != EAGAIN))
		con->in_fd = -1;	/* end of input: the guest runs on, and prints */
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
	if (console_room(con))
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
void console_events(struct console *con, const struct pollfd fds[2])
{
	if (fds[1].fd >= 0 && fds[1].revents)
		write_output(con);
	if (fds[0].fd >= 0 && fds[0].revents)
		read_input(con);
	if (con->queued)
		push_input(con);
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
