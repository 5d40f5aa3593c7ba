/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* The dirty log from inside the room: our own writes in one atomic bitmap, the vCPUs' from a back end. */

#include "memory/dirty.h"

/* What a back end of the vCPUs' writes does; its context is `log->backend_ctx`. */
struct dirty_backend_ops {
	int (*start)(struct memory *memory);
	void (*stop)(struct memory *memory);
	/* ORs the vCPUs' writes into `bitmap` and arms those pages again. */
	int (*collect)(struct memory *memory, struct dirty_bitmap *bitmap);
	int (*add_vcpu)(struct memory *memory, struct kvm_vcpu *vcpu);
	int (*ring_full)(struct memory *memory, struct kvm_vcpu *vcpu);
	void (*free)(void *ctx);
};

struct memory_dirty {
	struct dirty_bitmap own; /* words changed atomically, by any thread */
	bool active;		 /* atomic */
	const struct dirty_backend_ops *backend;
	void *backend_ctx; /* owned by the back end */
};

_must_check_ int memory_dirty_new(const struct memory *memory, struct memory_dirty **ret_dirty);
void memory_dirty_free(struct memory_dirty *dirty);

/* Any thread: ORs a bit, by its page number in the memfd. */
static inline void dirty_set_page(struct dirty_bitmap *bitmap, uint64_t page)
{
	__atomic_fetch_or(&bitmap->words[page / 64], 1ULL << (page % 64), __ATOMIC_RELAXED);
}

/* The back ends, each in a file of its own. They take the VM that dirty.h's attach was given. */
_must_check_ int dirty_kvm_bitmap_new(struct memory *memory, struct kvm_vm *vm);
_must_check_ int dirty_kvm_ring_new(struct memory *memory, struct kvm_vm *vm, uint32_t entries);
