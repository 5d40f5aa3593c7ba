/* SPDX-License-Identifier: Apache-2.0 */
/* utsusu resolve, of a VM that had a backup: the arbiter knows whose it is. Needs no daemon. */
#include "programs/utsusu_resolve.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "api/launch.h"
#include "base/cleanup.h"
#include "base/fd.h"
#include "base/hex.h"
#include "host/runtime.h"
#include "host/state_dir.h"
#include "peer/instances.h"
#include "peer/protected.h"
#include "programs/json_text.h"
#include "programs/utsusu_status.h"

#define PROGRAM "utsusu-arbiter"
#define ANSWER_MAX KIB(16)

struct matter {
	const struct command_options *options;
	int state_fd;
	struct protected_note note;
	bool alive;	/* a process of that name is here */
	bool foreign;	/* and the record says that it is another's; nothing is noted here */
	json_t *answer; /* the arbiter's; NULL: it cannot be asked */
};

static void become_program(const char *uuid, int out)
{
	char *const argv[] = { (char *)PROGRAM, (char *)"--record", (char *)uuid, NULL };
	char program[PATH_MAX];

	if (launch_find_program(PROGRAM, program, sizeof(program)) == 0 &&
	    dup2(out, STDOUT_FILENO) >= 0)
		execv(program, argv);
	_exit(EXIT_STATUS_FAILED);
}

/* What it cannot say it says itself, on standard error. */
static json_t *ask_arbiter_program(const char *uuid)
{
	_cleanup_(freep) char *text = calloc(1, ANSWER_MAX);
	int out[2], status = -1;
	size_t len = 0;
	pid_t pid;

	if (!text || pipe2(out, O_CLOEXEC) < 0)
		return NULL;
	pid = fork();
	if (pid == 0)
		become_program(uuid, out[1]);
	fd_close(out[1]);
	if (pid > 0 && fd_read_all(out[0], text, ANSWER_MAX - 1, &len) < 0)
		len = 0;
	fd_close(out[0]);
	if (pid <= 0 || waitpid(pid, &status, 0) != pid || status != 0)
		return NULL;
	return json_loadb(text, len, 0, NULL);
}

static const json_t *record_of(const struct matter *matter)
{
	const json_t *record = json_object_get(matter->answer, "record");

	return json_is_object(record) ? record : NULL;
}

/* The record says that the VM was alone on a process of this host, which has ended. */
static bool may_run_here(const struct matter *matter)
{
	const char *mode = json_text(record_of(matter), "mode", "");

	return strcmp(json_text(matter->answer, "owner_is", ""), "dead-here") == 0 &&
	       (strcmp(mode, "solo") == 0 || strcmp(mode, "stopped") == 0);
}

static void say(const struct matter *matter, char *ret_text, size_t size)
{
	const char *name = matter->options->name, *mode = json_text(record_of(matter), "mode", "");
	const char *peer = matter->note.peer[0] ? matter->note.peer : "another host";
	const char *owner = json_text(matter->answer, "owner_is", "");

	if (matter->foreign)
		snprintf(
			ret_text, size,
			"%s runs here, and the arbiter's record says that it is another process's: it "
			"came here by a move, or one of this UUID runs elsewhere",
			name);
	else if (!matter->answer)
		snprintf(ret_text, size,
			 "%s was protected by %s; who has it now is not known while the arbiter "
			 "cannot be asked",
			 name, peer);
	else if (!record_of(matter))
		snprintf(ret_text, size,
			 "%s was protected by %s, and the arbiter knows nothing of it", name, peer);
	else if (may_run_here(matter))
		snprintf(ret_text, size, "%s was this host's alone when it ended", name);
	else if (strcmp(owner, "elsewhere") == 0)
		snprintf(ret_text, size,
			 strcmp(mode, "stopped") == 0 ? "%s switched itself off on %s"
						      : "%s is another host's by now: see %s",
			 name, peer);
	else
		snprintf(ret_text, size,
			 "%s was protected by %s when it ended here, which may still take it over",
			 name, peer);
}

