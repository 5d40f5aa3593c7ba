/* SPDX-License-Identifier: Apache-2.0 */
#include <assert.h>
#include <errno.h>
#include <string.h>

#include "base/endian.h"
#include "base/hold.h"

#define MAGIC "UHLD"
#define VERSION 1

struct section {
	uint64_t after, up_to;
};

static bool is_wanted(const struct epoch_item *item, const struct section *section)
{
	return item->epoch > section->after && item->epoch <= section->up_to;
}

static int write_item(struct buffer *out, const struct epoch_item *item, const struct iovec iov[2],
		      unsigned int n)
{
	int r = buffer_append_le(out, item->epoch, 8);

	if (r == 0)
		r = buffer_append_le(out, item->len, 4);
	for (unsigned int i = 0; r == 0 && i < n; i++)
		r = buffer_append(out, iov[i].iov_base, iov[i].iov_len);
	return r;
}

static int write_lane_head(const struct hold_lane *lane, const struct section *section,
			   struct buffer *out)
{
	uint64_t position = lane ? lane->queue.head : 0, gone = lane ? lane->offset : 0;
	uint64_t offset = gone;
	uint32_t n_items = 0;
	struct epoch_item item;
	struct iovec iov[2];
	int r = buffer_append_le(out, gone, 8);

	while (lane && epoch_queue_at(&lane->queue, &position, &item, iov)) {
		offset += item.epoch <= section->after ? item.len : 0;
		n_items += is_wanted(&item, section);
	}
	if (r == 0)
		r = buffer_append_le(out, offset, 8);
	return r < 0 ? r : buffer_append_le(out, n_items, 4);
}

static int write_lane(const struct hold_lane *lane, const struct section *section,
		      struct buffer *out)
{
	uint64_t position = lane ? lane->queue.head : 0;
	struct epoch_item item;
	struct iovec iov[2];
	int r = write_lane_head(lane, section, out);
	unsigned int n;

	while (r == 0 && lane && (n = epoch_queue_at(&lane->queue, &position, &item, iov)))
		if (is_wanted(&item, section))
			r = write_item(out, &item, iov, n);
	return r;
}

static int write_header(const struct section *section, uint16_t kind, unsigned int n_lanes,
			struct buffer *out)
{
	uint8_t header[HOLD_SECTION_HEADER] = MAGIC;

	le_store(header + 4, 2, VERSION);
	le_store(header + 6, 2, kind);
	le_store(header + 8, 4, n_lanes);
	le_store(header + 12, 8, section->after);
	le_store(header + 20, 8, section->up_to);
	return buffer_append(out, header, sizeof(header));
}

int hold_section_write(struct hold_lane *const *lanes, unsigned int n_lanes, uint16_t kind,
		       uint64_t after, uint64_t up_to, struct buffer *out)
{
	const struct section section = { after, up_to };
	size_t before = out->len;
	int r = write_header(&section, kind, n_lanes, out);

	for (unsigned int i = 0; r == 0 && i < n_lanes; i++)
		r = write_lane(lanes[i], &section, out);
	if (r < 0)
		out->len = before;
	return r;
}

size_t hold_section_limit(unsigned int n_lanes, size_t size)
{
	/* An item costs more in the ring than here. */
	return HOLD_SECTION_HEADER + n_lanes * (HOLD_SECTION_LANE + size);
}

/* How far the sections are read, for one lane. */
struct progress {
	uint64_t gone; /* as the last section says */
	uint64_t at;   /* where the next item lies in the stream */
	uint64_t newest;
	size_t room; /* bytes of the ring */
	bool begun;
};

struct reading {
	struct hold_lane *const *lanes;
	unsigned int n_lanes;
	uint16_t kind;
	struct error *err;
	struct progress progress[HOLD_SECTION_LANES];
	bool takes; /* or only judges */
	/* Of the present section. */
	struct cursor in;
	struct section section;
};

static int bad(const struct reading *reading, const char *what)
{
	return error_set(reading->err, -EBADMSG, EXIT_STATUS_FAILED,
			 "held output: %s; the checkpoint is damaged", what);
}

static int read_header(struct reading *reading)
{
	const uint8_t *header = cursor_take(&reading->in, HOLD_SECTION_HEADER);
	struct section *section = &reading->section;

	if (!header || memcmp(header, MAGIC, 4) != 0)
		return bad(reading, "it does not begin as it should");
	if (le_load(header + 4, 2) != VERSION)
		return error_set(reading->err, -EBADMSG, EXIT_STATUS_FAILED,
				 "held output: of another version; "
				 "both hosts need the same version");
	if (le_load(header + 6, 2) != reading->kind || le_load(header + 8, 4) != reading->n_lanes)
		return bad(reading, "it is of another kind of output");
	*section = (struct section){ le_load(header + 12, 8), le_load(header + 20, 8) };
	if (section->after > section->up_to)
		return bad(reading, "its epochs run backwards");
	for (unsigned int i = 0; i < reading->n_lanes; i++)
		if (reading->lanes[i] && section->up_to >= reading->lanes[i]->hold->epoch)
			return bad(reading, "it is of an epoch that is still to come");
	return 0;
}

