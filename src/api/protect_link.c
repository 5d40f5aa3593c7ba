/* SPDX-License-Identifier: Apache-2.0 */
#include "api/protect_link.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "api/move_link.h"
#include "base/cleanup.h"
#include "base/fd.h"
#include "base/hex.h"
#include "protect/record.h"

struct far_guard {
	struct protect_link link;
	struct move_link *move; /* owned: what a guard asks as movers do; it has the connection */
	struct api_connection *acks; /* owned; the acknowledging thread's. NULL: none */
	char name[LIMIT_NAME];
};

static struct far_guard *far_of(struct protect_link *link)
{
	return container_of(link, struct far_guard, link);
}

static struct api_connection *connection_of(struct protect_link *link)
{
	return move_link_connection(far_of(link)->move);
}

/* ---- calls ---- */

static int bad_answer(struct protect_link *link, struct error *err)
{
	return error_set(err, -EPROTO, EXIT_STATUS_FAILED,
			 "%s: gave an answer that is not understood; use the utsusu it was started "
			 "with",
			 far_of(link)->name);
}

/* Takes the request's reference. */
static int ask(struct protect_link *link, json_t *request, json_t **ret_answer, struct error *err)
{
	return api_call_with(connection_of(link), request, NULL, 0, MOVE_LINK_WORK_MS, ret_answer,
			     err);
}

static int order(struct protect_link *link, json_t *request, struct error *err)
{
	json_auto_t *answer = NULL;

	return ask(link, request, &answer, err);
}

static bool take_u64(const json_t *answer, const char *key, uint64_t *ret_value)
{
	const json_t *value = json_object_get(answer, key);

	if (!json_is_integer(value) || json_integer_value(value) < 0)
		return false;
	*ret_value = (uint64_t)json_integer_value(value);
	return true;
}

/* A command whose answer is one boolean. */
static int ask_whether(struct protect_link *link, json_t *request, const char *key, bool *ret_is,
		       struct error *err)
{
	json_auto_t *answer = NULL;
	const json_t *value;
	int r = ask(link, request, &answer, err);

	if (r < 0)
		return r;
	value = json_object_get(answer, key);
	if (!json_is_boolean(value))
		return bad_answer(link, err);
	*ret_is = json_is_true(value);
	return 0;
}

static json_t *with_session(const char *command, const struct ownership_id *session)
{
	char text[2 * OWNERSHIP_ID_BYTES + 1];

	hex_encode(session->bytes, sizeof(session->bytes), text);
	return json_pack("{s:s, s:s}", "command", command, "session", text);
}

/* ---- owner ---- */

static int far_facts(struct protect_link *link, struct move_facts *ret_facts, struct error *err)
{
	struct move_link *move = far_of(link)->move;

	return move->ops->facts(move, ret_facts, err);
}

static int far_begin(struct protect_link *link, const struct ownership_id *session,
		     const char *peer, int shared_fd, int ring_fd, uint64_t *ret_cut,
		     uint64_t *ret_generation, struct error *err)
{
	const int fds[] = { shared_fd, ring_fd };
	json_t *request = with_session("protect-begin", session);
	json_auto_t *answer = NULL;
	int r;

	json_object_set_new(request, "peer", json_string(peer));
	json_object_set_new(request, "ring", json_boolean(ring_fd >= 0));
	r = api_call_with(connection_of(link), request, fds, ring_fd < 0 ? 1 : 2, MOVE_LINK_WORK_MS,
			  &answer, err);
	if (r == 0 &&
	    (!take_u64(answer, "cut", ret_cut) || !take_u64(answer, "generation", ret_generation)))
		r = bad_answer(link, err);
	return r;
}

static int far_collect(struct protect_link *link, uint64_t *ret_pages, struct error *err)
{
	json_auto_t *answer = NULL;
	int r = ask(link, json_pack("{s:s}", "command", "protect-collect"), &answer, err);

	return r == 0 && !take_u64(answer, "pages", ret_pages) ? bad_answer(link, err) : r;
}

static int far_gate(struct protect_link *link, struct error *err)
{
	return order(link, json_pack("{s:s}", "command", "protect-gate"), err);
}

static bool take_cut(const json_t *answer, struct protect_cut *cut)
{
	return take_u64(answer, "pages", &cut->pages) &&
	       take_u64(answer, "state_len", &cut->state_len) &&
	       take_u64(answer, "ring_end", &cut->ring_end) &&
	       take_u64(answer, "released", &cut->released) &&
	       take_u64(answer, "generation", &cut->generation) &&
	       take_u64(answer, "pause_ns", &cut->pause_ns);
}

