/* SPDX-License-Identifier: Apache-2.0 */
/* covers: peer/request.c peer/named.c */
/*
 * What other hosts and this host's files say to the daemon. The first byte chooses: a request of another daemon, one of a
 * command, the file of peers, the lists of disks and networks, a stream's preamble, an address.
 */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "peer/lists.h"
#include "peer/request.h"
#include "peer/reservation.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* What was decoded is encoded and decoded to the same. */
static void try_peer_request(const char *text, size_t len)
{
	_cleanup_(freep) struct peer_request *request = calloc(1, sizeof(*request));
	_cleanup_(freep) struct peer_request *again = calloc(1, sizeof(*again));
	json_auto_t *json = json_loadb(text, len, JSON_REJECT_DUPLICATES, NULL);
	struct error err = { 0 };

	if (!json_is_object(json))
		return;
	if (peer_request_decode(json, request, &err) == 0) {
		json_auto_t *encoded = peer_request_encode(request);
		json_auto_t *copy = json_deep_copy(encoded);

		assert(peer_request_decode(encoded, again, NULL) == 0);
		json_auto_t *twice = peer_request_encode(again);

		assert(json_equal(copy, twice));
		assert(request->machine.n_disks <= LIMIT_DISKS);
	} else {
		assert(err.code < 0 && err.message[0]);
	}
	peer_request_release(request);
	peer_request_release(again);
}

static void try_control_request(const char *text, size_t len)
{
	_cleanup_(freep) struct control_request *request = calloc(1, sizeof(*request));
	json_auto_t *json = json_loadb(text, len, JSON_REJECT_DUPLICATES, NULL);
	struct error err = { 0 };

	if (!json_is_object(json))
		return;
	if (control_request_decode(json, request, &err) == 0)
		json_decref(control_request_encode(request));
	else
		assert(err.code < 0 && err.message[0]);
	control_request_release(request);
}

static void try_peers(const char *text, size_t len)
{
	struct peers *peers = calloc(1, sizeof(*peers));
	struct error err = { 0 };

	if (peers_decode(text, len, "peers.json", peers, &err) < 0) {
		assert(err.message[0]);
	} else {
		for (uint32_t i = 0; i < peers->n; i++)
			assert(peer_name_valid(peers->list[i].name) && peers->list[i].address &&
			       !peers->list[i].fingerprint[0] == !!peers->list[i].ca);
	}
	peers_free(peers);
}

static void try_lists(const char *text, size_t len)
{
	struct lists *lists = calloc(1, sizeof(*lists));
	struct error err = { 0 };

	if (lists_decode(text, len, "host.json", lists, &err) == 0)
		for (uint32_t i = 0; i < lists->n_disks; i++)
			assert(lists_disk(lists, lists->disks[i].name) == &lists->disks[i]);
	else
		assert(err.message[0]);
	lists_free(lists);
}

static void try_preamble(const char *text, size_t len)
{
	struct preamble preamble;

	if (len >= PREAMBLE_BYTES && preamble_decode((const uint8_t *)text, &preamble) == 0)
		assert(preamble.index < MOVE_STREAMS_MAX &&
		       strlen(preamble.id) == RESERVATION_TEXT - 1);
}

static void try_address(const char *text, size_t len)
{
	_cleanup_(freep) char *copy = strndup(text, len);
	struct peer peer = { 0 };

	if (peer_parse_address(&peer, copy, NULL) == 0)
		assert(peer.port && strlen(peer.address) <= PEER_ADDRESS_MAX);
	peer_release(&peer);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static void (*const tries[])(const char *text, size_t len) = {
		try_peer_request, try_control_request, try_peers,
		try_lists,	  try_preamble,	       try_address,
	};

	if (size > 0)
		tries[data[0] % ARRAY_SIZE(tries)]((const char *)data + 1, size - 1);
	return 0;
}
