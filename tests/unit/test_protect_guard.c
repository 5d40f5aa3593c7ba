/* SPDX-License-Identifier: Apache-2.0 */
/* Both guards of a protected VM: what the copy is at each epoch, how it is taken over, and how either side gives up. */
#include "guard_rig.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "protect/guard/pace.h"

static void assert_mentions(const char *text, const char *what)
{
	if (!strstr(text, what))
		fail_msg("'%s' does not mention '%s'", text, what);
}

static struct guard_rig *wary_rig(void)
{
	struct guard_rig *rig = guard_rig_new();

	rig->owner_job.detect_ms = rig->backup_job.detect_ms = 300;
	return rig;
}

/* Who looks on reads all of it. */
static void assert_told(const struct guard_rig *rig, const char *what)
{
	char text[65536];
	ssize_t n = recv(rig->people, text, sizeof(text) - 1, MSG_DONTWAIT | MSG_PEEK);

	assert_true(n > 0);
	text[n] = '\0';
	assert_mentions(text, what);
}

static void a_failover_that_is_wished(void **state _unused_)
{
	struct guard_rig *rig = guard_rig_new();

	rig->guest.failover_at = 30;
	rig->guest.not_now = 3;
	guard_rig_run(rig);
	if (rig->backup_end != MOVE_END_RAN || rig->owner_end != MOVE_END_RAN)
		fail_msg("owner: %s; backup: %s", rig->owner_error.message,
			 rig->backup_error.message);
	assert_int_equal(rig->copy.rehearsals, 1);
	assert_true(rig->copy.applied);
	assert_mentions(rig->copy.suspicion, "failover");
	/* One more epoch, acknowledged, and none behind it. */
	assert_true(rig->guest.cuts > 30);
	assert_int_equal(rig->copy.whole, rig->guest.cut);
	assert_int_equal(rig->guest.acked, rig->guest.cut);
	assert_copy_is(rig, rig->guest.cut, true);
	assert_told(rig, "\"phase\":\"fill-disks\"");
	assert_told(rig, "\"phase\":\"fill-memory\"");
	assert_told(rig, "\"phase\":\"gate\"");
	assert_told(rig, "\"phase\":\"protected\"");
	assert_told(rig, "\"end\":\"ran\"");
	guard_rig_free(rig);
}

static void over_tls_it_is_the_same(void **state _unused_)
{
	struct guard_rig *rig = guard_rig_new();

	rig->owner_job.tls = rig->backup_job.tls = true;
	memset(rig->owner_job.key, 0x42, STREAM_KEY_BYTES);
	memset(rig->backup_job.key, 0x42, STREAM_KEY_BYTES);
	rig->owner_job.compress = MOVE_COMPRESS_ON;
	rig->guest.failover_at = 10;
	guard_rig_run(rig);
	assert_int_equal(rig->owner_end, MOVE_END_RAN);
	assert_int_equal(rig->backup_end, MOVE_END_RAN);
	assert_copy_is(rig, rig->guest.cut, true);
	assert_int_equal(rig->owner_job.key[0], 0);
	guard_rig_free(rig);
	rig = guard_rig_new();
	rig->owner_job.tls = rig->backup_job.tls = true;
	rig->owner_job.key[0] = 1;
	guard_rig_run(rig);
	assert_int_equal(rig->owner_end, MOVE_END_FAILED);
	assert_int_equal(rig->backup_end, MOVE_END_FAILED);
	guard_rig_free(rig);
}

static void an_owner_that_falls_silent(void **state _unused_)
{
	struct guard_rig *rig = wary_rig();

	rig->guest.freeze_at = 20;
	guard_rig_run(rig);
	assert_int_equal(rig->backup_end, MOVE_END_RAN);
	assert_mentions(rig->copy.suspicion, "silent for 300 ms");
	assert_true(rig->copy.wholes >= 18);
	assert_copy_is(rig, rig->copy.whole, true);
	/* It heard nothing either. */
	assert_int_equal(rig->owner_end, MOVE_END_FAILED);
	assert_true(rig->guest.acked <= rig->copy.whole);
	guard_rig_free(rig);
}

