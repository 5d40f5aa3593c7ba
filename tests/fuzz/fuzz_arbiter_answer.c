/* SPDX-License-Identifier: Apache-2.0 */
/* covers: arbiter/gateway.c base/base64.c */
/*
 * What an etcd, or whoever listens in its place, answers. The first byte chooses: what stands there, a swap, a token, a watch's line, a
 * refusal; a note of what was seen. Nothing is told that is out of range.
 */
#include <stdlib.h>
#include <string.h>

#include "arbiter/gateway.h"
#include "arbiter/seen.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define KEY "a"

static void must(bool holds)
{
	if (!holds)
		abort();
}

static void check(const struct gateway_header *header, const struct gateway_value *value)
{
	must(header->revision > 0 && header->revision <= INT64_MAX);
	must(value->revision <= header->revision && value->present == (value->revision > 0));
	must(value->len <= sizeof(value->bytes));
}

static void try_range(const char *text, size_t len)
{
	struct gateway_header header;
	struct gateway_value value;
	char *swap;

	if (gateway_read_range(text, len, KEY, &header, &value) < 0)
		return;
	check(&header, &value);
	swap = gateway_swap(KEY, value.revision, value.bytes, value.len);
	must(swap && strlen(swap) < LIMIT_ARBITER_ANSWER);
	free(swap);
}

static void try_swap(const char *text, size_t len)
{
	struct gateway_header header;
	struct gateway_value value;
	bool succeeded;

	if (gateway_read_swap(text, len, KEY, &header, &succeeded, &value) == 0)
		check(&header, &value);
}

static void try_token(const char *text, size_t len)
{
	char token[LIMIT_ARBITER_TOKEN];

	if (gateway_read_token(text, len, token) == 0)
		must(token[0] && strlen(token) < sizeof(token) && !strpbrk(token, "\r\n "));
}

static void try_news(const char *text, size_t len)
{
	enum gateway_news news;

	if (gateway_read_news(text, len, &news) == 0)
		must(news <= GATEWAY_ENDED);
}

static void try_refusal(const char *text, size_t len)
{
	struct gateway_refusal refusal;

	gateway_read_refusal(text, len, &refusal);
	must(strlen(refusal.message) < sizeof(refusal.message));
	must(!gateway_wants_token(&refusal) || !gateway_forbids(&refusal));
}

static void try_seen(const char *text, size_t len)
{
	char again[SEEN_TEXT];
	struct seen seen;

	if (seen_decode(text, len, &seen) < 0)
		return;
	seen_encode(&seen, again);
	must(strlen(again) == len && memcmp(again, text, len) == 0);
}

static void try_requests(const char *text, size_t len)
{
	char *bodies[] = { gateway_range(KEY), gateway_watch(KEY, len),
			   gateway_authenticate("vm", "secret") };

	for (size_t i = 0; i < ARRAY_SIZE(bodies); i++) {
		must(bodies[i] != NULL);
		free(bodies[i]);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static void (*const tries[])(const char *text, size_t len) = {
		try_range, try_swap, try_token, try_news, try_refusal, try_seen, try_requests,
	};

	if (size > 0)
		tries[data[0] % ARRAY_SIZE(tries)]((const char *)data + 1, size - 1);
	return 0;
}
