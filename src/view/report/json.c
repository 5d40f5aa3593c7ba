/* SPDX-License-Identifier: Apache-2.0 */
/* The report for programs: {"watch": {...}}, then {"window": {...}} for each, and {"total": {...}}, one on each line. */
#include <errno.h>
#include <inttypes.h>
#include <jansson.h>
#include <string.h>

#include "base/cleanup.h"
#include "view/json.h"
#include "view/report/report.h"

#define ABOUT_MAX 8192
#define NUMBER_MAX (UINT64_C(1) << 53)
#define FLAGS (JSON_COMPACT | JSON_ENSURE_ASCII | JSON_REAL_PRECISION(4))

/* A json_set whose failure is told at the end, once. */
struct builder {
	const struct report *report;
	bool failed;
};

static void set(struct builder *b, json_t *object, const char *key, json_t *value)
{
	if (json_object_set_new(object, key, value) < 0)
		b->failed = true;
}

static void append(struct builder *b, json_t *array, json_t *value)
{
	if (json_array_append_new(array, value) < 0)
		b->failed = true;
}

/* As in view/json.c: what a reader that counts in doubles would round is a text. */
static json_t *number(uint64_t value)
{
	char text[24];

	if (value <= NUMBER_MAX)
		return json_integer((json_int_t)value);
	snprintf(text, sizeof(text), "%" PRIu64, value);
	return json_string(text);
}

static json_t *hex(uint64_t value)
{
	char text[24];

	snprintf(text, sizeof(text), "0x%" PRIx64, value);
	return json_string(text);
}

/* null: not known. */
static json_t *share(double value)
{
	return value < 0 ? json_null() : json_real(value);
}

static json_t *device_name(struct builder *b, uint16_t device)
{
	char text[64];

	view_copy_text(report_device_name(b->report, device), text, sizeof(text));
	return json_string(text);
}

static json_t *make_latency(struct builder *b, const struct latency *latency)
{
	static const struct {
		const char *key;
		unsigned int permille;
	} percentiles[] = { { "p50_ns", 500 }, { "p90_ns", 900 }, { "p99_ns", 990 } };
	json_t *object = json_object();

	for (size_t i = 0; i < ARRAY_SIZE(percentiles); i++)
		set(b, object, percentiles[i].key,
		    number(latency_percentile(latency, percentiles[i].permille)));
	set(b, object, "max_ns", number(latency->max_ns));
	set(b, object, "mean_ns", number(latency->count ? latency->sum_ns / latency->count : 0));
	return object;
}

static json_t *make_operations(struct builder *b, const struct analysis_device *device)
{
	json_t *object = json_object();

	for (uint8_t i = 0; i <= RECORD_DISK_OTHER; i++) {
		const struct watch_record record = { .kind = RECORD_DISK, .operation = i };

		if (device->operations[i])
			set(b, object, view_operation_name(&record), number(device->operations[i]));
	}
	return object;
}

static json_t *make_requests(struct builder *b, const struct analysis_device *device)
{
	json_t *object = json_object();

	set(b, object, "count", number(device->requests));
	set(b, object, "bytes", number(device->request_bytes));
	set(b, object, "failed", number(device->failed));
	if (device->role == ROLE_DISK) {
		set(b, object, "operations", make_operations(b, device));
		set(b, object, "moves", number(device->moves));
		set(b, object, "sequential", number(device->sequential));
	} else {
		set(b, object, "in", number(device->received));
		set(b, object, "out", number(device->sent));
	}
	set(b, object, "latency", make_latency(b, &device->request_latency));
	return object;
}

static json_t *make_accesses(struct builder *b, const struct analysis_device *device)
{
	json_t *object = json_object();

	set(b, object, "count", number(device->accesses));
	set(b, object, "reads", number(device->reads));
	set(b, object, "writes", number(device->writes));
	set(b, object, "bytes", number(device->bytes));
	set(b, object, "latency", make_latency(b, &device->access_latency));
	return object;
}

static json_t *make_devices(struct builder *b, const struct analysis_window *window)
{
	json_t *array = json_array();

	for (uint32_t i = 0; i < window->n_devices; i++) {
		const struct analysis_device *device = &window->devices[i];
		json_t *object;

		if (!device->accesses && !device->requests)
			continue;
		object = json_object();
		set(b, object, "device", device_name(b, device->device));
		set(b, object, "busy", share(device->busy));
		set(b, object, "period_ns", number(device->period_ns));
		set(b, object, "period_permille", number(device->period_permille));
		if (device->requests)
			set(b, object, "requests", make_requests(b, device));
		if (device->accesses)
			set(b, object, "accesses", make_accesses(b, device));
		append(b, array, object);
	}
	return array;
}

static json_t *make_vcpus(struct builder *b, const struct analysis_window *window)
{
	json_t *array = json_array();

	for (uint32_t i = 0; i < window->n_vcpus; i++) {
		json_t *object = json_object();

		set(b, object, "cpu", share(window->cpu_share[i]));
		set(b, object, "monitor", share(window->monitor_share[i]));
		append(b, array, object);
	}
	return array;
}

