/* SPDX-License-Identifier: Apache-2.0 */

/* The debugger of the process's VM: --gdb. */

#include <stdio.h>

#include "programs/vm_process.h"

static void kill_vm(void *ctx)
{
	vm_process_ops.force_stop(ctx);
}

/* A guest that a debugger holds is in no epoch, and its breakpoints are not in the backup's. */
static const char *refuses(void *ctx)
{
	const struct vm_process *process = ctx;

	return process->protect && protect_guest_is_busy(process->protect)
		       ? "a debugger was refused: the VM is protected, or a backup; end that first "
			 "with utsusu protect NAME --off"
		       : NULL;
}

int vm_process_open_gdb(struct vm_process *process, struct error *err)
{
	const struct gdb_config *config = &process->launch.config.gdb;
	struct gdb_server_params params = {
		.vm = process->vm,
		.loop = process->loop,
		.log = &process->log,
		.wait = config->wait,
		.kill = kill_vm,
		.refuses = refuses,
		.ctx = process,
	};
	int r;

	if (!config->path)
		return 0;
	r = gdb_server_listen(config->path, &params.listen_fd, err);
	if (r == 0)
		r = gdb_server_new(&params, &process->gdb);
	if (r == 0 && config->wait)
		log_line(&process->log, LOG_LEVEL_INFO,
			 "gdb: the guest waits for a debugger: target remote %s", config->path);
	return r;
}

/* GDB's continue goes on with the request as it is; who set the breakpoint may have done so, otherwise, before. */
static void request_goes_on(void *ctx)
{
	const struct stop_answer plain = { 0 };
	struct vm_process *process = ctx;

	(void)!stop_continue(process->stop, process->break_owner, &plain, NULL);
}

void vm_process_tell_gdb(struct vm_process *process, const void *owner, const struct stop_hit *hit)
{
	const struct watch_record *record = &hit->record;
	const bool is_access = record->kind == RECORD_PIO || record->kind == RECORD_MMIO ||
			       record->kind == RECORD_PCI;
	char text[128];

	if (hit->action != STOP_STOP)
		return;
	process->break_owner = owner;
	snprintf(text, sizeof(text), "request of %s: %s 0x%llx, %s 0x%llx",
		 monitor_device_name(process->monitor, record->device),
		 record->flags & RECORD_WRITE ? "write to" : "read from",
		 (unsigned long long)record->address, is_access ? "data" : "length",
		 (unsigned long long)record->data);
	/* Without a debugger, or with one that stopped there already, the owner alone is told. */
	(void)!gdb_stopped_on_request(process->gdb, is_access ? record->source : 0, text,
				      request_goes_on, process);
}
