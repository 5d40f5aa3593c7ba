/* SPDX-License-Identifier: Apache-2.0 */
#include "protect/epoch_receive.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/endian.h"
#include "move/pages/batch.h"
#include "move/pages/zero.h"

struct epoch_receiver {
	struct frame_reader *reader;
	const struct memory *memory;
	struct epoch_origin origin;
	const struct epoch_sink *sink; /* NULL: no disk */
	struct packer *packer;
	struct page_batch batch;
	uint64_t *seen; /* a bit for each page that came in this epoch */
	uint64_t n_pages;
	uint64_t last; /* number of the last whole one */
	uint64_t sum;
	bool broken;
};

DEFINE_CLEANUP(struct epoch_receiver, epoch_receiver_free, epoch_receiver_freep)

static size_t seen_bytes(const struct epoch_receiver *receiver)
{
	return (receiver->n_pages + 63) / 64 * sizeof(uint64_t);
}

int epoch_receiver_new(struct frame_reader *reader, const struct memory *memory,
		       const struct epoch_origin *origin, const struct epoch_sink *sink,
		       struct epoch_receiver **ret_receiver)
{
	_cleanup_(epoch_receiver_freep) struct epoch_receiver *receiver = calloc(1,
										 sizeof(*receiver));
	int r;

	if (!receiver)
		return -ENOMEM;
	receiver->reader = reader;
	receiver->memory = memory;
	receiver->origin = *origin;
	receiver->sink = sink;
	receiver->n_pages = memory->size / MEMORY_PAGE_SIZE;
	receiver->seen = malloc(seen_bytes(receiver));
	r = receiver->seen ? page_batch_init(&receiver->batch) : -ENOMEM;
	if (r == 0)
		r = packer_new(&receiver->packer);
	if (r < 0)
		return r;
	*ret_receiver = TAKE_PTR(receiver);
	return 0;
}

void epoch_receiver_free(struct epoch_receiver *receiver)
{
	if (!receiver)
		return;
	page_batch_release(&receiver->batch);
	packer_free(receiver->packer);
	free(receiver->seen);
	free(receiver);
}

static int bad(struct error *err, const char *what, uint64_t value)
{
	return error_set(err, -EBADMSG, EXIT_STATUS_FAILED, "protect: %s: %llu", what,
			 (unsigned long long)value);
}

/* ---- pages ---- */

/* Room for one more page, which did not come yet in this epoch. */
static int stage(struct epoch_receiver *receiver, struct epoch *epoch, uint64_t page,
		 uint8_t **ret_content, struct error *err)
{
	uint64_t *word = &receiver->seen[page / 64], bit = 1ULL << (page % 64);

	if (*word & bit || epoch->n_pages == epoch->max_pages)
		return bad(err, "a page came twice in one epoch", page);
	*word |= bit;
	*ret_content = epoch_content(epoch, epoch->n_pages);
	epoch->pages[epoch->n_pages++] = page;
	return 0;
}

/* The pages whose numbers the batch has, from `content`. */
static int stage_pages(struct epoch_receiver *receiver, struct epoch *epoch, const uint8_t *content,
		       bool deltas, struct error *err)
{
	for (uint32_t i = 0; i < receiver->batch.n; i++) {
		const uint64_t page = receiver->batch.pages[i];
		uint8_t *to;
		int r = stage(receiver, epoch, page, &to, err);

		if (r < 0)
			return r;
		memcpy(to, content + i * MEMORY_PAGE_SIZE, MEMORY_PAGE_SIZE);
		if (deltas)
			(void)page_xor(to, epoch_page(receiver->memory, page));
		receiver->sum += epoch_sum(page, to);
	}
	return 0;
}

static int take_packed(struct epoch_receiver *receiver, struct epoch *epoch, bool deltas,
		       const struct frame *frame, struct error *err)
{
	int r = packer_unpack(receiver->packer, receiver->reader->payload.data, frame->len,
			      receiver->n_pages, &receiver->batch, err);

	return r < 0 ? r : stage_pages(receiver, epoch, receiver->batch.content, deltas, err);
}

