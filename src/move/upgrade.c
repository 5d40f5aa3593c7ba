/* SPDX-License-Identifier: Apache-2.0 */
#include "move/upgrade.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/socket.h>

#include "base/cleanup.h"
#include "base/fd.h"
#include "host/succession.h"

struct upgrade {
	const struct upgrade_settings *settings;
	struct problems *problems;
	struct move_link *old, *heir; /* heir: owned */
	struct move_facts facts, heir_facts;
	struct move_shared shared;
	struct failpoint failpoint;
	uint8_t token[MOVE_TOKEN_BYTES];
	int succession_fd;
	struct succession *succession;
	uint16_t version; /* of the state */
	bool begun, taken;
	struct move_gift gift;
	uint64_t started_ns, ran_ns;
	struct upgrade_numbers numbers;
	struct error error; /* the first */
};

static int pass(struct upgrade *upgrade, enum failpoint_name name)
{
	int r = failpoint(&upgrade->failpoint, name);

	return r < 0 ? error_set(&upgrade->error, r, EXIT_STATUS_FAILED, "failpoint %s",
				 failpoint_text(name))
		     : 0;
}

static void tell_phase(const struct upgrade *upgrade, enum handover_phase phase)
{
	if (upgrade->settings->phase)
		upgrade->settings->phase(upgrade->settings->ctx, phase);
}

/* ---- while the guest runs ---- */

static int check(struct upgrade *upgrade)
{
	int r;

	tell_phase(upgrade, PHASE_CHECK);
	r = upgrade->old->ops->facts(upgrade->old, &upgrade->facts, &upgrade->error);
	if (r == 0)
		r = upgrade->old->ops->check_upgrade(upgrade->old, upgrade->problems);
	if (!upgrade->problems->count)
		return r;
	upgrade->error = upgrade->problems->list[0];
	return upgrade->error.code;
}

static int prepare(struct upgrade *upgrade)
{
	int r = move_shared_make(upgrade->facts.ram_bytes, &upgrade->shared);

	if (r == 0)
		r = upgrade->succession_fd = succession_make();
	if (r >= 0)
		r = succession_map(upgrade->succession_fd, &upgrade->succession);
	if (r == 0 &&
	    getrandom(upgrade->token, sizeof(upgrade->token), 0) != sizeof(upgrade->token))
		r = -EIO;
	return r;
}

/* What the old process has open waits in the socket until the new one is there. */
static int launch(struct upgrade *upgrade)
{
	const struct upgrade_settings *settings = upgrade->settings;
	int heir[2], r;

	tell_phase(upgrade, PHASE_RESERVE);
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, heir) < 0)
		return -errno;
	r = upgrade->old->ops->hand_over(upgrade->old, upgrade->token, upgrade->shared.fd,
					 upgrade->succession_fd, heir[0], &upgrade->error);
	upgrade->begun = r == 0;
	if (r == 0)
		r = pass(upgrade, FAILPOINT_UPGRADE_BEGUN);
	if (r == 0)
		r = settings->launch(settings->ctx, &upgrade->facts, upgrade->succession_fd, heir,
				     &upgrade->heir, &upgrade->error);
	fd_close(heir[0]);
	fd_close(heir[1]);
	return r < 0 ? r : pass(upgrade, FAILPOINT_UPGRADE_LAUNCHED);
}

/* The highest version of the state that both know. */
static int choose_version(struct upgrade *upgrade)
{
	const struct move_facts *old = &upgrade->facts, *heir = &upgrade->heir_facts;

	upgrade->version = MIN(old->state_max, heir->state_max);
	if (upgrade->version >= MAX(old->state_min, heir->state_min))
		return 0;
	return error_set(&upgrade->error, -EPROTONOSUPPORT, EXIT_STATUS_FAILED,
			 "%s: its state is of versions %u to %u, the new program knows %u to %u; "
			 "take a version between first",
			 old->name, old->state_min, old->state_max, heir->state_min,
			 heir->state_max);
}

/* Of a call to the new process: one that ended is not the VM that people know by this name. */
static int of_heir(struct upgrade *upgrade, int r)
{
	if (r != -ECONNRESET)
		return r;
	upgrade->error = (struct error){ 0 };
	return error_set(&upgrade->error, r, EXIT_STATUS_FAILED,
			 "%s: the new version's process ended; it goes on in the old one",
			 upgrade->facts.name);
}

static int inherit(struct upgrade *upgrade)
{
	int r = upgrade->heir->ops->facts(upgrade->heir, &upgrade->heir_facts, &upgrade->error);

	if (r == 0)
		r = choose_version(upgrade);
	if (r == 0)
		r = upgrade->heir->ops->inherit(upgrade->heir, upgrade->token, upgrade->shared.fd,
						upgrade->succession_fd, &upgrade->error);
	return of_heir(upgrade, r);
}

/* What the new program, or this host's KVM, does not take is refused here. */
static int rehearse(struct upgrade *upgrade)
{
	uint64_t len;
	int r;

	tell_phase(upgrade, PHASE_REHEARSE);
	r = upgrade->old->ops->save(upgrade->old, upgrade->version, &len, &upgrade->error);
	if (r == 0)
		r = of_heir(upgrade,
			    upgrade->heir->ops->load(upgrade->heir, len, 0, true, &upgrade->error));
	return r < 0 ? r : pass(upgrade, FAILPOINT_UPGRADE_REHEARSED);
}

/* ---- while it stands still ---- */

