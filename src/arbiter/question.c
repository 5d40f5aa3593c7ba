/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "arbiter/internal.h"
#include "base/cleanup.h"

static void ask_endpoint(struct question *question);

static uint64_t due_ms(const struct arbiter *arbiter, unsigned int ms)
{
	return clock_now(loop_clock(arbiter->loop)) + ms * NSEC_PER_MSEC;
}

/* One endpoint's share of the deadline: a silent one leaves time for the others. */
static unsigned int share_ms(const struct arbiter *arbiter)
{
	return MAX(arbiter->config.deadline_ms / arbiter->config.n_endpoints, 1U);
}

static bool is_swap_itself(const struct question *question)
{
	return question->once && !question->for_token;
}

static void stop(struct question *question)
{
	loop_timer_cancel(&question->deadline);
	loop_timer_cancel(&question->patience);
	http_end(TAKE_PTR(question->request));
	free(TAKE_PTR(question->body));
}

static void finish(struct question *question, struct answer *answer)
{
	stop(question);
	answer->why = &question->why;
	question->done(question, answer);
}

static void fail(struct question *question, int r, bool may_land)
{
	finish(question, &(struct answer){ .r = r, .may_land = may_land });
}

static void note_why(struct question *question, int r, const char *what)
{
	question->why = (struct error){ 0 };
	(void)error_set(&question->why, r, EXIT_STATUS_HOST, "arbiter: %.100s: %.200s",
			arbiter_endpoint_url(question->arbiter), what);
}

static void ask_next_endpoint(struct question *question, int r)
{
	struct arbiter *arbiter = question->arbiter;

	arbiter->endpoint = (arbiter->endpoint + 1) % arbiter->config.n_endpoints;
	if (++question->tried >= arbiter->config.n_endpoints)
		fail(question, r, false);
	else
		ask_endpoint(question);
}

/* This endpoint gave no answer that can be used. */
static void endpoint_failed(struct question *question, int r, bool left)
{
	if (is_swap_itself(question) && left)
		fail(question, r, true);
	else
		ask_next_endpoint(question, r);
}

static void ask_with_new_token(struct question *question)
{
	question->renewed = true;
	question->arbiter->token[0] = '\0';
	ask_endpoint(question);
}

/* Any other status than 200. */
static void refused(struct question *question, const struct http_result *result)
{
	struct gateway_refusal refusal;
	char what[200];
	bool wants_token;

	gateway_read_refusal(result->text, result->len, &refusal);
	snprintf(what, sizeof(what), "HTTP status %u: %s", result->status, refusal.message);
	note_why(question, -EPROTO, what);
	wants_token = gateway_wants_token(&refusal) && !question->for_token;
	if (wants_token && question->arbiter->config.user && !question->renewed)
		ask_with_new_token(question);
	else if (wants_token || gateway_forbids(&refusal))
		/* The members agree on users and rights: the others would say the same. */
		fail(question, -EACCES, false);
	else
		endpoint_failed(question, -EPROTO, true);
}

static void take_token(struct question *question, const struct http_result *result)
{
	struct arbiter *arbiter = question->arbiter;

	if (gateway_read_token(result->text, result->len, arbiter->token) < 0) {
		note_why(question, -EBADMSG, "no token in its answer");
		ask_next_endpoint(question, -EBADMSG);
		return;
	}
	question->renewed = true;
	ask_endpoint(question);
}

static void answered(void *ctx, const struct http_result *result)
{
	struct question *question = ctx;

	question->request = NULL;
	loop_timer_cancel(&question->patience);
	if (result->r < 0) {
		note_why(question, result->r, result->why);
		endpoint_failed(question, result->r, result->left);
	} else if (result->status != 200) {
		refused(question, result);
	} else if (question->for_token) {
		take_token(question, result);
	} else {
		finish(question, &(struct answer){ .text = result->text, .len = result->len });
	}
}

static void patience_ended(struct loop_timer *timer)
{
	struct question *question = container_of(timer, struct question, patience);
	bool left = http_end(TAKE_PTR(question->request));

	note_why(question, -ETIMEDOUT, "no answer in time");
	endpoint_failed(question, -ETIMEDOUT, left);
}

static void deadline_passed(struct loop_timer *timer)
{
	struct question *question = container_of(timer, struct question, deadline);
	bool left = http_end(TAKE_PTR(question->request));

	if (!question->broken)
		note_why(question, -ETIMEDOUT, "no answer before the deadline");
	fail(question, question->broken ? question->broken : -ETIMEDOUT,
	     is_swap_itself(question) && left);
}

static int begin(struct question *question)
{
	struct arbiter *arbiter = question->arbiter;
	const struct http_ask rest = { .connect_ms = share_ms(arbiter),
				       .limit = LIMIT_ARBITER_ANSWER,
				       .ctx = question,
				       .done = answered };
	char *body;
	int r;

	if (!question->for_token)
		return arbiter_begin(arbiter, question->path, question->body, &rest,
				     &question->request);
	body = gateway_authenticate(arbiter->config.user, arbiter->config.password);
	r = body ? arbiter_begin(arbiter, GATEWAY_AUTHENTICATE, body, &rest, &question->request)
		 : -ENOMEM;
	free(body);
	return r;
}

static void ask_endpoint(struct question *question)
{
	struct arbiter *arbiter = question->arbiter;
	int r;

	question->for_token = arbiter->config.user && !arbiter->token[0];
	r = begin(question);
	if (r < 0) {
		/* Told by the loop, as all else. */
		note_why(question, r, "no request can be made");
		question->broken = r;
		loop_timer_arm(arbiter->loop, &question->deadline, 0);
		return;
	}
	/* A swap is waited for as long as may be: to ask somebody else would tell nothing of it. */
	if (!is_swap_itself(question))
		loop_timer_arm(arbiter->loop, &question->patience,
			       due_ms(arbiter, share_ms(arbiter)));
}

void question_init(struct question *question, struct arbiter *arbiter, const char *path, bool once,
		   void (*done)(struct question *question, const struct answer *answer))
{
	*question =
		(struct question){ .arbiter = arbiter, .path = path, .once = once, .done = done };
	loop_timer_init(&question->deadline, deadline_passed);
	loop_timer_init(&question->patience, patience_ended);
}

void question_ask(struct question *question, char *body)
{
	struct arbiter *arbiter = question->arbiter;

	question->body = body;
	question->before = arbiter->seen;
	question->tried = 0;
	question->broken = 0;
	question->renewed = false;
	question->why = (struct error){ 0 };
	loop_timer_arm(arbiter->loop, &question->deadline,
		       due_ms(arbiter, arbiter->config.deadline_ms));
	ask_endpoint(question);
}

void question_end(struct question *question)
{
	stop(question);
}
