/* SPDX-License-Identifier: Apache-2.0 */

/* Faults, and what comes for them: of pages of 4 KiB by demand_pages.c, of 2 MiB by demand_blocks.c. */

#include "move/pages/demand_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <linux/userfaultfd.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/fd.h"

#define FAULTS_AT_ONCE 16

DEFINE_CLEANUP(struct demand, demand_free, demand_freep)

/* ---- errors ---- */

static int failed(struct error *err, int r, const char *what)
{
	if (r == -ESRCH)
		return error_set(err, r, EXIT_STATUS_FAILED, "memory: the VM's process has ended");
	return error_set(err, r, EXIT_STATUS_HOST, "memory: %s: %s", what, strerror(-r));
}

/* Of the fault thread: whoever looks next is told. */
static void keep_failure(struct demand *demand, int r, const char *what)
{
	pthread_mutex_lock(&demand->lock);
	if (!demand->failure.code && !demand->finished)
		failed(&demand->failure, r, what);
	pthread_mutex_unlock(&demand->lock);
}

/* ---- the end of blocks that lacked; under the lock ---- */

static void tell_left(struct demand *demand)
{
	move_shared_set_left(demand->shared, demand->left);
}

void demand_block_is_there(struct demand *demand, uint64_t block)
{
	if (!bit_is(demand->lacks, block))
		return;
	bit_clear(demand->lacks, block);
	demand->lacking--;
	demand->waited -= bit_is(demand->asked, block);
}

void demand_count_placed(struct demand *demand, uint64_t n)
{
	demand->left -= MIN(n, demand->left);
	tell_left(demand);
}

/* ---- what comes ---- */

static bool is_ram(const struct demand *demand, uint64_t first, uint64_t n)
{
	return n <= demand->n_pages && first <= demand->n_pages - n;
}

int demand_place(struct demand *demand, uint64_t first, uint64_t n, const void *content,
		 struct error *err)
{
	int r = -EINVAL;

	if (is_ram(demand, first, n))
		r = demand->per_block == 1 ? demand_place_pages(demand, first, n, content)
					   : demand_place_blocks(demand, first, n, content);
	return r < 0 ? failed(err, r,
			      r == -EEXIST ? "a page that was awaited is there already"
					   : "a page cannot be placed")
		     : 0;
}

int demand_bring(struct demand *demand, uint64_t first, uint64_t n, const void *content,
		 struct error *err)
{
	struct error why = { 0 };
	int r = demand_place(demand, first, n, content, &why);

	return r == 0 || r == -ESRCH ? 0 : error_set(err, r, why.status, "%s", why.message);
}

int demand_skip(struct demand *demand, uint64_t first, uint64_t n, struct error *err)
{
	int r = -EINVAL;

	if (is_ram(demand, first, n))
		r = demand->per_block == 1 ? demand_skip_pages(demand, first, first + n)
					   : demand_skip_blocks(demand, first, first + n);
	return r < 0 ? failed(err, r, "a hole cannot be filled") : 0;
}

/* ---- before the VM runs ---- */

/* The kernel may keep a page that it could not split off, with zeroes in it: then it is there, and nobody would wait for it. */
static int judge_hole(const struct demand *demand, uint64_t start, uint64_t len)
{
	off_t data;

	if (demand->per_block > 1) /* where all counts as data, and whole pages go */
		return 0;
	data = lseek(demand->ram_fd, (off_t)start, SEEK_DATA);
	if (data < 0)
		return errno == ENXIO ? 0 : -errno;
	return (uint64_t)data < start + len ? -EBUSY : 0;
}

/* A hole made in hugetlbfs takes the reservation of its pages with it; mapping it reserves them again. */
static int reserve(const struct demand *demand, uint64_t start, uint64_t len)
{
	void *map;

	if (demand->per_block == 1)
		return 0;
	map = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_SHARED, demand->ram_fd, (off_t)start);
	if (map == MAP_FAILED)
		return -errno;
	munmap(map, len);
	return 0;
}

int demand_empty(struct demand *demand, uint64_t first, uint64_t n, struct error *err)
{
	const uint64_t start = first * DEMAND_PAGE_BYTES, len = n * DEMAND_PAGE_BYTES;
	int r = 0;

	if (!is_ram(demand, first, n) || first % demand->per_block || n % demand->per_block)
		return failed(err, -EINVAL, "what is to be emptied");
	if (fallocate(demand->ram_fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)start,
		      (off_t)len) < 0)
		r = -errno;
	if (r == 0)
		r = judge_hole(demand, start, len);
	if (r == 0)
		r = reserve(demand, start, len);
	return r < 0 ? failed(err, r, "cannot be emptied") : 0;
}

