/* SPDX-License-Identifier: Apache-2.0 */

/* The state of a whole VM: every device of the board busy, saved, loaded elsewhere, saved again. */

#include "board_rig.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/fd.h"
#include "net/rarp.h"
#include "vm/announce.h"
#include "vm/machine.h"
#include "vm/memory_map.h"

#define SOON_MS 5000

struct fixture {
	struct fake_clock clock;
	struct board_rig from, to;
	struct error err;
};

static int setup(void **state)
{
	static struct fixture f;

	memset(&f, 0, sizeof(f));
	fake_clock_init(&f.clock, 5 * NSEC_PER_SEC, 1700000000 * NSEC_PER_SEC);
	board_rig_make(&f.from, &f.clock.clock);
	board_rig_start(&f.from);
	board_rig_busy(&f.from);
	quiesce_begin(&f.from.vm->quiesce); /* it is stopped for good */
	fake_clock_advance(&f.clock, 123456789);
	board_rig_make(&f.to, &f.clock.clock);
	*state = &f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	quiesce_end(&f->from.vm->quiesce);
	board_rig_free(&f->from);
	board_rig_free(&f->to);
	return 0;
}

static void load(struct fixture *f, const struct buffer *stream, enum vm_load_mode mode)
{
	if (board_rig_load(&f->to, stream, 0, mode, &f->err) < 0)
		fail_msg("load: %s", f->err.message);
}

/* ---- busy devices ---- */

/* Both streams to the byte; a difference is told by the section's name. */
static void assert_same_state(const struct buffer *x, const struct buffer *y)
{
	struct cursor a = { .data = x->data, .left = x->len },
		      b = { .data = y->data, .left = y->len };
	struct state_section in_a, in_b;

	while (state_next_section(&a, &in_a) == 1) {
		assert_int_equal(state_next_section(&b, &in_b), 1);
		assert_string_equal(in_a.instance, in_b.instance);
		assert_int_equal(in_a.version, in_b.version);
		if (in_a.body.left != in_b.body.left ||
		    memcmp(in_a.body.data, in_b.body.data, in_a.body.left) != 0)
			fail_msg("%s differs", in_a.instance);
	}
	assert_int_equal(state_next_section(&b, &in_b), 0);
}

/* Every device of the board, by its own table: what is exact is exact. */
static void assert_same_devices(struct fixture *f)
{
	struct list *item, *next;
	unsigned int devices = 0;

	list_for_each(item, next, &f->from.vm->devices) {
		struct device *a = container_of(item, struct device, link);
		struct device *b = vm_find_device(f->to.vm, a->name);
		const char *differs;

		assert_non_null(b);
		if (!a->table)
			continue;
		differs = state_compare(a->table, a->state, b->state);
		if (differs)
			fail_msg("%s: field %s differs", a->name, differs);
		devices++;
	}
	assert_int_equal(devices, 11);
}

static void busy_devices_are_the_same_elsewhere(void **state)
{
	struct fixture *f = *state;
	struct buffer first, second;

	board_rig_save(&f->from, &first);
	board_rig_take_memory(&f->to, &f->from);
	load(f, &first, VM_LOAD_WHOLE);
	assert_same_devices(f);
	board_rig_save(&f->to, &second);
	assert_same_state(&first, &second);
	buffer_release(&first);
	buffer_release(&second);
}

static void protect_memory(struct vm *vm, int rights)
{
	for (size_t i = 0; i < vm->memory->n_banks; i++)
		assert_int_equal(
			mprotect(vm->memory->banks[i].host, vm->memory->banks[i].len, rights), 0);
}

/* Its pages may not be there yet: a thread that touches one waits for it. */
static void a_load_touches_no_memory_of_the_guest(void **state)
{
	struct fixture *f = *state;
	struct buffer stream;

	board_rig_save(&f->from, &stream);
	board_rig_take_memory(&f->to, &f->from);
	protect_memory(f->to.vm, PROT_NONE);
	load(f, &stream, VM_LOAD_REHEARSAL);
	load(f, &stream, VM_LOAD_WHOLE);
	protect_memory(f->to.vm, PROT_READ | PROT_WRITE);
	buffer_release(&stream);
}

