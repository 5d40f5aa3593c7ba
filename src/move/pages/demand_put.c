/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <linux/userfaultfd.h>
#include <sched.h>
#include <sys/ioctl.h>

#include "move/pages/demand_internal.h"

static const struct bank *bank_of(const struct demand *demand, uint64_t page)
{
	for (size_t i = 0; i < demand->n_banks; i++)
		if (page >= demand->banks[i].first &&
		    page - demand->banks[i].first < demand->banks[i].n)
			return &demand->banks[i];
	return NULL;
}

static uint64_t address_of(const struct bank *bank, uint64_t page)
{
	return bank->address + (page - bank->first) * DEMAND_PAGE_BYTES;
}

static void wake(const struct demand *demand, uint64_t address, uint64_t len)
{
	struct uffdio_range range = { .start = address, .len = len };

	(void)!ioctl(demand->uffd, UFFDIO_WAKE, &range);
}

/* As much as the kernel takes at once; the bytes, or a negative errno. */
static int64_t copy_some(const struct demand *demand, uint64_t to, const void *from, uint64_t len)
{
	struct uffdio_copy copy = { .dst = to, .src = (uintptr_t)from, .len = len };

	for (;;) {
		copy.copy = 0;
		if (ioctl(demand->uffd, UFFDIO_COPY, &copy) == 0)
			return (int64_t)len;
		if (copy.copy > 0)
			return copy.copy;
		if (errno != EAGAIN && errno != EINTR)
			return -errno;
		sched_yield(); /* the VM's process changes its mappings just now */
	}
}

/* Within one bank. */
static int copy_in(const struct demand *demand, uint64_t to, const uint8_t *from, uint64_t len)
{
	while (len) {
		int64_t n = copy_some(demand, to, from, len);

		if (n < 0)
			return (int)n;
		to += (uint64_t)n;
		from += n;
		len -= (uint64_t)n;
	}
	return 0;
}

static int zero_in(const struct demand *demand, uint64_t to, uint64_t len)
{
	struct uffdio_zeropage zero = { .range = { .start = to, .len = len } };

	if (!demand->can_zero)
		return copy_in(demand, to, demand->zeroes, len);
	for (;;) {
		zero.zeropage = 0;
		if (ioctl(demand->uffd, UFFDIO_ZEROPAGE, &zero) == 0)
			return 0;
		if (zero.zeropage > 0) {
			zero.range.start += (uint64_t)zero.zeropage;
			zero.range.len -= (uint64_t)zero.zeropage;
			continue;
		}
		if (errno != EAGAIN && errno != EINTR)
			return -errno;
		sched_yield();
	}
}

int demand_fill_hole(const struct demand *demand, uint64_t page)
{
	const uint64_t first = page - page % demand->per_block;
	const struct bank *bank = bank_of(demand, first);
	uint64_t len = demand->per_block * DEMAND_PAGE_BYTES, at;
	int r;

	if (!bank)
		return -EFAULT;
	at = address_of(bank, first);
	r = zero_in(demand, at, len);
	if (r != -EEXIST)
		return r;
	wake(demand, at, len);
	return 0;
}

int demand_put(const struct demand *demand, uint64_t first, uint64_t n, const uint8_t *content)
{
	while (n) {
		const struct bank *bank = bank_of(demand, first);
		uint64_t now, at;
		int r;

		if (!bank)
			return -EFAULT;
		at = address_of(bank, first);
		now = MIN(n, bank->first + bank->n - first);
		if (!content && !demand->can_zero)
			now = demand->per_block; /* what stands ready of zeroes */
		r = content ? copy_in(demand, at, content, now * DEMAND_PAGE_BYTES)
			    : zero_in(demand, at, now * DEMAND_PAGE_BYTES);
		if (r < 0)
			return r;
		first += now;
		n -= now;
		content = content ? content + now * DEMAND_PAGE_BYTES : NULL;
	}
	return 0;
}
