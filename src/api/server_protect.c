/* SPDX-License-Identifier: Apache-2.0 */

/* What guards, relays and users ask of a VM's protection. Each is one function of protect/guest/guest.h, done at once. */

#include <errno.h>
#include <string.h>

#include "api/server_internal.h"
#include "base/hex.h"
#include "protect/record.h"

#define ID_TEXT (2 * OWNERSHIP_ID_BYTES + 1)

static struct protect_guest *guest_of(const struct api_client *client)
{
	return client->server->ops->protect_guest(client->server->vm);
}

static const struct api_protect_ops *ops_of(const struct api_client *client)
{
	return client->server->ops->protect;
}

static void set_id(json_t *json, const char *key, const struct ownership_id *id)
{
	char text[ID_TEXT];

	hex_encode(id->bytes, sizeof(id->bytes), text);
	json_object_set_new(json, key, json_string(text));
}

static void set_number(json_t *json, const char *key, uint64_t number)
{
	json_object_set_new(json, key, json_integer((json_int_t)MIN(number, (uint64_t)INT64_MAX)));
}

/* ---- facts ---- */

static void add_ownership(json_t *json, const struct protect_facts *facts)
{
	static const struct ownership nothing = { .role = OWNERSHIP_STARTS };
	const struct ownership *ownership = facts->ownership ? facts->ownership : &nothing;
	const struct ownership_record *record = &ownership->record;

	json_object_set_new(json, "role",
			    json_string(facts->ownership ? ownership_role_name(ownership->role)
							 : "none"));
	json_object_set_new(json, "mode", json_string(ownership_mode_name(record->mode)));
	set_number(json, "generation", record->generation);
	set_number(json, "revision", record->revision);
	set_id(json, "session", &ownership->session);
	set_id(json, "instance", &facts->me);
	json_object_set_new(json, "foreign", json_boolean(facts->foreign));
	json_object_set_new(json, "gated", json_boolean(ownership->gated));
	set_number(json, "cut", ownership->cut);
	set_number(json, "acked", ownership->acked);
}

static void add_figures(json_t *json, const struct protect_facts *facts)
{
	set_number(json, "released", facts->released);
	set_number(json, "held_items", facts->held.items);
	set_number(json, "held_bytes", facts->held.bytes);
	set_number(json, "hold_p50_ns", hold_counts_time(&facts->held, 500));
	set_number(json, "hold_p99_ns", hold_counts_time(&facts->held, 990));
	set_number(json, "epochs", facts->epochs);
	set_number(json, "pages", facts->last_pages);
	set_number(json, "state_len", facts->last_state_len);
	set_number(json, "last_pause_ns", facts->last_pause_ns);
	set_number(json, "pause_p50_ns", facts->pause_p50_ns);
	set_number(json, "pause_p99_ns", facts->pause_p99_ns);
	set_number(json, "disks", facts->disks);
}

static int do_facts(struct api_client *client, const struct api_request *request _unused_,
		    json_t **ret_reply, struct error *err)
{
	struct protect_facts facts;
	json_t *json;

	ops_of(client)->facts(guest_of(client), &facts);
	json = json_pack("{s:b, s:b, s:b, s:s, s:s}", "ok", 1, "relay", (int)facts.relay, "guard",
			 (int)facts.guard, "peer", facts.peer, "waits_for", facts.waits_for);
	if (!json)
		return error_set(err, -ENOMEM, EXIT_STATUS_HOST,
				 "protect-facts: out of memory; free some");
	json_object_set_new(json, "manual", json_boolean(facts.by_hand));
	json_object_set_new(json, "wants",
			    json_string(facts.wants ? ownership_mode_name(facts.wants) : ""));
	add_ownership(json, &facts);
	add_figures(json, &facts);
	*ret_reply = json;
	return 0;
}

static int do_check(struct api_client *client, const struct api_request *request _unused_,
		    json_t **ret_reply, struct error *err _unused_)
{
	struct problems problems = { 0 };

	ops_of(client)->check(guest_of(client), &problems);
	*ret_reply = problems_json(&problems);
	return 0;
}

/* ---- owner ---- */

static uint64_t generation_of(const struct api_client *client, struct ownership_id *ret_me)
{
	struct protect_facts facts;

	ops_of(client)->facts(guest_of(client), &facts);
	*ret_me = facts.me;
	return facts.ownership ? facts.ownership->record.generation : 0;
}

