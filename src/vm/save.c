/* SPDX-License-Identifier: Apache-2.0 */
#include "vm/save.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "vm/cpus.h"
#include "vm/machine.h"
#include "vm/save_internal.h"

static const struct state_field clock_fields[] = {
	/* Rule: what it was, plus the measured time of the stop. */
	STATE_FIELD_KIND(struct clock_state, nanoseconds, STATE_U64, STATE_CLOCK),
	{ .name = "moment_ns",
	  .type = STATE_U64,
	  .kind = STATE_LOCAL,
	  .offset = offsetof(struct clock_state, moment_ns),
	  .size = sizeof(uint64_t),
	  .count = 1,
	  .since = 2 },
};

static void clock_defaults(void *state)
{
	((struct clock_state *)state)->moment_ns = 0;
}

/* Three hundred years of guest, and as much of standing still, fit into the sum. */
static int check_clock(const void *state, struct error *err)
{
	if (((const struct clock_state *)state)->nanoseconds <= INT64_MAX)
		return 0;
	return error_set(
		err, -EBADMSG, EXIT_STATUS_FAILED,
		"state of clock: the guest's clock cannot be so late; the stream is damaged");
}

const struct state_table vm_clock_table = {
	.name = "clock",
	.version = 2,
	.min_version = 1,
	.size = sizeof(struct clock_state),
	.fields = clock_fields,
	.n_fields = ARRAY_SIZE(clock_fields),
	.defaults = clock_defaults,
	.check = check_clock,
};

int vcpu_results(const struct vm *vm, const struct vcpu_result results[], struct error *err)
{
	for (uint32_t i = 0; i < vm->n_vcpus; i++)
		if (results[i].code < 0)
			return error_set(err, results[i].code, EXIT_STATUS_FAILED, "vCPU %u: %s", i,
					 results[i].err.code ? results[i].err.message
							     : strerror(-results[i].code));
	return 0;
}

/* What a save works with. */
struct saving {
	struct vm *vm;
	uint16_t version;
	struct buffer *out;
	struct vcpu_moment moment;
	struct clock_state clock;
	/* What the vCPUs' threads work on, each its own element. */
	struct vcpu_result results[LIMIT_VCPUS];
	struct vcpu_state states[LIMIT_VCPUS];
};

static int save_section(const struct saving *saving, const struct state_table *table,
			const char *instance, const void *state)
{
	return state_save_as(saving->out, table, saving->version, instance, state);
}

static int save_machine(struct saving *saving)
{
	_cleanup_(freep) struct machine_state *state = malloc(sizeof(*state));

	if (!state)
		return -ENOMEM;
	machine_describe(saving->vm, saving->version, state);
	return save_section(saving, &machine_table, SECTION_MACHINE, state);
}

static void read_vcpu(void *owner, void *arg)
{
	struct saving *saving = arg;
	uint32_t i = vcpu_index(owner);
	int vector = vcpu_waiting_vector(owner);

	saving->results[i].code = vcpu_state_get(&saving->vm->cpu_layout, vcpu_kvm(owner),
						 &saving->moment, &saving->states[i]);
	if (vector >= 0)
		vcpu_state_add_vector(&saving->states[i], (uint8_t)vector);
}

static int save_vcpus(struct saving *saving, struct error *err)
{
	struct vm *vm = saving->vm;
	int r;

	cpus_run(vm, read_vcpu, saving);
	r = vcpu_results(vm, saving->results, err);
	for (uint32_t i = 0; r == 0 && i < vm->n_vcpus; i++) {
		char name[LIMIT_STATE_NAME];

		vcpu_section_name(name, i);
		r = save_section(saving, &vcpu_state_table, name, &saving->states[i]);
	}
	return r;
}

