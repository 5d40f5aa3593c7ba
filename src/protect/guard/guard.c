/* SPDX-License-Identifier: Apache-2.0 */
#include "protect/guard/internal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/endian.h"
#include "base/hex.h"

#define BEATS 5			 /* in the time after which silence is suspected */
#define BEATS_BEFORE_HELLO 10000 /* of a backup that still makes itself ready */

int guard_init(struct guard *guard, const struct guard_settings *settings)
{
	struct move_job *job = settings->job;

	*guard = (struct guard){
		.job = job,
		.link = settings->link,
		.clock = settings->clock,
		.entry = settings->entry,
		.patience_ms = job->patience_ms ? job->patience_ms : GUARD_PATIENCE_MS,
		.detect_ms = job->detect_ms ? job->detect_ms : PROTECT_DETECT_MS,
		.facts = { .ram_fd = -1 },
		.origin = { .generation = job->generation },
	};
	_Static_assert(sizeof(job->token) == sizeof(guard->origin.session.bytes),
		       "the token is the session");
	memcpy(guard->origin.session.bytes, job->token, sizeof(job->token));
	pthread_mutex_init(&guard->saying, NULL);
	progress_init(&guard->progress, job->progress_fd, guard->clock);
	return 0;
}

void guard_release(struct guard *guard)
{
	if (guard->stream)
		frame_reader_release(&guard->reader);
	stream_free(guard->stream);
	move_facts_release(&guard->facts);
	pthread_mutex_destroy(&guard->saying);
}

/* ---- the beginning ---- */

static int by_index(const void *a, const void *b)
{
	const struct move_disk *left = a, *right = b;

	return left->index < right->index ? -1 : left->index > right->index;
}

static int measure_disks(struct guard *guard)
{
	const struct move_job *job = guard->job;

	guard->n_disks = job->n_disks;
	memcpy(guard->disks, job->disks, job->n_disks * sizeof(job->disks[0]));
	qsort(guard->disks, guard->n_disks, sizeof(guard->disks[0]), by_index);
	for (uint32_t i = 0; i < guard->n_disks; i++) {
		off_t bytes = lseek(guard->disks[i].fd, 0, SEEK_END);

		if (bytes <= 0 || bytes % STORAGE_SECTOR || (uint64_t)bytes > LIMIT_MIRRORED_DISK)
			return error_set(&guard->error, -EINVAL, EXIT_STATUS_RESOURCE,
					 "disk[%u]: cannot be mirrored: its size is no multiple of "
					 "%u bytes, or over %llu TiB",
					 guard->disks[i].index, STORAGE_SECTOR,
					 (unsigned long long)(LIMIT_MIRRORED_DISK >> 40));
		guard->disk_bytes[i] = (uint64_t)bytes;
	}
	return 0;
}

static int open_tls(struct guard *guard, int fd)
{
	struct move_job *job = guard->job;
	char token[2 * MOVE_TOKEN_BYTES + 1];
	struct stream_key key;
	int r;

	hex_encode(job->token, sizeof(job->token), token);
	snprintf(key.identity, sizeof(key.identity), "%s.0", token);
	memcpy(key.secret, job->key, sizeof(key.secret));
	r = stream_tls(fd, job->role == MOVE_OWNER ? STREAM_CONNECTS : STREAM_ACCEPTS, &key,
		       guard->patience_ms, &guard->stream, &guard->error);
	explicit_bzero(&key, sizeof(key));
	explicit_bzero(job->key, sizeof(job->key)); /* of no more use */
	return r;
}

static int open_stream(struct guard *guard)
{
	struct move_job *job = guard->job;
	int fd = TAKE_FD(job->streams[0]);
	int r = job->tls ? open_tls(guard, fd)
			 : stream_plain(fd, guard->patience_ms, &guard->stream);

	if (r < 0)
		return guard_lost(guard, r, &guard->error);
	guard->writer = (struct frame_writer){ .stream = guard->stream };
	frame_reader_init(&guard->reader, guard->stream);
	return 0;
}

