/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Layouts of the ACPI tables that acpi.c builds (ACPI 6.4, 5.2; MCFG: PCI Firmware 3.3, 4.1.2). All packed. */

#include "base/endian.h"

#define ACPI_PACKED __attribute__((packed))

struct acpi_rsdp { /* 5.2.5.3 */
	char signature[8];
	uint8_t checksum; /* of the first 20 bytes */
	char oem_id[6];
	uint8_t revision;
	le32_t rsdt;
	le32_t length;
	le64_t xsdt;
	uint8_t extended_checksum;
	uint8_t reserved[3];
} ACPI_PACKED;
_Static_assert(sizeof(struct acpi_rsdp) == 36, "ACPI 6.4, 5.2.5.3");

struct acpi_header { /* 5.2.6 */
	char signature[4];
	le32_t length;
	uint8_t revision, checksum;
	char oem_id[6], oem_table_id[8];
	le32_t oem_revision;
	char creator_id[4];
	le32_t creator_revision;
} ACPI_PACKED;
_Static_assert(sizeof(struct acpi_header) == 36, "ACPI 6.4, 5.2.6");

struct acpi_address { /* 5.2.3.2: generic address structure */
	uint8_t space, bits, offset, access;
	le64_t address;
} ACPI_PACKED;
#define ACPI_SPACE_IO 1
#define ACPI_ACCESS_BYTE 1
#define ACPI_ACCESS_WORD 2
#define ACPI_ACCESS_DWORD 3

struct acpi_fadt { /* 5.2.9, revision 6 */
	struct acpi_header header;
	le32_t firmware_ctrl, dsdt;
	uint8_t reserved1, profile;
	le16_t sci_interrupt;
	le32_t smi_command;
	uint8_t acpi_enable, acpi_disable, s4bios, pstate;
	le32_t pm1a_event, pm1b_event, pm1a_control, pm1b_control, pm2_control, pm_timer, gpe0,
		gpe1;
	uint8_t pm1_event_len, pm1_control_len, pm2_control_len, pm_timer_len, gpe0_len, gpe1_len,
		gpe1_base;
	uint8_t cst;
	le16_t c2_latency, c3_latency, flush_size, flush_stride;
	uint8_t duty_offset, duty_width, day_alarm, month_alarm, century;
	le16_t boot_flags;
	uint8_t reserved2;
	le32_t flags;
	struct acpi_address reset;
	uint8_t reset_value;
	le16_t arm_boot;
	uint8_t minor;
	le64_t x_firmware_ctrl, x_dsdt;
	struct acpi_address x_pm1a_event, x_pm1b_event, x_pm1a_control, x_pm1b_control,
		x_pm2_control, x_pm_timer, x_gpe0, x_gpe1, sleep_control, sleep_status;
	char hypervisor_vendor[8];
} ACPI_PACKED;
_Static_assert(sizeof(struct acpi_fadt) == 276, "ACPI 6.4, table 5.9");

struct acpi_facs { /* 5.2.10 */
	char signature[4];
	le32_t length, hardware_signature, waking_vector, global_lock, flags;
	le64_t x_waking_vector;
	uint8_t version, reserved1[3];
	le32_t ospm_flags;
	uint8_t reserved2[24];
} ACPI_PACKED;
_Static_assert(sizeof(struct acpi_facs) == 64, "ACPI 6.4, table 5.11");

struct acpi_madt { /* 5.2.12; entries follow */
	struct acpi_header header;
	le32_t lapic_base, flags;
} ACPI_PACKED;

struct acpi_madt_lapic { /* 5.2.12.2 */
	uint8_t type, length, uid, apic_id;
	le32_t flags;
} ACPI_PACKED;
#define ACPI_LAPIC_ENABLED 0x1
#define ACPI_LAPIC_ONLINE_CAPABLE 0x2

struct acpi_madt_ioapic { /* 5.2.12.3 */
	uint8_t type, length, id, reserved;
	le32_t base, gsi_base;
} ACPI_PACKED;

struct acpi_madt_override { /* 5.2.12.5 */
	uint8_t type, length, bus, source;
	le32_t gsi;
	le16_t flags;
} ACPI_PACKED;
#define ACPI_POLARITY_HIGH 0x1
#define ACPI_TRIGGER_LEVEL 0xc

struct acpi_madt_lapic_nmi { /* 5.2.12.7 */
	uint8_t type, length, uid;
	le16_t flags;
	uint8_t lint;
} ACPI_PACKED;

struct acpi_mcfg {
	struct acpi_header header;
	uint8_t reserved1[8];
	le64_t base;
	le16_t segment;
	uint8_t first_bus, last_bus;
	uint8_t reserved2[4];
} ACPI_PACKED;
_Static_assert(sizeof(struct acpi_mcfg) == 60, "PCI Firmware 3.3, table 4-3");