/* What is acknowledged is what there is, whatever is lost behind it. */
static void a_stream_that_ends_anywhere(void **state _unused_)
{
	uint64_t seed = 3, taken_over = 0;

	for (int i = 0; i < 24; i++) {
		struct guard_rig *rig = guard_rig_new();

		seed = seed * 6364136223846793005ULL + 1442695040888963407ULL;
		rig->guest.seed += (uint64_t)i;
		rig->wire.cut_at = i < 8 ? (uint64_t)i * 19 : (seed >> 33) % MIB(8);
		guard_rig_run(rig);
		assert_int_equal(rig->wire.passed, rig->wire.cut_at);
		assert_int_equal(rig->owner_end, MOVE_END_FAILED);
		assert_true(rig->guest.acked <= rig->copy.whole);
		assert_int_equal(rig->backup_end, rig->copy.whole ? MOVE_END_RAN : MOVE_END_FAILED);
		if (rig->copy.whole)
			assert_copy_is(rig, rig->copy.whole, true);
		taken_over += rig->copy.whole != 0;
		guard_rig_free(rig);
	}
	assert_true(taken_over > 3);
}

static void a_backup_that_falls_silent(void **state _unused_)
{
	struct guard_rig *rig = wary_rig();

	rig->guest.freeze_at = 10;
	rig->copy.loses = true;
	guard_rig_run(rig);
	assert_int_equal(rig->owner_end, MOVE_END_FAILED);
	assert_mentions(rig->guest.ended, "silent for 300 ms");
	assert_string_equal(rig->guest.ended, rig->owner_error.message);
	assert_int_equal(rig->backup_end, MOVE_END_FAILED);
	assert_mentions(rig->backup_error.message, "its owner lives");
	assert_true(rig->copy.failed && !rig->copy.applied);
	guard_rig_free(rig);
}

/* It is heard, and still of no use. */
static void a_backup_that_acknowledges_nothing(void **state _unused_)
{
	struct guard_rig *rig = guard_rig_new();

	rig->owner_job.detect_ms = rig->backup_job.detect_ms = 150;
	rig->copy.stall_ms = 3500;
	guard_rig_run(rig);
	assert_int_equal(rig->owner_end, MOVE_END_FAILED);
	assert_mentions(rig->guest.ended, "acknowledges nothing");
	assert_true(rig->guest.acked >= rig->guest.first_whole + 8);
	guard_rig_free(rig);
}

static void a_copy_that_the_record_does_not_name(void **state _unused_)
{
	struct guard_rig *rig = wary_rig();

	rig->guest.freeze_at = 5;
	rig->copy.unnamed = true;
	guard_rig_run(rig);
	assert_int_equal(rig->backup_end, MOVE_END_FAILED);
	assert_mentions(rig->backup_error.message, "the record names another");
	assert_false(rig->copy.prepared);
	guard_rig_free(rig);
}

/* From then on what comes is not the copy's any more. */
static void nothing_is_acknowledged_once_it_prepares(void **state _unused_)
{
	struct guard_rig *rig = guard_rig_new();

	rig->copy.no_ack_at = 12;
	guard_rig_run(rig);
	assert_int_equal(rig->backup_end, MOVE_END_RAN);
	assert_int_equal(rig->copy.wholes, 12);
	assert_int_equal(rig->copy.whole, rig->guest.first_whole + 10);
	assert_copy_is(rig, rig->copy.whole, true);
	assert_false(rig->copy.suspected);
	guard_rig_free(rig);
}

static void a_failover_that_is_wished_at_the_backup(void **state _unused_)
{
	struct guard_rig *rig = guard_rig_new();

	rig->copy.prepare_at = 9;
	guard_rig_run(rig);
	assert_int_equal(rig->backup_end, MOVE_END_RAN);
	assert_false(rig->copy.suspected);
	assert_true(rig->copy.wholes >= 9);
	assert_copy_is(rig, rig->copy.whole, true);
	guard_rig_free(rig);
}

static void protection_is_switched_off(void **state _unused_)
{
	struct guard_rig *rig = guard_rig_new();

	rig->guest.off_at = 5;
	guard_rig_run(rig);
	assert_int_equal(rig->owner_end, MOVE_END_OFF);
	assert_int_equal(rig->backup_end, MOVE_END_FAILED);
	assert_mentions(rig->backup_error.message, "switched off");
	assert_false(rig->copy.suspected);
	assert_told(rig, "\"end\":\"off\"");
	guard_rig_free(rig);
}

