/* SPDX-License-Identifier: Apache-2.0 */
#include "arbiter/gateway.h"

#include <errno.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "base/base64.h"
#include "base/cleanup.h"

/* gRPC's status codes (google.rpc.Code) that mean something here. */
enum {
	CODE_PERMISSION_DENIED = 7,
	CODE_UNAUTHENTICATED = 16,
};

/* ---- requests ---- */

static json_t *base64_json(const void *bytes, size_t len)
{
	_cleanup_(freep) char *text = malloc(BASE64_TEXT(len));

	if (!text)
		return NULL;
	base64_encode(bytes, len, text);
	return json_string(text);
}

static json_t *key_json(const char *key)
{
	return base64_json(key, strlen(key));
}

static json_t *number_json(uint64_t number)
{
	char text[24];

	snprintf(text, sizeof(text), "%" PRIu64, number);
	return json_string(text);
}

/* Takes `json`, which may be NULL. */
static char *text_of(json_t *json)
{
	char *text = json ? json_dumps(json, JSON_COMPACT) : NULL;

	json_decref(json);
	return text;
}

char *gateway_authenticate(const char *user, const char *password)
{
	return text_of(json_pack("{s:s, s:s}", "name", user, "password", password));
}

char *gateway_range(const char *key)
{
	return text_of(json_pack("{s:o}", "key", key_json(key)));
}

/* The revision of a key that is not there compares as 0: etcd 3.4, etcdserver/apply.go, applyCompare. */
char *gateway_swap(const char *key, uint64_t revision, const char *value, size_t len)
{
	return text_of(json_pack(
		"{s:[{s:o, s:s, s:s, s:o}], s:[{s:{s:o, s:o}}], s:[{s:{s:o}}]}", "compare", "key",
		key_json(key), "target", "MOD", "result", "EQUAL", "mod_revision",
		number_json(revision), "success", "request_put", "key", key_json(key), "value",
		base64_json(value, len), "failure", "request_range", "key", key_json(key)));
}

char *gateway_watch(const char *key, uint64_t from_revision)
{
	return text_of(json_pack("{s:{s:o, s:o}}", "create_request", "key", key_json(key),
				 "start_revision", number_json(from_revision)));
}

/* ---- answers ---- */

static json_t *parse(const char *text, size_t len)
{
	json_t *json = len <= LIMIT_ARBITER_ANSWER
			       ? json_loadb(text, len, JSON_REJECT_DUPLICATES, NULL)
			       : NULL;

	if (json_is_object(json))
		return json;
	json_decref(json);
	return NULL;
}

/* Decimal digits in their one spelling. */
static bool take_u64(const json_t *value, uint64_t max, uint64_t *ret_number)
{
	const char *text = json_string_value(value);
	size_t len = json_string_length(value);
	uint64_t number = 0;

	if (!text || len == 0 || strspn(text, "0123456789") != len || (text[0] == '0' && len > 1))
		return false;
	for (size_t i = 0; i < len; i++)
		if (__builtin_mul_overflow(number, 10, &number) ||
		    __builtin_add_overflow(number, (uint64_t)(text[i] - '0'), &number))
			return false;
	*ret_number = number;
	return number <= max;
}

static bool take_header(const json_t *json, struct gateway_header *ret_header)
{
	const json_t *header = json_object_get(json, "header");

	return take_u64(json_object_get(header, "cluster_id"), UINT64_MAX, &ret_header->cluster) &&
	       take_u64(json_object_get(header, "revision"), INT64_MAX, &ret_header->revision) &&
	       ret_header->revision > 0;
}

/* False: it is there and no boolean. One that is not there is false. */
static bool take_bool(const json_t *value, bool *ret_bool)
{
	*ret_bool = json_is_true(value);
	return !value || json_is_boolean(value);
}

/* False: it is no base64 of at most `size` bytes. An empty value is left out. */
static bool take_bytes(const json_t *value, void *ret_bytes, size_t size, size_t *ret_len)
{
	*ret_len = 0;
	if (!value)
		return true;
	return json_is_string(value) &&
	       base64_decode(json_string_value(value), json_string_length(value), ret_bytes, size,
			     ret_len) == 0;
}

static bool is_key(const json_t *value, const char *key)
{
	char bytes[128];
	size_t len;

	return take_bytes(value, bytes, sizeof(bytes), &len) && len == strlen(key) &&
	       memcmp(bytes, key, len) == 0;
}

/* Of an answer to a range for one key: none or one. */
static bool take_value(const json_t *range, const char *key, const struct gateway_header *header,
		       struct gateway_value *ret_value)
{
	const json_t *kvs = json_object_get(range, "kvs"), *kv = json_array_get(kvs, 0);

