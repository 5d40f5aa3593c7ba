/* SPDX-License-Identifier: Apache-2.0 */

/* The VM that is protected, and its guest. */
#include "guard_rig_internal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/endian.h"
#include "base/fd.h"

static uint64_t draw(uint64_t *seed)
{
	*seed = *seed * 6364136223846793005ULL + 1442695040888963407ULL;
	return *seed >> 33;
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

static int guest_begin(struct protect_link *link, const struct ownership_id *session,
		       const char *peer, int shared_fd, int ring_fd, uint64_t *ret_cut,
		       uint64_t *ret_generation, struct error *err)
{
	struct guard_guest *guest = guest_of(link);

	if (guest->refuse_begin)
		return error_set(err, guest->refuse_begin, EXIT_STATUS_FAILED, "not this VM");
	assert_string_equal(peer, "backup");
	assert_memory_equal(session->bytes, guest->rig->owner_job.token, sizeof(session->bytes));
	assert_int_equal(protect_shared_take(guard_copy_fd(guest->rig, shared_fd), GUARD_RAM,
					     &guest->shared, err),
			 0);
	assert_int_equal(mirror_ring_take(guard_copy_fd(guest->rig, ring_fd), &guest->ring, err),
			 0);
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

/* A section as state/state.h has it. */
static size_t put_section(uint8_t *at, const char *name, uint8_t byte, size_t len)
{
	const size_t name_len = strlen(name);

	memcpy(at, "USEC", 4);
	at[4] = (uint8_t)name_len;
	memcpy(at + 5, name, name_len);
	le_store(at + 5 + name_len, 2, 1);
	le_store(at + 7 + name_len, 4, len);
	memset(at + 11 + name_len, byte, len);
	return 11 + name_len + len;
}

/* One device that nothing happens to, one that is another each time, one that now and then is. */
size_t guard_state(uint64_t epoch, uint8_t ret_state[256])
{
	const size_t held = epoch % 3 * 8;
	uint8_t *at = ret_state + PROTECT_STATE_HEAD;

	at += put_section(at, "idle", 7, 24);
	at += put_section(at, "busy", (uint8_t)epoch, 40 + epoch % 7);
	at += put_section(at, "slow", (uint8_t)(epoch / 4), 16);
	protect_state_head(ret_state, (uint64_t)(at - ret_state) - PROTECT_STATE_HEAD, held);
	memset(at, (int)epoch + 1, held);
	return (size_t)(at - ret_state) + held;
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
		       uint64_t epoch, uint64_t at_ns, struct error *err)
{
	struct guard_guest *guest = guest_of(link);

	if (__atomic_load_n(&guest->is_off, __ATOMIC_RELAXED))
		return error_set(err, -EREMOTEIO, EXIT_STATUS_FAILED, "no copy is kept any more");

	assert_memory_equal(session->bytes, guest->rig->owner_job.token, sizeof(session->bytes));
	assert_true(clock_now(&clock_host) - at_ns < 10 * NSEC_PER_SEC);
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
	return guard_words_hear(&guest->words, timeout_ms, ret_why);
}

static int guest_fd(struct protect_link *link)
{
	return guest_of(link)->words.bell;
}

static const struct protect_link_ops guest_ops = {
	.facts = guard_facts,
	.begin = guest_begin,
	.collect = guest_collect,
	.gate = guest_gate,
	.cut = guest_cut,
	.acked = guest_acked,
	.end = guest_end,
	.hear = guest_hear,
	.fd = guest_fd,
};

/* ---- life ---- */

void guard_make_guest(struct guard_rig *rig)
{
	struct guard_guest *guest = &rig->guest;

	guest->link.ops = &guest_ops;
	guest->rig = rig;
	guest->seed = 7;
	guest->writes = 12;
	guest->write_max = KIB(32);
	guard_words_init(&guest->words);
	guest->snapshots = calloc(GUARD_SNAPSHOTS, sizeof(*guest->snapshots));
	guest->ram_fd = guard_make_file(GUARD_RAM);
	guest->ram = guard_map(guest->ram_fd, GUARD_RAM);
	for (uint64_t page = 0; page < GUARD_PAGES; page += 3)
		memset(guest->ram + page * MEMORY_PAGE_SIZE, (int)page | 1, MEMORY_PAGE_SIZE);
	for (size_t i = 0; i < GUARD_DISKS; i++) {
		guest->disk_fds[i] = guard_make_file(guard_disk_bytes[i]);
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

void guard_release_guest(struct guard_guest *guest)
{
	for (size_t i = 0; i < GUARD_DISKS; i++) {
		close(guest->disk_fds[i]);
		free(guest->truth[i]);
	}
	mirror_ring_free(guest->ring);
	if (guest->shared.map)
		protect_shared_release(&guest->shared);
	munmap(guest->ram, GUARD_RAM);
	close(guest->ram_fd);
	guard_words_release(&guest->words);
	free(guest->snapshots);
}
