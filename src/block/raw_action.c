/* SPDX-License-Identifier: Apache-2.0 */
#include "block/raw_action.h"

#include <errno.h>
#include <fcntl.h>
#include <liburing.h>
#include <linux/falloc.h>
#include <string.h>

/* Moves on by `len` bytes, copying them to or from `buf` on the way unless it is NULL. */
static void position_move(struct position *at, size_t len, uint8_t *buf, bool to_buf)
{
	while (len) {
		size_t n = MIN(len, at->iov->iov_len - at->skip);
		uint8_t *guest = (uint8_t *)at->iov->iov_base + at->skip;

		if (buf && to_buf)
			memcpy(buf, guest, n);
		else if (buf)
			memcpy(guest, buf, n);
		buf = buf ? buf + n : NULL;
		len -= n;
		at->skip += n;
		if (at->skip == at->iov->iov_len) {
			at->iov++;
			at->skip = 0;
		}
	}
}

/* Fills slot->part for this step where the rest of the request's own iovec does not serve. */
static bool transfer_part(struct raw_slot *slot, bool write)
{
	struct position at = slot->at;

	if (slot->bounced) {
		size_t len = MIN(RAW_BOUNCE, slot->request->len - slot->done);

		slot->part = (struct iovec){ slot->bounce, len };
		if (write)
			position_move(&at, len, slot->bounce, true);
		return true;
	}
	if (!at.skip)
		return false;
	slot->part = (struct iovec){ (uint8_t *)at.iov->iov_base + at.skip,
				     at.iov->iov_len - at.skip };
	return true;
}

static void transfer_issue(struct raw_slot *slot, struct io_uring_sqe *sqe)
{
	const struct block_request *request = slot->request;
	bool write = request->op == BLOCK_WRITE;
	bool part = transfer_part(slot, write);
	const struct iovec *iov = part ? &slot->part : slot->at.iov;
	unsigned int n = part ? 1 : (unsigned int)(request->iov + request->n_iov - iov);
	uint64_t offset = request->offset + slot->done;
	unsigned int len = (unsigned int)iov->iov_len;

	if (write && n == 1)
		io_uring_prep_write(sqe, 0, iov->iov_base, len, offset);
	else if (write)
		io_uring_prep_writev(sqe, 0, iov, n, offset);
	else if (n == 1)
		io_uring_prep_read(sqe, 0, iov->iov_base, len, offset);
	else
		io_uring_prep_readv(sqe, 0, iov, n, offset);
	if (write && request->fua)
		sqe->rw_flags = RWF_DSYNC;
}

static int transfer_answered(struct raw_slot *slot, int result)
{
	bool fill = slot->bounced && slot->request->op == BLOCK_READ;

	if (result < 0)
		return result;
	if (result == 0) /* the file became shorter than it was */
		return -EIO;
	position_move(&slot->at, (size_t)result, fill ? slot->bounce : NULL, false);
	slot->done += (uint64_t)result;
	return slot->done < slot->request->len ? RAW_AGAIN : 0;
}

static void flush_issue(struct raw_slot *slot _unused_, struct io_uring_sqe *sqe)
{
	io_uring_prep_fsync(sqe, 0, IORING_FSYNC_DATASYNC);
}

static int plain_answered(struct raw_slot *slot _unused_, int result)
{
	return MIN(result, 0);
}

static void punch_issue(struct raw_slot *slot, struct io_uring_sqe *sqe)
{
	io_uring_prep_fallocate(sqe, 0, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
				(off_t)slot->request->offset, (off_t)slot->request->len);
}

static void zero_range_issue(struct raw_slot *slot, struct io_uring_sqe *sqe)
{
	io_uring_prep_fallocate(sqe, 0, FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE,
				(off_t)slot->request->offset, (off_t)slot->request->len);
}

static void write_zeros_issue(struct raw_slot *slot, struct io_uring_sqe *sqe)
{
	const struct block_request *request = slot->request;
	uint64_t left = request->len - slot->done;

	io_uring_prep_write(sqe, 0, slot->raw->zeros, (unsigned int)MIN(left, RAW_ZEROS),
			    request->offset + slot->done);
	if (request->fua)
		sqe->rw_flags = RWF_DSYNC;
}

static int write_zeros_answered(struct raw_slot *slot, int result)
{
	if (result <= 0)
		return result ? result : -EIO;
	slot->done += (uint64_t)result;
	return slot->done < slot->request->len ? RAW_AGAIN : 0;
}

/* Ways to zero a range, best first: a hole only where the guest allows one. */
enum zero_step { ZERO_PUNCH, ZERO_RANGE, ZERO_WRITE, ZERO_SYNC };

/* What the host has refused once is not asked again. */
static enum zero_step zero_skip_refused(const struct raw_slot *slot, enum zero_step step)
{
	const struct raw *raw = slot->raw;

	if (step == ZERO_PUNCH &&
	    (!slot->request->unmap || __atomic_load_n(&raw->cannot_punch, __ATOMIC_RELAXED)))
		step = ZERO_RANGE;
	if (step == ZERO_RANGE && __atomic_load_n(&raw->cannot_zero, __ATOMIC_RELAXED))
		step = ZERO_WRITE;
	return step;
}

static void zero_issue(struct raw_slot *slot, struct io_uring_sqe *sqe)
{
	static void (*const issue[])(struct raw_slot *, struct io_uring_sqe *) = {
		[ZERO_PUNCH] = punch_issue,
		[ZERO_RANGE] = zero_range_issue,
		[ZERO_WRITE] = write_zeros_issue,
		[ZERO_SYNC] = flush_issue,
	};

	slot->step = (uint8_t)zero_skip_refused(slot, slot->step);
	issue[slot->step](slot, sqe);
}

static int zero_answered(struct raw_slot *slot, int result)
{
	struct raw *raw = slot->raw;

	if (slot->step == ZERO_WRITE)
		return write_zeros_answered(slot, result);
	if (slot->step == ZERO_SYNC)
		return plain_answered(slot, result);
	if (result == -EOPNOTSUPP) {
		__atomic_store_n(slot->step == ZERO_PUNCH ? &raw->cannot_punch : &raw->cannot_zero,
				 true, __ATOMIC_RELAXED);
		slot->step++;
		return RAW_AGAIN;
	}
	if (result < 0 || !slot->request->fua)
		return plain_answered(slot, result);
	slot->step = ZERO_SYNC;
	return RAW_AGAIN;
}

const struct raw_action raw_actions[] = {
	[BLOCK_READ] = { transfer_issue, transfer_answered },
	[BLOCK_WRITE] = { transfer_issue, transfer_answered },
	[BLOCK_FLUSH] = { flush_issue, plain_answered },
	[BLOCK_DISCARD] = { punch_issue, plain_answered },
	[BLOCK_WRITE_ZEROES] = { zero_issue, zero_answered },
};
