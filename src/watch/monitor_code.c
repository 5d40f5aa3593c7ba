/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The registers at an exit, and the code around it. General registers come with the exit (KVM_CAP_SYNC_REGS). Where the
 * code is in guest memory is asked of KVM once for each place, and the code copied; and again after a second, because
 * page tables and code change. Code in a 64-bit kernel's half of the address space is mapped alike in
 * each process, so its address alone names the place; elsewhere CR3 and segments count as well, and KVM is made to give
 * them with each exit for as long as the vCPU stays there.
 */

#include <string.h>

#include "memory/memory.h"
#include "watch/monitor_internal.h"

#define KERNEL_HALF (1ULL << 63)
#define PAGE_MASK (MEMORY_PAGE_SIZE - 1)
#define CR0_PG (1ULL << 31)
#define EFER_LMA (1ULL << 10)

_Static_assert(offsetof(struct kvm_regs, rflags) - offsetof(struct kvm_regs, r8) == 72,
	       "r8 to rflags");
_Static_assert(offsetof(struct record_registers, rflags) == 17 * 8, "the same here");

static void copy_registers(const struct kvm_regs *from, struct record_registers *to)
{
	to->general[0] = from->rax;
	to->general[1] = from->rcx;
	to->general[2] = from->rdx;
	to->general[3] = from->rbx;
	to->general[4] = from->rsp;
	to->general[5] = from->rbp;
	to->general[6] = from->rsi;
	to->general[7] = from->rdi;
	/* From here on KVM's order is ours. */
	memcpy(&to->general[8], &from->r8, 10 * sizeof(uint64_t));
}

/* Modes 16 and 32 have no r8-r15: what addresses are relative to stands there. */
static void copy_segments(const struct kvm_sregs *sregs, struct record_registers *to)
{
	const uint64_t segments[8] = { sregs->es.base, sregs->cs.base,
				       sregs->ss.base, sregs->ds.base,
				       sregs->fs.base, sregs->gs.base,
				       sregs->cr0,     0 };

	memcpy(&to->general[8], segments, sizeof(segments));
}

static uint8_t mode_of(const struct kvm_sregs *sregs)
{
	if ((sregs->efer & EFER_LMA) && sregs->cs.l)
		return 64;
	return sregs->cs.db ? 32 : 16;
}

/* Code that does not leave its page: where it is in guest RAM, or NULL. */
static const uint8_t *find_piece(struct monitor_vcpu *mv, uint64_t linear, size_t len)
{
	uint64_t physical = linear;

	if (!len)
		return NULL;
	if (mv->paging && kvm_vcpu_translate(vcpu_kvm(mv->vcpu), linear, &physical) < 0)
		return NULL;
	return memory_at(mv->monitor->vm->memory, gpa(physical), len, MEMORY_READ);
}

static uint64_t known_before(uint64_t rip, uint64_t border, bool low, bool high)
{
	if (border >= rip)
		return low ? RECORD_WINDOW : 0;
	return high ? (low ? RECORD_WINDOW : rip - border) : 0;
}

static uint64_t known_after(uint64_t rip, uint64_t border, bool low, bool high)
{
	if (border <= rip)
		return high ? RECORD_WINDOW : 0;
	return low ? (high ? RECORD_WINDOW : border - rip) : 0;
}

/* The window reaches into another page: what is mapped of it, as it is now. */
static void take_pieces(struct monitor_vcpu *mv, struct monitor_site *site)
{
	const uint64_t first = site->rip - RECORD_WINDOW, last = site->rip + RECORD_WINDOW;
	const uint64_t border = last & ~PAGE_MASK;
	const size_t len = border - first;
	const uint8_t *low = find_piece(mv, first, len);
	const uint8_t *high = find_piece(mv, border, sizeof(site->copy) - len);

	if (low)
		memcpy(site->copy, low, len);
	if (high)
		memcpy(site->copy + len, high, sizeof(site->copy) - len);
	/* What is known must touch RIP. */
	site->head.n_before = (uint8_t)known_before(site->rip, border, low, high);
	site->head.n_after = (uint8_t)known_after(site->rip, border, low, high);
}

static _cold_ void look_at(struct monitor_vcpu *mv, struct monitor_site *site, uint64_t linear,
			   const struct kvm_sregs *sregs)
{
	const uint64_t offset = linear & PAGE_MASK;
	const uint8_t *window;

	mv->paging = sregs->cr0 & CR0_PG;
	*site = (struct monitor_site){
		.rip = linear,
		.cr3 = sregs->cr3,
		.looked_at = __rdtsc(),
		.head.mode = mode_of(sregs),
	};
	if (offset < RECORD_WINDOW || offset + RECORD_WINDOW > MEMORY_PAGE_SIZE) {
		take_pieces(mv, site);
		return;
	}
	window = find_piece(mv, linear - RECORD_WINDOW, sizeof(site->copy));
	if (!window)
		return;
	memcpy(site->copy, window, sizeof(site->copy));
	site->head.n_before = site->head.n_after = RECORD_WINDOW;
}

