/* SPDX-License-Identifier: Apache-2.0 */
#include "debug/gdb_target_internal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "vm/cpus.h"

#define MSR_KERNEL_GS_BASE 0xc0000102
#define XSTATE_BV 512 /* offset in the XSAVE area; Intel SDM 1, 13.4.2 */
#define XSTATE_X87_SSE 3
#define KERNEL_HALF (1ULL << 63) /* addresses that every process maps alike */

void gdb_target_init(struct gdb_target *target, struct vm *vm)
{
	memset(target, 0, sizeof(*target));
	target->vm = vm;
	for (uint32_t i = 0; i < LIMIT_VCPUS; i++)
		target->actions[i] = GDB_RUN;
	/* Where KVM can, a step does not end in the handler of an interrupt that waited. */
	target->step_flags = (uint32_t)kvm_check(vm->kvm_system, KVM_CAP_SET_GUEST_DEBUG2) &
			     KVM_GUESTDBG_BLOCKIRQ;
}

static void run_job(void *owner, void *arg)
{
	struct gdb_job *job = arg;

	if (vcpu_index(owner) == job->vcpu)
		job->result = job->work(job, vcpu_kvm(owner));
}

ssize_t gdb_job_run(struct gdb_job *job)
{
	cpus_run(job->target->vm, run_job, job);
	return job->result;
}

/* Registers */

static int xsave_get(const struct gdb_target *target, struct kvm_vcpu *kvm, uint8_t **ret_area)
{
	const size_t size = target->vm->cpu_layout.xsave_len;
	uint8_t *area = malloc(size);
	int r = area ? kvm_vcpu_get_xsave(kvm, area, size) : -ENOMEM;

	if (r < 0)
		free(area);
	else
		*ret_area = area;
	return r;
}

struct one_msr {
	struct kvm_msrs header;
	struct kvm_msr_entry entry;
};

static int msr_get(struct kvm_vcpu *kvm, uint32_t index, uint64_t *ret_value)
{
	struct one_msr msr = { .header.nmsrs = 1, .entry.index = index };
	int r = kvm_vcpu_get_msrs(kvm, &msr.header);

	if (r != 1)
		return r < 0 ? r : -EIO;
	*ret_value = msr.entry.data;
	return 0;
}

static int msr_set(struct kvm_vcpu *kvm, uint32_t index, uint64_t value)
{
	struct one_msr msr = { .header.nmsrs = 1, .entry = { .index = index, .data = value } };
	int r = kvm_vcpu_set_msrs(kvm, &msr.header);

	return r == 1 ? 0 : r < 0 ? r : -EINVAL;
}

static int get_all(const struct gdb_target *target, struct kvm_vcpu *kvm,
		   struct gdb_registers *ret_registers)
{
	_cleanup_(freep) uint8_t *area = NULL;
	struct kvm_mp_state mp_state;
	int r = kvm_vcpu_get_regs(kvm, &ret_registers->regs);

	if (r == 0)
		r = kvm_vcpu_get_sregs(kvm, &ret_registers->sregs);
	if (r == 0)
		r = msr_get(kvm, MSR_KERNEL_GS_BASE, &ret_registers->kernel_gs_base);
	if (r == 0)
		r = kvm_vcpu_get_mp_state(kvm, &mp_state);
	if (r == 0)
		r = xsave_get(target, kvm, &area);
	if (r < 0)
		return r;
	ret_registers->mp_state = mp_state.mp_state;
	memcpy(ret_registers->fpu, area, GDB_FPU_BYTES);
	return 0;
}

static int work_get(struct gdb_job *job, struct kvm_vcpu *kvm)
{
	return get_all(job->target, kvm, job->data);
}

int gdb_target_get_registers(struct gdb_target *target, uint32_t vcpu,
			     struct gdb_registers *ret_registers)
{
	struct gdb_job job = {
		.target = target, .vcpu = vcpu, .work = work_get, .data = ret_registers
	};

	memset(ret_registers, 0, sizeof(*ret_registers));
	return (int)gdb_job_run(&job);
}

/* A part that XSTATE_BV calls unused is not loaded from the area. */
static int fpu_set(const struct gdb_target *target, struct kvm_vcpu *kvm, const uint8_t *fpu)
{
	_cleanup_(freep) uint8_t *area = NULL;
	int r = xsave_get(target, kvm, &area);

	if (r < 0)
		return r;
	memcpy(area, fpu, GDB_FPU_BYTES);
	area[XSTATE_BV] |= XSTATE_X87_SSE;
	return kvm_vcpu_set_xsave(kvm, area, target->vm->cpu_layout.xsave_len);
}

