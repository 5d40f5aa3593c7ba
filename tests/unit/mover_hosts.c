/* SPDX-License-Identifier: Apache-2.0 */
#include "mover_hosts.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "api/move_link.h"
#include "api/server.h"
#include "base/cleanup.h"
#include "check.h"
#include "move/guest/internal.h"
#include "move/handover.h"

#define THAW_AFTER_US 200000
#define LOOK_US 2000
#define LOOKS 15000 /* what is waited for comes at last, on a busy computer too */
#define NAME "guest"

/* ---- a VM's process ---- */

static void op_status(void *vm _unused_, struct api_vm_status *ret_status)
{
	*ret_status = (struct api_vm_status){ .state = API_VM_RUNNING };
}

static void op_forget(void *vm, const void *client)
{
	move_guest_forget(((struct near_vm *)vm)->move, client);
}

static const char *op_unseen(void *vm _unused_, unsigned int index _unused_)
{
	return NULL;
}

static struct move_guest *op_move_guest(void *vm)
{
	return ((struct near_vm *)vm)->move;
}

static void on_stopped(struct near_vm *near, const void *owner, uint64_t stopped_ns,
		       const struct error *error)
{
	api_server_move_stopped(near->server, owner, stopped_ns, error);
}

static int given_and_die(struct move_guest *guest, const void *owner, const char *peer,
			 uint64_t generation, struct error *err)
{
	(void)!move_guest_given(guest, owner, peer, generation, err);
	_exit(EXIT_STATUS_FAILED);
}

static int commit_and_die(struct move_guest *guest, const void *owner _unused_,
			  bool *ret_ran _unused_, struct error *err _unused_)
{
	(void)!mark_take(guest->mark_fd, MARK_RAN);
	_exit(EXIT_STATUS_FAILED);
}

/* No text: what holds it cannot be told. */
static const char *stage_until_it_runs(const struct move_guest *guest)
{
	return guest->stage == MOVE_RAN ? "\xff" : move_stage_name(guest->stage);
}

static struct api_move_ops ops_of(const struct hosts_plan *plan)
{
	struct api_move_ops ops = api_move_guest_ops;

	if (plan->dies_given)
		ops.given = given_and_die;
	if (plan->dies_committed)
		ops.commit = commit_and_die;
	if (plan->verify_fails)
		ops.stage = stage_until_it_runs;
	return ops;
}

static int listen_at(const char *path)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	memcpy(address.sun_path, path, strnlen(path, sizeof(address.sun_path) - 1));
	if (fd < 0 || bind(fd, (struct sockaddr *)&address, sizeof(address)) < 0 ||
	    listen(fd, 4) < 0)
		_exit(EXIT_STATUS_HOST);
	return fd;
}

/* The process's life. Its path is there when it can be asked. */
static void vm_main(struct vm_child *child, bool arriving, const struct hosts_plan *plan)
{
	const struct vm_thread_entry open_entry = { 0 };
	const struct api_move_ops move_ops = ops_of(plan);
	const struct api_vm_ops vm_ops = {
		.status = op_status,
		.forget = op_forget,
		.unseen = op_unseen,
		.move_guest = op_move_guest,
		.move = &move_ops,
	};
	struct near_vm *near = child->near;
	struct error err = { 0 };
	char early[128]; /* beside it, until the VM can be asked */

	near_vm_make(near, arriving, !arriving, dup(child->ram_fd));
	near->stopped = on_stopped;
	snprintf(early, sizeof(early), "%s.early", child->path);
	near->server = api_server_new(near->loop, listen_at(early), &near->config, &vm_ops, near);
	if (!near->server || vm_start(near->vm, &open_entry, &err) < 0)
		_exit(EXIT_STATUS_FAILED);
	vm_run(near->vm);
	if (rename(early, child->path) < 0 || loop_run(near->loop) < 0)
		_exit(EXIT_STATUS_FAILED);
	api_server_free(near->server);
	vm_end(near->vm, VM_END_FORCED, "test");
	_exit(EXIT_STATUS_OK);
}

