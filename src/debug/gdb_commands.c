/* SPDX-License-Identifier: Apache-2.0 */
#include "debug/gdb_commands.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/cleanup.h"

#define SIGNAL_INT 2 /* GDB's numbers of signals, whatever the host's are */
#define SIGNAL_TRAP 5

int gdb_answer(struct gdb_session *session, const char *text)
{
	return buffer_append(&session->answer, text, strlen(text));
}

int gdb_answer_format(struct gdb_session *session, const char *format, ...)
{
	char text[512];
	va_list args;

	va_start(args, format);
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	return gdb_answer(session, text);
}

int gdb_take_thread(struct gdb_session *session, struct gdb_text *text, uint32_t *ret_vcpu,
		    bool *ret_any)
{
	uint64_t id;

	*ret_any = gdb_text_skip(text, "-1");
	if (*ret_any)
		return 0;
	if (!gdb_text_number(text, &id) || id > session->ops->n_vcpus(session->guest))
		return -EINVAL;
	*ret_any = id == 0;
	if (id)
		*ret_vcpu = (uint32_t)id - 1;
	return 0;
}

static int answer_ok(struct gdb_session *session)
{
	return gdb_answer(session, "OK");
}

/* What a client that asked for such words is told beside the signal. */
static int answer_reason(struct gdb_session *session)
{
	const struct gdb_stop *stop = &session->stop;

	switch (stop->reason) {
	case GDB_STOP_TRAP:
	case GDB_STOP_ASKED:
		return 0;
	case GDB_STOP_SOFTWARE_BREAKPOINT:
		return session->told_swbreak ? gdb_answer(session, "swbreak:;") : 0;
	case GDB_STOP_HARDWARE_BREAKPOINT:
		return session->told_hwbreak ? gdb_answer(session, "hwbreak:;") : 0;
	case GDB_STOP_WATCHPOINT:
	case GDB_STOP_ACCESS_WATCHPOINT:
		return gdb_answer_format(session, "%s:%llx;",
					 stop->reason == GDB_STOP_WATCHPOINT ? "watch" : "awatch",
					 (unsigned long long)stop->address);
	}
	return 0;
}

int gdb_answer_stop(struct gdb_session *session)
{
	int r = gdb_answer_format(session, "T%02x",
				  session->stop.reason == GDB_STOP_ASKED ? SIGNAL_INT
									 : SIGNAL_TRAP);

	if (r == 0)
		r = answer_reason(session);
	return r < 0 ? r : gdb_answer_format(session, "thread:%x;", session->stop.vcpu + 1);
}

static int why(struct gdb_session *session, struct gdb_text *text _unused_)
{
	return gdb_answer_stop(session);
}

/* Registers */

static int append_register(struct gdb_session *session, const struct gdb_registers *registers,
			   unsigned int number)
{
	uint8_t value[GDB_REGISTER_BYTES];

	gdb_register_get(registers, number, value);
	return gdb_hex_append(&session->answer, value, gdb_register_size(number));
}

static int read_registers(struct gdb_session *session, struct gdb_text *text _unused_)
{
	struct gdb_registers registers;
	int r = session->ops->get_registers(session->guest, session->vcpu, &registers);

	for (unsigned int i = 0; r == 0 && i < gdb_registers_count(); i++)
		r = append_register(session, &registers, i);
	return r;
}

static int take_register(struct gdb_text *text, struct gdb_registers *registers,
			 unsigned int number)
{
	uint8_t value[GDB_REGISTER_BYTES];

	if (!gdb_text_bytes(text, value, gdb_register_size(number)))
		return -EINVAL;
	return gdb_register_set(registers, number, value);
}