static int save_devices(struct saving *saving, enum vm_save_scope scope, struct error *err)
{
	struct list *item, *next;

	list_for_each(item, next, &saving->vm->devices) {
		struct device *device = container_of(item, struct device, link);
		bool touched = __atomic_exchange_n(&device->touched, false, __ATOMIC_RELAXED);
		int r;

		if (!device->table || (scope == VM_SAVE_TOUCHED && !touched))
			continue;
		r = save_section(saving, device->table, device->name, device->state);
		if (r < 0)
			return error_set(err, r, EXIT_STATUS_FAILED, "state of %s: %s",
					 device->name, strerror(-r));
	}
	return 0;
}

/*
 * Every clock of the guest is read here, one right after the other and before anything long: a stop is counted from one
 * moment for all of them, so that they stay in step with each other. The barrier stands for the devices' locks: no other
 * thread touches one now.
 */
static int take_moment(struct saving *saving)
{
	struct vm *vm = saving->vm;
	struct kvm_clock_data data = { 0 };
	struct list *item, *next;
	int r = kvm_vm_get_clock(vm->kvm, &data);

	vm->saved_ns = clock_now(loop_clock(vm->loop));
	if (r == 0)
		r = vcpu_moment_now(vcpu_kvm(vm->vcpus[0]), &saving->moment);
	if (r < 0)
		return r;
	saving->clock = (struct clock_state){ .nanoseconds = data.clock,
					      .moment_ns = vm->saved_ns };
	list_for_each(item, next, &vm->devices) {
		struct device *device = container_of(item, struct device, link);

		if (device->ops->before_save)
			device->ops->before_save(device);
	}
	return 0;
}

/* One access is half done: neither what was before nor what will be after is the guest's state. */
static int refuse_held(const struct vm *vm, struct error *err)
{
	for (uint32_t i = 0; i < vm->n_vcpus; i++)
		if (vcpu_is_held(vm->vcpus[i]))
			return error_set(
				err, -EBUSY, EXIT_STATUS_BUSY,
				"the VM stands on a request of a breakpoint; let it go on first");
	return 0;
}

static int refuse_paused(const struct vm *vm, uint16_t version, struct error *err)
{
	if (version >= VM_STATE_PAUSED_SINCE || !(vm->holders & VM_HELD_BY_USER))
		return 0;
	return error_set(err, -EPROTONOSUPPORT, EXIT_STATUS_BUSY,
			 "%s: is paused, and a program that knows states up to version %u would "
			 "let it run; resume it first (utsusu resume %s), or use a newer one there",
			 vm->config->name, version, vm->config->name);
}

static int save_sections(struct saving *saving, enum vm_save_scope scope, struct error *err)
{
	int r = take_moment(saving);

	if (r == 0 && scope == VM_SAVE_ALL && saving->version >= machine_table.since)
		r = save_machine(saving);
	if (r == 0)
		r = save_section(saving, &vm_clock_table, SECTION_CLOCK, &saving->clock);
	if (r == 0)
		r = save_vcpus(saving, err);
	return r == 0 ? save_devices(saving, scope, err) : r;
}

int vm_save_as(struct vm *vm, enum vm_save_scope scope, uint16_t version, struct buffer *out,
	       struct error *err)
{
	_cleanup_(freep) struct saving *saving = calloc(1, sizeof(*saving));
	size_t start = out->len;
	int r = refuse_held(vm, err);

	if (!saving)
		return -ENOMEM;
	if (r < 0)
		return r;
	if (version < VM_STATE_VERSION_MIN || version > VM_STATE_VERSION)
		return error_set(err, -EPROTONOSUPPORT, EXIT_STATUS_FAILED,
				 "state of version %u cannot be written by this program, only %u "
				 "to %u; use versions of the program closer to each other",
				 version, VM_STATE_VERSION_MIN, VM_STATE_VERSION);
	r = refuse_paused(vm, version, err);
	if (r < 0)
		return r;
	saving->vm = vm;
	saving->version = version;
	saving->out = out;
	r = save_sections(saving, scope, err);
	if (r < 0)
		out->len = start;
	return r;
}

int vm_save(struct vm *vm, enum vm_save_scope scope, struct buffer *out, struct error *err)
{
	return vm_save_as(vm, scope, VM_STATE_VERSION, out, err);
}
