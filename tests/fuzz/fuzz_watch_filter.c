/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A filter's text up to the first newline, and a record behind it.
 * covers: watch/filter/filter.c watch/filter/compare.c watch/filter/lex.c
 * covers: watch/filter/parse.c watch/filter/words.c
 */
#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "watch/filter/filter.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Names come from the record's own device number, so that inputs reach all of them. */
static const char *device_name(void *ctx, uint16_t device)
{
	static const char *const known[] = { "serial", "virtio-blk.0", "-", "" };

	(void)ctx;
	return known[device % 4];
}

static uint64_t ticks_ns(void *ctx, uint64_t ticks)
{
	(void)ctx;
	return ticks / 2;
}

static const struct filter_names names = { .device = device_name, .ticks_ns = ticks_ns };

/* The opposite matches the other records; with the first's limits used up it may be refused. */
static void check_opposite(const char *text, const struct watch_record *record, bool matched)
{
	_cleanup_(freep) char *opposite = NULL;
	struct filter *filter = NULL;

	if (asprintf(&opposite, "!(%s)", text) < 0)
		abort();
	if (filter_compile(opposite, &filter, NULL, NULL) == 0)
		assert(filter_match(filter, record, &names) == !matched);
	filter_free(filter);
}

static void check_error(const char *text, unsigned int column, const struct error *err)
{
	char begin[32];

	snprintf(begin, sizeof(begin), "filter:%u: ", column);
	assert(column >= 1 && column <= strlen(text) + 1);
	assert(!strncmp(err->message, begin, strlen(begin)) && !strchr(err->message, '\n'));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const uint8_t *end = size ? memchr(data, '\n', size) : NULL;
	size_t len = end ? (size_t)(end - data) : size;
	_cleanup_(freep) char *text = strndup((const char *)data, len);
	struct watch_record record = { .kind = RECORD_PIO };
	struct error err = { 0 };
	struct filter *filter = NULL;
	unsigned int column = 0;
	bool matched;

	if (!text)
		abort();
	if (end)
		memcpy(&record, end + 1,
		       size - len - 1 < sizeof(record) ? size - len - 1 : sizeof(record));
	if (filter_compile(text, &filter, &column, &err) < 0) {
		check_error(text, column, &err);
		return 0;
	}
	matched = filter_match(filter, &record, &names);
	filter_match(filter, &record, NULL);
	if (filter_late_word(filter))
		assert(strstr(text, filter_late_word(filter)));
	if (text[strspn(text, " \t\v\f\r")])
		check_opposite(text, &record, matched);
	filter_free(filter);
	return 0;
}
