/* SPDX-License-Identifier: Apache-2.0 */
#include "guard_rig.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/fd.h"

#define JOURNAL_RING MIB(96)

const uint64_t guard_disk_bytes[GUARD_DISKS] = { GUARD_DISK_MAX, MIB(1) + 512 };
const uint32_t guard_disk_index[GUARD_DISKS] = { 0, 2 };

static uint64_t draw(uint64_t *seed)
{
	*seed = *seed * 6364136223846793005ULL + 1442695040888963407ULL;
	return *seed >> 33;
}

/* ---- words ---- */

static void words_init(struct guard_words *words)
{
	pthread_mutex_init(&words->lock, NULL);
	words->bell = fd_new_event();
	assert_true(words->bell >= 0);
}

void guard_say_word(struct guard_words *words, enum protect_word word, const char *why)
{
	pthread_mutex_lock(&words->lock);
	assert_true(words->n < ARRAY_SIZE(words->words));
	words->words[words->n] = word;
	snprintf(words->why[words->n++], sizeof(words->why[0]), "%s", why);
	fd_signal_event(words->bell);
	pthread_mutex_unlock(&words->lock);
}

static enum protect_word words_hear(struct guard_words *words, int timeout_ms, char ret_why[160])
{
	struct pollfd ready = { .fd = words->bell, .events = POLLIN };
	enum protect_word word = PROTECT_WORD_NONE;

	poll(&ready, 1, timeout_ms);
	ret_why[0] = '\0';
	pthread_mutex_lock(&words->lock);
	if (words->n) {
		word = words->words[0];
		memcpy(ret_why, words->why[0], 160);
		words->n--;
		memmove(words->words, words->words + 1, words->n * sizeof(words->words[0]));
		memmove(words->why, words->why + 1, words->n * sizeof(words->why[0]));
	}
	if (!words->n)
		fd_clear_event(words->bell);
	pthread_mutex_unlock(&words->lock);
	return word;
}

/* ---- the guest's life ---- */

static struct guard_guest *guest_of(struct protect_link *link)
{
	return container_of(link, struct guard_guest, link);
}

static void write_page(struct guard_guest *guest)
{
	const uint64_t page = draw(&guest->seed) % (draw(&guest->seed) % 2 ? GUARD_PAGES : 30);
	uint8_t *at = guest->ram + page * MEMORY_PAGE_SIZE;

	switch (draw(&guest->seed) % 4) {
	case 0:
		memset(at, 0, MEMORY_PAGE_SIZE);
		break;
	case 1:
		for (size_t i = 0; i < MEMORY_PAGE_SIZE; i++)
			at[i] = (uint8_t)draw(&guest->seed);
		break;
	default:
		at[draw(&guest->seed) % MEMORY_PAGE_SIZE]++;
	}
	guest->dirty[page / 64] |= 1ULL << page % 64;
}

/* The oldest write reaches the disk. */
static void end_write(struct guard_guest *guest)
{
	struct guard_write write = guest->pending[0];

	assert_int_equal(pwrite(guest->disk_fds[write.disk], write.data, write.len,
				(off_t)write.offset),
			 write.len);
	mirror_ring_done(guest->ring, write.entry);
	guest->n_pending--;
	memmove(guest->pending, guest->pending + 1, guest->n_pending * sizeof(write));
}

static void end_writes(struct guard_guest *guest)
{
	while (guest->n_pending)
		end_write(guest);
}

static void zero_disk(struct guard_guest *guest, uint32_t disk, uint64_t offset, uint64_t len)
{
	const struct mirror_entry entry = {
		.kind = MIRROR_ZEROES,
		.disk = guard_disk_index[disk],
		.offset = offset,
		.len = len,
		.unmap = (uint32_t)draw(&guest->seed) % 2,
	};
	struct mirror_entry *put;
	void *data;

	end_writes(guest);
	if (mirror_ring_put(guest->ring, &entry, NULL, 0, &put, &data) < 0)
		return;
	memset(guest->truth[disk] + offset, 0, len);
	assert_int_equal(pwrite(guest->disk_fds[disk], guest->truth[disk] + offset, len,
				(off_t)offset),
			 len);
	mirror_ring_done(guest->ring, put);
}

