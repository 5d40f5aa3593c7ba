/* SPDX-License-Identifier: Apache-2.0 */

/* The virtio block device: its configuration and its life. What its queues do is blk_queue.c. */

#include "virtio/blk.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/endian.h"
#include "virtio/blk_internal.h"

/* Device configuration (virtio 1.2, 5.2.4). */
struct blk_config {
	le64_t capacity;
	le32_t size_max;
	le32_t seg_max;
	uint8_t geometry[4];
	le32_t blk_size;
	uint8_t physical_block_exp;
	uint8_t alignment_offset;
	le16_t min_io_size; /* logical blocks */
	le32_t opt_io_size;
	uint8_t writeback;
	uint8_t unused0;
	le16_t num_queues;
	le32_t max_discard_sectors;
	le32_t max_discard_seg;
	le32_t discard_sector_alignment;
	le32_t max_write_zeroes_sectors;
	le32_t max_write_zeroes_seg;
	uint8_t write_zeroes_may_unmap;
	uint8_t unused1[3];
	le32_t max_secure_erase_sectors; /* not offered */
};

_Static_assert(offsetof(struct blk_config, writeback) == 32, "virtio 1.2, 5.2.4");
_Static_assert(sizeof(struct blk_config) == 64, "virtio 1.2, 5.2.4");

static struct virtio_blk *from_vdev(struct virtio_device *vdev)
{
	return container_of(vdev, struct virtio_blk, vdev);
}

/* ---- configuration ---- */

/* Without a flush that the driver knows of, or when it asked so, every write is durable (virtio 1.2,
 * 5.2.5.2). */
static void set_cache_mode(struct virtio_blk *blk, uint64_t features)
{
	bool writeback = blk->state.config[offsetof(struct blk_config, writeback)];
	bool through = !(features & BLK_F_FLUSH) || ((features & BLK_F_CONFIG_WCE) && !writeback);

	__atomic_store_n(&blk->writethrough, through, __ATOMIC_RELAXED);
}

static int blk_negotiated(struct virtio_device *vdev, uint64_t features)
{
	struct virtio_blk *blk = from_vdev(vdev);

	blk->state.config[offsetof(struct blk_config, writeback)] = 1;
	set_cache_mode(blk, features);
	return 0;
}

static void blk_config_written(struct virtio_device *vdev, unsigned int offset, unsigned int size,
			       uint64_t data)
{
	struct virtio_blk *blk = from_vdev(vdev);

	/* The one writable field; other values than 0 and 1 have no meaning. */
	if (!virtio_has_feature(vdev, BLK_F_CONFIG_WCE) || size != 1 ||
	    offset != offsetof(struct blk_config, writeback) || data > 1)
		return;
	blk->state.config[offset] = (uint8_t)data;
	set_cache_mode(blk, vdev->state->driver_features);
}

static uint32_t sectors_of(uint64_t bytes)
{
	return (uint32_t)MIN(bytes / BLK_SECTOR, UINT32_MAX);
}

/* A property of the disk: what this one has, and what the guest was told. */
struct blk_fact {
	const char *what;
	uint64_t here, told;
	bool good;
};

/* Whether both hosts' disks can do it: the limits of what one cannot do bind nobody. */
static bool both_do(struct virtio_device *vdev, const struct virtio_state *loaded, uint64_t feature)
{
	return (vdev->offers & loaded->device_features & feature) != 0;
}

/* It would write where it may not, or find that it may where it was told not to. */
static int judge_readonly(struct virtio_device *vdev, const struct virtio_state *loaded,
			  struct error *err)
{
	const bool here = vdev->offers & BLK_F_RO, told = loaded->device_features & BLK_F_RO;

	if (here == told)
		return 0;
	return error_set(err, -EINVAL, EXIT_STATUS_RESOURCE,
			 "%s: the disk is %s, the guest's was %s; give it the same on both hosts "
			 "(readonly=)",
			 vdev->device.name, here ? "read-only" : "writable",
			 told ? "read-only" : "writable");
}

/* The guest goes on with the disk that it knows: a smaller one would lose its data, larger blocks and shorter discards
 * would make errors of its requests. */
static int blk_judge(struct virtio_device *vdev, const struct virtio_state *loaded,
		     struct error *err)
{
	const struct block_geometry *g = &from_vdev(vdev)->block->geometry;
	struct blk_config told;

