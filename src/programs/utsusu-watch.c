/* SPDX-License-Identifier: Apache-2.0 */
/* utsusu-watch: what `utsusu watch` becomes. Reads the requests of a VM, of one that died or of a recording, and shows,
 * writes or judges them. Holds nothing of the VM but a connection, and maps of its store and memory to read. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "api/args.h"
#include "base/cleanup.h"
#include "programs/utsusu-watch.h"

static int decode(char **argv, struct watch_options *ret_options, struct error *err)
{
	_cleanup_(freep) struct problems *problems = calloc(1, sizeof(*problems));
	struct args_target target = { .schema = &watch_schema, .object = ret_options };
	struct args args = { .targets = &target, .n_targets = 1, .command = "watch" };
	size_t count;

	if (!problems)
		return error_set(err, -ENOMEM, EXIT_STATUS_HOST,
				 "out of memory; free some and try again");
	schema_init(&watch_schema, ret_options);
	count = args_decode(&args, argv, problems);
	ret_options->given = target.given;
	count += watch_check(ret_options, problems);
	if (!count)
		return 0;
	*err = problems->list[0];
	return -EINVAL;
}

/* To look around in, where somebody can; lines for a pipe. */
static int default_view_run(struct view_context *view, struct error *err)
{
	if (isatty(STDIN_FILENO) && isatty(STDOUT_FILENO))
		return terminal_view_run(view, err);
	return line_view_run(view, err);
}

/* What is done with the requests: the first row that was asked for. */
static const struct {
	const char *option; /* NULL: when nothing else was asked for */
	int (*run)(struct view_context *view, struct error *err);
} jobs[] = {
	{ "break", stops_run },	     { "record", recorder_run },     { "report", report_run },
	{ "export", export_run },    { "web", web_view_run },	     { "json", json_view_run },
	{ "follow", line_view_run }, { "registers", line_view_run }, { NULL, default_view_run },
};

static int run(struct view_context *view, const struct watch_options *options, struct error *err)
{
	for (size_t i = 0; i < ARRAY_SIZE(jobs); i++)
		if (!jobs[i].option || watch_given(options, jobs[i].option))
			return jobs[i].run(view, err);
	return 0;
}

static int watch(const struct watch_options *options, volatile sig_atomic_t *stop,
		 struct error *err)
{
	_cleanup_(watch_origin_close) struct watch_origin origin = { 0 };
	struct view_context view = { 0 };
	int r = watch_origin_open(options, &origin, &view, err);

	if (r < 0)
		return r;
	view.stop = stop;
	return run(&view, options, err);
}

int main(int argc _unused_, char **argv)
{
	struct watch_options options = { 0 };
	struct watch_stop stop = { 0 };
	struct error err = { 0 };
	int r = decode(argv + 1, &options, &err);

	if (r == 0)
		r = watch_stop_begin(&stop, &err);
	if (r == 0)
		r = watch(&options, &stop.asked, &err);
	schema_release(&watch_schema, &options);
	if (r == 0)
		return EXIT_STATUS_OK;
	fprintf(stderr, "utsusu: %s\n", err.message);
	return err.status;
}
