/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * One debugger's connection: packets in, answers out (GDB manual, appendix E), all-stop mode, one process whose threads
 * are the vCPUs: thread 1 is vCPU 0. The guest stands still when a session begins.
 *
 *   stopped:  a packet is answered at once
 *   running:  from vCont, c, s until gdb_session_stopped; only 0x03 is heard, a packet gets E10 (EBUSY)
 *
 * Control thread; never waits. What the client sends is untrusted.
 */

#include "debug/gdb_guest.h"
#include "debug/gdb_packet.h"

struct gdb_session {
	/* constant */
	const struct gdb_guest_ops *ops;
	void *guest;

	struct gdb_framing framing;
	struct buffer output; /* to be sent; the owner takes bytes from its front */
	struct buffer answer; /* the payload in the making, then the last one: for a NAK */
	struct gdb_stop stop; /* the last one */
	uint32_t vcpu;	      /* whose registers and memory: the last stop's, or H's */
	bool running;
	bool ended;  /* detached, killed, or gone wrong: send what is left and close */
	bool no_ack; /* both sides trust the line */
	bool told_swbreak, told_hwbreak; /* the client understands these words in a stop */
	bool physical;			 /* monitor physical on */
};

void gdb_session_begin(struct gdb_session *session, const struct gdb_guest_ops *ops, void *guest);
void gdb_session_end(struct gdb_session *session); /* frees buffers; a zeroed session is fine */

/* What the client sent. Bytes behind the end of the session are ignored. */
void gdb_session_receive(struct gdb_session *session, const void *bytes, size_t len);

/* The guest stands still, and this is why. Without effect when the client knows it stopped. */
void gdb_session_stopped(struct gdb_session *session, const struct gdb_stop *stop);
/* A line that GDB shows while the guest runs. */
void gdb_session_print(struct gdb_session *session, const char *text);
/* The VM has ended: the last thing that a running client hears. */
void gdb_session_exited(struct gdb_session *session);