void demand_expect(struct demand *demand, uint64_t first, uint64_t span, uint64_t n)
{
	const uint64_t end = MIN(first + span, demand->n_pages);

	pthread_mutex_lock(&demand->lock);
	for (uint64_t word = first / WORD; word * WORD < end; word++)
		demand->due[word] |= bits_within(word, first, end);
	for (uint64_t block = first / demand->per_block; block * demand->per_block < end; block++) {
		demand->lacking += !bit_is(demand->lacks, block);
		bit_set(demand->lacks, block);
	}
	demand->left += n;
	tell_left(demand);
	pthread_mutex_unlock(&demand->lock);
}

/* ---- faults ---- */

static int page_at(const struct demand *demand, uint64_t address, uint64_t *ret_page)
{
	for (size_t i = 0; i < demand->n_banks; i++) {
		const struct bank *bank = &demand->banks[i];
		uint64_t page = (address - bank->address) / DEMAND_PAGE_BYTES;

		if (address < bank->address || page >= bank->n)
			continue;
		*ret_page = bank->first + page;
		return 0;
	}
	return -EFAULT;
}

static int serve(struct demand *demand, uint64_t address)
{
	uint64_t page, first = 0;
	bool hole, ask = false;
	int r = page_at(demand, address, &page);

	if (r < 0)
		return r;
	pthread_mutex_lock(&demand->lock);
	hole = !bit_is(demand->lacks, page / demand->per_block);
	if (!hole && !bit_is(demand->asked, page / demand->per_block)) {
		bit_set(demand->asked, page / demand->per_block);
		demand->waited++;
		first = page - page % demand->per_block;
		ask = demand_any_due(demand, first, first + demand->per_block);
	}
	pthread_mutex_unlock(&demand->lock);
	if (ask)
		demand->wanted(demand->ctx, first, demand->per_block);
	return hole ? demand_fill_hole(demand, page) : 0;
}

static int serve_some(struct demand *demand)
{
	struct uffd_msg faults[FAULTS_AT_ONCE];
	ssize_t n = read(demand->uffd, faults, sizeof(faults));
	int r = 0;

	if (n < 0)
		return errno == EAGAIN || errno == EINTR ? 0 : -errno;
	for (size_t i = 0; r == 0 && i < (size_t)n / sizeof(faults[0]); i++)
		if (faults[i].event == UFFD_EVENT_PAGEFAULT)
			r = serve(demand, faults[i].arg.pagefault.address);
	return r;
}

static void *fault_main(void *arg)
{
	struct demand *demand = arg;
	struct pollfd fds[] = {
		{ .fd = demand->uffd, .events = POLLIN },
		{ .fd = demand->stop, .events = POLLIN },
	};
	int r = 0;

	while (r == 0 && !fds[1].revents) {
		if (poll(fds, ARRAY_SIZE(fds), -1) < 0)
			continue;
		if (fds[0].revents & POLLIN)
			r = serve_some(demand);
		else if (fds[0].revents)
			r = -EIO;
	}
	if (r < 0)
		keep_failure(demand, r, "who waits for a page cannot be served");
	return NULL;
}

int demand_start(struct demand *demand, struct error *err)
{
	int r = thread_start("faults", demand->entry, fault_main, demand, &demand->thread);

	demand->started = r == 0;
	return r < 0 ? failed(err, r, "no thread for it") : 0;
}

/* ---- life ---- */

static int take_banks(struct demand *demand, const struct demand_settings *settings)
{
	const struct move_facts *facts = settings->facts;
	const uint64_t align = demand->per_block * DEMAND_PAGE_BYTES;
	uint64_t at = 0;

	for (size_t i = 0; i < facts->n_banks; i++) {
		const struct memory_bank *bank = &facts->banks[i];
		uint64_t address = settings->vm->addresses[i];

		/* As they lie in RAM's file: one behind the other. */
		if (!bank->len || bank->offset != at || bank->len > facts->ram_bytes - at ||
		    (bank->len | address) % align)
			return -EINVAL;
		demand->banks[i] = (struct bank){ .address = address,
						  .first = at / DEMAND_PAGE_BYTES,
						  .n = bank->len / DEMAND_PAGE_BYTES };
		at += bank->len;
	}
	demand->n_banks = facts->n_banks;
	return at == facts->ram_bytes && at ? 0 : -EINVAL;
}

