/* SPDX-License-Identifier: Apache-2.0 */
#include "boot/acpi.h"

#include <errno.h>
#include <string.h>

#include "base/limits.h"
#include "boot/acpi_tables.h"
#include "boot/dsdt.h"

/* The AML's operation region has these offsets (dsdt.asl, PRMS). */
#define PAGE_OFFSET(member, at)                                                                    \
	_Static_assert(offsetof(struct acpi_parameter_page, member) == (at), "dsdt.asl has " #at)
PAGE_OFFSET(cpus_possible, 0x08);
PAGE_OFFSET(cpus_present, 0x10);
PAGE_OFFSET(ecam_base, 0x18);
PAGE_OFFSET(ecam_len, 0x20);
PAGE_OFFSET(pci32_base, 0x28);
PAGE_OFFSET(pci32_len, 0x30);
PAGE_OFFSET(pci64_base, 0x38);
PAGE_OFFSET(pci64_len, 0x40);
PAGE_OFFSET(generation_at, 0x48);
PAGE_OFFSET(io_base, 0x50);
PAGE_OFFSET(io_len, 0x54);
PAGE_OFFSET(ged_port, 0x58);
PAGE_OFFSET(ged_gsi, 0x5c);

_Static_assert(LIMIT_VCPUS <= 64, "one bit each in cpus_possible, one device each in dsdt.asl");

/* FADT. */
#define BOOT_LEGACY_DEVICES 0x1 /* a serial port outside PCI; no keyboard controller */
#define BOOT_NO_VGA 0x4
#define BOOT_NO_ASPM 0x10
#define FLAG_WBINVD (1u << 0)
#define FLAG_PROC_C1 (1u << 2)
#define FLAG_NO_SLEEP_BUTTON (1u << 5)
#define FLAG_NO_FIXED_RTC (1u << 6)
#define FLAG_TIMER_32_BITS (1u << 8)
#define FLAG_RESET_REGISTER (1u << 10)
#define RESET_VALUE 6
#define NOT_SUPPORTED_C2 0x65  /* us; above 100: no C2 */
#define NOT_SUPPORTED_C3 0x3e9 /* us; above 1000: no C3 */
#define RTC_CENTURY 0x32

#define MADT_PCAT_COMPAT 1 /* two 8259s are there too */
#define NMI_ALL_PROCESSORS 0xff

/* Where the next table goes, in guest memory. */
struct writer {
	struct memory *memory;
	uint64_t at, end;
};

static uint8_t checksum(const void *data, size_t len)
{
	const uint8_t *bytes = data;
	uint8_t sum = 0;

	for (size_t i = 0; i < len; i++)
		sum = (uint8_t)(sum + bytes[i]);
	return (uint8_t)-sum;
}

static int put(struct writer *writer, const void *data, size_t len, uint64_t align,
	       uint64_t *ret_at)
{
	uint64_t at = ALIGN_UP(writer->at, align);
	int r;

	if (!range_fits(at, len, writer->end))
		return -ENOSPC;
	r = memory_write(writer->memory, gpa(at), data, len);
	if (r < 0)
		return r;
	writer->at = at + len;
	*ret_at = at;
	return 0;
}

/* Fills the header of the table at `header`, `len` bytes with it, and writes all of it. */
static int put_table(struct writer *writer, struct acpi_header *header, size_t len,
		     const char signature[4], uint8_t revision, uint64_t *ret_at)
{
	memcpy(header->signature, signature, 4);
	header->length = le32_make((uint32_t)len);
	header->revision = revision;
	memcpy(header->oem_id, "UTSUSU", 6);
	memcpy(header->oem_table_id, "UTSUSUVM", 8);
	header->oem_revision = le32_make(1);
	memcpy(header->creator_id, "UTSU", 4);
	header->creator_revision = le32_make(1);
	header->checksum = 0;
	header->checksum = checksum(header, len);
	return put(writer, header, len, 16, ret_at);
}

static struct acpi_address port(uint16_t address, uint8_t bytes, uint8_t access)
{
	return (struct acpi_address){
		.space = ACPI_SPACE_IO,
		.bits = (uint8_t)(bytes * 8),
		.access = access,
		.address = le64_make(address),
	};
}

static int put_fadt(struct writer *writer, const struct acpi_params *params, uint64_t facs,
		    uint64_t dsdt, uint64_t *ret_at)
{
	/* The layout of the power device's ports: device/power.h. */
	uint16_t event = params->pm_port, control = (uint16_t)(params->pm_port + 4);
	uint16_t timer = (uint16_t)(params->pm_port + 8);
	struct acpi_fadt fadt = {
		.firmware_ctrl = le32_make((uint32_t)facs),
		.dsdt = le32_make((uint32_t)dsdt),
		.sci_interrupt = le16_make((uint16_t)params->sci_gsi),
		.pm1a_event = le32_make(event),
		.pm1a_control = le32_make(control),
		.pm_timer = le32_make(timer),
		.pm1_event_len = 4,
		.pm1_control_len = 2,
		.pm_timer_len = 4,
		.c2_latency = le16_make(NOT_SUPPORTED_C2),
		.c3_latency = le16_make(NOT_SUPPORTED_C3),
		.century = RTC_CENTURY,
		.boot_flags = le16_make(BOOT_LEGACY_DEVICES | BOOT_NO_VGA | BOOT_NO_ASPM),
		.flags = le32_make(FLAG_WBINVD | FLAG_PROC_C1 | FLAG_NO_SLEEP_BUTTON |
				   FLAG_NO_FIXED_RTC | FLAG_TIMER_32_BITS | FLAG_RESET_REGISTER),
		.reset = port(params->reset_port, 1, ACPI_ACCESS_BYTE),
		.reset_value = RESET_VALUE,
		.minor = 4,
		.x_firmware_ctrl =
			le64_make(0), /* ACPI 6.4, 5.2.9: only one of the two may be set */
		.x_dsdt = le64_make(dsdt),
		.x_pm1a_event = port(event, 4, ACPI_ACCESS_WORD),
		.x_pm1a_control = port(control, 2, ACPI_ACCESS_WORD),
		.x_pm_timer = port(timer, 4, ACPI_ACCESS_DWORD),
		.hypervisor_vendor = { 'U', 'T', 'S', 'U', 'S', 'U' },
	};

	return put_table(writer, &fadt.header, sizeof(fadt), "FACP", 6, ret_at);
}

struct madt {
	struct acpi_madt head;
	struct acpi_madt_ioapic ioapic;
	struct acpi_madt_override pit, sci;
	struct acpi_madt_lapic_nmi nmi;
	struct acpi_madt_lapic lapics[LIMIT_VCPUS];
} ACPI_PACKED;

static int put_madt(struct writer *writer, const struct acpi_params *params, uint64_t *ret_at)
{
	struct madt madt = {
		.head = { .lapic_base = le32_make(params->lapic_base),
			  .flags = le32_make(MADT_PCAT_COMPAT) },
		.ioapic = { .type = 1,
			    .length = sizeof(madt.ioapic),
			    .base = le32_make(params->ioapic_base) },
		/* The timer's line is input 2: input 0 is the 8259s' output on a PC. */
		.pit = { .type = 2, .length = sizeof(madt.pit), .source = 0, .gsi = le32_make(2) },
		.sci = { .type = 2,
			 .length = sizeof(madt.sci),
			 .source = (uint8_t)params->sci_gsi,
			 .gsi = le32_make(params->sci_gsi),
			 .flags = le16_make(ACPI_POLARITY_HIGH | ACPI_TRIGGER_LEVEL) },
		.nmi = { .type = 4,
			 .length = sizeof(madt.nmi),
			 .uid = NMI_ALL_PROCESSORS,
			 .lint = 1 },
	};

	for (uint32_t i = 0; i < params->cpus_max; i++)
		madt.lapics[i] = (struct acpi_madt_lapic){
			.length = sizeof(madt.lapics[i]),
			.uid = (uint8_t)i,
			.apic_id = (uint8_t)i,
			.flags = le32_make(i < params->cpus ? ACPI_LAPIC_ENABLED
							    : ACPI_LAPIC_ONLINE_CAPABLE),
		};
	return put_table(writer, &madt.head.header,
			 offsetof(struct madt, lapics) + params->cpus_max * sizeof(madt.lapics[0]),
			 "APIC", 5, ret_at);
}

static int put_mcfg(struct writer *writer, const struct acpi_params *params, uint64_t *ret_at)
{
	struct acpi_mcfg mcfg = {
		.base = le64_make(params->ecam_base),
		.last_bus = (uint8_t)((params->ecam_len >> 20) - 1), /* 1 MiB for each bus */
	};

	return put_table(writer, &mcfg.header, sizeof(mcfg), "MCFG", 1, ret_at);
}

static int put_facs(struct writer *writer, uint64_t *ret_at)
{
	struct acpi_facs facs = {
		.signature = { 'F', 'A', 'C', 'S' },
		.length = le32_make(sizeof(facs)),
		.version = 2,
	};

	return put(writer, &facs, sizeof(facs), 64, ret_at);
}

static int put_root(struct writer *writer, const uint64_t *tables, size_t n_tables,
		    uint64_t rsdp_at)
{
	struct {
		struct acpi_header header;
		le64_t tables[3];
	} ACPI_PACKED xsdt = { 0 };
	struct acpi_rsdp rsdp = {
		.signature = { 'R', 'S', 'D', ' ', 'P', 'T', 'R', ' ' },
		.oem_id = { 'U', 'T', 'S', 'U', 'S', 'U' },
		.revision = 2,
		.length = le32_make(sizeof(rsdp)),
	};
	uint64_t xsdt_at;
	int r;

	for (size_t i = 0; i < n_tables; i++)
		xsdt.tables[i] = le64_make(tables[i]);
	r = put_table(writer, &xsdt.header, sizeof(xsdt.header) + n_tables * sizeof(le64_t), "XSDT",
		      1, &xsdt_at);
	if (r < 0)
		return r;
	rsdp.xsdt = le64_make(xsdt_at);
	rsdp.checksum = checksum(&rsdp, offsetof(struct acpi_rsdp, length));
	rsdp.extended_checksum = checksum(&rsdp, sizeof(rsdp));
	return memory_write(writer->memory, gpa(rsdp_at), &rsdp, sizeof(rsdp));
}

static uint64_t cpu_mask(uint32_t count)
{
	return count >= 64 ? UINT64_MAX : (1ULL << count) - 1;
}

static int put_page(struct memory *memory, const struct acpi_params *params)
{
	struct acpi_parameter_page page = {
		.magic = le64_make(ACPI_PAGE_MAGIC),
		.cpus_possible = le64_make(cpu_mask(params->cpus_max)),
		.cpus_present = le64_make(cpu_mask(params->cpus)),
		.ecam_base = le64_make(params->ecam_base),
		.ecam_len = le64_make(params->ecam_len),
		.pci32_base = le64_make(params->pci32_base),
		.pci32_len = le64_make(params->pci32_len),
		.pci64_base = le64_make(params->pci64_base),
		.pci64_len = le64_make(params->pci64_len),
		.generation_at = le64_make(params->generation_at),
		.io_base = le32_make(params->io_base),
		.io_len = le32_make(params->io_len),
		.ged_port = le32_make(params->ged_port),
		.ged_gsi = le32_make(params->ged_gsi),
	};

	return memory_write(memory, gpa(ACPI_AT), &page, sizeof(page));
}

static bool params_sane(const struct acpi_params *params)
{
	return params->cpus > 0 && params->cpus <= params->cpus_max &&
	       params->cpus_max <= LIMIT_VCPUS && params->ecam_len >= MIB(1) &&
	       params->ecam_len <= MIB(256) && IS_ALIGNED(params->ecam_len, MIB(1)) &&
	       params->sci_gsi < 16;
}

int acpi_build(struct memory *memory, const struct acpi_params *params, gpa_t *ret_rsdp)
{
	uint64_t rsdp = ACPI_AT + MEMORY_PAGE_SIZE;
	struct writer writer = { memory, rsdp + sizeof(struct acpi_rsdp), ACPI_AT + ACPI_ROOM };
	uint64_t facs, dsdt, tables[3];
	int r;

	if (!params_sane(params))
		return -EINVAL;
	r = put_page(memory, params);
	if (r == 0)
		r = put_facs(&writer, &facs);
	if (r == 0)
		r = put(&writer, dsdt_aml, dsdt_aml_len, 16, &dsdt);
	if (r == 0)
		r = put_fadt(&writer, params, facs, dsdt, &tables[0]);
	if (r == 0)
		r = put_madt(&writer, params, &tables[1]);
	if (r == 0)
		r = put_mcfg(&writer, params, &tables[2]);
	if (r == 0)
		r = put_root(&writer, tables, ARRAY_SIZE(tables), rsdp);
	if (r < 0)
		return r;
	*ret_rsdp = gpa(rsdp);
	return 0;
}

int acpi_set_present(struct memory *memory, uint64_t cpus)
{
	le64_t present = le64_make(cpus);

	return memory_write(memory,
			    gpa(ACPI_AT + offsetof(struct acpi_parameter_page, cpus_present)),
			    &present, sizeof(present));
}
