/* SPDX-License-Identifier: Apache-2.0 */
#include "move/mover/source_disks.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/endian.h"
#include "move/mover/convergence.h"
#include "move/disks/frame.h"
#include "move/disks/send.h"

#define LOOK_MS 50
#define LAST_WORD_MS 2000 /* for a side that ends to say why */
#define FEW_NS                                                                                     \
	(500 *                                                                                     \
	 NSEC_PER_MSEC) /* on the wire: what is left and no pass makes less of, the memory's rounds go on with */
#define STOP_SHARE 2 /* of the downtime's goal the rest of the disks may take one part in so many */

struct source_disks {
	struct mover *mover;
	uint32_t *throttle; /* percent, borrowed while the phase runs */
	uint32_t n_disks;
	struct disk_source disks[LIMIT_DISKS];
	struct disk_sender *sender;
	struct convergence convergence;
	uint32_t pass;
	uint64_t taken_ns; /* when the log was last taken */
	uint64_t rate;	   /* bytes per second of this pass */
	/* Of all wide passes: a short one tells nothing of the wire. */
	uint64_t wide_bytes, wide_ns;
	uint64_t settle_ns; /* of the last pass: from its end here to that there */
};

DEFINE_CLEANUP(struct source_disks, source_disks_free, source_disksp)

void source_disks_free(struct source_disks *disks)
{
	if (!disks)
		return;
	disk_send_free(disks->sender);
	for (uint32_t i = 0; i < disks->n_disks; i++) {
		disk_map_free(disks->disks[i].map);
		disk_tree_free(disks->disks[i].tree);
	}
	free(disks);
}

static uint64_t left_of(const struct source_disks *disks)
{
	uint64_t left = 0;

	for (uint32_t i = 0; disks && i < disks->n_disks; i++)
		left += disk_map_logged(disks->disks[i].map) *
			disk_tree_len(disks->disks[i].tree, 0);
	return left;
}

/* What `bytes` take on the wire, as all passes had it. */
static uint64_t wire_ns(const struct source_disks *disks, uint64_t bytes)
{
	return disks->wide_bytes ? (uint64_t)((double)bytes * (double)disks->wide_ns /
					      (double)disks->wide_bytes)
				 : 0;
}

void source_disks_cost(const struct source_disks *disks, uint64_t *ret_bytes, uint64_t *ret_ns)
{
	uint64_t left = disks ? left_of(disks) : 0, ns = left ? wire_ns(disks, left) : 0;

	bool few = left && disks->wide_bytes && ns <= FEW_NS;

	*ret_bytes = few ? 0 : left;
	*ret_ns = left ? disks->settle_ns + (few ? ns : 0) : 0;
}

/* ---- the beginning ---- */

/* The log first: what is written while the ranges are looked for is in it. Reads go past the page cache, which may hold what was
 * there before the VM's own direct writes. */
static int open_disk(struct source_disks *disks, const struct move_disk *job)
{
	struct mover *mover = disks->mover;
	struct disk_source *disk = &disks->disks[disks->n_disks];
	off_t size = lseek(job->fd, 0, SEEK_END);
	int flags = fcntl(job->fd, F_GETFL), r;

	if (size < 0 || flags < 0)
		return -errno;
	(void)fcntl(job->fd, F_SETFL, flags | O_DIRECT);
	disk->index = job->index;
	disk->fd = job->fd;
	disks->n_disks++;
	r = disk_tree_new((uint64_t)size, &disk->tree);
	if (r == 0)
		r = disk_map_new((uint64_t)size, &disk->map);
	if (r == 0)
		r = mover->link->ops->log_disk(mover->link, disk->index, disk_map_log_fd(disk->map),
					       &mover->error);
	return r;
}

/* What is no hole. Where the file system does not tell, all of it. */
static int add_allocated(const struct disk_source *disk)
{
	off_t end = lseek(disk->fd, 0, SEEK_END), data = 0, hole;

	while (data < end) {
		data = lseek(disk->fd, data, SEEK_DATA);
		if (data < 0 && errno == ENXIO)
			return 0;
		hole = data < 0 ? -1 : lseek(disk->fd, data, SEEK_HOLE);
		if (hole < 0) {
			disk_map_add(disk->map, 0, (uint64_t)end);
			return errno == EINVAL || errno == EOPNOTSUPP ? 0 : -errno;
		}
		disk_map_add(disk->map, (uint64_t)data, (uint64_t)(hole - data));
		data = hole;
	}
	return 0;
}

static int make_sender(struct source_disks *disks)
{
	struct mover *mover = disks->mover;
	const struct disk_send_settings settings = {
		.disks = disks->disks,
		.n_disks = disks->n_disks,
		.writers = mover->writers,
		.n_streams = mover->job->n_streams,
		.compress = mover->job->compress,
		.max_bandwidth = mover->job->max_bandwidth,
		.clock = mover->clock,
		.entry = mover->entry,
	};

	return disk_send_new(&settings, &disks->sender);
}