/* Is there where no etcd has it. */
static int take_record(struct protect_link *link, const json_t *json, struct protect_cut *cut,
		       struct protect_cut *ret_cut, struct error *err)
{
	json_auto_t *copy = json_is_object(json) ? json_copy((json_t *)json) : NULL;
	_cleanup_(freep) char *text = NULL;

	cut->by_hand = json != NULL;
	if (copy) {
		json_object_del(copy, "revision"); /* its generation is */
		text = json_dumps(copy, JSON_COMPACT);
		if (!text || record_decode(text, strlen(text), &cut->record, NULL) < 0)
			return bad_answer(link, err);
		cut->record.revision = cut->record.generation;
	}
	*ret_cut = *cut;
	return 0;
}

/* "Not now" is an answer, not a refusal. */
static int far_cut(struct protect_link *link, uint64_t epoch, struct protect_cut *ret_cut,
		   struct error *err)
{
	struct protect_cut cut = { .epoch = epoch };
	json_auto_t *answer = NULL;
	int r = ask(link,
		    json_pack("{s:s, s:I}", "command", "protect-cut", "epoch", (json_int_t)epoch),
		    &answer, err);

	if (r < 0)
		return r;
	if (json_is_true(json_object_get(answer, "later")))
		return -EAGAIN;
	if (!take_cut(answer, &cut))
		return bad_answer(link, err);
	return take_record(link, json_object_get(answer, "record"), &cut, ret_cut, err);
}

static int far_acked(struct protect_link *link, const struct ownership_id *session, uint64_t epoch,
		     uint64_t at_ns, struct error *err)
{
	json_t *request = with_session("protect-acked", session);
	json_auto_t *answer = NULL;

	json_object_set_new(request, "epoch", json_integer((json_int_t)epoch));
	json_object_set_new(request, "at_ns", json_integer((json_int_t)at_ns));
	return api_call_with(far_of(link)->acks, request, NULL, 0, MOVE_LINK_WORK_MS, &answer, err);
}

static int with_why(struct protect_link *link, const char *command, const char *why,
		    struct error *err)
{
	return order(link, json_pack("{s:s, s:s}", "command", command, "why", why), err);
}

static int far_end(struct protect_link *link, const char *why, struct error *err)
{
	return with_why(link, "protect-end", why, err);
}

/* ---- backup ---- */

static int far_arrive(struct protect_link *link, const uint8_t token[MOVE_TOKEN_BYTES],
		      int shared_fd, struct error *err)
{
	struct move_link *move = far_of(link)->move;

	return move->ops->arrive(move, token, shared_fd, -1, err);
}

static int far_rehearse(struct protect_link *link, uint64_t len, struct error *err)
{
	struct move_link *move = far_of(link)->move;

	return move->ops->load(move, len, 0, true, err);
}

static int far_back_up(struct protect_link *link, const struct ownership_id *session,
		       const char *peer, struct error *err)
{
	json_t *request = with_session("backup-begin", session);

	json_object_set_new(request, "peer", json_string(peer));
	return order(link, request, err);
}

static int far_whole(struct protect_link *link, uint64_t epoch, bool *ret_ack, struct error *err)
{
	return ask_whether(link,
			   json_pack("{s:s, s:I}", "command", "backup-whole", "epoch",
				     (json_int_t)epoch),
			   "ack", ret_ack, err);
}

static int far_suspect(struct protect_link *link, const char *why, bool *ret_prepare,
		       struct error *err)
{
	return ask_whether(link, json_pack("{s:s, s:s}", "command", "backup-suspect", "why", why),
			   "prepare", ret_prepare, err);
}

static int far_prepared(struct protect_link *link, struct error *err)
{
	return order(link, json_pack("{s:s}", "command", "backup-prepared"), err);
}

static int far_apply(struct protect_link *link, uint64_t state_len, uint64_t stopped_ns,
		     struct error *err)
{
	return order(link,
		     json_pack("{s:s, s:I, s:I}", "command", "backup-apply", "len",
			       (json_int_t)state_len, "stopped_ns", (json_int_t)stopped_ns),
		     err);
}

