/* SPDX-License-Identifier: Apache-2.0 */

/* What a client of the VM's socket asks for, but for movers (server_move.c). */

#include <errno.h>
#include <unistd.h>
#include <x86intrin.h>

#include "api/config.h"
#include "api/server_internal.h"

#define PRESS_AGAIN_NS NSEC_PER_SEC /* a guest that boots does not hear its power button at first */

const char *api_vm_state_name(enum api_vm_state state)
{
	static const char *const names[] = {
		[API_VM_STARTING] = "starting", [API_VM_RUNNING] = "running",
		[API_VM_PAUSED] = "paused",	[API_VM_STOPPING] = "stopping",
		[API_VM_ARRIVING] = "arriving", [API_VM_GIVEN] = "given",
	};

	return names[state];
}

json_t *number_json(uint64_t number)
{
	return json_sprintf("0x%llx", (unsigned long long)number);
}

static json_t *status_json(const struct api_server *server)
{
	struct api_vm_status status = { 0 };

	server->ops->status(server->vm, &status);
	return json_pack("{s:b, s:s, s:s, s:i, s:I, s:I, s:s*, s:s*, s:s*, s:s*, s:s*}", "ok", 1,
			 "name", server->config->name, "state", api_vm_state_name(status.state),
			 "pid", (int)getpid(), "uptime_ms", (json_int_t)status.uptime_ms,
			 "memory_populated", (json_int_t)status.memory_populated, "console",
			 status.console[0] ? status.console : NULL, "paused_by", status.paused_by,
			 "given_to", status.given_to, "watched", status.watched, "protection",
			 status.protection);
}

static int do_status(struct api_client *client, const struct api_request *request _unused_,
		     json_t **ret_reply, struct error *err _unused_)
{
	*ret_reply = status_json(client->server);
	return 0;
}

static int do_info(struct api_client *client, const struct api_request *request _unused_,
		   json_t **ret_reply, struct error *err)
{
	json_auto_t *reply = status_json(client->server);
	json_t *config = schema_encode_json(&config_schema, client->server->config);

	if (!reply || json_object_set_new(reply, "config", config) < 0)
		return error_set(err, -ENOMEM, EXIT_STATUS_HOST, "info: out of memory; free some");
	*ret_reply = json_incref(reply);
	return 0;
}

static int do_pause(struct api_client *client, const struct api_request *request _unused_,
		    json_t **ret_reply _unused_, struct error *err)
{
	return client->server->ops->pause(client->server->vm, err);
}

static int do_resume(struct api_client *client, const struct api_request *request _unused_,
		     json_t **ret_reply _unused_, struct error *err)
{
	return client->server->ops->resume(client->server->vm, err);
}

static int do_power_button(struct api_client *client, const struct api_request *request _unused_,
			   json_t **ret_reply, struct error *err _unused_)
{
	bool heard = client->server->ops->power_button(client->server->vm);

	*ret_reply = json_pack("{s:b, s:b}", "ok", 1, "button", heard);
	return 0;
}

static int do_reset(struct api_client *client, const struct api_request *request _unused_,
		    json_t **ret_reply _unused_, struct error *err)
{
	return client->server->ops->reset(client->server->vm, err);
}

static int do_events(struct api_client *client, const struct api_request *request _unused_,
		     json_t **ret_reply _unused_, struct error *err _unused_)
{
	client->events = true;
	return 0;
}

static json_t *series_json(const struct measure_series *series)
{
	return json_pack("{s:I, s:I, s:I}", "p50_ns", (json_int_t)series->p50_ns, "p99_ns",
			 (json_int_t)series->p99_ns, "max_ns", (json_int_t)series->max_ns);
}

static int do_measure(struct api_client *client, const struct api_request *request,
		      json_t **ret_reply, struct error *err)
{
	const struct measure_request measure = {
		.rounds = request->rounds,
		.scope = request->touched ? VM_SAVE_TOUCHED : VM_SAVE_ALL,
		.dirty = request->dirty,
	};
	struct measure_result result;
	int r = client->server->ops->measure(client->server->vm, &measure, &result, err);

	if (r < 0)
		return r;
	*ret_reply = json_pack("{s:b, s:o, s:o, s:o, s:I, s:I}", "ok", 1, "barrier",
			       series_json(&result.barrier), "state", series_json(&result.state),
			       "collect", series_json(&result.collect), "dirty_pages",
			       (json_int_t)result.dirty_pages, "state_bytes",
			       (json_int_t)result.state_bytes);
	return 0;
}

