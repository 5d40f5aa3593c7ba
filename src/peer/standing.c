/* SPDX-License-Identifier: Apache-2.0 */
#include "peer/standing.h"

#include <errno.h>
#include <string.h>

#include "api/client.h"
#include "base/cleanup.h"
#include "base/hex.h"
#include "host/runtime.h"

DEFINE_CLEANUP(struct api_connection, api_connection_free, connectionp)

static bool take_text(const json_t *json, const char *key, char *ret_text, size_t size)
{
	const char *text = json_string_value(json_object_get(json, key));

	return text && snprintf(ret_text, size, "%s", text) < (int)size;
}

static bool take_mark(const json_t *facts, struct mark_given *ret_mark)
{
	const json_t *given = json_object_get(facts, "given");
	const json_int_t generation = json_integer_value(json_object_get(given, "generation"));
	const json_int_t wall_ns = json_integer_value(json_object_get(given, "time"));
	char token[2 * MARK_TOKEN_BYTES + 1];

	if (generation < 0 || wall_ns < 0)
		return false;
	*ret_mark = (struct mark_given){ .generation = (uint64_t)generation,
					 .wall_ns = (uint64_t)wall_ns };
	return take_text(facts, "name", ret_mark->name, sizeof(ret_mark->name)) &&
	       take_text(facts, "uuid", ret_mark->uuid, sizeof(ret_mark->uuid)) &&
	       take_text(given, "peer", ret_mark->peer, sizeof(ret_mark->peer)) &&
	       take_text(given, "token", token, sizeof(token)) &&
	       hex_decode(token, ret_mark->token, MARK_TOKEN_BYTES);
}

static int take(const char *name, const json_t *facts, struct standing *ret_standing,
		struct error *err)
{
	static const char *const giving[] = { "logging", "stopping", "stopped", "given" };
	const char *stage = json_string_value(json_object_get(facts, "stage"));

	*ret_standing = (struct standing){ 0 };
	for (size_t i = 0; stage && i < ARRAY_SIZE(giving); i++)
		ret_standing->may_give |= strcmp(stage, giving[i]) == 0;
	ret_standing->given = stage && strcmp(stage, "given") == 0;
	/* A process of an older program does not tell the mark. */
	if (stage && (!ret_standing->given || take_mark(facts, &ret_standing->mark)))
		return 1;
	return error_set(err, -EPROTO, EXIT_STATUS_FAILED,
			 "%s: its process does not tell to whom it was given", name);
}

int standing_ask(const char *name, struct standing *ret_standing, struct error *err)
{
	_cleanup_(connectionp) struct api_connection *connection = NULL;
	json_auto_t *facts = NULL;
	int r = runtime_alive(name);

	if (r <= 0)
		return r < 0 ? error_set(
				       err, r, EXIT_STATUS_HOST,
				       "%s: it cannot be told whether its process is here: %s; put "
				       "its place in the runtime directory in order",
				       name, strerror(-r))
			     : 0;
	r = api_connect(name, &connection, err);
	if (r == 0)
		r = api_call(connection, json_pack("{s:s}", "command", "move-facts"), &facts, err);
	return r < 0 ? r : take(name, facts, ret_standing, err);
}