/* Unchecked, so what it holds may be anything: END judges. */
static int take_pages(struct epoch_receiver *receiver, struct epoch *epoch,
		      const struct frame *frame, struct error *err)
{
	struct cursor in = { .data = receiver->reader->payload.data, .left = frame->len };
	int r = page_numbers_take(&in, receiver->n_pages, &receiver->batch, err);

	if (r < 0)
		return r;
	if (in.left != receiver->batch.n * MEMORY_PAGE_SIZE)
		return bad(err, "pages of an impossible length", frame->len);
	return stage_pages(receiver, epoch, in.data, false, err);
}

static int take_zeroes(struct epoch_receiver *receiver, struct epoch *epoch,
		       const struct frame *frame, struct error *err)
{
	struct cursor in = { .data = receiver->reader->payload.data, .left = frame->len };

	if (!in.left || in.left % ZERO_RANGE_BYTES)
		return bad(err, "zeroes of an impossible length", frame->len);
	while (in.left) {
		const uint64_t first = cursor_take_le(&in, 8), n = cursor_take_le(&in, 4);

		if (!n || first >= receiver->n_pages || n > receiver->n_pages - first)
			return bad(err, "zeroes beyond RAM", first);
		for (uint64_t page = first; page < first + n; page++) {
			uint8_t *content;
			int r = stage(receiver, epoch, page, &content, err);

			if (r < 0)
				return r;
			memset(content, 0, MEMORY_PAGE_SIZE);
			receiver->sum += epoch_sum(page, content);
		}
	}
	return 0;
}

/* ---- disks ---- */

static int take_write(struct epoch_receiver *receiver, const struct epoch *epoch,
		      const struct frame *frame, struct error *err)
{
	const struct epoch_sink *sink = receiver->sink;
	const uint8_t *bytes = receiver->reader->payload.data;
	struct journal_write write;
	uint64_t data;

	if (frame->len < PROTECT_WRITE_BYTES)
		return bad(err, "a write of an impossible length", frame->len);
	write = (struct journal_write){
		.kind = (enum journal_kind)le_load(bytes + 4, 4),
		.disk = (uint32_t)le_load(bytes, 4),
		.offset = le_load(bytes + 8, 8),
		.len = le_load(bytes + 16, 8),
		.data = bytes + PROTECT_WRITE_BYTES,
	};
	data = write.kind == JOURNAL_WRITE ? write.len : 0;
	if (!sink || !journal_write_is_on(&write, sink->n_disks, sink->disk_bytes))
		return bad(err, "a write that fits no disk, at", write.offset);
	if (data > PROTECT_WRITE_MAX || frame->len != PROTECT_WRITE_BYTES + data)
		return bad(err, "a write of an impossible length", frame->len);
	return sink->write(sink->ctx, epoch->number, &write, err);
}

/* ---- an epoch ---- */

static int lost(struct error *err, int r)
{
	if (r == -ENODATA)
		r = -ECONNRESET;
	return error_set(err, r, EXIT_STATUS_FAILED, "protect: the owner is not heard any more: %s",
			 strerror(-r));
}

static int next_frame(struct epoch_receiver *receiver, struct frame *ret_frame, struct error *err)
{
	int r = frame_receive(receiver->reader, ret_frame, err);
	bool checked;

	if (r == -EBADMSG || r == -EMSGSIZE) /* told */
		return r;
	if (r < 0)
		return lost(err, r);
	checked = ret_frame->flags & FRAME_CHECKED;
	if (checked != (ret_frame->kind != PROTECT_PAGES))
		return bad(err, "a frame of the wrong form, of kind", ret_frame->kind);
	if (checked)
		return 0;
	r = frame_receive_rest(receiver->reader, ret_frame);
	return r < 0 ? lost(err, r) : 0;
}

static int take_begin(struct epoch_receiver *receiver, const struct frame *frame,
		      struct epoch *epoch, struct error *err)
{
	const uint8_t *bytes = receiver->reader->payload.data;

