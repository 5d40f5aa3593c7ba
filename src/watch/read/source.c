/* SPDX-License-Identifier: Apache-2.0 */

/* What all sources have: the judged copy of a header, names, times, records made safe. */

#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "watch/read/source_internal.h"

void source_clean_text(char *text, size_t size)
{
	text[size - 1] = 0;
	for (; *text; text++)
		if (*text < ' ' || *text > '~')
			*text = '?';
}

static bool shape_is_valid(const struct store_header *header)
{
	const uint32_t n = header->ring_records;

	return header->n_rings && header->n_rings <= STORE_RINGS_MAX && n &&
	       n <= STORE_RING_RECORDS_MAX && !(n & (n - 1)) &&
	       header->record_size == sizeof(struct watch_record);
}

int source_check_header(struct store_header *header)
{
	if (header->magic != STORE_MAGIC)
		return -EPROTO;
	if (header->version != STORE_VERSION)
		return -EPROTONOSUPPORT;
	if (!shape_is_valid(header))
		return -EPROTO;
	header->n_devices = MIN(header->n_devices, (uint32_t)STORE_DEVICES_MAX);
	header->n_vcpus = MIN(header->n_vcpus, header->n_rings);
	header->mode = MIN(header->mode, (uint32_t)STORE_ALL);
	source_clean_text(header->vm, sizeof(header->vm));
	for (uint32_t i = 0; i < STORE_DEVICES_MAX; i++)
		source_clean_text(header->devices[i], STORE_NAME);
	return 0;
}

int source_refuse(int code, const char *what, const char *kind, struct error *err)
{
	if (code == -ENODATA || code == -EPROTO)
		return error_set(err, -EPROTO, EXIT_STATUS_RESOURCE, "%s: this is no %s", what,
				 kind);
	if (code == -EPROTONOSUPPORT)
		return error_set(err, code, EXIT_STATUS_RESOURCE,
				 "%s: this %s is of another version; read it with the utsusu that "
				 "wrote it",
				 what, kind);
	return error_set(err, code, EXIT_STATUS_RESOURCE, "%s: cannot read the %s: %s", what, kind,
			 strerror(-code));
}

/* ---- records ---- */

static bool is_access(const struct watch_record *record)
{
	return record->kind == RECORD_PIO || record->kind == RECORD_MMIO ||
	       record->kind == RECORD_PCI;
}

static void check_access(struct record_access *access)
{
	if (access->verdict >= RECORD_VERDICTS)
		access->verdict = RECORD_INSN_UNKNOWN;
	if (access->mode != 16 && access->mode != 32 && access->mode != 64)
		access->mode = 0;
	access->n_before = MIN(access->n_before, (uint8_t)RECORD_WINDOW);
	access->n_after = MIN(access->n_after, (uint8_t)RECORD_WINDOW);
	access->length = MIN(access->length, (uint8_t)15);
}

bool source_check_record(struct watch_record *record)
{
	const uint8_t size = record->size;

	if (record->kind == 0 || record->kind >= RECORD_KINDS)
		return false;
	if (size > 8 || (size & (size - 1)))
		record->size = 0;
	if (record->operation > RECORD_DISK_OTHER)
		record->operation = RECORD_DISK_OTHER;
	if (record->device >= STORE_DEVICES_MAX)
		record->device = STORE_NO_DEVICE;
	if (is_access(record))
		check_access(&record->access);
	else if (record->kind == RECORD_NET)
		record->frame.n_bytes = MIN(record->frame.n_bytes, (uint16_t)RECORD_FRAME_BYTES);
	return true;
}

void source_judge(struct watch_source *source, struct watch_record *record, uint32_t ring)
{
	struct judge **judge = &source->judges[ring];

	if (!*judge && is_access(record))
		*judge = judge_new(source->translate, source->read, source->memory);
	if (*judge)
		judge_record(*judge, record);
}

void source_lose(struct watch_source *source, uint64_t n)
{
	if (__builtin_add_overflow(source->lost, n, &source->lost))
		source->lost = UINT64_MAX;
}

/* ---- the interface ---- */

int source_next(struct watch_source *source, struct watch_record *ret_record, uint32_t *ret_ring)
{
	return source->ops->next(source, ret_record, ret_ring);
}

void source_set_ended(struct watch_source *source)
{
	if (source->ops->set_ended)
		source->ops->set_ended(source);
}

void source_release(struct watch_source *source)
{
	for (unsigned int i = 0; i < STORE_RINGS_MAX; i++)
		judge_free(source->judges[i]);
}

void source_free(struct watch_source *source)
{
	if (source)
		source->ops->free(source);
}

uint64_t source_lost(const struct watch_source *source)
{
	return source->lost;
}

bool source_was_expelled(const struct watch_source *source)
{
	return source->expelled;
}

const struct store_header *source_header(struct watch_source *source)
{
	return &source->header;
}

static void refresh(struct watch_source *source)
{
	if (source->ops->refresh)
		source->ops->refresh(source);
}

const char *source_ring_name(struct watch_source *source, uint32_t ring)
{
	if (ring >= source->header.n_rings)
		return "-";
	if (!source->rings[ring][0])
		refresh(source);
	return source->rings[ring][0] ? source->rings[ring] : "-";
}

const char *source_device_name(struct watch_source *source, uint16_t device)
{
	if (device >= STORE_DEVICES_MAX)
		return "-";
	if (device >= source->header.n_devices)
		refresh(source);
	if (device >= source->header.n_devices || !source->header.devices[device][0])
		return "-";
	return source->header.devices[device];
}

/* ---- time ---- */

uint64_t source_ticks_ns(const struct watch_source *source, uint64_t ticks)
{
	const uint64_t hz = source->header.tsc_hz ? source->header.tsc_hz : NSEC_PER_SEC;
	const unsigned __int128 ns = (unsigned __int128)ticks * NSEC_PER_SEC / hz;

	return ns > UINT64_MAX ? UINT64_MAX : (uint64_t)ns;
}

uint64_t source_wall_ns(const struct watch_source *source, uint64_t tsc)
{
	const struct store_header *header = &source->header;
	uint64_t ns;

	if (tsc >= header->anchor_tsc) {
		ns = source_ticks_ns(source, tsc - header->anchor_tsc);
		return header->anchor_wall_ns > UINT64_MAX - ns ? UINT64_MAX
								: header->anchor_wall_ns + ns;
	}
	ns = source_ticks_ns(source, header->anchor_tsc - tsc);
	return header->anchor_wall_ns < ns ? 0 : header->anchor_wall_ns - ns;
}
