/* SPDX-License-Identifier: Apache-2.0 */
#include "near_link.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "check.h"
#include "vm/save.h"

struct near_link {
	struct move_link link;
	struct near_vm *near;
	const char *unknown;
	bool broken;		   /* nothing comes through any more */
	struct move_shared shared; /* once it arrives */
};

/* One call of the VM's part, on the VM's control thread. */
struct ask {
	struct near_link *link;
	const uint8_t *token;
	const char *text;
	uint64_t number, in_len, in_ns;
	uint16_t version;
	int shared_fd, mark_fd, heir_fd;
	unsigned int percent;
	bool flag;
	struct problems *problems;
	struct move_facts *facts;
	uint64_t out_number;
	bool out_flag;
	struct error *err;
	int result;
};

static struct near_link *near_of(struct move_link *link)
{
	return container_of(link, struct near_link, link);
}

static int ask_vm(struct move_link *move_link, const char *op, void (*call)(void *arg),
		  struct ask *ask)
{
	struct near_link *link = near_of(move_link);

	ask->link = link;
	if (link->broken || !near_vm_do(link->near, call, ask))
		return error_set(ask->err, -ECONNRESET, EXIT_STATUS_NOT_FOUND,
				 "guest: ended meanwhile");
	if (link->unknown && strcmp(link->unknown, op) == 0) {
		link->broken = true;
		return error_set(ask->err, -ETIMEDOUT, EXIT_STATUS_FAILED,
				 "guest: has not answered");
	}
	return ask->result;
}

#define GUEST(ask) ((ask)->link->near->move)
#define OWNER(ask) ((ask)->link)

static void call_facts(void *arg)
{
	struct ask *ask = arg;
	struct move_facts *facts = ask->facts;
	const struct near_vm *near = ask->link->near;
	const struct memory *memory = near->vm->memory;

	*facts = (struct move_facts){ .ram_fd = -1, .ram_bytes = memory->size };
	facts->state_min = near->state_max ? near->state_min : VM_STATE_VERSION_MIN;
	facts->state_max = near->state_max ? near->state_max : VM_STATE_VERSION;
	memcpy(facts->name, near->config.name, sizeof(facts->name));
	memcpy(facts->uuid, near->config.uuid, sizeof(facts->uuid));
	facts->config = strdup("{\"cpus\":{\"count\":2,\"max\":2},\"rng\":true}");
	facts->demand = move_guest_can_demand(GUEST(ask));
	facts->n_banks = memory->n_banks;
	for (size_t i = 0; i < memory->n_banks; i++) {
		facts->banks[i] = memory->banks[i];
		facts->banks[i].host = NULL;
	}
}

static int near_facts(struct move_link *link, struct move_facts *ret_facts, struct error *err)
{
	struct ask ask = { .facts = ret_facts, .err = err };

	return ask_vm(link, "facts", call_facts, &ask);
}

static void call_check(void *arg)
{
	struct ask *ask = arg;

	move_guest_check(GUEST(ask), ask->problems);
}

static int near_check(struct move_link *link, struct problems *problems)
{
	struct ask ask = { .problems = problems };

	return ask_vm(link, "check", call_check, &ask);
}

static void call_begin(void *arg)
{
	struct ask *ask = arg;

	/* A message's descriptors are copies. */
	ask->result = move_guest_begin(GUEST(ask), OWNER(ask), ask->token, dup(ask->shared_fd),
				       dup(ask->mark_fd), ask->err);
}

static void call_arrive(void *arg)
{
	struct ask *ask = arg;

	ask->result = move_guest_arrive(GUEST(ask), OWNER(ask), ask->token, dup(ask->shared_fd),
					dup(ask->mark_fd), ask->err);
	if (ask->result == 0)
		ask->result = move_shared_take(dup(ask->shared_fd),
					       ask->link->near->vm->memory->size,
					       &ask->link->shared, ask->err);
}

static int near_begin(struct move_link *link, const uint8_t token[MOVE_TOKEN_BYTES], int shared_fd,
		      int mark_fd, struct error *err)
{
	struct ask ask = { .token = token, .shared_fd = shared_fd, .mark_fd = mark_fd, .err = err };

	return ask_vm(link, "begin", call_begin, &ask);
}

