/* SPDX-License-Identifier: Apache-2.0 */
#include "move/pages/receive.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/endian.h"
#include "base/limits.h"
#include "move/pages/demand.h"
#include "move/pages/zero.h"
#include "move/pages/receive_internal.h"

#define PIECE_PAGES 64

DEFINE_CLEANUP(struct pages_target, pages_target_free, pages_target_freep)
DEFINE_CLEANUP(struct pages_unpack, pages_unpack_free, pages_unpack_freep)

static int target_failed(struct error *err, int code, const char *what)
{
	return error_set(err, code, EXIT_STATUS_HOST, "move: memory at the destination: %s: %s",
			 what, strerror(-code));
}

static int punch(const struct pages_target *target, uint64_t start, uint64_t len)
{
	int r = fallocate(target->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)start,
			  (off_t)len);

	return r < 0 ? -errno : 0;
}

/* A hole made in hugetlbfs takes the reservation of its pages with it, and a touch that finds no page left is a SIGBUS: so the
 * mapping, made afterwards, reserves again, and no hole is made later. */
static int target_map(struct pages_target *target)
{
	int reserve = target->hugetlb ? 0 : MAP_NORESERVE;
	void *ram = mmap(NULL, target->bytes, PROT_READ | PROT_WRITE, MAP_SHARED | reserve,
			 target->fd, 0);

	if (ram == MAP_FAILED)
		return -errno;
	target->ram = ram;
	(void)!madvise(ram, target->bytes, MADV_DONTDUMP);
	return 0;
}

static int target_open(struct pages_target *target, bool empty, struct error *err)
{
	size_t words = (target->n_pages + 63) / 64;
	struct statfs fs;
	int r = empty ? punch(target, 0, target->bytes) : 0;

	if (r < 0)
		return target_failed(err, r, "cannot be emptied");
	if (fstatfs(target->fd, &fs) < 0)
		return target_failed(err, -errno, "its file system");
	target->hugetlb = fs.f_type == HUGETLBFS_MAGIC;
	r = target_map(target);
	if (r < 0)
		return target_failed(err, r, "cannot be mapped");
	target->filled = malloc(words * sizeof(uint64_t));
	target->unlike = calloc(words, sizeof(uint64_t));
	if (!target->filled || !target->unlike)
		return target_failed(err, -ENOMEM, "its map");
	memset(target->filled, empty ? 0 : 0xff, words * sizeof(uint64_t));
	return 0;
}

int pages_target_new(int ram_fd, uint64_t ram_bytes, bool empty, struct pages_target **ret_target,
		     struct error *err)
{
	_cleanup_(pages_target_freep) struct pages_target *target = calloc(1, sizeof(*target));
	struct stat st;
	int r;

	if (!target)
		return target_failed(err, -ENOMEM, "its map");
	if (!ram_bytes || ram_bytes > LIMIT_MEMORY || !IS_ALIGNED(ram_bytes, PAGE_BYTES) ||
	    fstat(ram_fd, &st) < 0 || (uint64_t)st.st_size < ram_bytes)
		return target_failed(err, -EINVAL, "its size");
	target->fd = ram_fd;
	target->block = (uint64_t)st.st_blksize;
	target->bytes = ram_bytes;
	target->n_pages = ram_bytes / PAGE_BYTES;
	r = target_open(target, empty, err);
	if (r < 0)
		return r;
	*ret_target = TAKE_PTR(target);
	return 0;
}

void pages_target_free(struct pages_target *target)
{
	if (!target)
		return;
	if (target->ram)
		munmap(target->ram, target->bytes);
	free(target->filled);
	free(target->unlike);
	free(target);
}

int pages_unpack_new(struct pages_unpack **ret_unpack)
{
	_cleanup_(pages_unpack_freep) struct pages_unpack *unpack = calloc(1, sizeof(*unpack));
	int r;

	if (!unpack)
		return -ENOMEM;
	r = page_batch_init(&unpack->batch);
	if (r == 0)
		r = packer_new(&unpack->packer);
	if (r < 0)
		return r;
	*ret_unpack = TAKE_PTR(unpack);
	return 0;
}

void pages_unpack_free(struct pages_unpack *unpack)
{
	if (!unpack)
		return;
	page_batch_release(&unpack->batch);
	packer_free(unpack->packer);
	free(unpack);
}

static void count(uint64_t *counter, uint64_t n)
{
	__atomic_fetch_add(counter, n, __ATOMIC_RELAXED);
}

static bool page_filled(const struct pages_target *target, uint64_t page)
{
	return __atomic_load_n(&target->filled[page / 64], __ATOMIC_RELAXED) >> (page % 64) & 1;
}

