/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Takes what a simulation of ownership.pml printed through src/protect/ownership.c: the same event at the same process must lead to the
 * same role, gate, record and actions, and a swap that lands must be one that was asked for. Reads lines of
 *
 *     WHO EVENT [ARGUMENT ...]: ACTION ... is ROLE GATE REVISION
 *     WHO start REVISION DEAD: the same
 *     WHO dies
 *     copy WHO REVISION
 *     record REVISION MODE OWNER BACKUP
 *
 * see ownership.pml; others are the simulator's and are skipped. Prints how many steps it replayed, or the first that differs.
 */

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "protect/ownership.h"
#include "words.h"

#define WORDS_MAX 24
#define NUMBERS 32 /* of processes and of revisions */

struct process {
	bool lives;
	struct ownership ownership;
	struct ownership_record wants[OWNERSHIP_MODES]; /* swaps that it asked for */
};

struct replay {
	struct process processes[NUMBERS];
	struct ownership_record history[NUMBERS];
	unsigned long lines;
};

static struct ownership_id id_of(char kind, unsigned long number)
{
	return number ? (struct ownership_id){ { (uint8_t)kind, (uint8_t)number } }
		      : (struct ownership_id){ 0 };
}

/* Others write to the arbiter, too: its revisions are not the record's generations. */
static uint64_t revision_of(unsigned long number)
{
	return 10 * number;
}

static unsigned long number_in(const char *word)
{
	unsigned long number = strtoul(word, NULL, 10);

	return number < NUMBERS ? number : 0;
}

static struct process *process_in(struct replay *replay, const char *word)
{
	return &replay->processes[number_in(word)];
}

static bool is_same_record(const struct ownership_record *a, const struct ownership_record *b)
{
	return a->revision == b->revision && a->generation == b->generation && a->mode == b->mode &&
	       ownership_id_equal(&a->owner, &b->owner) &&
	       ownership_id_equal(&a->backup, &b->backup) && ownership_id_equal(&a->from, &b->from);
}

/* ---- what the model says comes of a step ---- */

static uint32_t action_in(const char *word)
{
	for (unsigned int bit = 0; bit < OWNERSHIP_ACTIONS; bit++)
		if (is_named(word, ownership_action_name(bit)))
			return 1U << bit;
	return 0;
}

static void remember_swap(struct process *process, uint32_t actions)
{
	if (actions & THEN_SWAP)
		process->wants[process->ownership.want.mode] = process->ownership.want;
}

static void print_difference(const struct process *process, uint32_t did)
{
	const struct ownership *ownership = &process->ownership;

	fprintf(stderr, "ownership.c:");
	for (unsigned int bit = 0; bit < OWNERSHIP_ACTIONS; bit++)
		if (did & 1U << bit)
			fprintf(stderr, " %s", ownership_action_name(bit));
	fprintf(stderr, " is %s %s %llu\n", ownership_role_name(ownership->role),
		ownership_is_open(ownership) ? "open" : "shut",
		(unsigned long long)ownership->record.generation);
}

/* `words`: ACTION ... "is" ROLE GATE REVISION */
static int compare(const struct replay *replay, const struct process *process, uint32_t did,
		   char *const *words, int n)
{
	const struct ownership *ownership = &process->ownership;
	uint32_t wanted = 0;
	int i = 0;

	for (; i < n && strcmp(words[i], "is") != 0; i++) {
		uint32_t action = action_in(words[i]);

		if (!action)
			return -EINVAL;
		wanted |= action;
	}
	if (i + 4 != n)
		return -EINVAL;
	if (did == wanted && is_named(words[i + 1], ownership_role_name(ownership->role)) &&
	    ownership_is_open(ownership) == (strcmp(words[i + 2], "open") == 0) &&
	    is_same_record(&ownership->record, &replay->history[number_in(words[i + 3])]))
		return 0;
	print_difference(process, did);
	return -EBADMSG;
}

/* ---- steps ---- */

static int find_event(const char *word)
{
	for (int kind = 0; kind < OWNERSHIP_EVENTS; kind++)
		if (is_named(word, ownership_event_name((enum ownership_event_kind)kind)))
			return kind;
	return -EINVAL;
}

/* Of the kind, with the model's arguments: of none, one, or two. */
static struct ownership_event event_of(const struct replay *replay, enum ownership_event_kind kind,
				       char *const *arguments)
{
	unsigned long first = number_in(arguments[0]);
	struct ownership_event event = { .kind = kind };

	switch (kind) {
	case WHEN_SYNC:
		event.session = id_of('s', first);
		return event;
	case WHEN_ACKED:
		event.session = id_of('s', first);
		event.epoch = number_in(arguments[1]);
		return event;
	case WHEN_WON:
	case WHEN_LOST:
	case WHEN_READ:
		event.record = replay->history[first];
		return event;
	default:
		event.epoch = first;
		return event;
	}
}

static int starts(struct replay *replay, char *const *words, uint32_t *ret_did)
{
	struct process *process = process_in(replay, words[0]);
	struct ownership_id me = id_of('i', number_in(words[0]));
	struct ownership_id dead = id_of('i', number_in(words[3]));

	*process = (struct process){ .lives = true };
	*ret_did = ownership_start(&me, &replay->history[number_in(words[2])], &dead,
				   &process->ownership);
	return 0;
}

