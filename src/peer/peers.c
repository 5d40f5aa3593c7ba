/* SPDX-License-Identifier: Apache-2.0 */
#include "peer/peers.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/suggest.h"
#include "host/state_dir.h"
#include "peer/named.h"

#define FILE_NAME "peers.json"
#define FILE_MAX KIB(512)

DEFINE_CLEANUP(struct peers, peers_free, peersp)

bool peer_name_valid(const char *name)
{
	static const char all[] =
		"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-_";
	size_t len = strnlen(name, PEER_NAME_MAX);

	return len > 0 && len < PEER_NAME_MAX && name[0] != '.' && name[0] != '-' &&
	       strspn(name, all) == len;
}

static int valid_fingerprint(const char *text, const char **ret_why)
{
	static const char base64[] =
		"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
	size_t prefix = strlen(PEER_FINGERPRINT_PREFIX);

	*ret_why =
		"is no fingerprint; on that host, utsusu peer show tells it: SHA256: and 43 letters";
	if (strncmp(text, PEER_FINGERPRINT_PREFIX, prefix) != 0 || strlen(text) != prefix + 43 ||
	    strspn(text + prefix, base64) != 43)
		return -EINVAL;
	return 0;
}

static int valid_path(const char *text, const char **ret_why)
{
	*ret_why = "is not an absolute path; give one";
	return text[0] == '/' ? 0 : -EINVAL;
}

#define ROW(type_, member, key_) .key = key_, .type = type_, .offset = offsetof(struct peer, member)

static const struct schema_row peer_rows[] = {
	{ ROW(SCHEMA_STRING, address, "address"), .flags = SCHEMA_REQUIRED, .min = 1,
	  .max = PEER_ADDRESS_MAX, .value = "ADDRESS", .help = "where the host is" },
	{ ROW(SCHEMA_UINT, port, "port"), .min = 1, .max = 65535, .fallback = "7878",
	  .value = "PORT", .help = "of its daemon" },
	{ ROW(SCHEMA_CHARS, fingerprint, "fingerprint"), .max = PEER_FINGERPRINT_MAX - 1,
	  .valid = valid_fingerprint, .value = "FINGERPRINT", .help = "of its key" },
	{ ROW(SCHEMA_STRING, ca, "ca"), .min = 1, .max = PATH_MAX - 1, .valid = valid_path,
	  .value = "FILE", .help = "the certificate of who signs for it" },
	{ ROW(SCHEMA_STRING, identity, "identity"), .min = 1, .max = PEER_ADDRESS_MAX,
	  .value = "NAME", .help = "the name that is signed for" },
};

const struct schema peer_schema = { peer_rows, ARRAY_SIZE(peer_rows), sizeof(struct peer), 0 };

void peer_release(struct peer *peer)
{
	schema_release(&peer_schema, peer);
	memset(peer, 0, sizeof(*peer));
}

void peers_free(struct peers *peers)
{
	for (uint32_t i = 0; peers && i < peers->n; i++)
		peer_release(&peers->list[i]);
	free(peers);
}

/* One way to know it, and whole. */
static int check_peer(const struct peer *peer, const char *where, struct error *err)
{
	if (!peer_name_valid(peer->name))
		return error_set(
			err, -EINVAL, EXIT_STATUS_USAGE,
			"%s: '%.80s' is no name of a host; use letters, digits, '.', '-' and '_'",
			where, peer->name);
	if (!peer->fingerprint[0] == !peer->ca || !peer->ca != !peer->identity)
		return error_set(
			err, -EINVAL, EXIT_STATUS_USAGE,
			"%s: %s: give either its fingerprint, or ca and the identity that it signs for",
			where, peer->name);
	return 0;
}

static int take_peer(void *ctx, const char *name, const json_t *json,
		     const struct schema_source *source)
{
	struct peers *peers = ctx;
	struct peer *peer = &peers->list[peers->n];
	struct error err = { 0 };

	if (peers->n == LIMIT_PEERS)
		return -E2BIG;
	schema_init(&peer_schema, peer);
	peers->n++;
	snprintf(peer->name, sizeof(peer->name), "%s", name);
	if (schema_decode_json(&peer_schema, peer, json, source) == 0 &&
	    check_peer(peer, FILE_NAME, &err) < 0)
		problems_add(source->problems, &err);
	return 0;
}

int peers_decode(const char *text, size_t len, const char *name, struct peers *peers,
		 struct error *err)
{
	const struct named_group groups[] = { { "peers", take_peer, peers } };

	return named_decode(text, len, name, groups, ARRAY_SIZE(groups), err);
}

