/* SPDX-License-Identifier: Apache-2.0 */
#include "move_rig.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "check.h"
#include "device/power.h"
#include "host/sandbox.h"
#include "kvm/fake.h"
#include "memory/memory.h"
#include "move_wire.h"
#include "vm/memory_map.h"

#define PEER_MS 5000
#define MSR_LSTAR 0xc0000082

/* ---- the guest while frames pass ---- */

#define WORKS 3
#define POSTCOPY_TURNS 64 /* some pages each: more than the goal lets it stop for */

/* In pages that fill_ram made; the round's end has not been passed on, so the source sees it with the next one. */
static void work_in_pages(void *arg)
{
	static const uint8_t zeroes[MEMORY_PAGE_SIZE];
	struct move_rig *rig = arg;
	struct memory *memory = rig->from.vm->memory;
	uint64_t word = rig->works, gap = 3 * MEMORY_PAGE_SIZE;
	int r = memory_write(memory, gpa(MIB(8) + gap), zeroes, sizeof(zeroes));

	for (uint64_t i = 2; r == 0 && i < 1024; i++)
		r = memory_write(memory, gpa(MIB(8) + i * gap), &word, sizeof(word));
	assert(r == 0);
	(void)r;
}

/* Frames of one stream only: who passes them is one thread. */
static void work(struct move_rig *rig, uint64_t kind)
{
	if (rig->plan->guest_works && kind == MOVE_ROUND && rig->works++ < WORKS)
		near_vm_do(&rig->from, work_in_pages, rig);
	if (rig->plan->powers_off && kind == MOVE_ANSWER_RAN)
		near_vm_power_off(&rig->to);
}

/* ---- people who look at a side ---- */

struct watcher {
	struct move_side *side;
	enum handover_phase cancel_at;
	pthread_t thread;
};

void move_rig_cancel(struct move_side *side)
{
	static const char cancel[] = "{\"cancel\":true}\n";

	(void)!send(side->progress, cancel, sizeof(cancel) - 1, MSG_NOSIGNAL);
}

static void see_line(struct watcher *watcher, const char *text)
{
	json_auto_t *line = json_loads(text, 0, NULL);
	const char *phase = json_string_value(json_object_get(line, "phase"));
	const char *ended = json_string_value(json_object_get(line, "ended"));
	const char *place = json_string_value(json_object_get(line, "failpoint"));

	assert(line); /* each is one whole object */
	for (int i = 0; phase && i < PHASES; i++) {
		if (strcmp(phase, handover_phase_name((enum handover_phase)i)) != 0)
			continue;
		watcher->side->phases |= 1ULL << i;
		if (i == (int)watcher->cancel_at)
			move_rig_cancel(watcher->side);
	}
	for (int i = 0; place && i < FAILPOINTS_N; i++)
		if (strcmp(place, failpoint_text((enum failpoint_name)i)) == 0)
			watcher->side->failpoints |= 1ULL << i;
	snprintf(watcher->side->has_ended, sizeof(watcher->side->has_ended), "%s",
		 ended ? ended : "");
	watcher->side->in_two_places |= json_is_true(json_object_get(line, "postcopy"));
	watcher->side->warned |= json_object_get(line, "warning") != NULL;
}

static void *watcher_main(void *arg)
{
	struct watcher *watcher = arg;
	int copy = dup(watcher->side->progress);
	FILE *in = fdopen(copy, "r");
	char line[4096];

	assert(in);
	while (fgets(line, sizeof(line), in))
		see_line(watcher, line);
	fclose(in);
	return NULL;
}

/* ---- both sides ---- */

/* As a mover's main does; the threads that it starts are in it too. A call too many ends this process. */
static void confine(const struct move_rig *rig)
{
	int r;

	if (!rig->plan->confined)
		return;
	prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
	r = sandbox_enter_thread(SANDBOX_MOVER, SANDBOX_SCANS | SANDBOX_FILLS);
	assert(r == 0);
	(void)r;
}

static void *source_main(void *arg)
{
	struct move_rig *rig = arg;
	struct move_side *side = &rig->source;
	const struct mover_settings settings = {
		.job = &side->job,
		.link = side->link,
		.clock = &clock_host,
		.peer_ms = rig->plan->peer_ms ? rig->plan->peer_ms : PEER_MS,
	};

	confine(rig);
	side->end = move_source(&settings, &side->numbers, &side->err);
	side->link->ops->free(side->link);
	move_job_release(&side->job);
	return NULL;
}

