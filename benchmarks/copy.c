/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a checkpoint cannot do without: copying so many pages from all over a memory to one place. copy PAGES ROUNDS: the median of the
 * rounds in ns. Both sides are shared memory that has its pages already, as a guest's RAM and the place of its copies.
 */

#define _GNU_SOURCE
#include <inttypes.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#define PAGE 4096u
#define ROUNDS_MAX 1000u

static uint8_t *shared(size_t bytes)
{
	int fd = memfd_create("copy", MFD_CLOEXEC);
	void *p;

	if (fd < 0 || ftruncate(fd, (off_t)bytes) < 0)
		return NULL;
	p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, fd, 0);
	return p == MAP_FAILED ? NULL : p;
}

static int64_t now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

static int compare(const void *a, const void *b)
{
	int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;

	return (x > y) - (x < y);
}

/* Each number below n once, in an order that no prefetcher knows. */
static uint32_t *shuffled(size_t n)
{
	uint32_t *order = calloc(n, sizeof(*order));

	for (size_t i = 0; order && i < n; i++)
		order[i] = (uint32_t)i;
	srandom(1);
	for (size_t i = n; order && i > 1; i--) {
		size_t other = (size_t)random() % i;
		uint32_t kept = order[i - 1];

		order[i - 1] = order[other];
		order[other] = kept;
	}
	return order;
}

int main(int argc, char **argv)
{
	size_t pages = argc == 3 ? strtoul(argv[1], NULL, 10) : 0;
	size_t rounds = argc == 3 ? strtoul(argv[2], NULL, 10) : 0;
	static int64_t taken[ROUNDS_MAX];
	uint8_t *from, *to;
	uint32_t *order;

	if (!pages || !rounds || rounds > ROUNDS_MAX)
		return 2;
	from = shared(pages * PAGE);
	to = shared(pages * PAGE);
	order = shuffled(pages);
	if (!from || !to || !order)
		return 1;
	memset(from, 0x5a, pages * PAGE);
	for (size_t round = 0; round < rounds; round++) {
		int64_t began = now_ns();

		for (size_t i = 0; i < pages; i++)
			memcpy(to + i * PAGE, from + (size_t)order[i] * PAGE, PAGE);
		taken[round] = now_ns() - began;
	}
	qsort(taken, rounds, sizeof(*taken), compare);
	printf("%" PRId64 "\n", taken[rounds / 2]);
	return 0;
}
