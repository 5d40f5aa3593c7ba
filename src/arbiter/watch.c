/* SPDX-License-Identifier: Apache-2.0 */

/*
 * What stands there. A watch tells only that something changed; what it is comes from a read, of which etcd promises that it is the latest
 * (a watch may be served by a member that lags). So there is one way in which a record is learned, and one place that judges it.
 *
 *   read -> told -> stream from the revision after that read -> a line says "changed" -> read -> told -> ...
 *                   '-> ends, errs, or says nothing for a while -> read -> stream anew
 */

#include <errno.h>
#include <stdlib.h>

#include "arbiter/internal.h"
#include "base/cleanup.h"

/* After a failure, before all is tried again: a member that is up and refuses shall not be asked in a circle. */
static unsigned int pause_ms(const struct arbiter *arbiter)
{
	return MAX(arbiter->config.silence_ms / 10, 1U);
}

static void begin_stream(struct arbiter *arbiter, uint64_t revision);

static void arm(struct arbiter *arbiter, unsigned int ms)
{
	loop_timer_arm(arbiter->loop, &arbiter->silence,
		       clock_now(loop_clock(arbiter->loop)) + ms * NSEC_PER_MSEC);
}

static int read_now(struct arbiter *arbiter)
{
	char *body;

	if (question_is_asked(&arbiter->read)) {
		arbiter->again = true;
		return 0;
	}
	body = gateway_range(arbiter->key);
	if (!body)
		return -ENOMEM;
	question_ask(&arbiter->read, body);
	return 0;
}

static void end_stream(struct arbiter *arbiter)
{
	http_end(TAKE_PTR(arbiter->stream));
	loop_timer_cancel(&arbiter->silence);
}

/* Reads, and watches from there. */
static void watch_anew(struct arbiter *arbiter)
{
	end_stream(arbiter);
	if (arbiter->watching && read_now(arbiter) < 0)
		arm(arbiter, pause_ms(arbiter));
}

static void pause_watch(struct arbiter *arbiter)
{
	end_stream(arbiter);
	arm(arbiter, pause_ms(arbiter));
}

static void silence_ended(struct loop_timer *timer)
{
	watch_anew(container_of(timer, struct arbiter, silence));
}

/* ---- reads ---- */

/* `is_latest`: nobody asked, and nothing changed, after this was asked. Only that answers arbiter_read. */
static void tell(struct arbiter *arbiter, const struct ownership_record *record, bool is_latest)
{
	bool is_news = arbiter->watching && (!arbiter->told || arbiter->in_doubt ||
					     record->revision > arbiter->told_revision);

	if (!is_news && !(arbiter->wanted && is_latest))
		return;
	arbiter->wanted &= !is_latest;
	arbiter->in_doubt = false;
	arbiter->told = true;
	arbiter->told_revision = record->revision;
	arbiter->events.stands(arbiter->events.ctx, record, NULL);
}

static void tell_doubt(struct arbiter *arbiter, const struct error *err, bool is_latest)
{
	bool is_news = arbiter->watching && !arbiter->in_doubt;

	if (!is_news && !(arbiter->wanted && is_latest))
		return;
	arbiter->wanted &= !is_latest;
	arbiter->in_doubt = arbiter->watching;
	arbiter->events.stands(arbiter->events.ctx, NULL, err);
}

/* What stands there, or a negative errno with `err`. */
static int take(struct arbiter *arbiter, const struct answer *answer,
		struct gateway_header *ret_header, struct ownership_record *ret_record,
		struct error *err)
{
	struct gateway_value value;

	if (answer->r < 0) {
		*err = *answer->why;
		return answer->r;
	}
	if (gateway_read_range(answer->text, answer->len, arbiter->key, ret_header, &value) < 0)
		return error_set(err, -EBADMSG, EXIT_STATUS_HOST,
				 "arbiter: %.100s: its answer to a read cannot be understood",
				 arbiter_endpoint_url(arbiter));
	return arbiter_take(&arbiter->read, ret_header, &value, ret_record, err);
}

static void read_done(struct question *question, const struct answer *answer)
{
	struct arbiter *arbiter = question->arbiter;
	struct gateway_header header;
	struct ownership_record record;
	struct error err = { 0 };
	int r = take(arbiter, answer, &header, &record, &err);
	bool is_latest;

	is_latest = !arbiter->again;
	arbiter->again = false;
	if (!is_latest && read_now(arbiter) < 0)
		is_latest = true; /* as late as it gets */
	if (arbiter->watching && r < 0)
		pause_watch(arbiter);
	else if (arbiter->watching && !arbiter->stream)
		begin_stream(arbiter, header.revision + 1);
	/* Last: whoever is told may end the watch, or ask again. */
	if (r < 0)
		tell_doubt(arbiter, &err, is_latest);
	else
		tell(arbiter, &record, is_latest);
}

int arbiter_read(struct arbiter *arbiter)
{
	int r = read_now(arbiter);

	arbiter->wanted |= r == 0;
	return r;
}

/* ---- the stream ---- */

static void stream_says(void *ctx, const char *line, size_t len)
{
	struct arbiter *arbiter = ctx;
	enum gateway_news news;

	arm(arbiter, arbiter->config.silence_ms);
	if (gateway_read_news(line, len, &news) < 0 || news == GATEWAY_ENDED)
		pause_watch(arbiter);
	else if (news == GATEWAY_CHANGED && read_now(arbiter) < 0)
		pause_watch(arbiter);
}

/* Also when etcd did not begin one: a token that ended is forgotten, the read after the pause gets another. */
static void stream_ended(void *ctx, const struct http_result *result)
{
	struct arbiter *arbiter = ctx;
	struct gateway_refusal refusal;

	arbiter->stream = NULL;
	if (result->r == 0 && result->status != 200) {
		gateway_read_refusal(result->text, result->len, &refusal);
		if (gateway_wants_token(&refusal))
			arbiter->token[0] = '\0';
	}
	pause_watch(arbiter);
}

static void begin_stream(struct arbiter *arbiter, uint64_t revision)
{
	const struct http_ask rest = { .connect_ms = arbiter->config.deadline_ms,
				       .limit = LIMIT_ARBITER_ANSWER,
				       .ctx = arbiter,
				       .line = stream_says,
				       .done = stream_ended };
	char *body = gateway_watch(arbiter->key, revision);
	int r = body ? arbiter_begin(arbiter, GATEWAY_WATCH, body, &rest, &arbiter->stream)
		     : -ENOMEM;

	free(body);
	arm(arbiter, r < 0 ? pause_ms(arbiter) : arbiter->config.silence_ms);
}

void arbiter_watch(struct arbiter *arbiter)
{
	if (arbiter->watching)
		return;
	arbiter->watching = true;
	arbiter->told = arbiter->in_doubt = false;
	watch_anew(arbiter);
}

void arbiter_unwatch(struct arbiter *arbiter)
{
	arbiter->watching = arbiter->in_doubt = false;
	end_stream(arbiter);
}

void watch_init(struct arbiter *arbiter)
{
	question_init(&arbiter->read, arbiter, GATEWAY_RANGE, false, read_done);
	loop_timer_init(&arbiter->silence, silence_ended);
}

void watch_release(struct arbiter *arbiter)
{
	arbiter_unwatch(arbiter);
	question_end(&arbiter->read);
}