static void set_filled(struct pages_target *target, uint64_t page, bool filled)
{
	uint64_t bit = 1ULL << (page % 64);

	if (filled)
		__atomic_fetch_or(&target->filled[page / 64], bit, __ATOMIC_RELAXED);
	else
		__atomic_fetch_and(&target->filled[page / 64], ~bit, __ATOMIC_RELAXED);
}

/* Whether the page agrees with its sum; each page is one thread's. */
static void set_unlike(struct pages_target *target, uint64_t page, bool unlike)
{
	uint64_t bit = 1ULL << (page % 64), *word = &target->unlike[page / 64];

	if (((__atomic_load_n(word, __ATOMIC_RELAXED) & bit) != 0) == unlike)
		return;
	__atomic_fetch_xor(word, bit, __ATOMIC_RELAXED);
	__atomic_fetch_add(&target->n_unlike, unlike ? 1 : UINT64_MAX, __ATOMIC_RELAXED);
}

/* What comes with a sum is judged by whoever brings it. */
static void forget_unlike(struct pages_target *target, uint64_t first, uint64_t n)
{
	if (!__atomic_load_n(&target->n_unlike, __ATOMIC_RELAXED))
		return;
	for (uint64_t page = first; page < first + n; page++)
		set_unlike(target, page, false);
}

static void fill(struct pages_target *target, uint64_t first, uint64_t n)
{
	for (uint64_t page = first; page < first + n; page++)
		set_filled(target, page, true);
	forget_unlike(target, first, n);
}

void pages_target_forget(struct pages_target *target, uint64_t first, uint64_t n)
{
	forget_unlike(target, first, n);
}

void pages_target_set_demand(struct pages_target *target, struct demand *demand)
{
	target->demand = demand;
}

int pages_target_whole(struct pages_target *target, struct error *err)
{
	uint64_t n = __atomic_load_n(&target->n_unlike, __ATOMIC_RELAXED);

	if (!n)
		return 0;
	return error_set(
		err, -EBADMSG, EXIT_STATUS_FAILED,
		"memory: %llu pages are not as they were sent: the network changes what it "
		"carries; move without --plain",
		(unsigned long long)n);
}

/* Whether pages are best made by a touch of the mapping: one touch makes a huge page, which is cleared whichever way it is made, and
 * files of hugetlbfs cannot be written to. */
static bool goes_by_mapping(const struct pages_target *target)
{
	return !target->demand && (target->hugetlb || target->block > PAGE_BYTES);
}

/* Writing to a file of small pages makes them for a third less than a fault for each does, and without a lock that all threads
 * want. */
static int target_write(struct pages_target *target, uint64_t first, uint64_t n,
			const void *content, struct error *err)
{
	const uint8_t *at = content;
	uint64_t offset = first * PAGE_BYTES, end = offset + n * PAGE_BYTES;

	if (target->demand)
		return demand_bring(target->demand, first, n, content, err);
	fill(target, first, n);
	if (goes_by_mapping(target)) {
		memcpy(target->ram + offset, content, n * PAGE_BYTES);
		return 0;
	}
	while (offset < end) {
		ssize_t written = pwrite(target->fd, at, end - offset, (off_t)offset);

		if (written < 0 && errno != EINTR)
			return -errno;
		written = MAX(written, 0);
		offset += (uint64_t)written;
		at += written;
	}
	return 0;
}

static int bad(struct error *err, const char *what, uint64_t value)
{
	return error_set(err, -EBADMSG, EXIT_STATUS_FAILED, "move: %s: %llu", what,
			 (unsigned long long)value);
}

/* Inside a frame a stream that ends is a peer that has gone. */
static int received(struct error *err, int r)
{
	if (r == 0)
		return 0;
	r = r == -ENODATA ? -ECONNRESET : r;
	return error_set(err, r, EXIT_STATUS_FAILED, "move: cannot receive memory: %s",
			 strerror(-r));
}

/* `sums`: of the frame that the pages came in, from its page `from` on; NULL: none. */
static void judge_pages(struct pages_target *target, uint64_t first, uint64_t n,
			const uint8_t *content, const uint8_t *sums, uint64_t from)
{
	for (uint64_t i = 0; sums && i < n; i++)
		set_unlike(target, first + i,
			   page_sum(content + i * PAGE_BYTES) !=
				   page_sums_at(sums, (uint32_t)(from + i)));
}

/* Post-copy: whoever waits for a page gets it at once, and its VM stood still when it was sent. */
static int judge_before(struct pages_target *target, uint64_t first, uint64_t n,
			const uint8_t *content, const uint8_t *sums, uint64_t from,
			struct error *err)
{
	judge_pages(target, first, n, content, sums, from);
	return pages_target_whole(target, err);
}