static void read_all(struct vqueue *queue, unsigned int n)
{
	while (n--)
		assert_int_equal(vqueue_wait(queue, SOON_MS, NULL, NULL), 1);
}

/* What each device was in the middle of comes to its end over there, and only there. */
static void busy_devices_go_on_elsewhere(void **state)
{
	struct fixture *f = *state;
	struct board_rig *to = &f->to;
	struct buffer stream;
	char typed[12] = "";
	uint16_t head;

	board_rig_save(&f->from, &stream);
	board_rig_take_memory(to, &f->from);
	load(f, &stream, VM_LOAD_WHOLE);
	board_rig_start(to);
	read_all(&to->blk_queue, 3);
	assert_int_equal(to->disk->bytes[0], 'a');
	assert_int_equal(to->disk->bytes[512], 'b');
	assert_int_equal(f->from.disk->bytes[0], 0);
	read_all(&to->rng_queue, 4); /* a new moment's share */
	read_all(&to->tx, NET_FRAMES_WAITING);
	for (size_t i = 0; i + 1 < sizeof(typed); i++) {
		board_rig_out(to, PORT_SERIAL1 + 3, 1, 0x1b);
		typed[i] = (char)board_rig_in(to, PORT_SERIAL1, 1);
	}
	assert_string_equal(typed, "typed ahead");
	board_rig_add_buffer(to, &to->console_in, 16, true);
	vqueue_kick_anyway(&to->console_in);
	assert_int_equal(vqueue_wait(&to->console_in, SOON_MS, &head, NULL), 1);
	/* The other half of what was latched and written. */
	assert_int_equal(board_rig_in(to, PORT_PIT, 1), board_rig_in(&f->from, PORT_PIT, 1));
	assert_int_equal(board_rig_in(to, PORT_RTC + 1, 1), 0xa5);
	buffer_release(&stream);
}

static void nothing_to_do(void *ctx _unused_)
{
}

static void nothing_gone(void *ctx _unused_, int error _unused_)
{
}

/* Whether one of the frames that come in time says so from the host's side. */
static bool tells_switches(struct net_queue *wire)
{
	uint8_t frame[2048];
	const struct iovec iov = { frame, sizeof(frame) };

	for (unsigned int ms = 0; ms < SOON_MS; ms++) {
		ssize_t n;

		while ((n = net_receive(wire, &iov, 1)) > 0)
			if (n == RARP_FRAME_SIZE && frame[NET_HEADER_SIZE + 12] == 0x80 &&
			    frame[NET_HEADER_SIZE + 13] == 0x35)
				return true;
		usleep(1000);
	}
	return false;
}

/* The guest is asked to tell its neighbours, and the switches are told by us. */
static void an_arrival_is_announced(void **state)
{
	const struct net_events events = { nothing_to_do, nothing_to_do, nothing_gone, NULL };
	struct fixture *f = *state;
	struct board_rig *to = &f->to;
	struct net_queue *wire;
	struct buffer stream;

	board_rig_save(&f->from, &stream);
	board_rig_take_memory(to, &f->from);
	load(f, &stream, VM_LOAD_WHOLE);
	board_rig_start(to);
	assert_int_equal(net_queue_open(to->peer, 0, to->loop, &events, &wire), 0);
	vm_announce(to->vm);
	assert_true(tells_switches(wire));
	assert_int_equal(vdriver_read(&to->net, VREGION_DEVICE, 6, 2), 3); /* link up, announce */
	net_queue_close(wire);
	buffer_release(&stream);
}

/* ---- rehearsal ---- */

static void a_rehearsal_touches_no_device(void **state)
{
	struct fixture *f = *state;
	struct buffer stream, before, after;

	board_rig_save(&f->from, &stream);
	load(f, &stream, VM_LOAD_REHEARSAL); /* the CPUs are as at power-on from here on */
	board_rig_save(&f->to, &before);
	board_rig_start(&f->to);
	load(f, &stream, VM_LOAD_REHEARSAL);
	board_rig_save(&f->to, &after);
	assert_same_state(&before, &after);
	assert_int_equal(f->to.disk->bytes[0], 0);
	assert_int_equal(kvm_fake_msi_count(f->to.vm->kvm, NULL), 0);
	buffer_release(&stream);
	buffer_release(&before);
	buffer_release(&after);
}

