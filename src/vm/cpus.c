/* SPDX-License-Identifier: Apache-2.0 */
#include "vm/cpus.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "cpu/cpuid.h"
#include "cpu/model.h"
#include "cpu/start.h"
#include "device/generation.h"
#include "vm/interrupts.h"
#include "vm/kernel.h"
#include "vm/memory_map.h"

/* RAM and the PCI window above it must be addressable for the guest. */
static int check_width(const struct vm *vm, const struct kvm_cpuid2 *cpuid, struct error *err)
{
	uint32_t bits = cpu_model_address_bits(cpuid);

	if (vm->acpi.pci64_base + vm->acpi.pci64_len <= 1ULL << bits)
		return 0;
	return error_set(
		err, -EINVAL, EXIT_STATUS_USAGE,
		"--memory: too much for the %u bits of physical address of this CPU model; "
		"give less, or use --cpus model=host on a host with more bits",
		bits);
}

static int create_one(struct vm *vm, const struct kvm_cpuid2 *supported, uint32_t index,
		      struct error *err)
{
	const struct vcpu_host host = interrupts_vcpu_host(vm);
	_cleanup_(freep) struct kvm_cpuid2 *cpuid = NULL;
	int r = cpu_model_cpuid(vm->config->cpus.model, supported, index, vm->config->cpus.max,
				&cpuid, err);

	if (r == 0)
		r = check_width(vm, cpuid, err);
	if (r == 0)
		r = vcpu_new(&host, index, cpuid, &vm->vcpus[index], err);
	if (r == 0)
		r = cpu_model_set_msrs(vm->config->cpus.model, vcpu_kvm(vm->vcpus[index]));
	if (r == 0 && index == 0)
		vm->cpuid = TAKE_PTR(cpuid);
	return r;
}

/* Each vCPU as KVM made it: what a reset goes back to. */
static int remember_power_on(struct vm *vm)
{
	struct kvm_vcpu *first = vcpu_kvm(vm->vcpus[0]);
	struct vcpu_moment moment;
	int r = vcpu_layout_init(vm->kvm_system, vm->kvm, first, &vm->cpu_layout);

	if (r == 0)
		r = vcpu_moment_now(first, &moment);
	for (uint32_t i = 0; r == 0 && i < vm->n_vcpus; i++) {
		if (!vm->power_on[i])
			vm->power_on[i] = calloc(1, sizeof(*vm->power_on[i]));
		if (!vm->power_on[i])
			return -ENOMEM;
		r = vcpu_state_get(&vm->cpu_layout, vcpu_kvm(vm->vcpus[i]), &moment,
				   vm->power_on[i]);
	}
	return r;
}

int cpus_create(struct vm *vm, struct error *err)
{
	_cleanup_(freep) struct kvm_cpuid2 *supported = NULL;
	int r = kvm_supported_cpuid(vm->kvm_system, &supported);

	for (uint32_t i = 0; r == 0 && i < vm->config->cpus.count; i++) {
		r = create_one(vm, supported, i, err);
		if (vm->vcpus[i])
			vm->n_vcpus++;
	}
	return r < 0 ? r : remember_power_on(vm);
}

int cpus_boot(struct vm *vm, const struct boot_entry *entry)
{
	return cpu_start_set(vcpu_kvm(vm->vcpus[0]), &entry->start);
}

void cpus_run(struct vm *vm, void (*work)(void *vcpu, void *arg), void *arg)
{
	if (vm->threads) {
		quiesce_run(&vm->quiesce, QUIESCE_VCPU, work, arg);
		return;
	}
	for (uint32_t i = 0; i < vm->n_vcpus; i++)
		work(vm->vcpus[i], arg);
}

int cpus_start(struct vm *vm, const struct thread_entry *enter, struct error *err)
{
	vm->threads = true;
	for (uint32_t i = 0; i < vm->n_vcpus; i++) {
		int r = vcpu_start(vm->vcpus[i], enter);

		if (r < 0)
			return error_set(err, r, EXIT_STATUS_HOST,
					 "--cpus: cannot start the thread of vCPU %u: %s", i,
					 strerror(-r));
	}
	return 0;
}

void cpus_stop(struct vm *vm)
{
	for (uint32_t i = 0; i < vm->n_vcpus; i++)
		vcpu_stop(vm->vcpus[i]);
	vm->threads = false;
}

void cpus_free(struct vm *vm)
{
	for (uint32_t i = 0; i < vm->n_vcpus; i++) {
		vcpu_free(vm->vcpus[i]);
		vm->vcpus[i] = NULL;
		free(vm->power_on[i]);
	}
	free(TAKE_PTR(vm->cpuid));
	vm->n_vcpus = 0;
}

void cpus_quiesce(struct vm *vm)
{
	for (uint32_t i = 0; vm->threads && i < vm->n_vcpus; i++)
		vcpu_wait_joined(vm->vcpus[i]);
	quiesce_begin(&vm->quiesce);
}

void cpus_park(struct vm *vm, enum vcpu_parker who, bool park)
{
	for (uint32_t i = 0; i < vm->n_vcpus; i++)
		vcpu_park(vm->vcpus[i], who, park);
}

/* What each vCPU's thread does to show another CPUID. */
struct showing {
	struct vm *vm;
	const struct kvm_cpuid2 *cpuid;
	struct vcpu_moment moment;
	int results[LIMIT_VCPUS];
};

