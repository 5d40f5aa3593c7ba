/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Mirrored disks over long lives, by seeds: writes, large ones and such that overlap, zeroes and discards on several queues of two disks that answer in any order
 * and fail at times; a reader that fills a mirror from the disks while they are written, follows the ring, and lags; rings that are taken away and given anew.
 *
 *   - at each cut the mirror has all that had ended, and nothing that is not written
 *   - of writes that overlap one at a time is below
 *   - when all is quiet disks, mirrors and model are the same
 *
 *   sim-mirror [SEED]
 */

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "check.h"

#include "base/cleanup.h"
#include "block/filters/filter.h"
#include "block/mirror.h"

#define SEEDS 30
#define STEPS 4000
#define DISKS 2
#define QUEUES 2 /* of each disk */
#define DEPTH 8
#define SECTOR 512
#define SECTORS 8192
#define CHUNK 256 /* sectors that a mirror is filled with at once */
#define FLYING_MAX (DISKS * QUEUES * (DEPTH + 4))
#define UNCERTAIN UINT32_MAX /* what a failed write left */

struct sim;

/* A disk that answers when it is told to. */
struct sim_disk {
	struct block block;
	struct sim *sim;
	struct list pending; /* requests of all queues */
	unsigned int n_pending;
	uint8_t *bytes;
};

struct flying {
	bool used;
	unsigned int disk;
	uint64_t sector, sectors;
	uint32_t tag; /* 0: zeroes */
	struct block_request request;
	struct iovec iov[2];
	uint8_t *data;
	struct sim *sim;
};

struct sim {
	uint64_t seed, random;
	struct fake_clock clock;
	struct loop *loop;
	struct sim_disk *disks[DISKS];
	struct block *mirrors[DISKS];
	struct block_queue *queues[DISKS][QUEUES];
	uint32_t model[DISKS][SECTORS];
	uint8_t *copies[DISKS]; /* the mirror */
	struct mirror_reader reader;
	struct mirror_ring *ring, *old; /* old: until it is idle */
	struct mirror_reader old_reader;
	unsigned int filled; /* chunks of all disks */
	bool errors;
	struct flying flying[FLYING_MAX];
	uint32_t last_tag;
	unsigned int done, failed, cuts, rings, entries;
};

static uint64_t below(struct sim *sim, uint64_t limit)
{
	sim->random ^= sim->random << 13;
	sim->random ^= sim->random >> 7;
	sim->random ^= sim->random << 17;
	return (sim->random >> 8) % limit;
}

static void broken(const struct sim *sim, const char *what, unsigned int disk, uint64_t sector)
{
	fail_msg(
		"broken: %s (seed %llu, disk %u, sector %llu, after %u requests, %u cuts, %u rings)",
		what, (unsigned long long)sim->seed, disk, (unsigned long long)sector, sim->done,
		sim->cuts, sim->rings);
}

static void sector_bytes(uint64_t sector, uint32_t tag, uint8_t *ret_bytes)
{
	uint64_t x = tag ? sector << 32 | tag : 0;

	for (unsigned int i = 0; i < SECTOR; i += sizeof(x))
		memcpy(ret_bytes + i, &x, sizeof(x));
}

static bool sector_is(uint64_t sector, uint32_t tag, const uint8_t *bytes)
{
	uint8_t expected[SECTOR];

	sector_bytes(sector, tag, expected);
	return memcmp(bytes, expected, SECTOR) == 0;
}

/* ---- the disk below ---- */

static struct sim_disk *from_block(struct block *block)
{
	return container_of(block, struct sim_disk, block);
}

static bool is_write(const struct block_request *request)
{
	return request->op != BLOCK_READ && request->op != BLOCK_FLUSH;
}

static void check_alone(struct sim_disk *disk, const struct block_request *request)
{
	struct sim *sim = disk->sim;
	const struct list *item;

	for (item = disk->pending.next; item != &disk->pending; item = item->next) {
		const struct block_request *other = container_of(item, struct block_request, link);

		if (is_write(other) && other->offset < request->offset + request->len &&
		    request->offset < other->offset + other->len)
			broken(sim, "of writes that overlap one at a time is below", 0,
			       request->offset / SECTOR);
	}
}

static void sim_submit(struct block_queue *queue, struct block_request *request)
{
	struct sim_disk *disk = from_block(queue->block);

	assert_int_equal(block_check(queue->block, request), 0);
	if (disk->sim->ring && is_write(request))
		check_alone(disk, request);
	list_append(&disk->pending, &request->link);
	disk->n_pending++;
	request->layer = queue;
}

