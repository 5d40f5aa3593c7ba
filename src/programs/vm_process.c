/* SPDX-License-Identifier: Apache-2.0 */
#include "programs/vm_process.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/signalfd.h>
#include <termios.h>

#include "base/fd.h"
#include "base/signals.h"

struct holder_name {
	enum vm_holder holder;
	const char *name;
};

/* Those who hold the VM, in `process->holders`. NULL: nobody. */
static const char *holders_name(struct vm_process *process)
{
	static const struct holder_name names[] = {
		{ VM_HELD_BY_USER, "user" },
		{ VM_HELD_BY_DEBUGGER, "debugger" },
		{ VM_HELD_BY_WATCH, "breakpoint on requests" },
		{ VM_HELD_BY_MOVE, "move" },
		{ VM_HELD_BY_PROTECT, "protection" },
	};
	const size_t size = sizeof(process->holders);
	size_t len = 0;

	for (size_t i = 0; i < ARRAY_SIZE(names); i++)
		if (process->vm->holders & names[i].holder)
			len += (size_t)snprintf(process->holders + len, size - len, "%s%s",
						len ? ", " : "", names[i].name);
	if (process->vm->waits)
		snprintf(process->holders + len, size - len, "%swaits for its memory",
			 len ? ", " : "");
	return len || process->vm->waits ? process->holders : NULL;
}

/* A VM that stands because of a move says so, and not that it is paused. */
static enum api_vm_state state_of(const struct vm_process *process)
{
	static const enum api_vm_state states[] = {
		[VM_CREATED] = API_VM_STARTING, [VM_RUNNING] = API_VM_RUNNING,
		[VM_PAUSED] = API_VM_PAUSED,	[VM_RESETTING] = API_VM_RUNNING,
		[VM_ENDED] = API_VM_STOPPING,
	};

	if (process->vm->status == VM_RUNNING && process->vm->waits)
		return API_VM_PAUSED;
	if (process->vm->status != VM_PAUSED)
		return states[process->vm->status];
	switch (move_guest_stage(process->move)) {
	case MOVE_ARRIVING:
		return API_VM_ARRIVING;
	case MOVE_GIVEN:
		return API_VM_GIVEN;
	default:
		return API_VM_PAUSED;
	}
}

static void op_status(void *ctx, struct api_vm_status *ret_status)
{
	struct vm_process *process = ctx;
	const enum store_mode mode = monitor_mode(process->monitor);
	const struct mark_given *given = move_guest_mark(process->move);

	*ret_status = (struct api_vm_status){ .state = state_of(process) };
	if (process->started_ns)
		ret_status->uptime_ms =
			(clock_now(loop_clock(process->loop)) - process->started_ns) /
			NSEC_PER_MSEC;
	/* Cannot fail on a memfd; 0 then. */
	(void)!memory_populated(process->vm->memory, &ret_status->memory_populated);
	if (ret_status->state == API_VM_PAUSED)
		ret_status->paused_by = holders_name(process);
	ret_status->protection = vm_process_protection(process);
	ret_status->given_to = given ? given->peer : NULL;
	ret_status->watched = mode == STORE_OFF ? NULL : api_watch_modes[mode];
	memcpy(ret_status->console, process->pty_path, sizeof(ret_status->console));
}

static int refuse(struct error *err, int r, const char *what)
{
	if (r == -EBUSY)
		return error_set(err, r, EXIT_STATUS_BUSY,
				 "cannot %s: the guest is being reset; try again in a moment",
				 what);
	return error_set(err, r, EXIT_STATUS_FAILED, "cannot %s: the VM is %s", what,
			 r == -ESHUTDOWN ? "not running" : strerror(-r));
}

/* What its user says now would be in no state of it, or in one that did not leave. */
static int refuse_moving(struct vm_process *process, const char *what, struct error *err)
{
	if (vm_process_may_end(process, err) < 0)
		return err->code;
	if (process->vm->holders & VM_HELD_BY_PROTECT)
		return error_set(err, -EBUSY, EXIT_STATUS_BUSY,
				 "cannot %s: it is ending; wait for that", what);
	return error_set(err, -EBUSY, EXIT_STATUS_BUSY,
			 "cannot %s: it is being moved; wait for that, or cancel it", what);
}

