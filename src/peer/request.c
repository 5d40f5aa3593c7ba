/* SPDX-License-Identifier: Apache-2.0 */
#include "peer/request.h"

#include <errno.h>
#include <limits.h>
#include <stddef.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/hex.h"
#include "base/suggest.h"
#include "host/runtime.h"

#define VERSION_MAX 1000000

struct request_row {
	const char *name;
	const struct schema *schema;
};

static int valid_hash(const char *text, const char **ret_why)
{
	uint8_t bytes[32];

	*ret_why = "is no SHA-256; give 64 hexadecimal digits";
	return hex_decode(text, bytes, sizeof(bytes)) ? 0 : -EINVAL;
}

static int valid_instance(const char *text, const char **ret_why)
{
	uint8_t bytes[OWNERSHIP_ID_BYTES];

	*ret_why = "is no id; give 32 hexadecimal digits";
	return !*text || hex_decode(text, bytes, sizeof(bytes)) ? 0 : -EINVAL;
}

static int valid_token(const char *text, const char **ret_why)
{
	uint8_t bytes[MOVE_TOKEN_BYTES];

	*ret_why = "is no token; give 32 hexadecimal digits";
	return hex_decode(text, bytes, sizeof(bytes)) ? 0 : -EINVAL;
}

static int valid_vm(const char *text, const char **ret_why)
{
	*ret_why = "is no name of a VM; use a-z, 0-9 and -";
	return runtime_name_valid(text) ? 0 : -EINVAL;
}

static int valid_peer(const char *text, const char **ret_why)
{
	*ret_why = "is no name of a host; use letters, digits, '.', '-' and '_'";
	return peer_name_valid(text) ? 0 : -EINVAL;
}

#define ROW(type_, member, key_)                                                                   \
	.key = key_, .type = type_, .offset = offsetof(type_of_rows, member)

#define type_of_rows struct peer_file
static const struct schema_row file_rows[] = {
	{ ROW(SCHEMA_CHARS, sha256, "sha256"), .max = PEER_HASH_TEXT - 1, .valid = valid_hash,
	  .help = "of its content" },
	{ ROW(SCHEMA_SIZE, size, "size"), .max = LIMIT_INITRD, .step = 1, .help = "in bytes" },
};
#undef type_of_rows
static const struct schema file_schema = { file_rows, ARRAY_SIZE(file_rows),
					   sizeof(struct peer_file), 0 };

#define type_of_rows struct peer_disk
static const struct schema_row disk_rows[] = {
	{ ROW(SCHEMA_SIZE, size, "size"), .max = INT64_MAX, .step = 1, .help = "in bytes" },
	{ ROW(SCHEMA_SIZE, allocated, "allocated"), .max = INT64_MAX, .step = 1,
	  .help = "bytes that are no holes" },
	{ ROW(SCHEMA_BOOL, device, "device"), .help = "a block device" },
	{ ROW(SCHEMA_CHARS, identity, "identity"), .max = PEER_DISK_IDENTITY - 1,
	  .help = "what tells it from all others" },
};
#undef type_of_rows
static const struct schema disk_schema = { disk_rows, ARRAY_SIZE(disk_rows),
					   sizeof(struct peer_disk), 0 };

#define type_of_rows struct peer_machine
static const struct schema_row machine_rows[] = {
	{ ROW(SCHEMA_GROUP, config, "config"), .group = &config_schema, .help = "what it is" },
	{ ROW(SCHEMA_GROUP, kernel, "kernel"), .group = &file_schema, .help = "its kernel" },
	{ ROW(SCHEMA_GROUP, initrd, "initrd"), .group = &file_schema, .help = "its RAM disk" },
	{ ROW(SCHEMA_LIST, disks, "disks"), .group = &disk_schema, .max = LIMIT_DISKS,
	  .count_offset = offsetof(struct peer_machine, n_disks), .help = "its disks" },
	{ ROW(SCHEMA_SIZE, generation, "generation"), .min = 1, .max = 1ULL << 53, .step = 1,
	  .fallback = "1", .help = "of its ownership" },
	{ ROW(SCHEMA_SIZE, populated, "populated"), .max = LIMIT_MEMORY, .step = 1,
	  .help = "bytes of memory in use" },
	{ ROW(SCHEMA_UINT, version_min, "version_min"), .max = VERSION_MAX,
	  .help = "the oldest protocol spoken" },
	{ ROW(SCHEMA_UINT, version, "version"), .max = VERSION_MAX, .help = "the newest" },
	{ ROW(SCHEMA_UINT, streams, "streams"), .min = 1, .max = MOVE_STREAMS_MAX, .fallback = "2",
	  .help = "connections" },
	{ ROW(SCHEMA_BOOL, plain, "plain"), .help = "without TLS" },
	{ ROW(SCHEMA_BOOL, copy_disks, "copy_disks"), .help = "disks are copied" },
	{ ROW(SCHEMA_BOOL, postcopy, "postcopy"), .help = "it may run before its memory is there" },
	{ ROW(SCHEMA_BOOL, paused, "paused"), .help = "it stays paused" },
	{ ROW(SCHEMA_BOOL, protect, "protect"), .help = "what comes is its backup" },
	{ ROW(SCHEMA_CHARS, owner, "owner"), .max = PEER_INSTANCE_TEXT - 1, .valid = valid_instance,
	  .help = "the instance that gives it away" },
	{ ROW(SCHEMA_UINT, detect_ms, "detect_ms"), .max = PROTECT_DETECT_MAX_MS,
	  .help = "milliseconds of silence that make the other side suspected" },
	{ ROW(SCHEMA_CHARS, manual, "manual"), .max = MANUAL_TEXT - 1,
	  .help = "without etcd: the record as its host keeps it" },
};
#undef type_of_rows
static const struct schema machine_schema = { machine_rows, ARRAY_SIZE(machine_rows),
					      sizeof(struct peer_machine), 0 };

