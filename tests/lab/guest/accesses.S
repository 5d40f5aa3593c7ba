/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A guest that makes each kind of access in each mode, round after round: 32-bit, 64-bit in the kernel's half of the
 * address space and below it, and real mode. Each begins at a label, so the file's symbol table says where.
 *
 * A monitor starts it by PVH: 32-bit, flat, paging off (Xen's docs/misc/pvh.pandoc). Real mode reaches devices above 1 MiB by
 * segments whose limit and base it keeps from protected mode.
 */
#define PORTS 0x5000		/* no device */
#define ROUND 0x5fff		/* a write to it ends a round */
#define SLOT 64			/* bytes of device memory for one access */
#define DEVICE 0xc1000000	/* no device */
#define BORDERS 0xc1100ffe	/* 2 bytes before the end of a page, then each second page */
#define DEVICE_HIGH 0xffffc90000000000
#define BORDERS_HIGH 0xffffc90000100ffe
#define BUFFER16 0x5000		/* RAM that nobody uses */
#define REAL 0x40000		/* where real mode's code is, in a segment that begins there */
#define REAL_LOADED 0x400000	/* and where it is loaded: no kernel is below 1 MiB */
#define KERNEL 0xffffffff80000000

/* Selectors; FLAT16 and FAR are what real mode keeps. */
#define CODE32 0x08
#define DATA32 0x10
#define FLAT16 0x10
#define CODE64 0x18
#define CODE16 0x20
#define FAR 0x28

#define CAT_(a, b) a##_##b
#define CAT(a, b) CAT_(a, b)
#define NAME(name) CAT(MODE, name)
#define SLOT_NAME(name) CAT(slot, CAT(MODE, name))
#define ACCESS(name, ...)                                                                          \
	.set SLOT_NAME(name), slot;                                                                \
	NAME(name): __VA_ARGS__;                                                                   \
	.set slot, slot + 1
#define ACCESS_PORT(name, port, ...)                                                               \
	.set SLOT_NAME(name), 0x10000 + port;                                                      \
	NAME(name): __VA_ARGS__
#define DX(slot) mov $(PORTS + slot), %edx

	.set slot, 0

	.section .note.pvh, "a", @note
	.balign 4
	.long 4, 4, 18		/* XEN_ELFNOTE_PHYS32_ENTRY */
	.asciz "Xen"
	.long start

	.text
	.code32
	.global start
start:
	lgdt gdt_pointer
	ljmp $CODE32, $1f
1:	mov $DATA32, %eax
	mov %eax, %ds
	mov %eax, %es
	mov %eax, %ss
	mov $stack, %esp
	cld
	mov $REAL_LOADED, %esi
	mov $REAL, %edi
	mov $0x1000, %ecx
	rep movsb
	call map
	mov %cr4, %eax
	or $0x600, %eax		/* OSFXSR, OSXMMEXCPT */
	mov %eax, %cr4

round:
#define MODE m32
#define D %edi
#define D32 %edi
#define S %esi
#define I %ecx
#define IMM_PORT 0xe0
#define AT(register) mov $(DEVICE + slot * SLOT), register
#define ACROSS(register) mov $(BORDERS + slot * 0x2000), register
#include "accesses_list.inc"
#undef MODE
#undef D
#undef D32
#undef S
#undef I
#undef IMM_PORT
#undef AT
#undef ACROSS

	/* Only here: a stack on a device, absolute addresses. */
#define MODE m32
	mov %esp, %ebp
	mov $(DEVICE + slot * SLOT + 32), %esp
	ACCESS(push, push %eax)
	mov $(DEVICE + slot * SLOT + 32), %esp
	ACCESS(push_imm, push $0x12345678)
	mov $(DEVICE + slot * SLOT + 32), %esp
	ACCESS(pop, pop %eax)
	mov %ebp, %esp
	mov $(DEVICE + slot * SLOT), %esi
	ACCESS(push_from, push (%esi))
	mov $(DEVICE + slot * SLOT), %esi
	ACCESS(pop_to, pop (%esi))
	ACCESS(store_absolute, mov %eax, DEVICE + slot * SLOT)
	ACCESS(load_absolute, mov DEVICE + slot * SLOT, %al)
	movw $FAR, %ax
	mov %eax, %fs
	mov $(slot * SLOT), %edi
	ACCESS(store_by_segment, mov %eax, %fs:(%edi))
#undef MODE

	call long_mode
	call real_mode
	mov $ROUND, %edx
	out %eax, (%dx)
	jmp round

/* Real mode */

real_mode:
	pushal
	mov $FLAT16, %eax
	mov %eax, %ds
	mov %eax, %es
	mov %eax, %ss
	mov $FAR, %eax
	mov %eax, %fs
	ljmp $CODE16, $(real_enter - REAL)

back_from_real:
	mov $DATA32, %eax
	mov %eax, %ds
	mov %eax, %es
	mov %eax, %ss
	popal
	ret

	.section .text.real, "ax"
	.code16
real_enter:
	mov %cr0, %eax
	and $~1, %eax
	mov %eax, %cr0
	ljmp $(REAL >> 4), $(1f - REAL)
1:
#define MODE m16
#define D %edi
#define D32 %edi
#define S %esi
#define I %ecx
#define IMM_PORT 0xe8
#define AT(register) mov $(DEVICE + slot * SLOT), register
#define ACROSS(register) mov $(BORDERS + slot * 0x2000), register
#include "accesses_list.inc"
#undef D
#undef D32
#undef S
#undef I
#undef IMM_PORT
#undef AT
#undef ACROSS
	/* Only here: addresses of 16 bits, in a segment that is far away. */
	mov $(slot * SLOT), %di
	ACCESS(store_di, mov %ax, %fs:(%di))
	mov $(slot * SLOT - 16), %bx
	mov $8, %si
	ACCESS(store_bx_si, mov %al, %fs:8(%bx, %si))
	mov $(slot * SLOT), %bx
	ACCESS(load_bx, mov %fs:(%bx), %eax)
	mov $(slot * SLOT), %si
	mov $BUFFER16, %di
	ACCESS(movs_fs, movsb %fs:(%si), %es:(%di))
	ACCESS(store_far_absolute, mov %ax, %fs:slot * SLOT)
#undef MODE
	mov %cr0, %eax
	or $1, %eax
	mov %eax, %cr0
	ljmpl $CODE32, $back_from_real

/* 64-bit mode: the list stands in the kernel's half, and is gone through there and where it is in memory. */

	.text
	.code32
long_mode:
	pushal
	mov %cr4, %eax
	or $0x20, %eax		/* PAE */
	mov %eax, %cr4
	mov $tables, %eax
	mov %eax, %cr3
	mov $0xc0000080, %ecx	/* EFER */
	rdmsr
	or $0x100, %eax		/* LME */
	wrmsr
	mov %cr0, %eax
	or $0x80000000, %eax
	mov %eax, %cr0
	ljmp $CODE64, $1f
	.code64
1:	mov $list64, %rax
	call *%rax
	mov $(list64 - KERNEL), %rax
	call *%rax
	ljmp *2f(%rip)
2:	.long 3f, CODE32
	.code32
3:	mov %cr0, %eax
	and $0x7fffffff, %eax
	mov %eax, %cr0
	mov $0xc0000080, %ecx
	rdmsr
	and $~0x100, %eax
	wrmsr
	popal
	ret

	.section .text.kernel, "ax"
	.code64
list64:
#define MODE m64
#define D %rdi
#define D32 %edi
#define S %rsi
#define I %rcx
#define IMM_PORT 0xf0
#define AT(register) movabs $(DEVICE_HIGH + slot * SLOT), register
#define ACROSS(register) movabs $(BORDERS_HIGH + slot * 0x2000), register
#include "accesses_list.inc"
	/* Only here: 8 bytes, more registers, addresses of 32 bits, from RIP on and absolute. */
	movabs $0x1122334455667788, %rax
	AT(%rdi)
	ACCESS(store_rax, mov %rax, (%rdi))
	AT(%rdi)
	ACCESS(load_rax, mov (%rdi), %rax)
	mov %rax, %r9
	AT(%r10)
	ACCESS(store_r9, mov %r9, 8(%r10))
	AT(%r12)
	mov $1, %r13d
	ACCESS(store_r9d, mov %r9d, (%r12, %r13, 8))
	AT(%rdi)
	ACCESS(store_imm64, movq $-2, (%rdi))
	mov $(DEVICE + slot * SLOT), %edi
	ACCESS(store_addr32, mov %eax, (%edi))
	ACCESS(store_absolute, movabs %eax, DEVICE_HIGH + slot * SLOT)
	ACCESS(load_absolute, movabs DEVICE_HIGH + slot * SLOT, %rax)
	ACROSS(%rdi)
	ACCESS(store_rax_across, mov %rax, (%rdi))
	ACROSS(%rdi)
	sub $1, %rdi
	ACCESS(store_rax_uneven, mov %rax, (%rdi))
	AT(%rdi)
	ACCESS(xchg_base, xchg %rdi, (%rdi))
	AT(%rdi)
	mov $3, %ecx
	ACCESS(rep_movsq_both, rep movsq)
	AT(%rdi)
	ACCESS(stosq, stosq)
	mov %rsp, %rbp
	movabs $(DEVICE_HIGH + slot * SLOT + 32), %rsp
	ACCESS(push, push %rax)
	movabs $(DEVICE_HIGH + slot * SLOT + 32), %rsp
	ACCESS(push_imm, push $-2)
	movabs $(DEVICE_HIGH + slot * SLOT + 32), %rsp
	ACCESS(pop, pop %rax)
	mov %rbp, %rsp
	/* Alike while both registers hold 0. */
	xor %eax, %eax
	xor %r8d, %r8d
	AT(%rdi)
	ACCESS(store_r8d_zero, mov %r8d, (%rdi))
	AT(%rdi)
	ACCESS(store_r8b_zero, mov %r8b, (%rdi))
#undef MODE
	ret

/* Page tables: the first 4 GiB as they are, the kernel's 2 GiB from 0 on, and 6 MiB of devices in the kernel's half. */

	.text
	.code32
map:
	mov $tables, %edi
	movl $(table3 + 3), (%edi)
	movl $(table3_kernel + 3), 511 * 8(%edi)
	movl $(table3_devices + 3), 402 * 8(%edi)
	mov $table3, %edi
	mov $(table2 + 3), %eax
	mov $4, %ecx
1:	mov %eax, (%edi)
	add $0x1000, %eax
	add $8, %edi
	loop 1b
	movl $(table2 + 3), table3_kernel + 510 * 8
	movl $(table2_devices + 3), table3_devices
	movl $(DEVICE + 0x83), table2_devices
	movl $(DEVICE + 0x200083), table2_devices + 8
	movl $(DEVICE + 0x400083), table2_devices + 16
	mov $table2, %edi
	mov $0x83, %eax		/* 2 MiB each */
	mov $2048, %ecx
2:	mov %eax, (%edi)
	add $0x200000, %eax
	add $8, %edi
	loop 2b
	ret

	.data
	.balign 8
gdt:	.quad 0
	.quad 0x00cf9b000000ffff	/* CODE32 */
	.quad 0x00cf93000000ffff	/* DATA32, and FLAT16: 4 GiB */
	.quad 0x00af9b000000ffff	/* CODE64 */
	.quad 0x00009b040000ffff	/* CODE16: at REAL */
	.quad 0xc10093000000ffff	/* FAR: 64 KiB at DEVICE */
gdt_pointer:
	.word gdt_pointer - gdt - 1
	.long gdt

	.bss
	.balign 4096
tables:	.skip 4096
table3:	.skip 4096
table3_kernel: .skip 4096
table3_devices: .skip 4096
table2:	.skip 4 * 4096
table2_devices: .skip 4096
buffer:	.skip 64
	.balign 16
	.skip 4096
stack:
