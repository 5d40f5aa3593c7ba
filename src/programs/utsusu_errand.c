/* SPDX-License-Identifier: Apache-2.0 */
#include "programs/utsusu_errand.h"

#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/fd.h"
#include "base/signals.h"
#include "peer/door.h"
#include "programs/json_text.h"
#include "programs/utsusu_progress.h"

#define LINE_MAX_BYTES KIB(64)
#define LAST_WORD_MS 60000 /* the daemon may ask the other host once more before it says the end */

/* A closed terminal ends this program; the mover sees that and cancels. */
static const int cancelling[] = { SIGINT, SIGTERM };

uint64_t errand_number(const json_t *object, const char *key)
{
	json_int_t number = json_integer_value(json_object_get(object, key));

	return number > 0 ? (uint64_t)number : 0;
}

void errand_format_bytes(uint64_t bytes, char *ret_text, size_t size)
{
	if (bytes < 10 * MIB(1))
		snprintf(ret_text, size, "%" PRIu64 " KiB", bytes / KIB(1));
	else
		snprintf(ret_text, size, "%" PRIu64 " MiB", bytes / MIB(1));
}

void errand_format_time(uint64_t ms, char *ret_text, size_t size)
{
	if (ms < 10000)
		snprintf(ret_text, size, "%" PRIu64 ".%" PRIu64 " s", ms / 1000, ms % 1000 / 100);
	else
		snprintf(ret_text, size, "%" PRIu64 " s", ms / 1000);
}

/* "memory 63 %, 118 MB/s, 0.4 s left: round 3" */
static void format_progress(const json_t *line, char *ret_text, size_t size)
{
	uint64_t sent = errand_number(line, "sent"), left = errand_number(line, "left");
	uint64_t eta = errand_number(line, "eta_ms"), throttle = errand_number(line, "throttle");
	const char *why = json_text(line, "why", "");
	char time[32];
	size_t used = (size_t)snprintf(ret_text, size, "%s", json_text(line, "phase", ""));

	if (sent && used < size)
		used += (size_t)snprintf(ret_text + used, size - used,
					 " %" PRIu64 " %%, %" PRIu64 " MB/s",
					 sent * 100 / (sent + left),
					 errand_number(line, "rate") / 1000000);
	if (throttle && used < size)
		used += (size_t)snprintf(ret_text + used, size - used,
					 ", guest slowed by %" PRIu64 " %%", throttle);
	if (eta && used < size) {
		errand_format_time(eta, time, sizeof(time));
		used += (size_t)snprintf(ret_text + used, size - used, ", %s left", time);
	}
	if (why[0] && used < size)
		snprintf(ret_text + used, size - used, ": %s", why);
}

static void clear_line(struct errand *errand)
{
	if (errand->drawn)
		fputs("\r\x1b[K", stderr);
	errand->drawn = false;
}

/* On a terminal one line that changes; elsewhere a line for each phase and reason. */
static void show_progress(struct errand *errand, const json_t *line)
{
	char text[300], said[200];

	if (isatty(STDERR_FILENO)) {
		format_progress(line, text, sizeof(text));
		fprintf(stderr, "\r\x1b[K%s: %.*s", errand->options->name, 140, text);
		errand->drawn = true;
		return;
	}
	if (!errand->moving)
		return; /* a refusal is one line */
	snprintf(said, sizeof(said), "%s%s%s", json_text(line, "phase", ""),
		 json_text(line, "why", "")[0] ? ": " : "", json_text(line, "why", ""));
	if (strcmp(said, errand->said) == 0)
		return;
	memcpy(errand->said, said, sizeof(said));
	fprintf(stderr, "%s: %s\n", errand->options->name, said);
}

static bool is_doubt(const json_t *end)
{
	return strcmp(json_text(end, "end", ""), "in-doubt") == 0;
}

/* The mover's last word, and behind it the daemon's, which counts only where the mover did not know. */
static void take_end(struct errand *errand, json_t *line)
{
	if (errand->end && !is_doubt(errand->end))
		return;
	json_decref(errand->end);
	errand->end = json_incref(line);
}

static void take_line(void *ctx, const char *text, size_t len)
{
	struct errand *errand = ctx;
	json_t *line = json_loadb(text, len, 0, NULL);
	const char *warning;

	if (!json_is_object(line)) {
		json_decref(line);
		return;
	}
	warning = json_string_value(json_object_get(line, "warning"));
	if (json_object_get(line, "end"))
		take_end(errand, line);
	errand->done |= errand->is_done && errand->is_done(line);
	if (errand->options->json) {
		/* A check has one answer, and nothing before it. */
		if (!errand->options->move.check)
			printf("%.*s\n", (int)len, text);
		fflush(stdout);
	} else if (warning) {
		clear_line(errand);
		fprintf(stderr, "%s: %s\n", errand->options->name, warning);
	} else if (json_object_get(line, "phase") && !errand->end) {
		show_progress(errand, line);
	}
	json_decref(line);
}

