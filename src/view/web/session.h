/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * Who may see the page. Other users of this host, and pages of other sites in the user's browser, can reach the port.
 *
 *   terminal: /open?token=T  --once-->  cookie C, and the key K behind the # of the address that follows
 *   page's files:  C             a cookie goes to every port of the host, so it is not enough for
 *   data:          C and K       K is kept by the page itself, which no other origin can read
 *
 * Each visit has to name this host and port, or a name that somebody lets point here would do (DNS rebinding).
 */

#include <stdbool.h>
#include <stdint.h>

#include "base/macros.h"

#define WEB_SECRET 33 /* 128 bits in hexadecimal, with the NUL */
#define WEB_KEY_HEADER "X-Utsusu-Key"

struct web_session {
	uint16_t port;
	bool opened; /* the token was used */
	char token[WEB_SECRET], cookie[WEB_SECRET], key[WEB_SECRET];
	char cookie_name[24]; /* with the port: browsers keep one jar for all of a host's */
};

/* What a visitor shows; each may be NULL. Untrusted. */
struct web_visit {
	const char *method, *host, *path;
	const char *token, *cookie, *key;
};

enum web_verdict {
	WEB_SERVE,
	WEB_BEGIN,  /* the right token: give cookie and key */
	WEB_METHOD, /* neither GET nor HEAD */
	WEB_HOST,   /* meant for another host */
	WEB_USED,   /* the token was used before */
	WEB_REFUSED,
};

/* New secrets for a server at `port`. Negative errno when the kernel has no randomness. */
_must_check_ int web_session_begin(struct web_session *session, uint16_t port);
/* A new token, for another window; the windows that are open stay so. Negative errno: the old one holds. */
_must_check_ int web_session_renew(struct web_session *session);
/* WEB_BEGIN marks the token as used. */
enum web_verdict web_session_judge(struct web_session *session, const struct web_visit *visit);