/* KVM's refusal comes in the rehearsal, not after the stop. */
static void a_rehearsal_has_kvm_judge(void **state)
{
	struct fixture *f = *state;
	struct buffer stream;
	struct kvm_msrs *msrs = calloc(1, sizeof(*msrs) + sizeof(msrs->entries[0]));

	msrs->nmsrs = 1;
	msrs->entries[0] = (struct kvm_msr_entry){ .index = 0xc0000082, .data = 77 };
	assert_int_equal(kvm_vcpu_set_msrs(vcpu_kvm(f->from.vm->vcpus[1]), msrs), 1);
	free(msrs);
	board_rig_save(&f->from, &stream);
	kvm_fake_refuse_msr(vcpu_kvm(f->to.vm->vcpus[1]), 0xc0000082);
	assert_int_equal(board_rig_load(&f->to, &stream, 0, VM_LOAD_REHEARSAL, &f->err), -EINVAL);
	assert_non_null(strstr(f->err.message, "vCPU 1"));
	assert_non_null(strstr(f->err.message, "0xc0000082"));
	buffer_release(&stream);
}

/* A device that judges its own host does so before the state of any is replaced. */
static void a_refusal_leaves_every_device_as_it_was(void **state)
{
	struct fixture *f = *state;
	struct buffer stream, before, after;

	board_rig_save(&f->from, &stream);
	board_rig_save(&f->to, &before);
	f->to.vm->disks[0]->geometry.size /= 2;
	assert_int_equal(board_rig_load(&f->to, &stream, 0, VM_LOAD_WHOLE, &f->err), -EINVAL);
	assert_non_null(strstr(f->err.message, "sectors"));
	board_rig_save(&f->to, &after);
	assert_same_state(&before, &after);
	buffer_release(&stream);
	buffer_release(&before);
	buffer_release(&after);
}

/* The guest was told of a disk of another kind. */
static void another_kind_of_disk_is_refused(void **state)
{
	struct fixture *f = *state;
	struct block_geometry *g = &f->to.vm->disks[0]->geometry;
	const struct block_geometry same = *g;
	struct buffer stream;

	board_rig_save(&f->from, &stream);
	g->logical_block = 4096;
	assert_int_equal(board_rig_load(&f->to, &stream, 0, VM_LOAD_REHEARSAL, &f->err), -EINVAL);
	assert_non_null(strstr(f->err.message, "4096 bytes in a block, the guest's had 512"));
	*g = same;
	g->max_discard /= 2;
	f->err = (struct error){ 0 };
	assert_int_equal(board_rig_load(&f->to, &stream, 0, VM_LOAD_REHEARSAL, &f->err), -EINVAL);
	assert_non_null(strstr(f->err.message, "in a discard"));
	*g = same;
	load(f, &stream, VM_LOAD_REHEARSAL);
	buffer_release(&stream);
}

/* Its fellow would keep the frequency that it has. */
static void one_vcpu_of_another_frequency_is_refused(void **state)
{
	struct fixture *f = *state;
	struct vcpu_state *one = malloc(sizeof(*one));
	struct buffer stream;

	*one = *f->to.vm->power_on[1];
	one->tsc_khz += 7;
	buffer_init(&stream, MIB(1));
	assert_int_equal(state_save(&stream, &vcpu_state_table, "vcpu.1", one), 0);
	assert_int_equal(board_rig_load(&f->to, &stream, 0, VM_LOAD_PARTIAL, &f->err), -EBADMSG);
	assert_non_null(strstr(f->err.message, "vcpu.1: its TSC has another frequency"));
	stream.len = 0;
	one->tsc_khz -= 7;
	assert_int_equal(state_save(&stream, &vcpu_state_table, "vcpu.1", one), 0);
	load(f, &stream, VM_LOAD_PARTIAL);
	buffer_release(&stream);
	free(one);
}