static void write_down(struct sim_disk *disk, const struct block_request *request)
{
	uint8_t *at = disk->bytes + request->offset;

	if (request->op != BLOCK_WRITE)
		memset(at, 0, request->len);
	for (unsigned int i = 0; request->op == BLOCK_WRITE && i < request->n_iov; i++) {
		memcpy(at, request->iov[i].iov_base, request->iov[i].iov_len);
		at += request->iov[i].iov_len;
	}
}

/* Any one that is pending ends. */
static void answer_one(struct sim *sim, struct sim_disk *disk)
{
	uint64_t n = below(sim, disk->n_pending);
	struct list *item = disk->pending.next;
	struct block_request *request;
	struct block_queue *queue;
	int result = 0;

	while (n--)
		item = item->next;
	request = container_of(item, struct block_request, link);
	list_remove(item);
	disk->n_pending--;
	queue = request->layer;
	if (is_write(request) && sim->errors && below(sim, 40) == 0)
		result = -EIO;
	else if (is_write(request))
		write_down(disk, request);
	request->done(request, result);
	block_batch_end(queue);
}

static void sim_kick(struct block_queue *queue _unused_)
{
}

static bool sim_poll(struct block_queue *queue _unused_, bool more _unused_)
{
	return false;
}

static void sim_close(struct block_queue *queue)
{
	free(queue);
}

static const struct block_queue_ops sim_queue_ops = {
	.submit = sim_submit,
	.kick = sim_kick,
	.poll = sim_poll,
	.close = sim_close,
};

static int sim_queue_open(struct block *block, struct loop *loop _unused_,
			  unsigned int depth _unused_, struct block_queue **ret_queue)
{
	struct block_queue *queue = calloc(1, sizeof(*queue));

	assert_non_null(queue);
	*queue = (struct block_queue){ .ops = &sim_queue_ops, .block = block };
	*ret_queue = queue;
	return 0;
}

static void sim_destroy(struct block *block)
{
	free(from_block(block)->bytes);
	free(from_block(block));
}

static const struct block_ops sim_ops = { .queue_open = sim_queue_open, .destroy = sim_destroy };

static struct sim_disk *disk_new(struct sim *sim)
{
	struct sim_disk *disk = calloc(1, sizeof(*disk));

	assert_non_null(disk);
	disk->block.ops = &sim_ops;
	disk->block.geometry = (struct block_geometry){
		.size = SECTORS * SECTOR,
		.logical_block = SECTOR,
		.physical_block = SECTOR,
		.memory_alignment = 1,
		.can_discard = true,
		.can_write_zeroes = true,
		.max_discard = SECTORS * SECTOR,
		.max_transfer = SECTORS * SECTOR,
	};
	disk->sim = sim;
	disk->bytes = calloc(SECTORS, SECTOR);
	assert_non_null(disk->bytes);
	list_init(&disk->pending);
	return disk;
}

/* ---- the guest ---- */

static void request_done(struct block_request *request, int result)
{
	struct flying *f = container_of(request, struct flying, request);
	struct sim *sim = f->sim;

	for (uint64_t i = 0; is_write(request) && i < f->sectors; i++)
		sim->model[f->disk][f->sector + i] = result < 0 ? UNCERTAIN : f->tag;
	free(f->data);
	f->used = false;
	sim->done++;
	sim->failed += result < 0;
}

static void give_data(struct sim *sim, struct flying *f)
{
	uint64_t len = f->sectors * SECTOR, cut = below(sim, len);

	f->data = malloc(len);
	assert_non_null(f->data);
	for (uint64_t i = 0; i < f->sectors; i++)
		sector_bytes(f->sector + i, f->tag, f->data + i * SECTOR);
	f->iov[0] = (struct iovec){ f->data, cut };
	f->iov[1] = (struct iovec){ f->data + cut, len - cut };
	f->request.iov = f->iov;
	f->request.n_iov = 2;
}

static void submit(struct sim *sim)
{
	static const enum block_op ops[] = { BLOCK_WRITE,   BLOCK_WRITE,	BLOCK_WRITE,
					     BLOCK_WRITE,   BLOCK_WRITE,	BLOCK_WRITE,
					     BLOCK_DISCARD, BLOCK_WRITE_ZEROES, BLOCK_FLUSH };
	/* Half of them meet in a small part of the disk. */
	uint64_t space = below(sim, 2) ? 64 : SECTORS,
		 longest = below(sim, 100) ? 40 : 3 * MIRROR_DATA_MAX / SECTOR;
	struct flying *f = sim->flying;

	while (f < sim->flying + FLYING_MAX && f->used)
		f++;
	if (f == sim->flying + FLYING_MAX)
		return;
	*f = (struct flying){ .used = true, .sim = sim };
	f->disk = (unsigned int)below(sim, DISKS);
	f->sectors = 1 + below(sim, MIN(space, longest));
	f->sector = below(sim, space - f->sectors + 1);
	f->request = (struct block_request){ .op = ops[below(sim, ARRAY_SIZE(ops))],
					     .offset = f->sector * SECTOR,
					     .len = f->sectors * SECTOR,
					     .unmap = below(sim, 2),
					     .done = request_done };
	if (f->request.op == BLOCK_WRITE) {
		f->tag = ++sim->last_tag;
		give_data(sim, f);
	} else if (f->request.op == BLOCK_FLUSH) {
		f->request.offset = f->request.len = 0;
	}
	block_submit(sim->queues[f->disk][below(sim, QUEUES)], &f->request);
}

