/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The copy that a backup begins with, in epochs without a state: the disks' content, then RAM's populated pages, then in rounds what the guest has
 * written meanwhile.
 *
 * What it writes to the disks comes by the ring, in its order. A chunk that is read from a disk may go behind it only if it has it: so what is
 * forwarded is a prefix of entries whose own writes have ended, and of what is forwarded later than the chunk everything lands on top.
 */
#include "protect/guard/owner_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/fd.h"
#include "move/pages/bandwidth.h"
#include "move/pages/zero.h"

#define EPOCH_BYTES MIB(16)
#define EPOCH_PAGES (EPOCH_BYTES / MEMORY_PAGE_SIZE)
#define CHUNK_BYTES PROTECT_WRITE_MAX
#define FEW_PAGES 1024 /* that are left: the first cut takes them */
#define ROUNDS_MAX 30
#define ROUNDS_TRIED 4 /* before rounds can be said not to help */

struct fill {
	struct owner *owner;
	struct epoch epoch; /* of pages, and of what a whole one begins with */
	bool open;
	uint64_t bytes; /* in it */
	uint8_t *chunk;
	struct bandwidth bandwidth;
	const char *phase;
	uint64_t began_ns; /* the phase */
	struct move_numbers numbers;
};

/* ---- epochs ---- */

static void show(struct fill *fill, bool now)
{
	struct guard *guard = &fill->owner->guard;
	const uint64_t ns = clock_now(guard->clock) - fill->began_ns;

	fill->numbers.rate = ns ? (uint64_t)((double)fill->numbers.sent * NSEC_PER_SEC / (double)ns)
				: 0;
	progress_guard(&guard->progress, fill->phase, &fill->numbers, now);
}

static void begin_phase(struct fill *fill, const char *phase)
{
	fill->phase = phase;
	fill->began_ns = clock_now(fill->owner->guard.clock);
	fill->numbers.sent = 0;
	show(fill, true);
}

static int open_epoch(struct fill *fill)
{
	struct owner *owner = fill->owner;

	if (fill->open)
		return 0;
	fill->open = true;
	fill->bytes = 0;
	fill->epoch.number = owner_next_epoch(owner);
	return owner_lost(owner,
			  epoch_send_begin(owner->sender, &fill->epoch, &owner->guard.origin));
}

/* One may be on its way while the next is sent. */
static int close_epoch(struct fill *fill)
{
	struct owner *owner = fill->owner;
	uint64_t wait_ns;
	int r;

	if (!fill->open)
		return owner_look(owner);
	fill->open = false;
	r = epoch_send_end(owner->sender, &fill->epoch, &owner->counts);
	if (r == 0)
		r = stream_flush(owner->guard.stream);
	guard_said(&owner->guard);
	fill->epoch.n_pages = 0;
	if (r < 0)
		return owner_lost(owner, r);
	show(fill, false);
	wait_ns = bandwidth_take(&fill->bandwidth, owner->counts.wire_bytes,
				 clock_now(owner->guard.clock));
	for (uint64_t due_ns = clock_now(owner->guard.clock) + wait_ns; r == 0 && wait_ns;) {
		const uint64_t now_ns = clock_now(owner->guard.clock);

		if (now_ns >= due_ns)
			break;
		r = owner_wait(owner, due_ns - now_ns);
	}
	return r < 0 ? r : owner_wait_acked(owner, owner->number - 1);
}

/* ---- disks ---- */

static int put_write(void *ctx, const struct journal_write *write)
{
	struct fill *fill = ctx;
	int r = open_epoch(fill);

	if (r == 0)
		r = owner_lost(fill->owner, epoch_send_write(fill->owner->sender, write));
	guard_said(&fill->owner->guard);
	if (r == 0 && write->kind == JOURNAL_WRITE)
		fill->bytes += write->len;
	return r == 0 && fill->bytes >= EPOCH_BYTES ? close_epoch(fill) : r;
}

static int forward_done(struct fill *fill)
{
	return owner_take_ring(fill->owner, UINT64_MAX, put_write, fill);
}

static bool is_zero(const uint8_t *chunk, size_t len)
{
	for (size_t at = 0; at < len; at += MEMORY_PAGE_SIZE)
		if (!page_is_zero(chunk + at))
			return false;
	return true;
}

/* Past the page cache, which may hold what was there before the VM's own direct writes. Zeroes take no place there. */
static int send_chunk(struct fill *fill, uint32_t disk, uint64_t at, size_t len)
{
	struct journal_write write = { JOURNAL_WRITE, disk, at, len, fill->chunk };
	struct guard *guard = &fill->owner->guard;
	const size_t padded = ALIGN_UP(len, MEMORY_PAGE_SIZE);
	int r = fd_read_blocks(guard->disks[disk].fd, fill->chunk, len, at);

	if (r < 0)
		return error_set(&guard->error, r, EXIT_STATUS_RESOURCE,
				 "disk[%u]: cannot be read: %s; see this host's kernel log",
				 guard->disks[disk].index, strerror(-r));
	memset(fill->chunk + len, 0, padded - len);
	if (is_zero(fill->chunk, padded))
		write.kind = JOURNAL_DISCARD;
	fill->numbers.sent += len;
	return put_write(fill, &write);
}

