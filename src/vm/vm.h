/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * One virtual machine: everything hangs from this struct, so that several live in one process.
 *
 * Threads and what each may touch:
 *   control   the loop: commands, console, timers of PIT, RTC and power. Never guest RAM.
 *   vcpuN     KVM_RUN and, by exits, every device's registers (under the device's lock); guest RAM.
 *   queue     one per worker of a virtio device: its queues, its back end; guest RAM.
 */

#include "base/log.h"
#include "base/quiesce.h"
#include "boot/boot.h"
#include "bus/bus.h"
#include "bus/doorbell.h"
#include "bus/pci.h"
#include "cpu/state.h"
#include "cpu/vcpu.h"
#include "device/irqchip.h"
#include "kvm/kvm.h"
#include "memory/memory.h"
#include "virtio/virtio.h"
#include "vm/config.h"
#include "vm/console.h"
#include "vm/resources.h"

enum vm_status { VM_CREATED, VM_RUNNING, VM_PAUSED, VM_RESETTING, VM_ENDED };

enum vm_end {
	VM_END_POWER_OFF, /* the guest switched itself off */
	VM_END_FORCED,	  /* vm_end was called */
	VM_END_FAILED,	  /* a vCPU cannot go on */
};

/* What the VM tells its owner. Control thread. */
struct vm_events {
	void (*ended)(void *ctx, enum vm_end how, const char *why);
	/* "running", "paused", "resumed", "reset": for the event stream. */
	void (*changed)(void *ctx, const char *what);
	void *ctx;
};

/* The sandbox's step for each kind of thread; NULL entries: none. */
struct vm_thread_entry {
	struct thread_entry vcpu, worker;
};

struct vm {
	/* Set by vm_new, constant afterwards. */
	const struct vm_config *config; /* borrowed */
	const struct log *log;		/* borrowed */
	struct loop *loop;		/* the control loop; borrowed */
	struct vm_events events;
	struct vm_resources *resources; /* borrowed; its blocks and nets move to the devices */
	struct kvm_system *kvm_system;
	struct kvm_vm *kvm;
	struct memory *memory;
	struct bus *bus;
	struct doorbells *doorbells;
	struct pci_host *pci;
	struct irqchip *irqchip;
	struct device *power;
	struct console *serial_console, *virtio_console;
	struct msi_sink msi;
	struct virtio_host virtio_host;
	struct kernel_loading *kernel_loading; /* while the kernel is read in the background */
	struct acpi_params acpi;
	enum dirty_backend dirty_backend;
	uint32_t n_vcpus;
	struct vcpu *vcpus[LIMIT_VCPUS];
	struct vcpu_layout cpu_layout;
	struct vcpu_state
		*power_on[LIMIT_VCPUS]; /* each vCPU's state before its first instruction */
	struct list devices;		/* in the board's order */

	/* Its own locks. */
	struct quiesce quiesce;

	/* Control thread only. */
	enum vm_status status;
	bool threads;		 /* vCPUs have threads now */
	struct loop_watch event; /* vCPU threads post here */
	struct loop_timer reset_poll;
	uint64_t fault_logged_ns; /* when a triple fault was last told of */

	/* irqchip lock held. */
	struct msi_message routes[IRQCHIP_LINES]; /* as KVM knows them */

	/* Posted by vCPU threads; atomic. */
	uint32_t posted;     /* bits: vm_posted */
	const char *failure; /* one line, static text */
	uint32_t failed_vcpu;
	int failure_code;
};

/* Makes everything but the threads: KVM objects, memory, devices, the loaded kernel. `resources` was opened for
 * `config`. On failure nothing is left. Control thread, before the sandbox closes. */
_must_check_ int vm_new(const struct vm_config *config, struct vm_resources *resources,
			struct loop *loop, const struct log *log, const struct vm_events *events,
			struct vm **ret_vm, struct error *err);
/* Stops all threads and frees all. NULL is accepted. Not while paused by the barrier of another. */
void vm_free(struct vm *vm);

/* Starts all threads, each entering its sandbox; the vCPUs stay parked until vm_run, so that the control
 * thread can close its own sandbox before the guest's first instruction. */
_must_check_ int vm_start(struct vm *vm, const struct vm_thread_entry *entry, struct error *err);
void vm_run(struct vm *vm);

/* Control thread. Pausing stops every writer of guest memory and returns when all stand still.
 * -EALREADY when it is so already, -EBUSY during a reset, -ESHUTDOWN after the end. */
_must_check_ int vm_pause(struct vm *vm);
_must_check_ int vm_resume(struct vm *vm);

/* Presses the power button: false when the guest does not listen (yet). */
bool vm_press_power_button(struct vm *vm);
/* Starts the guest again from power-on, as the guest's own reset does. */
_must_check_ int vm_reset(struct vm *vm);
/* Ends the VM: stops all threads, closes devices, reports `ended` once. */
void vm_end(struct vm *vm, enum vm_end how, const char *why);

const char *vm_status_name(enum vm_status status);
struct device *vm_find_device(struct vm *vm, const char *name);