/* To give a copy up is a swap; the owner that wanted it died, or was refused. */
static void what_was_given_up_goes_on_while_the_record_names_it(void **state _unused_)
{
	struct guard_rig *rig = guard_rig_new();

	rig->guest.off_at = 5;
	rig->copy.deaf = true;
	rig->backup_job.patience_ms = 1500;
	guard_rig_run(rig);
	assert_int_equal(rig->owner_end, MOVE_END_OFF);
	assert_int_equal(rig->backup_end, MOVE_END_RAN);
	assert_mentions(rig->copy.suspicion, "the record still names it");
	assert_copy_is(rig, rig->copy.whole, true);
	guard_rig_free(rig);
}

/* The last one to have them may not have let go of its disks yet. */
static void disks_that_are_busy_for_a_moment(void **state _unused_)
{
	struct guard_rig *rig = guard_rig_new();

	rig->guest.failover_at = 5;
	rig->copy.busy = 3;
	guard_rig_run(rig);
	assert_int_equal(rig->backup_end, MOVE_END_RAN);
	assert_int_equal(rig->copy.busy, 0);
	assert_copy_is(rig, rig->copy.whole, true);
	guard_rig_free(rig);
}

static void a_state_that_the_backup_cannot_take(void **state _unused_)
{
	struct guard_rig *rig = guard_rig_new();

	rig->copy.refuse_rehearsal = true;
	guard_rig_run(rig);
	assert_int_equal(rig->owner_end, MOVE_END_FAILED);
	assert_mentions(rig->guest.ended, "knows no such device");
	assert_int_equal(rig->guest.acked, 0);
	assert_false(rig->copy.suspected);
	guard_rig_free(rig);
}

/* It is the backup's fault, and said so: nobody suspects the owner. */
static void a_journal_that_is_too_small(void **state _unused_)
{
	struct guard_rig *rig = guard_rig_new();

	rig->backup_job.journal_bytes = JOURNAL_RING_MIN;
	rig->guest.write_max = KIB(256);
	guard_rig_run(rig);
	assert_int_equal(rig->owner_end, MOVE_END_FAILED);
	assert_mentions(rig->guest.ended, "journal is too small");
	assert_mentions(rig->backup_error.message, "journal is too small");
	assert_false(rig->copy.suspected);
	guard_rig_free(rig);
}

/* One that has place for one epoch, and hardly more: the disks are waited for. */
static void a_journal_that_is_full_again_and_again(void **state _unused_)
{
	struct guard_rig *rig = guard_rig_new();

	rig->backup_job.journal_bytes = MIB(4);
	rig->guest.failover_at = 25;
	guard_rig_run(rig);
	if (rig->backup_end != MOVE_END_RAN)
		fail_msg("%s", rig->backup_error.message);
	assert_copy_is(rig, rig->guest.cut, true);
	guard_rig_free(rig);
}

static void it_is_cancelled_while_it_fills(void **state _unused_)
{
	struct guard_rig *rig = guard_rig_new();

	close(rig->people);
	rig->people = -1;
	guard_rig_run(rig);
	assert_int_equal(rig->owner_end, MOVE_END_CANCELLED);
	assert_mentions(rig->guest.ended, "cancelled");
	assert_mentions(rig->backup_error.message, "cancelled");
	assert_int_equal(rig->guest.acked, 0);
	guard_rig_free(rig);
}

static void nobody_need_look_on(void **state _unused_)
{
	struct guard_rig *rig = guard_rig_new();

	rig->guest.failover_at = 60;
	guard_rig_start(rig);
	while (__atomic_load_n(&rig->guest.acked, __ATOMIC_ACQUIRE) < GUARD_FIRST_CUT + 15)
		usleep(1000);
	close(rig->people);
	rig->people = -1;
	guard_rig_join(rig);
	assert_int_equal(rig->owner_end, MOVE_END_RAN);
	assert_int_equal(rig->backup_end, MOVE_END_RAN);
	guard_rig_free(rig);
}

static void a_vm_that_may_not_be_protected(void **state _unused_)
{
	struct guard_rig *rig = guard_rig_new();

	rig->guest.refuse_begin = -EREMOTEIO;
	guard_rig_run(rig);
	assert_int_equal(rig->owner_end, MOVE_END_FAILED);
	assert_string_equal(rig->owner_error.message, "not this VM");
	assert_mentions(rig->backup_error.message, "not this VM");
	assert_string_equal(rig->guest.ended, "");
	guard_rig_free(rig);
}

