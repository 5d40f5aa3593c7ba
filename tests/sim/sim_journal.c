/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The mirrored disks of a protected VM on two machines, by seeds: a guest writes, zeroes and discards over epochs, the backup keeps a journal, the owner
 * a map of writes, and the power of either is cut in the midst of any I/O. Then
 *   - the backup's disks with its journal are the VM's at an epoch, not before the last acknowledged one, not after the last that was sealed;
 *   - applied up to any epoch that was acknowledged, they are the VM's at that one;
 *   - what the two machines' maps name is all in which their disks differ;
 *   - a backup that took over and is cut finds nothing in its journal to be applied to disks that the VM has written to since.
 *
 *   sim-journal [SEED]       prints what happens in one life
 */

#include "check.h"

#include <errno.h>
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "journal_sim.h"

#define SEEDS 3000
#define LONG_SEEDS 200000
#define ROUNDS 3
#define ROUND_EPOCHS 10
#define EPOCHS (ROUNDS * (ROUND_EPOCHS + 3))
#define STEPS 150 /* of I/O in a round, about: where the power is cut */
#define WAITING 3

/* What ends a round. */
enum end { GOES_ON, OWNER_CUT, BACKUP_CUT, GIVEN_UP };

struct run {
	uint64_t random;
	bool print;
	struct sim_machine machines[2], *owner, *backup;
	uint64_t ring_bytes, sessions;
	/* By index: epochs that were cut. The one after the last is open. */
	struct sim_content at[EPOCHS], now;
	uint64_t number[EPOCHS], open;
	unsigned int last, acked, committed;
	unsigned int tried, asked; /* its seal, its being applied was begun */
	struct sim_write waiting[WAITING];
	unsigned int n_waiting;
	uint32_t tag;
	const char *broken;
};

struct counts {
	uint64_t owner_cuts, backup_cuts, given_up, torn, copied, regions, unacked;
};

static uint64_t below(struct run *run, uint64_t limit)
{
	run->random ^= run->random << 13;
	run->random ^= run->random >> 7;
	run->random ^= run->random << 17;
	return (run->random >> 11) % limit;
}

static void tell(const struct run *run, const char *what, uint64_t n)
{
	if (run->print)
		printf("%s %llu\n", what, (unsigned long long)n);
}

static void break_rule(struct run *run, const char *rule)
{
	if (!run->broken)
		run->broken = rule;
}

/* What a failure of either machine means. */
static enum end end_of(struct run *run, int r)
{
	if (r >= 0)
		return GOES_ON;
	if (run->owner->power.off)
		return OWNER_CUT;
	if (run->backup->power.off)
		return BACKUP_CUT;
	if (r != -ENOSPC && r != -EFBIG)
		break_rule(run, "nothing fails while there is power");
	return GIVEN_UP;
}

/* ---- the guest and its owner ---- */

static void choose_write(struct run *run, struct sim_write *ret_write)
{
	unsigned int slot = (unsigned int)below(run, below(run, 2) ? 3 : SIM_SLOTS);
	uint64_t first = below(run, SIM_SLOT_SECTORS), kind = below(run, 8);

	ret_write->kind = kind == 0 ? JOURNAL_ZEROES : kind == 1 ? JOURNAL_DISCARD : JOURNAL_WRITE;
	ret_write->disk = (uint32_t)below(run, SIM_DISKS);
	ret_write->offset = (sim_region(slot) << INTENT_REGION_SHIFT) + first * STORAGE_SECTOR;
	ret_write->len = (1 + below(run, SIM_SLOT_SECTORS - first)) * STORAGE_SECTOR;
	if (ret_write->kind != JOURNAL_WRITE && below(run, 8) == 0)
		ret_write->len = SIM_DISK_BYTES - ret_write->offset;
	ret_write->tag = ++run->tag;
	sim_write_fill(ret_write);
}

/* ---- epochs ---- */

static void open_epoch(struct run *run)
{
	run->open = run->number[run->last] + 1 + below(run, 400);
}

/* The disks of a machine that shall be the VM's at that epoch. */
static void check_content(struct run *run, const struct sim_machine *machine, unsigned int index,
			  const char *rule)
{
	struct sim_content content;

	sim_content_read(machine, &content);
	if (!sim_content_equal(&content, &run->at[index]))
		break_rule(run, rule);
}

static unsigned int index_of(const struct run *run, uint64_t number)
{
	unsigned int i = run->last;

	while (i && run->number[i] > number)
		i--;
	return i;
}

/* Any that is acknowledged and not applied yet. A cut may have left some of what was asked for before: that is the least. */
static enum end apply_some(struct run *run)
{
	unsigned int least = MAX(run->asked, index_of(run, journal_applied(run->backup->journal)));
	unsigned int more = run->acked > least ? run->acked - least : 0;
	unsigned int up_to = least + (unsigned int)below(run, more + 1);
	enum end end;

	tell(run, "apply", run->number[up_to]);
	run->asked = up_to;
	end = end_of(run, journal_apply(run->backup->journal, run->number[up_to], NULL));
	if (end == GOES_ON)
		check_content(run, run->backup, up_to, "what is applied is an epoch");
	return end;
}

/* When there is no place. */
static int apply_acked(struct run *run)
{
	run->asked = MAX(run->asked, run->acked);
	return journal_apply(run->backup->journal, run->number[run->asked], NULL);
}

/* Acknowledgements come late: some epochs at once. */
static enum end acknowledge(struct run *run)
{
	enum end end = GOES_ON;

	if (below(run, 3))
		run->acked += (unsigned int)below(run, run->last - run->acked + 1);
	if (below(run, 3) == 0)
		return GOES_ON;
	run->committed += (unsigned int)below(run, run->acked - run->committed + 1);
	for (int i = 0; end == GOES_ON && i < SIM_DISKS; i++)
		end = end_of(run,
			     intent_commit(run->owner->intents[i], run->number[run->committed]));
	return end;
}

/* ---- the guest, to both ---- */

/* One that may begin. `mirror`: the backup gets it, too. */
static enum end do_write(struct run *run, const struct sim_write *write, bool mirror)
{
	const struct journal_write entry = { write->kind, write->disk, write->offset, write->len,
					     write->data };
	enum end end = end_of(run, sim_write_do(run->owner, write));
	int r = 0;

	if (end != GOES_ON)
		return end;
	sim_write_note(write, &run->now);
	if (!mirror)
		return GOES_ON;
	r = journal_append(run->backup->journal, &entry);
	if (r == -ENOSPC) {
		r = apply_acked(run);
		if (r == 0)
			r = journal_append(run->backup->journal, &entry);
	}
	return end_of(run, r);
}

/* All that wait for their marks, together. */
static enum end do_waiting(struct run *run, bool mirror)
{
	enum end end = GOES_ON;

	for (int i = 0; run->n_waiting && end == GOES_ON && i < SIM_DISKS; i++)
		end = end_of(run, intent_flush(run->owner->intents[i]));
	for (unsigned int i = 0; end == GOES_ON && i < run->n_waiting; i++) {
		const struct sim_write *write = &run->waiting[i];

		if (!intent_is_durable(run->owner->intents[write->disk], write->offset, write->len))
			break_rule(run, "a flush makes durable what was marked");
		end = do_write(run, write, mirror);
	}
	run->n_waiting = 0;
	return end;
}

static enum end guest_writes(struct run *run, bool mirror)
{
	struct sim_write *write = &run->waiting[run->n_waiting];

	choose_write(run, write);
	if (intent_mark(run->owner->intents[write->disk], write->offset, write->len, run->open))
		return do_write(run, write, mirror);
	run->n_waiting++;
	return run->n_waiting == WAITING || below(run, 2) ? do_waiting(run, mirror) : GOES_ON;
}

static enum end begin_epoch(struct run *run)
{
	int r = journal_begin(run->backup->journal, run->open);

	if (r == -ENOSPC) {
		r = apply_acked(run);
		if (r == 0)
			r = journal_begin(run->backup->journal, run->open);
	}
	return end_of(run, r);
}

static enum end one_epoch(struct run *run)
{
	enum end end = begin_epoch(run);

	for (uint64_t n = below(run, 12); n && end == GOES_ON; n--) {
		end = guest_writes(run, true);
		if (end == GOES_ON && below(run, 8) == 0)
			end = acknowledge(run);
		if (end == GOES_ON && below(run, 8) == 0)
			end = apply_some(run);
	}
	if (end == GOES_ON)
		end = do_waiting(run, true);
	if (end != GOES_ON)
		return end;
	run->tried = run->last + 1;
	run->at[run->tried] = run->now;
	run->number[run->tried] = run->open;
	end = end_of(run, journal_seal(run->backup->journal));
	tell(run, end == GOES_ON ? "sealed" : "not sealed", run->open);
	run->last = run->tried;
	open_epoch(run);
	return end;
}