static json_t *make_shares(struct builder *b, const struct analysis_shares *shares)
{
	json_t *object = json_object();

	set(b, object, "cpu", share(shares->cpu_known ? shares->cpu : -1));
	set(b, object, "monitor", share(shares->monitor));
	set(b, object, "console", share(shares->console));
	set(b, object, "disk", share(shares->disk));
	set(b, object, "net", share(shares->net));
	return object;
}

static json_t *make_sites(struct builder *b, const struct analysis_window *window)
{
	const struct analysis_times *times = &b->report->view->times;
	json_t *array = json_array();

	for (uint32_t i = 0; i < window->n_sites; i++) {
		const struct analysis_site *site = &window->sites[i];
		uint64_t own = MAX(site->count - site->over, 1);
		json_t *object = json_object();
		char text[256];

		set(b, object, "instruction", hex(site->instruction));
		set(b, object, "verdict", json_string(view_verdict_name(site->verdict)));
		report_disassembly(site, text, sizeof(text));
		set(b, object, "text", json_string(text));
		if (symbols_find(b->report->view->symbols, site->instruction, text, sizeof(text))) {
			view_copy_text(text, text, sizeof(text));
			set(b, object, "symbol", json_string(text));
		}
		set(b, object, "device", device_name(b, site->device));
		set(b, object, "count", number(site->count));
		set(b, object, "over", number(site->over));
		set(b, object, "mean_ns", number(times->ticks_ns(times->ctx, site->ticks / own)));
		append(b, array, object);
	}
	return array;
}

static json_t *make_odd(struct builder *b, const struct analysis_window *window)
{
	json_t *array = json_array();

	for (uint32_t i = 0; i < window->n_odd; i++) {
		const struct analysis_odd *odd = &window->odd[i];
		json_t *object = json_object();
		char text[512];

		set(b, object, "what", json_string(analysis_oddity_name(odd->what)));
		set(b, object, "device", device_name(b, odd->device));
		set(b, object, "count", number(odd->count));
		report_odd(b->report, odd, text, sizeof(text));
		set(b, object, "text", json_string(text));
		report_filter(b->report, odd, text, sizeof(text));
		set(b, object, "filter", json_string(text));
		append(b, array, object);
	}
	return array;
}

static json_t *make_period(struct builder *b, const struct analysis_window *window)
{
	json_t *object;

	if (!window->period_ns)
		return json_null();
	object = json_object();
	set(b, object, "ns", number(window->period_ns));
	set(b, object, "permille", number(window->period_permille));
	set(b, object, "device", device_name(b, window->period_device));
	return object;
}

static json_t *make_window(struct builder *b, const struct analysis_window *window)
{
	const struct analysis_rule *rule = analysis_rule_of(window->bound);
	json_t *object = json_object();

	set(b, object, "begin_us", number(window->begin_ns / NSEC_PER_USEC));
	set(b, object, "end_us", number(window->end_ns / NSEC_PER_USEC));
	set(b, object, "records", number(window->records));
	set(b, object, "lost", number(window->lost));
	set(b, object, "bound", json_string(rule->name));
	set(b, object, "rule", json_string(rule->when));
	set(b, object, "shares", make_shares(b, &window->shares));
	set(b, object, "vcpus", make_vcpus(b, window));
	set(b, object, "period", make_period(b, window));
	set(b, object, "devices", make_devices(b, window));
	set(b, object, "instructions", make_sites(b, window));
	set(b, object, "odd", make_odd(b, window));
	return object;
}

struct sink {
	struct output *output;
	int result;
};

/* It may be longer than the output's buffer. */
static int write_part(const char *text, size_t len, void *ctx)
{
	struct sink *sink = ctx;
	struct output *output = sink->output;

	while (len && sink->result == 0) {
		size_t n = MIN(len, OUTPUT_BYTES - output->len);

		memcpy(output->data + output->len, text, n);
		output->len += n;
		text += n;
		len -= n;
		if (len)
			sink->result = output_flush(output);
	}
	return sink->result;
}

static int show(struct report *report, const char *key, const struct analysis_window *window)
{
	struct builder b = { .report = report };
	json_t *line = json_object();
	struct sink sink = { .output = &report->output };
	int r = 0;

	set(&b, line, key, make_window(&b, window));
	if (b.failed || json_dump_callback(line, write_part, &sink, FLAGS) < 0)
		r = sink.result ? sink.result : -ENOMEM;
	json_decref(line);
	return r < 0 ? r : output_line(&report->output, "", 0);
}

static int begin(struct report *report)
{
	char text[ABOUT_MAX];

	return output_line(&report->output, text,
			   view_json_about(report->view, text, sizeof(text)));
}

static int show_window(struct report *report, const struct analysis_window *window)
{
	return show(report, "window", window);
}

static int show_total(struct report *report, const struct analysis_window *window)
{
	char text[256];
	int r = show(report, "total", window);

	if (r < 0)
		return r;
	return output_line(&report->output, text, view_json_end(report->view, text, sizeof(text)));
}

const struct report_format report_json = { begin, show_window, show_total };
