/* SPDX-License-Identifier: Apache-2.0 */

/*
 * utsusu-vm: the process of one VM, started by `utsusu run` with the configuration on a descriptor. It splits
 * into the keeper and the VM's process, opens everything, closes the sandbox, and runs the guest.
 */

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "base/fd.h"
#include "host/huge_file.h"
#include "host/keeper.h"
#include "host/sandbox.h"
#include "host/userfault.h"
#include "programs/vm_process.h"
#include "watch/store.h"

/* Tells why, once: to who waits for the first word, else on standard error. */
static int fail(struct vm_process *process, struct error *err, int r)
{
	error_set(err, r, EXIT_STATUS_FAILED, "%s", strerror(-r));
	if (!launch_report(&process->launch, err))
		dprintf(STDERR_FILENO, "utsusu: %s\n", err->message);
	return err->status;
}

/* The file of the guest's RAM: -errno, or its descriptor. */
static int make_ram(struct vm_process *process, struct error *err)
{
	const struct memory_config *memory = &process->launch.config.memory;

	if (memory->hugepages == MEMORY_HUGE_THP) {
		int fd = huge_file_make("guest-ram", memory->size);

		if (fd >= 0)
			return fd;
		process->no_huge_file = fd;
	}
	return memory_make_fd(memory->size, memory->hugepages, err);
}

/* Where requests are recorded when somebody watches: -errno, or its descriptor. */
static int make_store(const struct vm_config *config)
{
	return store_make_fd(config->name, monitor_rings(config), config->cpus.count,
			     STORE_RING_RECORDS);
}

/* What a new version's keeper gets from the old one's: RAM's descriptor, or a negative errno. */
static int inherit(struct vm_process *process, struct keeper *keeper, struct error *err)
{
	int r = vm_process_take(process, HANDED_SUCCESSION, "whose the VM is", err);

	keeper->succession = r;
	if (r >= 0)
		r = keeper->listener = vm_process_take(process, HANDED_KEEPER,
						       "the keeper's socket", err);
	if (r >= 0)
		r = keeper->requests = vm_process_take(process, HANDED_REQUESTS,
						       "the file of requests", err);
	process->store_fd = vm_process_take_store(process);
	return r < 0 ? r : vm_process_take(process, HANDED_RAM, "the guest's memory", err);
}

/* Memory and keeper: what outlives the VM's process. The keeper gets the name, we keep a copy. */
static int split(struct vm_process *process, struct error *err)
{
	const struct vm_config *config = &process->launch.config;
	struct keeper keeper = {
		.runtime = process->launch.vm,
		.terminal = -1,
		.succession = -1,
		.listener = -1,
		.requests = -1,
	};
	int r = process->handed ? inherit(process, &keeper, err) : make_ram(process, err);

	if (r < 0)
		return r;
	if (config->console == CONSOLE_STDIO && isatty(STDIN_FILENO))
		keeper.terminal = STDIN_FILENO;
	process->resources.memory_fd = r;
	keeper.descriptors[KEEPER_RAM] = r;
	keeper.descriptors[KEEPER_USERFAULTFD] = keeper_open_userfaultfd();
	if (process->store_fd < 0)
		process->store_fd = make_store(config);
	if (process->store_fd < 0)
		return error_set(err, process->store_fd, EXIT_STATUS_HOST,
				 "cannot make the store of requests: %s",
				 strerror(-process->store_fd));
	keeper.descriptors[KEEPER_STORE] = process->store_fd;
	keeper.store_records = store_records_offset(monitor_rings(config));
	r = keeper_split(&keeper);
	if (r == 0 && process->launch.incoming)
		process->uffd = userfault_make(keeper.descriptors[KEEPER_USERFAULTFD]);
	fd_close(keeper.descriptors[KEEPER_USERFAULTFD]);
	fd_close(keeper.succession);
	fd_close(keeper.listener);
	fd_close(keeper.requests);
	if (r < 0)
		return error_set(err, r, EXIT_STATUS_HOST, "cannot start the keeper: %s",
				 strerror(-r));
	return 0;
}

