/* SPDX-License-Identifier: Apache-2.0 */
#include "move/disks/target.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/buffer.h"
#include "base/cleanup.h"
#include "base/fd.h"
#include "move/disks/frame.h"
#include "wire/compress.h"

#define BLOCK FD_BLOCK_BYTES
#define SYNC_BYTES MIB(64) /* written between two syncs: a cache that is full stalls all at once */

struct disk_target {
	uint32_t index;
	int fd; /* borrowed */
	uint64_t size;
	bool device;
	bool whole;
	struct disk_tree *tree;
	uint64_t n_chunks;
	uint64_t *filled; /* a bit per chunk that may hold something; atomic words */
	uint64_t *fresh;  /* a bit per chunk that came in this pass; atomic words */
	uint64_t bytes, unsynced, unchecked; /* atomic */
	pthread_mutex_t lock;
	uint64_t next; /* lock held: chunk to look at for the next check */
};

struct disk_hands {
	uint8_t *buf; /* DISK_CHUNK_MAX, aligned to BLOCK */
	struct expander *expander;
	struct digest *digest;
};

DEFINE_CLEANUP(struct disk_target, disk_target_free, disk_targetp)
DEFINE_CLEANUP(struct disk_hands, disk_hands_free, disk_handsp)

int disk_hands_new(struct disk_hands **ret_hands)
{
	_cleanup_(disk_handsp) struct disk_hands *hands = calloc(1, sizeof(*hands));
	int r = 0;

	if (!hands)
		return -ENOMEM;
	hands->buf = aligned_alloc(BLOCK, DISK_CHUNK_MAX);
	if (!hands->buf)
		return -ENOMEM;
	r = expander_new(&hands->expander);
	if (r == 0)
		r = digest_new(&hands->digest);
	if (r == 0)
		*ret_hands = TAKE_PTR(hands);
	return r;
}

void disk_hands_free(struct disk_hands *hands)
{
	if (!hands)
		return;
	if (hands->expander)
		expander_free(hands->expander);
	digest_free(hands->digest);
	free(hands->buf);
	free(hands);
}

/* ---- life ---- */

static bool bit_get(const uint64_t *words, uint64_t bit)
{
	return __atomic_load_n(&words[bit / 64], __ATOMIC_RELAXED) >> bit % 64 & 1;
}

/* Whether it was set. */
static bool bit_set(uint64_t *words, uint64_t bit)
{
	return __atomic_fetch_or(&words[bit / 64], 1ULL << bit % 64, __ATOMIC_RELAXED) >> bit % 64 &
	       1;
}

static void bit_clear(uint64_t *words, uint64_t bit)
{
	__atomic_fetch_and(&words[bit / 64], ~(1ULL << bit % 64), __ATOMIC_RELAXED);
}

/* All of a file that may hold something of before. */
static int empty_file(const struct disk_target *target)
{
	if (fallocate(target->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0,
		      (off_t)target->size) == 0)
		return 0;
	if (errno != EOPNOTSUPP)
		return -errno;
	return ftruncate(target->fd, 0) < 0 || ftruncate(target->fd, (off_t)target->size) < 0
		       ? -errno
		       : 0;
}

static int measure(struct disk_target *target)
{
	off_t size = lseek(target->fd, 0, SEEK_END);
	struct stat st;

	if (size < 0 || fstat(target->fd, &st) < 0)
		return -errno;
	target->size = (uint64_t)size;
	target->device = S_ISBLK(st.st_mode);
	return 0;
}

static int prepare(struct disk_target *target)
{
	size_t words;
	int r = measure(target);

	if (r == 0)
		r = disk_tree_new(target->size, &target->tree);
	if (r < 0)
		return r;
	target->n_chunks = disk_tree_chunks(target->tree);
	words = (target->n_chunks + 63) / 64;
	target->filled = calloc(words, sizeof(uint64_t));
	target->fresh = calloc(words, sizeof(uint64_t));
	if (!target->filled || !target->fresh)
		return -ENOMEM;
	if (!target->device)
		return empty_file(target);
	memset(target->filled, 0xff, words * sizeof(uint64_t));
	return 0;
}

int disk_target_new(uint32_t index, int fd, struct disk_target **ret_target, struct error *err)
{
	_cleanup_(disk_targetp) struct disk_target *target = calloc(1, sizeof(*target));
	int r = target ? 0 : -ENOMEM;

	if (target) {
		pthread_mutex_init(&target->lock, NULL);
		target->index = index;
		target->fd = fd;
		r = prepare(target);
	}
	if (r < 0)
		return error_set(
			err, r, EXIT_STATUS_RESOURCE,
			"disk[%u]: cannot be made ready for a copy: %s; see this host's disk",
			index, strerror(-r));
	*ret_target = TAKE_PTR(target);
	return 0;
}

