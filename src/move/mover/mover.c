/* SPDX-License-Identifier: Apache-2.0 */
#include "move/mover/mover.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/fd.h"
#include "base/hex.h"
#include "wire/hello.h"

#define LOOK_MS 50 /* between two looks at people while the other side is waited for */
#define PIECE_BYTES KIB(256)

int mover_init(struct mover *mover, const struct mover_settings *settings)
{
	*mover = (struct mover){
		.job = settings->job,
		.link = settings->link,
		.clock = settings->clock,
		.entry = settings->entry,
		.peer_ms = settings->peer_ms ? settings->peer_ms : MOVE_PEER_MS,
		.facts.ram_fd = -1,
		.shared.fd = -1,
		.started_ns = clock_now(settings->clock),
	};
	line_init(&mover->line);
	progress_init(&mover->progress, mover->job->progress_fd, mover->clock);
	if (failpoint_parse(mover->job->failpoint, &mover->failpoint, &mover->error) < 0)
		return -EINVAL;
	mover->failpoint.told = settings->passed ? settings->passed : progress_failpoint;
	mover->failpoint.ctx = settings->passed ? settings->ctx : &mover->progress;
	return 0;
}

void mover_release(struct mover *mover)
{
	for (uint32_t i = 0; i < mover->job->n_streams; i++) {
		if (mover->streams[i])
			frame_reader_release(&mover->readers[i]);
		stream_free(mover->streams[i]);
	}
	line_release(&mover->line);
	move_facts_release(&mover->facts);
	if (mover->shared.fd >= 0)
		move_shared_release(&mover->shared);
}

void mover_post(struct mover *mover, enum handover_event_kind kind, enum handover_phase phase)
{
	struct handover_event *event = &mover->events[mover->n_events];

	assert(mover->n_events < MOVER_EVENTS);
	mover->n_events++;
	*event = (struct handover_event){ .kind = kind, .phase = phase };
	/* What a frame leaves out its stream's hello said. */
	memcpy(event->id.token, mover->job->token, sizeof(event->id.token));
	event->id.generation = mover->job->generation;
}

bool mover_next_event(struct mover *mover, struct handover_event *ret_event)
{
	if (!mover->n_events)
		return false;
	*ret_event = mover->events[0];
	mover->n_events--;
	memmove(mover->events, mover->events + 1, mover->n_events * sizeof(mover->events[0]));
	return true;
}

int mover_pass(struct mover *mover, enum failpoint_name name)
{
	int r = failpoint(&mover->failpoint, name);

	return r < 0 ? error_set(&mover->error, r, EXIT_STATUS_FAILED, "failpoint %s",
				 failpoint_text(name))
		     : 0;
}

/* Why a connection is of no use any more, for people. */
static const char *lost_text(int r)
{
	switch (r) {
	case -ENODATA:
	case -ECONNRESET:
	case -EPIPE:
		return "the other side closed it";
	case -ETIMEDOUT:
		return "nothing came for too long";
	default:
		return strerror(-r);
	}
}

int mover_lose(struct mover *mover, int r)
{
	error_set(&mover->error, r, EXIT_STATUS_FAILED,
		  "%s: the connection is lost: %s; see that it stays up", mover->job->peer,
		  lost_text(r));
	if (!mover->lost)
		mover_post(mover, ON_LINK_LOST, PHASE_CHECK);
	mover->lost = true;
	return r;
}

/* ---- streams ---- */

/* Every stream has its own identity, so that none can be taken for another. */
static void make_key(const struct move_job *job, uint32_t stream, struct stream_key *ret_key)
{
	char token[2 * MOVE_TOKEN_BYTES + 1];

	hex_encode(job->token, sizeof(job->token), token);
	snprintf(ret_key->identity, sizeof(ret_key->identity), "%s.%u", token, stream);
	memcpy(ret_key->secret, job->key, sizeof(ret_key->secret));
}

static int open_stream(struct mover *mover, uint32_t i)
{
	struct move_job *job = mover->job;
	struct stream_key key;
	int r;

	if (!job->tls)
		return stream_plain(TAKE_FD(job->streams[i]), mover->peer_ms, &mover->streams[i]);
	make_key(job, i, &key);
	r = stream_tls(TAKE_FD(job->streams[i]),
		       job->role == MOVE_SOURCE ? STREAM_CONNECTS : STREAM_ACCEPTS, &key,
		       mover->peer_ms, &mover->streams[i], &mover->error);
	explicit_bzero(&key, sizeof(key));
	return r;
}

int mover_open_streams(struct mover *mover)
{
	for (uint32_t i = 0; i < mover->job->n_streams; i++) {
		int r = open_stream(mover, i);

		if (r < 0)
			return mover_lose(mover, r);
		mover->writers[i] = (struct frame_writer){ .stream = mover->streams[i] };
		frame_reader_init(&mover->readers[i], mover->streams[i]);
	}
	explicit_bzero(mover->job->key, sizeof(mover->job->key)); /* of no more use */
	return 0;
}

