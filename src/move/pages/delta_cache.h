/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * What was sent last of some pages: bounded, so that pages sent again can go as the difference. It holds exactly what the
 * receiver holds, so every other way of sending a page must forget it here. Any thread.
 */

#include <stdbool.h>
#include <stdint.h>

#include "base/macros.h"

struct delta_cache;

/* `bytes` of pages (rounded down to a power of two, at least 64 KiB); the memory is the host's until it is used. */
_must_check_ int delta_cache_new(uint64_t bytes, struct delta_cache **ret_cache);
void delta_cache_free(struct delta_cache *cache);

/* The page's content is now `content`, which the caller sends, exactly. When what was sent before is known: true, the difference
 * (XOR) in `ret_delta`, and how many of its 64 lines differ. Both buffers are of 4 KiB, aligned to 64 bytes. */
_must_check_ bool delta_cache_replace(struct delta_cache *cache, uint64_t page, const void *content,
				      void *ret_delta, unsigned int *ret_lines);
void delta_cache_forget(struct delta_cache *cache, uint64_t first, uint32_t n);
