/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* What the files of the marks (marks.c) and their text (marks_text.c) share. */

#include "move/marks.h"

#define MARK_RECORD_BYTES (MARK_TAKEN_BYTES / 2)

/* One record of a token's file with its newline. */
void mark_record(const uint8_t token[MARK_TOKEN_BYTES], enum mark_result result,
		 char ret_record[MARK_RECORD_BYTES + 1]);
/* A token's file without a result. */
void mark_taken_new(const uint8_t token[MARK_TOKEN_BYTES], char ret_text[MARK_TAKEN_BYTES + 1]);
