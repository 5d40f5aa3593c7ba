/* SPDX-License-Identifier: Apache-2.0 */
#include "near_vm.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <linux/userfaultfd.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

#include "block/log.h"
#include "block/raw.h"
#include "check.h"
#include "host/userfault.h"
#include "kernel_images.h"
#include "kvm/fake.h"
#include "move/guest/internal.h"
#include "vm/memory_map.h"
#include "vm/save.h"

/* ---- the guest ---- */

static uint64_t next_random(struct near_guest *guest)
{
	guest->random ^= guest->random >> 12;
	guest->random ^= guest->random << 25;
	guest->random ^= guest->random >> 27;
	return guest->random * 0x2545f4914f6cdd1dULL;
}

static void write_somewhere(struct near_guest *guest)
{
	uint64_t value = next_random(guest);
	uint64_t page = next_random(guest) % NEAR_HOT_PAGES;
	uint64_t at = next_random(guest) % (MEMORY_PAGE_SIZE / 8);

	int r = memory_write(guest->vm->memory, gpa(NEAR_HOT_AT + page * MEMORY_PAGE_SIZE + at * 8),
			     &value, sizeof(value));

	assert(r == 0); /* cmocka's are for its own thread */
	(void)r;
}

/* In the place of a driver and its device: what they would have written, and marked when that ended. */
static void write_to_disk(struct near_guest *guest)
{
	struct block_log *log = guest->vm->disks[0]->log;
	uint64_t block = next_random(guest) % (guest->disk_size / 4096), bytes[512];
	off_t offset = (off_t)block * 4096;
	int r;

	for (size_t i = 0; i < ARRAY_SIZE(bytes); i++)
		bytes[i] = next_random(guest);
	if (block % 16)
		r = pwrite(guest->disk_fd, bytes, sizeof(bytes), offset) == sizeof(bytes) ? 0 : -1;
	else
		r = fallocate(guest->disk_fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, offset,
			      4096);
	assert(r == 0);
	(void)r;
	if (log)
		block_log_mark(log, (uint64_t)offset, 4096);
}

static void compare_somewhere(struct near_guest *guest)
{
	static _Thread_local uint8_t here[MEMORY_PAGE_SIZE], there[MEMORY_PAGE_SIZE];
	uint64_t page = next_random(guest) % (NEAR_HOT_AT / MEMORY_PAGE_SIZE + NEAR_HOT_PAGES);

	/* Every second one where the guest wrote until it was stopped. */
	if (next_random(guest) % 2)
		page = NEAR_HOT_AT / MEMORY_PAGE_SIZE + page % NEAR_HOT_PAGES;
	if (memory_read(guest->vm->memory, gpa(page * MEMORY_PAGE_SIZE), here, sizeof(here)) < 0 ||
	    memory_read(guest->twin, gpa(page * MEMORY_PAGE_SIZE), there, sizeof(there)) < 0 ||
	    memcmp(here, there, sizeof(here)) != 0)
		__atomic_add_fetch(&guest->differed, 1, __ATOMIC_RELAXED);
	__atomic_add_fetch(&guest->compared, 1, __ATOMIC_RELAXED);
}

/* One turn of the guest, on its vCPU's thread: it leaves KVM for a port that nobody cares about. */
static void work(struct kvm_run *run, void *ctx)
{
	const struct timespec pause = { .tv_nsec = 100 * 1000 };
	struct near_guest *guest = ctx;
	uint64_t now = clock_now(&clock_host);

	if (!__atomic_load_n(&guest->stopped_by_test, __ATOMIC_ACQUIRE)) {
		if (!__atomic_load_n(&guest->first_ns, __ATOMIC_RELAXED))
			__atomic_store_n(&guest->first_ns, now, __ATOMIC_RELEASE);
		if (guest->writes)
			write_somewhere(guest);
		if (guest->disk_fd >= 0 && guest->turns % 8 == 0)
			write_to_disk(guest);
		if (guest->twin)
			compare_somewhere(guest);
		__atomic_store_n(&guest->last_ns, now, __ATOMIC_RELEASE);
		__atomic_add_fetch(&guest->turns, 1, __ATOMIC_RELEASE);
	}
	nanosleep(&pause, NULL);
	run->exit_reason = KVM_EXIT_IO;
	run->io.direction = KVM_EXIT_IO_OUT;
	run->io.size = 1;
	run->io.port = PORT_POST;
	run->io.count = 1;
	run->io.data_offset = sizeof(struct kvm_run);
}