int peers_load(int state_fd, struct peers **ret_peers, struct error *err)
{
	_cleanup_(peersp) struct peers *peers = calloc(1, sizeof(*peers));
	_cleanup_(freep) char *text = NULL;
	size_t len;
	int r = peers ? state_dir_read(state_fd, FILE_NAME, FILE_MAX, &text, &len) : -ENOMEM;

	if (r == 0)
		r = peers_decode(text, len, FILE_NAME, peers, err);
	if (r < 0 && r != -ENOENT)
		return error_set(err, r, EXIT_STATUS_HOST,
				 FILE_NAME " in the state directory cannot be read: %s",
				 strerror(-r));
	*ret_peers = TAKE_PTR(peers);
	return 0;
}

static json_t *encode(const struct peers *peers)
{
	json_t *all = json_object();

	for (uint32_t i = 0; i < peers->n; i++) {
		json_t *one = schema_encode_json(&peer_schema, &peers->list[i]);

		json_object_set_new(all, peers->list[i].name, one);
	}
	return json_pack("{s:o}", "peers", all);
}

int peers_save(int state_fd, const struct peers *peers, struct error *err)
{
	json_auto_t *json = encode(peers);
	_cleanup_(freep) char *text = json ? json_dumps(json, JSON_INDENT(2)) : NULL;
	int r = text ? state_dir_write(state_fd, FILE_NAME, text, strlen(text), 0600) : -ENOMEM;

	if (r < 0)
		return error_set(err, r, EXIT_STATUS_HOST,
				 FILE_NAME
				 " in the state directory cannot be written: %s; see that it "
				 "has room",
				 strerror(-r));
	return 0;
}

const struct peer *peers_find(const struct peers *peers, const char *name, struct error *err)
{
	struct suggest near;

	suggest_init(&near, name);
	for (uint32_t i = 0; i < peers->n; i++) {
		if (strcmp(peers->list[i].name, name) == 0)
			return &peers->list[i];
		suggest_offer(&near, peers->list[i].name);
	}
	(void)error_set(err, -ENOENT, EXIT_STATUS_NOT_FOUND, "%.80s: no such peer; %s%s%s", name,
			near.best ? "did you mean "
				  : "utsusu peer list shows those there are, utsusu "
				    "peer add NAME ADDRESS adds one",
			near.best ? near.best : "", near.best ? "?" : "");
	return NULL;
}

int peers_add(struct peers *peers, struct peer *peer, struct error *err)
{
	int r = check_peer(peer, "peer add", err);

	if (r < 0)
		return r;
	for (uint32_t i = 0; i < peers->n; i++)
		if (strcmp(peers->list[i].name, peer->name) == 0)
			return error_set(
				err, -EEXIST, EXIT_STATUS_BUSY,
				"%s: there is a peer of this name; first: utsusu peer remove %s",
				peer->name, peer->name);
	if (peers->n == LIMIT_PEERS)
		return error_set(err, -E2BIG, EXIT_STATUS_USAGE,
				 "peer add: there are %d peers; remove some that are not needed",
				 LIMIT_PEERS);
	peers->list[peers->n++] = *peer;
	memset(peer, 0, sizeof(*peer));
	return 0;
}

int peers_remove(struct peers *peers, const char *name, struct error *err)
{
	const struct peer *found = peers_find(peers, name, err);
	uint32_t at = found ? (uint32_t)(found - peers->list) : 0;

	if (!found)
		return -ENOENT;
	peer_release(&peers->list[at]);
	peers->n--;
	memmove(&peers->list[at], &peers->list[at + 1], (peers->n - at) * sizeof(peers->list[0]));
	memset(&peers->list[peers->n], 0, sizeof(peers->list[0]));
	return 0;
}

static int take_port(struct peer *peer, const char *text)
{
	char *end;
	unsigned long port = strtoul(text, &end, 10);

	if (text[0] < '0' || text[0] > '9' || *end || port < 1 || port > 65535)
		return -EINVAL;
	peer->port = (uint32_t)port;
	return 0;
}

int peer_parse_address(struct peer *peer, const char *text, struct error *err)
{
	const char *bracket = text[0] == '[' ? strchr(text, ']') : NULL;
	const char *start = bracket ? text + 1 : text;
	const char *colon = strchr(bracket ? bracket : text, ':');
	size_t len = bracket ? (size_t)(bracket - start) : strcspn(text, ":");
	int r = 0;

	/* More than one colon without brackets is an IPv6 address without a port. */
	if (!bracket && colon && strchr(colon + 1, ':')) {
		len = strlen(text);
		colon = NULL;
	}
	peer->port = PEER_PORT;
	if (colon)
		r = take_port(peer, colon + 1);
	else if (bracket && bracket[1])
		r = -EINVAL;
	if (r < 0 || len == 0 || len > PEER_ADDRESS_MAX || strpbrk(text, " \t/@"))
		return error_set(err, -EINVAL, EXIT_STATUS_USAGE,
				 "'%.80s' is no address; give HOST, HOST:PORT or [IPV6]:PORT",
				 text);
	free(peer->address);
	peer->address = strndup(start, len);
	return peer->address ? 0 : -ENOMEM;
}