/* Up to where from `at` on all is data, or all is a hole. A file system that does not tell has no holes. */
static uint64_t find_run(const struct fill *fill, uint32_t disk, uint64_t at, bool *ret_hole)
{
	const struct guard *guard = &fill->owner->guard;
	const uint64_t size = guard->disk_bytes[disk];
	const int fd = guard->disks[disk].fd;
	off_t data = lseek(fd, (off_t)at, SEEK_DATA), end;

	*ret_hole = data < 0 ? errno == ENXIO : ALIGN_DOWN((uint64_t)data, STORAGE_SECTOR) > at;
	if (*ret_hole)
		return data < 0 ? size : ALIGN_DOWN(MIN((uint64_t)data, size), STORAGE_SECTOR);
	end = data < 0 ? -1 : lseek(fd, data, SEEK_HOLE);
	return end < 0 ? size : MIN(ALIGN_UP((uint64_t)end, STORAGE_SECTOR), size);
}

/* What was allocated stays right to be read; what was a hole is one only until the guest writes there, so nothing is forwarded between the
 * finding and the telling. */
static int send_run(struct fill *fill, uint32_t disk, uint64_t *at)
{
	struct owner *owner = fill->owner;
	struct journal_write hole = { JOURNAL_DISCARD, disk, *at, 0, NULL };
	bool is_hole;
	uint64_t end;
	int r = forward_done(fill);

	if (r < 0)
		return r;
	end = find_run(fill, disk, *at, &is_hole);
	if (is_hole && end > *at) {
		hole.len = end - *at;
		fill->numbers.left -= hole.len;
		*at = end;
		return put_write(fill, &hole);
	}
	while (r == 0 && *at < end) {
		const size_t len = (size_t)MIN(end - *at, (uint64_t)CHUNK_BYTES);

		r = forward_done(fill);
		if (r == 0)
			r = send_chunk(fill, disk, *at, len);
		fill->numbers.left -= len;
		*at += len;
		if (r == 0)
			r = owner_look(owner);
	}
	return r;
}

static int fill_disks(struct fill *fill)
{
	struct guard *guard = &fill->owner->guard;
	int r = 0;

	if (!guard->n_disks)
		return 0;
	for (uint32_t i = 0; i < guard->n_disks; i++) {
		const int flags = fcntl(guard->disks[i].fd, F_GETFL);

		(void)fcntl(guard->disks[i].fd, F_SETFL, flags | O_DIRECT);
		fill->numbers.left += guard->disk_bytes[i];
	}
	begin_phase(fill, "fill-disks");
	for (uint32_t i = 0; r == 0 && i < guard->n_disks; i++)
		for (uint64_t at = 0; r == 0 && at < guard->disk_bytes[i];)
			r = send_run(fill, i, &at);
	if (r == 0)
		r = forward_done(fill);
	return r < 0 ? r : close_epoch(fill);
}

/* ---- memory ---- */

static void copy_claim(struct fill *fill, struct page_claim *claim)
{
	const uint8_t *ram = page_map_ram(fill->owner->map);
	struct epoch *epoch = &fill->epoch;
	uint64_t first;
	uint32_t n;

	while (page_claim_run(claim, UINT32_MAX, &first, &n)) {
		memcpy(epoch_content(epoch, epoch->n_pages), ram + first * MEMORY_PAGE_SIZE,
		       n * MEMORY_PAGE_SIZE);
		for (uint32_t i = 0; i < n; i++)
			epoch->pages[epoch->n_pages++] = first + i;
	}
}

/* The guest may write to a page while it is copied: then it is dirty again, and what is sent is the copy. */
static int send_pages(struct fill *fill, bool *ret_more)
{
	struct epoch *epoch = &fill->epoch;
	struct page_claim claim;
	int r = open_epoch(fill);

	*ret_more = true;
	while (*ret_more && EPOCH_PAGES - epoch->n_pages >= 64) {
		const uint64_t room = EPOCH_PAGES - epoch->n_pages;

		*ret_more = page_map_claim(fill->owner->map, (uint32_t)room - 63, &claim);
		if (*ret_more)
			copy_claim(fill, &claim);
	}
	fill->numbers.sent += epoch->n_pages * MEMORY_PAGE_SIZE;
	fill->numbers.left = page_map_left(fill->owner->map) * MEMORY_PAGE_SIZE;
	if (r == 0)
		r = forward_done(fill);
	return r < 0 ? r : close_epoch(fill);
}

static int send_round(struct fill *fill)
{
	bool more = true;
	int r = 0;

	while (r == 0 && more)
		r = send_pages(fill, &more);
	return r;
}

static int fill_memory(struct fill *fill)
{
	struct owner *owner = fill->owner;
	struct guard *guard = &owner->guard;
	uint64_t left = UINT64_MAX, before, pages;
	int r = page_map_add_populated(owner->map, &guard->error);

	begin_phase(fill, "fill-memory");
	for (int round = 1; r == 0; round++) {
		const bool enough = round > 1 && (left <= FEW_PAGES || round > ROUNDS_MAX ||
						  (round > ROUNDS_TRIED && left > before / 4 * 3));

		page_map_rewind(owner->map);
		r = send_round(fill);
		if (r < 0 || enough)
			return r;
		r = guard->link->ops->collect(guard->link, &pages, &guard->error);
		page_map_rewind(owner->map);
		before = left;
		left = page_map_left(owner->map);
	}
	return r;
}

int owner_fill(struct owner *owner)
{
	struct fill fill = { .owner = owner, .numbers = { 0 } };
	int r = epoch_init(&fill.epoch, EPOCH_PAGES);

	bandwidth_init(&fill.bandwidth, owner->guard.job->max_bandwidth);
	fill.chunk = aligned_alloc(FD_BLOCK_BYTES, CHUNK_BYTES + FD_BLOCK_BYTES);
	if (r == 0 && !fill.chunk)
		r = -ENOMEM;
	if (r == 0)
		r = fill_disks(&fill);
	if (r == 0)
		r = fill_memory(&fill);
	free(fill.chunk);
	bandwidth_release(&fill.bandwidth);
	epoch_release(&fill.epoch);
	return r;
}
