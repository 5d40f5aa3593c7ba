/* SPDX-License-Identifier: Apache-2.0 */
#include "vm/apart.h"

#include <errno.h>
#include <sys/mman.h>

/* A slot cannot be changed, only removed and made again. */
static int show_bank(struct vm *vm, uint32_t slot, void *host)
{
	const struct memory_bank *bank = &vm->memory->banks[slot];
	int r = kvm_vm_set_memory(vm->kvm, slot, 0, bank->start.v, 0, bank->host);

	return r < 0 ? r : kvm_vm_set_memory(vm->kvm, slot, 0, bank->start.v, bank->len, host);
}

static void unmap(const struct vm *vm, struct vm_apart *apart)
{
	for (uint32_t i = 0; i < vm->memory->n_banks; i++)
		if (apart->hosts[i])
			munmap(apart->hosts[i], vm->memory->banks[i].len);
}

int vm_apart_end(struct vm *vm, struct vm_apart *apart)
{
	int r = 0;

	for (uint32_t i = 0; r == 0 && i < vm->memory->n_banks; i++)
		r = show_bank(vm, i, vm->memory->banks[i].host);
	unmap(vm, apart);
	return r;
}

int vm_apart_begin(struct vm *vm, struct vm_apart *apart)
{
	int r = 0;

	*apart = (struct vm_apart){ 0 };
	for (uint32_t i = 0; r == 0 && i < vm->memory->n_banks; i++) {
		const struct memory_bank *bank = &vm->memory->banks[i];
		void *host = mmap(NULL, bank->len, PROT_READ | PROT_WRITE,
				  MAP_PRIVATE | MAP_NORESERVE, vm->memory->fd, (off_t)bank->offset);

		if (host == MAP_FAILED) {
			r = -errno;
			break;
		}
		apart->hosts[i] = host;
		r = show_bank(vm, i, host);
	}
	if (r < 0)
		(void)!vm_apart_end(vm, apart);
	return r;
}
