/* SPDX-License-Identifier: Apache-2.0 */
/*
 * covers: move/pages/apply.c move/pages/receive.c move/pages/batch.c move/pages/sum.c
 *
 * What a peer may send of memory, over one stream or two: frames that are whole but say what they like, cut at any byte.
 */
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "../unit/stream_memory.h"
#include "base/endian.h"
#include "frame_peer.h"
#include "move/pages/batch.h"
#include "move/pages/sum.h"
#include "move/pages/receive.h"
#include "move/protocol.h"

#define RAM_BYTES MIB(1)
#define TAIL_BYTES KIB(64) /* of the file, beyond the guest's memory: never touched */
#define STREAM_BYTES MIB(4)
#define ROUNDS 32

/* The peer's side of one stream. */
struct peer {
	struct frame_peer to;
	struct packer *packer;
	struct page_batch batch;
};

struct rig {
	int fd;
	uint8_t *file;
	struct peer peers[2];
};

static void *allocate(size_t len)
{
	void *at = malloc(len);

	if (!at)
		abort();
	return at;
}

/* Made once: making memory is what would take the time. */
static struct rig *rig_get(void)
{
	static struct rig *rig;

	if (rig)
		return rig;
	rig = allocate(sizeof(*rig));
	memset(rig, 0, sizeof(*rig));
	rig->fd = memfd_create("fuzz", MFD_CLOEXEC);
	if (rig->fd < 0 || ftruncate(rig->fd, RAM_BYTES + TAIL_BYTES) < 0)
		abort();
	rig->file = mmap(NULL, RAM_BYTES + TAIL_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, rig->fd,
			 0);
	if (rig->file == MAP_FAILED)
		abort();
	memset(rig->file + RAM_BYTES, 0xaa, TAIL_BYTES);
	for (size_t i = 0; i < ARRAY_SIZE(rig->peers); i++) {
		frame_peer_init(&rig->peers[i].to, STREAM_BYTES);
		if (packer_new(&rig->peers[i].packer) < 0 ||
		    page_batch_init(&rig->peers[i].batch) < 0)
			abort();
	}
	return rig;
}

static void add_pages(struct peer *peer, struct cursor *in, uint16_t flags)
{
	static uint8_t payload[8 + 300 * PAGE_BYTES];
	uint64_t first = cursor_take_le(in, 2);
	size_t n = cursor_take_le(in, 1) + (cursor_take_le(in, 1) & 3);

	le_store(payload, 8, first & 0x8000 ? first << 48 : first);
	memset(payload + 8, (int)cursor_take_le(in, 1), n * PAGE_BYTES);
	put_lying_frame(&peer->to, MOVE_PAGES, flags, payload, 8 + n * PAGE_BYTES,
			(int8_t)cursor_take_le(in, 1));
}

/* The same with sums, of which one byte, or one of a page, may not be what it should be. */
static void add_summed(struct peer *peer, struct cursor *in, uint16_t flags)
{
	static uint8_t payload[PAGE_SUMS_BYTES(300) + 300 * PAGE_BYTES];
	static uint8_t pages[300 * PAGE_BYTES];
	uint64_t first = cursor_take_le(in, 2), at = cursor_take_le(in, 3);
	uint32_t n = (uint32_t)cursor_take_le(in, 1) + (cursor_take_le(in, 1) & 3);
	size_t len = PAGE_SUMS_BYTES(n) + n * PAGE_BYTES;

	memset(pages, (int)cursor_take_le(in, 1), n * PAGE_BYTES);
	page_sums_fill(first & 0x8000 ? first << 48 : first, n, pages, payload);
	memcpy(payload + PAGE_SUMS_BYTES(n), pages, n * PAGE_BYTES);
	if (at & 0x800000)
		payload[at % len] ^= 1;
	put_lying_frame(&peer->to, MOVE_SUMMED, flags, payload, len, (int8_t)cursor_take_le(in, 1));
}

static void add_zeroes(struct peer *peer, struct cursor *in, uint16_t flags)
{
	uint8_t payload[16 * 12];
	size_t n = cursor_take_le(in, 1) % 16, odd = cursor_take_le(in, 1) & 7;

	for (size_t i = 0; i < n; i++) {
		le_store(payload + i * 12, 8, cursor_take_le(in, 2));
		le_store(payload + i * 12 + 8, 4, cursor_take_le(in, 2));
	}
	put_frame(&peer->to, MOVE_ZEROES, flags, payload, n * 12 - (n ? odd : 0));
}