/* What the caller left open by mistake must not be within a guest's reach, were it to break out. */
static void close_the_rest(const struct launch *launch)
{
	int kept[5 + LIMIT_NETS] = {
		launch->vm.root_fd, launch->vm.dir_fd, launch->vm.lock_fd,
		launch->ready_fd,   launch->heir_fd,
	};
	size_t n = 5;

	for (uint32_t i = 0; launch->heir_fd < 0 && i < launch->config.n_nets; i++)
		if (launch->config.nets[i].kind == NET_FD)
			kept[n++] = launch->config.nets[i].fd;
	fd_close_others(kept, n);
}

/* Each queue of each disk and interface takes some, and a login shell's 1024 end soon. What the caller set as the hard
 * limit stands; a failure shows where a descriptor is lacking. */
static void raise_descriptor_limit(void)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit) < 0)
		return;
	limit.rlim_cur = limit.rlim_max;
	(void)setrlimit(RLIMIT_NOFILE, &limit);
}

static int open_log_and_loop(struct vm_process *process)
{
	process->log = (struct log){ .fd = STDERR_FILENO, .level = LOG_LEVEL_INFO };
	snprintf(process->log.prefix, sizeof(process->log.prefix), "utsusu: %.40s",
		 process->launch.config.name);
	process->loop = loop_new(&clock_host);
	if (process->no_huge_file)
		log_line(&process->log, LOG_LEVEL_INFO,
			 "memory: no file with huge pages (%s); 'utsusu doctor' tells more",
			 strerror(-process->no_huge_file));
	return process->loop ? vm_process_watch_signals(process) : -ENOMEM;
}

static int make_vm(struct vm_process *process, struct error *err)
{
	const struct vm_events events = vm_process_events(process);
	int r;

	process->resources.arriving = process->launch.incoming;
	r = process->handed ? vm_resources_inherit(&process->launch.config, &process->resources,
						   process->handed, err)
			    : vm_resources_open(&process->launch.config, &process->resources, err);
	if (r == 0)
		r = vm_new(&process->launch.config, &process->resources, process->loop,
			   &process->log, &events, &process->vm, err);
	if (r == 0)
		r = vm_process_make_move(process);
	return r < 0 ? r : vm_process_make_protect(process);
}

/* With what the command line wishes: from the first instruction on. */
static int make_monitor(struct vm_process *process, struct error *err)
{
	static const enum store_mode modes[] = {
		[WATCH_OFF] = STORE_OFF,
		[WATCH_NORMAL] = STORE_NORMAL,
		[WATCH_ALL] = STORE_ALL,
	};
	const struct watch_wish wish = { .mode = modes[process->launch.config.watch] };
	const struct stop_events events = vm_process_stop_events(process);
	int r = monitor_new(process->vm, process->store_fd, &process->monitor, err);

	fd_close(process->store_fd); /* it is mapped, and the keeper has it */
	if (r == 0)
		r = stop_new(process->monitor, &events, &process->stop);
	if (r < 0 || wish.mode == STORE_OFF)
		return r;
	return monitor_watch(process->monitor, process, &wish, err);
}

static int open_api(struct vm_process *process, struct error *err)
{
	int fd = -1, r = vm_process_open_consoles(process, err);

	if (r == 0 && process->handed)
		r = fd = vm_process_take(process, HANDED_SOCKET, "the VM's socket", err);
	else if (r == 0)
		r = runtime_listen(&process->launch.vm, RUNTIME_SOCKET, &fd);
	if (r < 0)
		return r;
	process->server = api_server_new(process->loop, fd, &process->launch.config,
					 &vm_process_ops, process);
	return process->server ? vm_process_begin_heir(process, err) : -ENOMEM;
}

/* A host that lacks a step is told of, not refused: the filters hold all the same. */
static void tell_missing(const struct log *log, unsigned int missing)
{
	for (unsigned int bit = 1; bit && bit <= missing; bit <<= 1)
		if (missing & bit)
			log_line(
				log, LOG_LEVEL_WARNING,
				"sandbox: this host lacks the step '%s'; 'utsusu doctor' tells more",
				sandbox_missing_name((enum sandbox_missing)bit));
}

/* What the sandbox must leave open for this configuration. */
static unsigned int features_used(const struct vm_config *config)
{
	unsigned int features = config->n_disks ? SANDBOX_DISK : 0;

	for (uint32_t i = 0; i < config->n_nets; i++) {
		features |= config->nets[i].kind == NET_USER ? SANDBOX_PASST : SANDBOX_TAP;
		features |= config->nets[i].vhost ? SANDBOX_VHOST : 0;
	}
	return features;
}

