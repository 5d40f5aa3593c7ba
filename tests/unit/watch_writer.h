/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* A store with writers, for tests of what reads it. */

#include <string.h>

#include "watch/store.h"

#define TEST_HZ 1000000000ULL /* one tick is a nanosecond */

struct writer {
	int fd;
	struct store *store;
	struct ring *rings[8];
};

/* `n` rings (1..8), named "ring0" ..., and the device "serial". */
void writer_open(struct writer *w, uint32_t n, uint32_t ring_records);
void writer_close(struct writer *w);

/* A record that began at `begin` and took `duration` ticks; `data` tells it from others. */
void writer_add(struct ring *ring, uint64_t begin, uint64_t duration, uint64_t data);
/* The same, as if it had been answered just now, by the host's TSC. */
void writer_add_now(struct ring *ring, uint64_t data);