static json_t *unseen_json(const struct api_server *server)
{
	json_t *lines = json_array();
	const char *line;

	for (unsigned int i = 0; (line = server->ops->unseen(server->vm, i)); i++)
		json_array_append_new(lines, json_string(line));
	return lines;
}

/* The mode in the answer is the watcher's own wish; another watcher's may show it more. */
static int do_watch(struct api_client *client, const struct api_request *request,
		    json_t **ret_reply, struct error *err)
{
	struct api_server *server = client->server;
	int r = server->ops->watch(server->vm, client, &request->watch, err);

	if (r < 0)
		return r;
	*ret_reply = json_pack("{s:b, s:s, s:o}", "ok", 1, "mode",
			       api_watch_modes[request->watch.mode], "unseen", unseen_json(server));
	return 0;
}

/* Accesses that begin after `since` (TSC) meet the breakpoints. */
static int do_step_at(struct api_client *client, const struct api_request *request,
		      json_t **ret_reply, struct error *err)
{
	int r = client->server->ops->step_at(client->server->vm, client, request->addresses,
					     request->n_addresses, err);

	if (r < 0)
		return r;
	*ret_reply = json_pack("{s:b, s:o}", "ok", 1, "since", number_json(__rdtsc()));
	return 0;
}

static int do_break(struct api_client *client, const struct api_request *request,
		    json_t **ret_reply _unused_, struct error *err)
{
	return client->server->ops->set_break(client->server->vm, client, &request->stop, err);
}

static int do_continue(struct api_client *client, const struct api_request *request,
		       json_t **ret_reply _unused_, struct error *err)
{
	return client->server->ops->go_on(client->server->vm, client, &request->answer, err);
}

/* Presses until the guest heard it once, and ends the VM when its time is over. */
static void stop_step(struct api_server *server)
{
	uint64_t now = clock_now(loop_clock(server->loop));

	if (now >= server->stop_due_ns) {
		server->ops->force_stop(server->vm);
		return;
	}
	if (!server->pressed)
		server->pressed = server->ops->power_button(server->vm);
	loop_timer_arm(server->loop, &server->stop_timer,
		       server->pressed ? server->stop_due_ns
				       : MIN(server->stop_due_ns, now + PRESS_AGAIN_NS));
}

void server_stop_expired(struct loop_timer *timer)
{
	stop_step(container_of(timer, struct api_server, stop_timer));
}

/* A second stop sets a new deadline and presses again. */
static int do_stop(struct api_client *client, const struct api_request *request, json_t **ret_reply,
		   struct error *err)
{
	struct api_server *server = client->server;
	struct api_vm_status status = { 0 };

	server->ops->status(server->vm, &status);
	if (server->ops->may_end && server->ops->may_end(server->vm, err) < 0)
		return err->code;
	if (!request->force && request->timeout && status.state == API_VM_PAUSED)
		return error_set(
			err, -EINVAL, EXIT_STATUS_FAILED,
			"%s: is paused and cannot hear its power button; resume it first, or "
			"stop it with --force",
			server->config->name);
	server->pressed = false;
	server->stop_due_ns = clock_now(loop_clock(server->loop));
	if (!request->force)
		server->stop_due_ns += request->timeout * NSEC_PER_MSEC;
	stop_step(server);
	*ret_reply = json_pack("{s:b, s:b}", "ok", 1, "button", server->pressed);
	return 0;
}

const command_fn vm_command_fns[API_COMMANDS] = {
	[API_STATUS] = do_status,
	[API_INFO] = do_info,
	[API_PAUSE] = do_pause,
	[API_RESUME] = do_resume,
	[API_POWER_BUTTON] = do_power_button,
	[API_RESET] = do_reset,
	[API_STOP] = do_stop,
	[API_EVENTS] = do_events,
	[API_MEASURE] = do_measure,
	[API_WATCH] = do_watch,
	[API_STEP_AT] = do_step_at,
	[API_BREAK] = do_break,
	[API_CONTINUE] = do_continue,
};