static int op_pause(void *ctx, struct error *err)
{
	struct vm_process *process = ctx;
	int r = vm_pause(process->vm);

	if (r == -EBUSY && process->vm->holders & (VM_HELD_BY_MOVE | VM_HELD_BY_PROTECT))
		return refuse_moving(process, "pause", err);
	return r == -EALREADY ? 0 : r < 0 ? refuse(err, r, "pause") : 0;
}

/* Who else holds a VM that its user wants to go on. */
static int refuse_resume(struct vm_process *process, struct error *err)
{
	const uint32_t holders = process->vm->holders;

	if (holders & (VM_HELD_BY_MOVE | VM_HELD_BY_PROTECT))
		return refuse_moving(process, "resume", err);
	return error_set(err, -EBUSY, EXIT_STATUS_BUSY,
			 "cannot resume: %s holds the VM; continue there, or leave it",
			 holders & VM_HELD_BY_DEBUGGER ? "a debugger" : "a breakpoint on requests");
}

static int op_resume(void *ctx, struct error *err)
{
	struct vm_process *process = ctx;
	int r = vm_resume(process->vm);

	if (r == -EBUSY)
		return refuse_resume(process, err);
	return r == -EALREADY ? 0 : r < 0 ? refuse(err, r, "resume") : 0;
}

static bool op_power_button(void *ctx)
{
	struct vm_process *process = ctx;

	return vm_press_power_button(process->vm);
}

static int op_reset(void *ctx, struct error *err)
{
	struct vm_process *process = ctx;
	int r = vm_reset(process->vm);

	return r == -EALREADY ? 0 : r < 0 ? refuse(err, r, "reset") : 0;
}

/* Asked for by a client, a signal, or a stop whose time is over: by now the VM may have been given away. */
static void force_expired(struct loop_timer *timer)
{
	struct vm_process *process = container_of(timer, struct vm_process, force);
	struct error err = { 0 };

	if (process->resources.inherited)
		vm_process_leave_at_once(process, "ended before it went on as the VM");
	if (vm_process_may_end(process, &err) < 0) {
		log_line(&process->log, LOG_LEVEL_WARNING, "%s", err.message);
		return;
	}
	if (!vm_process_ends_later(process))
		vm_end(process->vm, VM_END_FORCED, "ended by force");
}

static void op_force_stop(void *ctx)
{
	struct vm_process *process = ctx;

	/* After this turn of the loop, so that the answer is sent first. */
	loop_timer_arm(process->loop, &process->force, 0);
}

/* There is one dirty log, and a move needs every page of it. */
static int op_measure(void *ctx, const struct measure_request *request,
		      struct measure_result *ret_result, struct error *err)
{
	struct vm_process *process = ctx;

	if (move_guest_is_busy(process->move) || protect_guest_is_busy(process->protect))
		return error_set(
			err, -EBUSY, EXIT_STATUS_BUSY,
			"cannot measure: the VM is being moved or protected; wait for that");
	return vm_measure_checkpoint(process->vm, request, ret_result, err);
}

static int op_watch(void *ctx, const void *client, const struct watch_wish *wish, struct error *err)
{
	struct vm_process *process = ctx;

	return monitor_watch(process->monitor, client, wish, err);
}

static int op_step_at(void *ctx, const void *client, const uint64_t *addresses, uint32_t n,
		      struct error *err)
{
	struct vm_process *process = ctx;

	return monitor_step_at(process->monitor, client, addresses, n, err);
}

static int op_set_break(void *ctx, const void *client, const struct stop_break *wanted,
			struct error *err)
{
	const struct watch_wish wish = { .mode = STORE_ALL };
	struct vm_process *process = ctx;
	int r = stop_set(process->stop, client, wanted, err);

	return r < 0 ? r : monitor_watch(process->monitor, client, &wish, err);
}

