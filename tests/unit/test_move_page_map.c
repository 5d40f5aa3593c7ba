/* SPDX-License-Identifier: Apache-2.0 */

/* Which pages a round sends: each once, none that was never touched. */
#include "check.h"

#include <errno.h>
#include <linux/memfd.h>
#include <pthread.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "move/pages/map.h"

#define BYTES MIB(16)
#define PAGES (BYTES / PAGE_BYTES)

struct rig {
	int fd;
	uint8_t *ram;
	uint64_t dirty[PAGES / 64];
	struct page_map *map;
};

static bool open_rig(struct rig *rig, unsigned int flags)
{
	memset(rig, 0, sizeof(*rig));
	rig->fd = memfd_create("ram", MFD_CLOEXEC | flags);
	assert_true(rig->fd >= 0);
	assert_return_code(ftruncate(rig->fd, BYTES), errno);
	rig->ram = mmap(NULL, BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, rig->fd, 0);
	if (rig->ram == MAP_FAILED)
		return false;
	assert_int_equal(page_map_new(rig->fd, BYTES, rig->dirty, &rig->map, NULL), 0);
	return true;
}

static void close_rig(struct rig *rig)
{
	page_map_free(rig->map);
	if (rig->ram != MAP_FAILED)
		munmap(rig->ram, BYTES);
	close(rig->fd);
}

static uint64_t blocks(const struct rig *rig)
{
	struct stat st;

	assert_return_code(fstat(rig->fd, &st), errno);
	return (uint64_t)st.st_blocks;
}

static void touch(struct rig *rig, uint64_t first, uint64_t n)
{
	memset(rig->ram + first * PAGE_BYTES, 1, n * PAGE_BYTES);
}

static void set_dirty(struct rig *rig, uint64_t first, uint64_t n)
{
	for (uint64_t page = first; page < first + n; page++)
		rig->dirty[page / 64] |= 1ULL << (page % 64);
}

/* All runs of a round, as "first+n " each. */
static const char *round_text(struct rig *rig, uint32_t max_run, char *text, size_t size)
{
	struct page_claim claim;
	uint64_t first;
	uint32_t n;
	size_t at = 0;

	text[0] = '\0';
	page_map_rewind(rig->map);
	while (page_map_claim(rig->map, 256, &claim))
		while (page_claim_run(&claim, max_run, &first, &n))
			at += (size_t)snprintf(text + at, size - at, "%llu+%u ",
					       (unsigned long long)first, n);
	return text;
}

static void first_round_is_what_is_populated(void **state _unused_)
{
	struct rig rig;
	char text[256];
	uint64_t before;

	assert_true(open_rig(&rig, 0));
	touch(&rig, 0, 1);
	touch(&rig, 63, 2);
	touch(&rig, 300, 200);
	touch(&rig, PAGES - 1, 1);
	before = blocks(&rig);
	assert_int_equal(page_map_add_populated(rig.map, NULL), 0);
	assert_int_equal(page_map_left(rig.map), 204);
	assert_string_equal(round_text(&rig, 256, text, sizeof(text)), "0+1 63+2 300+200 4095+1 ");
	assert_int_equal(blocks(&rig), before);
	assert_int_equal(page_map_left(rig.map), 0);
	assert_string_equal(round_text(&rig, 256, text, sizeof(text)), "");
	close_rig(&rig);
}

static void later_rounds_are_what_is_dirty(void **state _unused_)
{
	struct rig rig;
	char text[256];

	assert_true(open_rig(&rig, 0));
	set_dirty(&rig, 5, 3);
	set_dirty(&rig, 60, 140);
	assert_int_equal(page_map_left(rig.map), 143);
	assert_string_equal(round_text(&rig, 256, text, sizeof(text)), "5+3 60+140 ");
	assert_int_equal(rig.dirty[0] | rig.dirty[1], 0);
	set_dirty(&rig, 64, 64);
	assert_string_equal(round_text(&rig, 256, text, sizeof(text)), "64+64 ");
	close_rig(&rig);
}

static void long_runs_are_cut(void **state _unused_)
{
	struct rig rig;
	char text[256];

	assert_true(open_rig(&rig, 0));
	set_dirty(&rig, 10, 250);
	assert_string_equal(round_text(&rig, 100, text, sizeof(text)), "10+100 110+100 210+50 ");
	close_rig(&rig);
}

