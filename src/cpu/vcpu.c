/* SPDX-License-Identifier: Apache-2.0 */
#include "cpu/vcpu.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"

/* The signal that interrupts KVM_RUN. Its handler does nothing: immediate_exit closes the race between the
 * test of a flag and the entry. */
#define KICK_SIGNAL SIGUSR1

struct vcpu {
	struct vcpu_host host;
	uint32_t index;
	struct kvm_vcpu *kvm;
	struct kvm_run *run;
	pthread_t thread;
	bool started;
	bool ending;	  /* atomic */
	bool pic_pending; /* atomic: the 8259's INTR line */
	int pic_vector;	  /* acknowledged and given to KVM last; -1: surely taken by the guest */
	pthread_mutex_t lock; /* guards the next two and `parked`'s changes; leaf */
	pthread_t self;	      /* the same thread, set by itself before it may be kicked */
	bool joined;	      /* a member of the barrier */
	bool kickable; /* `self` lives: a signal to a thread that was joined is not allowed */
	pthread_cond_t unparked;
	uint32_t parked;      /* atomic: enum vcpu_parker */
	bool stood;	      /* atomic: the guest's clock is to be told */
	uint64_t sleep_until; /* atomic: ns of clock_host; 0: awake */
	bool held;	      /* atomic: in the middle of an access */
	uint64_t exits;	      /* atomic: written by the vCPU's thread, read by any */
	struct quiesce_member member;
};

static void ignore_signal(int number _unused_)
{
}

static void install_kick_signal(void)
{
	struct sigaction action = { .sa_handler = ignore_signal };

	sigemptyset(&action.sa_mask);
	sigaction(KICK_SIGNAL, &action, NULL);
}

void vcpu_kick(struct vcpu *vcpu)
{
	__atomic_store_n(&vcpu->run->immediate_exit, 1, __ATOMIC_SEQ_CST);
	pthread_mutex_lock(&vcpu->lock);
	if (vcpu->kickable && !pthread_equal(vcpu->self, pthread_self()))
		pthread_kill(vcpu->self, KICK_SIGNAL);
	pthread_cond_broadcast(&vcpu->unparked);
	pthread_mutex_unlock(&vcpu->lock);
}

void vcpu_set_pic(struct vcpu *vcpu, bool asserted)
{
	__atomic_store_n(&vcpu->pic_pending, asserted, __ATOMIC_SEQ_CST);
	if (asserted)
		vcpu_kick(vcpu);
}

void vcpu_park(struct vcpu *vcpu, enum vcpu_parker who, bool park)
{
	if (park)
		__atomic_fetch_or(&vcpu->parked, who, __ATOMIC_SEQ_CST);
	else
		__atomic_fetch_and(&vcpu->parked, ~(uint32_t)who, __ATOMIC_SEQ_CST);
	vcpu_kick(vcpu);
}

void vcpu_tell_stood(struct vcpu *vcpu)
{
	__atomic_store_n(&vcpu->stood, true, __ATOMIC_SEQ_CST);
}

void vcpu_sleep(struct vcpu *vcpu, uint64_t until_ns)
{
	__atomic_store_n(&vcpu->sleep_until, until_ns, __ATOMIC_SEQ_CST);
	vcpu_kick(vcpu);
}

static void kick_member(void *owner)
{
	vcpu_kick(owner);
}

int vcpu_new(const struct vcpu_host *host, uint32_t index, const struct kvm_cpuid2 *cpuid,
	     struct vcpu **ret_vcpu, struct error *err)
{
	struct vcpu *vcpu = calloc(1, sizeof(*vcpu));
	int r;

	if (!vcpu)
		return -ENOMEM;
	vcpu->host = *host;
	vcpu->index = index;
	vcpu->pic_vector = -1;
	pthread_mutex_init(&vcpu->lock, NULL);
	pthread_cond_init(&vcpu->unparked, NULL);
	vcpu->member = (struct quiesce_member){
		.kind = QUIESCE_VCPU,
		.owner = vcpu,
		.kick = kick_member,
	};
	r = kvm_vcpu_new(host->kvm, index, &vcpu->kvm);
	if (r == 0)
		r = kvm_vcpu_set_cpuid(vcpu->kvm, cpuid);
	if (r == 0)
		r = memory_dirty_add_vcpu(host->memory, vcpu->kvm);
	if (r < 0) {
		vcpu_free(vcpu);
		return error_set(err, r, EXIT_STATUS_HOST, "--cpus: cannot make vCPU %u: %s", index,
				 strerror(-r));
	}
	vcpu->run = kvm_vcpu_run_page(vcpu->kvm);
	*ret_vcpu = vcpu;
	return 0;
}