static int begin(struct source_disks *disks)
{
	const struct move_job *job = disks->mover->job;
	const struct convergence_goal goal = {
		.downtime_ns = job->downtime_ms * NSEC_PER_MSEC / STOP_SHARE,
	};
	int r = 0;

	convergence_init(&disks->convergence, &goal);
	for (uint32_t i = 0; r == 0 && i < job->n_disks; i++)
		r = open_disk(disks, &job->disks[i]);
	disks->taken_ns = clock_now(disks->mover->clock);
	for (uint32_t i = 0; r == 0 && i < disks->n_disks; i++)
		r = add_allocated(&disks->disks[i]);
	return r < 0 ? r : make_sender(disks);
}

/* ---- while a pass runs ---- */

static void show(struct source_disks *disks)
{
	struct mover *mover = disks->mover;
	uint64_t left = disk_send_left(disks->sender);

	mover->numbers.disk_bytes = disk_send_sent(disks->sender);
	if (mover->progress.phase != PHASE_DISKS) /* the memory's line goes on */
		return;
	mover->numbers.sent = mover->numbers.disk_bytes;
	mover->numbers.left = left;
	mover->numbers.round = disks->pass;
	mover->numbers.throttle = *disks->throttle;
	mover->numbers.rate = disks->rate;
	mover->numbers.eta_ns =
		disks->rate ? (uint64_t)((double)left / (double)disks->rate * NSEC_PER_SEC) : 0;
	progress_numbers(&mover->progress, &mover->numbers, false);
}

/* The other side speaks in the middle of a pass only to end all. */
static int hear_interruption(struct mover *mover)
{
	struct frame frame;
	int r = mover_receive(mover, &frame);

	if (r < 0)
		return r;
	return mover_hear(mover, &frame) ? -EREMOTEIO : mover_refuse(mover, &frame);
}

static int look_around(struct source_disks *disks, uint64_t began_ns, uint64_t before)
{
	struct mover *mover = disks->mover;
	uint64_t now_ns = clock_now(mover->clock);
	int r;

	if (now_ns > began_ns)
		disks->rate = (uint64_t)((double)(disk_send_sent(disks->sender) - before) *
					 NSEC_PER_SEC / (double)(now_ns - began_ns));
	show(disks);
	if (mover_is_cancelled(mover))
		return -ECANCELED;
	r = stream_wait(mover->streams[0], 0);
	if (r < 0)
		return mover_lose(mover, r);
	return r ? hear_interruption(mover) : 0;
}

/* What the other side said before it went tells more than that it went; what this host's disk says is no matter of the connection. */
static int fail(struct source_disks *disks, int r, const struct error *err)
{
	struct mover *mover = disks->mover;

	/* It may have let another stream go before it speaks on this one. */
	if (err->status != EXIT_STATUS_RESOURCE &&
	    stream_wait(mover->streams[0], LAST_WORD_MS) == 1 &&
	    hear_interruption(mover) == -EREMOTEIO)
		return -EREMOTEIO;
	error_set(&mover->error, r, err->status, "%s", err->message);
	return err->status == EXIT_STATUS_RESOURCE ? r : mover_lose(mover, r);
}

/* Until the other side has read it all back. */
static int wait_passed(struct source_disks *disks)
{
	struct mover *mover = disks->mover;
	uint64_t began_ns = clock_now(mover->clock);
	const uint8_t *payload;
	struct frame frame;
	int r;

	for (;;) {
		r = mover_receive(mover, &frame);
		if (r < 0)
			return r;
		payload = mover->readers[0].payload.data;
		if (frame.kind != MOVE_DISK_PASSED || frame.len != DISK_PASSED_BYTES ||
		    le_load(payload, 4) != disks->pass)
			return mover_hear(mover, &frame) ? -EREMOTEIO : mover_refuse(mover, &frame);
		if (!le_load(payload + 4, 8)) {
			disks->settle_ns = clock_now(mover->clock) - began_ns;
			return mover_pass(mover, FAILPOINT_SOURCE_DISKS);
		}
		progress_why(&mover->progress, "what was copied is read back there and compared");
		progress_numbers(&mover->progress, &mover->numbers, false);
	}
}

/* On threads, while this one looks around. */
static int send_pass(struct source_disks *disks, bool all, bool last)
{
	struct mover *mover = disks->mover;
	uint64_t began_ns = clock_now(mover->clock), before = disk_send_sent(disks->sender);
	struct error err = { .status = EXIT_STATUS_FAILED };
	int r;

	mover->busy = true;
	r = disk_send_begin(disks->sender, ++disks->pass, all, last, &err);
	while (r == 0) {
		r = disk_send_wait(disks->sender, LOOK_MS, &err);
		if (r == 0) {
			int looked = look_around(disks, began_ns, before);

			if (looked < 0)
				return looked;
		}
	}
	if (r < 0)
		return fail(disks, r, &err);
	mover->busy = false;
	mover->numbers.disk_bytes = disk_send_sent(disks->sender);
	disks->wide_bytes += all ? disk_send_sent(disks->sender) - before : 0;
	disks->wide_ns += all ? clock_now(mover->clock) - began_ns : 0;
	return wait_passed(disks);
}

