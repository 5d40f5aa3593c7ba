/* SPDX-License-Identifier: Apache-2.0 */
#include "guard_rig_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/fd.h"

const uint64_t guard_disk_bytes[GUARD_DISKS] = { GUARD_DISK_MAX, MIB(1) + 512 };
const uint32_t guard_disk_index[GUARD_DISKS] = { 0, 2 };

/* A process in its sandbox has no dup. */
int guard_copy_fd(struct guard_rig *rig, int fd)
{
	char byte = 0;
	size_t len, n;
	int copy;

	assert_int_equal(fd_send(rig->hands[0], &byte, 1, &fd, 1), 0);
	assert_int_equal(fd_receive(rig->hands[1], &byte, 1, &len, &copy, 1, &n), 0);
	assert_int_equal(n, 1);
	return copy;
}

/* ---- words ---- */

void guard_words_init(struct guard_words *words)
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

enum protect_word guard_words_hear(struct guard_words *words, int timeout_ms, char ret_why[160])
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

/* One way of it. What ends either ends both: who waits on the other wakes. */
static void pass(struct guard_wire *wire, int from, int to, bool count)
{
	bool alive = !count || wire->cut_at > 0;

	while (alive && !__atomic_load_n(&wire->stop, __ATOMIC_RELAXED)) {
		struct pollfd ready = { .fd = from, .events = POLLIN };

		if (__atomic_load_n(&wire->frozen, __ATOMIC_RELAXED))
			poll(NULL, 0, 5);
		else if (poll(&ready, 1, 20) == 1)
			alive = forward(wire, from, to, count);
	}
	shutdown(from, SHUT_RDWR);
	shutdown(to, SHUT_RDWR);
}

static void *there_main(void *arg)
{
	struct guard_wire *wire = arg;

	pass(wire, wire->ends[0], wire->ends[1], true);
	return NULL;
}

static void *back_main(void *arg)
{
	struct guard_wire *wire = arg;

	pass(wire, wire->ends[1], wire->ends[0], false);
	return NULL;
}

/* ---- life ---- */

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

int guard_facts(struct protect_link *link _unused_, struct move_facts *ret_facts,
		struct error *err _unused_)
{
	fill_facts(ret_facts);
	return 0;
}

int guard_make_file(uint64_t bytes)
{
	int fd = memfd_create("guard", MFD_CLOEXEC);

	assert_true(fd >= 0);
	assert_int_equal(ftruncate(fd, (off_t)bytes), 0);
	return fd;
}

uint8_t *guard_map(int fd, uint64_t bytes)
{
	void *at = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);

	assert_true(at != MAP_FAILED);
	return at;
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

	guard_make_guest(rig);
	guard_make_copy(rig);
	assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, rig->hands), 0);
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, owner), 0);
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, backup), 0);
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, people), 0);
	rig->wire = (struct guard_wire){ .ends = { owner[1], backup[1] }, .cut_at = UINT64_MAX };
	make_job(&rig->owner_job, MOVE_OWNER, owner[0], rig->guest.ram_fd, rig->guest.disk_fds);
	make_job(&rig->backup_job, MOVE_BACKUP, backup[0], rig->copy.ram_fd, rig->copy.disk_fds);
	rig->backup_job.journal_fd = dup(rig->copy.journal_fd);
	rig->backup_job.journal_bytes = GUARD_JOURNAL_RING;
	rig->owner_job.progress_fd = people[0];
	rig->people = people[1];
	return rig;
}

static void *owner_main(void *arg)
{
	struct guard_rig *rig = arg;
	const struct guard_settings settings = { &rig->owner_job, &rig->guest.link, &clock_host,
						 NULL };

	if (rig->enter)
		rig->enter(MOVE_OWNER);
	rig->owner_end = protect_owner(&settings, &rig->owner_error);
	return NULL;
}

static void *backup_main(void *arg)
{
	struct guard_rig *rig = arg;
	const struct guard_settings settings = { &rig->backup_job, &rig->copy.link, &clock_host,
						 NULL };

	if (rig->enter)
		rig->enter(MOVE_BACKUP);
	rig->backup_end = protect_backup(&settings, &rig->backup_error);
	return NULL;
}

void guard_rig_start(struct guard_rig *rig)
{
	assert_int_equal(pthread_create(&rig->wire.there, NULL, there_main, &rig->wire), 0);
	assert_int_equal(pthread_create(&rig->wire.back, NULL, back_main, &rig->wire), 0);
	assert_int_equal(pthread_create(&rig->owner, NULL, owner_main, rig), 0);
	assert_int_equal(pthread_create(&rig->backup, NULL, backup_main, rig), 0);
}

void guard_rig_join(struct guard_rig *rig)
{
	pthread_join(rig->owner, NULL);
	pthread_join(rig->backup, NULL);
	__atomic_store_n(&rig->wire.stop, true, __ATOMIC_RELAXED);
	pthread_join(rig->wire.there, NULL);
	pthread_join(rig->wire.back, NULL);
	close(rig->wire.ends[0]);
	close(rig->wire.ends[1]);
}

void guard_rig_run(struct guard_rig *rig)
{
	guard_rig_start(rig);
	guard_rig_join(rig);
}

void guard_words_release(struct guard_words *words)
{
	close(words->bell);
	pthread_mutex_destroy(&words->lock);
}

void guard_rig_free(struct guard_rig *rig)
{
	guard_release_guest(&rig->guest);
	guard_release_copy(&rig->copy);
	fd_close(rig->people);
	close(rig->hands[0]);
	close(rig->hands[1]);
	move_job_release(&rig->owner_job);
	move_job_release(&rig->backup_job);
	free(rig);
}
