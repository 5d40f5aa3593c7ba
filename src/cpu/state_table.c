/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>

#include "cpu/state.h"

#define TABLE(type, table_name, table_fields)                                                      \
	static const struct state_table table_name = {                                             \
		.name = #type,                                                                     \
		.version = 1,                                                                      \
		.min_version = 1,                                                                  \
		.size = sizeof(struct type),                                                       \
		.fields = table_fields,                                                            \
		.n_fields = ARRAY_SIZE(table_fields),                                              \
	}
#define U8(member) STATE_FIELD_U8(struct STRUCT, member)
#define U16(member) STATE_FIELD_U16(struct STRUCT, member)
#define U32(member) STATE_FIELD_U32(struct STRUCT, member)
#define U64(member) STATE_FIELD_U64(struct STRUCT, member)

#define STRUCT kvm_regs
static const struct state_field regs_fields[] = {
	U64(rax), U64(rbx), U64(rcx), U64(rdx), U64(rsi), U64(rdi), U64(rsp), U64(rbp), U64(r8),
	U64(r9),  U64(r10), U64(r11), U64(r12), U64(r13), U64(r14), U64(r15), U64(rip), U64(rflags),
};
TABLE(kvm_regs, regs_table, regs_fields);
#undef STRUCT

#define STRUCT kvm_segment
static const struct state_field segment_fields[] = {
	U64(base), U32(limit), U16(selector), U8(type), U8(present), U8(dpl),
	U8(db),	   U8(s),      U8(l),	      U8(g),	U8(avl),     U8(unusable),
};
TABLE(kvm_segment, segment_table, segment_fields);
#undef STRUCT

#define STRUCT kvm_dtable
static const struct state_field dtable_fields[] = { U64(base), U16(limit) };
TABLE(kvm_dtable, dtable_table, dtable_fields);
#undef STRUCT

#define STRUCT kvm_sregs
#define SEGMENT(member) STATE_FIELD_STRUCT(struct kvm_sregs, member, &segment_table)
static const struct state_field sregs_fields[] = {
	SEGMENT(cs),
	SEGMENT(ds),
	SEGMENT(es),
	SEGMENT(fs),
	SEGMENT(gs),
	SEGMENT(ss),
	SEGMENT(tr),
	SEGMENT(ldt),
	STATE_FIELD_STRUCT(struct kvm_sregs, gdt, &dtable_table),
	STATE_FIELD_STRUCT(struct kvm_sregs, idt, &dtable_table),
	U64(cr0),
	U64(cr2),
	U64(cr3),
	U64(cr4),
	U64(cr8),
	U64(efer),
	U64(apic_base),
	STATE_ARRAY_OF(struct kvm_sregs, interrupt_bitmap, STATE_U64),
};
TABLE(kvm_sregs, sregs_table, sregs_fields);
#undef STRUCT

#define STRUCT kvm_debugregs
static const struct state_field debugregs_fields[] = {
	STATE_ARRAY_OF(struct kvm_debugregs, db, STATE_U64),
	U64(dr6),
	U64(dr7),
};
TABLE(kvm_debugregs, debugregs_table, debugregs_fields);
#undef STRUCT

#define STRUCT kvm_xcr
static const struct state_field xcr_fields[] = { U32(xcr), U64(value) };
TABLE(kvm_xcr, xcr_table, xcr_fields);
#undef STRUCT

static const struct state_field xcrs_fields[] = {
	STATE_FIELD_VARRAY(struct kvm_xcrs, xcrs, nr_xcrs, &xcr_table),
};
TABLE(kvm_xcrs, xcrs_table, xcrs_fields);

#define STRUCT vcpu_msr
static const struct state_field msr_fields[] = { U32(index), U64(value) };
TABLE(vcpu_msr, msr_table, msr_fields);
#undef STRUCT

static const struct state_field lapic_fields[] = {
	STATE_FIELD_BYTES(struct vcpu_lapic, low),
	/* Rule: counts on from here; the time while the guest stood still is not counted. */
	STATE_FIELD_KIND(struct vcpu_lapic, timer_count, STATE_U32, STATE_CLOCK),
	STATE_FIELD_BYTES(struct vcpu_lapic, high),
};
TABLE(vcpu_lapic, lapic_table, lapic_fields);

#define STRUCT kvm_vcpu_events
static const struct state_field events_fields[] = {
	U8(exception.injected),
	U8(exception.nr),
	U8(exception.has_error_code),
	U8(exception.pending),
	U32(exception.error_code),
	U8(interrupt.injected),
	U8(interrupt.nr),
	U8(interrupt.soft),
	U8(interrupt.shadow),
	U8(nmi.injected),
	U8(nmi.pending),
	U8(nmi.masked),
	U32(sipi_vector),
	U32(flags),
	U8(smi.smm),
	U8(smi.pending),
	U8(smi.smm_inside_nmi),
	U8(smi.latched_init),
	U8(triple_fault.pending),
	U8(exception_has_payload),
	U64(exception_payload),
};
TABLE(kvm_vcpu_events, events_table, events_fields);
#undef STRUCT

#define STRUCT vcpu_state
static const struct state_field vcpu_fields[] = {
	STATE_FIELD_KIND(struct vcpu_state, tsc_khz, STATE_U32,
			 STATE_LOCAL), /* judged by vcpu_tsc_adopt */
	/* Rule: what it read at the snapshot, plus the measured time of the stop. */
	STATE_FIELD_KIND(struct vcpu_state, tsc, STATE_U64, STATE_CLOCK),
	STATE_FIELD_KIND(struct vcpu_state, tsc_offset, STATE_U64, STATE_LOCAL),
	U32(mp_state),
	STATE_FIELD_STRUCT(struct vcpu_state, regs, &regs_table),
	STATE_FIELD_STRUCT(struct vcpu_state, sregs, &sregs_table),
	STATE_FIELD_STRUCT(struct vcpu_state, debugregs, &debugregs_table),
	STATE_FIELD_STRUCT(struct vcpu_state, xcrs, &xcrs_table),
	STATE_FIELD_VARRAY(struct vcpu_state, xsave, xsave_len, NULL),
	STATE_FIELD_VARRAY(struct vcpu_state, msrs, n_msrs, &msr_table),
	STATE_FIELD_STRUCT(struct vcpu_state, lapic, &lapic_table),
	U64(tsc_deadline), /* in ticks of the guest's TSC */
	STATE_FIELD_STRUCT(struct vcpu_state, events, &events_table),
};
#undef STRUCT

static int refuse(struct error *err, const char *what)
{
	return error_set(err, -EINVAL, EXIT_STATUS_FAILED,
			 "state of a vCPU: %s; the stream is damaged or from another kind of VM",
			 what);
}

static int check(const void *loaded, struct error *err)
{
	const struct vcpu_state *state = loaded;

	if (state->mp_state > KVM_MP_STATE_SIPI_RECEIVED)
		return refuse(err, "mp_state is none of this architecture");
	if (state->tsc_khz == 0)
		return refuse(err, "tsc_khz is 0");
	if (state->xsave_len < 576)
		return refuse(err, "xsave is shorter than its legacy area and header");
	for (uint32_t i = 1; i < state->n_msrs; i++)
		if (state->msrs[i].index <= state->msrs[i - 1].index)
			return refuse(err, "msrs are not in ascending order");
	return 0;
}

const struct state_table vcpu_state_table = {
	.name = "vcpu",
	.version = 1,
	.min_version = 1,
	.size = sizeof(struct vcpu_state),
	.fields = vcpu_fields,
	.n_fields = ARRAY_SIZE(vcpu_fields),
	.check = check,
};