static int do_begin(struct api_client *client, const struct api_request *request,
		    json_t **ret_reply, struct error *err)
{
	const struct api_protect_request *protect = &request->protect;
	int fds[API_REQUEST_FDS] = { -1, -1 };
	struct ownership_id me;
	uint64_t cut;
	int r = client_take_fds(client, request, protect->ring ? 2 : 1, fds, err);

	if (r == 0)
		r = ops_of(client)->begin(guest_of(client), client, &protect->session,
					  protect->peer, fds[0], fds[1], &cut, err);
	if (r < 0)
		return r;
	*ret_reply = json_pack("{s:b, s:I, s:I}", "ok", 1, "cut", (json_int_t)cut, "generation",
			       (json_int_t)generation_of(client, &me));
	set_id(*ret_reply, "instance", &me);
	return 0;
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

static int do_gate(struct api_client *client, const struct api_request *request _unused_,
		   json_t **ret_reply _unused_, struct error *err)
{
	return ops_of(client)->gate(guest_of(client), client, err);
}

/* null: there is none. */
static json_t *encode_record(const struct ownership_record *record)
{
	char text[LIMIT_OWNERSHIP_RECORD];
	json_t *json;
	size_t len;

	if (record_encode(record, text, &len) < 0)
		return json_null();
	json = json_loadb(text, len, 0, NULL);
	set_number(json, "revision", record->revision);
	return json;
}

/* "Not now" is an answer, no error. */
static int do_cut(struct api_client *client, const struct api_request *request, json_t **ret_reply,
		  struct error *err)
{
	struct protect_cut cut;
	int r = ops_of(client)->cut(guest_of(client), client, request->protect.epoch, &cut, err);

	if (r == -EAGAIN) {
		*ret_reply = json_pack("{s:b, s:b}", "ok", 1, "later", 1);
		return 0;
	}
	if (r == 0)
		*ret_reply =
			json_pack("{s:b, s:I, s:I, s:I, s:I, s:I, s:I}", "ok", 1, "pages",
				  (json_int_t)cut.pages, "state_len", (json_int_t)cut.state_len,
				  "ring_end", (json_int_t)cut.ring_end, "released",
				  (json_int_t)cut.released, "generation",
				  (json_int_t)cut.generation, "pause_ns", (json_int_t)cut.pause_ns);
	if (r == 0 && cut.by_hand)
		json_object_set_new(*ret_reply, "record", encode_record(&cut.record));
	return r;
}

static int do_acked(struct api_client *client, const struct api_request *request,
		    json_t **ret_reply _unused_, struct error *err)
{
	const struct api_protect_request *protect = &request->protect;

	return ops_of(client)->acked(guest_of(client), &protect->session, protect->epoch,
				     protect->at_ns, err);
}

static int do_end(struct api_client *client, const struct api_request *request,
		  json_t **ret_reply _unused_, struct error *err)
{
	return ops_of(client)->end(guest_of(client), client, request->protect.why, err);
}

static int do_off(struct api_client *client, const struct api_request *request _unused_,
		  json_t **ret_reply _unused_, struct error *err)
{
	return ops_of(client)->off(guest_of(client), err);
}

static int do_failover(struct api_client *client, const struct api_request *request _unused_,
		       json_t **ret_reply _unused_, struct error *err)
{
	return ops_of(client)->failover(guest_of(client), err);
}

/* ---- backup ---- */

static int do_back_up(struct api_client *client, const struct api_request *request,
		      json_t **ret_reply _unused_, struct error *err)
{
	return ops_of(client)->back_up(guest_of(client), client, &request->protect.session,
				       request->protect.peer, err);
}

static int do_whole(struct api_client *client, const struct api_request *request,
		    json_t **ret_reply, struct error *err)
{
	bool ack;
	int r = ops_of(client)->whole(guest_of(client), client, request->protect.epoch, &ack, err);

	if (r == 0)
		*ret_reply = json_pack("{s:b, s:b}", "ok", 1, "ack", (int)ack);
	return r;
}

static int do_suspect(struct api_client *client, const struct api_request *request,
		      json_t **ret_reply, struct error *err)
{
	bool prepare;
	int r = ops_of(client)->suspect(guest_of(client), client, request->protect.why, &prepare,
					err);

	if (r == 0)
		*ret_reply = json_pack("{s:b, s:b}", "ok", 1, "prepare", (int)prepare);
	return r;
}

static int do_prepared(struct api_client *client, const struct api_request *request _unused_,
		       json_t **ret_reply _unused_, struct error *err)
{
	return ops_of(client)->prepared(guest_of(client), client, err);
}

static int do_apply(struct api_client *client, const struct api_request *request,
		    json_t **ret_reply _unused_, struct error *err)
{
	return ops_of(client)->apply(guest_of(client), client, request->protect.len,
				     request->protect.stopped_ns, err);
}

static int do_failed(struct api_client *client, const struct api_request *request,
		     json_t **ret_reply _unused_, struct error *err)
{
	return ops_of(client)->failed(guest_of(client), client, request->protect.why, err);
}

/* ---- relay ---- */

static int do_attach(struct api_client *client, const struct api_request *request,
		     json_t **ret_reply, struct error *err)
{
	const struct api_protect_request *protect = &request->protect;
	struct ownership_id me;
	int r = ops_of(client)->attach(guest_of(client), client, &protect->record, &protect->dead,
				       &me, err);

	if (r < 0)
		return r;
	ops_of(client)->by_hand(guest_of(client), client, protect->by_hand, "");
	*ret_reply = json_pack("{s:b}", "ok", 1);
	set_id(*ret_reply, "instance", &me);
	return 0;
}

static int do_swapped(struct api_client *client, const struct api_request *request,
		      json_t **ret_reply _unused_, struct error *err)
{
	static const enum ownership_event_kind kinds[] = {
		[API_SWAP_UNKNOWN] = WHEN_UNKNOWN,
		[API_SWAP_WON] = WHEN_WON,
		[API_SWAP_LOST] = WHEN_LOST,
	};

	int r = ops_of(client)->swapped(guest_of(client), client, kinds[request->protect.outcome],
					&request->protect.record, err);

	if (r == 0 && request->protect.why[0])
		ops_of(client)->by_hand(guest_of(client), client, true, request->protect.why);
	return r;
}

static int do_stands(struct api_client *client, const struct api_request *request,
		     json_t **ret_reply _unused_, struct error *err)
{
	return ops_of(client)->stands(guest_of(client), client, &request->protect.record, err);
}

/* ---- without etcd ---- */

static int do_give(struct api_client *client, const struct api_request *request _unused_,
		   json_t **ret_reply _unused_, struct error *err)
{
	return ops_of(client)->give(guest_of(client), client, err);
}

static int do_ended(struct api_client *client, const struct api_request *request,
		    json_t **ret_reply _unused_, struct error *err)
{
	return ops_of(client)->ended(guest_of(client), &request->protect.session, err);
}

static int do_record(struct api_client *client, const struct api_request *request,
		     json_t **ret_reply _unused_, struct error *err)
{
	return ops_of(client)->record(guest_of(client), client, &request->protect.record, err);
}

const command_fn protect_command_fns[API_COMMANDS] = {
	[API_PROTECT_FACTS] = do_facts,	   [API_PROTECT_CHECK] = do_check,
	[API_PROTECT_BEGIN] = do_begin,	   [API_PROTECT_COLLECT] = do_collect,
	[API_PROTECT_GATE] = do_gate,	   [API_PROTECT_CUT] = do_cut,
	[API_PROTECT_ACKED] = do_acked,	   [API_PROTECT_END] = do_end,
	[API_PROTECT_OFF] = do_off,	   [API_PROTECT_FAILOVER] = do_failover,
	[API_BACKUP_BEGIN] = do_back_up,   [API_BACKUP_WHOLE] = do_whole,
	[API_BACKUP_SUSPECT] = do_suspect, [API_BACKUP_PREPARED] = do_prepared,
	[API_BACKUP_APPLY] = do_apply,	   [API_BACKUP_FAILED] = do_failed,
	[API_ARBITER_ATTACH] = do_attach,  [API_ARBITER_SWAPPED] = do_swapped,
	[API_ARBITER_STANDS] = do_stands,  [API_PROTECT_GIVE] = do_give,
	[API_PROTECT_ENDED] = do_ended,	   [API_BACKUP_RECORD] = do_record,
};

/* ---- what the VM tells ---- */

void api_server_swap(struct api_server *server, const void *client,
		     const struct ownership_record *want)
{
	char text[LIMIT_OWNERSHIP_RECORD];
	struct error err = { 0 };
	json_t *record;
	size_t len;

	/* The function asks for none such; and it would wait for the answer for ever. */
	if (record_encode(want, text, &len) < 0) {
		(void)!server->ops->protect->swapped(server->ops->protect_guest(server->vm), client,
						     WHEN_UNKNOWN, want, &err);
		return;
	}
	record = json_loadb(text, len, 0, NULL);
	set_number(record, "revision", want->revision);
	server_tell_client(server, client,
			   json_pack("{s:s, s:o}", "event", "arbiter-swap", "want", record));
}

void api_server_tell_relay(struct api_server *server, const void *client, const char *what,
			   const struct ownership_record *record)
{
	server_tell_client(server, client,
			   json_pack("{s:s, s:o}", "event", what, "record", encode_record(record)));
}

void api_server_tell_guard(struct api_server *server, const void *client, const char *what,
			   bool ran, const char *why)
{
	json_t *event = json_pack("{s:s}", "event", what);

	if (strcmp(what, "backup-over") == 0)
		json_object_set_new(event, "ran", json_boolean(ran));
	json_object_set_new(event, "why", json_string(why));
	server_tell_client(server, client, event);
}
