/* SPDX-License-Identifier: Apache-2.0 */
/* Protection without etcd: what is granted, and for what a person's word is needed. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "check.h"
#include "host/state_dir.h"
#include "peer/manual.h"

#define UUID "01234567-89ab-cdef-0123-456789abcdef"

static struct ownership_id id(unsigned int n)
{
	return (struct ownership_id){ .bytes = { (uint8_t)n } };
}

/* A record that may stand somewhere, of generation 7 (none: 0). `other`: its backup, or whom it was claimed from. */
static struct ownership_record record_of(enum ownership_mode mode, unsigned int owner,
					 unsigned int other)
{
	struct ownership_record record = { .mode = mode };

	if (mode == OWNERSHIP_NONE)
		return record;
	record.revision = record.generation = 7;
	record.owner = id(owner);
	if (mode == OWNERSHIP_PROTECTED)
		record.backup = id(other);
	if (mode == OWNERSHIP_CLAIMED)
		record.from = id(other);
	return record;
}

/* The rules, said another way: in pairs of modes. '-': never; 'g': granted; 'd': when its owner has ended here; 'o', 'b': by the word that its owner,
 * its backup is dead. */
static char rule(const struct ownership_record *from, const struct ownership_record *to,
		 bool same_owner, bool is_from)
{
	static const char *const own[] = {
		/* to: none solo claimed protected stopped */
		[OWNERSHIP_NONE] = "-----",    [OWNERSHIP_SOLO] = "-g-gg",
		[OWNERSHIP_CLAIMED] = "-g---", [OWNERSHIP_PROTECTED] = "-b--b",
		[OWNERSHIP_STOPPED] = "-g---",
	};
	static const char *const others[] = {
		[OWNERSHIP_NONE] = "-g---",    [OWNERSHIP_SOLO] = "-d---",
		[OWNERSHIP_CLAIMED] = "-----", [OWNERSHIP_PROTECTED] = "-----",
		[OWNERSHIP_STOPPED] = "-g---",
	};

	if (!same_owner && from->mode == OWNERSHIP_CLAIMED && is_from && to->mode == OWNERSHIP_SOLO)
		return 'b';
	if (!same_owner && from->mode == OWNERSHIP_PROTECTED && to->mode == OWNERSHIP_CLAIMED &&
	    memcmp(&to->from, &from->owner, sizeof(to->from)) == 0)
		return 'o';
	return (same_owner ? own : others)[from->mode][to->mode];
}

static enum manual_verdict expected(char rule_, bool said_owner, bool said_backup, bool dead)
{
	switch (rule_) {
	case 'g':
		return MANUAL_GRANTED;
	case 'd':
		return dead ? MANUAL_GRANTED : MANUAL_NEVER;
	case 'o':
		return said_owner ? MANUAL_GRANTED : MANUAL_WAITS;
	case 'b':
		return said_backup ? MANUAL_GRANTED : MANUAL_WAITS;
	default:
		return MANUAL_NEVER;
	}
}

static unsigned int n_granted, n_waits;

static void judge_with_words(const struct ownership_record *record,
			     const struct ownership_record *want, char rule_)
{
	for (unsigned int i = 0; i < 3 * 3 * 2 * 2; i++) {
		const struct manual_word word = {
			.says = (enum manual_says)(i % 3),
			.generation = record->generation + i / 3 % 3 - 1, /* before, this, after */
			.owner = i / 9 % 2 ? record->owner : id(9),
		};
		const bool counts = i / 3 % 3 == 1 && i / 9 % 2;
		const bool dead = i / 18;
		enum manual_says needs = MANUAL_SAYS_NOTHING;
		enum manual_verdict verdict = manual_judge(record, want, &word, dead, &needs);

		assert_int_equal(verdict,
				 expected(rule_, counts && word.says == MANUAL_OWNER_IS_DEAD,
					  counts && word.says == MANUAL_BACKUP_IS_DEAD, dead));
		assert_int_equal(needs, verdict != MANUAL_WAITS ? MANUAL_SAYS_NOTHING
					: rule_ == 'o'		? MANUAL_OWNER_IS_DEAD
								: MANUAL_BACKUP_IS_DEAD);
		n_granted += verdict == MANUAL_GRANTED;
		n_waits += verdict == MANUAL_WAITS;
	}
}

