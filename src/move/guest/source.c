/* SPDX-License-Identifier: Apache-2.0 */

/* A VM that is moved away. Until `given` everything can be undone, and is when its mover's connection ends. */

#include <errno.h>
#include <string.h>
#include <sys/stat.h>

#include "base/cleanup.h"
#include "base/fd.h"
#include "move/guest/internal.h"
#include "vm/announce.h"
#include "vm/board.h"
#include "vm/cpus.h"
#include "vm/save.h"

#define THROTTLE_PERIOD_NS (10 * NSEC_PER_MSEC)
#define STOP_POLL_NS (NSEC_PER_MSEC / 2)

static void throttle_expired(struct loop_timer *timer);
static void stop_poll_expired(struct loop_timer *timer);

void move_source_init(struct move_guest *guest)
{
	loop_timer_init(&guest->throttle_timer, throttle_expired);
	loop_timer_init(&guest->stop_poll, stop_poll_expired);
}

static uint64_t now_of(const struct move_guest *guest)
{
	return clock_now(loop_clock(guest->vm->loop));
}

/* ---- begin ---- */

/* 0, or the first of what forbids it. */
static int judge_now(struct move_guest *guest, const void *owner, bool upgrade, struct error *err)
{
	struct problems problems = { 0 };
	const void *mine = guest->owner == owner ? TAKE_PTR(guest->owner) : NULL;

	if (upgrade)
		move_guest_check_upgrade(guest, &problems);
	else
		move_guest_check(guest, &problems);
	if (mine)
		guest->owner = mine;
	if (!problems.count)
		return 0;
	*err = problems.list[0];
	return err->code;
}

static int judge_mark(const struct move_guest *guest, struct error *err)
{
	struct stat st;

	if (guest->mark_fd < 0)
		return 0;
	if (fstat(guest->mark_fd, &st) == 0 && S_ISREG(st.st_mode))
		return 0;
	return error_set(err, -EINVAL, EXIT_STATUS_FAILED,
			 "the mover's mark is no file; it comes from marks_prepare_given");
}

/* What was written before counts as clean, and the mover reads it after this. */
static int start_log(struct move_guest *guest, struct error *err)
{
	struct vm *vm = guest->vm;
	int r;

	cpus_quiesce(vm);
	r = memory_dirty_start(vm->memory);
	if (r < 0)
		memory_dirty_stop(vm->memory);
	quiesce_end(&vm->quiesce);
	return r < 0 ? error_set(err, r, EXIT_STATUS_HOST,
				 "%s: KVM does not log what the guest writes: %s; 'utsusu doctor' "
				 "tells more",
				 vm->config->name, strerror(-r))
		     : 0;
}

static int begin(struct move_guest *guest, int shared_fd, struct error *err)
{
	int r = move_shared_take(shared_fd, guest->vm->memory->size, &guest->shared, err);

	if (r == 0)
		r = judge_mark(guest, err);
	if (r == 0)
		r = dirty_bitmap_init(&guest->fresh, guest->vm->memory);
	return r < 0 ? r : start_log(guest, err);
}

int move_source_judge(struct move_guest *guest, bool upgrade, struct error *err)
{
	int r = judge_now(guest, NULL, upgrade, err);

	if (r == 0 && guest->stage != MOVE_IDLE && !(guest->stage == MOVE_RAN && guest->arrived))
		r = error_set(err, -EBUSY, EXIT_STATUS_BUSY,
			      "%s: its move is at '%s'; let that end first",
			      guest->vm->config->name, move_stage_name(guest->stage));
	return r;
}

void move_source_begun(struct move_guest *guest, const void *owner,
		       const uint8_t token[MOVE_TOKEN_BYTES])
{
	guest->stage = MOVE_LOGGING;
	guest->owner = owner;
	guest->returned = guest->arrived = false;
	memcpy(guest->token, token, MOVE_TOKEN_BYTES);
}

int move_guest_begin(struct move_guest *guest, const void *owner,
		     const uint8_t token[MOVE_TOKEN_BYTES], int shared_fd, int mark_fd,
		     struct error *err)
{
	_cleanup_(fd_closep) int shared = shared_fd, mark = mark_fd;
	int r = move_source_judge(guest, false, err);

	if (r < 0)
		return r;
	guest->mark_fd = TAKE_FD(mark);
	r = begin(guest, TAKE_FD(shared), err);
	if (r < 0) {
		move_guest_release(guest);
		return error_set(err, r, EXIT_STATUS_FAILED, "%s: cannot be moved: %s",
				 guest->vm->config->name, strerror(-r));
	}
	move_source_begun(guest, owner, token);
	return 0;
}

