/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * `utsusu watch NAME --report`: what requests tell (watch/analysis/analysis.h), by windows as they pass and in total at the end.
 *
 *   view_next_any --> analysis of the window under way --> a line, or an object
 *                 \-> analysis of all                  --> the report at the end
 *
 * report.c feeds, text.c and json.c write, odd.c makes sentences.
 */

#include "view/output.h"
#include "view/view.h"

struct report {
	struct view_context *view; /* borrowed */
	struct analysis *windows;  /* NULL: only the total was asked for */
	struct analysis *total;
	struct analysis_window *window; /* the one to write */
	uint64_t lost;			/* told to the analyses so far */
	bool named[STORE_DEVICES_MAX];
	bool begun; /* something was written */
	struct output output;
};

/* Two ways to write. Each returns 0 or what output_line does. */
struct report_format {
	int (*begin)(struct report *report);
	int (*window)(struct report *report, const struct analysis_window *window);
	int (*total)(struct report *report, const struct analysis_window *window);
};
extern const struct report_format report_text, report_json;

/* A line for people. */
_must_check_ int report_line(struct report *report, const char *format, ...) _printf_(2, 3);

const char *report_device_name(const struct report *report, uint16_t device);
/* "port 0x3f8", "address 0xfebd0010". */
void report_address(const struct analysis_odd *odd, char *ret_text, size_t size);
/* "0xffffffff81234567 serial8250_start_tx+0x12"; "an instruction that is not known" for 0. */
void report_instruction(const struct report *report, uint64_t address, char *ret_text, size_t size);
/* A site's code in Intel syntax; "" when it is not known. */
void report_disassembly(const struct analysis_site *site, char *ret_text, size_t size);
/* Whether a site's instruction is known for certain. */
bool report_is_sure(const struct analysis_site *site);
/* A sentence, and the filter that shows the requests meant. 512 bytes are enough for either. */
void report_odd(const struct report *report, const struct analysis_odd *odd, char *ret_text,
		size_t size);
void report_filter(const struct report *report, const struct analysis_odd *odd, char *ret_text,
		   size_t size);
/* Of a window's length, per second; 0 when it has none. */
double report_rate(const struct analysis_window *window, uint64_t count);
double report_seconds(const struct analysis_window *window);
