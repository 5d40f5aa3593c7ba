/* SPDX-License-Identifier: Apache-2.0 */
#include "debug/gdb_session.h"

#include <errno.h>
#include <string.h>

#include "debug/gdb_commands.h"

/* An answer's payload: two digits for each byte of the longest that can be asked for; escaped, it is twice that. */
#define ANSWER_MAX (2 * LIMIT_GDB_PACKET + KIB(4))
#define OUTPUT_MAX (4 * ANSWER_MAX)

void gdb_session_begin(struct gdb_session *session, const struct gdb_guest_ops *ops, void *guest)
{
	memset(session, 0, sizeof(*session));
	session->ops = ops;
	session->guest = guest;
	buffer_init(&session->output, OUTPUT_MAX);
	buffer_init(&session->answer, ANSWER_MAX);
}

void gdb_session_end(struct gdb_session *session)
{
	buffer_release(&session->output);
	buffer_release(&session->answer);
	session->ended = true;
}

/* A client that does not read, or no memory: it is given up. */
static void send_answer(struct gdb_session *session)
{
	if (gdb_packet_append(&session->output, session->answer.data, session->answer.len) < 0)
		session->ended = true;
}

static void acknowledge(struct gdb_session *session, const char *how)
{
	if (!session->no_ack && buffer_append(&session->output, how, 1) < 0)
		session->ended = true;
}

static void refuse(struct gdb_session *session, int error)
{
	session->answer.len = 0;
	if (gdb_answer_format(session, "E%02x", (unsigned int)-error & 0xff) < 0)
		session->ended = true;
	send_answer(session);
}

static void take_packet(struct gdb_session *session)
{
	acknowledge(session, "+");
	if (session->running) {
		refuse(session, -EBUSY);
		return;
	}
	session->answer.len = 0;
	gdb_command_act(session, session->framing.data, session->framing.len);
	if (!session->running && !session->ended)
		send_answer(session);
	else if (session->answer.len) /* the last word of a session */
		send_answer(session);
}

/* Without acknowledgements nobody can ask for the packet again. */
static void take_bad_sum(struct gdb_session *session)
{
	if (session->no_ack)
		session->ended = true;
	else
		acknowledge(session, "-");
}

static void take_event(struct gdb_session *session, enum gdb_event event)
{
	switch (event) {
	case GDB_NOTHING:
	case GDB_ACK:
		break;
	case GDB_PACKET:
		take_packet(session);
		break;
	case GDB_TOO_LONG:
		acknowledge(session, "+");
		refuse(session, -E2BIG);
		break;
	case GDB_BAD_SUM:
		take_bad_sum(session);
		break;
	case GDB_NAK:
		if (!session->no_ack && session->answer.len)
			send_answer(session);
		break;
	case GDB_INTERRUPT:
		if (session->running)
			session->ops->stop(session->guest);
		break;
	}
}

void gdb_session_receive(struct gdb_session *session, const void *bytes, size_t len)
{
	const uint8_t *p = bytes;

	for (size_t i = 0; i < len && !session->ended; i++)
		take_event(session, gdb_framing_take(&session->framing, p[i]));
}

void gdb_session_stopped(struct gdb_session *session, const struct gdb_stop *stop)
{
	if (!session->running)
		return;
	session->running = false;
	session->stop = *stop;
	session->vcpu = stop->vcpu;
	session->answer.len = 0;
	if (gdb_answer_stop(session) < 0)
		session->ended = true;
	send_answer(session);
}

void gdb_session_print(struct gdb_session *session, const char *text)
{
	if (!session->running || session->ended)
		return;
	session->answer.len = 0;
	if (gdb_answer(session, "O") < 0 ||
	    gdb_hex_append(&session->answer, text, strlen(text)) < 0 ||
	    gdb_hex_append(&session->answer, "\n", 1) < 0)
		session->ended = true;
	send_answer(session);
}

void gdb_session_exited(struct gdb_session *session)
{
	session->answer.len = 0;
	if (session->running && !session->ended && gdb_answer(session, "W00") == 0)
		send_answer(session);
	session->running = false;
	session->ended = true;
}