static void print(const struct matter *matter, bool forgotten)
{
	const char *name = matter->options->name;
	const json_t *record = record_of(matter);
	char message[ERROR_MESSAGE_MAX];
	_cleanup_(freep) char *text = NULL;
	json_auto_t *json = NULL;

	say(matter, message, sizeof(message));
	if (matter->options->json) {
		json = json_pack("{s:s, s:s, s:s, s:s, s:b, s:O?, s:s?}", "name", name, "state",
				 forgotten	   ? "none"
				 : matter->foreign ? "foreign"
						   : "protected",
				 "message", message, "peer", matter->note.peer, "may_run_here",
				 (int)may_run_here(matter), "record", record, "owner_is",
				 json_string_value(json_object_get(matter->answer, "owner_is")));
		text = json_dumps(json, JSON_INDENT(2));
		puts(text ? text : "null");
		return;
	}
	if (forgotten) {
		printf(matter->foreign ? "%s is this host's in a moment, and may be protected\n"
				       : "%s may be started here\n",
		       name);
		return;
	}
	puts(message);
	if (record)
		printf("  record: %s, generation %lld\n", json_text(record, "mode", "-"),
		       (long long)json_integer_value(json_object_get(record, "generation")));
	if (may_run_here(matter))
		printf("\nTo start it here again:\n  utsusu resolve %s --run-here\n", name);
	else
		printf("\nOnly if it does not run on another host and never will:\n"
		       "  utsusu resolve %s --run-here --force\n"
		       "If it does run there, there are two of it then.\n",
		       name);
}

/* By a person's word whoever had it is gone: a record of its goes on from here. */
static int bury_owner(const struct matter *matter)
{
	const char *owner = json_text(record_of(matter), "owner", "");
	struct ownership_id id;

	if (!hex_decode(owner, id.bytes, OWNERSHIP_ID_BYTES))
		return 0;
	return instances_bury(matter->state_fd, matter->note.uuid, &id);
}

static int run_here(const struct matter *matter, struct error *err)
{
	const char *name = matter->options->name;
	char why[ERROR_MESSAGE_MAX];
	int r = 0;

	if (matter->alive && !matter->foreign)
		return error_set(err, -EBUSY, EXIT_STATUS_BUSY,
				 "%s: a process of it is here; see utsusu status %s", name, name);
	if (!may_run_here(matter) && !matter->options->force) {
		say(matter, why, sizeof(why));
		return error_set(
			err, -EBUSY, EXIT_STATUS_BUSY,
			"%s; only if it does not run there and never will: utsusu resolve %s "
			"--run-here --force",
			why, name);
	}
	if (!may_run_here(matter))
		r = bury_owner(matter);
	if (r == 0 && !matter->foreign)
		r = protected_drop(matter->state_fd, name);
	return r < 0 ? error_set(err, r, EXIT_STATUS_HOST, "%s: its note cannot be removed: %s",
				 name, strerror(-r))
		     : 0;
}

static int act(struct matter *matter, struct error *err)
{
	int r;

	if (matter->options->lost_here)
		return error_set(err, -EEXIST, EXIT_STATUS_USAGE,
				 "%s: there is nothing to declare: the arbiter says whose it is",
				 matter->options->name);
	matter->alive = runtime_alive(matter->options->name) != 0;
	matter->answer = ask_arbiter_program(matter->note.uuid);
	r = matter->options->run_here ? run_here(matter, err) : 0;
	if (r == 0)
		print(matter, matter->options->run_here);
	return r < 0 ? r : 1;
}

/* One that runs here, by its own word. 1, 0. */
static int is_foreign(struct matter *matter)
{
	const char *name = matter->options->name, *uuid;
	json_auto_t *facts = NULL;
	json_auto_t *more = NULL;
	struct error unheard = { 0 };

	if (runtime_alive(name) <= 0 || status_ask(name, "protect-facts", &facts, &unheard) < 0 ||
	    !json_is_true(json_object_get(facts, "foreign")) ||
	    status_ask(name, "move-facts", &more, &unheard) < 0)
		return 0;
	uuid = json_text(more, "uuid", "");
	matter->foreign = uuid_valid(uuid);
	snprintf(matter->note.uuid, sizeof(matter->note.uuid), "%s", uuid);
	return matter->foreign;
}

int resolve_protected(const struct command_options *options, struct error *err)
{
	struct matter matter = { .options = options, .state_fd = -1 };
	int r = state_dir_is_there() ? state_dir_open(&matter.state_fd, err) : -ENOENT;

	if (r == 0)
		r = protected_read(matter.state_fd, options->name, &matter.note);
	if (r == 0)
		r = is_foreign(&matter);
	if (r == 1)
		r = act(&matter, err);
	json_decref(matter.answer);
	fd_close(matter.state_fd);
	if (r == -ENOENT)
		return 0;
	return r < 0 ? error_set(err, r, EXIT_STATUS_HOST,
				 "%s: this host's note that it is protected cannot be read: %s",
				 options->name, strerror(-r))
		     : r;
}
