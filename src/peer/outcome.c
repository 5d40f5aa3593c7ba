/* SPDX-License-Identifier: Apache-2.0 */
#include "peer/outcome.h"

#include <errno.h>
#include <string.h>

#include "base/hex.h"
#include "move/handover.h"
#include "peer/incoming.h"
#include "peer/request.h"

#define END_MS 10000 /* for a process that was killed */
#define STEPS 16

struct question {
	struct peer_host *host;
	struct marks *marks;
	const uint8_t *token;
	char token_text[PEER_TOKEN_TEXT];
	struct handover_destination state;
	enum mark_result answer; /* OPEN: none yet */
};

static enum handover_event_kind take_never(struct question *question)
{
	enum mark_result result;

	if (marks_read_taken(question->marks, question->token, true, &result) < 0)
		return ON_RESULT_UNKNOWN;
	return result == MARK_RAN ? ON_RESULT_RAN : ON_RESULT_NEVER;
}

static uint32_t step(struct question *question, enum handover_event_kind kind)
{
	const struct handover_event event = { .kind = kind, .id = question->state.id };

	return handover_destination_step(&question->state, &event);
}

/* One action and what comes of it: further actions. */
static uint32_t act(struct question *question, uint32_t actions)
{
	if (actions & DO_TAKE_NEVER)
		return step(question, take_never(question));
	if (actions & DO_END_VM)
		return incoming_end(question->host->folder_fd, question->token_text, END_MS) < 0
			       ? 0
			       : step(question, ON_VM_DIED);
	if (actions & DO_SEND_RAN)
		question->answer = MARK_RAN;
	if (actions & DO_SEND_NEVER)
		question->answer = MARK_NEVER;
	return 0;
}

/* A token is told to nobody before its mark is durable: one without a mark was forgotten here, or is another host's. */
static int read_mark(struct question *question, enum handover_mark *ret_mark)
{
	static const enum handover_mark marks[] = {
		[MARK_OPEN] = HANDOVER_OPEN,
		[MARK_RAN] = HANDOVER_RAN,
		[MARK_NEVER] = HANDOVER_NEVER,
	};
	enum mark_result result;
	int r = marks_read_taken(question->marks, question->token, false, &result);

	if (r == 0)
		*ret_mark = marks[result];
	return r;
}

static int answer(struct question *question)
{
	struct handover_id id = { 0 };
	enum handover_mark mark = HANDOVER_NO_MARK;
	uint32_t actions;
	int r = read_mark(question, &mark);

	if (r < 0)
		return r;
	memcpy(id.token, question->token, sizeof(id.token));
	actions = handover_destination_restart(
		&id, mark, incoming_lives(question->host->folder_fd, question->token_text) != 0,
		&question->state);
	for (int i = 0; actions && i < STEPS; i++)
		actions = act(question, actions);
	actions = step(question, ON_ASK);
	for (int i = 0; actions && i < STEPS; i++)
		actions = act(question, actions);
	return 0;
}

int outcome_close(struct peer_host *host, const uint8_t token[MARK_TOKEN_BYTES],
		  enum mark_result *ret_result)
{
	struct question question = { .host = host, .token = token };
	struct error err = { 0 };
	int r = marks_open(&question.marks, &err);

	if (r < 0)
		return r;
	hex_encode(token, MARK_TOKEN_BYTES, question.token_text);
	r = answer(&question);
	marks_close(question.marks);
	if (r == 0 && question.answer == MARK_NEVER)
		incoming_bury(host->folder_fd, question.token_text);
	if (r == 0 && question.answer == MARK_RAN)
		incoming_drop(host->folder_fd, question.token_text);
	if (r == 0 && ret_result)
		*ret_result = question.answer;
	return r;
}

int outcome_look(struct peer_host *host, const uint8_t token[MARK_TOKEN_BYTES],
		 enum mark_result *ret_result)
{
	struct marks *marks = NULL;
	struct error err = { 0 };
	int r = marks_open(&marks, &err);

	if (r < 0)
		return r;
	r = marks_read_taken(marks, token, false, ret_result);
	marks_close(marks);
	return r;
}