void vcpu_free(struct vcpu *vcpu)
{
	if (!vcpu)
		return;
	kvm_vcpu_free(vcpu->kvm);
	pthread_cond_destroy(&vcpu->unparked);
	pthread_mutex_destroy(&vcpu->lock);
	free(vcpu);
}

int vcpu_clock(struct vcpu *vcpu, clockid_t *ret_clock)
{
	int r = -ESRCH;

	pthread_mutex_lock(&vcpu->lock);
	if (vcpu->kickable)
		r = -pthread_getcpuclockid(vcpu->self, ret_clock);
	pthread_mutex_unlock(&vcpu->lock);
	return r;
}

struct kvm_vcpu *vcpu_kvm(struct vcpu *vcpu)
{
	return vcpu->kvm;
}

uint32_t vcpu_index(const struct vcpu *vcpu)
{
	return vcpu->index;
}

uint64_t vcpu_exits(const struct vcpu *vcpu)
{
	return __atomic_load_n(&vcpu->exits, __ATOMIC_RELAXED);
}

/* A value of 1, 2, 4 or 8 bytes in the run page. */
static uint64_t value_load(const void *p, unsigned int size)
{
	uint64_t value = 0;

	memcpy(&value, p, size);
	return value;
}

/* Each element of a string access is an access of its own; `repeat` counts them. */
static void handle_io(struct vcpu *vcpu)
{
	struct kvm_run *run = vcpu->run;
	struct vcpu_exit exit = { .run = run, .vcpu = vcpu };
	uint8_t *data = (uint8_t *)run + run->io.data_offset;
	struct bus_access access = {
		.space = BUS_PIO,
		.write = run->io.direction == KVM_EXIT_IO_OUT,
		.size = run->io.size,
		.vcpu = vcpu->index,
		.address = run->io.port,
		.exit = &exit,
	};

	for (; access.repeat < run->io.count; access.repeat++, data += access.size) {
		if (access.write)
			access.data = value_load(data, access.size);
		bus_dispatch(vcpu->host.bus, &access);
		if (!access.write)
			memcpy(data, &access.data, access.size);
	}
}

static void handle_mmio(struct vcpu *vcpu)
{
	struct kvm_run *run = vcpu->run;
	struct vcpu_exit exit = { .run = run, .vcpu = vcpu };
	struct bus_access access = {
		.space = BUS_MMIO,
		.write = run->mmio.is_write,
		.size = (uint8_t)run->mmio.len,
		.vcpu = vcpu->index,
		.address = run->mmio.phys_addr,
		.exit = &exit,
	};

	/* KVM splits an access at pages and into at most 8 bytes; lengths between the powers of two (an
	 * unaligned access across a page) are taken byte by byte. */
	if (access.size == 1 || access.size == 2 || access.size == 4 || access.size == 8) {
		if (access.write)
			access.data = value_load(run->mmio.data, access.size);
		bus_dispatch(vcpu->host.bus, &access);
		if (!access.write)
			memcpy(run->mmio.data, &access.data, access.size);
		return;
	}
	access.size = 1;
	for (uint32_t i = 0; i < run->mmio.len && i < sizeof(run->mmio.data); i++) {
		access.address = run->mmio.phys_addr + i;
		access.data = run->mmio.data[i];
		bus_dispatch(vcpu->host.bus, &access);
		if (!access.write)
			run->mmio.data[i] = (uint8_t)access.data;
	}
}

static void fail(struct vcpu *vcpu, int code, const char *what)
{
	__atomic_store_n(&vcpu->ending, true, __ATOMIC_RELEASE);
	vcpu->host.failed(vcpu->host.ctx, vcpu->index, code, what);
}

/* The guest's own end. What KVM would run if it were entered again is undefined (SVM starts at the reset vector,
 * where nothing is): the vCPU parks itself until the reset lets it go on. */
static void end(struct vcpu *vcpu, enum vcpu_end how)
{
	vcpu_park(vcpu, PARKED_BY_VM, true);
	vcpu->host.ended(vcpu->host.ctx, vcpu->index, how);
}

