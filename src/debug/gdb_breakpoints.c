/* SPDX-License-Identifier: Apache-2.0 */

/* Breakpoints and watchpoints: debug registers, and INT3s in the guest's code. */

#include <errno.h>
#include <string.h>

#include "debug/gdb_target_internal.h"

#define DR7_FIXED (1ULL << 10)

/* INT3 */

static struct gdb_software *find_software(struct gdb_target *target, uint64_t linear)
{
	for (size_t i = 0; i < target->n_software; i++)
		if (target->software[i].linear == linear)
			return &target->software[i];
	return NULL;
}

const struct gdb_software *gdb_breakpoint_at(const struct gdb_target *target, gpa_t at)
{
	for (size_t i = 0; i < target->n_software; i++)
		if (target->software[i].at.v == at.v)
			return &target->software[i];
	return NULL;
}

static int work_insert(struct gdb_job *job, struct kvm_vcpu *kvm)
{
	struct gdb_target *target = job->target;
	struct gdb_software bp = { .linear = job->access->address };
	const struct gdb_software *same;
	uint8_t int3 = GDB_INT3;
	int r = gdb_job_translate(job, kvm, bp.linear, &bp.at);

	if (r == 0)
		r = memory_read(target->vm->memory, bp.at, &bp.byte, 1);
	same = r == 0 ? gdb_breakpoint_at(target, bp.at) : NULL;
	if (same) /* the same page under another address */
		bp.byte = same->byte;
	if (r == 0)
		r = memory_write(target->vm->memory, bp.at, &int3, 1);
	if (r == 0)
		target->software[target->n_software++] = bp;
	return r;
}

/* The guest may have written there since (a reset does): then its byte stays. */
static int work_restore(struct gdb_job *job, struct kvm_vcpu *kvm _unused_)
{
	struct memory *memory = job->target->vm->memory;
	const struct gdb_software *bp = job->data;
	uint8_t byte;
	int r = memory_read(memory, bp->at, &byte, 1);

	if (r < 0 || byte != GDB_INT3)
		return r;
	return memory_write(memory, bp->at, &bp->byte, 1);
}

static int remove_software(struct gdb_target *target, struct gdb_software *bp)
{
	struct gdb_software old = *bp;
	struct gdb_job job = { .target = target, .work = work_restore, .data = &old };

	*bp = target->software[--target->n_software];
	return gdb_breakpoint_at(target, old.at) ? 0 : (int)gdb_job_run(&job);
}

static int insert_int3(struct gdb_target *target, const struct gdb_access *where)
{
	if (target->n_software == LIMIT_BREAKPOINTS)
		return -ENOSPC;
	return (int)gdb_job_access(target, where, work_insert, NULL);
}

/* Debug registers */

static struct gdb_hardware *find_hardware(struct gdb_target *target, enum gdb_breakpoint type,
					  uint64_t address, size_t len)
{
	for (int i = 0; i < GDB_HARDWARE_SLOTS; i++) {
		struct gdb_hardware *bp = &target->hardware[i];

		if (bp->len && bp->type == type && bp->address == address && bp->len == len)
			return bp;
	}
	return NULL;
}

static struct gdb_hardware *find_free(struct gdb_target *target)
{
	for (int i = 0; i < GDB_HARDWARE_SLOTS; i++)
		if (!target->hardware[i].len)
			return &target->hardware[i];
	return NULL;
}

/* A software breakpoint that has a register becomes an INT3, for one that cannot do without. */
static struct gdb_hardware *make_free(struct gdb_target *target, uint32_t vcpu)
{
	for (int i = 0; i < GDB_HARDWARE_SLOTS; i++) {
		struct gdb_hardware *bp = &target->hardware[i];
		const struct gdb_access where = { .vcpu = vcpu, .address = bp->address };

		if (bp->type != GDB_BREAKPOINT_SOFTWARE || insert_int3(target, &where) < 0)
			continue;
		bp->len = 0;
		return bp;
	}
	return NULL;
}

/* A debug register, as long as one is free: the guest's memory stays as it is, and code that is not there yet (a kernel
 * before it unpacks itself, before its page tables) can have one too. */
