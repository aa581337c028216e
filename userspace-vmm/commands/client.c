// SPDX-License-Identifier: GPL-2.0-only
/*
 * The commands that talk to a running machine through its control socket.
 */
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <json-c/json.h>
#include <limits.h>
#include <png.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include "commands.h"
#include "console.h"
#include "control.h"
#include "display.h"
#include "socket.h"

#define REPLY_SECONDS 30
#define REPLY_MAX MIB
#define STOP_SECONDS 30
#define KILL_SECONDS 12

static int passed_fd = -1;	/* what came with the last reply */

static u64 now_ms(void)
{
	return monotonic_ns() / 1000000;
}

static bool wait_readable(int fd, u64 end)
{
	struct pollfd p = { .fd = fd, .events = POLLIN };
	u64 now;
	int n;

	do {
		now = now_ms();
		n = now < end ? poll(&p, 1, end - now < INT_MAX ? end - now : INT_MAX) : 0;
	} while (n < 0 && errno == EINTR);
	return n > 0;
}

/*
 * Return: the reply, or NULL if it has not come whole after so many seconds (0: it has
 * all the time it needs). It is read byte by byte: what follows the line may be the
 * console's.
 */
static json_object *ask(int fd, const char *name, const char *request, int file,
			int seconds, struct err *err)
{
	u64 end = seconds ? now_ms() + seconds * 1000 : UINT64_MAX;
	json_object *reply = NULL, *text;
	static char line[REPLY_MAX];
	size_t len = 0;

	/* What cannot be sent is not answered. */
	snprintf(line, sizeof(line), "{\"request\":\"%s\"}\n", request);
	send_fds(fd, line, strlen(line), &file, file >= 0, 0);

	while (len < sizeof(line) - 1 && wait_readable(fd, end) &&
	       recv_fd(fd, line + len, 1, &passed_fd, MSG_DONTWAIT) == 1 && line[len] != '\n')
		len++;
	if (line[len] == '\n') {
		line[len] = '\0';
		reply = json_tokener_parse(line);
	}
	if (!reply)
		err_set(err, "machine %s does not answer; keel kill %s ends it", name, name);
	else if (json_object_object_get_ex(reply, "error", &text))
		err_set(err, "%s: %s", name, json_object_get_string(text));
	else
		return reply;
	json_object_put(reply);
	return NULL;
}

/*
 * Return: the reply, and in @keep, if that is not NULL, the connection for more.
 * @file is for the machine to write to, or -1.
 */
static json_object *call(const char *name, const char *request, int file, int *keep,
			 struct err *err)
{
	int fd = control_connect(name, err);
	json_object *reply = NULL;

	/* A snapshot takes as long as it takes. */
	if (fd >= 0)
		reply = ask(fd, name, request, file, file < 0 ? REPLY_SECONDS : 0, err);
	if (reply && keep)
		*keep = fd;
	else if (fd >= 0)
		close(fd);
	return reply;
}

/* A request whose reply says nothing. */
static int simple(const char *name, const char *request, int *keep)
{
	struct err err;
	json_object *reply = call(name, request, -1, keep, &err);

	json_object_put(reply);
	return reply ? 0 : fail(EXIT_FAIL, "%s", err.text);
}

int cmd_pause(struct run_config *cfg)
{
	return simple(cfg->args[0], "pause", NULL);
}

int cmd_resume(struct run_config *cfg)
{
	return simple(cfg->args[0], "resume", NULL);
}

