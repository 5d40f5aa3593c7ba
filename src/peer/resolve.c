/* SPDX-License-Identifier: Apache-2.0 */
#include "peer/resolve.h"

#include <errno.h>
#include <string.h>

#include "base/cleanup.h"
#include "peer/arrivals.h"
#include "peer/door.h"
#include "peer/generations.h"
#include "peer/settle.h"
#include "peer/standing.h"

struct matter {
	struct peer_host *host;
	const char *name;
	struct marks *marks;
	bool alive;	  /* a process of the VM is here */
	bool given_known; /* there is a mark, whole, or its process knows it */
	bool not_given;	  /* there is one, damaged, and its process runs and never gave */
	struct mark_given given;
	struct arrival arrival;
	enum handover_start start;
	bool answered; /* the other host did */
	enum mark_result there;
	struct settle_there vm;
	struct error silence; /* why it did not */
};

/* The mark cannot be read. The process knows what it said, or that it never was given. */
static void ask_process(struct matter *matter)
{
	struct standing standing;
	struct error unheard = { 0 };

	if (standing_ask(matter->name, &standing, &unheard) != 1)
		return;
	matter->not_given = !standing.may_give;
	if (standing.given)
		matter->given = standing.mark;
}

static int look(struct matter *matter, struct error *err)
{
	int r;

	matter->given_known = matter->not_given = matter->answered = false;
	r = arrivals_may_start(matter->host->state_fd, matter->marks, matter->name, &matter->start,
			       &matter->given, &matter->arrival);

	if (r < 0)
		return error_set(err, r, EXIT_STATUS_HOST, "%s: its marks cannot be read: %s",
				 matter->name, strerror(-r));
	r = settle_alive(matter->name, err);
	if (r < 0)
		return r;
	matter->alive = r > 0;
	if (matter->start == START_ASK_FIRST && !matter->given.peer[0] && matter->alive)
		ask_process(matter);
	matter->given_known = matter->given.peer[0];
	if (matter->given_known && !mark_is_file(&matter->given) &&
	    settle_ask(matter->host, &matter->given, false, &matter->there, &matter->vm,
		       &matter->silence) == 0)
		matter->answered = true;
	return 0;
}

static const char *state_of(const struct matter *matter)
{
	switch (matter->start) {
	case START_LIVES_THERE:
		return "there";
	case START_ASK_FIRST:
		return "doubt";
	case START_NOT_TAKEN:
		return matter->alive ? "arriving" : "not-taken";
	case START_MAY:
		break;
	}
	return matter->alive ? "here" : "none";
}

static void say(const struct matter *matter, char *ret_text, size_t size)
{
	const char *name = matter->name, *peer = matter->given.peer;

	switch (matter->start) {
	case START_LIVES_THERE:
		snprintf(ret_text, size,
			 mark_is_file(&matter->given) ? "%s was saved in %s and is there"
						      : "%s lives on %s",
			 name, peer);
		return;
	case START_ASK_FIRST:
		if (matter->not_given)
			snprintf(
				ret_text, size,
				"%s runs on this host; there is a mark that it was given away, which "
				"is damaged and not so",
				name);
		else if (!matter->given_known)
			snprintf(ret_text, size,
				 "%s was given away, and the mark that says to whom is damaged",
				 name);
		else
			snprintf(ret_text, size,
				 "%s was given to %s and it is not known whether it ran there; %s",
				 name, peer,
				 matter->answered
					 ? "that host answers, so this will be settled in a moment"
					 : "this host keeps asking");
		return;
	case START_NOT_TAKEN:
		snprintf(
			ret_text, size,
			matter->alive
				? "%s is on its way here from %s"
				: "%s was to come here from %s and did not; it is still that host's",
			name, matter->arrival.source);
		return;
	case START_MAY:
		break;
	}
	snprintf(ret_text, size,
		 matter->alive ? "%s runs on this host" : "nothing stands against %s here", name);
}

static json_t *encode(const struct matter *matter)
{
	char message[ERROR_MESSAGE_MAX];
	json_t *here = json_pack("{s:b}", "vm", (int)matter->alive), *answer;

	say(matter, message, sizeof(message));
	if (matter->given_known) {
		json_object_set_new(here, "given",
				    json_string(mark_result_name(matter->given.result)));
		json_object_set_new(here, "generation",
				    json_integer((json_int_t)matter->given.generation));
	}
	answer = json_pack("{s:b, s:s, s:s, s:s, s:o}", "ok", 1, "name", matter->name, "state",
			   state_of(matter), "message", message, "here", here);
	if (!matter->given_known || mark_is_file(&matter->given))
		return answer;
	json_object_set_new(answer, "peer", json_string(matter->given.peer));
	json_object_set_new(answer, "there",
			    matter->answered
				    ? json_pack("{s:b, s:s}", "vm", (int)matter->vm.vm, "result",
						mark_result_name(matter->there))
				    : json_pack("{s:s}", "error", matter->silence.message));
	if (matter->answered && matter->vm.moved)
		json_object_set_new(json_object_get(answer, "there"), "moved", json_true());
	return answer;
}

