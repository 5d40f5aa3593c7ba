/* SPDX-License-Identifier: Apache-2.0 */

/* How pages get smaller, and when. */
#include "check.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/endian.h"
#include "move/pages/bandwidth.h"
#include "move/pages/delta_cache.h"
#include "move/pages/pack_policy.h"
#include "move/pages/batch.h"
#include "move/pages/zero.h"

#define N_PAGES 1000

static uint8_t *new_page(void)
{
	uint8_t *page = aligned_alloc(PAGE_BYTES, PAGE_BYTES);

	assert_non_null(page);
	memset(page, 0, PAGE_BYTES);
	return page;
}

static void any_byte_makes_a_page_not_zero(void **state _unused_)
{
	_cleanup_(freep) uint8_t *page = new_page();

	assert_true(page_is_zero(page));
	for (size_t i = 0; i < PAGE_BYTES; i++) {
		page[i] = 0x80;
		assert_false(page_is_zero(page));
		page[i] = 0;
	}
}

static void differences_are_counted_in_lines(void **state _unused_)
{
	_cleanup_(freep) uint8_t *before = new_page();
	_cleanup_(freep) uint8_t *now = new_page();

	memset(before, 7, PAGE_BYTES);
	memset(now, 7, PAGE_BYTES);
	assert_int_equal(page_xor(before, now), 0);
	assert_true(page_is_zero(before));
	now[64] = 1;
	now[127] = 1;
	now[4095] = 1;
	memset(before, 7, PAGE_BYTES);
	assert_int_equal(page_xor(before, now), 2);
	assert_int_equal(before[64], 7 ^ 1);
}

static void the_cache_knows_what_was_sent_last(void **state _unused_)
{
	_cleanup_(freep) uint8_t *content = new_page();
	_cleanup_(freep) uint8_t *delta = new_page();
	struct delta_cache *cache;
	unsigned int lines;

	assert_int_equal(delta_cache_new(KIB(64), &cache), 0);
	content[0] = 1;
	assert_false(delta_cache_replace(cache, 5, content, delta, &lines));
	content[0] = 3;
	assert_true(delta_cache_replace(cache, 5, content, delta, &lines));
	assert_int_equal(delta[0], 2);
	assert_int_equal(lines, 1);
	assert_true(delta_cache_replace(cache, 5, content, delta, &lines));
	assert_int_equal(lines, 0);
	delta_cache_forget(cache, 4, 3);
	assert_false(delta_cache_replace(cache, 5, content, delta, &lines));
	delta_cache_free(cache);
}

/* 16 places and 64 pages: what is known is right, and it is never more than the places. */
static void the_cache_is_bounded_and_never_wrong(void **state _unused_)
{
	_cleanup_(freep) uint8_t *content = new_page();
	_cleanup_(freep) uint8_t *delta = new_page();
	struct delta_cache *cache;
	unsigned int lines, known = 0;

	assert_int_equal(delta_cache_new(KIB(64), &cache), 0);
	for (unsigned int round = 0; round < 20; round++) {
		known = 0;
		for (uint64_t page = 0; page < 64; page++) {
			content[9] = (uint8_t)(page + round);
			if (!delta_cache_replace(cache, page, content, delta, &lines))
				continue;
			known++;
			assert_int_equal(delta[9],
					 (uint8_t)(page + round) ^ (uint8_t)(page + round - 1));
		}
		assert_true(known <= 16);
	}
	assert_true(known >= 4);
	delta_cache_free(cache);
}

struct packing {
	struct page_batch batch, unpacked;
	struct packer *packer;
	uint8_t payload[KIB(64)];
	size_t len;
};

static void pack_some(struct packing *packing)
{
	static const uint64_t pages[] = { 3, 4, 77, N_PAGES - 1 };
	const uint8_t *payload;

	memset(packing, 0, sizeof(*packing));
	assert_int_equal(page_batch_init(&packing->batch), 0);
	assert_int_equal(page_batch_init(&packing->unpacked), 0);
	assert_int_equal(packer_new(&packing->packer), 0);
	for (uint32_t i = 0; i < ARRAY_SIZE(pages); i++) {
		packing->batch.pages[i] = pages[i];
		memset(page_batch_at(&packing->batch, i), (int)i + 1, PAGE_BYTES);
	}
	packing->batch.n = ARRAY_SIZE(pages);
	assert_int_equal(packer_pack(packing->packer, &packing->batch, &payload, &packing->len), 0);
	assert_true(packing->len < sizeof(packing->payload));
	memcpy(packing->payload, payload, packing->len);
}

