/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* What a VM says of its protection. */

#include <jansson.h>

#include "base/error.h"

/* One command without fields of the VM `name`, on a connection of its own. */
_must_check_ int status_ask(const char *name, const char *command, json_t **ret_answer,
			    struct error *err);
/* Whether a text of the facts is this one. */
bool status_says(const json_t *facts, const char *key, const char *text);