#define type_of_rows struct peer_request
static const struct schema_row ask_rows[] = {
	{ ROW(SCHEMA_GROUP, machine, "machine"), .group = &machine_schema, .help = "the VM" },
};
static const struct schema_row send_rows[] = {
	{ ROW(SCHEMA_GROUP, file, "file"), .group = &file_schema, .help = "what follows" },
};
static const struct schema_row outcome_rows[] = {
	{ ROW(SCHEMA_CHARS, token, "token"), .flags = SCHEMA_REQUIRED, .max = PEER_TOKEN_TEXT - 1,
	  .valid = valid_token, .help = "of the move" },
};
static const struct schema_row has_rows[] = {
	{ ROW(SCHEMA_CHARS, name, "name"), .flags = SCHEMA_REQUIRED, .max = LIMIT_NAME - 1,
	  .valid = valid_vm, .help = "of the VM" },
};
static const struct schema_row look_rows[] = {
	{ ROW(SCHEMA_CHARS, token, "token"), .flags = SCHEMA_REQUIRED, .max = PEER_TOKEN_TEXT - 1,
	  .valid = valid_token, .help = "of the move" },
	{ ROW(SCHEMA_CHARS, name, "name"), .flags = SCHEMA_REQUIRED, .max = LIMIT_NAME - 1,
	  .valid = valid_vm, .help = "of the VM" },
};
#undef type_of_rows

#define PEER_SCHEMA(rows)                                                                          \
	{                                                                                          \
		rows, ARRAY_SIZE(rows), sizeof(struct peer_request), 0                             \
	}
static const struct schema ask_schema = PEER_SCHEMA(ask_rows);
static const struct schema send_schema = PEER_SCHEMA(send_rows);
static const struct schema outcome_schema = PEER_SCHEMA(outcome_rows);
static const struct schema look_schema = PEER_SCHEMA(look_rows);
static const struct schema has_schema = PEER_SCHEMA(has_rows);
static const struct schema bare_schema = { NULL, 0, sizeof(struct peer_request), 0 };

static const struct request_row peer_requests[PEER_COMMANDS] = {
	[PEER_CHECK] = { "check", &ask_schema },  [PEER_RESERVE] = { "reserve", &ask_schema },
	[PEER_FILE] = { "file", &send_schema },	  [PEER_LAUNCH] = { "launch", &bare_schema },
	[PEER_START] = { "start", &bare_schema }, [PEER_OUTCOME] = { "outcome", &outcome_schema },
	[PEER_LOOK] = { "look", &look_schema },	  [PEER_HAS] = { "has", &has_schema },
	[PEER_STILL] = { "still", &look_schema },
};

static const char *const compressions[] = {
	[MOVE_COMPRESS_AUTO] = "auto",
	[MOVE_COMPRESS_OFF] = "off",
	[MOVE_COMPRESS_ON] = "on",
	NULL,
};
static const char *const words[] = {
	[RESOLVE_SHOW] = "show",
	[RESOLVE_LOST_HERE] = "lost-here",
	[RESOLVE_RUN_HERE] = "run-here",
	NULL,
};

