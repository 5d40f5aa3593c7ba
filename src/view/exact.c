/* SPDX-License-Identifier: Apache-2.0 */
#include "view/exact.h"

#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "view/view.h"
#include "watch/monitor.h"
#include "watch/read/instruction.h"

#define CANDIDATES (RECORD_WINDOW + 1)
#define MISSES_MAX 3 /* accesses of a place under whose breakpoint nobody came */
#define ASK_EACH_NS (20 * NSEC_PER_MSEC)
#define TURN_NS NSEC_PER_SEC /* then places that see no access make room for others */

enum place_state { PLACE_NEW, PLACE_ARMED, PLACE_STEPPED, PLACE_DIFFERS };

struct place {
	uint64_t rip;		 /* where its exits stand, linear */
	uint8_t kind, direction; /* of its accesses: others at the same RIP are another place */
	uint64_t judged;	 /* 0: not told apart */
	enum place_state state;
	bool differs;
	uint8_t n_candidates, first_armed, n_armed, misses;
	uint64_t since; /* TSC: accesses that begin later meet the breakpoints */
	uint64_t candidates[CANDIDATES];
};

struct exact {
	struct api_connection *connection;
	uint32_t n_places;
	struct place places[EXACT_PLACES];
	bool changed;
	uint64_t asked_ns, turned_ns;
	uint32_t next; /* place that has the next turn */
};

struct exact *exact_new(struct api_connection *connection)
{
	struct exact *exact = calloc(1, sizeof(*exact));

	if (exact)
		exact->connection = connection;
	return exact;
}

void exact_free(struct exact *exact)
{
	free(exact);
}

/* ---- places ---- */

static void add_candidate(struct place *place, uint64_t address)
{
	if (place->n_candidates < CANDIDATES)
		place->candidates[place->n_candidates++] = address;
}

/* All that could have led to the exit: what stands at RIP, and what ends there. */
static void add_all_candidates(struct place *place, const struct record_access *access)
{
	char text[256];

	add_candidate(place, place->rip);
	for (unsigned int k = 1; k <= access->n_before && k < RECORD_WINDOW; k++)
		if (insn_format(access->code + RECORD_WINDOW - k, k, access->mode, place->rip - k,
				text, sizeof(text)) == k)
			add_candidate(place, place->rip - k);
}

static struct place *add_place(struct exact *exact, const struct watch_record *record)
{
	struct place *place;

	if (exact->n_places == EXACT_PLACES)
		return NULL;
	place = &exact->places[exact->n_places++];
	place->rip = record_linear_rip(&record->access);
	place->kind = record->kind;
	place->direction = record->flags & RECORD_WRITE;
	if (view_is_sure(record)) {
		place->judged = record->access.instruction;
		add_candidate(place, place->judged);
	} else {
		add_all_candidates(place, &record->access);
	}
	exact->changed = true;
	return place;
}

static struct place *find_place(struct exact *exact, const struct watch_record *record)
{
	const uint64_t rip = record_linear_rip(&record->access);

	for (uint32_t i = 0; i < exact->n_places; i++) {
		struct place *place = &exact->places[i];

		if (place->rip == rip && place->kind == record->kind &&
		    place->direction == (record->flags & RECORD_WRITE))
			return place;
	}
	return add_place(exact, record);
}

/* ---- what comes of it ---- */

static void take_step(struct exact *exact, struct place *place, struct watch_record *record)
{
	struct record_access *access = &record->access;
	char text[256];

	if (!access->length)
		access->length = (uint8_t)insn_format(access->code + RECORD_WINDOW, access->n_after,
						      access->mode, access->instruction, text,
						      sizeof(text));
	if (place->state == PLACE_STEPPED)
		return;
	place->state = PLACE_STEPPED;
	place->differs = place->judged && place->judged != access->instruction;
	exact->changed = true;
}

