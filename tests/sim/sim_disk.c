/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Random I/O on a virtio disk against a model that knows what each sector holds. Meanwhile the machine is moved,
 * busy as it is, to another one with a copy of the disk; the driver resets the device with requests in
 * flight; the disk below is slow or fails. A byte in the wrong place, a request lost or done twice shows here.
 *
 * Requests of one moment do not overlap where one of them writes: what a disk does then is its own business.
 */

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "blk_rig.h"

#define SECTORS 4096
#define FLYING_MAX 16
#define SECTORS_MAX 60
#define BUFFER KIB(64) /* guest memory of one request */
#define QUEUES 3
#define STEPS 400

/* A request of the driver that the device has. */
struct flying {
	bool used;
	uint32_t type;
	unsigned int queue;
	uint64_t sector, sectors;
	uint64_t data; /* guest address */
	uint32_t tag;  /* what it writes */
	bool moved;    /* the owner before may have done it already */
};

struct sim {
	uint64_t seed, random;
	struct blk_rig_options options;
	struct blk_rig rig;
	uint32_t model[SECTORS]; /* the tag that each sector was written with; 0: zeros */
	uint32_t last_tag;
	struct flying flying[FLYING_MAX];
	unsigned int n_flying;
	int slot_of[QUEUES][LIMIT_QUEUE_SIZE]; /* by head */
	unsigned int done, failed, moves, resets;
};

static uint64_t below(struct sim *sim, uint64_t limit)
{
	sim->random ^= sim->random >> 12;
	sim->random ^= sim->random << 25;
	sim->random ^= sim->random >> 27;
	return (sim->random * 0x2545f4914f6cdd1dULL >> 11) % limit;
}

static void fail_sim(const struct sim *sim, const char *what, uint64_t sector)
{
	fail_msg("seed %llu: %s at sector %llu (%u requests, %u moves, %u resets before)",
		 (unsigned long long)sim->seed, what, (unsigned long long)sector, sim->done,
		 sim->moves, sim->resets);
}

/* The bytes of a sector written with `tag`. */
static void sector_bytes(uint64_t sector, uint32_t tag, uint8_t *ret_bytes)
{
	uint64_t x = sector << 32 | tag;

	memset(ret_bytes, 0, BLK_RIG_SECTOR);
	for (unsigned int i = 0; tag && i < BLK_RIG_SECTOR; i += 8) {
		x = x * 6364136223846793005ULL + 1442695040888963407ULL;
		memcpy(ret_bytes + i, &x, 8);
	}
}

static bool sector_is(uint64_t sector, uint32_t tag, const uint8_t *bytes)
{
	uint8_t expected[BLK_RIG_SECTOR];

	sector_bytes(sector, tag, expected);
	return memcmp(bytes, expected, sizeof(expected)) == 0;
}

/* ---- requests ---- */

static bool writes(uint32_t type)
{
	return type == VBLK_OUT || type == VBLK_ZEROES || type == VBLK_DISCARD;
}

static bool conflicts(const struct sim *sim, const struct flying *request)
{
	for (unsigned int i = 0; i < FLYING_MAX; i++) {
		const struct flying *other = &sim->flying[i];

		if (other->used && (writes(other->type) || writes(request->type)) &&
		    other->sector < request->sector + request->sectors &&
		    request->sector < other->sector + other->sectors)
			return true;
	}
	return false;
}

static uint32_t random_type(struct sim *sim)
{
	static const uint32_t types[] = { VBLK_IN,  VBLK_IN,	VBLK_IN,     VBLK_OUT,	  VBLK_OUT,
					  VBLK_OUT, VBLK_FLUSH, VBLK_ZEROES, VBLK_DISCARD };
	uint32_t type = types[below(sim, ARRAY_SIZE(types))];

	if (type == VBLK_DISCARD && !(sim->rig.driver.features & VBLK_F_DISCARD))
		type = VBLK_FLUSH;
	return type;
}

static void random_request(struct sim *sim, unsigned int slot, struct flying *ret_request)
{
	uint64_t align = sim->rig.block->geometry.logical_block / BLK_RIG_SECTOR;
	uint64_t len = ALIGN_UP(1 + below(sim, SECTORS_MAX), align);
	/* Half of them in a small part of the disk: they meet each other. */
	uint64_t space = below(sim, 2) ? SECTORS : 256;

	*ret_request = (struct flying){
		.used = true,
		.type = random_type(sim),
		.queue = (unsigned int)below(sim, QUEUES),
		.sectors = len,
		.sector = ALIGN_DOWN(below(sim, space - len), align),
		.data = sim->rig.data + slot * BUFFER,
		.tag = ++sim->last_tag,
	};
	if (ret_request->type == VBLK_FLUSH)
		ret_request->sectors = 0;
	if (below(sim, 3) == 0) /* a buffer that O_DIRECT does not take */
		ret_request->data += 1 + below(sim, 600);
}

