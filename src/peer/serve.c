/* SPDX-License-Identifier: Apache-2.0 */
/* Connections from other hosts: a daemon that asks, or a stream of a move that is at work. */
#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>

#include "base/cleanup.h"
#include "base/hex.h"
#include "host/runtime.h"
#include "peer/arrive.h"
#include "peer/host.h"
#include "peer/outcome.h"
#include "peer/request.h"
#include "peer/reservation.h"
#include "peer/retire.h"
#include "peer/talk.h"

#define FIRST_BYTE_MS 5000
#define PREAMBLE_MS 5000
#define REQUEST_MS                                                                                 \
	180000 /* between two requests: the source may be sending streams, or waiting for its VM */

DEFINE_CLEANUP(struct talk, talk_free, talkp)
DEFINE_CLEANUP(struct arriving, arriving_free, arrivingp)

/* What the connection is, without taking anything from it. */
static int peek(int fd, uint8_t *ret_byte)
{
	struct pollfd poll_fd = { .fd = fd, .events = POLLIN };

	if (poll(&poll_fd, 1, FIRST_BYTE_MS) != 1)
		return -ETIMEDOUT;
	return recv(fd, ret_byte, 1, MSG_PEEK) == 1 ? 0 : -ECONNRESET;
}

static json_t *answer_result(enum mark_result result)
{
	return json_pack("{s:b, s:s}", "ok", 1, "result", mark_result_name(result));
}

static json_t *refuse_token(int code, struct error *err)
{
	if (code == -ENOENT)
		(void)error_set(
			err, code, EXIT_STATUS_FAILED,
			"does not know this move: its state directory was lost or put back, or it is "
			"another host than the one that took part; see there whether the VM runs, then "
			"say so with utsusu resolve");
	else
		(void)error_set(err, code, EXIT_STATUS_FAILED, "the token's mark: %s",
				strerror(-code));
	return NULL;
}

/* Whoever asks has given, and wants an end: the token is closed unless it ran. */
static json_t *tell_outcome(struct peer_host *host, const struct peer_request *request,
			    struct error *err)
{
	uint8_t token[MARK_TOKEN_BYTES];
	enum mark_result result;
	int r = hex_decode(request->token, token, sizeof(token)) ? 0 : -EINVAL;

	if (r == 0)
		r = outcome_close(host, token, &result);
	if (r < 0)
		return refuse_token(r, err);
	return answer_result(result);
}

/* A VM that left this host too has not ended: it lives where it went. */
static bool went_on(const char *name)
{
	struct marks *marks = NULL;
	struct mark_given given;
	int r = marks_open(&marks, NULL);

	if (r == 0)
		r = marks_read_given(marks, name, &given);
	marks_close(marks);
	return r != 0;
}

static void add_vm(json_t *answer, const char *name)
{
	json_object_set_new(answer, "vm", json_boolean(runtime_alive(name) != 0));
	json_object_set_new(answer, "moved", json_boolean(went_on(name)));
}

static json_t *look(struct peer_host *host, const struct peer_request *request, struct error *err)
{
	uint8_t token[MARK_TOKEN_BYTES];
	enum mark_result result;
	int r = hex_decode(request->token, token, sizeof(token)) ? 0 : -EINVAL;
	json_t *answer;

	if (r == 0)
		r = outcome_look(host, token, &result);
	if (r < 0)
		return refuse_token(r, err);
	answer = answer_result(result);
	add_vm(answer, request->name);
	return answer;
}

static json_t *has(const struct peer_request *request)
{
	json_t *answer = json_pack("{s:b}", "ok", 1);

	add_vm(answer, request->name);
	return answer;
}

/* The destination asks before it forgets. */
static json_t *still(struct peer_host *host, const struct peer_request *request)
{
	uint8_t token[MARK_TOKEN_BYTES];

	return json_pack("{s:b, s:b}", "ok", 1, "open",
			 (int)(!hex_decode(request->token, token, sizeof(token)) ||
			       retire_is_open(host, request->name, token)));
}

static json_t *act(struct peer_host *host, struct arriving *arriving, struct peer_request *request,
		   struct error *err)
{
	if (request->command == PEER_OUTCOME)
		return tell_outcome(host, request, err);
	if (request->command == PEER_LOOK)
		return look(host, request, err);
	if (request->command == PEER_HAS)
		return has(request);
	if (request->command == PEER_STILL)
		return still(host, request);
	return arriving_do(arriving, request, err);
}

static json_t *refusal(const struct error *err)
{
	return json_pack("{s:{s:s, s:i}}", "error", "message", err->message, "status",
			 (int)err->status);
}

/* One request and its answer: 0 to go on. */
static int serve_one(struct peer_host *host, struct talk *talk, struct arriving *arriving)
{
	_cleanup_(freep) struct peer_request *request = calloc(1, sizeof(*request));
	json_auto_t *message = NULL;
	json_auto_t *answer = NULL;
	struct error err = { 0 };
	int r = request ? talk_receive(talk, REQUEST_MS, &message) : -ENOMEM;

	if (r < 0)
		return r;
	if (peer_request_decode(message, request, &err) == 0)
		answer = act(host, arriving, request, &err);
	peer_request_release(request);
	if (!answer) {
		log_line(host->log, LOG_LEVEL_WARNING, "%s: was refused: %s", talk_peer(talk)->name,
			 err.message);
		answer = refusal(&err);
	}
	return answer ? talk_send(talk, answer) : -ENOMEM;
}

static void serve_daemon(struct peer_host *host, int client)
{
	_cleanup_(talkp) struct talk *talk = NULL;
	_cleanup_(arrivingp) struct arriving *arriving = NULL;
	struct error err = { 0 };
	int r = talk_accept(host->identity, host->peers, client, &talk, &err);

	if (r == 0 && host->known)
		__atomic_store_n(host->known, true, __ATOMIC_RELEASE);
	if (r == 0)
		r = arriving_new(host, talk, &arriving);
	if (r < 0) {
		log_line(host->log, LOG_LEVEL_WARNING, "%s", err.code ? err.message : strerror(-r));
		return;
	}
	while (r == 0 && !arriving_is_started(arriving) && !arriving_has_failed(arriving))
		r = serve_one(host, talk, arriving);
	if (arriving_is_started(arriving))
		arriving_finish(arriving);
}

void serve_peer(struct peer_host *host, int client)
{
	uint8_t first = 0;
	int r = peek(client, &first);

	if (r == 0 && first != PREAMBLE_FIRST) {
		serve_daemon(host, client);
		return;
	}
	if (r == 0)
		r = reservation_hand_in(host->folder_fd, client, PREAMBLE_MS);
	if (r < 0)
		log_line(host->log, LOG_LEVEL_WARNING, "a stream was refused: %s", strerror(-r));
	fd_close(client);
}
