/* SPDX-License-Identifier: Apache-2.0 */
#include "move/disks/send.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/endian.h"
#include "base/fd.h"
#include "block/log.h"
#include "move/pages/bandwidth.h"
#include "move/disks/frame.h"
#include "move/pages/pack_policy.h"
#include "wire/compress.h"

#define BLOCK FD_BLOCK_BYTES
#define PACK_LEVEL 1
#define HOLE_RANGES 4096U
#define PAUSE_NS (20 * NSEC_PER_MSEC) /* between two looks at whether it is to end */
#define SILENT_NS NSEC_PER_SEC /* zeroes are told so often, that nobody takes this side for dead */
#define SAMPLE_EVERY 32	       /* chunks: one is packed to see what it brings */

struct disk_lane {
	struct disk_sender *sender;
	struct frame_writer *writer;
	pthread_t thread;
	uint8_t *buf;	 /* BLOCK bytes for a head, then a chunk */
	uint8_t *packed; /* the same */
	uint8_t *holes;	 /* payload of a DISK_HOLE */
	uint32_t n_holes;
	uint64_t spoke_ns; /* when it last sent */
	uint64_t chunks;
	bool pack;
	struct pack_look look;
	struct digest *digest;
	struct compressor *compressor;
};

struct disk_sender {
	struct disk_send_settings settings;
	struct bandwidth bandwidth;
	uint64_t sent; /* atomic */
	bool stop;     /* atomic */
	bool hurry;    /* no limit of bandwidth */

	pthread_mutex_t lock;
	pthread_cond_t changed;
	/* Under the lock. */
	uint32_t running;
	struct pack_policy policy;
	struct pack_look look;
	uint64_t looked_ns;
	struct error error;

	uint32_t n_threads; /* to be joined */
	uint32_t number;    /* of the pass */
	bool last;
	struct disk_lane lanes[MOVE_STREAMS_MAX];
};

DEFINE_CLEANUP(struct disk_sender, disk_send_free, disk_senderp)

static uint64_t now_of(const struct disk_sender *sender)
{
	return clock_now(sender->settings.clock);
}

static uint64_t cpu_now(void)
{
	struct timespec now;

	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
	return (uint64_t)now.tv_sec * NSEC_PER_SEC + (uint64_t)now.tv_nsec;
}

static bool is_stopped(const struct disk_sender *sender)
{
	return __atomic_load_n(&sender->stop, __ATOMIC_RELAXED);
}

/* ---- frames ---- */

static int pace(struct disk_lane *lane, uint64_t bytes)
{
	struct disk_sender *sender = lane->sender;
	uint64_t wait = sender->hurry ? 0
				      : bandwidth_take(&sender->bandwidth, bytes, now_of(sender));

	while (wait > 0 && !is_stopped(sender)) {
		struct timespec pause = { .tv_nsec = (long)MIN(wait, PAUSE_NS) };
		uint64_t since = now_of(sender), slept;

		nanosleep(&pause, NULL);
		/* Where the CPU is wanted by others, it is longer. */
		slept = MAX(now_of(sender) - since, (uint64_t)pause.tv_nsec);
		wait -= MIN(wait, slept);
		lane->look.send_ns += slept;
	}
	return is_stopped(sender) ? -ECANCELED : 0;
}

static int send_frame(struct disk_lane *lane, enum move_frame kind, const void *payload, size_t len)
{
	uint64_t since;
	int r = pace(lane, FRAME_HEADER_BYTES + len);

	if (r < 0)
		return r;
	since = now_of(lane->sender);
	r = frame_send(lane->writer, (uint16_t)kind, payload, len);
	lane->spoke_ns = now_of(lane->sender);
	lane->look.send_ns += lane->spoke_ns - since;
	lane->look.wire_bytes += FRAME_HEADER_BYTES + len;
	return r;
}

static int flush_holes(struct disk_lane *lane)
{
	size_t len = DISK_HOLE_HEAD + lane->n_holes * DISK_HOLE_RANGE;

	if (!lane->n_holes)
		return 0;
	lane->n_holes = 0;
	return send_frame(lane, MOVE_DISK_HOLE, lane->holes, len);
}

static uint8_t *hole_at(const struct disk_lane *lane, uint32_t i)
{
	return lane->holes + DISK_HOLE_HEAD + (size_t)i * DISK_HOLE_RANGE;
}

/* One that follows on the last makes that longer. */
static bool extend_hole(struct disk_lane *lane, uint64_t offset, uint64_t len)
{
	uint8_t *last = lane->n_holes ? hole_at(lane, lane->n_holes - 1) : NULL;

	if (!last || le_load(last, 8) + le_load(last + 8, 8) != offset)
		return false;
	le_store(last + 8, 8, le_load(last + 8, 8) + len);
	return true;
}