/* The file is replaced only when all of the new one is written. */
int cmd_snapshot(struct run_config *cfg)
{
	const char *path = cfg->args[1];
	json_object *reply;
	char part[PATH_MAX];
	struct err err;
	int file;

	if (snprintf(part, sizeof(part), "%s.part", path) >= (int)sizeof(part))
		return fail(EXIT_USAGE, "%s: the name is too long", path);
	file = open(part, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	if (file < 0)
		return fail(EXIT_FAIL, "cannot write %s: %s", path, strerror(errno));
	reply = call(cfg->args[0], "snapshot", file, NULL, &err);
	close(file);
	json_object_put(reply);
	if (reply && !rename(part, path))
		return 0;
	if (reply)
		err_sys(&err, "cannot write %s", path);
	unlink(part);
	return fail(EXIT_FAIL, "%s", err.text);
}

/* The connection ends with the machine. */
static bool wait_gone(int fd, double seconds)
{
	struct pollfd p = { .fd = fd, .events = POLLIN };
	u64 end = now_ms() + seconds * 1000, now;
	char byte;

	while ((now = now_ms()) < end) {
		int wait = end - now < 1000 ? end - now : 1000;

		if (poll(&p, 1, wait) > 0 && recv(fd, &byte, 1, 0) <= 0)
			return true;
	}
	return false;
}

/*
 * SIGKILL for one that does not end, whatever it answers: it may be one that its guest
 * has taken over.
 */
int cmd_kill(struct run_config *cfg)
{
	const char *name = cfg->args[0];
	struct ucred cred = { 0 };
	socklen_t len = sizeof(cred);
	json_object *reply;
	struct err err;
	bool gone;
	int fd = control_connect(name, &err), process = -1;

	if (fd < 0)
		return fail(EXIT_FAIL, "%s", err.text);
	if (!getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &cred, &len))
		process = pidfd_open(cred.pid, 0);
	if (process < 0) {
		close(fd);
		return errno == ESRCH ? 0 :	/* it has ended since */
		       fail(EXIT_FAIL, "%s: cannot get hold of its process: %s", name, strerror(errno));
	}
	reply = ask(fd, name, "kill", -1, KILL_SECONDS, &err);
	json_object_put(reply);
	gone = wait_readable(process, now_ms() + (reply ? KILL_SECONDS * 1000 : 100));
	if (!gone && !pidfd_send_signal(process, SIGKILL, NULL, 0))
		gone = wait_readable(process, now_ms() + KILL_SECONDS * 1000);
	close(process);
	close(fd);
	return gone ? 0 : fail(EXIT_FAIL, "%s (process %d) does not end; see the kernel log (dmesg)",
			       name, cred.pid);
}

int cmd_stop(struct run_config *cfg)
{
	int fd, status = simple(cfg->args[0], "power-button", &fd);
	bool gone;

	if (status)
		return status;
	gone = wait_gone(fd, cfg->timeout > 0 ? cfg->timeout : STOP_SECONDS);
	close(fd);
	if (gone)
		return 0;
	status = cmd_kill(cfg);
	return status ? status : fail(EXIT_TIMEOUT, "%s did not power off in time and was killed",
				      cfg->args[0]);
}

static int by_name(const struct dirent **a, const struct dirent **b)
{
	return strverscmp((*a)->d_name, (*b)->d_name);
}

static int is_socket(const struct dirent *d)
{
	size_t len = strlen(d->d_name), tail = strlen(SOCKET_SUFFIX);

	return len > tail && !strcmp(d->d_name + len - tail, SOCKET_SUFFIX);
}

/* One that died meanwhile is no error; one that hangs is shown as that. */
static json_object *all_status(struct err *err)
{
	json_object *list = json_object_new_array(), *status;
	struct dirent **entries;
	char path[80];
	int dir = rundir_open(path, sizeof(path), err), i, n, fd;

	n = dir < 0 ? 0 : scandir(path, &entries, is_socket, by_name);
	for (i = 0; i < n; i++) {
		char *name = entries[i]->d_name;

		name[strlen(name) - strlen(SOCKET_SUFFIX)] = '\0';
		fd = control_connect(name, err);
		if (fd < 0)
			continue;
		status = ask(fd, name, "status", -1, REPLY_SECONDS, err);
		if (!status) {
			status = json_object_new_object();
			json_object_object_add(status, "name", json_object_new_string(name));
			json_object_object_add(status, "state", json_object_new_string("hangs"));
		}
		json_object_array_add(list, status);
		close(fd);
	}
	if (dir >= 0 && n < 0)
		err_sys(err, "cannot read %s", path);
	return dir < 0 || n < 0 ? NULL : list;
}

static int print_json(json_object *o)
{
	puts(json_object_to_json_string_ext(o, JSON_C_TO_STRING_PRETTY));
	json_object_put(o);
	return finish_output();
}

static long long number(json_object *o, const char *key)
{
	return json_object_get_int64(json_object_object_get(o, key));
}

/* What a machine says, or who made its files, is not to act on our terminal. */
static const char *plain(json_object *o)
{
	const char *text = json_object_get_string(o);

	if (text)
		one_line((char *)text);
	return text ? text : "";
}

static const char *string(json_object *o, const char *key)
{
	return plain(json_object_object_get(o, key));
}