int guard_open(struct guard *guard)
{
	int r = guard->link->ops->facts(guard->link, &guard->facts, &guard->error);

	if (r == 0)
		r = open_stream(guard);
	return r < 0 ? r : measure_disks(guard);
}

/* ---- what is said ---- */

int guard_lost(struct guard *guard, int r, struct error *err)
{
	const char *why = strerror(-r);

	if (r == -ENODATA || r == -ECONNRESET || r == -EPIPE)
		why = "the other side closed it";
	else if (r == -ETIMEDOUT)
		why = "nothing came for too long";
	return error_set(err, r, EXIT_STATUS_FAILED, "%s: the connection is lost: %s",
			 guard->job->peer, why);
}

void guard_said(struct guard *guard)
{
	__atomic_store_n(&guard->said_ns, clock_now(guard->clock), __ATOMIC_RELAXED);
}

int guard_say(struct guard *guard, enum protect_frame kind, const void *payload, size_t len)
{
	int r;

	pthread_mutex_lock(&guard->saying);
	r = guard->mute ? -EPIPE : frame_send(&guard->writer, (uint16_t)kind, payload, len);
	guard->mute |= r < 0;
	pthread_mutex_unlock(&guard->saying);
	guard_said(guard);
	return r;
}

int guard_beat(struct guard *guard)
{
	const uint64_t said_ns = __atomic_load_n(&guard->said_ns, __ATOMIC_RELAXED);

	if (clock_now(guard->clock) - said_ns < guard->detect_ms * NSEC_PER_MSEC / BEATS)
		return 0;
	return guard_say(guard, PROTECT_HEARTBEAT, NULL, 0);
}

void guard_bye(struct guard *guard, const char *why)
{
	if (guard->stream && !__atomic_load_n(&guard->parted, __ATOMIC_RELAXED))
		(void)!guard_say(guard, PROTECT_BYE, why, MIN(strlen(why), (size_t)GUARD_BYE_MAX));
}

void guard_drain(struct guard *guard)
{
	const uint64_t due_ns = clock_now(guard->clock) + GUARD_LAST_WORD_MS * NSEC_PER_MSEC;
	uint8_t byte;
	int r = guard->stream && !__atomic_load_n(&guard->parted, __ATOMIC_RELAXED) ? 0 : -ENOTCONN;

	while (r >= 0 && clock_now(guard->clock) < due_ns) {
		r = stream_wait(guard->stream, GUARD_LOOK_MS);
		if (r > 0)
			r = stream_receive(guard->stream, &byte, 1);
	}
}

int guard_take_bye(struct guard *guard, const struct frame *frame, struct error *err)
{
	__atomic_store_n(&guard->parted, true, __ATOMIC_RELAXED);
	return error_set(err, -EREMOTEIO, EXIT_STATUS_FAILED, "%s: %.*s", guard->job->peer,
			 (int)MIN(frame->len, (uint32_t)GUARD_BYE_MAX),
			 (const char *)guard->reader.payload.data);
}

bool guard_await_gone(struct guard *guard)
{
	const uint64_t due_ns = clock_now(guard->clock) + GUARD_END_MS * NSEC_PER_MSEC;
	char why[160];

	while (clock_now(guard->clock) < due_ns) {
		(void)!guard_beat(guard); /* this guard lives */
		if (guard->link->ops->hear(guard->link, GUARD_LOOK_MS, why) == PROTECT_WORD_GONE)
			return true;
	}
	return false;
}

/* ---- hello ---- */

#define HELLO_MAX (PROTECT_HELLO_BYTES + 8 * LIMIT_DISKS)

int guard_say_hello(struct guard *guard)
{
	uint8_t bytes[HELLO_MAX], *at = bytes + PROTECT_HELLO_BYTES;
	int r;

	le_store(bytes, 4, PROTECT_VERSION);
	le_store(bytes + 4, 4, guard->n_disks);
	le_store(bytes + 8, 8, guard->facts.ram_bytes);
	le_store(bytes + 16, 8, guard->origin.generation);
	memcpy(bytes + 24, guard->origin.session.bytes, PROTECT_SESSION_BYTES);
	for (uint32_t i = 0; i < guard->n_disks; i++, at += 8)
		le_store(at, 8, guard->disk_bytes[i]);
	r = guard_say(guard, PROTECT_HELLO, bytes, (size_t)(at - bytes));
	return r < 0 ? guard_lost(guard, r, &guard->error) : 0;
}