static int write_registers(struct gdb_session *session, struct gdb_text *text)
{
	struct gdb_registers registers;
	int r = session->ops->get_registers(session->guest, session->vcpu, &registers);

	for (unsigned int i = 0; r == 0 && i < gdb_registers_count(); i++)
		r = take_register(text, &registers, i);
	if (r == 0 && gdb_text_left(text))
		r = -EINVAL;
	if (r == 0)
		r = session->ops->set_registers(session->guest, session->vcpu, &registers);
	return r < 0 ? r : answer_ok(session);
}

static int take_register_number(struct gdb_text *text, unsigned int *ret_number)
{
	uint64_t number;

	if (!gdb_text_number(text, &number) || number >= gdb_registers_count())
		return -EINVAL;
	*ret_number = (unsigned int)number;
	return 0;
}

static int read_register(struct gdb_session *session, struct gdb_text *text)
{
	struct gdb_registers registers;
	unsigned int number;
	int r = take_register_number(text, &number);

	if (r == 0)
		r = session->ops->get_registers(session->guest, session->vcpu, &registers);
	return r < 0 ? r : append_register(session, &registers, number);
}

static int write_register(struct gdb_session *session, struct gdb_text *text)
{
	struct gdb_registers registers;
	unsigned int number;
	int r = take_register_number(text, &number);

	if (r == 0 && !gdb_text_skip(text, "="))
		r = -EINVAL;
	if (r == 0)
		r = session->ops->get_registers(session->guest, session->vcpu, &registers);
	if (r == 0)
		r = take_register(text, &registers, number);
	if (r == 0)
		r = session->ops->set_registers(session->guest, session->vcpu, &registers);
	return r < 0 ? r : answer_ok(session);
}

/* Memory */

/* addr,length - the length at most half a packet: it comes, or goes, as two digits for each byte. */
static int take_range(struct gdb_session *session, struct gdb_text *text,
		      struct gdb_access *ret_access)
{
	uint64_t len;

	*ret_access = (struct gdb_access){ .vcpu = session->vcpu, .physical = session->physical };
	if (!gdb_text_number(text, &ret_access->address) || !gdb_text_skip(text, ",") ||
	    !gdb_text_number(text, &len))
		return -EINVAL;
	if (len > LIMIT_GDB_PACKET / 2)
		return -E2BIG;
	ret_access->len = (size_t)len;
	return 0;
}

static int read_memory(struct gdb_session *session, struct gdb_text *text)
{
	_cleanup_(freep) uint8_t *bytes = NULL;
	struct gdb_access access;
	ssize_t n = take_range(session, text, &access);

	if (n < 0)
		return (int)n;
	bytes = malloc(access.len + 1);
	if (!bytes)
		return -ENOMEM;
	n = session->ops->read(session->guest, &access, bytes);
	return n < 0 ? (int)n : gdb_hex_append(&session->answer, bytes, (size_t)n);
}

static int write_bytes(struct gdb_session *session, const struct gdb_access *access,
		       const void *bytes)
{
	int r = access->len ? session->ops->write(session->guest, access, bytes) : 0;

	return r < 0 ? r : answer_ok(session);
}

static int write_memory(struct gdb_session *session, struct gdb_text *text)
{
	_cleanup_(freep) uint8_t *bytes = NULL;
	struct gdb_access access;
	int r = take_range(session, text, &access);

	if (r < 0)
		return r;
	bytes = malloc(access.len + 1);
	if (!bytes)
		return -ENOMEM;
	if (!gdb_text_skip(text, ":") || !gdb_text_bytes(text, bytes, access.len) ||
	    gdb_text_left(text))
		return -EINVAL;
	return write_bytes(session, &access, bytes);
}

/* The bytes themselves; the framing has undone their escapes. */
static int write_memory_binary(struct gdb_session *session, struct gdb_text *text)
{
	struct gdb_access access;
	int r = take_range(session, text, &access);

	if (r < 0)
		return r;
	if (!gdb_text_skip(text, ":") || gdb_text_left(text) != access.len)
		return -EINVAL;
	return write_bytes(session, &access, text->at);
}