static void a_forgotten_device_is_named(void **state)
{
	struct fixture *f = *state;
	struct buffer stream, less;
	struct state_section section;
	struct cursor at;
	unsigned int sections = 0;

	board_rig_save(&f->from, &stream);
	at = (struct cursor){ .data = stream.data, .left = stream.len };
	for (size_t from = 0; state_next_section(&at, &section) == 1; from = stream.len - at.left) {
		struct error err = { 0 };

		buffer_init(&less, MIB(64));
		assert_int_equal(buffer_append(&less, stream.data, from), 0);
		assert_int_equal(buffer_append(&less, stream.data + stream.len - at.left, at.left),
				 0);
		assert_int_equal(board_rig_load(&f->to, &less, 0, VM_LOAD_REHEARSAL, &err),
				 -EBADMSG);
		assert_non_null(strstr(err.message, section.instance));
		assert_non_null(strstr(err.message, "missing"));
		buffer_release(&less);
		sections++;
	}
	assert_int_equal(sections, 15);
	buffer_release(&stream);
}

static void a_section_of_nobody_is_refused_by_name(void **state)
{
	struct fixture *f = *state;
	struct buffer stream;
	struct machine_state *machine = calloc(1, sizeof(*machine));

	board_rig_save(&f->from, &stream);
	assert_int_equal(state_save(&stream, &machine_table, "virtio-balloon.0", machine), 0);
	assert_int_equal(board_rig_load(&f->to, &stream, 0, VM_LOAD_WHOLE, &f->err), -EBADMSG);
	assert_non_null(strstr(f->err.message, "virtio-balloon.0"));
	assert_non_null(strstr(f->err.message, "no such device"));
	free(machine);
	buffer_release(&stream);
}

/* ---- what must be equal ---- */

/* The source's stream with its first section, the machine, changed. */
static void stream_with_machine(struct fixture *f, const struct machine_state *machine,
				struct buffer *ret_stream)
{
	struct buffer whole;
	struct cursor at;
	struct state_section first;

	board_rig_save(&f->from, &whole);
	at = (struct cursor){ .data = whole.data, .left = whole.len };
	assert_int_equal(state_next_section(&at, &first), 1);
	assert_string_equal(first.instance, "machine");
	buffer_init(ret_stream, MIB(64));
	assert_int_equal(state_save(ret_stream, &machine_table, "machine", machine), 0);
	assert_int_equal(buffer_append(ret_stream, at.data, at.left), 0);
	buffer_release(&whole);
}

static void assert_refused(struct fixture *f, const struct machine_state *machine, int code,
			   const char *what)
{
	struct buffer stream;
	struct error err = { 0 };

	stream_with_machine(f, machine, &stream);
	assert_int_equal(board_rig_load(&f->to, &stream, 0, VM_LOAD_REHEARSAL, &err), code);
	if (!strstr(err.message, what))
		fail_msg("\"%s\" does not tell of %s", err.message, what);
	buffer_release(&stream);
}

static void another_machine_is_refused_by_what_differs(void **state)
{
	struct fixture *f = *state;
	struct machine_state *same = malloc(sizeof(*same)), *other = malloc(sizeof(*other));

	machine_describe(f->from.vm, VM_STATE_VERSION, same);
#define WITH(change) (*other = *same, other->change, other)
	assert_refused(f, WITH(n_vcpus = 3), -EINVAL, "vCPUs: 3 there, 2 here");
	assert_refused(f, WITH(max_vcpus = 9), -EINVAL, "vCPUs at most");
	assert_refused(f, WITH(board = 7), -EINVAL, "board");
	assert_refused(f, WITH(irqchip = 0), -EINVAL, "interrupt controllers");
	assert_refused(f, WITH(n_banks = 2), -EINVAL, "banks of RAM");
	assert_refused(f, WITH(banks[0].len = MIB(128)), -EINVAL, "bytes of a bank");
#undef WITH
	free(same);
	free(other);
}

