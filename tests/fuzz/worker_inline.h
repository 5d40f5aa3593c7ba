/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "base/worker.h"

/* One turn of the worker's loop, without waiting. */
void worker_turn(struct worker *worker);
/* What the barrier does when a worker parks at it, and when it goes on. */
void worker_park(struct worker *worker, bool parked);