static void fill_buffer(struct sim *sim, const struct flying *f)
{
	for (uint64_t i = 0; i < f->sectors; i++)
		sector_bytes(f->sector + i, f->tag,
			     blk_rig_at(&sim->rig, f->data + i * BLK_RIG_SECTOR, BLK_RIG_SECTOR));
}

/* Data in up to BLK_RIG_PIECES pieces, cut anywhere. */
static int add_transfer(struct sim *sim, unsigned int slot, const struct flying *f)
{
	uint32_t left = (uint32_t)(f->sectors * BLK_RIG_SECTOR);
	struct vbuffer pieces[BLK_RIG_PIECES];
	uint64_t at = f->data;
	unsigned int n = 0;

	while (left) {
		uint32_t len = left;

		if (n < BLK_RIG_PIECES - 1 && below(sim, 2))
			len = (uint32_t)(1 + below(sim, left));
		pieces[n++] = (struct vbuffer){ at, len, f->type == VBLK_IN };
		at += len;
		left -= len;
	}
	if (f->type == VBLK_OUT)
		fill_buffer(sim, f);
	return blk_rig_add_pieces(&sim->rig, f->queue, slot, f->type, f->sector, pieces, n);
}

static void submit(struct sim *sim)
{
	unsigned int slot = 0;
	struct flying request;
	int head;

	while (slot < FLYING_MAX && sim->flying[slot].used)
		slot++;
	if (slot == FLYING_MAX)
		return;
	random_request(sim, slot, &request);
	if (conflicts(sim, &request))
		return;
	if (request.type == VBLK_ZEROES || request.type == VBLK_DISCARD) {
		head = blk_rig_add_range(&sim->rig, request.queue, slot, request.type,
					 request.sector, (uint32_t)request.sectors,
					 request.type == VBLK_ZEROES && below(sim, 2));
		request.tag = 0;
	} else {
		head = add_transfer(sim, slot, &request);
	}
	sim->slot_of[request.queue][head] = (int)slot;
	sim->flying[slot] = request;
	sim->n_flying++;
	/* Not each by itself: the device sees batches. */
	if (below(sim, 3))
		blk_rig_kick(&sim->rig, request.queue);
}

static void kick_all(struct sim *sim)
{
	for (unsigned int q = 0; q < QUEUES; q++)
		blk_rig_kick(&sim->rig, q);
}

/* ---- answers ---- */

static void check_read(struct sim *sim, const struct flying *f)
{
	for (uint64_t i = 0; i < f->sectors; i++)
		if (!sector_is(f->sector + i, sim->model[f->sector + i],
			       blk_rig_at(&sim->rig, f->data + i * BLK_RIG_SECTOR, BLK_RIG_SECTOR)))
			fail_sim(sim, "wrong data read", f->sector + i);
}

/* A request that failed half way, or that a reset cut off, was done or not, sector by sector. */
static void look_what_was_done(struct sim *sim, const struct flying *f, bool may_be_done)
{
	uint8_t bytes[BLK_RIG_SECTOR];

	for (uint64_t i = 0; writes(f->type) && i < f->sectors; i++) {
		uint64_t sector = f->sector + i;

		blk_rig_read_file(&sim->rig, sector * BLK_RIG_SECTOR, bytes, sizeof(bytes));
		if (may_be_done && sector_is(sector, f->tag, bytes))
			sim->model[sector] = f->tag;
		else if (!sector_is(sector, sim->model[sector], bytes))
			fail_sim(sim, "neither old nor new data of a request cut off", sector);
	}
}

static void answered(struct sim *sim, unsigned int queue, uint16_t head)
{
	int slot = sim->slot_of[queue][head];
	struct flying *f = &sim->flying[slot];
	uint8_t status = blk_rig_status(&sim->rig, (unsigned int)slot);

	if (slot < 0 || !f->used || f->queue != queue)
		fail_sim(sim, "an answer to nothing", 0);
	sim->failed += status != VBLK_OK;
	if (status == VBLK_IOERR && sim->options.filters && strstr(sim->options.filters, "fail"))
		look_what_was_done(sim, f, f->moved);
	else if (status != VBLK_OK)
		fail_sim(sim, "a bad status", f->sector);
	else if (f->type == VBLK_IN)
		check_read(sim, f);
	else if (writes(f->type))
		for (uint64_t i = 0; i < f->sectors; i++)
			sim->model[f->sector + i] = f->tag;
	f->used = false;
	sim->slot_of[queue][head] = -1;
	sim->n_flying--;
	sim->done++;
}

