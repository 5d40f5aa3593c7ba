/* SPDX-License-Identifier: Apache-2.0 */
/* Commands of this host: what each does, in one table. */
#include <errno.h>
#include <string.h>
#include <sys/file.h>

#include "base/cleanup.h"
#include "peer/talk.h"
#include "peer/depart.h"
#include "peer/door.h"
#include "peer/host.h"
#include "peer/request.h"
#include "peer/resolve.h"
#include "peer/word.h"

struct session {
	struct peer_host *host;
	struct control_request request;
	int client;
	int passed; /* a descriptor of the client's, or -1 */
};

static void show_status(struct session *session)
{
	const struct peer_host *host = session->host;
	json_auto_t *answer = json_pack("{s:b, s:s, s:s, s:i, s:i}", "ok", 1, "host",
					identity_host(host->identity), "fingerprint",
					identity_fingerprint(host->identity), "port",
					(int)host->port, "peers", (int)host->peers->n);

	door_answer(session->client, answer);
}

static void show_peers(struct session *session)
{
	const struct peers *peers = session->host->peers;
	json_auto_t *list = json_array();
	json_auto_t *answer = NULL;

	for (uint32_t i = 0; i < peers->n; i++) {
		json_t *one = schema_encode_json(&peer_schema, &peers->list[i]);

		json_object_set_new(one, "name", json_string(peers->list[i].name));
		json_array_append_new(list, one);
	}
	answer = json_pack("{s:b, s:O}", "ok", 1, "peers", list);
	door_answer(session->client, answer);
}

static void probe(struct session *session)
{
	char fingerprint[PEER_FINGERPRINT_MAX], name[PEER_NAME_MAX];
	struct peer *peer = &session->request.peer;
	json_auto_t *answer = NULL;
	struct error err = { 0 };

	snprintf(peer->name, sizeof(peer->name), "%.63s", peer->address ? peer->address : "");
	if (!peer->address)
		(void)error_set(&err, -EINVAL, EXIT_STATUS_USAGE, "address: is missing; give one");
	else if (talk_probe(session->host->identity, peer, fingerprint, name, &err) == 0)
		answer = json_pack("{s:b, s:s, s:s}", "ok", 1, "fingerprint", fingerprint, "host",
				   name);
	if (answer)
		door_answer(session->client, answer);
	else
		door_refuse(session->client, &err);
}

static int check_new(const struct peer_host *host, const struct peer *peer, struct error *err)
{
	if (!peer->address)
		return error_set(err, -EINVAL, EXIT_STATUS_USAGE, "address: is missing; give one");
	if (strcmp(peer->fingerprint, identity_fingerprint(host->identity)) == 0)
		return error_set(err, -EINVAL, EXIT_STATUS_USAGE,
				 "%s: that is this host itself; give the address of another",
				 peer->name);
	return 0;
}

/* Reads the list again under a lock, changes it, writes it. */
static int change_peers(struct session *session,
			int (*change)(struct session *session, struct peers *peers,
				      struct error *err),
			struct error *err)
{
	struct peer_host *host = session->host;
	int r;

	if (flock(host->state_fd, LOCK_EX) < 0)
		return -errno;
	peers_free(TAKE_PTR(host->peers));
	r = peers_load(host->state_fd, &host->peers, err);
	if (r == 0)
		r = change(session, host->peers, err);
	if (r == 0)
		r = peers_save(host->state_fd, host->peers, err);
	(void)flock(host->state_fd, LOCK_UN);
	return r;
}

static int add(struct session *session, struct peers *peers, struct error *err)
{
	struct peer *peer = &session->request.peer;
	int r;

	memcpy(peer->name, session->request.name, sizeof(peer->name));
	r = check_new(session->host, peer, err);
	return r < 0 ? r : peers_add(peers, peer, err);
}

static int remove_one(struct session *session, struct peers *peers, struct error *err)
{
	return peers_remove(peers, session->request.name, err);
}

static void answer_change(struct session *session,
			  int (*change)(struct session *session, struct peers *peers,
					struct error *err))
{
	json_auto_t *answer = json_pack("{s:b, s:s}", "ok", 1, "fingerprint",
					identity_fingerprint(session->host->identity));
	struct error err = { 0 };
	int r = change_peers(session, change, &err);

	if (r < 0) {
		(void)error_set(&err, r, EXIT_STATUS_HOST, "peers: %s", strerror(-r));
		door_refuse(session->client, &err);
	} else {
		door_answer(session->client, answer);
	}
}

static void add_peer(struct session *session)
{
	answer_change(session, add);
}

static void remove_peer(struct session *session)
{
	answer_change(session, remove_one);
}

static void move_vm(struct session *session)
{
	depart(session->host, &session->request, session->client, TAKE_FD(session->passed));
}

static void protect_vm(struct session *session)
{
	protect(session->host, &session->request, session->client, TAKE_FD(session->passed));
}

static void resolve_vm(struct session *session)
{
	resolve(session->host, &session->request, session->client);
}

static void take_word(struct session *session)
{
	word(session->host, &session->request, session->client);
}

static void (*const actions[CONTROL_COMMANDS])(struct session *session) = {
	[CONTROL_STATUS] = show_status, [CONTROL_PEERS] = show_peers,	[CONTROL_PROBE] = probe,
	[CONTROL_ADD] = add_peer,	[CONTROL_REMOVE] = remove_peer, [CONTROL_MOVE] = move_vm,
	[CONTROL_RESOLVE] = resolve_vm, [CONTROL_PROTECT] = protect_vm, [CONTROL_WORD] = take_word,
};

void serve_control(struct peer_host *host, int client)
{
	struct session session = { .host = host, .client = client, .passed = -1 };
	json_auto_t *json = NULL;
	struct error err = { 0 };

	if (door_receive(client, &json, &session.passed) == 0) {
		if (control_request_decode(json, &session.request, &err) == 0)
			actions[session.request.command](&session);
		else
			door_refuse(client, &err);
		control_request_release(&session.request);
	}
	fd_close(session.passed);
	fd_close(client);
}