/* ---- the mirror ---- */

static void apply(struct sim *sim, const struct mirror_entry *entry, const void *data)
{
	uint8_t *at;

	assert_true(entry->disk < DISKS && range_fits(entry->offset, entry->len, SECTORS * SECTOR));
	at = sim->copies[entry->disk] + entry->offset;
	if (entry->kind == MIRROR_WRITE)
		memcpy(at, data, entry->len);
	else
		memset(at, 0, entry->len);
	sim->entries++;
}

/* At most `n` entries. */
static void follow(struct sim *sim, uint64_t end, bool only_done, uint64_t n)
{
	struct mirror_entry entry;
	const void *data;
	int r = 0;

	while (n-- && (r = mirror_reader_next(&sim->reader, end, only_done, &entry, &data)) > 0) {
		apply(sim, &entry, data);
		mirror_reader_took(&sim->reader);
	}
	assert_true(r >= 0);
}

static bool settled(const struct sim *sim)
{
	bool all = true;

	for (unsigned int i = 0; i < DISKS; i++)
		all &= block_mirror_settled(sim->mirrors[i]);
	return all;
}

/* A chunk is read when the mirror has what ended before: what ends after it is read comes by the ring. */
static void fill_chunk(struct sim *sim)
{
	uint64_t each = SECTORS / CHUNK, at = sim->filled % each * CHUNK * SECTOR;

	follow(sim, UINT64_MAX, true, UINT64_MAX);
	if (sim->filled == DISKS * each || !settled(sim))
		return;
	memcpy(sim->copies[sim->filled / each] + at, sim->disks[sim->filled / each]->bytes + at,
	       CHUNK * SECTOR);
	sim->filled++;
}

static bool is_filled(const struct sim *sim)
{
	return sim->ring && sim->filled == DISKS * (SECTORS / CHUNK);
}

/* Whether a write of this sector is under way; `*ret_right`: its bytes are the mirror's. */
static bool in_flight(const struct sim *sim, unsigned int disk, uint64_t sector, bool *ret_right)
{
	const uint8_t *bytes = sim->copies[disk] + sector * SECTOR;
	bool any = false;

	*ret_right = false;
	for (unsigned int i = 0; i < FLYING_MAX; i++) {
		const struct flying *f = &sim->flying[i];

		if (!f->used || !is_write(&f->request) || f->disk != disk || sector < f->sector ||
		    sector - f->sector >= f->sectors)
			continue;
		any = true;
		*ret_right |= sector_is(sector, f->tag, bytes);
	}
	return any;
}

static void check_sector(const struct sim *sim, unsigned int disk, uint64_t sector)
{
	uint32_t tag = sim->model[disk][sector];
	bool right, flies = in_flight(sim, disk, sector, &right);

	if (tag == UNCERTAIN)
		return;
	if (!flies && !sector_is(sector, tag, sim->disks[disk]->bytes + sector * SECTOR))
		broken(sim, "the disk has what ended last", disk, sector);
	if (is_filled(sim) && !(flies && right) &&
	    !sector_is(sector, tag, sim->copies[disk] + sector * SECTOR))
		broken(sim, "the mirror has what ended last", disk, sector);
}

static void cut(struct sim *sim)
{
	if (is_filled(sim)) {
		follow(sim, mirror_ring_end(sim->ring), false, UINT64_MAX);
		sim->cuts++;
	}
	for (unsigned int disk = 0; disk < DISKS; disk++)
		for (uint64_t sector = 0; sector < SECTORS; sector++)
			check_sector(sim, disk, sector);
}

/* ---- rings ---- */

static void free_old(struct sim *sim)
{
	if (!sim->old || !mirror_ring_idle(sim->old))
		return;
	mirror_ring_free(TAKE_PTR(sim->old));
	mirror_reader_release(&sim->old_reader);
}

static void set_ring(struct sim *sim, struct mirror_ring *ring)
{
	sim->ring = ring;
	for (unsigned int i = 0; i < DISKS; i++)
		block_mirror_set(sim->mirrors[i], ring);
}

