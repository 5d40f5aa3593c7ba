/* SPDX-License-Identifier: Apache-2.0 */
#include "kvm/fake_internal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define MSR_TSC 0x10

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
	vcpu->tsc_khz = vm->host.tsc_khz;
	vcpu->answered = true;
	*ret_vcpu = vcpu;
	return 0;
}

void kvm_vcpu_free(struct kvm_vcpu *vcpu)
{
	if (!vcpu)
		return;
	free(vcpu->run);
	free(vcpu->cpuid);
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
	const struct kvm_fake_exit *exit;

	if (vcpu->answered)
		return;
	exit = &vcpu->exits[vcpu->next];
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

int kvm_vcpu_set_cpuid(struct kvm_vcpu *vcpu, const struct kvm_cpuid2 *cpuid)
{
	struct kvm_cpuid2 *copy = fake_copy_cpuid(cpuid);

	if (!copy)
		return -E2BIG;
	free(vcpu->cpuid);
	vcpu->cpuid = copy;
	return 0;
}

const struct kvm_cpuid2 *kvm_fake_cpuid(const struct kvm_vcpu *vcpu)
{
	return vcpu->cpuid;
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

/* As KVM scales it, by a fixed-point fraction of 32 bits (AMD APM 2, 15.30.5); within the tolerance it does not. */
static uint64_t scaled_host_tsc(const struct kvm_vcpu *vcpu)
{
	const struct kvm_fake_host *host = &vcpu->vm->host;
	int64_t apart = (int64_t)vcpu->tsc_khz - host->tsc_khz;
	uint64_t ratio = ((uint64_t)vcpu->tsc_khz << 32) / host->tsc_khz;

	if (!host->scales || llabs(apart) * 1000000 <= 250LL * host->tsc_khz)
		return host->tsc;
	return (uint64_t)((unsigned __int128)host->tsc * ratio >> 32);
}

uint64_t kvm_fake_guest_tsc(const struct kvm_vcpu *vcpu)
{
	return scaled_host_tsc(vcpu) + vcpu->tsc_offset;
}

int kvm_vcpu_get_msrs(struct kvm_vcpu *vcpu, struct kvm_msrs *msrs)
{
	for (uint32_t i = 0; i < msrs->nmsrs; i++) {
		const struct kvm_msr_entry *entry = find_msr(vcpu, msrs->entries[i].index);

		if (msrs->entries[i].index == MSR_TSC)
			msrs->entries[i].data = kvm_fake_guest_tsc(vcpu);
		else
			msrs->entries[i].data = entry ? entry->data : 0;
	}
	return (int)msrs->nmsrs;
}

void kvm_fake_refuse_msr(struct kvm_vcpu *vcpu, uint32_t index)
{
	vcpu->refused_msr = index;
}

void kvm_fake_forget_msr(struct kvm_vcpu *vcpu, uint32_t index)
{
	vcpu->forgotten_msr = index;
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
		if (vcpu->forgotten_msr && entry->index == vcpu->forgotten_msr)
			entry->data = 0;
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
	if (khz >= 256ULL * vcpu->vm->host.tsc_khz) /* the fraction has 8 bits before its point */
		return -EINVAL;
	vcpu->tsc_khz = khz ? khz : vcpu->vm->host.tsc_khz;
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

int kvm_vcpu_set_guest_debug(struct kvm_vcpu *vcpu, const struct kvm_guest_debug *debug)
{
	vcpu->guest_debug = *debug;
	return 0;
}

const struct kvm_guest_debug *kvm_fake_guest_debug(const struct kvm_vcpu *vcpu)
{
	return &vcpu->guest_debug;
}

/* The guest's page tables: its low 4 GiB as they are, and once more from -2 GiB up, as a kernel has itself. */
int kvm_vcpu_translate(struct kvm_vcpu *vcpu _unused_, uint64_t linear, uint64_t *ret_physical)
{
	const uint64_t kernel = 0xffffffff80000000;

	if (linear >= GIB(4) && linear < kernel)
		return -EFAULT;
	*ret_physical = linear >= kernel ? linear - kernel : linear;
	return 0;
}

int kvm_vcpu_interrupt(struct kvm_vcpu *vcpu _unused_, uint32_t vector _unused_)
{
	return 0;
}
