/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "base/cleanup.h"
#include "base/hex.h"
#include "base/uuid.h"
#include "protect/guard/backup_internal.h"

/* ---- RAM ---- */

static int judge_ram(struct backup *backup)
{
	struct guard *guard = &backup->guard;
	const struct move_facts *facts = &guard->facts;
	uint64_t bytes = 0;
	struct stat st;

	for (size_t i = 0; i < facts->n_banks; i++) {
		if (facts->banks[i].offset != bytes ||
		    !IS_ALIGNED(facts->banks[i].len, MEMORY_PAGE_SIZE))
			return -EPROTO;
		bytes += facts->banks[i].len;
	}
	if (fstat(guard->job->ram_fd, &st) < 0)
		return -errno;
	return bytes == facts->ram_bytes && (uint64_t)st.st_size >= bytes ? 0 : -EPROTO;
}

static int map_ram(struct backup *backup)
{
	const struct move_facts *facts = &backup->guard.facts;
	struct memory *memory = &backup->memory;
	int r = judge_ram(backup);

	memory->fd = -1; /* the job's */
	memory->size = facts->ram_bytes;
	for (size_t i = 0; r == 0 && i < facts->n_banks; i++) {
		struct memory_bank *bank = &memory->banks[i];

		*bank = facts->banks[i];
		bank->host = mmap(NULL, bank->len, PROT_READ | PROT_WRITE,
				  MAP_SHARED | MAP_NORESERVE, backup->guard.job->ram_fd,
				  (off_t)bank->offset);
		if (bank->host == MAP_FAILED)
			return -errno;
		(void)!madvise(bank->host, bank->len, MADV_DONTDUMP); /* the guest's secrets */
		memory->n_banks++;
	}
	return r;
}

static void unmap_ram(struct backup *backup)
{
	for (size_t i = 0; i < backup->memory.n_banks; i++)
		munmap(backup->memory.banks[i].host, backup->memory.banks[i].len);
}

/* ---- disks and their journal ---- */

static bool take_uuid(const char *text, uint8_t ret_uuid[JOURNAL_UUID_BYTES])
{
	char digits[UUID_TEXT];
	size_t n = 0;

	for (; *text && n + 1 < sizeof(digits); text++)
		if (*text != '-')
			digits[n++] = *text;
	digits[n] = '\0';
	return hex_decode(digits, ret_uuid, JOURNAL_UUID_BYTES);
}

static int open_disks(struct backup *backup)
{
	struct guard *guard = &backup->guard;
	struct move_job *job = guard->job;
	struct storage *disks[LIMIT_DISKS];
	struct journal_head head = {
		.session = guard->origin.session,
		.ring_bytes = job->journal_bytes,
		.n_disks = guard->n_disks,
	};

	if (!guard->n_disks)
		return 0;
	if (!take_uuid(guard->facts.uuid, head.uuid))
		return -EPROTO;
	for (uint32_t i = 0; i < guard->n_disks; i++) {
		storage_file_init(&backup->disks[i], guard->disks[i].fd, guard->disk_bytes[i]);
		head.disk_bytes[i] = backup->sink.disk_bytes[i] = guard->disk_bytes[i];
		disks[i] = &backup->disks[i].storage;
	}
	backup->sink.n_disks = guard->n_disks;
	storage_file_init(&backup->journal_file, job->journal_fd,
			  journal_bytes(job->journal_bytes));
	return journal_create(&backup->journal_file.storage, &head, disks, &backup->journal,
			      &guard->error);
}

int backup_let_go_of_disks(struct backup *backup)
{
	struct guard *guard = &backup->guard;
	struct move_job *job = guard->job;
	int r = 0;

	applier_stop(&backup->applier);
	if (backup->journal)
		r = journal_end(backup->journal, backup->last, &guard->error);
	if (r < 0)
		return r;
	journal_free(TAKE_PTR(backup->journal));
	for (uint32_t i = 0; i < job->n_disks; i++)
		fd_close(TAKE_FD(job->disks[i].fd));
	return 0;
}

/* ---- life ---- */

static int start_applier(struct backup *backup)
{
	struct guard *guard = &backup->guard;

	return backup->journal ? applier_start(&backup->applier, backup->journal, guard->entry) : 0;
}

int backup_open(struct backup *backup)
{
	struct guard *guard = &backup->guard;
	int r = map_ram(backup);

	backup->sink.write = backup_take_write;
	backup->sink.ctx = backup;
	if (r == 0)
		r = open_disks(backup);
	if (r == 0)
		r = start_applier(backup);
	if (r == 0)
		r = epoch_init(&backup->epoch, guard->facts.ram_bytes / MEMORY_PAGE_SIZE);
	if (r == 0)
		r = epoch_receiver_new(&guard->reader, &backup->memory, &guard->origin,
				       &backup->sink, &backup->receiver);
	if (r == 0)
		r = move_shared_make(guard->facts.ram_bytes, &backup->shared);
	return r;
}

void backup_release(struct backup *backup)
{
	applier_release(&backup->applier);
	journal_free(backup->journal);
	epoch_receiver_free(backup->receiver);
	epoch_release(&backup->epoch);
	container_release(&backup->state);
	unmap_ram(backup);
	if (backup->shared.fd >= 0)
		move_shared_release(&backup->shared);
	pulse_stop(&backup->pulse);
	guard_release(&backup->guard);
}