static int op_go_on(void *ctx, const void *client, const struct stop_answer *answer,
		    struct error *err)
{
	struct vm_process *process = ctx;

	return stop_continue(process->stop, client, answer, err);
}

static void request_hit(void *ctx, const void *owner, const struct stop_hit *hit)
{
	struct vm_process *process = ctx;

	api_server_hit(process->server, owner, hit,
		       monitor_device_name(process->monitor, hit->record.device));
	vm_process_tell_gdb(process, owner, hit);
}

struct stop_events vm_process_stop_events(struct vm_process *process)
{
	return (struct stop_events){ .hit = request_hit, .ctx = process };
}

static void op_forget(void *ctx, const void *client)
{
	struct vm_process *process = ctx;

	stop_forget(process->stop, client);
	monitor_forget(process->monitor, client);
	protect_guest_forget(process->protect, client);
	move_guest_forget(process->move, client);
}

static const char *op_unseen(void *ctx, unsigned int index)
{
	struct vm_process *process = ctx;

	return monitor_unseen(process->monitor, index);
}

const struct api_vm_ops vm_process_ops = {
	.status = op_status,
	.pause = op_pause,
	.resume = op_resume,
	.power_button = op_power_button,
	.reset = op_reset,
	.measure = op_measure,
	.watch = op_watch,
	.step_at = op_step_at,
	.set_break = op_set_break,
	.go_on = op_go_on,
	.forget = op_forget,
	.unseen = op_unseen,
	.may_end = vm_process_may_end,
	.force_stop = op_force_stop,
	.move_guest = vm_process_move_guest,
	.move = &api_move_guest_ops,
	.protect_guest = vm_process_protect_guest,
	.protect = &api_protect_guest_ops,
};

static void vm_ended(void *ctx, enum vm_end how, const char *why)
{
	struct vm_process *process = ctx;

	if (how == VM_END_FAILED) {
		log_line(&process->log, LOG_LEVEL_ERROR, "%s", why);
		process->status = EXIT_STATUS_GUEST;
	}
	gdb_server_ended(process->gdb);
	api_server_event(process->server, API_EVENT_STOPPED, why);
	loop_stop(process->loop);
}

struct event_name {
	const char *what;
	enum api_event event;
};

static void vm_ending(void *ctx, enum vm_end how, const char *why)
{
	struct vm_process *process = ctx;

	move_guest_hurry(process->move, how == VM_END_FAILED ? NULL : why);
}

static void vm_changed(void *ctx, const char *what)
{
	static const struct event_name names[] = {
		{ "running", API_EVENT_RUNNING },
		{ "paused", API_EVENT_PAUSED },
		{ "resumed", API_EVENT_RESUMED },
		{ "reset", API_EVENT_GUEST_RESET },
	};
	struct vm_process *process = ctx;

	for (size_t i = 0; i < ARRAY_SIZE(names); i++)
		if (strcmp(names[i].what, what) == 0)
			api_server_event(process->server, names[i].event, NULL);
}

struct vm_events vm_process_events(struct vm_process *process)
{
	return (struct vm_events){
		.powered_off = vm_process_ends_later,
		.ended = vm_ended,
		.ending = vm_ending,
		.changed = vm_changed,
		.ctx = process,
	};
}

void vm_process_ask_for_end(struct vm_process *process)
{
	static const char *const asked = "power button pressed; once more ends the VM by force";

	if (process->status == EXIT_STATUS_OK && vm_press_power_button(process->vm) &&
	    !process->asked_to_end)
		log_line(&process->log, LOG_LEVEL_INFO, "%s", asked);
	else
		op_force_stop(process);
	process->asked_to_end = true;
}

static void escape_typed(void *ctx)
{
	vm_process_ask_for_end(ctx);
}

/* The keeper gives the settings back at the end, however this process ends. */
static void make_terminal_raw(void)
{
	struct termios settings;

	if (tcgetattr(STDIN_FILENO, &settings) < 0)
		return;
	cfmakeraw(&settings);
	settings.c_oflag |= OPOST | ONLCR; /* our own messages share the screen */
	tcsetattr(STDIN_FILENO, TCSADRAIN, &settings);
}