static void write_disk(struct guard_guest *guest)
{
	const uint32_t disk = (uint32_t)draw(&guest->seed) % GUARD_DISKS;
	const uint64_t len = (1 + draw(&guest->seed) % (guest->write_max / 512)) * 512;
	const uint64_t offset = draw(&guest->seed) % ((guard_disk_bytes[disk] - len) / 512) * 512;
	struct mirror_entry entry = {
		.kind = MIRROR_WRITE, .disk = guard_disk_index[disk], .offset = offset, .len = len
	};
	struct guard_write *write;
	struct iovec iov = { guest->truth[disk] + offset, len };

	if (!guest->ring)
		return;
	if (draw(&guest->seed) % 8 == 0) {
		zero_disk(guest, disk, offset, len);
		return;
	}
	if (guest->n_pending == GUARD_PENDING)
		end_write(guest);
	for (uint64_t i = 0; i < len; i += 8)
		memcpy(guest->truth[disk] + offset + i, &(uint64_t){ draw(&guest->seed) }, 8);
	write = &guest->pending[guest->n_pending];
	*write = (struct guard_write){ .disk = disk, .offset = offset, .len = len };
	if (mirror_ring_put(guest->ring, &entry, &iov, 1, &write->entry, (void **)&write->data) ==
	    0)
		guest->n_pending++;
	else
		assert_int_equal(pread(guest->disk_fds[disk], guest->truth[disk] + offset, len,
				       (off_t)offset),
				 len);
}

static void live(struct guard_guest *guest)
{
	for (unsigned int i = 0; i < guest->writes; i++) {
		write_page(guest);
		if (i % 4 == 0)
			write_disk(guest);
	}
	if (draw(&guest->seed) % 3 == 0 && guest->n_pending)
		end_write(guest);
}

/* ---- the guest's VM ---- */

static void fill_facts(struct move_facts *facts)
{
	*facts = (struct move_facts){
		.name = "guest",
		.uuid = "6a0f1d3e-9f1b-4a53-8d3b-5f0c8f5f2b11",
		.ram_fd = -1,
		.ram_bytes = GUARD_RAM,
		.n_banks = 2,
		.banks = { { .len = MIB(2) },
			   { .start = { GIB(4) }, .len = MIB(2), .offset = MIB(2) } },
		.state_min = 1,
		.state_max = 1,
	};
}

static int link_facts(struct protect_link *link _unused_, struct move_facts *ret_facts,
		      struct error *err _unused_)
{
	fill_facts(ret_facts);
	return 0;
}

static int guest_begin(struct protect_link *link, const struct ownership_id *session,
		       const char *peer, int shared_fd, int ring_fd, uint64_t *ret_cut,
		       uint64_t *ret_generation, struct error *err)
{
	struct guard_guest *guest = guest_of(link);

	if (guest->refuse_begin)
		return error_set(err, guest->refuse_begin, EXIT_STATUS_FAILED, "not this VM");
	assert_string_equal(peer, "backup");
	assert_memory_equal(session->bytes, guest->rig->owner_job.token, sizeof(session->bytes));
	assert_int_equal(protect_shared_take(dup(shared_fd), GUARD_RAM, &guest->shared, err), 0);
	assert_int_equal(mirror_ring_take(dup(ring_fd), &guest->ring, err), 0);
	*ret_cut = guest->cut = GUARD_FIRST_CUT;
	*ret_generation = 1;
	live(guest);
	return 0;
}

static uint64_t collect(struct guard_guest *guest)
{
	uint64_t pages = 0;

	for (size_t i = 0; i < ARRAY_SIZE(guest->dirty); i++) {
		__atomic_fetch_or(&guest->shared.bitmap[i], guest->dirty[i], __ATOMIC_RELAXED);
		pages += (uint64_t)__builtin_popcountll(guest->dirty[i]);
		guest->dirty[i] = 0;
	}
	return pages;
}

static int guest_collect(struct protect_link *link, uint64_t *ret_pages, struct error *err _unused_)
{
	live(guest_of(link));
	*ret_pages = collect(guest_of(link));
	return 0;
}

static int guest_gate(struct protect_link *link, struct error *err _unused_)
{
	assert_false(guest_of(link)->gated);
	guest_of(link)->gated = true;
	return 0;
}