/* A page that gets dirty before the round comes by is sent in it; one behind waits for the next. */
static void bits_are_taken_when_the_round_comes_by(void **state _unused_)
{
	struct page_claim claim;
	struct rig rig;
	uint64_t first;
	uint32_t n;

	assert_true(open_rig(&rig, 0));
	set_dirty(&rig, 0, 64);
	page_map_rewind(rig.map);
	assert_true(page_map_claim(rig.map, 64, &claim));
	set_dirty(&rig, 3, 1);
	set_dirty(&rig, 1000, 1);
	assert_int_equal(page_map_left(rig.map), 1);
	assert_true(page_map_claim(rig.map, 64, &claim));
	assert_true(page_claim_run(&claim, 64, &first, &n));
	assert_int_equal(first, 1000);
	assert_false(page_map_claim(rig.map, 64, &claim));
	page_map_rewind(rig.map);
	assert_int_equal(page_map_left(rig.map), 1);
	close_rig(&rig);
}

struct claimer {
	struct rig *rig;
	uint8_t *seen;
	pthread_t thread;
};

static void *claim_all(void *arg)
{
	struct claimer *claimer = arg;
	struct page_claim claim;
	uint64_t first;
	uint32_t n;

	while (page_map_claim(claimer->rig->map, 16, &claim))
		while (page_claim_run(&claim, 7, &first, &n))
			for (uint32_t i = 0; i < n; i++)
				__atomic_fetch_add(&claimer->seen[first + i], 1, __ATOMIC_RELAXED);
	return NULL;
}

static void threads_share_a_round(void **state _unused_)
{
	static uint8_t seen[PAGES];
	struct claimer claimers[4];
	struct rig rig;

	assert_true(open_rig(&rig, 0));
	memset(seen, 0, sizeof(seen));
	memset(rig.dirty, 0xdb, sizeof(rig.dirty)); /* 11011011 */
	page_map_rewind(rig.map);
	for (size_t i = 0; i < ARRAY_SIZE(claimers); i++) {
		claimers[i] = (struct claimer){ .rig = &rig, .seen = seen };
		pthread_create(&claimers[i].thread, NULL, claim_all, &claimers[i]);
	}
	for (size_t i = 0; i < ARRAY_SIZE(claimers); i++)
		pthread_join(claimers[i].thread, NULL);
	for (uint64_t page = 0; page < PAGES; page++)
		assert_int_equal(seen[page], 0xdb >> (page % 8) & 1);
	close_rig(&rig);
}

static void what_the_receiver_holds_is_remembered(void **state _unused_)
{
	struct rig rig;

	assert_true(open_rig(&rig, 0));
	assert_false(page_map_held(rig.map, 100));
	page_map_set_held(rig.map, 60, 100, true);
	assert_true(page_map_held(rig.map, 60) && page_map_held(rig.map, 159));
	assert_false(page_map_held(rig.map, 59) || page_map_held(rig.map, 160));
	page_map_set_held(rig.map, 100, 1, false);
	assert_false(page_map_held(rig.map, 100));
	close_rig(&rig);
}

/* SEEK_DATA calls all of a hugetlb file data, and a look through the mapping would make it so. */
static void huge_pages_that_are_holes_stay_holes(void **state _unused_)
{
	struct rig rig;
	uint64_t before;

	if (!open_rig(&rig, MFD_HUGETLB | MFD_HUGE_2MB)) {
		close_rig(&rig);
		skip(); /* this host has no huge pages to give */
	}
	assert_true(page_map_is_hugetlb(rig.map));
	touch(&rig, 512, 1);
	touch(&rig, 512 * 7 + 511, 1);
	before = blocks(&rig);
	assert_int_equal(before * 512, MIB(4));
	assert_int_equal(page_map_add_populated(rig.map, NULL), 0);
	assert_int_equal(page_map_left(rig.map), 1024);
	assert_int_equal(blocks(&rig), before);
	close_rig(&rig);
}

static void sizes_are_judged(void **state _unused_)
{
	struct page_map *map = NULL;
	struct error err = { 0 };
	uint64_t dirty[1];
	int fd = memfd_create("ram", MFD_CLOEXEC);

	assert_return_code(ftruncate(fd, MIB(1)), errno);
	assert_int_equal(page_map_new(fd, MIB(2), dirty, &map, &err), -EINVAL);
	assert_int_equal(page_map_new(fd, 0, dirty, &map, NULL), -EINVAL);
	assert_int_equal(page_map_new(fd, KIB(4), dirty, &map, NULL), -EINVAL);
	assert_null(map);
	close(fd);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(first_round_is_what_is_populated),
		cmocka_unit_test(later_rounds_are_what_is_dirty),
		cmocka_unit_test(long_runs_are_cut),
		cmocka_unit_test(bits_are_taken_when_the_round_comes_by),
		cmocka_unit_test(threads_share_a_round),
		cmocka_unit_test(what_the_receiver_holds_is_remembered),
		cmocka_unit_test(huge_pages_that_are_holes_stay_holes),
		cmocka_unit_test(sizes_are_judged),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
