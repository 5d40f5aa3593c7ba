/* SPDX-License-Identifier: Apache-2.0 */

/* The file that a mover and its VM share: one end makes it, the other trusts no more of it than it looked at. */

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fd.h"
#include "move/guest/guest.h"

static struct move_shared layout_of(uint64_t ram_bytes)
{
	const uint64_t pages = ram_bytes / MEMORY_PAGE_SIZE, words = (pages + 63) / 64;

	return (struct move_shared){
		.fd = -1,
		.n_pages = pages,
		.n_words = words,
		.state_at = ALIGN_UP(words * sizeof(uint64_t), MEMORY_PAGE_SIZE),
	};
}

static int map_bitmap(struct move_shared *shared)
{
	void *map = mmap(NULL, shared->state_at, PROT_READ | PROT_WRITE, MAP_SHARED, shared->fd, 0);

	if (map == MAP_FAILED)
		return -errno;
	shared->bitmap = map;
	return 0;
}

int move_shared_make(uint64_t ram_bytes, struct move_shared *ret_shared)
{
	struct move_shared shared = layout_of(ram_bytes);
	int r = 0;

	shared.fd = memfd_create("move", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	if (shared.fd < 0)
		return -errno;
	if (ftruncate(shared.fd, (off_t)(shared.state_at + MOVE_STATE_MAX)) < 0 ||
	    fcntl(shared.fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) < 0)
		r = -errno;
	if (r == 0)
		r = map_bitmap(&shared);
	if (r < 0) {
		move_shared_release(&shared);
		return r;
	}
	*ret_shared = shared;
	return 0;
}

/* A file that could shrink under our map would end the VM at the next touch. */
static int judge(const struct move_shared *shared)
{
	struct stat st;
	int seals = fcntl(shared->fd, F_GET_SEALS);

	if (seals < 0 || !(seals & F_SEAL_SHRINK))
		return -EINVAL;
	if (fstat(shared->fd, &st) < 0)
		return -errno;
	return st.st_size < 0 || (uint64_t)st.st_size < shared->state_at + MOVE_STATE_MAX ? -EINVAL
											  : 0;
}

int move_shared_take(int fd, uint64_t ram_bytes, struct move_shared *ret_shared, struct error *err)
{
	struct move_shared shared = layout_of(ram_bytes);
	int r;

	shared.fd = fd;
	r = judge(&shared);
	if (r == 0)
		r = map_bitmap(&shared);
	if (r < 0) {
		move_shared_release(&shared);
		return error_set(err, r, EXIT_STATUS_FAILED,
				 "the mover's shared file cannot be used (%s); it must be a memfd, "
				 "large enough and sealed against shrinking",
				 strerror(-r));
	}
	*ret_shared = shared;
	return 0;
}

uint64_t move_shared_left(const struct move_shared *shared)
{
	return __atomic_load_n(&shared->bitmap[0], __ATOMIC_ACQUIRE);
}

void move_shared_set_left(struct move_shared *shared, uint64_t pages)
{
	__atomic_store_n(&shared->bitmap[0], pages, __ATOMIC_RELEASE);
}

void move_shared_release(struct move_shared *shared)
{
	if (shared->bitmap)
		munmap(shared->bitmap, shared->state_at);
	fd_close(shared->fd);
	*shared = (struct move_shared){ .fd = -1 };
}

void move_life_say(int life, const char *word)
{
	(void)!send(life, word, strnlen(word, MOVE_LAST_WORD - 1), MSG_DONTWAIT | MSG_NOSIGNAL);
}

bool move_life_hear(int life, char ret_word[MOVE_LAST_WORD])
{
	ssize_t n = recv(life, ret_word, MOVE_LAST_WORD - 1, MSG_DONTWAIT);

	ret_word[MAX(n, 0)] = '\0';
	for (char *at = ret_word; *at; at++)
		if (*at < ' ' || *at > '~')
			*at = '?';
	return n > 0;
}
