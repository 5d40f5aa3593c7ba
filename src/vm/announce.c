/* SPDX-License-Identifier: Apache-2.0 */
#include "vm/announce.h"

#include "virtio/net.h"

static void for_each_net(struct vm *vm, void (*tell)(struct vm *vm, struct device *device))
{
	for (uint32_t i = 0; i < vm->config->n_nets; i++) {
		char name[32];
		struct device *device;

		snprintf(name, sizeof(name), "virtio-net.%u", i);
		device = vm_find_device(vm, name);
		if (device)
			tell(vm, device);
	}
}

static void tell_soon(struct vm *vm, struct device *device)
{
	virtio_net_arriving(device, &vm->quiesce);
}

void vm_announce_soon(struct vm *vm)
{
	for_each_net(vm, tell_soon);
}

/* Switches learn the MAC address from us. Its neighbours learn its IP addresses anew from the guest, the only one who knows them;
 * -EOPNOTSUPP: its driver cannot do that, or does not work yet. */
static void tell(struct vm *vm _unused_, struct device *device)
{
	virtio_net_arrived(device);
	(void)!virtio_net_announce(device);
}

void vm_announce(struct vm *vm)
{
	for_each_net(vm, tell);
}
