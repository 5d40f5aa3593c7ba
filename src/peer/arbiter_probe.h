/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Whether this host can ask its arbiter now: by utsusu-arbiter, since no other program links an HTTP client. Waits some seconds. One thread. */

#include "base/error.h"
#include "peer/lists.h"

/* 0, or an error with the way out: none is named, or none answers. */
_must_check_ int arbiter_probe(const struct lists *lists, struct error *err);