size_t guard_state(uint64_t epoch, uint8_t ret_state[256])
{
	const size_t vm = 40 + epoch % 7, held = epoch % 3 * 8;

	protect_state_head(ret_state, vm, held);
	memset(ret_state + PROTECT_STATE_HEAD, (int)epoch, vm);
	memset(ret_state + PROTECT_STATE_HEAD + vm, (int)epoch + 1, held);
	return PROTECT_STATE_HEAD + vm + held;
}

static void take_snapshot(struct guard_guest *guest, uint64_t epoch)
{
	struct guard_snapshot *snapshot = &guest->snapshots[epoch % GUARD_SNAPSHOTS];

	snapshot->epoch = epoch;
	memcpy(snapshot->ram, guest->ram, GUARD_RAM);
	for (size_t i = 0; i < GUARD_DISKS; i++)
		memcpy(snapshot->disks[i], guest->truth[i], guard_disk_bytes[i]);
}

const struct guard_snapshot *guard_snapshot(const struct guard_guest *guest, uint64_t epoch)
{
	const struct guard_snapshot *snapshot = &guest->snapshots[epoch % GUARD_SNAPSHOTS];

	assert_int_equal(snapshot->epoch, epoch);
	return snapshot;
}

static uint64_t capture(struct guard_guest *guest)
{
	struct protect_shared *shared = &guest->shared;
	uint64_t n = 0;

	collect(guest);
	for (uint64_t page = 0; page < GUARD_PAGES; page++) {
		if (!(shared->bitmap[page / 64] & 1ULL << page % 64))
			continue;
		shared->pages[n] = page;
		memcpy(shared->content + n++ * MEMORY_PAGE_SIZE,
		       guest->ram + page * MEMORY_PAGE_SIZE, MEMORY_PAGE_SIZE);
	}
	memset(shared->bitmap, 0, GUARD_PAGES / 8);
	return n;
}

static void follow_script(struct guard_guest *guest)
{
	if (guest->cuts == guest->failover_at)
		guard_say_word(&guest->words, PROTECT_WORD_FAILOVER, "");
	if (guest->cuts == guest->off_at) {
		guard_say_word(&guest->words, PROTECT_WORD_OFF, "");
		__atomic_store_n(&guest->is_off, true, __ATOMIC_RELAXED);
	}
	if (guest->cuts == guest->freeze_at)
		__atomic_store_n(&guest->rig->wire.frozen, true, __ATOMIC_RELAXED);
}

static int guest_cut(struct protect_link *link, uint64_t epoch, struct protect_cut *ret_cut,
		     struct error *err _unused_)
{
	struct guard_guest *guest = guest_of(link);
	uint8_t state[256];

	assert_true(guest->gated);
	assert_true(epoch > guest->cut);
	live(guest);
	if (guest->not_now) {
		guest->not_now--;
		return -EAGAIN;
	}
	if (!guest->cuts++)
		guest->first_whole = epoch;
	guest->cut = epoch;
	*ret_cut = (struct protect_cut){
		.epoch = epoch,
		.generation = 1,
		.pages = capture(guest),
		.state_len = guard_state(epoch, state),
		.released = epoch - 1,
		.ring_end = mirror_ring_end(guest->ring),
		.pause_ns = 1,
	};
	memcpy(guest->shared.state, state, ret_cut->state_len);
	take_snapshot(guest, epoch);
	follow_script(guest);
	return 0;
}

/* On the thread that listens to the backup. */
static int guest_acked(struct protect_link *link, const struct ownership_id *session,
		       uint64_t epoch, uint64_t age_ns, struct error *err)
{
	struct guard_guest *guest = guest_of(link);

	if (__atomic_load_n(&guest->is_off, __ATOMIC_RELAXED))
		return error_set(err, -EREMOTEIO, EXIT_STATUS_FAILED, "no copy is kept any more");

	assert_memory_equal(session->bytes, guest->rig->owner_job.token, sizeof(session->bytes));
	assert_true(age_ns < 10 * NSEC_PER_SEC);
	assert_true(epoch > guest->acked);
	/* Rule: nothing is acknowledged that the copy did not say it has. */
	assert_true(epoch <= __atomic_load_n(&guest->rig->copy.whole, __ATOMIC_ACQUIRE));
	__atomic_store_n(&guest->acked, epoch, __ATOMIC_RELEASE);
	return 0;
}