bool near_vm_runs(struct near_vm *near, bool should)
{
	uint64_t before = __atomic_load_n(&near->guest.turns, __ATOMIC_ACQUIRE);

	for (int i = 0; i < (should ? 5000 : 20); i++) {
		usleep(1000);
		if (__atomic_load_n(&near->guest.turns, __ATOMIC_ACQUIRE) != before)
			return true;
	}
	return false;
}

/* ---- its process ---- */

static void on_mail(struct loop_watch *watch, uint32_t events _unused_)
{
	struct near_vm *near = container_of(watch, struct near_vm, mailbox);

	fd_clear_event(watch->fd);
	pthread_mutex_lock(&near->lock);
	if (near->call) {
		void (*call)(void *arg) = near->call;

		/* The caller waits; what it calls may take the lock. */
		pthread_mutex_unlock(&near->lock);
		call(near->arg);
		pthread_mutex_lock(&near->lock);
		near->call = NULL;
		pthread_cond_broadcast(&near->changed);
	}
	pthread_mutex_unlock(&near->lock);
}

static bool is_gone_locked(const struct near_vm *near)
{
	return near->leaves || (near->is_lost && near->stands);
}

bool near_vm_do(struct near_vm *near, void (*call)(void *arg), void *arg)
{
	bool done = false;

	pthread_mutex_lock(&near->lock);
	while (near->call && !is_gone_locked(near))
		pthread_cond_wait(&near->changed, &near->lock);
	if (!is_gone_locked(near)) {
		near->call = call;
		near->arg = arg;
		fd_signal_event(near->mailbox.fd);
		while (near->call && !is_gone_locked(near))
			pthread_cond_wait(&near->changed, &near->lock);
		done = !near->call; /* and it may have ended of it */
		near->call = NULL;
	}
	pthread_mutex_unlock(&near->lock);
	return done;
}

static void pause_vm(void *arg)
{
	assert_int_equal(vm_pause(((struct near_vm *)arg)->vm), 0);
}

static void resume_vm(void *arg)
{
	assert_int_equal(vm_resume(((struct near_vm *)arg)->vm), 0);
}

void near_vm_pause(struct near_vm *near)
{
	assert_true(near_vm_do(near, pause_vm, near));
}

void near_vm_resume(struct near_vm *near)
{
	assert_true(near_vm_do(near, resume_vm, near));
}

static void on_stopped(void *ctx, const void *owner, uint64_t stopped_ns, const struct error *error)
{
	struct near_vm *near = ctx;

	pthread_mutex_lock(&near->lock);
	near->stop_told = true;
	near->stopped_ns = stopped_ns;
	near->stop_error = error ? *error : (struct error){ 0 };
	pthread_cond_broadcast(&near->changed);
	pthread_mutex_unlock(&near->lock);
	if (near->stopped)
		near->stopped(near, owner, stopped_ns, error);
}

static void on_given(void *ctx, const void *owner _unused_, const struct move_gift *gift,
		     const struct error *error)
{
	struct near_vm *near = ctx;

	pthread_mutex_lock(&near->lock);
	near->stop_told = true;
	near->gift = gift ? *gift : (struct move_gift){ 0 };
	near->stop_error = error ? *error : (struct error){ 0 };
	pthread_cond_broadcast(&near->changed);
	pthread_mutex_unlock(&near->lock);
}

/* There is nothing open in a test. */
static int on_hand_over(void *ctx _unused_, int sock _unused_)
{
	return 0;
}

static void on_doors(void *ctx, bool open)
{
	__atomic_store_n(&((struct near_vm *)ctx)->doors_closed, !open, __ATOMIC_RELEASE);
}

static void on_taken(void *ctx _unused_)
{
}

static void on_arrived(void *ctx _unused_)
{
}

static void on_over(void *ctx, enum move_exit how _unused_, const char *why _unused_)
{
	loop_stop(((struct near_vm *)ctx)->loop);
}

