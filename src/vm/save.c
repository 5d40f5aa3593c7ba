/* SPDX-License-Identifier: Apache-2.0 */
#include "vm/save.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "vm/cpus.h"

/* kvmclock as the guest sees it. Saved at the snapshot's moment; loading adds the time that the guest stood
 * still, by the target's own monotonic clock: no wall clock is asked (invariant 13). */
struct clock_state {
	uint64_t nanoseconds;
};

static const struct state_field clock_fields[] = {
	STATE_FIELD_KIND(struct clock_state, nanoseconds, STATE_U64, STATE_CLOCK),
};

static const struct state_table clock_table = {
	.name = "clock",
	.version = 1,
	.min_version = 1,
	.size = sizeof(struct clock_state),
	.fields = clock_fields,
	.n_fields = ARRAY_SIZE(clock_fields),
};

/* What the vCPUs' threads work on, each its own element. */
struct vcpu_work {
	struct vm *vm;
	struct vcpu_moment moment;
	bool loading;
	bool present[LIMIT_VCPUS];
	bool clock_present;
	struct device *loaded[LIMIT_DEVICES]; /* whose sections came already */
	size_t n_loaded;
	int results[LIMIT_VCPUS];
	struct error errors[LIMIT_VCPUS];
	struct vcpu_state states[LIMIT_VCPUS];
};

static void work_on_vcpu(void *owner, void *arg)
{
	struct vcpu_work *work = arg;
	const struct vcpu_layout *layout = &work->vm->cpu_layout;
	uint32_t i = vcpu_index(owner);

	if (!work->loading) {
		int vector = vcpu_waiting_vector(owner);

		work->results[i] = vcpu_state_get(layout, vcpu_kvm(owner), &work->moment,
						  &work->states[i]);
		if (vector >= 0)
			vcpu_state_add_vector(&work->states[i], (uint8_t)vector);
	} else if (work->present[i]) {
		work->results[i] = vcpu_state_set(layout, vcpu_kvm(owner), &work->moment,
						  &work->states[i], &work->errors[i]);
	}
}

static int run_vcpu_work(struct vcpu_work *work, struct error *err)
{
	cpus_run(work->vm, work_on_vcpu, work);
	for (uint32_t i = 0; i < work->vm->n_vcpus; i++)
		if (work->results[i] < 0)
			return error_set(err, work->results[i], EXIT_STATUS_FAILED, "vCPU %u: %s",
					 i,
					 work->errors[i].code ? work->errors[i].message
							      : strerror(-work->results[i]));
	return 0;
}

static void vcpu_section_name(char *ret_name, size_t size, uint32_t index)
{
	snprintf(ret_name, size, "vcpu.%u", index);
}

static int save_vcpus(struct vm *vm, struct buffer *out, struct error *err)
{
	_cleanup_(freep) struct vcpu_work *work = calloc(1, sizeof(*work));
	int r;

	if (!work)
		return -ENOMEM;
	work->vm = vm;
	work->moment = vcpu_moment_now();
	r = run_vcpu_work(work, err);
	for (uint32_t i = 0; r == 0 && i < vm->n_vcpus; i++) {
		char name[LIMIT_STATE_NAME];

		vcpu_section_name(name, sizeof(name), i);
		r = state_save(out, &vcpu_state_table, name, &work->states[i]);
	}
	return r;
}

static int save_clock(struct vm *vm, struct buffer *out)
{
	struct kvm_clock_data data = { 0 };
	struct clock_state state;
	int r = kvm_vm_get_clock(vm->kvm, &data);

	if (r < 0)
		return r;
	state.nanoseconds = data.clock;
	return state_save(out, &clock_table, "clock", &state);
}

/* The barrier stands for the lock: no other thread touches a device now. */
static int save_device(struct device *device, struct buffer *out)
{
	if (device->ops->before_save)
		device->ops->before_save(device);
	return device->table ? state_save(out, device->table, device->name, device->state) : 0;
}

static int save_devices(struct vm *vm, enum vm_save_scope scope, struct buffer *out,
			struct error *err)
{
	struct list *item, *next;

	list_for_each(item, next, &vm->devices) {
		struct device *device = container_of(item, struct device, link);
		bool touched = __atomic_exchange_n(&device->touched, false, __ATOMIC_RELAXED);
		int r;

		if (scope == VM_SAVE_TOUCHED && !touched)
			continue;
		r = save_device(device, out);
		if (r < 0)
			return error_set(err, r, EXIT_STATUS_FAILED, "state of %s: %s",
					 device->name, strerror(-r));
	}
	return 0;
}

