/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * How long each vCPU ran, written among the requests: a guest that computes and one that sleeps make none either.
 * The control thread calls vcpu_time_write every VCPU_TIME_MS while somebody watches, on a ring of its own.
 */

#include <time.h>

#include "base/macros.h"
#include "watch/store.h"

#define VCPU_TIME_MS 100

/* One RECORD_VCPU for each of `clocks`, from pthread_getcpuclockid of the vCPUs' threads; one whose thread has ended is
 * passed over. A follower who has no room makes it skip the sample, never wait: the next one says it all. */
void vcpu_time_write(struct ring *ring, const clockid_t *clocks, uint32_t n);
