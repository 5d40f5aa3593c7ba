/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#define _must_check_ __attribute__((warn_unused_result))
#define _printf_(fmt, args) __attribute__((format(printf, fmt, args)))
#define _unused_ __attribute__((unused))
/* Rarely called: kept out of the way of what is often. */
#define _cold_ __attribute__((cold, noinline))

#define ARRAY_SIZE(a) (sizeof(a) / sizeof((a)[0]))

/* The object that contains `member`, from a pointer to the member. */
#define container_of(ptr, type, member) ((type *)((char *)(ptr)-offsetof(type, member)))

#define MIN(a, b) ((a) < (b) ? (a) : (b))
#define MAX(a, b) ((a) > (b) ? (a) : (b))

#define KIB(n) ((uint64_t)(n) << 10)
#define MIB(n) ((uint64_t)(n) << 20)
#define GIB(n) ((uint64_t)(n) << 30)

#define NSEC_PER_USEC 1000ULL
#define NSEC_PER_MSEC 1000000ULL
#define NSEC_PER_SEC 1000000000ULL

/* `align` is a power of two. ALIGN_UP can overflow near UINT64_MAX: check untrusted input first. */
#define ALIGN_DOWN(x, align) ((x) & ~((uint64_t)(align)-1))
#define ALIGN_UP(x, align) (((x) + (uint64_t)(align)-1) & ~((uint64_t)(align)-1))
#define IS_ALIGNED(x, align) (((x) & ((uint64_t)(align)-1)) == 0)

/* True when [start, start + len) lies inside [0, limit), without overflow on any input. */
static inline int range_fits(uint64_t start, uint64_t len, uint64_t limit)
{
	return len <= limit && start <= limit - len;
}