/* Its threads may stand in pages that never come: the "process" is no more, but for what the test looks at. */
static void on_lost(void *ctx, bool ran _unused_, const char *why)
{
	struct near_vm *near = ctx;

	pthread_mutex_lock(&near->lock);
	near->is_lost = !near->ended; /* its thread would have ended with it */
	snprintf(near->lost, sizeof(near->lost), "%s", why);
	pthread_cond_broadcast(&near->changed);
	pthread_mutex_unlock(&near->lock);
	loop_stop(near->loop);
}

static void on_ended(void *ctx _unused_, enum vm_end how _unused_, const char *why _unused_)
{
}

static void on_ending(void *ctx, enum vm_end how, const char *why)
{
	struct near_vm *near = ctx;

	if (how == VM_END_POWER_OFF)
		move_guest_hurry(near->move, why);
}

static void *control_main(void *arg)
{
	struct near_vm *near = arg;

	int r = loop_run(near->loop);

	assert(r == 0);
	(void)r;
	/* Its threads may stand in pages that never come: nobody is to wait for the end of that. */
	pthread_mutex_lock(&near->lock);
	near->leaves = true;
	pthread_cond_broadcast(&near->changed);
	pthread_mutex_unlock(&near->lock);
	if (__atomic_load_n(&near->powers_off, __ATOMIC_ACQUIRE))
		vm_end(near->vm, VM_END_POWER_OFF, "the guest switched itself off");
	else
		vm_end(near->vm, VM_END_FORCED, "test");
	pthread_mutex_lock(&near->lock);
	near->ended = true;
	pthread_cond_broadcast(&near->changed);
	pthread_mutex_unlock(&near->lock);
	return NULL;
}

static void configure(struct near_vm *near, bool arriving)
{
	static uint8_t image[KERNEL_IMAGE_BYTES];

	vm_config_init(&near->config);
	snprintf(near->config.name, sizeof(near->config.name), "guest");
	snprintf(near->config.uuid, sizeof(near->config.uuid),
		 "6a0f1d3e-9f1b-4a53-8d3b-5f0c8f5f2b11");
	near->config.kernel = strdup("kernel");
	near->config.cpus.count = 2;
	near->config.memory.size = NEAR_RAM;
	vm_config_complete(&near->config);
	vm_resources_init(&near->resources);
	near->resources.arriving = arriving;
	kernel_image_bzimage(image);
	near->resources.kernel_fd = kernel_image_file(image, sizeof(image));
}

static void add_disk(struct near_vm *near, bool arriving, const char *path)
{
	const struct raw_options options = {
		.path = path, .fd = -1, .direct = true, .elsewhere = arriving
	};
	struct error err = { 0 };

	near->config.n_disks = 1;
	near->config.disks[0].path = strdup(path);
	near->config.disks[0].queues = 1;
	if (raw_open(&options, &near->resources.blocks[0], &err) < 0)
		fail_msg("%s", err.message);
}

static void make_vm(struct near_vm *near, bool arriving)
{
	const struct vm_events events = { .ending = on_ending, .ended = on_ended, .ctx = near };
	const struct move_guest_events moves = {
		.stopped = on_stopped,
		.arrived = on_arrived,
		.lost = on_lost,
		.given = on_given,
		.hand_over = on_hand_over,
		.doors = on_doors,
		.taken = on_taken,
		.over = on_over,
		.ctx = near,
	};
	struct error err = { 0 };

	near->loop = loop_new(&clock_host);
	if (vm_new(&near->config, &near->resources, near->loop, NULL, &events, &near->vm, &err) < 0)
		fail_msg("%s", err.message);
	if (move_guest_new(near->vm, arriving, &moves, &near->move) < 0)
		fail_msg("the VM's part in moves cannot be made");
	if (move_guest_guard(near->move, arriving ? userfault_make(-1) : -1, NULL) < 0)
		fail_msg("the VM's guard cannot be made");
}

