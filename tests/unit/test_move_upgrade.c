/* SPDX-License-Identifier: Apache-2.0 */

/* An upgrade between two VMs of this process that have one RAM: who runs it, whatever fails, and that nothing of it is lost. */

#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "check.h"
#include "host/succession.h"
#include "move/upgrade.h"
#include "near_link.h"
#include "vm/save.h"

struct rig {
	struct near_vm old, heir;
	struct move_link *link;
	const char *heir_loses; /* the op whose answer is lost, and after it all */
	uint16_t heir_min, heir_max;
	const char *failpoint;
	bool check, no_heir;
	int launches;
	struct problems problems;
	struct upgrade_numbers numbers;
	char warning[UPGRADE_WARNING];
	struct error err;
};

static int launch(void *ctx, const struct move_facts *facts, int succession_fd _unused_,
		  int heir[2] _unused_, struct move_link **ret_link, struct error *err)
{
	struct rig *rig = ctx;

	rig->launches++;
	assert_string_equal(facts->name, "guest");
	if (rig->no_heir)
		return error_set(err, -ENOENT, EXIT_STATUS_FAILED, "no such program");
	near_vm_start_heir(&rig->heir, &rig->old);
	rig->heir.state_min = rig->heir_min;
	rig->heir.state_max = rig->heir_max;
	*ret_link = near_link_new(&rig->heir, rig->heir_loses);
	return 0;
}

static void set_up(struct rig *rig)
{
	*rig = (struct rig){ .failpoint = "" };
	near_vm_start(&rig->old, false, true);
	assert_true(near_vm_runs(&rig->old, true));
	rig->link = near_link_new(&rig->old, NULL);
}

static int upgrade(struct rig *rig)
{
	const struct upgrade_settings settings = {
		.old = rig->link,
		.launch = launch,
		.ctx = rig,
		.clock = &clock_host,
		.failpoint = rig->failpoint,
		.check = rig->check,
	};

	return move_upgrade(&settings, &rig->problems, &rig->numbers, rig->warning, &rig->err);
}

static void tear_down(struct rig *rig)
{
	rig->link->ops->free(rig->link);
	if (rig->heir.vm)
		near_vm_free(&rig->heir);
	near_vm_free(&rig->old);
}

static bool ended(struct near_vm *near)
{
	bool yes;

	pthread_mutex_lock(&near->lock);
	yes = near->ended;
	pthread_mutex_unlock(&near->lock);
	return yes;
}

static void assert_heir_runs(struct rig *rig)
{
	assert_true(near_vm_runs(&rig->heir, true));
	assert_false(near_vm_runs(&rig->old, false));
	assert_true(ended(&rig->old));
}

/* As if nothing had been, and could be upgraded again. */
static void assert_old_runs(struct rig *rig)
{
	assert_true(near_vm_runs(&rig->old, true));
	assert_int_equal(move_guest_stage(rig->old.move), MOVE_IDLE);
	assert_false(__atomic_load_n(&rig->old.doors_closed, __ATOMIC_ACQUIRE));
	if (rig->heir.vm) {
		assert_false(near_vm_runs(&rig->heir, false));
		assert_true(ended(&rig->heir));
		assert_int_equal(__atomic_load_n(&rig->heir.guest.turns, __ATOMIC_ACQUIRE), 0);
	}
}

static void the_guest_goes_on_in_the_other(void **state _unused_)
{
	struct rig rig;

	set_up(&rig);
	if (upgrade(&rig) < 0)
		fail_msg("%s", rig.err.message);
	assert_heir_runs(&rig);
	assert_true(rig.numbers.down_ns > 0 && rig.numbers.down_ns < rig.numbers.total_ns);
	assert_true(rig.numbers.state_bytes > 0);
	/* Never both: the last turn here was before the first there. */
	assert_true(rig.old.guest.last_ns <= rig.heir.guest.first_ns);
	assert_string_equal(rig.warning, "");
	tear_down(&rig);
}

