/* SPDX-License-Identifier: Apache-2.0 */
/*
 * covers: protect/epoch_receive.c
 *
 * What an owner may send of its epochs: frames that are whole but say what they like, with ends that fit and ends that do not, cut at any byte.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "../unit/stream_memory.h"
#include "frame_peer.h"
#include "move/pages/batch.h"
#include "protect/epoch_receive.h"

#define RAM_BYTES MIB(4)
#define RAM_PAGES (RAM_BYTES / MEMORY_PAGE_SIZE)
#define STREAM_BYTES MIB(4)
#define EPOCHS 4
#define DISK_BYTES MIB(1)

static const struct epoch_origin origin = { .generation = 3, .session = { "session" } };

struct rig {
	struct memory *memory;
	struct epoch epoch;
	struct packer *packer;
	struct page_batch batch;
	struct frame_peer peer;
	/* what an end that fits says */
	uint64_t number, pages, sum;
};

static void *allocate(size_t len)
{
	void *at = calloc(1, len);

	if (!at)
		abort();
	return at;
}

/* Made once: making memory is what would take the time. */
static struct rig *rig_get(void)
{
	static struct rig *rig;
	struct error err = { 0 };

	if (rig)
		return rig;
	rig = allocate(sizeof(*rig));
	frame_peer_init(&rig->peer, STREAM_BYTES);
	if (memory_create(RAM_BYTES, RAM_BYTES / 2, GIB(4), MEMORY_HUGE_OFF, -1, &rig->memory,
			  &err) < 0 ||
	    epoch_init(&rig->epoch, RAM_PAGES) < 0 || packer_new(&rig->packer) < 0 ||
	    page_batch_init(&rig->batch) < 0)
		abort();
	return rig;
}

static void count_page(struct rig *rig, uint64_t page, const void *content)
{
	rig->pages++;
	rig->sum += epoch_sum(page, content);
}

static void add_begin(struct rig *rig, struct cursor *in)
{
	uint8_t bytes[PROTECT_EPOCH_BYTES];

	rig->number = cursor_take_le(in, 1);
	rig->pages = rig->sum = 0;
	le_store(bytes, 8, origin.generation);
	memcpy(bytes + 8, origin.session.bytes, PROTECT_SESSION_BYTES);
	le_store(bytes + 24, 8, rig->number);
	le_store(bytes + 32, 8, cursor_take_le(in, 1));
	put_frame(&rig->peer, PROTECT_EPOCH, FRAME_CHECKED, bytes, sizeof(bytes));
}

/* From the input: n pages that ascend, each of one byte's value. */
static void choose_pages(struct rig *rig, struct cursor *in)
{
	uint64_t page = cursor_take_le(in, 2) % (RAM_PAGES + 8);

	rig->batch.n = (uint32_t)cursor_take_le(in, 1) % 8 + 1;
	for (uint32_t i = 0; i < rig->batch.n; i++) {
		rig->batch.pages[i] = page;
		memset(page_batch_at(&rig->batch, i), (int)cursor_take_le(in, 1), MEMORY_PAGE_SIZE);
		page += 1 + cursor_take_le(in, 1) % 64;
	}
}

static void add_pages(struct rig *rig, struct cursor *in, uint16_t flags)
{
	static uint8_t payload[4 + 8 * (8 + MEMORY_PAGE_SIZE)];
	const struct page_batch *batch = &rig->batch;
	size_t at = 4;

	choose_pages(rig, in);
	le_store(payload, 4, batch->n + (cursor_take_le(in, 1) == 0xff));
	for (uint32_t i = 0; i < batch->n; i++, at += 8) {
		le_store(payload + at, 8, batch->pages[i]);
		count_page(rig, batch->pages[i], page_batch_at(batch, i));
	}
	memcpy(payload + at, batch->content, batch->n * MEMORY_PAGE_SIZE);
	put_frame(&rig->peer, PROTECT_PAGES, flags, payload, at + batch->n * MEMORY_PAGE_SIZE);
}

static void add_packed(struct rig *rig, struct cursor *in, uint16_t kind)
{
	const uint8_t *packed;
	size_t len;

	choose_pages(rig, in);
	if (packer_pack(rig->packer, &rig->batch, &packed, &len) < 0)
		abort();
	for (uint32_t i = 0; i < rig->batch.n && kind == PROTECT_PACKED; i++)
		count_page(rig, rig->batch.pages[i], page_batch_at(&rig->batch, i));
	put_frame(&rig->peer, kind, FRAME_CHECKED, packed, len - (cursor_take_le(in, 1) == 0xff));
}

static void add_zeroes(struct rig *rig, struct cursor *in)
{
	static const uint8_t zeros[MEMORY_PAGE_SIZE] __attribute__((aligned(64)));
	const uint64_t first = cursor_take_le(in, 2) % (RAM_PAGES + 8),
		       n = cursor_take_le(in, 1) % 16;
	uint8_t payload[13];

	le_store(payload, 8, first);
	le_store(payload + 8, 4, n);
	for (uint64_t i = 0; i < n; i++)
		count_page(rig, first + i, zeros);
	put_frame(&rig->peer, PROTECT_ZEROES, FRAME_CHECKED, payload,
		  12 + (cursor_take_le(in, 1) == 0xff));
}

