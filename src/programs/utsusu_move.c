/* SPDX-License-Identifier: Apache-2.0 */
/* utsusu move: asks the daemon, draws what the mover tells, says what it cost. */
#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/buffer.h"
#include "base/cleanup.h"
#include "base/fd.h"
#include "base/signals.h"
#include "peer/door.h"
#include "peer/request.h"
#include "programs/json_text.h"
#include "programs/utsusu.h"
#include "programs/utsusu_progress.h"

#define LINE_MAX_BYTES KIB(64)
#define LAST_WORD_MS 60000 /* the daemon may ask the other host once more before it says the end */

/* A closed terminal ends this program; the mover sees that and cancels. */
static const int cancelling[] = { SIGINT, SIGTERM };

struct watching {
	const struct command_options *options;
	int door_fd, progress_fd, signal_fd;
	struct buffer lines;
	bool drawn;	/* an unfinished line stands on the terminal */
	bool cancelled; /* was asked for */
	bool silent;	/* nobody writes progress any more, or was asked to */
	bool moving;	/* nothing stood against it */
	bool paused;	/* by its user, there as here */
	json_t *end;	/* the mover's last line */
	char said[200]; /* the last line that was printed where there is no terminal */
	sigset_t mask_before;
};

static uint64_t number_of(const json_t *object, const char *key)
{
	json_int_t number = json_integer_value(json_object_get(object, key));

	return number > 0 ? (uint64_t)number : 0;
}

static void format_bytes(uint64_t bytes, char *ret_text, size_t size)
{
	if (bytes < 10 * MIB(1))
		snprintf(ret_text, size, "%" PRIu64 " KiB", bytes / KIB(1));
	else
		snprintf(ret_text, size, "%" PRIu64 " MiB", bytes / MIB(1));
}

static void format_time(uint64_t ms, char *ret_text, size_t size)
{
	if (ms < 10000)
		snprintf(ret_text, size, "%" PRIu64 ".%" PRIu64 " s", ms / 1000, ms % 1000 / 100);
	else
		snprintf(ret_text, size, "%" PRIu64 " s", ms / 1000);
}

/* "memory 63 %, 118 MB/s, 0.4 s left: round 3" */
static void format_progress(const json_t *line, char *ret_text, size_t size)
{
	uint64_t sent = number_of(line, "sent"), left = number_of(line, "left");
	uint64_t eta = number_of(line, "eta_ms"), throttle = number_of(line, "throttle");
	const char *why = json_text(line, "why", "");
	char time[32];
	size_t used = (size_t)snprintf(ret_text, size, "%s", json_text(line, "phase", ""));

	if (sent && used < size)
		used += (size_t)snprintf(ret_text + used, size - used,
					 " %" PRIu64 " %%, %" PRIu64 " MB/s",
					 sent * 100 / (sent + left),
					 number_of(line, "rate") / 1000000);
	if (throttle && used < size)
		used += (size_t)snprintf(ret_text + used, size - used,
					 ", guest slowed by %" PRIu64 " %%", throttle);
	if (eta && used < size) {
		format_time(eta, time, sizeof(time));
		used += (size_t)snprintf(ret_text + used, size - used, ", %s left", time);
	}
	if (why[0] && used < size)
		snprintf(ret_text + used, size - used, ": %s", why);
}

static void clear_line(struct watching *watching)
{
	if (watching->drawn)
		fputs("\r\x1b[K", stderr);
	watching->drawn = false;
}

/* On a terminal one line that changes; elsewhere a line for each phase and reason. */
static void show_progress(struct watching *watching, const json_t *line)
{
	char text[300], said[200];

	if (isatty(STDERR_FILENO)) {
		format_progress(line, text, sizeof(text));
		fprintf(stderr, "\r\x1b[K%s: %.*s", watching->options->name, 140, text);
		watching->drawn = true;
		return;
	}
	if (!watching->moving)
		return; /* a refusal is one line */
	snprintf(said, sizeof(said), "%s%s%s", json_text(line, "phase", ""),
		 json_text(line, "why", "")[0] ? ": " : "", json_text(line, "why", ""));
	if (strcmp(said, watching->said) == 0)
		return;
	memcpy(watching->said, said, sizeof(said));
	fprintf(stderr, "%s: %s\n", watching->options->name, said);
}

static bool is_doubt(const json_t *end)
{
	return strcmp(json_text(end, "end", ""), "in-doubt") == 0;
}

