/* SPDX-License-Identifier: Apache-2.0 */
#include "arbiter_rig.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/base64.h"
#include "base/cleanup.h"
#include "base/fd.h"
#include "check.h"
#include "protect/record.h"

/* ---- what etcd says ---- */

static const char *header(uint64_t cluster, uint64_t revision)
{
	static char text[160];

	snprintf(text, sizeof(text),
		 "\"header\":{\"cluster_id\":\"%llu\",\"member_id\":\"5\",\"revision\":\"%llu\","
		 "\"raft_term\":\"2\"}",
		 (unsigned long long)cluster, (unsigned long long)revision);
	return text;
}

static const char *kvs(const struct ownership_record *record)
{
	static const char key[] = "/utsusu/1/vm/" UUID;
	static char text[2048];
	char value[LIMIT_OWNERSHIP_RECORD], value64[BASE64_TEXT(LIMIT_OWNERSHIP_RECORD)];
	char key64[BASE64_TEXT(sizeof(key))];
	size_t len;

	if (!record)
		return "\"more\":false";
	assert_int_equal(record_encode(record, value, &len), 0);
	base64_encode(value, len, value64);
	base64_encode(key, sizeof(key) - 1, key64);
	snprintf(text, sizeof(text),
		 "\"kvs\":[{\"key\":\"%s\",\"create_revision\":\"2\",\"mod_revision\":\"%llu\","
		 "\"version\":\"3\",\"value\":\"%s\"}],\"count\":\"1\"",
		 key64, (unsigned long long)record->revision, value64);
	return text;
}

/* The answers live as long as the test. */
static const char *keep(char *text)
{
	static char *kept[64];
	static size_t n;

	free(kept[n % ARRAY_SIZE(kept)]);
	kept[n++ % ARRAY_SIZE(kept)] = text;
	return text;
}

const char *etcd_won(uint64_t cluster, uint64_t revision)
{
	char *text;

	assert_true(asprintf(&text,
			     "{%s,\"succeeded\":true,\"responses\":[{\"response_put\":{\"header\":"
			     "{\"revision\":\"%llu\"}}}]}",
			     header(cluster, revision), (unsigned long long)revision) > 0);
	return keep(text);
}

const char *etcd_lost(uint64_t revision, const struct ownership_record *record)
{
	char *text;

	assert_true(asprintf(&text, "{%s,\"responses\":[{\"response_range\":{%s}}]}",
			     header(77, revision), kvs(record)) > 0);
	return keep(text);
}

const char *etcd_range(uint64_t cluster, uint64_t revision, const struct ownership_record *record)
{
	char *text;

	assert_true(asprintf(&text, "{%s,%s}", header(cluster, revision), kvs(record)) > 0);
	return keep(text);
}

/* ---- the arbiter under test ---- */

static void heard_swapped(void *ctx, const struct arbiter_swapped *swapped)
{
	struct arbiter_rig *f = ctx;

	f->n_swapped++;
	f->swapped = *swapped;
}

static void heard_stands(void *ctx, const struct ownership_record *record, const struct error *err)
{
	struct arbiter_rig *f = ctx;

	f->n_stands++;
	f->known = record;
	if (record)
		f->stands = *record;
	else
		f->err = *err;
}

void rig_open(struct arbiter_rig *f, unsigned int n_endpoints, const char *user)
{
	const struct arbiter_events events = { heard_swapped, heard_stands, f };
	struct arbiter_config config = {
		.endpoints = f->endpoints,
		.n_endpoints = n_endpoints,
		.user = user,
		.password = user ? "secret" : NULL,
		.deadline_ms = RIG_DEADLINE_MS,
		.silence_ms = RIG_SILENCE_MS,
	};
	struct error err = { 0 };

	if (arbiter_open(f->loop, &config, f->state_fd, UUID, &events, &f->arbiter, &err) < 0)
		fail_msg("%s", err.message);
}

void rig_reopen(struct arbiter_rig *f)
{
	arbiter_free(f->arbiter);
	rig_open(f, 1, NULL);
}

/* A port of loopback where nobody listens. */
static uint16_t closed_port(void)
{
	struct sockaddr_in address = { .sin_family = AF_INET,
				       .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	_cleanup_(fd_closep) int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	socklen_t len = sizeof(address);

	assert_int_equal(bind(fd, (struct sockaddr *)&address, sizeof(address)), 0);
	assert_int_equal(getsockname(fd, (struct sockaddr *)&address, &len), 0);
	return ntohs(address.sin_port);
}

int rig_setup(void **state)
{
	struct arbiter_rig *f = calloc(1, sizeof(*f));

	f->loop = loop_new(&clock_host);
	f->servers[0] = server_new(f->loop);
	f->servers[1] = server_new(f->loop);
	for (size_t i = 0; i < 3; i++) {
		snprintf(f->urls[i], sizeof(f->urls[i]), "http://127.0.0.1:%u",
			 i < 2 ? server_port(f->servers[i]) : closed_port());
		f->endpoints[i].url = f->urls[i];
	}
	snprintf(f->folder, sizeof(f->folder), "/tmp/utsusu-test-XXXXXX");
	f->state_fd = mkdtemp(f->folder) ? open(f->folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;
	rig_open(f, 1, NULL);
	*state = f;
	return f->state_fd < 0 ? -1 : 0;
}

int rig_teardown(void **state)
{
	struct arbiter_rig *f = *state;

	arbiter_free(f->arbiter);
	server_free(f->servers[0]);
	server_free(f->servers[1]);
	loop_free(f->loop);
	unlinkat(f->state_fd, "arbiter/" UUID, 0);
	unlinkat(f->state_fd, "arbiter", AT_REMOVEDIR);
	fd_close(f->state_fd);
	rmdir(f->folder);
	free(f);
	return 0;
}

void rig_turn_until(struct arbiter_rig *f, const unsigned int *count, unsigned int wanted)
{
	uint64_t due = clock_now(&clock_host) + 20 * NSEC_PER_SEC;

	while (*count < wanted && clock_now(&clock_host) < due)
		assert_int_equal(loop_turn(f->loop, 100), 0);
	assert_int_equal(*count, wanted);
}

void rig_swap(struct arbiter_rig *f, const struct ownership_record *want)
{
	assert_int_equal(arbiter_swap(f->arbiter, want), 0);
	rig_turn_until(f, &f->n_swapped, f->n_swapped + 1);
	assert_int_equal(server_left(f->servers[0]), 0);
	assert_int_equal(server_left(f->servers[1]), 0);
}

void rig_read(struct arbiter_rig *f)
{
	assert_int_equal(arbiter_read(f->arbiter), 0);
	rig_turn_until(f, &f->n_stands, f->n_stands + 1);
	assert_int_equal(server_left(f->servers[0]), 0);
	assert_int_equal(server_left(f->servers[1]), 0);
}
