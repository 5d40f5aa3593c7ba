/* SPDX-License-Identifier: Apache-2.0 */
/*
 * covers: move/disks/target.c move/disks/receive.c move/disks/tree.c
 *
 * What a peer may send of disks, over one stream or two: frames that are whole but say what they like, passes in any order, cut at any
 * byte. A disk that is said to be whole has the content that its root says.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "../unit/stream_memory.h"
#include "base/endian.h"
#include "frame_peer.h"
#include "move/disks/frame.h"
#include "move/disks/receive.h"
#include "wire/compress.h"

#define CHUNK KIB(64)
#define DISKS 2
#define STREAM_BYTES MIB(4)
#define PASSES 16

struct rig {
	int fds[DISKS];
	struct frame_peer peers[2];
	struct digest *digest;
	struct compressor *compressor;
	uint8_t chunk[CHUNK], packed[CHUNK];
	struct disk_tree *said[DISKS]; /* what the peer's disks hold, as far as it was told */
};

static const uint64_t sizes[DISKS] = { 2 * CHUNK + 512, CHUNK };

static void *allocate(size_t len)
{
	void *at = calloc(1, len);

	if (!at)
		abort();
	return at;
}

/* Made once. */
static struct rig *rig_get(void)
{
	static struct rig *rig;

	if (rig)
		return rig;
	rig = allocate(sizeof(*rig));
	for (size_t i = 0; i < DISKS; i++)
		rig->fds[i] = memfd_create("fuzz", MFD_CLOEXEC);
	for (size_t i = 0; i < ARRAY_SIZE(rig->peers); i++)
		frame_peer_init(&rig->peers[i], STREAM_BYTES);
	if (digest_new(&rig->digest) < 0 || compressor_new(1, &rig->compressor) < 0)
		abort();
	return rig;
}

/* A byte that is mostly 0: then all is as it should be. */
static uint8_t lie(struct cursor *in)
{
	uint8_t byte = (uint8_t)cursor_take_le(in, 1);

	return byte & 0x80 ? byte : 0;
}

static void fill_chunk(struct rig *rig, struct cursor *in)
{
	uint8_t pages = (uint8_t)cursor_take_le(in, 1), byte = (uint8_t)cursor_take_le(in, 1);

	for (size_t i = 0; i < CHUNK / 4096; i++)
		memset(rig->chunk + i * 4096, pages >> i % 8 & 1 ? byte : 0, 4096);
}

static void add_chunk(struct rig *rig, struct frame_peer *peer, struct cursor *in, bool packed,
		      uint16_t flags)
{
	static uint8_t payload[DISK_HEAD + 2 * CHUNK];
	uint8_t where = (uint8_t)cursor_take_le(in, 1), wrong = lie(in);
	uint64_t disk = where & 7, offset = (uint64_t)(where >> 3) * CHUNK;
	bool there = disk < DISKS && offset < sizes[disk];
	size_t len = there ? MIN(sizes[disk] - offset, CHUNK) : 512;

	fill_chunk(rig, in);
	le_store(payload, 4, disk);
	le_store(payload + 4, 8, wrong & 1 ? offset + 512 : wrong & 2 ? ~offset : offset);
	if (digest_run(rig->digest, rig->chunk, len, payload + 12) < 0)
		abort();
	if (there)
		disk_tree_set(rig->said[disk], offset / CHUNK, payload + 12);
	if (packed &&
	    compressor_run(rig->compressor, rig->chunk, len, payload + DISK_HEAD, CHUNK, &len) < 0)
		return;
	if (!packed)
		memcpy(payload + DISK_HEAD, rig->chunk, len);
	if (wrong & 4)
		payload[DISK_HEAD + len / 2] ^= 1;
	if (wrong & 8)
		len += wrong & 16 ? 1 : -1UL;
	put_frame(peer, packed ? MOVE_DISK_PACKED : MOVE_DISK, flags, payload,
		  wrong & 32 ? wrong & 15 : DISK_HEAD + len);
}

static void add_holes(struct rig *rig, struct frame_peer *peer, struct cursor *in, uint16_t flags)
{
	uint8_t payload[DISK_HOLE_HEAD + 4 * DISK_HOLE_RANGE], wrong = lie(in);
	uint64_t disk = cursor_take_le(in, 1) & 3;
	size_t n = cursor_take_le(in, 1) & 3;

	le_store(payload, 4, disk);
	for (size_t i = 0; i < n; i++) {
		uint8_t where = (uint8_t)cursor_take_le(in, 1);
		uint64_t first = where & 3, end = MIN(first + 1 + (where >> 2 & 3), 3UL);
		uint64_t size = disk < DISKS ? sizes[disk] : CHUNK;
		uint64_t len = MIN(end * CHUNK, size) - MIN(first * CHUNK, size);

		le_store(payload + 4 + i * 16, 8, first * CHUNK + (wrong & 1 ? 512 : 0));
		le_store(payload + 12 + i * 16, 8, len + (wrong & 2 ? UINT64_MAX - len : 0));
		for (uint64_t k = first; disk < DISKS && k < end && k * CHUNK < size; k++)
			disk_tree_set(rig->said[disk], k, disk_tree_zero(rig->said[disk], k));
	}
	put_frame(peer, MOVE_DISK_HOLE, flags, payload, 4 + n * 16 - (wrong & 4 ? 1 : 0));
}

