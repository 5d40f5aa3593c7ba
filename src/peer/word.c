/* SPDX-License-Identifier: Apache-2.0 */
#include "peer/word.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>

#include "api/client.h"
#include "base/cleanup.h"
#include "peer/door.h"
#include "peer/manual.h"

DEFINE_CLEANUP(struct api_connection, api_connection_free, connectionp)

static bool says(const json_t *facts, const char *key, const char *text)
{
	const char *value = json_string_value(json_object_get(facts, key));

	return value && strcmp(value, text) == 0;
}

static int ask(const char *name, const char *command, json_t **ret_answer, struct error *err)
{
	_cleanup_(connectionp) struct api_connection *connection = NULL;
	int r = api_connect(name, &connection, err);

	return r < 0 ? r
		     : api_call(connection, json_pack("{s:s}", "command", command), ret_answer,
				err);
}

/* The VM's process here waits for just this. */
static int judge(const struct control_request *request, const json_t *facts, struct error *err)
{
	const bool owner = request->said.says == MANUAL_BACKUP_IS_DEAD;
	const char *name = request->name;

	if (!json_is_true(json_object_get(facts, "manual")))
		return error_set(err, -EINVAL, EXIT_STATUS_USAGE,
				 "%s: no word is needed: an arbiter decides; see utsusu status %s",
				 name, name);
	if (owner ? says(facts, "role", "protected") &&
			    (says(facts, "wants", "solo") || says(facts, "wants", "stopped"))
		  : says(facts, "role", "backs-up") && says(facts, "wants", "claimed"))
		return 0;
	if (json_is_true(json_object_get(facts, "guard")))
		return error_set(err, -EBUSY, EXIT_STATUS_BUSY,
				 "%s: the other side is heard, so it is not dead; see utsusu "
				 "status %s",
				 name, name);
	return error_set(err, -EINVAL, EXIT_STATUS_USAGE,
			 "%s: waits for no such word here; see utsusu status %s", name, name);
}

/* What stands here, and of exactly the generation that the person saw. */
static int judge_record(const struct control_request *request, int state_fd, const char *uuid,
			const json_t *facts, struct ownership_record *ret_record, struct error *err)
{
	struct manual_records records;
	int r = manual_read(state_fd, uuid, &records, err);

	if (r < 0)
		return r;
	*ret_record = manual_last(&records);
	if (ret_record->mode == OWNERSHIP_PROTECTED &&
	    ret_record->generation == request->said.generation &&
	    json_integer_value(json_object_get(facts, "generation")) ==
		    (json_int_t)ret_record->generation)
		return 0;
	return error_set(err, -ESTALE, EXIT_STATUS_BUSY,
			 "%s: its record has changed meanwhile: %s, generation %llu; see utsusu "
			 "status %s, and say it again if it still is so",
			 request->name, ownership_mode_name(ret_record->mode),
			 (unsigned long long)ret_record->generation, request->name);
}

static void sign(struct manual_word *word, int client)
{
	struct ucred who = { .uid = (uid_t)-1 };
	socklen_t len = sizeof(who);

	(void)getsockopt(client, SOL_SOCKET, SO_PEERCRED, &who, &len);
	snprintf(word->who, sizeof(word->who), "uid %u", (unsigned int)who.uid);
	word->time = (int64_t)time(NULL);
}

static int take(struct peer_host *host, const struct control_request *request, int client,
		struct error *err)
{
	struct manual_word said = { .says = request->said.says };
	json_auto_t *facts = NULL;
	json_auto_t *more = NULL;
	struct ownership_record record = { 0 };
	const char *uuid;
	int r = ask(request->name, "protect-facts", &facts, err);

	if (r == 0)
		r = judge(request, facts, err);
	if (r == 0)
		r = ask(request->name, "move-facts", &more, err);
	uuid = json_string_value(json_object_get(more, "uuid"));
	if (r == 0 && (!uuid || !uuid_valid(uuid)))
		r = error_set(err, -EPROTO, EXIT_STATUS_FAILED, "%s: does not say who it is",
			      request->name);
	if (r == 0)
		r = judge_record(request, host->state_fd, uuid, facts, &record, err);
	if (r < 0)
		return r;
	said.generation = record.generation;
	said.owner = record.owner;
	sign(&said, client);
	r = manual_write_word(host->state_fd, uuid, &said);
	if (r < 0)
		return error_set(err, r, EXIT_STATUS_HOST, "%s: the word cannot be noted: %s",
				 request->name, strerror(-r));
	log_line(host->log, LOG_LEVEL_WARNING, "%s: by the word of %s, of generation %llu: %s",
		 request->name, said.who, (unsigned long long)said.generation,
		 manual_says_names[said.says]);
	return 0;
}

void word(struct peer_host *host, const struct control_request *request, int client)
{
	struct error err = { 0 };

	if (take(host, request, client, &err) == 0) {
		json_auto_t *answer = json_pack("{s:b}", "ok", 1);

		door_answer(client, answer);
	} else {
		door_refuse(client, &err);
	}
}
