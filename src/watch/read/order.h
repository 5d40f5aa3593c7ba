/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Records that are held back until it is sure that none with an earlier beginning follows: a heap by beginning; of those
 * with the same, the one that came first. One thread. */

#include <stdbool.h>

#include "base/macros.h"
#include "watch/record.h"

struct order;

/* For at most `max` records (1..2^24). NULL when out of memory. */
struct order *order_new(uint32_t max);
void order_free(struct order *order);

/* Where the next record is to be written, and order_add tells when it is; NULL: it is full. */
struct watch_record *order_slot(struct order *order);
void order_add(struct order *order, uint32_t ring, uint64_t key);

uint32_t order_count(const struct order *order);
bool order_is_full(const struct order *order);
/* The least key. Of one that is not empty. */
uint64_t order_first(const struct order *order);
/* Takes the record with the least key. Of one that is not empty. */
void order_take(struct order *order, struct watch_record *ret_record, uint32_t *ret_ring);