/* A host of another processor: `change` works on what its KVM supports. */
static void set_host_cpu(struct board_rig *rig, void (*change)(struct kvm_cpuid2 *cpuid))
{
	struct kvm_cpuid2 *here, *wide = calloc(1, sizeof(*wide) + 64 * sizeof(wide->entries[0]));

	assert_int_equal(kvm_supported_cpuid(rig->vm->kvm_system, &here), 0);
	memcpy(wide, here, sizeof(*here) + here->nent * sizeof(here->entries[0]));
	change(wide);
	kvm_fake_set_supported(rig->vm->kvm_system, wide);
	free(here);
	free(wide);
}

static void without_sse42(struct kvm_cpuid2 *cpuid)
{
	for (uint32_t i = 0; i < cpuid->nent; i++)
		if (cpuid->entries[i].function == 1)
			cpuid->entries[i].ecx &= ~(1u << 20 | 1u << 23);
}

static void of_intel(struct kvm_cpuid2 *cpuid)
{
	cpuid->entries[0].ebx = 0x756e6547;
	cpuid->entries[0].edx = 0x49656e69;
	cpuid->entries[0].ecx = 0x6c65746e;
}

static void with_avx512(struct kvm_cpuid2 *cpuid)
{
	cpuid->entries[cpuid->nent++] = (struct kvm_cpuid_entry2){
		.function = 7, .flags = KVM_CPUID_FLAG_SIGNIFCANT_INDEX, .ebx = 1u << 16
	};
}

static void a_lesser_host_is_refused_by_its_features(void **state)
{
	struct fixture *f = *state;
	struct buffer stream;

	board_rig_save(&f->from, &stream);
	set_host_cpu(&f->to, without_sse42);
	assert_int_equal(board_rig_load(&f->to, &stream, 0, VM_LOAD_REHEARSAL, &f->err), -ENOTSUP);
	assert_non_null(strstr(f->err.message, "sse4_2, popcnt"));
	f->err = (struct error){ 0 };
	set_host_cpu(&f->to, of_intel);
	assert_int_equal(board_rig_load(&f->to, &stream, 0, VM_LOAD_WHOLE, &f->err), -ENOTSUP);
	assert_non_null(strstr(f->err.message, "vendor AuthenticAMD (GenuineIntel here)"));
	buffer_release(&stream);
}

/* On a host that has more the guest goes on with what it knows: on the way back nothing would be missing. */
static void the_model_follows_the_vm(void **state)
{
	struct fixture *f = *state;
	struct board_rig richer;
	struct kvm_cpuid2 *cpuid;
	struct machine_state *machine = calloc(1, sizeof(*machine));
	struct buffer stream, again;

	machine_describe(f->from.vm, VM_STATE_VERSION, machine);
	/* As if the first host had shown one feature less. */
	for (uint32_t i = 0; i < machine->n_cpuid; i++)
		if (machine->cpuid[i].function == 1)
			machine->cpuid[i].ecx &= ~(1u << 23);
	stream_with_machine(f, machine, &stream);
	board_rig_make(&richer, &f->clock.clock);
	set_host_cpu(&richer, with_avx512);
	for (int i = 0; i < 2; i++) {
		if (board_rig_load(&richer, &stream, 0, i ? VM_LOAD_WHOLE : VM_LOAD_REHEARSAL,
				   &f->err) < 0)
			fail_msg("%s", f->err.message);
		for (uint32_t v = 0; v < 2; v++) {
			const struct kvm_cpuid2 *shown =
				kvm_fake_cpuid(vcpu_kvm(richer.vm->vcpus[v]));

			assert_int_equal(shown->entries[1].function, 1);
			assert_int_equal(shown->entries[1].ecx & 1u << 23, 0);
			assert_int_equal(shown->entries[1].ebx >> 24, v); /* its own APIC id */
		}
	}
	board_rig_save(&richer, &again);
	assert_same_state(&stream, &again);
	cpuid = richer.vm->cpuid;
	assert_int_equal(cpuid->nent, machine->n_cpuid);
	board_rig_free(&richer);
	free(machine);
	buffer_release(&stream);
	buffer_release(&again);
}

static void a_guest_that_slept_for_ages_is_not_believed(void **state)
{
	struct fixture *f = *state;
	struct buffer stream;

	board_rig_save(&f->from, &stream);
	assert_int_equal(board_rig_load(&f->to, &stream, UINT64_MAX / 2, VM_LOAD_WHOLE, &f->err),
			 -ERANGE);
	buffer_release(&stream);
}