/* Through a buffer that stays in the CPU's cache. */
static int receive_and_write(struct pages_target *target, struct pages_unpack *unpack,
			     struct frame_reader *reader, uint64_t first, uint64_t n,
			     const uint8_t *sums, struct error *err)
{
	const uint64_t begin = first;

	for (uint64_t end = first + n; first < end; first += n) {
		int r;

		n = MIN(end - first, PIECE_PAGES);
		r = received(err,
			     stream_receive(reader->stream, unpack->batch.content, n * PAGE_BYTES));
		if (r < 0)
			return r;
		if (target->demand && sums)
			r = judge_before(target, first, n, unpack->batch.content, sums,
					 first - begin, err);
		if (r == 0)
			r = target_write(target, first, n, unpack->batch.content, err);
		if (r < 0)
			return target_failed(err, r, "cannot be written");
		if (!target->demand)
			judge_pages(target, first, n, unpack->batch.content, sums, first - begin);
	}
	return 0;
}

static int receive_pages(struct pages_target *target, struct pages_unpack *unpack,
			 struct frame_reader *reader, uint64_t first, uint64_t n,
			 const uint8_t *sums, struct error *err)
{
	uint8_t *at = target->ram + first * PAGE_BYTES;
	int r;

	if (!goes_by_mapping(target))
		return receive_and_write(target, unpack, reader, first, n, sums, err);
	fill(target, first, n);
	r = received(err, stream_receive(reader->stream, at, n * PAGE_BYTES));
	if (r == 0)
		judge_pages(target, first, n, at, sums, 0);
	return r;
}

static int apply_pages(struct pages_target *target, struct pages_unpack *unpack,
		       struct frame_reader *reader, const struct frame *frame, struct error *err)
{
	uint64_t n = frame->len / PAGE_BYTES, first;
	bool here = frame->flags & FRAME_CHECKED;
	le64_t number = le64_make(0);
	int r = 0;

	if (frame->len != 8 + n * PAGE_BYTES || !n || n > MOVE_BATCH_PAGES)
		return bad(err, "pages of an impossible length", frame->len);
	if (here)
		memcpy(&number, reader->payload.data, sizeof(number));
	else
		r = received(err, stream_receive(reader->stream, &number, sizeof(number)));
	if (r < 0)
		return r;
	first = le64_get(number);
	if (!range_fits(first, n, target->n_pages))
		return bad(err, "a page beyond the end of memory", first);
	count(&target->data_pages, n);
	if (!here)
		return receive_pages(target, unpack, reader, first, n, NULL, err);
	r = target_write(target, first, n, reader->payload.data + sizeof(number), err);
	return r < 0 ? target_failed(err, r, "cannot be written") : 0;
}

static int apply_summed(struct pages_target *target, struct pages_unpack *unpack,
			struct frame_reader *reader, const struct frame *frame, struct error *err)
{
	uint64_t n = frame->len / (PAGE_BYTES + 8), first;
	int r;

	if (!n || n > MOVE_BATCH_PAGES || frame->len != PAGE_SUMS_BYTES(n) + n * PAGE_BYTES ||
	    (frame->flags & FRAME_CHECKED))
		return bad(err, "pages with sums of an impossible length", frame->len);
	r = received(err, stream_receive(reader->stream, unpack->sums, PAGE_SUMS_BYTES(n)));
	if (r < 0)
		return r;
	first = le_load(unpack->sums, 8);
	if (!page_sums_whole(unpack->sums, (uint32_t)n))
		return bad(err, "sums of pages were damaged on the way, at page", first);
	if (!range_fits(first, n, target->n_pages))
		return bad(err, "a page beyond the end of memory", first);
	count(&target->data_pages, n);
	return receive_pages(target, unpack, reader, first, n, unpack->sums, err);
}

/* The payload of a short frame. */
static int whole(struct frame_reader *reader, const struct frame *frame, struct error *err)
{
	if (frame->flags & FRAME_CHECKED)
		return 0;
	return received(err, frame_receive_rest(reader, frame));
}

static void wipe(struct pages_target *target, uint64_t start, uint64_t end)
{
	for (uint64_t page = start / PAGE_BYTES; page < end / PAGE_BYTES; page++)
		if (page_filled(target, page))
			memset(target->ram + page * PAGE_BYTES, 0, PAGE_BYTES);
}

static bool range_filled(const struct pages_target *target, uint64_t first, uint64_t n)
{
	for (uint64_t page = first; page < first + n; page++)
		if (page_filled(target, page))
			return true;
	return false;
}