	memcpy(&told, loaded->config, sizeof(told));
	const struct blk_fact facts[] = {
		{ "sectors", g->size / BLK_SECTOR, le64_get(told.capacity),
		  g->size / BLK_SECTOR == le64_get(told.capacity) },
		{ "bytes in a block", g->logical_block, le32_get(told.blk_size),
		  g->logical_block <= le32_get(told.blk_size) },
		{ "sectors in a discard", sectors_of(g->max_discard),
		  le32_get(told.max_discard_sectors),
		  !both_do(vdev, loaded, BLK_F_DISCARD) ||
			  sectors_of(g->max_discard) >= le32_get(told.max_discard_sectors) },
		{ "sectors in a write of zeroes", sectors_of(g->max_discard),
		  le32_get(told.max_write_zeroes_sectors),
		  !both_do(vdev, loaded, BLK_F_WRITE_ZEROES) ||
			  sectors_of(g->max_discard) >= le32_get(told.max_write_zeroes_sectors) },
	};

	for (size_t i = 0; i < ARRAY_SIZE(facts); i++)
		if (!facts[i].good)
			return error_set(
				err, -EINVAL, EXIT_STATUS_RESOURCE,
				"%s: the disk has %llu %s, the guest's had %llu; give it a "
				"disk of the same size and kind",
				vdev->device.name, (unsigned long long)facts[i].here, facts[i].what,
				(unsigned long long)facts[i].told);
	return judge_readonly(vdev, loaded, err);
}

static int blk_after_load(struct virtio_device *vdev, struct error *err)
{
	int r = blk_judge(vdev, vdev->state, err);

	if (r == 0)
		set_cache_mode(from_vdev(vdev), vdev->state->driver_features);
	return r;
}

static uint8_t log2_of(uint32_t power)
{
	return (uint8_t)__builtin_ctz(power);
}

static struct blk_config make_config(const struct block_geometry *g, unsigned int queues)
{
	uint32_t max_range = sectors_of(g->max_discard);

	return (struct blk_config){
		.capacity = le64_make(g->size / BLK_SECTOR),
		.seg_max =
			le32_make(MIN(BLK_QUEUE_SIZE, VIRTIO_CHAIN_MAX) - 2), /* header, status */
		.blk_size = le32_make(g->logical_block),
		.physical_block_exp = log2_of(g->physical_block / g->logical_block),
		.min_io_size = le16_make((uint16_t)(g->physical_block / g->logical_block)),
		.writeback = 1,
		.num_queues = le16_make((uint16_t)queues),
		.max_discard_sectors = le32_make(max_range),
		.max_discard_seg = le32_make(1),
		.discard_sector_alignment = le32_make(g->physical_block / BLK_SECTOR),
		.max_write_zeroes_sectors = le32_make(max_range),
		.max_write_zeroes_seg = le32_make(1),
		.write_zeroes_may_unmap = g->can_discard,
	};
}

static uint64_t make_features(const struct block_geometry *g, unsigned int queues)
{
	uint64_t features = BLK_F_SEG_MAX | BLK_F_BLK_SIZE | BLK_F_FLUSH | BLK_F_TOPOLOGY |
			    BLK_F_CONFIG_WCE;

	if (g->readonly)
		features |= BLK_F_RO;
	if (g->can_discard)
		features |= BLK_F_DISCARD;
	if (g->can_write_zeroes)
		features |= BLK_F_WRITE_ZEROES;
	if (queues > 1)
		features |= BLK_F_MQ;
	return features;
}

/* ---- life ---- */

static void queue_close(void *arg)
{
	struct blk_queue *q = arg;

	loop_timer_cancel(&q->poll);
	block_queue_close(TAKE_PTR(q->block));
}

/* On the workers' threads while they run: the rings are theirs. */
static void close_queues(struct virtio_blk *blk)
{
	for (unsigned int i = 0; i < blk->n_queues; i++)
		if (blk->queues[i].block)
			worker_call(blk->queues[i].vq->worker, queue_close, &blk->queues[i]);
}

static void blk_stop(struct virtio_device *vdev)
{
	close_queues(from_vdev(vdev));
}

static int blk_own(struct virtio_device *vdev, bool own, struct error *err)
{
	return block_own(from_vdev(vdev)->block, own, err);
}

static void free_requests(struct virtio_blk *blk)
{
	for (unsigned int i = 0; i < blk->n_queues; i++)
		free(blk->queues[i].requests);
}

static void blk_destroy(struct virtio_device *vdev)
{
	struct virtio_blk *blk = from_vdev(vdev);

	close_queues(blk);
	virtio_device_release(vdev);
	free_requests(blk);
	block_free(blk->block);
	free(blk);
}

