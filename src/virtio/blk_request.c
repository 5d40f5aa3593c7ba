/* SPDX-License-Identifier: Apache-2.0 */

/* What a driver asks of the block device: a header, data and a status byte, split over buffers as it likes
 * (virtio 1.2, 5.2.6). */

#include "virtio/blk_internal.h"

#include <errno.h>

#include "base/endian.h"
#include "virtio/iov.h"

/* Types of requests and their status (virtio 1.2, 5.2.6). */
#define BLK_T_IN 0
#define BLK_T_OUT 1
#define BLK_T_FLUSH 4
#define BLK_T_GET_ID 8
#define BLK_T_DISCARD 11
#define BLK_T_WRITE_ZEROES 13
#define BLK_S_OK 0
#define BLK_S_IOERR 1
#define BLK_S_UNSUPP 2

#define RANGE_UNMAP 1 /* flag of WRITE_ZEROES */

struct blk_header {
	le32_t type;
	le32_t reserved;
	le64_t sector;
};

/* What DISCARD and WRITE_ZEROES are about. */
struct blk_range {
	le64_t sector;
	le32_t sectors;
	le32_t flags;
};

_Static_assert(sizeof(struct blk_header) == 16, "virtio 1.2, 5.2.6");
_Static_assert(sizeof(struct blk_range) == 16, "virtio 1.2, 5.2.6");

static void cut_buffer(struct blk_request *request, struct iovec *iov, size_t front, size_t back)
{
	request->cut = iov;
	request->whole = *iov;
	iov->iov_base = (uint8_t *)iov->iov_base + front;
	iov->iov_len -= front + back;
}

static void uncut_buffer(struct blk_request *request)
{
	if (request->cut)
		*request->cut = request->whole;
	request->cut = NULL;
}

/* Where in bytes a sector is; -EINVAL when nowhere. */
static int sector_offset(le64_t sector, uint64_t *ret_offset)
{
	uint64_t value = le64_get(sector);

	if (value > UINT64_MAX / BLK_SECTOR)
		return -EINVAL;
	*ret_offset = value * BLK_SECTOR;
	return 0;
}

/* Data to write: what follows the header, which the driver may split as it likes. */
static int prepare_out(struct blk_request *request, const struct blk_header *header)
{
	struct virtio_chain *chain = &request->chain;
	size_t skip = sizeof(*header);
	unsigned int i = 0;

	while (i < chain->n_out && skip >= chain->iov[i].iov_len)
		skip -= chain->iov[i++].iov_len;
	if (skip)
		cut_buffer(request, &chain->iov[i], skip, 0);
	request->block.op = BLOCK_WRITE;
	request->block.len = chain->out_len - sizeof(*header);
	request->block.iov = &chain->iov[i];
	request->block.n_iov = chain->n_out - i;
	request->block.fua = __atomic_load_n(&request->queue->blk->writethrough, __ATOMIC_RELAXED);
	return sector_offset(header->sector, &request->block.offset);
}

/* Room for data to read: all but the last writable byte, which is the status. */
static int prepare_in(struct blk_request *request, const struct blk_header *header)
{
	struct virtio_chain *chain = &request->chain;
	struct iovec *last = &virtio_chain_in(chain)[chain->n_in - 1];

	request->block.op = BLOCK_READ;
	request->block.len = chain->in_len - 1;
	request->block.iov = virtio_chain_in(chain);
	request->block.n_iov = chain->n_in;
	if (last->iov_len == 1)
		request->block.n_iov--;
	else
		cut_buffer(request, last, 0, 1);
	return sector_offset(header->sector, &request->block.offset);
}

static int prepare_flush(struct blk_request *request, const struct blk_header *header _unused_)
{
	request->block.op = BLOCK_FLUSH;
	return 0;
}

static int prepare_get_id(struct blk_request *request, const struct blk_header *header _unused_)
{
	struct virtio_chain *chain = &request->chain;

	iov_from_buf(virtio_chain_in(chain), chain->n_in, 0, request->queue->blk->serial,
		     MIN(chain->in_len - 1, sizeof(request->queue->blk->serial)));
	return BLK_FINISHED;
}

