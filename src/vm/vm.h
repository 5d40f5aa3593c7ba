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

#include "base/hold.h"
#include "base/log.h"
#include "base/quiesce.h"
#include "boot/boot.h"
#include "bus/bus.h"
#include "bus/doorbell.h"
#include "bus/pci.h"
#include "cpu/state.h"
#include "cpu/vcpu.h"
#include "device/irqchip.h"
#include "device/stream_hold.h"
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

/* Who wants the VM to stand still: it runs when nobody does. */
enum vm_holder {
	VM_HELD_BY_USER = 1,	 /* vm_pause */
	VM_HELD_BY_DEBUGGER = 2, /* debug/ */
	VM_HELD_BY_WATCH = 4,	 /* watch/stop.h */
	VM_HELD_BY_MOVE = 8,	 /* move/guest/guest.h */
	VM_HELD_BY_PROTECT = 16, /* protect/guest/guest.h: it ends, once the record says so */
};

/* A debugger of the VM's vCPUs. */
struct vm_debugger {
	/* The vCPU's thread, outside the barrier: it ran into what kvm_vcpu_set_guest_debug asked for. True: it shall
	 * stay out of the guest, and `stopped` is called soon. */
	bool (*hit)(void *ctx, struct vcpu *vcpu, const struct kvm_debug_exit_arch *exit);
	/* Control thread: some vCPUs stay out of the guest since; the others still run. */
	void (*stopped)(void *ctx);
	void *ctx;
};

/* Who has vCPUs make single steps at certain places (watch --exact); not beside a debugger that is connected. */
struct vm_stepper {
	/* The vCPU's thread: it came to a breakpoint, or made a step. */
	void (*stepped)(void *ctx, struct vcpu *vcpu, const struct kvm_debug_exit_arch *exit);
	void *ctx;
};

/* What the VM tells its owner. Control thread. */
struct vm_events {
	/* The guest switched itself off. True: it ends by vm_end, later; may be NULL. */
	bool (*powered_off)(void *ctx);
	/* Before its threads are waited for; may be NULL. */
	void (*ending)(void *ctx, enum vm_end how, const char *why);
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
	struct vm_debugger debugger;	/* set by vm_set_debugger, before the threads */
	struct vm_stepper stepper;	/* changed inside the barrier; all NULL: nobody */
	struct vm_resources *resources; /* borrowed; its blocks and nets move to the devices */
	struct kvm_system *kvm_system;
	struct kvm_vm *kvm;
	struct memory *memory;
	struct bus *bus;
	struct doorbells *doorbells;
	struct pci_host *pci;
	struct irqchip *irqchip;
	struct device *power;
	struct device *generation;
	struct console *serial_console, *virtio_console;
	/* What it puts out passes here (base/hold.h); open but where it is protected. */
	struct hold hold;
	struct stream_hold *serial_hold, *virtio_hold; /* between console device and console */
	struct net *net_holds
		[LIMIT_NETS]; /* borrowed: of the devices; NULL: vhost, which cannot be held */
	struct block *mirrors[LIMIT_DISKS]; /* borrowed: of the devices; NULL: read-only */
	struct msi_sink msi;
	struct virtio_host virtio_host;
	struct kernel_loading *kernel_loading; /* while the kernel is read in the background */
	struct acpi_params acpi;
	enum dirty_backend dirty_backend;
	uint32_t n_vcpus;
	struct vcpu *vcpus[LIMIT_VCPUS];
	struct vcpu_layout cpu_layout;
	struct kvm_cpuid2 *cpuid; /* the boot vCPU's, as its guest sees it; a load may change it */
	struct vcpu_state
		*power_on[LIMIT_VCPUS];	  /* each vCPU's state before its first instruction */
	struct list devices;		  /* in the board's order */
	struct block *disks[LIMIT_DISKS]; /* borrowed: of the devices */

	/* Its own locks. */
	struct quiesce quiesce;

	/* Control thread only. */
	enum vm_status status;
	uint32_t holders;	 /* enum vm_holder, ORed: why it is paused */
	bool finishing;		 /* paused, but for its queue threads (vm_finish_requests) */
	bool waits;		 /* for memory (vm_wait) */
	bool debugged;		 /* a debugger is connected: breakpoints are its own */
	bool threads;		 /* vCPUs have threads now */
	struct loop_watch event; /* vCPU threads post here */
	struct loop_timer reset_poll;
	uint64_t saved_ns;	  /* the loop's clock at the moment of the last vm_save */
	uint64_t fault_logged_ns; /* when a triple fault was last told of */

	/* irqchip lock held. */
	struct msi_message routes[IRQCHIP_LINES]; /* as KVM knows them */

	bool ending; /* atomic: the threads are being ended: nobody holds them any longer */

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
 * -EALREADY when it is so already, -EBUSY during a reset and while a move holds it (what it then is, is in the state that goes
 * away), -ESHUTDOWN after the end. */
_must_check_ int vm_pause(struct vm *vm);
_must_check_ int vm_resume(struct vm *vm);

/* The same for one holder among others: the VM is paused from the first that holds it to the last that lets go. Before
 * vm_run it is then paused ahead of its first instruction. vm_resume lets go for the user, and is -EBUSY while others hold. */
_must_check_ int vm_hold(struct vm *vm, enum vm_holder holder);
_must_check_ int vm_let_go(struct vm *vm, enum vm_holder holder);
/* Of a paused VM: its queue threads go on, to finish the requests that they have, while its vCPUs stand as before; or they stand
 * again. It ends by itself with the next vm_hold, when it runs again, and with its end. Nothing on one that is not paused. */
void vm_finish_requests(struct vm *vm, bool finish);
/*
 * The vCPUs stand as long as the memory that some of them wait for does not come, or go on; unlike vm_hold this waits for none of them,
 * as one that stands in a page cannot stop anywhere else. Queue threads go on. The guest's clocks do too; they are told.
 */
void vm_wait(struct vm *vm, bool wait);
/* Before vm_start. What `debugger` needs outlives the vCPUs' threads. */
void vm_set_debugger(struct vm *vm, const struct vm_debugger *debugger);

/* Presses the power button: false when the guest does not listen (yet). */
bool vm_press_power_button(struct vm *vm);
/* Starts the guest again from power-on, as the guest's own reset does. */
_must_check_ int vm_reset(struct vm *vm);
/* Ends the VM: stops all threads, closes devices, reports `ended` once. */
void vm_end(struct vm *vm, enum vm_end how, const char *why);

const char *vm_status_name(enum vm_status status);
struct device *vm_find_device(struct vm *vm, const char *name);