/* Either side decides the word when nothing comes from here, so nothing is waited for with it standing. */
static int hand_on(struct upgrade *upgrade)
{
	bool ran = false;
	int r;

	tell_phase(upgrade, PHASE_STOP);
	r = upgrade->old->ops->give(upgrade->old, UPGRADE_STOP_MS, upgrade->version, &upgrade->gift,
				    &upgrade->error);
	if (r == 0)
		r = pass(upgrade, FAILPOINT_UPGRADE_GIVEN);
	if (r == 0)
		r = of_heir(upgrade,
			    upgrade->heir->ops->take(upgrade->heir, upgrade->gift.state_len,
						     upgrade->gift.moment_ns, &ran,
						     &upgrade->ran_ns, &upgrade->error));
	if (r == 0 && !ran)
		r = error_set(&upgrade->error, -ETIMEDOUT, EXIT_STATUS_FAILED,
			      "%s: the new version was too late; it goes on in the old one",
			      upgrade->facts.name);
	return r < 0 ? r : pass(upgrade, FAILPOINT_UPGRADE_RAN);
}

static int run(struct upgrade *upgrade)
{
	static int (*const steps[])(struct upgrade *) = { check,   prepare,  launch,
							  inherit, rehearse, hand_on };
	const size_t n = ARRAY_SIZE(steps) - (upgrade->settings->check ? 1 : 0);
	int r = failpoint_parse(upgrade->settings->failpoint, &upgrade->failpoint, &upgrade->error);

	for (size_t i = 0; r == 0 && i < n; i++)
		r = steps[i](upgrade);
	return r;
}

/* ---- how it ended ---- */

static void warn(char warning[UPGRADE_WARNING], const char *text)
{
	if (!warning[0])
		snprintf(warning, UPGRADE_WARNING, "%s", text);
}

/* The old process may be standing: it hears of it first. */
static void keep_old(struct upgrade *upgrade, char warning[UPGRADE_WARNING])
{
	struct error unheard = { 0 };

	if (upgrade->begun && upgrade->old->ops->never(upgrade->old, upgrade->token, &unheard) < 0)
		(void)!upgrade->old->ops->cancel(upgrade->old, &unheard);
	if (upgrade->heir && upgrade->heir->ops->end(upgrade->heir, UPGRADE_END_MS) < 0)
		warn(warning, "the new version's process does not end; it does not run the VM");
}

static void end_old(struct upgrade *upgrade, char warning[UPGRADE_WARNING])
{
	struct error unheard = { 0 };

	tell_phase(upgrade, PHASE_END);
	/* Where it is not heard, the end of our connection says the same. */
	(void)!upgrade->old->ops->ran(upgrade->old, upgrade->token, "a new version", &unheard);
	if (upgrade->old->ops->end(upgrade->old, UPGRADE_END_MS) < 0)
		warn(warning, "the old version's process does not end; it does not run the VM");
}

/* Whatever did not answer: the word does. Asked for KEPT only when it failed, and then it may have been taken all the same. */
static int settle(struct upgrade *upgrade, int r, char warning[UPGRADE_WARNING])
{
	if (r < 0 && upgrade->succession &&
	    succession_decide(upgrade->succession, SUCCESSION_KEPT) == SUCCESSION_PASSED)
		r = 0;
	upgrade->taken = upgrade->succession &&
			 succession_read(upgrade->succession) == SUCCESSION_PASSED;
	if (upgrade->taken)
		end_old(upgrade, warning);
	else
		keep_old(upgrade, warning);
	return r;
}

static void take_numbers(struct upgrade *upgrade)
{
	struct upgrade_numbers *numbers = &upgrade->numbers;

	numbers->total_ns = clock_now(upgrade->settings->clock) - upgrade->started_ns;
	numbers->state_bytes = upgrade->gift.state_len;
	if (upgrade->ran_ns > upgrade->gift.stopped_at_ns && upgrade->gift.stopped_at_ns)
		numbers->down_ns = upgrade->ran_ns - upgrade->gift.stopped_at_ns;
	memcpy(numbers->from, upgrade->facts.version, sizeof(numbers->from));
	memcpy(numbers->to, upgrade->heir_facts.version, sizeof(numbers->to));
}

static void release(struct upgrade *upgrade)
{
	if (upgrade->heir)
		upgrade->heir->ops->free(upgrade->heir);
	move_facts_release(&upgrade->facts);
	move_facts_release(&upgrade->heir_facts);
	move_shared_release(&upgrade->shared);
	succession_unmap(upgrade->succession);
	fd_close(upgrade->succession_fd);
	free(upgrade);
}

int move_upgrade(const struct upgrade_settings *settings, struct problems *problems,
		 struct upgrade_numbers *ret_numbers, char ret_warning[UPGRADE_WARNING],
		 struct error *err)
{
	struct upgrade *upgrade = calloc(1, sizeof(*upgrade));
	int r;

	if (!upgrade)
		return error_set(err, -ENOMEM, EXIT_STATUS_HOST, "no memory to upgrade; free some");
	upgrade->settings = settings;
	upgrade->problems = problems;
	upgrade->old = settings->old;
	upgrade->facts.ram_fd = upgrade->heir_facts.ram_fd = -1;
	upgrade->shared.fd = upgrade->succession_fd = -1;
	upgrade->started_ns = clock_now(settings->clock);
	ret_warning[0] = '\0';
	r = run(upgrade);
	r = settle(upgrade, r, ret_warning);
	take_numbers(upgrade);
	*ret_numbers = upgrade->numbers;
	if (r < 0) {
		error_set(&upgrade->error, r, EXIT_STATUS_FAILED, "%s: cannot be upgraded: %s",
			  upgrade->facts.name, strerror(-r));
		*err = upgrade->error;
	}
	release(upgrade);
	return r;
}
