/* SPDX-License-Identifier: Apache-2.0 */
/*
 * covers: protect/guard/receive.c protect/guard/container.c protect/guard/take.c protect/guard/guard.c protect/guard/keep.c
 *
 * A whole life of a backup's guard with an owner that says what it likes and then goes, and with a VM that answers as the input has it.
 */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "../unit/stream_memory.h"
#include "frame_peer.h"
#include "protect/guard/backup.h"
#include "protect/journal.h"
#include "protect/protocol.h"
#include "protect/shared.h"

#define RAM_BYTES MIB(2)
#define RAM_PAGES (RAM_BYTES / MEMORY_PAGE_SIZE)
#define DISK_BYTES MIB(1)
#define JOURNAL_RING (2 * JOURNAL_RING_MIN)
#define STREAM_BYTES MIB(2)
#define TOKEN 0x33

struct rig {
	struct protect_link link;
	struct frame_peer peer;
	int ram_fd, disk_fd, journal_fd;
	uint8_t script; /* how the VM answers */
	/* what an end that fits says */
	uint64_t number, pages, sum;
	/* what became of it */
	uint64_t acked;
	bool prepared, applied;
	unsigned int heard;
};

/* The script's bits. */
enum {
	REFUSES_STATE = 1,
	PREPARES = 2,
	LOSES = 4,
	ACKS_NO_MORE = 8,
	REFUSES_TO_RUN = 16,
	PREPARES_BY_ITSELF = 32, /* once it is whole */
	ENDS = 64,		 /* then */
};

static struct rig *rig;

/* ---- the stream: what was put together, in the place of a socket's ---- */

int stream_plain(int fd, unsigned int timeout_ms _unused_, struct stream **ret_stream)
{
	close(fd);
	*ret_stream = stream_memory_new(rig->peer.bytes, rig->peer.len);
	return 0;
}

int stream_tls(int fd _unused_, enum stream_role role _unused_,
	       const struct stream_key *key _unused_, unsigned int timeout_ms _unused_,
	       struct stream **ret_stream _unused_, struct error *err _unused_)
{
	abort();
}

/* ---- the VM ---- */

static int link_facts(struct protect_link *link _unused_, struct move_facts *ret_facts,
		      struct error *err _unused_)
{
	*ret_facts = (struct move_facts){
		.uuid = "6a0f1d3e-9f1b-4a53-8d3b-5f0c8f5f2b11",
		.ram_fd = -1,
		.ram_bytes = RAM_BYTES,
		.n_banks = 1,
		.banks = { { .len = RAM_BYTES } },
	};
	return 0;
}

static int link_arrive(struct protect_link *link _unused_, const uint8_t token[MOVE_TOKEN_BYTES],
		       int shared_fd, struct error *err _unused_)
{
	assert(token[0] == TOKEN && shared_fd >= 0);
	return 0;
}

static int link_rehearse(struct protect_link *link _unused_, uint64_t len _unused_,
			 struct error *err)
{
	return rig->script & REFUSES_STATE
		       ? error_set(err, -EREMOTEIO, EXIT_STATUS_FAILED, "no such device")
		       : 0;
}

static int link_back_up(struct protect_link *link _unused_,
			const struct ownership_id *session _unused_, const char *peer _unused_,
			struct error *err _unused_)
{
	return 0;
}

static int link_whole(struct protect_link *link _unused_, uint64_t epoch, bool *ret_ack,
		      struct error *err _unused_)
{
	assert(epoch > rig->acked && !rig->prepared);
	*ret_ack = !(rig->script & ACKS_NO_MORE) || !rig->acked;
	rig->acked = *ret_ack ? epoch : rig->acked;
	return 0;
}

static int link_suspect(struct protect_link *link _unused_, const char *why, bool *ret_prepare,
			struct error *err _unused_)
{
	assert(why[0] && rig->acked);
	*ret_prepare = rig->script & PREPARES;
	return 0;
}

static int link_prepared(struct protect_link *link _unused_, struct error *err _unused_)
{
	assert(rig->acked && !rig->prepared);
	rig->prepared = true;
	return 0;
}

static int link_apply(struct protect_link *link _unused_, uint64_t state_len,
		      uint64_t stopped_ns _unused_, struct error *err)
{
	assert(rig->prepared && !rig->applied && state_len >= PROTECT_STATE_HEAD);
	rig->applied = true;
	return rig->script & REFUSES_TO_RUN
		       ? error_set(err, -EREMOTEIO, EXIT_STATUS_FAILED, "it does not run")
		       : 0;
}

