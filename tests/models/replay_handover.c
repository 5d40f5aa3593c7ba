/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Takes what a simulation of handover.pml printed through src/move/handover.c: the same event in the same state must lead to the same
 * state and the same actions. Reads lines of
 *
 *     WHO EVENT STATE ACTION...      sm dm sd dd, see handover.pml; other lines are the simulator's and are skipped
 *
 * and prints how many it replayed, or the first that differs. A run may have none: the power
 * was cut everywhere. With --postcopy the model was one with POSTCOPY.
 */

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "move/handover.h"
#include "words.h"

#define WORDS_MAX 12

static const struct handover_id the_move = { .token = "of the model", .generation = 2 };

static const char *const source_states[] = { "has", "giving", "given", "kept", "left" };
static const char *const destination_states[] = { "loads",  "ready", "commits", "open",
						  "closes", "runs",  "closed" };

struct replay {
	struct handover_source sources[2]; /* mover, daemon */
	struct handover_destination destinations[2];
	unsigned long lines;
};

/* Where the model begins: the guest stands, state is being sent. */
static void begin(struct replay *replay, bool postcopy)
{
	struct handover_source *source = &replay->sources[0];
	struct handover_destination *destination = &replay->destinations[0];
	struct handover_event event = { .id = the_move };
	const struct handover_event begun = { .kind = ON_POSTCOPY, .id = the_move };

	(void)!handover_source_start(&the_move, source);
	while (source->phase != PHASE_STATE) {
		if (source->phase == PHASE_MEMORY && postcopy)
			(void)!handover_source_step(source, &begun);
		event.kind = source->work_done ? ON_REHEARSED : ON_DONE;
		event.phase = source->phase;
		(void)!handover_source_step(source, &event);
	}
	(void)!handover_destination_start(&the_move, 1, destination);
	while (destination->phase != PHASE_STATE) {
		if (destination->phase == PHASE_MEMORY && postcopy)
			(void)!handover_destination_step(destination, &begun);
		event.kind = ON_DONE;
		event.phase = destination->phase;
		(void)!handover_destination_step(destination, &event);
	}
}

static int find_event(const char *word)
{
	for (int kind = 0; kind < HANDOVER_EVENTS; kind++)
		if (is_named(word, handover_event_name(kind)))
			return kind;
	return -EINVAL;
}

static uint32_t find_action(const char *word)
{
	for (unsigned int bit = 0; bit < HANDOVER_ACTIONS; bit++)
		if (is_named(word, handover_action_name(bit)))
			return 1U << bit;
	return 0;
}

/* "restart-MARK" or "restart-MARK-lives" */
static uint32_t restart(struct replay *replay, const char *word, bool destination)
{
	static const char *const marks[] = { [HANDOVER_OPEN] = "restart-open",
					     [HANDOVER_RAN] = "restart-ran",
					     [HANDOVER_NEVER] = "restart-never" };
	enum handover_mark mark = HANDOVER_OPEN;
	bool lives = strstr(word, "-lives") != NULL;

	while (mark < HANDOVER_NEVER && strncmp(word, marks[mark], strlen(marks[mark])) != 0)
		mark++;
	return destination ? handover_destination_restart(&the_move, mark, lives,
							  &replay->destinations[1])
			   : handover_source_restart(&the_move, mark, lives, &replay->sources[1]);
}

static uint32_t step(struct replay *replay, const char *who, enum handover_event_kind kind)
{
	bool daemon = who[1] == 'd';
	struct handover_event event = { .kind = kind, .id = the_move };

	if (who[0] == 'd') {
		event.phase = replay->destinations[daemon].phase;
		return handover_destination_step(&replay->destinations[daemon], &event);
	}
	event.phase = replay->sources[daemon].phase;
	return handover_source_step(&replay->sources[daemon], &event);
}

static const char *state_of(const struct replay *replay, const char *who)
{
	bool daemon = who[1] == 'd';

	return who[0] == 'd' ? destination_states[replay->destinations[daemon].at]
			     : source_states[replay->sources[daemon].at];
}

static int differ(const struct replay *replay, char *const *words, uint32_t did)
{
	fprintf(stderr,
		"the model: %s in '%s' then is '%s'; handover.c is '%s' and does:", words[0],
		words[1], words[2], state_of(replay, words[0]));
	for (unsigned int bit = 0; bit < HANDOVER_ACTIONS; bit++)
		if (did & 1U << bit)
			fprintf(stderr, " %s", handover_action_name(bit));
	fprintf(stderr, "\n");
	return -EBADMSG;
}

static int replay_words(struct replay *replay, char *const *words, int n)
{
	uint32_t wanted = 0, did;
	int kind = find_event(words[1]);

	if (strncmp(words[1], "restart-", 8) == 0)
		did = restart(replay, words[1], words[0][0] == 'd');
	else if (kind >= 0)
		did = step(replay, words[0], (enum handover_event_kind)kind);
	else
		return kind;
	for (int i = 3; i < n; i++) {
		uint32_t action = find_action(words[i]);

		if (!action)
			return -EINVAL;
		wanted |= action;
	}
	replay->lines++;
	if (did != wanted || strcmp(words[2], state_of(replay, words[0])) != 0)
		return differ(replay, words, did);
	return 0;
}

static bool is_ours(const char *line)
{
	return (line[0] == 's' || line[0] == 'd') && (line[1] == 'm' || line[1] == 'd') &&
	       line[2] == ' ';
}

static int replay_line(struct replay *replay, char *line)
{
	char *words[WORDS_MAX], *rest = NULL;
	int n = 0;

	for (char *word = strtok_r(line, " \n", &rest); word && n < WORDS_MAX;
	     word = strtok_r(NULL, " \n", &rest))
		words[n++] = word;
	if (n == 2 && (strcmp(words[1], "dies") == 0 || strcmp(words[1], "leaves") == 0))
		return 0; /* whoever it was is not heard of again, or begins from a mark */
	return n < 3 || n == WORDS_MAX ? -EINVAL : replay_words(replay, words, n);
}

int main(int argc, char **argv)
{
	struct replay replay = { 0 };
	char line[256], copy[256];

	begin(&replay, argc > 1 && strcmp(argv[1], "--postcopy") == 0);
	while (fgets(line, sizeof(line), stdin)) {
		int r;

		if (!is_ours(line))
			continue;
		memcpy(copy, line, sizeof(copy));
		r = replay_line(&replay, line);
		if (r < 0) {
			fprintf(stderr, "after %lu steps: %s: %s", replay.lines, strerror(-r),
				copy);
			return 1;
		}
	}
	printf("%lu steps replayed\n", replay.lines);
	return 0;
}
