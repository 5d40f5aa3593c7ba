/* SPDX-License-Identifier: Apache-2.0 */
#include "base/error.h"

#include <stdarg.h>

static void make_printable(char *text)
{
	for (; *text; text++)
		if ((unsigned char)*text < 0x20 || *text == 0x7f)
			*text = '?';
}

int error_set(struct error *err, int code, enum exit_status status, const char *format, ...)
{
	va_list args;

	if (!err || err->code)
		return code;
	err->code = code;
	err->status = status;
	va_start(args, format);
	vsnprintf(err->message, sizeof(err->message), format, args);
	va_end(args);
	make_printable(err->message);
	return code;
}

void problems_add(struct problems *problems, const struct error *err)
{
	if (problems->count < PROBLEMS_MAX) {
		problems->list[problems->count++] = *err;
		return;
	}
	snprintf(problems->list[PROBLEMS_MAX - 1].message, ERROR_MESSAGE_MAX, "and more problems");
}