/* ---- written pages ---- */

/* The mover takes words while we add to them. */
static uint64_t tell_pages(struct move_guest *guest)
{
	uint64_t *from = guest->fresh.words, pages = 0;

	for (uint64_t i = 0; i < guest->shared.n_words; i++) {
		if (!from[i])
			continue;
		pages += (uint64_t)__builtin_popcountll(from[i]);
		__atomic_fetch_or(&guest->shared.bitmap[i], from[i], __ATOMIC_ACQ_REL);
		from[i] = 0;
	}
	return pages;
}

/* After an error of KVM's every page counts as written, and is told. */
static int collect(struct move_guest *guest, uint64_t *ret_pages, struct error *err)
{
	int r = memory_dirty_collect(guest->vm->memory, &guest->fresh);
	uint64_t pages = tell_pages(guest);

	if (r < 0)
		return error_set(err, r, EXIT_STATUS_HOST,
				 "%s: KVM's log of what the guest writes fails: %s; see the host's "
				 "kernel log",
				 guest->vm->config->name, strerror(-r));
	*ret_pages = pages;
	return 0;
}

int move_guest_collect(struct move_guest *guest, const void *owner, uint64_t *ret_pages,
		       struct error *err)
{
	int r = move_guest_expect(guest, owner, STAGE(MOVE_LOGGING) | STAGE(MOVE_STOPPED), err);

	return r < 0 ? r : collect(guest, ret_pages, err);
}

/* ---- slowing down ---- */

static void have_vcpus_sleep(struct vm *vm, uint64_t until_ns)
{
	for (uint32_t i = 0; i < vm->n_vcpus; i++)
		vcpu_sleep(vm->vcpus[i], until_ns);
}

static void throttle_expired(struct loop_timer *timer)
{
	struct move_guest *guest = container_of(timer, struct move_guest, throttle_timer);

	/* The threads sleep by the host's clock, whatever the loop's is. */
	have_vcpus_sleep(guest->vm,
			 clock_now(&clock_host) + THROTTLE_PERIOD_NS * guest->throttle / 100);
	loop_timer_arm(guest->vm->loop, timer, now_of(guest) + THROTTLE_PERIOD_NS);
}

static void set_throttle(struct move_guest *guest, unsigned int percent)
{
	guest->throttle = percent;
	if (percent) {
		if (list_empty(&guest->throttle_timer.link))
			loop_timer_arm(guest->vm->loop, &guest->throttle_timer, 0);
		return;
	}
	loop_timer_cancel(&guest->throttle_timer);
	have_vcpus_sleep(guest->vm, 0);
}

int move_guest_throttle(struct move_guest *guest, const void *owner, unsigned int percent,
			struct error *err)
{
	int r = move_guest_expect(guest, owner, STAGE(MOVE_LOGGING), err);

	if (r < 0)
		return r;
	if (percent > MOVE_THROTTLE_MAX)
		return error_set(err, -EINVAL, EXIT_STATUS_USAGE,
				 "percent: %u stops the guest; give at most %u", percent,
				 MOVE_THROTTLE_MAX);
	set_throttle(guest, percent);
	return 0;
}

/* ---- the stop ---- */

static void stop_failed(struct move_guest *guest, const struct error *err)
{
	(void)!vm_let_go(guest->vm, VM_HELD_BY_MOVE);
	vm_finish_requests(guest->vm, false);
	board_drain(guest->vm, false);
	guest->stage = MOVE_LOGGING;
	if (guest->succession)
		guest->events.given(guest->events.ctx, guest->owner, NULL, err);
	else
		guest->events.stopped(guest->events.ctx, guest->owner, 0, err);
}

/* The guest asked for its own end or reset, or a vCPU failed: that comes first. */
static bool has_news(const struct vm *vm)
{
	return __atomic_load_n(&vm->posted, __ATOMIC_SEQ_CST) != 0;
}

static bool stands_in_an_access(const struct vm *vm)
{
	for (uint32_t i = 0; i < vm->n_vcpus; i++)
		if (vcpu_is_held(vm->vcpus[i]))
			return true;
	return false;
}

/* Everything stands still: 1, 0 not yet, negative errno never. */
static int try_hold(struct move_guest *guest, struct error *err)
{
	struct vm *vm = guest->vm;
	int r;

	if (vm->status == VM_RESETTING || has_news(vm))
		return 0;
	guest->stopped_at_ns = now_of(guest);
	r = vm_hold(vm, VM_HELD_BY_MOVE);
	if (r < 0)
		return error_set(err, r, EXIT_STATUS_FAILED, "%s: cannot be stopped: it is %s",
				 vm->config->name, vm_status_name(vm->status));
	if (!has_news(vm) && !stands_in_an_access(vm))
		return 1;
	(void)!vm_let_go(vm, VM_HELD_BY_MOVE);
	return 0;
}