/* The mover's last word, and behind it the daemon's, which counts only where the mover did not know. */
static void take_end(struct watching *watching, json_t *line)
{
	if (watching->end && !is_doubt(watching->end))
		return;
	json_decref(watching->end);
	watching->end = json_incref(line);
}

static void take_line(void *ctx, const char *text, size_t len)
{
	struct watching *watching = ctx;
	json_t *line = json_loadb(text, len, 0, NULL);
	const char *warning;

	if (!json_is_object(line)) {
		json_decref(line);
		return;
	}
	warning = json_string_value(json_object_get(line, "warning"));
	if (json_object_get(line, "end"))
		take_end(watching, line);
	if (watching->options->json) {
		/* A check has one answer, and nothing before it. */
		if (!watching->options->move.check)
			printf("%.*s\n", (int)len, text);
		fflush(stdout);
	} else if (warning) {
		clear_line(watching);
		fprintf(stderr, "%s: %s\n", watching->options->name, warning);
	} else if (json_object_get(line, "phase") && !watching->end) {
		show_progress(watching, line);
	}
	json_decref(line);
}

/* Whoever should hear it may hang: the next signal ends this program, not the move. */
static void cancel(struct watching *watching)
{
	static const char word[] = "{\"cancel\":true}\n";
	struct signalfd_siginfo info;

	if (read(watching->signal_fd, &info, sizeof(info)) != sizeof(info) || watching->cancelled)
		return;
	watching->cancelled = true;
	clear_line(watching);
	fprintf(stderr,
		"%s: cancelling; the VM stays here unless it was given already (once more to leave "
		"without an answer)\n",
		watching->options->name);
	(void)!fd_write_all(watching->progress_fd, word, sizeof(word) - 1);
	sigprocmask(SIG_SETMASK, &watching->mask_before, NULL);
}

/* Until the daemon has answered (`for_answer`), or it is known how the move ended, or nobody is left who could tell. */
static void watch(struct watching *watching, bool for_answer)
{
	while (for_answer || !watching->end || is_doubt(watching->end)) {
		struct pollfd fds[] = {
			{ .fd = watching->silent ? -1 : watching->progress_fd, .events = POLLIN },
			{ .fd = watching->signal_fd, .events = POLLIN },
			{ .fd = for_answer ? watching->door_fd : -1, .events = POLLIN },
		};

		if (poll(fds, ARRAY_SIZE(fds), -1) < 0 && errno != EINTR)
			return;
		if (fds[1].revents)
			cancel(watching);
		if (fds[0].revents &&
		    progress_read(watching->progress_fd, &watching->lines, take_line, watching) < 0)
			watching->silent = true;
		if (watching->silent && !for_answer)
			return;
		if (fds[2].revents)
			return;
	}
}

static void print_problems(const json_t *answer, const char *name)
{
	const json_t *problem, *note;
	size_t i;

	json_array_foreach(json_object_get(answer, "problems"), i, problem)
		fprintf(stderr, "utsusu: %s\n", json_text(problem, "message", ""));
	json_array_foreach(json_object_get(answer, "notes"), i, note)
		fprintf(stderr, "%s: %s\n", name, json_string_value(note));
}

static int show_check(const struct command_options *options, json_t *answer)
{
	const json_t *first = json_array_get(json_object_get(answer, "problems"), 0);

	json_object_del(answer, "moving");
	if (options->json) {
		_cleanup_(freep) char *text = NULL;

		json_object_set_new(answer, "ok", json_boolean(!first));
		text = json_dumps(answer, JSON_INDENT(2));
		puts(text ? text : "null");
	} else {
		print_problems(answer, options->name);
		if (!first)
			printf("%s: can move to %s\n", options->name, options->host);
	}
	return first ? (int)number_of(first, "status") : EXIT_STATUS_OK;
}

/* One line, whatever the number of problems. */
static int refuse(const json_t *problems)
{
	const json_t *first = json_array_get(problems, 0);
	struct error err = { 0 };

	if (json_array_size(problems) > 1)
		(void)error_set(&err, -EREMOTEIO, (enum exit_status)number_of(first, "status"),
				"%s (and %zu more: add --check to see all)",
				json_text(first, "message", ""), json_array_size(problems) - 1);
	else
		(void)error_set(&err, -EREMOTEIO, (enum exit_status)number_of(first, "status"),
				"%s", json_text(first, "message", ""));
	return tell(&err);
}