/* All pairs of records of three instances. */
static void every_change_is_judged(void **state _unused_)
{
	for (unsigned int i = 0; i < OWNERSHIP_MODES * OWNERSHIP_MODES * 81; i++) {
		const struct ownership_record record = record_of(
			(enum ownership_mode)(i % OWNERSHIP_MODES), 1 + i / 25 % 3, 1 + i / 75 % 3);
		struct ownership_record want =
			record_of((enum ownership_mode)(i / 5 % OWNERSHIP_MODES), 1 + i / 225 % 3,
				  1 + i / 675 % 3);
		const bool same = record.mode != OWNERSHIP_NONE &&
				  memcmp(&want.owner, &record.owner, sizeof(want.owner)) == 0;
		const bool is_from = memcmp(&want.owner, &record.from, sizeof(want.owner)) == 0;
		enum manual_says needs;

		want.revision = record.generation;
		want.generation = record.generation + 1;
		if (want.mode == OWNERSHIP_NONE)
			want.owner = id(1);
		judge_with_words(&record, &want, rule(&record, &want, same, is_from));
		want.revision++;
		assert_int_equal(manual_judge(&record, &want, &(struct manual_word){ 0 }, true,
					      &needs),
				 MANUAL_LOST);
		want.revision--;
		want.generation++;
		assert_int_equal(manual_judge(&record, &want, &(struct manual_word){ 0 }, true,
					      &needs),
				 MANUAL_NEVER);
	}
	assert_true(n_granted > 1000 && n_waits > 1000);
}

/* Of one record, whatever words are given on each host that are true: never both sides. The words exclude each other. */
static void one_word_lets_one_side_go_on(void **state _unused_)
{
	const struct ownership_record record = record_of(OWNERSHIP_PROTECTED, 1, 2);
	struct ownership_record alone = record_of(OWNERSHIP_SOLO, 1, 0);
	struct ownership_record claimed = record_of(OWNERSHIP_CLAIMED, 3, 1);

	alone.generation = claimed.generation = 8;
	for (int says = MANUAL_SAYS_NOTHING; says <= MANUAL_BACKUP_IS_DEAD; says++) {
		const struct manual_word word = { .says = (enum manual_says)says,
						  .generation = 7,
						  .owner = id(1) };
		enum manual_says needs;

		assert_int_equal((manual_judge(&record, &alone, &word, true, &needs) ==
				  MANUAL_GRANTED) +
					 (manual_judge(&record, &claimed, &word, true, &needs) ==
					  MANUAL_GRANTED),
				 says != MANUAL_SAYS_NOTHING);
	}
}

static void a_backup_follows_what_names_it(void **state _unused_)
{
	struct ownership_record here = record_of(OWNERSHIP_SOLO, 3, 0);
	struct ownership_record heard = record_of(OWNERSHIP_PROTECTED, 1, 2);
	const struct ownership_id session = id(2), other = id(3);

	assert_false(manual_may_follow(&here, &heard, &session));
	heard.generation++;
	assert_true(manual_may_follow(&here, &heard, &session));
	assert_false(manual_may_follow(&here, &heard, &other));
	heard.mode = OWNERSHIP_SOLO;
	assert_false(manual_may_follow(&here, &heard, &session));
	here = record_of(OWNERSHIP_NONE, 0, 0);
	heard.mode = OWNERSHIP_PROTECTED;
	assert_true(manual_may_follow(&here, &heard, &session));
}

static struct manual_records make_records(unsigned int n)
{
	struct manual_records records = { 0 };

	for (unsigned int i = 1; i <= n; i++) {
		struct ownership_record record =
			record_of(i % 2 ? OWNERSHIP_SOLO : OWNERSHIP_PROTECTED, 1, 2);

		record.generation = i;
		manual_append(&records, &record);
	}
	return records;
}