static uint64_t states_up_to(unsigned int version)
{
	return version ? MOVE_FEATURES_STATE >> (MOVE_STATE_VERSIONS - version) : 0;
}

static uint64_t states_of(const struct move_facts *facts)
{
	unsigned int last = MIN(facts->state_max, MOVE_STATE_VERSIONS);

	return states_up_to(last) & ~states_up_to(MIN(facts->state_min - 1U, last));
}

static unsigned int highest_state(uint64_t states)
{
	return states ? 64 - (unsigned int)__builtin_clzll(states) : 0;
}

static unsigned int lowest_state(uint64_t states)
{
	return states ? 1 + (unsigned int)__builtin_ctzll(states) : 0;
}

static struct hello hello_of(const struct mover *mover, uint32_t i)
{
	struct hello hello = {
		.version_min = MOVE_VERSION_MIN,
		.version_max = MOVE_VERSION,
		.role = mover->job->role == MOVE_SOURCE ? HELLO_GIVES : HELLO_TAKES,
		.stream = (uint8_t)i,
		.n_streams = (uint8_t)mover->job->n_streams,
		.features = states_of(&mover->facts) | MOVE_FEATURE_SUMS | MOVE_FEATURE_ENDED |
			    MOVE_FEATURE_CLOCK | MOVE_FEATURE_SOON |
			    (mover->can_postcopy ? MOVE_FEATURE_POSTCOPY : 0),
	};

	memcpy(hello.token, mover->job->token, sizeof(hello.token));
	return hello;
}

static int send_hello(struct mover *mover, uint32_t i)
{
	const struct hello hello = hello_of(mover, i);
	uint8_t bytes[HELLO_BYTES];
	int r;

	hello_encode(&hello, bytes);
	r = frame_send(&mover->writers[i], MOVE_HELLO, bytes, sizeof(bytes));
	return r < 0 ? mover_lose(mover, r) : 0;
}

/* The older of the two programs need not be one of the movers': a VM's process lives as long as the VM. */
static int agree_state(struct mover *mover, uint64_t here, uint64_t there)
{
	const bool source = mover->job->role == MOVE_SOURCE;
	uint64_t gives = MOVE_FEATURES_STATE & (source ? here : there);
	uint64_t takes = MOVE_FEATURES_STATE & (source ? there : here);

	mover->state_version = (uint16_t)highest_state(gives & takes);
	if (mover->state_version)
		return 0;
	return error_set(
		&mover->error, -EPROTONOSUPPORT, EXIT_STATUS_FAILED,
		"state: the VM's program speaks versions %u to %u of it, the "
		"destination's %u to %u; take a destination of a nearer version of utsusu, "
		"or start the VM anew there",
		lowest_state(gives), highest_state(gives), lowest_state(takes),
		highest_state(takes));
}

static int judge_hello(struct mover *mover, uint32_t i)
{
	const struct buffer *payload = &mover->readers[i].payload;
	const struct hello own = hello_of(mover, i);
	struct hello_agreed agreed;
	struct hello peer;
	int r = hello_parse(payload->data, payload->len, &peer, &mover->error);

	if (r == 0)
		r = hello_agree(&own, &peer, &agreed, &mover->error);
	if (r == 0 && i == 0)
		mover->features = agreed.features;
	if (r == 0 && i == 0)
		r = agree_state(mover, own.features, peer.features);
	if (r == 0)
		mover->sums = !mover->job->tls && (agreed.features & MOVE_FEATURE_SUMS);
	return r;
}

static int hear_hello(struct mover *mover, uint32_t i)
{
	struct frame frame;
	int r = frame_receive(&mover->readers[i], &frame, &mover->error);

	if (r < 0)
		return mover_lose(mover, r);
	if (i == 0 && frame.kind == MOVE_REFUSED && (frame.flags & FRAME_CHECKED)) {
		mover_hear(mover, &frame);
		return -EREMOTEIO;
	}
	if (frame.kind != MOVE_HELLO || !(frame.flags & FRAME_CHECKED))
		return mover_refuse(mover, &frame);
	return judge_hello(mover, i);
}

/* The source first, on all; so it is one round trip, and its time is the wire's. */
static int hello_on_all(struct mover *mover, int (*one)(struct mover *mover, uint32_t i))
{
	int r = 0;

	for (uint32_t i = 0; r == 0 && i < mover->job->n_streams; i++)
		r = one(mover, i);
	return r;
}

