/* SPDX-License-Identifier: Apache-2.0 */
/* utsusu cpu-baseline: which CPU model several machines have in common. */
#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "api/cpu_file.h"
#include "base/cleanup.h"
#include "cpu/baseline.h"
#include "programs/utsusu.h"

struct hosts {
	size_t count;
	struct cpu_file files[BASELINE_HOSTS_MAX];
};

static const char *model_name(enum cpu_model model)
{
	static const char *const names[] = { "host", "v2", "v3" };

	return names[model];
}

static int read_hosts(char **paths, struct hosts *hosts, struct error *err)
{
	if (!paths[0]) {
		int r = cpu_file_here(&hosts->files[0], err);

		hosts->count = r == 0;
		return r;
	}
	for (; *paths; paths++) {
		int r;

		if (hosts->count == BASELINE_HOSTS_MAX)
			return error_set(err, -E2BIG, EXIT_STATUS_USAGE,
					 "FILE: too many; give at most %d", BASELINE_HOSTS_MAX);
		r = cpu_file_read(*paths, &hosts->files[hosts->count], err);
		if (r < 0)
			return r;
		hosts->count++;
	}
	return 0;
}

static json_t *notes_json(const struct hosts *hosts, const struct baseline *baseline)
{
	json_t *list = json_array();

	for (size_t i = 0; i < baseline->n_notes; i++)
		json_array_append_new(list, json_pack("{s:s, s:s, s:s}", "host",
						      hosts->files[baseline->notes[i].host].host,
						      "model", model_name(baseline->notes[i].model),
						      "lacks", baseline->notes[i].what));
	return list;
}

static void print_baseline_json(const struct hosts *hosts, const struct baseline *baseline)
{
	json_auto_t *answer =
		json_pack("{s:s, s:b, s:i, s:o}", "model", model_name(baseline->model),
			  "vendors_differ", (int)baseline->vendors_differ, "address_bits",
			  (int)baseline->address_bits, "notes", notes_json(hosts, baseline));
	_cleanup_(freep) char *text = answer ? json_dumps(answer, JSON_INDENT(2)) : NULL;

	puts(text ? text : "null");
}

/* One line for all that one machine lacks for one model; returns how many notes that were. */
static size_t print_notes(const struct hosts *hosts, const struct baseline_note *notes,
			  size_t count)
{
	size_t n = 0;

	printf("  %s lacks", hosts->files[notes[0].host].host);
	for (; n < count && notes[n].host == notes[0].host && notes[n].model == notes[0].model; n++)
		printf("%s %s", n ? "," : "", notes[n].what);
	if (notes[0].model == CPU_MODEL_HOST)
		puts(", which others have against attacks by speculation");
	else
		printf(", so it cannot run model=%s\n", model_name(notes[0].model));
	return n;
}

static void print_baseline(const struct hosts *hosts, const struct baseline *baseline)
{
	const char *where = hosts->count == 1 ? "this machine" : "all of these machines";

	if (baseline->vendors_differ)
		puts("The processors have different makers: no VM can move between all of these machines.");
	else if (baseline->model == CPU_MODEL_HOST)
		printf("No fixed model runs on %s: with model=host a VM moves only to a host that has all that its own has.\n",
		       where);
	else
		printf("--cpus N,model=%s runs on %s, with physical addresses of %u bits.\n",
		       model_name(baseline->model), where, baseline->address_bits);
	for (size_t i = 0; i < baseline->n_notes;)
		i += print_notes(hosts, &baseline->notes[i], baseline->n_notes - i);
	if (baseline->notes_cut)
		puts("  and more");
}

static int compute(const struct hosts *hosts, bool json)
{
	_cleanup_(freep) struct baseline *baseline = calloc(1, sizeof(*baseline));
	struct baseline_host inputs[BASELINE_HOSTS_MAX];
	struct error err = { 0 };
	int r;

	for (size_t i = 0; i < hosts->count; i++)
		inputs[i] = (struct baseline_host){ hosts->files[i].host, hosts->files[i].cpuid };
	r = baseline ? cpu_baseline(inputs, hosts->count, baseline) : -ENOMEM;
	if (r < 0) {
		error_set(&err, r, EXIT_STATUS_FAILED, "cpu-baseline: %s; try again", strerror(-r));
		return tell(&err);
	}
	if (json)
		print_baseline_json(hosts, baseline);
	else
		print_baseline(hosts, baseline);
	return EXIT_STATUS_OK;
}

static int show_this_host(struct error *err)
{
	struct cpu_file file = { 0 };
	json_auto_t *json = NULL;
	_cleanup_(freep) char *text = NULL;
	int r = cpu_file_here(&file, err);

	if (r < 0)
		return r;
	json = cpu_file_encode(&file);
	text = json ? json_dumps(json, JSON_COMPACT) : NULL;
	cpu_file_release(&file);
	if (!text)
		return error_set(err, -ENOMEM, EXIT_STATUS_HOST,
				 "out of memory; free some and try again");
	puts(text);
	return 0;
}

int compute_baseline(struct invocation *invocation)
{
	_cleanup_(freep) struct hosts *hosts = calloc(1, sizeof(*hosts));
	struct error err = { 0 };
	int status = EXIT_STATUS_HOST;

	if (invocation->options.show)
		return show_this_host(&err) < 0 ? tell(&err) : EXIT_STATUS_OK;
	if (!hosts)
		return status;
	if (read_hosts(invocation->rest, hosts, &err) < 0)
		status = tell(&err);
	else
		status = compute(hosts, invocation->options.json);
	for (size_t i = 0; i < hosts->count; i++)
		cpu_file_release(&hosts->files[i]);
	return status;
}