/* Whole pages of the file become holes; what is less is overwritten, so that no huge page is split. */
static int apply_zero_range(struct pages_target *target, uint64_t first, uint64_t n,
			    struct error *err)
{
	uint64_t start = first * PAGE_BYTES, end = start + n * PAGE_BYTES;
	uint64_t from = ALIGN_UP(start, target->block), to = ALIGN_DOWN(end, target->block);
	int r;

	count(&target->zero_pages, n);
	if (target->demand)
		return demand_bring(target->demand, first, n, NULL, err);
	if (!range_filled(target, first, n))
		return 0;
	forget_unlike(target, first, n);
	if (target->hugetlb || from >= to) {
		wipe(target, start, end);
		return 0;
	}
	wipe(target, start, from);
	wipe(target, to, end);
	r = punch(target, from, to - from);
	for (uint64_t page = from / PAGE_BYTES; r == 0 && page < to / PAGE_BYTES; page++)
		set_filled(target, page, false);
	return r;
}

static int apply_zeroes(struct pages_target *target, struct frame_reader *reader,
			const struct frame *frame, struct error *err)
{
	struct cursor in;
	uint64_t lowest = 0;
	int r = whole(reader, frame, err);

	if (r < 0)
		return r;
	in = (struct cursor){ .data = reader->payload.data, .left = frame->len };
	while (in.left && !in.bad) {
		uint64_t first = cursor_take_le(&in, 8), n = cursor_take_le(&in, 4);

		/* Ascending, so that no frame costs more than all of memory does. */
		if (in.bad || !n || first < lowest || !range_fits(first, n, target->n_pages))
			return bad(err, "a range of zeros that cannot be, at page", first);
		r = apply_zero_range(target, first, n, err);
		if (r < 0)
			return target_failed(err, r, "cannot make a hole");
		lowest = first + n;
	}
	return 0;
}

static int unpack_frame(struct pages_target *target, struct pages_unpack *unpack,
			struct frame_reader *reader, const struct frame *frame, struct error *err)
{
	int r = whole(reader, frame, err);

	if (r < 0)
		return r;
	return packer_unpack(unpack->packer, reader->payload.data, frame->len, target->n_pages,
			     &unpack->batch, err);
}

static int apply_packed(struct pages_target *target, struct pages_unpack *unpack,
			struct frame_reader *reader, const struct frame *frame, struct error *err)
{
	struct page_batch *batch = &unpack->batch;
	int r = unpack_frame(target, unpack, reader, frame, err);

	if (r < 0)
		return r;
	for (uint32_t i = 0, n; r == 0 && i < batch->n; i += n) {
		for (n = 1; i + n < batch->n && batch->pages[i + n] == batch->pages[i] + n; n++)
			;
		r = target_write(target, batch->pages[i], n, page_batch_at(batch, i), err);
	}
	count(&target->data_pages, batch->n);
	count(&target->packed_pages, batch->n);
	return r < 0 ? target_failed(err, r, "cannot be written") : 0;
}

static int apply_deltas(struct pages_target *target, struct pages_unpack *unpack,
			struct frame_reader *reader, const struct frame *frame, struct error *err)
{
	struct page_batch *batch = &unpack->batch;
	int r = unpack_frame(target, unpack, reader, frame, err);

	if (r < 0)
		return r;
	if (target->demand)
		return bad(err, "a difference to a page that is a hole", batch->pages[0]);
	for (uint32_t i = 0; i < batch->n; i++) {
		if (!page_filled(target, batch->pages[i]))
			return bad(err, "a difference to a page that never came", batch->pages[i]);
		page_xor(target->ram + batch->pages[i] * PAGE_BYTES, page_batch_at(batch, i));
	}
	count(&target->data_pages, batch->n);
	count(&target->delta_pages, batch->n);
	return 0;
}

int pages_apply(struct pages_target *target, struct pages_unpack *unpack,
		struct frame_reader *reader, const struct frame *frame, struct error *err)
{
	int r;

	switch (frame->kind) {
	case MOVE_PAGES:
		r = apply_pages(target, unpack, reader, frame, err);
		break;
	case MOVE_SUMMED:
		r = apply_summed(target, unpack, reader, frame, err);
		break;
	case MOVE_ZEROES:
		r = apply_zeroes(target, reader, frame, err);
		break;
	case MOVE_PACKED:
		r = apply_packed(target, unpack, reader, frame, err);
		break;
	case MOVE_DELTAS:
		r = apply_deltas(target, unpack, reader, frame, err);
		break;
	default:
		return 0;
	}
	return r < 0 ? r : 1;
}