static int link_failed(struct protect_link *link _unused_, const char *why,
		       struct error *err _unused_)
{
	assert(why[0]);
	return 0;
}

static int link_record(struct protect_link *link _unused_, const struct ownership_record *record,
		       struct error *err _unused_)
{
	assert(record->generation && record->mode != OWNERSHIP_NONE);
	return 0;
}

static int link_ended(struct protect_link *link _unused_,
		      const struct ownership_id *session _unused_, struct error *err _unused_)
{
	return 0;
}

/* Nothing while epochs come; then the arbiter's decision. */
static enum protect_word link_hear(struct protect_link *link _unused_, int timeout_ms,
				   char ret_why[160])
{
	ret_why[0] = '\0';
	if (!timeout_ms)
		return !rig->acked			  ? PROTECT_WORD_NONE
		       : rig->script & PREPARES_BY_ITSELF ? PROTECT_WORD_PREPARE
		       : rig->script & ENDS		  ? PROTECT_WORD_GONE
							  : PROTECT_WORD_NONE;
	if (!rig->prepared)
		return rig->script & PREPARES ? PROTECT_WORD_PREPARE : PROTECT_WORD_GONE;
	if (rig->script & LOSES)
		return PROTECT_WORD_GONE;
	return rig->heard++ ? PROTECT_WORD_OVER : PROTECT_WORD_APPLY;
}

static const struct protect_link_ops ops = {
	.facts = link_facts,
	.arrive = link_arrive,
	.rehearse = link_rehearse,
	.back_up = link_back_up,
	.whole = link_whole,
	.suspect = link_suspect,
	.prepared = link_prepared,
	.apply = link_apply,
	.failed = link_failed,
	.record = link_record,
	.ended = link_ended,
	.hear = link_hear,
};

/* ---- the owner ---- */

static void add_hello(struct cursor *in)
{
	const uint8_t lie = (uint8_t)cursor_take_le(in, 1);
	uint8_t bytes[PROTECT_HELLO_BYTES + 16];

	le_store(bytes, 4, PROTECT_VERSION + (lie == 0xff));
	le_store(bytes + 4, 4, 1 + (lie == 0xfe));
	le_store(bytes + 8, 8, RAM_BYTES + (lie == 0xfd));
	le_store(bytes + 16, 8, 3);
	memset(bytes + 24, TOKEN + (lie == 0xfc), PROTECT_SESSION_BYTES);
	le_store(bytes + PROTECT_HELLO_BYTES, 8, DISK_BYTES + (lie == 0xfb));
	put_frame(&rig->peer, PROTECT_HELLO, FRAME_CHECKED, bytes,
		  PROTECT_HELLO_BYTES + (lie == 0xfa   ? 16
					 : lie == 0xf9 ? 0
						       : 8));
}

static void add_begin(struct cursor *in)
{
	uint8_t bytes[PROTECT_EPOCH_BYTES];

	rig->number += cursor_take_le(in, 1) % 4;
	rig->pages = rig->sum = 0;
	le_store(bytes, 8, 3);
	memset(bytes + 8, TOKEN, PROTECT_SESSION_BYTES);
	le_store(bytes + 24, 8, rig->number);
	le_store(bytes + 32, 8, 0);
	put_frame(&rig->peer, PROTECT_EPOCH, FRAME_CHECKED, bytes, sizeof(bytes));
}

static void add_zeroes(struct cursor *in)
{
	static const uint8_t zeros[MEMORY_PAGE_SIZE] __attribute__((aligned(64)));
	const uint64_t first = cursor_take_le(in, 2) % (RAM_PAGES + 4),
		       n = cursor_take_le(in, 1) % 16;
	uint8_t payload[12];

	le_store(payload, 8, first);
	le_store(payload + 8, 4, n);
	for (uint64_t i = 0; i < n; i++, rig->pages++)
		rig->sum += epoch_sum(first + i, zeros);
	put_frame(&rig->peer, PROTECT_ZEROES, FRAME_CHECKED, payload, sizeof(payload));
}

static void add_write(struct cursor *in)
{
	static uint8_t payload[PROTECT_WRITE_BYTES + 64 * STORAGE_SECTOR];
	const uint64_t len = cursor_take_le(in, 1) % 64 * STORAGE_SECTOR;
	const uint8_t kind = (uint8_t)cursor_take_le(in, 1) % 5;

	le_store(payload, 4, cursor_take_le(in, 1) == 0xff);
	le_store(payload + 4, 4, kind);
	le_store(payload + 8, 8, cursor_take_le(in, 2) * STORAGE_SECTOR);
	le_store(payload + 16, 8, len);
	put_frame(&rig->peer, PROTECT_WRITE, FRAME_CHECKED, payload,
		  PROTECT_WRITE_BYTES + (kind == JOURNAL_WRITE ? len : 0));
}

