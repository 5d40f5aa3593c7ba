/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * The packets that a stopped guest answers, each in one function. A function takes what follows the packet's name and
 * appends to session->answer; an error becomes the answer E and the errno in hex, unless something was appended.
 */

#include "debug/gdb_session.h"

struct gdb_command {
	const char *name; /* what the packet begins with; of two that fit, the first in the table */
	int (*act)(struct gdb_session *session, struct gdb_text *text);
};

/* Finds the packet's command and acts. A packet that nobody knows is answered with nothing, as the protocol wants. */
void gdb_command_act(struct gdb_session *session, const char *packet, size_t len);

/* Parts of the table that have files of their own. Queries: q and Q. Resuming: c, s, vCont. */
int gdb_query(struct gdb_session *session, struct gdb_text *text);
int gdb_query_set(struct gdb_session *session, struct gdb_text *text);
int gdb_continue(struct gdb_session *session, struct gdb_text *text);
int gdb_step(struct gdb_session *session, struct gdb_text *text);
int gdb_continue_signal(struct gdb_session *session, struct gdb_text *text);
int gdb_step_signal(struct gdb_session *session, struct gdb_text *text);
int gdb_vcont(struct gdb_session *session, struct gdb_text *text);
/* `monitor` commands. */
int gdb_monitor(struct gdb_session *session, const char *line);

/* Runs the first command of the table whose name comes next; nothing happens when there is none. */
int gdb_command_find(struct gdb_session *session, struct gdb_text *text,
		     const struct gdb_command *commands, size_t n);
/* Appends text to the answer. */
_must_check_ int gdb_answer(struct gdb_session *session, const char *text);
_must_check_ int gdb_answer_format(struct gdb_session *session, const char *format, ...)
	_printf_(2, 3);
/* A thread's id: its vCPU. `ret_any` tells 0 and -1, which mean any and all. -EINVAL: no such thread. */
_must_check_ int gdb_take_thread(struct gdb_session *session, struct gdb_text *text,
				 uint32_t *ret_vcpu, bool *ret_any);
/* The answer to '?' and what a running client waits for. */
_must_check_ int gdb_answer_stop(struct gdb_session *session);