void disk_target_free(struct disk_target *target)
{
	if (!target)
		return;
	disk_tree_free(target->tree);
	free(target->filled);
	free(target->fresh);
	pthread_mutex_destroy(&target->lock);
	free(target);
}

uint32_t disk_target_index(const struct disk_target *target)
{
	return target->index;
}

/* ---- what comes ---- */

static int bad(const struct disk_target *target, const char *why, struct error *err)
{
	return error_set(err, -EBADMSG, EXIT_STATUS_FAILED,
			 "disk[%u]: the other host sent %s; upgrade the older utsusu",
			 target->index, why);
}

static int cannot_write(const struct disk_target *target, uint64_t offset, int r, struct error *err)
{
	return error_set(err, r, EXIT_STATUS_RESOURCE,
			 "disk[%u]: cannot be written at byte %llu: %s; %s", target->index,
			 (unsigned long long)offset, strerror(-r),
			 r == -ENOSPC || r == -EDQUOT ? "free some room on this host"
						      : "see this host's kernel log");
}

static int claim(struct disk_target *target, uint64_t chunk, struct error *err)
{
	if (bit_set(target->fresh, chunk))
		return bad(target, "a part of it twice in one pass", err);
	__atomic_fetch_add(&target->unchecked, 1, __ATOMIC_RELAXED);
	return 0;
}

static int write_zeroes(const struct disk_target *target, uint64_t offset, uint64_t len)
{
	static const uint8_t zeroes[BLOCK];
	int r = 0;

	for (uint64_t at = 0; r == 0 && at < len; at += BLOCK)
		r = fd_write_at(target->fd, zeroes, MIN(len - at, (uint64_t)BLOCK), offset + at);
	return r;
}

static int zero_range(const struct disk_target *target, uint64_t offset, uint64_t len)
{
	static const int ways[] = { FALLOC_FL_PUNCH_HOLE, FALLOC_FL_ZERO_RANGE };

	for (size_t i = 0; i < ARRAY_SIZE(ways); i++) {
		if (fallocate(target->fd, ways[i] | FALLOC_FL_KEEP_SIZE, (off_t)offset,
			      (off_t)len) == 0)
			return 0;
		if (errno != EOPNOTSUPP && errno != EINVAL)
			return -errno;
	}
	return write_zeroes(target, offset, len);
}

/* How many bytes from `at` on are zero blocks, or are none. */
static size_t run_of(const uint8_t *bytes, size_t len, size_t at, bool *ret_zero)
{
	size_t end = at;

	*ret_zero = disk_bytes_are_zero(bytes + at, MIN(len - at, BLOCK));
	while (end < len && disk_bytes_are_zero(bytes + end, MIN(len - end, BLOCK)) == *ret_zero)
		end += MIN(len - end, BLOCK);
	return end - at;
}

/* Into a file: zeroes stay holes, or become some. */
static int write_runs(const struct disk_target *target, const uint8_t *bytes, size_t len,
		      uint64_t offset, bool filled)
{
	bool zero;
	int r = 0;

	for (size_t at = 0, n; r == 0 && at < len; at += n) {
		n = run_of(bytes, len, at, &zero);
		if (!zero)
			r = fd_write_at(target->fd, bytes + at, n, offset + at);
		else if (filled)
			r = zero_range(target, offset + at, n);
	}
	return r;
}

static int write_chunk(struct disk_target *target, uint64_t chunk, const uint8_t *bytes, size_t len)
{
	uint64_t offset = disk_tree_offset(target->tree, chunk);
	bool filled = bit_set(target->filled, chunk);
	int r = target->device ? fd_write_at(target->fd, bytes, len, offset)
			       : write_runs(target, bytes, len, offset, filled);

	__atomic_fetch_add(&target->bytes, len, __ATOMIC_RELAXED);
	if (r < 0 || __atomic_add_fetch(&target->unsynced, len, __ATOMIC_RELAXED) < SYNC_BYTES)
		return r;
	__atomic_store_n(&target->unsynced, 0, __ATOMIC_RELAXED);
	return fdatasync(target->fd) < 0 ? -errno : 0;
}

static int unpack(const struct disk_target *target, struct disk_hands *hands, bool packed,
		  struct cursor *in, size_t len, struct error *err)
{
	if (!packed && in->left == len)
		memcpy(hands->buf, in->data, len);
	else if (!packed || expander_run(hands->expander, in->data, in->left, hands->buf, len) < 0)
		return bad(target, "a part of another length", err);
	return 0;
}

