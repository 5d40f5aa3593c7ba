/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <jansson.h>

/* The text under `key`, borrowed from `object`; `otherwise` when there is none or it is no text. */
static inline const char *json_text(const json_t *object, const char *key, const char *otherwise)
{
	const char *text = json_string_value(json_object_get(object, key));

	return text ? text : otherwise;
}
