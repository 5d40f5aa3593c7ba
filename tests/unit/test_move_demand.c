/* SPDX-License-Identifier: Apache-2.0 */

/* Memory that comes while it is touched (move/pages/demand.h): threads of this process are the VM, with a real userfaultfd. */

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/fd.h"
#include "check.h"
#include "host/userfault.h"
#include "memory/memory.h"
#include "move/pages/demand.h"

#define HUGE_PAGE MIB(2)
#define BANK MIB(4)
#define RAM (2 * BANK)
#define PAGES (RAM / DEMAND_PAGE_BYTES)
#define WANTED_MAX PAGES

enum backing { SMALL_PAGES, HUGETLB };

struct rig {
	struct demand *demand;
	struct move_demand vm;
	struct move_facts facts;
	struct move_shared shared;
	int ram_fd;
	uint8_t *banks[2]; /* the VM's mappings, apart from each other */
	pthread_mutex_t lock;
	pthread_cond_t changed;
	uint64_t wanted[WANTED_MAX]; /* first pages */
	bool wrong;		     /* one was of another size than a block */
	size_t n_wanted, n_served;
	pthread_t filler;
	bool fills, stop;
	struct error err;
};

/* No page is of zeroes, and no two are alike. */
static uint8_t byte_of(uint64_t page)
{
	return (uint8_t)(1 + page % 251);
}

static void fill_page(uint8_t *at, uint64_t page)
{
	memset(at, byte_of(page), DEMAND_PAGE_BYTES);
	memcpy(at + 64, &page, sizeof(page));
}

static uint8_t *page_at(const struct rig *rig, uint64_t page)
{
	uint64_t offset = page * DEMAND_PAGE_BYTES;

	return rig->banks[offset / BANK] + offset % BANK;
}

static bool is_whole(const struct rig *rig, uint64_t page)
{
	uint8_t expected[DEMAND_PAGE_BYTES];

	fill_page(expected, page);
	return memcmp(page_at(rig, page), expected, sizeof(expected)) == 0;
}

static bool is_zero(const struct rig *rig, uint64_t page)
{
	static const uint8_t zeroes[DEMAND_PAGE_BYTES];

	return memcmp(page_at(rig, page), zeroes, sizeof(zeroes)) == 0;
}

static void wanted(void *ctx, uint64_t first, uint32_t n)
{
	struct rig *rig = ctx;

	pthread_mutex_lock(&rig->lock);
	if (rig->n_wanted < WANTED_MAX)
		rig->wanted[rig->n_wanted++] = first;
	rig->wrong |= n != demand_block_pages(rig->demand);
	pthread_cond_broadcast(&rig->changed);
	pthread_mutex_unlock(&rig->lock);
}

static int place(struct rig *rig, uint64_t first, uint64_t n, struct error *err)
{
	uint8_t *content = malloc(n * DEMAND_PAGE_BYTES);
	int r;

	if (!content)
		return -ENOMEM;
	for (uint64_t i = 0; i < n; i++)
		fill_page(content + i * DEMAND_PAGE_BYTES, first + i);
	r = demand_place(rig->demand, first, n, content, err);
	free(content);
	return r;
}

static bool has_huge_pages(void)
{
	FILE *file = fopen("/sys/kernel/mm/hugepages/hugepages-2048kB/free_hugepages", "re");
	unsigned long long n = 0;

	if (!file)
		return false;
	if (fscanf(file, "%llu", &n) != 1)
		n = 0;
	fclose(file);
	return n >= RAM / HUGE_PAGE;
}

static void map_banks(struct rig *rig)
{
	for (uint64_t i = 0; i < 2; i++) {
		void *at = mmap(NULL, BANK, PROT_READ | PROT_WRITE, MAP_SHARED, rig->ram_fd,
				(off_t)((1 - i) * BANK));

		/* The second is mapped first: the banks do not lie in their order. */
		assert_true(at != MAP_FAILED);
		rig->banks[1 - i] = at;
		rig->vm.addresses[1 - i] = (uintptr_t)at;
		assert_int_equal(userfault_register(rig->vm.uffd, at, BANK, &rig->vm.can_zero), 0);
		rig->facts.banks[i] = (struct memory_bank){ .start = gpa(i * GIB(4)),
							    .len = BANK,
							    .offset = i * BANK };
	}
	rig->facts.n_banks = 2;
}

/* NULL: this host cannot. */
static struct rig *rig_new(enum backing backing)
{
	struct rig *rig = calloc(1, sizeof(*rig));
	struct demand_settings settings;
	struct error err = { 0 };

	assert_non_null(rig);
	rig->vm = (struct move_demand){ .uffd = userfault_make(-1), .life = -1 };
	if (rig->vm.uffd < 0 || (backing == HUGETLB && !has_huge_pages())) {
		move_demand_release(&rig->vm);
		free(rig);
		return NULL;
	}
	pthread_mutex_init(&rig->lock, NULL);
	pthread_cond_init(&rig->changed, NULL);
	rig->ram_fd = memory_make_fd(RAM, backing == HUGETLB ? MEMORY_HUGE_ON : MEMORY_HUGE_OFF,
				     &err);
	assert_true(rig->ram_fd >= 0);
	rig->facts = (struct move_facts){ .ram_fd = -1, .ram_bytes = RAM };
	map_banks(rig);
	assert_int_equal(move_shared_make(RAM, &rig->shared), 0);
	settings = (struct demand_settings){
		.vm = &rig->vm,
		.facts = &rig->facts,
		.ram_fd = rig->ram_fd,
		.shared = &rig->shared,
		.wanted = wanted,
		.ctx = rig,
	};
	if (demand_new(&settings, &rig->demand, &err) < 0)
		fail_msg("%s", err.message);
	return rig;
}

static void rig_free(struct rig *rig)
{
	demand_free(rig->demand);
	move_demand_release(&rig->vm);
	move_shared_release(&rig->shared);
	munmap(rig->banks[0], BANK);
	munmap(rig->banks[1], BANK);
	fd_close(rig->ram_fd);
	pthread_mutex_destroy(&rig->lock);
	pthread_cond_destroy(&rig->changed);
	free(rig);
}

#define RIG(backing)                                                                               \
	struct rig *rig = rig_new(backing);                                                        \
	if (!rig) {                                                                                \
		skip();                                                                            \
		return;                                                                            \
	}

static void start(struct rig *rig)
{
	assert_int_equal(demand_start(rig->demand, &rig->err), 0);
}

/* ---- who brings what is wanted ---- */

static bool next_wanted(struct rig *rig, uint64_t *ret_first)
{
	bool more;

	pthread_mutex_lock(&rig->lock);
	while (rig->n_served == rig->n_wanted && !rig->stop)
		pthread_cond_wait(&rig->changed, &rig->lock);
	more = rig->n_served < rig->n_wanted;
	if (more)
		*ret_first = rig->wanted[rig->n_served++];
	pthread_mutex_unlock(&rig->lock);
	return more;
}

static void *filler_main(void *arg)
{
	struct rig *rig = arg;
	uint64_t first;

	while (next_wanted(rig, &first))
		if (place(rig, first, demand_block_pages(rig->demand), &rig->err) < 0)
			break;
	return NULL;
}

static void start_filler(struct rig *rig)
{
	assert_int_equal(pthread_create(&rig->filler, NULL, filler_main, rig), 0);
}

static void stop_filler(struct rig *rig)
{
	pthread_mutex_lock(&rig->lock);
	rig->stop = true;
	pthread_cond_broadcast(&rig->changed);
	pthread_mutex_unlock(&rig->lock);
	pthread_join(rig->filler, NULL);
	if (rig->err.code)
		fail_msg("%s", rig->err.message);
}

/* ---- who touches ---- */