static int far_failed(struct protect_link *link, const char *why, struct error *err)
{
	return with_why(link, "backup-failed", why, err);
}

/* ---- without etcd ---- */

static int far_record(struct protect_link *link, const struct ownership_record *record,
		      struct error *err)
{
	char text[LIMIT_OWNERSHIP_RECORD];
	json_t *json;
	size_t len;

	if (record_encode(record, text, &len) < 0)
		return -EINVAL;
	json = json_loadb(text, len, 0, NULL);
	json_object_set_new(json, "revision", json_integer((json_int_t)record->generation));
	return order(link, json_pack("{s:s, s:o}", "command", "backup-record", "record", json),
		     err);
}

static int far_ended(struct protect_link *link, const struct ownership_id *session,
		     struct error *err)
{
	return order(link, with_session("protect-ended", session), err);
}

static int far_give(struct protect_link *link, struct error *err)
{
	return order(link, json_pack("{s:s}", "command", "protect-give"), err);
}

/* ---- what the VM says ---- */

static const struct {
	const char *event;
	enum protect_word word;
} words[] = {
	{ "backup-prepare", PROTECT_WORD_PREPARE },    { "backup-apply", PROTECT_WORD_APPLY },
	{ "backup-over", PROTECT_WORD_OVER },	       { "protect-off", PROTECT_WORD_OFF },
	{ "protect-failover", PROTECT_WORD_FAILOVER },
};

static enum protect_word word_of(const json_t *event, char ret_why[160])
{
	const char *name = json_string_value(json_object_get(event, "event"));
	const char *why = json_string_value(json_object_get(event, "why"));

	/* An empty one is success. */
	if (json_is_true(json_object_get(event, "ran")))
		why = "";
	else if (json_is_false(json_object_get(event, "ran")) && !(why && why[0]))
		why = "did not run here";
	snprintf(ret_why, 160, "%s", why ? why : "");
	for (size_t i = 0; name && i < ARRAY_SIZE(words); i++)
		if (strcmp(words[i].event, name) == 0)
			return words[i].word;
	return PROTECT_WORD_NONE;
}

/* Events of other kinds are for others. A line that is no JSON comes from no VM of ours. */
static enum protect_word far_hear(struct protect_link *link, int timeout_ms, char ret_why[160])
{
	for (;;) {
		json_auto_t *event = NULL;
		int r = api_next_event(connection_of(link), timeout_ms, &event);
		enum protect_word word;

		ret_why[0] = '\0';
		if (r < 0)
			return r == -ETIMEDOUT ? PROTECT_WORD_NONE : PROTECT_WORD_GONE;
		word = word_of(event, ret_why);
		if (word != PROTECT_WORD_NONE)
			return word;
	}
}

static int far_fd(struct protect_link *link)
{
	return api_connection_fd(connection_of(link));
}

/* ---- life ---- */

static void far_free(struct protect_link *link)
{
	struct far_guard *far = link ? far_of(link) : NULL;

	if (!far)
		return;
	if (far->move)
		far->move->ops->free(far->move);
	api_connection_free(far->acks);
	free(far);
}

static const struct protect_link_ops far_ops = {
	.facts = far_facts,
	.begin = far_begin,
	.collect = far_collect,
	.gate = far_gate,
	.cut = far_cut,
	.acked = far_acked,
	.end = far_end,
	.arrive = far_arrive,
	.rehearse = far_rehearse,
	.back_up = far_back_up,
	.whole = far_whole,
	.suspect = far_suspect,
	.prepared = far_prepared,
	.apply = far_apply,
	.failed = far_failed,
	.record = far_record,
	.ended = far_ended,
	.give = far_give,
	.hear = far_hear,
	.fd = far_fd,
	.free = far_free,
};

int protect_link_new(int fd, int ack_fd, const char *name, struct protect_link **ret_link)
{
	_cleanup_(fd_closep) int acks = ack_fd;
	struct far_guard *far = calloc(1, sizeof(*far));
	int r;

	if (!far) {
		fd_close(fd);
		return -ENOMEM;
	}
	far->link.ops = &far_ops;
	snprintf(far->name, sizeof(far->name), "%s", name);
	r = move_link_new(fd, name, &far->move);
	if (r == 0 && acks >= 0)
		r = api_connection_new(TAKE_FD(acks), name, &far->acks);
	if (r < 0)
		far_free(&far->link);
	else
		*ret_link = &far->link;
	return r;
}
