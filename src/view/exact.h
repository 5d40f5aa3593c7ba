/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * --exact: what was judged (watch/read/instruction.h) is put to the proof. Each place that makes accesses is told to the VM, four
 * at a time, which sees the vCPU come to the instruction and makes one step there (watch/monitor_exact.c): the record of an
 * access within it is STEPPED. A place that was ambiguous has each of its candidates tried.
 */

#include "api/client.h"
#include "watch/record.h"

#define EXACT_PLACES 512 /* looked at; what comes beyond is judged as ever */

struct exact;

struct exact_counts {
	uint32_t places;  /* that made accesses */
	uint32_t stepped; /* of them: seen by a step */
	uint32_t agreed;  /* of these: what was judged before was so */
	uint32_t
		differed; /* another instruction, or the judged one was not come to before an access */
};

/* `connection` (borrowed) watches with exact. NULL when out of memory. */
struct exact *exact_new(struct api_connection *connection);
void exact_free(struct exact *exact);

/* To be shown each record in order, judged; may ask the VM, some times a second. A stepped one gets its length. */
void exact_see(struct exact *exact, struct watch_record *record);
struct exact_counts exact_count(const struct exact *exact);
