/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * A vCPU: a thread in KVM_RUN whose exits become bus accesses. Member of the quiesce barrier; its registers
 * are read and written by its own thread only (quiesce_run), in parallel with the others.
 */

#include <time.h>

#include "base/log.h"
#include "base/quiesce.h"
#include "base/worker.h"
#include "bus/bus.h"
#include "kvm/kvm.h"
#include "memory/dirty.h"

struct vcpu;

enum vcpu_end { VCPU_END_POWER_OFF, VCPU_END_RESET, VCPU_END_TRIPLE_FAULT };

/* What a vCPU needs of its VM. All borrowed. The callbacks run on the vCPU's thread. */
struct vcpu_host {
	struct kvm_vm *kvm;
	struct bus *bus;
	struct quiesce *quiesce;
	struct memory *memory;
	const struct log *log;
	void (*eoi)(void *ctx, uint8_t vector);
	/* Boot vCPU: acknowledges the 8259 and returns the vector, or -1. */
	int (*pic_acknowledge)(void *ctx);
	/* The vCPU cannot go on: triple fault, KVM error; `what` is one line. */
	void (*failed)(void *ctx, uint32_t index, int code, const char *what);
	/* KVM reported a triple fault or a system event. The vCPU is parked: it enters the
	 * guest again only after it was let go. */
	void (*ended)(void *ctx, uint32_t index, enum vcpu_end how);
	/* The guest ran into what kvm_vcpu_set_guest_debug asked for. True: the vCPU stays out of the guest, at
	 * its exit, until the debugger lets it go. */
	bool (*debug)(void *ctx, struct vcpu *vcpu, const struct kvm_debug_exit_arch *exit);
	void *ctx;
};

struct vcpu_exit { /* what a tap may look at: bus_access.exit */
	struct kvm_run *run;
	struct vcpu *vcpu;
};

_must_check_ int vcpu_new(const struct vcpu_host *host, uint32_t index,
			  const struct kvm_cpuid2 *cpuid, struct vcpu **ret_vcpu,
			  struct error *err);
void vcpu_free(struct vcpu *vcpu); /* after the thread ended */

_must_check_ int vcpu_start(struct vcpu *vcpu, const struct thread_entry *entry);
/* Waits until the thread, just started, is a member of the barrier: before that, work given to all misses it. Not while
 * holding the barrier. */
void vcpu_wait_joined(struct vcpu *vcpu);
/* Asks the thread to end and joins it. Not while holding the barrier. */
void vcpu_stop(struct vcpu *vcpu);
/* Any thread: leaves KVM_RUN soon (PIC change, barrier). */
void vcpu_kick(struct vcpu *vcpu);

/* Any thread: the 8259's INTR line changed (boot vCPU only). */
void vcpu_set_pic(struct vcpu *vcpu, bool asserted);
/* The 8259's vector (0..255) that was acknowledged and that KVM still holds back, or -1. KVM_GET_VCPU_EVENTS does not
 * tell it. The vCPU's own thread, inside the barrier. */
int vcpu_waiting_vector(const struct vcpu *vcpu);
/* Who keeps a vCPU out of the guest; it is in the guest only when nobody does. */
enum vcpu_parker {
	PARKED_BY_VM =
		1, /* a reset in progress, a vCPU never started or taken offline by the guest */
	PARKED_BY_DEBUGGER = 2, /* which stops and lets go single vCPUs */
	PARKED_BY_WATCH = 4,	/* a watcher must not lose a record (watch/monitor.h) */
	PARKED_BY_MEMORY = 8,	/* nobody brings the memory that the guest waits for (vm_wait) */
	PARKED_BY_PAUSE = 16,	/* paused, while queue threads go on (vm_finish_requests) */
};
/* Any thread: keeps the vCPU out of the guest, or lets it go on as far as `who` is concerned. A parked vCPU still obeys the
 * barrier. Parking before vcpu_start is allowed. */
void vcpu_park(struct vcpu *vcpu, enum vcpu_parker who, bool park);

/* Any thread, before it goes on after having stood for long: its guest is told, as far as its KVM clock can (KVM_KVMCLOCK_CTRL). */
void vcpu_tell_stood(struct vcpu *vcpu);

/* Any thread: the vCPU's thread sleeps outside the guest until `until_ns` (the host's monotonic clock), obeying all the rest
 * meanwhile; 0 wakes it. A VM that writes faster than its move can follow is slowed so. */
void vcpu_sleep(struct vcpu *vcpu, uint64_t until_ns);

/*
 * From a tap, on the vCPU's own thread: waits in the middle of an access for as long as `held` says so, still obeying the
 * barrier. It is asked again after each vcpu_kick. The vCPU's state is not whole meanwhile (the access is half done):
 * it may be looked at, and neither saved nor replaced.
 */
void vcpu_hold(struct vcpu *vcpu, bool (*held)(void *ctx), void *ctx);
/* Any thread: whether it is being held so. */
bool vcpu_is_held(const struct vcpu *vcpu);

/* Any thread: the clock of its thread's processor time; -ESRCH when it has none (not started, ended). */
_must_check_ int vcpu_clock(struct vcpu *vcpu, clockid_t *ret_clock);

struct kvm_vcpu *vcpu_kvm(struct vcpu *vcpu);
uint32_t vcpu_index(const struct vcpu *vcpu);
uint64_t vcpu_exits(const struct vcpu *vcpu); /* exits to user space so far; any thread */
