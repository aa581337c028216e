// SPDX-License-Identifier: GPL-2.0-only
/*
 * The control socket of a machine: who may be called what, and the server.
 *
 * A socket that refuses a connection belongs to a machine that died. Names are
 * taken, and such sockets removed, with the directory locked.
 */
#include <errno.h>
#include <fcntl.h>
#include <json-c/json.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "display.h"
#include "machine.h"
#include "socket.h"

/**
 * rundir_open() - the directory of control sockets, made if it is not there
 * @path: filled with its name
 * @size: of @path
 *
 * Return: a descriptor, or -1.
 */
int rundir_open(char *path, size_t size, struct err *err)
{
	const char *runtime = getenv("XDG_RUNTIME_DIR");
	struct stat st;
	int fd;

	if (!getuid())
		snprintf(path, size, "/run/keel");
	else if (runtime && *runtime == '/')
		snprintf(path, size, "%s/keel", runtime);
	else
		snprintf(path, size, "/tmp/keel-%u", getuid());
	if (!getuid())
		mkdir("/run", 0755);
	if (mkdir(path, 0700) < 0 && errno != EEXIST)
		return err_sys(err, "cannot make directory %s for control sockets", path);
	fd = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0 || fstat(fd, &st) < 0) {
		err_sys(err, "cannot open directory %s", path);
	} else if (st.st_uid != getuid() || st.st_mode & 022) {
		err_set(err, "%s belongs to somebody else or others may write to it; remove it", path);
	} else {
		return fd;
	}
	if (fd >= 0)
		close(fd);
	return -1;
}

static bool name_valid(const char *name)
{
	static const char chars[] =
		"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.-";
	size_t n = strlen(name);

	return n && n <= NAME_MAX_LEN && strspn(name, chars) == n && !strchr(".-", *name);
}

static int socket_path(char path[SOCKET_PATH], const char *dir, const char *name, struct err *err)
{
	if (!name_valid(name))
		return err_set(err, "%s is no name for a machine; give up to %d letters, digits, _, . and -",
			       name, NAME_MAX_LEN);
	if (snprintf(path, SOCKET_PATH, "%s/%s" SOCKET_SUFFIX, dir, name) >= SOCKET_PATH)
		return err_set(err, "%s/%s is too long for a socket; give a shorter name", dir, name);
	return 0;
}

/* Remove what a dead machine left. Return: a connection, or -1 with errno. */
static int connect_live(const char *path)
{
	int fd = connect_unix(path, 0);
	char display[SOCKET_PATH];

	if (fd < 0 && errno == ECONNREFUSED) {
		unlink(path);
		snprintf(display, sizeof(display), "%.*s.vnc",
			 (int)(strlen(path) - strlen(SOCKET_SUFFIX)), path);
		unlink(display);
		errno = ENOENT;
	}
	return fd;
}

/**
 * control_connect() - call a machine by its name
 *
 * Return: a socket, or -1.
 */
int control_connect(const char *name, struct err *err)
{
	char dirname[80], path[SOCKET_PATH];
	int dir, fd = -1;

	dir = rundir_open(dirname, sizeof(dirname), err);
	if (dir < 0)
		return -1;
	if (!socket_path(path, dirname, name, err)) {
		flock(dir, LOCK_EX);
		fd = connect_live(path);
		if (fd < 0 && errno == ENOENT)
			err_set(err, "no machine is called %s; keel ps lists them", name);
		else if (fd < 0)
			err_sys(err, "cannot connect to %s", path);
	}
	close(dir);
	return fd;
}

/* With the directory locked: the first name that is free. */
static int claim(struct control *c, const char *dir, const char *name, bool exact, struct err *err)
{
	char base[NAME_MAX_LEN - 8];
	unsigned int n = 1;
	int fd;

	snprintf(base, sizeof(base), "%.*s", (int)sizeof(base) - 1, name);
	snprintf(c->name, sizeof(c->name), "%s", exact ? name : base);
	for (;;) {
		if (socket_path(c->path, dir, exact ? name : c->name, err) < 0)
			return -1;
		fd = connect_live(c->path);
		if (fd < 0)
			break;
		close(fd);
		if (exact)
			return err_set(err, "a machine called %s is running; give another --name, or keel stop %s",
				       name, name);
		snprintf(c->name, sizeof(c->name), "%s-%u", base, ++n);
	}
	if (errno != ENOENT)
		return err_sys(err, "cannot use %s", c->path);
	c->fd = listen_local("control socket", c->path, err);
	return c->fd < 0 ? -1 : 0;
}

