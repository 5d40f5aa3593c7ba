/* SPDX-License-Identifier: Apache-2.0 */

/* Packets that let the guest go on: vCont, and the older c, s, C, S. */

#include <errno.h>

#include "debug/gdb_commands.h"

static void all(enum gdb_action *actions, enum gdb_action action)
{
	for (uint32_t i = 0; i < LIMIT_VCPUS; i++)
		actions[i] = action;
}

static int resume(struct gdb_session *session, const enum gdb_action *actions)
{
	int r = session->ops->resume(session->guest, actions);

	session->running = r == 0;
	return r;
}

/* An address where to go on, if there is one. */
static int take_address(struct gdb_session *session, struct gdb_text *text)
{
	struct gdb_registers registers;
	uint64_t address;
	int r;

	if (!gdb_text_left(text))
		return 0;
	if (!gdb_text_number(text, &address) || gdb_text_left(text))
		return -EINVAL;
	r = session->ops->get_registers(session->guest, session->vcpu, &registers);
	if (r < 0)
		return r;
	registers.regs.rip = address;
	return session->ops->set_registers(session->guest, session->vcpu, &registers);
}

int gdb_continue(struct gdb_session *session, struct gdb_text *text)
{
	enum gdb_action actions[LIMIT_VCPUS];
	int r = take_address(session, text);

	all(actions, GDB_RUN);
	return r < 0 ? r : resume(session, actions);
}

int gdb_step(struct gdb_session *session, struct gdb_text *text)
{
	enum gdb_action actions[LIMIT_VCPUS];
	int r = take_address(session, text);

	all(actions, GDB_RUN);
	actions[session->vcpu] = GDB_STEP;
	return r < 0 ? r : resume(session, actions);
}

/* A machine has no signals: the number is stepped over. */
static int skip_signal(struct gdb_text *text)
{
	uint64_t number;

	if (!gdb_text_number(text, &number) || number > 0xff)
		return -EINVAL;
	return gdb_text_left(text) && !gdb_text_skip(text, ";") ? -EINVAL : 0;
}

int gdb_continue_signal(struct gdb_session *session, struct gdb_text *text)
{
	int r = skip_signal(text);

	return r < 0 ? r : gdb_continue(session, text);
}

int gdb_step_signal(struct gdb_session *session, struct gdb_text *text)
{
	int r = skip_signal(text);

	return r < 0 ? r : gdb_step(session, text);
}

/* c, s, Csig, Ssig: what to do. */
static int take_action(struct gdb_text *text, enum gdb_action *ret_action)
{
	uint64_t signal;

	if (gdb_text_skip(text, "c") || gdb_text_skip(text, "s")) {
		*ret_action = text->at[-1] == 's' ? GDB_STEP : GDB_RUN;
		return 0;
	}
	if (gdb_text_skip(text, "C") || gdb_text_skip(text, "S")) {
		*ret_action = text->at[-1] == 'S' ? GDB_STEP : GDB_RUN;
		return gdb_text_number(text, &signal) ? 0 : -EINVAL;
	}
	return -EINVAL;
}

/* For each vCPU, of the actions that name it or all, the first holds. */
struct plan {
	enum gdb_action actions[LIMIT_VCPUS];
	bool decided[LIMIT_VCPUS];
};

static void decide(struct plan *plan, uint32_t vcpu, enum gdb_action action)
{
	if (!plan->decided[vcpu])
		plan->actions[vcpu] = action;
	plan->decided[vcpu] = true;
}

static int take_one(struct gdb_session *session, struct gdb_text *text, struct plan *plan)
{
	enum gdb_action action;
	uint32_t vcpu = 0;
	bool any = true;
	int r = take_action(text, &action);

	if (r == 0 && gdb_text_skip(text, ":"))
		r = gdb_take_thread(session, text, &vcpu, &any);
	if (r < 0)
		return r;
	if (!any)
		decide(plan, vcpu, action);
	for (uint32_t i = 0; any && i < session->ops->n_vcpus(session->guest); i++)
		decide(plan, i, action);
	return 0;
}

int gdb_vcont(struct gdb_session *session, struct gdb_text *text)
{
	struct plan plan = { 0 };
	int r = 0;

	if (gdb_text_skip(text, "?"))
		return gdb_answer(session, "vCont;c;C;s;S");
	if (!gdb_text_left(text))
		return -EINVAL;
	while (r == 0 && gdb_text_left(text))
		r = gdb_text_skip(text, ";") ? take_one(session, text, &plan) : -EINVAL;
	return r < 0 ? r : resume(session, plan.actions);
}