static void release(struct packing *packing)
{
	page_batch_release(&packing->batch);
	page_batch_release(&packing->unpacked);
	packer_free(packing->packer);
}

static int unpack(struct packing *packing, size_t len, struct error *err)
{
	return packer_unpack(packing->packer, packing->payload, len, N_PAGES, &packing->unpacked,
			     err);
}

static void packed_pages_come_back(void **state _unused_)
{
	struct packing p;

	pack_some(&p);
	assert_true(p.len < 200);
	assert_int_equal(unpack(&p, p.len, NULL), 0);
	assert_int_equal(p.unpacked.n, 4);
	assert_memory_equal(p.unpacked.pages, p.batch.pages, 4 * sizeof(uint64_t));
	assert_memory_equal(p.unpacked.content, p.batch.content, 4 * PAGE_BYTES);
	release(&p);
}

static void packed_pages_that_lie_are_refused(void **state _unused_)
{
	static const struct {
		size_t at, size;
		uint64_t value;
		const char *why;
	} lies[] = {
		{ 0, 4, 0, "1 to 256" },	{ 0, 4, 257, "1 to 256" },
		{ 0, 4, 3, "frame" },		{ 0, 4, 0xffffffff, "1 to 256" },
		{ 4, 8, N_PAGES, "page 1000" }, { 12, 8, 3, "page 3 where 4" },
		{ 28, 8, UINT64_MAX, "page" },	{ 36, 4, 0, "frame" },
	};

	for (size_t i = 0; i < ARRAY_SIZE(lies); i++) {
		struct error err = { 0 };
		struct packing p;

		pack_some(&p);
		le_store(p.payload + lies[i].at, lies[i].size, lies[i].value);
		assert_int_equal(unpack(&p, p.len, &err), -EBADMSG);
		assert_string_not_equal(err.message, "");
		if (strcmp(lies[i].why, "frame") != 0)
			assert_non_null(strstr(err.message, lies[i].why));
		release(&p);
	}
}

static void truncated_packed_pages_are_refused(void **state _unused_)
{
	struct packing p;

	pack_some(&p);
	for (size_t len = 0; len < p.len; len++)
		assert_int_equal(unpack(&p, len, NULL), -EBADMSG);
	release(&p);
}

/* A frame that says four pages and holds more than memory of them. */
static void more_pages_than_announced_are_refused(void **state _unused_)
{
	const uint8_t *payload;
	struct error err = { 0 };
	struct packing p;
	size_t len;

	pack_some(&p);
	for (uint32_t i = 4; i < MOVE_BATCH_PAGES; i++) {
		p.batch.pages[i] = p.batch.pages[i - 1] + 1;
		memset(page_batch_at(&p.batch, i), 0, PAGE_BYTES);
	}
	p.batch.n = MOVE_BATCH_PAGES;
	assert_int_equal(packer_pack(p.packer, &p.batch, &payload, &len), 0);
	p.len = 36 + (len - 4 - 8 * MOVE_BATCH_PAGES);
	memcpy(p.payload + 36, payload + 4 + 8 * MOVE_BATCH_PAGES, len - 4 - 8 * MOVE_BATCH_PAGES);
	assert_int_equal(unpack(&p, p.len, &err), -EBADMSG);
	release(&p);
}

static void bandwidth_is_held_to(void **state _unused_)
{
	struct bandwidth bandwidth;
	uint64_t now = NSEC_PER_SEC;
	uint64_t sent = 0;

	bandwidth_init(&bandwidth, 10000000);
	while (now < 3 * NSEC_PER_SEC) {
		now += bandwidth_take(&bandwidth, 100000, now) + 1000;
		sent += 100000;
	}
	assert_in_range(sent, 19800000, 20600000);
	now += NSEC_PER_SEC; /* a pause does not add up */
	assert_int_equal(bandwidth_take(&bandwidth, 100000, now), 0);
	bandwidth_take(&bandwidth, 10000000, now);
	assert_true(bandwidth_take(&bandwidth, 1, now) > 900 * NSEC_PER_MSEC);
	bandwidth_release(&bandwidth);
}

static void no_bandwidth_limit_never_waits(void **state _unused_)
{
	struct bandwidth bandwidth;

	bandwidth_init(&bandwidth, 0);
	for (int i = 0; i < 1000; i++)
		assert_int_equal(bandwidth_take(&bandwidth, GIB(1), 5), 0);
	bandwidth_release(&bandwidth);
}

