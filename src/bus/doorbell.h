/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * Doorbells: writes that need no answer, turned by KVM into an eventfd signal without leaving the kernel
 * (KVM_IOEVENTFD). They bypass the dispatcher, so a watcher that wants every request switches them off:
 * the same write then arrives as a plain access at the region's handler, which signals the eventfd itself.
 */

#include "bus/bus.h"

struct kvm_vm;

struct doorbell {
	struct list link;
	enum bus_space space; /* BUS_PIO or BUS_MMIO */
	uint64_t address;
	uint8_t size;
	bool match; /* ring only when the written value equals `value` */
	uint32_t value;
	int event;  /* eventfd; borrowed */
	bool armed; /* known to KVM at this moment */
};

struct doorbells;

/* `vm` NULL: a set that never arms (tests, fake KVM). */
struct doorbells *doorbells_new(struct kvm_vm *vm);
void doorbells_free(struct doorbells *doorbells);

/* Adds and arms; a doorbell that KVM refuses stays unarmed, which is slower, not wrong. */
void doorbell_add(struct doorbells *doorbells, struct doorbell *doorbell);
void doorbell_remove(struct doorbells *doorbells, struct doorbell *doorbell);

/* Arms or disarms all, now and for those added later. Control thread, inside the quiesce barrier. */
void doorbells_enable(struct doorbells *doorbells, bool enable);