/* Only what differs: each of KVM's calls has effects of its own. */
static int work_set(struct gdb_job *job, struct kvm_vcpu *kvm)
{
	const struct gdb_registers *to = job->data;
	struct gdb_registers from = { 0 };
	int r = get_all(job->target, kvm, &from);

	if (r == 0 && memcmp(&from.sregs, &to->sregs, sizeof(to->sregs)) != 0)
		r = kvm_vcpu_set_sregs(kvm, &to->sregs);
	if (r == 0 && memcmp(&from.regs, &to->regs, sizeof(to->regs)) != 0)
		r = kvm_vcpu_set_regs(kvm, &to->regs);
	if (r == 0 && from.kernel_gs_base != to->kernel_gs_base)
		r = msr_set(kvm, MSR_KERNEL_GS_BASE, to->kernel_gs_base);
	if (r == 0 && memcmp(from.fpu, to->fpu, GDB_FPU_BYTES) != 0)
		r = fpu_set(job->target, kvm, to->fpu);
	return r;
}

int gdb_target_set_registers(struct gdb_target *target, uint32_t vcpu,
			     const struct gdb_registers *registers)
{
	struct gdb_registers copy = *registers;
	struct gdb_job job = { .target = target, .vcpu = vcpu, .work = work_set, .data = &copy };

	return (int)gdb_job_run(&job);
}

/* Memory */

int gdb_job_translate(const struct gdb_job *job, struct kvm_vcpu *kvm, uint64_t address,
		      gpa_t *ret_at)
{
	int r;

	if (job->access->physical) {
		*ret_at = gpa(address);
		return 0;
	}
	r = kvm_vcpu_translate(kvm, address, &ret_at->v);
	return r < 0 ? -EFAULT : 0;
}

/* What the guest would see there: our INT3s are not in it. */
static void hide_breakpoints(const struct gdb_target *target, gpa_t at, uint8_t *bytes, size_t len)
{
	for (size_t i = 0; i < target->n_software; i++) {
		const struct gdb_software *bp = &target->software[i];

		if (bp->at.v >= at.v && bp->at.v - at.v < len && bytes[bp->at.v - at.v] == GDB_INT3)
			bytes[bp->at.v - at.v] = bp->byte;
	}
}

static int read_piece(struct gdb_job *job, gpa_t at, uint8_t *bytes, size_t len)
{
	int r = memory_read(job->target->vm->memory, at, bytes, len);

	if (r == 0)
		hide_breakpoints(job->target, at, bytes, len);
	return r;
}

/* New code under a breakpoint: the breakpoint stays, and what it hides is the new byte. */
static int write_piece(struct gdb_job *job, gpa_t at, uint8_t *bytes, size_t len)
{
	struct gdb_target *target = job->target;
	uint8_t page[MEMORY_PAGE_SIZE];

	if (!memory_contains(target->vm->memory, at, len))
		return -EFAULT;
	memcpy(page, bytes, len);
	for (size_t i = 0; i < target->n_software; i++) {
		struct gdb_software *bp = &target->software[i];

		if (bp->at.v >= at.v && bp->at.v - at.v < len) {
			bp->byte = bytes[bp->at.v - at.v];
			page[bp->at.v - at.v] = GDB_INT3;
		}
	}
	return memory_write(target->vm->memory, at, page, len);
}

/* Page by page, as each may lie elsewhere; how many bytes went well. */
static ssize_t each_page(struct gdb_job *job, struct kvm_vcpu *kvm,
			 int (*piece)(struct gdb_job *job, gpa_t at, uint8_t *bytes, size_t len))
{
	const struct gdb_access *access = job->access;
	size_t done = 0;

	while (done < access->len) {
		uint64_t address = access->address + done;
		size_t len = MIN(access->len - done, MEMORY_PAGE_SIZE - address % MEMORY_PAGE_SIZE);
		gpa_t at;
		int r = gdb_job_translate(job, kvm, address, &at);

		if (r == 0)
			r = piece(job, at, (uint8_t *)job->data + done, len);
		if (r < 0)
			return done ? (ssize_t)done : r;
		done += len;
	}
	return (ssize_t)done;
}

static int work_read(struct gdb_job *job, struct kvm_vcpu *kvm)
{
	return (int)each_page(job, kvm, read_piece);
}

static int work_write(struct gdb_job *job, struct kvm_vcpu *kvm)
{
	return (int)each_page(job, kvm, write_piece);
}

/* A kernel's own addresses are the same on all vCPUs, but one that runs a program may have tables without them. */
ssize_t gdb_job_access(struct gdb_target *target, const struct gdb_access *access,
		       int (*work)(struct gdb_job *job, struct kvm_vcpu *kvm), void *buf)
{
	struct gdb_job job = {
		.target = target, .vcpu = access->vcpu, .work = work, .data = buf, .access = access
	};
	ssize_t n = gdb_job_run(&job);

	for (uint32_t i = 0; n == -EFAULT && i < target->vm->n_vcpus; i++) {
		if (access->physical || !(access->address & KERNEL_HALF))
			break;
		job.vcpu = i;
		n = gdb_job_run(&job);
	}
	return n;
}

ssize_t gdb_target_read(struct gdb_target *target, const struct gdb_access *access, void *buf)
{
	return gdb_job_access(target, access, work_read, buf);
}

int gdb_target_write(struct gdb_target *target, const struct gdb_access *access, const void *buf)
{
	ssize_t n = gdb_job_access(target, access, work_write, (void *)buf);

	return n == (ssize_t)access->len ? 0 : n < 0 ? (int)n : -EFAULT;
}
