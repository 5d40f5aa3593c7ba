/* SPDX-License-Identifier: Apache-2.0 */

/* What of its disks a VM that is moved away has written, told to its mover. */

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "base/cleanup.h"
#include "base/fd.h"
#include "block/block.h"
#include "block/log.h"
#include "move/guest/internal.h"
#include "vm/cpus.h"

struct disk_log {
	struct block_log log; /* its words are mapped */
	size_t len;
	struct block *disk; /* borrowed; NULL: it is not logged */
};

/* One that could shrink under our map would end the VM at the next write. */
static int judge(int fd, size_t len)
{
	struct stat st;
	int seals = fcntl(fd, F_GET_SEALS);

	if (seals < 0 || !(seals & F_SEAL_SHRINK))
		return -EINVAL;
	if (fstat(fd, &st) < 0)
		return -errno;
	return st.st_size < 0 || (uint64_t)st.st_size < len ? -EINVAL : 0;
}

static int map(struct disk_log *log, int fd, uint64_t size)
{
	void *words;
	int r;

	log->len = block_log_bytes(size);
	log->log.n_chunks = block_chunks(size);
	log->log.shift = block_chunk_shift(size);
	r = judge(fd, log->len);
	if (r < 0)
		return r;
	words = mmap(NULL, log->len, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (words == MAP_FAILED)
		return -errno;
	log->log.words = words;
	return 0;
}

/* Those who mark are parked meanwhile. */
static void set_log(struct vm *vm, struct block *disk, struct block_log *log)
{
	cpus_quiesce(vm);
	disk->log = log;
	quiesce_end(&vm->quiesce);
}

static int begin(struct move_guest *guest, uint32_t disk, int fd)
{
	struct vm *vm = guest->vm;
	struct disk_log *log;
	int r;

	if (disk >= vm->config->n_disks || !vm->disks[disk])
		return -ENOENT;
	if (!guest->disk_logs)
		guest->disk_logs = calloc(LIMIT_DISKS, sizeof(*guest->disk_logs));
	if (!guest->disk_logs)
		return -ENOMEM;
	log = &guest->disk_logs[disk];
	if (log->disk)
		return -EEXIST;
	r = map(log, fd, vm->disks[disk]->geometry.size);
	if (r < 0)
		return r;
	log->disk = vm->disks[disk];
	set_log(vm, log->disk, &log->log);
	return 0;
}

int move_guest_log_disk(struct move_guest *guest, const void *owner, uint32_t disk, int log_fd,
			struct error *err)
{
	_cleanup_(fd_closep) int fd = log_fd;
	int r = move_guest_expect(guest, owner, STAGE(MOVE_LOGGING), err);

	if (r == 0)
		r = begin(guest, disk, fd);
	return r < 0 ? error_set(err, r, EXIT_STATUS_FAILED,
				 "%s: disk[%u]: what is written cannot be logged: %s",
				 guest->vm->config->name, disk, strerror(-r))
		     : 0;
}

void move_disks_unlog(struct move_guest *guest)
{
	for (uint32_t i = 0; guest->disk_logs && i < LIMIT_DISKS; i++) {
		struct disk_log *log = &guest->disk_logs[i];

		if (!log->disk)
			continue;
		set_log(guest->vm, log->disk, NULL);
		munmap(log->log.words, log->len);
	}
	free(TAKE_PTR(guest->disk_logs));
}
