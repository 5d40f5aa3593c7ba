/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Streams whose peer has said all that it will ever say: wire/stream.h over bytes in memory, taken instead of wire_lib's. What is
 * sent is forgotten. */

#include "wire/stream.h"

/* `bytes` are borrowed. */
struct stream *stream_memory_new(const void *bytes, size_t len);