static void a_paused_guest_stays_paused(void **state _unused_)
{
	struct rig rig;

	set_up(&rig);
	near_vm_pause(&rig.old);
	if (upgrade(&rig) < 0)
		fail_msg("%s", rig.err.message);
	assert_false(near_vm_runs(&rig.heir, false) || near_vm_runs(&rig.old, false));
	near_vm_resume(&rig.heir);
	assert_heir_runs(&rig);
	tear_down(&rig);
}

/* An older one would let it run. */
static void a_paused_guest_does_not_go_back(void **state _unused_)
{
	struct rig rig;

	set_up(&rig);
	near_vm_pause(&rig.old);
	rig.heir_min = rig.heir_max = VM_STATE_PAUSED_SINCE - 1;
	assert_int_equal(upgrade(&rig), -EPROTONOSUPPORT);
	assert_non_null(strstr(rig.err.message, "is paused"));
	assert_false(near_vm_runs(&rig.old, false));
	near_vm_resume(&rig.old);
	assert_old_runs(&rig);
	tear_down(&rig);
}

/* What the guest writes there is in the RAM that it had here. */
static void both_have_one_ram(void **state _unused_)
{
	uint64_t here, there, mark = 0x1122334455667788ULL;
	struct rig rig;

	set_up(&rig);
	assert_int_equal(memory_write(rig.old.vm->memory, gpa(MIB(60)), &mark, sizeof(mark)), 0);
	assert_int_equal(upgrade(&rig), 0);
	assert_int_equal(memory_read(rig.heir.vm->memory, gpa(MIB(60)), &there, sizeof(there)), 0);
	assert_int_equal(there, mark);
	mark = ~mark;
	assert_int_equal(memory_write(rig.heir.vm->memory, gpa(MIB(60)), &mark, sizeof(mark)), 0);
	assert_int_equal(memory_read(rig.old.vm->memory, gpa(MIB(60)), &here, sizeof(here)), 0);
	assert_int_equal(here, mark);
	tear_down(&rig);
}

static void a_check_changes_nothing(void **state _unused_)
{
	struct rig rig;

	set_up(&rig);
	rig.check = true;
	assert_int_equal(upgrade(&rig), 0);
	assert_int_equal(rig.launches, 1);
	assert_old_runs(&rig);
	near_vm_free(&rig.heir);
	rig.link->ops->free(rig.link);
	rig.link = near_link_new(&rig.old, NULL);
	rig.check = false;
	assert_int_equal(upgrade(&rig), 0);
	assert_heir_runs(&rig);
	tear_down(&rig);
}

static void what_stands_against_it_is_told_before(void **state _unused_)
{
	struct rig rig;

	set_up(&rig);
	rig.old.config.n_nets = 1;
	rig.old.config.nets[0] = (struct net_config){ .kind = NET_USER, .vhost = true };
	assert_true(upgrade(&rig) < 0);
	assert_int_equal(rig.problems.count, 2);
	assert_non_null(strstr(rig.err.message, "vhost"));
	assert_int_equal(rig.launches, 0);
	rig.old.config.n_nets = 0;
	assert_old_runs(&rig);
	tear_down(&rig);
}

static void a_program_that_cannot_be_started_is_told(void **state _unused_)
{
	struct rig rig;

	set_up(&rig);
	rig.no_heir = true;
	assert_int_equal(upgrade(&rig), -ENOENT);
	assert_string_equal(rig.err.message, "no such program");
	assert_old_runs(&rig);
	tear_down(&rig);
}

static void versions_too_far_apart_are_refused(void **state _unused_)
{
	struct rig rig;

	set_up(&rig);
	rig.heir_min = rig.heir_max = 9;
	assert_int_equal(upgrade(&rig), -EPROTONOSUPPORT);
	assert_non_null(strstr(rig.err.message, "take a version between"));
	assert_old_runs(&rig);
	tear_down(&rig);
}

/* A program of before the machine's section. */
static void an_older_state_passes_too(void **state _unused_)
{
	struct rig rig;

	set_up(&rig);
	rig.heir_min = rig.heir_max = 1;
	assert_int_equal(upgrade(&rig), 0);
	assert_heir_runs(&rig);
	tear_down(&rig);
}

static const char *const before_it_runs[] = { "upgrade.begun:error", "upgrade.launched:error",
					      "upgrade.rehearsed:error", "upgrade.given:error" };

