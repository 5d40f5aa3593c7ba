/* SPDX-License-Identifier: Apache-2.0 */
#include "view/web/session.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>

static int make_secret(char ret_secret[WEB_SECRET])
{
	uint8_t bytes[WEB_SECRET / 2];

	if (getrandom(bytes, sizeof(bytes), 0) != sizeof(bytes))
		return -EIO;
	for (size_t i = 0; i < sizeof(bytes); i++)
		snprintf(ret_secret + 2 * i, 3, "%02x", bytes[i]);
	return 0;
}

int web_session_begin(struct web_session *session, uint16_t port)
{
	struct web_session fresh = { .port = port };
	int r = make_secret(fresh.token);

	if (!r)
		r = make_secret(fresh.cookie);
	if (!r)
		r = make_secret(fresh.key);
	if (r)
		return r;
	snprintf(fresh.cookie_name, sizeof(fresh.cookie_name), "utsusu-%u", port);
	*session = fresh;
	return 0;
}

int web_session_renew(struct web_session *session)
{
	char token[WEB_SECRET];
	int r = make_secret(token);

	if (r)
		return r;
	strcpy(session->token, token);
	session->opened = false;
	return 0;
}

/* Takes the same time wherever they differ: a guess must not be told how good it was. */
static bool is_secret(const char *secret, const char *guess)
{
	unsigned int differs = 0;

	if (!guess || strlen(guess) != WEB_SECRET - 1)
		return false;
	for (size_t i = 0; i < WEB_SECRET - 1; i++)
		differs |= (unsigned char)(secret[i] ^ guess[i]);
	return !differs;
}

static bool is_this_host(const struct web_session *session, const char *host)
{
	static const char *const names[] = { "127.0.0.1", "localhost" };
	char expected[32];

	for (size_t i = 0; host && i < ARRAY_SIZE(names); i++) {
		snprintf(expected, sizeof(expected), "%s:%u", names[i], session->port);
		if (!strcmp(host, expected))
			return true;
	}
	return false;
}

static enum web_verdict open_session(struct web_session *session, const char *token)
{
	if (!is_secret(session->token, token))
		return WEB_REFUSED;
	if (session->opened)
		return WEB_USED;
	session->opened = true;
	return WEB_BEGIN;
}

enum web_verdict web_session_judge(struct web_session *session, const struct web_visit *visit)
{
	if (!visit->method || (strcmp(visit->method, "GET") && strcmp(visit->method, "HEAD")))
		return WEB_METHOD;
	if (!is_this_host(session, visit->host))
		return WEB_HOST;
	if (!visit->path)
		return WEB_REFUSED;
	if (!strcmp(visit->path, "/open"))
		return open_session(session, visit->token);
	if (!is_secret(session->cookie, visit->cookie))
		return WEB_REFUSED;
	if (!strncmp(visit->path, "/data/", 6) && !is_secret(session->key, visit->key))
		return WEB_REFUSED;
	return WEB_SERVE;
}