static void vm_begin(struct hosts *hosts, enum host_side side)
{
	struct vm_child *child = &hosts->vms[side];

	child->near = mmap(NULL, sizeof(*child->near), PROT_READ | PROT_WRITE,
			   MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	assert_ptr_not_equal(child->near, MAP_FAILED);
	child->ram_fd = memfd_create("ram", MFD_CLOEXEC);
	assert_int_equal(ftruncate(child->ram_fd, (off_t)NEAR_RAM), 0);
	snprintf(child->path, sizeof(child->path), "%s/%s", hosts->folder,
		 side == THERE ? "to" : "from");
	child->pid = fork();
	assert_true(child->pid >= 0);
	if (child->pid == 0)
		vm_main(child, side == THERE, hosts->plan);
}

static int vm_connect(const struct vm_child *child)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	snprintf(address.sun_path, sizeof(address.sun_path), "%s", child->path);
	for (int i = 0; connect(fd, (struct sockaddr *)&address, sizeof(address)) < 0; i++) {
		if (i == LOOKS)
			fail_msg("%s: %s", child->path, strerror(errno));
		usleep(LOOK_US);
	}
	return fd;
}

bool vm_ended(struct vm_child *child)
{
	if (child->pid > 0 && waitpid(child->pid, NULL, WNOHANG) == child->pid)
		child->pid = 0;
	return child->pid == 0;
}

void vm_kill(struct vm_child *child)
{
	if (!vm_ended(child)) {
		kill(child->pid, SIGKILL);
		waitpid(child->pid, NULL, 0);
	}
	child->pid = 0;
}

static void vm_release(struct vm_child *child)
{
	vm_kill(child);
	munmap(child->near, sizeof(*child->near));
	close(child->ram_fd);
}

/* ---- both hosts ---- */

void hosts_open(struct hosts *hosts, const char *program, const struct hosts_plan *plan)
{
	struct error err = { 0 };

	*hosts = (struct hosts){ .program = program, .plan = plan, .taken_mark = -1 };
	snprintf(hosts->folder, sizeof(hosts->folder), "/tmp/utsusu-movers-XXXXXX");
	assert_non_null(mkdtemp(hosts->folder));
	setenv("UTSUSU_STATE_DIR", hosts->folder, 1);
	memset(hosts->token, 7, sizeof(hosts->token));
	for (int side = HERE; side < SIDES; side++) {
		hosts->movers[side] = (struct mover_child){ .ended = true, .progress = -1 };
		vm_begin(hosts, (enum host_side)side);
	}
	if (marks_open(&hosts->marks, &err) < 0)
		fail_msg("%s", err.message);
}

static void let_go_of_wire(struct hosts *hosts)
{
	for (uint32_t i = 0; i < hosts->n_streams; i++)
		fd_close(TAKE_FD(hosts->wire[i]));
}

void hosts_close(struct hosts *hosts)
{
	char command[128];

	for (int side = HERE; side < SIDES; side++) {
		hosts_kill_mover(hosts, (enum host_side)side);
		vm_release(&hosts->vms[side]);
		fd_close(hosts->movers[side].progress);
	}
	let_go_of_wire(hosts);
	marks_close(hosts->marks);
	fd_close(hosts->taken_mark);
	snprintf(command, sizeof(command), "rm -rf '%s'", hosts->folder);
	assert_int_equal(system(command), 0);
}

static void start_mover(struct hosts *hosts, enum host_side side, struct move_job *job)
{
	char option[32];
	int fd;
	pid_t pid;

	assert_int_equal(move_job_write(job, &fd), 0);
	snprintf(option, sizeof(option), "--job-fd=%d", fd);
	pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		execl(hosts->program, "utsusu-move", option, NULL);
		_exit(EXIT_STATUS_HOST);
	}
	close(fd);
	move_job_release(job);
	hosts->movers[side].pid = pid;
	hosts->movers[side].ended = false;
}

static int open_again(int fd, int flags)
{
	char path[64];

	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	fd = open(path, flags | O_CLOEXEC);
	assert_true(fd >= 0);
	return fd;
}

