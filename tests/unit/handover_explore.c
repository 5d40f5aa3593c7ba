/* SPDX-License-Identifier: Apache-2.0 */

#include "handover_explore.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define NO_STATE UINT32_MAX

struct explorer {
	const struct world_rules *rules;
	size_t n, max;
	struct world *worlds;
	uint32_t *parents, *depths;
	uint32_t *table; /* of numbers of states, by hash */
	size_t n_table;
	/* Steps that are no faults, by the state that they start from: edges[first[i]] .. edges[first[i + 1]] */
	size_t *first;
	uint32_t *edges;
	size_t n_edges, max_edges;
	uint32_t at; /* the state whose followers are being made */
	const char *broken;
	struct world broken_world;
};

static void *must(void *memory)
{
	if (!memory)
		abort();
	return memory;
}

static uint64_t hash_world(const struct world *world)
{
	const uint32_t *words = (const uint32_t *)world;
	uint64_t hash = 0x9e3779b97f4a7c15ULL;

	_Static_assert(sizeof(*world) % sizeof(*words) == 0, "hashed by words");
	for (size_t i = 0; i < sizeof(*world) / sizeof(*words); i++) {
		hash = (hash ^ words[i]) * 0xff51afd7ed558ccdULL;
		hash ^= hash >> 32;
	}
	return hash;
}

/* The number of this state, NO_STATE when there is no room for another. */
static uint32_t find_or_add(struct explorer *explorer, const struct world *world)
{
	size_t slot = hash_world(world) & (explorer->n_table - 1);

	for (; explorer->table[slot] != NO_STATE; slot = (slot + 1) & (explorer->n_table - 1))
		if (memcmp(&explorer->worlds[explorer->table[slot]], world, sizeof(*world)) == 0)
			return explorer->table[slot];
	if (explorer->n == explorer->max)
		return NO_STATE;
	explorer->table[slot] = (uint32_t)explorer->n;
	explorer->worlds[explorer->n] = *world;
	explorer->parents[explorer->n] = explorer->at;
	explorer->depths[explorer->n] = explorer->at == NO_STATE
						? 0
						: explorer->depths[explorer->at] + 1;
	return (uint32_t)explorer->n++;
}

static void add_edge(struct explorer *explorer, uint32_t to)
{
	if (explorer->n_edges == explorer->max_edges) {
		explorer->max_edges *= 2;
		explorer->edges = must(
			realloc(explorer->edges, explorer->max_edges * sizeof(*explorer->edges)));
	}
	explorer->edges[explorer->n_edges++] = to;
}

static void found(void *ctx, const struct world *next, bool fault, const char *broken,
		  const char *what)
{
	struct explorer *explorer = ctx;
	uint32_t number;

	(void)what;
	if (explorer->broken)
		return;
	if (broken) {
		explorer->broken = broken;
		explorer->broken_world = *next;
		return;
	}
	number = find_or_add(explorer, next);
	if (!fault && number != NO_STATE)
		add_edge(explorer, number);
}

/* ---- the way to a state, found again by making each one's followers ---- */

struct namer {
	const struct world *wanted;
	const char *broken; /* the promise, by the step that breaks it */
	char what[96];
};

static void name_step(void *ctx, const struct world *next, bool fault, const char *broken,
		      const char *what)
{
	struct namer *namer = ctx;

	(void)fault;
	if (!namer->what[0] && broken == namer->broken &&
	    memcmp(next, namer->wanted, sizeof(*next)) == 0)
		snprintf(namer->what, sizeof(namer->what), "%s", what);
}

static void print_step(const struct explorer *explorer, uint32_t from, const struct world *wanted,
		       const char *broken)
{
	struct namer namer = { .wanted = wanted, .broken = broken };
	struct world_visitor visitor = { .next = name_step, .ctx = &namer, .named = true };

	world_next(&explorer->worlds[from], explorer->rules, &visitor);
	printf("  %s\n", namer.what);
}

static void print_way(const struct explorer *explorer, uint32_t number)
{
	uint32_t parent = explorer->parents[number];

	if (parent == NO_STATE)
		return;
	print_way(explorer, parent);
	print_step(explorer, parent, &explorer->worlds[number], NULL);
}

/* ---- from each state a way out ---- */

/* Goes backwards over all states until nothing changes: later states lead to earlier ones seldom. */
static void judge_ways_out(struct explorer *explorer)
{
	bool *leads = must(calloc(explorer->n, sizeof(*leads)));
	bool changed = true;

	while (changed) {
		changed = false;
		for (size_t i = explorer->n; i-- > 0;) {
			if (leads[i])
				continue;
			leads[i] = world_is_settled(&explorer->worlds[i]);
			for (size_t e = explorer->first[i]; e < explorer->first[i + 1] && !leads[i];
			     e++)
				leads[i] = leads[explorer->edges[e]];
			changed |= leads[i];
		}
	}
	for (size_t i = 0; i < explorer->n && !explorer->broken; i++) {
		if (leads[i])
			continue;
		explorer->broken = "what is in doubt can be settled";
		print_way(explorer, (uint32_t)i);
	}
	free(leads);
}

static void explorer_init(struct explorer *explorer, const struct world_rules *rules, size_t max)
{
	*explorer = (struct explorer){
		.rules = rules, .max = max, .n_table = 1024, .max_edges = 1024, .at = NO_STATE
	};
	while (explorer->n_table < max * 2)
		explorer->n_table *= 2;
	explorer->worlds = must(malloc(max * sizeof(*explorer->worlds)));
	explorer->parents = must(malloc(max * sizeof(*explorer->parents)));
	explorer->depths = must(malloc(max * sizeof(*explorer->depths)));
	explorer->first = must(malloc((max + 1) * sizeof(*explorer->first)));
	explorer->edges = must(malloc(explorer->max_edges * sizeof(*explorer->edges)));
	explorer->table = must(malloc(explorer->n_table * sizeof(*explorer->table)));
	memset(explorer->table, 0xff, explorer->n_table * sizeof(*explorer->table));
}

static void explorer_release(struct explorer *explorer)
{
	free(explorer->worlds);
	free(explorer->parents);
	free(explorer->depths);
	free(explorer->first);
	free(explorer->edges);
	free(explorer->table);
}

void explore(const struct world_rules *rules, size_t max_states, struct explored *ret_explored)
{
	struct explorer explorer;
	struct world_visitor visitor = { .next = found, .ctx = &explorer };
	struct world start;

	explorer_init(&explorer, rules, max_states);
	world_init(rules, &start);
	(void)find_or_add(&explorer, &start);
	for (explorer.at = 0; explorer.at < explorer.n && !explorer.broken; explorer.at++) {
		explorer.first[explorer.at] = explorer.n_edges;
		world_next(&explorer.worlds[explorer.at], rules, &visitor);
	}
	if (explorer.broken) {
		print_way(&explorer, explorer.at - 1);
		print_step(&explorer, explorer.at - 1, &explorer.broken_world, explorer.broken);
	} else if (explorer.n < max_states) {
		explorer.first[explorer.n] = explorer.n_edges;
		judge_ways_out(&explorer);
	}
	if (explorer.broken)
		printf("broken: %s\n", explorer.broken);
	*ret_explored = (struct explored){
		.states = explorer.n,
		.edges = explorer.n_edges,
		.depth = explorer.depths[explorer.n - 1],
		.complete = explorer.n < max_states,
		.broken = explorer.broken,
	};
	explorer_release(&explorer);
}