static void add_hash(struct rig *rig, struct frame_peer *peer, struct cursor *in, uint16_t flags)
{
	uint8_t payload[DISK_HASH_BYTES] = { 0 }, wrong = lie(in);
	uint64_t disk = cursor_take_le(in, 1) & 3;

	le_store(payload, 4, disk);
	if (disk < DISKS && disk_tree_root(rig->said[disk], payload + 4) < 0)
		wrong |= 1;
	payload[9] ^= wrong & 1;
	put_frame(peer, MOVE_DISK_HASH, flags, payload, sizeof(payload) - (wrong & 2 ? 1 : 0));
}

static void add_pass(struct frame_peer *peer, struct cursor *in, uint16_t flags)
{
	uint8_t payload[DISK_PASS_BYTES], wrong = lie(in);

	le_store(payload, 4, cursor_take_le(in, 1) & 15);
	payload[4] = wrong & 1 ? 2 : wrong >> 1 & 1;
	put_frame(peer, MOVE_DISK_PASS, flags, payload, sizeof(payload) - (wrong & 4 ? 1 : 0));
}

static void add(struct rig *rig, struct cursor *in)
{
	uint8_t what = (uint8_t)cursor_take_le(in, 1);
	uint16_t flags = what & 0x40 ? 0 : FRAME_CHECKED;
	struct frame_peer *peer = &rig->peers[what >> 7];
	size_t cut;

	switch (what & 7) {
	case 0:
	case 1:
		add_chunk(rig, peer, in, what & 1, flags);
		break;
	case 2:
		add_holes(rig, peer, in, flags);
		break;
	case 3:
		add_hash(rig, peer, in, flags);
		break;
	case 4:
	case 5:
		add_pass(peer, in, flags);
		break;
	case 6:
		put_frame(peer, (uint16_t)cursor_take_le(in, 1), flags, in->data,
			  MIN(in->left, 8UL));
		break;
	default: /* cut */
		cut = cursor_take_le(in, 3);
		peer->len = MIN(peer->len, cut);
	}
}

static int tick(void *ctx, uint64_t left)
{
	if (!left)
		abort();
	return *(bool *)ctx ? -ECANCELED : 0;
}

/* The root of what the file really holds. */
static void judge(struct rig *rig, size_t i, struct disk_target *target)
{
	uint8_t hash[DIGEST_BYTES], is[DIGEST_BYTES];
	struct disk_tree *tree;
	struct error err = { 0 };

	if (lseek(rig->fds[i], 0, SEEK_END) != (off_t)sizes[i])
		abort();
	if (!disk_target_is_whole(target))
		return;
	if (disk_tree_new(sizes[i], &tree) < 0)
		abort();
	for (uint64_t k = 0; k < disk_tree_chunks(tree); k++) {
		size_t len = disk_tree_len(tree, k);

		if (pread(rig->fds[i], rig->chunk, len, (off_t)disk_tree_offset(tree, k)) !=
			    (ssize_t)len ||
		    digest_run(rig->digest, rig->chunk, len, hash) < 0)
			abort();
		disk_tree_set(tree, k, hash);
	}
	if (disk_tree_root(tree, is) < 0 || disk_target_judge(target, is, &err) < 0)
		abort();
	disk_tree_free(tree);
}

/* As the destination does: stream 0 here, the others by threads. */
static int one_pass(struct disk_receiver *receiver, struct frame_reader *reader, bool wide,
		    bool *cancel, struct error *err)
{
	struct disk_pass pass;
	int r = wide ? disk_receive_begin(receiver, err) : 0;

	if (r == 0)
		r = 1;
	while (r == 1) {
		struct frame frame;

		r = frame_receive(reader, &frame, err);
		if (r == 0)
			r = disk_receive_frame(receiver, &frame, &pass, err);
		if (r == 1 && disk_receive_failed(receiver, err) < 0)
			r = -EBADMSG;
	}
	if (r != 2)
		return r < 0 ? r : -EBADMSG;
	while (wide && (r = disk_receive_wait(receiver, &pass, 20, err)) == 0)
		;
	return r < 0 ? r : disk_receive_settle(receiver, tick, cancel, err);
}

static void receive(struct rig *rig, uint32_t n_streams, bool cancel)
{
	struct disk_target *targets[DISKS];
	struct frame_reader readers[2];
	struct disk_receiver *receiver;
	struct error err = { 0 };
	const struct disk_receive_settings settings = {
		.targets = targets, .n_targets = DISKS, .readers = readers, .n_streams = n_streams
	};
	int r = 0;

	for (uint32_t i = 0; i < DISKS; i++)
		if (disk_target_new(i, rig->fds[i], &targets[i], &err) < 0)
			abort();
	for (uint32_t i = 0; i < n_streams; i++)
		frame_reader_init(&readers[i],
				  stream_memory_new(rig->peers[i].bytes, rig->peers[i].len));
	if (disk_receive_new(&settings, &receiver) < 0)
		abort();
	for (int i = 0; r == 0 && i < PASSES; i++)
		r = one_pass(receiver, &readers[0], i < 2, &cancel, &err);
	disk_receive_free(receiver);
	for (uint32_t i = 0; i < DISKS; i++) {
		judge(rig, i, targets[i]);
		(void)disk_target_bytes(targets[i]);
		disk_target_free(targets[i]);
	}
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
		frame_peer_clear(&rig->peers[i]);
	for (size_t i = 0; i < DISKS; i++) {
		if (ftruncate(rig->fds[i], (off_t)sizes[i]) < 0 ||
		    pwrite(rig->fds[i], "what was here", 13, 100) != 13 ||
		    disk_tree_new(sizes[i], &rig->said[i]) < 0)
			abort();
	}
	while (in.left && !in.bad)
		add(rig, &in);
	receive(rig, how & 1 ? 2 : 1, how & 2);
	for (size_t i = 0; i < DISKS; i++)
		disk_tree_free(rig->said[i]);
	return 0;
}
