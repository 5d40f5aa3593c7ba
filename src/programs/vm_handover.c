/* SPDX-License-Identifier: Apache-2.0 */

/* How one process of a VM hands what it has open to the next, and how that one begins with it. */

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/fd.h"
#include "programs/vm_process.h"
#include "watch/store.h"

/* ---- the process that runs it ---- */

static void add(struct problems *problems, int code, const char *name, const char *text)
{
	struct error err = { 0 };

	error_set(&err, code, EXIT_STATUS_USAGE, "%s: %s", name, text);
	problems_add(problems, &err);
}

void vm_process_check_upgrade(void *ctx, struct problems *problems)
{
	const struct vm_process *process = ctx;
	const struct vm_config *config = &process->launch.config;

	if (!process->launch.detached || config->console == CONSOLE_STDIO)
		add(problems, -EOPNOTSUPP, config->name,
		    "runs in the foreground, for whoever waits there; run VMs that are to be "
		    "upgraded with --detach");
	if (config->gdb.path)
		add(problems, -EOPNOTSUPP, config->name,
		    "has a socket for a debugger, which stays behind; run it without --gdb to "
		    "upgrade it");
}

static int send_fd(int sock, enum handed_kind kind, int fd, uint64_t number)
{
	return handed_send(sock, kind, 0, &fd, 1, number, NULL);
}

int vm_process_hand_over(void *ctx, int sock)
{
	const struct vm_process *process = ctx;
	const int pty[] = { process->pty, process->pty_slave };
	int r = send_fd(sock, HANDED_SOCKET, api_server_socket(process->server),
			process->started_ns);

	if (r == 0)
		r = send_fd(sock, HANDED_CONSOLE, console_socket(process->vm->serial_console), 0);
	if (r == 0)
		r = send_fd(sock, HANDED_VIRTIO_CONSOLE,
			    console_socket(process->vm->virtio_console), 0);
	if (r == 0 && process->pty >= 0)
		r = handed_send(sock, HANDED_PTY, 0, pty, ARRAY_SIZE(pty), 0, process->pty_path);
	if (r == 0)
		r = vm_resources_hand_over(&process->launch.config, &process->resources, sock);
	return r;
}

void vm_process_doors(void *ctx, bool open)
{
	struct vm_process *process = ctx;

	api_server_doors(process->server, open);
	console_doors(process->vm->serial_console, open);
	console_doors(process->vm->virtio_console, open);
}

void vm_process_leave_at_once(struct vm_process *process, const char *why)
{
	log_line(&process->log, LOG_LEVEL_INFO, "%s", why);
	api_server_event(process->server, API_EVENT_STOPPED, why);
	gdb_server_ended(process->gdb);
	/* Its threads stand still, and would go on if it was taken apart. */
	_exit(EXIT_STATUS_OK);
}

/* ---- the one that takes its place ---- */

int vm_process_receive(struct vm_process *process, struct error *err)
{
	_cleanup_(fd_closep) int sock = TAKE_FD(process->launch.heir_fd);

	if (sock < 0)
		return 0;
	process->handed = calloc(1, sizeof(*process->handed));
	return process->handed ? handed_receive(sock, process->handed, err) : -ENOMEM;
}

/* Whether records can go on where they end; another version of it is left to its readers. */
static bool is_ours(const struct vm_process *process, int fd)
{
	struct store *store;
	bool fits;

	if (store_open(fd, &store) < 0)
		return false;
	fits = store_header(store)->n_rings == monitor_rings(&process->launch.config);
	store_free(store);
	return fits;
}

int vm_process_take_store(struct vm_process *process)
{
	int fd = handed_take(process->handed, HANDED_STORE, 0);

	if (fd >= 0 && is_ours(process, fd))
		return fd;
	fd_close(fd);
	return -1;
}

int vm_process_take(struct vm_process *process, enum handed_kind kind, const char *what,
		    struct error *err)
{
	int fd = handed_take(process->handed, kind, 0);

	return fd >= 0 ? fd
		       : error_set(err, -EPROTO, EXIT_STATUS_FAILED,
				   "%s did not come from the process that runs the VM; utsusu "
				   "upgrade is too far from the version that runs it",
				   what);
}

void vm_process_take_pty(struct vm_process *process)
{
	struct handed_thing *pty = handed_thing(process->handed, HANDED_PTY, 0);

	if (pty->n_fds != 2)
		return;
	process->pty = pty->fds[0];
	process->pty_slave = pty->fds[1];
	pty->n_fds = 0;
	memcpy(process->pty_path, pty->text, MIN(sizeof(process->pty_path), sizeof(pty->text)));
}

/* Until it runs, its clients are the other's; only whoever drives the upgrade is served. */
int vm_process_begin_heir(struct vm_process *process, struct error *err)
{
	int link;

	if (!process->handed)
		return 0;
	link = vm_process_take(process, HANDED_LINK, "the upgrade's connection", err);
	if (link < 0)
		return link;
	process->inherited_start_ns = handed_thing(process->handed, HANDED_SOCKET, 0)->number;
	vm_process_doors(process, false);
	api_server_welcome(process->server, link);
	vm_process_forget_handed(process);
	return 0;
}

void vm_process_taken(void *ctx)
{
	struct vm_process *process = ctx;

	monitor_catch_up(process->monitor);
	/* Movers find the VM's process so. */
	if (runtime_listen_again(api_server_socket(process->server)) < 0)
		log_line(&process->log, LOG_LEVEL_WARNING,
			 "its socket is still the process's before");
	vm_process_doors(process, true);
}

void vm_process_forget_handed(struct vm_process *process)
{
	if (process->handed)
		handed_release(process->handed);
	free(TAKE_PTR(process->handed));
}
