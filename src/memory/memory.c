/* SPDX-License-Identifier: Apache-2.0 */
#include "memory/memory.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/memfd.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/fd.h"
#include "base/limits.h"
#include "memory/dirty_internal.h"

#define BANK_ALIGN MIB(2)

int memory_make_fd(uint64_t size, enum memory_hugepages hugepages, struct error *err)
{
	unsigned int flags = MFD_CLOEXEC | MFD_ALLOW_SEALING;
	int fd;

	if (hugepages == MEMORY_HUGE_ON)
		flags |= MFD_HUGETLB | MFD_HUGE_2MB;
	fd = memfd_create("guest-ram", flags);
	if (fd < 0)
		return error_set(err, -errno, EXIT_STATUS_HOST,
				 "--memory: cannot make guest memory: %s%s", strerror(errno),
				 hugepages == MEMORY_HUGE_ON
					 ? "; use hugepages=off, or a kernel with hugetlbfs"
					 : "");
	if (ftruncate(fd, (off_t)size) < 0) {
		int r = error_set(err, -errno, EXIT_STATUS_HOST,
				  "--memory: cannot size guest memory: %s", strerror(errno));

		fd_close(fd);
		return r;
	}
	/* Nobody who is handed the memfd can cut it under us (SIGBUS). */
	(void)!fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW);
	return fd;
}

/* Advice only: a kernel without THP for shmem (shmem_enabled=never) gives 4 KiB pages. */
void memory_join_pages(const struct memory *memory, bool join)
{
	for (size_t i = 0; memory->hugepages == MEMORY_HUGE_THP && i < memory->n_banks; i++)
		(void)!madvise(memory->banks[i].host, memory->banks[i].len,
			       join ? MADV_HUGEPAGE : MADV_NOHUGEPAGE);
}

static int map_bank(struct memory *memory, struct memory_bank *bank, struct error *err)
{
	/* Huge pages are reserved now: without, a touch that finds none left is a SIGBUS. */
	int reserve = memory->hugepages == MEMORY_HUGE_ON ? 0 : MAP_NORESERVE;
	void *host = mmap(NULL, bank->len, PROT_READ | PROT_WRITE, MAP_SHARED | reserve, memory->fd,
			  (off_t)bank->offset);

	if (host == MAP_FAILED)
		return error_set(err, -errno, EXIT_STATUS_HOST,
				 "--memory: cannot map %llu MiB: %s%s",
				 (unsigned long long)(bank->len >> 20), strerror(errno),
				 memory->hugepages == MEMORY_HUGE_ON
					 ? "; not enough huge pages are free: raise "
					   "/proc/sys/vm/nr_hugepages, or use hugepages=off"
					 : "");
	bank->host = host;
	/* A core dump of the monitor does not hold the guest's secrets. */
	(void)!madvise(host, bank->len, MADV_DONTDUMP);
	return 0;
}

/* The memfd given, or a new one, into `*fd`. */
static int have_fd(int *fd, uint64_t size, enum memory_hugepages hugepages, struct error *err)
{
	struct stat st;

	if (*fd < 0) {
		*fd = memory_make_fd(size, hugepages, err);
		return MIN(*fd, 0);
	}
	if (fstat(*fd, &st) < 0)
		return error_set(err, -errno, EXIT_STATUS_FAILED, "guest memory: %s",
				 strerror(errno));
	if ((uint64_t)st.st_size < size)
		return error_set(err, -EINVAL, EXIT_STATUS_FAILED,
				 "guest memory: the descriptor given is smaller than --memory");
	return 0;
}

static void lay_out_banks(struct memory *memory, uint64_t hole_start, uint64_t hole_end)
{
	uint64_t low = MIN(memory->size, hole_start);

	memory->banks[0] = (struct memory_bank){ .start = gpa(0), .len = low };
	memory->n_banks = 1;
	if (memory->size > low) {
		memory->banks[1] = (struct memory_bank){
			.start = gpa(hole_end),
			.len = memory->size - low,
			.offset = low,
		};
		memory->n_banks = 2;
	}
}

int memory_create(uint64_t size, uint64_t hole_start, uint64_t hole_end,
		  enum memory_hugepages hugepages, int fd, struct memory **ret_memory,
		  struct error *err)
{
	_cleanup_(fd_closep) int owned = fd;
	struct memory *memory;
	int r;

	if (size == 0 || size > LIMIT_MEMORY || !IS_ALIGNED(size, BANK_ALIGN))
		return error_set(err, -EINVAL, EXIT_STATUS_USAGE,
				 "--memory: must be a multiple of 2 MiB, at most %llu GiB",
				 (unsigned long long)(LIMIT_MEMORY >> 30));
	r = have_fd(&owned, size, hugepages, err);
	if (r < 0)
		return r;
	memory = calloc(1, sizeof(*memory));
	if (!memory)
		return -ENOMEM;
	memory->fd = TAKE_FD(owned);
	memory->size = size;
	memory->hugepages = hugepages;
	lay_out_banks(memory, hole_start, hole_end);
	r = memory_dirty_new(memory, &memory->dirty);
	for (size_t i = 0; r == 0 && i < memory->n_banks; i++)
		r = map_bank(memory, &memory->banks[i], err);
	if (r < 0) {
		memory_free(memory);
		return r;
	}
	memory_join_pages(memory, true);
	*ret_memory = memory;
	return 0;
}