/* 1: it is done. */
static int try_stop(struct move_guest *guest, struct error *err)
{
	uint64_t pages;
	int r = guest->vm->status == VM_RESETTING
			? 0
			: judge_now(guest, guest->owner, guest->succession, err);

	if (r == 0) {
		/* Whoever paused the VM stopped its queues too, which then finish nothing. */
		vm_finish_requests(guest->vm, true);
		r = board_drained(guest->vm, err);
	}
	if (r == 1)
		r = try_hold(guest, err);
	if (r == 1 && !guest->succession) {
		int collected = collect(guest, &pages, err);

		r = collected < 0 ? collected : 1;
	}
	if (r != 0 || now_of(guest) < guest->stop_due_ns)
		return r;
	return error_set(err, -ETIMEDOUT, EXIT_STATUS_FAILED,
			 "%s: its disk requests did not end within %u ms; see its disks on this "
			 "host, then move it again",
			 guest->vm->config->name, guest->stop_deadline_ms);
}

static void stop_poll_expired(struct loop_timer *timer)
{
	struct move_guest *guest = container_of(timer, struct move_guest, stop_poll);
	struct error err = { 0 };
	int r = try_stop(guest, &err);

	if (r == 0) {
		loop_timer_arm(guest->vm->loop, timer, now_of(guest) + STOP_POLL_NS);
		return;
	}
	if (r < 0) {
		stop_failed(guest, &err);
		return;
	}
	set_throttle(guest, 0);
	guest->stage = MOVE_STOPPED;
	if (guest->succession) {
		if (move_upgrade_stopped(guest, &err) < 0)
			stop_failed(guest, &err);
		return;
	}
	guest->events.stopped(guest->events.ctx, guest->owner, now_of(guest) - guest->stopped_at_ns,
			      NULL);
}

int move_guest_stop(struct move_guest *guest, const void *owner, unsigned int deadline_ms,
		    struct error *err)
{
	int r = move_guest_expect(guest, owner, STAGE(MOVE_LOGGING), err);

	if (r == 0)
		r = judge_now(guest, owner, guest->succession, err);
	if (r < 0)
		return r;
	guest->stage = MOVE_STOPPING;
	guest->stop_deadline_ms = deadline_ms;
	guest->stop_due_ns = now_of(guest) + deadline_ms * NSEC_PER_MSEC;
	board_drain(guest->vm, true);
	loop_timer_arm(guest->vm->loop, &guest->stop_poll, 0);
	return 0;
}

/* ---- state ---- */

int move_guest_save(struct move_guest *guest, const void *owner, uint16_t version,
		    uint64_t *ret_len, struct error *err)
{
	int r = move_guest_expect(guest, owner, STAGE(MOVE_LOGGING) | STAGE(MOVE_STOPPED), err);
	_cleanup_(buffer_release) struct buffer out;

	buffer_init(&out, MOVE_STATE_MAX);
	if (r < 0)
		return r;
	cpus_quiesce(guest->vm); /* a thread that is not there yet would save nothing */
	r = vm_save_as(guest->vm, VM_SAVE_ALL, version ? version : VM_STATE_VERSION, &out, err);
	quiesce_end(&guest->vm->quiesce);
	if (r == 0)
		r = fd_write_at(guest->shared.fd, out.data, out.len, guest->shared.state_at);
	if (r < 0)
		return error_set(err, r, EXIT_STATUS_FAILED, "%s: its state cannot be saved: %s",
				 guest->vm->config->name, strerror(-r));
	*ret_len = out.len;
	return 0;
}

/* ---- back ---- */

void move_source_end(struct move_guest *guest)
{
	/* The other side may have told the networks that it is there: before the stop, also before one that failed. */
	const bool announced = !guest->succession;

	loop_timer_cancel(&guest->stop_poll);
	set_throttle(guest, 0);
	/* Nobody else takes it from here on. */
	if (guest->succession) {
		(void)succession_decide(guest->succession, SUCCESSION_KEPT);
		guest->events.doors(guest->events.ctx, true);
	} else {
		memory_dirty_stop(guest->vm->memory);
	}
	move_disks_unlog(guest);
	vm_finish_requests(guest->vm, false);
	board_drain(guest->vm, false);
	guest->stage = MOVE_IDLE;
	guest->owner = NULL;
	move_guest_release(guest);
	(void)!vm_let_go(guest->vm, VM_HELD_BY_MOVE); /* -EALREADY: it was not stopped yet */
	if (announced)
		vm_announce(guest->vm);
}