#define type_of_rows struct control_request
static const struct schema_row peer_name_rows[] = {
	{ ROW(SCHEMA_CHARS, name, "name"), .flags = SCHEMA_REQUIRED, .max = PEER_NAME_MAX - 1,
	  .valid = valid_peer, .help = "of the peer" },
};
static const struct schema_row probe_rows[] = {
	{ ROW(SCHEMA_GROUP, peer, "peer"), .group = &peer_schema, .help = "where it is" },
};
static const struct schema_row add_rows[] = {
	{ ROW(SCHEMA_CHARS, name, "name"), .flags = SCHEMA_REQUIRED, .max = PEER_NAME_MAX - 1,
	  .valid = valid_peer, .help = "of the peer" },
	{ ROW(SCHEMA_GROUP, peer, "peer"), .group = &peer_schema, .help = "where and who it is" },
};
static const struct schema_row move_rows[] = {
	{ ROW(SCHEMA_CHARS, name, "name"), .flags = SCHEMA_REQUIRED, .max = LIMIT_NAME - 1,
	  .valid = valid_vm, .help = "of the VM" },
	{ ROW(SCHEMA_CHARS, host, "host"), .flags = SCHEMA_REQUIRED, .max = PEER_NAME_MAX - 1,
	  .valid = valid_peer, .help = "where to" },
	{ ROW(SCHEMA_UINT, move.streams, "streams"), .min = 1, .max = MOVE_STREAMS_MAX,
	  .fallback = "2", .help = "connections" },
	{ ROW(SCHEMA_SIZE, move.max_bandwidth, "max_bandwidth"), .max = GIB(1024), .step = 1,
	  .help = "bytes per second" },
	{ ROW(SCHEMA_DURATION, move.downtime_ms, "downtime"), .min = 1, .max = MOVE_DOWNTIME_MAX_MS,
	  .fallback = "100ms", .help = "the goal" },
	{ ROW(SCHEMA_ENUM, move.compress, "compress"), .names = compressions, .fallback = "auto",
	  .help = "whether pages are packed" },
	{ ROW(SCHEMA_BOOL, move.plain, "plain"), .help = "without TLS" },
	{ ROW(SCHEMA_BOOL, move.copy_disks, "copy_disks"), .help = "copy disks" },
	{ ROW(SCHEMA_BOOL, move.allow_postcopy, "allow_postcopy"),
	  .help = "it may run there before its memory is there" },
	{ ROW(SCHEMA_BOOL, move.check, "check"), .help = "only tell what stands against it" },
};
static const struct schema_row protect_rows[] = {
	{ ROW(SCHEMA_CHARS, name, "name"), .flags = SCHEMA_REQUIRED, .max = LIMIT_NAME - 1,
	  .valid = valid_vm, .help = "of the VM" },
	{ ROW(SCHEMA_CHARS, host, "host"), .flags = SCHEMA_REQUIRED, .max = PEER_NAME_MAX - 1,
	  .valid = valid_peer, .help = "the backup's" },
	{ ROW(SCHEMA_DURATION, protect.latency_ms, "latency"), .max = PROTECT_LATENCY_MAX_MS,
	  .help = "how long a reply may be held; 0: as it turns out" },
	{ ROW(SCHEMA_DURATION, protect.detect_ms, "detect"), .min = PROTECT_DETECT_MIN_MS,
	  .max = PROTECT_DETECT_MAX_MS, .fallback = "500ms",
	  .help = "how long a silence makes the other side suspected" },
	{ ROW(SCHEMA_BOOL, move.plain, "plain"), .help = "without TLS" },
	{ ROW(SCHEMA_BOOL, move.check, "check"), .help = "only tell what stands against it" },
};
static const struct schema_row resolve_rows[] = {
	{ ROW(SCHEMA_CHARS, name, "name"), .flags = SCHEMA_REQUIRED, .max = LIMIT_NAME - 1,
	  .valid = valid_vm, .help = "of the VM" },
	{ ROW(SCHEMA_ENUM, word, "word"), .names = words, .fallback = "show",
	  .help = "the operator's" },
};
static const struct schema_row word_rows[] = {
	{ ROW(SCHEMA_CHARS, name, "name"), .flags = SCHEMA_REQUIRED, .max = LIMIT_NAME - 1,
	  .valid = valid_vm, .help = "of the VM" },
	{ ROW(SCHEMA_ENUM, said.says, "says"), .flags = SCHEMA_REQUIRED, .names = manual_says_names,
	  .help = "who has ended" },
	{ ROW(SCHEMA_SIZE, said.generation, "generation"), .flags = SCHEMA_REQUIRED, .min = 1,
	  .max = INT64_MAX, .step = 1, .help = "of the record of which it is said" },
};
#undef type_of_rows

