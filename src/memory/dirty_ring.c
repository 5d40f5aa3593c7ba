/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The vCPUs' writes from KVM's dirty rings: one ring per vCPU, filled by KVM, harvested by us; entries
 * given back are protected again by KVM_RESET_DIRTY_RINGS. A full ring stops its vCPU until it is emptied
 * (KVM_EXIT_DIRTY_RING_FULL), which throttles a guest that dirties faster than we look.
 */

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>

#include "base/limits.h"
#include "kvm/kvm.h"
#include "memory/dirty_internal.h"

struct vcpu_ring {
	struct kvm_dirty_gfn *entries;
	uint32_t next; /* first entry not harvested */
};

struct kvm_rings {
	struct kvm_vm *vm;
	uint32_t n_entries;
	pthread_mutex_t lock;	   /* harvesting and resetting; a leaf lock */
	struct dirty_bitmap found; /* harvested by full rings, not yet collected */
	size_t n_rings;
	struct vcpu_ring rings[LIMIT_VCPUS];
};

static int set_flags(struct memory *memory, struct kvm_rings *rings, uint32_t flags)
{
	for (uint32_t i = 0; i < memory->n_banks; i++) {
		const struct memory_bank *bank = &memory->banks[i];
		int r = kvm_vm_set_memory(rings->vm, i, flags, bank->start.v, bank->len,
					  bank->host);

		if (r < 0)
			return r;
	}
	return 0;
}

/* Moves the ring's new entries into `found`. KVM sets DIRTY with a release, we give back with RESET. */
static void harvest_locked(struct memory *memory, struct kvm_rings *rings, struct vcpu_ring *ring)
{
	for (;;) {
		struct kvm_dirty_gfn *entry = &ring->entries[ring->next % rings->n_entries];

		if (__atomic_load_n(&entry->flags, __ATOMIC_ACQUIRE) != KVM_DIRTY_GFN_F_DIRTY)
			return;
		if ((entry->slot & 0xffff) < memory->n_banks) {
			const struct memory_bank *bank = &memory->banks[entry->slot & 0xffff];
			uint64_t page = bank->offset / MEMORY_PAGE_SIZE + entry->offset;

			if (page < rings->found.n_pages)
				dirty_set_page(&rings->found, page);
		}
		__atomic_store_n(&entry->flags, KVM_DIRTY_GFN_F_RESET, __ATOMIC_RELEASE);
		ring->next++;
	}
}

static int harvest_all_locked(struct memory *memory, struct kvm_rings *rings)
{
	for (size_t i = 0; i < rings->n_rings; i++)
		harvest_locked(memory, rings, &rings->rings[i]);
	return kvm_vm_reset_dirty_rings(rings->vm);
}

static int ring_collect(struct memory *memory, struct dirty_bitmap *bitmap)
{
	struct kvm_rings *rings = memory->dirty->backend_ctx;
	int r;

	pthread_mutex_lock(&rings->lock);
	r = harvest_all_locked(memory, rings);
	for (uint64_t i = 0; i < rings->found.n_pages / 64; i++) {
		bitmap->words[i] |= rings->found.words[i];
		rings->found.words[i] = 0;
	}
	pthread_mutex_unlock(&rings->lock);
	return r;
}

static int ring_full(struct memory *memory, struct kvm_vcpu *vcpu _unused_)
{
	struct kvm_rings *rings = memory->dirty->backend_ctx;
	int r;

	pthread_mutex_lock(&rings->lock);
	r = harvest_all_locked(memory, rings);
	pthread_mutex_unlock(&rings->lock);
	return r;
}

static int ring_start(struct memory *memory)
{
	struct kvm_rings *rings = memory->dirty->backend_ctx;

	return set_flags(memory, rings, KVM_MEM_LOG_DIRTY_PAGES);
}

static void ring_stop(struct memory *memory)
{
	struct kvm_rings *rings = memory->dirty->backend_ctx;

	/* Were it to fail, the log would stay on: slower, not wrong. */
	(void)!set_flags(memory, rings, 0);
	/* vCPUs that run may still find their ring full. */
	pthread_mutex_lock(&rings->lock);
	(void)!harvest_all_locked(memory, rings);
	dirty_bitmap_clear(&rings->found);
	pthread_mutex_unlock(&rings->lock);
}

static int ring_add_vcpu(struct memory *memory, struct kvm_vcpu *vcpu)
{
	struct kvm_rings *rings = memory->dirty->backend_ctx;
	struct vcpu_ring *ring = &rings->rings[rings->n_rings];
	int r;

	if (rings->n_rings == LIMIT_VCPUS)
		return -ENOSPC;
	r = kvm_vcpu_map_dirty_ring(vcpu, rings->n_entries * sizeof(struct kvm_dirty_gfn),
				    &ring->entries);
	if (r < 0)
		return r;
	rings->n_rings++;
	return 0;
}

static void ring_free(void *ctx)
{
	struct kvm_rings *rings = ctx;

	dirty_bitmap_release(&rings->found);
	pthread_mutex_destroy(&rings->lock);
	free(rings);
}

static const struct dirty_backend_ops ring_ops = {
	.start = ring_start,
	.stop = ring_stop,
	.collect = ring_collect,
	.add_vcpu = ring_add_vcpu,
	.ring_full = ring_full,
	.free = ring_free,
};

int dirty_kvm_ring_new(struct memory *memory, struct kvm_vm *vm, uint32_t entries)
{
	const uint64_t args[4] = { entries * sizeof(struct kvm_dirty_gfn) };
	struct kvm_rings *rings;
	int r;

	if (kvm_vm_check(vm, KVM_CAP_DIRTY_LOG_RING) < (int)args[0])
		return -EOPNOTSUPP;
	rings = calloc(1, sizeof(*rings));
	if (!rings)
		return -ENOMEM;
	pthread_mutex_init(&rings->lock, NULL);
	rings->vm = vm;
	rings->n_entries = entries;
	if (dirty_bitmap_init(&rings->found, memory) < 0) {
		ring_free(rings);
		return -ENOMEM;
	}
	/* Last, because it cannot be undone: KVM's bitmap is gone then. */
	r = kvm_vm_enable(vm, KVM_CAP_DIRTY_LOG_RING, args);
	if (r < 0) {
		ring_free(rings);
		return r;
	}
	memory->dirty->backend = &ring_ops;
	memory->dirty->backend_ctx = rings;
	return 0;
}
