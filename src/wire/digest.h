/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* SHA-256. One that hashes is made once; one thread each. Opens nothing, also where nothing may be opened. */

#include <stddef.h>
#include <stdint.h>

#include "base/macros.h"

#define DIGEST_BYTES 32

struct digest;

_must_check_ int digest_new(struct digest **ret_digest);
void digest_free(struct digest *digest); /* NULL is accepted */
/* -ENOMEM. */
_must_check_ int digest_run(struct digest *digest, const void *bytes, size_t len,
			    uint8_t ret_hash[DIGEST_BYTES]);
