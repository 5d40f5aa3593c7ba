/* SPDX-License-Identifier: Apache-2.0 */
#include "cpu/start.h"

#define CR0_PE (1ULL << 0)
#define CR0_ET (1ULL << 4)
#define CR0_PG (1ULL << 31)
#define CR4_PAE (1ULL << 5)
#define EFER_LME (1ULL << 8)
#define EFER_LMA (1ULL << 10)
#define RFLAGS_RESERVED 0x2ULL

#define TYPE_CODE 0xb	  /* execute, read, accessed */
#define TYPE_DATA 0x3	  /* read, write, accessed */
#define TYPE_TSS_BUSY 0xb /* 32-bit or, in long mode, 64-bit */

/* Intel SDM 3A, 3.4.5: the fields of a descriptor, as KVM keeps the hidden part of a segment register. */
static struct kvm_segment flat_segment(uint16_t selector, uint8_t type, enum cpu_start_mode mode)
{
	bool code64 = type == TYPE_CODE && mode == CPU_START_LONG64;

	return (struct kvm_segment){
		.limit = 0xffffffff,
		.selector = selector,
		.type = type,
		.present = 1,
		.s = 1,
		.l = code64,
		.db = !code64,
		.g = 1,
	};
}

static struct kvm_segment tss_segment(void)
{
	return (struct kvm_segment){
		.limit = 0x67,
		.selector = CPU_START_TSS,
		.type = TYPE_TSS_BUSY,
		.present = 1,
	};
}

static uint64_t descriptor(const struct kvm_segment *segment)
{
	uint64_t limit = segment->g ? segment->limit >> 12 : segment->limit;
	uint64_t flags = segment->type | segment->s << 4 | segment->present << 7 |
			 segment->l << 13 | segment->db << 14 | segment->g << 15;

	return (limit & 0xffff) | (limit & 0xf0000) << 32 | flags << 40;
}

void cpu_start_gdt(enum cpu_start_mode mode, uint64_t ret_gdt[CPU_START_GDT_ENTRIES])
{
	struct kvm_segment code = flat_segment(CPU_START_CS, TYPE_CODE, mode);
	struct kvm_segment data = flat_segment(CPU_START_DS, TYPE_DATA, mode);
	struct kvm_segment tss = tss_segment();

	ret_gdt[0] = ret_gdt[1] = 0;
	ret_gdt[CPU_START_CS / 8] = descriptor(&code);
	ret_gdt[CPU_START_DS / 8] = descriptor(&data);
	ret_gdt[CPU_START_TSS / 8] = descriptor(&tss);
}

static void set_segments(struct kvm_sregs *sregs, const struct cpu_start *start)
{
	struct kvm_segment data = flat_segment(CPU_START_DS, TYPE_DATA, start->mode);

	sregs->cs = flat_segment(CPU_START_CS, TYPE_CODE, start->mode);
	sregs->ds = sregs->es = sregs->ss = data;
	sregs->fs = sregs->gs = data;
	sregs->tr = tss_segment();
	sregs->gdt.base = start->gdt;
	sregs->gdt.limit = CPU_START_GDT_ENTRIES * 8 - 1;
	sregs->idt.base = 0;
	sregs->idt.limit = 0; /* any exception before the kernel has its own IDT ends the VM */
}

static void set_control(struct kvm_sregs *sregs, const struct cpu_start *start)
{
	bool is_long = start->mode == CPU_START_LONG64;

	sregs->cr0 = CR0_PE | CR0_ET | (is_long ? CR0_PG : 0);
	sregs->cr3 = is_long ? start->cr3 : 0;
	sregs->cr4 = is_long ? CR4_PAE : 0;
	sregs->efer = is_long ? EFER_LME | EFER_LMA : 0;
}

int cpu_start_set(struct kvm_vcpu *vcpu, const struct cpu_start *start)
{
	struct kvm_regs regs = {
		.rip = start->rip,
		.rsp = start->rsp,
		.rsi = start->rsi,
		.rbx = start->rbx,
		.rflags = RFLAGS_RESERVED,
	};
	struct kvm_sregs sregs;
	int r;

	r = kvm_vcpu_get_sregs(vcpu, &sregs);
	if (r < 0)
		return r;
	set_segments(&sregs, start);
	set_control(&sregs, start);
	r = kvm_vcpu_set_sregs(vcpu, &sregs);
	if (r < 0)
		return r;
	return kvm_vcpu_set_regs(vcpu, &regs);
}
