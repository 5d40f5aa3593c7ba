/* SPDX-License-Identifier: Apache-2.0 */
#include "state/merge.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/limits.h"

/* A VM has some dozens: its vCPUs and its devices. */
#define SECTIONS_MAX (LIMIT_VCPUS + 256)

struct piece {
	const uint8_t *start;
	size_t len;
	char instance[sizeof(((struct state_section *)0)->instance)];
	bool used;
};

struct pieces {
	size_t n;
	struct piece list[SECTIONS_MAX];
};

static struct piece *find(struct pieces *pieces, const char *instance)
{
	for (size_t i = 0; i < pieces->n; i++)
		if (strcmp(pieces->list[i].instance, instance) == 0)
			return &pieces->list[i];
	return NULL;
}

static int cut(struct pieces *pieces, const void *stream, size_t len)
{
	struct cursor cursor = { .data = stream, .left = len };
	struct state_section section;
	const uint8_t *start = stream;
	int r;

	while ((r = state_next_section(&cursor, &section)) == 1) {
		struct piece *piece = &pieces->list[pieces->n];

		if (pieces->n == SECTIONS_MAX || find(pieces, section.instance))
			return -EBADMSG;
		*piece = (struct piece){ .start = start, .len = (size_t)(cursor.data - start) };
		memcpy(piece->instance, section.instance, sizeof(piece->instance));
		pieces->n++;
		start = cursor.data;
	}
	return r;
}

static int append(struct buffer *out, const struct piece *piece)
{
	return buffer_append(out, piece->start, piece->len);
}

static int put_together(struct buffer *out, struct pieces *whole, struct pieces *changed)
{
	int r = 0;

	for (size_t i = 0; r == 0 && i < whole->n; i++) {
		struct piece *newer = find(changed, whole->list[i].instance);

		r = append(out, newer ? newer : &whole->list[i]);
		if (newer)
			newer->used = true;
	}
	for (size_t i = 0; r == 0 && i < changed->n; i++)
		if (!changed->list[i].used)
			r = append(out, &changed->list[i]);
	return r;
}

int state_merge(struct buffer *out, const void *whole, size_t whole_len, const void *changed,
		size_t changed_len)
{
	_cleanup_(freep) struct pieces *pieces = calloc(2, sizeof(*pieces));
	int r = pieces ? cut(&pieces[0], whole, whole_len) : -ENOMEM;

	if (r == 0)
		r = cut(&pieces[1], changed, changed_len);
	return r < 0 ? r : put_together(out, &pieces[0], &pieces[1]);
}

static bool is_same(const struct piece *a, const struct piece *b)
{
	return a && a->len == b->len && memcmp(a->start, b->start, a->len) == 0;
}

static int take_apart(struct buffer *out, struct pieces *older, struct pieces *newer)
{
	int r = 0;

	for (size_t i = 0; r == 0 && i < older->n; i++)
		r = find(newer, older->list[i].instance) ? 0 : -ENOENT;
	for (size_t i = 0; r == 0 && i < newer->n; i++)
		if (!is_same(find(older, newer->list[i].instance), &newer->list[i]))
			r = append(out, &newer->list[i]);
	return r;
}

int state_diff(struct buffer *out, const void *older, size_t older_len, const void *newer,
	       size_t newer_len)
{
	_cleanup_(freep) struct pieces *pieces = calloc(2, sizeof(*pieces));
	int r = pieces ? cut(&pieces[0], older, older_len) : -ENOMEM;

	if (r == 0)
		r = cut(&pieces[1], newer, newer_len);
	return r < 0 ? r : take_apart(out, &pieces[0], &pieces[1]);
}
