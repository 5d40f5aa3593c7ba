/* SPDX-License-Identifier: Apache-2.0 */
#include "vm/console.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/limits.h"

#define RING_SIZE KIB(64)
#define INPUT_SIZE 256
#define ESCAPE_KEY 0x1d /* Ctrl-] */

/* One who looks. `at` counts bytes since the console began. */
struct sink {
	struct list link;
	struct console *console;
	struct loop_watch in, out; /* the same descriptor is watched once, by `in` */
	bool same_fd, primary;
	bool deaf;   /* hung up, with input not yet taken: not watched until it is */
	bool a_file; /* its input cannot be waited for, and is always there */
	uint64_t at;
};

struct console {
	struct stream stream;
	struct loop *loop;
	struct loop_watch wakeup;
	struct loop_watch listener;
	bool closed; /* it is not watched */
	struct list sinks;
	struct sink *primary;
	unsigned int n_clients;
	uid_t owner; /* of the listening socket: who may look, besides root */
	void (*escape)(void *ctx);
	void *escape_ctx;
	uint8_t input[INPUT_SIZE]; /* typed, not yet taken by the device */
	size_t n_input;

	pthread_mutex_t lock; /* leaf; guards what follows */
	uint8_t ring[RING_SIZE];
	uint64_t written;    /* bytes since the beginning */
	uint64_t primary_at; /* how far the primary sink is */
	bool has_primary;
	bool starved; /* the device was given less room than it asked for */
};

static size_t device_write(struct stream *stream, const void *buf, size_t len)
{
	struct console *console = container_of(stream, struct console, stream);
	size_t room, n;

	pthread_mutex_lock(&console->lock);
	room = console->has_primary ? RING_SIZE - (console->written - console->primary_at)
				    : RING_SIZE;
	n = MIN(len, room);
	for (size_t i = 0; i < n; i++)
		console->ring[(console->written + i) % RING_SIZE] = ((const uint8_t *)buf)[i];
	console->written += n;
	console->starved |= n < len;
	pthread_mutex_unlock(&console->lock);
	fd_signal_event(console->wakeup.fd);
	return n;
}

static void device_ready(struct stream *stream)
{
	fd_signal_event(container_of(stream, struct console, stream)->wakeup.fd);
}

/* Copies up to `size` bytes from position `*at` on; moves a reader that fell behind to the oldest byte
 * kept and says how many it lost. */
static size_t copy_out(struct console *console, uint64_t *at, uint8_t *buf, size_t size,
		       uint64_t *ret_lost)
{
	uint64_t oldest;
	size_t n;

	pthread_mutex_lock(&console->lock);
	oldest = console->written > RING_SIZE ? console->written - RING_SIZE : 0;
	*ret_lost = *at < oldest ? oldest - *at : 0;
	*at = MAX(*at, oldest);
	n = MIN(size, console->written - *at);
	for (size_t i = 0; i < n; i++)
		buf[i] = console->ring[(*at + i) % RING_SIZE];
	pthread_mutex_unlock(&console->lock);
	return n;
}

static void sink_free(struct sink *sink)
{
	struct console *console = sink->console;

	loop_remove(console->loop, &sink->in);
	if (!sink->same_fd)
		loop_remove(console->loop, &sink->out);
	list_remove(&sink->link);
	if (sink->primary) {
		console->primary = NULL;
		pthread_mutex_lock(&console->lock);
		console->has_primary = false;
		pthread_mutex_unlock(&console->lock);
	} else {
		fd_close(sink->in.fd);
		console->n_clients--;
	}
	free(sink);
}

static void wait_for_room(struct sink *sink, bool wait)
{
	struct loop_watch *watch = sink->same_fd ? &sink->in : &sink->out;
	uint32_t events = (watch->events & ~(uint32_t)EPOLLOUT) | (wait ? EPOLLOUT : 0U);

	loop_change(sink->console->loop, watch, events);
}

/* Writes what there is, at most a ring full at once: a guest that writes as fast as the sink reads must not keep the
 * control loop here. False when the sink has gone and was freed. */
static bool sink_drain(struct sink *sink)
{
	struct console *console = sink->console;
	uint64_t lost, end = sink->at + RING_SIZE;
	uint8_t buf[4096];
	size_t n;

	while ((n = copy_out(console, &sink->at, buf, sizeof(buf), &lost))) {
		ssize_t done;

		if (sink->at >= end) {
			fd_signal_event(console->wakeup.fd); /* the rest in another turn */
			return true;
		}
		if (lost)
			(void)!dprintf(sink->out.fd, "\r\n[%llu bytes lost]\r\n",
				       (unsigned long long)lost);
		done = write(sink->out.fd, buf, n);
		if (done < 0 && errno == EAGAIN) {
			wait_for_room(sink, true);
			return true;
		}
		if (done < 0) {
			sink_free(sink);
			return false;
		}
		sink->at += (uint64_t)done;
	}
	wait_for_room(sink, false);
	return true;
}