static int add_hole(struct disk_lane *lane, const struct disk_source *disk, uint64_t offset,
		    uint64_t len)
{
	bool other = lane->n_holes && le_load(lane->holes, 4) != disk->index;
	int r = other || lane->n_holes == HOLE_RANGES ? flush_holes(lane) : 0;

	if (r < 0 || extend_hole(lane, offset, len))
		return r;
	le_store(lane->holes, 4, disk->index);
	le_store(hole_at(lane, lane->n_holes), 8, offset);
	le_store(hole_at(lane, lane->n_holes) + 8, 8, len);
	lane->n_holes++;
	return 0;
}

/* ---- chunks ---- */

/* Hands over what was measured, and learns whether to pack. */
static void report(struct disk_lane *lane)
{
	struct disk_sender *sender = lane->sender;
	struct pack_look *sum = &sender->look, *look = &lane->look;
	uint64_t now = now_of(sender);

	pthread_mutex_lock(&sender->lock);
	sum->send_ns += look->send_ns;
	sum->wire_bytes += look->wire_bytes;
	sum->pack_ns += look->pack_ns;
	sum->pack_cpu_ns += look->pack_cpu_ns;
	sum->pack_in += look->pack_in;
	sum->pack_out += look->pack_out;
	if (now - sender->looked_ns >= PACK_LOOK_NS) {
		sum->ns = now - sender->looked_ns;
		sum->threads = sender->settings.n_streams;
		pack_policy_judge(&sender->policy, sum);
		*sum = (struct pack_look){ 0 };
		sender->looked_ns = now;
	}
	lane->pack = sender->policy.on;
	pthread_mutex_unlock(&sender->lock);
	*look = (struct pack_look){ 0 };
}

/* Its length, or 0 when it is to be sent as it is. */
static size_t pack(struct disk_lane *lane, size_t len)
{
	enum move_compress compress = lane->sender->settings.compress;
	bool sample = lane->chunks++ % SAMPLE_EVERY == 0, wanted = lane->pack;
	uint64_t since, cpu;
	size_t out = 0;

	if (compress == MOVE_COMPRESS_OFF || (compress == MOVE_COMPRESS_AUTO && !wanted && !sample))
		return 0;
	since = now_of(lane->sender);
	cpu = cpu_now();
	if (compressor_run(lane->compressor, lane->buf + BLOCK, len, lane->packed + BLOCK,
			   len - len / 16, &out) < 0)
		out = 0;
	lane->look.pack_ns += now_of(lane->sender) - since;
	lane->look.pack_cpu_ns += cpu_now() - cpu;
	lane->look.pack_in += len;
	lane->look.pack_out += out ? out : len;
	return compress == MOVE_COMPRESS_ON || wanted ? out : 0;
}

static int send_data(struct disk_lane *lane, const struct disk_source *disk, uint64_t chunk)
{
	size_t len = disk_tree_len(disk->tree, chunk), packed;
	uint64_t offset = disk_tree_offset(disk->tree, chunk);
	uint8_t hash[DIGEST_BYTES], *head;
	int r = digest_run(lane->digest, lane->buf + BLOCK, len, hash);

	if (r < 0)
		return r;
	packed = pack(lane, len);
	head = (packed ? lane->packed : lane->buf) + BLOCK - DISK_HEAD;
	le_store(head, 4, disk->index);
	le_store(head + 4, 8, offset);
	memcpy(head + 12, hash, DIGEST_BYTES);
	disk_tree_set(disk->tree, chunk, hash);
	r = send_frame(lane, packed ? MOVE_DISK_PACKED : MOVE_DISK, head,
		       DISK_HEAD + (packed ? packed : len));
	__atomic_fetch_add(&lane->sender->sent, len, __ATOMIC_RELAXED);
	return r;
}

static int send_chunk(struct disk_lane *lane, const struct disk_source *disk, uint64_t chunk)
{
	size_t len = disk_tree_len(disk->tree, chunk);
	uint64_t offset = disk_tree_offset(disk->tree, chunk);
	int r = fd_read_blocks(disk->fd, lane->buf + BLOCK, len, offset);

	if (r < 0) {
		pthread_mutex_lock(&lane->sender->lock);
		error_set(&lane->sender->error, r, EXIT_STATUS_RESOURCE,
			  "disk[%u]: cannot be read at byte %llu: %s; see this host's kernel log",
			  disk->index, (unsigned long long)offset, strerror(-r));
		pthread_mutex_unlock(&lane->sender->lock);
		return r;
	}
	if (!disk_bytes_are_zero(lane->buf + BLOCK, len))
		return send_data(lane, disk, chunk);
	disk_tree_set(disk->tree, chunk, disk_tree_zero(disk->tree, chunk));
	r = add_hole(lane, disk, offset, len);
	if (r == 0 && now_of(lane->sender) - lane->spoke_ns > SILENT_NS)
		r = flush_holes(lane);
	return r;
}

