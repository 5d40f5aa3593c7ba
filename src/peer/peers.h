/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * The hosts that this host knows: STATE/peers.json. Who is not in it can neither ask for anything nor be moved to.
 *
 *   {"peers": {"beta": {"address": "10.0.0.2", "port": 7878, "fingerprint": "SHA256:..."}}}
 *
 * Instead of a fingerprint a peer may have an authority's certificate and the name that it must have signed for:
 * {"address": ..., "ca": "/etc/utsusu/ca.pem", "identity": "beta.example"}. Any thread.
 */

#include <jansson.h>
#include <stdint.h>

#include "api/schema.h"
#include "base/error.h"
#include "base/limits.h"
#include "base/macros.h"

#define PEER_NAME_MAX 64 /* bytes with the NUL */
#define PEER_ADDRESS_MAX 254
#define PEER_PORT 7878
#define PEER_FINGERPRINT_PREFIX "SHA256:"
#define PEER_FINGERPRINT_MAX 52 /* "SHA256:", 43 digits of base 64, NUL */

struct peer {
	char name[PEER_NAME_MAX];
	char *address;
	uint32_t port;
	char fingerprint[PEER_FINGERPRINT_MAX]; /* "" with an authority */
	char *ca, *identity;			/* a file, and the name in the certificate */
};

struct peers {
	uint32_t n;
	struct peer list[LIMIT_PEERS];
};

/* Letters, digits, '.', '-' and '_', not beginning with '.' or '-'; at most 63. */
bool peer_name_valid(const char *name);

/* A missing file holds none. Allocated; freed by peers_free. */
_must_check_ int peers_load(int state_fd, struct peers **ret_peers, struct error *err);
/* Decodes a text over an empty list. `name` stands in messages. For peers_load and its fuzz target. */
_must_check_ int peers_decode(const char *text, size_t len, const char *name, struct peers *peers,
			      struct error *err);
_must_check_ int peers_save(int state_fd, const struct peers *peers, struct error *err);
void peers_free(struct peers *peers);

/* NULL after a message that suggests another. */
const struct peer *peers_find(const struct peers *peers, const char *name, struct error *err);
/* Takes what `peer` holds and empties it. -EEXIST for a name that is there, -E2BIG. */
_must_check_ int peers_add(struct peers *peers, struct peer *peer, struct error *err);
_must_check_ int peers_remove(struct peers *peers, const char *name, struct error *err);

void peer_release(struct peer *peer);
/* The rows of a peer without its name, over struct peer. */
extern const struct schema peer_schema;

/* "HOST", "HOST:PORT", "[::1]:PORT", into peer->address and ->port. */
_must_check_ int peer_parse_address(struct peer *peer, const char *text, struct error *err);