static enum end one_round(struct run *run)
{
	enum end end = GOES_ON;

	for (int i = 0; end == GOES_ON && i < ROUND_EPOCHS; i++) {
		end = one_epoch(run);
		if (end == GOES_ON)
			end = acknowledge(run);
		if (end == GOES_ON && below(run, 2))
			end = apply_some(run);
	}
	if (end != GOES_ON)
		return end;
	return below(run, 2) ? OWNER_CUT : BACKUP_CUT; /* while nothing is under way */
}

/* ---- after a cut ---- */

/* The backup has power again, and may lose it again: what it goes on from. */
static unsigned int recover(struct run *run, struct counts *counts)
{
	struct sim_machine *backup = run->backup;
	bool applies = false;
	unsigned int found;
	int r = -EIO;

	for (int tries = 0; r < 0 && tries < 4; tries++) {
		sim_machine_restart(backup, tries < 3 ? 1 + below(run, 40) : UINT64_MAX);
		r = journal_open(&backup->file.storage, (uint8_t[JOURNAL_UUID_BYTES]){ 1 },
				 backup->storages, SIM_DISKS, &backup->journal, NULL);
		if (r < 0 && !backup->power.off) {
			break_rule(run, "a journal is found whole after a cut");
			return 0;
		}
		applies |= below(run, 2) != 0;
		if (r == 0 && applies && journal_state(backup->journal) == JOURNAL_WHOLE)
			r = journal_apply(backup->journal, journal_sealed(backup->journal), NULL);
	}
	if (r < 0)
		break_rule(run, "a journal is applied after a cut");
	backup->power.steps = UINT64_MAX;
	found = index_of(run, journal_sealed(backup->journal));
	tell(run, "found", journal_sealed(backup->journal));
	counts->torn += run->tried > found;
	counts->unacked += found > run->acked;
	if (run->number[found] != journal_sealed(backup->journal) || found > run->tried)
		break_rule(run, "only what was sealed is found");
	if (found < run->acked && !sim_content_equal(&run->at[found], &run->at[run->acked]))
		break_rule(run, "what was acknowledged is found");
	run->asked = run->acked = MIN(run->acked, found); /* those without writes are not in it */
	return found;
}

/* To an acknowledged epoch, to the last. */
static void apply_all(struct run *run, unsigned int found)
{
	if (run->broken || end_of(run, 0) != apply_some(run))
		return;
	if (journal_apply(run->backup->journal, run->number[found], NULL) < 0)
		break_rule(run, "what is sealed can be applied");
	check_content(run, run->backup, found, "the last that is sealed is an epoch");
}

static bool names(struct sim_machine *machine, uint32_t disk, uint64_t region)
{
	uint64_t first;

	return machine->intents[disk] && intent_next(machine->intents[disk], region, &first) &&
	       first == region;
}

/* From the owner's to the backup's disks: what either's map names. */
static void copy_what_differs(struct run *run, struct counts *counts)
{
	for (uint32_t disk = 0; disk < SIM_DISKS; disk++) {
		for (unsigned int slot = 0; slot < SIM_SLOTS; slot++) {
			counts->regions++;
			if (!names(run->owner, disk, sim_region(slot)) &&
			    !names(run->backup, disk, sim_region(slot)))
				continue;
			sim_copy_slot(run->owner, run->backup, disk, slot);
			counts->copied++;
		}
	}
	if (!sim_disks_equal(run->owner, run->backup))
		break_rule(run, "the maps name all in which the disks differ");
}

/* The owner without a backup. */
static void run_solo(struct run *run)
{
	enum end end = GOES_ON;

	for (uint64_t n = below(run, 10); n && end == GOES_ON; n--)
		end = guest_writes(run, false);
	if (end == GOES_ON)
		end = do_waiting(run, false);
	if (end != GOES_ON)
		break_rule(run, "nothing fails while there is power");
}

static void make_intents(struct run *run, struct sim_machine *machine, bool old)
{
	uint64_t damaged;

	for (uint32_t i = 0; i < SIM_DISKS; i++) {
		const struct intent_head head = { { 1 }, i, SIM_DISK_BYTES };
		int r;

		intent_free(machine->intents[i]);
		machine->intents[i] = NULL;
		r = old ? intent_open(&machine->maps[i].storage, &head, machine->storages[i],
				      &machine->intents[i], &damaged, NULL)
			: intent_create(&machine->maps[i].storage, &head, false,
					machine->storages[i], &machine->intents[i], NULL);
		if (r < 0)
			break_rule(run, "a map is found after a cut");
	}
}