static int guest_end(struct protect_link *link, const char *why, struct error *err)
{
	if (guest_of(link)->is_off)
		return error_set(err, -EREMOTEIO, EXIT_STATUS_FAILED, "is nobody's guard");
	snprintf(guest_of(link)->ended, sizeof(guest_of(link)->ended), "%s", why);
	return 0;
}

static enum protect_word guest_hear(struct protect_link *link, int timeout_ms, char ret_why[160])
{
	struct guard_guest *guest = guest_of(link);

	if (guest->shared.map)
		live(guest);
	return words_hear(&guest->words, timeout_ms, ret_why);
}

static int guest_fd(struct protect_link *link)
{
	return guest_of(link)->words.bell;
}

static const struct protect_link_ops guest_ops = {
	.facts = link_facts,
	.begin = guest_begin,
	.collect = guest_collect,
	.gate = guest_gate,
	.cut = guest_cut,
	.acked = guest_acked,
	.end = guest_end,
	.hear = guest_hear,
	.fd = guest_fd,
};

/* ---- the copy's VM ---- */

static struct guard_copy *copy_of(struct protect_link *link)
{
	return container_of(link, struct guard_copy, link);
}

static int copy_arrive(struct protect_link *link, const uint8_t token[MOVE_TOKEN_BYTES],
		       int shared_fd, struct error *err)
{
	struct guard_copy *copy = copy_of(link);
	struct move_shared shared;

	assert_memory_equal(token, copy->rig->backup_job.token, MOVE_TOKEN_BYTES);
	assert_int_equal(move_shared_take(dup(shared_fd), GUARD_RAM, &shared, err), 0);
	copy->state_at = shared.state_at;
	copy->shared_fd = dup(shared.fd);
	move_shared_release(&shared);
	return 0;
}

static int copy_back_up(struct protect_link *link, const struct ownership_id *session,
			const char *peer, struct error *err _unused_)
{
	assert_memory_equal(session->bytes, copy_of(link)->rig->owner_job.token,
			    sizeof(session->bytes));
	assert_string_equal(peer, "owner");
	return 0;
}

/* Of the first whole epoch: its memory is there already. */
static int copy_rehearse(struct protect_link *link, uint64_t len, struct error *err)
{
	struct guard_copy *copy = copy_of(link);
	const struct guard_guest *guest = &copy->rig->guest;
	const uint64_t epoch = guest->first_whole;
	uint8_t state[256], seen[256];

	guard_state(epoch, state);
	assert_int_equal(len, 40 + epoch % 7);
	assert_int_equal(fd_read_at(copy->shared_fd, seen, len, copy->state_at), 0);
	assert_memory_equal(seen, state + PROTECT_STATE_HEAD, len);
	assert_memory_equal(copy->ram, guard_snapshot(guest, epoch)->ram, GUARD_RAM);
	copy->rehearsals++;
	return copy->refuse_rehearsal ? error_set(err, -EREMOTEIO, EXIT_STATUS_FAILED,
						  "this program knows no such device")
				      : 0;
}

static int copy_whole(struct protect_link *link, uint64_t epoch, bool *ret_ack,
		      struct error *err _unused_)
{
	struct guard_copy *copy = copy_of(link);

	assert_true(epoch > copy->whole);
	/* Memory is that of the epoch before, of which all was applied. */
	if (copy->whole)
		assert_memory_equal(copy->ram, guard_snapshot(&copy->rig->guest, copy->whole)->ram,
				    GUARD_RAM);
	copy->wholes++;
	*ret_ack = copy->wholes != copy->no_ack_at;
	if (*ret_ack)
		__atomic_store_n(&copy->whole, epoch, __ATOMIC_RELEASE);
	if (copy->wholes == copy->prepare_at || copy->wholes == copy->no_ack_at)
		guard_say_word(&copy->words, PROTECT_WORD_PREPARE, "");
	return 0;
}