static void *destination_main(void *arg)
{
	struct move_rig *rig = arg;
	struct move_side *side = &rig->destination;
	const struct mover_settings settings = {
		.job = &side->job,
		.link = side->link,
		.clock = &clock_host,
		.peer_ms = rig->plan->peer_ms ? rig->plan->peer_ms : PEER_MS,
	};

	confine(rig);
	side->end = move_destination(&settings, &side->numbers, &side->err);
	side->link->ops->free(side->link);
	move_job_release(&side->job);
	return NULL;
}

static int open_again(int fd)
{
	char path[64];
	int again;

	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	again = open(path, O_RDWR | O_CLOEXEC);
	assert_true(again >= 0);
	return again;
}

static void make_job(struct move_rig *rig, struct move_side *side, enum move_role role,
		     struct near_vm *near)
{
	const struct move_plan *plan = rig->plan;
	int progress[2];
	const char *fails = role == MOVE_SOURCE ? plan->source_fails : plan->destination_fails;

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, progress), 0);
	side->progress = progress[0];
	side->job = (struct move_job){
		.role = role,
		.generation = plan->generation ? plan->generation : 1,
		.known = plan->known,
		.vm_fd = -1,
		.ram_fd = dup(near->vm->memory->fd),
		.mark_fd = -1,
		.own_mark_fd = -1,
		.file_fd = -1,
		.lock_fd = -1,
		.journal_fd = -1,
		.n_streams = plan->n_streams ? plan->n_streams : 1,
		.tls = plan->tls,
		.progress_fd = progress[1],
		.downtime_ms = plan->postcopy	   ? 1
			       : plan->downtime_ms ? plan->downtime_ms
						   : MOVE_DOWNTIME_MS,
		.allow_postcopy = plan->postcopy,
		.compress = plan->postcopy ? MOVE_COMPRESS_OFF : plan->compress,
	};
	side->job.max_bandwidth = plan->postcopy ? MIB(8) : plan->max_bandwidth;
	if (plan->disk) {
		side->job.n_disks = 1;
		side->job.disks[0].fd = role == MOVE_SOURCE
						? open(rig->disk_from, O_RDONLY | O_CLOEXEC)
						: open(rig->disk_to, O_RDWR | O_CLOEXEC);
	}
	memcpy(side->job.token, "a token, used 1x", MOVE_TOKEN_BYTES);
	memset(side->job.key, plan->same_keys_not && role == MOVE_SOURCE ? 2 : 1,
	       sizeof(side->job.key));
	snprintf(side->job.name, sizeof(side->job.name), "guest");
	snprintf(side->job.peer, sizeof(side->job.peer), "%s",
		 role == MOVE_SOURCE ? "there" : "here");
	snprintf(side->job.failpoint, sizeof(side->job.failpoint), "%s", fails ? fails : "");
}

/* Marks of this host and the other: each opening is somebody's own (marks.h). */
static void make_marks(struct move_rig *rig)
{
	struct marks *marks;
	struct error err = { 0 };

	if (marks_open(&marks, &err) < 0)
		fail_msg("%s", err.message);
	rig->given_mark = marks_prepare_given(marks, "guest", &err);
	rig->taken_mark = marks_prepare_taken(marks, rig->source.job.token, &err);
	if (rig->given_mark < 0 || rig->taken_mark < 0)
		fail_msg("%s", err.message);
	marks_close(marks);
	rig->source.job.mark_fd = open_again(rig->given_mark);
	rig->destination.job.mark_fd = open_again(rig->taken_mark);
	rig->destination.job.own_mark_fd = open_again(rig->taken_mark);
}

/* The next move is another's, with the same token. */
static void make_state_dir(void)
{
	char template[] = "/tmp/utsusu-move-XXXXXX";

	assert_int_equal(setenv("UTSUSU_STATE_DIR", mkdtemp(template), 1), 0);
}

static void remove_state_dir(void)
{
	char command[512];

	snprintf(command, sizeof(command), "rm -rf '%s'", getenv("UTSUSU_STATE_DIR"));
	assert_int_equal(system(command), 0);
}

/* What the guest left in RAM before it is moved: some pages, some zeroes among them, and the rest never touched. */
static void fill_ram(void *arg)
{
	struct memory *memory = ((struct near_vm *)arg)->vm->memory;
	uint8_t page[MEMORY_PAGE_SIZE];
	uint64_t random = 1;

	for (uint64_t i = 0; i < 1024; i++) {
		for (size_t k = 0; k < sizeof(page); k++)
			page[k] =
				i % 4 ? (uint8_t)((random = random * 6364136223846793005ULL + 1) >>
						  33)
				      : (uint8_t)(i % 3 ? i : 0);
		assert(memory_write(memory, gpa(MIB(8) + i * 3 * MEMORY_PAGE_SIZE), page,
				    sizeof(page)) == 0);
	}
}

