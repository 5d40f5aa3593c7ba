/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The file of a saved VM, restored into a VM that takes all: loaded before it runs, and while it does; both must come to the same
 * memory. The first byte says how the file is made: as the bytes are, or of frames
 * that are whole - what checksums would keep from the fuzzer - in the order and with the content that the bytes give.
 * covers: move/saved/saved.c move/saved/index.c move/saved/restore.c move/saved/fill.c
 */
#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/endian.h"
#include "base/fd.h"
#include "host/userfault.h"
#include "move/saved/save.h"
#include "move/saved/saved.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define RAM_BYTES MIB(1)
#define UUID "6a0f1d3e-9f1b-4a53-8d3b-5f0c8f5f2b11"

enum how {
	HOW_RAW = 1,
	HOW_HEAD = 2,	/* begins with a head that is right */
	HOW_FINISH = 4, /* ends with an index and a foot that are right */
	HOW_USE = 8,	/* the mark of use is made of the first bytes */
	HOW_CLONE = 16,
	HOW_FLIP = 32,	 /* then one bit is changed */
	HOW_NO_RUN = 64, /* the VM refuses at the end */
	HOW_LOST = 128,	 /* its answer is lost */
};

struct fake {
	struct move_link link;
	uint8_t how;
	int ram_fd, life;
	void *ram; /* mapped, once it comes on demand */
};

static int link_facts(struct move_link *link _unused_, struct move_facts *ret_facts,
		      struct error *err _unused_)
{
	*ret_facts = (struct move_facts){ .name = "guest",
					  .uuid = UUID,
					  .config = strdup("{}"),
					  .ram_fd = -1,
					  .ram_bytes = RAM_BYTES,
					  .n_banks = 1,
					  .banks = { { .len = RAM_BYTES } } };
	return 0;
}

static int link_arrive(struct move_link *link _unused_,
		       const uint8_t token[MOVE_TOKEN_BYTES] _unused_, int shared_fd _unused_,
		       int mark_fd _unused_, struct error *err _unused_)
{
	return 0;
}

static int link_load(struct move_link *link _unused_, uint64_t len, uint64_t stopped_ns _unused_,
		     bool rehearse _unused_, struct error *err _unused_)
{
	assert(len <= MOVE_STATE_MAX);
	return 0;
}

static int link_renew(struct move_link *link _unused_, struct error *err _unused_)
{
	return 0;
}

/* For touches by this process itself: who may make no other is a fuzzer, too. */
static int open_userfaultfd(void)
{
	struct uffdio_api api = { .api = UFFD_API, .features = UFFD_FEATURE_MISSING_SHMEM };
	int fd = (int)syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK | UFFD_USER_MODE_ONLY);

	if (fd >= 0 && ioctl(fd, UFFDIO_API, &api) < 0)
		fd_close(TAKE_FD(fd));
	return fd;
}

static int link_demand(struct move_link *link, struct move_demand *ret_demand, struct error *err)
{
	struct fake *fake = container_of(link, struct fake, link);
	int ends[2], fd = open_userfaultfd();
	bool can_zero;

	if (fd < 0)
		return error_set(err, -EOPNOTSUPP, EXIT_STATUS_HOST, "no userfaultfd");
	assert(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) == 0);
	fake->ram = mmap(NULL, RAM_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, fake->ram_fd, 0);
	assert(fake->ram != MAP_FAILED);
	fake->life = ends[0];
	assert(userfault_register(fd, fake->ram, RAM_BYTES, &can_zero) == 0);
	*ret_demand = (struct move_demand){ .uffd = fd,
					    .can_zero = can_zero,
					    .life = ends[1],
					    .addresses = { (uintptr_t)fake->ram } };
	return 0;
}

static int link_filled(struct move_link *link _unused_, struct error *err _unused_)
{
	return 0;
}

static int link_commit(struct move_link *link, bool *ret_ran, struct error *err _unused_)
{
	const struct fake *fake = container_of(link, struct fake, link);

	*ret_ran = !(fake->how & HOW_NO_RUN);
	return fake->how & HOW_LOST ? -ECONNRESET : 0;
}

static bool link_ended(struct move_link *link)
{
	return container_of(link, struct fake, link)->how & HOW_NO_RUN;
}

static int link_end(struct move_link *link _unused_, unsigned int timeout_ms _unused_)
{
	return 0;
}

static const struct move_link_ops ops = {
	.facts = link_facts,
	.arrive = link_arrive,
	.load = link_load,
	.renew = link_renew,
	.demand = link_demand,
	.filled = link_filled,
	.commit = link_commit,
	.ended = link_ended,
	.end = link_end,
};

/* ---- the file ---- */

static void write_given(int fd)
{
	const struct mark_given given = {
		.name = "guest", .uuid = UUID, .generation = 1, .peer = "a file"
	};
	char text[MARK_GIVEN_BYTES + 1];

	assert(mark_given_encode(&given, text) == 0);
	assert(fd_write_at(fd, text, MARK_GIVEN_BYTES, 0) == 0);
}