static int copy_suspect(struct protect_link *link, const char *why, bool *ret_prepare,
			struct error *err _unused_)
{
	struct guard_copy *copy = copy_of(link);

	assert_true(why[0]);
	snprintf(copy->suspicion, sizeof(copy->suspicion), "%s", why);
	copy->suspected = true;
	*ret_prepare = !copy->unnamed;
	if (copy->unnamed)
		guard_say_word(&copy->words, PROTECT_WORD_OVER, "the record names another");
	else
		guard_say_word(&copy->words, PROTECT_WORD_PREPARE, "");
	return 0;
}

static int copy_prepared(struct protect_link *link, struct error *err _unused_)
{
	struct guard_copy *copy = copy_of(link);

	assert_false(copy->prepared);
	copy->prepared = true;
	assert_copy_is(copy->rig, copy->whole, true);
	if (copy->loses)
		guard_say_word(&copy->words, PROTECT_WORD_OVER, "its owner lives");
	else
		guard_say_word(&copy->words, PROTECT_WORD_APPLY, "");
	return 0;
}

static int copy_apply(struct protect_link *link, uint64_t state_len, uint64_t stopped_ns,
		      struct error *err _unused_)
{
	struct guard_copy *copy = copy_of(link);
	uint8_t state[256], seen[256];

	assert_true(copy->prepared && !copy->applied);
	copy->applied = true;
	assert_int_equal(guard_state(copy->whole, state), state_len);
	assert_int_equal(fd_read_at(copy->shared_fd, seen, state_len, copy->state_at), 0);
	assert_memory_equal(seen, state, state_len);
	assert_true(stopped_ns > 0 && stopped_ns < 60 * NSEC_PER_SEC);
	guard_say_word(&copy->words, PROTECT_WORD_OVER, "");
	guard_say_word(&copy->rig->guest.words, PROTECT_WORD_GONE, "");
	return 0;
}

static int copy_failed(struct protect_link *link, const char *why, struct error *err _unused_)
{
	assert_true(why[0]);
	copy_of(link)->failed = true;
	return 0;
}

static enum protect_word copy_hear(struct protect_link *link, int timeout_ms, char ret_why[160])
{
	return words_hear(&copy_of(link)->words, timeout_ms, ret_why);
}

static const struct protect_link_ops copy_ops = {
	.facts = link_facts,
	.arrive = copy_arrive,
	.rehearse = copy_rehearse,
	.back_up = copy_back_up,
	.whole = copy_whole,
	.suspect = copy_suspect,
	.prepared = copy_prepared,
	.apply = copy_apply,
	.failed = copy_failed,
	.hear = copy_hear,
};

void assert_copy_is(const struct guard_rig *rig, uint64_t epoch, bool disks)
{
	const struct guard_snapshot *snapshot = guard_snapshot(&rig->guest, epoch);
	uint8_t *bytes = malloc(GUARD_DISK_MAX);

	assert_memory_equal(rig->copy.ram, snapshot->ram, GUARD_RAM);
	for (size_t i = 0; disks && i < GUARD_DISKS; i++) {
		assert_int_equal(fd_read_at(rig->copy.disk_fds[i], bytes, guard_disk_bytes[i], 0),
				 0);
		assert_memory_equal(bytes, snapshot->disks[i], guard_disk_bytes[i]);
	}
	free(bytes);
}

/* ---- the wire ---- */

/* One read and all of it written: false when a side has gone. */
static bool forward(struct guard_wire *wire, int from, int to, bool count)
{
	static const int flags = MSG_NOSIGNAL;
	uint8_t bytes[16384];
	uint64_t room = count ? wire->cut_at - wire->passed : sizeof(bytes);
	ssize_t n = recv(from, bytes, MIN(room, sizeof(bytes)), MSG_DONTWAIT);

	if (n <= 0)
		return n < 0 && errno == EAGAIN;
	for (ssize_t at = 0, sent; at < n; at += sent) {
		struct pollfd ready = { .fd = to, .events = POLLOUT };

		sent = send(to, bytes + at, (size_t)(n - at), flags | MSG_DONTWAIT);
		if (sent < 0 && errno != EAGAIN)
			return false;
		if (sent < 0) {
			poll(&ready, 1, 20);
			sent = 0;
			if (__atomic_load_n(&wire->stop, __ATOMIC_RELAXED))
				return false;
		}
	}
	if (count)
		__atomic_fetch_add(&wire->passed, (uint64_t)n, __ATOMIC_RELAXED);
	return !count || wire->passed < wire->cut_at;
}