struct toucher {
	struct rig *rig;
	pthread_t thread;
	uint64_t seed, wrong;
	uint64_t first, n; /* pages it touches */
	bool zero;	   /* that is what it should find */
};

static void *toucher_main(void *arg)
{
	struct toucher *toucher = arg;

	for (uint64_t i = 0; i < 2 * toucher->n; i++) {
		uint64_t page;

		toucher->seed = toucher->seed * 6364136223846793005ULL + 1442695040888963407ULL;
		page = toucher->first + (toucher->seed >> 33) % toucher->n;
		toucher->wrong += toucher->zero ? !is_zero(toucher->rig, page)
						: !is_whole(toucher->rig, page);
	}
	return NULL;
}

static void start_toucher(struct toucher *toucher)
{
	assert_int_equal(pthread_create(&toucher->thread, NULL, toucher_main, toucher), 0);
}

static void end_toucher(struct toucher *toucher)
{
	pthread_join(toucher->thread, NULL);
	assert_int_equal(toucher->wrong, 0);
}

/* ---- tests ---- */

static void finish(struct rig *rig)
{
	struct error err = { 0 };

	assert_false(demand_waited(rig->demand));
	assert_int_equal(demand_left(rig->demand), 0);
	assert_int_equal(move_shared_left(&rig->shared), 0);
	assert_int_equal(demand_check(rig->demand, &err), 0);
	if (demand_finish(rig->demand, &err) < 0)
		fail_msg("%s", err.message);
	assert_false(rig->wrong);
}

static void a_hole_is_zero_at_once(void **state _unused_)
{
	RIG(SMALL_PAGES)
	start(rig);
	assert_true(is_zero(rig, 0));
	*page_at(rig, PAGES - 1) = 7;
	assert_int_equal(*page_at(rig, PAGES - 1), 7);
	assert_int_equal(rig->n_wanted, 0);
	finish(rig);
	assert_true(is_zero(rig, 5));
	rig_free(rig);
}

/* Each by the thread that touches it first, and nobody is asked twice. */
static void touch_all_expected(enum backing backing)
{
	RIG(backing)
	struct toucher touchers[4];

	demand_expect(rig->demand, 0, PAGES, PAGES);
	assert_int_equal(move_shared_left(&rig->shared), PAGES);
	start(rig);
	start_filler(rig);
	for (size_t i = 0; i < ARRAY_SIZE(touchers); i++) {
		touchers[i] = (struct toucher){ .rig = rig, .seed = i, .n = PAGES };
		start_toucher(&touchers[i]);
	}
	for (size_t i = 0; i < ARRAY_SIZE(touchers); i++)
		end_toucher(&touchers[i]);
	for (uint64_t page = 0; page < PAGES; page++)
		assert_true(is_whole(rig, page));
	stop_filler(rig);
	assert_int_equal(rig->n_wanted, PAGES / demand_block_pages(rig->demand));
	finish(rig);
	rig_free(rig);
}

static void who_touches_waits_until_it_is_there(void **state _unused_)
{
	touch_all_expected(SMALL_PAGES);
}

static void who_touches_a_huge_page_waits_until_it_is_there(void **state _unused_)
{
	touch_all_expected(HUGETLB);
}

/* ---- several that fill, each in its own order, some pages twice ---- */

struct background {
	struct rig *rig;
	pthread_t thread;
	uint64_t from;
	uint32_t step; /* odd: it comes by all */
	struct error err;
};

static void *background_main(void *arg)
{
	struct background *background = arg;
	uint64_t piece = background->from;

	for (uint64_t i = 0; i < PAGES / 8; i++) {
		if (place(background->rig, piece * 8, 8, &background->err) < 0)
			break;
		piece = (piece + background->step) % (PAGES / 8);
	}
	return NULL;
}

