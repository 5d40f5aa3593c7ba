/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Shared by this room's files only: the arbiter's parts, and one question to whichever member answers (question.c). */

#include "arbiter/arbiter.h"
#include "arbiter/gateway.h"
#include "arbiter/http.h"
#include "arbiter/seen.h"

#define KEY_PREFIX "/utsusu/1/vm/" /* and the VM's UUID; 1: RECORD_VERSION's first */
#define KEY_TEXT (sizeof(KEY_PREFIX) + UUID_TEXT)

struct arbiter;

/* What came of a question. */
struct answer {
	int r; /* 0, or why there is none */
	bool may_land; /* r < 0: the question itself (not the one for a token) may have arrived, or may yet */
	const char *text; /* until the callback returns */
	size_t len;
	const struct error *why; /* r < 0 */
};

/*
 * One question: a token first where one is needed and there is none, then each endpoint in turn, within one deadline. `once`: not asked again
 * after it may have arrived - a swap; others are asked anywhere.
 */
struct question {
	struct arbiter *arbiter;
	const char *path;
	char *body; /* owned; NULL: this question is not being asked */
	bool once;
	bool for_token;	    /* the request under way asks for a token */
	bool renewed;	    /* the token is from within this question */
	unsigned int tried; /* endpoints that did not answer */
	int broken;	    /* negative errno: it cannot even be asked */
	struct seen before; /* what had been seen when it was asked */
	struct http_request *request;
	struct loop_timer deadline, patience; /* of all; of this endpoint */
	void (*done)(struct question *question, const struct answer *answer);
	struct error why; /* the last endpoint's */
};

void question_init(struct question *question, struct arbiter *arbiter, const char *path, bool once,
		   void (*done)(struct question *question, const struct answer *answer));
/* Takes `body`. `done` is called once, from the loop. */
void question_ask(struct question *question, char *body);
void question_end(struct question *question);
static inline bool question_is_asked(const struct question *question)
{
	return question->body;
}

struct arbiter {
	struct loop *loop;
	struct arbiter_config config;
	struct arbiter_events events;
	int state_fd;
	char uuid[UUID_TEXT];
	char key[KEY_TEXT];
	struct http_tls tls;
	struct http *http;
	unsigned int endpoint; /* that is asked first: it answered last */
	char *token;	       /* "" for none */
	struct seen seen;

	struct question swap;
	struct ownership_record want; /* of the swap under way */
	char want_text[LIMIT_OWNERSHIP_RECORD];

	struct question read;
	bool wanted; /* somebody called arbiter_read: is told in any case */
	bool again;  /* and once more: what is under way was asked before */
	bool watching;
	bool in_doubt; /* the watch said that it does not know */
	bool told;     /* something was, of revision: */
	uint64_t told_revision;
	struct http_request *stream;
	struct loop_timer silence; /* or, without a stream: when it is tried again */
};

static inline const char *arbiter_endpoint_url(const struct arbiter *arbiter)
{
	return arbiter->config.endpoints[arbiter->endpoint].url;
}

/* A request to the present endpoint. */
_must_check_ int arbiter_begin(struct arbiter *arbiter, const char *path, const char *body,
			       const struct http_ask *rest, struct http_request **ret_request);

/* Judges and notes what the answer to `question` says stands there: the record, or -EBADMSG, -ESTALE, ... with `err`. */
_must_check_ int arbiter_take(const struct question *question, const struct gateway_header *header,
			      const struct gateway_value *value,
			      struct ownership_record *ret_record, struct error *err);

/* watch.c */
void watch_init(struct arbiter *arbiter);
void watch_release(struct arbiter *arbiter);
