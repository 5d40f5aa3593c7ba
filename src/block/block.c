/* SPDX-License-Identifier: Apache-2.0 */
#include "block/block.h"

#include <errno.h>
#include <limits.h>

/* The iovec must hold exactly what the request says: the host kernel is told both. */
static int check_buffers(const struct block_request *request)
{
	uint64_t left = request->len;

	if (request->n_iov == 0 || request->n_iov > IOV_MAX)
		return -EINVAL;
	for (unsigned int i = 0; i < request->n_iov; i++) {
		if (request->iov[i].iov_len > left)
			return -EINVAL;
		left -= request->iov[i].iov_len;
	}
	return left ? -EINVAL : 0;
}

static int check_range(const struct block_geometry *g, const struct block_request *request,
		       uint64_t max_len)
{
	if (request->len == 0 || request->len > max_len)
		return -EINVAL;
	if (!IS_ALIGNED(request->offset | request->len, g->logical_block))
		return -EINVAL;
	return range_fits(request->offset, request->len, g->size) ? 0 : -EINVAL;
}

int block_check(const struct block *block, const struct block_request *request)
{
	const struct block_geometry *g = &block->geometry;
	int r;

	switch (request->op) {
	case BLOCK_READ:
	case BLOCK_WRITE:
		if (request->op == BLOCK_WRITE && g->readonly)
			return -EROFS;
		r = check_range(g, request, g->max_transfer);
		return r < 0 ? r : check_buffers(request);
	case BLOCK_FLUSH:
		return 0;
	case BLOCK_DISCARD:
	case BLOCK_WRITE_ZEROES:
		if (g->readonly)
			return -EROFS;
		if (request->op == BLOCK_DISCARD ? !g->can_discard : !g->can_write_zeroes)
			return -EOPNOTSUPP;
		return check_range(g, request, g->max_discard);
	}
	return -EINVAL;
}