struct thread_kind {
	enum sandbox_thread kind;
	unsigned int features;
};

static int enter_thread(void *ctx)
{
	const struct thread_kind *thread = ctx;

	return sandbox_enter_thread(thread->kind, thread->features);
}

/* Gives up rights, starts the threads (each closes its own sandbox), and last closes our own. */
static int start_confined(struct vm_process *process, struct error *err)
{
	const unsigned int features = features_used(&process->launch.config);
	struct thread_kind vcpu = { SANDBOX_VCPU, features }, queue = { SANDBOX_QUEUE, features },
			   control = { SANDBOX_CONTROL, features };
	const struct thread_entry guard = { .enter = enter_thread, .ctx = &control };
	const struct vm_thread_entry confined = {
		.vcpu = { .enter = enter_thread, .ctx = &vcpu },
		.worker = { .enter = enter_thread, .ctx = &queue },
	};
	unsigned int missing;
	int r = sandbox_enter_process(&missing, err);

	if (r < 0)
		return r;
	tell_missing(&process->log, missing);
	r = vm_start(process->vm, &confined, err);
	if (r == 0)
		r = move_guest_guard(process->move, TAKE_FD(process->uffd), &guard);
	return r < 0 ? r : sandbox_enter_thread(SANDBOX_CONTROL, features);
}

static int start_open(struct vm_process *process, struct error *err)
{
	const struct vm_thread_entry none = { 0 };
	int r = vm_start(process->vm, &none, err);

	return r < 0 ? r : move_guest_guard(process->move, TAKE_FD(process->uffd), NULL);
}

static int start(struct vm_process *process, struct error *err)
{
	int r = process->launch.config.sandbox ? start_confined(process, err)
					       : start_open(process, err);

	if (r < 0)
		return error_set(err, r, EXIT_STATUS_HOST, "cannot start the VM: %s", strerror(-r));
	if (!process->launch.incoming)
		process->started_ns = clock_now(&clock_host);
	vm_run(process->vm);
	return 0;
}

static void take_apart(struct vm_process *process)
{
	api_server_free(process->server);
	stop_free(process->stop);
	monitor_free(process->monitor);
	move_guest_free(process->move);
	vm_free(process->vm);
	protect_guest_free(process->protect);
	gdb_server_free(process->gdb);
	vm_resources_close(&process->resources);
	if (process->loop)
		loop_remove(process->loop, &process->signals);
	loop_free(process->loop);
	fd_close(process->signals.fd);
	fd_close(process->pty);
	fd_close(process->pty_slave);
	vm_process_forget_handed(process);
	runtime_forget(&process->launch.vm); /* the keeper removes the name's files */
	vm_config_release(&process->launch.config);
}

static int run(struct vm_process *process, struct error *err)
{
	int r = open_log_and_loop(process);

	if (r == 0)
		r = make_vm(process, err);
	if (r == 0)
		r = make_monitor(process, err);
	if (r == 0)
		r = vm_process_open_gdb(process, err);
	if (r == 0)
		r = open_api(process, err);
	runtime_keep_lock(&process->launch.vm);
	if (r == 0)
		r = start(process, err);
	if (r < 0)
		return r;
	launch_report(&process->launch, NULL);
	return loop_run(process->loop);
}

int main(int argc _unused_, char **argv)
{
	struct vm_process process = {
		.launch = { .ready_fd = -1, .heir_fd = -1 },
		.store_fd = -1,
		.pty = -1,
		.pty_slave = -1,
		.signals.fd = -1,
		.uffd = -1,
	};
	struct error err = { 0 };
	int r;

	sandbox_before_threads();
	vm_resources_init(&process.resources);
	r = launch_receive(argv + 1, &process.launch, &err);
	if (r < 0)
		return fail(&process, &err, r);
	close_the_rest(&process.launch);
	raise_descriptor_limit();
	r = vm_process_receive(&process, &err);
	if (r == 0)
		r = split(&process, &err);
	if (r < 0) {
		r = fail(&process, &err, r);
		launch_release(&process.launch);
		return r;
	}
	r = run(&process, &err);
	if (r < 0)
		process.status = (enum exit_status)fail(&process, &err, r);
	take_apart(&process);
	return (int)process.status;
}
