/* SPDX-License-Identifier: Apache-2.0 */

/* Loading: the whole stream is decoded and judged into copies first; then KVM takes the vCPUs, then the devices theirs. */

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "cpu/read_back.h"
#include "vm/apart.h"
#include "vm/cpus.h"
#include "vm/machine.h"
#include "vm/save_internal.h"

/* A device's state, decoded and judged. */
struct loaded_device {
	struct device *device;
	void *state; /* owned */
};

struct loading {
	struct vm *vm;
	uint64_t entered_ns; /* the loop's clock when vm_load was called, and */
	uint64_t stopped_ns; /* how long the guest had stood still by then */
	struct vcpu_moment moment;
	uint16_t newest;	       /* version of any section so far */
	struct machine_state *machine; /* owned; NULL: none came */
	struct kvm_cpuid2 *cpuid;      /* owned; the machine's */
	bool clock_present;
	struct clock_state clock;
	size_t n_devices;
	struct loaded_device devices[LIMIT_DEVICES];
	bool present[LIMIT_VCPUS];
	/* What the vCPUs' threads work on, each its own element. */
	struct vcpu_result results[LIMIT_VCPUS];
	struct vcpu_state states[LIMIT_VCPUS];
};

static void loading_free(struct loading *loading)
{
	for (size_t i = 0; loading && i < loading->n_devices; i++)
		free(loading->devices[i].state);
	if (loading) {
		free(loading->machine);
		free(loading->cpuid);
	}
	free(loading);
}
DEFINE_CLEANUP(struct loading, loading_free, loading_freep)

/* ---- judging ---- */

/* Loaded twice, a device would start its requests in flight twice. */
static int refuse_twice(const struct state_section *section, struct error *err)
{
	return error_set(err, -EBADMSG, EXIT_STATUS_FAILED,
			 "state of %s: stands twice in the stream, which is damaged",
			 section->instance);
}

static int judge_machine(struct loading *loading, const struct state_section *section,
			 struct error *err)
{
	const struct machine_state nothing = { 0 };
	int r;

	if (loading->machine)
		return refuse_twice(section, err);
	r = state_decode(section, &machine_table, &nothing, (void **)&loading->machine, err);
	if (r == 0)
		r = machine_judge(loading->vm, loading->machine, err);
	if (r < 0)
		return r;
	loading->cpuid = machine_cpuid(loading->machine);
	return loading->cpuid ? 0 : -ENOMEM;
}

static int judge_clock(struct loading *loading, const struct state_section *section,
		       struct error *err)
{
	if (loading->clock_present)
		return refuse_twice(section, err);
	loading->clock_present = true;
	return state_load(section, &vm_clock_table, &loading->clock, err);
}

static int judge_vcpu(struct loading *loading, const struct state_section *section,
		      struct error *err)
{
	char name[LIMIT_STATE_NAME];
	uint32_t i = 0;

	for (; i < loading->vm->n_vcpus; i++) {
		vcpu_section_name(name, i);
		if (strcmp(section->instance, name) == 0)
			break;
	}
	if (i == loading->vm->n_vcpus)
		return error_set(err, -EBADMSG, EXIT_STATUS_FAILED,
				 "state of %s: this VM has %u vCPUs", section->instance,
				 loading->vm->n_vcpus);
	if (loading->present[i])
		return refuse_twice(section, err);
	loading->states[i] = *loading->vm->power_on[i];
	loading->present[i] = true;
	return state_load(section, &vcpu_state_table, &loading->states[i], err);
}

/* One that does not come keeps what it has. */
static uint32_t khz_of(const struct loading *loading, uint32_t i)
{
	return loading->present[i] ? loading->states[i].tsc_khz : loading->vm->power_on[i]->tsc_khz;
}

/* They are set by one reading of the host's TSC. */
static int judge_vcpus(const struct loading *loading, struct error *err)
{
	const uint32_t khz = khz_of(loading, 0);

	for (uint32_t i = 1; i < loading->vm->n_vcpus; i++)
		if (khz_of(loading, i) != khz)
			return error_set(err, -EBADMSG, EXIT_STATUS_FAILED,
					 "state of vcpu.%u: its TSC has another frequency than "
					 "the others'; the stream is damaged",
					 i);
	return 0;
}