static int near_arrive(struct move_link *link, const uint8_t token[MOVE_TOKEN_BYTES], int shared_fd,
		       int mark_fd, struct error *err)
{
	struct ask ask = { .token = token, .shared_fd = shared_fd, .mark_fd = mark_fd, .err = err };

	return ask_vm(link, "arrive", call_arrive, &ask);
}

static void call_collect(void *arg)
{
	struct ask *ask = arg;

	ask->result = move_guest_collect(GUEST(ask), OWNER(ask), &ask->out_number, ask->err);
}

/* On a busy computer the guest's thread may wait for its turn longer than a round takes. One that stands is not waited for
 * for long. */
static void let_guest_work(struct near_vm *near)
{
	uint64_t *turns = &near->guest.turns;

	for (int i = 0; i < 500 && __atomic_load_n(turns, __ATOMIC_ACQUIRE) <
					   near->turns_seen + near->turns_a_look;
	     i++)
		usleep(1000);
	near->turns_seen = __atomic_load_n(turns, __ATOMIC_ACQUIRE);
}

static int near_collect(struct move_link *link, uint64_t *ret_pages, struct error *err)
{
	struct ask ask = { .err = err };
	int r;

	let_guest_work(near_of(link)->near);
	r = ask_vm(link, "collect", call_collect, &ask);

	*ret_pages = ask.out_number;
	return r;
}

static void call_log_disk(void *arg)
{
	struct ask *ask = arg;

	ask->result = move_guest_log_disk(GUEST(ask), OWNER(ask), ask->percent, dup(ask->shared_fd),
					  ask->err);
}

static int near_log_disk(struct move_link *link, uint32_t disk, int log_fd, struct error *err)
{
	struct ask ask = { .percent = disk, .shared_fd = log_fd, .err = err };

	return ask_vm(link, "log-disk", call_log_disk, &ask);
}

static void call_throttle(void *arg)
{
	struct ask *ask = arg;

	ask->result = move_guest_throttle(GUEST(ask), OWNER(ask), ask->percent, ask->err);
}

static int near_throttle(struct move_link *link, unsigned int percent, struct error *err)
{
	struct ask ask = { .percent = percent, .err = err };

	return ask_vm(link, "throttle", call_throttle, &ask);
}

static void call_stop(void *arg)
{
	struct ask *ask = arg;

	ask->link->near->stop_told = false;
	ask->result = move_guest_stop(GUEST(ask), OWNER(ask), ask->percent, ask->err);
}

static int await_stop(struct near_vm *near, struct error *err)
{
	int r = 0;

	pthread_mutex_lock(&near->lock);
	while (!near->stop_told && !near->ended)
		pthread_cond_wait(&near->changed, &near->lock);
	if (!near->stop_told)
		r = -ECONNRESET;
	else if (near->stop_error.code)
		r = error_set(err, near->stop_error.code, near->stop_error.status, "%s",
			      near->stop_error.message);
	pthread_mutex_unlock(&near->lock);
	return r;
}

static int near_stop(struct move_link *link, unsigned int deadline_ms, uint64_t *ret_stopped_ns,
		     struct error *err)
{
	struct near_vm *near = near_of(link)->near;
	struct ask ask = { .percent = deadline_ms, .err = err };
	int r = ask_vm(link, "stop", call_stop, &ask);

	if (r < 0)
		return r;
	r = await_stop(near, err);
	*ret_stopped_ns = near->stopped_ns;
	return r;
}

/* What a program of another version would say. */
static bool knows(const struct near_vm *near, uint16_t version)
{
	return !near->state_max || (version >= near->state_min && version <= near->state_max);
}

static void call_save(void *arg)
{
	struct ask *ask = arg;

	if (!knows(ask->link->near, ask->version))
		ask->result = error_set(ask->err, -EPROTONOSUPPORT, EXIT_STATUS_FAILED,
					"guest: cannot write version %u", ask->version);
	else
		ask->result = move_guest_save(GUEST(ask), OWNER(ask), ask->version,
					      &ask->out_number, ask->err);
}

