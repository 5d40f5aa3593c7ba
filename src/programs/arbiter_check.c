/* SPDX-License-Identifier: Apache-2.0 */
/* utsusu arbiter check: asks each member by itself; and utsusu resolve: what stands there of one VM. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/fd.h"
#include "host/state_dir.h"
#include "peer/instances.h"
#include "peer/manual.h"
#include "programs/arbiter_host.h"

struct checking;

/* One member. */
struct member {
	struct checking *checking;
	struct arbiter_endpoint endpoint;
	struct arbiter_config config;
	struct arbiter *arbiter;
	uint64_t took_ns;
	bool answered; /* with what can be believed */
	bool done;
	struct error why;
};

struct checking {
	struct arbiter_host host;
	struct loop *loop;
	uint64_t began_ns;
	int state_fd;
	char folder[64]; /* of its own: what this host saw of real VMs is not touched */
	char uuid[UUID_TEXT];
	unsigned int n_left;
	struct member members[LIMIT_ARBITER_ENDPOINTS];
};

static int tell(const struct error *err)
{
	fprintf(stderr, "utsusu-arbiter: %s\n", err->message);
	return err->status;
}

static void finish(struct member *member)
{
	struct checking *checking = member->checking;

	if (member->done)
		return;
	member->done = true;
	member->took_ns = clock_now(&clock_host) - checking->began_ns;
	if (--checking->n_left == 0)
		loop_stop(checking->loop);
}

static void heard(void *ctx, const struct ownership_record *record, const struct error *err)
{
	struct member *member = ctx;

	member->answered = record != NULL;
	if (err)
		member->why = *err;
	finish(member);
}

static void begin(struct member *member)
{
	struct checking *checking = member->checking;
	const struct arbiter_events events = { .stands = heard, .ctx = member };
	int r = arbiter_open(checking->loop, &member->config, checking->state_fd, checking->uuid,
			     &events, &member->arbiter, &member->why);

	if (r == 0)
		r = arbiter_read(member->arbiter);
	if (r == 0)
		return;
	(void)error_set(&member->why, r, EXIT_STATUS_HOST, "%s", strerror(-r));
	finish(member);
}