static bool is_loaded(const struct loading *loading, const struct device *device)
{
	for (size_t i = 0; i < loading->n_devices; i++)
		if (loading->devices[i].device == device)
			return true;
	return false;
}

static int judge_device(struct loading *loading, const struct state_section *section,
			struct error *err)
{
	struct device *device = vm_find_device(loading->vm, section->instance);
	struct loaded_device *loaded = &loading->devices[loading->n_devices];
	int r;

	if (!device || !device->table)
		return error_set(err, -EBADMSG, EXIT_STATUS_FAILED,
				 "state of %s: this VM has no such device; make it with the same "
				 "configuration",
				 section->instance);
	if (is_loaded(loading, device))
		return refuse_twice(section, err);
	if (loading->n_devices == LIMIT_DEVICES)
		return -ENOSPC;
	r = state_decode(section, device->table, device->state, &loaded->state, err);
	if (r < 0)
		return r;
	loaded->device = device;
	loading->n_devices++;
	return device->ops->judge ? device->ops->judge(device, loaded->state, err) : 0;
}

static int judge_section(struct loading *loading, const struct state_section *section,
			 struct error *err)
{
	loading->newest = MAX(loading->newest, section->version);
	if (strcmp(section->instance, SECTION_MACHINE) == 0)
		return judge_machine(loading, section, err);
	if (strcmp(section->instance, SECTION_CLOCK) == 0)
		return judge_clock(loading, section, err);
	if (strncmp(section->instance, SECTION_VCPU, strlen(SECTION_VCPU)) == 0)
		return judge_vcpu(loading, section, err);
	return judge_device(loading, section, err);
}

static int judge_stream(struct loading *loading, const void *stream, size_t len, struct error *err)
{
	struct cursor cursor = { .data = stream, .left = len };
	struct state_section section;
	int r;

	while ((r = state_next_section(&cursor, &section)) == 1) {
		r = judge_section(loading, &section, err);
		if (r < 0)
			return error_set(err, r, EXIT_STATUS_FAILED, "state of %s: %s",
					 section.instance, strerror(-r));
	}
	return r < 0 ? error_set(err, r, EXIT_STATUS_FAILED, "the state's stream is damaged") : 0;
}

static int refuse_missing(const char *name, struct error *err)
{
	return error_set(err, -EBADMSG, EXIT_STATUS_FAILED,
			 "state of %s: missing from the stream, which is damaged or from a VM "
			 "without it; make both with the same configuration",
			 name);
}

static uint32_t stream_version(const struct loading *loading)
{
	return loading->machine ? loading->machine->state_version : VM_STATE_VERSION_MIN;
}

/* Whoever was forgotten would go on as if it had just been switched on. */
static int judge_complete(const struct loading *loading, struct error *err)
{
	struct list *item, *next;
	char name[LIMIT_STATE_NAME];

	/* Programs of before that section's time wrote all others as they were then. */
	if (!loading->machine && loading->newest >= machine_table.since)
		return refuse_missing(SECTION_MACHINE, err);
	if (!loading->clock_present)
		return refuse_missing(SECTION_CLOCK, err);
	for (uint32_t i = 0; i < loading->vm->n_vcpus; i++) {
		vcpu_section_name(name, i);
		if (!loading->present[i])
			return refuse_missing(name, err);
	}
	list_for_each(item, next, &loading->vm->devices) {
		const struct device *device = container_of(item, struct device, link);

		if (device->table && !is_loaded(loading, device) &&
		    device->table->since <= stream_version(loading))
			return refuse_missing(device->name, err);
	}
	return 0;
}

/* ---- taking ---- */

static void write_vcpu(void *owner, void *arg)
{
	struct loading *loading = arg;
	uint32_t i = vcpu_index(owner);
	struct vcpu_result *result = &loading->results[i];

	if (loading->present[i])
		result->code = vcpu_state_set(&loading->vm->cpu_layout, vcpu_kvm(owner),
					      &loading->moment, &loading->states[i], &result->err);
}

static void put_back_vcpu(void *owner, void *arg)
{
	struct loading *loading = arg;
	uint32_t i = vcpu_index(owner);
	struct vcpu_result *result = &loading->results[i];

	result->code = vcpu_state_set(&loading->vm->cpu_layout, vcpu_kvm(owner), &loading->moment,
				      loading->vm->power_on[i], &result->err);
}