static void write_head(struct saved_writer *writer)
{
	char config[] = "{}";
	const struct saved_head head = {
		.name = "guest", .uuid = UUID, .ram_bytes = RAM_BYTES, .config = config
	};

	assert(saved_write_head(writer, &head) == 0);
}

/* Each: a kind, a length of 2 bytes, content. */
static void write_frames(struct saved_writer *writer, struct cursor *in)
{
	static const uint16_t kinds[] = { MOVE_STATE, MOVE_PACKED, SAVED_INDEX, SAVED_FOOT,
					  SAVED_HEAD, SAVED_USED,  MOVE_PAGES,	MOVE_FRAMES };

	while (!in->bad && in->left >= 3) {
		uint16_t kind = kinds[cursor_take_le(in, 1) % ARRAY_SIZE(kinds)];
		size_t wanted = cursor_take_le(in, 2), len = MIN(wanted, in->left);
		const void *content = cursor_take(in, len);

		if (kind == MOVE_PACKED)
			assert(saved_write_chunk(
				       writer,
				       len >= 12 ? le_load((const uint8_t *)content + 4, 8) : 0,
				       len >= 4 ? *(const uint8_t *)content : 0, content,
				       len) == 0);
		else
			assert(saved_write(writer, kind, content, len) == 0);
	}
}

static void write_use(int fd, struct cursor *in)
{
	size_t len = in->bad ? 0 : MIN((size_t)300, in->left);
	struct saved_writer writer = { .fd = fd, .at = SAVED_USED_AT };

	assert(saved_write(&writer, SAVED_USED, cursor_take(in, len), len) == 0);
}

static void flip(int fd, struct cursor *in, uint64_t size)
{
	uint64_t at = cursor_take_le(in, 2) % size;
	uint8_t byte;

	assert(fd_read_at(fd, &byte, 1, at) == 0);
	byte ^= 0x10;
	assert(fd_write_at(fd, &byte, 1, at) == 0);
}

static void make_file(int fd, uint8_t how, struct cursor *in)
{
	uint64_t position = how & HOW_FLIP ? cursor_take_le(in, 2) : 0;
	uint8_t bytes[2] = { (uint8_t)position, (uint8_t)(position >> 8) };
	struct cursor at = { .data = bytes, .left = sizeof(bytes) };
	struct saved_writer writer;

	assert(saved_writer_init(&writer, fd) == 0);
	write_given(fd);
	if (how & HOW_USE)
		write_use(fd, in);
	if (how & HOW_HEAD)
		write_head(&writer);
	write_frames(&writer, in);
	if (how & HOW_FINISH)
		assert(saved_finish(&writer) == 0);
	if (how & HOW_FLIP)
		flip(fd, &at, writer.at);
	saved_writer_release(&writer);
}

static bool restore(int fd, int ram_fd, uint8_t how, bool clone, bool load_first)
{
	struct fake fake = { .link.ops = &ops, .how = how, .ram_fd = ram_fd, .life = -1 };
	struct move_job job = { .role = MOVE_RESTORE,
				.name = "guest",
				.peer = "a fuzzer",
				.ram_fd = ram_fd,
				.file_fd = fd,
				.lock_fd = -1,
				.journal_fd = -1,
				.mark_fd = -1,
				.progress_fd = -1,
				.clone = clone,
				.load_first = load_first };
	const struct mover_settings settings = { .job = &job,
						 .link = &fake.link,
						 .clock = &clock_host };
	struct move_numbers numbers;
	struct error err = { 0 };
	bool ran = move_restore(&settings, &numbers, &err) == MOVE_END_RAN;

	assert(ran || err.message[0]);
	if (fake.ram)
		munmap(fake.ram, RAM_BYTES);
	fd_close(fake.life);
	return ran;
}

static void restore_all_ways(int fd, int ram_fd, uint8_t how)
{
	static uint8_t first[RAM_BYTES], then[RAM_BYTES];
	bool ran = restore(fd, ram_fd, how, how & HOW_CLONE, true);

	assert(fd_read_at(ram_fd, first, RAM_BYTES, 0) == 0);
	/* Used now, or not: a second one finds out. */
	if (restore(fd, ram_fd, how, how & HOW_CLONE, true))
		assert(how & HOW_CLONE);
	/* A clone is never used. Who looks at the index, too, refuses more. */
	if (!restore(fd, ram_fd, how, true, false))
		return;
	assert(fd_read_at(ram_fd, then, RAM_BYTES, 0) == 0);
	assert(!ran || memcmp(first, then, RAM_BYTES) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct cursor in = { .data = data, .left = size };
	uint8_t how = (uint8_t)cursor_take_le(&in, 1);
	_cleanup_(fd_closep) int fd = memfd_create("saved", MFD_CLOEXEC);
	_cleanup_(fd_closep) int ram_fd = memfd_create("ram", MFD_CLOEXEC);

	assert(fd >= 0 && ram_fd >= 0 && ftruncate(ram_fd, RAM_BYTES) == 0);
	if (how & HOW_RAW)
		assert(fd_write_at(fd, in.data, in.left, 0) == 0);
	else
		make_file(fd, how, &in);
	restore_all_ways(fd, ram_fd, how);
	return 0;
}