static int end_pass(struct disk_lane *lane)
{
	uint8_t payload[DISK_PASS_BYTES];
	int r = flush_holes(lane);

	le_store(payload, 4, lane->sender->number);
	payload[4] = lane->sender->last;
	return r < 0 ? r : send_frame(lane, MOVE_DISK_PASS, payload, sizeof(payload));
}

static int run_pass(struct disk_lane *lane)
{
	struct disk_sender *sender = lane->sender;
	uint64_t chunk;
	int r = 0;

	lane->spoke_ns = now_of(sender);
	for (uint32_t i = 0; i < sender->settings.n_disks; i++) {
		const struct disk_source *disk = &sender->settings.disks[i];

		while (r == 0 && disk_map_claim(disk->map, &chunk)) {
			r = is_stopped(sender) ? -ECANCELED : send_chunk(lane, disk, chunk);
			report(lane);
		}
	}
	return r < 0 ? r : end_pass(lane);
}

/* ---- passes ---- */

static void fail_locked(struct disk_sender *sender, int r)
{
	error_set(&sender->error, r, EXIT_STATUS_FAILED, "disks: cannot be sent: %s", strerror(-r));
}

static void *lane_main(void *arg)
{
	struct disk_lane *lane = arg;
	struct disk_sender *sender = lane->sender;
	int r = run_pass(lane);

	pthread_mutex_lock(&sender->lock);
	if (r < 0)
		fail_locked(sender, r);
	sender->running--;
	pthread_cond_broadcast(&sender->changed);
	pthread_mutex_unlock(&sender->lock);
	return NULL;
}

static void prepare(struct disk_sender *sender, uint32_t number, bool last, bool hurry)
{
	for (uint32_t i = 0; i < sender->settings.n_disks; i++)
		disk_map_rewind(sender->settings.disks[i].map);
	sender->number = number;
	sender->last = last;
	sender->hurry = hurry;
	sender->look = (struct pack_look){ 0 };
	sender->looked_ns = now_of(sender);
}

int disk_send_holes(struct disk_sender *sender, struct error *err)
{
	struct disk_lane *lane = &sender->lanes[0];
	int r = 0;

	for (uint32_t i = 0; r == 0 && i < sender->settings.n_disks; i++) {
		const struct disk_source *disk = &sender->settings.disks[i];
		uint64_t n = disk_tree_chunks(disk->tree), at = 0, to;

		for (bool pending; r == 0 && at < n; at = to) {
			to = disk_map_run(disk->map, at, &pending);
			for (uint64_t k = at; !pending && k < to; k++)
				disk_tree_set(disk->tree, k, disk_tree_zero(disk->tree, k));
			if (!pending)
				r = add_hole(lane, disk, disk_tree_offset(disk->tree, at),
					     disk_tree_offset(disk->tree, to - 1) +
						     disk_tree_len(disk->tree, to - 1) -
						     disk_tree_offset(disk->tree, at));
		}
	}
	if (r == 0)
		r = flush_holes(lane);
	return r < 0 ? error_set(err, r, EXIT_STATUS_FAILED, "disks: cannot be sent: %s",
				 strerror(-r))
		     : 0;
}

int disk_send_begin(struct disk_sender *sender, uint32_t number, bool all, bool last,
		    struct error *err)
{
	const uint32_t n = all ? sender->settings.n_streams : 1;

	prepare(sender, number, last, false);
	sender->running = n;
	for (uint32_t i = 0; i < n; i++) {
		char name[16];
		int r;

		snprintf(name, sizeof(name), "disks.%u", i % 100);
		r = thread_start(name, sender->settings.entry, lane_main, &sender->lanes[i],
				 &sender->lanes[i].thread);
		if (r < 0) {
			pthread_mutex_lock(&sender->lock);
			sender->running -= n - i;
			pthread_mutex_unlock(&sender->lock);
			return error_set(err, r, EXIT_STATUS_HOST, "disks: no thread: %s",
					 strerror(-r));
		}
		sender->n_threads++;
	}
	return 0;
}

static void join(struct disk_sender *sender)
{
	for (uint32_t i = 0; i < sender->n_threads; i++)
		pthread_join(sender->lanes[i].thread, NULL);
	sender->n_threads = 0;
}

