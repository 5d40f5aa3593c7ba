/* SPDX-License-Identifier: Apache-2.0 */

/* Held frames go to a new owner: what was held, once and in order, or nothing of what is damaged. */

#include "net_hold_rig.h"

static void export(const struct side *side, uint64_t after, uint64_t up_to, struct buffer *out)
{
	buffer_init(out, net_hold_export_limit(side->net));
	assert_int_equal(net_hold_export(side->net, after, up_to, out), 0);
}

static int try_import(struct side *side, const struct buffer *sections, unsigned int n,
		      struct error *err)
{
	struct iovec iov[8];

	for (unsigned int i = 0; i < n; i++)
		iov[i] = (struct iovec){ sections[i].data, sections[i].len };
	*err = (struct error){ 0 };
	return net_hold_import(side->net, iov, n, err);
}

static void import(struct side *side, struct buffer *sections, unsigned int n)
{
	struct error err = { 0 };

	if (try_import(side, sections, n, &err) < 0)
		fail_msg("%s", err.message);
	for (unsigned int i = 0; i < n; i++)
		buffer_release(&sections[i]);
}

static void what_may_not_have_left_is_replayed_before_anything_newer(void **state)
{
	struct side *old = *state, *new = malloc(sizeof(*new));
	struct buffer section;

	sends(old, 0, 1, 2);
	sends(old, 1, 21, 22);
	hold_cut(&old->hold, 1);
	old->sink.queues[0].room = 1;
	release(old, 1);
	sends(old, 0, 3, 4);
	hold_cut(&old->hold, 2);
	sends(old, 0, 5, 6);
	export(old, hold_released(&old->hold), 2, &section);

	side_open(new, 3, true);
	import(new, &section, 1);
	sends(new, 0, 105, 106); /* it runs, held */
	turns(new);
	assert_int_equal(new->n_seen[0], 0);
	release(new, 2);
	left(new, 0, 2, 4);
	left(new, 1, 1, 0); /* had left */
	hold_open(&new->hold);
	turns(new);
	assert_int_equal(new->n_seen[0], 5);
	assert_int_equal(new->seen[0][3], 105);
	assert_int_equal(new->seen[0][4], 106);
	side_close(new);
	free(new);
}

/* Each checkpoint has its own epoch; together they hold more than a queue can. What had left by the last one is not repeated. */
static void sections_follow_each_other(void **state)
{
	struct side *old = *state, *new = malloc(sizeof(*new));
	struct buffer sections[4], gap[3];
	struct error err = { 0 };
	uint64_t n = 0;

	old->sink.queues[1].room = 1;
	for (uint64_t epoch = 1; epoch <= 4; epoch++) {
		sends(old, 0, n + 1, n + 100);
		sends(old, 1, n + 1, n + 1);
		n += 100;
		hold_cut(&old->hold, epoch);
		export(old, epoch - 1, epoch, &sections[epoch - 1]);
		release(old, epoch - 1);
	}
	assert_int_equal(hold_released(&old->hold), 1);
	side_open(new, 9, true);
	gap[0] = sections[1];
	gap[1] = sections[3];
	assert_int_equal(try_import(new, gap, 2, &err), -EBADMSG);
	assert_int_equal(try_import(new, &sections[3], 1, &err), -EBADMSG);
	assert_non_null(strstr(err.message, "missing"));
	import(new, sections, 4);
	release(new, 8);
	left(new, 0, 201, 400);
	assert_int_equal(new->n_seen[1], 3);
	assert_int_equal(new->seen[1][0], 101);
	side_close(new);
	free(new);
}

/* Whatever is wrong, nothing of it is taken. */
static void refused(struct side *side, const struct buffer *section, size_t len, const char *word)
{
	const struct buffer first = { .data = section->data, .len = len };
	struct hold_counts counts;
	struct error err = { 0 };

	assert_int_equal(try_import(side, &first, 1, &err), -EBADMSG);
	if (!strstr(err.message, word))
		fail_msg("'%s' does not say '%s'", err.message, word);
	net_hold_count(side->net, &counts);
	assert_int_equal(counts.items, 0);
	assert_int_equal(side->probes[0].writable, 0);
}

static void broken(struct side *side, struct buffer *section, size_t at, uint8_t value,
		   const char *word)
{
	uint8_t was = section->data[at];

	section->data[at] = value;
	refused(side, section, section->len, word);
	section->data[at] = was;
}