	*ret_value = (struct gateway_value){ 0 };
	if (!json_is_object(range) || (kvs && !json_is_array(kvs)) || json_array_size(kvs) > 1)
		return false;
	if (!kv)
		return true;
	ret_value->present = true;
	return is_key(json_object_get(kv, "key"), key) &&
	       take_u64(json_object_get(kv, "mod_revision"), header->revision,
			&ret_value->revision) &&
	       ret_value->revision > 0 &&
	       take_bytes(json_object_get(kv, "value"), ret_value->bytes, sizeof(ret_value->bytes),
			  &ret_value->len);
}

int gateway_read_range(const char *text, size_t len, const char *key,
		       struct gateway_header *ret_header, struct gateway_value *ret_value)
{
	json_auto_t *json = parse(text, len);
	struct gateway_header header;
	struct gateway_value value;

	if (!json || !take_header(json, &header) || !take_value(json, key, &header, &value))
		return -EBADMSG;
	*ret_header = header;
	*ret_value = value;
	return 0;
}

int gateway_read_swap(const char *text, size_t len, const char *key,
		      struct gateway_header *ret_header, bool *ret_succeeded,
		      struct gateway_value *ret_value)
{
	json_auto_t *json = parse(text, len);
	const json_t *responses = json_object_get(json, "responses");
	const json_t *response = json_array_get(responses, 0);
	struct gateway_header header;
	struct gateway_value value = { .present = true };
	bool succeeded;

	if (!json || !take_header(json, &header) ||
	    !take_bool(json_object_get(json, "succeeded"), &succeeded) ||
	    json_array_size(responses) != 1)
		return -EBADMSG;
	/* A branch was taken, and it is the one that `succeeded` says. */
	if (succeeded ? !json_is_object(json_object_get(response, "response_put"))
		      : !take_value(json_object_get(response, "response_range"), key, &header,
				    &value))
		return -EBADMSG;
	if (succeeded)
		value.revision = header.revision;
	*ret_header = header;
	*ret_succeeded = succeeded;
	*ret_value = value;
	return 0;
}

int gateway_read_token(const char *text, size_t len, char ret_token[LIMIT_ARBITER_TOKEN])
{
	json_auto_t *json = parse(text, len);
	const char *token = json_string_value(json_object_get(json, "token"));
	size_t n = token ? strlen(token) : 0;

	if (n == 0 || n >= LIMIT_ARBITER_TOKEN)
		return -EBADMSG;
	/* It becomes a line of our own requests. */
	for (size_t i = 0; i < n; i++)
		if (token[i] <= ' ' || token[i] > '~')
			return -EBADMSG;
	memcpy(ret_token, token, n + 1);
	return 0;
}

int gateway_read_news(const char *text, size_t len, enum gateway_news *ret_news)
{
	json_auto_t *json = parse(text, len);
	const json_t *result = json_object_get(json, "result");
	const json_t *events = json_object_get(result, "events");
	struct gateway_header header;
	bool canceled;

	if (json_is_object(json_object_get(json, "error"))) {
		*ret_news = GATEWAY_ENDED;
		return 0;
	}
	if (!take_header(result, &header) ||
	    !take_bool(json_object_get(result, "canceled"), &canceled) ||
	    (events && !json_is_array(events)))
		return -EBADMSG;
	*ret_news = canceled		      ? GATEWAY_ENDED
		    : json_array_size(events) ? GATEWAY_CHANGED
					      : GATEWAY_NOTHING;
	return 0;
}

void gateway_read_refusal(const char *text, size_t len, struct gateway_refusal *ret_refusal)
{
	json_auto_t *json = parse(text, len);
	const json_t *code = json_object_get(json, "code");
	const char *message = json_string_value(json_object_get(json, "error"));

	ret_refusal->code = -1;
	if (json_is_integer(code) && json_integer_value(code) >= 0 &&
	    json_integer_value(code) <= CODE_UNAUTHENTICATED)
		ret_refusal->code = (int)json_integer_value(code);
	snprintf(ret_refusal->message, sizeof(ret_refusal->message), "%s", message ? message : "");
}

/* Both are found out before the request is put to the others, or when it is applied and left undone: etcd 3.4,
 * etcdserver/v3_server.go (processInternalRaftRequestOnce) and auth/store.go (isOpPermitted). */
bool gateway_wants_token(const struct gateway_refusal *refusal)
{
	static const char *const others[] = {
		"etcdserver: revision of auth store is old",
		"etcdserver: user name is empty",
	};

	for (size_t i = 0; i < ARRAY_SIZE(others); i++)
		if (strcmp(refusal->message, others[i]) == 0)
			return true;
	return refusal->code == CODE_UNAUTHENTICATED;
}

bool gateway_forbids(const struct gateway_refusal *refusal)
{
	return refusal->code == CODE_PERMISSION_DENIED;
}