static void begin_session(struct run *run)
{
	struct sim_machine *backup = run->backup;
	struct journal_head head = { .uuid = { 1 },
				     .session = { { (uint8_t)++run->sessions } },
				     .ring_bytes = run->ring_bytes,
				     .n_disks = SIM_DISKS };

	/* The state in which the two are equal is an epoch of its own. */
	run->last++;
	run->at[run->last] = run->now;
	run->number[run->last] = run->open;
	run->acked = run->asked = run->tried = run->committed = run->last;
	head.base = run->open;
	open_epoch(run);
	for (int i = 0; i < SIM_DISKS; i++) {
		head.disk_bytes[i] = SIM_DISK_BYTES;
		intent_free(backup->intents[i]);
		backup->intents[i] = NULL;
		assert_int_equal(storage_sync(backup->storages[i]), 0);
	}
	journal_free(backup->journal);
	backup->journal = NULL;
	assert_int_equal(journal_create(&backup->file.storage, &head, backup->storages,
					&backup->journal, NULL),
			 0);
	assert_int_equal(journal_mark_whole(backup->journal, NULL), 0);
}

/* What the VM goes on from: the epoch asked for; after another cut, when no memory is left, the last there is. */
static void end_journal(struct run *run, unsigned int up_to, struct counts *counts)
{
	struct sim_machine *backup = run->backup;

	backup->power.steps = below(run, 2) ? 1 + below(run, 30) : UINT64_MAX;
	if (journal_end(backup->journal, run->number[up_to], NULL) < 0) {
		unsigned int found = recover(run, counts);

		/* What waits behind an end is dropped, and never found. */
		if (!run->broken && journal_state(backup->journal) != JOURNAL_ENDED &&
		    journal_end(backup->journal, run->number[found], NULL) < 0)
			break_rule(run, "a journal can be ended");
		up_to = found;
	}
	backup->power.steps = UINT64_MAX;
	check_content(run, backup, up_to, "a backup goes on from an epoch");
}

/* The VM has written to its new owner's disks: the journal is not to touch them. */
static void cut_new_owner(struct run *run)
{
	struct sim_machine *machine = run->owner;
	struct sim_content before, after;
	struct error err = { 0 };

	sim_machine_restart(machine, UINT64_MAX);
	sim_content_read(machine, &before);
	if (journal_open(&machine->file.storage, (uint8_t[JOURNAL_UUID_BYTES]){ 1 },
			 machine->storages, SIM_DISKS, &machine->journal, &err) < 0)
		break_rule(run, "a journal that has ended is found");
	else if (journal_state(machine->journal) != JOURNAL_ENDED ||
		 journal_apply(machine->journal, journal_sealed(machine->journal), NULL) == 0)
		break_rule(run, "a journal that has ended stays so");
	sim_content_read(machine, &after);
	if (!sim_content_equal(&before, &after))
		break_rule(run, "a journal that has ended is not applied");
	run->now = after;
	make_intents(run, machine, true);
}

static void fail_over(struct run *run, bool both, struct counts *counts)
{
	struct sim_machine *old = run->owner;
	unsigned int from = run->acked;

	run->n_waiting = 0;
	if (both) {
		from = recover(run, counts);
		apply_all(run, from);
	}
	if (run->broken)
		return;
	end_journal(run, from, counts);
	sim_content_read(run->backup, &run->now);
	run->owner = run->backup;
	run->backup = old;
	make_intents(run, run->owner, false);
	run_solo(run);
	if (below(run, 3) == 0)
		cut_new_owner(run);
	/* The old owner comes back, and brings its map. */
	sim_machine_restart(old, UINT64_MAX);
	make_intents(run, old, true);
}

static void resolve(struct run *run, enum end end, struct counts *counts)
{
	bool both = (run->owner->power.off && run->backup->power.off) || below(run, 5) == 0;

	counts->owner_cuts += end == OWNER_CUT;
	counts->backup_cuts += end == BACKUP_CUT;
	counts->given_up += end == GIVEN_UP;
	tell(run,
	     end == OWNER_CUT	 ? "owner cut"
	     : end == BACKUP_CUT ? "backup cut"
				 : "given up",
	     run->sessions);
	run->backup->power.steps = run->owner->power.steps = UINT64_MAX;
	if (end == OWNER_CUT) {
		fail_over(run, both, counts);
	} else {
		if (end == BACKUP_CUT)
			apply_all(run, recover(run, counts));
		/* What waited for its mark is of the owner, and goes on. */
		if (!run->broken)
			run_solo(run);
	}
	if (!run->broken)
		copy_what_differs(run, counts);
}

