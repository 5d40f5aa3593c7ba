/* SPDX-License-Identifier: Apache-2.0 */
#include "vm/renew.h"

#include <errno.h>
#include <string.h>
#include <sys/random.h>

#include "boot/acpi.h"
#include "device/generation.h"
#include "device/power.h"
#include "virtio/net.h"
#include "vm/cpus.h"

struct renewal {
	struct vm *vm;
	uint8_t id[16];
	int result;
	struct error *err;
};

/* Guest RAM is a vCPU's thread's to write. */
static void renew_generation(void *owner, void *arg)
{
	struct renewal *renewal = arg;

	if (vcpu_index(owner) == 0)
		renewal->result = generation_renew(renewal->vm->generation, renewal->id,
						   renewal->err);
}

static void renew_macs(struct vm *vm)
{
	static const uint8_t no_mac[6];

	for (uint32_t i = 0; i < vm->config->n_nets; i++) {
		char name[32];
		struct device *device;

		snprintf(name, sizeof(name), "virtio-net.%u", i);
		device = vm_find_device(vm, name);
		if (device && memcmp(vm->config->nets[i].mac, no_mac, sizeof(no_mac)) == 0)
			virtio_net_own_mac(device);
	}
}

int vm_renew(struct vm *vm, struct error *err)
{
	struct renewal renewal = { .vm = vm, .err = err };

	if (getrandom(renewal.id, sizeof(renewal.id), 0) != sizeof(renewal.id))
		return error_set(err, -EIO, EXIT_STATUS_HOST, "this host has no random numbers");
	cpus_run(vm, renew_generation, &renewal);
	if (renewal.result < 0)
		return renewal.result;
	renew_macs(vm);
	power_raise_event(vm->power, GED_GENERATION_CHANGED);
	return 0;
}
