/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * A vCPU: a thread in KVM_RUN whose exits become bus accesses. Member of the quiesce barrier; its registers
 * are read and written by its own thread only (quiesce_run), in parallel with the others.
 */

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
	 * guest again only after vcpu_park(false). */
	void (*ended)(void *ctx, uint32_t index, enum vcpu_end how);
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
/* Asks the thread to end and joins it. Not while holding the barrier. */
void vcpu_stop(struct vcpu *vcpu);
/* Any thread: leaves KVM_RUN soon (PIC change, barrier). */
void vcpu_kick(struct vcpu *vcpu);

/* Any thread: the 8259's INTR line changed (boot vCPU only). */
void vcpu_set_pic(struct vcpu *vcpu, bool asserted);
/* The 8259's vector (0..255) that was acknowledged and that KVM still holds back, or -1. KVM_GET_VCPU_EVENTS does not
 * tell it. The vCPU's own thread, inside the barrier. */
int vcpu_waiting_vector(const struct vcpu *vcpu);
/* Any thread: keeps the vCPU out of the guest (a reset in progress, a vCPU never started or taken offline by
 * the guest), or lets it go on. A parked vCPU still obeys the barrier. Parking before vcpu_start is allowed. */
void vcpu_park(struct vcpu *vcpu, bool park);

struct kvm_vcpu *vcpu_kvm(struct vcpu *vcpu);
uint32_t vcpu_index(const struct vcpu *vcpu);
uint64_t vcpu_exits(const struct vcpu *vcpu); /* exits to user space so far; any thread */
