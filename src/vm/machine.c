/* SPDX-License-Identifier: Apache-2.0 */
#include "vm/machine.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "cpu/compat.h"
#include "vm/save.h"

_Static_assert(MACHINE_CPUID_MAX == CPUID_ENTRIES_MAX, "one array holds the other");

static const struct state_field bank_fields[] = {
	STATE_FIELD_U64(struct machine_bank, start),
	STATE_FIELD_U64(struct machine_bank, len),
	STATE_FIELD_U64(struct machine_bank, offset),
};

static const struct state_table bank_table = {
	.name = "bank",
	.version = 2,
	.min_version = 2,
	.size = sizeof(struct machine_bank),
	.fields = bank_fields,
	.n_fields = ARRAY_SIZE(bank_fields),
};

static const struct state_field cpuid_fields[] = {
	STATE_FIELD_U32(struct machine_cpuid, function),
	STATE_FIELD_U32(struct machine_cpuid, index),
	STATE_FIELD_U32(struct machine_cpuid, flags),
	STATE_FIELD_U32(struct machine_cpuid, eax),
	STATE_FIELD_U32(struct machine_cpuid, ebx),
	STATE_FIELD_U32(struct machine_cpuid, ecx),
	STATE_FIELD_U32(struct machine_cpuid, edx),
};

static const struct state_table cpuid_table = {
	.name = "cpuid",
	.version = 2,
	.min_version = 2,
	.size = sizeof(struct machine_cpuid),
	.fields = cpuid_fields,
	.n_fields = ARRAY_SIZE(cpuid_fields),
};

static const struct state_field machine_fields[] = {
	STATE_FIELD_U32(struct machine_state, state_version),
	STATE_FIELD_U32(struct machine_state, board),
	STATE_FIELD_U32(struct machine_state, irqchip),
	STATE_FIELD_U32(struct machine_state, n_vcpus),
	STATE_FIELD_U32(struct machine_state, max_vcpus),
	STATE_FIELD_VARRAY(struct machine_state, banks, n_banks, &bank_table),
	STATE_FIELD_KIND(struct machine_state, model, STATE_U32, STATE_LOCAL),
	STATE_FIELD_VARRAY(struct machine_state, cpuid, n_cpuid, &cpuid_table),
	{ .name = "paused",
	  .type = STATE_U8,
	  .offset = offsetof(struct machine_state, paused),
	  .size = 1,
	  .count = 1,
	  .since = VM_STATE_PAUSED_SINCE },
};

const struct state_table machine_table = {
	.name = "machine",
	.version = VM_STATE_PAUSED_SINCE,
	.min_version = 2,
	.since = 2,
	.size = sizeof(struct machine_state),
	.fields = machine_fields,
	.n_fields = ARRAY_SIZE(machine_fields),
};

void machine_describe(const struct vm *vm, uint32_t state_version, struct machine_state *ret_state)
{
	*ret_state = (struct machine_state){
		.state_version = state_version,
		.board = MACHINE_BOARD,
		.irqchip = MACHINE_IRQCHIP_SPLIT,
		.n_vcpus = vm->n_vcpus,
		.max_vcpus = vm->config->cpus.max,
		.n_banks = (uint32_t)vm->memory->n_banks,
		.model = vm->config->cpus.model,
		.n_cpuid = vm->cpuid->nent,
		.paused = !!(vm->holders & VM_HELD_BY_USER),
	};
	for (size_t i = 0; i < vm->memory->n_banks; i++) {
		const struct memory_bank *bank = &vm->memory->banks[i];

		ret_state->banks[i] = (struct machine_bank){ bank->start.v, bank->len,
							     bank->offset };
	}
	for (uint32_t i = 0; i < vm->cpuid->nent; i++) {
		const struct kvm_cpuid_entry2 *e = &vm->cpuid->entries[i];

		ret_state->cpuid[i] = (struct machine_cpuid){
			e->function, e->index, e->flags, e->eax, e->ebx, e->ecx, e->edx,
		};
	}
}