/* ---- hellos ---- */

static void refuse(struct guard_rig *rig, const char *what)
{
	guard_rig_run(rig);
	assert_int_equal(rig->owner_end, MOVE_END_FAILED);
	assert_int_equal(rig->backup_end, MOVE_END_FAILED);
	assert_mentions(rig->backup_error.message, what);
	assert_mentions(rig->owner_error.message, what);
	assert_int_equal(rig->guest.cuts, 0);
	assert_int_equal(rig->copy.state_at, 0);
	guard_rig_free(rig);
}

static void hellos_are_compared(void **state _unused_)
{
	struct guard_rig *rig = guard_rig_new();

	rig->backup_job.token[3]++;
	refuse(rig, "another session");
	rig = guard_rig_new();
	assert_int_equal(ftruncate(rig->guest.disk_fds[1], MIB(1)), 0);
	refuse(rig, "bytes of disk[2]: 1048576 there, 1049088 here");
	rig = guard_rig_new();
	close(rig->owner_job.disks[1].fd);
	rig->owner_job.n_disks = 1;
	refuse(rig, "mirrored disks: 1 there, 2 here");
}

static void a_disk_of_an_odd_size(void **state _unused_)
{
	struct guard_rig *rig = guard_rig_new();

	assert_int_equal(ftruncate(rig->guest.disk_fds[1], MIB(1) + 100), 0);
	guard_rig_run(rig);
	assert_int_equal(rig->owner_end, MOVE_END_FAILED);
	assert_mentions(rig->owner_error.message, "disk[2]: cannot be mirrored");
	guard_rig_free(rig);
}

/* ---- the pace ---- */

static void the_pace_follows_what_it_costs(void **state _unused_)
{
	struct pace pace;

	pace_init(&pace, 0);
	assert_int_equal(pace_interval(&pace, false), 10 * NSEC_PER_MSEC);
	assert_int_equal(pace_interval(&pace, true), 100 * NSEC_PER_MSEC);
	pace_note(&pace, 2 * NSEC_PER_MSEC, 3 * NSEC_PER_MSEC);
	assert_int_equal(pace_interval(&pace, false), 40 * NSEC_PER_MSEC);
	for (int i = 0; i < 50; i++)
		pace_note(&pace, NSEC_PER_SEC, NSEC_PER_SEC);
	assert_int_equal(pace_interval(&pace, false), 100 * NSEC_PER_MSEC);
	pace_init(&pace, 20 * NSEC_PER_MSEC);
	pace_note(&pace, NSEC_PER_MSEC, 2 * NSEC_PER_MSEC);
	pace_note_ack(&pace, 3 * NSEC_PER_MSEC);
	assert_int_equal(pace_interval(&pace, true), 14 * NSEC_PER_MSEC);
	for (int i = 0; i < 50; i++)
		pace_note_ack(&pace, NSEC_PER_SEC);
	assert_int_equal(pace_interval(&pace, false), 5 * NSEC_PER_MSEC);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_failover_that_is_wished),
		cmocka_unit_test(over_tls_it_is_the_same),
		cmocka_unit_test(an_owner_that_falls_silent),
		cmocka_unit_test(a_stream_that_ends_anywhere),
		cmocka_unit_test(a_backup_that_falls_silent),
		cmocka_unit_test(a_backup_that_acknowledges_nothing),
		cmocka_unit_test(a_copy_that_the_record_does_not_name),
		cmocka_unit_test(nothing_is_acknowledged_once_it_prepares),
		cmocka_unit_test(a_failover_that_is_wished_at_the_backup),
		cmocka_unit_test(protection_is_switched_off),
		cmocka_unit_test(what_was_given_up_goes_on_while_the_record_names_it),
		cmocka_unit_test(disks_that_are_busy_for_a_moment),
		cmocka_unit_test(a_state_that_the_backup_cannot_take),
		cmocka_unit_test(a_journal_that_is_too_small),
		cmocka_unit_test(a_journal_that_is_full_again_and_again),
		cmocka_unit_test(it_is_cancelled_while_it_fills),
		cmocka_unit_test(nobody_need_look_on),
		cmocka_unit_test(a_vm_that_may_not_be_protected),
		cmocka_unit_test(hellos_are_compared),
		cmocka_unit_test(a_disk_of_an_odd_size),
		cmocka_unit_test(the_pace_follows_what_it_costs),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
