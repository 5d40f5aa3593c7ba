/* SPDX-License-Identifier: Apache-2.0 */
/* Parts of a record as text for people. */
#include <inttypes.h>
#include <string.h>
#include <time.h>

#include "view/view.h"

#define SECTOR 512

void view_copy_text(const char *text, char *ret_text, size_t size)
{
	size_t i = 0;

	for (; text && text[i] && i + 1 < size; i++)
		ret_text[i] = text[i] >= ' ' && text[i] <= '~' ? text[i] : '?';
	if (size)
		ret_text[i] = '\0';
}

void view_format_time(const struct view_context *view, uint64_t tsc, char *ret_text, size_t size)
{
	uint64_t ns = source_wall_ns(view->source, tsc);
	time_t seconds = (time_t)(ns / NSEC_PER_SEC);
	struct tm tm = { 0 };

	localtime_r(&seconds, &tm);
	snprintf(ret_text, size, "%02d:%02d:%02d.%06u", tm.tm_hour, tm.tm_min, tm.tm_sec,
		 (unsigned int)(ns % NSEC_PER_SEC / NSEC_PER_USEC));
}

void view_format_utc(const struct view_context *view, uint64_t tsc, char *ret_text, size_t size)
{
	uint64_t ns = source_wall_ns(view->source, tsc);
	time_t seconds = (time_t)(ns / NSEC_PER_SEC);
	struct tm tm = { 0 };

	gmtime_r(&seconds, &tm);
	snprintf(ret_text, size, "%04d-%02d-%02dT%02d:%02d:%02d.%09uZ", tm.tm_year + 1900,
		 tm.tm_mon + 1, tm.tm_mday, tm.tm_hour, tm.tm_min, tm.tm_sec,
		 (unsigned int)(ns % NSEC_PER_SEC));
}

void view_format_device(const struct view_context *view, const struct watch_record *record,
			char *ret_text, size_t size)
{
	view_copy_text(source_device_name(view->source, record->device), ret_text, size);
}

void view_format_ring(const struct view_context *view, uint32_t ring, char *ret_text, size_t size)
{
	view_copy_text(source_ring_name(view->source, ring), ret_text, size);
}

static void format_pci(uint64_t address, char *ret_text, size_t size)
{
	unsigned int bdf = (unsigned int)(address >> 12 & 0xffff);

	snprintf(ret_text, size, "pci %02x:%02x.%x+0x%x", bdf >> 8, bdf >> 3 & 0x1f, bdf & 7,
		 (unsigned int)(address & 0xfff));
}

void view_format_address(const struct watch_record *record, char *ret_text, size_t size)
{
	switch (record->kind) {
	case RECORD_PIO:
		snprintf(ret_text, size, "port 0x%" PRIx64, record->address);
		break;
	case RECORD_MMIO:
		snprintf(ret_text, size, "mmio 0x%" PRIx64, record->address);
		break;
	case RECORD_PCI:
		format_pci(record->address, ret_text, size);
		break;
	case RECORD_DISK:
		if (record->operation != RECORD_DISK_FLUSH &&
		    record->operation != RECORD_DISK_OTHER) {
			snprintf(ret_text, size, "sector %" PRIu64, record->address / SECTOR);
			break;
		}
		snprintf(ret_text, size, "-");
		break;
	default:
		snprintf(ret_text, size, "-");
	}
}

void view_format_data(const struct watch_record *record, char *ret_text, size_t size)
{
	int digits = 2 * record->size;

	if (!record_is_access(record))
		snprintf(ret_text, size, "%" PRIu64 " bytes", record->data);
	else if (record->size >= 1 && record->size < 8)
		snprintf(ret_text, size, "0x%0*" PRIx64, digits,
			 record->data & ((UINT64_C(1) << (4 * digits)) - 1));
	else
		snprintf(ret_text, size, "0x%016" PRIx64, record->data);
}

void view_format_ns(uint64_t ns, char *ret_text, size_t size)
{
	static const struct {
		uint64_t ns;
		const char *name;
	} units[] = { { NSEC_PER_SEC, "s" }, { NSEC_PER_MSEC, "ms" }, { NSEC_PER_USEC, "us" } };

	for (size_t i = 0; i < ARRAY_SIZE(units); i++) {
		double value = (double)ns / (double)units[i].ns;

		if (ns < units[i].ns)
			continue;
		snprintf(ret_text, size, "%.*f %s",
			 value < 9.995	 ? 2
			 : value < 99.95 ? 1
					 : 0,
			 value, units[i].name);
		return;
	}
	snprintf(ret_text, size, "%" PRIu64 " ns", ns);
}

void view_format_latency(const struct view_context *view, const struct watch_record *record,
			 char *ret_text, size_t size)
{
	view_format_ns(source_ticks_ns(view->source, record->duration), ret_text, size);
}

static const char *name_of(const char *const *names, size_t n, unsigned int index)
{
	return index < n && names[index] ? names[index] : "?";
}

const char *view_kind_name(uint8_t kind)
{
	static const char *const names[] = {
		[RECORD_PIO] = "pio",	[RECORD_MMIO] = "mmio", [RECORD_PCI] = "pci",
		[RECORD_DISK] = "disk", [RECORD_NET] = "net",	[RECORD_QUEUE] = "queue",
		[RECORD_VCPU] = "vcpu",
	};

	return name_of(names, ARRAY_SIZE(names), kind);
}

const char *view_operation_name(const struct watch_record *record)
{
	static const char *const names[] = {
		[RECORD_DISK_READ] = "read",
		[RECORD_DISK_WRITE] = "write",
		[RECORD_DISK_FLUSH] = "flush",
		[RECORD_DISK_DISCARD] = "discard",
		[RECORD_DISK_WRITE_ZEROES] = "write-zeroes",
		[RECORD_DISK_OTHER] = "other",
	};

	if (record->kind == RECORD_DISK)
		return name_of(names, ARRAY_SIZE(names), record->operation);
	return record->flags & RECORD_WRITE ? "out" : "in";
}

const char *view_status_name(const struct watch_record *record)
{
	const char *name;

	if (record->status == 0)
		return "ok";
	/* -INT_MIN is no number. */
	name = record->status < 0 && record->status > -4096 ? strerrorname_np(-record->status)
							    : NULL;
	return name ? name : "error";
}

const char *view_verdict_name(uint8_t verdict)
{
	static const char *const names[] = {
		[RECORD_INSN_NOT_JUDGED] = "not-judged",
		[RECORD_INSN_UNKNOWN] = "unknown",
		[RECORD_INSN_ON] = "on",
		[RECORD_INSN_BEFORE] = "before",
		[RECORD_INSN_PAIRED] = "paired",
		[RECORD_INSN_STEPPED] = "stepped",
		[RECORD_INSN_AMBIGUOUS] = "ambiguous",
	};

	return name_of(names, ARRAY_SIZE(names), verdict);
}

void view_format_mode(const struct view_context *view, char *ret_text, size_t size)
{
	size_t used = (size_t)snprintf(ret_text, size, "%s: mode %s", view->title, view->mode);

	for (size_t i = 0; i < view->n_unseen && used < size; i++)
		used += (size_t)snprintf(ret_text + used, size - used, "%s%s",
					 i ? ", " : "; not seen: ", view->unseen[i]);
	if (used < size && view->filter_text && view->filter_text[0])
		snprintf(ret_text + used, size - used, "; filter: %s", view->filter_text);
}