/* A look of 100 ms with two senders. `wire` and `pack` in MB/s, `waiting` percent of their time. */
static struct pack_look make_look(uint64_t wire, uint64_t waiting, uint64_t pack, uint64_t ratio,
				  uint64_t stolen)
{
	uint64_t in = 512 * PAGE_BYTES;
	uint64_t pack_ns = pack ? in * 1000 / pack : 0;

	return (struct pack_look){
		.ns = 100 * NSEC_PER_MSEC,
		.threads = 2,
		.send_ns = 2 * NSEC_PER_MSEC * waiting,
		.wire_bytes = wire * 100000,
		.pack_ns = pack_ns,
		.pack_cpu_ns = pack_ns * 100 / stolen,
		.pack_in = pack ? in : 0,
		.pack_out = pack ? in * ratio / 100 : 0,
	};
}

static void judge(struct pack_policy *policy, struct pack_look look, int times)
{
	while (times--)
		pack_policy_judge(policy, &look);
}

static void packing_comes_on_where_the_wire_is_slow(void **state _unused_)
{
	struct pack_policy policy;

	pack_policy_init(&policy);
	judge(&policy, make_look(100, 90, 0, 0, 100), 1);
	assert_false(policy.on);
	judge(&policy, make_look(100, 90, 400, 40, 100), 1);
	assert_true(policy.on);
	assert_int_equal(policy.reason, PACK_PAYS);
}

static void packing_stays_off(void **state _unused_)
{
	static const struct {
		uint64_t wire, waiting, pack, ratio, stolen;
		enum pack_reason reason;
	} cases[] = {
		{ 3000, 20, 400, 40, 100, PACK_WIRE_FASTER }, /* the CPU is what limits */
		{ 3000, 90, 400, 40, 100, PACK_NO_GAIN },     /* packing is slower than the wire */
		{ 100, 90, 400, 97, 100, PACK_NO_GAIN },      /* random pages */
		{ 100, 90, 400, 40, 190, PACK_CPU_SHORT },    /* the guest wants the CPU */
		{ 100, 90, 0, 0, 100, PACK_NOT_MEASURED },
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct pack_policy policy;

		pack_policy_init(&policy);
		judge(&policy,
		      make_look(cases[i].wire, cases[i].waiting, cases[i].pack, cases[i].ratio,
				cases[i].stolen),
		      5);
		assert_false(policy.on);
		assert_int_equal(policy.reason, cases[i].reason);
	}
}

/* Random pages now and then do not switch it to and fro. */
static void one_doubt_is_not_enough(void **state _unused_)
{
	struct pack_policy policy;

	pack_policy_init(&policy);
	judge(&policy, make_look(100, 90, 400, 40, 100), 3);
	judge(&policy, make_look(100, 90, 400, 100, 400), 1);
	assert_true(policy.on);
	judge(&policy, make_look(100, 90, 400, 100, 400), 3);
	assert_false(policy.on);
}

/* With packing on the wire is idle; it got faster meanwhile: seen by a look without packing. */
static void a_faster_wire_is_found(void **state _unused_)
{
	struct pack_policy policy;
	bool probed = false;

	pack_policy_init(&policy);
	judge(&policy, make_look(100, 90, 300, 30, 100), 2);
	for (int i = 0; i < 100 && !probed; i++) {
		judge(&policy, make_look(60, 10, 300, 30, 100), 1);
		probed = policy.reason == PACK_PROBES;
	}
	assert_true(probed);
	assert_false(policy.on);
	judge(&policy, make_look(5000, 90, 300, 30, 100), 4);
	assert_false(policy.on);
}

static void each_reason_has_words(void **state _unused_)
{
	for (int reason = PACK_NOT_MEASURED; reason <= PACK_PROBES; reason++)
		assert_non_null(strstr(pack_reason_text((enum pack_reason)reason), "packed"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(any_byte_makes_a_page_not_zero),
		cmocka_unit_test(differences_are_counted_in_lines),
		cmocka_unit_test(the_cache_knows_what_was_sent_last),
		cmocka_unit_test(the_cache_is_bounded_and_never_wrong),
		cmocka_unit_test(packed_pages_come_back),
		cmocka_unit_test(packed_pages_that_lie_are_refused),
		cmocka_unit_test(truncated_packed_pages_are_refused),
		cmocka_unit_test(more_pages_than_announced_are_refused),
		cmocka_unit_test(bandwidth_is_held_to),
		cmocka_unit_test(no_bandwidth_limit_never_waits),
		cmocka_unit_test(packing_comes_on_where_the_wire_is_slow),
		cmocka_unit_test(packing_stays_off),
		cmocka_unit_test(one_doubt_is_not_enough),
		cmocka_unit_test(a_faster_wire_is_found),
		cmocka_unit_test(each_reason_has_words),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