static void add_end(struct rig *rig, struct cursor *in)
{
	const uint8_t lie = (uint8_t)cursor_take_le(in, 1);
	uint8_t bytes[PROTECT_END_BYTES];

	le_store(bytes, 8, rig->number + (lie == 0xff));
	le_store(bytes + 8, 8, rig->pages + (lie == 0xfe));
	le_store(bytes + 16, 8, rig->sum + (lie == 0xfd));
	put_frame(&rig->peer, PROTECT_STATE, FRAME_CHECKED, "", lie == 0xfc);
	put_frame(&rig->peer, PROTECT_END, FRAME_CHECKED, bytes, sizeof(bytes));
}

static void add_write(struct rig *rig, struct cursor *in)
{
	static uint8_t payload[PROTECT_WRITE_BYTES + 8 * STORAGE_SECTOR];
	const uint64_t len = cursor_take_le(in, 1) % 8 * STORAGE_SECTOR;
	const uint8_t lie = (uint8_t)cursor_take_le(in, 1);

	payload[PROTECT_WRITE_BYTES] = lie == 0x7f;
	le_store(payload, 4, cursor_take_le(in, 1) % 3);
	le_store(payload + 4, 4, cursor_take_le(in, 1) % 5);
	le_store(payload + 8, 8, cursor_take_le(in, 2) * STORAGE_SECTOR + (lie == 0xff));
	le_store(payload + 16, 8, len);
	put_frame(&rig->peer, PROTECT_WRITE, FRAME_CHECKED, payload,
		  PROTECT_WRITE_BYTES + (lie < 0x80 ? len : lie == 0xfe));
}

static void add(struct rig *rig, struct cursor *in)
{
	const uint8_t what = (uint8_t)cursor_take_le(in, 1);
	const void *bytes;
	size_t len;

	switch (what & 7) {
	case 0:
		add_begin(rig, in);
		break;
	case 1:
		add_pages(rig, in, what & 0x80 ? FRAME_CHECKED : 0);
		break;
	case 2:
		add_packed(rig, in, what & 0x80 ? PROTECT_DELTAS : PROTECT_PACKED);
		break;
	case 3:
		add_zeroes(rig, in);
		break;
	case 4:
		add_end(rig, in);
		break;
	case 5:
		len = cursor_take_le(in, 1);
		bytes = cursor_take(in, len);
		if (bytes)
			put_frame(&rig->peer, what >> 3, FRAME_CHECKED, bytes, len);
		break;
	case 6: /* no frame at all */
		put(&rig->peer, in->data, in->left & 0xff);
		break;
	default: /* or cut */
		if (what & 0x80) {
			add_write(rig, in);
			break;
		}
		len = cursor_take_le(in, 3);
		rig->peer.len = MIN(rig->peer.len, len);
	}
}

static void assert_sane(const struct epoch *epoch)
{
	uint8_t seen[RAM_PAGES] = { 0 };

	for (uint64_t i = 0; i < epoch->n_pages; i++)
		if (epoch->pages[i] >= RAM_PAGES || seen[epoch->pages[i]]++)
			abort();
}

static int judge_write(void *ctx _unused_, uint64_t epoch _unused_,
		       const struct journal_write *write, struct error *err)
{
	const uint8_t *bytes = write->data;

	if (write->disk >= 2 || !write->len || write->offset % STORAGE_SECTOR ||
	    write->offset + write->len > DISK_BYTES)
		abort();
	if (write->kind != JOURNAL_WRITE)
		return 0;
	return bytes[0] || bytes[write->len - 1] /* they are there */
		       ? error_set(err, -ENOSPC, EXIT_STATUS_FAILED, "full")
		       : 0;
}

static void receive(struct rig *rig)
{
	static const struct epoch_sink sink = { 2, { DISK_BYTES, DISK_BYTES }, judge_write, NULL };
	struct epoch_receiver *receiver;
	struct frame_reader reader;
	struct error err = { 0 };
	int r = 0;

	frame_reader_init(&reader, stream_memory_new(rig->peer.bytes, rig->peer.len));
	if (epoch_receiver_new(&reader, rig->memory, &origin, &sink, &receiver) < 0)
		abort();
	for (int i = 0; r == 0 && i < EPOCHS; i++) {
		epoch_clear(&rig->epoch, 64);
		r = epoch_receive(receiver, &rig->epoch, &err);
		if (r == 0) {
			assert_sane(&rig->epoch);
			epoch_apply(&rig->epoch, rig->memory);
		}
	}
	if (r < 0 && !err.message[0])
		abort(); /* an error without words */
	epoch_receiver_free(receiver);
	stream_free(reader.stream);
	frame_reader_release(&reader);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct cursor in = { .data = data, .left = size };
	struct rig *rig = rig_get();

	frame_peer_clear(&rig->peer);
	while (in.left && !in.bad)
		add(rig, &in);
	receive(rig);
	return 0;
}
