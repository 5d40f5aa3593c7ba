/* SPDX-License-Identifier: Apache-2.0 */

/* A mirrored disk whose queues' threads write over each other's data: disk and mirror are the same in the end. */

#include "block_rig.h"

#include <pthread.h>

#include "block/mirror.h"

#define THREADS 3
#define WRITES 1500
#define DISK KIB(256)
#define LONGEST KIB(32)

struct writer {
	struct block *block;
	pthread_t thread;
	uint64_t random;
	struct loop *loop;
	struct block_queue *queue;
	unsigned int begun, ended, failed;
};

struct slot {
	struct block_request request;
	struct iovec iov;
	struct writer *writer;
	uint8_t data[LONGEST];
};

static uint64_t below(struct writer *writer, uint64_t limit)
{
	writer->random = writer->random * 6364136223846793005ULL + 1442695040888963407ULL;
	return (writer->random >> 33) % limit;
}

static void slot_start(struct slot *slot);

static void slot_done(struct block_request *request, int result)
{
	struct slot *slot = container_of(request, struct slot, request);

	__atomic_add_fetch(&slot->writer->ended, 1, __ATOMIC_RELAXED);
	slot->writer->failed += result < 0;
	slot_start(slot);
}

static void slot_start(struct slot *slot)
{
	struct writer *writer = slot->writer;
	uint64_t len = 512 * (1 + below(writer, LONGEST / 512));

	if (writer->begun == WRITES)
		return;
	writer->begun++;
	memset(slot->data, (int)below(writer, 256), len);
	slot->iov = (struct iovec){ slot->data, len };
	slot->request = (struct block_request){ .op = BLOCK_WRITE,
						.offset = 512 * below(writer, (DISK - len) / 512),
						.len = len,
						.iov = &slot->iov,
						.n_iov = 1,
						.done = slot_done };
	if (below(writer, 10) == 0) {
		slot->request.op = BLOCK_DISCARD;
		slot->request.iov = NULL;
		slot->request.n_iov = 0;
	}
	block_submit(writer->queue, &slot->request);
	block_kick(writer->queue);
}

static void *write_all(void *arg)
{
	struct writer *writer = arg;
	struct slot *slots = aligned_alloc(4096, ALIGN_UP(RIG_DEPTH * sizeof(*slots), 4096));
	uint64_t end = clock_now(&clock_host) + 100 * NSEC_PER_SEC;

	for (unsigned int i = 0; i < RIG_DEPTH; i++) {
		slots[i].writer = writer;
		slot_start(&slots[i]);
	}
	while (writer->ended < WRITES && clock_now(&clock_host) < end)
		if (loop_turn(writer->loop, 100) < 0)
			break;
	block_queue_close(writer->queue);
	free(slots);
	return NULL;
}

static void follow(struct mirror_reader *reader, uint8_t *copy, uint64_t end)
{
	struct mirror_entry entry;
	const void *data;
	int r;

	while ((r = mirror_reader_next(reader, end, false, &entry, &data)) > 0) {
		assert_true(range_fits(entry.offset, entry.len, DISK));
		if (entry.kind == MIRROR_WRITE)
			memcpy(copy + entry.offset, data, entry.len);
		else
			memset(copy + entry.offset, 0, entry.len);
		mirror_reader_took(reader);
	}
	assert_int_equal(r, 0);
}

static bool all_ended(const struct writer writers[THREADS])
{
	bool all = true;

	for (unsigned int i = 0; i < THREADS; i++)
		all &= __atomic_load_n(&writers[i].ended, __ATOMIC_RELAXED) == WRITES;
	return all;
}

static void start(struct writer *writer, struct block *block, uint64_t seed)
{
	*writer = (struct writer){ .block = block, .random = seed };
	writer->loop = loop_new(&clock_host);
	assert_non_null(writer->loop);
	assert_int_equal(block_queue_open(block, writer->loop, RIG_DEPTH, &writer->queue), 0);
	assert_int_equal(pthread_create(&writer->thread, NULL, write_all, writer), 0);
}

static void compare(const struct rig *rig, const uint8_t *copy)
{
	_cleanup_(fd_closep) int fd = open(rig->path, O_RDONLY | O_CLOEXEC);
	_cleanup_(freep) uint8_t *disk = malloc(DISK);

	assert_int_equal(fd_read_at(fd, disk, DISK, 0), 0);
	assert_memory_equal(disk, copy, DISK);
}

static void disk_and_mirror_are_the_same(void **state _unused_)
{
	_cleanup_(freep) uint8_t *copy = calloc(1, DISK);
	struct writer writers[THREADS];
	struct mirror_reader reader;
	struct mirror_ring *ring;
	struct error err = { 0 };
	struct rig rig = { 0 };
	const struct raw_options options = { .path = rig.path, .fd = -1, .direct = true };

	rig_make_file(&rig, "/var/tmp", DISK);
	assert_int_equal(raw_open(&options, &rig.block, &err), 0);
	assert_int_equal(block_mirror_new(0, rig.block, &rig.block), 0);
	assert_int_equal(mirror_reader_make(MIRROR_RING_MIN, &reader), 0);
	assert_int_equal(mirror_ring_take(dup(reader.fd), &ring, &err), 0);
	block_mirror_set(rig.block, ring);
	for (unsigned int i = 0; i < THREADS; i++)
		start(&writers[i], rig.block, i + 1);
	while (!all_ended(writers)) {
		follow(&reader, copy, UINT64_MAX);
		usleep(1000);
	}
	for (unsigned int i = 0; i < THREADS; i++) {
		assert_int_equal(pthread_join(writers[i].thread, NULL), 0);
		assert_int_equal(writers[i].failed, 0);
		loop_free(writers[i].loop);
	}
	assert_true(mirror_ring_idle(ring));
	follow(&reader, copy, mirror_ring_end(ring));
	compare(&rig, copy);
	block_free(rig.block);
	mirror_ring_free(ring);
	mirror_reader_release(&reader);
	unlink(rig.path);
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(disk_and_mirror_are_the_same) };

	return cmocka_run_group_tests(tests, NULL, NULL);
}