/* One range; the configuration says that there may be no more. `flags`: those that it may have. */
static int prepare_range(struct blk_request *request, uint32_t flags)
{
	struct virtio_chain *chain = &request->chain;
	struct blk_range range;

	if (chain->out_len != sizeof(struct blk_header) + sizeof(range))
		return -EINVAL;
	iov_to_buf(chain->iov, chain->n_out, sizeof(struct blk_header), &range, sizeof(range));
	if (le32_get(range.flags) & ~flags)
		return -EOPNOTSUPP;
	request->block.unmap = le32_get(range.flags) & RANGE_UNMAP;
	request->block.len = (uint64_t)le32_get(range.sectors) * BLK_SECTOR;
	return sector_offset(range.sector, &request->block.offset);
}

static int prepare_discard(struct blk_request *request, const struct blk_header *header _unused_)
{
	request->block.op = BLOCK_DISCARD;
	return prepare_range(request, 0);
}

static int prepare_write_zeroes(struct blk_request *request,
				const struct blk_header *header _unused_)
{
	request->block.op = BLOCK_WRITE_ZEROES;
	request->block.fua = __atomic_load_n(&request->queue->blk->writethrough, __ATOMIC_RELAXED);
	return prepare_range(request, RANGE_UNMAP);
}

static const struct blk_type {
	uint32_t type;
	uint64_t feature; /* that the driver must have accepted */
	int (*prepare)(struct blk_request *request, const struct blk_header *header);
} blk_types[] = {
	{ BLK_T_IN, 0, prepare_in },
	{ BLK_T_OUT, 0, prepare_out },
	{ BLK_T_FLUSH, 0, prepare_flush },
	{ BLK_T_GET_ID, 0, prepare_get_id },
	{ BLK_T_DISCARD, BLK_F_DISCARD, prepare_discard },
	{ BLK_T_WRITE_ZEROES, BLK_F_WRITE_ZEROES, prepare_write_zeroes },
};

static const struct blk_type *find_type(const struct virtio_blk *blk, uint32_t type)
{
	for (size_t i = 0; i < ARRAY_SIZE(blk_types); i++)
		if (blk_types[i].type == type &&
		    (!blk_types[i].feature || virtio_has_feature(&blk->vdev, blk_types[i].feature)))
			return &blk_types[i];
	return NULL;
}

/* Decodes the chain into request->block: 0, BLK_FINISHED, or why the request fails. */
static int judge(struct blk_request *request)
{
	struct virtio_blk *blk = request->queue->blk;
	struct virtio_chain *chain = &request->chain;
	const struct blk_type *type;
	struct blk_header header;
	int r;

	if (iov_to_buf(chain->iov, chain->n_out, 0, &header, sizeof(header)) < sizeof(header))
		return -EINVAL;
	type = find_type(blk, le32_get(header.type));
	if (!type)
		return -EOPNOTSUPP;
	r = type->prepare(request, &header);
	return r ? r : block_check(blk->block, &request->block);
}

int blk_request_decode(struct blk_request *request)
{
	if (!request->chain.in_len || request->chain.in_len > UINT32_MAX)
		return -EPROTO;
	request->block = (struct block_request){ 0 };
	request->cut = NULL;
	request->again = false;
	request->verdict = judge(request);
	return 0;
}

static uint8_t status_of(int result)
{
	if (result == -EOPNOTSUPP)
		return BLK_S_UNSUPP;
	return result < 0 ? BLK_S_IOERR : BLK_S_OK;
}

void blk_request_answer(struct blk_request *request, int result)
{
	struct virtio_chain *chain = &request->chain;
	uint8_t status = status_of(result);

	uncut_buffer(request);
	iov_from_buf(virtio_chain_in(chain), chain->n_in, chain->in_len - 1, &status, 1);
}
