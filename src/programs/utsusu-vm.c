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
#include "host/keeper.h"
#include "host/sandbox.h"
#include "programs/vm_process.h"

/* Tells why, once: to who waits for the first word, else on standard error. */
static int fail(struct vm_process *process, struct error *err, int r)
{
	error_set(err, r, EXIT_STATUS_FAILED, "%s", strerror(-r));
	if (!launch_report(&process->launch, err))
		dprintf(STDERR_FILENO, "utsusu: %s\n", err->message);
	return err->status;
}

/* Memory and keeper: what outlives the VM's process. The keeper gets the name, we keep a copy. */
static int split(struct vm_process *process, struct error *err)
{
	const struct vm_config *config = &process->launch.config;
	struct keeper keeper = {
		.runtime = process->launch.vm,
		.terminal = -1,
	};
	int r = memory_make_fd(config->memory.size, config->memory.hugepages, err);

	if (r < 0)
		return r;
	if (config->console == CONSOLE_STDIO && isatty(STDIN_FILENO))
		keeper.terminal = STDIN_FILENO;
	process->resources.memory_fd = r;
	keeper.descriptors[KEEPER_RAM] = r;
	keeper.descriptors[KEEPER_USERFAULTFD] = keeper_open_userfaultfd();
	r = keeper_split(&keeper);
	fd_close(keeper.descriptors[KEEPER_USERFAULTFD]);
	if (r < 0)
		return error_set(err, r, EXIT_STATUS_HOST, "cannot start the keeper: %s",
				 strerror(-r));
	return 0;
}

/* What the caller left open by mistake must not be within a guest's reach, were it to break out. */
static void close_the_rest(const struct launch *launch)
{
	int kept[4 + LIMIT_NETS] = {
		launch->vm.root_fd,
		launch->vm.dir_fd,
		launch->vm.lock_fd,
		launch->ready_fd,
	};
	size_t n = 4;

	for (uint32_t i = 0; i < launch->config.n_nets; i++)
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
	return process->loop ? vm_process_watch_signals(process) : -ENOMEM;
}

static int make_vm(struct vm_process *process, struct error *err)
{
	const struct vm_events events = vm_process_events(process);
	int r = vm_resources_open(&process->launch.config, &process->resources, err);

	if (r == 0)
		r = vm_new(&process->launch.config, &process->resources, process->loop,
			   &process->log, &events, &process->vm, err);
	return r;
}

static int open_api(struct vm_process *process, struct error *err)
{
	int fd, r = vm_process_open_consoles(process, err);

	if (r == 0)
		r = runtime_listen(&process->launch.vm, RUNTIME_SOCKET, &fd);
	if (r < 0)
		return r;
	process->server = api_server_new(process->loop, fd, &process->launch.config,
					 &vm_process_ops, process);
	return process->server ? 0 : -ENOMEM;
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
	struct thread_kind vcpu = { SANDBOX_VCPU, features }, queue = { SANDBOX_QUEUE, features };
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
	return r < 0 ? r : sandbox_enter_thread(SANDBOX_CONTROL, features);
}

static int start(struct vm_process *process, struct error *err)
{
	const struct vm_thread_entry open_entry = { 0 };
	int r = process->launch.config.sandbox ? start_confined(process, err)
					       : vm_start(process->vm, &open_entry, err);

	if (r < 0)
		return error_set(err, r, EXIT_STATUS_HOST, "cannot start the VM: %s", strerror(-r));
	process->started_ns = clock_now(&clock_host);
	vm_run(process->vm);
	return 0;
}

static void take_apart(struct vm_process *process)
{
	api_server_free(process->server);
	vm_free(process->vm);
	vm_resources_close(&process->resources);
	if (process->loop)
		loop_remove(process->loop, &process->signals);
	loop_free(process->loop);
	fd_close(process->signals.fd);
	fd_close(process->pty);
	fd_close(process->pty_slave);
	runtime_forget(&process->launch.vm); /* the keeper removes the name's files */
	vm_config_release(&process->launch.config);
}

static int run(struct vm_process *process, struct error *err)
{
	int r = open_log_and_loop(process);

	if (r == 0)
		r = make_vm(process, err);
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
		.launch.ready_fd = -1, .pty = -1, .pty_slave = -1, .signals.fd = -1
	};
	struct error err = { 0 };
	int r;

	vm_resources_init(&process.resources);
	r = launch_receive(argv + 1, &process.launch, &err);
	if (r < 0)
		return fail(&process, &err, r);
	close_the_rest(&process.launch);
	raise_descriptor_limit();
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
