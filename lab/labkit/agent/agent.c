/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The first process of a lab machine. It runs commands for whoever connects to one of the
 * machine's virtio-serial ports named "lab.N"; one port carries one command at a time, so
 * commands never wait for each other's output.
 *
 * A frame is  type:u8  zero:u8[3]  length:u32  payload, little endian. A zero byte where a
 * frame would start is skipped, so that a client can flush what a killed one left half sent.
 *
 *	client				agent
 *	HELLO token ------------------> (ends whatever the last client left)
 *	      <------------------------ HELLO token
 *	EXEC flags rows cols .. ------>
 *	STDIN, CLOSE, RESIZE, KILL --->
 *	      <------------------------ STDOUT, STDERR
 *	      <------------------------ EXIT wait-status
 *	BYE -------------------------->
 *	      <------------------------ BYE
 *
 * A client that goes away without BYE takes its command with it. Over a serial line, given as an
 * argument instead, nobody is seen to leave: there the next HELLO ends the last command.
 */

#define _GNU_SOURCE
#include <dirent.h>
#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pty.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define FRAME_MAX (128u * 1024)
#define CHUNK_MAX (32u * 1024) /* virtio-serial takes this much in one write */
#define TOKEN_SIZE 16u
#define PORTS_MAX 64
#define GRACE_MS 2000
#define HANGUP_MS 50

enum frame_type {
	FRAME_NOTHING,
	FRAME_HELLO,
	FRAME_EXEC,
	FRAME_STDIN,
	FRAME_CLOSE,
	FRAME_RESIZE,
	FRAME_KILL,
	FRAME_BYE,
	FRAME_STDOUT,
	FRAME_STDERR,
	FRAME_EXIT,
};

enum exec_flags {
	EXEC_TTY = 1,
};

struct frame_head {
	uint8_t type;
	uint8_t zero[3];
	uint32_t length;
};

/* Payload of EXEC; behind it the strings: directory, environment, arguments, NUL after each. */
struct exec_head {
	uint8_t flags;
	uint8_t zero;
	uint16_t rows;
	uint16_t columns;
	uint16_t environment_count;
	uint32_t argument_count;
};

struct session {
	int port;
	pid_t child; /* 0: none */
	int pidfd;
	int in;	 /* the command's standard input, -1 once closed */
	int out; /* its output; the terminal's master with EXEC_TTY */
	int err; /* -1 with EXEC_TTY */
	bool tty;
	bool greeted; /* a HELLO came, and frames are in step since */
	bool over;    /* the client said BYE or left */
	size_t have;
	size_t fed; /* bytes of the STDIN frame in front that the command has taken */
	uint8_t data[FRAME_MAX + sizeof(struct frame_head)];
};

static void close_fd(int *fd)
{
	if (*fd >= 0)
		close(*fd);
	*fd = -1;
}

/*
 * Data and "a client came" or "it left" reach the machine by different queues, in any order: what
 * the next client sends may be here before the last one is known to have left. Only a port that
 * stays hung up has no client.
 */
static bool port_is_left(int port)
{
	for (int i = 0; i < HANGUP_MS / 10; i++) {
		struct pollfd now = { .fd = port };

		if (poll(&now, 1, 0) == 0 || !(now.revents & POLLHUP))
			return false;
		poll(NULL, 0, 10);
	}
	return true;
}

static int port_write(struct session *s, const void *data, size_t size)
{
	const uint8_t *at = data;

	while (size > 0) {
		ssize_t n = write(s->port, at, size < CHUNK_MAX ? size : CHUNK_MAX);
		struct pollfd wait = { .fd = s->port, .events = POLLOUT };

		if (n > 0) {
			at += n;
			size -= (size_t)n;
			continue;
		}
		if (n < 0 && errno != EAGAIN && errno != EINTR)
			return -errno;
		if (poll(&wait, 1, -1) > 0 && (wait.revents & POLLHUP) && port_is_left(s->port))
			return -EPIPE;
	}
	return 0;
}

