/* SPDX-License-Identifier: Apache-2.0 */
#include "programs/json_text.h"
#include "programs/utsusu_progress.h"

#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "base/buffer.h"
#include "base/cleanup.h"
#include "base/fd.h"
#include "base/signals.h"
#include "host/runtime.h"
#include "peer/mover.h"

#define LINES_MAX KIB(64)
#define GONE_TRIES 250
#define GONE_NAP_NS (20 * NSEC_PER_MSEC)

struct watching {
	struct mover_run *run;
	int progress_fd, signal_fd;
	struct buffer lines;
	bool drawn;
};

static uint64_t number_of(const json_t *line, const char *key)
{
	json_int_t number = json_integer_value(json_object_get(line, key));

	return number > 0 ? (uint64_t)number : 0;
}

static void clear_line(struct watching *watching)
{
	if (watching->drawn)
		fputs("\r\x1b[K", stderr);
	watching->drawn = false;
}

/* "guest: memory 63 %, 118 MiB" */
static void draw(struct watching *watching, const json_t *line)
{
	uint64_t sent = (uint64_t)json_integer_value(json_object_get(line, "sent"));
	uint64_t left = (uint64_t)json_integer_value(json_object_get(line, "left"));

	if (!isatty(STDERR_FILENO) || !json_object_get(line, "phase"))
		return;
	fprintf(stderr, "\r\x1b[K%s: %s", watching->run->name, json_text(line, "phase", ""));
	if (watching->run->ran)
		fprintf(stderr, "s; %" PRIu64 " of %" PRIu64 " MiB loaded", sent / MIB(1),
			(sent + left) / MIB(1));
	else if (sent + left)
		fprintf(stderr, " %" PRIu64 " %%, %" PRIu64 " MiB", sent * 100 / (sent + left),
			sent / MIB(1));
	watching->drawn = true;
}

/* Also for lines that are passed on as they are. */
static void note_line(struct watching *watching, const json_t *line)
{
	struct mover_run *run = watching->run;

	if (json_object_get(line, "end")) {
		json_decref(run->end);
		run->end = json_incref((json_t *)line);
	}
	if (json_object_get(line, "phase"))
		snprintf(run->phase, sizeof(run->phase), "%s", json_text(line, "phase", ""));
	if (!json_is_true(json_object_get(line, "ran")))
		return;
	run->ran = true;
	clear_line(watching);
	if (run->on_ran)
		run->on_ran(run, number_of(line, "run_ms"), number_of(line, "left"));
}

static void take_line(void *ctx, const char *text, size_t len)
{
	struct watching *watching = ctx;
	json_auto_t *line = json_loadb(text, len, 0, NULL);

	if (!json_is_object(line))
		return;
	note_line(watching, line);
	if (watching->run->json) {
		printf("%.*s\n", (int)len, text);
		fflush(stdout);
	} else if (json_object_get(line, "warning")) {
		clear_line(watching);
		fprintf(stderr, "%s: %s\n", watching->run->name, json_text(line, "warning", ""));
	} else {
		draw(watching, line);
	}
}

int progress_read(int fd, struct buffer *lines,
		  void (*told)(void *ctx, const char *text, size_t len), void *ctx)
{
	char bytes[4096];
	const char *line;
	ssize_t n = recv(fd, bytes, sizeof(bytes), MSG_DONTWAIT);
	size_t len;

	if (n <= 0)
		return n < 0 && (errno == EAGAIN || errno == EINTR) ? 0 : -ENODATA;
	if (buffer_append(lines, bytes, (size_t)n) < 0)
		return -ENODATA;
	while ((line = buffer_line(lines, &len))) {
		told(ctx, line, len);
		buffer_consume(lines, len + 1);
	}
	return 0;
}

static void cancel(struct watching *watching)
{
	static const char word[] = "{\"cancel\":true}\n";
	struct signalfd_siginfo info;

	if (read(watching->signal_fd, &info, sizeof(info)) != sizeof(info))
		return;
	/* A VM that runs is nobody's to cancel. */
	watching->run->detached = watching->run->ran;
	if (!watching->run->ran)
		(void)!fd_write_all(watching->progress_fd, word, sizeof(word) - 1);
}

/* Until the mover closes its end, which its death does too, or a signal ends our looking on. */
static void watch(struct watching *watching)
{
	while (!watching->run->detached) {
		struct pollfd fds[] = {
			{ .fd = watching->progress_fd, .events = POLLIN },
			{ .fd = watching->signal_fd, .events = POLLIN },
		};

		if (poll(fds, ARRAY_SIZE(fds), -1) < 0 && errno != EINTR)
			return;
		if (fds[1].revents)
			cancel(watching);
		if (fds[0].revents &&
		    progress_read(watching->progress_fd, &watching->lines, take_line, watching) < 0)
			return;
	}
}

int mover_run(struct mover_run *run, struct move_job *job, struct error *err)
{
	struct watching watching = { .run = run, .signal_fd = signals_open_ending(NULL) };
	int ends[2], r;

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) < 0)
		return error_set(err, -errno, EXIT_STATUS_HOST, "%s: %s", run->name,
				 strerror(errno));
	watching.progress_fd = ends[0];
	job->progress_fd = ends[1];
	buffer_init(&watching.lines, LINES_MAX);
	r = mover_start(job, &run->pid, err);
	move_job_release(job);
	if (r == 0) {
		watch(&watching);
		if (!run->detached)
			(void)mover_wait(run->pid);
	}
	clear_line(&watching);
	buffer_release(&watching.lines);
	fd_close(watching.progress_fd);
	fd_close(watching.signal_fd);
	return r;
}

void mover_run_wait_gone(const struct mover_run *run)
{
	const struct timespec nap = { .tv_nsec = GONE_NAP_NS };

	for (int i = 0; i < GONE_TRIES && runtime_alive(run->name) > 0; i++)
		nanosleep(&nap, NULL);
}

const char *mover_run_end(const struct mover_run *run)
{
	return json_text(run->end, "end", "");
}

uint64_t mover_run_number(const struct mover_run *run, const char *key)
{
	return number_of(run->end, key);
}

void mover_run_error(const struct mover_run *run, struct error *err)
{
	uint64_t status = mover_run_number(run, "status");

	if (status < EXIT_STATUS_FAILED || status > EXIT_STATUS_GUEST)
		status = EXIT_STATUS_FAILED;
	(void)error_set(err, -EIO, (enum exit_status)status, "%s",
			run->end ? json_text(run->end, "message", "") : "utsusu-move died");
}