static int make_folder(struct checking *checking, struct error *err)
{
	const char *tmp = getenv("TMPDIR");

	snprintf(checking->folder, sizeof(checking->folder), "%.40s/utsusu-XXXXXX",
		 tmp && tmp[0] == '/' ? tmp : "/tmp");
	if (!mkdtemp(checking->folder)) {
		checking->folder[0] = '\0';
		return error_set(err, -errno, EXIT_STATUS_HOST, "/tmp: %s", strerror(errno));
	}
	checking->state_fd = open(checking->folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	return checking->state_fd < 0 ? error_set(err, -errno, EXIT_STATUS_HOST, "%s: %s",
						  checking->folder, strerror(errno))
				      : 0;
}

static void remove_folder(struct checking *checking)
{
	char file[UUID_TEXT + 16];

	if (!checking->folder[0])
		return;
	snprintf(file, sizeof(file), "arbiter/%s", checking->uuid);
	unlinkat(checking->state_fd, file, 0);
	unlinkat(checking->state_fd, "arbiter", AT_REMOVEDIR);
	rmdir(checking->folder);
}

static int ask_all(struct checking *checking, struct error *err)
{
	const struct arbiter_config *config = &checking->host.config;
	int r = uuid_make(checking->uuid);

	if (r == 0)
		r = make_folder(checking, err);
	checking->loop = loop_new(&clock_host);
	if (r < 0 || !checking->loop)
		return error_set(err, r < 0 ? r : -ENOMEM, EXIT_STATUS_HOST, "arbiter: %s",
				 strerror(r < 0 ? -r : ENOMEM));
	checking->n_left = config->n_endpoints + 1; /* until all have begun */
	checking->began_ns = clock_now(&clock_host);
	for (unsigned int i = 0; i < config->n_endpoints; i++) {
		struct member *member = &checking->members[i];

		member->checking = checking;
		member->endpoint = config->endpoints[i];
		member->config = *config;
		member->config.endpoints = &member->endpoint;
		member->config.n_endpoints = 1;
		begin(member);
	}
	return --checking->n_left ? loop_run(checking->loop) : 0;
}

static unsigned int count_answers(const struct checking *checking)
{
	unsigned int n = 0;

	for (unsigned int i = 0; i < checking->host.config.n_endpoints; i++)
		n += checking->members[i].answered;
	return n;
}

static void print(const struct checking *checking)
{
	const struct arbiter_config *config = &checking->host.config;

	for (unsigned int i = 0; i < config->n_endpoints; i++) {
		const struct member *member = &checking->members[i];

		if (member->answered)
			printf("%-32s a read took %llu ms\n", member->endpoint.url,
			       (unsigned long long)(member->took_ns / NSEC_PER_MSEC));
		else
			printf("%-32s does not serve: %s\n", member->endpoint.url,
			       member->why.message);
	}
	if (count_answers(checking))
		printf("arbiter: can be asked: %u of %u members answer%s%s\n",
		       count_answers(checking), config->n_endpoints,
		       config->user ? ", as user " : ", without a user",
		       config->user ? config->user : "");
}

static void print_json(const struct checking *checking)
{
	const struct arbiter_config *config = &checking->host.config;
	json_t *members = json_array();
	json_auto_t *answer = NULL;
	_cleanup_(freep) char *text = NULL;

	for (unsigned int i = 0; i < config->n_endpoints; i++) {
		const struct member *member = &checking->members[i];
		json_t *one = json_pack("{s:s, s:b, s:I}", "url", member->endpoint.url, "answers",
					(int)member->answered, "took_ms",
					(json_int_t)(member->took_ns / NSEC_PER_MSEC));

		if (!member->answered)
			json_object_set_new(one, "message", json_string(member->why.message));
		json_array_append_new(members, one);
	}
	answer = json_pack("{s:b, s:s?, s:o}", "ok", (int)(count_answers(checking) > 0), "user",
			   config->user, "members", members);
	text = json_dumps(answer, JSON_INDENT(2));
	puts(text ? text : "null");
}

static int judge(const struct checking *checking)
{
	const struct error *why = &checking->members[0].why;
	struct error err = { 0 };

	if (count_answers(checking))
		return EXIT_STATUS_OK;
	(void)error_set(&err, -EHOSTUNREACH, EXIT_STATUS_HOST,
			"arbiter: no member can be asked, so no VM of this host can be protected; "
			"%s",
			why->message);
	return tell(&err);
}

int arbiter_check(bool json)
{
	struct checking checking = { .state_fd = -1 };
	struct error err = { 0 };
	int status, r = arbiter_host_load(&checking.host, &err);

	if (r == 0 && checking.host.manual) {
		arbiter_host_release(&checking.host);
		puts(json ? "{\"ok\": true, \"manual\": true, \"members\": []}"
			  : "arbiter: manual: nobody is asked but you");
		return EXIT_STATUS_OK;
	}
	if (r == 0)
		r = ask_all(&checking, &err);
	if (r < 0) {
		status = tell(&err);
	} else {
		if (json)
			print_json(&checking);
		else
			print(&checking);
		status = judge(&checking);
	}
	for (size_t i = 0; i < ARRAY_SIZE(checking.members); i++)
		arbiter_free(checking.members[i].arbiter);
	remove_folder(&checking);
	fd_close(checking.state_fd);
	if (checking.loop)
		loop_free(checking.loop);
	arbiter_host_release(&checking.host);
	return status;
}

/* ---- one VM's record ---- */

struct showing {
	struct loop *loop;
	bool known;
	struct ownership_record record;
	struct error err;
};

static void stands(void *ctx, const struct ownership_record *record, const struct error *err)
{
	struct showing *showing = ctx;

	showing->known = record != NULL;
	if (record)
		showing->record = *record;
	if (err)
		showing->err = *err;
	loop_stop(showing->loop);
}

static int ask(struct showing *showing, const struct arbiter_config *config, int state_fd,
	       const char *uuid)
{
	const struct arbiter_events events = { .stands = stands, .ctx = showing };
	struct arbiter *arbiter = NULL;
	int r;

	showing->loop = loop_new(&clock_host);
	r = showing->loop ? arbiter_open(showing->loop, config, state_fd, uuid, &events, &arbiter,
					 &showing->err)
			  : -ENOMEM;
	if (r == 0)
		r = arbiter_read(arbiter);
	if (r == 0)
		r = loop_run(showing->loop);
	arbiter_free(arbiter);
	if (showing->loop)
		loop_free(showing->loop);
	if (r == 0 && !showing->known)
		r = showing->err.code < 0 ? showing->err.code : -EIO;
	return r;
}

static int look(struct showing *showing, int state_fd, const char *uuid)
{
	struct manual_records records;
	int r = manual_read(state_fd, uuid, &records, &showing->err);

	if (r == 0)
		showing->record = manual_last(&records);
	return r;
}

static void print_record(int state_fd, const char *uuid, const struct ownership_record *record)
{
	static const char *const words[] = {
		[INSTANCE_UNKNOWN] = "elsewhere",
		[INSTANCE_LIVES] = "here",
		[INSTANCE_DEAD] = "dead-here",
	};
	enum instance_state state = INSTANCE_UNKNOWN;
	json_auto_t *answer = json_pack("{s:b}", "ok", 1);
	json_t *encoded = arbiter_record_encode(record);
	_cleanup_(freep) char *text = NULL;

	if (encoded)
		(void)!instances_look(state_fd, uuid, &record->owner, &state);
	json_object_set_new(answer, "record", encoded ? encoded : json_null());
	json_object_set_new(answer, "owner_is", json_string(words[state]));
	text = json_dumps(answer, JSON_COMPACT);
	puts(text ? text : "null");
}

int arbiter_show(const char *uuid)
{
	struct arbiter_host host;
	struct showing showing = { 0 };
	_cleanup_(fd_closep) int state_fd = -1;
	int r = arbiter_host_load(&host, &showing.err);

	if (r == 0)
		r = state_dir_open(&state_fd, &showing.err);
	if (r == 0 && host.manual)
		r = look(&showing, state_fd, uuid);
	else if (r == 0)
		r = ask(&showing, &host.config, state_fd, uuid);
	if (r == 0)
		print_record(state_fd, uuid, &showing.record);
	arbiter_host_release(&host);
	if (r == 0)
		return EXIT_STATUS_OK;
	(void)error_set(&showing.err, r, EXIT_STATUS_HOST, "arbiter: %s", strerror(-r));
	return tell(&showing.err);
}
