/* SPDX-License-Identifier: Apache-2.0 */
/*
 * covers: watch/read/source_store.c watch/read/source.c watch/read/order.c watch/read/follow.c
 *
 * A store whose other end writes what it likes, while it is read and between: first it is opened, live or as what is left
 * of one, then actions change a word anywhere, make records as the monitor does, cut the file, read.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/buffer.h"
#include "base/fd.h"
#include "watch/read/source.h"
#include "watch/store.h"

#define RECORDS 16
#define READS_MAX 4096

struct scene {
	int fd;
	uint8_t *mapped; /* the writer's hostile hand */
	size_t len;
	uint32_t n_rings;
	struct store *store;
	struct ring *rings[4];
	struct watch_source *source;
};

static void check_record(struct watch_source *source, const struct watch_record *record,
			 uint32_t ring)
{
	if (!record->kind || record->kind >= RECORD_KINDS || ring >= STORE_RINGS_MAX ||
	    record->size > 8 || (record->size & (record->size - 1)))
		abort();
	if (record->device >= STORE_DEVICES_MAX && record->device != STORE_NO_DEVICE)
		abort();
	if (record->kind <= RECORD_PCI &&
	    (record->access.verdict >= RECORD_VERDICTS || record->access.length > 15 ||
	     record->access.n_before > RECORD_WINDOW || record->access.n_after > RECORD_WINDOW))
		abort();
	if (record->kind == RECORD_NET && record->frame.n_bytes > RECORD_FRAME_BYTES)
		abort();
	if (strlen(source_device_name(source, record->device)) >= STORE_NAME ||
	    strlen(source_ring_name(source, ring)) >= STORE_NAME)
		abort();
	(void)source_wall_ns(source, record->begin);
}

static int read_some(struct scene *scene, unsigned int n)
{
	struct watch_record record;
	uint32_t ring;
	int r = 0;

	while (n-- && (r = source_next(scene->source, &record, &ring)) == 1)
		check_record(scene->source, &record, ring);
	return r;
}

/* Offsets that matter: the header's numbers, a ring's header, a record's words; or any. */
static size_t take_offset(struct scene *scene, struct cursor *in)
{
	const size_t where = cursor_take_le(in, 1);
	const size_t index = cursor_take_le(in, 1), word = cursor_take_le(in, 1) * 8;
	const size_t records = store_records_offset(scene->n_rings);

	switch (where % 4) {
	case 0:
		return (index % 64) * 8;
	case 1:
		return STORE_HEADER + (index % scene->n_rings) * STORE_RING_HEADER + word % 256;
	case 2:
		return records + index % (scene->n_rings * RECORDS) * sizeof(struct watch_record) +
		       word % sizeof(struct watch_record);
	default:
		return ((index << 11) + word) % (scene->len - 8);
	}
}

static void poke(struct scene *scene, struct cursor *in)
{
	const size_t offset = take_offset(scene, in);
	const uint64_t value = cursor_take_le(in, 8);

	memcpy(scene->mapped + offset, &value, sizeof(value));
}

static void poke_small(struct scene *scene, struct cursor *in)
{
	const size_t offset = take_offset(scene, in);

	scene->mapped[offset + cursor_take_le(in, 1) % 8] = (uint8_t)cursor_take_le(in, 1);
}

static void commit(struct scene *scene, struct cursor *in)
{
	struct ring *ring = scene->rings[cursor_take_le(in, 1) % scene->n_rings];
	const unsigned int n = (unsigned int)cursor_take_le(in, 1) % 64 + 1;
	const uint64_t begin = cursor_take_le(in, 4), duration = cursor_take_le(in, 3);
	const uint8_t kind = (uint8_t)cursor_take_le(in, 1);

	for (unsigned int i = 0; i < n; i++) {
		struct watch_record *record = ring_begin(ring);

		memset((uint8_t *)record + 8, 0, sizeof(*record) - 8);
		record->begin = begin + i * 100;
		record->duration = duration;
		record->kind = kind;
		ring_commit(ring);
	}
}

