/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * The registers that GDB sees, in the order of their numbers, and the target description that tells GDB of them (GDB
 * manual, appendix G). Values are little-endian. Any thread.
 */

#include <linux/kvm.h>

#include "base/buffer.h"

#define GDB_FPU_BYTES 416     /* the legacy area of XSAVE up to xmm15; Intel SDM 1, 13.4.1 */
#define GDB_REGISTER_BYTES 16 /* of the largest register */

/* A vCPU's registers as KVM has them. */
struct gdb_registers {
	struct kvm_regs regs;
	struct kvm_sregs sregs;
	uint64_t kernel_gs_base; /* what SWAPGS changes gs_base with */
	uint32_t mp_state;	 /* KVM_MP_STATE_*; not GDB's to change */
	uint8_t fpu[GDB_FPU_BYTES];
};

#define GDB_REGISTER_RIP 16 /* its number */

unsigned int gdb_registers_count(void);
/* Bytes of a register's value on the wire; 0: no register has this number. */
size_t gdb_register_size(unsigned int number);
/* `ret_value` has room for GDB_REGISTER_BYTES. The number is valid. */
void gdb_register_get(const struct gdb_registers *registers, unsigned int number,
		      uint8_t *ret_value);
/* -EINVAL: a segment's selector outside real mode: the descriptor that belongs to it is not looked up. The value that
 * it has already is taken always. */
_must_check_ int gdb_register_set(struct gdb_registers *registers, unsigned int number,
				  const uint8_t *value);

/* Appends target.xml. */
_must_check_ int gdb_registers_describe(struct buffer *out);

/* What the vCPU is doing, in words: "64-bit, ring 0, halted". */
void gdb_registers_mode(const struct gdb_registers *registers, char *ret_text, size_t size);