/* ---- time ---- */

/* A clock on which each look takes a microsecond: a load that is not done in no time. */
struct slow_clock {
	struct clock clock;
	uint64_t now;
};

static uint64_t slow_now(const struct clock *clock)
{
	struct slow_clock *slow = container_of(clock, struct slow_clock, clock);

	return __atomic_add_fetch(&slow->now, NSEC_PER_USEC, __ATOMIC_RELAXED);
}

/* The time that judging and loading takes counts as standing still, too. */
static void a_load_that_takes_time_counts_it(void **state)
{
	struct fixture *f = *state;
	struct slow_clock slow = { { .now = slow_now, .wall = slow_now }, NSEC_PER_SEC };
	struct board_rig rig;
	struct kvm_clock_data before, after;
	struct buffer stream;

	board_rig_make(&rig, &slow.clock);
	board_rig_save(&f->from, &stream);
	assert_int_equal(kvm_vm_get_clock(f->from.vm->kvm, &before), 0);
	assert_int_equal(board_rig_load(&rig, &stream, 1000, VM_LOAD_WHOLE, &f->err), 0);
	assert_int_equal(kvm_vm_get_clock(rig.vm->kvm, &after), 0);
	assert_true(after.clock >= before.clock + 1000 + NSEC_PER_USEC);
	assert_true(kvm_fake_guest_tsc(vcpu_kvm(rig.vm->vcpus[0])) >=
		    kvm_fake_guest_tsc(vcpu_kvm(f->from.vm->vcpus[0])) +
			    (1000 + NSEC_PER_USEC) * KVM_FAKE_TSC_KHZ / 1000000);
	board_rig_free(&rig);
	buffer_release(&stream);
}

/* ---- versions ---- */

static void read_data(const char *name, struct buffer *ret_data)
{
	char path[512];
	_cleanup_(fd_closep) int fd = -1;
	uint8_t bytes[4096];
	ssize_t n;

	snprintf(path, sizeof(path), "%s/%s", getenv("UTSUSU_TEST_DATA"), name);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		fail_msg("%s: %s", path, strerror(errno));
	buffer_init(ret_data, MIB(1));
	while ((n = read(fd, bytes, sizeof(bytes))) > 0)
		assert_int_equal(buffer_append(ret_data, bytes, (size_t)n), 0);
	assert_int_equal(n, 0);
}

/* The vCPUs' TSC offsets are this host's; all else is as in the file. */
static void assert_same_but_offsets(const struct buffer *x, const struct buffer *y)
{
	const size_t offset_at = 4 + 8; /* tsc_khz, tsc */
	struct buffer copies[2];
	const struct buffer *given[2] = { x, y };

	for (int i = 0; i < 2; i++) {
		struct state_section section;
		struct cursor at;

		buffer_init(&copies[i], MIB(1));
		assert_int_equal(buffer_append(&copies[i], given[i]->data, given[i]->len), 0);
		at = (struct cursor){ .data = copies[i].data, .left = copies[i].len };
		while (state_next_section(&at, &section) == 1)
			if (strncmp(section.instance, "vcpu.", 5) == 0)
				memset((uint8_t *)section.body.data + offset_at, 0, 8);
	}
	assert_same_state(&copies[0], &copies[1]);
	buffer_release(&copies[0]);
	buffer_release(&copies[1]);
}

static void save_as(struct fixture *f, uint16_t version, int code, struct buffer *ret_stream)
{
	buffer_init(ret_stream, MIB(64));
	quiesce_begin(&f->from.vm->quiesce);
	assert_int_equal(vm_save_as(f->from.vm, VM_SAVE_ALL, version, ret_stream, &f->err), code);
	quiesce_end(&f->from.vm->quiesce);
}

