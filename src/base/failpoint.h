/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * Places where a test lets a process die, stand still or fail: at each step of a hand-over, on both sides. The table below is
 * the only list of them; a suite reads it (utsusu-move --failpoints) and fails when one was never hit. Which one acts hangs
 * from the object that the job, the configuration or a test made: there is no state at file scope, and a process that was told
 * nothing pays one comparison at each place.
 */

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"
#include "base/macros.h"

/* clang-format off */
#define FAILPOINTS(X) \
	/* the source's mover, in order */ \
	X(SOURCE_START,         "source.start")          /* the job is read, nothing was said */ \
	X(SOURCE_HELLO,         "source.hello")          /* both movers know each other */ \
	X(SOURCE_BEGUN,         "source.begun")          /* the VM's dirty log runs */ \
	X(SOURCE_REHEARSE,      "source.rehearse")       /* the running VM's state is on its way */ \
	X(SOURCE_REHEARSED,     "source.rehearsed")      /* the other side took it */ \
	X(SOURCE_DISKS,         "source.disks")          /* a pass over the disks that are copied is there; once without any */ \
	X(SOURCE_ROUND,         "source.round")          /* a round of pages is there */ \
	X(SOURCE_STOP,          "source.stop")           /* the guest is to stop */ \
	X(SOURCE_STOPPED,       "source.stopped")        /* it stands still */ \
	X(SOURCE_LAST_ROUND,    "source.last-round")     /* the last pages are on their way */ \
	X(SOURCE_STATE,         "source.state")          /* the state is on its way */ \
	X(SOURCE_READY,         "source.ready")          /* the other side holds all */ \
	X(SOURCE_GIVEN,         "source.given")          /* "given" is durable, the commit not yet sent */ \
	X(SOURCE_COMMIT,        "source.commit")         /* the commit is sent */ \
	X(SOURCE_ANSWERED,      "source.answered")       /* ran or never is here, the VM does not know it yet */ \
	X(SOURCE_SETTLED,       "source.settled")        /* the VM knows */ \
	/* the destination's mover, in order */ \
	X(DESTINATION_START,    "destination.start") \
	X(DESTINATION_HELLO,    "destination.hello") \
	X(DESTINATION_MACHINE,  "destination.machine")   /* the machine was compared */ \
	X(DESTINATION_REHEARSE, "destination.rehearse")  /* the rehearsal's state is here */ \
	X(DESTINATION_REHEARSED,"destination.rehearsed") /* it was taken, and that was said */ \
	X(DESTINATION_DISKS,    "destination.disks")     /* the same here, durable and read back */ \
	X(DESTINATION_ROUND,    "destination.round")     /* a round of pages is here */ \
	X(DESTINATION_STATE,    "destination.state")     /* the final state is here */ \
	X(DESTINATION_LOADED,   "destination.loaded")    /* it is in the VM */ \
	X(DESTINATION_READY,    "destination.ready")     /* ready was said */ \
	X(DESTINATION_COMMIT,   "destination.commit")    /* the commit is here, the mark not yet made */ \
	X(DESTINATION_RAN,      "destination.ran")       /* the VM runs, nobody was told */ \
	X(DESTINATION_ANSWERED, "destination.answered")  /* the source was told */ \
	/* utsusu upgrade, in order */ \
	X(UPGRADE_BEGUN,        "upgrade.begun")         /* what the old process has open is on its way */ \
	X(UPGRADE_LAUNCHED,     "upgrade.launched")      /* the new process is there */ \
	X(UPGRADE_REHEARSED,    "upgrade.rehearsed")     /* it took the running VM's state */ \
	X(UPGRADE_GIVEN,        "upgrade.given")         /* the guest stands still, nobody runs it */ \
	X(UPGRADE_RAN,          "upgrade.ran")           /* it runs there, the old process was not told */
/* clang-format on */

enum failpoint_name {
#define FAILPOINT_ENUM(name, text) FAILPOINT_##name,
	FAILPOINTS(FAILPOINT_ENUM)
#undef FAILPOINT_ENUM
		FAILPOINTS_N
};

enum failpoint_action {
	FAILPOINT_NONE,
	FAILPOINT_TELL,	 /* tells and goes on */
	FAILPOINT_KILL,	 /* SIGKILL to itself */
	FAILPOINT_STOP,	 /* SIGSTOP to itself: the test thaws it */
	FAILPOINT_EXIT,	 /* leaves at once with EXIT_STATUS_FAILED */
	FAILPOINT_ERROR, /* failpoint() gives -EIO */
};

#define FAILPOINT_TEXT_MAX 64 /* bytes of its text with the NUL */

struct failpoint {
	enum failpoint_action action;
	bool any;		  /* at all of them */
	enum failpoint_name name; /* else at this one */
	uint32_t left;		  /* passes until it acts; atomic */
	/* May be NULL: told each time that it acts, before it does. The thread that came there. */
	void (*told)(void *ctx, const char *name);
	void *ctx;
};

/* From NAME:ACTION (tell, kill, stop, exit, error), NAME:ACTION:N for the Nth pass (1..1000), or *:tell for all of them; "" is none.
 * `told` is left NULL. */
_must_check_ int failpoint_parse(const char *text, struct failpoint *ret_point, struct error *err);
const char *failpoint_text(enum failpoint_name name);

/* Behind failpoint(). */
int failpoint_pass(struct failpoint *point, enum failpoint_name name);

/* Does what was ordered for this place: 0, or -EIO. Any thread. */
_must_check_ static inline int failpoint(struct failpoint *point, enum failpoint_name name)
{
	return point->action == FAILPOINT_NONE ? 0 : failpoint_pass(point, name);
}
