/* SPDX-License-Identifier: Apache-2.0 */
/* covers: protect/record.c */
/* What stands under a VM's key at the arbiter, whoever wrote it. What is taken has one text, and that is read as the same record. */
#include <stdlib.h>
#include <string.h>

#include "protect/record.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct ownership_record record, again;
	char text[LIMIT_OWNERSHIP_RECORD];
	struct error err = { 0 };
	size_t len;

	if (record_decode((const char *)data, size, &record, &err) < 0) {
		if (err.code >= 0 || !err.message[0])
			abort();
		return 0;
	}
	if (record_encode(&record, text, &len) < 0 || strlen(text) != len ||
	    record_decode(text, len, &again, NULL) < 0 ||
	    memcmp(&record, &again, sizeof(record)) != 0)
		abort();
	return 0;
}
