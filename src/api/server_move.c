/* SPDX-License-Identifier: Apache-2.0 */

/* A mover's requests. Each is one function of move/guest/guest.h, done at once; only the end of a stop comes later, as an event. */

#include <errno.h>

#include "api/config.h"
#include "api/server_internal.h"
#include "base/cleanup.h"
#include "base/hex.h"
#include "vm/save.h"

static struct move_guest *guest_of(const struct api_client *client)
{
	return client->server->ops->move_guest(client->server->vm);
}

static const struct api_move_ops *ops_of(const struct api_client *client)
{
	return client->server->ops->move;
}

static json_t *banks_json(const struct memory *memory)
{
	json_t *banks = json_array();

	for (size_t i = 0; i < memory->n_banks; i++)
		json_array_append_new(banks, json_pack("{s:I, s:I, s:I}", "start",
						       (json_int_t)memory->banks[i].start.v, "len",
						       (json_int_t)memory->banks[i].len, "offset",
						       (json_int_t)memory->banks[i].offset));
	return banks;
}

/* Whoever may ask may read the mark itself: where that is damaged, this is what it said. */
static json_t *given_json(const struct mark_given *given)
{
	char token[2 * MARK_TOKEN_BYTES + 1];

	hex_encode(given->token, MARK_TOKEN_BYTES, token);
	return json_pack("{s:s, s:I, s:s, s:I}", "peer", given->peer, "generation",
			 (json_int_t)given->generation, "token", token, "time",
			 (json_int_t)given->wall_ns);
}

static int do_facts(struct api_client *client, const struct api_request *request _unused_,
		    json_t **ret_reply, struct error *err)
{
	const struct vm_config *config = client->server->config;
	const struct memory *memory = ops_of(client)->memory(guest_of(client));
	json_auto_t *described = schema_encode_json(&config_schema, config);
	json_t *hugepages = json_object_get(json_object_get(described, "memory"), "hugepages");
	const struct mark_given *given = ops_of(client)->mark(guest_of(client));

	*ret_reply = json_pack("{s:b, s:s, s:s, s:s, s:O, s:I, s:O, s:o, s:s, s:I, s:i, s:i, s:b}",
			       "ok", 1, "name", config->name, "version", UTSUSU_VERSION, "uuid",
			       config->uuid, "config", described, "ram_bytes",
			       (json_int_t)memory->size, "hugepages", hugepages, "banks",
			       banks_json(memory), "stage", ops_of(client)->stage(guest_of(client)),
			       "lacks", (json_int_t)ops_of(client)->lacks(guest_of(client)),
			       "state_min", VM_STATE_VERSION_MIN, "state_max", VM_STATE_VERSION,
			       "demand", (int)ops_of(client)->can_demand(guest_of(client)));
	if (*ret_reply && given)
		json_object_set_new(*ret_reply, "given", given_json(given));
	if (*ret_reply)
		return 0;
	return error_set(err, -ENOMEM, EXIT_STATUS_HOST, "move-facts: out of memory; free some");
}

json_t *problems_json(const struct problems *problems)
{
	json_t *list = json_array();

	for (size_t i = 0; i < problems->count; i++)
		json_array_append_new(list, error_body_json(&problems->list[i]));
	return json_pack("{s:b, s:o}", "ok", 1, "problems", list);
}

static int do_check(struct api_client *client, const struct api_request *request _unused_,
		    json_t **ret_reply, struct error *err _unused_)
{
	struct problems problems = { 0 };

	ops_of(client)->check(guest_of(client), &problems);
	*ret_reply = problems_json(&problems);
	return 0;
}

static int do_check_upgrade(struct api_client *client, const struct api_request *request _unused_,
			    json_t **ret_reply, struct error *err _unused_)
{
	struct problems problems = { 0 };

	ops_of(client)->check_upgrade(guest_of(client), &problems);
	*ret_reply = problems_json(&problems);
	return 0;
}

int client_take_fds(struct api_client *client, const struct api_request *request, size_t due,
		    int ret_fds[API_REQUEST_FDS], struct error *err)
{
	if (client->n_fds != due)
		return error_set(
			err, -EINVAL, EXIT_STATUS_USAGE,
			"%s: %zu descriptors came with it, %zu are due; send them with its "
			"line",
			api_commands[request->command].name, client->n_fds, due);
	client->n_fds = 0;
	for (size_t i = 0; i < API_REQUEST_FDS; i++)
		ret_fds[i] = i < due ? client->fds[i] : -1;
	return 0;
}

static int do_begin(struct api_client *client, const struct api_request *request,
		    json_t **ret_reply _unused_, struct error *err)
{
	int fds[API_REQUEST_FDS] = { -1, -1 };
	/* The shared file and, where one is due, the mark. */
	int r = client_take_fds(client, request, request->move.mark ? 2 : 1, fds, err);

	return r < 0 ? r
		     : ops_of(client)->begin(guest_of(client), client, request->move.token, fds[0],
					     fds[1], err);
}

