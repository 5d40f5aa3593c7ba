/* SPDX-License-Identifier: Apache-2.0 */
#include "kvm/fake_internal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/fd.h"

#define FAKE_CPUID_MAX 256

struct kvm_system {
	int fd;
	struct kvm_cpuid2 *supported; /* NULL: the one below */
};

int kvm_open(int fd, struct kvm_system **ret_system)
{
	struct kvm_system *system = calloc(1, sizeof(*system));

	if (!system)
		return -ENOMEM;
	system->fd = fd;
	*ret_system = system;
	return 0;
}

void kvm_close(struct kvm_system *system)
{
	if (!system)
		return;
	fd_close(system->fd);
	free(system->supported);
	free(system);
}

struct fake_capability {
	int capability, value;
};

static const struct fake_capability capabilities[] = {
	{ KVM_CAP_SPLIT_IRQCHIP, 1 },
	{ KVM_CAP_SYNC_REGS, 7 },
	{ KVM_CAP_IRQFD, 1 },
	{ KVM_CAP_IOEVENTFD, 1 },
	{ KVM_CAP_IMMEDIATE_EXIT, 1 },
	{ KVM_CAP_SIGNAL_MSI, 1 },
	{ KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2, 3 },
	{ KVM_CAP_NR_MEMSLOTS, FAKE_SLOTS },
	{ KVM_CAP_XCRS, 1 },
	{ KVM_CAP_DEBUGREGS, 1 },
	{ KVM_CAP_XSAVE2, 4096 },
};

int kvm_check(struct kvm_system *system _unused_, int capability)
{
	for (size_t i = 0; i < ARRAY_SIZE(capabilities); i++)
		if (capabilities[i].capability == capability)
			return capabilities[i].value;
	return 0;
}

int kvm_vm_check(struct kvm_vm *vm, int capability)
{
	if (capability == KVM_CAP_TSC_CONTROL)
		return vm->host.scales;
	return kvm_check(NULL, capability);
}

struct kvm_cpuid2 *fake_copy_cpuid(const struct kvm_cpuid2 *from)
{
	size_t bytes = sizeof(*from) + from->nent * sizeof(from->entries[0]);
	struct kvm_cpuid2 *copy = from->nent <= FAKE_CPUID_MAX ? malloc(bytes) : NULL;

	if (copy)
		memcpy(copy, from, bytes);
	return copy;
}

void kvm_fake_set_supported(struct kvm_system *system, const struct kvm_cpuid2 *cpuid)
{
	free(system->supported);
	system->supported = fake_copy_cpuid(cpuid);
}

int kvm_supported_cpuid(struct kvm_system *system, struct kvm_cpuid2 **ret)
{
	/* A plain AMD processor of the x86-64-v2 level. */
	static const struct kvm_cpuid_entry2 entries[] = {
		{ .function = 0,
		  .eax = 0xd,
		  .ebx = 0x68747541,
		  .ecx = 0x444d4163,
		  .edx = 0x69746e65 },
		{ .function = 1, .eax = 0x800f12, .ecx = 0x81982203, .edx = 0x078bfbff },
		{ .function = 0x80000000, .eax = 0x80000008 },
		{ .function = 0x80000001, .ecx = 0x5, .edx = 0x2c100800 },
		{ .function = 0x80000008, .eax = 0x3028 },
	};
	struct kvm_cpuid2 *cpuid;

	if (system && system->supported) {
		*ret = fake_copy_cpuid(system->supported);
		return *ret ? 0 : -ENOMEM;
	}
	cpuid = calloc(1, sizeof(*cpuid) + sizeof(entries));
	if (!cpuid)
		return -ENOMEM;
	cpuid->nent = ARRAY_SIZE(entries);
	memcpy(cpuid->entries, entries, sizeof(entries));
	*ret = cpuid;
	return 0;
}

int kvm_msr_list(struct kvm_system *system _unused_, struct kvm_msr_list **ret)
{
	/* TSC, SYSENTER_CS/ESP/EIP, PAT, EFER's companions STAR, LSTAR, KERNEL_GS_BASE. */
	static const uint32_t indices[] = { 0x10,  0x174,      0x175,	   0x176,
					    0x277, 0xc0000081, 0xc0000082, 0xc0000102 };
	struct kvm_msr_list *list = calloc(1, sizeof(*list) + sizeof(indices));

	if (!list)
		return -ENOMEM;
	list->nmsrs = ARRAY_SIZE(indices);
	memcpy(list->indices, indices, sizeof(indices));
	*ret = list;
	return 0;
}

int kvm_feature_msr(struct kvm_system *system _unused_, uint32_t index _unused_,
		    uint64_t *ret_value _unused_)
{
	return -ENOENT;
}

int kvm_vm_new(struct kvm_system *system _unused_, struct kvm_vm **ret_vm)
{
	struct kvm_vm *vm = calloc(1, sizeof(*vm));

	if (!vm)
		return -ENOMEM;
	pthread_mutex_init(&vm->lock, NULL);
	vm->host.tsc_khz = KVM_FAKE_TSC_KHZ;
	*ret_vm = vm;
	return 0;
}