static void fill_from_all_sides(enum backing backing)
{
	RIG(backing)
	struct background backgrounds[3];
	struct toucher touchers[2];

	demand_expect(rig->demand, 0, PAGES, PAGES);
	start(rig);
	for (size_t i = 0; i < ARRAY_SIZE(touchers); i++) {
		touchers[i] = (struct toucher){ .rig = rig, .seed = i, .n = PAGES };
		start_toucher(&touchers[i]);
	}
	for (size_t i = 0; i < ARRAY_SIZE(backgrounds); i++) {
		backgrounds[i] = (struct background){ .rig = rig,
						      .from = 31 * i,
						      .step = 1 + 10 * (uint32_t)i };
		pthread_create(&backgrounds[i].thread, NULL, background_main, &backgrounds[i]);
	}
	for (size_t i = 0; i < ARRAY_SIZE(backgrounds); i++) {
		pthread_join(backgrounds[i].thread, NULL);
		if (backgrounds[i].err.code)
			fail_msg("%s", backgrounds[i].err.message);
	}
	for (size_t i = 0; i < ARRAY_SIZE(touchers); i++)
		end_toucher(&touchers[i]);
	finish(rig);
	rig_free(rig);
}

static void many_fill_at_once(void **state _unused_)
{
	fill_from_all_sides(SMALL_PAGES);
}

static void many_fill_huge_pages_at_once(void **state _unused_)
{
	fill_from_all_sides(HUGETLB);
}

/* ---- writers ---- */

struct writer {
	struct rig *rig;
	pthread_t thread;
	uint64_t index;
};

static void *writer_main(void *arg)
{
	struct writer *writer = arg;

	for (uint64_t page = 0; page < PAGES; page++)
		memcpy(page_at(writer->rig, page) + 128 + 8 * writer->index, &page, sizeof(page));
	return NULL;
}

/* What the VM wrote into a page is not covered by a copy that comes again. */
static void what_was_written_stays(void **state _unused_)
{
	RIG(SMALL_PAGES)
	struct background backgrounds[2] = { { .rig = rig, .step = 1 }, { .rig = rig, .step = 3 } };
	struct writer writers[2];

	demand_expect(rig->demand, 0, PAGES, PAGES);
	start(rig);
	for (uint64_t i = 0; i < ARRAY_SIZE(writers); i++) {
		writers[i] = (struct writer){ .rig = rig, .index = i };
		pthread_create(&writers[i].thread, NULL, writer_main, &writers[i]);
	}
	for (size_t i = 0; i < ARRAY_SIZE(backgrounds); i++)
		pthread_create(&backgrounds[i].thread, NULL, background_main, &backgrounds[i]);
	for (size_t i = 0; i < ARRAY_SIZE(backgrounds); i++)
		pthread_join(backgrounds[i].thread, NULL);
	for (size_t i = 0; i < ARRAY_SIZE(writers); i++)
		pthread_join(writers[i].thread, NULL);
	for (uint64_t page = 0; page < PAGES; page++) {
		uint8_t expected[DEMAND_PAGE_BYTES];

		fill_page(expected, page);
		for (size_t i = 0; i < ARRAY_SIZE(writers); i++)
			memcpy(expected + 128 + 8 * i, &page, sizeof(page));
		assert_memory_equal(page_at(rig, page), expected, sizeof(expected));
	}
	finish(rig);
	rig_free(rig);
}

/* ---- what will not come ---- */

static void wait_for_wanted(struct rig *rig, size_t n)
{
	pthread_mutex_lock(&rig->lock);
	while (rig->n_wanted < n)
		pthread_cond_wait(&rig->changed, &rig->lock);
	pthread_mutex_unlock(&rig->lock);
}

static void skip_what_is_waited_for(enum backing backing)
{
	RIG(backing)
	const uint64_t block = demand_block_pages(rig->demand);
	struct toucher toucher = { .rig = rig, .first = block, .n = 1, .zero = true };

	demand_expect(rig->demand, 0, 3 * block, 2);
	start(rig);
	start_toucher(&toucher);
	wait_for_wanted(rig, 1);
	assert_int_equal(rig->wanted[0], block);
	assert_int_equal(demand_skip(rig->demand, 1, 2 * block - 1, &rig->err), 0);
	end_toucher(&toucher);
	/* Both that were said to come, in one block or in two. */
	assert_int_equal(place(rig, 0, 1, &rig->err), 0);
	assert_int_equal(place(rig, 3 * block - 1, 1, &rig->err), 0);
	assert_int_equal(demand_skip(rig->demand, 0, 3 * block, &rig->err), 0);
	finish(rig);
	assert_true(is_whole(rig, 0) && is_whole(rig, 3 * block - 1));
	rig_free(rig);
}

static void what_will_not_come_is_a_hole(void **state _unused_)
{
	skip_what_is_waited_for(SMALL_PAGES);
}

static void a_huge_page_may_lack_pages(void **state _unused_)
{
	skip_what_is_waited_for(HUGETLB);
}

static void a_page_may_come_as_zeroes(void **state _unused_)
{
	RIG(SMALL_PAGES)
	struct toucher toucher = {
		.rig = rig, .first = BANK / DEMAND_PAGE_BYTES - 3, .n = 6, .zero = true
	};

	/* Over the end of a bank. */
	demand_expect(rig->demand, toucher.first, toucher.n, toucher.n);
	start(rig);
	assert_false(demand_waited(rig->demand));
	start_toucher(&toucher);
	wait_for_wanted(rig, 1);
	assert_true(demand_waited(rig->demand));
	assert_int_equal(demand_place(rig->demand, toucher.first, toucher.n, NULL, &rig->err), 0);
	end_toucher(&toucher);
	finish(rig);
	rig_free(rig);
}

/* ---- who is not a thread of the VM ---- */

static void *reader_main(void *arg)
{
	struct rig *rig = arg;
	int ends[2];
	ssize_t n;

	/* The kernel reads page 3 for us, as it does for KVM and io_uring. */
	if (pipe(ends) < 0)
		return (void *)-1L;
	n = write(ends[1], page_at(rig, 3) + 64, sizeof(uint64_t));
	if (n == sizeof(uint64_t))
		n = read(ends[0], page_at(rig, 4), sizeof(uint64_t));
	fd_close(ends[0]);
	fd_close(ends[1]);
	return (void *)(intptr_t)n;
}

static void the_kernel_waits_too(void **state _unused_)
{
	RIG(SMALL_PAGES)
	pthread_t reader;
	uint64_t value;
	void *result;

	demand_expect(rig->demand, 3, 2, 2);
	start(rig);
	start_filler(rig);
	assert_int_equal(pthread_create(&reader, NULL, reader_main, rig), 0);
	pthread_join(reader, &result);
	assert_int_equal((intptr_t)result, sizeof(value));
	memcpy(&value, page_at(rig, 4), sizeof(value));
	assert_int_equal(value, 3);
	assert_int_equal(page_at(rig, 4)[100], byte_of(4));
	stop_filler(rig);
	finish(rig);
	rig_free(rig);
}

/* ---- errors ---- */

static void what_is_expected_is_not_finished(void **state _unused_)
{
	RIG(SMALL_PAGES)
	demand_expect(rig->demand, 9, 4, 1);
	start(rig);
	assert_int_equal(demand_finish(rig->demand, &rig->err), -EBUSY);
	assert_int_equal(place(rig, 9, 1, &rig->err), 0);
	assert_int_equal(demand_finish(rig->demand, &rig->err), -EBUSY);
	assert_int_equal(demand_skip(rig->demand, 9, 4, &rig->err), 0);
	finish(rig);
	rig_free(rig);
}