static int set_software(struct gdb_target *target, bool insert, const struct gdb_access *where)
{
	struct gdb_hardware *slot = find_hardware(target, GDB_BREAKPOINT_SOFTWARE, where->address,
						  1);
	struct gdb_software *bp = find_software(target, where->address);

	if (!insert && slot)
		slot->len = 0;
	if (!insert)
		return bp ? remove_software(target, bp) : 0;
	if (slot || bp)
		return 0;
	slot = find_free(target);
	if (!slot)
		return insert_int3(target, where);
	*slot = (struct gdb_hardware){ GDB_BREAKPOINT_SOFTWARE, where->address, 1 };
	return 0;
}

/* Intel SDM 3, 18.2.5: 1, 2, 4 or 8 bytes, aligned; instructions always 1. */
static int set_hardware(struct gdb_target *target, bool insert, enum gdb_breakpoint type,
			const struct gdb_access *where)
{
	size_t len = type == GDB_BREAKPOINT_HARDWARE ? 1 : where->len;
	struct gdb_hardware *bp;

	if ((len != 1 && len != 2 && len != 4 && len != 8) || !IS_ALIGNED(where->address, len))
		return -EINVAL;
	bp = find_hardware(target, type, where->address, len);
	if (!insert && bp)
		bp->len = 0;
	if (!insert || bp)
		return 0;
	bp = find_free(target);
	if (!bp)
		bp = make_free(target, where->vcpu);
	if (!bp)
		return -ENOSPC;
	*bp = (struct gdb_hardware){ type, where->address, (uint8_t)len };
	return 0;
}

int gdb_target_breakpoint(struct gdb_target *target, bool insert, enum gdb_breakpoint type,
			  const struct gdb_access *where)
{
	switch (type) {
	case GDB_BREAKPOINT_SOFTWARE:
		return set_software(target, insert, where);
	case GDB_BREAKPOINT_HARDWARE:
	case GDB_WATCHPOINT_WRITE:
	case GDB_WATCHPOINT_ACCESS:
		return set_hardware(target, insert, type, where);
	case GDB_WATCHPOINT_READ: /* GDB uses an access watchpoint then */
		break;
	}
	return -EOPNOTSUPP;
}

/* Bits of DR7: enable (global), what, how long. */
static uint64_t dr7_of(const struct gdb_hardware *bp, int slot)
{
	static const uint8_t lengths[] = { [1] = 0, [2] = 1, [4] = 3, [8] = 2 };
	static const uint8_t kinds[] = {
		[GDB_BREAKPOINT_SOFTWARE] = 0,
		[GDB_BREAKPOINT_HARDWARE] = 0,
		[GDB_WATCHPOINT_WRITE] = 1,
		[GDB_WATCHPOINT_ACCESS] = 3,
	};
	const uint64_t what = kinds[bp->type];

	return 2ULL << 2 * slot | what << (16 + 4 * slot) |
	       (uint64_t)lengths[bp->len] << (18 + 4 * slot);
}

struct kvm_guest_debug gdb_breakpoints_debug(const struct gdb_target *target, uint32_t vcpu)
{
	struct kvm_guest_debug debug = { .arch.debugreg[7] = DR7_FIXED };

	if (target->n_software)
		debug.control |= KVM_GUESTDBG_ENABLE | KVM_GUESTDBG_USE_SW_BP;
	for (int i = 0; i < GDB_HARDWARE_SLOTS; i++) {
		const struct gdb_hardware *bp = &target->hardware[i];

		if (!bp->len)
			continue;
		debug.control |= KVM_GUESTDBG_ENABLE | KVM_GUESTDBG_USE_HW_BP;
		debug.arch.debugreg[i] = bp->address;
		debug.arch.debugreg[7] |= dr7_of(bp, i);
	}
	if (target->actions[vcpu] == GDB_STEP)
		debug.control |= KVM_GUESTDBG_ENABLE | KVM_GUESTDBG_SINGLESTEP | target->step_flags;
	return debug;
}

void gdb_breakpoints_clear(struct gdb_target *target)
{
	while (target->n_software)
		(void)!remove_software(target, target->software);
	memset(target->hardware, 0, sizeof(target->hardware));
}