/* Pages that are packed as they should be, or of numbers and bytes of the input's choice. */
static void add_packed(struct peer *peer, struct cursor *in, uint16_t kind, uint16_t flags)
{
	struct page_batch *batch = &peer->batch;
	const uint8_t *packed;
	uint8_t payload[KIB(16)];
	uint64_t page = 0;
	size_t len, at;

	batch->n = (uint32_t)cursor_take_le(in, 1) % 32 + 1;
	for (uint32_t i = 0; i < batch->n; i++) {
		page += cursor_take_le(in, 1);
		batch->pages[i] = page++;
		memset(page_batch_at(batch, i), (int)cursor_take_le(in, 1), PAGE_BYTES);
	}
	if (packer_pack(peer->packer, batch, &packed, &len) < 0 || len > sizeof(payload))
		abort();
	memcpy(payload, packed, len);
	at = cursor_take_le(in, 2);
	if (at & 0x8000) /* one byte is not what it should be */
		payload[at % len] ^= (uint8_t)cursor_take_le(in, 1);
	put_frame(&peer->to, kind, flags, payload, len);
}

static void add_round(struct peer *peer, struct cursor *in, uint16_t flags)
{
	uint8_t payload[5];

	le_store(payload, 4, cursor_take_le(in, 1));
	payload[4] = (uint8_t)cursor_take_le(in, 1);
	put_frame(&peer->to, MOVE_ROUND, flags, payload, sizeof(payload));
}

static void add_bytes(struct peer *peer, struct cursor *in, uint16_t kind, uint16_t flags)
{
	size_t len = cursor_take_le(in, 1);
	const void *bytes = cursor_take(in, len);

	if (bytes)
		put_frame(&peer->to, kind, flags, bytes, len);
}

static void add(struct peer *peers, struct cursor *in)
{
	uint8_t what = (uint8_t)cursor_take_le(in, 1);
	size_t cut;
	uint16_t flags = (uint16_t)(cursor_take_le(in, 1) & 3);
	struct peer *peer = &peers[what >> 7];

	switch (what & 7) {
	case 0:
		if (what & 0x40)
			add_summed(peer, in, flags);
		else
			add_pages(peer, in, flags);
		break;
	case 1:
		add_zeroes(peer, in, flags);
		break;
	case 2:
		add_packed(peer, in, MOVE_PACKED, flags);
		break;
	case 3:
		add_packed(peer, in, MOVE_DELTAS, flags);
		break;
	case 4:
		add_round(peer, in, flags);
		break;
	case 5:
		add_bytes(peer, in, (uint16_t)cursor_take_le(in, 1), flags);
		break;
	case 6: /* no frame at all */
		put(&peer->to, in->data, in->left & 0xff);
		break;
	default: /* cut */
		cut = cursor_take_le(in, 3);
		peer->to.len = MIN(peer->to.len, cut);
	}
}

static void receive(struct rig *rig, uint32_t n_streams, bool empty)
{
	struct pages_target *target;
	struct pages_receiver *receiver;
	struct frame_reader readers[2];
	struct move_numbers numbers;
	struct pages_round round = { 0 };
	struct error err = { 0 };
	struct frame frame;
	int r = 1;

	if (pages_target_new(rig->fd, RAM_BYTES, empty, &target, &err) < 0)
		abort();
	for (uint32_t i = 0; i < n_streams; i++)
		frame_reader_init(&readers[i],
				  stream_memory_new(rig->peers[i].to.bytes, rig->peers[i].to.len));
	if (pages_receive_new(&(struct pages_receive_settings){ .target = target,
								.readers = readers,
								.n_streams = n_streams,
								.idle_ms = 100 },
			      &receiver, &err) < 0)
		abort();
	for (int i = 0; r >= 0 && !round.last && i < ROUNDS; i++)
		r = pages_receive_round(receiver, &round, &frame, &err);
	if (r < 0 && !err.message[0])
		abort(); /* an error without words */
	(void)!pages_target_whole(target, &err);
	pages_receive_numbers(receiver, &numbers);
	pages_receive_free(receiver);
	pages_target_free(target);
	for (uint32_t i = 0; i < n_streams; i++) {
		stream_free(readers[i].stream);
		frame_reader_release(&readers[i]);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct cursor in = { .data = data, .left = size };
	uint8_t how = (uint8_t)cursor_take_le(&in, 1);
	struct rig *rig = rig_get();

	for (size_t i = 0; i < ARRAY_SIZE(rig->peers); i++)
		frame_peer_clear(&rig->peers[i].to);
	while (in.left && !in.bad)
		add(rig->peers, &in);
	receive(rig, how & 1 ? 2 : 1, !(how & 2));
	for (size_t i = 0; i < TAIL_BYTES; i++)
		if (rig->file[RAM_BYTES + i] != 0xaa)
			abort();
	return 0;
}
