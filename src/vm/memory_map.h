/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * Where things are in the guest's physical address space. UEFI firmware shall be able to live here later:
 * the flash hole ends at 4 GiB, q35's ECAM base and host-bridge identity are kept, fw_cfg's ports stay free.
 *
 *   0000_0000 - 0009_ffff  RAM (the last KiB is the EBDA: reserved in e820)
 *   000a_0000 - 000f_ffff  legacy hole; RAM behind it, e820-reserved; ACPI tables at 000e_0000
 *   0010_0000 - LOW_END    RAM, at most 2 GiB + 768 MiB
 *   b000_0000 - b00f_ffff  ECAM, one bus (reserved up to bfff_ffff)
 *   c000_0000 - febf_ffff  32-bit PCI window
 *   fec0_0000              IOAPIC
 *   fed0_0000              free (HPET's place)
 *   fee0_0000              LAPIC (KVM)
 *   feff_c000              KVM's identity map and TSS, 4 pages (VT-x only)
 *   ff00_0000 - ffff_ffff  flash hole
 *   1_0000_0000 -          RAM; above it, aligned to 1 GiB, the 64-bit PCI window (up to the guest's address width)
 */

#include "base/macros.h"

#define MAP_EBDA 0x9fc00ULL
#define MAP_LEGACY_HOLE 0xa0000ULL
#define MAP_ACPI_TABLES 0xe0000ULL
#define MAP_GENERATION_ID 0xff000ULL /* one reserved page behind the ACPI tables */
#define MAP_HIGH_MEMORY 0x100000ULL
#define MAP_LOW_END 0xb0000000ULL
#define MAP_ECAM_BASE 0xb0000000ULL
#define MAP_ECAM_LEN 0x100000ULL
#define MAP_ECAM_RESERVED 0x10000000ULL
#define MAP_PCI32_BASE 0xc0000000ULL
#define MAP_PCI32_LEN (0xfec00000ULL - MAP_PCI32_BASE)
#define MAP_IOAPIC_BASE 0xfec00000ULL
#define MAP_LAPIC_BASE 0xfee00000ULL
#define MAP_KVM_IDENTITY 0xfeffc000ULL
#define MAP_KVM_TSS 0xfeffd000ULL
#define MAP_FLASH_HOLE 0xff000000ULL
#define MAP_RAM_ABOVE GIB(4)
#define MAP_PCI64_LEN GIB(64)

/* Ports. */
#define PORT_PIC1 0x20
#define PORT_PIT 0x40
#define PORT_SPEAKER 0x61
#define PORT_RTC 0x70
#define PORT_POST 0x80
#define PORT_PIC2 0xa0
#define PORT_SERIAL1 0x3f8
#define PORT_ELCR 0x4d0
#define PORT_FW_CFG 0x510   /* reserved for firmware configuration, with 0x514 for its DMA */
#define PORT_ACPI_PM 0x600  /* event, control and timer blocks: device/power.h */
#define PORT_ACPI_GED 0x620 /* event device: device/power.h */
#define PORT_PCI_CONFIG 0xcf8
#define PORT_RESET 0xcf9
#define PORT_PCI_IO_BASE 0xc000
#define PORT_PCI_IO_LEN 0x4000

/* Interrupt lines (GSI). */
#define GSI_PIT 0
#define GSI_SERIAL1 4
#define GSI_RTC 8
#define GSI_SCI 9
#define GSI_GED 10
