/* SPDX-License-Identifier: Apache-2.0 */

/* The VM that waits to go on. */
#include "guard_rig_internal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/fd.h"

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
	assert_int_equal(
		move_shared_take(guard_copy_fd(copy->rig, shared_fd), GUARD_RAM, &shared, err), 0);
	copy->state_at = shared.state_at;
	copy->shared_fd = guard_copy_fd(copy->rig, shared.fd);
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
	struct iovec vm, held;

	assert_int_equal(protect_state_parts(state, guard_state(epoch, state), &vm, &held), 0);
	assert_int_equal(len, vm.iov_len);
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
	if (++copy->wholes == 10)
		usleep(copy->stall_ms * 1000);
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
		      struct error *err)
{
	struct guard_copy *copy = copy_of(link);
	uint8_t state[256], seen[256];

	assert_true(copy->prepared && !copy->applied);
	if (copy->busy) {
		copy->busy--;
		return error_set(err, -EREMOTEIO, EXIT_STATUS_BUSY, "disk[0]: is another's");
	}
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
	struct guard_copy *copy = copy_of(link);
	enum protect_word word;

	/* It hears from the arbiter, some time after the owner has begun to give the copy up. */
	word = guard_words_hear(&copy->words, copy->deaf ? timeout_ms : MIN(timeout_ms, 20),
				ret_why);
	if (word != PROTECT_WORD_NONE || copy->deaf || !timeout_ms ||
	    !__atomic_load_n(&copy->rig->guest.is_off, __ATOMIC_ACQUIRE))
		return word;
	snprintf(ret_why, 160, "the record says that its owner is alone");
	return PROTECT_WORD_OVER;
}

static const struct protect_link_ops copy_ops = {
	.facts = guard_facts,
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

/* ---- life ---- */

/* Its files hold what was there before. */
void guard_make_copy(struct guard_rig *rig)
{
	struct guard_copy *copy = &rig->copy;
	uint8_t *bytes = malloc(GUARD_DISK_MAX);

	copy->link.ops = &copy_ops;
	copy->rig = rig;
	copy->shared_fd = -1;
	guard_words_init(&copy->words);
	copy->ram_fd = guard_make_file(GUARD_RAM);
	copy->ram = guard_map(copy->ram_fd, GUARD_RAM);
	memset(bytes, 0x77, GUARD_DISK_MAX);
	for (size_t i = 0; i < GUARD_DISKS; i++) {
		copy->disk_fds[i] = guard_make_file(guard_disk_bytes[i]);
		assert_int_equal(fd_write_at(copy->disk_fds[i], bytes, guard_disk_bytes[i], 0), 0);
	}
	copy->journal_fd = guard_make_file(journal_bytes(GUARD_JOURNAL_RING));
	free(bytes);
}

void guard_release_copy(struct guard_copy *copy)
{
	for (size_t i = 0; i < GUARD_DISKS; i++)
		close(copy->disk_fds[i]);
	munmap(copy->ram, GUARD_RAM);
	close(copy->ram_fd);
	close(copy->journal_fd);
	fd_close(copy->shared_fd);
	guard_words_release(&copy->words);
}
