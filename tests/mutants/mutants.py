#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Faults put into copies of sources, each of which a named test must find: tests of the tests.

  mutants.py make NAME SOURCE COPY      COPY is SOURCE with the fault; fails when its place is not there any more
  mutants.py judge NAME PROGRAM         runs PROGRAM, built of the copy, and fails unless it fails as it should
"""

import re
import subprocess
import sys
from dataclasses import dataclass


@dataclass
class Mutant:
    about: str
    arguments: list     # of the test's program
    finds: str          # what it must say when it fails
    before: str         # occurs once in the source
    after: str


# One hand-over or two, with one crash: enough to find them all.
EXPLORE_ONE = ["1", "1", "0", "1", "1000000", "harm"]
EXPLORE_TWO = ["2", "1", "0", "1", "1000000", "harm"]
TWO_RUN = "broken: never two run"
LOST = "broken: a start from disks only when the only copy died"
NO_WAY_OUT = "broken: what is in doubt can be settled"

HANDOVER = {
    "resume-without-promise": Mutant(
        "the source resumes when the link is lost", EXPLORE_ONE, TWO_RUN,
        "	case ON_LINK_LOST:\n	case ON_FAILED: /* COMMIT could",
        "	case ON_LINK_LOST:\n"
        "		return source_end(source, SOURCE_KEPT, WHY_LINK, DO_RESUME_VM);\n"
        "	case ON_FAILED: /* COMMIT could"),
    "resume-by-timeout": Mutant(
        "the source resumes when nobody answers", EXPLORE_ONE, TWO_RUN,
        "	case ON_CANCELLED:\n	case ON_TICK:\n		return source_asks(source);",
        "	case ON_CANCELLED:\n		return source_asks(source);\n	case ON_TICK:\n"
        "		return source_end(source, SOURCE_KEPT, WHY_LINK, DO_RESUME_VM);"),
    "stale-message": Mutant(
        "messages of an older move are taken for this one's", EXPLORE_TWO, "broken: ",
        "	if (event->kind < HANDOVER_FIRST_MESSAGE)\n		return false;",
        "	return false;"),
    "stale-generation": Mutant(
        "a move that makes no newer generation is taken in", [],
        "[  FAILED  ] a_stale_generation_is_refused",
        "	if (id->generation <= known)",
        "	if (id->generation == 0 && known)"),
    "commit-before-given": Mutant(
        "COMMIT goes out while the mark is still being written", EXPLORE_ONE, TWO_RUN,
        "	return DO_WRITE_GIVEN;",
        "	return DO_WRITE_GIVEN | DO_SEND_COMMIT;"),
    "commit-after-giving-up": Mutant(
        "COMMIT goes out although the move was given up", [],
        "[  FAILED  ] what_comes_while_the_mark_is_written_takes_it_back",
        "	if (source->give_up)",
        "	if (source->give_up && source->vm_dead)"),
    "never-before-durable": Mutant(
        "the destination says never before that is on the disk", EXPLORE_ONE, TWO_RUN,
        "	return actions | DO_TAKE_NEVER;",
        "	return actions | DO_TAKE_NEVER | DO_SEND_NEVER;"),
    "never-before-end": Mutant(
        "the destination says never while its process lives", EXPLORE_ONE[:-1],
        "broken: never is said when it is durable and no process is left",
        "	if (!destination->vm_ended)\n		return DO_END_VM;",
        "	if (!destination->vm_ended)\n		return DO_SEND_NEVER | DO_END_VM;"),
    "forgotten-commit": Mutant(
        "a commit without an answer counts as one that never was", EXPLORE_ONE, TWO_RUN,
        "return destination_close(destination, WHY_FAILED, 0);",
        "return destination_close(destination, WHY_FAILED, DO_SEND_NEVER);"),
    "killed-committer": Mutant(
        "the process is ended before the mark is asked", EXPLORE_ONE[:-1],
        "broken: a process ends only after never is durable",
        "	return actions | DO_TAKE_NEVER;",
        "	return actions | DO_END_VM | DO_TAKE_NEVER;"),
    "refusal-as-promise": Mutant(
        "the source resumes on a refusal", EXPLORE_ONE, TWO_RUN,
        "	case ON_REFUSED: /* neither",
        "	case ON_REFUSED:\n"
        "		return source_end(source, SOURCE_KEPT, WHY_REFUSED, DO_RESUME_VM); /*"),
    "left-without-ran": Mutant(
        "the source ends because the other side was told to run", EXPLORE_ONE, NO_WAY_OUT,
        "	case ON_CANCELLED:\n	case ON_TICK:\n		return source_asks(source);",
        "	case ON_CANCELLED:\n		return source_asks(source);\n	case ON_TICK:\n"
        "		return source_learns_ran(source);"),
    "doubt-without-questions": Mutant(
        "nobody asks what became of the VM", EXPLORE_ONE, NO_WAY_OUT,
        "source->told ? DO_ASK : DO_ASK | DO_TELL_IN_DOUBT",
        "source->told ? 0 : DO_TELL_IN_DOUBT"),
    "lost-and-running": Mutant(
        "a VM without its memory goes on", [],
        "[  FAILED  ] memory_in_two_places_is_lost_with_either",
        "	destination->phase = PHASE_END;\n	return DO_END_VM | DO_END;",
        "	destination->phase = PHASE_END;\n	return DO_END;"),
    "served-too-short": Mutant(
        "the source ends with memory that the other side does not have", [],
        "[  FAILED  ] the_rest_of_memory_comes_after_the_run",
        "source->postcopy ? PHASE_RUN : PHASE_VERIFY;",
        "PHASE_VERIFY;"),
    "start-despite-given": Mutant(
        "a host starts a VM that it has given away and has no answer about", EXPLORE_ONE, LOST,
        "	if (!came_back && marks->given == HANDOVER_OPEN)\n		return START_ASK_FIRST;\n",
        ""),
    "start-despite-ran": Mutant(
        "a host starts a VM that runs elsewhere", EXPLORE_ONE, TWO_RUN,
        "	if (!came_back && marks->given == HANDOVER_RAN)\n		return START_LIVES_THERE;\n",
        ""),
    "start-before-taken": Mutant(
        "a host starts a VM whose move to it never came to its commit", EXPLORE_ONE, TWO_RUN,
        "	if (marks->taken == HANDOVER_OPEN || marks->taken == HANDOVER_NEVER)",
        "	if (marks->taken == HANDOVER_OPEN && marks->taken == HANDOVER_NEVER)"),
    "start-of-the-returned": Mutant(
        "an old mark outlives the VM's return", EXPLORE_TWO, NO_WAY_OUT,
        "	bool came_back = marks->taken == HANDOVER_RAN &&",
        "	bool came_back = marks->taken == HANDOVER_RAN && marks->given != HANDOVER_RAN &&"),
}

DISKS = {
    "write-not-marked-at-its-end": Mutant(
        "what is written to a disk is not marked when the request ends", [],
        "[  FAILED  ] a_write_under_way_is_marked_when_it_ends",
        "	q->in_flight--;\n	log_written(q, block);",
        "	q->in_flight--;\n	if (result > 0)\n		log_written(q, block);"),
    "failed-write-not-marked": Mutant(
        "a write that failed half way is not marked", [],
        "[  FAILED  ] a_write_that_fails_is_marked",
        "	q->in_flight--;\n	log_written(q, block);",
        "	q->in_flight--;\n	if (result == 0)\n		log_written(q, block);"),
    "marks-skipped": Mutant(
        "some of the marks of a disk are taken and forgotten", ["a_disk_moves_while_it_is_written"],
        "the disk differs in the 64 KiB",
        "	return n >= 64 ? ~0ULL : (1ULL << n) - 1;",
        "	return word == 1 ? 0 : n >= 64 ? ~0ULL : (1ULL << n) - 1;"),
    "not-read-back": Mutant(
        "what was written is taken for right", ["a_disk_that_changes_what_it_holds_is_refused"],
        "[  FAILED  ] a_disk_that_changes_what_it_holds_is_refused",
        "	return r < 0 ? r : memcmp(hash, wanted, DIGEST_BYTES) == 0;",
        "	return r < 0 ? r : memcmp(hash, wanted, 0) == 0;"),
}

# Two hosts or three (a copy after another), as small as finds them all.
OWNERS_TWO = ["2", "2", "2", "1", "5", "1", "1", "0"]
OWNERS_THREE = ["3", "1", "2", "2", "4", "1", "0", "0"]
NOT_CONTAINED = "broken: what was put out is not contained in what may go on"
NOT_NAMED = "broken: one puts out at once whom the record does not name"
COUNTED_ON = "broken: one ended that the record counts on"

OWNERSHIP = {
    "ack-of-any-session": Mutant(
        "an acknowledgement of another session counts", OWNERS_THREE, NOT_CONTAINED,
        "	    !ownership_id_equal(&event->session, &ownership->session) ||\n",
        ""),
    "old-answer": Mutant(
        "an old record is acted on", OWNERS_TWO, COUNTED_ON,
        "	if (record->revision <= ownership->record.revision)",
        "	if (record->revision == ownership->record.revision)"),
    "read-settles": Mutant(
        "an owner that reads the record it knows takes its swap for one that never was", OWNERS_TWO, NOT_NAMED,
        "	if (record->revision <= ownership->record.revision)\n		return 0;",
        "	if (record->revision <= ownership->record.revision)\n"
        "		return ownership->waits && ownership->give_up ? become_solo(ownership) : 0;"),
    "solo-without-swap": Mutant(
        "an owner without a backup goes on by itself", OWNERS_TWO, NOT_NAMED,
        "		ownership->give_up = true; /*",
        "		return become_solo(ownership); /*"),
    "epoch-before-the-gate": Mutant(
        "a copy that lacks what was put out becomes the backup", OWNERS_TWO, NOT_CONTAINED,
        "	ownership->gate_epoch = ownership->cut + 1;",
        "	ownership->gate_epoch = ownership->cut;"),
    "ack-after-claim": Mutant(
        "who runs the VM already acknowledges what still comes", OWNERS_TWO, NOT_CONTAINED,
        "	case WHEN_APPLY_FAILED: /* it has",
        "	case WHEN_WHOLE:\n		ownership->acked = event->epoch;\n		return THEN_ACK;\n"
        "	case WHEN_APPLY_FAILED: /* it has"),
    "release-before-confirmation": Mutant(
        "a claimant puts out before the second swap", OWNERS_TWO, NOT_NAMED,
        "		ownership->runs_held = true;",
        "		ownership->runs_held = true;\n		ownership->role = OWNERSHIP_IS_SOLO;\n"
        "		return THEN_REPLAY | THEN_OPEN;"),
    "loser-ends": Mutant(
        "a deposed owner destroys its copy before the claimant is confirmed", OWNERS_TWO, COUNTED_ON,
        "	if (record->mode != OWNERSHIP_CLAIMED ||\n"
        "	    !ownership_id_equal(&record->from, &ownership->me))",
        "	if (record->mode)"),
    "hosts-not-processes": Mutant(
        "the record is read as if it named hosts", OWNERS_THREE, NOT_CONTAINED,
        "	return memcmp(a, b, sizeof(*a)) == 0;",
        "	return memcmp(a, b, a->bytes[0] == 's' ? 1 : 2) == 0;"),
    "claim-of-the-unnamed": Mutant(
        "a copy that the record does not name claims the VM", OWNERS_TWO, NOT_NAMED,
        "return ownership->named && ownership->whole && !ownership->prepared ? THEN_PREPARE : 0;",
        "ownership->named = true;\n	return ownership->whole && !ownership->prepared ? THEN_PREPARE : 0;"),
    "open-while-protected": Mutant(
        "an acknowledgement opens the gate for all", OWNERS_TWO, NOT_CONTAINED,
        "	return ownership->gated ? THEN_RELEASE : 0;",
        "	return THEN_OPEN;"),
}

# The explorations and the model have no numbers that are not cut.
NUMBERS = {
    "ack-of-a-filling-epoch": Mutant(
        "what filled a copy acknowledges what was held before the first cut", [],
        "[  FAILED  ] what_filled_a_copy_acknowledges_nothing",
        "	return epoch <= ownership->cut && (epoch <= ownership->ungated || epoch >= ownership->gate_epoch);",
        "	return epoch <= ownership->cut;"),
}

GUEST = {
    "told-pages-left-out": Mutant(
        "what was told and nobody took is not in the epoch", [], "[  FAILED  ] a_cut_takes_back_what_nobody_took",
        "			guest->fresh.words[i] |= __atomic_exchange_n(", "			(void)__atomic_exchange_n("),
    "cut-in-a-reset": Mutant(
        "a guest that asks for a reset is cut", [], "[  FAILED  ] no_cut_while_the_guest_asks_for_a_reset",
        "	if (vm->status == VM_RESETTING || __atomic_load_n(&vm->posted, __ATOMIC_SEQ_CST))",
        "	if (vm->status == VM_RESETTING)"),
    "heard-before-the-record": Mutant(
        "who takes over does not hold its output", [], "[  FAILED  ] it_goes_on_and_is_heard_when_the_record_says_so",
        "	hold_shut(&guest->vm->hold);\n", ""),
}

EPOCHS = {
    "dirty-page-missed": Mutant(
        "an epoch lacks the last page of 64 that were written", [], "[  FAILED  ] epochs_carry_memory",
        "	for (; bits; bits &= bits - 1) {",
        "	for (; bits & (bits - 1) || bits == 1; bits &= bits - 1) {"),
    "epoch-of-any-sum": Mutant(
        "pages are not compared with what was sent", [], "[  FAILED  ] a_flipped_bit_is_found",
        "le_load(bytes + 16, 8) != receiver->sum",
        "le_load(bytes + 16, 8) == receiver->sum + 1"),
    "delta-after-zeroes": Mutant(
        "what was sent as zeros is taken for what was sent before", [], "[  FAILED  ] epochs_carry_memory",
        "	if (sender->cache)\n		delta_cache_forget(sender->cache, page, 1);",
        ""),
    "staged-in-ram": Mutant(
        "pages go into RAM as they come", [], "[  FAILED  ] what_is_cut_off_is_not_whole",
        "	*ret_content = epoch_content(epoch, epoch->n_pages);",
        "	*ret_content = epoch_page(receiver->memory, page);"),
}


def _found_by(test, about, before, after):
    return Mutant(about, [test], f"[  FAILED  ] {test}", before, after)


ARBITER = {
    "swap-asked-twice": _found_by(
        "test_nobody_else_is_asked_after_it_was_sent", "a swap goes to the next member although the first may have it",
        "	if (is_swap_itself(question) && left)",
        "	if (is_swap_itself(question) && left && !question)"),
    "swap-repeated-by-the-library": _found_by(
        "test_a_swap_is_not_repeated_unseen", "connections are kept, and libcurl asks again when one is closed",
        "	SET(CURLOPT_FRESH_CONNECT, 1L);\n	SET(CURLOPT_FORBID_REUSE, 1L);", "	"),
    "unreadable-is-harmless": _found_by(
        "test_what_is_not_certain_is_unknown", "a swap whose answer cannot be read is said to have done nothing",
        ".may_land = answer->r == 0 || answer->may_land,", ".may_land = answer->may_land,"),
    "contradiction-believed": _found_by(
        "test_an_answer_that_contradicts_is_unknown", "a swap loses to just what it was compared with",
        "value.revision == arbiter->want.revision))", "!value.present && value.revision))"),
    "restored-etcd-believed": _found_by(
        "test_a_store_that_went_back_is_refused", "an etcd that went back in time is believed",
        "	else if (header->revision < seen->revision ||", "	else if ("),
    "other-cluster-believed": _found_by(
        "test_another_cluster_is_refused", "what was seen is not kept over a restart",
        "	r = note(&now, state_fd, uuid, err);", "	r = err ? 0 : note(&now, state_fd, uuid, err);"),
    "overtaken-answer-refused": _found_by(
        "test_answers_may_overtake_each_other", "an answer that another overtook is taken for a restored etcd's",
        "bool is_old = header->revision < seen->revision;", "bool is_old = !header;"),
    "absent-is-true": _found_by(
        "test_swaps", "a swap that does not say that it succeeded has won",
        "	*ret_bool = json_is_true(value);", "	*ret_bool = !json_is_false(value);"),
}

MIRROR = {
    "ack-before-sync": Mutant(
        "an epoch is acknowledged before it is durable", [], "broken: a journal is found whole after a cut",
        "	r = journal_sync_locked(journal);\n	if (r == 0 && takes_no_more(journal))",
        "	r = 0;\n	if (takes_no_more(journal))"),
    "the-other-ones-error": Mutant(
        "a failed sync that only the applier was told of counts for nothing", [],
        "[  FAILED  ] a_sync_that_failed_for_the_other_one_counts",
        "	if (r == 0 && takes_no_more(journal))\n		r = -EIO;\n	pthread_mutex_unlock",
        "	pthread_mutex_unlock"),
    "unsealed-applied": Mutant(
        "an epoch that is not whole is applied", [], "broken: what is applied is an epoch",
        "memcmp(ours, theirs, sizeof(ours)) != 0",
        "memcmp(ours, theirs, 0) != 0"),
    "mark-before-disks": Mutant(
        "an epoch is marked as applied before the disks have it", [], "broken: what is applied is an epoch",
        "	r = sync_disks(journal);\n	if (r == 0)\n		r = journal_put_mark(journal, &mark);",
        "	r = journal_put_mark(journal, &mark);\n	if (r == 0)\n		r = sync_disks(journal);"),
    "end-not-marked": Mutant(
        "a VM writes to its disks while its journal may still be applied", [],
        "broken: a journal that has ended stays so",
        "		r = put_state(journal, JOURNAL_ENDED, err);",
        "		r = put_state(journal, journal->mark.state, err);"),
    "ring-written-over": Mutant(
        "a full journal takes more", [], "broken: nothing fails while there is power",
        "return end - tail > journal->head.ring_bytes ? -ENOSPC : 0;",
        "return end < tail ? -ENOSPC : 0;"),
    "found-and-not-durable": Mutant(
        "what a process that died left in memory counts as durable", [],
        "[  FAILED  ] what_is_found_is_durable",
        "	r = storage_sync(file);\n	if (r < 0)\n		return cannot(",
        "	if (r < 0)\n		return cannot("),
    "damage-taken-for-a-tail": Mutant(
        "an epoch that was acknowledged and is damaged is dropped", [],
        "[  FAILED  ] a_damaged_middle_is_refused_by_name",
        "	*ret_any = false;\n	for (uint64_t at = 0;",
        "	*ret_any = false;\n	for (uint64_t at = journal->head.ring_bytes;"),
    "clear-before-commit": Mutant(
        "a bit goes before the mirror has what was written", [],
        "broken: the maps name all in which the disks differ",
        "	return epoch >= intent->before_last && ",
        "	return "),
    "clear-before-own-sync": Mutant(
        "a bit goes while what was written is in the own disk's cache", [],
        "broken: the maps name all in which the disks differ",
        "	r = storage_sync(intent->disk);",
        "	r = 0;"),
    "write-before-intent": Mutant(
        "a write begins before its mark is durable", [],
        "broken: the maps name all in which the disks differ",
        "	durable = is_durable_locked(intent, first, end);\n	pthread_mutex_unlock(&intent->lock);\n"
        "	return durable;\n}\n\nbool intent_is_durable(",
        "	durable = true;\n	pthread_mutex_unlock(&intent->lock);\n	return durable;\n}\n\n"
        "bool intent_is_durable("),
    "damage-taken-for-clean": Mutant(
        "a damaged sector of a map counts as clean", [], "[  FAILED  ] damage_makes_bits",
        "memset(intent->durable + first, 0xff,",
        "memset(intent->durable + first, 0,"),
}

RING = {
    "place-used-while-it-is-written-from": Mutant(
        "a place is given again before its own write has ended", [],
        "[  FAILED  ] what_was_taken_stays_until_it_is_done",
        "if (!place->done || size >",
        "if (size >"),
    "taken-believed": Mutant(
        "who takes may say that it took what was never put", [],
        "[  FAILED  ] a_nonsensical_count_takes_nothing",
        "taken <= ring->put)",
        "taken <= ring->put + ring->bytes)"),
    "not-done-and-taken": Mutant(
        "an entry is sent whose write a disk that is read afterwards may not have", [],
        "[  FAILED  ] a_prefix_that_is_done",
        "	if (only_done && !entry.done)\n		return 0;",
        "	(void)only_done;"),
    "discard-not-mirrored": Mutant(
        "a discard is done here alone", [],
        "[  FAILED  ] discards_and_zeroes_are_mirrored",
        "	return request->op != BLOCK_READ && request->op != BLOCK_FLUSH;",
        "	return request->op == BLOCK_WRITE || request->op == BLOCK_WRITE_ZEROES;"),
    "written-from-the-guests-buffer": Mutant(
        "the disk is written from the guest's buffer, and not from the copy", [],
        "[  FAILED  ] the_disk_is_written_from_the_rings_copy",
        "	twin->request.iov = &flight->iov;\n	twin->request.n_iov = 1;",
        "	if (twin->above->len > len) {\n"
        "		twin->request.iov = &flight->iov;\n		twin->request.n_iov = 1;\n	}"),
    "begun-before-the-ring": Mutant(
        "new writes do not wait for what was under way when the ring came", [],
        "[  FAILED  ] what_began_before_the_ring_is_waited_for",
        "if (!block_mirror_settled(&mirror->filter.block) || !claim(",
        "if (!claim("),
    "half-in-another-ring": Mutant(
        "a large write goes on in another ring where it was in the one before", [],
        "[  FAILED  ] a_large_write_begins_anew_in_another_ring",
        "	if (flight->ended && flight->era != mirror->era)\n		flight->ended = 0;",
        ""),
    "overlaps-together": Mutant(
        "writes that overlap are below at once", [],
        "broken: of writes that overlap one at a time is below",
        "if (other->from < flight->to && flight->from < other->to)\n			return true;",
        "(void)other;"),
}

HOLD = {
    "released-early": Mutant(
        "a frame leaves before its epoch is acknowledged", [],
        "[  FAILED  ] frames_leave_when_their_epoch_is_acknowledged",
        "	else if (epoch <= hold->acked)",
        "	else if (epoch <= hold->acked + 1)"),
    "tagged-with-the-next-epoch": Mutant(
        "a frame counts to the epoch after its own", [],
        "[  FAILED  ] frames_leave_when_their_epoch_is_acknowledged",
        "		.epoch = epoch_now(lane->hold),",
        "		.epoch = epoch_now(lane->hold) + 1,"),
    "newer-before-the-replay": Mutant(
        "what is sent after the opening does not wait for what is held", [],
        "[  FAILED  ] what_is_sent_after_the_opening_comes_last",
        "	return !lane->queue.n_items && !is_shut(lane->hold);",
        "	return !is_shut(lane->hold);"),
    "full-drops": Mutant(
        "a frame that finds no room is lost", [],
        "[  FAILED  ] a_full_queue_refuses_and_tells",
        "		add(&lane->counts.refused, 1);\n		return -EAGAIN;",
        "		add(&lane->counts.refused, 1);\n		return 0;"),
    "full-releases": Mutant(
        "a frame that finds no room leaves at once", [],
        "[  FAILED  ] a_full_queue_refuses_and_tells",
        "	q->starved |= r == -EAGAIN;\n	return r;",
        "	return r == -EAGAIN ? net_send(q->base.below, iov, n_iov) : r;"),
    "released-before-taken": Mutant(
        "what is acknowledged counts as released", [],
        "[  FAILED  ] a_full_back_end_is_waited_for",
        "	return MIN(may, first - 1);",
        "	return first ? may : 0;"),
    "old-ones-leave": Mutant(
        "an owner that stood still sends what was acknowledged long ago", [],
        "[  FAILED  ] frames_that_waited_too_long_for_their_turn_are_dropped",
        "return clock_now(hold->clock) > hold->acks[i].at_ns + HOLD_AGE_NS;",
        "return clock_now(hold->clock) < hold->acks[i].at_ns;"),
    "replay-of-what-had-left": Mutant(
        "a new owner repeats all that its checkpoints have", [],
        "[  FAILED  ] sections_follow_each_other",
        "	skip = progress->gone > progress->at ? MIN(progress->gone - progress->at, len) : 0;",
        "	skip = 0;"),
    "replay-out-of-order": Mutant(
        "a new owner repeats frames in another order", [], "broken: ",
        "	while (r == 0 && lane && (n = epoch_queue_at(&lane->queue, &position, &item, iov)))\n"
        "		if (is_wanted(&item, section))",
        "	for (int odd = 1; lane && odd >= 0; odd--)\n"
        "		for (position = lane->queue.head;\n"
        "		     r == 0 && (n = epoch_queue_at(&lane->queue, &position, &item, iov));)\n"
        "		if (is_wanted(&item, section) && (int)(item.len & 1) == odd)"),
    "checkpoint-without-its-epoch": Mutant(
        "a checkpoint lacks what its own epoch put out", [], "broken: ",
        "item->epoch <= section->up_to;",
        "item->epoch < section->up_to;"),
    "printed-early": Mutant(
        "what is printed leaves while the hold is shut", [],
        "[  FAILED  ] bytes_leave_when_their_epoch_is_acknowledged",
        "	if (hold_lane_passes(&sh->lane))",
        "	if (!sh->lane.queue.n_bytes)"),
    "printed-with-gaps": Mutant(
        "what a slow reader does not take at once is lost", [],
        "[  FAILED  ] a_world_that_reads_slowly_loses_nothing",
        "			hold_lane_took(&sh->lane, n, false);",
        "			hold_lane_took(&sh->lane, iov[0].iov_len, false);"),
}

MUTANTS = {**HANDOVER, **DISKS, **OWNERSHIP, **NUMBERS, **GUEST, **EPOCHS, **ARBITER, **MIRROR, **RING, **HOLD}


def make(name, source, copy):
    mutant = MUTANTS[name]
    with open(source, encoding="utf-8") as file:
        text = file.read()
    # However the form of the house breaks lines there.
    places = re.findall(r"\s+".join(map(re.escape, mutant.before.split())), text)
    if len(places) != 1:
        sys.exit(f"mutant {name}: its place occurs {len(places)} times in {source}; "
                 "write it anew for what stands there now")
    with open(copy, "w", encoding="utf-8") as file:
        file.write(text.replace(places[0], mutant.after.lstrip()))


def judge(name, program):
    mutant = MUTANTS[name]
    done = subprocess.run([program] + mutant.arguments, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, text=True, timeout=300, check=False)
    print(done.stdout, end="")
    if done.returncode <= 0 or mutant.finds not in done.stdout:
        sys.exit(f"mutant {name}: {mutant.about}, and the test did not say '{mutant.finds}'")
    print(f"mutant {name}: found")


if __name__ == "__main__":
    {"make": make, "judge": judge}[sys.argv[1]](*sys.argv[2:])
