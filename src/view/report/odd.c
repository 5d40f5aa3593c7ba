/* SPDX-License-Identifier: Apache-2.0 */
/* What is odd as a sentence for people, and as a filter that shows it. */
#include <inttypes.h>
#include <string.h>

#include "view/report/report.h"
#include "watch/read/instruction.h"

#define NAME_CHARS "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._:-"

const char *report_device_name(const struct report *report, uint16_t device)
{
	return source_device_name(report->view->source, device);
}

void report_address(const struct analysis_odd *odd, char *ret_text, size_t size)
{
	snprintf(ret_text, size, "%s 0x%" PRIx64, odd->kind == RECORD_PIO ? "port" : "address",
		 odd->address);
}

void report_instruction(const struct report *report, uint64_t address, char *ret_text, size_t size)
{
	char found[128], symbol[128];

	if (!address) {
		snprintf(ret_text, size, "an instruction that is not known");
		return;
	}
	symbol[0] = '\0';
	if (symbols_find(report->view->symbols, address, found, sizeof(found)))
		view_copy_text(found, symbol, sizeof(symbol));
	snprintf(ret_text, size, "0x%" PRIx64 "%s%s", address, symbol[0] ? " " : "", symbol);
}

bool report_is_sure(const struct analysis_site *site)
{
	switch (site->verdict) {
	case RECORD_INSN_ON:
	case RECORD_INSN_BEFORE:
	case RECORD_INSN_PAIRED:
	case RECORD_INSN_STEPPED:
		return true;
	default:
		return false;
	}
}

void report_disassembly(const struct analysis_site *site, char *ret_text, size_t size)
{
	ret_text[0] = '\0';
	if (!site->n_code ||
	    !insn_format(site->code, site->n_code, site->mode, site->instruction, ret_text, size))
		ret_text[0] = '\0';
}

double report_seconds(const struct analysis_window *window)
{
	return (double)(window->end_ns - window->begin_ns) / NSEC_PER_SEC;
}

double report_rate(const struct analysis_window *window, uint64_t count)
{
	double seconds = report_seconds(window);

	return seconds > 0 ? (double)count / seconds : 0;
}

/* Sentences. `device` is its name, `where` the register. */

struct sentence {
	const struct report *report;
	const struct analysis_odd *odd;
	char device[64], where[64];
};

static void say_polling(const struct sentence *s, char *ret_text, size_t size)
{
	char instruction[256];

	report_instruction(s->report, s->odd->instruction, instruction, sizeof(instruction));
	snprintf(ret_text, size,
		 "%s reads %s of %s over and over: %" PRIu64
		 " times the same answer again, 0x%" PRIx64 ", and nothing between",
		 instruction, s->where, s->device, s->odd->count, s->odd->data);
}

static void say_storm(const struct sentence *s, char *ret_text, size_t size)
{
	snprintf(ret_text, size, "%s of %s is written %" PRIu64 " times", s->where, s->device,
		 s->odd->count);
}

static void say_unclaimed(const struct sentence *s, char *ret_text, size_t size)
{
	snprintf(ret_text, size,
		 "no device answers at %s: %" PRIu64 " %s; the driver expects something there",
		 s->where, s->odd->count, s->odd->count == 1 ? "access" : "accesses");
}

static void say_errors(const struct sentence *s, char *ret_text, size_t size)
{
	const struct watch_record last = { .kind = s->odd->kind, .status = s->odd->status };

	snprintf(ret_text, size, "%" PRIu64 " %s of %s failed, the last one with %s", s->odd->count,
		 s->odd->count == 1 ? "request" : "requests", s->device, view_status_name(&last));
}

static bool is_access(const struct analysis_odd *odd)
{
	return odd->kind == RECORD_PIO || odd->kind == RECORD_MMIO;
}

static void say_slow(const struct sentence *s, char *ret_text, size_t size)
{
	char p50[64], p99[64];

	view_format_ns(s->odd->p50_ns, p50, sizeof(p50));
	view_format_ns(s->odd->p99_ns, p99, sizeof(p99));
	snprintf(ret_text, size,
		 "one %s in 100 of %s takes %s or longer, though half of them take %s at most",
		 is_access(s->odd) ? "access" : "request", s->device, p99, p50);
}

void report_odd(const struct report *report, const struct analysis_odd *odd, char *ret_text,
		size_t size)
{
	static void (*const says[ODD_KINDS])(const struct sentence *s, char *ret_text,
					     size_t size) = {
		[ODD_POLLING] = say_polling,	 [ODD_STORM] = say_storm,
		[ODD_UNCLAIMED] = say_unclaimed, [ODD_ERRORS] = say_errors,
		[ODD_SLOW] = say_slow,
	};
	struct sentence s = { .report = report, .odd = odd };

	view_copy_text(report_device_name(report, odd->device), s.device, sizeof(s.device));
	report_address(odd, s.where, sizeof(s.where));
	says[odd->what % ODD_KINDS](&s, ret_text, size);
}

/* Filters. */

static void add(char *text, size_t size, const char *condition)
{
	size_t used = strlen(text);

	snprintf(text + used, size - used, "%s%s", used ? " && " : "", condition);
}

/* A name that the language would not take as one is left out. */
static void add_device(const struct report *report, const struct analysis_odd *odd, char *text,
		       size_t size)
{
	const char *name = report_device_name(report, odd->device);
	char condition[64];

	if (odd->device == STORE_NO_DEVICE || name[strspn(name, NAME_CHARS)] || !strcmp(name, "-"))
		return;
	snprintf(condition, sizeof(condition), "dev==%s", name);
	add(text, size, condition);
}

static void add_register(const struct analysis_odd *odd, char *text, size_t size)
{
	char condition[64];

	snprintf(condition, sizeof(condition), "%s==0x%" PRIx64,
		 odd->kind == RECORD_PIO ? "port" : "address", odd->address);
	add(text, size, condition);
}

void report_filter(const struct report *report, const struct analysis_odd *odd, char *ret_text,
		   size_t size)
{
	char condition[64];

	ret_text[0] = '\0';
	add_device(report, odd, ret_text, size);
	switch (odd->what) {
	case ODD_POLLING:
	case ODD_STORM:
		add_register(odd, ret_text, size);
		add(ret_text, size, odd->write ? "out" : "in");
		break;
	case ODD_UNCLAIMED:
		add(ret_text, size, "unclaimed");
		add_register(odd, ret_text, size);
		break;
	case ODD_ERRORS:
		add(ret_text, size, "failed");
		break;
	default:
		snprintf(condition, sizeof(condition), "%s && latency>=%" PRIu64 "us",
			 is_access(odd) ? "access" : "request",
			 (uint64_t)(odd->p99_ns / NSEC_PER_USEC));
		add(ret_text, size, condition);
	}
}