static void handle_exit(struct vcpu *vcpu)
{
	struct kvm_run *run = vcpu->run;

	switch (run->exit_reason) {
	case KVM_EXIT_IO:
		handle_io(vcpu);
		break;
	case KVM_EXIT_MMIO:
		handle_mmio(vcpu);
		break;
	case KVM_EXIT_IOAPIC_EOI:
		vcpu->host.eoi(vcpu->host.ctx, run->eoi.vector);
		break;
	case KVM_EXIT_DIRTY_RING_FULL:
		if (memory_dirty_ring_full(vcpu->host.memory, vcpu->kvm) < 0)
			fail(vcpu, -EIO, "the dirty ring cannot be emptied");
		break;
	case KVM_EXIT_IRQ_WINDOW_OPEN:
	case KVM_EXIT_INTR:
		break;
	case KVM_EXIT_SHUTDOWN:
		/* A triple fault is how many kernels reboot: a PC resets. */
		end(vcpu, VCPU_END_TRIPLE_FAULT);
		break;
	case KVM_EXIT_SYSTEM_EVENT:
		end(vcpu, run->system_event.type == KVM_SYSTEM_EVENT_RESET ? VCPU_END_RESET
									   : VCPU_END_POWER_OFF);
		break;
	case KVM_EXIT_DEBUG:
		if (vcpu->host.debug(vcpu->host.ctx, vcpu, &run->debug.arch))
			vcpu_park(vcpu, PARKED_BY_DEBUGGER, true);
		break;
	case KVM_EXIT_FAIL_ENTRY:
		fail(vcpu, -EINVAL, "KVM could not enter the guest (hardware entry failure)");
		break;
	case KVM_EXIT_INTERNAL_ERROR:
		fail(vcpu, -EIO, "KVM could not emulate an instruction of the guest");
		break;
	default:
		fail(vcpu, -EPROTO, "KVM gave an exit that this program does not know");
	}
}

/* The 8259's INTR line reaches the boot vCPU (virtual wire); with a split irqchip we deliver it. */
static void deliver_pic(struct vcpu *vcpu)
{
	struct kvm_run *run = vcpu->run;
	int vector;

	run->request_interrupt_window = 0;
	if (!__atomic_load_n(&vcpu->pic_pending, __ATOMIC_ACQUIRE))
		return;
	if (!run->ready_for_interrupt_injection) {
		run->request_interrupt_window = 1;
		return;
	}
	vcpu->pic_vector = vector = vcpu->host.pic_acknowledge(vcpu->host.ctx);
	if (vector >= 0 && kvm_vcpu_interrupt(vcpu->kvm, (uint32_t)vector) < 0)
		fail(vcpu, -EIO, "KVM refused an interrupt of the 8259");
	run->request_interrupt_window = __atomic_load_n(&vcpu->pic_pending, __ATOMIC_ACQUIRE);
}

/* KVM is ready for the next vector only when it has none that waits; with interrupts disabled, the guest is in the
 * handler. An event that is half delivered is in the events themselves. */
int vcpu_waiting_vector(const struct vcpu *vcpu)
{
	if (vcpu->run->ready_for_interrupt_injection || !vcpu->run->if_flag)
		return -1;
	return vcpu->pic_vector;
}

/* State is consistent only after the pending access completed, which happens on entry: enter with
 * immediate_exit set and come straight back. */
static void complete_access(struct vcpu *vcpu)
{
	__atomic_store_n(&vcpu->run->immediate_exit, 1, __ATOMIC_SEQ_CST);
	while (kvm_vcpu_run(vcpu->kvm) == 0)
		handle_exit(vcpu); /* the second half of an access that takes two exits */
}

static bool stopping(const struct vcpu *vcpu)
{
	return __atomic_load_n(&vcpu->ending, __ATOMIC_ACQUIRE);
}

/* When to wake, 0: now or never slept. What is over is forgotten, if it is still that. */
static uint64_t sleeps_until(struct vcpu *vcpu)
{
	uint64_t until = __atomic_load_n(&vcpu->sleep_until, __ATOMIC_SEQ_CST);

	if (!until || clock_now(&clock_host) < until)
		return until;
	__atomic_compare_exchange_n(&vcpu->sleep_until, &until, 0, false, __ATOMIC_SEQ_CST,
				    __ATOMIC_SEQ_CST);
	return 0;
}

static void wait_unparked_until(struct vcpu *vcpu, uint64_t until_ns)
{
	const struct timespec until = {
		.tv_sec = (time_t)(until_ns / NSEC_PER_SEC),
		.tv_nsec = (long)(until_ns % NSEC_PER_SEC),
	};

	(void)pthread_cond_clockwait(&vcpu->unparked, &vcpu->lock, CLOCK_MONOTONIC, &until);
}

/* Parked or asleep: waits outside KVM_RUN, but still as a member that the barrier can stop. */
static void wait_parked(struct vcpu *vcpu)
{
	pthread_mutex_lock(&vcpu->lock);
	while (!stopping(vcpu) && !quiesce_requested(vcpu->host.quiesce)) {
		uint64_t until = sleeps_until(vcpu);

		if (__atomic_load_n(&vcpu->parked, __ATOMIC_SEQ_CST))
			pthread_cond_wait(&vcpu->unparked, &vcpu->lock);
		else if (until)
			wait_unparked_until(vcpu, until);
		else
			break;
	}
	pthread_mutex_unlock(&vcpu->lock);
}

void vcpu_hold(struct vcpu *vcpu, bool (*held)(void *ctx), void *ctx)
{
	__atomic_store_n(&vcpu->held, true, __ATOMIC_SEQ_CST);
	for (bool more = true; more; more = held(ctx) && !stopping(vcpu)) {
		quiesce_point(vcpu->host.quiesce, &vcpu->member);
		pthread_mutex_lock(&vcpu->lock);
		while (held(ctx) && !stopping(vcpu) && !quiesce_requested(vcpu->host.quiesce))
			pthread_cond_wait(&vcpu->unparked, &vcpu->lock);
		pthread_mutex_unlock(&vcpu->lock);
	}
	__atomic_store_n(&vcpu->held, false, __ATOMIC_SEQ_CST);
}

bool vcpu_is_held(const struct vcpu *vcpu)
{
	return __atomic_load_n(&vcpu->held, __ATOMIC_SEQ_CST);
}

static bool wanted(struct vcpu *vcpu)
{
	return quiesce_requested(vcpu->host.quiesce) || stopping(vcpu) ||
	       __atomic_load_n(&vcpu->parked, __ATOMIC_SEQ_CST) || sleeps_until(vcpu);
}

/* Kicked. The flag is cleared first and the reasons are looked at after, so that a kick from now on is seen
 * by the next entry. */
static void take_kick(struct vcpu *vcpu)
{
	__atomic_store_n(&vcpu->run->immediate_exit, 0, __ATOMIC_SEQ_CST);
	while (wanted(vcpu) && !stopping(vcpu)) {
		complete_access(vcpu);
		__atomic_store_n(&vcpu->run->immediate_exit, 0, __ATOMIC_SEQ_CST);
		quiesce_point(vcpu->host.quiesce, &vcpu->member);
		wait_parked(vcpu);
	}
	if (__atomic_exchange_n(&vcpu->stood, false, __ATOMIC_SEQ_CST))
		(void)!kvm_vcpu_kvmclock_ctrl(vcpu->kvm);
}

static void run_loop(struct vcpu *vcpu)
{
	while (!stopping(vcpu)) {
		int r;

		if (__atomic_load_n(&vcpu->run->immediate_exit, __ATOMIC_ACQUIRE)) {
			take_kick(vcpu);
			continue; /* the kick may have been vcpu_stop's */
		}
		if (vcpu->index == 0)
			deliver_pic(vcpu);
		r = kvm_vcpu_run(vcpu->kvm);
		if (r == 0) {
			__atomic_store_n(&vcpu->exits, vcpu->exits + 1, __ATOMIC_RELAXED);
			handle_exit(vcpu);
		} else if (r != -EINTR && r != -EAGAIN) {
			fail(vcpu, r, "KVM_RUN failed");
		}
	}
}

/* The vCPU's own thread: another vCPU's interrupt may kick this one at any moment. */
static void set_kickable(struct vcpu *vcpu, bool kickable)
{
	pthread_mutex_lock(&vcpu->lock);
	vcpu->self = pthread_self();
	vcpu->kickable = kickable;
	pthread_mutex_unlock(&vcpu->lock);
}

void vcpu_wait_joined(struct vcpu *vcpu)
{
	pthread_mutex_lock(&vcpu->lock);
	while (!vcpu->joined)
		pthread_cond_wait(&vcpu->unparked, &vcpu->lock);
	pthread_mutex_unlock(&vcpu->lock);
}

static void tell_joined(struct vcpu *vcpu)
{
	pthread_mutex_lock(&vcpu->lock);
	vcpu->joined = true;
	pthread_cond_broadcast(&vcpu->unparked);
	pthread_mutex_unlock(&vcpu->lock);
}

static void *vcpu_main(void *arg)
{
	struct vcpu *vcpu = arg;

	set_kickable(vcpu, true);
	quiesce_join(vcpu->host.quiesce, &vcpu->member);
	tell_joined(vcpu);
	/* One that came before the thread could be signalled, or a park from the start. */
	take_kick(vcpu);
	run_loop(vcpu);
	quiesce_leave(vcpu->host.quiesce, &vcpu->member);
	set_kickable(vcpu, false);
	return NULL;
}

int vcpu_start(struct vcpu *vcpu, const struct thread_entry *entry)
{
	char name[16];
	int r;

	snprintf(name, sizeof(name), "vcpu%u", vcpu->index);
	install_kick_signal();
	r = thread_start(name, entry, vcpu_main, vcpu, &vcpu->thread);
	vcpu->started = r == 0;
	return r;
}

void vcpu_stop(struct vcpu *vcpu)
{
	if (!vcpu->started)
		return;
	__atomic_store_n(&vcpu->ending, true, __ATOMIC_RELEASE);
	vcpu_kick(vcpu);
	pthread_join(vcpu->thread, NULL);
	vcpu->started = false;
}