/* `who`: 0 the owner's power, 1 the backup's, at that step; 2: by chance. */
static const char *live(struct run *run, uint64_t seed, unsigned int who, uint64_t step,
			struct counts *counts)
{
	bool print = run->print;

	memset(run, 0, sizeof(*run));
	run->print = print;
	run->random = seed * 0x9e3779b97f4a7c15ULL + 1;
	run->ring_bytes = JOURNAL_RING_MIN << below(run, 3);
	for (int i = 0; i < 2; i++)
		sim_machine_init(&run->machines[i], run->ring_bytes, below(run, 1ULL << 40));
	run->owner = &run->machines[0];
	run->backup = &run->machines[1];
	make_intents(run, run->owner, false);
	run->open = 1;
	for (int round = 0; round < ROUNDS && !run->broken; round++) {
		uint64_t at = who < 2 && round == 0 ? step : 1 + below(run, STEPS);
		unsigned int whose = who < 2 && round == 0 ? who : (unsigned int)below(run, 3);

		begin_session(run);
		if (whose < 2)
			(whose ? run->backup : run->owner)->power.steps = at;
		resolve(run, one_round(run), counts);
	}
	for (int i = 0; i < 2; i++)
		sim_machine_release(&run->machines[i]);
	return run->broken;
}

static void disks_are_mirrored(void **unused _unused_)
{
	const char *is_long = getenv("UTSUSU_TEST_LONG");
	static struct run run;
	struct counts counts = { 0 };

	for (uint64_t seed = 1; seed <= (is_long && is_long[0] ? LONG_SEEDS : SEEDS); seed++)
		if (live(&run, seed, 2, 0, &counts))
			fail_msg("seed %llu: broken: %s; sim-journal %llu shows it",
				 (unsigned long long)seed, run.broken, (unsigned long long)seed);
	printf("%llu owners and %llu backups cut, %llu copies given up; %llu epochs torn, %llu found that "
	       "nobody acknowledged; %llu of %llu regions copied\n",
	       (unsigned long long)counts.owner_cuts, (unsigned long long)counts.backup_cuts,
	       (unsigned long long)counts.given_up, (unsigned long long)counts.torn,
	       (unsigned long long)counts.unacked, (unsigned long long)counts.copied,
	       (unsigned long long)counts.regions);
	/* Lives in which nothing happens prove nothing, nor do maps that name all. */
	assert_true(counts.owner_cuts > SEEDS && counts.backup_cuts > SEEDS / 2);
	assert_true(counts.given_up > SEEDS / 100 && counts.torn > SEEDS / 10 &&
		    counts.unacked > SEEDS / 100);
	assert_true(counts.copied < counts.regions * 3 / 4);
}

/* The same lives, cut at each step of I/O that there is in a round. */
static void each_step_may_be_the_last(void **unused _unused_)
{
	static struct run run;
	struct counts counts = { 0 };

	for (uint64_t seed = 1; seed <= 5; seed++)
		for (uint64_t at = 0; at < 2ULL * STEPS; at++)
			if (live(&run, seed, at % 2, 1 + at / 2, &counts))
				fail_msg("seed %llu, the %s at step %llu: broken: %s",
					 (unsigned long long)seed, at % 2 ? "backup" : "owner",
					 (unsigned long long)(1 + at / 2), run.broken);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(disks_are_mirrored),
		cmocka_unit_test(each_step_may_be_the_last),
	};
	static struct run run = { .print = true };
	struct counts counts = { 0 };

	/* The machines' memory is taken once, not from the kernel in each life. */
	(void)mallopt(M_MMAP_THRESHOLD, (int)MIB(64));
	(void)mallopt(M_TRIM_THRESHOLD, (int)MIB(64));
	if (argc != 2)
		return cmocka_run_group_tests(tests, NULL, NULL);
	live(&run, strtoull(argv[1], NULL, 10), 2, 0, &counts);
	printf("%s\n", run.broken ? run.broken : "well");
	return run.broken != NULL;
}