int mover_say_hello(struct mover *mover)
{
	const bool first = mover->job->role == MOVE_SOURCE;
	uint64_t began_ns = clock_now(mover->clock);
	int r = hello_on_all(mover, first ? send_hello : hear_hello);

	if (r == 0)
		r = hello_on_all(mover, first ? hear_hello : send_hello);
	mover->round_trip_ns = clock_now(mover->clock) - began_ns;
	return r;
}

/* ---- frames ---- */

struct stream_counts mover_counts(const struct mover *mover)
{
	struct stream_counts sum = { 0 }, one;

	for (uint32_t i = 0; i < mover->job->n_streams; i++) {
		stream_counts(mover->streams[i], &one);
		sum.sent += one.sent;
		sum.received += one.received;
		sum.wire_sent += one.wire_sent;
		sum.wire_received += one.wire_received;
		sum.rekeys += one.rekeys;
	}
	return sum;
}

void mover_be_patient(struct mover *mover)
{
	for (uint32_t i = 0; i < mover->job->n_streams; i++)
		stream_be_patient(mover->streams[i], MOVE_DEAD_MS);
}

/* The guest stands still meanwhile, so a peer that has always something to say is no better than one that says nothing. */
void mover_judge_wait(struct mover *mover, uint64_t silent_ns, uint64_t waited_ns)
{
	const uint64_t peer_ns = mover->peer_ms * NSEC_PER_MSEC;

	if (waited_ns >= MOVE_COMMIT_WAITS * peer_ns)
		error_set(&mover->error, -ETIMEDOUT, EXIT_STATUS_FAILED,
			  "%s: no commit came of it in %u s; see what holds that host up",
			  mover->job->peer, MOVE_COMMIT_WAITS * mover->peer_ms / 1000);
	if (silent_ns >= peer_ns || waited_ns >= MOVE_COMMIT_WAITS * peer_ns)
		mover_lose(mover, -ETIMEDOUT);
}

int mover_send(struct mover *mover, enum move_frame kind, const void *payload, size_t len)
{
	int r;

	if (mover->lost || mover->busy || !mover->streams[0])
		return -EPIPE;
	line_take(&mover->line, true);
	r = frame_send(&mover->writers[0], (uint16_t)kind, payload, len);
	line_give(&mover->line, true);
	return r < 0 ? mover_lose(mover, r) : 0;
}

int mover_send_state(struct mover *mover, enum move_frame kind, uint64_t len)
{
	_cleanup_(freep) uint8_t *piece = malloc(PIECE_BYTES);
	int r = piece ? 0 : -ENOMEM;

	for (uint64_t at = 0; r == 0 && at < len; at += PIECE_BYTES) {
		size_t n = MIN(len - at, PIECE_BYTES);

		r = fd_read_at(mover->shared.fd, piece, n, mover->shared.state_at + at);
		if (r == 0)
			r = mover_send(mover, kind, piece, n);
	}
	return r == 0 ? mover_send(mover, kind, NULL, 0) : r;
}

int mover_take_state(struct mover *mover, const struct frame *frame, uint64_t *len)
{
	int r;

	if (!frame->len)
		return 1;
	if (*len + frame->len > MOVE_STATE_MAX)
		return error_set(
			&mover->error, -E2BIG, EXIT_STATUS_FAILED,
			"state: the other host sends more than %llu MiB; upgrade the older "
			"utsusu",
			(unsigned long long)(MOVE_STATE_MAX >> 20));
	r = fd_write_at(mover->shared.fd, mover->readers[0].payload.data, frame->len,
			mover->shared.state_at + *len);
	if (r < 0)
		return error_set(&mover->error, r, EXIT_STATUS_HOST, "state: cannot be kept: %s",
				 strerror(-r));
	*len += frame->len;
	return 0;
}

bool mover_is_cancelled(struct mover *mover)
{
	if (mover->cancel_told || !progress_cancelled(&mover->progress))
		return false;
	mover->cancel_told = true;
	mover_post(mover, ON_CANCEL, PHASE_CHECK);
	return true;
}

/* 0 when there is something to receive. What the other side says is seen at once; people are looked at now and then. */
static int wait_for_frame(struct mover *mover)
{
	unsigned int waited_ms = 0;

	for (;;) {
		int r = stream_wait(mover->streams[0], LOOK_MS);

		if (r != 0)
			return r < 0 ? mover_lose(mover, r) : 0;
		if (mover_is_cancelled(mover))
			return -ECANCELED;
		waited_ms += LOOK_MS;
		if (waited_ms >= mover->peer_ms)
			return mover_lose(mover, -ETIMEDOUT);
	}
}

bool mover_may_skip(const struct frame *frame)
{
	return frame->kind >= MOVE_FRAMES && (frame->flags & FRAME_OPTIONAL) &&
	       (frame->flags & FRAME_CHECKED);
}