static void make(struct near_vm *near, bool arriving, bool guest_writes, int memory_fd,
		 const char *disk, bool inherits)
{
	static const struct kvm_fake_exit turn = { .fill = work, .times = UINT64_MAX };
	struct kvm_fake_exit *script = malloc(sizeof(*script));

	*near = (struct near_vm){ 0 };
	pthread_mutex_init(&near->lock, NULL);
	pthread_cond_init(&near->changed, NULL);
	configure(near, arriving);
	if (disk)
		add_disk(near, arriving, disk);
	near->resources.memory_fd = memory_fd;
	near->resources.inherited = inherits;
	make_vm(near, arriving);
	near->guest = (struct near_guest){ .vm = near->vm,
					   .writes = guest_writes,
					   .disk_fd = -1,
					   .random = 88172645463325252ULL };
	*script = turn;
	script->ctx = &near->guest;
	near->script = script;
	kvm_fake_script(vcpu_kvm(near->vm->vcpus[0]), script, 1);
	near->mailbox =
		(struct loop_watch){ .fd = fd_new_event(), .events = EPOLLIN, .ready = on_mail };
	assert_int_equal(loop_add(near->loop, &near->mailbox), 0);
}

void near_vm_make(struct near_vm *near, bool arriving, bool guest_writes, int memory_fd)
{
	make(near, arriving, guest_writes, memory_fd, NULL, false);
}

static void start(struct near_vm *near)
{
	const struct vm_thread_entry open_entry = { 0 };
	struct error err = { 0 };

	assert_int_equal(vm_start(near->vm, &open_entry, &err), 0);
	vm_run(near->vm);
	assert_int_equal(pthread_create(&near->control, NULL, control_main, near), 0);
}

void near_vm_start(struct near_vm *near, bool arriving, bool guest_writes)
{
	near_vm_start_with_disk(near, arriving, guest_writes, NULL);
}

void near_vm_start_with_disk(struct near_vm *near, bool arriving, bool guest_writes,
			     const char *path)
{
	make(near, arriving, guest_writes, -1, path, false);
	if (path && guest_writes && !arriving) {
		near->guest.disk_fd = open(path, O_RDWR | O_CLOEXEC);
		near->guest.disk_size = near->vm->disks[0]->geometry.size;
	}
	start(near);
}

void near_vm_start_heir(struct near_vm *near, struct near_vm *from)
{
	make(near, true, from->guest.writes, dup(from->vm->memory->fd), NULL, true);
	start(near);
}

void near_vm_kill_soon(struct near_vm *near)
{
	loop_stop(near->loop);
}

void near_vm_power_off(struct near_vm *near)
{
	__atomic_store_n(&near->powers_off, true, __ATOMIC_RELEASE);
	near_vm_kill_soon(near);
}

void near_vm_kill(struct near_vm *near)
{
	near_vm_kill_soon(near);
	pthread_mutex_lock(&near->lock);
	while (!near->ended)
		pthread_cond_wait(&near->changed, &near->lock);
	pthread_mutex_unlock(&near->lock);
}

/* Whoever stands in a page that never comes gets zeroes, so that this process can go on without those threads. */
static void let_go_of_lost(struct near_vm *near)
{
	const struct memory *memory = near->vm->memory;

	__atomic_store_n(&near->guest.stopped_by_test, true, __ATOMIC_RELEASE);
	for (size_t i = 0; i < memory->n_banks; i++) {
		struct uffdio_range range = { (uintptr_t)memory->banks[i].host,
					      memory->banks[i].len };

		assert_int_equal(ioctl(near->move->guard.uffd, UFFDIO_UNREGISTER, &range), 0);
	}
}

void near_vm_free(struct near_vm *near)
{
	bool lost;

	if (!near->vm)
		return;
	pthread_mutex_lock(&near->lock);
	lost = near->is_lost;
	pthread_mutex_unlock(&near->lock);
	if (lost)
		let_go_of_lost(near);
	near_vm_kill(near);
	pthread_join(near->control, NULL);
	move_guest_free(near->move);
	fd_close(near->guest.disk_fd);
	vm_free(near->vm);
	vm_resources_close(&near->resources);
	loop_remove(near->loop, &near->mailbox);
	fd_close(near->mailbox.fd);
	loop_free(near->loop);
	vm_config_release(&near->config);
	pthread_mutex_destroy(&near->lock);
	pthread_cond_destroy(&near->changed);
	free(near->script);
	*near = (struct near_vm){ 0 };
}
