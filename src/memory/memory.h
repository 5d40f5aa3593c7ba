/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * Guest RAM and the one door to it. A guest address is a type of its own; every access names address,
 * length and direction, is checked against overflow, and reaches RAM only: never a device, never a
 * hole (invariant 1). Every write by us is marked in the dirty log.
 *
 * Who may sleep here: any touch of guest RAM may block later (post-copy, epoch protection). vCPU and
 * queue threads only; never the control loop (invariant 10).
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "base/macros.h"

/* A guest-physical address. A struct, so that it is never mixed up with a host pointer or a length. */
typedef struct {
	uint64_t v;
} gpa_t;

static inline gpa_t gpa(uint64_t v)
{
	return (gpa_t){ v };
}

enum memory_direction {
	MEMORY_READ,  /* we read what the guest wrote */
	MEMORY_WRITE, /* we (or the kernel for us) write: the guest will read it */
};

enum memory_hugepages { MEMORY_HUGE_OFF, MEMORY_HUGE_THP, MEMORY_HUGE_ON };

#define MEMORY_PAGE_SIZE 4096ULL
#define MEMORY_BANKS_MAX 4

/* One contiguous piece of RAM. Banks are sorted by address and do not touch each other. */
struct memory_bank {
	gpa_t start;
	uint64_t len;	 /* bytes, a multiple of 2 MiB */
	uint64_t offset; /* in the file */
	uint8_t *host;	 /* the mapping */
};

struct memory_dirty;

struct memory {
	int fd; /* RAM's file: a memfd or like one (host/huge_file.h); owned */
	enum memory_hugepages hugepages;
	size_t n_banks;
	struct memory_bank banks[MEMORY_BANKS_MAX];
	uint64_t size; /* bytes of RAM in all banks */
	bool on_demand; /* pages may be missing, and are filled when the mapping is touched: not by write(2). Atomic */
	struct memory_dirty *dirty; /* owned; never NULL */
};

/* A memfd for guest RAM (the keeper holds one before the VM's process exists): descriptor or negative errno. */
_must_check_ int memory_make_fd(uint64_t size, enum memory_hugepages hugepages, struct error *err);

/*
 * Makes `size` bytes of RAM (a multiple of 2 MiB, <= LIMIT_MEMORY): below `hole_start` first, the rest
 * from `hole_end` (normally 4 GiB) upwards. `fd` is a file in memory of at least that size whose ownership
 * passes, or -1 to make one. Errors name --memory.
 */
_must_check_ int memory_create(uint64_t size, uint64_t hole_start, uint64_t hole_end,
			       enum memory_hugepages hugepages, int fd, struct memory **ret_memory,
			       struct error *err);
void memory_free(struct memory *memory);
/* RAM of hugepages=thp: whether the kernel may join pages that it has to a huge one. It may from the start. Any thread. */
void memory_join_pages(const struct memory *memory, bool join);

/* Copies. -EFAULT when any byte of the range is not RAM; nothing is copied then. Any length. */
_must_check_ int memory_read(struct memory *memory, gpa_t from, void *buf, size_t len);
_must_check_ int memory_write(struct memory *memory, gpa_t to, const void *buf, size_t len);
_must_check_ int memory_fill(struct memory *memory, gpa_t to, uint8_t byte, uint64_t len);

/* Reads [offset, offset + len) of a regular file into RAM, the way that is fastest for pages of its size.
 * -EFAULT: not all RAM; -ENODATA: the file is shorter. */
_must_check_ int memory_load_file(struct memory *memory, gpa_t to, int fd, uint64_t offset,
				  uint64_t len);

/*
 * A host pointer to [start, start + len), which must lie in one bank; NULL otherwise. It stays valid as
 * long as the memory. The content is the guest's to change at any moment: fetch once, then validate the
 * copy. For MEMORY_WRITE the caller owes memory_mark_dirty after the bytes are there and before the
 * guest is told.
 */
void *memory_at(struct memory *memory, gpa_t start, uint64_t len, enum memory_direction direction);

/* True when all of [start, start + len) is RAM (it may cross banks). */
bool memory_contains(const struct memory *memory, gpa_t start, uint64_t len);

/* Marks what was written through memory_at. Any thread. The range must be RAM. */
void memory_mark_dirty(struct memory *memory, gpa_t start, uint64_t len);

/* A range of RAM's file that holds data (or may). */
struct memory_range {
	gpa_t start;
	uint64_t len;
};

/* How many bytes of RAM the host had to give so far. One system call, whatever the guest did. Any thread. */
_must_check_ int memory_populated(const struct memory *memory, uint64_t *ret_bytes);

/* Fills our page tables with what is populated already, so that its first touches find it; allocates nothing. Takes the longer the
 * more there is. Any thread. */
void memory_map_populated(struct memory *memory);

/*
 * The next populated range at or after `from`: 1 and `*ret_range`, or 0 when there is none. Found with
 * SEEK_DATA, which calls all of a hugetlb memfd data. Never reads guest bytes, so it fills no hole. There may
 * be as many ranges as pages: not for the control loop.
 */
_must_check_ int memory_next_populated(struct memory *memory, gpa_t from,
				       struct memory_range *ret_range);