/* And in devices. */
static void touch_devices(void *arg)
{
	static const struct {
		uint16_t port;
		uint8_t value;
	} writes[] = {
		{ 0x3ff, 0x5a }, { 0x3fb, 0x1b }, { 0x43, 0x36 }, { 0x40, 0x34 }, { 0x40, 0x12 },
		{ 0x70, 0x40 },	 { 0x71, 0x77 },  { 0x21, 0xa5 }, { 0xa1, 0x5a },
	};
	struct near_vm *near = arg;

	for (size_t i = 0; i < ARRAY_SIZE(writes); i++) {
		struct bus_access access = {
			.space = BUS_PIO,
			.write = true,
			.size = 1,
			.address = writes[i].port,
			.data = writes[i].value,
		};

		bus_dispatch(near->vm->bus, &access);
	}
}

/* The guest uses an MSR that the other host's KVM does not take, or not keep. */
static void use_msr(struct move_rig *rig)
{
	struct kvm_msrs *msrs = calloc(1, sizeof(*msrs) + sizeof(msrs->entries[0]));

	assert_non_null(msrs);
	msrs->nmsrs = 1;
	msrs->entries[0] = (struct kvm_msr_entry){ .index = MSR_LSTAR, .data = 77 };
	assert_int_equal(kvm_vcpu_set_msrs(vcpu_kvm(rig->from.vm->vcpus[1]), msrs), 1);
	free(msrs);
	if (rig->plan->refuses_msr)
		kvm_fake_refuse_msr(vcpu_kvm(rig->to.vm->vcpus[1]), MSR_LSTAR);
	else
		kvm_fake_forget_msr(vcpu_kvm(rig->to.vm->vcpus[1]), MSR_LSTAR);
}

static void set_states(struct near_vm *near, const uint16_t states[2])
{
	if (!states)
		return;
	near->state_min = states[0];
	near->state_max = states[1];
}

/* Some of it, in runs of all lengths; a chunk of zeroes that are no hole. */
static void fill_disk(int fd)
{
	uint8_t bytes[4096];
	uint64_t random = 7;

	for (int i = 0; i < 600; i++) {
		random = random * 6364136223846793005ULL + 1442695040888963407ULL;
		memset(bytes, (int)(random >> 40), sizeof(bytes));
		bytes[random >> 52] = (uint8_t)i;
		assert_int_equal(pwrite(fd, bytes, sizeof(bytes),
					(off_t)(random >> 33) % 3000 * 4096),
				 sizeof(bytes));
	}
	memset(bytes, 0, sizeof(bytes));
	for (int i = 0; i < 16; i++)
		assert_int_equal(pwrite(fd, bytes, sizeof(bytes), 3072 * 4096 + i * 4096),
				 sizeof(bytes));
	assert_int_equal(pwrite(fd, "the end", 7, MOVE_RIG_DISK - 7), 7);
}

static int make_disk(char path[64], uint64_t bytes)
{
	int fd;

	snprintf(path, 64, "/var/tmp/utsusu-disk-XXXXXX");
	fd = mkstemp(path);
	assert_true(fd >= 0);
	assert_int_equal(ftruncate(fd, (off_t)bytes), 0);
	return fd;
}

/* What stood at the destination before is not to be seen afterwards. */
static void make_disks(struct move_rig *rig)
{
	const struct move_plan *plan = rig->plan;
	uint64_t bytes = plan->disk_bytes ? plan->disk_bytes : MOVE_RIG_DISK;
	int from, to;

	if (!plan->disk)
		return;
	from = make_disk(rig->disk_from, bytes);
	to = make_disk(rig->disk_to, bytes);
	(plan->fill_disk ? plan->fill_disk : fill_disk)(from);
	assert_int_equal(pwrite(to, "what was here", 13, (off_t)bytes / 2), 13);
	close(from);
	close(to);
}

static void make_vms(struct move_rig *rig)
{
	make_disks(rig);
	near_vm_start_with_disk(&rig->from, false, !rig->plan->guest_rests,
				rig->plan->disk ? rig->disk_from : NULL);
	near_vm_start_with_disk(&rig->to, true, false, rig->plan->disk ? rig->disk_to : NULL);
	if (rig->plan->postcopy) {
		rig->to.guest.twin = rig->from.vm->memory;
		rig->from.turns_a_look = rig->plan->paused ? 0 : POSTCOPY_TURNS;
	}
	rig->to.load_waits = rig->plan->load_waits;
	set_states(&rig->from, rig->plan->source_states);
	set_states(&rig->to, rig->plan->destination_states);
	assert_true(near_vm_do(&rig->from, fill_ram, &rig->from));
	assert_true(near_vm_do(&rig->from, touch_devices, &rig->from));
	if (rig->plan->refuses_msr || rig->plan->forgets_msr)
		use_msr(rig);
	if (rig->plan->paused && near_vm_runs(&rig->from, true))
		near_vm_pause(&rig->from);
}