static int do_arrive(struct api_client *client, const struct api_request *request,
		     json_t **ret_reply _unused_, struct error *err)
{
	int fds[API_REQUEST_FDS] = { -1, -1 };
	int r = client_take_fds(client, request, request->move.mark ? 2 : 1, fds, err);

	return r < 0 ? r
		     : ops_of(client)->arrive(guest_of(client), client, request->move.token, fds[0],
					      fds[1], err);
}

static int do_collect(struct api_client *client, const struct api_request *request _unused_,
		      json_t **ret_reply, struct error *err)
{
	uint64_t pages;
	int r = ops_of(client)->collect(guest_of(client), client, &pages, err);

	if (r == 0)
		*ret_reply = json_pack("{s:b, s:I}", "ok", 1, "pages", (json_int_t)pages);
	return r;
}

static int do_log_disk(struct api_client *client, const struct api_request *request,
		       json_t **ret_reply _unused_, struct error *err)
{
	int fds[API_REQUEST_FDS] = { -1, -1 }, r = client_take_fds(client, request, 1, fds, err);

	return r < 0 ? r
		     : ops_of(client)->log_disk(guest_of(client), client, request->move.disk,
						fds[0], err);
}

static int do_throttle(struct api_client *client, const struct api_request *request,
		       json_t **ret_reply _unused_, struct error *err)
{
	return ops_of(client)->throttle(guest_of(client), client, request->move.percent, err);
}

static int do_stop(struct api_client *client, const struct api_request *request,
		   json_t **ret_reply _unused_, struct error *err)
{
	return ops_of(client)->stop(guest_of(client), client, request->move.deadline_ms, err);
}

static int do_save(struct api_client *client, const struct api_request *request, json_t **ret_reply,
		   struct error *err)
{
	uint64_t len;
	int r = ops_of(client)->save(guest_of(client), client, (uint16_t)request->move.version,
				     &len, err);

	if (r == 0)
		*ret_reply = json_pack("{s:b, s:I}", "ok", 1, "len", (json_int_t)len);
	return r;
}

static int do_cancel(struct api_client *client, const struct api_request *request _unused_,
		     json_t **ret_reply _unused_, struct error *err)
{
	return ops_of(client)->cancel(guest_of(client), client, err);
}

static int do_given(struct api_client *client, const struct api_request *request,
		    json_t **ret_reply _unused_, struct error *err)
{
	return ops_of(client)->given(guest_of(client), client, request->move.peer,
				     request->move.generation, err);
}

static int do_abandon(struct api_client *client, const struct api_request *request _unused_,
		      json_t **ret_reply _unused_, struct error *err)
{
	return ops_of(client)->abandon(guest_of(client), err);
}

static int do_never(struct api_client *client, const struct api_request *request,
		    json_t **ret_reply _unused_, struct error *err)
{
	return ops_of(client)->never(guest_of(client), request->move.token, err);
}

static int do_ran(struct api_client *client, const struct api_request *request,
		  json_t **ret_reply _unused_, struct error *err)
{
	return ops_of(client)->ran(guest_of(client), request->move.token, request->move.peer, err);
}

static int do_load(struct api_client *client, const struct api_request *request,
		   json_t **ret_reply _unused_, struct error *err)
{
	const struct api_move_request *move = &request->move;

	return ops_of(client)->load(guest_of(client), client, move->len, move->stopped_ns,
				    move->rehearse, err);
}

static int do_renew(struct api_client *client, const struct api_request *request _unused_,
		    json_t **ret_reply _unused_, struct error *err)
{
	return ops_of(client)->renew(guest_of(client), client, err);
}

static int do_announce(struct api_client *client, const struct api_request *request _unused_,
		       json_t **ret_reply _unused_, struct error *err)
{
	return ops_of(client)->announce(guest_of(client), client, err);
}

static int do_demand(struct api_client *client, const struct api_request *request,
		     json_t **ret_reply _unused_, struct error *err)
{
	int fds[API_REQUEST_FDS] = { -1, -1 };
	int r = client_take_fds(client, request, 1, fds, err);

	return r < 0 ? r : ops_of(client)->demand(guest_of(client), client, fds[0], err);
}

static int do_filled(struct api_client *client, const struct api_request *request _unused_,
		     json_t **ret_reply _unused_, struct error *err)
{
	return ops_of(client)->filled(guest_of(client), client, err);
}

static int do_wait(struct api_client *client, const struct api_request *request,
		   json_t **ret_reply _unused_, struct error *err)
{
	return ops_of(client)->wait(guest_of(client), client, request->move.stand, err);
}

