/* SPDX-License-Identifier: Apache-2.0 */
/* Compression: what goes in comes out, and nothing but a whole frame of the promised length is taken. */
#include "check.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "wire/compress.h"

#define TEXT_BYTES 20000

struct fixture {
	struct compressor *compressor;
	struct expander *expander;
	uint8_t text[TEXT_BYTES], packed[TEXT_BYTES], again[TEXT_BYTES + 1];
	size_t len; /* of `packed` */
};

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));

	assert_int_equal(compressor_new(1, &f->compressor), 0);
	assert_int_equal(expander_new(&f->expander), 0);
	for (size_t i = 0; i < TEXT_BYTES; i++)
		f->text[i] = (uint8_t)(i % 251 * (i / 1000));
	assert_int_equal(compressor_run(f->compressor, f->text, TEXT_BYTES, f->packed, TEXT_BYTES,
					&f->len),
			 0);
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	compressor_free(f->compressor);
	expander_free(f->expander);
	free(f);
	return 0;
}

static int expand(struct fixture *f, size_t expected)
{
	return expander_run(f->expander, f->packed, f->len, f->again, expected);
}

static void what_goes_in_comes_out(void **state)
{
	struct fixture *f = *state;

	assert_in_range(f->len, 1, TEXT_BYTES / 2);
	for (int level = -7; level <= 19; level += 13) {
		assert_int_equal(compressor_set_level(f->compressor, level), 0);
		assert_int_equal(compressor_run(f->compressor, f->text, TEXT_BYTES, f->packed,
						TEXT_BYTES, &f->len),
				 0);
		assert_int_equal(expand(f, TEXT_BYTES), 0);
		assert_memory_equal(f->again, f->text, TEXT_BYTES);
	}
}

static void what_is_not_worth_it_does_not_fit(void **state)
{
	struct fixture *f = *state;
	size_t len = 77;

	assert_int_equal(compressor_run(f->compressor, f->text, TEXT_BYTES, f->packed, f->len - 1,
					&len),
			 -ENOSPC);
	assert_int_equal(len, 77);
	assert_int_equal(
		compressor_run(f->compressor, f->text, TEXT_BYTES, f->packed, TEXT_BYTES, &len), 0);
}

static void lengths_and_levels_have_limits(void **state)
{
	struct fixture *f = *state;
	struct compressor *compressor;
	size_t len;

	assert_int_equal(compressor_new(20, &compressor), -EINVAL);
	assert_int_equal(compressor_new(-8, &compressor), -EINVAL);
	assert_int_equal(compressor_run(f->compressor, f->text, 0, f->packed, 100, &len), -EINVAL);
	assert_int_equal(compressor_run(f->compressor, f->text, COMPRESS_MAX + 1, f->packed, 100,
					&len),
			 -EINVAL);
	assert_int_equal(expand(f, 0), -EBADMSG);
	assert_int_equal(expand(f, COMPRESS_MAX + 1), -EBADMSG);
}

static void other_lengths_than_promised_are_refused(void **state)
{
	struct fixture *f = *state;

	memset(f->again, 0xaa, sizeof(f->again));
	assert_int_equal(expand(f, TEXT_BYTES - 1), -EBADMSG);
	assert_int_equal(expand(f, TEXT_BYTES + 1), -EBADMSG);
	for (size_t i = 0; i < sizeof(f->again); i++)
		assert_int_equal(f->again[i], 0xaa);
}

static void cut_and_prolonged_frames_are_refused(void **state)
{
	struct fixture *f = *state;

	for (size_t len = 0; len < f->len; len++)
		assert_int_equal(expander_run(f->expander, f->packed, len, f->again, TEXT_BYTES),
				 -EBADMSG);
	f->len++;
	assert_int_equal(expand(f, TEXT_BYTES), -EBADMSG);
}

/* A body that lies: the header is whole, so the decoder itself must find it, and go on with the next. */
static void damaged_bodies_are_refused_and_forgotten(void **state)
{
	struct fixture *f = *state;
	unsigned int refused = 0;

	for (size_t i = 8; i < f->len; i++) {
		f->packed[i] ^= 0x55;
		refused += expand(f, TEXT_BYTES) == -EBADMSG;
		f->packed[i] ^= 0x55;
		assert_int_equal(expand(f, TEXT_BYTES), 0);
		assert_memory_equal(f->again, f->text, TEXT_BYTES);
	}
	assert_true(refused > 0);
}

static void other_formats_are_refused(void **state)
{
	/* A frame to be skipped, and zstd 0.7's number. */
	static const uint8_t skippable[] = { 0x50, 0x2a, 0x4d, 0x18, 4, 0, 0, 0, 1, 2, 3, 4 };
	static const uint8_t old[] = { 0x27, 0xb5, 0x2f, 0xfd, 0, 0, 0, 0, 0, 0, 0, 0 };
	struct fixture *f = *state;

	assert_int_equal(expander_run(f->expander, skippable, sizeof(skippable), f->again, 4),
			 -EBADMSG);
	assert_int_equal(expander_run(f->expander, old, sizeof(old), f->again, 4), -EBADMSG);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(what_goes_in_comes_out, setup, teardown),
		cmocka_unit_test_setup_teardown(what_is_not_worth_it_does_not_fit, setup, teardown),
		cmocka_unit_test_setup_teardown(lengths_and_levels_have_limits, setup, teardown),
		cmocka_unit_test_setup_teardown(other_lengths_than_promised_are_refused, setup,
						teardown),
		cmocka_unit_test_setup_teardown(cut_and_prolonged_frames_are_refused, setup,
						teardown),
		cmocka_unit_test_setup_teardown(damaged_bodies_are_refused_and_forgotten, setup,
						teardown),
		cmocka_unit_test_setup_teardown(other_formats_are_refused, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