/* The primary has read: the device may write again. */
static void update_room(struct console *console)
{
	bool tell;

	pthread_mutex_lock(&console->lock);
	if (console->primary)
		console->primary_at = console->primary->at;
	tell = console->starved &&
	       (!console->has_primary || console->written - console->primary_at < RING_SIZE);
	if (tell)
		console->starved = false;
	pthread_mutex_unlock(&console->lock);
	if (tell && console->stream.writable)
		console->stream.writable(console->stream.ctx);
}

static void drain_all(struct console *console)
{
	struct list *item, *next;

	list_for_each(item, next, &console->sinks)
		sink_drain(container_of(item, struct sink, link));
	update_room(console);
}

/* Offers typed bytes to the device; sinks are read again when all were taken. */
static void offer_input(struct console *console)
{
	struct list *item, *next;
	size_t taken = console->n_input;

	if (console->n_input && console->stream.received)
		taken = console->stream.received(console->stream.ctx, console->input,
						 console->n_input);
	memmove(console->input, console->input + taken, console->n_input - taken);
	console->n_input -= taken;
	list_for_each(item, next, &console->sinks) {
		struct sink *sink = container_of(item, struct sink, link);
		uint32_t out = sink->in.events & EPOLLOUT;

		loop_change(console->loop, &sink->in, out | (console->n_input ? 0U : EPOLLIN));
		if (sink->deaf && !console->n_input)
			sink->deaf = loop_add(console->loop, &sink->in) < 0;
	}
}

static size_t take_escapes(struct console *console, uint8_t *buf, size_t n)
{
	size_t kept = 0;

	for (size_t i = 0; i < n; i++) {
		if (buf[i] == ESCAPE_KEY)
			console->escape(console->escape_ctx);
		else
			buf[kept++] = buf[i];
	}
	return kept;
}

/* False when the sink has gone and was freed, or is read no more. */
static bool sink_read(struct sink *sink, bool hung_up)
{
	struct console *console = sink->console;
	ssize_t n;

	if (console->n_input) {
		/* A hang-up is reported whatever is waited for: look away until there is room to read on. */
		if (hung_up)
			loop_remove(console->loop, &sink->in);
		sink->deaf = hung_up;
		return true;
	}
	n = read(sink->in.fd, console->input, sizeof(console->input));
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return true;
	if (n <= 0) {
		/* A terminal whose input ended can still be written to; a client is gone. */
		sink->a_file = false;
		if (sink->primary)
			loop_remove(console->loop, &sink->in);
		else
			sink_free(sink);
		return false;
	}
	console->n_input = (size_t)n;
	if (sink->primary && console->escape)
		console->n_input = take_escapes(console, console->input, (size_t)n);
	offer_input(console);
	return true;
}

static void in_ready(struct loop_watch *watch, uint32_t events)
{
	struct sink *sink = container_of(watch, struct sink, in);
	struct console *console = sink->console;

	if (events & (EPOLLIN | EPOLLHUP | EPOLLERR))
		if (!sink_read(sink, events & (EPOLLHUP | EPOLLERR)))
			return;
	if ((events & EPOLLOUT) && sink_drain(sink))
		update_room(console);
}

static void out_ready(struct loop_watch *watch, uint32_t events)
{
	struct sink *sink = container_of(watch, struct sink, out);
	struct console *console = sink->console;

	/* Nobody reads any more, which is reported for ever: do not wait for a write to find out. */
	if (events & (EPOLLERR | EPOLLHUP))
		sink_free(sink);
	else
		sink_drain(sink);
	update_room(console);
}

/* A file's next piece, once the last was taken; more of it in another turn of the loop. */
static void read_file(struct console *console)
{
	struct sink *sink = console->primary;

	if (!sink || !sink->a_file || console->n_input)
		return;
	if (sink_read(sink, false))
		fd_signal_event(console->wakeup.fd);
}

static void wakeup_ready(struct loop_watch *watch, uint32_t events _unused_)
{
	struct console *console = container_of(watch, struct console, wakeup);

	fd_clear_event(watch->fd);
	drain_all(console);
	offer_input(console);
	read_file(console);
}