int move_guest_cancel(struct move_guest *guest, const void *owner, struct error *err)
{
	int r = move_guest_expect(guest, owner,
				  STAGE(MOVE_LOGGING) | STAGE(MOVE_STOPPING) | STAGE(MOVE_STOPPED),
				  err);

	if (r == 0)
		move_source_end(guest);
	return r;
}

/* ---- given ---- */

static int write_mark(struct move_guest *guest, enum mark_result result)
{
	guest->given.result = result;
	return guest->mark_fd < 0 ? 0 : mark_give(guest->mark_fd, &guest->given);
}

void move_source_describe(struct move_guest *guest, const char *peer, uint64_t generation)
{
	const struct vm_config *config = guest->vm->config;

	guest->given = (struct mark_given){
		.generation = generation,
		.wall_ns = clock_wall(loop_clock(guest->vm->loop)),
	};
	memcpy(guest->given.name, config->name, sizeof(config->name));
	memcpy(guest->given.uuid, config->uuid, sizeof(config->uuid));
	memcpy(guest->given.token, guest->token, MOVE_TOKEN_BYTES);
	snprintf(guest->given.peer, sizeof(guest->given.peer), "%s", peer);
}

int move_guest_given(struct move_guest *guest, const void *owner, const char *peer,
		     uint64_t generation, struct error *err)
{
	int r = move_guest_expect(guest, owner, STAGE(MOVE_STOPPED), err);

	if (r < 0)
		return r;
	move_source_describe(guest, peer, generation);
	r = write_mark(guest, MARK_OPEN);
	if (r < 0) {
		/* It may stand there all the same, and the VM will run on. */
		(void)!write_mark(guest, MARK_NEVER);
		return error_set(err, r, EXIT_STATUS_HOST,
				 "%s: the mark that it is given away cannot be written: %s; see "
				 "that the state directory can be written",
				 guest->vm->config->name, strerror(-r));
	}
	guest->stage = MOVE_GIVEN;
	(void)!board_own(guest->vm, false, NULL); /* giving a lock back cannot fail */
	return 0;
}

static int expect_token(const struct move_guest *guest, enum move_stage stage,
			const uint8_t token[MOVE_TOKEN_BYTES], struct error *err)
{
	if (guest->stage == stage && memcmp(guest->token, token, MOVE_TOKEN_BYTES) == 0)
		return 0;
	return error_set(err, -ESRCH, EXIT_STATUS_FAILED,
			 "%s: is not given away by a move with this token (it is at '%s')",
			 guest->vm->config->name, move_stage_name(guest->stage));
}

int move_guest_never(struct move_guest *guest, const uint8_t token[MOVE_TOKEN_BYTES],
		     struct error *err)
{
	int r;

	/* Told twice. */
	if (guest->returned && memcmp(guest->token, token, MOVE_TOKEN_BYTES) == 0)
		return 0;
	r = expect_token(guest, MOVE_GIVEN, token, err);
	if (r == 0 && guest->succession)
		return move_upgrade_never(guest, err);
	if (r == 0)
		r = board_own(guest->vm, true, err);
	if (r < 0)
		return r;
	r = write_mark(guest, MARK_NEVER);
	if (r < 0)
		return error_set(err, r, EXIT_STATUS_HOST,
				 "%s: the mark that it was given away cannot be taken back: %s; "
				 "see that the state directory can be written, then try again",
				 guest->vm->config->name, strerror(-r));
	move_source_end(guest);
	guest->returned = true;
	return 0;
}

int move_guest_ran(struct move_guest *guest, const uint8_t token[MOVE_TOKEN_BYTES],
		   const char *where, struct error *err)
{
	int r;

	if (guest->stage == MOVE_RAN && !guest->arrived &&
	    memcmp(guest->token, token, MOVE_TOKEN_BYTES) == 0)
		return 0;
	r = expect_token(guest, MOVE_GIVEN, token, err);
	if (r == 0 && guest->succession)
		return move_upgrade_ran(guest, err);
	if (r < 0)
		return r;
	/* Where it fails the mark stays in doubt, and the daemon settles it. */
	(void)!write_mark(guest, MARK_RAN);
	guest->stage = MOVE_RAN;
	move_guest_over(guest, MOVE_EXIT_LEFT, "moved to ", where);
	return 0;
}