static void session_send(struct session *s, enum frame_type type, const void *data, size_t size)
{
	struct frame_head head = { .type = (uint8_t)type, .length = htole32((uint32_t)size) };

	/* One write for small frames: each costs the machine an exit. */
	uint8_t whole[sizeof(head) + 4096];
	int r;

	if (s->over)
		return;
	if (size <= 4096) {
		memcpy(whole, &head, sizeof(head));
		if (size > 0)
			memcpy(whole + sizeof(head), data, size);
		r = port_write(s, whole, sizeof(head) + size);
	} else {
		r = port_write(s, &head, sizeof(head));
		if (r == 0)
			r = port_write(s, data, size);
	}
	if (r < 0)
		s->over = true;
}

static void child_limits_reset(void)
{
	sigset_t none;
	int fd = open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);

	if (fd >= 0) {
		if (write(fd, "0", 1) < 0)
			dprintf(STDERR_FILENO, "lab: oom_score_adj: %s\n", strerror(errno));
		close(fd);
	}
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	signal(SIGPIPE, SIG_DFL);
}

static void __attribute__((noreturn))
child_run(const char *directory, char **environment, char **arguments)
{
	child_limits_reset();
	clearenv();
	for (; *environment; environment++)
		putenv(*environment);
	if (chdir(directory) < 0) {
		dprintf(STDERR_FILENO, "lab: %s: %s\n", directory, strerror(errno));
		_exit(126);
	}
	execvp(arguments[0], arguments);
	dprintf(STDERR_FILENO, "lab: %s: %s\n", arguments[0], strerror(errno));
	_exit(errno == ENOENT ? 127 : 126);
}

static int spawn_tty(struct session *s, const struct winsize *size, const char *directory,
		     char **environment, char **arguments)
{
	int master;
	pid_t pid = forkpty(&master, NULL, NULL, size);

	if (pid < 0)
		return -errno;
	if (pid == 0)
		child_run(directory, environment, arguments);
	fcntl(master, F_SETFD, FD_CLOEXEC);
	fcntl(master, F_SETFL, O_NONBLOCK);
	s->child = pid;
	s->in = fcntl(master, F_DUPFD_CLOEXEC, 0);
	s->out = master;
	s->err = -1;
	return 0;
}

static int spawn_pipes(struct session *s, const char *directory, char **environment,
		       char **arguments)
{
	int pipes[3][2];
	pid_t pid;

	for (int i = 0; i < 3; i++)
		if (pipe2(pipes[i], O_CLOEXEC) < 0)
			return -errno;
	pid = fork();
	if (pid < 0)
		return -errno;
	if (pid == 0) {
		setsid();
		dup2(pipes[0][0], STDIN_FILENO);
		dup2(pipes[1][1], STDOUT_FILENO);
		dup2(pipes[2][1], STDERR_FILENO);
		child_run(directory, environment, arguments);
	}
	close(pipes[0][0]);
	close(pipes[1][1]);
	close(pipes[2][1]);
	s->child = pid;
	s->in = pipes[0][1];
	s->out = pipes[1][0];
	s->err = pipes[2][0];
	fcntl(s->in, F_SETFL, O_NONBLOCK);
	fcntl(s->out, F_SETFL, O_NONBLOCK);
	fcntl(s->err, F_SETFL, O_NONBLOCK);
	return 0;
}

/* Points at each of the strings between at and end; NULL when one is missing its end. */
static char **strings_split(char **at, const char *end, size_t count)
{
	char **list = calloc(count + 1, sizeof(*list));

	for (size_t i = 0; list && i < count; i++) {
		char *stop = memchr(*at, 0, (size_t)(end - *at));

		if (!stop) {
			free(list);
			return NULL;
		}
		list[i] = *at;
		*at = stop + 1;
	}
	return list;
}

