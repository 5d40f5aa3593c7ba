/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * The Request Monitor: every request of the guest becomes a record in the store, for as long as somebody watches.
 *
 *   vCPU exit -> bus -> tap.before: begins        the vCPU's ring <- tap.after: registers, code, answer
 *   doorbell  -> queue's thread                   the queue's ring <- request_tap
 *
 * Off, no tap is there. Watchers come and go while the guest runs; each change is made inside the barrier. All of it on
 * the control thread, but the taps, which run on vCPUs' and queues' threads and write to their own ring only.
 */

#include "base/error.h"
#include "vm/vm.h"
#include "watch/record.h"

struct monitor;

/* How many rings the store of such a VM has: one for each vCPU and each queue. */
uint32_t monitor_rings(const struct vm_config *config);

/* `store_fd` (borrowed) is of store_make_fd, with monitor_rings(vm->config) rings. After vm_new, before vm_start. */
_must_check_ int monitor_new(struct vm *vm, int store_fd, struct monitor **ret_monitor,
			     struct error *err);
/* The store was another process's until now, which wrote it. Before the VM runs. */
void monitor_catch_up(struct monitor *monitor);
/* After the VM's threads ended. NULL is fine. */
void monitor_free(struct monitor *monitor);

struct watch_wish {
	enum store_mode mode; /* NORMAL or ALL: the most that any watcher wishes is on for all */
	bool lossless;	      /* writers wait for readers that follow (ring_follower) */
	bool exact;	      /* instructions may be single-stepped: monitor_step_at */
};

/* `owner` (a client; any address) begins to watch, or changes its wish. -EOPNOTSUPP: this KVM or VM cannot. */
_must_check_ int monitor_watch(struct monitor *monitor, const void *owner,
			       const struct watch_wish *wish, struct error *err);
/* It ended, by itself or by its end. One that does not watch: nothing. */
void monitor_forget(struct monitor *monitor, const void *owner);

#define MONITOR_STEPS 4 /* breakpoints that a processor has */

/* A watcher that wished `exact` names the linear addresses of up to MONITOR_STEPS instructions (0: none): a vCPU that comes to
 * one makes a single step there, and an access within it is that instruction's for certain. -EINVAL: it did not wish so,
 * or too many; -EBUSY: a debugger has the breakpoints. Control thread. */
_must_check_ int monitor_step_at(struct monitor *monitor, const void *owner,
				 const uint64_t *addresses, uint32_t n, struct error *err);

enum store_mode monitor_mode(const struct monitor *monitor);

/* The name of a record's device, "-" when it has none. */
const char *monitor_device_name(const struct monitor *monitor, uint16_t device);

/* What no record tells in the present mode: the `index`-th line, NULL after the last. */
const char *monitor_unseen(const struct monitor *monitor, unsigned int index);
