/* SPDX-License-Identifier: Apache-2.0 */
/*
 * --break: sets a breakpoint in the VM and shows its hits. When the VM stands on one, a word from standard input says how it
 * goes on: from a person at a terminal, or from a program line by line. Leaving lets the VM go on.
 */
#include "view/stops.h"

#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "api/client.h"

#define LINE_BYTES 256
#define HEAR_MS 20

struct stops {
	struct view_context *view;
	struct stops_hit last;
	bool stands, broken, input_ended;
	uint64_t hits;
	bool is_terminal;
	char again[LINE_BYTES]; /* what an empty line means: the last word that went on */
	char input[LINE_BYTES];
	size_t n_input;
	struct error *err;
};

struct word {
	const char *name, *arguments, *help;
	/* 1: the user leaves. */
	int (*run)(struct stops *stops, const char *argument);
};

static int ask(struct stops *stops, json_t *request)
{
	json_t *answer;
	int r = api_call(stops->view->connection, request, &answer, stops->err);

	if (r == 0)
		json_decref(answer);
	return r;
}

/* ---- the user's words ---- */

static int go_on(struct stops *stops, json_t *request)
{
	int r = ask(stops, request);

	if (r == -EREMOTEIO) { /* refused: the VM says why */
		printf("%s\n", stops->err->message);
		*stops->err = (struct error){ 0 };
		return 0;
	}
	if (r == 0)
		stops->stands = false;
	return r;
}

static int word_continue(struct stops *stops, const char *argument _unused_)
{
	return go_on(stops, json_pack("{s:s}", "command", "continue"));
}

static int word_step(struct stops *stops, const char *argument _unused_)
{
	return go_on(stops, json_pack("{s:s, s:b}", "command", "continue", "step", 1));
}

static int word_set(struct stops *stops, const char *argument)
{
	return go_on(stops, json_pack("{s:s, s:s}", "command", "continue", "data", argument));
}

static int word_drop(struct stops *stops, const char *argument _unused_)
{
	return go_on(stops, json_pack("{s:s, s:b}", "command", "continue", "drop", 1));
}

static int word_registers(struct stops *stops, const char *argument _unused_)
{
	stops_show_registers(&stops->last, stdout);
	return 0;
}

static int word_code(struct stops *stops, const char *argument _unused_)
{
	stops_show_code(stops->view, &stops->last, stdout);
	return 0;
}

static int word_quit(struct stops *stops, const char *argument _unused_)
{
	int r = stops->stands ? go_on(stops, json_pack("{s:s}", "command", "continue")) : 0;

	return r < 0 ? r : 1;
}

static int word_help(struct stops *stops, const char *argument);

static const struct word words[] = {
	{ "continue", "", "go on to the next request that matches", word_continue },
	{ "step", "", "go on to the next request, whatever it is", word_step },
	{ "set", "VALUE", "go on with this value instead", word_set },
	{ "drop", "", "go on; the device does not see this one (a write only)", word_drop },
	{ "registers", "", "show the vCPU's registers", word_registers },
	{ "code", "", "show the instructions around", word_code },
	{ "quit", "", "end; the VM goes on", word_quit },
	{ "help", "", "show this", word_help },
};

static int word_help(struct stops *stops _unused_, const char *argument _unused_)
{
	for (size_t i = 0; i < ARRAY_SIZE(words); i++)
		printf("  %-9s %-6s %s\n", words[i].name, words[i].arguments, words[i].help);
	printf("A word may be cut short; an empty line goes on as the last time.\n");
	return 0;
}

/* The word that `text` begins. */
static const struct word *find_word(const char *text, size_t len)
{
	for (size_t i = 0; i < ARRAY_SIZE(words); i++)
		if (strncmp(words[i].name, text, len) == 0)
			return &words[i];
	return NULL;
}

static int obey(struct stops *stops, const char *line)
{
	const char *text = line[strspn(line, " \t")] ? line + strspn(line, " \t") : stops->again;
	size_t len = strcspn(text, " \t");
	const char *argument = text + len + strspn(text + len, " \t");
	const struct word *word = find_word(text, len);

	if (!word) {
		printf("'%.*s' is unknown; 'help' tells all\n", (int)len, text);
		return 0;
	}
	if (word->arguments[0] && !argument[0]) {
		printf("%s: needs %s\n", word->name, word->arguments);
		return 0;
	}
	if (word->run == word_step || word->run == word_continue)
		snprintf(stops->again, sizeof(stops->again), "%s", word->name);
	return word->run(stops, argument);
}

/* ---- input ---- */

static void prompt(const struct stops *stops)
{
	if (stops->stands && stops->is_terminal)
		printf("(stopped) ");
	fflush(stdout);
}