void memory_free(struct memory *memory)
{
	if (!memory)
		return;
	for (size_t i = 0; i < memory->n_banks; i++)
		if (memory->banks[i].host)
			munmap(memory->banks[i].host, memory->banks[i].len);
	memory_dirty_free(memory->dirty);
	fd_close(memory->fd);
	free(memory);
}

/* The bank that holds `address`; `*ret_room` is how far it reaches from there. */
static const struct memory_bank *find_bank(const struct memory *memory, uint64_t address,
					   uint64_t *ret_room)
{
	for (size_t i = 0; i < memory->n_banks; i++) {
		const struct memory_bank *bank = &memory->banks[i];
		uint64_t offset = address - bank->start.v;

		if (address >= bank->start.v && offset < bank->len) {
			*ret_room = bank->len - offset;
			return bank;
		}
	}
	return NULL;
}

void *memory_at(struct memory *memory, gpa_t start, uint64_t len,
		enum memory_direction direction _unused_)
{
	uint64_t room;
	const struct memory_bank *bank = find_bank(memory, start.v, &room);

	if (!bank || len > room)
		return NULL;
	return bank->host + (start.v - bank->start.v);
}

bool memory_contains(const struct memory *memory, gpa_t start, uint64_t len)
{
	uint64_t at = start.v, room;

	while (len) {
		if (!find_bank(memory, at, &room))
			return false;
		if (room >= len)
			return true;
		at += room;
		len -= room;
	}
	return true;
}

/* Calls `piece` for each part of the range that lies in one bank; the range is known to be RAM. */
static void for_each_piece(struct memory *memory, gpa_t start, uint64_t len,
			   void (*piece)(uint8_t *host, uint64_t len, void *arg), void *arg)
{
	uint64_t at = start.v, room;

	while (len) {
		const struct memory_bank *bank = find_bank(memory, at, &room);
		uint64_t n = MIN(room, len);

		piece(bank->host + (at - bank->start.v), n, arg);
		at += n;
		len -= n;
	}
}

static void copy_out(uint8_t *host, uint64_t len, void *arg)
{
	uint8_t **to = arg;

	memcpy(*to, host, len);
	*to += len;
}

static void copy_in(uint8_t *host, uint64_t len, void *arg)
{
	const uint8_t **from = arg;

	memcpy(host, *from, len);
	*from += len;
}

static void fill(uint8_t *host, uint64_t len, void *arg)
{
	memset(host, *(uint8_t *)arg, len);
}

int memory_read(struct memory *memory, gpa_t from, void *buf, size_t len)
{
	if (!memory_contains(memory, from, len))
		return -EFAULT;
	for_each_piece(memory, from, len, copy_out, &buf);
	return 0;
}

int memory_write(struct memory *memory, gpa_t to, const void *buf, size_t len)
{
	if (!memory_contains(memory, to, len))
		return -EFAULT;
	for_each_piece(memory, to, len, copy_in, &buf);
	memory_mark_dirty(memory, to, len);
	return 0;
}

int memory_fill(struct memory *memory, gpa_t to, uint8_t byte, uint64_t len)
{
	if (!memory_contains(memory, to, len))
		return -EFAULT;
	for_each_piece(memory, to, len, fill, &byte);
	memory_mark_dirty(memory, to, len);
	return 0;
}

/* ---- files ---- */

/* Larger pieces do not help, and this one stays in the cache of every processor of the last ten years. */
#define LOAD_PIECE KIB(256)

/* Into RAM's file at `at`, not through the mapping: whole pages of 4 KiB are then not cleared before they are written. */
static int load_by_write(struct memory *memory, uint64_t at, int fd, uint64_t offset, uint64_t len)
{
	_cleanup_(freep) void *buf = malloc(LOAD_PIECE);
	int r = buf ? 0 : -ENOMEM;

	for (uint64_t done = 0; r == 0 && done < len; done += LOAD_PIECE) {
		size_t n = MIN(LOAD_PIECE, len - done);

		r = fd_read_at(fd, buf, n, offset + done);
		if (r == 0)
			r = fd_write_at(memory->fd, buf, n, at + done);
	}
	return r;
}

/* Within one bank. A huge page is cleared either way, and is mapped at once when it is touched through the mapping. */
static int load_piece(struct memory *memory, const struct memory_bank *bank, uint64_t at, int fd,
		      uint64_t offset, uint64_t len)
{
	if (memory->hugepages == MEMORY_HUGE_OFF &&
	    !__atomic_load_n(&memory->on_demand, __ATOMIC_ACQUIRE))
		return load_by_write(memory, bank->offset + at, fd, offset, len);
	return fd_read_at(fd, bank->host + at, len, offset);
}

int memory_load_file(struct memory *memory, gpa_t to, int fd, uint64_t offset, uint64_t len)
{
	uint64_t done = 0;
	int r = 0;

	if (!memory_contains(memory, to, len))
		return -EFAULT;
	while (r == 0 && done < len) {
		uint64_t room, n;
		const struct memory_bank *bank = find_bank(memory, to.v + done, &room);

		if (!bank)
			return -EFAULT;
		n = MIN(len - done, room);
		r = load_piece(memory, bank, to.v + done - bank->start.v, fd, offset + done, n);
		done += n;
	}
	memory_mark_dirty(memory, to, len);
	return r;
}