static void *wire_main(void *arg)
{
	struct guard_wire *wire = arg;
	bool alive = wire->cut_at > 0;

	while (alive && !__atomic_load_n(&wire->stop, __ATOMIC_RELAXED)) {
		struct pollfd ready[] = { { .fd = wire->ends[0], .events = POLLIN },
					  { .fd = wire->ends[1], .events = POLLIN } };

		if (__atomic_load_n(&wire->frozen, __ATOMIC_RELAXED)) {
			poll(NULL, 0, 5);
			continue;
		}
		poll(ready, 2, 20);
		if (ready[0].revents)
			alive = forward(wire, wire->ends[0], wire->ends[1], true);
		if (alive && ready[1].revents)
			alive = forward(wire, wire->ends[1], wire->ends[0], false);
	}
	close(wire->ends[0]);
	close(wire->ends[1]);
	return NULL;
}

/* ---- life ---- */

static int make_file(uint64_t bytes)
{
	int fd = memfd_create("guard", MFD_CLOEXEC);

	assert_true(fd >= 0);
	assert_int_equal(ftruncate(fd, (off_t)bytes), 0);
	return fd;
}

static uint8_t *map(int fd, uint64_t bytes)
{
	void *at = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);

	assert_true(at != MAP_FAILED);
	return at;
}

static void make_guest(struct guard_rig *rig)
{
	struct guard_guest *guest = &rig->guest;

	guest->link.ops = &guest_ops;
	guest->rig = rig;
	guest->seed = 7;
	guest->writes = 12;
	guest->write_max = KIB(32);
	words_init(&guest->words);
	guest->snapshots = calloc(GUARD_SNAPSHOTS, sizeof(*guest->snapshots));
	guest->ram_fd = make_file(GUARD_RAM);
	guest->ram = map(guest->ram_fd, GUARD_RAM);
	for (uint64_t page = 0; page < GUARD_PAGES; page += 3)
		memset(guest->ram + page * MEMORY_PAGE_SIZE, (int)page | 1, MEMORY_PAGE_SIZE);
	for (size_t i = 0; i < GUARD_DISKS; i++) {
		guest->disk_fds[i] = make_file(guard_disk_bytes[i]);
		guest->truth[i] = calloc(1, guard_disk_bytes[i]);
		/* data, a hole, data */
		memset(guest->truth[i] + KIB(64), 5, KIB(200));
		memset(guest->truth[i] + guard_disk_bytes[i] - 1024, 6, 1024);
		assert_int_equal(pwrite(guest->disk_fds[i], guest->truth[i] + KIB(64), KIB(200),
					KIB(64)),
				 KIB(200));
		assert_int_equal(pwrite(guest->disk_fds[i],
					guest->truth[i] + guard_disk_bytes[i] - 1024, 1024,
					(off_t)guard_disk_bytes[i] - 1024),
				 1024);
	}
}

/* Its files hold what was there before. */
static void make_copy(struct guard_rig *rig)
{
	struct guard_copy *copy = &rig->copy;
	uint8_t *bytes = malloc(GUARD_DISK_MAX);

	copy->link.ops = &copy_ops;
	copy->rig = rig;
	copy->shared_fd = -1;
	words_init(&copy->words);
	copy->ram_fd = make_file(GUARD_RAM);
	copy->ram = map(copy->ram_fd, GUARD_RAM);
	memset(bytes, 0x77, GUARD_DISK_MAX);
	for (size_t i = 0; i < GUARD_DISKS; i++) {
		copy->disk_fds[i] = make_file(guard_disk_bytes[i]);
		assert_int_equal(fd_write_at(copy->disk_fds[i], bytes, guard_disk_bytes[i], 0), 0);
	}
	copy->journal_fd = make_file(journal_bytes(JOURNAL_RING));
	free(bytes);
}

