/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A guest that does nothing but leave: rounds of ROUND reads of a port, then of a memory address, that
 * user space answers. Each round begins and ends with a line on the serial port, and the host takes the
 * time between the lines. Both monitors start it by PVH: 32-bit, flat, paging off
 * (Xen's docs/misc/pvh.pandoc).
 *
 * The port is the 16550's scratch register, the address the IOAPIC's register select: nothing happens
 * but the read, so what is timed is the way to the device and back.
 */
#define SERIAL 0x3f8
#define SCRATCH 0x3ff
#define IOAPIC 0xfec00000

	.section .note.pvh, "a", @note
	.balign 4
	.long 4, 4, 18		/* XEN_ELFNOTE_PHYS32_ENTRY */
	.asciz "Xen"
	.long start

	.text
	.code32
	.global start
start:
	mov $stack, %esp
round:
	mov $pio_begins, %esi
	call print
	mov $ROUND, %ecx
	mov $SCRATCH, %edx
1:	in (%dx), %al
	dec %ecx
	jnz 1b
	mov $pio_ends, %esi
	call print

	mov $mmio_begins, %esi
	call print
	mov $ROUND, %ecx
2:	mov IOAPIC, %eax
	dec %ecx
	jnz 2b
	mov $mmio_ends, %esi
	call print
	jmp round

/* Writes the string at %esi to the serial port, waiting for room as its data sheet asks. */
print:
	lodsb
	test %al, %al
	jz 3f
	mov %al, %bl
	mov $(SERIAL + 5), %edx
4:	in (%dx), %al
	test $0x20, %al
	jz 4b
	mov %bl, %al
	mov $SERIAL, %edx
	out %al, (%dx)
	jmp print
3:	ret

	.section .rodata
pio_begins:	.asciz "pio begins\n"
pio_ends:	.asciz "pio ends\n"
mmio_begins:	.asciz "mmio begins\n"
mmio_ends:	.asciz "mmio ends\n"

	.bss
	.skip 4096
stack:
