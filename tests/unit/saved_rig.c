/* SPDX-License-Identifier: Apache-2.0 */
#include "saved_rig.h"

#include <fcntl.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "check.h"

void fill_page(uint8_t *page, uint64_t i)
{
	uint64_t random = i + 1;

	for (size_t k = 0; k < MEMORY_PAGE_SIZE; k++)
		page[k] = i % 3 ? (uint8_t)((random = random * 6364136223846793005ULL + 1) >> 33)
				: (uint8_t)(i % 2 ? i : 0);
}

static void fill_ram(void *arg)
{
	struct near_vm *near = arg;
	uint8_t page[MEMORY_PAGE_SIZE];

	for (uint64_t i = 0; i < FILLED_PAGES; i++) {
		fill_page(page, i);
		assert_int_equal(memory_write(near->vm->memory,
					      gpa(FILLED_AT + 2 * i * MEMORY_PAGE_SIZE), page,
					      sizeof(page)),
				 0);
	}
}

struct rig *rig_new(void)
{
	char path[] = "/tmp/utsusu-saved-XXXXXX";
	struct rig *rig = calloc(1, sizeof(*rig));

	assert_non_null(rig);
	rig->fd = mkstemp(path);
	assert_true(rig->fd >= 0);
	unlink(path);
	near_vm_start(&rig->from, false, true);
	assert_true(near_vm_do(&rig->from, fill_ram, &rig->from));
	return rig;
}

void rig_free(struct rig *rig, bool to)
{
	near_vm_free(&rig->from);
	if (to)
		near_vm_free(&rig->to);
	fd_close(rig->fd);
	free(rig);
}

int open_again(int fd)
{
	char path[64];

	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	return open(path, O_RDWR | O_CLOEXEC);
}

static void make_job(struct rig *rig, struct near_vm *near, const struct wish *wish,
		     enum move_role role, struct move_job *job)
{
	*job = (struct move_job){
		.role = role,
		.generation = 1,
		.vm_fd = -1,
		.ram_fd = dup(near->vm->memory->fd),
		.mark_fd = role == MOVE_SAVE ? open_again(rig->fd) : -1,
		.own_mark_fd = -1,
		.file_fd = dup(rig->fd),
		.lock_fd = -1,
		.journal_fd = -1,
		.progress_fd = -1,
		.clone = wish->clone,
		.load_first = wish->load_first,
	};
	memcpy(job->token, "a token, used 1x", MOVE_TOKEN_BYTES);
	snprintf(job->name, sizeof(job->name), "guest");
	snprintf(job->peer, sizeof(job->peer), "a tester");
	snprintf(job->host, sizeof(job->host), "%s", wish->host ? wish->host : "");
	snprintf(job->failpoint, sizeof(job->failpoint), "%s", wish->fails ? wish->fails : "");
}

static struct rig *rig_of(struct move_link *link)
{
	return container_of(link->ops, struct rig, noted);
}

static int load_noted(struct move_link *link, uint64_t len, uint64_t stopped_ns, bool rehearse,
		      struct error *err)
{
	rig_of(link)->told_stopped_ns = stopped_ns;
	return rig_of(link)->near_ops->load(link, len, stopped_ns, rehearse, err);
}

static int commit_noted(struct move_link *link, bool *ret_ran, struct error *err)
{
	struct rig *rig = rig_of(link);
	int r = rig->near_ops->commit(link, ret_ran, err);

	if (r == 0 && *ret_ran && rig->wish->ran)
		rig->wish->ran(rig);
	return r;
}

enum move_end rig_run(struct rig *rig, struct near_vm *near, enum move_role role,
		      const struct wish *wish)
{
	struct move_job job;
	struct mover_settings settings = { .job = &job, .clock = &clock_host };
	int ends[2] = { -1, -1 };
	enum move_end end;

	make_job(rig, near, wish, role, &job);
	if (wish->cancel) {
		assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
		job.progress_fd = ends[1];
		assert_int_equal(write(ends[0], "{\"cancel\":true}\n", 16), 16);
	}
	settings.link = near_link_new(near, wish->deaf);
	rig->wish = wish;
	rig->near_ops = settings.link->ops;
	rig->noted = *rig->near_ops;
	rig->noted.load = load_noted;
	rig->noted.commit = commit_noted;
	if (wish->demand)
		rig->noted.demand = wish->demand;
	settings.link->ops = &rig->noted;
	rig->err = (struct error){ 0 };
	end = role == MOVE_SAVE ? move_save(&settings, &rig->numbers, &rig->err)
				: move_restore(&settings, &rig->numbers, &rig->err);
	settings.link->ops->free(settings.link);
	move_job_release(&job);
	fd_close(ends[0]);
	return end;
}

enum move_end save(struct rig *rig, const struct wish *wish)
{
	return rig_run(rig, &rig->from, MOVE_SAVE, wish);
}

enum move_end restore(struct rig *rig, const struct wish *wish)
{
	near_vm_start(&rig->to, true, false);
	return rig_run(rig, &rig->to, MOVE_RESTORE, wish);
}

void assert_saved(struct rig *rig)
{
	if (save(rig, &(struct wish){ 0 }) != MOVE_END_RAN)
		fail_msg("%s", rig->err.message);
}

bool is_used(struct rig *rig)
{
	struct saved saved;
	struct error err = { 0 };
	bool used;

	if (saved_open(rig->fd, &saved, &err) < 0)
		fail_msg("%s", err.message);
	used = saved.used.used;
	saved_release(&saved);
	return used;
}

void assert_ram(void *arg)
{
	struct near_vm *near = arg;
	uint8_t page[MEMORY_PAGE_SIZE], is[MEMORY_PAGE_SIZE];

	for (uint64_t i = 0; i < FILLED_PAGES; i++) {
		fill_page(page, i);
		assert_int_equal(memory_read(near->vm->memory,
					     gpa(FILLED_AT + 2 * i * MEMORY_PAGE_SIZE), is,
					     sizeof(is)),
				 0);
		assert_memory_equal(page, is, sizeof(page));
	}
}