/* A column as wide as @width, or wider. */
static void print_devices(json_object *o, const char *key, int width)
{
	json_object *list = json_object_object_get(o, key);
	size_t i, n = json_object_is_type(list, json_type_array) ? json_object_array_length(list) : 0;

	for (i = 0; i < n; i++)
		width -= printf(" %s", plain(json_object_array_get_idx(list, i)));
	if (!n)
		width -= printf(" -");
	printf("%*s", width > 0 ? width : 0, "");
}

/* What a machine lost while it ran: a line each, below its own. */
static void print_ended(json_object *list)
{
	size_t i, n = json_object_is_type(list, json_type_array) ? json_object_array_length(list) : 0;

	for (i = 0; i < n; i++)
		printf("  %s\n", plain(json_object_array_get_idx(list, i)));
}

int cmd_ps(struct run_config *cfg)
{
	struct err err;
	json_object *list = all_status(&err), *o;
	char uptime[32];
	size_t i;

	if (!list)
		return fail(EXIT_FAIL, "%s", err.text);
	if (cfg->json)
		return print_json(list);
	printf("%-16s %7s %-8s %4s %8s %8s %10s %-15s %s\n", "NAME", "PID", "STATE", "CPUS", "MEMORY",
	       "RESIDENT", "UPTIME", "NETS", "DISKS");
	for (i = 0; i < json_object_array_length(list); i++) {
		long long up;

		o = json_object_array_get_idx(list, i);
		up = number(o, "uptime");
		snprintf(uptime, sizeof(uptime), "%lld:%02lld:%02lld", up / 3600, up / 60 % 60, up % 60);
		printf("%-16s %7lld %-8s %4lld %7lldM %7lldM %10s", string(o, "name"),
		       number(o, "pid"), string(o, "state"), number(o, "cpus"),
		       number(o, "memory") / 1024, number(o, "resident") / 1024, uptime);
		print_devices(o, "nets", 16);
		print_devices(o, "disks", 0);
		putchar('\n');
		print_ended(json_object_object_get(o, "ended"));
	}
	json_object_put(list);
	return finish_output();
}

/* Per second, of what is a number in both; groups with what is not zero. */
static json_object *rates(json_object *before, json_object *after, double seconds)
{
	json_object *out = json_object_new_object(), *old, *value, *group;

	/* what a machine sends that was taken over may be anything */
	if (!json_object_is_type(after, json_type_object))
		return out;
	json_object_object_foreach(after, name, values) {
		if (!json_object_is_type(values, json_type_object))
			continue;
		group = json_object_new_object();
		old = json_object_object_get(before, name);
		json_object_object_foreach(values, key, v) {
			double rate = (json_object_get_int64(v) - number(old, key)) / seconds;

			if (rate <= 0)
				continue;
			one_line(key);
			value = json_object_new_double(rate);
			json_object_set_serializer(value, json_object_double_to_json_string,
						   "%.1f", NULL);
			json_object_object_add(group, key, value);
		}
		one_line(name);
		json_object_object_add(out, name, group);
	}
	return out;
}

static void show_top(const char *name, json_object *o)
{
	printf("\033[H\033[Jkeel top: %s, per second; q quits\r\n", name);
	json_object_object_foreach(o, group, values) {
		unsigned int n = 0;

		if (!json_object_object_length(values))
			continue;
		printf("\r\n\033[1m%s\033[0m", group);
		json_object_object_foreach(values, key, v)
			printf("%s  %-22s %9.0f", n++ % 2 ? "" : "\r\n", key, json_object_get_double(v));
		printf("\r\n");
	}
	fflush(stdout);
}

static bool wants_to_quit(bool tty)
{
	struct pollfd p = { .fd = tty ? STDIN_FILENO : -1, .events = POLLIN };
	char key;

	return poll(&p, 1, 1000) > 0 && (read(STDIN_FILENO, &key, 1) <= 0 || key == 'q' || key == 3);
}

static int print_rates(json_object *rate, bool json)
{
	if (json)
		return print_json(rate);
	json_object_object_foreach(rate, group, values)
		printf("%s %s\n", group, json_object_to_json_string(values));
	json_object_put(rate);
	return finish_output();
}

/* Pixels of 32 bits, at some place in a file, to those of a PNG. */
static u8 *read_picture(int fd, const struct picture *p)
{
	u8 *rgb = malloc(3UL * p->width * p->height), *row = malloc(4UL * p->width), *to = rgb;
	u32 x, y;

	for (y = 0; rgb && row && y < p->height; y++) {
		if (pread(fd, row, 4UL * p->width, p->offset + y * p->stride) != 4L * p->width)
			break;
		for (x = 0; x < p->width; x++, to += 3)
			memcpy(to, row + 4 * x, 3);
	}
	free(row);
	if (y == p->height)
		return rgb;
	free(rgb);
	return NULL;
}

