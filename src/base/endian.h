/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * Numbers whose bytes have a fixed order. They are structs, so that using one as a plain integer does
 * not compile. Guest structures (virtio, ACPI) and the state format are little-endian.
 */

#include <endian.h>
#include <stdint.h>
#include <string.h>

typedef struct {
	uint16_t raw;
} le16_t;
typedef struct {
	uint32_t raw;
} le32_t;
typedef struct {
	uint64_t raw;
} le64_t;

static inline uint16_t le16_get(le16_t v)
{
	return le16toh(v.raw);
}

static inline uint32_t le32_get(le32_t v)
{
	return le32toh(v.raw);
}

static inline uint64_t le64_get(le64_t v)
{
	return le64toh(v.raw);
}

static inline le16_t le16_make(uint16_t v)
{
	return (le16_t){ htole16(v) };
}

static inline le32_t le32_make(uint32_t v)
{
	return (le32_t){ htole32(v) };
}

static inline le64_t le64_make(uint64_t v)
{
	return (le64_t){ htole64(v) };
}

/* Little-endian numbers of 1 to 8 bytes at an unaligned place. `size` is 1..8. */
static inline uint64_t le_load(const void *p, size_t size)
{
	uint64_t v = 0;

	memcpy(&v, p, size);
	return le64toh(v);
}

static inline void le_store(void *p, size_t size, uint64_t v)
{
	uint64_t bytes = htole64(v);

	memcpy(p, &bytes, size);
}
