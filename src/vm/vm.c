/* SPDX-License-Identifier: Apache-2.0 */

/* How a VM is made and taken apart. */

#include "vm/vm.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/fd.h"
#include "cpu/model.h"
#include "device/generation.h"
#include "vm/board.h"
#include "vm/cpus.h"
#include "vm/interrupts.h"
#include "vm/kernel.h"
#include "vm/lifecycle.h"
#include "vm/memory_map.h"

#define DIRTY_RING_ENTRIES 4096

static int make_kvm(struct vm *vm, struct error *err)
{
	const uint64_t irqchip_pins[4] = { IRQCHIP_LINES };
	int r = kvm_open(TAKE_FD(vm->resources->kvm_fd), &vm->kvm_system);

	if (r == 0)
		r = kvm_vm_new(vm->kvm_system, &vm->kvm);
	if (r == 0)
		r = kvm_vm_set_identity_map(vm->kvm, MAP_KVM_IDENTITY);
	if (r == 0)
		r = kvm_vm_set_tss(vm->kvm, MAP_KVM_TSS);
	if (r == 0)
		r = kvm_vm_enable(vm->kvm, KVM_CAP_SPLIT_IRQCHIP, irqchip_pins);
	if (r < 0)
		return error_set(err, r, EXIT_STATUS_HOST, "/dev/kvm: cannot make a VM: %s",
				 strerror(-r));
	return 0;
}

/* The dirty logger cannot change once a vCPU exists: the ring where KVM has it, unless told otherwise. */
static int choose_dirty_log(struct vm *vm, struct error *err)
{
	enum dirty_choice choice = vm->config->memory.dirty;
	int r = -EOPNOTSUPP;

	if (choice != DIRTY_CHOICE_BITMAP) {
		vm->dirty_backend = DIRTY_BACKEND_RING;
		r = memory_dirty_attach(vm->memory, vm->dirty_backend, vm->kvm, DIRTY_RING_ENTRIES);
	}
	if (r < 0 && choice != DIRTY_CHOICE_RING) {
		vm->dirty_backend = DIRTY_BACKEND_BITMAP;
		r = memory_dirty_attach(vm->memory, vm->dirty_backend, vm->kvm, 0);
	}
	if (r < 0 && choice != DIRTY_CHOICE_AUTO)
		return error_set(
			err, r, EXIT_STATUS_HOST,
			"--memory: this KVM lacks the dirty log asked for; use dirty=auto");
	if (r < 0)
		vm->dirty_backend = DIRTY_BACKEND_NONE;
	return 0;
}

static int make_memory(struct vm *vm, struct error *err)
{
	int r = memory_create(vm->config->memory.size, MAP_LOW_END, MAP_RAM_ABOVE,
			      vm->config->memory.hugepages, TAKE_FD(vm->resources->memory_fd),
			      &vm->memory, err);

	/* Not while the guest waits for it. */
	if (r == 0 && vm->resources->inherited)
		memory_map_populated(vm->memory);
	return r;
}

static int give_memory_to_kvm(struct vm *vm, struct error *err)
{
	for (uint32_t i = 0; i < vm->memory->n_banks; i++) {
		const struct memory_bank *bank = &vm->memory->banks[i];
		int r = kvm_vm_set_memory(vm->kvm, i, 0, bank->start.v, bank->len, bank->host);

		if (r < 0)
			return error_set(err, r, EXIT_STATUS_HOST,
					 "--memory: KVM refused the guest's memory: %s",
					 strerror(-r));
	}
	return choose_dirty_log(vm, err);
}

/* The 64-bit PCI window lies above all RAM, aligned to a GiB. */
static uint64_t pci64_base(const struct vm *vm)
{
	const struct memory_bank *last = &vm->memory->banks[vm->memory->n_banks - 1];

	return ALIGN_UP(MAX(last->start.v + last->len, MAP_RAM_ABOVE), GIB(1));
}

static void describe_platform(struct vm *vm)
{
	vm->acpi = (struct acpi_params){
		.cpus = vm->config->cpus.count,
		.cpus_max = vm->config->cpus.max,
		.ecam_base = MAP_ECAM_BASE,
		.ecam_len = MAP_ECAM_LEN,
		.pci32_base = MAP_PCI32_BASE,
		.pci32_len = MAP_PCI32_LEN,
		.pci64_base = pci64_base(vm),
		.pci64_len = MAP_PCI64_LEN,
		.io_base = PORT_PCI_IO_BASE,
		.io_len = PORT_PCI_IO_LEN,
		.generation_at = MAP_GENERATION_ID,
		.ioapic_base = MAP_IOAPIC_BASE,
		.lapic_base = MAP_LAPIC_BASE,
		.pm_port = PORT_ACPI_PM,
		.ged_port = PORT_ACPI_GED,
		.reset_port = PORT_RESET,
		.sci_gsi = GSI_SCI,
		.ged_gsi = GSI_GED,
	};
}

static int make_bus(struct vm *vm)
{
	vm->bus = bus_new();
	vm->doorbells = doorbells_new(vm->kvm);
	if (!vm->bus || !vm->doorbells)
		return -ENOMEM;
	vm->msi = interrupts_msi_sink(vm);
	return 0;
}

static int make_consoles(struct vm *vm)
{
	int r = console_new(vm->loop, &vm->serial_console);

	if (r == 0)
		r = console_new(vm->loop, &vm->virtio_console);
	if (r == 0)
		r = stream_hold_new(&vm->hold, vm->loop, LIMIT_CONSOLE_HOLD,
				    console_stream(vm->serial_console), &vm->serial_hold);
	if (r == 0)
		r = stream_hold_new(&vm->hold, vm->loop, LIMIT_CONSOLE_HOLD,
				    console_stream(vm->virtio_console), &vm->virtio_hold);
	return r;
}

/* A VM that arrives has its RAM, with the kernel in it, from where it ran before. */
static int finish_kernel(struct vm *vm, struct error *err)
{
	struct boot_entry entry;
	int r;

	if (vm->resources->arriving)
		return 0;
	r = kernel_load_finish(vm, &entry, err);
	if (r == 0)
		r = generation_publish(vm->generation, err);
	return r < 0 ? r : cpus_boot(vm, &entry);
}

/* The kernel is read in the background from the moment that there is memory, until the vCPUs need to know where
 * it starts. */
static int build(struct vm *vm, struct error *err)
{
	int r = make_memory(vm, err);

	if (r < 0)
		return r;
	describe_platform(vm);
	r = vm->resources->arriving ? 0 : kernel_load_begin(vm);
	if (r == 0)
		r = make_kvm(vm, err);
	if (r == 0)
		r = give_memory_to_kvm(vm, err);
	if (r == 0)
		r = make_bus(vm);
	if (r == 0)
		r = make_consoles(vm);
	if (r == 0)
		r = board_create(vm, err);
	if (r == 0)
		r = cpus_create(vm, err);
	return r < 0 ? r : finish_kernel(vm, err);
}

int vm_new(const struct vm_config *config, struct vm_resources *resources, struct loop *loop,
	   const struct log *log, const struct vm_events *events, struct vm **ret_vm,
	   struct error *err)
{
	struct vm *vm = calloc(1, sizeof(*vm));
	int r;

	if (!vm)
		return -ENOMEM;
	vm->config = config;
	vm->resources = resources;
	vm->loop = loop;
	vm->log = log;
	vm->events = *events;
	list_init(&vm->devices);
	quiesce_init(&vm->quiesce);
	hold_init(&vm->hold, loop_clock(loop), 1, false);
	r = lifecycle_init(vm);
	if (r == 0)
		r = build(vm, err);
	if (r < 0) {
		vm_free(vm);
		return error_set(err, r, EXIT_STATUS_FAILED, "cannot make the VM: %s",
				 strerror(-r));
	}
	*ret_vm = vm;
	return 0;
}

void vm_free(struct vm *vm)
{
	struct boot_entry unused;

	if (!vm)
		return;
	(void)!kernel_load_finish(vm, &unused,
				  NULL); /* memory must not go while it is being filled */
	lifecycle_stop_threads(vm);
	board_destroy(vm);
	cpus_free(vm);
	lifecycle_release(vm);
	stream_hold_free(vm->serial_hold);
	stream_hold_free(vm->virtio_hold);
	console_free(vm->serial_console);
	console_free(vm->virtio_console);
	doorbells_free(vm->doorbells);
	bus_free(vm->bus);
	memory_free(vm->memory);
	kvm_vm_free(vm->kvm);
	kvm_close(vm->kvm_system);
	hold_destroy(&vm->hold);
	quiesce_destroy(&vm->quiesce);
	free(vm);
}

struct device *vm_find_device(struct vm *vm, const char *name)
{
	struct list *item, *next;

	list_for_each(item, next, &vm->devices) {
		struct device *device = container_of(item, struct device, link);

		if (strcmp(device->name, name) == 0)
			return device;
	}
	return NULL;
}