static void print_where(const struct watching *watching)
{
	const struct command_options *options = watching->options;
	const char *ended = json_text(watching->end, "ended", "");

	if (ended[0])
		printf("%s ran on %s and has ended there, %s", options->name, options->host, ended);
	else
		printf("%s %s on %s", options->name, watching->paused ? "is paused" : "runs",
		       options->host);
}

static void print_cost(const struct watching *watching)
{
	const json_t *end = watching->end;
	uint64_t total = number_of(end, "total_ms"), bytes = number_of(end, "wire_bytes");
	char size[32], time[32];

	print_where(watching);
	if (!total) { /* its mover died, and could not tell */
		putchar('\n');
		return;
	}
	format_bytes(bytes ? bytes : number_of(end, "bytes"), size, sizeof(size));
	format_time(total, time, sizeof(time));
	printf(": %s in all, %" PRIu64 " ms standing still, %s sent, %" PRIu64 " Mb/s, %" PRIu64
	       " rounds\n",
	       time, number_of(end, "down_ms"), size,
	       number_of(end, "wire_bytes") * 8 / total / 1000, number_of(end, "rounds"));
}

static int finish(struct watching *watching)
{
	const char *how = json_text(watching->end, "end", "");
	uint64_t status = number_of(watching->end, "status");
	struct error err = { 0 };

	clear_line(watching);
	if (strcmp(how, "ran") == 0) {
		if (!watching->options->json)
			print_cost(watching);
		return EXIT_STATUS_OK;
	}
	if (status < EXIT_STATUS_FAILED || status > EXIT_STATUS_GUEST)
		status = EXIT_STATUS_FAILED;
	if (watching->end)
		(void)error_set(&err, -ECANCELED, (enum exit_status)status, "%s",
				json_text(watching->end, "message", ""));
	else
		(void)error_set(
			&err, -EPIPE, EXIT_STATUS_FAILED,
			"%s: nobody tells any more how its move goes on; see utsusu resolve %s",
			watching->options->name, watching->options->name);
	return tell(&err);
}

static int ask(struct watching *watching, struct error *err)
{
	const struct command_options *options = watching->options;
	struct control_request request = { .command = CONTROL_MOVE, .move = options->move };
	int ends[2] = { -1, -1 }, r;

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) < 0)
		return -errno;
	watching->progress_fd = ends[0];
	memcpy(request.name, options->name, LIMIT_NAME);
	memcpy(request.host, options->host, sizeof(request.host));
	/* Nobody looks at a move that goes on by itself. */
	r = door_ask(control_request_encode(&request), options->detach ? -1 : ends[1],
		     &watching->door_fd, err);
	fd_close(ends[1]);
	return r;
}

static int move(struct watching *watching)
{
	json_auto_t *answer = NULL;
	const json_t *problems;
	struct error err = { 0 };
	int r = ask(watching, &err);

	if (r == 0) {
		watch(watching, true);
		r = door_hear(watching->door_fd, LAST_WORD_MS, &answer, &err);
	}
	clear_line(watching);
	if (r < 0)
		return tell(&err);
	if (watching->options->move.check)
		return show_check(watching->options, answer);
	problems = json_object_get(answer, "problems");
	if (json_array_size(problems))
		return refuse(problems);
	watching->moving = true;
	watching->paused = json_is_true(json_object_get(answer, "paused"));
	if (!watching->options->json)
		print_problems(answer, watching->options->name);
	if (watching->options->detach)
		return EXIT_STATUS_OK;
	watch(watching, false);
	return finish(watching);
}

int move_vm(struct invocation *invocation)
{
	struct watching watching = {
		.options = &invocation->options,
		.door_fd = -1,
		.progress_fd = -1,
		.signal_fd = -1,
	};
	int status;

	/* One that goes on by itself cannot be cancelled from here. */
	if (!watching.options->detach)
		watching.signal_fd = signals_open(cancelling, ARRAY_SIZE(cancelling),
						  &watching.mask_before);
	buffer_init(&watching.lines, LINE_MAX_BYTES);
	if (invocation->options.move.plain)
		fprintf(stderr,
			"%s: --plain: whoever is on the wire between can read and change the "
			"guest's memory\n",
			invocation->options.name);
	status = move(&watching);
	buffer_release(&watching.lines);
	json_decref(watching.end);
	fd_close(watching.door_fd);
	fd_close(watching.progress_fd);
	fd_close(watching.signal_fd);
	return status;
}
