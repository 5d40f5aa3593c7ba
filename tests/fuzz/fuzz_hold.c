/* SPDX-License-Identifier: Apache-2.0 */
/*
 * covers: base/hold_section.c
 *
 * Held output that a peer sends: whatever it is, either all of it is taken, and written again it is the same, or nothing has changed. The first
 * byte chooses whether a queue is missing, and whether there are two sections.
 */
#include <stdlib.h>
#include <string.h>

#include "base/endian.h"
#include "base/hold.h"

#define KIND 1
#define LANES 2
#define SIZE 4096

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void poke(void *ctx _unused_)
{
}

/* A judge that has something to say. */
static bool is_right(const void *bytes, size_t len)
{
	return len < 3 || ((const uint8_t *)bytes)[2] != 0xff;
}

static void check_unchanged(const struct hold_lane *lanes)
{
	for (unsigned int i = 0; i < LANES; i++)
		if (lanes[i].offset || lanes[i].queue.n_items || lanes[i].queue.tail)
			abort();
}

static void check_same(struct hold_lane *const *to, const uint8_t *data, size_t size)
{
	struct cursor cursor = { .data = data + 12, .left = 16 };
	uint64_t after = cursor_take_le(&cursor, 8), up_to = cursor_take_le(&cursor, 8);
	struct buffer out;

	buffer_init(&out, hold_section_limit(LANES, SIZE));
	if (hold_section_write(to, LANES, KIND, after, up_to, &out) < 0 || out.len != size ||
	    memcmp(out.data, data, size) != 0)
		abort();
	buffer_release(&out);
}

/* Everything leaves, whatever its length was said to be. */
static void drain(struct hold *hold, struct hold_lane *lane)
{
	struct iovec iov[2];

	hold_open(hold);
	while (hold_lane_next(lane, iov))
		hold_lane_took(lane, iov[0].iov_len, false);
	if (lane->queue.n_bytes || lane->queue.head != lane->queue.tail)
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const struct hold_lane_params params = { .kind = KIND,
						 .splits = true,
						 .size = SIZE,
						 .longest = 1000,
						 .poke = poke,
						 .is_right = is_right };
	struct hold_lane lanes[LANES] = { 0 }, *to[LANES] = { &lanes[0], &lanes[1] };
	uint8_t options = size ? data[0] : 0;
	struct iovec sections[2] = { { (void *)(uintptr_t)(data + !!size), size - !!size } };
	struct error err = { 0 };
	struct hold hold;
	unsigned int n = 1;
	size_t cut;
	int r;

	hold_init(&hold, &clock_host, 5, true);
	for (unsigned int i = 0; i < LANES; i++)
		if (hold_lane_add(&hold, &params, &lanes[i]) < 0)
			abort();
	if (options & 1)
		to[1] = NULL;
	hold_cut(&hold, 9);
	/* One, or two as the next bytes divide them. */
	if (options & 2 && size > 3) {
		cut = MIN((size_t)le_load(data + 1, 2), size - 3);
		sections[0] = (struct iovec){ (void *)(uintptr_t)(data + 3), cut };
		sections[1] = (struct iovec){ (void *)(uintptr_t)(data + 3 + cut), size - 3 - cut };
		n = 2;
	}
	r = hold_section_read(to, LANES, KIND, sections, n, &err);
	if ((r < 0) != (err.message[0] != '\0'))
		abort();
	if (r < 0)
		check_unchanged(lanes);
	else if (!(options & 3))
		check_same(to, data + 1, size - 1);
	for (unsigned int i = 0; i < LANES; i++) {
		drain(&hold, &lanes[i]);
		hold_lane_remove(&lanes[i]);
	}
	hold_destroy(&hold);
	return 0;
}
