/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Bytes made smaller by zstd: single frames that name their length. Contexts are made once; one thread each. */

#include <stddef.h>

#include "base/macros.h"

#define COMPRESS_MAX MIB(2) /* bytes before compression, of one piece */

struct compressor;
struct expander;

/* `level`: zstd's, from -7 (fast) to 19; -EINVAL beyond. */
_must_check_ int compressor_new(int level, struct compressor **ret_compressor);
void compressor_free(struct compressor *compressor);
/* -EINVAL beyond the same limits. For the next pieces. */
_must_check_ int compressor_set_level(struct compressor *compressor, int level);
/* Compresses `len` bytes (1..COMPRESS_MAX) into at most `room`: -ENOSPC when they do not fit, which is how the caller says what
 * is worth it. */
_must_check_ int compressor_run(struct compressor *compressor, const void *bytes, size_t len,
				void *buf, size_t room, size_t *ret_len);

_must_check_ int expander_new(struct expander **ret_expander);
void expander_free(struct expander *expander);
/* The bytes are untrusted: they must be one whole frame that says it holds exactly `expected` bytes (1..COMPRESS_MAX) and does,
 * else -EBADMSG; `buf` may then hold some of them. Allocates nothing. */
_must_check_ int expander_run(struct expander *expander, const void *bytes, size_t len, void *buf,
			      size_t expected);
