/* SPDX-License-Identifier: Apache-2.0 */

/* The vCPUs' writes from KVM_GET_DIRTY_LOG, with KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2: pages are protected again
 * where they are collected, not all at once when the log is switched on. */

#include <errno.h>
#include <stdlib.h>

#include "kvm/kvm.h"
#include "memory/dirty_internal.h"

struct kvm_bitmap {
	struct kvm_vm *vm;
	uint64_t *words; /* scratch for the largest bank */
};

static int set_flags(struct memory *memory, uint32_t flags)
{
	struct kvm_bitmap *log = memory->dirty->backend_ctx;

	for (uint32_t i = 0; i < memory->n_banks; i++) {
		const struct memory_bank *bank = &memory->banks[i];
		int r = kvm_vm_set_memory(log->vm, i, flags, bank->start.v, bank->len, bank->host);

		if (r < 0)
			return r;
	}
	return 0;
}

/* With KVM_DIRTY_LOG_INITIALLY_SET every page starts as dirty and unprotected; "starting marks nothing", so
 * one collect into nowhere arms them. */
static int bitmap_collect(struct memory *memory, struct dirty_bitmap *bitmap);

static int bitmap_start(struct memory *memory)
{
	int r = set_flags(memory, KVM_MEM_LOG_DIRTY_PAGES);

	return r < 0 ? r : bitmap_collect(memory, NULL);
}

static void bitmap_stop(struct memory *memory)
{
	/* Were it to fail, the log would stay on: slower, not wrong. */
	(void)!set_flags(memory, 0);
}

static int collect_bank(struct memory *memory, uint32_t slot, struct dirty_bitmap *bitmap)
{
	struct kvm_bitmap *log = memory->dirty->backend_ctx;
	const struct memory_bank *bank = &memory->banks[slot];
	uint64_t n_pages = bank->len / MEMORY_PAGE_SIZE;
	uint64_t first_word = bank->offset / MEMORY_PAGE_SIZE / 64;
	int r = kvm_vm_get_dirty_log(log->vm, slot, log->words);

	if (r < 0)
		return r;
	for (uint64_t i = 0; bitmap && i < n_pages / 64; i++)
		bitmap->words[first_word + i] |= log->words[i];
	/* Banks are multiples of 2 MiB, so pages come in whole words. */
	return kvm_vm_clear_dirty_log(log->vm, slot, 0, (uint32_t)n_pages, log->words);
}

static int bitmap_collect(struct memory *memory, struct dirty_bitmap *bitmap)
{
	int r = 0;

	for (uint32_t i = 0; r == 0 && i < memory->n_banks; i++)
		r = collect_bank(memory, i, bitmap);
	return r;
}

static int bitmap_vcpu(struct memory *memory _unused_, struct kvm_vcpu *vcpu _unused_)
{
	return 0;
}

static void bitmap_free(void *ctx)
{
	struct kvm_bitmap *log = ctx;

	free(log->words);
	free(log);
}

static const struct dirty_backend_ops bitmap_ops = {
	.start = bitmap_start,
	.stop = bitmap_stop,
	.collect = bitmap_collect,
	.add_vcpu = bitmap_vcpu,
	.ring_full = bitmap_vcpu,
	.free = bitmap_free,
};

int dirty_kvm_bitmap_new(struct memory *memory, struct kvm_vm *vm)
{
	const uint64_t args[4] = { KVM_DIRTY_LOG_MANUAL_PROTECT_ENABLE |
				   KVM_DIRTY_LOG_INITIALLY_SET };
	struct kvm_bitmap *log;
	int r;

	if (((uint64_t)kvm_vm_check(vm, KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2) & args[0]) != args[0])
		return -EOPNOTSUPP;
	r = kvm_vm_enable(vm, KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2, args);
	if (r < 0)
		return r;
	log = calloc(1, sizeof(*log));
	if (!log)
		return -ENOMEM;
	log->vm = vm;
	log->words = calloc(memory->dirty->own.n_pages / 64 + 1, sizeof(uint64_t));
	if (!log->words) {
		free(log);
		return -ENOMEM;
	}
	memory->dirty->backend = &bitmap_ops;
	memory->dirty->backend_ctx = log;
	return 0;
}