static void deadline_in(unsigned int ms, struct timespec *ret_until)
{
	clock_gettime(CLOCK_MONOTONIC, ret_until);
	ret_until->tv_sec += ms / 1000;
	ret_until->tv_nsec += (long)(ms % 1000 * NSEC_PER_MSEC);
	if (ret_until->tv_nsec >= (long)NSEC_PER_SEC) {
		ret_until->tv_sec++;
		ret_until->tv_nsec -= (long)NSEC_PER_SEC;
	}
}

int disk_send_wait(struct disk_sender *sender, unsigned int timeout_ms, struct error *err)
{
	struct timespec until;
	int r = 0;

	deadline_in(timeout_ms, &until);
	pthread_mutex_lock(&sender->lock);
	while (sender->running && !sender->error.code && r == 0)
		r = pthread_cond_clockwait(&sender->changed, &sender->lock, CLOCK_MONOTONIC,
					   &until);
	r = sender->error.code ? error_set(err, sender->error.code, sender->error.status, "%s",
					   sender->error.message)
			       : !sender->running;
	pthread_mutex_unlock(&sender->lock);
	if (r == 1)
		join(sender);
	return r;
}

void disk_send_stop(struct disk_sender *sender)
{
	__atomic_store_n(&sender->stop, true, __ATOMIC_RELAXED);
}

int disk_send_rest(struct disk_sender *sender, uint32_t number, struct error *err)
{
	int r;

	prepare(sender, number, true, true);
	r = run_pass(&sender->lanes[0]);
	if (r == 0)
		return 0;
	if (!sender->error.code)
		fail_locked(sender, r);
	return error_set(err, sender->error.code, sender->error.status, "%s",
			 sender->error.message);
}

uint64_t disk_send_sent(const struct disk_sender *sender)
{
	return __atomic_load_n(&sender->sent, __ATOMIC_RELAXED);
}

uint64_t disk_send_left(const struct disk_sender *sender)
{
	uint64_t left = 0;

	for (uint32_t i = 0; i < sender->settings.n_disks; i++) {
		const struct disk_source *disk = &sender->settings.disks[i];

		left += disk_map_left(disk->map) * disk_tree_len(disk->tree, 0);
	}
	return left;
}

/* ---- life ---- */

static int lane_init(struct disk_sender *sender, uint32_t i)
{
	struct disk_lane *lane = &sender->lanes[i];
	int r;

	lane->sender = sender;
	lane->writer = &sender->settings.writers[i];
	lane->buf = aligned_alloc(BLOCK, BLOCK + DISK_CHUNK_MAX);
	lane->packed = malloc(BLOCK + DISK_CHUNK_MAX);
	lane->holes = malloc(DISK_HOLE_HEAD + HOLE_RANGES * DISK_HOLE_RANGE);
	if (!lane->buf || !lane->packed || !lane->holes)
		return -ENOMEM;
	r = digest_new(&lane->digest);
	return r < 0 ? r : compressor_new(PACK_LEVEL, &lane->compressor);
}

int disk_send_new(const struct disk_send_settings *settings, struct disk_sender **ret_sender)
{
	_cleanup_(disk_senderp) struct disk_sender *sender = calloc(1, sizeof(*sender));
	int r = 0;

	if (!sender)
		return -ENOMEM;
	sender->settings = *settings;
	bandwidth_init(&sender->bandwidth, settings->max_bandwidth);
	pack_policy_init(&sender->policy);
	pthread_mutex_init(&sender->lock, NULL);
	pthread_cond_init(&sender->changed, NULL);
	for (uint32_t i = 0; r == 0 && i < settings->n_streams; i++)
		r = lane_init(sender, i);
	if (r == 0)
		*ret_sender = TAKE_PTR(sender);
	return r;
}

void disk_send_free(struct disk_sender *sender)
{
	bool running;

	if (!sender)
		return;
	disk_send_stop(sender);
	pthread_mutex_lock(&sender->lock);
	running = sender->running > 0;
	pthread_mutex_unlock(&sender->lock);
	for (uint32_t i = 0; running && i < sender->n_threads; i++)
		stream_cancel(sender->settings.writers[i].stream);
	join(sender);
	for (uint32_t i = 0; i < sender->settings.n_streams; i++) {
		struct disk_lane *lane = &sender->lanes[i];

		digest_free(lane->digest);
		if (lane->compressor)
			compressor_free(lane->compressor);
		free(lane->buf);
		free(lane->packed);
		free(lane->holes);
	}
	bandwidth_release(&sender->bandwidth);
	pthread_cond_destroy(&sender->changed);
	pthread_mutex_destroy(&sender->lock);
	free(sender);
}