static void drop(struct scene *scene, struct cursor *in)
{
	ring_drop(scene->rings[cursor_take_le(in, 1) % scene->n_rings]);
}

static void read_on(struct scene *scene, struct cursor *in)
{
	(void)read_some(scene, (unsigned int)cursor_take_le(in, 1));
}

static void expel(struct scene *scene, struct cursor *in)
{
	struct ring *ring = scene->rings[cursor_take_le(in, 1) % scene->n_rings];
	uint64_t owner;

	if (!ring_has_room(ring, 4, &owner))
		ring_expel(ring, owner);
}

static void end(struct scene *scene, struct cursor *in _unused_)
{
	source_set_ended(scene->source);
}

static void (*const actions[])(struct scene *scene, struct cursor *in) = {
	poke, poke_small, commit, drop, read_on, expel, end,
};

static void make_store(struct scene *scene, uint32_t n_rings)
{
	struct stat st;

	scene->n_rings = n_rings;
	scene->fd = store_make_fd("fuzz", n_rings, 1, RECORDS);
	if (scene->fd < 0 || store_open(scene->fd, &scene->store) < 0 || fstat(scene->fd, &st) < 0)
		abort();
	for (uint32_t i = 0; i < n_rings; i++)
		scene->rings[i] = store_ring(scene->store, i, "ring");
	store_device(scene->store, "serial");
	store_set_clock(scene->store, 1000000);
	scene->len = (size_t)st.st_size;
	scene->mapped = mmap(NULL, scene->len, PROT_READ | PROT_WRITE, MAP_SHARED, scene->fd, 0);
	if (scene->mapped == MAP_FAILED)
		abort();
}

/* A copy that nothing seals, perhaps cut off. */
static int copy_cut(const struct scene *scene, size_t cut)
{
	int fd = memfd_create("left", MFD_CLOEXEC);

	if (fd < 0 || fd_write_at(fd, scene->mapped, scene->len - MIN(cut, scene->len), 0) < 0)
		abort();
	return fd;
}

static void open_source(struct scene *scene, struct cursor *in)
{
	const uint8_t how = (uint8_t)cursor_take_le(in, 1);
	const bool live = how & 1;
	const struct source_options options = { .from_oldest = how & 2, .lossless = how & 4 };
	const size_t cut = cursor_take_le(in, 2);
	_cleanup_(fd_closep) int left = how & 8 ? copy_cut(scene, cut * 8) : -1;
	struct error err = { 0 };

	if (source_open_store(left >= 0 ? left : scene->fd, live, &options, "fuzz", &scene->source,
			      &err) < 0) {
		scene->source = NULL;
		if (!err.message[0])
			abort();
	}
}

/* Whatever there is ends: the writer does nothing any more. */
static void drain(struct scene *scene)
{
	source_set_ended(scene->source);
	for (unsigned int i = 0; i < READS_MAX; i++)
		if (read_some(scene, 256) == -ENODATA)
			return;
	abort();
}

static void act(struct scene *scene, struct cursor *in)
{
	while (in->left && !in->bad) {
		const size_t action = cursor_take_le(in, 1) % (ARRAY_SIZE(actions) + 1);

		if (action < ARRAY_SIZE(actions)) {
			if (scene->source || action < 4)
				actions[action](scene, in);
		} else if (!scene->source) {
			open_source(scene, in);
		}
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct cursor in = { .data = data, .left = size };
	struct scene scene = { 0 };

	make_store(&scene, (uint32_t)cursor_take_le(&in, 1) % ARRAY_SIZE(scene.rings) + 1);
	act(&scene, &in);
	if (scene.source) {
		(void)source_lost(scene.source);
		(void)source_was_expelled(scene.source);
		(void)source_header(scene.source);
		drain(&scene);
	}
	source_free(scene.source);
	munmap(scene.mapped, scene.len);
	store_free(scene.store);
	close(scene.fd);
	return 0;
}