static void whatever_fails_before_leaves_the_old_one(void **state _unused_)
{
	for (size_t i = 0; i < ARRAY_SIZE(before_it_runs); i++) {
		struct rig rig;

		set_up(&rig);
		rig.failpoint = before_it_runs[i];
		assert_int_equal(upgrade(&rig), -EIO);
		assert_non_null(strstr(rig.err.message, "failpoint upgrade."));
		assert_old_runs(&rig);
		tear_down(&rig);
	}
}

static void what_fails_once_it_runs_changes_nothing(void **state _unused_)
{
	struct rig rig;

	set_up(&rig);
	rig.failpoint = "upgrade.ran:error";
	assert_int_equal(upgrade(&rig), 0);
	assert_heir_runs(&rig);
	tear_down(&rig);
}

/* It has been done, or not: the word says. */
static void answers_that_get_lost_are_no_doubt(void **state _unused_)
{
	static const struct {
		const char *op;
		bool runs;
	} lost[] = {
		{ "facts", false }, { "inherit", false }, { "load", false }, { "take", true }
	};

	for (size_t i = 0; i < ARRAY_SIZE(lost); i++) {
		struct rig rig;

		set_up(&rig);
		rig.heir_loses = lost[i].op;
		assert_int_equal(upgrade(&rig) == 0, lost[i].runs);
		if (lost[i].runs)
			assert_heir_runs(&rig);
		else
			assert_old_runs(&rig);
		tear_down(&rig);
	}
}

/* ---- nobody drives it any more ---- */

struct step {
	struct rig *rig;
	struct move_shared shared;
	int succession;
	struct move_link *heir;
	struct move_gift gift;
};

static const uint8_t token[MOVE_TOKEN_BYTES] = { 7 };

static void come_to_given(struct step *step, struct rig *rig)
{
	struct error err = { 0 };
	uint64_t len;

	*step = (struct step){ .rig = rig, .succession = succession_make() };
	assert_int_equal(move_shared_make(NEAR_RAM, &step->shared), 0);
	assert_int_equal(rig->link->ops->hand_over(rig->link, token, step->shared.fd,
						   step->succession, STDERR_FILENO, &err),
			 0);
	near_vm_start_heir(&rig->heir, &rig->old);
	step->heir = near_link_new(&rig->heir, NULL);
	assert_int_equal(step->heir->ops->inherit(step->heir, token, step->shared.fd,
						  step->succession, &err),
			 0);
	assert_int_equal(rig->link->ops->save(rig->link, 0, &len, &err), 0);
	assert_int_equal(step->heir->ops->load(step->heir, len, 0, true, &err), 0);
	assert_true(near_vm_runs(&rig->old, true));
	assert_int_equal(
		rig->link->ops->give(rig->link, 10000, VM_STATE_VERSION, &step->gift, &err), 0);
	assert_false(near_vm_runs(&rig->old, false));
}

static void end_step(struct step *step)
{
	step->heir->ops->free(step->heir);
	move_shared_release(&step->shared);
	close(step->succession);
	tear_down(step->rig);
}

static void given_closes_the_doors(void **state _unused_)
{
	struct step step;
	struct rig rig;

	set_up(&rig);
	come_to_given(&step, &rig);
	assert_true(__atomic_load_n(&rig.old.doors_closed, __ATOMIC_ACQUIRE));
	assert_true(step.gift.moment_ns >= step.gift.stopped_at_ns);
	end_step(&step);
}

static void the_end_of_the_driver_brings_the_old_one_back(void **state _unused_)
{
	struct step step;
	struct rig rig;

	set_up(&rig);
	come_to_given(&step, &rig);
	rig.link->ops->free(rig.link);
	rig.link = near_link_new(&rig.old, NULL);
	assert_true(near_vm_runs(&rig.old, true));
	/* The new one, asked late, finds it decided. */
	step.heir->ops->free(step.heir);
	step.heir = near_link_new(&rig.heir, NULL);
	assert_old_runs(&rig);
	end_step(&step);
}