int vm_save(struct vm *vm, enum vm_save_scope scope, struct buffer *out, struct error *err)
{
	int r = save_clock(vm, out);

	if (r == 0)
		r = save_vcpus(vm, out, err);
	if (r == 0)
		r = save_devices(vm, scope, out, err);
	return r;
}

static int load_clock(struct vm *vm, const struct state_section *section, uint64_t stopped_ns,
		      struct error *err)
{
	struct clock_state state = { 0 };
	struct kvm_clock_data data = { 0 };
	int r = state_load(section, &clock_table, &state, err);

	if (r < 0)
		return r;
	data.clock = state.nanoseconds + stopped_ns;
	return kvm_vm_set_clock(vm->kvm, &data);
}

/* Loaded twice, a device would start its requests in flight twice. */
static int refuse_twice(const struct state_section *section, struct error *err)
{
	return error_set(err, -EBADMSG, EXIT_STATUS_FAILED,
			 "state of %s: stands twice in the stream, which is damaged",
			 section->instance);
}

static int load_vcpu(struct vcpu_work *work, const struct state_section *section, struct error *err)
{
	char name[LIMIT_STATE_NAME];
	uint32_t i = 0;

	for (; i < work->vm->n_vcpus; i++) {
		vcpu_section_name(name, sizeof(name), i);
		if (strcmp(section->instance, name) == 0)
			break;
	}
	if (i == work->vm->n_vcpus)
		return error_set(err, -EBADMSG, EXIT_STATUS_FAILED,
				 "state of %s: this VM has %u vCPUs", section->instance,
				 work->vm->n_vcpus);
	if (work->present[i])
		return refuse_twice(section, err);
	work->states[i] = *work->vm->power_on[i];
	work->present[i] = true;
	return state_load(section, &vcpu_state_table, &work->states[i], err);
}

static bool is_loaded(const struct vcpu_work *work, const struct device *device)
{
	for (size_t i = 0; i < work->n_loaded; i++)
		if (work->loaded[i] == device)
			return true;
	return false;
}

static int load_device(struct vcpu_work *work, const struct state_section *section,
		       struct error *err)
{
	struct device *device = vm_find_device(work->vm, section->instance);
	int r;

	if (!device || !device->table)
		return error_set(err, -EBADMSG, EXIT_STATUS_FAILED,
				 "state of %s: this VM has no such device; make it with the same "
				 "configuration",
				 section->instance);
	if (is_loaded(work, device))
		return refuse_twice(section, err);
	if (work->n_loaded == LIMIT_DEVICES)
		return -ENOSPC;
	work->loaded[work->n_loaded++] = device;
	r = state_load(section, device->table, device->state, err);
	if (r == 0 && device->ops->after_load)
		r = device->ops->after_load(device, err);
	return r;
}

static bool is_processors(const struct state_section *section)
{
	return strcmp(section->instance, "clock") == 0 ||
	       strncmp(section->instance, "vcpu.", strlen("vcpu.")) == 0;
}

static int load_processors(struct vcpu_work *work, const struct state_section *section,
			   struct error *err)
{
	if (strcmp(section->instance, "clock") != 0)
		return load_vcpu(work, section, err);
	if (work->clock_present)
		return refuse_twice(section, err);
	work->clock_present = true;
	return load_clock(work->vm, section, work->moment.stopped_ns, err);
}

/* One walk over the stream, for the processors' sections or for the devices'. */
static int load_sections(struct vcpu_work *work, const void *stream, size_t len, bool processors,
			 struct error *err)
{
	struct cursor cursor = { .data = stream, .left = len };
	struct state_section section;
	int r;

	while ((r = state_next_section(&cursor, &section)) == 1) {
		if (is_processors(&section) != processors)
			continue;
		r = processors ? load_processors(work, &section, err)
			       : load_device(work, &section, err);
		if (r < 0)
			return error_set(err, r, EXIT_STATUS_FAILED, "state of %s: %s",
					 section.instance, strerror(-r));
	}
	return r < 0 ? error_set(err, r, EXIT_STATUS_FAILED, "the state's stream is damaged") : 0;
}

int vm_load(struct vm *vm, const void *stream, size_t len, uint64_t stopped_ns, struct error *err)
{
	_cleanup_(freep) struct vcpu_work *work = calloc(1, sizeof(*work));
	int r;

	if (!work)
		return -ENOMEM;
	work->vm = vm;
	work->loading = true;
	work->moment = vcpu_moment_now();
	work->moment.stopped_ns = stopped_ns;
	/* The vCPUs first: an interrupt that a device sends when it is loaded must meet the LAPIC's saved state. */
	r = load_sections(work, stream, len, true, err);
	if (r == 0)
		r = run_vcpu_work(work, err);
	return r < 0 ? r : load_sections(work, stream, len, false, err);
}