/* Registers go back to power-on under the old CPUID, which judges them. */
static void show_cpuid(void *owner, void *arg)
{
	struct showing *showing = arg;
	struct vm *vm = showing->vm;
	uint32_t i = vcpu_index(owner);
	_cleanup_(freep) struct kvm_cpuid2 *cpuid = NULL;
	int r = vcpu_state_set(&vm->cpu_layout, vcpu_kvm(owner), &showing->moment, vm->power_on[i],
			       NULL);

	if (r == 0)
		r = cpu_model_sibling(showing->cpuid, i, vm->config->cpus.max, &cpuid);
	if (r == 0)
		r = kvm_vcpu_set_cpuid(vcpu_kvm(owner), cpuid);
	if (r == 0)
		r = cpu_model_set_msrs(vm->config->cpus.model, vcpu_kvm(owner));
	showing->results[i] = r;
}

static bool is_shown(const struct vm *vm, const struct kvm_cpuid2 *cpuid)
{
	return vm->cpuid->nent == cpuid->nent &&
	       memcmp(vm->cpuid->entries, cpuid->entries,
		      cpuid->nent * sizeof(cpuid->entries[0])) == 0;
}

static int keep_shown(struct vm *vm, const struct kvm_cpuid2 *cpuid)
{
	struct kvm_cpuid2 *copy = cpuid_new();

	if (!copy)
		return -ENOMEM;
	copy->nent = cpuid->nent;
	memcpy(copy->entries, cpuid->entries, cpuid->nent * sizeof(cpuid->entries[0]));
	free(vm->cpuid);
	vm->cpuid = copy;
	return 0;
}

int cpus_show(struct vm *vm, const struct kvm_cpuid2 *cpuid, struct error *err)
{
	_cleanup_(freep) struct showing *showing = NULL;
	int r = 0;

	if (is_shown(vm, cpuid))
		return 0;
	showing = calloc(1, sizeof(*showing));
	if (!showing)
		return -ENOMEM;
	showing->vm = vm;
	showing->cpuid = cpuid;
	r = vcpu_moment_now(vcpu_kvm(vm->vcpus[0]), &showing->moment);
	if (r == 0)
		cpus_run(vm, show_cpuid, showing);
	for (uint32_t i = 0; r == 0 && i < vm->n_vcpus; i++)
		r = showing->results[i];
	/* Which MSRs there are depends on the CPUID. */
	if (r == 0)
		r = remember_power_on(vm);
	if (r == 0)
		r = keep_shown(vm, cpuid);
	return r < 0 ? error_set(err, r, EXIT_STATUS_HOST,
				 "CPU: this host's KVM does not take the guest's CPUID: %s; take a "
				 "host like the one it comes from",
				 strerror(-r))
		     : 0;
}

/* What each vCPU's thread does at a reset, in parallel; the boot vCPU fills RAM too, because only vCPU
 * and queue threads may touch guest RAM. */
struct power_on {
	struct vm *vm;
	struct vcpu_moment moment;
	int results[LIMIT_VCPUS];
	struct error errors[LIMIT_VCPUS];
};

static void power_on_vcpu(void *owner, void *arg)
{
	struct power_on *power_on = arg;
	struct vm *vm = power_on->vm;
	uint32_t i = vcpu_index(owner);
	struct error *err = &power_on->errors[i];
	struct boot_entry entry;
	int r = vcpu_state_set(&vm->cpu_layout, vcpu_kvm(owner), &power_on->moment, vm->power_on[i],
			       err);

	if (r == 0 && i == 0)
		r = kernel_load(vm, &entry, err);
	if (r == 0 && i == 0)
		r = generation_publish(vm->generation, err);
	if (r == 0 && i == 0)
		r = cpus_boot(vm, &entry);
	power_on->results[i] = r;
}

int cpus_power_on(struct vm *vm, struct error *err)
{
	_cleanup_(freep) struct power_on *power_on = calloc(1, sizeof(*power_on));
	int r;

	if (!power_on)
		return error_set(err, -ENOMEM, EXIT_STATUS_HOST, "reset: out of memory");
	power_on->vm = vm;
	r = vcpu_moment_now(vcpu_kvm(vm->vcpus[0]), &power_on->moment);
	if (r < 0)
		return error_set(err, r, EXIT_STATUS_FAILED, "reset: the TSC cannot be read: %s",
				 strerror(-r));
	cpus_run(vm, power_on_vcpu, power_on);
	for (uint32_t i = 0; i < vm->n_vcpus; i++)
		if (power_on->results[i] < 0)
			return error_set(err, power_on->results[i], EXIT_STATUS_FAILED,
					 "reset of vCPU %u: %s", i,
					 power_on->errors[i].code
						 ? power_on->errors[i].message
						 : strerror(-power_on->results[i]));
	return 0;
}

static void tell_clock(void *owner, void *arg _unused_)
{
	/* -EINVAL: the guest does not use kvmclock. */
	(void)!kvm_vcpu_kvmclock_ctrl(vcpu_kvm(owner));
}

/* Each vCPU's own thread tells its clock: one that stands in a page now can do so later only. */
void cpus_wait(struct vm *vm, bool wait)
{
	for (uint32_t i = 0; i < vm->n_vcpus; i++) {
		if (!wait)
			vcpu_tell_stood(vm->vcpus[i]);
		vcpu_park(vm->vcpus[i], PARKED_BY_MEMORY, wait);
	}
}

void cpus_clock_stopped(struct vm *vm)
{
	cpus_run(vm, tell_clock, NULL);
}