static int differs(struct guard *guard, const char *what, uint64_t here, uint64_t there)
{
	return error_set(&guard->error, -EMEDIUMTYPE, EXIT_STATUS_RESOURCE,
			 "%s: %s: %llu there, %llu here; both sides need the same",
			 guard->job->peer, what, (unsigned long long)there,
			 (unsigned long long)here);
}

static int judge_disks(struct guard *guard, struct cursor *in)
{
	for (uint32_t i = 0; i < guard->n_disks; i++) {
		const uint64_t bytes = cursor_take_le(in, 8);
		char what[32];

		snprintf(what, sizeof(what), "bytes of disk[%u]", guard->disks[i].index);
		if (bytes != guard->disk_bytes[i])
			return differs(guard, what, guard->disk_bytes[i], bytes);
	}
	return 0;
}

static int judge_hello(struct guard *guard, struct cursor in)
{
	const uint64_t version = cursor_take_le(&in, 4), n_disks = cursor_take_le(&in, 4);
	const uint64_t ram_bytes = cursor_take_le(&in, 8), generation = cursor_take_le(&in, 8);
	const uint8_t *session = cursor_take(&in, PROTECT_SESSION_BYTES);

	if (version != PROTECT_VERSION)
		return error_set(&guard->error, -EPROTONOSUPPORT, EXIT_STATUS_FAILED,
				 "%s: speaks version %llu of protection, this host version %u; "
				 "upgrade the older utsusu",
				 guard->job->peer, (unsigned long long)version, PROTECT_VERSION);
	if (memcmp(session, guard->origin.session.bytes, PROTECT_SESSION_BYTES) != 0)
		return error_set(&guard->error, -ESTALE, EXIT_STATUS_FAILED,
				 "%s: is of another session; protect the VM again",
				 guard->job->peer);
	if (ram_bytes != guard->facts.ram_bytes)
		return differs(guard, "bytes of memory", guard->facts.ram_bytes, ram_bytes);
	if (n_disks != guard->n_disks)
		return differs(guard, "mirrored disks", guard->n_disks, n_disks);
	guard->origin.generation = generation;
	return judge_disks(guard, &in);
}

static int refuse_frame(struct guard *guard, const struct frame *frame)
{
	return error_set(&guard->error, -EBADMSG, EXIT_STATUS_FAILED,
			 "%s: sent a message (%u) in the place of a hello; upgrade the older "
			 "utsusu",
			 guard->job->peer, frame->kind);
}

int guard_hear_hello(struct guard *guard)
{
	const struct buffer *payload = &guard->reader.payload;
	unsigned int beats = 0;
	struct frame frame;
	int r;

	do {
		r = frame_receive(&guard->reader, &frame, &guard->error);
		if (r < 0)
			return guard_lost(guard, r, &guard->error);
		if (!(frame.flags & FRAME_CHECKED))
			return refuse_frame(guard, &frame);
	} while (frame.kind == PROTECT_HEARTBEAT && ++beats < BEATS_BEFORE_HELLO);
	if (frame.kind == PROTECT_BYE)
		return guard_take_bye(guard, &frame, &guard->error);
	if (frame.kind != PROTECT_HELLO || frame.len < PROTECT_HELLO_BYTES ||
	    (frame.len - PROTECT_HELLO_BYTES) % 8)
		return refuse_frame(guard, &frame);
	r = judge_hello(guard, (struct cursor){ .data = payload->data, .left = payload->len });
	if (r == 0 && payload->len != PROTECT_HELLO_BYTES + 8 * (size_t)guard->n_disks)
		return refuse_frame(guard, &frame);
	return r;
}
