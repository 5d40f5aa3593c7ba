/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* A hit of a breakpoint as the VM tells it (watch/stop.h), and how it is shown. */

#include <jansson.h>

#include "view/view.h"
#include "watch/stop.h"

struct stops_hit {
	struct stop_hit hit; /* its record is judged */
	bool stands;	     /* the VM waits for our word */
};

/* -EPROTO: it is no hit. What it holds is judged: the VM may be anybody's. */
_must_check_ int stops_decode(const json_t *event, struct stops_hit *ret_hit);

/* Lines on `out`: the request, the registers, the code around it. */
void stops_show(struct view_context *view, const struct stops_hit *hit, FILE *out);
void stops_show_registers(const struct stops_hit *hit, FILE *out);
void stops_show_code(struct view_context *view, const struct stops_hit *hit, FILE *out);
/* One line of JSON: {"hit": {...}}. */
void stops_show_json(struct view_context *view, const struct stops_hit *hit, FILE *out);