static int apply_chunk(struct disk_target *target, struct disk_hands *hands, bool packed,
		       struct cursor *in, struct error *err)
{
	uint64_t offset = cursor_take_le(in, 8), chunk;
	const uint8_t *hash = cursor_take(in, DIGEST_BYTES);
	size_t len;
	int r;

	if (in->bad || offset >= target->size)
		return bad(target, "a part that is none of it", err);
	chunk = offset >> block_chunk_shift(target->size);
	len = disk_tree_len(target->tree, chunk);
	if (disk_tree_offset(target->tree, chunk) != offset)
		return bad(target, "a part that is none of it", err);
	r = unpack(target, hands, packed, in, len, err);
	if (r == 0)
		r = claim(target, chunk, err);
	if (r < 0)
		return r;
	r = write_chunk(target, chunk, hands->buf, len);
	if (r < 0)
		return cannot_write(target, offset, r, err);
	disk_tree_set(target->tree, chunk, hash);
	return 0;
}

/* Only noted: zeroing much of a device may take long, and the peer waits for who reads its stream. */
static int apply_range(struct disk_target *target, uint64_t first, uint64_t last, struct error *err)
{
	for (uint64_t chunk = first; chunk <= last; chunk++) {
		int r = claim(target, chunk, err);

		if (r < 0)
			return r;
		disk_tree_set(target->tree, chunk, disk_tree_zero(target->tree, chunk));
	}
	return 0;
}

static int apply_holes(struct disk_target *target, struct cursor *in, struct error *err)
{
	const unsigned int shift = block_chunk_shift(target->size);
	int r = in->left ? 0 : bad(target, "holes that are none", err);

	while (r == 0 && in->left) {
		uint64_t offset = cursor_take_le(in, 8), len = cursor_take_le(in, 8), end;

		if (in->bad || !len || !range_fits(offset, len, target->size))
			return bad(target, "a hole beyond its end", err);
		end = offset + len;
		if (!IS_ALIGNED(offset, 1ULL << shift) ||
		    (end != target->size && !IS_ALIGNED(end, 1ULL << shift)))
			return bad(target, "a hole in the middle of a part", err);
		r = apply_range(target, offset >> shift, (end - 1) >> shift, err);
	}
	return r;
}

int disk_target_apply(struct disk_target *target, struct disk_hands *hands, enum move_frame kind,
		      const uint8_t *payload, size_t len, struct error *err)
{
	struct cursor in = { .data = payload, .left = len };

	return kind == MOVE_DISK_HOLE
		       ? apply_holes(target, &in, err)
		       : apply_chunk(target, hands, kind == MOVE_DISK_PACKED, &in, err);
}

/* ---- after a pass ---- */

/* Whether it came as zeroes, and holds something of before. */
static bool is_to_be_zeroed(const struct disk_target *target, uint64_t chunk)
{
	return bit_get(target->fresh, chunk) && bit_get(target->filled, chunk) &&
	       memcmp(disk_tree_get(target->tree, chunk), disk_tree_zero(target->tree, chunk),
		      DIGEST_BYTES) == 0;
}

/* From the chunk `first` on, as far as one call may take. */
static int zero_run(struct disk_target *target, uint64_t first, uint64_t *ret_next,
		    struct error *err)
{
	uint64_t offset = disk_tree_offset(target->tree, first), end = offset, chunk = first;
	int r;

	for (; chunk < target->n_chunks && end - offset < SYNC_BYTES &&
	       is_to_be_zeroed(target, chunk);
	     chunk++)
		end = disk_tree_offset(target->tree, chunk) + disk_tree_len(target->tree, chunk);
	*ret_next = MAX(chunk, first + 1);
	r = end > offset ? zero_range(target, offset, end - offset) : 0;
	if (r < 0)
		return cannot_write(target, offset, r, err);
	for (uint64_t i = first; i < chunk; i++)
		bit_clear(target->filled, i);
	return 0;
}

static int zero_all(struct disk_target *target, const bool *stop, struct error *err)
{
	int r = 0;

	for (uint64_t chunk = 0; r == 0 && chunk < target->n_chunks;) {
		if (__atomic_load_n(stop, __ATOMIC_RELAXED))
			return -ECANCELED;
		if (chunk % 64 == 0 && !(target->fresh[chunk / 64] & target->filled[chunk / 64]))
			chunk += 64;
		else
			r = zero_run(target, chunk, &chunk, err);
	}
	return r;
}

static void read_directly(const struct disk_target *target, bool on)
{
	int flags = fcntl(target->fd, F_GETFL);

	/* Where the file system has no such reads, what is durable is dropped from the cache instead. */
	if (flags >= 0)
		(void)fcntl(target->fd, F_SETFL, on ? flags | O_DIRECT : flags & ~O_DIRECT);
	if (on)
		(void)posix_fadvise(target->fd, 0, 0, POSIX_FADV_DONTNEED);
}