	if (frame->kind != PROTECT_EPOCH || frame->len != PROTECT_EPOCH_BYTES ||
	    !(frame->flags & FRAME_CHECKED))
		return bad(err, "an epoch should begin, but there came a frame of kind",
			   frame->kind);
	epoch->number = le_load(bytes + 24, 8);
	epoch->released = le_load(bytes + 32, 8);
	if (le_load(bytes, 8) != receiver->origin.generation ||
	    memcmp(bytes + 8, receiver->origin.session.bytes, PROTECT_SESSION_BYTES) != 0)
		return error_set(err, -ESTALE, EXIT_STATUS_FAILED,
				 "protect: an epoch of another session came; protect the VM again");
	if (epoch->number <= receiver->last || epoch->released >= epoch->number)
		return error_set(err, -ESTALE, EXIT_STATUS_FAILED,
				 "protect: epoch %llu (released: %llu) came after epoch %llu",
				 (unsigned long long)epoch->number,
				 (unsigned long long)epoch->released,
				 (unsigned long long)receiver->last);
	return 0;
}

static int take_state(struct epoch_receiver *receiver, struct epoch *epoch,
		      const struct frame *frame, struct error *err)
{
	int r = buffer_append(&epoch->state, receiver->reader->payload.data, frame->len);

	return r < 0 ? error_set(err, r, EXIT_STATUS_FAILED, "protect: a state of over %llu bytes",
				 (unsigned long long)epoch->state.len)
		     : 0;
}

static int judge_end(const struct epoch_receiver *receiver, const struct epoch *epoch,
		     bool state_ended, const struct frame *frame, struct error *err)
{
	const uint8_t *bytes = receiver->reader->payload.data;

	if (frame->len != PROTECT_END_BYTES || le_load(bytes, 8) != epoch->number || !state_ended)
		return bad(err, "an end that fits not this epoch", epoch->number);
	if (le_load(bytes + 8, 8) != epoch->n_pages || le_load(bytes + 16, 8) != receiver->sum)
		return bad(err, "pages are not as they were sent in epoch", epoch->number);
	return 1;
}

/* 1: that was the end. */
static int take_frame(struct epoch_receiver *receiver, struct epoch *epoch,
		      const struct frame *frame, bool *state_ended, struct error *err)
{
	if (*state_ended && frame->kind != PROTECT_END)
		return bad(err, "behind an epoch's state came a frame of kind", frame->kind);
	switch (frame->kind) {
	case PROTECT_ZEROES:
		return take_zeroes(receiver, epoch, frame, err);
	case PROTECT_PAGES:
		return take_pages(receiver, epoch, frame, err);
	case PROTECT_PACKED:
	case PROTECT_DELTAS:
		return take_packed(receiver, epoch, frame->kind == PROTECT_DELTAS, frame, err);
	case PROTECT_HEARTBEAT: /* pages may be long in coming */
		return 0;
	case PROTECT_BYE:
	case PROTECT_LEAVE:
		return error_set(err, -EREMOTEIO, EXIT_STATUS_FAILED, "protect: %.*s",
				 (int)MIN(frame->len, (uint32_t)400),
				 (const char *)receiver->reader->payload.data);
	case PROTECT_WRITE:
		return take_write(receiver, epoch, frame, err);
	case PROTECT_STATE:
		*state_ended = !frame->len;
		return take_state(receiver, epoch, frame, err);
	case PROTECT_END:
		return judge_end(receiver, epoch, *state_ended, frame, err);
	default:
		return bad(err, "in an epoch came a frame of kind", frame->kind);
	}
}

static int is_broken(struct error *err)
{
	return error_set(err, -EPIPE, EXIT_STATUS_FAILED,
			 "protect: the stream of epochs is broken");
}

int epoch_receive_rest(struct epoch_receiver *receiver, const struct frame *first,
		       struct epoch *epoch, struct error *err)
{
	bool state_ended = false;
	struct frame frame;
	int r;

	if (receiver->broken)
		return is_broken(err);
	receiver->sum = 0;
	memset(receiver->seen, 0, seen_bytes(receiver));
	r = take_begin(receiver, first, epoch, err);
	while (r == 0) {
		r = next_frame(receiver, &frame, err);
		if (r == 0)
			r = take_frame(receiver, epoch, &frame, &state_ended, err);
	}
	receiver->broken = r < 0;
	if (r < 0)
		return r;
	receiver->last = epoch->number;
	return 0;
}

int epoch_receive(struct epoch_receiver *receiver, struct epoch *epoch, struct error *err)
{
	struct frame first;
	int r = receiver->broken ? is_broken(err) : next_frame(receiver, &first, err);

	if (r < 0) {
		receiver->broken = true;
		return r;
	}
	return epoch_receive_rest(receiver, &first, epoch, err);
}
