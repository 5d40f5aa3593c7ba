/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * What boot writes below 1 MiB. All of it is ordinary RAM in e820 and the kernel's to take over, but for the
 * ACPI area (boot/acpi.h).
 *
 *   0_6000  GDT
 *   0_7000  Linux: boot_params (the "zero page") · PVH: start_info, then its module list
 *   0_8000  Linux: setup_data (seed of the random generator) · PVH: memory map
 *   0_9000  page tables: identity map of the first 4 GiB in pages of 2 MiB (64-bit entry only)
 *   1_0000  stack, growing down from here to the page tables' end
 *   2_0000  command line
 *   3_0000  end
 *   9_fc00  e820: reserved, the BIOS's data area on a PC
 *   e_0000  ACPI tables
 *  10_0000  kernels start here or above
 */

#define BOOT_GDT 0x6000ULL
#define BOOT_INFO 0x7000ULL
#define BOOT_MODULES 0x7100ULL
#define BOOT_DATA 0x8000ULL
#define BOOT_PAGE_TABLES 0x9000ULL
#define BOOT_STACK 0x10000ULL
#define BOOT_CMDLINE 0x20000ULL
#define BOOT_CMDLINE_MAX 0x10000ULL /* bytes with the NUL */
#define BOOT_EBDA 0x9fc00ULL
#define BOOT_HOLE 0xa0000ULL
#define BOOT_BIOS 0xe0000ULL
#define BOOT_HIGH 0x100000ULL