/* Whoever should hear it may hang: the next signal ends this program, not the move. */
static void cancel(struct errand *errand)
{
	static const char word[] = "{\"cancel\":true}\n";
	struct signalfd_siginfo info;

	if (read(errand->signal_fd, &info, sizeof(info)) != sizeof(info) || errand->cancelled)
		return;
	errand->cancelled = true;
	clear_line(errand);
	fprintf(stderr, "%s: %s (once more to leave without an answer)\n", errand->options->name,
		errand->cancelling);
	(void)!fd_write_all(errand->progress_fd, word, sizeof(word) - 1);
	sigprocmask(SIG_SETMASK, &errand->mask_before, NULL);
}

/* Until the daemon has answered (`for_answer`), or it is known how the move ended, or nobody is left who could tell. */
static void watch(struct errand *errand, bool for_answer)
{
	while (for_answer || !(errand->done || (errand->end && !is_doubt(errand->end)))) {
		struct pollfd fds[] = {
			{ .fd = errand->silent ? -1 : errand->progress_fd, .events = POLLIN },
			{ .fd = errand->signal_fd, .events = POLLIN },
			{ .fd = for_answer ? errand->door_fd : -1, .events = POLLIN },
		};

		if (poll(fds, ARRAY_SIZE(fds), -1) < 0 && errno != EINTR)
			return;
		if (fds[1].revents)
			cancel(errand);
		if (fds[0].revents &&
		    progress_read(errand->progress_fd, &errand->lines, take_line, errand) < 0)
			errand->silent = true;
		if (errand->silent && !for_answer)
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

static int show_check(const struct errand *errand, json_t *answer)
{
	const struct command_options *options = errand->options;
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
			printf("%s: can %s %s\n", options->name, errand->can, options->host);
	}
	return first ? (int)errand_number(first, "status") : EXIT_STATUS_OK;
}

/* One line, whatever the number of problems. */
static int refuse(const json_t *problems)
{
	const json_t *first = json_array_get(problems, 0);
	struct error err = { 0 };

	if (json_array_size(problems) > 1)
		(void)error_set(&err, -EREMOTEIO, (enum exit_status)errand_number(first, "status"),
				"%s (and %zu more: add --check to see all)",
				json_text(first, "message", ""), json_array_size(problems) - 1);
	else
		(void)error_set(&err, -EREMOTEIO, (enum exit_status)errand_number(first, "status"),
				"%s", json_text(first, "message", ""));
	return tell(&err);
}

static int finish(struct errand *errand)
{
	const char *how = json_text(errand->end, "end", "");
	uint64_t status = errand_number(errand->end, "status");
	struct error err = { 0 };

	clear_line(errand);
	if (errand->done || strcmp(how, "ran") == 0) {
		if (!errand->options->json)
			errand->report(errand);
		return EXIT_STATUS_OK;
	}
	if (status < EXIT_STATUS_FAILED || status > EXIT_STATUS_GUEST)
		status = EXIT_STATUS_FAILED;
	if (errand->end)
		(void)error_set(&err, -ECANCELED, (enum exit_status)status, "%s",
				json_text(errand->end, "message", ""));
	else
		(void)error_set(&err, -EPIPE, EXIT_STATUS_FAILED, "%s: nobody tells any more %s %s",
				errand->options->name, errand->silence, errand->options->name);
	return tell(&err);
}

static int ask(struct errand *errand, json_t *request, struct error *err)
{
	int ends[2] = { -1, -1 }, r;

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) < 0) {
		json_decref(request);
		return -errno;
	}
	errand->progress_fd = ends[0];
	/* Nobody looks at what goes on by itself. */
	r = door_ask(request, errand->options->detach ? -1 : ends[1], &errand->door_fd, err);
	fd_close(ends[1]);
	return r;
}

static int carry_out(struct errand *errand, json_t *request)
{
	json_auto_t *answer = NULL;
	const json_t *problems;
	struct error err = { 0 };
	int r = ask(errand, request, &err);

	if (r == 0) {
		watch(errand, true);
		r = door_hear(errand->door_fd, LAST_WORD_MS, &answer, &err);
	}
	clear_line(errand);
	if (r < 0)
		return tell(&err);
	if (errand->options->move.check)
		return show_check(errand, answer);
	problems = json_object_get(answer, "problems");
	if (json_array_size(problems))
		return refuse(problems);
	errand->moving = true;
	errand->paused = json_is_true(json_object_get(answer, "paused"));
	if (!errand->options->json)
		print_problems(answer, errand->options->name);
	if (errand->options->detach)
		return EXIT_STATUS_OK;
	watch(errand, false);
	return finish(errand);
}

int errand_run(struct errand *errand, json_t *request)
{
	int status;

	errand->door_fd = errand->progress_fd = errand->signal_fd = -1;
	/* One that goes on by itself cannot be cancelled from here. */
	if (!errand->options->detach)
		errand->signal_fd = signals_open(cancelling, ARRAY_SIZE(cancelling),
						 &errand->mask_before);
	buffer_init(&errand->lines, LINE_MAX_BYTES);
	status = carry_out(errand, request);
	buffer_release(&errand->lines);
	json_decref(errand->end);
	fd_close(errand->door_fd);
	fd_close(errand->progress_fd);
	fd_close(errand->signal_fd);
	return status;
}
