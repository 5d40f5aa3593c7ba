/* SPDX-License-Identifier: Apache-2.0 */

/* How the VM's process takes part in its protection: what guard and relay ask goes to protect/guest/guest.h, what that tells comes here. */

#include "programs/vm_process.h"

#include <errno.h>
#include <string.h>

static void swap(void *ctx, const void *owner, const struct ownership_record *want)
{
	struct vm_process *process = ctx;

	api_server_swap(process->server, owner, want);
}

static void tell_relay(void *ctx, const void *owner, const char *what,
		       const struct ownership_record *record)
{
	struct vm_process *process = ctx;

	api_server_tell_relay(process->server, owner, what, record);
}

static void tell_guard(void *ctx, const void *owner, const char *what, bool ran, const char *why)
{
	struct vm_process *process = ctx;

	api_server_tell_guard(process->server, owner, what, ran, why);
}

struct protect_news {
	const char *what, *event, *line; /* NULL: not told so */
};

/* For people each is a line of the log; programs that wait for events know them by a word. */
static void changed(void *ctx, const char *what, const char *why)
{
	static const struct protect_news news[] = {
		{ "protected", "protected", "protected from here on" },
		{ "solo", "unprotected", "runs without a backup" },
		{ "took-over", "took-over", "took over; it runs here now" },
		{ "backup-lost", "backup-lost", "its backup is lost" },
		{ "deposed", "deposed", "was claimed by its backup; what it puts out is held" },
		{ "suspects", "suspects", "its owner is silent; this copy takes over" },
		{ "take-over-failed", "take-over-failed", "this copy cannot take over" },
		{ "foreign", NULL, "runs without an arbiter's leave" },
	};
	struct vm_process *process = ctx;

	for (size_t i = 0; i < ARRAY_SIZE(news); i++) {
		if (strcmp(news[i].what, what) != 0)
			continue;
		log_line(&process->log, LOG_LEVEL_INFO, "%s%s%s", news[i].line, *why ? ": " : "",
			 why);
		if (news[i].event)
			api_server_changed(process->server, news[i].event, *why ? why : NULL);
	}
}

static void arrived(void *ctx)
{
	struct vm_process *process = ctx;

	process->started_ns = clock_now(loop_clock(process->loop));
	if (process->vm->status != VM_PAUSED)
		api_server_event(process->server, API_EVENT_RUNNING, NULL);
}

/* What runs elsewhere must do nothing more: its threads would still write to disks and send. */
static void over(void *ctx, bool ran, const char *why)
{
	struct vm_process *process = ctx;

	if (ran)
		vm_process_leave_at_once(process, why);
	log_line(&process->log, LOG_LEVEL_INFO, "%s", why);
	vm_end(process->vm, VM_END_POWER_OFF, why);
}

/* For moves, saves and upgrades. */
void vm_process_check_protect(void *ctx, struct problems *problems)
{
	const struct vm_process *process = ctx;
	const char *name = process->launch.config.name;
	struct error err = { 0 };

	if (!process->protect || !protect_guest_is_busy(process->protect))
		return;
	error_set(&err, -EBUSY, EXIT_STATUS_BUSY,
		  "%s: is protected, or a backup; end that first (utsusu protect %s --off), or "
		  "protect it to where it shall go and then: utsusu failover %s",
		  name, name, name);
	problems_add(problems, &err);
}

int vm_process_make_protect(struct vm_process *process)
{
	const struct protect_guest_events events = {
		.swap = swap,
		.tell_relay = tell_relay,
		.tell_guard = tell_guard,
		.changed = changed,
		.arrived = arrived,
		.over = over,
		.ctx = process,
	};

	return protect_guest_new(process->vm, process->move, &events, &process->protect);
}

struct protect_guest *vm_process_protect_guest(void *ctx)
{
	return ((struct vm_process *)ctx)->protect;
}

bool vm_process_ends_later(void *ctx)
{
	struct vm_process *process = ctx;

	if (!process->protect || !protect_guest_ends(process->protect))
		return false;
	log_line(&process->log, LOG_LEVEL_INFO,
		 "ends as soon as its backup has all of it and the arbiter's record says so");
	return true;
}

const char *vm_process_protection(const struct vm_process *process)
{
	struct protect_facts facts;

	protect_guest_facts(process->protect, &facts);
	if (facts.foreign)
		return "foreign";
	return facts.ownership ? ownership_role_name(facts.ownership->role) : NULL;
}
