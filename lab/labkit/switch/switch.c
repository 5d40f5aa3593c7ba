/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The switch between lab machines. Emulators connect to one UNIX socket each ("wire.A") and send
 * Ethernet frames behind a 32-bit big-endian length. Between each two machines runs a path for
 * each direction: a queue with a rate, a delay and a loss, which may be cut.
 *
 * A second socket ("switch") takes one command a line and answers "ok" or "error ...":
 *
 *	path FROM TO CUT RATE DELAY LOSS	0/1, bytes a second (0: any), ns, per million
 *
 * Like a real switch, and unlike a direct connection, it drops what a stopped machine does not
 * take, and a machine that starts again finds its wire as it was.
 */

#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#define PORTS_MAX 8
#define FRAME_MAX 65550u
#define FRAME_MIN 14u
#define INPUT_SIZE (256u * 1024)
#define QUEUE_SIZE (4u * 1024 * 1024)
#define STATIONS 1024u
#define BATCH 64
#define NS 1000000000ull

/* In a queue, each 8-byte aligned; size 0 says that the queue goes on at its start. */
struct record {
	uint64_t due;
	uint32_t size;
	uint32_t wire_length; /* big-endian: what goes on the wire starts here */
	uint8_t frame[];
};

struct path {
	bool cut;
	uint64_t rate;
	uint64_t delay;
	uint32_t loss;
	uint64_t free_at; /* when the last frame has left, at the path's rate */
	uint8_t *queue;
	size_t head, tail, used;
};

struct port {
	int listener;
	int wire;
	int sending; /* the path whose first record is partly sent, or -1 */
	size_t sent; /* bytes of it that are */
	bool full;   /* the emulator takes no more for now */
	size_t have;
	uint8_t input[INPUT_SIZE];
};

struct station {
	uint8_t address[6];
	uint8_t port;
};

struct hub {
	unsigned int count;
	int control_listener;
	int control;
	size_t control_have;
	char control_line[256];
	uint64_t random;
	struct port ports[PORTS_MAX];
	struct path paths[PORTS_MAX][PORTS_MAX]; /* [from][to] */
	struct station stations[STATIONS];
};

static uint64_t now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * NS + (uint64_t)t.tv_nsec;
}

static uint32_t hub_random(struct hub *hub)
{
	hub->random = hub->random * 6364136223846793005ull + 1442695040888963407ull;
	return (uint32_t)(hub->random >> 33);
}

static size_t record_space(size_t size)
{
	return (sizeof(struct record) + size + 7) & ~(size_t)7;
}

static struct record *queue_record(const struct path *path, size_t at)
{
	return (struct record *)(void *)(path->queue + at);
}

/* The oldest record, or NULL. */
static struct record *queue_first(struct path *path)
{
	struct record *record;

	if (path->used == 0)
		return NULL;
	record = queue_record(path, path->head);
	if (record->size > 0)
		return record;
	path->used -= QUEUE_SIZE - path->head;
	path->head = 0;
	return path->used ? queue_record(path, 0) : NULL;
}

static void queue_drop_first(struct path *path)
{
	size_t space = record_space(queue_record(path, path->head)->size);

	path->head += space;
	path->used -= space;
}

/*
 * Room for a record, or NULL when the queue is full. Behind the last record there is always room
 * for the mark that the queue goes on at its start.
 */
static struct record *queue_add(struct path *path, size_t size)
{
	size_t space = record_space(size), left = QUEUE_SIZE - path->tail;
	struct record *record;

	if (!path->queue) {
		path->queue = mmap(NULL, QUEUE_SIZE, PROT_READ | PROT_WRITE,
				   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
		if (path->queue == MAP_FAILED) {
			path->queue = NULL;
			return NULL;
		}
	}
	if (space + sizeof(struct record) > left) {
		if (path->used + left + space > QUEUE_SIZE)
			return NULL;
		queue_record(path, path->tail)->size = 0;
		path->used += left;
		path->tail = 0;
	} else if (path->used + space > QUEUE_SIZE) {
		return NULL;
	}
	record = queue_record(path, path->tail);
	record->size = (uint32_t)size;
	path->tail += space;
	path->used += space;
	return record;
}

static void path_take(struct hub *hub, struct path *path, const uint8_t *frame, size_t size,
		      uint64_t now)
{
	struct record *record;

	if (path->cut || (path->loss && hub_random(hub) % 1000000 < path->loss))
		return;
	record = queue_add(path, size);
	if (!record)
		return;
	if (path->free_at < now)
		path->free_at = now;
	if (path->rate)
		path->free_at += size * NS / path->rate;
	record->due = path->free_at + path->delay;
	record->wire_length = htonl((uint32_t)size);
	memcpy(record->frame, frame, size);
}

static struct station *hub_station(struct hub *hub, const uint8_t *address)
{
	uint32_t hash = 2166136261u;