static void watch(struct watcher *watcher, struct move_side *side, enum handover_phase cancel_at)
{
	*watcher = (struct watcher){ .side = side, .cancel_at = cancel_at };
	assert_int_equal(pthread_create(&watcher->thread, NULL, watcher_main, watcher), 0);
}

static void run_movers(struct move_rig *rig)
{
	const struct move_plan *plan = rig->plan;
	struct watcher here, there;
	struct move_wire wire;

	move_wire_open(&wire, rig, work);
	watch(&here, &rig->source, plan->cancels ? plan->cancel_at : PHASES);
	watch(&there, &rig->destination, plan->cancels_there ? plan->cancel_at : PHASES);
	pthread_create(&rig->source.thread, NULL, source_main, rig);
	pthread_create(&rig->destination.thread, NULL, destination_main, rig);
	pthread_join(rig->source.thread, NULL);
	pthread_join(rig->destination.thread, NULL);
	move_wire_close(&wire);
	pthread_join(here.thread, NULL);
	pthread_join(there.thread, NULL);
}

/* ---- the daemons ---- */

struct verdict {
	struct near_vm *near;
	const uint8_t *token;
	bool ran;
	int result;
};

static void tell_vm(void *arg)
{
	struct verdict *verdict = arg;
	struct error err = { 0 };

	verdict->result =
		verdict->ran ? move_guest_ran(verdict->near->move, verdict->token, "there", &err)
			     : move_guest_never(verdict->near->move, verdict->token, &err);
}

/* The source's daemon asks; the destination's closes the token, ends the VM's process if that is what stands, and answers. */
static void settle(struct move_rig *rig)
{
	struct verdict verdict = { .near = &rig->from, .token = rig->source.job.token };
	int mark = mark_take(rig->taken_mark, MARK_NEVER);

	assert_true(mark == MARK_RAN || mark == MARK_NEVER);
	verdict.ran = mark == MARK_RAN;
	if (!verdict.ran)
		near_vm_kill(&rig->to);
	rig->settled = near_vm_do(&rig->from, tell_vm, &verdict);
	if (rig->settled)
		assert_int_equal(verdict.result, 0);
}

struct move_rig *move_rig_run(const struct move_plan *plan)
{
	/* Not on a test's stack: when one fails, its guests run on. */
	struct move_rig *rig = malloc(sizeof(*rig));

	assert_non_null(rig);
	*rig = (struct move_rig){ .plan = plan, .given_mark = -1, .taken_mark = -1 };
	make_state_dir();
	make_vms(rig);
	make_job(rig, &rig->source, MOVE_SOURCE, &rig->from);
	make_job(rig, &rig->destination, MOVE_DESTINATION, &rig->to);
	make_marks(rig);
	rig->source.link = near_link_new(&rig->from, plan->source_deaf);
	rig->destination.link = near_link_new(&rig->to, plan->destination_deaf);
	run_movers(rig);
	if (rig->source.end == MOVE_END_IN_DOUBT)
		settle(rig);
	if (rig->destination.end == MOVE_END_IN_DOUBT &&
	    mark_take(rig->taken_mark, MARK_NEVER) == MARK_NEVER)
		near_vm_kill(&rig->to);
	return rig;
}

void move_rig_free(struct move_rig *rig)
{
	near_vm_free(&rig->to); /* it may read what the other has */
	near_vm_free(&rig->from);
	fd_close(rig->given_mark);
	fd_close(rig->taken_mark);
	fd_close(rig->source.progress);
	fd_close(rig->destination.progress);
	if (rig->plan->disk) {
		unlink(rig->disk_from);
		unlink(rig->disk_to);
	}
	remove_state_dir();
	free(rig);
}