/* The machine hands out its video memory; the picture is made here. */
int cmd_screenshot(struct run_config *cfg)
{
	const char *name = cfg->args[0], *file = cfg->args[1];
	void *library = dlopen("libpng16.so.16", RTLD_NOW);
	void *write_png = library ? dlsym(library, "png_image_write_to_file") : NULL;
	png_image png = { .version = PNG_IMAGE_VERSION, .format = PNG_FORMAT_BGR };
	json_object *reply;
	struct picture p;
	struct err err;
	int status = 0;
	u8 *rgb;

	if (!write_png)
		return fail(EXIT_FAIL, "%s; type: sudo apt install libpng16-16", dlerror());
	reply = call(name, "screenshot", -1, NULL, &err);
	if (!reply)
		return fail(EXIT_FAIL, "%s", err.text);
	json_object_put(reply);
	if (!picture_find(passed_fd, &p))
		return fail(EXIT_FAIL, "%s: the guest shows no picture", name);
	png.width = p.width;
	png.height = p.height;
	rgb = read_picture(passed_fd, &p);
	if (!rgb)
		status = fail(EXIT_FAIL, "%s: cannot read its video memory", name);
	else if (!((__typeof__(png_image_write_to_file) *)write_png)(&png, file, 0, rgb, 0, NULL))
		status = fail(EXIT_FAIL, "cannot write %s: %s", file, png.message);
	free(rgb);
	return status;
}

int cmd_top(struct run_config *cfg)
{
	bool tty = !cfg->once && isatty(STDIN_FILENO), quit = false;
	json_object *before = NULL, *after, *rate;
	const char *name = cfg->args[0];
	u64 then = 0, now;
	struct err err;

	if (tty && term_raw(STDIN_FILENO, &err) < 0)
		return fail(EXIT_FAIL, "%s", err.text);
	while (!quit && (after = call(name, "stats", -1, NULL, &err))) {
		now = now_ms();
		if (before) {
			rate = rates(json_object_object_get(before, "stats"),
				     json_object_object_get(after, "stats"), (now - then) / 1000.0);
			if (cfg->once)
				return print_rates(rate, cfg->json);
			show_top(name, rate);
			json_object_put(rate);
		}
		json_object_put(before);
		before = after;
		then = now;
		quit = wants_to_quit(tty);
	}
	term_restore();
	return quit ? 0 : fail(EXIT_FAIL, "%s", err.text);
}

/* Return: whether to go on. */
static bool console_keys(struct console *con, int fd, const char *name)
{
	enum console_request request = console_read(con);
	bool ok = send_fds(fd, con->queue, con->queued, NULL, 0, 0) >= 0;

	con->queued = 0;
	if (request == CONSOLE_POWER_BUTTON)
		simple(name, "power-button", NULL);
	else if (request == CONSOLE_BREAK)
		simple(name, "break", NULL);
	return ok && request != CONSOLE_QUIT;
}

int cmd_console(struct run_config *cfg)
{
	static struct console con = { .in_fd = STDIN_FILENO, .remote = true };
	struct pollfd p[2] = { { .events = POLLIN }, { .events = POLLIN } };
	int fd, status = simple(cfg->args[0], "console", &fd);
	struct err err;
	u8 buf[4096];
	ssize_t n;

	if (status)
		return status;
	con.tty = isatty(STDIN_FILENO);
	if (con.tty) {
		fprintf(stderr, "keel: Ctrl-A x leaves, Ctrl-A h tells the other keys\n");
		if (term_raw(STDIN_FILENO, &err) < 0)
			return fail(EXIT_FAIL, "%s", err.text);
	}
	for (;;) {
		p[0].fd = fd;
		p[1].fd = con.in_fd;
		if (poll(p, 2, -1) < 0 && errno != EINTR)
			break;
		if (p[0].revents) {
			n = recv(fd, buf, sizeof(buf), 0);
			if (n <= 0 || write(STDOUT_FILENO, buf, n) != n)
				break;
		}
		if (p[1].fd >= 0 && p[1].revents && !console_keys(&con, fd, cfg->args[0]))
			break;
	}
	term_restore();
	close(fd);
	return 0;
}