/* What is left once the guest stands: by this thread, at once. */
static int send_rest(struct source_disks *disks)
{
	struct mover *mover = disks->mover;
	struct error err = { .status = EXIT_STATUS_FAILED };
	int r = disk_send_rest(disks->sender, ++disks->pass, &err);

	mover->numbers.disk_bytes = disk_send_sent(disks->sender);
	return r < 0 ? fail(disks, r, &err) : wait_passed(disks);
}

/* ---- the phase ---- */

static void take_log(struct source_disks *disks)
{
	for (uint32_t i = 0; i < disks->n_disks; i++) {
		disk_map_take(disks->disks[i].map);
		disk_map_rewind(disks->disks[i].map);
	}
	disks->taken_ns = clock_now(disks->mover->clock);
}

static int set_throttle(struct source_disks *disks, uint32_t throttle)
{
	struct mover *mover = disks->mover;
	int r = throttle == *disks->throttle
			? 0
			: mover->link->ops->throttle(mover->link, throttle, &mover->error);

	if (r == 0)
		*disks->throttle = throttle;
	return r;
}

/* After a pass: 1 when one more over all streams is enough. */
static int judge(struct source_disks *disks, uint64_t bytes)
{
	struct mover *mover = disks->mover;
	uint64_t before_ns = disks->taken_ns;
	struct convergence_decision decision;
	struct convergence_look look = {
		.round = disks->pass,
		.round_ns = wire_ns(disks, bytes),
		.round_bytes = bytes,
		.round_trip_ns = mover->round_trip_ns,
		.throttle = *disks->throttle,
	};
	char why[PROGRESS_WHY];

	take_log(disks);
	look.now_ns = disks->taken_ns;
	look.guest_ns = disks->taken_ns - before_ns;
	look.left_bytes = disk_send_left(disks->sender);
	convergence_decide(&disks->convergence, &look, &decision);
	snprintf(why, sizeof(why), "pass %u, the guest writes %llu MB/s to its disks",
		 disks->pass + 1,
		 (unsigned long long)((double)look.left_bytes * 1000 /
				      (double)MAX(look.guest_ns, (uint64_t)1)));
	progress_why(&mover->progress, why);
	/* A few that are written again and again are no reason to slow the VM yet. */
	if (decision.choice == CONVERGENCE_STOP ||
	    (wire_ns(disks, look.left_bytes) <= FEW_NS && disks->pass > 1))
		return 1;
	if (decision.choice == CONVERGENCE_GIVE_UP)
		return error_set(&mover->error, -ETIME, EXIT_STATUS_FAILED,
				 "disks: are written faster than they can be copied: %s",
				 decision.why);
	return set_throttle(disks, decision.throttle);
}

static int copy(struct source_disks *disks)
{
	struct mover *mover = disks->mover;
	int enough = 0, r;

	for (uint32_t i = 0; i < disks->n_disks; i++)
		disk_map_rewind(disks->disks[i].map);
	r = disk_send_holes(disks->sender, &mover->error);
	if (r < 0)
		return mover_lose(mover, r);
	for (;;) {
		uint64_t before = disk_send_sent(disks->sender);

		r = send_pass(disks, true, enough);
		if (r < 0 || enough)
			return r;
		enough = judge(disks, disk_send_sent(disks->sender) - before);
		if (enough < 0)
			return enough;
	}
}

int source_disks_run(struct mover *mover, uint32_t *throttle, struct source_disks **ret_disks)
{
	_cleanup_(source_disksp) struct source_disks *disks = NULL;
	int r;

	*ret_disks = NULL;
	if (!mover->job->n_disks)
		return mover_pass(mover, FAILPOINT_SOURCE_DISKS);
	disks = calloc(1, sizeof(*disks));
	if (!disks)
		return -ENOMEM;
	disks->mover = mover;
	disks->throttle = throttle;
	progress_why(&mover->progress, "pass 1, all that is in use");
	r = begin(disks);
	if (r == 0)
		r = copy(disks);
	if (r < 0)
		return r;
	*ret_disks = TAKE_PTR(disks);
	return 0;
}

/* ---- the rest ---- */

int source_disks_catch_up(struct source_disks *disks)
{
	if (!disks || !left_of(disks))
		return 0;
	take_log(disks);
	return send_pass(disks, false, true);
}

static int send_hash(struct source_disks *disks, const struct disk_source *disk)
{
	uint8_t payload[DISK_HASH_BYTES];
	int r = disk_tree_root(disk->tree, payload + 4);

	le_store(payload, 4, disk->index);
	return r < 0 ? r : mover_send(disks->mover, MOVE_DISK_HASH, payload, sizeof(payload));
}

int source_disks_finish(struct source_disks *disks)
{
	int r = 0;

	if (!disks)
		return 0;
	if (left_of(disks)) {
		take_log(disks);
		r = send_rest(disks);
	}
	for (uint32_t i = 0; r == 0 && i < disks->n_disks; i++)
		r = send_hash(disks, &disks->disks[i]);
	return r;
}