static void who_comes_late_does_not_run(void **state _unused_)
{
	struct error err = { 0 };
	uint64_t ran_ns;
	struct step step;
	struct rig rig;
	bool ran = true;

	set_up(&rig);
	come_to_given(&step, &rig);
	assert_int_equal(rig.link->ops->never(rig.link, token, &err), 0);
	assert_true(near_vm_runs(&rig.old, true));
	assert_int_equal(step.heir->ops->take(step.heir, step.gift.state_len, step.gift.moment_ns,
					      &ran, &ran_ns, &err),
			 0);
	assert_false(ran);
	assert_false(near_vm_runs(&rig.heir, false));
	end_step(&step);
}

static void what_runs_there_does_not_come_back(void **state _unused_)
{
	struct error err = { 0 };
	uint64_t ran_ns;
	struct step step;
	struct rig rig;
	bool ran = false;

	set_up(&rig);
	come_to_given(&step, &rig);
	assert_int_equal(step.heir->ops->take(step.heir, step.gift.state_len, step.gift.moment_ns,
					      &ran, &ran_ns, &err),
			 0);
	assert_true(ran && ran_ns > step.gift.stopped_at_ns);
	assert_int_equal(rig.link->ops->never(rig.link, token, &err), -EALREADY);
	assert_heir_runs(&rig);
	end_step(&step);
}

static void ran_is_not_believed_without_the_word(void **state _unused_)
{
	struct error err = { 0 };
	struct step step;
	struct rig rig;

	set_up(&rig);
	come_to_given(&step, &rig);
	assert_int_equal(rig.link->ops->ran(rig.link, token, "nowhere", &err), -EINVAL);
	assert_int_equal(rig.link->ops->never(rig.link, token, NULL), 0);
	assert_true(near_vm_runs(&rig.old, true));
	end_step(&step);
}

/* Nobody speaks: after five seconds the guest goes on here. */
static void silence_brings_the_old_one_back(void **state _unused_)
{
	struct step step;
	struct rig rig;

	set_up(&rig);
	come_to_given(&step, &rig);
	for (int i = 0; i < 300 && !near_vm_runs(&rig.old, false); i++)
		;
	assert_true(near_vm_runs(&rig.old, true));
	assert_int_equal(move_guest_stage(rig.old.move), MOVE_IDLE);
	end_step(&step);
}

static void a_vm_of_its_own_is_no_heir(void **state _unused_)
{
	struct error err = { 0 };
	struct move_shared shared;
	struct near_vm alone;
	struct move_link *link;
	int word = succession_make();

	near_vm_start(&alone, true, false);
	link = near_link_new(&alone, NULL);
	assert_int_equal(move_shared_make(NEAR_RAM, &shared), 0);
	assert_int_equal(link->ops->inherit(link, token, shared.fd, word, &err), -EINVAL);
	assert_int_equal(link->ops->take(link, 1, 1, &(bool){ 0 }, &(uint64_t){ 0 }, NULL),
			 -EINVAL);
	link->ops->free(link);
	near_vm_free(&alone);
	move_shared_release(&shared);
	close(word);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_guest_goes_on_in_the_other),
		cmocka_unit_test(a_paused_guest_stays_paused),
		cmocka_unit_test(a_paused_guest_does_not_go_back),
		cmocka_unit_test(both_have_one_ram),
		cmocka_unit_test(a_check_changes_nothing),
		cmocka_unit_test(what_stands_against_it_is_told_before),
		cmocka_unit_test(a_program_that_cannot_be_started_is_told),
		cmocka_unit_test(versions_too_far_apart_are_refused),
		cmocka_unit_test(an_older_state_passes_too),
		cmocka_unit_test(whatever_fails_before_leaves_the_old_one),
		cmocka_unit_test(what_fails_once_it_runs_changes_nothing),
		cmocka_unit_test(answers_that_get_lost_are_no_doubt),
		cmocka_unit_test(given_closes_the_doors),
		cmocka_unit_test(the_end_of_the_driver_brings_the_old_one_back),
		cmocka_unit_test(who_comes_late_does_not_run),
		cmocka_unit_test(what_runs_there_does_not_come_back),
		cmocka_unit_test(ran_is_not_believed_without_the_word),
		cmocka_unit_test(silence_brings_the_old_one_back),
		cmocka_unit_test(a_vm_of_its_own_is_no_heir),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
