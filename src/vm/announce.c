/* SPDX-License-Identifier: Apache-2.0 */
#include "vm/announce.h"

#include "virtio/net.h"

void vm_announce(struct vm *vm)
{
	for (uint32_t i = 0; i < vm->config->n_nets; i++) {
		char name[32];
		struct device *device;

		snprintf(name, sizeof(name), "virtio-net.%u", i);
		device = vm_find_device(vm, name);
		if (!device)
			continue;
		/* Switches learn the MAC address from us. Its neighbours learn its IP addresses anew from the guest, the only one
		 * who knows them; -EOPNOTSUPP: its driver cannot do that, or does not work yet. */
		virtio_net_arrived(device);
		(void)!virtio_net_announce(device);
	}
}
