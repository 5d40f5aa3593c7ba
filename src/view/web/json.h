/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Answers as text: each writes one JSON value about a part of the model to `out`, which grows (open_memstream). */

#include "view/web/model.h"
#include "view/web/tile.h"

/* A text of others, quoted; what is not printable ASCII becomes '?', and a long one is cut. */
void web_write_text(FILE *out, const char *text);

void web_write_about(FILE *out, const struct web_model *model);
void web_write_state(FILE *out, const struct web_model *model);
/* One line of the table: [id, begin, ring, device, request, address, data, duration, answer, code, where]. */
void web_write_row(FILE *out, const struct web_model *model, uint64_t id,
		   const struct history_point *point, const struct watch_record *record);
void web_write_record(FILE *out, const struct web_model *model, uint64_t id,
		      const struct history_point *point, const struct watch_record *record);
/* The head of a picture, then its numbers in binary. */
void web_write_tile_head(FILE *out, const struct web_model *model, const struct tile *tile);
void web_write_tile_numbers(FILE *out, const struct tile *tile);
