/* SPDX-License-Identifier: Apache-2.0 */
#include "wire/hello.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

#include "base/endian.h"

static const uint8_t magic[8] = "utsusu\0";

/* Where the fields stand. */
enum {
	AT_MAGIC = 0,
	AT_VERSION_MIN = 8,
	AT_VERSION_MAX = 10,
	AT_ROLE = 12,
	AT_RESERVED = 13,
	AT_STREAM = 14,
	AT_STREAMS = 15,
	AT_TOKEN = 16,
	AT_FEATURES = 32,
};
static_assert(AT_TOKEN + HELLO_TOKEN_BYTES == AT_FEATURES, "the features follow the token");
static_assert(AT_FEATURES + 8 == HELLO_BYTES, "the features come last");

void hello_encode(const struct hello *hello, uint8_t ret_bytes[HELLO_BYTES])
{
	memcpy(ret_bytes + AT_MAGIC, magic, sizeof(magic));
	le_store(ret_bytes + AT_VERSION_MIN, 2, hello->version_min);
	le_store(ret_bytes + AT_VERSION_MAX, 2, hello->version_max);
	ret_bytes[AT_ROLE] = (uint8_t)hello->role;
	ret_bytes[AT_RESERVED] = 0;
	ret_bytes[AT_STREAM] = hello->stream;
	ret_bytes[AT_STREAMS] = hello->n_streams;
	memcpy(ret_bytes + AT_TOKEN, hello->token, HELLO_TOKEN_BYTES);
	le_store(ret_bytes + AT_FEATURES, 8, hello->features);
}

static const char *fault_of(const struct hello *hello)
{
	if (hello->version_min == 0 || hello->version_min > hello->version_max)
		return "its versions are no range";
	if (hello->role != HELLO_GIVES && hello->role != HELLO_TAKES)
		return "it neither gives nor takes";
	if (hello->stream >= hello->n_streams)
		return "its stream is beyond their number";
	return NULL;
}

int hello_parse(const void *data, size_t len, struct hello *ret_hello, struct error *err)
{
	const uint8_t *bytes = data;
	const char *fault;
	struct hello hello;

	if (len < HELLO_BYTES || len > HELLO_BYTES_MAX ||
	    memcmp(bytes + AT_MAGIC, magic, sizeof(magic)) != 0)
		return error_set(err, -EBADMSG, EXIT_STATUS_FAILED,
				 "stream: the peer does not begin as utsusu does");
	hello = (struct hello){
		.version_min = (uint16_t)le_load(bytes + AT_VERSION_MIN, 2),
		.version_max = (uint16_t)le_load(bytes + AT_VERSION_MAX, 2),
		.role = bytes[AT_ROLE],
		.stream = bytes[AT_STREAM],
		.n_streams = bytes[AT_STREAMS],
		.features = le_load(bytes + AT_FEATURES, 8),
	};
	memcpy(hello.token, bytes + AT_TOKEN, HELLO_TOKEN_BYTES);
	fault = fault_of(&hello);
	if (fault)
		return error_set(err, -EBADMSG, EXIT_STATUS_FAILED,
				 "stream: the peer's greeting makes no sense: %s", fault);
	*ret_hello = hello;
	return 0;
}

static int judge_versions(const struct hello *own, const struct hello *peer, struct error *err)
{
	if (own->version_min <= peer->version_max && peer->version_min <= own->version_max)
		return 0;
	return error_set(
		err, -EPROTONOSUPPORT, EXIT_STATUS_FAILED,
		"stream: the peer speaks versions %u to %u of the protocol, this host %u to %u: "
		"bring the older of the two up to date",
		peer->version_min, peer->version_max, own->version_min, own->version_max);
}

static int judge_part(const struct hello *own, const struct hello *peer, struct error *err)
{
	if (memcmp(own->token, peer->token, HELLO_TOKEN_BYTES) != 0)
		return error_set(err, -EPROTO, EXIT_STATUS_FAILED,
				 "stream: the peer is busy with another move");
	if (own->role == peer->role)
		return error_set(err, -EPROTO, EXIT_STATUS_FAILED, "stream: both sides would %s",
				 own->role == HELLO_GIVES ? "give" : "take");
	if (own->stream != peer->stream || own->n_streams != peer->n_streams)
		return error_set(err, -EPROTO, EXIT_STATUS_FAILED,
				 "stream: stream %u of %u meets the peer's %u of %u", own->stream,
				 own->n_streams, peer->stream, peer->n_streams);
	return 0;
}

int hello_agree(const struct hello *own, const struct hello *peer, struct hello_agreed *ret_agreed,
		struct error *err)
{
	int r = judge_versions(own, peer, err);

	if (r == 0)
		r = judge_part(own, peer, err);
	if (r == 0)
		*ret_agreed = (struct hello_agreed){
			.version = MIN(own->version_max, peer->version_max),
			.features = own->features & peer->features,
		};
	return r;
}