/* An access of a place whose breakpoints stood before, and nobody came to one: it is none of these. */
static void take_miss(struct exact *exact, struct place *place)
{
	if (++place->misses < MISSES_MAX)
		return;
	place->misses = 0;
	place->first_armed = (uint8_t)(place->first_armed + place->n_armed);
	place->n_armed = 0;
	exact->changed = true;
	if (place->first_armed < place->n_candidates) {
		place->state = PLACE_NEW;
		return;
	}
	place->state = PLACE_DIFFERS;
	place->differs = true;
}

/* ---- turns ---- */

/* Adds what of the place's candidates there is room for. */
static void arm_place(struct place *place, uint64_t *addresses, uint32_t *n)
{
	place->n_armed = 0;
	while (*n < MONITOR_STEPS && place->first_armed + place->n_armed < place->n_candidates)
		addresses[(*n)++] = place->candidates[place->first_armed + place->n_armed++];
	place->state = place->n_armed ? PLACE_ARMED : PLACE_NEW;
	place->misses = 0;
}

static bool ask(struct exact *exact, const uint64_t *addresses, uint32_t n, uint64_t *ret_since)
{
	char text[MONITOR_STEPS * 20] = "";
	struct error err = { 0 };
	json_t *answer;
	size_t len = 0;

	for (uint32_t i = 0; i < n; i++)
		len += (size_t)snprintf(text + len, sizeof(text) - len, "%s0x%llx", i ? "," : "",
					(unsigned long long)addresses[i]);
	if (api_call(exact->connection,
		     json_pack("{s:s, s:s}", "command", "step-at", "addresses", text), &answer,
		     &err) < 0)
		return false;
	*ret_since = strtoull(json_string_value(json_object_get(answer, "since")) ?: "0", NULL, 0);
	json_decref(answer);
	return true;
}

/* The next places have their turn; those that had it without an access wait for another. */
static void turn(struct exact *exact)
{
	uint64_t addresses[MONITOR_STEPS], since = UINT64_MAX;
	uint32_t n = 0;

	for (uint32_t i = 0; i < exact->n_places; i++)
		if (exact->places[i].state == PLACE_ARMED)
			exact->places[i].state = PLACE_NEW;
	for (uint32_t i = 0; i < exact->n_places && n < MONITOR_STEPS; i++) {
		struct place *place = &exact->places[(exact->next + i) % exact->n_places];

		if (place->state == PLACE_NEW)
			arm_place(place, addresses, &n);
	}
	exact->next = exact->n_places ? (exact->next + MONITOR_STEPS) % exact->n_places : 0;
	if (!ask(exact, addresses, n, &since))
		since = UINT64_MAX;
	for (uint32_t i = 0; i < exact->n_places; i++)
		if (exact->places[i].state == PLACE_ARMED)
			exact->places[i].since = since;
}

static void turn_if_due(struct exact *exact)
{
	const uint64_t now = clock_now(&clock_host);

	if (now - exact->asked_ns < ASK_EACH_NS ||
	    (!exact->changed && now - exact->turned_ns < TURN_NS))
		return;
	exact->asked_ns = exact->turned_ns = now;
	exact->changed = false;
	turn(exact);
}

void exact_see(struct exact *exact, struct watch_record *record)
{
	struct place *place;

	if (!view_has_instruction(record) || record->kind == RECORD_PCI)
		return;
	place = find_place(exact, record);
	if (!place)
		return;
	if (record->access.verdict == RECORD_INSN_STEPPED)
		take_step(exact, place, record);
	else if (place->state == PLACE_ARMED && record->begin > place->since)
		take_miss(exact, place);
	turn_if_due(exact);
}

struct exact_counts exact_count(const struct exact *exact)
{
	struct exact_counts counts = { .places = exact->n_places };

	for (uint32_t i = 0; i < exact->n_places; i++) {
		const struct place *place = &exact->places[i];

		counts.stepped += place->state == PLACE_STEPPED;
		counts.agreed += place->state == PLACE_STEPPED && place->judged && !place->differs;
		counts.differed += place->differs;
	}
	return counts;
}
