/* SPDX-License-Identifier: Apache-2.0 */

/* What a debugger asks about the stub, the threads and the target, and the monitor commands. */

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/cleanup.h"
#include "debug/gdb_commands.h"

/* What both sides can: ours as the answer; of the client's only how it wants stops to be told matters. */
static int supported(struct gdb_session *session, struct gdb_text *text)
{
	session->told_swbreak = memmem(text->at, gdb_text_left(text), "swbreak+", 8) != NULL;
	session->told_hwbreak = memmem(text->at, gdb_text_left(text), "hwbreak+", 8) != NULL;
	return gdb_answer_format(session,
				 "PacketSize=%x;QStartNoAckMode+;qXfer:features:read+;"
				 "swbreak+;hwbreak+;vContSupported+",
				 (unsigned int)LIMIT_GDB_PACKET);
}

/* The whole description or any piece: annex:offset,length. 'l' is the last piece, 'm' says there is more. */
static int read_features(struct gdb_session *session, struct gdb_text *text)
{
	_cleanup_(buffer_release) struct buffer xml;
	uint64_t offset, len, left;
	int r;

	buffer_init(&xml, KIB(32));
	if (!gdb_text_skip(text, "target.xml:"))
		return -ENOENT;
	if (!gdb_text_number(text, &offset) || !gdb_text_skip(text, ",") ||
	    !gdb_text_number(text, &len) || gdb_text_left(text))
		return -EINVAL;
	r = gdb_registers_describe(&xml);
	if (r < 0)
		return r;
	left = xml.len - MIN(offset, xml.len);
	len = MIN(MIN(len, left), LIMIT_GDB_PACKET);
	r = gdb_answer(session, len < left ? "m" : "l");
	return r < 0 || !len ? r : buffer_append(&session->answer, xml.data + offset, (size_t)len);
}

static int first_threads(struct gdb_session *session, struct gdb_text *text _unused_)
{
	uint32_t n = session->ops->n_vcpus(session->guest);
	int r = gdb_answer(session, "m");

	for (uint32_t i = 0; r == 0 && i < n; i++)
		r = gdb_answer_format(session, "%s%x", i ? "," : "", i + 1);
	return r;
}

static int more_threads(struct gdb_session *session, struct gdb_text *text _unused_)
{
	return gdb_answer(session, "l");
}

static int describe_vcpu(struct gdb_session *session, uint32_t vcpu, char *ret_text, size_t size)
{
	struct gdb_registers registers;
	char mode[64];
	int r = session->ops->get_registers(session->guest, vcpu, &registers);

	if (r < 0)
		return r;
	gdb_registers_mode(&registers, mode, sizeof(mode));
	snprintf(ret_text, size, "vCPU %u: %s", vcpu, mode);
	return 0;
}

static int thread_info(struct gdb_session *session, struct gdb_text *text)
{
	uint32_t vcpu = session->vcpu;
	char line[128];
	bool any;
	int r = gdb_take_thread(session, text, &vcpu, &any);

	if (r == 0)
		r = describe_vcpu(session, vcpu, line, sizeof(line));
	return r < 0 ? r : gdb_hex_append(&session->answer, line, strlen(line));
}

static int current_thread(struct gdb_session *session, struct gdb_text *text)
{
	if (gdb_text_left(text)) /* qCRC */
		return 0;
	return gdb_answer_format(session, "QC%x", session->vcpu + 1);
}

/* The VM was there before: leaving GDB detaches and does not kill. */
static int attached(struct gdb_session *session, struct gdb_text *text _unused_)
{
	return gdb_answer(session, "1");
}

#define LINE_MAX_BYTES 128

static int monitor_line(struct gdb_session *session, struct gdb_text *text)
{
	char line[LINE_MAX_BYTES + 1] = { 0 };
	size_t len = gdb_text_left(text) / 2;

	if (len > LINE_MAX_BYTES)
		return -E2BIG;
	if (!gdb_text_bytes(text, line, len) || gdb_text_left(text))
		return -EINVAL;
	return gdb_monitor(session, line);
}

/* GDB manual, E.5. */
static const struct gdb_command queries[] = {
	{ "Supported", supported },
	{ "Xfer:features:read:", read_features },
	{ "fThreadInfo", first_threads },
	{ "sThreadInfo", more_threads },
	{ "ThreadExtraInfo,", thread_info },
	{ "C", current_thread },
	{ "Attached", attached },
	{ "Rcmd,", monitor_line },
};

int gdb_query(struct gdb_session *session, struct gdb_text *text)
{
	return gdb_command_find(session, text, queries, ARRAY_SIZE(queries));
}

int gdb_query_set(struct gdb_session *session, struct gdb_text *text)
{
	if (!gdb_text_skip(text, "StartNoAckMode"))
		return 0;
	session->no_ack = true;
	return gdb_answer(session, "OK");
}

/* Monitor commands */

static int print(struct gdb_session *session, const char *text)
{
	return gdb_hex_append(&session->answer, text, strlen(text));
}

static int monitor_help(struct gdb_session *session)
{
	return print(session,
		     "monitor info              what each vCPU is doing\n"
		     "monitor physical on|off   memory commands take guest-physical addresses\n"
		     "Leaving GDB lets the guest go on; 'kill' ends the VM.\n");
}

static int info_line(struct gdb_session *session, uint32_t vcpu)
{
	struct gdb_registers registers;
	char what[128], line[256];
	int r = describe_vcpu(session, vcpu, what, sizeof(what));

	if (r == 0)
		r = session->ops->get_registers(session->guest, vcpu, &registers);
	if (r < 0)
		return r;
	snprintf(line, sizeof(line), "%s, cs 0x%x base 0x%llx, rip 0x%llx, cr3 0x%llx\n", what,
		 registers.sregs.cs.selector, (unsigned long long)registers.sregs.cs.base,
		 (unsigned long long)registers.regs.rip, (unsigned long long)registers.sregs.cr3);
	return print(session, line);
}

static int monitor_info(struct gdb_session *session)
{
	int r = 0;

	for (uint32_t i = 0; r == 0 && i < session->ops->n_vcpus(session->guest); i++)
		r = info_line(session, i);
	return r;
}

static int physical_on(struct gdb_session *session)
{
	session->physical = true;
	return print(session, "addresses are guest-physical now\n");
}

static int physical_off(struct gdb_session *session)
{
	session->physical = false;
	return print(session, "addresses are virtual again\n");
}

struct monitor_command {
	const char *line;
	int (*act)(struct gdb_session *session);
};

static const struct monitor_command monitor_commands[] = {
	{ "help", monitor_help },
	{ "info", monitor_info },
	{ "physical on", physical_on },
	{ "physical off", physical_off },
};

int gdb_monitor(struct gdb_session *session, const char *line)
{
	for (size_t i = 0; i < ARRAY_SIZE(monitor_commands); i++)
		if (strcmp(line, monitor_commands[i].line) == 0)
			return monitor_commands[i].act(session);
	return print(session, "no such command; see 'monitor help'\n");
}