/**
 * control_open() - take a name and listen
 *
 * Without --name: that of the configuration file, or vm, and a number if needed.
 */
int control_open(struct machine *m, struct err *err)
{
	const char *name = m->cfg->name, *slash;
	struct control *c = &m->control;
	char path[80], derived[NAME_MAX_LEN];
	int dir, ret;

	c->fd = -1;
	c->start = time(NULL);
	/* In a PID namespace /proc is still that of who calls us. */
	ret = readlink("/proc/self", path, sizeof(path) - 1);
	path[ret < 0 ? 0 : ret] = '\0';
	c->pid = ret < 0 ? getpid() : atoi(path);
	c->statm = open("/proc/self/statm", O_RDONLY | O_CLOEXEC);
	for (ret = 0; ret < CONTROL_CLIENTS; ret++) {
		c->client[ret].fd = -1;
		c->client[ret].file = -1;
	}
	if (!name && m->cfg->config) {
		slash = strrchr(m->cfg->config, '/');
		snprintf(derived, sizeof(derived), "%s", slash ? slash + 1 : m->cfg->config);
		if (strchr(derived + 1, '.'))
			*strchr(derived + 1, '.') = '\0';
		name = name_valid(derived) ? derived : NULL;
	}
	dir = rundir_open(path, sizeof(path), err);
	if (dir < 0)
		return -1;
	flock(dir, LOCK_EX);
	ret = claim(c, path, name ? name : "vm", m->cfg->name, err);
	close(dir);
	return ret;
}

static void drop_file(struct control_client *client)
{
	close(client->file);
	client->file = -1;
}

static void drop_client(struct control_client *client)
{
	close(client->fd);
	client->fd = -1;
	drop_file(client);
}

/**
 * control_close() - the name is free again, whoever is connected notices
 * @c: the socket; harmless if it was never opened
 */
void control_close(struct control *c)
{
	unsigned int i;

	if (c->fd < 0)
		return;
	listen_close(c->fd);
	close(c->statm);
	for (i = 0; i < CONTROL_CLIENTS; i++)
		drop_client(&c->client[i]);
	c->fd = -1;
	json_object_put(c->ended);
}

/** control_helper_ended() - something that whoever asks how the machine is has to know */
void control_helper_ended(struct control *c, const char *text)
{
	if (!c->ended)
		c->ended = json_object_new_array();
	json_object_array_add(c->ended, json_object_new_string(text));
}

static u64 resident_kib(int statm)
{
	unsigned long resident = 0;
	char text[64] = "";

	if (pread(statm, text, sizeof(text) - 1, 0) < 0 || sscanf(text, "%*u %lu", &resident) != 1)
		return 0;
	return (u64)resident * (getpagesize() / 1024);
}

static void add_int(json_object *o, const char *key, u64 value)
{
	json_object_object_add(o, key, json_object_new_int64(value));
}

static void add_text(json_object *o, const char *key, const char *value)
{
	json_object_object_add(o, key, json_object_new_string(value));
}

/* What the options say of the devices of a kind. */
static void add_devices(json_object *o, const char *key, const struct run_config *cfg, int kind)
{
	json_object *list = json_object_new_array();
	unsigned int i;

	for (i = 0; i < cfg->device_count; i++) {
		if ((int)cfg->devices[i].kind == kind)
			json_object_array_add(list, json_object_new_string(cfg->devices[i].arg));
	}
	json_object_object_add(o, key, list);
}