/* While the VM runs only these count; other lines wait for the next stop. */
static bool is_for_now(const struct stops *stops)
{
	const struct word *word = find_word(stops->input, strcspn(stops->input, " \t\n"));

	return stops->stands || (stops->input[0] != '\n' && word &&
				 (word->run == word_quit || word->run == word_help));
}

/* Does what whole lines say: 1 when the user leaves. */
static int obey_lines(struct stops *stops)
{
	char *newline;
	int r = 0;

	while (r == 0 && (newline = memchr(stops->input, '\n', stops->n_input)) &&
	       is_for_now(stops)) {
		*newline = '\0';
		r = obey(stops, stops->input);
		stops->n_input -= (size_t)(newline + 1 - stops->input);
		memmove(stops->input, newline + 1, stops->n_input);
		if (r == 0)
			prompt(stops);
	}
	return r;
}

/* The end of input is "quit" once the VM stands. */
static int read_input(struct stops *stops)
{
	ssize_t n;

	if (stops->n_input == sizeof(stops->input))
		stops->n_input = 0; /* no line of ours is so long */
	n = read(STDIN_FILENO, stops->input + stops->n_input,
		 sizeof(stops->input) - stops->n_input);
	if (n < 0)
		return errno == EINTR || errno == EAGAIN ? 0 : -errno;
	if (n == 0) {
		stops->input_ended = true;
		return stops->stands ? word_quit(stops, "") : 0;
	}
	stops->n_input += (size_t)n;
	return 0;
}

static int wait_for_word(struct stops *stops)
{
	struct pollfd in = { .fd = STDIN_FILENO, .events = POLLIN };
	int r = obey_lines(stops);

	if (r)
		return r;
	if (stops->input_ended)
		return stops->stands ? word_quit(stops, "") : 0;
	if (poll(&in, 1, stops->stands ? HEAR_MS : 0) <= 0)
		return 0;
	r = read_input(stops);
	return r ? r : obey_lines(stops);
}

/* ---- hits ---- */

static void told(void *ctx, const json_t *event)
{
	struct stops *stops = ctx;
	const char *name = json_string_value(json_object_get(event, "event"));

	if (!name || strcmp(name, "request") != 0)
		return;
	if (stops_decode(event, &stops->last) < 0) {
		stops->broken = true;
		return;
	}
	stops->hits = stops->last.hit.number;
	stops->stands = stops->last.stands;
	if (stops->view->options.json) {
		stops_show_json(stops->view, &stops->last, stdout);
		fflush(stdout);
		return;
	}
	stops_show(stops->view, &stops->last, stdout);
	if (stops->stands || stops->last.hit.action == STOP_DUMP) {
		stops_show_registers(&stops->last, stdout);
		stops_show_code(stops->view, &stops->last, stdout);
	}
	prompt(stops);
}

static int set_break(struct stops *stops)
{
	const struct view_options *options = &stops->view->options;

	return ask(stops, json_pack("{s:s, s:s, s:s, s:s*, s:o, s:I}", "command", "break", "filter",
				    stops->view->filter_text, "action", options->action, "data",
				    options->data, "delay",
				    json_sprintf("%llums", (unsigned long long)options->delay_ms),
				    "count", (json_int_t)options->count));
}

static bool is_over(const struct stops *stops)
{
	const struct view_context *view = stops->view;

	return view_stopped(view) || view->gone_ns || stops->broken ||
	       (view->options.count && stops->hits >= view->options.count && !stops->stands);
}

/* Whatever ends it, the VM does not stay. */
static int leave(struct stops *stops, int r)
{
	struct view_context *view = stops->view;

	if (stops->broken)
		return error_set(
			stops->err, -EPROTO, EXIT_STATUS_FAILED,
			"%s: told what is not understood; use the utsusu it was started with",
			view->title);
	if (r >= 0 && stops->stands && !view->gone_ns)
		(void)go_on(stops, json_pack("{s:s}", "command", "continue"));
	if (r >= 0 && view->gone_ns && !view->options.json)
		fprintf(stderr, "utsusu: %s: the VM ended; hits: %" PRIu64 "\n", view->title,
			stops->hits);
	return MIN(r, 0);
}

int stops_run(struct view_context *view, struct error *err)
{
	struct stops stops = {
		.view = view,
		.is_terminal = isatty(STDIN_FILENO) && !view->options.json,
		.again = "continue",
		.err = err,
	};
	const bool is_asking = strcmp(view->options.action, "stop") == 0;
	int r;

	view->told = told;
	view->told_ctx = &stops;
	r = set_break(&stops);
	if (r == 0 && !view->options.json)
		fprintf(stderr, "utsusu: %s: waiting for requests: %s\n", view->title,
			view->filter_text[0] ? view->filter_text : "all");
	while (r == 0 && !is_over(&stops)) {
		view_hear(view, stops.stands ? 1 : HEAR_MS);
		if (is_asking)
			r = wait_for_word(&stops);
	}
	return leave(&stops, r);
}