static void damaged_sections_are_refused_whole(void **state)
{
	struct side *old = *state, *new = malloc(sizeof(*new));
	struct buffer section;
	const size_t item = HOLD_SECTION_HEADER + HOLD_SECTION_LANE;
	const size_t second = item + HOLD_SECTION_ITEM + LEN;

	sends(old, 0, 1, 1);
	hold_cut(&old->hold, 1);
	sends(old, 0, 2, 2);
	sends(old, 1, 3, 3);
	hold_cut(&old->hold, 2);
	export(old, 0, 2, &section);
	side_open(new, 3, true);
	for (size_t len = 0; len < section.len; len++)
		refused(new, &section, len, "damaged");
	broken(new, &section, 0, 'X', "begin");
	broken(new, &section, 4, 2, "version");
	broken(new, &section, 6, 9, "kind");
	broken(new, &section, 8, 3, "kind");
	broken(new, &section, 12, 1, "epoch");
	broken(new, &section, 12, 3, "backwards");
	broken(new, &section, 20, 1, "epoch");
	broken(new, &section, 20, 3, "still to come");
	broken(new, &section, HOLD_SECTION_HEADER, 1, "begins where");
	broken(new, &section, HOLD_SECTION_HEADER + 8, 1, "missing");
	broken(new, &section, HOLD_SECTION_HEADER + 15, 128, "begins where");
	broken(new, &section, HOLD_SECTION_HEADER + 16, 1, "damaged");
	broken(new, &section, item, 0, "epoch");
	broken(new, &section, item + 11, 1, "length");
	broken(new, &section, second, 3, "epoch");
	section.data[item] = 2;
	broken(new, &section, second, 1, "epoch");
	section.data[item] = 1;
	broken(new, &section, item + HOLD_SECTION_ITEM, 2, "none that this output");
	broken(new, &section, item + HOLD_SECTION_ITEM + 1, 1, "none that this output");
	assert_int_equal(buffer_append(&section, "x", 1), 0);
	refused(new, &section, section.len, "follows");
	section.len--;
	import(new, &section, 1);
	release(new, 2);
	left(new, 0, 1, 2);
	side_close(new);
	free(new);
}

/* Nothing behind it is read: sanitizers look on. */
static void a_frame_without_a_header_is_refused(void **state)
{
	struct side *old = *state, *new = malloc(sizeof(*new));
	const size_t len = HOLD_SECTION_HEADER + 2 * HOLD_SECTION_LANE + HOLD_SECTION_ITEM + 1;
	uint8_t *bytes = calloc(1, len), *lane = bytes + HOLD_SECTION_HEADER + HOLD_SECTION_LANE;
	const struct buffer exact = { .data = bytes, .len = len };
	struct buffer section;

	hold_cut(&old->hold, 1);
	export(old, 0, 1, &section);
	memcpy(bytes, section.data, HOLD_SECTION_HEADER);
	lane[16] = 1;			 /* item */
	lane[HOLD_SECTION_LANE] = 1;	 /* its epoch */
	lane[HOLD_SECTION_LANE + 8] = 1; /* its length */
	side_open(new, 2, true);
	refused(new, &exact, len, "none that this output");
	side_close(new);
	buffer_release(&section);
	free(new);
	free(bytes);
}

/* A peer cannot make a queue hold more than its limit, nor leave half of a frame. */
static void more_than_fits_is_refused(void **state)
{
	struct side *old = *state, *new = malloc(sizeof(*new));
	struct buffer sections[2];
	struct error err = { 0 };
	uint64_t n = 0;

	while (n < SEEN_MAX && send_frame(old, 0, n + 1) == 0)
		n++;
	hold_cut(&old->hold, 1);
	export(old, 0, 1, &sections[0]);
	export(old, 0, 1, &sections[1]);
	side_open(new, 2, true);
	/* The second claims to follow the first. */
	le_store(sections[1].data + HOLD_SECTION_HEADER + 8, 8, n * LEN);
	assert_int_equal(try_import(new, sections, 2, &err), -E2BIG);
	le_store(sections[1].data + HOLD_SECTION_HEADER, 8, LEN + 1);
	assert_int_equal(try_import(new, sections, 2, &err), -EBADMSG);
	assert_non_null(strstr(err.message, "half"));
	le_store(sections[1].data + HOLD_SECTION_HEADER, 8, n * LEN);
	import(new, sections, 2);
	release(new, 1);
	left(new, 0, 1, n);
	side_close(new);
	free(new);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		HELD(what_may_not_have_left_is_replayed_before_anything_newer),
		HELD(sections_follow_each_other),
		HELD(damaged_sections_are_refused_whole),
		HELD(a_frame_without_a_header_is_refused),
		HELD(more_than_fits_is_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