static int steps(struct replay *replay, char *const *words, uint32_t *ret_did)
{
	struct process *process = process_in(replay, words[0]);
	int kind = find_event(words[1]);
	struct ownership_event event;

	if (kind < 0 || !process->lives)
		return -EINVAL;
	event = event_of(replay, (enum ownership_event_kind)kind, words + 2);
	*ret_did = ownership_step(&process->ownership, &event);
	return 0;
}

/* `colon`: where the arguments end */
static int takes_step(struct replay *replay, char *const *words, int colon, int n)
{
	uint32_t did;
	int r = strcmp(words[1], "start") == 0 ? starts(replay, words, &did)
					       : steps(replay, words, &did);

	if (r < 0)
		return r;
	remember_swap(process_in(replay, words[0]), did);
	return compare(replay, process_in(replay, words[0]), did, words + colon, n - colon);
}

static int dies(struct replay *replay, char *const *words)
{
	process_in(replay, words[0])->lives = false;
	return 0;
}

static int is_copied(struct replay *replay, char *const *words)
{
	struct process *process = process_in(replay, words[1]);
	unsigned long number = number_in(words[1]);
	struct ownership_id me = id_of('i', number), session = id_of('s', number);

	*process = (struct process){ .lives = true };
	ownership_back_up(&me, &session, &replay->history[number_in(words[2])],
			  &process->ownership);
	return 0;
}

/* A swap lands: `owner` asked for it, whether or not it still waits or lives. */
static int lands(struct replay *replay, char *const *words)
{
	unsigned long number = number_in(words[1]);
	const struct process *owner = process_in(replay, words[3]);
	struct ownership_record *record = &replay->history[number];
	int mode = 0;

	while (mode < OWNERSHIP_MODES &&
	       !is_named(words[2], ownership_mode_name((enum ownership_mode)mode)))
		mode++;
	if (!number || mode == OWNERSHIP_MODES)
		return -EINVAL;
	*record = (struct ownership_record){ .revision = revision_of(number - 1),
					     .generation = number,
					     .mode = (enum ownership_mode)mode,
					     .owner = id_of('i', number_in(words[3])),
					     .backup = id_of('s', number_in(words[4])) };
	if (mode == OWNERSHIP_CLAIMED)
		record->from = replay->history[number - 1].owner;
	if (!is_same_record(record, &owner->wants[mode])) {
		fprintf(stderr, "ownership.c did not ask for that\n");
		return -EBADMSG;
	}
	record->revision = revision_of(number);
	return 0;
}

/* The first process has started already. */
static void begin(struct replay *replay)
{
	char *start[] = { "1", "start", "0", "0" }, *record[] = { "record", "1", "solo", "1", "0" };
	char *won[] = { "1", "won", "1", "0" };
	uint32_t did;

	(void)!starts(replay, start, &did);
	remember_swap(&replay->processes[1], did);
	(void)!lands(replay, record);
	(void)!steps(replay, won, &did);
}

/* ---- lines ---- */

/* Cuts it into words; `ret_colon`: how many stand before the colon, or 0. */
static int words_of(char *line, char *words[WORDS_MAX], int *ret_colon)
{
	char *rest = NULL;
	int n = 0;

	*ret_colon = 0;
	for (char *word = strtok_r(line, " \n", &rest); word && n < WORDS_MAX;
	     word = strtok_r(NULL, " \n", &rest)) {
		size_t length = strlen(word);

		words[n++] = word;
		if (!*ret_colon && word[length - 1] == ':') {
			word[length - 1] = '\0';
			*ret_colon = n;
		}
	}
	return n;
}

static int replay_line(struct replay *replay, char *line)
{
	char *words[WORDS_MAX];
	int colon, n = words_of(line, words, &colon);

	if (n == 3 && strcmp(words[0], "copy") == 0)
		return is_copied(replay, words);
	if (n == 5 && strcmp(words[0], "record") == 0)
		return lands(replay, words);
	if (n == 2 && isdigit((unsigned char)words[0][0]) && strcmp(words[1], "dies") == 0)
		return dies(replay, words);
	/* The last may have been cut off. */
	if (n < 6 || n == WORDS_MAX || !isdigit((unsigned char)words[0][0]) || colon < 2 ||
	    strcmp(words[n - 4], "is") != 0)
		return 0;
	replay->lines++;
	return takes_step(replay, words, colon, n);
}

int main(void)
{
	struct replay replay = { 0 };
	char line[256], copy[256];

	begin(&replay);
	while (fgets(line, sizeof(line), stdin)) {
		int r;

		memcpy(copy, line, sizeof(copy));
		r = replay_line(&replay, line);
		if (r < 0) {
			fprintf(stderr, "after %lu steps: %s: the model: %s", replay.lines,
				strerror(-r), copy);
			return 1;
		}
	}
	printf("%lu steps replayed\n", replay.lines);
	return 0;
}
