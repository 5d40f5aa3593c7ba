/* SPDX-License-Identifier: Apache-2.0 */
#include "peer/settle.h"

#include <errno.h>
#include <string.h>

#include "api/move_link.h"
#include "base/cleanup.h"
#include "base/clock.h"
#include "base/hex.h"
#include "host/runtime.h"
#include "move/handover.h"
#include "peer/mover.h"
#include "peer/request.h"
#include "peer/standing.h"
#include "peer/talk.h"

#define ASK_MS 25000			   /* the other side may have to end a process first */
#define MOVERS_TIME_NS (10 * NSEC_PER_SEC) /* after giving its mover alone asks, over its streams */
#define STEPS 8

DEFINE_CLEANUP(struct talk, talk_free, talkp)

static int add_peer(void *ctx, const struct mark_given *given)
{
	struct settle_peers *peers = ctx;

	if (given->result != MARK_OPEN)
		return 0;
	for (size_t i = 0; i < peers->n; i++)
		if (strcmp(peers->names[i], given->peer) == 0)
			return 0;
	if (peers->n == ARRAY_SIZE(peers->names))
		return 1;
	memcpy(peers->names[peers->n++], given->peer, MARK_PEER_MAX);
	return 0;
}

void settle_find_peers(struct settle_peers *ret_peers)
{
	struct marks *marks = NULL;

	ret_peers->n = 0;
	if (marks_open(&marks, NULL) < 0)
		return;
	(void)!marks_list_given(marks, add_peer, ret_peers);
	marks_close(marks);
}

static const struct peer *find_peer(struct peer_host *host, const struct mark_given *given,
				    struct error *err)
{
	const struct peer *peer = peers_find(host->peers, given->peer, NULL);

	if (!peer)
		(void)error_set(
			err, -ENOENT, EXIT_STATUS_NOT_FOUND,
			"%s: it was given to %s, which is no peer any more; add that host again under "
			"this name: utsusu peer add %s ADDRESS",
			given->name, given->peer, given->peer);
	return peer;
}

static int take_result(const json_t *answer, enum mark_result *ret_result)
{
	const char *text = json_string_value(json_object_get(answer, "result"));

	for (enum mark_result result = MARK_OPEN; text && result <= MARK_NEVER; result++)
		if (strcmp(text, mark_result_name(result)) == 0) {
			*ret_result = result;
			return 0;
		}
	return -EPROTO;
}

static void take_there(const json_t *answer, struct settle_there *ret_there)
{
	*ret_there = (struct settle_there){
		.vm = json_is_true(json_object_get(answer, "vm")),
		.moved = json_is_true(json_object_get(answer, "moved")),
	};
}

int settle_ask(struct peer_host *host, const struct mark_given *given, bool close,
	       enum mark_result *ret_result, struct settle_there *ret_there, struct error *err)
{
	struct peer_request request = { .command = close ? PEER_OUTCOME : PEER_LOOK };
	const struct peer *peer = find_peer(host, given, err);
	_cleanup_(talkp) struct talk *talk = NULL;
	json_auto_t *answer = NULL;
	int r = peer ? talk_connect(host->identity, peer, &talk, err) : -ENOENT;

	if (r < 0)
		return r;
	hex_encode(given->token, MARK_TOKEN_BYTES, request.token);
	memcpy(request.name, given->name, sizeof(request.name));
	r = talk_call(talk, peer_request_encode(&request), ASK_MS, &answer, err);
	if (r == 0 && take_result(answer, ret_result) < 0)
		r = error_set(
			err, -EPROTO, EXIT_STATUS_FAILED,
			"%s: gave an answer that is not understood; use the same version of utsusu "
			"on both hosts",
			peer->name);
	if (r == 0 && ret_there)
		take_there(answer, ret_there);
	return r;
}

int settle_ask_source(struct peer_host *host, const char *source, const char *name,
		      struct settle_there *ret_there)
{
	struct peer_request request = { .command = PEER_HAS };
	const struct peer *peer = peers_find(host->peers, source, NULL);
	_cleanup_(talkp) struct talk *talk = NULL;
	json_auto_t *answer = NULL;
	struct error err = { 0 };
	int r = peer ? talk_connect(host->identity, peer, &talk, &err) : -ENOENT;

	if (r < 0)
		return r;
	snprintf(request.name, sizeof(request.name), "%s", name);
	r = talk_call(talk, peer_request_encode(&request), ASK_MS, &answer, &err);
	if (r == 0)
		take_there(answer, ret_there);
	return r;
}

static int tell_vm(const struct mark_given *given, enum mark_result result, struct error *err)
{
	struct move_link *link = NULL;
	int fd, r = runtime_connect(given->name, RUNTIME_SOCKET, &fd);

	if (r == 0)
		r = move_link_new(fd, given->name, &link);
	if (r < 0)
		return r;
	r = result == MARK_RAN ? link->ops->ran(link, given->token, given->peer, err)
			       : link->ops->never(link, given->token, err);
	link->ops->free(link);
	return r;
}

static int tell_mark(const struct mark_given *given, enum mark_result result, struct error *err)
{
	struct marks *marks = NULL;
	int r = marks_open(&marks, err);

	if (r < 0)
		return r;
	r = marks_settle_given(marks, given->name, given->peer[0] ? given->token : NULL, result);
	marks_close(marks);
	/* Settled by another before, and perhaps given anew since. */
	return r == -ENOENT || r == -ESTALE ? 0 : r;
}

int settle_alive(const char *name, struct error *err)
{
	int r = runtime_alive(name);

	return r < 0 ? error_set(err, r, EXIT_STATUS_HOST,
				 "%s: it cannot be told whether its process is here: %s; put its "
				 "place in the runtime directory in order",
				 name, strerror(-r))
		     : r;
}