	for (int i = 0; i < 6; i++)
		hash = (hash ^ address[i]) * 16777619u;
	return &hub->stations[hash % STATIONS];
}

static void hub_frame(struct hub *hub, unsigned int from, const uint8_t *frame, size_t size)
{
	struct station *target = hub_station(hub, frame), *source = hub_station(hub, frame + 6);
	bool known = !(frame[0] & 1) && memcmp(target->address, frame, 6) == 0;
	uint64_t now = now_ns();

	for (unsigned int to = 0; to < hub->count; to++)
		if (to != from && (!known || target->port == to))
			path_take(hub, &hub->paths[from][to], frame, size, now);
	if (!(frame[6] & 1)) {
		memcpy(source->address, frame + 6, 6);
		source->port = (uint8_t)from;
	}
}

static void port_leave(struct hub *hub, unsigned int number)
{
	struct port *port = &hub->ports[number];

	if (port->wire >= 0)
		close(port->wire);
	port->wire = -1;
	port->have = 0;
	port->full = false;
	port->sending = -1;
	port->sent = 0;
	for (unsigned int from = 0; from < hub->count; from++) {
		struct path *path = &hub->paths[from][number];

		path->head = path->tail = path->used = 0;
	}
}

static void port_receive(struct hub *hub, unsigned int number)
{
	struct port *port = &hub->ports[number];
	ssize_t n = read(port->wire, port->input + port->have, sizeof(port->input) - port->have);
	size_t at = 0;

	if (n <= 0) {
		if (n == 0 || (errno != EAGAIN && errno != EINTR))
			port_leave(hub, number);
		return;
	}
	port->have += (size_t)n;
	while (port->have - at >= 4) {
		uint32_t size;

		memcpy(&size, port->input + at, 4);
		size = ntohl(size);
		if (size > FRAME_MAX) {
			port_leave(hub, number);
			return;
		}
		if (port->have - at - 4 < size)
			break;
		if (size >= FRAME_MIN)
			hub_frame(hub, number, port->input + at + 4, size);
		at += 4 + (size_t)size;
	}
	memmove(port->input, port->input + at, port->have - at);
	port->have -= at;
}

/* Takes what was written out of the path's queue; the rest of a frame stays its first record. */
static void path_written(struct port *port, struct path *path, int from, size_t written)
{
	while (written > 0) {
		size_t rest = 4 + queue_first(path)->size - port->sent;

		if (written < rest) {
			port->sent += written;
			port->sending = from;
			return;
		}
		written -= rest;
		port->sent = 0;
		port->sending = -1;
		queue_drop_first(path);
	}
}

/* Returns how many records of the path, up to BATCH, are due and can be named in one write. */
static int path_gather(struct port *port, struct path *path, uint64_t now, struct iovec *parts)
{
	size_t skip = port->sent, at = 0;
	int count = 0;

	if (!queue_first(path))
		return 0;
	while (count < BATCH && at < path->used) {
		struct record *record = queue_record(path, path->head + at);

		if (record->size == 0 || (record->due > now && !skip))
			break;
		parts[count].iov_base = (uint8_t *)&record->wire_length + skip;
		parts[count++].iov_len = 4 + record->size - skip;
		skip = 0;
		at += record_space(record->size);
	}
	return count;
}

static void port_send_path(struct hub *hub, unsigned int to, unsigned int from, uint64_t now)
{
	struct port *port = &hub->ports[to];
	struct path *path = &hub->paths[from][to];
	struct iovec parts[BATCH];
	int count;

	while (!port->full && port->wire >= 0 &&
	       (count = path_gather(port, path, now, parts)) > 0) {
		ssize_t n = writev(port->wire, parts, count);

		if (n >= 0)
			path_written(port, path, (int)from, (size_t)n);
		else if (errno == EAGAIN)
			port->full = true;
		else if (errno != EINTR)
			port_leave(hub, to);
	}
}

static void port_send(struct hub *hub, unsigned int to, uint64_t now)
{
	struct port *port = &hub->ports[to];

	if (port->sending >= 0)
		port_send_path(hub, to, (unsigned int)port->sending, now);
	for (unsigned int from = 0; from < hub->count; from++)
		if (port->sending < 0 || port->sending == (int)from)
			port_send_path(hub, to, from, now);
}

/* Nanoseconds until a frame that waits for its time is due; -1: there is none. */
static int64_t hub_wait(struct hub *hub, uint64_t now)
{
	uint64_t first = UINT64_MAX;

	for (unsigned int to = 0; to < hub->count; to++) {
		if (hub->ports[to].wire < 0 || hub->ports[to].full)
			continue;
		for (unsigned int from = 0; from < hub->count; from++) {
			struct record *record = queue_first(&hub->paths[from][to]);

			if (record && record->due < first)
				first = record->due;
		}
	}
	if (first == UINT64_MAX)
		return -1;
	return first > now ? (int64_t)(first - now) : 0;
}

static int port_number(const struct hub *hub, char name)
{
	int number = name - 'A';

	return number >= 0 && number < (int)hub->count ? number : -1;
}

static const char *control_do(struct hub *hub, const char *line)
{
	unsigned long long rate, delay;
	unsigned int cut, loss;
	char from, to;
	struct path *path;

	if (sscanf(line, "path %c %c %u %llu %llu %u", &from, &to, &cut, &rate, &delay, &loss) != 6)
		return "error: not a command\n";
	if (port_number(hub, from) < 0 || port_number(hub, to) < 0 || from == to)
		return "error: no such machine\n";
	path = &hub->paths[port_number(hub, from)][port_number(hub, to)];
	path->cut = cut != 0;
	path->rate = rate;
	path->delay = delay;
	path->loss = loss;
	return "ok\n";
}

static void control_receive(struct hub *hub)
{
	char *end;
	ssize_t n = read(hub->control, hub->control_line + hub->control_have,
			 sizeof(hub->control_line) - 1 - hub->control_have);

	if (n > 0)
		hub->control_have += (size_t)n;
	hub->control_line[hub->control_have] = 0;
	while (n > 0 && (end = strchr(hub->control_line, '\n')) != NULL) {
		const char *answer;

		*end = 0;
		answer = control_do(hub, hub->control_line);
		n = send(hub->control, answer, strlen(answer), MSG_NOSIGNAL | MSG_DONTWAIT);
		hub->control_have -= (size_t)(end + 1 - hub->control_line);
		memmove(hub->control_line, end + 1, hub->control_have + 1);
	}
	if (n <= 0 || hub->control_have == sizeof(hub->control_line) - 1) {
		close(hub->control);
		hub->control = -1;
	}
}

static int accept_on(int listener)
{
	return accept4(listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
}

static void hub_accept(struct hub *hub, unsigned int number)
{
	int wire = accept_on(hub->ports[number].listener);

	if (wire < 0)
		return;
	port_leave(hub, number);
	hub->ports[number].wire = wire;
}

static void hub_step(struct hub *hub)
{
	struct pollfd fds[2 + 2 * PORTS_MAX];
	uint64_t now = now_ns();
	int64_t wait = hub_wait(hub, now);
	struct timespec timeout = { .tv_sec = wait / (int64_t)NS, .tv_nsec = wait % (int64_t)NS };
	unsigned int i;

	fds[0] = (struct pollfd){ .fd = hub->control_listener,
				  .events = hub->control < 0 ? POLLIN : 0 };
	fds[1] = (struct pollfd){ .fd = hub->control, .events = POLLIN };
	for (i = 0; i < hub->count; i++) {
		struct port *port = &hub->ports[i];

		fds[2 + 2 * i] = (struct pollfd){ .fd = port->listener, .events = POLLIN };
		fds[3 + 2 * i] = (struct pollfd){
			.fd = port->wire, .events = (short)(POLLIN | (port->full ? POLLOUT : 0))
		};
	}
	if (ppoll(fds, 2 + 2 * hub->count, wait < 0 ? NULL : &timeout, NULL) < 0)
		return;
	if (fds[1].revents)
		control_receive(hub);
	else if (fds[0].revents & POLLIN)
		hub->control = accept4(hub->control_listener, NULL, NULL, SOCK_CLOEXEC);
	for (i = 0; i < hub->count; i++) {
		if (fds[3 + 2 * i].revents & POLLOUT)
			hub->ports[i].full = false;
		if (fds[3 + 2 * i].revents & (POLLIN | POLLHUP | POLLERR))
			port_receive(hub, i);
		if (fds[2 + 2 * i].revents & POLLIN)
			hub_accept(hub, i);
	}
	now = now_ns();
	for (i = 0; i < hub->count; i++)
		port_send(hub, i, now);
}

/* The process ends when one of these fails: nothing is closed. */
static int listen_at(const char *folder, const char *name)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	int n = snprintf(address.sun_path, sizeof(address.sun_path), "%s/%s", folder, name);

	if (fd < 0)
		return -errno;
	if (n < 0 || n >= (int)sizeof(address.sun_path))
		return -ENAMETOOLONG;
	unlink(address.sun_path);
	if (bind(fd, (struct sockaddr *)&address, sizeof(address)) < 0 || listen(fd, 4) < 0)
		return -errno;
	return fd;
}

static int hub_listen(struct hub *hub, const char *folder)
{
	for (unsigned int i = 0; i < hub->count; i++) {
		char name[16];

		snprintf(name, sizeof(name), "wire.%c", (char)('A' + i));
		hub->ports[i].wire = -1;
		hub->ports[i].sending = -1;
		hub->ports[i].listener = listen_at(folder, name);
		if (hub->ports[i].listener < 0)
			return hub->ports[i].listener;
	}
	hub->control = -1;
	hub->control_listener = listen_at(folder, "switch");
	return hub->control_listener < 0 ? hub->control_listener : 0;
}

int main(int argc, char **argv)
{
	struct hub *hub = calloc(1, sizeof(*hub));
	int r;

	if (!hub || argc != 3)
		return 2;
	hub->count = (unsigned int)strtoul(argv[2], NULL, 10);
	if (hub->count < 1 || hub->count > PORTS_MAX)
		return 2;
	hub->random = now_ns();
	signal(SIGPIPE, SIG_IGN);
	r = hub_listen(hub, argv[1]);
	if (r < 0) {
		fprintf(stderr, "switch: %s: %s\n", argv[1], strerror(-r));
		return 1;
	}
	for (;;)
		hub_step(hub);
}