static int near_save(struct move_link *link, uint16_t version, uint64_t *ret_len, struct error *err)
{
	struct ask ask = { .version = version, .err = err };
	int r = ask_vm(link, "save", call_save, &ask);

	*ret_len = ask.out_number;
	return r;
}

static void call_cancel(void *arg)
{
	struct ask *ask = arg;

	ask->result = move_guest_cancel(GUEST(ask), OWNER(ask), ask->err);
}

static int near_cancel(struct move_link *link, struct error *err)
{
	struct ask ask = { .err = err };

	return ask_vm(link, "cancel", call_cancel, &ask);
}

static void call_given(void *arg)
{
	struct ask *ask = arg;

	ask->result = move_guest_given(GUEST(ask), OWNER(ask), ask->text, ask->number, ask->err);
}

static int near_given(struct move_link *link, const char *peer, uint64_t generation,
		      struct error *err)
{
	struct ask ask = { .text = peer, .number = generation, .err = err };

	return ask_vm(link, "given", call_given, &ask);
}

static void call_never(void *arg)
{
	struct ask *ask = arg;

	ask->result = move_guest_never(GUEST(ask), ask->token, ask->err);
}

static int near_never(struct move_link *link, const uint8_t token[MOVE_TOKEN_BYTES],
		      struct error *err)
{
	struct ask ask = { .token = token, .err = err };

	return ask_vm(link, "never", call_never, &ask);
}

static void call_ran(void *arg)
{
	struct ask *ask = arg;

	ask->result = move_guest_ran(GUEST(ask), ask->token, ask->text, ask->err);
}

static int near_ran(struct move_link *link, const uint8_t token[MOVE_TOKEN_BYTES],
		    const char *where, struct error *err)
{
	struct ask ask = { .token = token, .text = where, .err = err };

	return ask_vm(link, "ran", call_ran, &ask);
}

/* Whether its program would load what stands in the shared file: no section is newer than it. */
static bool knows_all(const struct near_link *link, uint64_t len)
{
	uint8_t *state = malloc(len);
	struct cursor at = { .data = state, .left = len };
	struct state_section section;
	bool all = fd_read_at(link->shared.fd, state, len, link->shared.state_at) == 0;

	while (all && state_next_section(&at, &section) == 1)
		all = section.version <= link->near->state_max;
	free(state);
	return all;
}

/* As a device does with what its state has in RAM; on each page, for the mover may have sent some. False: the "process" ended of it, and
 * nobody has waited for its answer. */
static bool touches_ram(struct near_vm *near)
{
	uint8_t byte;
	bool lost;

	pthread_mutex_lock(&near->lock);
	near->stands = true;
	pthread_mutex_unlock(&near->lock);
	for (unsigned int i = 0; i < NEAR_HOT_PAGES; i++)
		(void)!memory_read(near->vm->memory, gpa(NEAR_HOT_AT + i * MEMORY_PAGE_SIZE), &byte,
				   1);
	pthread_mutex_lock(&near->lock);
	lost = near->is_lost;
	near->stands = lost;
	pthread_mutex_unlock(&near->lock);
	return !lost;
}

static void call_load(void *arg)
{
	struct ask *ask = arg;

	if (ask->link->near->load_waits && !ask->flag && !touches_ram(ask->link->near))
		return;
	if (ask->link->near->state_max && !knows_all(ask->link, ask->in_len)) {
		ask->result = error_set(ask->err, -EPROTONOSUPPORT, EXIT_STATUS_FAILED,
					"guest: this state is too new for it");
		return;
	}
	if (!ask->flag)
		ask->link->near->stood_ns = ask->in_ns;
	ask->result = move_guest_load(GUEST(ask), OWNER(ask), ask->in_len, ask->in_ns, ask->flag,
				      ask->err);
}

static int near_load(struct move_link *link, uint64_t len, uint64_t stopped_ns, bool rehearse,
		     struct error *err)
{
	struct ask ask = { .in_len = len, .in_ns = stopped_ns, .flag = rehearse, .err = err };

	return ask_vm(link, "load", call_load, &ask);
}

static void call_renew(void *arg)
{
	struct ask *ask = arg;

	ask->result = move_guest_renew(GUEST(ask), OWNER(ask), ask->err);
}

static int near_renew(struct move_link *link, struct error *err)
{
	struct ask ask = { .err = err };

	return ask_vm(link, "renew", call_renew, &ask);
}

static void call_announce(void *arg)
{
	struct ask *ask = arg;

	ask->result = move_guest_announce(GUEST(ask), OWNER(ask), ask->err);
}

static int near_announce(struct move_link *link, struct error *err)
{
	struct ask ask = { .err = err };

	return ask_vm(link, "announce", call_announce, &ask);
}

static void call_demand(void *arg)
{
	struct ask *ask = arg;

	ask->result = move_guest_demand(GUEST(ask), OWNER(ask), ask->shared_fd, ask->err);
}

/* The descriptor comes over the socket, as between processes. */
static int near_demand(struct move_link *link, struct move_demand *ret_demand, struct error *err)
{
	struct move_demand_message message;
	struct ask ask = { .err = err };
	size_t len, n_fds;
	int ends[2], r;

	assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends), 0);
	ask.shared_fd = ends[1];
	r = ask_vm(link, "demand", call_demand, &ask);
	if (r < 0) {
		fd_close(ends[0]);
		return r;
	}
	r = fd_receive(ends[0], &message, sizeof(message), &len, &ret_demand->uffd, 1, &n_fds);
	assert_true(r == 0 && len == sizeof(message) && n_fds == 1);
	memcpy(ret_demand->addresses, message.addresses, sizeof(message.addresses));
	ret_demand->can_zero = message.can_zero;
	ret_demand->life = ends[0];
	return 0;
}

static void call_filled(void *arg)
{
	struct ask *ask = arg;

	ask->result = move_guest_filled(GUEST(ask), OWNER(ask), ask->err);
}

static int near_filled(struct move_link *link, struct error *err)
{
	struct ask ask = { .err = err };

	return ask_vm(link, "filled", call_filled, &ask);
}

static void call_commit(void *arg)
{
	struct ask *ask = arg;

	ask->result = move_guest_commit(GUEST(ask), OWNER(ask), &ask->out_flag, ask->err);
}

static int near_commit(struct move_link *link, bool *ret_ran, struct error *err)
{
	struct ask ask = { .err = err };
	int r = ask_vm(link, "commit", call_commit, &ask);

	*ret_ran = ask.out_flag;
	return r;
}

static void call_check_upgrade(void *arg)
{
	struct ask *ask = arg;

	move_guest_check_upgrade(GUEST(ask), ask->problems);
}

static int near_check_upgrade(struct move_link *link, struct problems *problems)
{
	struct ask ask = { .problems = problems };

	return ask_vm(link, "check", call_check_upgrade, &ask);
}

static void call_hand_over(void *arg)
{
	struct ask *ask = arg;

	ask->result = move_guest_hand_over(GUEST(ask), OWNER(ask), ask->token, dup(ask->shared_fd),
					   dup(ask->mark_fd), dup(ask->heir_fd), ask->err);
}

static int near_hand_over(struct move_link *link, const uint8_t token[MOVE_TOKEN_BYTES],
			  int shared_fd, int succession_fd, int heir_fd, struct error *err)
{
	struct ask ask = { .token = token,
			   .shared_fd = shared_fd,
			   .mark_fd = succession_fd,
			   .heir_fd = heir_fd,
			   .err = err };

	return ask_vm(link, "hand_over", call_hand_over, &ask);
}

static void call_give(void *arg)
{
	struct ask *ask = arg;

	ask->link->near->stop_told = false;
	ask->result = move_guest_give(GUEST(ask), OWNER(ask), ask->percent, ask->version, ask->err);
}

static int near_give(struct move_link *link, unsigned int deadline_ms, uint16_t version,
		     struct move_gift *ret_gift, struct error *err)
{
	struct near_vm *near = near_of(link)->near;
	struct ask ask = { .percent = deadline_ms, .version = version, .err = err };
	int r = ask_vm(link, "give", call_give, &ask);

	if (r == 0)
		r = await_stop(near, err);
	*ret_gift = near->gift;
	return r;
}

static void call_inherit(void *arg)
{
	struct ask *ask = arg;

	ask->result = move_guest_inherit(GUEST(ask), OWNER(ask), ask->token, dup(ask->shared_fd),
					 dup(ask->mark_fd), ask->err);
	if (ask->result == 0)
		ask->result = move_shared_take(dup(ask->shared_fd),
					       ask->link->near->vm->memory->size,
					       &ask->link->shared, ask->err);
}

static int near_inherit(struct move_link *link, const uint8_t token[MOVE_TOKEN_BYTES],
			int shared_fd, int succession_fd, struct error *err)
{
	struct ask ask = {
		.token = token, .shared_fd = shared_fd, .mark_fd = succession_fd, .err = err
	};

	return ask_vm(link, "inherit", call_inherit, &ask);
}

static void call_take(void *arg)
{
	struct ask *ask = arg;

	ask->result = move_guest_take(GUEST(ask), OWNER(ask), ask->in_len, ask->in_ns,
				      &ask->out_flag, &ask->out_number, ask->err);
}

static int near_take(struct move_link *link, uint64_t len, uint64_t moment_ns, bool *ret_ran,
		     uint64_t *ret_ran_ns, struct error *err)
{
	struct ask ask = { .in_len = len, .in_ns = moment_ns, .err = err };
	int r = ask_vm(link, "take", call_take, &ask);

	*ret_ran = ask.out_flag;
	*ret_ran_ns = ask.out_number;
	return r;
}

static void call_wait(void *arg)
{
	struct ask *ask = arg;

	ask->result = move_guest_wait(GUEST(ask), OWNER(ask), ask->flag, ask->err);
}

static int near_wait(struct move_link *link, bool stand, struct error *err)
{
	struct ask ask = { .flag = stand, .err = err };

	return ask_vm(link, "wait", call_wait, &ask);
}

static bool near_ended(struct move_link *link)
{
	struct near_vm *near = near_of(link)->near;
	bool ended;

	pthread_mutex_lock(&near->lock);
	ended = near->ended || near->is_lost;
	pthread_mutex_unlock(&near->lock);
	return ended;
}

static void call_forget(void *arg)
{
	struct ask *ask = arg;

	move_guest_forget(GUEST(ask), OWNER(ask));
}

static void forget(struct near_link *link)
{
	struct ask ask = { .link = link };

	(void)near_vm_do(link->near, call_forget, &ask);
}

static int near_end(struct move_link *link, unsigned int timeout_ms)
{
	forget(near_of(link));
	for (unsigned int i = 0; i < timeout_ms && !near_ended(link); i++)
		usleep(1000);
	return near_ended(link) ? 0 : -ETIMEDOUT;
}

static void near_free(struct move_link *link)
{
	forget(near_of(link));
	if (near_of(link)->shared.bitmap)
		move_shared_release(&near_of(link)->shared);
	free(near_of(link));
}

struct move_link *near_link_new(struct near_vm *near, const char *unknown)
{
	static const struct move_link_ops ops = {
		.facts = near_facts,
		.check = near_check,
		.begin = near_begin,
		.collect = near_collect,
		.log_disk = near_log_disk,
		.throttle = near_throttle,
		.stop = near_stop,
		.save = near_save,
		.cancel = near_cancel,
		.given = near_given,
		.never = near_never,
		.ran = near_ran,
		.arrive = near_arrive,
		.load = near_load,
		.renew = near_renew,
		.announce = near_announce,
		.demand = near_demand,
		.filled = near_filled,
		.commit = near_commit,
		.check_upgrade = near_check_upgrade,
		.hand_over = near_hand_over,
		.give = near_give,
		.inherit = near_inherit,
		.take = near_take,
		.wait = near_wait,
		.ended = near_ended,
		.end = near_end,
		.free = near_free,
	};
	struct near_link *link = calloc(1, sizeof(*link));

	assert_non_null(link);
	link->link.ops = &ops;
	link->near = near;
	link->unknown = unknown;
	return &link->link;
}