int console_new(struct loop *loop, struct console **ret_console)
{
	struct console *console = calloc(1, sizeof(*console));
	int r;

	if (!console)
		return -ENOMEM;
	console->loop = loop;
	console->stream.write = device_write;
	console->stream.ready = device_ready;
	console->listener.fd = -1;
	console->closed = true;
	list_init(&console->sinks);
	pthread_mutex_init(&console->lock, NULL);
	console->wakeup = (struct loop_watch){
		.fd = fd_new_event(),
		.events = EPOLLIN,
		.ready = wakeup_ready,
	};
	r = console->wakeup.fd < 0 ? console->wakeup.fd : loop_add(loop, &console->wakeup);
	if (r < 0) {
		console_free(console);
		return r;
	}
	*ret_console = console;
	return 0;
}

void console_free(struct console *console)
{
	if (!console)
		return;
	while (!list_empty(&console->sinks))
		sink_free(container_of(console->sinks.next, struct sink, link));
	loop_remove(console->loop, &console->wakeup);
	console_doors(console, false);
	fd_close(console->wakeup.fd);
	fd_close(console->listener.fd);
	pthread_mutex_destroy(&console->lock);
	free(console);
}

struct stream *console_stream(struct console *console)
{
	return &console->stream;
}

/* Both descriptors are non-blocking. */
static int sink_new(struct console *console, int in, int out, struct sink **ret_sink)
{
	struct sink *sink = calloc(1, sizeof(*sink));
	int r;

	if (!sink)
		return -ENOMEM;
	sink->console = console;
	sink->same_fd = in == out;
	sink->in = (struct loop_watch){ .fd = in, .events = EPOLLIN, .ready = in_ready };
	sink->out = (struct loop_watch){ .fd = out, .ready = out_ready };
	/* Input or output in a regular file cannot be waited for, and never blocks either. */
	r = loop_add(console->loop, &sink->in);
	if (r == -EPERM) {
		sink->a_file = true;
		fd_signal_event(console->wakeup.fd);
		r = 0;
	}
	if (r == 0 && !sink->same_fd) {
		r = loop_add(console->loop, &sink->out);
		if (r == -EPERM)
			r = 0;
	}
	if (r < 0) {
		loop_remove(console->loop, &sink->in);
		free(sink);
		return r;
	}
	list_append(&console->sinks, &sink->link);
	*ret_sink = sink;
	return 0;
}

int console_attach(struct console *console, int in, int out, void (*escape)(void *ctx), void *ctx)
{
	int r = fd_set_nonblocking(in);

	if (r == 0)
		r = fd_set_nonblocking(out);
	if (r == 0)
		r = sink_new(console, in, out, &console->primary);
	if (r < 0)
		return r;
	console->primary->primary = true;
	console->escape = escape;
	console->escape_ctx = ctx;
	pthread_mutex_lock(&console->lock);
	console->has_primary = true;
	console->primary_at = console->primary->at = console->written > RING_SIZE
							     ? console->written - RING_SIZE
							     : 0;
	pthread_mutex_unlock(&console->lock);
	return 0;
}

static void listener_ready(struct loop_watch *watch, uint32_t events _unused_)
{
	struct console *console = container_of(watch, struct console, listener);
	int fd = accept4(watch->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
	struct sink *sink;

	if (fd < 0)
		return;
	if (!fd_peer_is(fd, console->owner) || console->n_clients == LIMIT_CLIENTS ||
	    sink_new(console, fd, fd, &sink) < 0) {
		fd_close(fd);
		return;
	}
	console->n_clients++;
	pthread_mutex_lock(&console->lock);
	sink->at = console->written > RING_SIZE ? console->written - RING_SIZE : 0;
	pthread_mutex_unlock(&console->lock);
	sink_drain(sink);
}

int console_listen(struct console *console, int listener)
{
	console->owner = geteuid(); /* now: the process may become nobody later */
	console->listener = (struct loop_watch){
		.fd = listener,
		.events = EPOLLIN,
		.ready = listener_ready,
	};
	console_doors(console, true);
	return console->closed ? -ENOMEM : 0;
}

void console_doors(struct console *console, bool open)
{
	if (console->closed == !open || console->listener.fd < 0)
		return;
	if (!open)
		loop_remove(console->loop, &console->listener);
	console->closed = !open || loop_add(console->loop, &console->listener) < 0;
}

int console_socket(const struct console *console)
{
	return console->listener.fd;
}

void console_flush(struct console *console)
{
	drain_all(console);
}