static void copy_code(const struct monitor_site *site, struct record_access *access)
{
	memcpy(access, &site->head, sizeof(site->head));
	access->cr3 = site->cr3;
	memcpy(access->code, site->copy, sizeof(access->code));
}

static struct monitor_site *site_of(struct monitor_vcpu *mv, uint64_t linear)
{
	return &mv->sites[(linear ^ (linear >> 8)) % MONITOR_SITES];
}

static bool is_fresh(const struct monitor_vcpu *mv, const struct monitor_site *site, uint64_t now)
{
	return now - site->looked_at < mv->monitor->stale_ticks;
}

/* No code, and no registers that could be trusted. */
static _cold_ void forget_code(struct record_access *access)
{
	memset(access, 0, offsetof(struct record_access, registers));
	access->cr3 = 0;
}

void monitor_sync_registers(struct monitor_vcpu *mv, bool on)
{
	struct kvm_run *run = kvm_vcpu_run_page(vcpu_kvm(mv->vcpu));

	mv->knows_segments = false;
	run->kvm_valid_regs = on && mv->monitor->can_sync ? KVM_SYNC_X86_REGS : 0;
}

/* Segments with the next exits as well, or no more. */
static _cold_ void sync_segments(struct monitor_vcpu *mv, struct kvm_run *run, bool on)
{
	if (!mv->monitor->can_sync || mv->knows_segments == on)
		return;
	mv->knows_segments = on;
	run->kvm_valid_regs = KVM_SYNC_X86_REGS | (on ? KVM_SYNC_X86_SREGS : 0);
}

static _cold_ void take_outside_kernel(struct monitor_vcpu *mv, struct kvm_run *run, uint64_t now,
				       struct record_access *access)
{
	struct kvm_sregs own;
	const struct kvm_sregs *sregs = mv->knows_segments ? &run->s.regs.sregs : &own;
	struct monitor_site *site;
	uint64_t linear;

	if (!mv->knows_segments && kvm_vcpu_get_sregs(vcpu_kvm(mv->vcpu), &own) < 0) {
		forget_code(access);
		return;
	}
	linear = access->registers.rip;
	if (mode_of(sregs) != 64) {
		linear = (uint32_t)(linear + sregs->cs.base);
		copy_segments(sregs, &access->registers);
	}
	site = site_of(mv, linear);
	if (site->rip != linear || site->cr3 != sregs->cr3 || site->head.mode != mode_of(sregs) ||
	    !(sregs->cr0 & CR0_PG) || !is_fresh(mv, site, now))
		look_at(mv, site, linear, sregs);
	copy_code(site, access);
	sync_segments(mv, run, true);
}

static _cold_ bool look_again(struct monitor_vcpu *mv, struct monitor_site *site, uint64_t rip)
{
	struct kvm_sregs sregs;

	if (kvm_vcpu_get_sregs(vcpu_kvm(mv->vcpu), &sregs) < 0)
		return false;
	look_at(mv, site, rip, &sregs);
	return true;
}

/* A KVM that does not give registers with the exit. */
static _cold_ void fetch_registers(struct monitor_vcpu *mv, struct record_registers *registers)
{
	struct kvm_regs regs;

	if (kvm_vcpu_get_regs(vcpu_kvm(mv->vcpu), &regs) < 0)
		memset(&regs, 0, sizeof(regs));
	copy_registers(&regs, registers);
}

void monitor_take_code(struct monitor_vcpu *mv, struct kvm_run *run, uint64_t now,
		       struct record_access *access)
{
	struct monitor_site *site;
	uint64_t rip;

	if (mv->monitor->can_sync)
		copy_registers(&run->s.regs.regs, &access->registers);
	else
		fetch_registers(mv, &access->registers);
	rip = access->registers.rip;
	if (rip < KERNEL_HALF) {
		take_outside_kernel(mv, run, now, access);
		return;
	}
	site = site_of(mv, rip);
	if ((site->rip != rip || !is_fresh(mv, site, now)) && !look_again(mv, site, rip)) {
		forget_code(access);
		return;
	}
	copy_code(site, access);
	if (mv->knows_segments)
		sync_segments(mv, run, false);
}

size_t monitor_read_code(struct monitor_vcpu *mv, uint64_t linear, uint8_t *buf, size_t len)
{
	size_t done = 0;

	while (done < len) {
		const uint64_t left = MEMORY_PAGE_SIZE - ((linear + done) & PAGE_MASK);
		const size_t part = MIN(len - done, left);
		const uint8_t *piece = find_piece(mv, linear + done, part);

		if (!piece)
			break;
		memcpy(buf + done, piece, part);
		done += part;
	}
	return done;
}
