/* SPDX-License-Identifier: Apache-2.0 */

/*
 * A VM that runs before all its memory is there. Whoever touches a missing page stands in the kernel until the mover brings it; when
 * the mover has gone, for ever - and the control thread may be who waits for such a thread. So a thread of its own looks at the
 * mover's life. The userfaultfd stays open here: with its last descriptor the missing pages would become zeroes.
 */

#include <errno.h>
#include <poll.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/fd.h"
#include "host/userfault.h"
#include "move/guest/internal.h"

#define END_NS                                                                                     \
	(5 * NSEC_PER_SEC) /* how long threads that stand in a page may hold the VM's end up */
#define WHY_MAX 320

/* ---- no more pages are awaited; under the lock ---- */

static void let_go(struct move_guest *guest)
{
	struct move_guard *guard = &guest->guard;

	__atomic_store_n(&guest->vm->memory->on_demand, false, __ATOMIC_RELEASE);
	memory_join_pages(guest->vm->memory, true);
	fd_close(TAKE_FD(guard->life));
	fd_close(TAKE_FD(guard->uffd));
}

static bool awaits(const struct move_guard *guard)
{
	return guard->life >= 0 || guard->lost;
}

bool move_guard_settle(struct move_guest *guest)
{
	struct move_guard *guard = &guest->guard;
	bool lacks;

	pthread_mutex_lock(&guard->lock);
	if (guard->life >= 0 && guard->ran && !move_shared_left(&guest->shared))
		let_go(guest);
	lacks = awaits(guard);
	pthread_mutex_unlock(&guard->lock);
	return lacks;
}

bool move_guard_run(struct move_guest *guest)
{
	struct move_guard *guard = &guest->guard;
	bool lacks;

	pthread_mutex_lock(&guard->lock);
	guard->ran = true;
	lacks = awaits(guard);
	pthread_mutex_unlock(&guard->lock);
	return lacks;
}

uint64_t move_guest_lacks(struct move_guest *guest)
{
	uint64_t pages;

	pthread_mutex_lock(&guest->guard.lock);
	pages = awaits(&guest->guard) ? move_shared_left(&guest->shared) : 0;
	pthread_mutex_unlock(&guest->guard.lock);
	return pages * MEMORY_PAGE_SIZE;
}

/* ---- the thread ---- */

static void describe_loss(struct move_guest *guest, const char *reason, char *text, size_t size)
{
	if (!guest->guard.ran)
		snprintf(text, size, "its mover ended before the commit");
	else
		snprintf(text, size,
			 "ended: %llu MiB of its memory were still to come, and will not: %s",
			 (unsigned long long)((move_shared_left(&guest->shared) * MEMORY_PAGE_SIZE +
					       MIB(1) - 1) >>
					      20),
			 reason);
}

/* What is left to do about the end of a mover's life: true, and why the VM is lost. */
static bool judge_end(struct move_guest *guest, char *why, size_t size)
{
	struct move_guard *guard = &guest->guard;
	char reason[MOVE_LAST_WORD];
	bool lost, told;

	pthread_mutex_lock(&guard->lock);
	lost = guard->life >= 0 && (!guard->ran || move_shared_left(&guest->shared));
	if (lost) {
		told = move_life_hear(guard->life, reason);
		describe_loss(guest, told ? reason : "utsusu-move was ended", why, size);
		fd_close(TAKE_FD(guard->life));
		guard->lost = true;
	} else if (guard->life >= 0) {
		let_go(guest);
	}
	pthread_mutex_unlock(&guard->lock);
	return lost;
}

static bool judge_hurry(struct move_guest *guest, uint64_t now, char *why, size_t size)
{
	struct move_guard *guard = &guest->guard;
	bool late;

	pthread_mutex_lock(&guard->lock);
	late = guard->due_ns && now >= guard->due_ns && awaits(guard);
	if (late) {
		guard->due_ns = 0;
		snprintf(why, size, "ended, while it waited for memory that did not come");
	}
	pthread_mutex_unlock(&guard->lock);
	return late;
}

/* What is to be waited for; false: for nothing more. */
static bool look(struct move_guard *guard, int *ret_life, int *ret_timeout_ms)
{
	const uint64_t now = clock_now(&clock_host);
	bool quit;

	pthread_mutex_lock(&guard->lock);
	quit = guard->quit;
	*ret_life = guard->life;
	*ret_timeout_ms = guard->due_ns ? (int)((MAX(guard->due_ns, now) - now) / NSEC_PER_MSEC) + 1
					: -1;
	pthread_mutex_unlock(&guard->lock);
	return !quit;
}

static bool has_run(struct move_guard *guard)
{
	bool ran;

	pthread_mutex_lock(&guard->lock);
	ran = guard->ran;
	pthread_mutex_unlock(&guard->lock);
	return ran;
}

static void *guard_main(void *arg)
{
	struct move_guest *guest = arg;
	struct move_guard *guard = &guest->guard;
	int life, timeout_ms;
	char why[WHY_MAX];

	while (look(guard, &life, &timeout_ms)) {
		struct pollfd fds[] = {
			{ .fd = guard->wake, .events = POLLIN },
			{ .fd = life, .events = POLLIN | POLLRDHUP },
		};

		if (poll(fds, ARRAY_SIZE(fds), timeout_ms) < 0)
			continue;
		if (fds[0].revents)
			fd_clear_event(guard->wake);
		if ((fds[1].revents && judge_end(guest, why, sizeof(why))) ||
		    judge_hurry(guest, clock_now(&clock_host), why, sizeof(why)))
			guest->events.lost(guest->events.ctx, has_run(guard), why);
	}
	return NULL;
}