/* It says itself that it runs here and is in no move: the mark is what a write left that failed, and could not be taken back. */
static bool was_not_given(const char *name)
{
	struct standing standing;
	struct error unheard = { 0 };

	return standing_ask(name, &standing, &unheard) == 1 && !standing.may_give;
}

static int tell(const struct mark_given *given, enum mark_result result, struct error *err)
{
	struct error refusal = { 0 };
	int r = settle_alive(given->name, err);

	if (r < 0)
		return r;
	if (r == 0)
		return tell_mark(given, result, err);
	r = tell_vm(given, result, &refusal);
	if (r < 0 && result == MARK_NEVER && was_not_given(given->name))
		return tell_mark(given, result, err);
	if (r < 0)
		*err = refusal;
	return r;
}

int settle_tell(struct peer_host *host, const struct mark_given *given, enum mark_result result,
		struct error *err)
{
	/* A VM that may stand here is not passed over: its mark stays open until it can be told. */
	int r = tell(given, result, err);

	log_line(host->log, r < 0 ? LOG_LEVEL_WARNING : LOG_LEVEL_INFO, "%s: %s%s%s", given->name,
		 result == MARK_RAN ? "runs there" : "never ran there, it is this host's",
		 r < 0 ? ", but that could not be told here: " : "",
		 r < 0 ? (err->code ? err->message : strerror(-r)) : "");
	return r;
}

struct doubt {
	struct peer_host *host;
	const struct mark_given *given;
	struct handover_source state;
};

static uint32_t step(struct doubt *doubt, enum handover_event_kind kind)
{
	const struct handover_event event = { .kind = kind, .id = doubt->state.id };

	return handover_source_step(&doubt->state, &event);
}

static uint32_t ask(struct doubt *doubt)
{
	static const enum handover_event_kind events[] = {
		[MARK_OPEN] = ON_UNDECIDED,
		[MARK_RAN] = ON_RAN,
		[MARK_NEVER] = ON_NEVER,
	};
	enum mark_result result;
	struct error err = { 0 };

	if (settle_ask(doubt->host, doubt->given, true, &result, NULL, &err) == 0)
		return step(doubt, events[result]);
	log_line(doubt->host->log, LOG_LEVEL_WARNING, "%s: in doubt: %s", doubt->given->name,
		 err.message);
	return 0;
}

/* Actions of a daemon's source, and what comes of them: further actions. */
static uint32_t act(struct doubt *doubt, uint32_t actions)
{
	struct error err = { 0 };

	if (actions & DO_ASK)
		return ask(doubt);
	if (actions & (DO_LEAVE_VM | DO_SETTLE_RAN))
		(void)!settle_tell(doubt->host, doubt->given, MARK_RAN, &err);
	if (actions & (DO_RESUME_VM | DO_CLEAR_GIVEN))
		(void)!settle_tell(doubt->host, doubt->given, MARK_NEVER, &err);
	return 0;
}

static void settle_given(struct peer_host *host, const struct mark_given *given)
{
	struct handover_id id = { .generation = given->generation };
	struct doubt doubt = { .host = host, .given = given };
	uint32_t actions;

	memcpy(id.token, given->token, sizeof(id.token));
	actions = handover_source_restart(&id, HANDOVER_OPEN, runtime_alive(given->name) != 0,
					  &doubt.state);
	for (int i = 0; actions && i < STEPS; i++)
		actions = act(&doubt, actions);
}

/* One that stands still loses its right after a while. */
static bool is_left_to_mover(struct peer_host *host, const struct mark_given *given)
{
	uint64_t now = clock_wall(&clock_host);

	return mover_is_at_work(host->folder_fd, given->name) && now >= given->wall_ns &&
	       now - given->wall_ns < MOVERS_TIME_NS;
}

struct round {
	struct peer_host *host;
	const char *peer;
};

/* Where the mark cannot be read, the process that gave knows what it said, if there is one. */
static bool read_again(const struct mark_given *damaged, struct mark_given *ret_given)
{
	struct standing standing;
	struct error unheard = { 0 };

	if (standing_ask(damaged->name, &standing, &unheard) != 1 || !standing.given)
		return false;
	*ret_given = standing.mark;
	return true;
}

static int settle_found(void *ctx, const struct mark_given *found)
{
	const struct round *round = ctx;
	struct mark_given given = *found;

	if (given.result != MARK_OPEN || strcmp(given.peer, round->peer) != 0 ||
	    (!given.peer[0] && !read_again(found, &given)))
		return 0;
	if (!is_left_to_mover(round->host, &given))
		settle_given(round->host, &given);
	return 0;
}

void settle_all(struct peer_host *host, const char *peer)
{
	struct round round = { .host = host, .peer = peer };
	struct marks *marks = NULL;
	struct error err = { 0 };

	if (marks_open(&marks, &err) < 0) {
		log_line(host->log, LOG_LEVEL_ERROR, "%s", err.message);
		return;
	}
	(void)!marks_list_given(marks, settle_found, &round);
	marks_close(marks);
}

enum settled settle_one(struct peer_host *host, const char *name)
{
	struct marks *marks = NULL;
	struct mark_given given;
	struct error err = { 0 };
	int r = marks_open(&marks, &err);

	if (r < 0)
		return SETTLED_OPEN;
	r = marks_read_given(marks, name, &given);
	if (r == 1 && given.result == MARK_OPEN) {
		settle_given(host, &given);
		r = marks_read_given(marks, name, &given);
	}
	marks_close(marks);
	if (r < 0 || (r == 1 && given.result == MARK_OPEN))
		return SETTLED_OPEN;
	return r == 1 && given.result == MARK_RAN ? SETTLED_RAN : SETTLED_HERE;
}
