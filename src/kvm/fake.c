/* SPDX-License-Identifier: Apache-2.0 */
#include "kvm/fake.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/fd.h"

#define FAKE_SLOTS 8
#define FAKE_MSRS 256
#define FAKE_XSAVE_MAX 8192
#define FAKE_TSC_KHZ 2000000

struct kvm_system {
	int fd;
};

struct fake_slot {
	uint64_t n_pages;
	uint32_t flags;
	uint64_t *dirty; /* one bit per page */
};

struct kvm_vm {
	pthread_mutex_t lock; /* guards all of it */
	struct fake_slot slots[FAKE_SLOTS];
	uint64_t msi_count;
	struct kvm_msi msi_last;
	struct kvm_clock_data clock;
	int dirty_log_error;
};

struct kvm_vcpu {
	struct kvm_vm *vm;
	struct kvm_run *run;
	const struct kvm_fake_exit *exits;
	size_t n_exits, next;
	uint64_t repeated;
	bool answered; /* the exit before has shown its answer */
	bool done;     /* atomic */
	struct kvm_regs regs;
	struct kvm_sregs sregs;
	uint8_t xsave[FAKE_XSAVE_MAX];
	struct kvm_xcrs xcrs;
	struct kvm_debugregs debugregs;
	struct kvm_lapic_state lapic;
	struct kvm_vcpu_events events;
	struct kvm_mp_state mp_state;
	struct kvm_msr_entry msrs[FAKE_MSRS];
	size_t n_msrs;
	uint32_t refused_msr; /* 0: none */
	uint32_t tsc_khz;
	uint64_t tsc_offset;
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

int kvm_vm_check(struct kvm_vm *vm _unused_, int capability)
{
	return kvm_check(NULL, capability);
}

int kvm_supported_cpuid(struct kvm_system *system _unused_, struct kvm_cpuid2 **ret)
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
	struct kvm_cpuid2 *cpuid = calloc(1, sizeof(*cpuid) + sizeof(entries));

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

int kvm_vm_get_clock(struct kvm_vm *vm, struct kvm_clock_data *ret)
{
	*ret = vm->clock;
	return 0;
}

int kvm_vm_set_clock(struct kvm_vm *vm, const struct kvm_clock_data *clock)
{
	vm->clock = *clock;
	return 0;
}

int kvm_vcpu_new(struct kvm_vm *vm, uint32_t id _unused_, struct kvm_vcpu **ret_vcpu)
{
	struct kvm_vcpu *vcpu = calloc(1, sizeof(*vcpu));

	if (!vcpu)
		return -ENOMEM;
	vcpu->run = calloc(1, sizeof(*vcpu->run) + 4096); /* PIO data lies behind the struct */
	if (!vcpu->run) {
		free(vcpu);
		return -ENOMEM;
	}
	vcpu->vm = vm;
	vcpu->tsc_khz = FAKE_TSC_KHZ;
	vcpu->answered = true;
	*ret_vcpu = vcpu;
	return 0;
}

void kvm_vcpu_free(struct kvm_vcpu *vcpu)
{
	if (!vcpu)
		return;
	free(vcpu->run);
	free(vcpu);
}

struct kvm_run *kvm_vcpu_run_page(struct kvm_vcpu *vcpu)
{
	return vcpu->run;
}

void kvm_fake_script(struct kvm_vcpu *vcpu, const struct kvm_fake_exit *exits, size_t count)
{
	vcpu->exits = exits;
	vcpu->n_exits = count;
	vcpu->next = 0;
	vcpu->repeated = 0;
	__atomic_store_n(&vcpu->done, count == 0, __ATOMIC_RELEASE);
}

bool kvm_fake_script_done(const struct kvm_vcpu *vcpu)
{
	return __atomic_load_n(&vcpu->done, __ATOMIC_ACQUIRE);
}

/* Entering again completes the exit before, as in the real KVM. */
static void complete_exit(struct kvm_vcpu *vcpu)
{
	const struct kvm_fake_exit *exit = &vcpu->exits[vcpu->next];

	if (vcpu->answered)
		return;
	vcpu->answered = true;
	if (exit->then)
		exit->then(vcpu->run, exit->ctx);
	if (++vcpu->repeated >= MAX(exit->times, 1)) {
		vcpu->repeated = 0;
		vcpu->next++;
	}
}

static int wait_for_kick(struct kvm_vcpu *vcpu)
{
	const struct timespec millisecond = { .tv_nsec = 1000000 };

	__atomic_store_n(&vcpu->done, true, __ATOMIC_RELEASE);
	while (!__atomic_load_n(&vcpu->run->immediate_exit, __ATOMIC_ACQUIRE))
		nanosleep(&millisecond, NULL);
	return -EINTR;
}

int kvm_vcpu_run(struct kvm_vcpu *vcpu)
{
	complete_exit(vcpu);
	if (__atomic_load_n(&vcpu->run->immediate_exit, __ATOMIC_ACQUIRE))
		return -EINTR;
	if (vcpu->next >= vcpu->n_exits)
		return wait_for_kick(vcpu);
	vcpu->exits[vcpu->next].fill(vcpu->run, vcpu->exits[vcpu->next].ctx);
	vcpu->answered = false;
	return 0;
}

int kvm_vcpu_map_dirty_ring(struct kvm_vcpu *vcpu _unused_, size_t bytes _unused_,
			    struct kvm_dirty_gfn **ret_ring _unused_)
{
	return -EOPNOTSUPP;
}

#define FAKE_FIELD(name, type)                                                                     \
	int kvm_vcpu_get_##name(struct kvm_vcpu *vcpu, type *ret)                                  \
	{                                                                                          \
		*ret = vcpu->name;                                                                 \
		return 0;                                                                          \
	}                                                                                          \
	int kvm_vcpu_set_##name(struct kvm_vcpu *vcpu, const type *value)                          \
	{                                                                                          \
		vcpu->name = *value;                                                               \
		return 0;                                                                          \
	}

FAKE_FIELD(regs, struct kvm_regs)
FAKE_FIELD(sregs, struct kvm_sregs)
FAKE_FIELD(xcrs, struct kvm_xcrs)
FAKE_FIELD(debugregs, struct kvm_debugregs)
FAKE_FIELD(lapic, struct kvm_lapic_state)
FAKE_FIELD(events, struct kvm_vcpu_events)
FAKE_FIELD(mp_state, struct kvm_mp_state)

int kvm_vcpu_set_cpuid(struct kvm_vcpu *vcpu _unused_, const struct kvm_cpuid2 *cpuid _unused_)
{
	return 0;
}

int kvm_vcpu_get_xsave(struct kvm_vcpu *vcpu, void *area, size_t size)
{
	memcpy(area, vcpu->xsave, MIN(size, sizeof(vcpu->xsave)));
	return 0;
}

int kvm_vcpu_set_xsave(struct kvm_vcpu *vcpu, const void *area, size_t size)
{
	memcpy(vcpu->xsave, area, MIN(size, sizeof(vcpu->xsave)));
	return 0;
}

static struct kvm_msr_entry *find_msr(struct kvm_vcpu *vcpu, uint32_t index)
{
	for (size_t i = 0; i < vcpu->n_msrs; i++)
		if (vcpu->msrs[i].index == index)
			return &vcpu->msrs[i];
	return NULL;
}

int kvm_vcpu_get_msrs(struct kvm_vcpu *vcpu, struct kvm_msrs *msrs)
{
	for (uint32_t i = 0; i < msrs->nmsrs; i++) {
		const struct kvm_msr_entry *entry = find_msr(vcpu, msrs->entries[i].index);

		msrs->entries[i].data = entry ? entry->data : 0;
	}
	return (int)msrs->nmsrs;
}

void kvm_fake_refuse_msr(struct kvm_vcpu *vcpu, uint32_t index)
{
	vcpu->refused_msr = index;
}

int kvm_vcpu_set_msrs(struct kvm_vcpu *vcpu, const struct kvm_msrs *msrs)
{
	for (uint32_t i = 0; i < msrs->nmsrs; i++) {
		struct kvm_msr_entry *entry = find_msr(vcpu, msrs->entries[i].index);

		if ((!entry && vcpu->n_msrs == FAKE_MSRS) ||
		    (vcpu->refused_msr && msrs->entries[i].index == vcpu->refused_msr))
			return (int)i;
		if (!entry)
			entry = &vcpu->msrs[vcpu->n_msrs++];
		*entry = msrs->entries[i];
	}
	return (int)msrs->nmsrs;
}

int kvm_vcpu_get_tsc_khz(struct kvm_vcpu *vcpu, uint32_t *ret_khz)
{
	*ret_khz = vcpu->tsc_khz;
	return 0;
}

int kvm_vcpu_set_tsc_khz(struct kvm_vcpu *vcpu, uint32_t khz)
{
	vcpu->tsc_khz = khz;
	return 0;
}

int kvm_vcpu_get_tsc_offset(struct kvm_vcpu *vcpu, uint64_t *ret_offset)
{
	*ret_offset = vcpu->tsc_offset;
	return 0;
}

int kvm_vcpu_set_tsc_offset(struct kvm_vcpu *vcpu, uint64_t offset)
{
	vcpu->tsc_offset = offset;
	return 0;
}

int kvm_vcpu_kvmclock_ctrl(struct kvm_vcpu *vcpu _unused_)
{
	return 0;
}

int kvm_vcpu_interrupt(struct kvm_vcpu *vcpu _unused_, uint32_t vector _unused_)
{
	return 0;
}