int mover_receive(struct mover *mover, struct frame *ret_frame)
{
	struct frame frame;

	if (mover->lost || !mover->streams[0])
		return mover_lose(mover, -ENOTCONN);
	do {
		int r = wait_for_frame(mover);

		if (r < 0)
			return r;
		r = frame_receive(&mover->readers[0], &frame, &mover->error);
		if (r < 0)
			return mover_lose(mover, r);
	} while (mover_may_skip(&frame));
	if (!(frame.flags & FRAME_CHECKED)) /* nothing but pages may go without */
		return mover_refuse(mover, &frame);
	*ret_frame = frame;
	return 0;
}

int mover_refuse(struct mover *mover, const struct frame *frame)
{
	error_set(&mover->error, -EBADMSG, EXIT_STATUS_FAILED,
		  "%s: sent a message (%u) that cannot be now; upgrade the older utsusu",
		  mover->job->peer, frame->kind);
	return mover_lose(mover, -EBADMSG);
}

void mover_refuse_event(struct mover *mover)
{
	error_set(&mover->error, -EBADMSG, EXIT_STATUS_FAILED,
		  "%s: sent a message that cannot be now; upgrade the older utsusu",
		  mover->job->peer);
	mover_lose(mover, -EBADMSG);
}

/* The other side's own words, shown as that. */
static void keep_reason(struct mover *mover, const struct buffer *text, const char *unsaid)
{
	if (text->len)
		error_set(&mover->error, -EREMOTEIO, EXIT_STATUS_FAILED, "%s: %.*s",
			  mover->job->peer, (int)MIN(text->len, (size_t)400),
			  (const char *)text->data);
	else
		error_set(&mover->error, -EREMOTEIO, EXIT_STATUS_FAILED, "%s: %s", mover->job->peer,
			  unsaid);
}

static void hear_verified(struct mover *mover, const struct buffer *text)
{
	struct error warning = { 0 };

	if (!text->len) {
		mover_post(mover, ON_VERIFIED, PHASE_VERIFY);
		return;
	}
	error_set(&warning, -EREMOTEIO, EXIT_STATUS_FAILED, "%s: the VM runs there, but: %.*s",
		  mover->job->peer, (int)MIN(text->len, (size_t)200), (const char *)text->data);
	progress_warning(&mover->progress, warning.message);
	mover_post(mover, ON_NOT_VERIFIED, PHASE_VERIFY);
}

/* It ran there, and somebody there wanted its end: as good as verified. */
static void hear_ended(struct mover *mover, const struct buffer *text)
{
	struct error words = { 0 };

	error_set(&words, -ESRCH, EXIT_STATUS_FAILED, "%.*s",
		  (int)MIN(text->len, (size_t)MOVE_LAST_WORD), (const char *)text->data);
	progress_ended(&mover->progress, words.message);
	mover_post(mover, ON_VERIFIED, PHASE_VERIFY);
}

static const struct message {
	enum move_frame kind;
	enum handover_event_kind event;
	bool token; /* carries it: another's is for the hand-over to refuse */
	const char *unsaid;
} messages[] = {
	{ MOVE_REHEARSED, ON_REHEARSED },
	{ MOVE_REFUSED, ON_REFUSED, .unsaid = "refused the VM" },
	{ MOVE_CANCEL, ON_CANCELLED, .unsaid = "ended the move" },
	{ MOVE_READY, ON_READY },
	{ MOVE_COMMIT, ON_COMMIT, .token = true },
	{ MOVE_ANSWER_RAN, ON_RAN, .token = true },
	{ MOVE_ANSWER_NEVER, ON_NEVER, .token = true, .unsaid = "did not run the VM" },
};

static void hear_message(struct mover *mover, const struct message *message)
{
	const struct buffer *payload = &mover->readers[0].payload;
	struct handover_event *event;

	if (message->unsaid)
		keep_reason(mover, message->token ? &(struct buffer){ 0 } : payload,
			    message->unsaid);
	mover_post(mover, message->event, PHASE_CHECK);
	event = &mover->events[mover->n_events - 1];
	if (message->token) {
		memset(event->id.token, 0, sizeof(event->id.token));
		memcpy(event->id.token, payload->data, MIN(payload->len, sizeof(event->id.token)));
	}
}

int mover_hear(struct mover *mover, const struct frame *frame)
{
	if (frame->kind == MOVE_VERIFIED || frame->kind == MOVE_ENDED) {
		(frame->kind == MOVE_ENDED ? hear_ended
					   : hear_verified)(mover, &mover->readers[0].payload);
		return 1;
	}
	for (size_t i = 0; i < ARRAY_SIZE(messages); i++) {
		if (messages[i].kind != frame->kind)
			continue;
		hear_message(mover, &messages[i]);
		return 1;
	}
	return 0;
}