#define CONTROL_SCHEMA(rows)                                                                       \
	{                                                                                          \
		rows, ARRAY_SIZE(rows), sizeof(struct control_request), 0                          \
	}
static const struct schema peer_name_schema = CONTROL_SCHEMA(peer_name_rows);
static const struct schema probe_schema = CONTROL_SCHEMA(probe_rows);
static const struct schema add_schema = CONTROL_SCHEMA(add_rows);
static const struct schema move_schema = CONTROL_SCHEMA(move_rows);
static const struct schema protect_schema = CONTROL_SCHEMA(protect_rows);
static const struct schema resolve_schema = CONTROL_SCHEMA(resolve_rows);
static const struct schema word_schema = CONTROL_SCHEMA(word_rows);
static const struct schema plain_schema = { NULL, 0, sizeof(struct control_request), 0 };

static const struct request_row control_requests[CONTROL_COMMANDS] = {
	[CONTROL_STATUS] = { "status", &plain_schema },
	[CONTROL_PEERS] = { "peers", &plain_schema },
	[CONTROL_PROBE] = { "peer-probe", &probe_schema },
	[CONTROL_ADD] = { "peer-add", &add_schema },
	[CONTROL_REMOVE] = { "peer-remove", &peer_name_schema },
	[CONTROL_MOVE] = { "move", &move_schema },
	[CONTROL_PROTECT] = { "protect", &protect_schema },
	[CONTROL_RESOLVE] = { "resolve", &resolve_schema },
	[CONTROL_WORD] = { "word", &word_schema },
};

static int unknown_command(const struct request_row *rows, size_t n, const char *name,
			   struct error *err)
{
	struct suggest near;

	suggest_init(&near, name);
	for (size_t i = 0; i < n; i++)
		suggest_offer(&near, rows[i].name);
	return error_set(err, -EINVAL, EXIT_STATUS_USAGE, "command: '%.40s' is unknown%s%s%s", name,
			 near.best ? "; did you mean " : "; use the same version on both ends",
			 near.best ? near.best : "", near.best ? "?" : "");
}

/* The command's row, decoded over a zeroed `object`. */
static int decode(const struct request_row *rows, size_t n, json_t *json, void *object,
		  size_t *ret_index, struct error *err)
{
	_cleanup_(freep) struct problems *problems = calloc(1, sizeof(*problems));
	struct schema_source source = { .file = "request", .problems = problems };
	const char *name = json_string_value(json_object_get(json, "command"));
	size_t i = 0;

	if (!problems)
		return -ENOMEM;
	if (!name)
		return error_set(err, -EINVAL, EXIT_STATUS_USAGE, "command: is missing; give one");
	while (i < n && strcmp(rows[i].name, name) != 0)
		i++;
	if (i == n)
		return unknown_command(rows, n, name, err);
	json_object_del(json, "command");
	schema_init(rows[i].schema, object);
	*ret_index = i;
	if (!schema_decode_json(rows[i].schema, object, json, &source))
		return 0;
	if (err)
		*err = problems->list[0];
	return -EINVAL;
}

int peer_request_decode(json_t *json, struct peer_request *ret_request, struct error *err)
{
	size_t index = PEER_COMMANDS;
	int r;

	memset(ret_request, 0, sizeof(*ret_request));
	r = decode(peer_requests, PEER_COMMANDS, json, ret_request, &index, err);
	ret_request->command = (enum peer_command)index;
	return r;
}

void peer_request_release(struct peer_request *request)
{
	vm_config_release(&request->machine.config);
}

int control_request_decode(json_t *json, struct control_request *ret_request, struct error *err)
{
	size_t index = CONTROL_COMMANDS;
	int r;

	memset(ret_request, 0, sizeof(*ret_request));
	r = decode(control_requests, CONTROL_COMMANDS, json, ret_request, &index, err);
	ret_request->command = (enum control_command)index;
	return r;
}

void control_request_release(struct control_request *request)
{
	peer_release(&request->peer);
}

static json_t *encode(const struct request_row *row, const void *object)
{
	json_t *json = row->schema->n_rows ? schema_encode_json_brief(row->schema, object)
					   : json_object();

	if (!json)
		return NULL;
	if (json_object_set_new(json, "command", json_string(row->name)) < 0) {
		json_decref(json);
		return NULL;
	}
	return json;
}

json_t *peer_request_encode(const struct peer_request *request)
{
	return encode(&peer_requests[request->command], request);
}

json_t *control_request_encode(const struct control_request *request)
{
	return encode(&control_requests[request->command], request);
}
