/* SPDX-License-Identifier: Apache-2.0 */
/* Both guards as utsusu-move runs them: in the sandbox, where a system call that it does not know ends the process. */
#include "guard_rig.h"

#include <jansson.h>

#include "host/sandbox.h"

static void enter(enum move_role role)
{
	assert_int_equal(
		sandbox_enter_thread(SANDBOX_MOVER, role == MOVE_OWNER ? SANDBOX_SCANS : 0), 0);
}

static void a_life_in_the_sandbox(void **state _unused_)
{
	struct guard_rig *rig = guard_rig_new();

	rig->enter = enter;
	rig->guest.failover_at = 20;
	rig->guest.not_now = 1;
	guard_rig_run(rig);
	if (rig->backup_end != MOVE_END_RAN || rig->owner_end != MOVE_END_RAN)
		fail_msg("owner: %s; backup: %s", rig->owner_error.message,
			 rig->backup_error.message);
	assert_copy_is(rig, rig->guest.cut, true);
	guard_rig_free(rig);
}

static void a_silence_in_the_sandbox(void **state _unused_)
{
	struct guard_rig *rig = guard_rig_new();

	rig->enter = enter;
	rig->owner_job.detect_ms = rig->backup_job.detect_ms = 300;
	rig->backup_job.journal_bytes = MIB(4);
	rig->guest.freeze_at = 20;
	guard_rig_run(rig);
	assert_int_equal(rig->backup_end, MOVE_END_RAN);
	assert_copy_is(rig, rig->copy.whole, true);
	guard_rig_free(rig);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_life_in_the_sandbox),
		cmocka_unit_test(a_silence_in_the_sandbox),
	};

	sandbox_before_threads();
	json_object_seed(1); /* as reading a job does */
	return cmocka_run_group_tests(tests, NULL, NULL);
}
