/* SPDX-License-Identifier: Apache-2.0 */
#include "vm/kernel.h"

#include <errno.h>
#include <stdlib.h>

#include "base/cleanup.h"
#include "vm/memory_map.h"

int kernel_load(struct vm *vm, struct boot_entry *ret_entry, struct error *err)
{
	static const struct boot_reserved reserved[] = {
		{ MAP_ECAM_BASE, MAP_ECAM_RESERVED },
		{ MAP_KVM_IDENTITY, 4 * MEMORY_PAGE_SIZE },
	};
	const struct boot_request request = {
		.kernel_fd = vm->resources->kernel_fd,
		.kernel_path = vm->config->kernel,
		.initrd_fd = vm->resources->initrd_fd,
		.initrd_path = vm->config->initrd,
		.cmdline = vm->config->cmdline,
		.acpi = &vm->acpi,
		.reserved = reserved,
		.n_reserved = ARRAY_SIZE(reserved),
	};

	return boot_load(vm->memory, &request, ret_entry, err);
}

struct kernel_loading {
	struct vm *vm;
	pthread_t thread;
	struct boot_entry entry;
	struct error err;
	int result;
};

static void *load_main(void *arg)
{
	struct kernel_loading *loading = arg;

	loading->result = kernel_load(loading->vm, &loading->entry, &loading->err);
	return NULL;
}

int kernel_load_begin(struct vm *vm)
{
	_cleanup_(freep) struct kernel_loading *loading = calloc(1, sizeof(*loading));
	int r;

	if (!loading)
		return -ENOMEM;
	loading->vm = vm;
	r = thread_start("kernel", NULL, load_main, loading, &loading->thread);
	if (r == 0)
		vm->kernel_loading = TAKE_PTR(loading);
	return r;
}

int kernel_load_finish(struct vm *vm, struct boot_entry *ret_entry, struct error *err)
{
	_cleanup_(freep) struct kernel_loading *loading = TAKE_PTR(vm->kernel_loading);

	if (!loading)
		return -EALREADY;
	pthread_join(loading->thread, NULL);
	if (loading->result < 0)
		return error_set(err, loading->result, loading->err.status, "%s",
				 loading->err.message);
	*ret_entry = loading->entry;
	return 0;
}