static bool collect(struct sim *sim)
{
	bool any = false;
	uint16_t head;

	for (unsigned int q = 0; q < QUEUES; q++) {
		while (vqueue_get(&sim->rig.queues[q], &head, NULL)) {
			answered(sim, q, head);
			any = true;
		}
	}
	return any;
}

/* Until at most `n` requests fly. */
static void wait_for(struct sim *sim, unsigned int n)
{
	uint64_t end = clock_now(&clock_host) + 10 * NSEC_PER_SEC;

	kick_all(sim);
	while (sim->n_flying > n) {
		if (collect(sim))
			continue;
		if (clock_now(&clock_host) > end)
			fail_sim(sim, "requests that never end", 0);
		usleep(20);
	}
}

/* ---- what happens to the machine ---- */

static void move(struct sim *sim)
{
	struct blk_rig next;

	/* The disk is copied while it stands still, but for what is in flight, which the new owner repeats. */
	quiesce_begin(&sim->rig.machine->quiesce);
	blk_rig_copy(&next, &sim->rig, &sim->options);
	blk_rig_move(&next, &sim->rig);
	quiesce_end(&sim->rig.machine->quiesce);
	blk_rig_free(&sim->rig);
	sim->rig = next;
	for (unsigned int q = 0; q < QUEUES; q++)
		sim->rig.queues[q].driver = &sim->rig.driver;
	for (unsigned int i = 0; i < FLYING_MAX; i++)
		sim->flying[i].moved = true;
	sim->moves++;
}

static void reset(struct sim *sim)
{
	kick_all(sim);
	assert_int_equal(vdriver_reset(&sim->rig.driver), 0);
	for (unsigned int i = 0; i < FLYING_MAX; i++) {
		if (sim->flying[i].used)
			look_what_was_done(sim, &sim->flying[i], true);
		sim->flying[i].used = false;
	}
	sim->n_flying = 0;
	blk_rig_drive(&sim->rig, &sim->options);
	sim->resets++;
}

static void step(struct sim *sim)
{
	unsigned int what = (unsigned int)below(sim, 200);

	if (what == 0)
		move(sim);
	else if (what == 1)
		reset(sim);
	else if (what < 30)
		wait_for(sim, (unsigned int)below(sim, FLYING_MAX));
	else
		submit(sim);
	collect(sim);
}

static void compare_disk(struct sim *sim)
{
	_cleanup_(freep) uint8_t *disk = malloc(SECTORS * BLK_RIG_SECTOR);

	assert_non_null(disk);
	blk_rig_read_file(&sim->rig, 0, disk, SECTORS * BLK_RIG_SECTOR);
	for (uint64_t i = 0; i < SECTORS; i++)
		if (!sector_is(i, sim->model[i], disk + i * BLK_RIG_SECTOR))
			fail_sim(sim, "the disk is not as written", i);
}

static void run(uint64_t seed, unsigned int rounds)
{
	static const char *const filters[] = { NULL, "delay:us=200",
					       "fail:every=9+delay:us=50,op=write" };
	static struct sim sim;

	memset(&sim, 0, sizeof(sim));
	sim.seed = seed;
	sim.random = seed * 0x9e3779b97f4a7c15ULL + 1;
	sim.options = (struct blk_rig_options){
		.filters = filters[seed % ARRAY_SIZE(filters)],
		.queues = QUEUES,
		.size = SECTORS * BLK_RIG_SECTOR,
		.refuse = seed & 4 ? VIRTIO_F_EVENT_IDX : 0,
	};
	blk_rig_make(&sim.rig, &sim.options);
	blk_rig_drive(&sim.rig, &sim.options);
	for (unsigned int i = 0; i < rounds * STEPS; i++)
		step(&sim);
	wait_for(&sim, 0);
	compare_disk(&sim);
	blk_rig_free(&sim.rig);
	printf("seed %llu: %u requests, %u failed as told, %u moves, %u resets\n",
	       (unsigned long long)seed, sim.done, sim.failed, sim.moves, sim.resets);
}

static void the_disk_is_as_the_model_says(void **state _unused_)
{
	for (uint64_t seed = 1; seed <= 8; seed++)
		run(seed, 3);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_disk_is_as_the_model_says),
	};

	if (argc > 1) {
		run(strtoull(argv[1], NULL, 0), argc > 2 ? (unsigned int)atoi(argv[2]) : 3);
		return 0;
	}
	return cmocka_run_group_tests(tests, NULL, NULL);
}
