/* SPDX-License-Identifier: Apache-2.0 */
/* covers: peer/manual.c, peer/manual_files.c */
/* Where no etcd decides: the records that a host keeps and tells a peer, and persons' words. What is taken has a text, and that is read as the same. */
#include <stdlib.h>
#include <string.h>

#include "peer/manual.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Each record as a wish after each: what is granted follows, by one generation, what stood. */
static void judge_all(const struct manual_records *records, const struct manual_word *word)
{
	enum manual_says needs;

	for (uint32_t i = 0; i < records->n; i++)
		for (uint32_t j = 0; j < records->n; j++) {
			struct ownership_record want = records->list[j];

			want.revision = records->list[i].generation;
			if (manual_judge(&records->list[i], &want, word, i & 1, &needs) ==
				    MANUAL_GRANTED &&
			    want.generation != records->list[i].generation + 1)
				abort();
			(void)manual_may_follow(&records->list[i], &want, &want.backup);
		}
}

static void try_records(const char *text, size_t size)
{
	struct manual_records records, again;
	char encoded[MANUAL_TEXT], twice[MANUAL_TEXT];
	size_t len;

	if (manual_decode(text, size, &records) < 0)
		return;
	if (manual_encode(&records, encoded, &len) < 0 || manual_decode(encoded, len, &again) < 0 ||
	    manual_encode(&again, twice, &len) < 0 || strcmp(encoded, twice) != 0 ||
	    !manual_agree(&records, &again))
		abort();
	judge_all(&records, &(struct manual_word){ 0 });
	judge_all(&records,
		  &(struct manual_word){ .generation = manual_last(&records).generation - 1,
					 .owner = records.list[0].owner,
					 .says = MANUAL_OWNER_IS_DEAD });
	while (records.n < MANUAL_KEPT)
		manual_append(&records, &again.list[0]);
	manual_append(&records, &again.list[0]);
}

static void try_word(const char *text, size_t size)
{
	struct manual_word word, again;
	char encoded[MANUAL_TEXT];
	size_t len;

	if (manual_word_decode(text, size, &word) < 0)
		return;
	if (manual_word_encode(&word, encoded, &len) < 0 ||
	    manual_word_decode(encoded, len, &again) < 0 ||
	    memcmp(&word, &again, sizeof(word)) != 0)
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	try_records((const char *)data, size);
	try_word((const char *)data, size);
	return 0;
}