static void hosts_that_meet_agree(void **state _unused_)
{
	struct manual_records ours = make_records(4), theirs = make_records(6), none = { 0 };

	assert_true(manual_agree(&ours, &theirs));
	assert_true(manual_agree(&none, &theirs));
	assert_true(manual_agree(&none, &none));
	assert_false(manual_agree(&theirs, &ours)); /* here went further */
	assert_false(manual_agree(&ours, &none));
	ours.list[3].mode = OWNERSHIP_CLAIMED; /* of equal generation */
	assert_false(manual_agree(&ours, &theirs));
}

static void texts_come_back(void **state _unused_)
{
	struct manual_records records = make_records(3 * MANUAL_KEPT), again;
	struct manual_word word = { 7, 1700000000, id(1), "uid 0", MANUAL_OWNER_IS_DEAD }, read;
	char text[MANUAL_TEXT];
	size_t len;

	assert_int_equal(records.n, MANUAL_KEPT);
	assert_int_equal(manual_last(&records).generation, 3 * MANUAL_KEPT);
	for (uint32_t i = 0; i < records.n; i++) /* the longest */
		records.list[i].generation = records.list[i].revision = INT64_MAX - MANUAL_KEPT + i;
	assert_int_equal(manual_encode(&records, text, &len), 0);
	assert_int_equal(manual_decode(text, len, &again), 0);
	assert_memory_equal(&records, &again, sizeof(records));
	records.list[0].generation = records.list[1].generation;
	assert_int_equal(manual_encode(&records, text, &len), 0);
	assert_int_equal(manual_decode(text, len, &again), -EBADMSG);
	assert_int_equal(manual_word_encode(&word, text, &len), 0);
	assert_int_equal(manual_word_decode(text, len, &read), 0);
	assert_memory_equal(&word, &read, sizeof(word));
	word.says = MANUAL_SAYS_NOTHING;
	assert_int_equal(manual_word_encode(&word, text, &len), -EINVAL);
	for (size_t i = 0; i < len; i++)
		assert_int_equal(manual_word_decode(text, i, &read), -EBADMSG);
}

static void files_are_kept(void **state _unused_)
{
	char folder[] = "/tmp/utsusu-test-XXXXXX", command[64];
	struct manual_records records = make_records(3), again;
	struct manual_word word = { 3, 1, id(1), "uid 0", MANUAL_BACKUP_IS_DEAD }, read;
	struct error err = { 0 };
	int state_fd, lock, other;

	setenv("UTSUSU_STATE_DIR", mkdtemp(folder), 1);
	assert_int_equal(state_dir_open(&state_fd, &err), 0);
	assert_int_equal(manual_read(state_fd, UUID, &again, &err), 0);
	assert_int_equal(again.n, 0);
	assert_int_equal(manual_write(state_fd, UUID, &records), 0);
	assert_int_equal(manual_read(state_fd, UUID, &again, &err), 0);
	assert_memory_equal(&records, &again, sizeof(records));
	manual_read_word(state_fd, UUID, &read);
	assert_int_equal(read.says, MANUAL_SAYS_NOTHING);
	assert_int_equal(manual_write_word(state_fd, UUID, &word), 0);
	manual_read_word(state_fd, UUID, &read);
	assert_memory_equal(&word, &read, sizeof(word));
	manual_drop_word(state_fd, UUID);
	manual_read_word(state_fd, UUID, &read);
	assert_int_equal(read.says, MANUAL_SAYS_NOTHING);
	assert_int_equal(manual_lock(state_fd, UUID, &lock), 0);
	assert_int_equal(manual_lock(state_fd, UUID, &other), -EBUSY);
	close(lock);
	close(state_fd);
	snprintf(command, sizeof(command), "rm -r %s", folder);
	assert_int_equal(system(command), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_change_is_judged),
		cmocka_unit_test(one_word_lets_one_side_go_on),
		cmocka_unit_test(a_backup_follows_what_names_it),
		cmocka_unit_test(hosts_that_meet_agree),
		cmocka_unit_test(texts_come_back),
		cmocka_unit_test(files_are_kept),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