static int make_maps(struct demand *demand)
{
	const uint64_t blocks = demand->n_pages / demand->per_block;

	demand->due = calloc(demand->n_pages / WORD + 1, sizeof(uint64_t));
	demand->lacks = calloc(blocks / WORD + 1, sizeof(uint64_t));
	demand->asked = calloc(blocks / WORD + 1, sizeof(uint64_t));
	demand->zeroes = calloc(demand->per_block, DEMAND_PAGE_BYTES);
	return demand->due && demand->lacks && demand->asked && demand->zeroes ? 0 : -ENOMEM;
}

static void unregister_banks(const struct demand *demand)
{
	for (size_t i = 0; i < demand->n_banks; i++) {
		struct uffdio_range range = { .start = demand->banks[i].address,
					      .len = demand->banks[i].n * DEMAND_PAGE_BYTES };

		/* Fails on a process that has ended, which is as good. */
		(void)!ioctl(demand->uffd, UFFDIO_UNREGISTER, &range);
	}
}

static int prepare(struct demand *demand, const struct demand_settings *settings)
{
	struct statfs fs;
	int r;

	if (fstatfs(demand->ram_fd, &fs) < 0)
		return -errno;
	demand->per_block = fs.f_type == HUGETLBFS_MAGIC
				    ? (uint32_t)((uint64_t)fs.f_bsize / DEMAND_PAGE_BYTES)
				    : 1;
	demand->stop = fd_new_event();
	if (demand->stop < 0)
		return demand->stop;
	r = take_banks(demand, settings);
	return r < 0 ? r : make_maps(demand);
}

int demand_new(const struct demand_settings *settings, struct demand **ret_demand,
	       struct error *err)
{
	_cleanup_(demand_freep) struct demand *demand = calloc(1, sizeof(*demand));
	int r;

	if (!demand)
		return failed(err, -ENOMEM, "no room for its map");
	pthread_mutex_init(&demand->lock, NULL);
	demand->stop = -1;
	demand->uffd = settings->vm->uffd;
	demand->can_zero = settings->vm->can_zero;
	demand->ram_fd = settings->ram_fd;
	demand->n_pages = settings->facts->ram_bytes / DEMAND_PAGE_BYTES;
	demand->shared = settings->shared;
	demand->entry = settings->entry;
	demand->wanted = settings->wanted;
	demand->ctx = settings->ctx;
	r = prepare(demand, settings);
	if (r < 0)
		return failed(err, r, "cannot be loaded on demand");
	tell_left(demand);
	*ret_demand = TAKE_PTR(demand);
	return 0;
}

static void end_thread(struct demand *demand)
{
	if (!demand->started)
		return;
	fd_signal_event(demand->stop);
	pthread_join(demand->thread, NULL);
	demand->started = false;
}

void demand_free(struct demand *demand)
{
	if (!demand)
		return;
	end_thread(demand);
	fd_close(demand->stop);
	for (size_t i = 0; i < demand->n_parts; i++)
		free(demand->parts[i].content);
	free(demand->due);
	free(demand->lacks);
	free(demand->asked);
	free(demand->zeroes);
	pthread_mutex_destroy(&demand->lock);
	free(demand);
}

uint32_t demand_block_pages(const struct demand *demand)
{
	return demand->per_block;
}

uint64_t demand_left(struct demand *demand)
{
	uint64_t left;

	pthread_mutex_lock(&demand->lock);
	left = demand->left;
	pthread_mutex_unlock(&demand->lock);
	return left;
}

bool demand_waited(struct demand *demand)
{
	bool waited;

	pthread_mutex_lock(&demand->lock);
	waited = demand->waited;
	pthread_mutex_unlock(&demand->lock);
	return waited;
}

int demand_check(struct demand *demand, struct error *err)
{
	int r;

	pthread_mutex_lock(&demand->lock);
	r = demand->failure.code;
	if (r < 0)
		*err = demand->failure;
	pthread_mutex_unlock(&demand->lock);
	return r;
}

int demand_finish(struct demand *demand, struct error *err)
{
	bool lacks;

	pthread_mutex_lock(&demand->lock);
	lacks = demand->lacking || demand->left;
	demand->finished = !lacks;
	pthread_mutex_unlock(&demand->lock);
	if (lacks)
		return failed(err, -EBUSY, "some of it has not come");
	/* Whoever waits in a hole goes on. */
	unregister_banks(demand);
	end_thread(demand);
	return 0;
}