static int do_commit(struct api_client *client, const struct api_request *request _unused_,
		     json_t **ret_reply, struct error *err)
{
	bool ran;
	int r = ops_of(client)->commit(guest_of(client), client, &ran, err);

	if (r == 0)
		*ret_reply = json_pack("{s:b, s:b}", "ok", 1, "ran", (int)ran);
	return r;
}

static int do_hand_over(struct api_client *client, const struct api_request *request,
			json_t **ret_reply _unused_, struct error *err)
{
	int fds[API_REQUEST_FDS] = { -1, -1, -1 };
	int r = client_take_fds(client, request, 3, fds, err);

	return r < 0 ? r
		     : ops_of(client)->hand_over(guest_of(client), client, request->move.token,
						 fds[0], fds[1], fds[2], err);
}

static int do_give(struct api_client *client, const struct api_request *request,
		   json_t **ret_reply _unused_, struct error *err)
{
	return ops_of(client)->give(guest_of(client), client, request->move.deadline_ms,
				    (uint16_t)request->move.version, err);
}

static int do_inherit(struct api_client *client, const struct api_request *request,
		      json_t **ret_reply _unused_, struct error *err)
{
	int fds[API_REQUEST_FDS] = { -1, -1 };
	int r = client_take_fds(client, request, 2, fds, err);

	return r < 0 ? r
		     : ops_of(client)->inherit(guest_of(client), client, request->move.token,
					       fds[0], fds[1], err);
}

static int do_take(struct api_client *client, const struct api_request *request, json_t **ret_reply,
		   struct error *err)
{
	const struct api_move_request *move = &request->move;
	uint64_t ran_ns = 0;
	bool ran;
	int r = ops_of(client)->take(guest_of(client), client, move->len, move->moment_ns, &ran,
				     &ran_ns, err);

	if (r == 0)
		*ret_reply = json_pack("{s:b, s:b, s:I}", "ok", 1, "ran", (int)ran, "ran_ns",
				       (json_int_t)ran_ns);
	return r;
}

const command_fn move_command_fns[API_COMMANDS] = {
	[API_MOVE_FACTS] = do_facts,
	[API_MOVE_CHECK] = do_check,
	[API_MOVE_BEGIN] = do_begin,
	[API_MOVE_COLLECT] = do_collect,
	[API_MOVE_LOG_DISK] = do_log_disk,
	[API_MOVE_THROTTLE] = do_throttle,
	[API_MOVE_STOP] = do_stop,
	[API_MOVE_SAVE] = do_save,
	[API_MOVE_CANCEL] = do_cancel,
	[API_MOVE_GIVEN] = do_given,
	[API_MOVE_NEVER] = do_never,
	[API_MOVE_RAN] = do_ran,
	[API_ARRIVE_BEGIN] = do_arrive,
	[API_ARRIVE_LOAD] = do_load,
	[API_ARRIVE_ANNOUNCE] = do_announce,
	[API_ARRIVE_RENEW] = do_renew,
	[API_ARRIVE_DEMAND] = do_demand,
	[API_ARRIVE_FILLED] = do_filled,
	[API_ARRIVE_ABANDON] = do_abandon,
	[API_ARRIVE_COMMIT] = do_commit,
	[API_UPGRADE_CHECK] = do_check_upgrade,
	[API_HANDOVER_BEGIN] = do_hand_over,
	[API_HANDOVER_GIVE] = do_give,
	[API_INHERIT_BEGIN] = do_inherit,
	[API_INHERIT_TAKE] = do_take,
	[API_ARRIVE_WAIT] = do_wait,
};

static json_t *stopped_json(uint64_t stopped_ns, const struct error *err)
{
	return err ? json_pack("{s:s, s:o}", "event", "move-stopped", "error", error_body_json(err))
		   : json_pack("{s:s, s:I}", "event", "move-stopped", "stopped_ns",
			       (json_int_t)stopped_ns);
}

void api_server_move_stopped(struct api_server *server, const void *client, uint64_t stopped_ns,
			     const struct error *err)
{
	server_tell_client(server, client, stopped_json(stopped_ns, err));
}

static json_t *gift_json(const struct move_gift *gift, const struct error *err)
{
	return err ? json_pack("{s:s, s:o}", "event", "handover-given", "error",
			       error_body_json(err))
		   : json_pack("{s:s, s:I, s:I, s:I}", "event", "handover-given", "len",
			       (json_int_t)gift->state_len, "moment_ns",
			       (json_int_t)gift->moment_ns, "stopped_at_ns",
			       (json_int_t)gift->stopped_at_ns);
}

void api_server_given(struct api_server *server, const void *client, const struct move_gift *gift,
		      const struct error *err)
{
	server_tell_client(server, client, gift_json(gift, err));
}