/* By its user: who else holds it is not at the other end. */
static void a_pause_goes_along(void **state)
{
	struct fixture *f = *state;
	struct buffer held, paused;

	assert_int_equal(vm_hold(f->from.vm, VM_HELD_BY_MOVE), 0);
	save_as(f, VM_STATE_VERSION, 0, &held);
	assert_int_equal(vm_hold(f->from.vm, VM_HELD_BY_USER), 0);
	save_as(f, VM_STATE_VERSION, 0, &paused);
	load(f, &paused, VM_LOAD_REHEARSAL);
	assert_int_equal(f->to.vm->holders, 0);
	load(f, &held, VM_LOAD_WHOLE);
	assert_int_equal(f->to.vm->holders, 0);
	load(f, &paused, VM_LOAD_WHOLE);
	assert_int_equal(f->to.vm->holders, VM_HELD_BY_USER);
	buffer_release(&held);
	buffer_release(&paused);
}

static void a_pause_is_not_forgotten_for_an_older_program(void **state)
{
	struct fixture *f = *state;
	struct buffer out;

	assert_int_equal(vm_hold(f->from.vm, VM_HELD_BY_USER), 0);
	for (uint16_t version = VM_STATE_VERSION_MIN; version < VM_STATE_PAUSED_SINCE; version++) {
		f->err = (struct error){ 0 };
		save_as(f, version, -EPROTONOSUPPORT, &out);
		assert_non_null(strstr(f->err.message, "is paused"));
		buffer_release(&out);
	}
}

/* A file that a program of a version before wrote from such a VM: it loads, and is written again for that program as it
 * would itself have written it. */
static void former_version(struct fixture *f, uint16_t version, const char *name)
{
	struct buffer old, again;

	read_data(name, &old);
	load(f, &old, VM_LOAD_REHEARSAL);
	load(f, &old, VM_LOAD_WHOLE);
	buffer_init(&again, MIB(64));
	quiesce_begin(&f->to.vm->quiesce);
	assert_int_equal(vm_save_as(f->to.vm, VM_SAVE_ALL, version, &again, &f->err), 0);
	quiesce_end(&f->to.vm->quiesce);
	assert_same_but_offsets(&old, &again);
	buffer_release(&old);
	buffer_release(&again);
}

static void version_1_loads_and_is_written(void **state)
{
	former_version(*state, 1, "vm-state-1.bin");
}

static void version_2_loads_and_is_written(void **state)
{
	former_version(*state, 2, "vm-state-2.bin");
}

static void versions_out_of_reach_are_refused(void **state)
{
	struct fixture *f = *state;
	struct buffer out;
	const uint16_t versions[] = { 0, VM_STATE_VERSION + 1 };

	buffer_init(&out, MIB(64));
	quiesce_begin(&f->from.vm->quiesce);
	for (size_t i = 0; i < ARRAY_SIZE(versions); i++) {
		struct error err = { 0 };

		assert_int_equal(vm_save_as(f->from.vm, VM_SAVE_ALL, versions[i], &out, &err),
				 -EPROTONOSUPPORT);
		assert_non_null(strstr(err.message, "version"));
		assert_int_equal(out.len, 0);
	}
	quiesce_end(&f->from.vm->quiesce);
	buffer_release(&out);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		TEST(busy_devices_are_the_same_elsewhere),
		TEST(busy_devices_go_on_elsewhere),
		TEST(a_load_touches_no_memory_of_the_guest),
		TEST(a_rehearsal_touches_no_device),
		TEST(a_rehearsal_has_kvm_judge),
		TEST(a_refusal_leaves_every_device_as_it_was),
		TEST(another_kind_of_disk_is_refused),
		TEST(one_vcpu_of_another_frequency_is_refused),
		TEST(a_forgotten_device_is_named),
		TEST(a_section_of_nobody_is_refused_by_name),
		TEST(another_machine_is_refused_by_what_differs),
		TEST(a_lesser_host_is_refused_by_its_features),
		TEST(the_model_follows_the_vm),
		TEST(a_guest_that_slept_for_ages_is_not_believed),
		TEST(a_load_that_takes_time_counts_it),
		TEST(an_arrival_is_announced),
		TEST(a_pause_goes_along),
		TEST(a_pause_is_not_forgotten_for_an_older_program),
		TEST(version_1_loads_and_is_written),
		TEST(version_2_loads_and_is_written),
		TEST(versions_out_of_reach_are_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