static int do_status(struct machine *m, struct err *err)
{
	json_object *reply = m->control.reply;

	add_text(reply, "name", m->control.name);
	add_int(reply, "pid", m->control.pid);
	add_text(reply, "state", m->paused ? "paused" : "running");
	add_int(reply, "cpus", m->vcpu_count);
	add_int(reply, "memory", m->ram.size / KIB);
	add_int(reply, "resident", resident_kib(m->control.statm));
	add_int(reply, "uptime", time(NULL) - m->control.start);
	add_text(reply, "device", m->cfg->device);
	add_devices(reply, "disks", m->cfg, DEVICE_DISK);
	add_devices(reply, "nets", m->cfg, DEVICE_NET);
	json_object_object_add(reply, "ended", m->control.ended ? json_object_get(m->control.ended) :
			       json_object_new_array());
	return 0;
}

static int do_stats(struct machine *m, struct err *err)
{
	json_object_object_add(m->control.reply, "stats", stats_json(m));
	return 0;
}

static int do_power_button(struct machine *m, struct err *err)
{
	pm_press_power_button(&m->pm);
	return machine_resume(m, err);	/* a paused guest could not react */
}

static int do_break(struct machine *m, struct err *err)
{
	serial_rx_break(&m->serial);
	return 0;
}

static int do_kill(struct machine *m, struct err *err)
{
	machine_end(m, END_QUIT);
	return 0;
}

static int do_console(struct machine *m, struct err *err)
{
	if (m->cfg->serial == SERIAL_STDIO)
		return 0;
	return err_set(err, "the serial port goes elsewhere: --serial said so");
}

static int check_kept(struct machine *m, struct err *err)
{
	struct virtio_device *dev;

	for (dev = m->virtio.first; dev; dev = dev->next) {
		if (dev->lost)
			return err_set(err, "the %s cannot be kept in a file: %s", dev->ops->name,
				       dev->lost);
	}
	return 0;
}

/* A machine that was running runs on, whether or not it worked. */
static int do_snapshot(struct machine *m, struct err *err)
{
	bool paused = m->paused;
	struct err resume_err;
	int ret;

	if (m->control.file < 0)
		return err_set(err, "the request brings no file");
	if (check_kept(m, err) < 0 || machine_pause(m, err) < 0)
		return -1;
	virtio_pause_all(&m->virtio);
	ret = check_kept(m, err);	/* who was to stop may not have answered */
	if (!ret)
		ret = snapshot_save(m, m->control.file, err);
	virtio_resume_all(&m->virtio);
	if (!paused && machine_resume(m, &resume_err) < 0)
		machine_fail(m, &resume_err);
	return ret;
}

static int do_screenshot(struct machine *m, struct err *err)
{
	if (!m->virtio.display)
		return err_set(err, "the machine has no --display");
	m->control.pass_fd = m->virtio.display->bochs.fd;
	return 0;
}

static const struct request {
	const char *name;
	int (*fn)(struct machine *m, struct err *err);
} requests[] = {
	{ "status", do_status },
	{ "stats", do_stats },
	{ "power-button", do_power_button },
	{ "break", do_break },
	{ "kill", do_kill },
	{ "pause", machine_pause },
	{ "resume", machine_resume },
	{ "console", do_console },
	{ "snapshot", do_snapshot },
	{ "screenshot", do_screenshot },
};

/* Who does not read what is sent is hung up on: the machine does not wait. */
static void client_send(struct control_client *client, const void *data, size_t len, int fd)
{
	if (send_fds(client->fd, data, len, &fd, fd >= 0, MSG_DONTWAIT) != (ssize_t)len)
		drop_client(client);
}

static void send_history(struct control *c, struct control_client *client)
{
	u64 at = c->written > CONTROL_HISTORY ? c->written - CONTROL_HISTORY : 0;

	while (at < c->written && client->fd >= 0) {
		u64 n = CONTROL_HISTORY - at % CONTROL_HISTORY;

		if (n > c->written - at)
			n = c->written - at;
		client_send(client, c->history + at % CONTROL_HISTORY, n, -1);
		at += n;
	}
}