/* ---- life ---- */

void move_guard_init(struct move_guest *guest)
{
	guest->guard = (struct move_guard){ .wake = -1, .uffd = -1, .life = -1 };
	pthread_mutex_init(&guest->guard.lock, NULL);
}

void move_guard_release(struct move_guest *guest)
{
	struct move_guard *guard = &guest->guard;

	if (guard->started) {
		pthread_mutex_lock(&guard->lock);
		guard->quit = true;
		pthread_mutex_unlock(&guard->lock);
		fd_signal_event(guard->wake);
		pthread_join(guard->thread, NULL);
	}
	fd_close(guard->wake);
	fd_close(guard->life);
	fd_close(guard->uffd);
	pthread_mutex_destroy(&guard->lock);
}

int move_guest_guard(struct move_guest *guest, int uffd, const struct thread_entry *entry)
{
	_cleanup_(fd_closep) int fd = uffd;
	struct move_guard *guard = &guest->guard;
	int r;

	if (fd < 0)
		return 0;
	guard->wake = fd_new_event();
	if (guard->wake < 0)
		return guard->wake;
	guard->uffd = TAKE_FD(fd);
	r = thread_start("mover's life", entry, guard_main, guest, &guard->thread);
	guard->started = r == 0;
	return r;
}

void move_guest_hurry(struct move_guest *guest, const char *will)
{
	struct move_guard *guard = &guest->guard;

	pthread_mutex_lock(&guard->lock);
	if (awaits(guard) && !guard->due_ns)
		guard->due_ns = clock_now(&clock_host) + END_NS;
	if (guard->life >= 0 && guard->ran && will)
		move_life_say(guard->life, will);
	pthread_mutex_unlock(&guard->lock);
	if (guard->started)
		fd_signal_event(guard->wake);
}

/* ---- what a mover orders ---- */

/* Here, and not by the mover: what it may fill is RAM, and no other mapping of ours. */
static int register_banks(const struct move_guest *guest, struct move_demand_message *message)
{
	const struct memory *memory = guest->vm->memory;
	int r = 0;

	/* The kernel may join small pages to a huge one, with zeroes for those that are missing (before Linux 6.4). */
	memory_join_pages(memory, false);
	message->can_zero = true;
	for (size_t i = 0; r == 0 && i < memory->n_banks; i++) {
		const struct memory_bank *bank = &memory->banks[i];
		bool can_zero = false;

		message->addresses[i] = (uintptr_t)bank->host;
		r = userfault_register(guest->guard.uffd, bank->host, bank->len, &can_zero);
		message->can_zero &= can_zero;
	}
	return r;
}

static int send_access(struct move_guest *guest, int life)
{
	struct move_demand_message message = { 0 };
	int r = register_banks(guest, &message);

	return r < 0 ? r : fd_send(life, &message, sizeof(message), &guest->guard.uffd, 1);
}

static int judge(const struct move_guest *guest, struct error *err)
{
	const struct move_guard *guard = &guest->guard;
	const char *name = guest->vm->config->name;

	if (guest->loaded || guest->spoiled || guard->life >= 0)
		return error_set(err, -EALREADY, EXIT_STATUS_FAILED,
				 "%s: its memory or state was loaded before; begin anew", name);
	if (guard->uffd < 0)
		return error_set(err, -EOPNOTSUPP, EXIT_STATUS_HOST,
				 "%s: its memory cannot be loaded on demand: this host gives no "
				 "userfaultfd for the kernel's own accesses; run utsusu as root, "
				 "with Linux 5.11 or later",
				 name);
	return 0;
}

bool move_guest_can_demand(const struct move_guest *guest)
{
	return guest->guard.uffd >= 0;
}

int move_guest_demand(struct move_guest *guest, const void *owner, int life, struct error *err)
{
	_cleanup_(fd_closep) int fd = life;
	struct move_guard *guard = &guest->guard;
	int r = move_guest_expect(guest, owner, STAGE(MOVE_ARRIVING), err);

	if (r == 0)
		r = judge(guest, err);
	if (r < 0)
		return r;
	r = send_access(guest, fd);
	if (r < 0)
		return error_set(err, r, EXIT_STATUS_FAILED,
				 "%s: its memory cannot be loaded on demand: %s",
				 guest->vm->config->name, strerror(-r));
	__atomic_store_n(&guest->vm->memory->on_demand, true, __ATOMIC_RELEASE);
	move_shared_set_left(&guest->shared, 0);
	pthread_mutex_lock(&guard->lock);
	guard->life = TAKE_FD(fd);
	pthread_mutex_unlock(&guard->lock);
	fd_signal_event(guard->wake);
	return 0;
}

int move_guest_filled(struct move_guest *guest, const void *owner, struct error *err)
{
	int r = move_guest_expect(guest, owner, STAGE(MOVE_RAN), err);

	if (r == 0 && move_guard_settle(guest))
		r = error_set(err, -EINVAL, EXIT_STATUS_FAILED,
			      "%s: %llu MiB of its memory are still to come",
			      guest->vm->config->name,
			      (unsigned long long)(move_guest_lacks(guest) >> 20));
	if (r < 0)
		return r;
	guest->owner = NULL;
	move_guest_is_whole(guest);
	return 0;
}
