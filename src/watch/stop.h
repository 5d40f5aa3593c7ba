/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * Breakpoints on requests: the VM stops on one that a filter matches - before the device sees a write, after it has
 * answered a read - or the request is altered, dropped, failed or delayed on its way, or only told of.
 *
 *   vCPU's (or queue's) thread          control thread                    the breakpoint's owner
 *   matches: waits in the tap  -event-> vm_hold, all stand still  -hit->  looks, decides
 *   goes on with the answer    <------  vm_let_go                 <-----  stop_continue
 *
 * While a VM is stopped so, one access is half done: it cannot be saved. Whoever set the breakpoint may go away: the VM
 * goes on STOP_GRACE_NS later.
 */

#include "base/error.h"
#include "watch/filter/filter.h"
#include "watch/monitor.h"

#define STOP_GRACE_NS (2 * NSEC_PER_SEC)
#define STOP_BREAKS_MAX 16 /* of one VM */
#define STOP_DELAY_MAX_MS 10000
#define STOP_CODE 64 /* bytes around RIP that a hit shows */

enum stop_action {
	STOP_STOP,
	STOP_SET,   /* `data` instead of what is written or was read */
	STOP_DROP,  /* the device does not see it; a read gets all ones; a frame is lost */
	STOP_FAIL,  /* as an error: a disk's request fails, an access to registers is dropped */
	STOP_DELAY, /* it waits `delay_ms` */
	STOP_DUMP,  /* only told of */
	STOP_ACTIONS,
};

struct stop_break {
	char filter[FILTER_TEXT_MAX + 1];
	enum stop_action action;
	uint64_t data;
	uint64_t delay_ms;
	uint32_t count; /* ends after so many hits; 0: no limit */
};

struct stop_hit {
	struct watch_record record; /* as far as it is known by then: a write's duration is 0 */
	enum stop_action action;
	uint64_t number;  /* of this breakpoint, from 1 */
	uint64_t missed;  /* earlier hits that were not told of: they came too fast */
	uint64_t code_at; /* linear address of `code` */
	uint32_t n_code;
	uint8_t code[STOP_CODE];
};

struct stop_answer {
	bool step; /* stop again at the next request, whatever it is */
	bool set;  /* go on with `data` */
	bool drop; /* the device is not to see it (a write only) */
	uint64_t data;
};

/* What the owner is told, on the control thread. */
struct stop_events {
	void (*hit)(void *ctx, const void *owner, const struct stop_hit *hit);
	void *ctx;
};

struct stop;

_must_check_ int stop_new(struct monitor *monitor, const struct stop_events *events,
			  struct stop **ret_stop);
/* NULL is fine. After the VM's threads ended, before monitor_free. */
void stop_free(struct stop *stop);

/* The owner's breakpoint, in place of the one it had. It watches as well (monitor_watch) as long as it has one. -EINVAL:
 * the filter is wrong, or asks for what is not known by then; -ENOSPC: STOP_BREAKS_MAX. Control thread. */
_must_check_ int stop_set(struct stop *stop, const void *owner, const struct stop_break *wanted,
			  struct error *err);
/* The owner is gone, or wants no breakpoint any more. */
void stop_forget(struct stop *stop, const void *owner);
/* Lets the VM go on. -ENOENT: it does not stand on a request of this owner. */
_must_check_ int stop_continue(struct stop *stop, const void *owner,
			       const struct stop_answer *answer, struct error *err);