/* How long the guest stood still until now. */
static uint64_t stopped(const struct loading *loading)
{
	return loading->stopped_ns + clock_now(loop_clock(loading->vm->loop)) - loading->entered_ns;
}

/* The frequency of its TSC, before the moment is taken from which all go on. */
static void adopt_tsc(void *owner, void *arg)
{
	struct loading *loading = arg;
	uint32_t i = vcpu_index(owner);
	struct vcpu_result *result = &loading->results[i];

	if (loading->present[i])
		result->code = vcpu_tsc_adopt(&loading->vm->cpu_layout, vcpu_kvm(owner),
					      loading->states[i].tsc_khz, &result->err);
}

static int take_moment(struct loading *loading)
{
	int r = vcpu_moment_now(vcpu_kvm(loading->vm->vcpus[0]), &loading->moment);

	if (r == 0)
		loading->moment.stopped_ns = stopped(loading);
	return r;
}

static int take_vcpus(struct loading *loading, struct error *err)
{
	int r = loading->cpuid ? cpus_show(loading->vm, loading->cpuid, err) : 0;

	if (r < 0)
		return r;
	cpus_run(loading->vm, adopt_tsc, loading);
	r = vcpu_results(loading->vm, loading->results, err);
	if (r == 0)
		r = take_moment(loading);
	if (r < 0)
		return r;
	cpus_run(loading->vm, write_vcpu, loading);
	return vcpu_results(loading->vm, loading->results, err);
}

/* A vCPU with a loaded LAPIC would have its timer run on. */
static int put_back_vcpus(struct loading *loading, struct error *err)
{
	cpus_run(loading->vm, put_back_vcpu, loading);
	return vcpu_results(loading->vm, loading->results, err);
}

/* What the guests' clock should read now. */
static uint64_t clock_due(const struct loading *loading)
{
	return loading->clock.nanoseconds + stopped(loading);
}

/* KVM takes some time until it has set its clock, and the guest would lose that: how long it took is seen then. */
static int take_clock(const struct loading *loading)
{
	struct kvm_vm *kvm = loading->vm->kvm;
	struct kvm_clock_data data = { 0 };
	int64_t behind;
	int r;

	if (!loading->clock_present)
		return 0;
	data.clock = clock_due(loading);
	r = kvm_vm_set_clock(kvm, &data);
	if (r == 0)
		r = kvm_vm_get_clock(kvm, &data);
	if (r < 0)
		return r;
	behind = (int64_t)(clock_due(loading) - data.clock);
	data = (struct kvm_clock_data){ .clock = clock_due(loading) + (uint64_t)MAX(behind, 0) };
	return behind > 0 ? kvm_vm_set_clock(kvm, &data) : 0;
}

/* What it made of it, while the source can still go on: no exact field may have changed. */
static int read_back_device(const struct loaded_device *loaded, struct error *err)
{
	const struct device *device = loaded->device;
	const char *field = state_compare(device->table, loaded->state, device->state);

	return field ? error_set(err, -EINVAL, EXIT_STATUS_FAILED,
				 "state of %s: %s reads back otherwise than it was loaded; this is "
				 "a fault of utsusu's: please report it",
				 device->name, field)
		     : 0;
}

static int take_device(const struct loading *loading, const struct loaded_device *loaded,
		       struct error *err)
{
	struct device *device = loaded->device;
	int r;

	memcpy(device->state, loaded->state, device->table->size);
	device->stopped_ns = stopped(loading);
	r = device->ops->after_load ? device->ops->after_load(device, err) : 0;
	if (r < 0)
		return error_set(err, r, EXIT_STATUS_FAILED, "state of %s: %s", device->name,
				 strerror(-r));
	return read_back_device(loaded, err);
}

/* A guest that resets itself keeps its TSC's frequency. */
static void keep_frequency(struct loading *loading)
{
	for (uint32_t i = 0; i < loading->vm->n_vcpus; i++)
		if (loading->present[i])
			loading->vm->power_on[i]->tsc_khz = loading->states[i].tsc_khz;
}