static int session_exec(struct session *s, char *payload, size_t size)
{
	struct exec_head head;
	struct winsize window = { 0 };
	char *at = payload + sizeof(head);
	const char *end = payload + size;
	char **directory = NULL, **environment = NULL, **arguments = NULL;
	int r = -EINVAL;

	if (size < sizeof(head) || s->child)
		return -EINVAL;
	memcpy(&head, payload, sizeof(head));
	directory = strings_split(&at, end, 1);
	if (directory)
		environment = strings_split(&at, end, le16toh(head.environment_count));
	if (environment && le32toh(head.argument_count) <= size)
		arguments = strings_split(&at, end, le32toh(head.argument_count));
	if (arguments && arguments[0]) {
		window.ws_row = le16toh(head.rows);
		window.ws_col = le16toh(head.columns);
		s->tty = head.flags & EXEC_TTY;
		r = s->tty ? spawn_tty(s, &window, *directory, environment, arguments)
			   : spawn_pipes(s, *directory, environment, arguments);
	}
	free(directory);
	free(environment);
	free(arguments);
	if (r == 0)
		s->pidfd = (int)syscall(SYS_pidfd_open, s->child, 0);
	return r;
}

static void session_end_child(struct session *s)
{
	struct pollfd gone = { .fd = s->pidfd, .events = POLLIN };

	close_fd(&s->in);
	close_fd(&s->out);
	close_fd(&s->err);
	if (s->child) {
		kill(-s->child, SIGTERM);
		kill(-s->child, SIGCONT);
		if (poll(&gone, 1, GRACE_MS) == 0)
			kill(-s->child, SIGKILL);
		waitpid(s->child, NULL, 0);
		s->child = 0;
	}
	close_fd(&s->pidfd);
}

/* Sends up to limit bytes of what the command has written; closes at its end. */
static void relay_output(struct session *s, int *fd, enum frame_type type, size_t limit)
{
	uint8_t chunk[CHUNK_MAX - sizeof(struct frame_head)];

	while (*fd >= 0 && limit > 0) {
		ssize_t n = read(*fd, chunk, limit < sizeof(chunk) ? limit : sizeof(chunk));

		if (n > 0) {
			session_send(s, type, chunk, (size_t)n);
			limit -= (size_t)n;
		} else if (n < 0 && errno == EINTR) {
			continue;
		} else {
			if (n == 0 || errno != EAGAIN)
				close_fd(fd);
			return;
		}
	}
}

static size_t bytes_waiting(int fd)
{
	int waiting = 0;

	if (fd < 0 || ioctl(fd, FIONREAD, &waiting) < 0 || waiting < 0)
		return 0;
	return (size_t)waiting;
}

/*
 * Only what the command had written when it ended is sent: a daemon that it left behind may
 * keep its output open for ever. A terminal passes its data on late, so there the end is awaited.
 */
static void session_reap(struct session *s)
{
	struct pollfd more = { .fd = s->out, .events = POLLIN };
	uint32_t status;
	int raw = 0;

	waitpid(s->child, &raw, 0);
	s->child = 0;
	close_fd(&s->pidfd);
	close_fd(&s->in);
	if (s->tty)
		while (s->out >= 0 && poll(&more, 1, 20) > 0)
			relay_output(s, &s->out, FRAME_STDOUT, CHUNK_MAX);
	relay_output(s, &s->out, FRAME_STDOUT, bytes_waiting(s->out));
	relay_output(s, &s->err, FRAME_STDERR, bytes_waiting(s->err));
	close_fd(&s->out);
	close_fd(&s->err);
	status = htole32((uint32_t)raw);
	session_send(s, FRAME_EXIT, &status, sizeof(status));
}

static void session_fail(struct session *s, int error)
{
	uint32_t status = htole32(126u << 8);
	char text[96];
	int n = snprintf(text, sizeof(text), "lab: the command cannot start: %s\n",
			 strerror(-error));

	session_send(s, FRAME_STDERR, text, (size_t)n);
	session_send(s, FRAME_EXIT, &status, sizeof(status));
}

static void session_resize(const struct session *s, const uint8_t *payload, size_t size)
{
	struct winsize window = { 0 };
	uint16_t values[2];

	if (!s->tty || s->out < 0 || size < sizeof(values))
		return;
	memcpy(values, payload, sizeof(values));
	window.ws_row = le16toh(values[0]);
	window.ws_col = le16toh(values[1]);
	ioctl(s->out, TIOCSWINSZ, &window);
}