static const struct virtio_feature_words feature_words[] = {
	{ BLK_F_SEG_MAX, "the limit of segments" },
	{ BLK_F_BLK_SIZE, "the size of blocks" },
	{ BLK_F_FLUSH, "flushes" },
	{ BLK_F_TOPOLOGY, "the disk's topology" },
	{ BLK_F_CONFIG_WCE, "the switch of the write cache" },
	{ BLK_F_MQ, "several queues" },
	{ BLK_F_DISCARD, "discards" },
	{ BLK_F_WRITE_ZEROES, "writes of zeroes" },
	{ 0, NULL },
};

static const struct virtio_ops blk_ops = {
	.queue_started = blk_queue_started,
	.queue_kicked = blk_queue_kicked,
	.queue_stopping = blk_queue_stopping,
	.queue_drain = blk_queue_drain,
	.config_written = blk_config_written,
	.negotiated = blk_negotiated,
	.own = blk_own,
	.stop = blk_stop,
	.judge = blk_judge,
	.after_load = blk_after_load,
	.destroy = blk_destroy,
	.feature_words = feature_words,
	.feature_way_out =
		"give it a disk of the same kind (file or block device) that can do the same",
};

static int init_requests(struct virtio_blk *blk, unsigned int index)
{
	struct blk_queue *q = &blk->queues[index];

	q->blk = blk;
	list_init(&q->free);
	list_init(&q->again_waiting);
	list_init(&q->again_flying);
	loop_timer_init(&q->poll, blk_queue_poll);
	q->requests = calloc(BLK_QUEUE_SIZE, sizeof(q->requests[0]));
	return q->requests ? 0 : -ENOMEM;
}

/* Here and not when the worker runs: its sandbox then needs no right to make rings. */
static int open_queue(struct virtio_blk *blk, unsigned int index)
{
	struct blk_queue *q = &blk->queues[index];
	int r;

	q->vq = &blk->vdev.queues[index];
	q->loop = worker_loop(q->vq->worker);
	q->vq->owner = q;
	r = block_queue_open(blk->block, q->loop, BLK_QUEUE_SIZE, &q->block);
	if (r < 0)
		return r;
	q->block->owner = q;
	q->block->batch_end = blk_queue_batch_end;
	return 0;
}

static int init_device(struct virtio_blk *blk, const struct virtio_blk_params *params,
		       const struct virtio_host *host, struct error *err)
{
	const struct block_geometry *g = &params->block->geometry;
	struct blk_config config = make_config(g, params->queues);
	char name[32];
	const struct virtio_params virtio = {
		.name = name,
		.id = VIRTIO_ID_BLOCK,
		.features = make_features(g, params->queues),
		.config = &config,
		.config_len = sizeof(config),
		.n_queues = params->queues,
		.queue_size = BLK_QUEUE_SIZE,
		.n_workers = params->queues,
		.ops = &blk_ops,
	};

	snprintf(name, sizeof(name), "virtio-blk.%u", params->index);
	return virtio_device_init(&blk->vdev, &blk->state, &virtio, host, err);
}

static int open_queues(struct virtio_blk *blk, struct error *err)
{
	for (unsigned int i = 0; i < blk->n_queues; i++) {
		int r = open_queue(blk, i);

		if (r < 0)
			return error_set(
				err, r, EXIT_STATUS_HOST,
				"%s: cannot use io_uring: %s; see kernel.io_uring_disabled "
				"and the limits on memory and descriptors",
				blk->vdev.device.name, strerror(-r));
	}
	return 0;
}

int virtio_blk_new(const struct virtio_host *host, const struct virtio_blk_params *params,
		   struct device **ret_device, struct error *err)
{
	struct virtio_blk *blk = calloc(1, sizeof(*blk));
	int r = blk ? 0 : -ENOMEM;

	if (blk) {
		blk->block = params->block;
		blk->quiesce = host->quiesce;
		blk->n_queues = params->queues;
		if (params->serial)
			memcpy(blk->serial, params->serial, strnlen(params->serial, LIMIT_SERIAL));
	}
	for (unsigned int i = 0; r == 0 && i < params->queues; i++)
		r = init_requests(blk, i);
	if (r == 0)
		r = init_device(blk, params, host, err);
	if (r < 0) {
		if (blk)
			free_requests(blk);
		free(blk);
		return error_set(err, r, EXIT_STATUS_HOST, "virtio-blk.%u: out of memory",
				 params->index);
	}
	r = open_queues(blk, err);
	if (r < 0) {
		blk->block = NULL; /* still the caller's */
		blk_destroy(&blk->vdev);
		return r;
	}
	*ret_device = &blk->vdev.device;
	return 0;
}