static int not_needed(const struct matter *matter, struct error *err)
{
	return error_set(err, -EEXIST, EXIT_STATUS_USAGE,
			 "%s: there is nothing to declare: no move of it is in doubt here",
			 matter->name);
}

/* The other side's truth goes before anybody's word. */
static int refuse_while_answered(const struct matter *matter, struct error *err)
{
	if (!matter->answered)
		return 0;
	return error_set(err, -EEXIST, EXIT_STATUS_USAGE,
			 "%s: %s answers (%s): nothing is to be declared; %s", matter->name,
			 matter->given.peer, mark_result_name(matter->there),
			 matter->there == MARK_RAN ? "move it back from there"
						   : "this is settled in a moment");
}

static int lost_here(struct matter *matter, struct error *err)
{
	int r;

	if (matter->start != START_ASK_FIRST || !matter->given_known)
		return not_needed(matter, err);
	r = refuse_while_answered(matter, err);
	return r < 0 ? r : settle_tell(matter->host, &matter->given, MARK_RAN, err);
}

/* It ran there and has ended, as that host says itself: whoever wants may start it here. */
static bool has_ended_there(const struct matter *matter)
{
	return matter->start == START_LIVES_THERE && matter->answered &&
	       matter->there == MARK_RAN && !matter->vm.vm && !matter->vm.moved;
}

/* It was to come and did not: its source may run it, whatever is said here. */
static int refuse_while_sources(const struct matter *matter, struct error *err)
{
	const char *name = matter->name, *source = matter->arrival.source;
	struct settle_there there;

	if (settle_ask_source(matter->host, source, name, &there) < 0)
		return 0;
	if (there.vm)
		return error_set(
			err, -EEXIST, EXIT_STATUS_USAGE,
			"%s: %s answers and has it: nothing is to be declared; move it from there, "
			"or stop it there first",
			name, source);
	if (there.moved)
		return error_set(
			err, -EEXIST, EXIT_STATUS_USAGE,
			"%s: %s answers and gave it away: nothing is to be declared here before "
			"that is settled there: utsusu resolve %s",
			name, source, name);
	return 0;
}

static int run_here(struct matter *matter, struct error *err)
{
	int r = has_ended_there(matter) ? 0 : refuse_while_answered(matter, err);

	if (r < 0)
		return r;
	switch (matter->start) {
	case START_MAY:
		return not_needed(matter, err);
	case START_NOT_TAKEN:
		if (matter->alive)
			return error_set(err, -EBUSY, EXIT_STATUS_BUSY,
					 "%s: is on its way here; wait for the end of its move",
					 matter->name);
		r = refuse_while_sources(matter, err);
		return r < 0 ? r
			     : arrivals_drop(matter->host->state_fd, matter->marks, matter->name);
	case START_ASK_FIRST:
	case START_LIVES_THERE:
		break;
	}
	snprintf(matter->given.name, sizeof(matter->given.name), "%s", matter->name);
	/* It ran there by that number, which goes with its mark. */
	if (matter->start == START_LIVES_THERE)
		r = generations_raise(matter->host->state_fd, matter->given.uuid,
				      matter->given.generation);
	return r < 0 ? r : settle_tell(matter->host, &matter->given, MARK_NEVER, err);
}

static int act(struct matter *matter, enum resolve_word word, struct error *err)
{
	int r = look(matter, err);

	if (r < 0 || word == RESOLVE_SHOW)
		return r;
	r = word == RESOLVE_LOST_HERE ? lost_here(matter, err) : run_here(matter, err);
	if (r == 0)
		log_line(matter->host->log, LOG_LEVEL_WARNING, "%s: by the operator's word: %s",
			 matter->name,
			 word == RESOLVE_LOST_HERE ? "it is lost here and lives there"
						   : "it runs here and is gone there");
	/* What stands now. */
	return r < 0 ? error_set(err, r, EXIT_STATUS_FAILED, "%s: %s", matter->name, strerror(-r))
		     : look(matter, err);
}

void resolve(struct peer_host *host, const struct control_request *request, int client)
{
	struct matter matter = { .host = host, .name = request->name };
	json_auto_t *answer = NULL;
	struct error err = { 0 };
	int r = marks_open(&matter.marks, &err);

	if (r == 0)
		r = act(&matter, request->word, &err);
	answer = r == 0 ? encode(&matter) : NULL;
	if (answer)
		door_answer(client, answer);
	else
		door_refuse(client, &err);
	marks_close(matter.marks);
}
