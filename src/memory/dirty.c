/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "memory/dirty_internal.h"

static uint64_t n_words(const struct dirty_bitmap *bitmap)
{
	return (bitmap->n_pages + 63) / 64;
}

int dirty_bitmap_init(struct dirty_bitmap *bitmap, const struct memory *memory)
{
	bitmap->n_pages = memory->size / MEMORY_PAGE_SIZE;
	bitmap->words = calloc(n_words(bitmap), sizeof(uint64_t));
	return bitmap->words ? 0 : -ENOMEM;
}

void dirty_bitmap_release(struct dirty_bitmap *bitmap)
{
	free(bitmap->words);
	*bitmap = (struct dirty_bitmap){ 0 };
}

void dirty_bitmap_clear(struct dirty_bitmap *bitmap)
{
	memset(bitmap->words, 0, n_words(bitmap) * sizeof(uint64_t));
}

uint64_t dirty_bitmap_count(const struct dirty_bitmap *bitmap)
{
	uint64_t count = 0;

	for (uint64_t i = 0; i < n_words(bitmap); i++)
		count += (uint64_t)__builtin_popcountll(bitmap->words[i]);
	return count;
}

static void set_all(struct dirty_bitmap *bitmap)
{
	memset(bitmap->words, 0xff, n_words(bitmap) * sizeof(uint64_t));
	if (bitmap->n_pages % 64)
		bitmap->words[bitmap->n_pages / 64] = (1ULL << (bitmap->n_pages % 64)) - 1;
}

/* The back end of a VM without KVM: nobody but us writes. */
static int none_start(struct memory *memory _unused_)
{
	return 0;
}

static void none_stop(struct memory *memory _unused_)
{
}

static int none_collect(struct memory *memory _unused_, struct dirty_bitmap *bitmap _unused_)
{
	return 0;
}

static int none_vcpu(struct memory *memory _unused_, struct kvm_vcpu *vcpu _unused_)
{
	return 0;
}

static void none_free(void *ctx _unused_)
{
}

static const struct dirty_backend_ops none_ops = {
	.start = none_start,
	.stop = none_stop,
	.collect = none_collect,
	.add_vcpu = none_vcpu,
	.ring_full = none_vcpu,
	.free = none_free,
};

int memory_dirty_new(const struct memory *memory, struct memory_dirty **ret_dirty)
{
	struct memory_dirty *dirty = calloc(1, sizeof(*dirty));

	if (!dirty)
		return -ENOMEM;
	dirty->backend = &none_ops;
	if (dirty_bitmap_init(&dirty->own, memory) < 0) {
		free(dirty);
		return -ENOMEM;
	}
	*ret_dirty = dirty;
	return 0;
}

void memory_dirty_free(struct memory_dirty *dirty)
{
	if (!dirty)
		return;
	dirty->backend->free(dirty->backend_ctx);
	dirty_bitmap_release(&dirty->own);
	free(dirty);
}

int memory_dirty_attach(struct memory *memory, enum dirty_backend backend, struct kvm_vm *vm,
			uint32_t ring_entries)
{
	switch (backend) {
	case DIRTY_BACKEND_BITMAP:
		return dirty_kvm_bitmap_new(memory, vm);
	case DIRTY_BACKEND_RING:
		return dirty_kvm_ring_new(memory, vm, ring_entries);
	case DIRTY_BACKEND_NONE:
		return 0;
	}
	return -EINVAL;
}

int memory_dirty_add_vcpu(struct memory *memory, struct kvm_vcpu *vcpu)
{
	return memory->dirty->backend->add_vcpu(memory, vcpu);
}

static void clear_own(struct memory_dirty *dirty)
{
	for (uint64_t i = 0; i < n_words(&dirty->own); i++)
		__atomic_store_n(&dirty->own.words[i], 0, __ATOMIC_RELAXED);
}

int memory_dirty_start(struct memory *memory)
{
	clear_own(memory->dirty);
	__atomic_store_n(&memory->dirty->active, true, __ATOMIC_SEQ_CST);
	return memory->dirty->backend->start(memory);
}

void memory_dirty_stop(struct memory *memory)
{
	__atomic_store_n(&memory->dirty->active, false, __ATOMIC_SEQ_CST);
	memory->dirty->backend->stop(memory);
}

int memory_dirty_collect(struct memory *memory, struct dirty_bitmap *bitmap)
{
	struct memory_dirty *dirty = memory->dirty;
	int r = dirty->backend->collect(memory, bitmap);

	for (uint64_t i = 0; i < n_words(&dirty->own); i++)
		if (__atomic_load_n(&dirty->own.words[i], __ATOMIC_RELAXED))
			bitmap->words[i] |= __atomic_exchange_n(&dirty->own.words[i], 0,
								__ATOMIC_ACQ_REL);
	if (r < 0)
		set_all(bitmap);
	return r;
}

int memory_dirty_ring_full(struct memory *memory, struct kvm_vcpu *vcpu)
{
	return memory->dirty->backend->ring_full(memory, vcpu);
}

static void mark_bank(struct memory_dirty *dirty, const struct memory_bank *bank, uint64_t start,
		      uint64_t end)
{
	uint64_t first = MAX(start, bank->start.v);
	uint64_t last = MIN(end, bank->start.v + bank->len - 1);

	if (first > last)
		return;
	for (uint64_t page = (first - bank->start.v + bank->offset) / MEMORY_PAGE_SIZE;
	     page <= (last - bank->start.v + bank->offset) / MEMORY_PAGE_SIZE; page++)
		dirty_set_page(&dirty->own, page);
}

void memory_mark_dirty(struct memory *memory, gpa_t start, uint64_t len)
{
	if (len == 0 || !__atomic_load_n(&memory->dirty->active, __ATOMIC_ACQUIRE))
		return;
	for (size_t i = 0; i < memory->n_banks; i++)
		mark_bank(memory->dirty, &memory->banks[i], start.v, start.v + len - 1);
}
