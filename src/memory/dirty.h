/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * Which pages were written since they were last asked for: KVM's log of the vCPUs' writes and our own
 * log of the devices' writes, behind one interface. The back end is chosen when the VM is made, because
 * KVM's dirty ring must be enabled before the first vCPU and then replaces its bitmap.
 */

#include "memory/memory.h"

struct kvm_vm;
struct kvm_vcpu;

enum dirty_backend {
	DIRTY_BACKEND_NONE,   /* no KVM: our own writes only (tests, tools) */
	DIRTY_BACKEND_BITMAP, /* KVM_GET_DIRTY_LOG with manual protect */
	DIRTY_BACKEND_RING,   /* KVM_CAP_DIRTY_LOG_RING */
};

/* One bit per 4 KiB page of all banks, in the order of the memfd. Owned by the caller. */
struct dirty_bitmap {
	uint64_t n_pages;
	uint64_t *words;
};

_must_check_ int dirty_bitmap_init(struct dirty_bitmap *bitmap, const struct memory *memory);
void dirty_bitmap_release(struct dirty_bitmap *bitmap);
void dirty_bitmap_clear(struct dirty_bitmap *bitmap);
uint64_t dirty_bitmap_count(const struct dirty_bitmap *bitmap);

/* Chooses the back end; before the first vCPU is made. `ring_entries` (a power of two) counts for the
 * ring only. -EOPNOTSUPP when this KVM lacks it. */
_must_check_ int memory_dirty_attach(struct memory *memory, enum dirty_backend backend,
				     struct kvm_vm *vm, uint32_t ring_entries);

/* Each vCPU, once made: the ring back end maps its ring. */
_must_check_ int memory_dirty_add_vcpu(struct memory *memory, struct kvm_vcpu *vcpu);

/* Starts and stops logging. Control thread. Starting marks nothing; stop forgets everything. */
_must_check_ int memory_dirty_start(struct memory *memory);
void memory_dirty_stop(struct memory *memory);

/* ORs into `bitmap` every page written since the last collect, and arms those pages again. May run while
 * vCPUs run (a page may then be reported again); exact only inside the quiesce barrier. On any error of
 * KVM's log every page is reported. */
_must_check_ int memory_dirty_collect(struct memory *memory, struct dirty_bitmap *bitmap);

/* A vCPU left KVM_RUN because its ring is full: empties it into the log. The vCPU's thread. */
_must_check_ int memory_dirty_ring_full(struct memory *memory, struct kvm_vcpu *vcpu);