struct kvm_cpuid2 *machine_cpuid(const struct machine_state *state)
{
	struct kvm_cpuid2 *cpuid = cpuid_new();

	if (!cpuid)
		return NULL;
	cpuid->nent = state->n_cpuid;
	for (uint32_t i = 0; i < state->n_cpuid; i++) {
		const struct machine_cpuid *e = &state->cpuid[i];

		cpuid->entries[i] = (struct kvm_cpuid_entry2){
			.function = e->function,
			.index = e->index,
			.flags = e->flags,
			.eax = e->eax,
			.ebx = e->ebx,
			.ecx = e->ecx,
			.edx = e->edx,
		};
	}
	return cpuid;
}

/* One number that must be equal, and how a person calls it. */
struct fact {
	const char *what;
	uint64_t there, here;
	const char *way_out;
};

static int judge_facts(const struct fact facts[], size_t n, struct error *err)
{
	for (size_t i = 0; i < n; i++)
		if (facts[i].there != facts[i].here)
			return error_set(err, -EINVAL, EXIT_STATUS_FAILED,
					 "state of machine: %s: %llu there, %llu here; %s",
					 facts[i].what, (unsigned long long)facts[i].there,
					 (unsigned long long)facts[i].here, facts[i].way_out);
	return 0;
}

#define SAME_PROGRAM "use the same version of the program"
#define SAME_CONFIGURATION "make the VM with the same configuration"

static int judge_shape(const struct machine_state *saved, const struct machine_state *here,
		       struct error *err)
{
	const struct fact facts[] = {
		{ "version of the board", saved->board, here->board, SAME_PROGRAM },
		{ "model of interrupt controllers", saved->irqchip, here->irqchip, SAME_PROGRAM },
		{ "vCPUs", saved->n_vcpus, here->n_vcpus, SAME_CONFIGURATION },
		{ "vCPUs at most", saved->max_vcpus, here->max_vcpus, SAME_CONFIGURATION },
		{ "banks of RAM", saved->n_banks, here->n_banks, SAME_CONFIGURATION },
	};

	return judge_facts(facts, ARRAY_SIZE(facts), err);
}

static int judge_banks(const struct machine_state *saved, const struct machine_state *here,
		       struct error *err)
{
	for (uint32_t i = 0; i < here->n_banks; i++) {
		const struct machine_bank *there = &saved->banks[i], *mine = &here->banks[i];
		const struct fact facts[] = {
			{ "guest address of a bank of RAM", there->start, mine->start,
			  SAME_CONFIGURATION },
			{ "bytes of a bank of RAM", there->len, mine->len, SAME_CONFIGURATION },
			{ "offset of a bank of RAM", there->offset, mine->offset,
			  SAME_CONFIGURATION },
		};
		int r = judge_facts(facts, ARRAY_SIZE(facts), err);

		if (r < 0)
			return r;
	}
	return 0;
}

static int judge_cpu(struct vm *vm, const struct machine_state *saved, struct error *err)
{
	_cleanup_(freep) struct kvm_cpuid2 *supported = NULL, *cpuid = machine_cpuid(saved);
	int r = cpuid ? kvm_supported_cpuid(vm->kvm_system, &supported) : -ENOMEM;

	return r < 0 ? r : cpu_compat_check(cpuid, supported, err);
}

int machine_judge(struct vm *vm, const struct machine_state *saved, struct error *err)
{
	_cleanup_(freep) struct machine_state *here = malloc(sizeof(*here));
	int r;

	if (!here)
		return -ENOMEM;
	machine_describe(vm, saved->state_version, here);
	r = judge_shape(saved, here, err);
	if (r == 0)
		r = judge_banks(saved, here, err);
	return r == 0 ? judge_cpu(vm, saved, err) : r;
}