static void give_ring(struct sim *sim)
{
	struct mirror_ring *ring;
	struct error err = { 0 };

	assert_int_equal(mirror_reader_make(MIRROR_RING_MIN, &sim->reader), 0);
	assert_int_equal(mirror_ring_take(dup(sim->reader.fd), &ring, &err), 0);
	set_ring(sim, ring);
	sim->filled = 0;
	sim->rings++;
}

static void change_ring(struct sim *sim)
{
	free_old(sim);
	if (sim->old)
		return;
	if (sim->ring) {
		sim->old = sim->ring;
		sim->old_reader = sim->reader;
		set_ring(sim, NULL);
	} else {
		give_ring(sim);
	}
}

/* ---- lives ---- */

static void answer_some(struct sim *sim)
{
	struct sim_disk *disk = sim->disks[below(sim, DISKS)];
	uint64_t n = below(sim, 4);

	while (n-- && disk->n_pending)
		answer_one(sim, disk);
}

static void turn(struct sim *sim)
{
	fake_clock_advance(&sim->clock, NSEC_PER_MSEC);
	assert_int_equal(loop_turn(sim->loop, 0), 0);
}

static void step(struct sim *sim)
{
	uint64_t what = below(sim, 1000);

	if (what < 400)
		submit(sim);
	else if (what < 800)
		answer_some(sim);
	else if (what < 880)
		turn(sim);
	else if (what < 990 && sim->ring && is_filled(sim))
		follow(sim, UINT64_MAX, false, below(sim, 10));
	else if (what < 990 && sim->ring)
		fill_chunk(sim);
	else if (what < 998)
		cut(sim);
	else if (!sim->ring || below(sim, 4) == 0)
		change_ring(sim);
}

static bool is_quiet(const struct sim *sim)
{
	for (unsigned int i = 0; i < FLYING_MAX; i++)
		if (sim->flying[i].used)
			return false;
	return true;
}

/* All that was asked for ends. */
static void finish(struct sim *sim)
{
	sim->errors = false;
	if (!sim->ring)
		give_ring(sim);
	for (unsigned int i = 0; i < 2000 && !(is_quiet(sim) && is_filled(sim)); i++) {
		answer_some(sim);
		turn(sim);
		fill_chunk(sim);
	}
	if (!is_quiet(sim) || !is_filled(sim))
		broken(sim, "everything ends", 0, 0);
	free_old(sim);
	assert_true(!sim->old && mirror_ring_idle(sim->ring));
	cut(sim);
}

static void begin(struct sim *sim)
{
	fake_clock_init(&sim->clock, 1, 0);
	sim->loop = loop_new(&sim->clock.clock);
	assert_non_null(sim->loop);
	for (unsigned int i = 0; i < DISKS; i++) {
		sim->disks[i] = disk_new(sim);
		assert_int_equal(block_mirror_new(i, &sim->disks[i]->block, &sim->mirrors[i]), 0);
		for (unsigned int q = 0; q < QUEUES; q++)
			assert_int_equal(block_queue_open(sim->mirrors[i], sim->loop, DEPTH,
							  &sim->queues[i][q]),
					 0);
		sim->copies[i] = malloc(SECTORS * SECTOR);
		assert_non_null(sim->copies[i]);
		memset(sim->copies[i], 0xee, SECTORS * SECTOR);
	}
}

static void end(struct sim *sim)
{
	for (unsigned int i = 0; i < DISKS; i++) {
		for (unsigned int q = 0; q < QUEUES; q++)
			block_queue_close(sim->queues[i][q]);
		block_free(sim->mirrors[i]);
		free(sim->copies[i]);
	}
	mirror_ring_free(sim->ring);
	mirror_reader_release(&sim->reader);
	loop_free(sim->loop);
}

static void run(uint64_t seed)
{
	static struct sim sim;

	memset(&sim, 0, sizeof(sim));
	sim.seed = seed;
	sim.random = seed * 0x9e3779b97f4a7c15ULL + 1;
	sim.errors = seed % 2;
	begin(&sim);
	for (unsigned int i = 0; i < STEPS; i++)
		step(&sim);
	finish(&sim);
	end(&sim);
	printf("seed %llu: %u requests, %u failed, %u entries, %u cuts, %u rings\n",
	       (unsigned long long)seed, sim.done, sim.failed, sim.entries, sim.cuts, sim.rings);
}

static void mirrors_are_what_was_written(void **state _unused_)
{
	for (uint64_t seed = 1; seed <= SEEDS; seed++)
		run(seed);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(mirrors_are_what_was_written) };

	if (argc > 1) {
		run(strtoull(argv[1], NULL, 0));
		return 0;
	}
	return cmocka_run_group_tests(tests, NULL, NULL);
}