/* What a file has, where nobody can write any more. */
static int unwritable_copy(int fd)
{
	char text[MARK_TAKEN_BYTES];
	int copy = memfd_create("mark", MFD_CLOEXEC | MFD_ALLOW_SEALING);

	assert_int_equal(pread(fd, text, sizeof(text), 0), sizeof(text));
	assert_int_equal(pwrite(copy, text, sizeof(text), 0), sizeof(text));
	assert_int_equal(fcntl(copy, F_ADD_SEALS, F_SEAL_WRITE), 0);
	return copy;
}

static struct move_job job_of(struct hosts *hosts, enum host_side side)
{
	struct vm_child *child = &hosts->vms[side];
	const char *fails = hosts->plan->fails[side];
	int progress[2];
	struct move_job job;

	move_job_init(&job, side == HERE ? MOVE_SOURCE : MOVE_DESTINATION);
	assert_int_equal(
		socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, progress), 0);
	hosts->movers[side].progress = progress[0];
	job.progress_fd = progress[1];
	job.generation = 1;
	job.vm_fd = vm_connect(child);
	job.ram_fd = dup(child->ram_fd);
	job.n_streams = 2;
	job.tls = true;
	memcpy(job.token, hosts->token, sizeof(job.token));
	memset(job.key, 9, sizeof(job.key));
	snprintf(job.name, sizeof(job.name), NAME);
	snprintf(job.peer, sizeof(job.peer), "%s", side == HERE ? "there" : "here");
	snprintf(job.failpoint, sizeof(job.failpoint), "%s", fails ? fails : "");
	return job;
}

static void make_marks(struct hosts *hosts, struct move_job *here, struct move_job *there)
{
	struct error err = { 0 };

	here->mark_fd = marks_prepare_given(hosts->marks, NAME, &err);
	hosts->taken_mark = marks_prepare_taken(hosts->marks, hosts->token, &err);
	if (here->mark_fd < 0 || hosts->taken_mark < 0)
		fail_msg("%s", err.message);
	if (hosts->plan->given_unwritable) {
		int read_only = open_again(here->mark_fd, O_RDONLY);

		close(here->mark_fd);
		here->mark_fd = read_only;
	}
	there->mark_fd = hosts->plan->result_unwritable ? unwritable_copy(hosts->taken_mark)
							: open_again(hosts->taken_mark, O_RDWR);
}

/* Nothing of a mover's but the wire may be held here too: its end would not be seen. */
void hosts_start(struct hosts *hosts)
{
	struct move_job here = job_of(hosts, HERE), there = job_of(hosts, THERE);

	make_marks(hosts, &here, &there);
	hosts->n_streams = here.n_streams;
	for (uint32_t i = 0; i < here.n_streams; i++) {
		int pair[2];

		assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
		here.streams[i] = pair[0];
		there.streams[i] = pair[1];
		hosts->wire[i] = fcntl(pair[0], F_DUPFD_CLOEXEC, 0);
	}
	start_mover(hosts, HERE, &here);
	start_mover(hosts, THERE, &there);
}

/* ---- what befalls them ---- */

static void ended(struct hosts *hosts, enum host_side side)
{
	hosts->movers[side].ended = true;
	if (side == HERE)
		let_go_of_wire(hosts);
}

/* Whether it stands still, when it has not ended. */
static bool look(struct hosts *hosts, enum host_side side)
{
	struct mover_child *mover = &hosts->movers[side];
	int r = mover->ended ? 0 : waitpid(mover->pid, &mover->status, WNOHANG | WUNTRACED);

	if (r <= 0)
		return false;
	if (WIFSTOPPED(mover->status))
		return true;
	ended(hosts, side);
	return false;
}

static void hear(struct mover_child *mover)
{
	size_t room = sizeof(mover->said) - 1 - mover->said_len;
	ssize_t n = recv(mover->progress, mover->said + mover->said_len, room, MSG_DONTWAIT);

	mover->said_len += n > 0 ? (size_t)n : 0;
	mover->said[mover->said_len] = '\0';
}

bool hosts_said(struct hosts *hosts, enum host_side side, const char *text)
{
	hear(&hosts->movers[side]);
	return strstr(hosts->movers[side].said, text) != NULL;
}

bool hosts_wait_said(struct hosts *hosts, enum host_side side, const char *text)
{
	for (int i = 0; i < LOOKS; i++) {
		if (hosts_said(hosts, side, text))
			return true;
		look(hosts, side);
		if (hosts->movers[side].ended)
			return hosts_said(hosts, side, text);
		usleep(LOOK_US);
	}
	return false;
}

void hosts_wait_stopped(struct hosts *hosts, enum host_side side)
{
	for (int i = 0; i < LOOKS; i++) {
		if (look(hosts, side))
			return;
		if (hosts->movers[side].ended)
			fail_msg("%s was not passed: %s", hosts->plan->fails[side],
				 hosts_said(hosts, side, "") ? hosts->movers[side].said : "");
		usleep(LOOK_US);
	}
	fail_msg("%s was not passed", hosts->plan->fails[side]);
}

/* The letter that the kernel has for its main thread's state. */
static char state_of(pid_t pid)
{
	char path[64], text[256] = "";
	const char *end;
	FILE *file;

	snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
	file = fopen(path, "re");
	if (file) {
		(void)!fgets(text, sizeof(text), file);
		fclose(file);
	}
	end = strrchr(text, ')');
	return end && end[1] ? end[2] : '?';
}

void hosts_wait_asking(struct hosts *hosts, enum host_side side)
{
	for (int i = 0; i < LOOKS; i++) {
		if (state_of(hosts->movers[side].pid) == 'S')
			return;
		usleep(LOOK_US);
	}
	fail_msg("the mover waits for nobody");
}

void hosts_go_on(struct hosts *hosts, enum host_side side)
{
	if (!hosts->movers[side].ended)
		kill(hosts->movers[side].pid, SIGCONT);
}

void hosts_kill_mover(struct hosts *hosts, enum host_side side)
{
	struct mover_child *mover = &hosts->movers[side];

	if (mover->ended)
		return;
	kill(mover->pid, SIGKILL);
	waitpid(mover->pid, &mover->status, 0);
	ended(hosts, side);
}

void hosts_cancel(struct hosts *hosts, enum host_side side)
{
	static const char cancel[] = "{\"cancel\":true}\n";

	assert_int_equal(send(hosts->movers[side].progress, cancel, sizeof(cancel) - 1,
			      MSG_NOSIGNAL),
			 sizeof(cancel) - 1);
}

void hosts_cut(struct hosts *hosts)
{
	for (uint32_t i = 0; i < hosts->n_streams; i++)
		shutdown(hosts->wire[i], SHUT_RDWR);
	let_go_of_wire(hosts);
}

void hosts_finish(struct hosts *hosts)
{
	while (!hosts->movers[HERE].ended || !hosts->movers[THERE].ended) {
		for (int side = HERE; side < SIDES; side++) {
			if (look(hosts, (enum host_side)side)) {
				usleep(THAW_AFTER_US);
				hosts_go_on(hosts, (enum host_side)side);
			}
			hear(&hosts->movers[side]);
		}
		usleep(LOOK_US);
	}
	hear(&hosts->movers[HERE]);
	hear(&hosts->movers[THERE]);
}

/* ---- the daemons ---- */

bool hosts_in_doubt(struct hosts *hosts)
{
	struct mark_given given;

	return marks_read_given(hosts->marks, NAME, &given) == 1 && given.result == MARK_OPEN;
}

static enum handover_mark handover_mark_of(enum mark_result result)
{
	static const enum handover_mark marks[] = {
		[MARK_OPEN] = HANDOVER_OPEN,
		[MARK_RAN] = HANDOVER_RAN,
		[MARK_NEVER] = HANDOVER_NEVER,
	};

	return marks[result];
}

static uint32_t step(struct hosts *hosts, struct handover_destination *there,
		     enum handover_event_kind kind)
{
	struct handover_event event = { .kind = kind, .id = { .generation = 1 } };

	memcpy(event.id.token, hosts->token, sizeof(event.id.token));
	return handover_destination_step(there, &event);
}

