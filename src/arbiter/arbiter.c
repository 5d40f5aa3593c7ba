/* SPDX-License-Identifier: Apache-2.0 */
#include "arbiter/arbiter.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "arbiter/internal.h"
#include "base/cleanup.h"
#include "protect/record.h"

static const char *const outcome_names[] = {
	[ARBITER_WON] = "won",
	[ARBITER_LOST] = "lost",
	[ARBITER_UNKNOWN] = "unknown",
};

const char *arbiter_outcome_name(enum arbiter_outcome outcome)
{
	return outcome_names[outcome];
}

int arbiter_begin(struct arbiter *arbiter, const char *path, const char *body,
		  const struct http_ask *rest, struct http_request **ret_request)
{
	const struct arbiter_endpoint *endpoint = &arbiter->config.endpoints[arbiter->endpoint];
	_cleanup_(freep) char *url = NULL;
	struct http_ask ask = *rest;

	if (asprintf(&url, "%s%s", endpoint->url, path) < 0)
		return -ENOMEM;
	ask.url = url;
	ask.address = endpoint->address;
	ask.body = body;
	ask.token = arbiter->token[0] ? arbiter->token : NULL;
	return http_begin(arbiter->http, &ask, ret_request);
}

int arbiter_take(const struct question *question, const struct gateway_header *header,
		 const struct gateway_value *value, struct ownership_record *ret_record,
		 struct error *err)
{
	struct arbiter *arbiter = question->arbiter;
	struct ownership_record record = { 0 };
	int r = value->present ? record_decode(value->bytes, value->len, &record, err) : 0;

	record.revision = value->revision;
	if (r == 0)
		r = seen_take(&arbiter->seen, &question->before, arbiter->state_fd, arbiter->uuid,
			      arbiter_endpoint_url(arbiter), header, &record, err);
	if (r == 0)
		*ret_record = record;
	return r;
}

/* ---- swaps ---- */

/* The answer to a swap, or a negative errno with `err`: it is none that is certain. */
static int read_swapped(struct arbiter *arbiter, const struct answer *answer,
			struct arbiter_swapped *ret_swapped, struct error *err)
{
	struct gateway_header header;
	struct gateway_value value;
	bool succeeded;
	int r = gateway_read_swap(answer->text, answer->len, arbiter->key, &header, &succeeded,
				  &value);

	/* It won, or what stands there is not what it was compared with. */
	if (r == 0 && (succeeded ? value.revision <= arbiter->want.revision
				 : value.revision == arbiter->want.revision))
		r = -EBADMSG;
	if (r < 0)
		return error_set(err, r, EXIT_STATUS_HOST,
				 "arbiter: %.100s: its answer to a swap cannot be understood",
				 arbiter_endpoint_url(arbiter));
	if (succeeded) {
		value.len = strlen(arbiter->want_text);
		memcpy(value.bytes, arbiter->want_text, value.len);
	}
	ret_swapped->outcome = succeeded ? ARBITER_WON : ARBITER_LOST;
	return arbiter_take(&arbiter->swap, &header, &value, &ret_swapped->record, err);
}

static void swap_done(struct question *question, const struct answer *answer)
{
	struct arbiter *arbiter = question->arbiter;
	struct arbiter_swapped swapped = { 0 };
	struct error err = { 0 };
	int r = answer->r < 0 ? answer->r : read_swapped(arbiter, answer, &swapped, &err);

	if (r < 0)
		swapped = (struct arbiter_swapped){
			.outcome = ARBITER_UNKNOWN,
			.may_land = answer->r == 0 || answer->may_land,
			.why = answer->r < 0 ? *answer->why : err,
		};
	arbiter->events.swapped(arbiter->events.ctx, &swapped);
}

/* One on an older revision may be asked: it is lost, and then it is known what stands there. */
static bool may_follow(const struct ownership_record *want, const struct seen *seen)
{
	if (want->revision == 0)
		return seen->record == 0;
	return want->revision != seen->record || want->generation > seen->generation;
}

int arbiter_swap(struct arbiter *arbiter, const struct ownership_record *want)
{
	size_t len;
	char *body;
	int r;

	if (question_is_asked(&arbiter->swap))
		return -EBUSY;
	r = record_encode(want, arbiter->want_text, &len);
	if (r < 0)
		return r;
	if (!may_follow(want, &arbiter->seen))
		return -ESTALE;
	body = gateway_swap(arbiter->key, want->revision, arbiter->want_text, len);
	if (!body)
		return -ENOMEM;
	arbiter->want = *want;
	question_ask(&arbiter->swap, body);
	return 0;
}