static void session_kill(const struct session *s, const uint8_t *payload, size_t size)
{
	if (s->child && size >= 1 && payload[0] > 0 && payload[0] < SIGRTMIN)
		kill(-s->child, payload[0]);
}

/* Returns whether the frame is done with; a STDIN frame may have to wait for the command. */
static bool session_stdin(struct session *s, const uint8_t *payload, size_t size)
{
	while (s->in >= 0 && s->fed < size) {
		ssize_t n = write(s->in, payload + s->fed, size - s->fed);

		if (n > 0)
			s->fed += (size_t)n;
		else if (n < 0 && errno == EAGAIN)
			return false;
		else if (n < 0 && errno != EINTR)
			close_fd(&s->in);
	}
	s->fed = 0;
	return true;
}

static void session_close_stdin(struct session *s)
{
	static const char end_of_file = 4;

	if (s->tty && s->in >= 0)
		(void)!write(s->in, &end_of_file, 1);
	else
		close_fd(&s->in);
}

/* Returns whether the frame in front is done with. */
static bool session_frame(struct session *s, uint8_t type, uint8_t *payload, size_t size)
{
	int r;

	switch (type) {
	case FRAME_HELLO:
		session_end_child(s);
		session_send(s, FRAME_HELLO, payload, size < TOKEN_SIZE ? size : TOKEN_SIZE);
		return true;
	case FRAME_EXEC:
		r = session_exec(s, (char *)payload, size);
		if (r < 0)
			session_fail(s, r);
		return true;
	case FRAME_STDIN:
		return session_stdin(s, payload, size);
	case FRAME_CLOSE:
		session_close_stdin(s);
		return true;
	case FRAME_RESIZE:
		session_resize(s, payload, size);
		return true;
	case FRAME_KILL:
		session_kill(s, payload, size);
		return true;
	case FRAME_BYE:
		session_send(s, FRAME_BYE, NULL, 0);
		s->over = true;
		return true;
	default:
		return true;
	}
}

static void session_out_of_step(struct session *s)
{
	s->greeted = false;
	s->fed = 0;
}

/* How many bytes to pass over until a HELLO starts, or could once more has come. */
static size_t find_hello(const uint8_t *data, size_t size)
{
	static const uint8_t hello[sizeof(struct frame_head)] = { FRAME_HELLO, [4] = TOKEN_SIZE };
	size_t at = 0;

	while (at + sizeof(hello) <= size && memcmp(data + at, hello, sizeof(hello)) != 0)
		at++;
	return at;
}

/*
 * Handles the whole frames in the buffer; returns whether one has to wait for the command. What a
 * client that was killed left behind may end anywhere: only a HELLO makes sense of what follows.
 */
static bool session_frames(struct session *s)
{
	size_t at = 0;
	bool waiting = false;

	while (!s->over && !waiting && at < s->have) {
		struct frame_head head;
		size_t length;

		if (s->greeted && s->data[at] == FRAME_NOTHING) {
			at++;
			continue;
		}
		if (!s->greeted)
			at += find_hello(s->data + at, s->have - at);
		if (s->have - at < sizeof(head))
			break;
		memcpy(&head, s->data + at, sizeof(head));
		length = le32toh(head.length);
		if (length > FRAME_MAX || head.type > FRAME_BYE) {
			session_out_of_step(s);
			continue;
		}
		if (s->have - at < sizeof(head) + length)
			break;
		s->greeted = true;
		waiting = !session_frame(s, head.type, s->data + at + sizeof(head), length);
		if (!waiting)
			at += sizeof(head) + length;
	}
	memmove(s->data, s->data + at, s->have - at);
	s->have -= at;
	return waiting;
}

static void session_receive(struct session *s)
{
	ssize_t n = read(s->port, s->data + s->have, sizeof(s->data) - s->have);

	if (n > 0)
		s->have += (size_t)n;
	else if (n == 0 || (errno != EAGAIN && errno != EINTR))
		s->over = port_is_left(s->port);
}