/* The destination's, asked what became of the token. */
static bool ask_there(struct hosts *hosts)
{
	struct handover_id id = { .generation = 1 };
	struct handover_destination there;
	enum mark_result stands;
	uint32_t wanted;

	memcpy(id.token, hosts->token, sizeof(id.token));
	assert_int_equal(marks_read_taken(hosts->marks, hosts->token, false, &stands), 0);
	wanted = handover_destination_restart(&id, handover_mark_of(stands),
					      !vm_ended(&hosts->vms[THERE]), &there);
	wanted |= step(hosts, &there, ON_ASK);
	if (wanted & DO_TAKE_NEVER) {
		int r = mark_take(hosts->taken_mark, MARK_NEVER);

		assert_true(r == MARK_RAN || r == MARK_NEVER);
		wanted = step(hosts, &there, r == MARK_RAN ? ON_RESULT_RAN : ON_RESULT_NEVER);
	}
	if (wanted & DO_END_VM) {
		vm_kill(&hosts->vms[THERE]);
		wanted = step(hosts, &there, ON_VM_DIED);
	}
	assert_true(wanted & (DO_SEND_RAN | DO_SEND_NEVER));
	return wanted & DO_SEND_RAN;
}

/* The source's, with that answer. */
static void settle_here(struct hosts *hosts, bool ran)
{
	struct handover_event answer = { .kind = ran ? ON_RAN : ON_NEVER,
					 .id = { .generation = 1 } };
	bool lives = !vm_ended(&hosts->vms[HERE]);
	struct handover_source here;
	struct error err = { 0 };
	struct move_link *link;
	uint32_t wanted;
	int r;

	memcpy(answer.id.token, hosts->token, sizeof(answer.id.token));
	assert_true(handover_source_restart(&answer.id, HANDOVER_OPEN, lives, &here) & DO_ASK);
	wanted = handover_source_step(&here, &answer);
	if (wanted & (DO_CLEAR_GIVEN | DO_SETTLE_RAN)) {
		r = marks_settle_given(hosts->marks, NAME, hosts->token,
				       ran ? MARK_RAN : MARK_NEVER);
		assert_int_equal(r, 0);
		return;
	}
	assert_int_equal(move_link_new(vm_connect(&hosts->vms[HERE]), NAME, &link), 0);
	r = ran ? link->ops->ran(link, hosts->token, "there", &err)
		: link->ops->never(link, hosts->token, &err);
	if (r < 0)
		fail_msg("%s", err.message);
	link->ops->free(link);
}

void hosts_settle(struct hosts *hosts)
{
	bool ran;

	hosts->was_given = hosts_in_doubt(hosts);
	ran = ask_there(hosts);
	if (hosts->was_given)
		settle_here(hosts, ran);
}

bool hosts_may_start(struct hosts *hosts, enum host_side side)
{
	struct handover_marks marks = { 0 };
	struct mark_given given;
	enum mark_result taken;

	if (side == HERE && marks_read_given(hosts->marks, NAME, &given) == 1) {
		marks.given = handover_mark_of(given.result);
		marks.given_generation = given.generation;
	}
	if (side == THERE && marks_read_taken(hosts->marks, hosts->token, false, &taken) == 0) {
		marks.taken = handover_mark_of(taken);
		marks.taken_generation = taken == MARK_RAN;
	}
	return handover_may_start(&marks) == START_MAY;
}

void hosts_assert_one(struct hosts *hosts, bool at_destination, const char *what)
{
	struct vm_child *from = &hosts->vms[HERE], *to = &hosts->vms[THERE];
	const struct near_guest *here = &from->near->guest, *there = &to->near->guest;

	for (int i = 0; at_destination && !vm_ended(from) && i < LOOKS; i++)
		usleep(LOOK_US);
	if (vm_ended(from) != at_destination ||
	    near_vm_runs(from->near, !at_destination) == at_destination ||
	    near_vm_runs(to->near, at_destination) != at_destination)
		fail_msg("%s: it should run %s: here %d, there %d", what,
			 at_destination ? "there" : "here", near_vm_runs(from->near, false),
			 near_vm_runs(to->near, false));
	if (at_destination)
		assert_true(here->last_ns < there->first_ns);
	else
		assert_int_equal(there->first_ns, 0);
}
