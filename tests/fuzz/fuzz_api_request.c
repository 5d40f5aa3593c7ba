/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Requests on a VM's socket, with a VM that only remembers. Input comes in pieces: a byte 0xff ends one piece
 * and lets the server run; 0xfe lets a second of its clock pass; 0xfd reads the answers; 0xfc fills much of
 * a line; 0xf9, 0xfb and 0xfa send the piece with one, two and three descriptors.
 * covers: api/request.c api/request_move.c api/server.c api/server_commands.c api/server_move.c
 */
#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "api/server.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* In place of the real one, which a server only hands on. */
struct move_guest {
	struct memory memory;
	struct api_server *server;
	struct mark_given given;
	bool is_given;
};

struct rig {
	struct move_guest guest;
	struct fake_clock clock;
	struct loop *loop;
	struct vm_config config;
	struct sockaddr_un address;
	socklen_t address_len;
	struct api_server *server;
	enum api_vm_state state;
	bool hears;
};

static void op_status(void *vm, struct api_vm_status *ret_status)
{
	*ret_status = (struct api_vm_status){ .state = ((struct rig *)vm)->state };
}

static int op_pause(void *vm, struct error *err _unused_)
{
	struct rig *rig = vm;

	rig->state = API_VM_PAUSED;
	api_server_event(rig->server, API_EVENT_PAUSED, NULL);
	return 0;
}

static int op_resume(void *vm, struct error *err _unused_)
{
	struct rig *rig = vm;

	rig->state = API_VM_RUNNING;
	api_server_event(rig->server, API_EVENT_RESUMED, "again");
	return 0;
}

static bool op_power_button(void *vm)
{
	struct rig *rig = vm;

	rig->hears = !rig->hears;
	return rig->hears;
}

static int op_reset(void *vm _unused_, struct error *err _unused_)
{
	return -EIO;
}

static int op_measure(void *vm, const struct measure_request *request,
		      struct measure_result *ret_result, struct error *err)
{
	if (((struct rig *)vm)->state != API_VM_RUNNING)
		return error_set(err, -ESHUTDOWN, EXIT_STATUS_FAILED,
				 "cannot measure: not running");
	assert(request->rounds >= 1 && request->rounds <= MEASURE_ROUNDS_MAX);
	*ret_result = (struct measure_result){ .state_bytes = request->rounds };
	return 0;
}

static int op_watch(void *vm _unused_, const void *client _unused_, const struct watch_wish *wish,
		    struct error *err)
{
	assert(wish->mode <= STORE_ALL);
	return wish->exact ? error_set(err, -EOPNOTSUPP, EXIT_STATUS_HOST, "no steps here") : 0;
}

static int op_step_at(void *vm _unused_, const void *client _unused_,
		      const uint64_t *addresses _unused_, uint32_t n, struct error *err _unused_)
{
	assert(n <= MONITOR_STEPS);
	return n == MONITOR_STEPS ? -EBUSY : 0;
}

static int op_set_break(void *vm, const void *client, const struct stop_break *wanted,
			struct error *err _unused_)
{
	struct rig *rig = vm;
	struct stop_hit hit = { .action = wanted->action, .number = 1, .n_code = STOP_CODE };

	assert(wanted->action < STOP_ACTIONS && wanted->delay_ms <= STOP_DELAY_MAX_MS);
	assert(strlen(wanted->filter) <= FILTER_TEXT_MAX);
	api_server_hit(rig->server, client, &hit, "serial");
	return 0;
}

static int op_go_on(void *vm _unused_, const void *client _unused_,
		    const struct stop_answer *answer, struct error *err)
{
	return answer->drop ? error_set(err, -ENOENT, EXIT_STATUS_FAILED, "does not stand") : 0;
}

static void op_forget(void *vm _unused_, const void *client _unused_)
{
}

static const char *op_unseen(void *vm _unused_, unsigned int index)
{
	return index ? NULL : "what nobody sees";
}

static void op_force_stop(void *vm)
{
	((struct rig *)vm)->state = API_VM_STOPPING;
}

static int op_may_end(void *vm, struct error *err)
{
	return ((struct rig *)vm)->hears ? error_set(err, -EBUSY, EXIT_STATUS_BUSY, "given") : 0;
}

static struct move_guest *op_move_guest(void *vm)
{
	return &((struct rig *)vm)->guest;
}

static const struct memory *move_memory(const struct move_guest *guest)
{
	return &guest->memory;
}

static const char *move_stage(const struct move_guest *guest _unused_)
{
	return "idle";
}

static const struct mark_given *move_mark(const struct move_guest *guest)
{
	return guest->is_given ? &guest->given : NULL;
}

static void move_check(struct move_guest *guest _unused_, struct problems *problems)
{
	struct error err = { .code = -EBUSY, .status = EXIT_STATUS_BUSY, .message = "paused" };

	problems_add(problems, &err);
}

/* What came is open, and the command's. */
static void take_fd(int fd)
{
	assert(fcntl(fd, F_GETFD) >= 0);
	close(fd);
}

static int move_begin(struct move_guest *guest _unused_, const void *owner _unused_,
		      const uint8_t token[MOVE_TOKEN_BYTES] _unused_, int shared_fd, int mark_fd,
		      struct error *err)
{
	take_fd(shared_fd);
	if (mark_fd >= 0)
		take_fd(mark_fd);
	return token[0] ? 0 : error_set(err, -EBUSY, EXIT_STATUS_BUSY, "another");
}

static int move_number(struct move_guest *guest _unused_, const void *owner _unused_,
		       uint64_t *ret_number, struct error *err _unused_)
{
	*ret_number = 7;
	return 0;
}

static int move_save(struct move_guest *guest, const void *owner, uint16_t version _unused_,
		     uint64_t *ret_len, struct error *err)
{
	return move_number(guest, owner, ret_len, err);
}

static int move_log_disk(struct move_guest *guest _unused_, const void *owner _unused_,
			 uint32_t disk, int log_fd, struct error *err)
{
	assert(disk < LIMIT_DISKS);
	take_fd(log_fd);
	return disk ? error_set(err, -ENOENT, EXIT_STATUS_FAILED, "no such disk") : 0;
}

static int move_throttle(struct move_guest *guest _unused_, const void *owner _unused_,
			 unsigned int percent, struct error *err _unused_)
{
	assert(percent <= MOVE_THROTTLE_MAX);
	return 0;
}

static int move_stop(struct move_guest *guest, const void *owner, unsigned int deadline_ms,
		     struct error *err _unused_)
{
	const struct error late = { -ETIMEDOUT, EXIT_STATUS_FAILED, "late" };

	assert(deadline_ms <= MOVE_STOP_MAX_MS);
	api_server_move_stopped(guest->server, owner, deadline_ms, deadline_ms & 1 ? &late : NULL);
	return 0;
}

static int move_cancel(struct move_guest *guest _unused_, const void *owner _unused_,
		       struct error *err _unused_)
{
	return -EINVAL;
}

static int move_given(struct move_guest *guest, const void *owner _unused_, const char *peer,
		      uint64_t generation, struct error *err _unused_)
{
	assert(peer[0] && strlen(peer) < MARK_PEER_MAX && generation <= INT64_MAX);
	guest->is_given = true;
	guest->given = (struct mark_given){ .generation = generation };
	strcpy(guest->given.peer, peer);
	return 0;
}

static int move_never(struct move_guest *guest _unused_,
		      const uint8_t token[MOVE_TOKEN_BYTES] _unused_, struct error *err _unused_)
{
	return 0;
}

static int move_ran(struct move_guest *guest _unused_,
		    const uint8_t token[MOVE_TOKEN_BYTES] _unused_, const char *where,
		    struct error *err _unused_)
{
	assert(where[0] && strlen(where) < MARK_PEER_MAX);
	return 0;
}

static int move_load(struct move_guest *guest _unused_, const void *owner _unused_, uint64_t len,
		     uint64_t stopped_ns, bool rehearse, struct error *err _unused_)
{
	assert(len <= MOVE_STATE_MAX && stopped_ns <= INT64_MAX);
	return rehearse ? -EBADMSG : 0;
}

static int move_renew(struct move_guest *guest _unused_, const void *owner _unused_,
		      struct error *err _unused_)
{
	return 0;
}

static uint64_t move_lacks(struct move_guest *guest _unused_)
{
	return 4096;
}

static int move_demand(struct move_guest *guest _unused_, const void *owner _unused_, int life,
		       struct error *err _unused_)
{
	take_fd(life);
	return 0;
}

static int move_abandon(struct move_guest *guest _unused_, struct error *err _unused_)
{
	return 0;
}

static int move_commit(struct move_guest *guest _unused_, const void *owner _unused_, bool *ret_ran,
		       struct error *err _unused_)
{
	*ret_ran = true;
	return 0;
}

static bool move_can_demand(const struct move_guest *guest _unused_)
{
	return true;
}

static int move_wait(struct move_guest *guest _unused_, const void *owner _unused_,
		     bool stand _unused_, struct error *err _unused_)
{
	return 0;
}

static int move_hand_over(struct move_guest *guest _unused_, const void *owner _unused_,
			  const uint8_t token[MOVE_TOKEN_BYTES] _unused_, int shared_fd,
			  int succession_fd, int heir_fd, struct error *err _unused_)
{
	take_fd(shared_fd);
	take_fd(succession_fd);
	take_fd(heir_fd);
	return 0;
}

static int move_give(struct move_guest *guest, const void *owner, unsigned int deadline_ms,
		     uint16_t version, struct error *err _unused_)
{
	const struct error late = { -ETIMEDOUT, EXIT_STATUS_FAILED, "late" };
	const struct move_gift gift = { .state_len = version };

	assert(deadline_ms <= MOVE_STOP_MAX_MS);
	api_server_given(guest->server, owner, &gift, deadline_ms & 1 ? &late : NULL);
	return 0;
}

static int move_inherit(struct move_guest *guest, const void *owner,
			const uint8_t token[MOVE_TOKEN_BYTES], int shared_fd, int succession_fd,
			struct error *err)
{
	assert(succession_fd >= 0);
	return move_begin(guest, owner, token, shared_fd, succession_fd, err);
}

static int move_take(struct move_guest *guest _unused_, const void *owner _unused_, uint64_t len,
		     uint64_t moment_ns, bool *ret_ran, uint64_t *ret_ran_ns,
		     struct error *err _unused_)
{
	assert(len <= MOVE_STATE_MAX && moment_ns <= INT64_MAX);
	*ret_ran = true;
	*ret_ran_ns = moment_ns;
	return len ? 0 : -EBADMSG;
}

static const struct api_move_ops move_ops = {
	.memory = move_memory,
	.stage = move_stage,
	.mark = move_mark,
	.lacks = move_lacks,
	.check = move_check,
	.begin = move_begin,
	.collect = move_number,
	.log_disk = move_log_disk,
	.throttle = move_throttle,
	.stop = move_stop,
	.save = move_save,
	.cancel = move_cancel,
	.given = move_given,
	.never = move_never,
	.ran = move_ran,
	.arrive = move_begin,
	.load = move_load,
	.renew = move_renew,
	.announce = move_renew,
	.demand = move_demand,
	.filled = move_renew,
	.commit = move_commit,
	.abandon = move_abandon,
	.can_demand = move_can_demand,
	.check_upgrade = move_check,
	.hand_over = move_hand_over,
	.give = move_give,
	.inherit = move_inherit,
	.take = move_take,
	.wait = move_wait,
};

static const struct api_vm_ops ops = {
	.status = op_status,
	.pause = op_pause,
	.resume = op_resume,
	.power_button = op_power_button,
	.reset = op_reset,
	.measure = op_measure,
	.watch = op_watch,
	.step_at = op_step_at,
	.set_break = op_set_break,
	.go_on = op_go_on,
	.forget = op_forget,
	.unseen = op_unseen,
	.may_end = op_may_end,
	.force_stop = op_force_stop,
	.move_guest = op_move_guest,
	.move = &move_ops,
};

/* A name of the kernel's choice: nothing is left in any directory. */
static int listen_somewhere(struct rig *rig)
{
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	rig->address.sun_family = AF_UNIX;
	rig->address_len = sizeof(rig->address);
	assert(fd >= 0);
	assert(bind(fd, (struct sockaddr *)&rig->address, sizeof(sa_family_t)) == 0);
	assert(getsockname(fd, (struct sockaddr *)&rig->address, &rig->address_len) == 0);
	assert(listen(fd, 16) == 0);
	return fd;
}

static void rig_open(struct rig *rig)
{
	memset(rig, 0, sizeof(*rig));
	fake_clock_init(&rig->clock, 1, 1);
	rig->loop = loop_new(&rig->clock.clock);
	vm_config_init(&rig->config);
	strcpy(rig->config.name, "vm");
	rig->state = API_VM_RUNNING;
	rig->server = api_server_new(rig->loop, listen_somewhere(rig), &rig->config, &ops, rig);
	assert(rig->loop && rig->server);
	rig->guest.memory = (struct memory){ .size = MIB(32), .n_banks = 1 };
	rig->guest.server = rig->server;
}

static void rig_close(struct rig *rig)
{
	api_server_free(rig->server);
	loop_free(rig->loop);
	vm_config_release(&rig->config);
}

static void turn(struct rig *rig)
{
	for (int i = 0; i < 4; i++)
		assert(loop_turn(rig->loop, 0) == 0);
}

static int connect_client(struct rig *rig)
{
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	assert(fd >= 0);
	assert(connect(fd, (struct sockaddr *)&rig->address, rig->address_len) == 0);
	turn(rig);
	return fd;
}

static void send_piece(int fd, const uint8_t *data, size_t size)
{
	/* A server that hung up, or that waits for us to read, takes no more: that is its right. */
	if (size && send(fd, data, size, MSG_NOSIGNAL | MSG_DONTWAIT) < 0)
		return;
}

static void send_with_descriptors(int fd, const uint8_t *data, size_t size, size_t n_fds)
{
	const int fds[API_REQUEST_FDS] = { STDIN_FILENO, STDERR_FILENO, STDIN_FILENO };
	union {
		struct cmsghdr header;
		char space[CMSG_SPACE(sizeof(fds))];
	} control = { 0 };
	struct iovec iov = { (void *)data, size };
	struct msghdr message = {
		.msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = &control,
		.msg_controllen = CMSG_SPACE(n_fds * sizeof(fds[0])),
	};

	control.header = (struct cmsghdr){ .cmsg_len = CMSG_LEN(n_fds * sizeof(fds[0])),
					   .cmsg_level = SOL_SOCKET,
					   .cmsg_type = SCM_RIGHTS };
	memcpy(CMSG_DATA(&control.header), fds, n_fds * sizeof(fds[0]));
	if (size && sendmsg(fd, &message, MSG_NOSIGNAL | MSG_DONTWAIT) < 0)
		return;
}

static void read_answers(int fd)
{
	char answers[65536];

	while (recv(fd, answers, sizeof(answers), MSG_DONTWAIT) > 0)
		continue;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const uint8_t filler[16384] = { [0 ... 16383] = 'x' };
	static const size_t descriptors[] = { [0xf9] = 1, [0xfa] = 3, [0xfb] = 2, [0xff] = 0 };
	int clients[LIMIT_CLIENTS + 1];
	size_t n_clients = 1 + (size ? data[0] % (LIMIT_CLIENTS + 1) : 0);
	struct rig rig;
	size_t start = 0;

	rig_open(&rig);
	for (size_t i = 0; i < n_clients; i++)
		clients[i] = connect_client(&rig);
	for (size_t i = 0; i < size; i++) {
		if (data[i] < 0xf9)
			continue;
		if (descriptors[data[i]])
			send_with_descriptors(clients[0], data + start, i - start,
					      descriptors[data[i]]);
		else
			send_piece(clients[0], data + start, i - start);
		start = i + 1;
		if (data[i] == 0xfc)
			send_piece(clients[0], filler, sizeof(filler));
		if (data[i] == 0xfe)
			fake_clock_advance(&rig.clock, NSEC_PER_SEC);
		turn(&rig);
		if (data[i] == 0xfd)
			read_answers(clients[0]);
	}
	send_piece(clients[0], data + start, size - start);
	turn(&rig);
	for (size_t i = 0; i < n_clients; i++)
		close(clients[i]);
	turn(&rig);
	rig_close(&rig);
	return 0;
}