static void add_end(struct cursor *in)
{
	const uint8_t lie = (uint8_t)cursor_take_le(in, 1);
	uint8_t bytes[PROTECT_END_BYTES], state[PROTECT_STATE_HEAD + 16] = { 0 };

	static const uint8_t section[] = { 'U', 'S', 'E', 'C', 1, 'a', 1, 0, 4, 0, 0, 0, 1, 2, 3 };

	protect_state_head(state, 16, lie == 0xff);
	memcpy(state + PROTECT_STATE_HEAD, section, sizeof(section));
	state[PROTECT_STATE_HEAD + 5] = 'a' + (lie >> 4 & 1); /* its name: of two */
	protect_state_set_flags(state, lie >> 1 & 7);	      /* partial or not */
	if (lie & 1)
		put_frame(&rig->peer, PROTECT_STATE, FRAME_CHECKED, state, sizeof(state));
	put_frame(&rig->peer, PROTECT_STATE, FRAME_CHECKED, state, 0);
	le_store(bytes, 8, rig->number);
	le_store(bytes + 8, 8, rig->pages);
	le_store(bytes + 16, 8, rig->sum);
	put_frame(&rig->peer, PROTECT_END, FRAME_CHECKED, bytes, sizeof(bytes));
}

static void add_other(struct cursor *in)
{
	const uint8_t kind = (uint8_t)cursor_take_le(in, 1), len = (uint8_t)cursor_take_le(in, 1);
	const void *bytes = cursor_take(in, len);

	if (bytes)
		put_frame(&rig->peer, kind & 0x7f, kind & 0x80 ? 0 : FRAME_CHECKED, bytes, len);
}

static void add(struct cursor *in)
{
	static void (*const all[])(struct cursor * in) = { add_hello, add_begin, add_zeroes,
							   add_write, add_end,	 add_other };
	const uint8_t what = (uint8_t)cursor_take_le(in, 1);
	size_t len;

	if (what % 8 < ARRAY_SIZE(all)) {
		all[what % 8](in);
	} else if (what % 8 == 6) {
		put(&rig->peer, in->data, in->left & 0xff);
	} else {
		len = cursor_take_le(in, 3);
		rig->peer.len = MIN(rig->peer.len, len);
	}
}

/* ---- */

static int make_file(uint64_t bytes)
{
	int fd = memfd_create("fuzz", MFD_CLOEXEC);

	if (fd < 0 || ftruncate(fd, (off_t)bytes) < 0)
		abort();
	return fd;
}

/* Made once: what lies in the files from one input to the next is as good as anything. */
static void make_rig(void)
{
	rig = calloc(1, sizeof(*rig));
	if (!rig)
		abort();
	rig->link.ops = &ops;
	frame_peer_init(&rig->peer, STREAM_BYTES);
	rig->ram_fd = make_file(RAM_BYTES);
	rig->disk_fd = make_file(DISK_BYTES);
	rig->journal_fd = make_file(journal_bytes(JOURNAL_RING));
}

static void run(void)
{
	const struct guard_settings settings = { .link = &rig->link, .clock = &clock_host };
	struct guard_settings own = settings;
	struct error err = { 0 };
	struct move_job job;
	enum move_end end;

	move_job_init(&job, MOVE_BACKUP);
	memset(job.token, TOKEN, sizeof(job.token));
	strcpy(job.name, "guest");
	strcpy(job.peer, "owner");
	job.n_streams = job.n_disks = 1;
	job.streams[0] = dup(rig->disk_fd); /* any: it is closed */
	job.ram_fd = dup(rig->ram_fd);
	job.disks[0].fd = dup(rig->disk_fd);
	job.journal_fd = dup(rig->journal_fd);
	job.journal_bytes = JOURNAL_RING;
	own.job = &job;
	end = protect_backup(&own, &err);
	assert((end == MOVE_END_RAN) == (err.code == 0));
	assert(end != MOVE_END_RAN || rig->applied);
	assert(end == MOVE_END_RAN || err.message[0]);
	move_job_release(&job);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct cursor in = { .data = data, .left = size };

	if (!rig)
		make_rig();
	frame_peer_clear(&rig->peer);
	rig->script = (uint8_t)cursor_take_le(&in, 1);
	rig->number = rig->acked = 0;
	rig->heard = 0;
	rig->prepared = rig->applied = false;
	while (in.left && !in.bad)
		add(&in);
	run();
	return 0;
}