void move_rig_assert_one(struct move_rig *rig, bool at_destination)
{
	uint64_t last_here, first_there;

	if (near_vm_runs(&rig->from, !at_destination) == at_destination ||
	    near_vm_runs(&rig->to, at_destination) != at_destination)
		fail_msg("runs here: %d, there: %d; the source ended %d (%s), the destination %d "
			 "(%s)",
			 near_vm_runs(&rig->from, false), near_vm_runs(&rig->to, false),
			 (int)rig->source.end, rig->source.err.message, (int)rig->destination.end,
			 rig->destination.err.message);
	last_here = __atomic_load_n(&rig->from.guest.last_ns, __ATOMIC_ACQUIRE);
	first_there = __atomic_load_n(&rig->to.guest.first_ns, __ATOMIC_ACQUIRE);
	if (at_destination)
		assert_true(first_there && last_here && last_here < first_there);
	else
		assert_int_equal(first_there, 0);
}

/* Of one bank, so that its addresses are places in the file. Reading it would fill it. */
static bool is_hole(const struct memory *memory, uint64_t at, uint64_t len)
{
	off_t data = lseek(memory->fd, (off_t)at, SEEK_DATA);

	return data < 0 ? errno == ENXIO : (uint64_t)data >= at + len;
}

static void assert_ram_equal(struct move_rig *rig)
{
	static uint8_t a[KIB(64)], b[KIB(64)];
	struct memory *from = rig->from.vm->memory, *to = rig->to.vm->memory;

	for (uint64_t at = 0; at < NEAR_RAM; at += sizeof(a)) {
		if (is_hole(from, at, sizeof(a)) && is_hole(to, at, sizeof(a)))
			continue;
		assert_int_equal(memory_read(from, gpa(at), a, sizeof(a)), 0);
		assert_int_equal(memory_read(to, gpa(at), b, sizeof(b)), 0);
		if (memcmp(a, b, sizeof(a)) != 0)
			fail_msg("RAM differs in the 64 KiB at 0x%llx", (unsigned long long)at);
	}
}

void move_rig_assert_disk(struct move_rig *rig)
{
	static uint8_t a[KIB(64)], b[KIB(64)];
	_cleanup_(fd_closep) int from = open(rig->disk_from, O_RDONLY | O_CLOEXEC);
	_cleanup_(fd_closep) int to = open(rig->disk_to, O_RDONLY | O_CLOEXEC);
	struct stat here, there;
	ssize_t n;

	for (off_t at = 0; (n = pread(from, a, sizeof(a), at)) > 0; at += n) {
		assert_int_equal(pread(to, b, sizeof(b), at), n);
		if (memcmp(a, b, (size_t)n) != 0)
			fail_msg("the disk differs in the 64 KiB at %lld", (long long)at);
	}
	assert_int_equal(fstat(from, &here), 0);
	assert_int_equal(fstat(to, &there), 0);
	assert_int_equal(here.st_size, there.st_size);
	/* What is no whole block stays one. */
	assert_true(there.st_blocks <= here.st_blocks + here.st_blocks / 4 + 8);
}

/* The timer's top bit changes every 2.3 s, and its status with it. */
static void clear_timer_status(struct near_vm *near)
{
	struct bus_access clear = { .space = BUS_PIO,
				    .write = true,
				    .size = 2,
				    .address = PORT_ACPI_PM + POWER_PM1_EVENT,
				    .data = 1 };

	bus_dispatch(near->vm->bus, &clear);
}

/* What touch_devices left in the clock's memory; its other registers have gone on, as time has. */
static void assert_clock_remembers(struct near_vm *near)
{
	struct bus_access select = {
		.space = BUS_PIO, .write = true, .size = 1, .address = 0x70, .data = 0x40
	};
	struct bus_access read = { .space = BUS_PIO, .size = 1, .address = 0x71 };

	bus_dispatch(near->vm->bus, &select);
	bus_dispatch(near->vm->bus, &read);
	assert(read.data == 0x77);
}

static void assert_devices_equal(void *arg)
{
	struct move_rig *rig = arg;
	struct list *item, *next;

	quiesce_begin(&rig->to.vm->quiesce);
	clear_timer_status(&rig->from);
	clear_timer_status(&rig->to);
	list_for_each(item, next, &rig->from.vm->devices) {
		struct device *a = container_of(item, struct device, link);
		struct device *b = vm_find_device(rig->to.vm, a->name);
		const char *field = b && a->table ? state_compare(a->table, a->state, b->state)
						  : NULL;

		assert(b);
		if (strcmp(a->name, "rtc") == 0)
			continue;
		if (field)
			fprintf(stderr, "%s: %s differs\n", a->name, field);
		assert(!field);
	}
	quiesce_end(&rig->to.vm->quiesce);
	assert_clock_remembers(&rig->to);
}

void move_rig_assert_equal(struct move_rig *rig)
{
	near_vm_kill(&rig->from);
	assert_ram_equal(rig);
	assert_true(near_vm_do(&rig->to, assert_devices_equal, rig));
}