static void a_page_of_somebody_else_is_told(void **state _unused_)
{
	uint8_t foreign[DEMAND_PAGE_BYTES] = { 1 };
	struct error err = { 0 };

	RIG(SMALL_PAGES)
	demand_expect(rig->demand, 0, 8, 8);
	start(rig);
	assert_int_equal(pwrite(rig->ram_fd, foreign, sizeof(foreign), 2 * DEMAND_PAGE_BYTES),
			 sizeof(foreign));
	assert_int_equal(place(rig, 0, 8, &err), -EEXIST);
	assert_non_null(strstr(err.message, "there already"));
	assert_int_equal(demand_left(rig->demand), 8);
	rig_free(rig);
}

static void no_page_beyond_the_end(void **state _unused_)
{
	struct error err = { 0 };

	RIG(SMALL_PAGES)
	demand_expect(rig->demand, PAGES - 1, 1, 1);
	start(rig);
	assert_int_equal(place(rig, PAGES - 1, 2, &err), -EINVAL);
	assert_int_equal(demand_skip(rig->demand, UINT64_MAX, 2, &err), -EINVAL);
	err = (struct error){ 0 };
	assert_int_equal(place(rig, PAGES - 1, 1, &err), 0);
	finish(rig);
	rig_free(rig);
}

static void what_is_there_and_wrong_is_emptied(enum backing backing)
{
	RIG(backing)
	const uint64_t block = demand_block_pages(rig->demand);
	struct error err = { 0 };

	demand_expect(rig->demand, 0, block, 0);
	start(rig);
	assert_int_equal(demand_skip(rig->demand, 0, block, &err), 0);
	*page_at(rig, 0) = 1;
	*page_at(rig, block) = 2;
	assert_int_equal(demand_empty(rig->demand, 0, block, &err), 0);
	assert_int_equal(*page_at(rig, block), 2);
	assert_int_equal(*page_at(rig, 0), 0);
	if (block > 1)
		assert_int_equal(demand_empty(rig->demand, 1, block, &err), -EINVAL);
	rig_free(rig);
}

static void what_is_wrong_is_emptied(void **state _unused_)
{
	what_is_there_and_wrong_is_emptied(SMALL_PAGES);
}

static void what_is_wrong_in_a_huge_page_is_emptied(void **state _unused_)
{
	what_is_there_and_wrong_is_emptied(HUGETLB);
}

static void many_huge_pages_may_be_begun(void **state _unused_)
{
	RIG(HUGETLB)
	demand_expect(rig->demand, 0, PAGES, PAGES);
	start(rig);
	for (uint64_t page = 0; page < PAGES; page += 512)
		assert_int_equal(place(rig, page, 1, &rig->err), 0);
	assert_int_equal(demand_left(rig->demand), PAGES);
	for (uint64_t page = 0; page < PAGES; page += 256)
		assert_int_equal(place(rig, page, 256, &rig->err), 0);
	for (uint64_t page = 0; page < PAGES; page++)
		assert_true(is_whole(rig, page));
	finish(rig);
	rig_free(rig);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_hole_is_zero_at_once),
		cmocka_unit_test(who_touches_waits_until_it_is_there),
		cmocka_unit_test(who_touches_a_huge_page_waits_until_it_is_there),
		cmocka_unit_test(many_fill_at_once),
		cmocka_unit_test(many_fill_huge_pages_at_once),
		cmocka_unit_test(what_was_written_stays),
		cmocka_unit_test(what_will_not_come_is_a_hole),
		cmocka_unit_test(a_huge_page_may_lack_pages),
		cmocka_unit_test(a_page_may_come_as_zeroes),
		cmocka_unit_test(the_kernel_waits_too),
		cmocka_unit_test(what_is_expected_is_not_finished),
		cmocka_unit_test(a_page_of_somebody_else_is_told),
		cmocka_unit_test(no_page_beyond_the_end),
		cmocka_unit_test(what_is_wrong_is_emptied),
		cmocka_unit_test(what_is_wrong_in_a_huge_page_is_emptied),
		cmocka_unit_test(many_huge_pages_may_be_begun),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