static int open_pty(struct vm_process *process, struct error *err)
{
	_cleanup_(fd_closep) int master = posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC);
	struct termios settings;

	if (master < 0 || grantpt(master) < 0 || unlockpt(master) < 0 ||
	    ptsname_r(master, process->pty_path, sizeof(process->pty_path)) != 0)
		return error_set(err, -errno, EXIT_STATUS_HOST, "--console: no pty: %s",
				 strerror(errno));
	if (tcgetattr(master, &settings) == 0) {
		cfmakeraw(&settings);
		tcsetattr(master, TCSANOW, &settings);
	}
	/* Held open, so that the master does not hang up while nobody looks. */
	process->pty_slave = open(process->pty_path, O_RDWR | O_NOCTTY | O_CLOEXEC);
	process->pty = TAKE_FD(master);
	log_line(&process->log, LOG_LEVEL_INFO, "console: %s", process->pty_path);
	return 0;
}

static int attach_primary(struct vm_process *process, struct error *err)
{
	struct console *console = process->vm->serial_console;
	int r;

	switch (process->launch.config.console) {
	case CONSOLE_STDIO:
		make_terminal_raw();
		return console_attach(console, STDIN_FILENO, STDOUT_FILENO, escape_typed, process);
	case CONSOLE_PTY:
		if (process->handed)
			vm_process_take_pty(process);
		r = process->pty >= 0 ? 0 : open_pty(process, err);
		return r < 0 ? r : console_attach(console, process->pty, process->pty, NULL, NULL);
	case CONSOLE_SOCKET:
	case CONSOLE_AUTO: /* completed to one of the others by vm_config_complete */
		return 0;
	}
	return -EINVAL;
}

static int listen_console(struct vm_process *process, struct console *console, const char *file,
			  enum handed_kind kind, struct error *err)
{
	int fd = -1, r;

	if (process->handed)
		r = fd = vm_process_take(process, kind, "its console's socket", err);
	else
		r = runtime_listen(&process->launch.vm, file, &fd);
	return r < 0 ? r : console_listen(console, fd);
}

int vm_process_open_consoles(struct vm_process *process, struct error *err)
{
	int r = attach_primary(process, err);

	/* Whatever the primary sink is, `utsusu console` can look too. */
	if (r == 0)
		r = listen_console(process, process->vm->serial_console, RUNTIME_CONSOLE,
				   HANDED_CONSOLE, err);
	if (r == 0)
		r = listen_console(process, process->vm->virtio_console, RUNTIME_VIRTIO_CONSOLE,
				   HANDED_VIRTIO_CONSOLE, err);
	if (r < 0)
		return error_set(err, r, EXIT_STATUS_FAILED, "--console: %s", strerror(-r));
	return 0;
}

/* A service manager signals the whole group, and the keeper passes on what it got of that: one wish, not two. */
static void signal_ready(struct loop_watch *watch, uint32_t events _unused_)
{
	struct vm_process *process = container_of(watch, struct vm_process, signals);
	uint64_t now = clock_now(loop_clock(process->loop));
	struct signalfd_siginfo info;

	while (read(watch->fd, &info, sizeof(info)) == sizeof(info))
		;
	if (process->signalled_ns && now - process->signalled_ns < NSEC_PER_SEC)
		return;
	process->signalled_ns = now;
	vm_process_ask_for_end(process);
}

int vm_process_watch_signals(struct vm_process *process)
{
	static const int asking[] = { SIGTERM, SIGINT, SIGHUP, SIGQUIT };

	signal(SIGPIPE, SIG_IGN);
	loop_timer_init(&process->force, force_expired);
	process->signals = (struct loop_watch){
		.fd = signals_open(asking, ARRAY_SIZE(asking), NULL),
		.events = EPOLLIN,
		.ready = signal_ready,
	};
	return process->signals.fd < 0 ? process->signals.fd
				       : loop_add(process->loop, &process->signals);
}
