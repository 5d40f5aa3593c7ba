/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A guest that does nothing but leave: short rounds of EXITS reads of a port, then of a memory address, that
 * user space answers. Of each ROUNDS rounds the quickest is written to the serial port, in cycles of the
 * time stamp counter: "pio 0001f2c4". Both monitors start it by PVH: 32-bit, flat, paging off
 * (Xen's docs/misc/pvh.pandoc).
 *
 * The port is the 16550's scratch register, the address the IOAPIC's register select: nothing happens
 * but the read, so what is timed is the way to the device and back. A round is short, so that some pass
 * undisturbed on a busy machine.
 */
#define SERIAL 0x3f8
#define SCRATCH 0x3ff
#define IOAPIC 0xfec00000

	.section .note.pvh, "a", @note
	.balign 4
	.long 4, 4, 18		/* XEN_ELFNOTE_PHYS32_ENTRY */
	.asciz "Xen"
	.long start

/* Leaves the cycles of the quickest round of `access` in %ebx. */
.macro quickest access:vararg
	mov $ROUNDS, %ebp
	mov $-1, %ebx
8:	rdtsc
	mov %eax, %edi
	mov $EXITS, %ecx
	mov $SCRATCH, %edx
9:	\access
	dec %ecx
	jnz 9b
	rdtsc
	sub %edi, %eax
	cmp %ebx, %eax
	cmovb %eax, %ebx
	dec %ebp
	jnz 8b
.endm

	.text
	.code32
	.global start
start:
	mov $stack, %esp
again:
	quickest in (%dx), %al
	mov $pio, %esi
	call report
	quickest mov IOAPIC, %eax
	mov $mmio, %esi
	call report
	jmp again

/* Writes the word at %esi, then %ebx as eight hexadecimal digits, and ends the line. */
report:
	lodsb
	test %al, %al
	jz 1f
	call put
	jmp report
1:	mov $8, %ecx
2:	rol $4, %ebx
	mov %ebx, %esi
	and $15, %esi
	mov digits(%esi), %al
	call put
	dec %ecx
	jnz 2b
	mov $'\n', %al
/* Writes %al to the serial port, waiting for room as its data sheet asks. */
put:
	mov %al, %ah
	mov $(SERIAL + 5), %edx
3:	in (%dx), %al
	test $0x20, %al
	jz 3b
	mov %ah, %al
	mov $SERIAL, %edx
	out %al, (%dx)
	ret

	.section .rodata
pio:	.asciz "pio "
mmio:	.asciz "mmio "
digits:	.ascii "0123456789abcdef"

	.bss
	.skip 4096
stack:
