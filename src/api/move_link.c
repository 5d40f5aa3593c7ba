/* SPDX-License-Identifier: Apache-2.0 */
#include "api/move_link.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/fd.h"
#include "base/hex.h"

struct far_link {
	struct move_link link;
	struct api_connection *connection;
	int process; /* a pidfd of the VM's */
	char name[LIMIT_NAME];
};

static struct far_link *far_of(struct move_link *link)
{
	return container_of(link, struct far_link, link);
}

struct api_connection *move_link_connection(struct move_link *link)
{
	return far_of(link)->connection;
}

static int bad_answer(struct move_link *link, struct error *err)
{
	return error_set(err, -EPROTO, EXIT_STATUS_FAILED,
			 "%s: gave an answer that is not understood; use the utsusu it was started "
			 "with",
			 far_of(link)->name);
}

/* Takes the request's reference. The answer may be left out. */
static int call(struct move_link *link, json_t *request, int timeout_ms, json_t **ret_answer,
		struct error *err)
{
	json_auto_t *answer = NULL;
	int r = api_call_with(far_of(link)->connection, request, NULL, 0, timeout_ms, &answer, err);

	if (r == 0 && ret_answer)
		*ret_answer = json_incref(answer);
	return r;
}

static int order(struct move_link *link, json_t *request, int timeout_ms, struct error *err)
{
	return call(link, request, timeout_ms, NULL, err);
}

/* A number of the answer that cannot be negative. */
static bool take_u64(const json_t *answer, const char *key, uint64_t *ret_value)
{
	const json_t *value = json_object_get(answer, key);

	if (!json_is_integer(value) || json_integer_value(value) < 0)
		return false;
	*ret_value = (uint64_t)json_integer_value(value);
	return true;
}

static bool take_text(const json_t *answer, const char *key, char *ret_text, size_t size)
{
	const char *text = json_string_value(json_object_get(answer, key));

	if (!text || strlen(text) >= size)
		return false;
	memcpy(ret_text, text, strlen(text) + 1);
	return true;
}

static bool take_hugepages(const json_t *answer, enum memory_hugepages *ret_hugepages)
{
	static const char *const names[] = {
		[MEMORY_HUGE_OFF] = "off",
		[MEMORY_HUGE_THP] = "thp",
		[MEMORY_HUGE_ON] = "on",
	};
	const char *text = json_string_value(json_object_get(answer, "hugepages"));

	for (size_t i = 0; text && i < ARRAY_SIZE(names); i++)
		if (strcmp(names[i], text) == 0) {
			*ret_hugepages = (enum memory_hugepages)i;
			return true;
		}
	return false;
}

static bool take_banks(const json_t *answer, struct move_facts *facts)
{
	const json_t *banks = json_object_get(answer, "banks"), *bank;
	size_t i;

	if (!json_is_array(banks) || json_array_size(banks) < 1 ||
	    json_array_size(banks) > MEMORY_BANKS_MAX)
		return false;
	facts->n_banks = json_array_size(banks);
	json_array_foreach(banks, i, bank) if (!take_u64(bank, "start", &facts->banks[i].start.v) ||
					       !take_u64(bank, "len", &facts->banks[i].len) ||
					       !take_u64(bank, "offset",
							 &facts->banks[i].offset)) return false;
	return true;
}

static bool take_versions(const json_t *answer, struct move_facts *facts)
{
	uint64_t min, max;

	if (!take_u64(answer, "state_min", &min) || !take_u64(answer, "state_max", &max) ||
	    min < 1 || min > max || max > UINT16_MAX)
		return false;
	facts->state_min = (uint16_t)min;
	facts->state_max = (uint16_t)max;
	return true;
}

static bool take_facts(const json_t *answer, struct move_facts *facts)
{
	const json_t *config = json_object_get(answer, "config");

	if (!json_is_object(config) ||
	    !take_text(answer, "name", facts->name, sizeof(facts->name)) ||
	    !take_text(answer, "uuid", facts->uuid, sizeof(facts->uuid)) ||
	    !take_u64(answer, "ram_bytes", &facts->ram_bytes) ||
	    !take_hugepages(answer, &facts->hugepages) || !take_banks(answer, facts) ||
	    !take_versions(answer, facts))
		return false;
	/* Programs of before there were upgrades do not tell it. */
	if (!take_text(answer, "version", facts->version, sizeof(facts->version)))
		facts->version[0] = '\0';
	facts->demand = json_is_true(json_object_get(answer, "demand"));
	facts->config = json_dumps(config, JSON_COMPACT | JSON_SORT_KEYS);
	return facts->config != NULL;
}

static int link_facts(struct move_link *link, struct move_facts *ret_facts, struct error *err)
{
	json_auto_t *answer = NULL;
	struct move_facts facts = { .ram_fd = -1 };
	int r = call(link, json_pack("{s:s}", "command", "move-facts"), API_ANSWER_MS, &answer,
		     err);

	if (r < 0)
		return r;
	if (!take_facts(answer, &facts)) {
		move_facts_release(&facts);
		return bad_answer(link, err);
	}
	*ret_facts = facts;
	return 0;
}

static void add_problem(struct problems *problems, const json_t *problem)
{
	const char *message = json_string_value(json_object_get(problem, "message"));
	json_int_t status = json_integer_value(json_object_get(problem, "status"));
	struct error err = { 0 };

	if (status < EXIT_STATUS_FAILED || status > EXIT_STATUS_GUEST)
		status = EXIT_STATUS_FAILED;
	error_set(&err, -EREMOTEIO, (enum exit_status)status, "%s", message ? message : "?");
	problems_add(problems, &err);
}

static int check(struct move_link *link, const char *command, struct problems *problems)
{
	json_auto_t *answer = NULL;
	struct error err = { 0 };
	const json_t *list, *problem;
	size_t i;
	int r = call(link, json_pack("{s:s}", "command", command), API_ANSWER_MS, &answer, &err);

	list = json_object_get(answer, "problems");
	if (r == 0 && !json_is_array(list))
		r = bad_answer(link, &err);
	if (r < 0) {
		problems_add(problems, &err);
		return r;
	}
	json_array_foreach(list, i, problem) add_problem(problems, problem);
	return 0;
}

static int link_check(struct move_link *link, struct problems *problems)
{
	return check(link, "move-check", problems);
}

static int link_check_upgrade(struct move_link *link, struct problems *problems)
{
	return check(link, "upgrade-check", problems);
}

static json_t *with_token(const char *command, const uint8_t token[MOVE_TOKEN_BYTES])
{
	char text[2 * MOVE_TOKEN_BYTES + 1];

	hex_encode(token, MOVE_TOKEN_BYTES, text);
	return json_pack("{s:s, s:s}", "command", command, "token", text);
}

/* Both beginnings: the shared file and, where there is one, the mark. */
static int begin(struct move_link *link, const char *command, const uint8_t token[MOVE_TOKEN_BYTES],
		 int shared_fd, int mark_fd, struct error *err)
{
	const int fds[] = { shared_fd, mark_fd };
	json_auto_t *answer = NULL;
	json_t *request = with_token(command, token);

	json_object_set_new(request, "mark", json_boolean(mark_fd >= 0));
	return api_call_with(far_of(link)->connection, request, fds, mark_fd < 0 ? 1 : 2,
			     MOVE_LINK_WORK_MS, &answer, err);
}

static int link_begin(struct move_link *link, const uint8_t token[MOVE_TOKEN_BYTES], int shared_fd,
		      int mark_fd, struct error *err)
{
	return begin(link, "move-begin", token, shared_fd, mark_fd, err);
}

static int link_arrive(struct move_link *link, const uint8_t token[MOVE_TOKEN_BYTES], int shared_fd,
		       int mark_fd, struct error *err)
{
	return begin(link, "arrive-begin", token, shared_fd, mark_fd, err);
}

/* A command whose answer is one number. Takes the request's reference. */
static int ask_number(struct move_link *link, json_t *request, const char *key,
		      uint64_t *ret_number, struct error *err)
{
	json_auto_t *answer = NULL;
	int r = call(link, request, MOVE_LINK_WORK_MS, &answer, err);

	if (r == 0 && !take_u64(answer, key, ret_number))
		r = bad_answer(link, err);
	return r;
}

static int link_collect(struct move_link *link, uint64_t *ret_pages, struct error *err)
{
	return ask_number(link, json_pack("{s:s}", "command", "move-collect"), "pages", ret_pages,
			  err);
}

static int link_log_disk(struct move_link *link, uint32_t disk, int log_fd, struct error *err)
{
	json_auto_t *answer = NULL;

	return api_call_with(far_of(link)->connection,
			     json_pack("{s:s, s:i}", "command", "move-log-disk", "disk", (int)disk),
			     &log_fd, 1, MOVE_LINK_WORK_MS, &answer, err);
}

static int link_throttle(struct move_link *link, unsigned int percent, struct error *err)
{
	return order(link,
		     json_pack("{s:s, s:i}", "command", "move-throttle", "percent", (int)percent),
		     API_ANSWER_MS, err);
}

static int judge_event(struct move_link *link, const json_t *event, struct error *err)
{
	const json_t *error = json_object_get(event, "error");
	const char *message = json_string_value(json_object_get(error, "message"));
	json_int_t status = json_integer_value(json_object_get(error, "status"));

	if (message && status >= EXIT_STATUS_FAILED && status <= EXIT_STATUS_GUEST)
		return error_set(err, -EREMOTEIO, (enum exit_status)status, "%s", message);
	return error ? bad_answer(link, err) : 0;
}

/* Waits for the event that ends a stop, which may hold an error. */
static int wait_stopped(struct move_link *link, const char *name, unsigned int deadline_ms,
			json_t **ret_event, struct error *err)
{
	struct far_link *far = far_of(link);

	for (;;) {
		json_auto_t *event = NULL;
		const char *what;
		int r = api_next_event(far->connection, (int)deadline_ms + API_ANSWER_MS, &event);

		if (r < 0)
			return error_set(err, r, EXIT_STATUS_FAILED,
					 "%s: does not say whether it stopped: %s; see whether its "
					 "process hangs",
					 far->name, strerror(-r));
		what = json_string_value(json_object_get(event, "event"));
		if (!what || strcmp(what, name) != 0)
			continue;
		r = judge_event(link, event, err);
		if (r == 0)
			*ret_event = json_incref(event);
		return r;
	}
}

static int link_stop(struct move_link *link, unsigned int deadline_ms, uint64_t *ret_stopped_ns,
		     struct error *err)
{
	json_auto_t *event = NULL;
	int r = order(link,
		      json_pack("{s:s, s:i}", "command", "move-stop", "deadline_ms",
				(int)deadline_ms),
		      API_ANSWER_MS, err);

	if (r == 0)
		r = wait_stopped(link, "move-stopped", deadline_ms, &event, err);
	if (r == 0 && !take_u64(event, "stopped_ns", ret_stopped_ns))
		r = bad_answer(link, err);
	return r;
}

static int link_hand_over(struct move_link *link, const uint8_t token[MOVE_TOKEN_BYTES],
			  int shared_fd, int succession_fd, int heir_fd, struct error *err)
{
	const int fds[] = { shared_fd, succession_fd, heir_fd };
	json_auto_t *answer = NULL;

	return api_call_with(far_of(link)->connection, with_token("handover-begin", token), fds,
			     ARRAY_SIZE(fds), MOVE_LINK_WORK_MS, &answer, err);
}

static int link_give(struct move_link *link, unsigned int deadline_ms, uint16_t version,
		     struct move_gift *ret_gift, struct error *err)
{
	json_auto_t *event = NULL;
	int r = order(link,
		      json_pack("{s:s, s:i, s:i}", "command", "handover-give", "deadline_ms",
				(int)deadline_ms, "version", (int)version),
		      API_ANSWER_MS, err);

	if (r == 0)
		r = wait_stopped(link, "handover-given", deadline_ms, &event, err);
	if (r == 0 && (!take_u64(event, "len", &ret_gift->state_len) ||
		       !take_u64(event, "moment_ns", &ret_gift->moment_ns) ||
		       !take_u64(event, "stopped_at_ns", &ret_gift->stopped_at_ns)))
		r = bad_answer(link, err);
	return r;
}

static int link_inherit(struct move_link *link, const uint8_t token[MOVE_TOKEN_BYTES],
			int shared_fd, int succession_fd, struct error *err)
{
	const int fds[] = { shared_fd, succession_fd };
	json_auto_t *answer = NULL;

	return api_call_with(far_of(link)->connection, with_token("inherit-begin", token), fds,
			     ARRAY_SIZE(fds), MOVE_LINK_WORK_MS, &answer, err);
}

static int link_take(struct move_link *link, uint64_t len, uint64_t moment_ns, bool *ret_ran,
		     uint64_t *ret_ran_ns, struct error *err)
{
	json_auto_t *answer = NULL;
	const json_t *ran;
	int r = call(link,
		     json_pack("{s:s, s:I, s:I}", "command", "inherit-take", "len", (json_int_t)len,
			       "moment_ns", (json_int_t)moment_ns),
		     MOVE_LINK_WORK_MS, &answer, err);

	if (r < 0)
		return r;
	ran = json_object_get(answer, "ran");
	if (!json_is_boolean(ran) || !take_u64(answer, "ran_ns", ret_ran_ns))
		return bad_answer(link, err);
	*ret_ran = json_is_true(ran);
	return 0;
}

static int link_save(struct move_link *link, uint16_t version, uint64_t *ret_len, struct error *err)
{
	return ask_number(link,
			  json_pack("{s:s, s:i}", "command", "move-save", "version", (int)version),
			  "len", ret_len, err);
}

static int link_cancel(struct move_link *link, struct error *err)
{
	return order(link, json_pack("{s:s}", "command", "move-cancel"), MOVE_LINK_WORK_MS, err);
}

static int link_given(struct move_link *link, const char *peer, uint64_t generation,
		      struct error *err)
{
	return order(link,
		     json_pack("{s:s, s:s, s:I}", "command", "move-given", "peer", peer,
			       "generation", (json_int_t)generation),
		     MOVE_LINK_WORK_MS, err);
}

static int link_never(struct move_link *link, const uint8_t token[MOVE_TOKEN_BYTES],
		      struct error *err)
{
	return order(link, with_token("move-never", token), MOVE_LINK_WORK_MS, err);
}

static int link_ran(struct move_link *link, const uint8_t token[MOVE_TOKEN_BYTES],
		    const char *where, struct error *err)
{
	json_t *request = with_token("move-ran", token);

	json_object_set_new(request, "where", json_string(where));
	return order(link, request, MOVE_LINK_WORK_MS, err);
}

static int link_load(struct move_link *link, uint64_t len, uint64_t stopped_ns, bool rehearse,
		     struct error *err)
{
	return order(link,
		     json_pack("{s:s, s:I, s:I, s:b}", "command", "arrive-load", "len",
			       (json_int_t)len, "stopped_ns", (json_int_t)stopped_ns, "rehearse",
			       (int)rehearse),
		     MOVE_LINK_WORK_MS, err);
}

static int link_renew(struct move_link *link, struct error *err)
{
	return order(link, json_pack("{s:s}", "command", "arrive-renew"), MOVE_LINK_WORK_MS, err);
}

/* It is waited for, little as it says: a late answer would be taken for the next order's. */
static int link_announce(struct move_link *link, struct error *err)
{
	return order(link, json_pack("{s:s}", "command", "arrive-announce"), MOVE_LINK_WORK_MS,
		     err);
}

/* The VM sends it before it answers. */
static int take_access(struct move_link *link, int life, struct move_demand *ret_demand,
		       struct error *err)
{
	struct move_demand_message message;
	size_t len = 0, n_fds = 0;
	int uffd = -1,
	    r = fd_wait_readable(life, clock_now(&clock_host) + API_ANSWER_MS * NSEC_PER_MSEC);

	if (r > 0)
		r = fd_receive(life, &message, sizeof(message), &len, &uffd, 1, &n_fds);
	if (r < 0 || len != sizeof(message) || n_fds != 1) {
		if (n_fds)
			fd_close(uffd);
		return bad_answer(link, err);
	}
	ret_demand->uffd = uffd;
	memcpy(ret_demand->addresses, message.addresses, sizeof(message.addresses));
	ret_demand->can_zero = message.can_zero;
	return 0;
}

static int link_demand(struct move_link *link, struct move_demand *ret_demand, struct error *err)
{
	_cleanup_(fd_closep) int ours = -1, theirs = -1;
	json_auto_t *answer = NULL;
	int ends[2], r;

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) < 0)
		return error_set(err, -errno, EXIT_STATUS_HOST, "%s: no socket: %s",
				 far_of(link)->name, strerror(errno));
	ours = ends[0];
	theirs = ends[1];
	r = api_call_with(far_of(link)->connection, json_pack("{s:s}", "command", "arrive-demand"),
			  &theirs, 1, MOVE_LINK_WORK_MS, &answer, err);
	if (r == 0)
		r = take_access(link, ours, ret_demand, err);
	if (r == 0)
		ret_demand->life = TAKE_FD(ours);
	return r;
}

static int link_filled(struct move_link *link, struct error *err)
{
	return order(link, json_pack("{s:s}", "command", "arrive-filled"), MOVE_LINK_WORK_MS, err);
}

static int link_commit(struct move_link *link, bool *ret_ran, struct error *err)
{
	json_auto_t *answer = NULL;
	const json_t *ran;
	int r = call(link, json_pack("{s:s}", "command", "arrive-commit"), MOVE_LINK_WORK_MS,
		     &answer, err);

	if (r < 0)
		return r;
	ran = json_object_get(answer, "ran");
	if (!json_is_boolean(ran))
		return bad_answer(link, err);
	*ret_ran = json_is_true(ran);
	return 0;
}

static int link_wait(struct move_link *link, bool stand, struct error *err)
{
	return order(link, json_pack("{s:s, s:b}", "command", "arrive-wait", "stand", (int)stand),
		     API_ANSWER_MS, err);
}

static bool ends_within(const struct far_link *far, int timeout_ms)
{
	struct pollfd end = { .fd = far->process, .events = POLLIN };

	return poll(&end, 1, timeout_ms) == 1 && (end.revents & POLLIN);
}

static bool link_ended(struct move_link *link)
{
	return ends_within(far_of(link), 0);
}

static int link_end(struct move_link *link, unsigned int timeout_ms)
{
	struct far_link *far = far_of(link);

	api_connection_free(TAKE_PTR(far->connection));
	return ends_within(far, (int)timeout_ms) ? 0 : -ETIMEDOUT;
}

static void link_free(struct move_link *link)
{
	struct far_link *far = link ? far_of(link) : NULL;

	if (!far)
		return;
	api_connection_free(far->connection);
	fd_close(far->process);
	free(far);
}

static const struct move_link_ops far_ops = {
	.facts = link_facts,
	.check = link_check,
	.begin = link_begin,
	.collect = link_collect,
	.log_disk = link_log_disk,
	.throttle = link_throttle,
	.stop = link_stop,
	.save = link_save,
	.cancel = link_cancel,
	.given = link_given,
	.never = link_never,
	.ran = link_ran,
	.arrive = link_arrive,
	.load = link_load,
	.renew = link_renew,
	.announce = link_announce,
	.demand = link_demand,
	.filled = link_filled,
	.commit = link_commit,
	.check_upgrade = link_check_upgrade,
	.hand_over = link_hand_over,
	.give = link_give,
	.inherit = link_inherit,
	.take = link_take,
	.wait = link_wait,
	.ended = link_ended,
	.end = link_end,
	.free = link_free,
};

/* Who listened on the VM's socket, which is the VM's process. While the connection stands its number is no other's, and from then
 * on the descriptor is. */
static int open_process(int fd, int *ret_process)
{
	struct pollfd gone = { .fd = fd, .events = POLLRDHUP };
	struct ucred who;
	socklen_t len = sizeof(who);
	_cleanup_(fd_closep) int process = -1;

	if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &who, &len) < 0)
		return -errno;
	process = (int)syscall(SYS_pidfd_open, who.pid, 0);
	if (process < 0)
		return -errno;
	if (poll(&gone, 1, 0) != 0)
		return -ECONNRESET;
	*ret_process = TAKE_FD(process);
	return 0;
}

int move_link_new_to(int fd, int process, const char *name, struct move_link **ret_link)
{
	struct far_link *far = calloc(1, sizeof(*far));
	int r;

	if (!far) {
		fd_close(fd);
		fd_close(process);
		return -ENOMEM;
	}
	far->link.ops = &far_ops;
	far->process = process;
	snprintf(far->name, sizeof(far->name), "%s", name);
	r = api_connection_new(fd, name, &far->connection);
	if (r < 0)
		link_free(&far->link);
	else
		*ret_link = &far->link;
	return r;
}

int move_link_new(int fd, const char *name, struct move_link **ret_link)
{
	int process = -1, r = open_process(fd, &process);

	if (r < 0) {
		fd_close(fd);
		return r;
	}
	return move_link_new_to(fd, process, name, ret_link);
}
