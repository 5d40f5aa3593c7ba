/* SPDX-License-Identifier: Apache-2.0 */
#include "peer/backup.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>

#include "base/fd.h"
#include "host/state_dir.h"
#include "peer/arbiter_probe.h"
#include "peer/machine.h"
#include "peer/manual.h"
#include "peer/protected.h"
#include "protect/journal.h"

#define FOLDER "journals"

/* Both hosts need to mean the same by "the record". */
static void check_kind(const struct lists *lists, const struct peer_machine *machine,
		       struct problems *problems)
{
	const bool there = machine->manual[0];
	struct error err = { 0 };

	if (there == lists->arbiter.manual ||
	    (!lists->arbiter.manual && !lists->arbiter.n_endpoints))
		return;
	(void)error_set(&err, -EMEDIUMTYPE, EXIT_STATUS_HOST,
			"arbiter: is %s there and %s here; both hosts need the same in host.json",
			there ? "\"manual\"" : "an etcd", there ? "an etcd" : "\"manual\"");
	problems_add(problems, &err);
}

/* What was done here must be known to them who come, or there were two of it. */
static void check_record(const struct lists *lists, int state_fd,
			 const struct peer_machine *machine, struct problems *problems)
{
	struct ownership_record here, there;
	struct manual_records ours, theirs;
	struct error err = { 0 };

	if (!lists->arbiter.manual || !machine->manual[0])
		return;
	if (manual_decode(machine->manual, strlen(machine->manual), &theirs) < 0)
		(void)error_set(&err, -EBADMSG, EXIT_STATUS_FAILED,
				"the request's record is damaged; use one version of utsusu");
	else if (manual_read(state_fd, machine->config.uuid, &ours, &err) == 0 &&
		 !manual_agree(&ours, &theirs)) {
		here = manual_last(&ours);
		there = manual_last(&theirs);
		(void)error_set(
			&err, -EEXIST, EXIT_STATUS_BUSY,
			"%s: two records that do not follow from each other: %s, generation %llu "
			"here, %s, generation %llu there: it went on on both. Where it is not "
			"wanted and does not run, remove arbiter/%s.manual from that host's state "
			"directory",
			machine->config.name, ownership_mode_name(here.mode),
			(unsigned long long)here.generation, ownership_mode_name(there.mode),
			(unsigned long long)there.generation, machine->config.uuid);
	}
	if (err.code)
		problems_add(problems, &err);
}

static void check_arbiter(const struct lists *lists, struct problems *problems)
{
	struct error err = { 0 };

	if (arbiter_probe(lists, &err) < 0)
		problems_add(problems, &err);
}

/* What a former session left counts as room: it is written over. */
static uint64_t room_for(int folder, const char *uuid)
{
	struct statvfs room;
	struct stat st;
	uint64_t bytes = fstatvfs(folder, &room) < 0 ? UINT64_MAX / 2
						     : (uint64_t)room.f_bavail * room.f_frsize;

	if (fstatat(folder, uuid, &st, AT_SYMLINK_NOFOLLOW) == 0)
		bytes += (uint64_t)st.st_blocks * 512;
	return bytes;
}

static void check_journal(const struct lists *lists, int state_fd,
			  const struct peer_machine *machine, struct problems *problems)
{
	uint64_t needed = journal_bytes(lists->protect.journal), room;
	_cleanup_(fd_closep) int folder = -1;
	struct error err = { 0 };
	bool mirrored = false;

	for (uint32_t i = 0; i < machine->config.n_disks; i++)
		mirrored |= machine_copied_disk(lists, machine, i) != NULL;
	if (!mirrored || state_dir_folder(state_fd, FOLDER, &folder) < 0)
		return;
	room = room_for(folder, machine->config.uuid);
	if (room >= needed)
		return;
	(void)error_set(
		&err, -ENOSPC, EXIT_STATUS_RESOURCE,
		"journal: needs %llu MiB and the state directory has room for %llu MiB; free "
		"some, or allow less in %.200s: {\"protect\": {\"journal\": \"64M\"}}",
		(unsigned long long)(needed / MIB(1)), (unsigned long long)(room / MIB(1)),
		lists_path());
	problems_add(problems, &err);
}

/* Of the same VM it is what a failover left: this is its way back. */
static void check_name(int state_fd, const struct vm_config *config, struct problems *problems)
{
	struct protected_note note;
	struct error err = { 0 };
	int r = protected_read(state_fd, config->name, &note);

	if (r == 0 || (r == 1 && strcmp(note.uuid, config->uuid) == 0))
		return;
	(void)error_set(&err, -EEXIST, EXIT_STATUS_BUSY,
			"%s: another VM of this name was protected from here, and it is not known "
			"whether it is gone; see utsusu resolve %s",
			config->name, config->name);
	problems_add(problems, &err);
}

void backup_check(const struct lists *lists, int state_fd, const struct peer_machine *machine,
		  struct problems *problems)
{
	check_arbiter(lists, problems);
	check_kind(lists, machine, problems);
	check_record(lists, state_fd, machine, problems);
	check_journal(lists, state_fd, machine, problems);
	check_name(state_fd, &machine->config, problems);
}

static int open_journal(int state_fd, const char *uuid, uint64_t bytes, int *ret_fd)
{
	_cleanup_(fd_closep) int folder = -1;
	_cleanup_(fd_closep) int fd = -1;
	int r = uuid_valid(uuid) ? state_dir_folder(state_fd, FOLDER, &folder) : -EINVAL;

	if (r < 0)
		return r;
	fd = openat(folder, uuid, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (fd < 0 || ftruncate(fd, (off_t)bytes) < 0)
		return -errno;
	r = posix_fallocate(fd, 0, (off_t)bytes);
	if (r != 0)
		return -r;
	if (fsync(folder) < 0)
		return -errno;
	*ret_fd = TAKE_FD(fd);
	return 0;
}

int backup_open_journal(int state_fd, const char *uuid, uint64_t ring_bytes, int *ret_fd,
			struct error *err)
{
	int r = open_journal(state_fd, uuid, journal_bytes(ring_bytes), ret_fd);

	return r < 0 ? error_set(err, r, EXIT_STATUS_RESOURCE,
				 "journal: " FOLDER
				 "/%s of the state directory cannot be made: %s; "
				 "free some room there",
				 uuid, strerror(-r))
		     : 0;
}