/* Breakpoints: type,address,kind. What may follow (conditions, commands) is never offered to the client. */
static int set_breakpoint(struct gdb_session *session, struct gdb_text *text, bool insert)
{
	struct gdb_access where;
	uint64_t type;
	int r;

	if (!gdb_text_number(text, &type) || !gdb_text_skip(text, ","))
		return -EINVAL;
	if (type > GDB_WATCHPOINT_ACCESS)
		return 0;
	r = take_range(session, text, &where);
	where.physical = false;
	if (r == 0 && gdb_text_left(text))
		r = -EINVAL;
	if (r == 0)
		r = session->ops->breakpoint(session->guest, insert, (enum gdb_breakpoint)type,
					     &where);
	if (r == -EOPNOTSUPP)
		return 0;
	return r < 0 ? r : answer_ok(session);
}

static int insert_breakpoint(struct gdb_session *session, struct gdb_text *text)
{
	return set_breakpoint(session, text, true);
}

static int remove_breakpoint(struct gdb_session *session, struct gdb_text *text)
{
	return set_breakpoint(session, text, false);
}

/* Threads */

/* Hg: whose registers and memory. Hc: of c and s, which vCont has replaced: they take the same. */
static int choose_thread(struct gdb_session *session, struct gdb_text *text)
{
	uint32_t vcpu = session->vcpu;
	bool any;
	int r = -EINVAL;

	if (gdb_text_skip(text, "g") || gdb_text_skip(text, "c"))
		r = gdb_take_thread(session, text, &vcpu, &any);
	if (r < 0)
		return r;
	session->vcpu = vcpu;
	return answer_ok(session);
}

static int thread_lives(struct gdb_session *session, struct gdb_text *text)
{
	uint32_t vcpu;
	bool any;
	int r = gdb_take_thread(session, text, &vcpu, &any);

	return r < 0 ? r : answer_ok(session);
}

/* The end of a session */

static int detach(struct gdb_session *session, struct gdb_text *text _unused_)
{
	session->ended = true;
	return answer_ok(session);
}

/* The VM ends, as by `utsusu stop --force`. No answer is wanted. */
static int kill_vm(struct gdb_session *session, struct gdb_text *text _unused_)
{
	session->ended = true;
	session->ops->kill(session->guest);
	return 0;
}

static int kill_process(struct gdb_session *session, struct gdb_text *text)
{
	kill_vm(session, text);
	return answer_ok(session);
}

/* GDB manual, E.2. */
static const struct gdb_command commands[] = {
	{ "?", why },
	{ "g", read_registers },
	{ "G", write_registers },
	{ "p", read_register },
	{ "P", write_register },
	{ "m", read_memory },
	{ "M", write_memory },
	{ "X", write_memory_binary },
	{ "Z", insert_breakpoint },
	{ "z", remove_breakpoint },
	{ "H", choose_thread },
	{ "T", thread_lives },
	{ "c", gdb_continue },
	{ "s", gdb_step },
	{ "C", gdb_continue_signal },
	{ "S", gdb_step_signal },
	{ "vCont", gdb_vcont },
	{ "vKill;", kill_process },
	{ "q", gdb_query },
	{ "Q", gdb_query_set },
	{ "D", detach },
	{ "k", kill_vm },
};

int gdb_command_find(struct gdb_session *session, struct gdb_text *text,
		     const struct gdb_command *table, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (gdb_text_skip(text, table[i].name))
			return table[i].act(session, text);
	return 0;
}

void gdb_command_act(struct gdb_session *session, const char *packet, size_t len)
{
	struct gdb_text text = { packet, packet + len };
	int r = gdb_command_find(session, &text, commands, ARRAY_SIZE(commands));

	if (r == 0)
		return;
	session->answer.len = 0;
	if (gdb_answer_format(session, "E%02x", (unsigned int)-r & 0xff) < 0)
		session->ended = true;
}