int disk_target_sync(struct disk_target *target, const bool *stop, struct error *err)
{
	int r = zero_all(target, stop, err);

	target->whole = false;
	if (r < 0)
		return r;
	if (fdatasync(target->fd) < 0)
		return error_set(err, -errno, EXIT_STATUS_RESOURCE,
				 "disk[%u]: cannot be made durable: %s; see this host's kernel log",
				 target->index, strerror(errno));
	target->unsynced = 0;
	target->next = 0;
	read_directly(target, true);
	return 0;
}

static bool next_fresh(struct disk_target *target, uint64_t *ret_chunk)
{
	uint64_t n_words = (target->n_chunks + 63) / 64, word;
	bool found;

	pthread_mutex_lock(&target->lock);
	for (word = target->next; word < n_words && !target->fresh[word];)
		word++;
	target->next = word;
	found = word < n_words;
	if (found) {
		*ret_chunk = word * 64 + (uint64_t)__builtin_ctzll(target->fresh[word]);
		target->fresh[word] &= target->fresh[word] - 1;
	}
	pthread_mutex_unlock(&target->lock);
	return found;
}

static bool is_hole(const struct disk_target *target, uint64_t offset, size_t len)
{
	off_t data = target->device ? (off_t)offset : lseek(target->fd, (off_t)offset, SEEK_DATA);

	return data < 0 ? errno == ENXIO : (uint64_t)data >= offset + len;
}

/* 1: it is what came. */
static int compare(const struct disk_target *target, struct disk_hands *hands, uint64_t chunk)
{
	const uint8_t *wanted = disk_tree_get(target->tree, chunk);
	uint64_t offset = disk_tree_offset(target->tree, chunk);
	size_t len = disk_tree_len(target->tree, chunk);
	bool zero = memcmp(wanted, disk_tree_zero(target->tree, chunk), DIGEST_BYTES) == 0;
	uint8_t hash[DIGEST_BYTES];
	int r;

	if (zero && is_hole(target, offset, len))
		return 1;
	r = fd_read_blocks(target->fd, hands->buf, len, offset);
	if (r == 0 && zero)
		return disk_bytes_are_zero(hands->buf, len);
	if (r == 0)
		r = digest_run(hands->digest, hands->buf, len, hash);
	return r < 0 ? r : memcmp(hash, wanted, DIGEST_BYTES) == 0;
}

int disk_target_check(struct disk_target *target, struct disk_hands *hands, struct error *err)
{
	uint64_t chunk;
	int r;

	if (!next_fresh(target, &chunk))
		return 0;
	r = compare(target, hands, chunk);
	if (r == 1) {
		__atomic_fetch_sub(&target->unchecked, 1, __ATOMIC_RELAXED);
		return 1;
	}
	return error_set(
		err, r < 0 ? r : -EIO, EXIT_STATUS_RESOURCE,
		"disk[%u]: what was written at byte %llu %s%s; the disk there is at fault, see "
		"its host's kernel log",
		target->index, (unsigned long long)disk_tree_offset(target->tree, chunk),
		r < 0 ? "cannot be read back: " : "reads back as something else",
		r < 0 ? strerror(-r) : "");
}

uint64_t disk_target_unchecked(const struct disk_target *target)
{
	return __atomic_load_n(&target->unchecked, __ATOMIC_RELAXED);
}

void disk_target_end_pass(struct disk_target *target)
{
	read_directly(target, false);
}

int disk_target_judge(struct disk_target *target, const uint8_t root[DIGEST_BYTES],
		      struct error *err)
{
	uint8_t ours[DIGEST_BYTES];
	int r = disk_target_unchecked(target) ? -EBADMSG : disk_tree_root(target->tree, ours);

	if (r < 0)
		return error_set(err, r, EXIT_STATUS_FAILED,
				 "disk[%u]: not all of it came; upgrade the older utsusu",
				 target->index);
	if (memcmp(ours, root, DIGEST_BYTES) != 0)
		return error_set(
			err, -EIO, EXIT_STATUS_FAILED,
			"disk[%u]: the copy is not what the VM has (SHA-256); move it again, and "
			"tell the makers of utsusu",
			target->index);
	target->whole = true;
	return 0;
}

bool disk_target_is_whole(const struct disk_target *target)
{
	return target->whole && !disk_target_unchecked(target);
}

uint64_t disk_target_bytes(const struct disk_target *target)
{
	return __atomic_load_n(&target->bytes, __ATOMIC_RELAXED);
}
