/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* RAM at an owner and at its backup, and what goes between them as bytes that a test can change. */

#include "check.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "protect/epoch_receive.h"
#include "protect/epoch_send.h"

#define EPOCH_RAM MIB(8)
#define EPOCH_HOLE MIB(4) /* two banks */
#define EPOCH_PAGES (EPOCH_RAM / MEMORY_PAGE_SIZE)

struct epoch_bytes {
	uint8_t *data; /* owned */
	size_t len;
};

struct epoch_rig {
	struct memory *owner, *backup;
	struct dirty_bitmap dirty;
	struct epoch cut, staged;
	struct epoch_origin origin;
	struct epoch_sender *sender;
	struct frame_writer writer;
	int wire; /* what was sent: a file */
	struct epoch_counts counts;
};

static inline int epoch_file(const void *bytes, size_t len)
{
	int fd = memfd_create("epochs", MFD_CLOEXEC);

	assert_true(fd >= 0);
	assert_int_equal(write(fd, bytes, len), len);
	assert_int_equal(lseek(fd, 0, SEEK_SET), 0);
	return fd;
}

static inline struct memory *epoch_ram(void)
{
	struct memory *memory;
	struct error err = { 0 };

	assert_int_equal(memory_create(EPOCH_RAM, EPOCH_HOLE, GIB(4), MEMORY_HUGE_OFF, -1, &memory,
				       &err),
			 0);
	assert_int_equal(memory->n_banks, 2);
	return memory;
}

static inline struct epoch_rig *epoch_rig_new(uint64_t cache_bytes, bool pack)
{
	struct epoch_rig *rig = calloc(1, sizeof(*rig));
	struct epoch_send_settings settings = { &rig->writer, cache_bytes, pack };

	rig->owner = epoch_ram();
	rig->backup = epoch_ram();
	assert_int_equal(dirty_bitmap_init(&rig->dirty, rig->owner), 0);
	assert_int_equal(epoch_init(&rig->cut, EPOCH_PAGES), 0);
	assert_int_equal(epoch_init(&rig->staged, EPOCH_PAGES), 0);
	assert_int_equal(memory_dirty_start(rig->owner), 0);
	rig->origin = (struct epoch_origin){ .generation = 7, .session = { "a session" } };
	rig->wire = epoch_file("", 0);
	assert_int_equal(stream_plain(dup(rig->wire), 1000, &rig->writer.stream), 0);
	assert_int_equal(epoch_sender_new(&settings, &rig->sender), 0);
	return rig;
}

static inline void epoch_rig_free(struct epoch_rig *rig)
{
	epoch_sender_free(rig->sender);
	stream_free(rig->writer.stream);
	close(rig->wire);
	epoch_release(&rig->cut);
	epoch_release(&rig->staged);
	dirty_bitmap_release(&rig->dirty);
	memory_free(rig->owner);
	memory_free(rig->backup);
	free(rig);
}

/* Cuts what was written since, sends it, and takes what was sent off the wire. Its serials begin where they were. */
static inline struct epoch_bytes epoch_rig_send(struct epoch_rig *rig)
{
	struct epoch_bytes bytes;
	off_t end;

	epoch_clear(&rig->cut, EPOCH_PAGES);
	rig->cut.number++;
	rig->cut.released = rig->cut.number - 1;
	assert_int_equal(memory_dirty_collect(rig->owner, &rig->dirty), 0);
	epoch_capture(&rig->cut, rig->owner, &rig->dirty);
	assert_int_equal(dirty_bitmap_count(&rig->dirty), 0);
	assert_int_equal(epoch_send(rig->sender, &rig->cut, &rig->origin, &rig->counts), 0);
	assert_int_equal(stream_flush(rig->writer.stream), 0);
	end = lseek(rig->wire, 0, SEEK_CUR);
	assert_true(end > 0);
	bytes.len = (size_t)end;
	bytes.data = malloc(bytes.len);
	assert_int_equal(pread(rig->wire, bytes.data, bytes.len, 0), bytes.len);
	assert_int_equal(ftruncate(rig->wire, 0), 0);
	assert_int_equal(lseek(rig->wire, 0, SEEK_SET), 0);
	return bytes;
}

/* One that begins with the first serial is heard by a receiver of its own. */
static inline int epoch_rig_hear(struct epoch_rig *rig, const void *bytes, size_t len,
				 struct error *err)
{
	struct epoch_receiver *receiver;
	struct frame_reader reader;
	struct stream *stream;
	int r;

	*err = (struct error){ 0 };
	assert_int_equal(stream_plain(epoch_file(bytes, len), 1000, &stream), 0);
	frame_reader_init(&reader, stream);
	assert_int_equal(epoch_receiver_new(&reader, rig->backup, &rig->origin, NULL, &receiver),
			 0);
	epoch_clear(&rig->staged, EPOCH_PAGES);
	r = epoch_receive(receiver, &rig->staged, err);
	epoch_receiver_free(receiver);
	frame_reader_release(&reader);
	stream_free(stream);
	return r;
}

static inline bool epoch_rig_same(const struct epoch_rig *rig)
{
	for (size_t i = 0; i < rig->owner->n_banks; i++)
		if (memcmp(rig->owner->banks[i].host, rig->backup->banks[i].host,
			   rig->owner->banks[i].len) != 0)
			return false;
	return true;
}