static void serve_line(struct machine *m, struct control_client *client)
{
	json_object *req = json_tokener_parse(client->line), *reply = json_object_new_object(), *o;
	const struct request *r = NULL;
	const char *name = "";
	struct err err;
	char *line;
	size_t i;

	m->control.pass_fd = -1;
	if (json_object_object_get_ex(req, "request", &o))
		name = json_object_get_string(o);
	for (i = 0; i < ARRAY_SIZE(requests); i++) {
		if (name && !strcmp(name, requests[i].name))
			r = &requests[i];
	}
	if (!r)
		err_set(&err, "this machine does not know that request; it runs another version of keel");
	m->control.file = client->file;
	m->control.reply = reply;
	if (!r || r->fn(m, &err) < 0)
		add_text(reply, "error", err.text);
	drop_file(client);
	client->console = r && r->fn == do_console && !json_object_object_get(reply, "error");
	if (asprintf(&line, "%s\n",
		     json_object_to_json_string_ext(reply, JSON_C_TO_STRING_PLAIN)) >= 0) {
		client_send(client, line, strlen(line), m->control.pass_fd);
		free(line);
	}
	json_object_put(reply);
	json_object_put(req);
	if (client->console && client->fd >= 0)
		send_history(&m->control, client);
}

static void serve_client(struct machine *m, struct control_client *client)
{
	size_t room = sizeof(client->line) - 1 - client->len;
	char *end;
	ssize_t n;

	if (client->console && console_room(&m->console) < room)
		room = console_room(&m->console);
	/* A request may bring a file to write to: the machine itself can open none. */
	n = recv_fd(client->fd, client->line + client->len, room, &client->file, MSG_DONTWAIT);
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n <= 0) {
		drop_client(client);
		return;
	}
	client->len += n;
	client->line[client->len] = '\0';
	while (!client->console && client->fd >= 0 && (end = memchr(client->line, '\n', client->len))) {
		*end++ = '\0';
		serve_line(m, client);
		client->len -= end - client->line;
		memmove(client->line, end, client->len);
	}
	if (client->console) {
		console_input(&m->console, (u8 *)client->line, client->len);
		client->len = 0;
	} else if (client->len == sizeof(client->line) - 1) {
		drop_client(client);
	}
}

/** control_console_output() - the guest has printed */
void control_console_output(void *control, const u8 *data, size_t len)
{
	struct control *c = control;
	size_t i;

	if (c->fd < 0)
		return;
	for (i = 0; i < len; i++)
		c->history[c->written++ % CONTROL_HISTORY] = data[i];
	for (i = 0; i < CONTROL_CLIENTS; i++) {
		if (c->client[i].fd >= 0 && c->client[i].console)
			client_send(&c->client[i], data, len, -1);
	}
}

/** control_poll() - what to wait for */
void control_poll(struct machine *m, struct pollfd *fds)
{
	struct control *c = &m->control;
	bool room = false;
	unsigned int i;

	for (i = 0; i < CONTROL_CLIENTS; i++) {
		bool full = c->client[i].console && !console_room(&m->console);

		fds[1 + i] = (struct pollfd){ .fd = full ? -1 : c->client[i].fd, .events = POLLIN };
		room |= c->client[i].fd < 0;
	}
	fds[0] = (struct pollfd){ .fd = room ? c->fd : -1, .events = POLLIN };
}

/**
 * control_events() - serve what poll() found
 * @fds: as filled by control_poll(), after poll()
 */
void control_events(struct machine *m, const struct pollfd *fds)
{
	struct control *c = &m->control;
	unsigned int i;

	for (i = 0; i < CONTROL_CLIENTS; i++) {
		if (fds[1 + i].fd >= 0 && fds[1 + i].revents && c->client[i].fd == fds[1 + i].fd)
			serve_client(m, &c->client[i]);
	}
	if (fds[0].fd < 0 || !fds[0].revents)
		return;
	for (i = 0; i < CONTROL_CLIENTS && c->client[i].fd >= 0; i++)
		;
	if (i < CONTROL_CLIENTS) {
		c->client[i].console = false;
		c->client[i].len = 0;
		c->client[i].fd = accept4(c->fd, NULL, NULL, SOCK_CLOEXEC);
	}
}