/* From the first byte of a client until it leaves. */
static void session_run(struct session *s)
{
	s->over = false;
	session_out_of_step(s);
	while (!s->over) {
		bool waiting = session_frames(s);
		struct pollfd fds[] = {
			{ .fd = s->port, .events = waiting ? 0 : POLLIN },
			{ .fd = waiting ? s->in : -1, .events = POLLOUT },
			{ .fd = s->out, .events = POLLIN },
			{ .fd = s->err, .events = POLLIN },
			{ .fd = s->pidfd, .events = POLLIN },
		};

		if (s->over || poll(fds, 5, -1) < 0)
			continue;
		if (fds[0].revents & POLLIN)
			session_receive(s);
		else if (fds[0].revents & (POLLHUP | POLLERR))
			s->over = port_is_left(s->port);
		if (fds[2].revents)
			relay_output(s, &s->out, FRAME_STDOUT, CHUNK_MAX);
		if (fds[3].revents)
			relay_output(s, &s->err, FRAME_STDERR, CHUNK_MAX);
		if (fds[4].revents)
			session_reap(s);
	}
	session_end_child(s);
}

/*
 * A port without a client always polls as readable and hung up, so the wait for the next client
 * is edge-triggered: the kernel wakes the port's queue when one connects.
 */
static void __attribute__((noreturn)) port_serve(const char *path)
{
	struct session *s = calloc(1, sizeof(*s));
	struct epoll_event event = { .events = EPOLLIN | EPOLLET };
	int epoll = epoll_create1(EPOLL_CLOEXEC);

	if (!s || epoll < 0)
		_exit(1);
	s->in = s->out = s->err = s->pidfd = -1;
	s->port = open(path, O_RDWR | O_NONBLOCK | O_CLOEXEC);
	if (s->port < 0 || epoll_ctl(epoll, EPOLL_CTL_ADD, s->port, &event) < 0)
		_exit(1);
	for (;;) {
		struct pollfd now = { .fd = s->port, .events = POLLIN };

		if (poll(&now, 1, 0) > 0 && !(now.revents & POLLHUP))
			session_run(s);
		else
			epoll_wait(epoll, &event, 1, -1);
	}
}

struct port {
	pid_t pid;
	char path[64];
};

static void port_start(struct port *port)
{
	port->pid = fork();
	if (port->pid == 0)
		port_serve(port->path);
}

static bool port_is_ours(const char *name)
{
	char path[320], text[8] = "";
	int fd;

	snprintf(path, sizeof(path), "/sys/class/virtio-ports/%s/name", name);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return false;
	if (read(fd, text, sizeof(text) - 1) < 0)
		text[0] = 0;
	close(fd);
	return strncmp(text, "lab.", 4) == 0;
}

static size_t ports_find(struct port *ports)
{
	DIR *all = opendir("/sys/class/virtio-ports");
	struct dirent *entry;
	size_t count = 0;

	while (all && count < PORTS_MAX && (entry = readdir(all)) != NULL)
		if (strlen(entry->d_name) < 32 && port_is_ours(entry->d_name))
			snprintf(ports[count++].path, sizeof(ports->path), "/dev/%.32s",
				 entry->d_name);
	if (all)
		closedir(all);
	return count;
}

int main(int argc, char **argv)
{
	struct port ports[PORTS_MAX] = { 0 };
	size_t count = argc > 1 ? 1 : ports_find(ports);
	int fd = open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);

	if (argc > 1)
		snprintf(ports[0].path, sizeof(ports[0].path), "%s", argv[1]);
	if (fd >= 0) {
		(void)!write(fd, "-1000", 5);
		close(fd);
	}
	signal(SIGPIPE, SIG_IGN);
	for (size_t i = 0; i < count; i++)
		port_start(&ports[i]);
	for (;;) {
		pid_t gone = wait(NULL);

		if (gone < 0)
			sleep(1);
		for (size_t i = 0; i < count; i++)
			if (ports[i].pid == gone)
				port_start(&ports[i]);
	}
}