/* What is left of an item, whose first `skip` bytes had gone before the checkpoint. */
static int take_item(struct reading *reading, unsigned int index, uint64_t epoch,
		     const uint8_t *bytes, size_t len, size_t skip)
{
	struct progress *progress = &reading->progress[index];
	struct hold_lane *lane = reading->lanes[index];
	const struct epoch_item item = { epoch, clock_now(lane->hold->clock), len - skip };
	const struct iovec iov = { (void *)(uintptr_t)(bytes + skip), len - skip };

	if (progress->room < item.len + EPOCH_ITEM_OVERHEAD)
		return error_set(reading->err, -E2BIG, EXIT_STATUS_FAILED,
				 "held output: the checkpoint has more than there is room for "
				 "here; both hosts need the same version and settings");
	progress->room -= item.len + EPOCH_ITEM_OVERHEAD;
	if (reading->takes)
		epoch_queue_put(&lane->queue, &item, &iov, 1);
	return 0;
}

static int read_item(struct reading *reading, unsigned int index)
{
	const struct hold_lane_params *params = &reading->lanes[index]->params;
	struct progress *progress = &reading->progress[index];
	uint64_t epoch = cursor_take_le(&reading->in, 8);
	size_t len = (size_t)cursor_take_le(&reading->in, 4);
	const uint8_t *bytes;
	uint64_t skip;

	if (!len || len > params->longest)
		return bad(reading, "an item has no length that it can have");
	bytes = cursor_take(&reading->in, len);
	if (!bytes)
		return bad(reading, "it ends in an item");
	if (epoch <= reading->section.after || epoch > reading->section.up_to ||
	    epoch < progress->newest)
		return bad(reading, "an item is of an epoch that it cannot be of");
	if (params->is_right && !params->is_right(bytes, len))
		return bad(reading, "an item is none that this output can have");
	skip = progress->gone > progress->at ? MIN(progress->gone - progress->at, len) : 0;
	if (skip && skip < len && !params->splits)
		return bad(reading, "an item had left by half");
	progress->at += len;
	progress->newest = epoch;
	return skip == len ? 0 : take_item(reading, index, epoch, bytes, len, skip);
}

static int read_lane(struct reading *reading, unsigned int index)
{
	struct progress *progress = &reading->progress[index];
	uint64_t gone = cursor_take_le(&reading->in, 8);
	uint64_t offset = cursor_take_le(&reading->in, 8);
	uint32_t n_items = (uint32_t)cursor_take_le(&reading->in, 4);
	int r = 0;

	if (reading->in.bad)
		return bad(reading, "it ends before its last output");
	if (!reading->lanes[index])
		return n_items ? bad(reading, "it has output of a queue that is not there") : 0;
	if (gone > offset || offset > INT64_MAX)
		return bad(reading, "an output begins where it cannot");
	if (progress->begun ? offset != progress->at : offset > progress->gone)
		return bad(reading, "something is missing before it");
	progress->begun = true;
	progress->at = offset;
	while (r == 0 && n_items--)
		r = read_item(reading, index);
	return r;
}

static int read_section(struct reading *reading, const struct iovec *section)
{
	int r;

	reading->in = (struct cursor){ .data = section->iov_base, .left = section->iov_len };
	r = read_header(reading);
	for (unsigned int i = 0; r == 0 && i < reading->n_lanes; i++)
		r = read_lane(reading, i);
	if (r == 0 && reading->in.left)
		r = bad(reading, "something follows its end");
	return r;
}

/* Walks over the last section without judging it, for what had gone when it was written. */
static void find_gone(struct reading *reading, const struct iovec *section)
{
	struct cursor in = { .data = section->iov_base, .left = section->iov_len };

	cursor_take(&in, HOLD_SECTION_HEADER);
	for (unsigned int i = 0; i < reading->n_lanes; i++) {
		uint32_t n_items;

		reading->progress[i].gone = cursor_take_le(&in, 8);
		cursor_take(&in, 8);
		n_items = (uint32_t)cursor_take_le(&in, 4);
		while (n_items-- && !in.bad) {
			cursor_take(&in, 8);
			cursor_take(&in, (size_t)cursor_take_le(&in, 4));
		}
	}
}

static int read_all(struct reading *reading, const struct iovec *sections, unsigned int n,
		    bool takes)
{
	int r = 0;

	memset(reading->progress, 0, sizeof(reading->progress));
	reading->takes = takes;
	find_gone(reading, &sections[n - 1]);
	for (unsigned int i = 0; i < reading->n_lanes; i++)
		reading->progress[i].room = reading->lanes[i] ? reading->lanes[i]->queue.size : 0;
	for (unsigned int i = 0; r == 0 && i < n; i++)
		r = read_section(reading, &sections[i]);
	return r;
}

int hold_section_read(struct hold_lane *const *lanes, unsigned int n_lanes, uint16_t kind,
		      const struct iovec *sections, unsigned int n_sections, struct error *err)
{
	struct reading reading = { .lanes = lanes, .n_lanes = n_lanes, .kind = kind, .err = err };
	int r;

	assert(n_lanes <= HOLD_SECTION_LANES && n_sections);
	for (unsigned int i = 0; i < n_lanes; i++)
		assert(!lanes[i] || !lanes[i]->queue.n_items);
	r = read_all(&reading, sections, n_sections, false);
	if (r == 0)
		r = read_all(&reading, sections, n_sections, true);
	for (unsigned int i = 0; r == 0 && i < n_lanes; i++) {
		if (!lanes[i])
			continue;
		lanes[i]->offset = reading.progress[i].gone;
		hold_lane_publish(lanes[i]);
	}
	return r;
}
