/* SPDX-License-Identifier: Apache-2.0 */
/* Requests between daemons of different versions: those kept of former ones are taken, and what they do not know is not sent. */
#include "check.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "peer/request.h"

static const char *const names[PEER_COMMANDS] = {
	[PEER_CHECK] = "check",	  [PEER_RESERVE] = "reserve", [PEER_FILE] = "file",
	[PEER_LAUNCH] = "launch", [PEER_START] = "start",     [PEER_OUTCOME] = "outcome",
	[PEER_LOOK] = "look",	  [PEER_HAS] = "has",
};

/* As version 1 sent it: every key that it knew. */
static json_t *kept(enum peer_command command)
{
	const char *data = getenv("UTSUSU_TEST_DATA");
	char path[512];
	json_t *json;

	snprintf(path, sizeof(path), "%s/peer-requests/1/%s.json", data ? data : "tests/data",
		 names[command]);
	json = json_load_file(path, JSON_REJECT_DUPLICATES, NULL);
	assert_non_null(json);
	return json;
}

static struct peer_request *decode(json_t *json)
{
	struct peer_request *request = calloc(1, sizeof(*request));
	struct error err = { 0 };

	assert_non_null(request);
	if (peer_request_decode(json, request, &err) < 0)
		fail_msg("%s", err.message);
	return request;
}

static void discard(struct peer_request *request)
{
	peer_request_release(request);
	free(request);
}

static void requests_of_version_1_are_taken(void **state _unused_)
{
	for (enum peer_command command = 0; command < PEER_COMMANDS; command++) {
		json_auto_t *json = names[command] ? kept(command) : NULL;
		struct peer_request *request;

		if (!json)
			continue; /* it came later */
		request = decode(json);
		assert_int_equal(request->command, command);
		discard(request);
	}
}

static void their_values_are_understood(void **state _unused_)
{
	json_auto_t *json = kept(PEER_RESERVE);
	struct peer_request *request = decode(json);
	const struct peer_machine *machine = &request->machine;

	assert_string_equal(machine->config.name, "web");
	assert_int_equal(machine->config.memory.size, MIB(512));
	assert_int_equal(machine->config.n_disks, 1);
	assert_string_equal(machine->config.nets[0].tap, "lan");
	assert_int_equal(machine->kernel.size, MIB(8));
	assert_string_equal(machine->disks[0].identity, "naa.5000c500a1b2c3d4");
	assert_int_equal(machine->streams, 2);
	assert_false(machine->plain);
	discard(request);
}

/* Only of a VM that has a record: one of an older version has no word for it. */
static void whose_record_it_is_is_told_where_there_is_one(void **state _unused_)
{
	json_auto_t *before = kept(PEER_RESERVE);
	struct peer_request *request = decode(before), *heard;
	json_auto_t *plain = peer_request_encode(request), *told = NULL;
	struct error err = { 0 };

	assert_null(json_object_get(json_object_get(plain, "machine"), "owner"));
	strcpy(request->machine.owner, "00112233445566778899aabbccddeeff");
	told = peer_request_encode(request);
	heard = decode(told);
	assert_string_equal(heard->machine.owner, request->machine.owner);
	discard(heard);
	json_object_set_new(json_object_get(told, "machine"), "owner", json_string("me"));
	heard = calloc(1, sizeof(*heard));
	assert_true(peer_request_decode(told, heard, &err) < 0);
	discard(heard);
	discard(request);
}

/* `ours` says nothing that `theirs` has no word for. */
static void expect_words(const json_t *ours, const json_t *theirs)
{
	const json_t *value, *known;
	const char *key;
	size_t i;

	if (json_is_array(ours)) {
		json_array_foreach(ours, i, value) expect_words(value, json_array_get(theirs, 0));
		return;
	}
	json_object_foreach((json_t *)ours, key, value)
	{
		known = json_object_get(theirs, key);
		if (!known)
			fail_msg("'%s' is sent and version 1 does not know it", key);
		expect_words(value, known);
	}
}

static void what_version_1_does_not_know_is_not_sent(void **state _unused_)
{
	for (enum peer_command command = 0; command < PEER_COMMANDS; command++) {
		json_auto_t *theirs = names[command] ? kept(command) : NULL;
		json_auto_t *copy = json_deep_copy(theirs);
		json_auto_t *ours = NULL;
		struct peer_request *request;

		if (!theirs)
			continue;
		request = decode(copy);
		ours = peer_request_encode(request);
		expect_words(ours, theirs);
		discard(request);
	}
}

static void nothing_is_lost_by_not_saying_it(void **state _unused_)
{
	json_auto_t *json = kept(PEER_RESERVE);
	struct peer_request *request = decode(json), *again;
	json_auto_t *brief = peer_request_encode(request);
	json_auto_t *before = schema_encode_json(&config_schema, &request->machine.config);
	json_auto_t *after = NULL;

	assert_null(json_object_get(json_object_get(brief, "machine"), "plain"));
	again = decode(brief);
	after = schema_encode_json(&config_schema, &again->machine.config);
	assert_true(json_equal(before, after));
	assert_int_equal(again->machine.generation, request->machine.generation);
	assert_int_equal(again->machine.n_disks, 1);
	assert_true(again->machine.disks[0].device);
	discard(request);
	discard(again);
}

/* An older host refuses that word, where it would let the VM run. */
static void a_pause_is_said(void **state _unused_)
{
	json_auto_t *json = kept(PEER_RESERVE);
	struct peer_request *request = decode(json);
	json_auto_t *ours = NULL;

	assert_false(request->machine.paused);
	request->machine.paused = true;
	ours = peer_request_encode(request);
	assert_true(json_is_true(json_object_get(json_object_get(ours, "machine"), "paused")));
	discard(request);
}

/* The same of a backup: who does not know the word would let the VM run. */
static void a_backup_is_said(void **state _unused_)
{
	json_auto_t *json = kept(PEER_RESERVE);
	struct peer_request *request = decode(json), *again;
	json_auto_t *ours = NULL;

	assert_false(request->machine.protect);
	request->machine.protect = true;
	request->machine.detect_ms = 250;
	ours = peer_request_encode(request);
	again = decode(ours);
	assert_true(again->machine.protect);
	assert_int_equal(again->machine.detect_ms, 250);
	discard(request);
	discard(again);
}

/* Something new is not left out in silence: who wants it is refused by name. */
static void what_is_unknown_is_refused(void **state _unused_)
{
	_cleanup_(freep) struct peer_request *request = calloc(1, sizeof(*request));
	json_auto_t *json = kept(PEER_RESERVE);
	struct error err = { 0 };

	json_object_set_new(json_object_get(json, "machine"), "fold_in_half", json_true());
	assert_int_equal(peer_request_decode(json, request, &err), -EINVAL);
	assert_non_null(strstr(err.message, "fold_in_half"));
	peer_request_release(request);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(requests_of_version_1_are_taken),
		cmocka_unit_test(their_values_are_understood),
		cmocka_unit_test(whose_record_it_is_is_told_where_there_is_one),
		cmocka_unit_test(what_version_1_does_not_know_is_not_sent),
		cmocka_unit_test(nothing_is_lost_by_not_saying_it),
		cmocka_unit_test(a_pause_is_said),
		cmocka_unit_test(a_backup_is_said),
		cmocka_unit_test(what_is_unknown_is_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
