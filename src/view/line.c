/* SPDX-License-Identifier: Apache-2.0 */
#include <inttypes.h>
#include <string.h>

#include "view/line.h"

#define PART 64

/* What follows the columns: the instruction, or how the request was answered; then what is special. */
static void format_rest(const struct view_context *view, const struct watch_record *record,
			char *ret_text, size_t size)
{
	static const struct {
		uint8_t flag;
		const char *text;
	} marks[] = {
		{ RECORD_NESTED, "nested" },
		{ RECORD_ALTERED, "altered" },
		{ RECORD_DROPPED, "dropped" },
		{ RECORD_UNCLAIMED, "no device" },
	};
	size_t used;

	if (record_is_access(record))
		view_format_instruction(view, record, ret_text, size);
	else
		snprintf(ret_text, size, "%s", view_status_name(record));
	used = strlen(ret_text);
	for (size_t i = 0; i < ARRAY_SIZE(marks) && used < size; i++)
		if (record->flags & marks[i].flag)
			used += (size_t)snprintf(ret_text + used, size - used, "%s[%s]",
						 used ? " " : "", marks[i].text);
	if (record_is_access(record) && record->repeat && used < size)
		snprintf(ret_text + used, size - used, "%s[element %" PRIu32 "]", used ? " " : "",
			 record->repeat);
}

size_t view_line(const struct view_context *view, const struct watch_record *record, uint32_t ring,
		 char *ret_text, size_t size)
{
	char when[PART], who[PART], device[PART], address[PART], data[PART], latency[PART],
		rest[512];
	size_t len;

	view_format_time(view, record->begin, when, sizeof(when));
	view_format_ring(view, ring, who, sizeof(who));
	view_format_device(view, record, device, sizeof(device));
	view_format_address(record, address, sizeof(address));
	view_format_data(record, data, sizeof(data));
	view_format_latency(view, record, latency, sizeof(latency));
	format_rest(view, record, rest, sizeof(rest));
	snprintf(ret_text, size, "%s  %-14s %-13s %-5s %-19s %-12s %8s  %s", when, who, device,
		 view_operation_name(record), address, data, latency, rest);
	len = strlen(ret_text);
	while (len && ret_text[len - 1] == ' ')
		ret_text[--len] = '\0';
	return len;
}