static void make_job(struct move_job *job, enum move_role role, int stream, int ram_fd,
		     const int *disks)
{
	move_job_init(job, role);
	snprintf(job->name, sizeof(job->name), "guest");
	snprintf(job->peer, sizeof(job->peer), role == MOVE_OWNER ? "backup" : "owner");
	memset(job->token, 0x5a, sizeof(job->token));
	job->generation = 1;
	job->n_streams = 1;
	job->streams[0] = stream;
	job->ram_fd = dup(ram_fd);
	job->n_disks = GUARD_DISKS;
	/* In another order than that of their numbers. */
	for (uint32_t i = 0; i < GUARD_DISKS; i++)
		job->disks[GUARD_DISKS - 1 - i] = (struct move_disk){ guard_disk_index[i],
								      dup(disks[i]) };
	job->latency_ms = 4;
	job->detect_ms = 5000; /* a sanitizer's host is slow */
	job->patience_ms = 20000;
}

struct guard_rig *guard_rig_new(void)
{
	struct guard_rig *rig = calloc(1, sizeof(*rig));
	int owner[2], backup[2], people[2];

	make_guest(rig);
	make_copy(rig);
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, owner), 0);
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, backup), 0);
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, people), 0);
	rig->wire = (struct guard_wire){ .ends = { owner[1], backup[1] }, .cut_at = UINT64_MAX };
	make_job(&rig->owner_job, MOVE_OWNER, owner[0], rig->guest.ram_fd, rig->guest.disk_fds);
	make_job(&rig->backup_job, MOVE_BACKUP, backup[0], rig->copy.ram_fd, rig->copy.disk_fds);
	rig->backup_job.journal_fd = dup(rig->copy.journal_fd);
	rig->backup_job.journal_bytes = JOURNAL_RING;
	rig->owner_job.progress_fd = people[0];
	rig->people = people[1];
	return rig;
}

static void *owner_main(void *arg)
{
	struct guard_rig *rig = arg;
	const struct guard_settings settings = { &rig->owner_job, &rig->guest.link, &clock_host,
						 NULL };

	rig->owner_end = protect_owner(&settings, &rig->owner_error);
	return NULL;
}

static void *backup_main(void *arg)
{
	struct guard_rig *rig = arg;
	const struct guard_settings settings = { &rig->backup_job, &rig->copy.link, &clock_host,
						 NULL };

	rig->backup_end = protect_backup(&settings, &rig->backup_error);
	return NULL;
}

void guard_rig_start(struct guard_rig *rig)
{
	assert_int_equal(pthread_create(&rig->wire.thread, NULL, wire_main, &rig->wire), 0);
	assert_int_equal(pthread_create(&rig->owner, NULL, owner_main, rig), 0);
	assert_int_equal(pthread_create(&rig->backup, NULL, backup_main, rig), 0);
}

void guard_rig_join(struct guard_rig *rig)
{
	pthread_join(rig->owner, NULL);
	pthread_join(rig->backup, NULL);
	__atomic_store_n(&rig->wire.stop, true, __ATOMIC_RELAXED);
	pthread_join(rig->wire.thread, NULL);
}

void guard_rig_run(struct guard_rig *rig)
{
	guard_rig_start(rig);
	guard_rig_join(rig);
}

static void words_release(struct guard_words *words)
{
	close(words->bell);
	pthread_mutex_destroy(&words->lock);
}

void guard_rig_free(struct guard_rig *rig)
{
	struct guard_guest *guest = &rig->guest;
	struct guard_copy *copy = &rig->copy;

	for (size_t i = 0; i < GUARD_DISKS; i++) {
		close(guest->disk_fds[i]);
		close(copy->disk_fds[i]);
		free(guest->truth[i]);
	}
	mirror_ring_free(guest->ring);
	if (guest->shared.map)
		protect_shared_release(&guest->shared);
	munmap(guest->ram, GUARD_RAM);
	munmap(copy->ram, GUARD_RAM);
	close(guest->ram_fd);
	close(copy->ram_fd);
	close(copy->journal_fd);
	fd_close(copy->shared_fd);
	fd_close(rig->people);
	words_release(&guest->words);
	words_release(&copy->words);
	free(guest->snapshots);
	move_job_release(&rig->owner_job);
	move_job_release(&rig->backup_job);
	free(rig);
}