void kvm_vm_free(struct kvm_vm *vm)
{
	if (!vm)
		return;
	for (int i = 0; i < FAKE_SLOTS; i++)
		free(vm->slots[i].dirty);
	pthread_mutex_destroy(&vm->lock);
	free(vm);
}

int kvm_vm_enable(struct kvm_vm *vm _unused_, uint32_t capability, const uint64_t args[4] _unused_)
{
	return kvm_check(NULL, (int)capability) ? 0 : -EINVAL;
}

static size_t bitmap_bytes(const struct fake_slot *slot)
{
	return (slot->n_pages + 63) / 64 * 8;
}

int kvm_vm_set_memory(struct kvm_vm *vm, uint32_t slot, uint32_t flags, uint64_t gpa _unused_,
		      uint64_t len, void *host _unused_)
{
	struct fake_slot *s = &vm->slots[slot];
	int r = 0;

	if (slot >= FAKE_SLOTS)
		return -EINVAL;
	pthread_mutex_lock(&vm->lock);
	if (s->n_pages != len / 4096) {
		free(s->dirty);
		s->n_pages = len / 4096;
		s->dirty = calloc(1, bitmap_bytes(s) + 8);
		r = s->dirty ? 0 : -ENOMEM;
	}
	s->flags = flags;
	pthread_mutex_unlock(&vm->lock);
	return r;
}

int kvm_vm_set_tss(struct kvm_vm *vm _unused_, uint32_t gpa _unused_)
{
	return 0;
}

int kvm_vm_set_identity_map(struct kvm_vm *vm _unused_, uint64_t gpa _unused_)
{
	return 0;
}

void kvm_fake_dirty(struct kvm_vm *vm, uint32_t slot, uint64_t page)
{
	struct fake_slot *s = &vm->slots[slot];

	pthread_mutex_lock(&vm->lock);
	if ((s->flags & KVM_MEM_LOG_DIRTY_PAGES) && page < s->n_pages)
		s->dirty[page / 64] |= 1ULL << (page % 64);
	pthread_mutex_unlock(&vm->lock);
}

void kvm_fake_fail_dirty_log(struct kvm_vm *vm, int error)
{
	vm->dirty_log_error = error;
}

int kvm_vm_get_dirty_log(struct kvm_vm *vm, uint32_t slot, void *bitmap)
{
	struct fake_slot *s = &vm->slots[slot];

	if (vm->dirty_log_error)
		return vm->dirty_log_error;
	pthread_mutex_lock(&vm->lock);
	memcpy(bitmap, s->dirty, bitmap_bytes(s));
	pthread_mutex_unlock(&vm->lock);
	return 0;
}

int kvm_vm_clear_dirty_log(struct kvm_vm *vm, uint32_t slot, uint64_t first_page, uint32_t n_pages,
			   void *bitmap)
{
	struct fake_slot *s = &vm->slots[slot];
	const uint64_t *clear = bitmap;

	pthread_mutex_lock(&vm->lock);
	for (uint64_t i = 0; i < n_pages; i++)
		if (clear[i / 64] >> (i % 64) & 1)
			s->dirty[(first_page + i) / 64] &= ~(1ULL << ((first_page + i) % 64));
	pthread_mutex_unlock(&vm->lock);
	return 0;
}

int kvm_vm_reset_dirty_rings(struct kvm_vm *vm _unused_)
{
	return 0;
}

int kvm_vm_ioeventfd(struct kvm_vm *vm _unused_, const struct kvm_ioeventfd *request _unused_)
{
	return 0;
}

int kvm_vm_signal_msi(struct kvm_vm *vm, const struct kvm_msi *msi)
{
	pthread_mutex_lock(&vm->lock);
	vm->msi_count++;
	vm->msi_last = *msi;
	pthread_mutex_unlock(&vm->lock);
	return 1;
}

uint64_t kvm_fake_msi_count(struct kvm_vm *vm, struct kvm_msi *ret_last)
{
	uint64_t count;

	pthread_mutex_lock(&vm->lock);
	count = vm->msi_count;
	if (ret_last)
		*ret_last = vm->msi_last;
	pthread_mutex_unlock(&vm->lock);
	return count;
}

int kvm_vm_set_routing(struct kvm_vm *vm _unused_, const struct kvm_irq_routing *routing _unused_)
{
	return 0;
}

void kvm_fake_set_host(struct kvm_vm *vm, const struct kvm_fake_host *host)
{
	vm->host = *host;
}

int kvm_vm_get_clock(struct kvm_vm *vm, struct kvm_clock_data *ret)
{
	*ret = vm->clock;
	ret->clock += vm->host.monotonic_ns;
	return 0;
}

int kvm_vm_set_clock(struct kvm_vm *vm, const struct kvm_clock_data *clock)
{
	vm->clock = *clock;
	vm->clock.clock -= vm->host.monotonic_ns;
	return 0;
}