/* ---- events ---- */

void arbiter_swapped_event(const struct arbiter_swapped *swapped, struct ownership_event *ret_event)
{
	static const enum ownership_event_kind kinds[] = {
		[ARBITER_WON] = WHEN_WON,
		[ARBITER_LOST] = WHEN_LOST,
		[ARBITER_UNKNOWN] = WHEN_UNKNOWN,
	};

	*ret_event = (struct ownership_event){ .kind = kinds[swapped->outcome],
					       .record = swapped->record };
}

void arbiter_stands_event(const struct ownership_record *record, struct ownership_event *ret_event)
{
	*ret_event = (struct ownership_event){ .kind = WHEN_READ, .record = *record };
}

/* ---- the arbiter ---- */

static int check(const struct arbiter_config *config, const char *uuid, struct error *err)
{
	if (!uuid_valid(uuid))
		return error_set(err, -EINVAL, EXIT_STATUS_USAGE,
				 "arbiter: no UUID of a VM; give one of 36 characters");
	if (config->n_endpoints == 0 || config->n_endpoints > LIMIT_ARBITER_ENDPOINTS)
		return error_set(err, -EINVAL, EXIT_STATUS_USAGE,
				 "arbiter: name 1 to %d members of the etcd cluster",
				 LIMIT_ARBITER_ENDPOINTS);
	if (!config->certificate != !config->key || !config->user != !config->password)
		return error_set(
			err, -EINVAL, EXIT_STATUS_USAGE,
			"arbiter: give a certificate with its key, a user with a password");
	for (unsigned int i = 0; i < config->n_endpoints; i++) {
		const char *url = config->endpoints[i].url;

		if (http_check(url, config->endpoints[i].address) < 0)
			return error_set(
				err, -EINVAL, EXIT_STATUS_USAGE,
				"arbiter: %.100s: give https://HOST:PORT, with HOST a number, or a "
				"name with its address beside it",
				url);
		if (strncmp(url, "https://", 8) == 0 && !config->ca)
			return error_set(
				err, -EINVAL, EXIT_STATUS_USAGE,
				"arbiter: %.100s: give the file of the authority that signs the "
				"members' certificates",
				url);
	}
	return 0;
}

static int make(struct arbiter *arbiter, const struct arbiter_config *config, struct error *err)
{
	arbiter->config = *config;
	if (!config->deadline_ms)
		arbiter->config.deadline_ms = ARBITER_DEADLINE_MS;
	if (!config->silence_ms)
		arbiter->config.silence_ms = ARBITER_SILENCE_MS;
	arbiter->tls = (struct http_tls){ config->ca, config->certificate, config->key };
	arbiter->token = calloc(1, LIMIT_ARBITER_TOKEN);
	arbiter->http = http_new(arbiter->loop, &arbiter->tls);
	if (!arbiter->token || !arbiter->http)
		return error_set(err, -ENOMEM, EXIT_STATUS_HOST, "arbiter: out of memory");
	return seen_read(arbiter->state_fd, arbiter->uuid, &arbiter->seen, err);
}

int arbiter_open(struct loop *loop, const struct arbiter_config *config, int state_fd,
		 const char uuid[UUID_TEXT], const struct arbiter_events *events,
		 struct arbiter **ret_arbiter, struct error *err)
{
	struct arbiter *arbiter;
	int r = check(config, uuid, err);

	if (r < 0)
		return r;
	arbiter = calloc(1, sizeof(*arbiter));
	if (!arbiter)
		return error_set(err, -ENOMEM, EXIT_STATUS_HOST, "arbiter: out of memory");
	arbiter->loop = loop;
	arbiter->events = *events;
	arbiter->state_fd = state_fd;
	snprintf(arbiter->uuid, sizeof(arbiter->uuid), "%s", uuid);
	snprintf(arbiter->key, sizeof(arbiter->key), KEY_PREFIX "%s", uuid);
	question_init(&arbiter->swap, arbiter, GATEWAY_TXN, true, swap_done);
	watch_init(arbiter);
	r = make(arbiter, config, err);
	if (r < 0)
		arbiter_free(arbiter);
	else
		*ret_arbiter = arbiter;
	return r;
}

void arbiter_free(struct arbiter *arbiter)
{
	if (!arbiter)
		return;
	question_end(&arbiter->swap);
	watch_release(arbiter);
	http_free(arbiter->http);
	free(arbiter->token);
	free(arbiter);
}
