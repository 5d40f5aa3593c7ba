/* SPDX-License-Identifier: Apache-2.0 */
#include "base/failpoint.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define PASSES_MAX 1000

static const char *const names[FAILPOINTS_N] = {
#define FAILPOINT_TEXT(name, text) [FAILPOINT_##name] = text,
	FAILPOINTS(FAILPOINT_TEXT)
#undef FAILPOINT_TEXT
};

static const char *const actions[] = {
	[FAILPOINT_NONE] = "",	   [FAILPOINT_TELL] = "tell", [FAILPOINT_KILL] = "kill",
	[FAILPOINT_STOP] = "stop", [FAILPOINT_EXIT] = "exit", [FAILPOINT_ERROR] = "error",
};

const char *failpoint_text(enum failpoint_name name)
{
	return names[name];
}

/* The place of `text` in `list`, -1 when it is not there. */
static int find(const char *const *list, size_t n, const char *text)
{
	for (size_t i = 0; i < n; i++)
		if (strcmp(list[i], text) == 0)
			return (int)i;
	return -1;
}

static bool parse_passes(const char *text, uint32_t *ret_passes)
{
	char *end;
	unsigned long passes = strtoul(text, &end, 10);

	if (text[0] < '0' || text[0] > '9' || *end || passes < 1 || passes > PASSES_MAX)
		return false;
	*ret_passes = (uint32_t)passes;
	return true;
}

/* `text` is cut at its colons. */
static bool parse(char *text, struct failpoint *point)
{
	const char *name = strsep(&text, ":"), *action = strsep(&text, ":"),
		   *passes = strsep(&text, ":");
	int at = find(names, FAILPOINTS_N, name);
	int what = action ? find(actions, ARRAY_SIZE(actions), action) : -1;

	point->left = 1;
	point->any = strcmp(name, "*") == 0;
	if ((at < 0 && !point->any) || what <= FAILPOINT_NONE || text ||
	    (passes && !parse_passes(passes, &point->left)))
		return false;
	if (point->any && (what != FAILPOINT_TELL || passes))
		return false;
	point->name = at < 0 ? 0 : (enum failpoint_name)at;
	point->action = (enum failpoint_action)what;
	return true;
}

int failpoint_parse(const char *text, struct failpoint *ret_point, struct error *err)
{
	struct failpoint point = { 0 };
	char copy[FAILPOINT_TEXT_MAX];

	if (text[0]) {
		size_t len = strnlen(text, sizeof(copy));

		memcpy(copy, text, MIN(len + 1, sizeof(copy)));
		if (len == sizeof(copy) || !parse(copy, &point))
			return error_set(err, -EINVAL, EXIT_STATUS_USAGE,
					 "failpoint: '%.64s' is none; write NAME:ACTION or "
					 "NAME:ACTION:N, names as utsusu-move --failpoints shows "
					 "them",
					 text);
	}
	*ret_point = point;
	return 0;
}

static int act(enum failpoint_action action)
{
	switch (action) {
	case FAILPOINT_KILL:
		raise(SIGKILL);
		return 0;
	case FAILPOINT_STOP:
		raise(SIGSTOP);
		return 0;
	case FAILPOINT_EXIT:
		_exit(EXIT_STATUS_FAILED);
	case FAILPOINT_ERROR:
		return -EIO;
	case FAILPOINT_NONE:
	case FAILPOINT_TELL:
		return 0;
	}
	return 0;
}

int failpoint_pass(struct failpoint *point, enum failpoint_name name)
{
	if (!point->any &&
	    (name != point->name || __atomic_fetch_sub(&point->left, 1, __ATOMIC_RELAXED) != 1))
		return 0;
	if (point->told)
		point->told(point->ctx, names[name]);
	return act(point->action);
}