/* The vCPUs first: an interrupt that a device sends when it is loaded must meet the LAPIC's saved state. */
static int take(struct loading *loading, struct error *err)
{
	int r = take_vcpus(loading, err);

	if (r < 0)
		return r;
	keep_frequency(loading);
	r = take_clock(loading);
	if (r < 0)
		return error_set(err, r, EXIT_STATUS_FAILED, "state of clock: %s", strerror(-r));
	for (size_t i = 0; r == 0 && i < loading->n_devices; i++)
		r = take_device(loading, &loading->devices[i], err);
	return r;
}

/* Each on its own thread. */
static void read_back_vcpu(void *owner, void *arg)
{
	struct loading *loading = arg;
	uint32_t i = vcpu_index(owner);
	struct vcpu_result *result = &loading->results[i];
	_cleanup_(freep) struct vcpu_state *read = calloc(1, sizeof(*read));
	const char *field;

	if (!loading->present[i])
		return;
	result->code = read ? vcpu_state_get(&loading->vm->cpu_layout, vcpu_kvm(owner),
					     &loading->moment, read)
			    : -ENOMEM;
	if (result->code < 0)
		return;
	field = vcpu_read_back_differs(&loading->states[i], read);
	if (field)
		result->code = error_set(&result->err, -EINVAL, EXIT_STATUS_HOST,
					 "%s reads back otherwise than it was set; this host's "
					 "KVM does not hold this guest's state: take another host",
					 field);
}

static int read_back_vcpus(struct loading *loading, struct error *err)
{
	cpus_run(loading->vm, read_back_vcpu, loading);
	return vcpu_results(loading->vm, loading->results, err);
}

static int rehearse(struct loading *loading, struct error *err)
{
	struct error unused = { 0 };
	int r = take_vcpus(loading, err);
	int back;

	if (r == 0)
		r = read_back_vcpus(loading, err);
	back = put_back_vcpus(loading, r < 0 ? &unused : err);

	return r < 0 ? r : back;
}

/* RAM that another process's guest uses is not shown to KVM meanwhile. */
static int rehearse_apart(struct loading *loading, struct error *err)
{
	struct vm_apart apart;
	int back, r;

	if (!loading->vm->resources->inherited)
		return rehearse(loading, err);
	r = vm_apart_begin(loading->vm, &apart);
	if (r < 0)
		return r;
	r = rehearse(loading, err);
	back = vm_apart_end(loading->vm, &apart);
	return r < 0 ? r : back;
}

/* A span that nobody measured. */
static int judge_stop(uint64_t stopped_ns, struct error *err)
{
	if (stopped_ns <= VM_LOAD_STOPPED_MAX)
		return 0;
	return error_set(err, -ERANGE, EXIT_STATUS_FAILED,
			 "state: a guest that stood still for more than a hundred years is not "
			 "believed; the sender is broken");
}

/* It goes on when its user says so, and no sooner. */
static int take_whole(struct loading *loading, struct error *err)
{
	int r = take(loading, err);

	if (r == 0 && loading->machine && loading->machine->paused)
		(void)!vm_hold(loading->vm, VM_HELD_BY_USER); /* -EALREADY: it is so */
	return r;
}

int vm_load(struct vm *vm, const void *stream, size_t len, uint64_t stopped_ns,
	    enum vm_load_mode mode, struct error *err)
{
	uint64_t entered_ns = clock_now(loop_clock(vm->loop));
	_cleanup_(loading_freep) struct loading *loading = calloc(1, sizeof(*loading));
	int r = judge_stop(stopped_ns, err);

	if (!loading)
		return -ENOMEM;
	loading->vm = vm;
	loading->entered_ns = entered_ns;
	loading->stopped_ns = stopped_ns;
	if (r == 0)
		r = judge_stream(loading, stream, len, err);
	if (r == 0)
		r = judge_vcpus(loading, err);
	if (r == 0 && mode != VM_LOAD_PARTIAL)
		r = judge_complete(loading, err);
	if (r < 0)
		return r;
	switch (mode) {
	case VM_LOAD_REHEARSAL:
		return rehearse_apart(loading, err);
	case VM_LOAD_WHOLE:
		return take_whole(loading, err);
	default:
		return take(loading, err);
	}
}
