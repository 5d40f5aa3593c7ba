/* SPDX-License-Identifier: Apache-2.0 */
/* The ACPI tables as a guest finds them; and, where iasl is installed, what it says of each. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/limits.h"
#include "boot/acpi.h"
#include "boot/acpi_tables.h"

struct fixture {
	struct memory *memory;
	struct acpi_params params;
	gpa_t rsdp;
};

static int setup(void **state)
{
	struct fixture *fixture = calloc(1, sizeof(*fixture));
	struct error err = { 0 };

	assert_int_equal(memory_create(MIB(32), 0xb0000000, GIB(4), MEMORY_HUGE_OFF, -1,
				       &fixture->memory, &err),
			 0);
	fixture->params = (struct acpi_params){
		.cpus = 2,
		.cpus_max = 5,
		.ecam_base = 0xb0000000,
		.ecam_len = MIB(1),
		.pci32_base = 0xc0000000,
		.pci32_len = 0x3ec00000,
		.pci64_base = GIB(5),
		.pci64_len = GIB(64),
		.io_base = 0xc000,
		.io_len = 0x4000,
		.generation_at = ACPI_GENERATION_AT,
		.ioapic_base = 0xfec00000,
		.lapic_base = 0xfee00000,
		.pm_port = 0x600,
		.ged_port = 0x620,
		.reset_port = 0xcf9,
		.sci_gsi = 9,
		.ged_gsi = 10,
	};
	*state = fixture;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *fixture = *state;

	memory_free(fixture->memory);
	free(fixture);
	return 0;
}

static int build(struct fixture *fixture)
{
	return acpi_build(fixture->memory, &fixture->params, &fixture->rsdp);
}

/* `len` bytes of guest memory; the caller's. */
static void *bytes_at(struct fixture *fixture, uint64_t at, size_t len)
{
	void *bytes = malloc(len);

	assert_int_equal(memory_read(fixture->memory, gpa(at), bytes, len), 0);
	return bytes;
}

static uint8_t sum(const void *data, size_t len)
{
	uint8_t total = 0;

	for (size_t i = 0; i < len; i++)
		total = (uint8_t)(total + ((const uint8_t *)data)[i]);
	return total;
}

/* The table at `at`, checked; the caller's. */
static void *table_at(struct fixture *fixture, uint64_t at)
{
	struct acpi_header *header = bytes_at(fixture, at, sizeof(*header));
	size_t len = le32_get(header->length);

	free(header);
	assert_in_range(len, sizeof(*header), 65536);
	header = bytes_at(fixture, at, len);
	assert_int_equal(sum(header, len), 0);
	return header;
}

/* The table of this signature, by RSDP and XSDT as a guest looks for it; the caller's. */
static void *find(struct fixture *fixture, const char *signature)
{
	struct acpi_rsdp *rsdp = bytes_at(fixture, fixture->rsdp.v, sizeof(*rsdp));
	struct acpi_header *xsdt = table_at(fixture, le64_get(rsdp->xsdt));
	const le64_t *entries = (const void *)(xsdt + 1);
	size_t count = (le32_get(xsdt->length) - sizeof(*xsdt)) / 8;
	struct acpi_header *table = NULL;

	for (size_t i = 0; i < count; i++) {
		le64_t at;

		memcpy(&at, &entries[i], sizeof(at));
		free(table);
		table = table_at(fixture, le64_get(at));
		if (memcmp(table->signature, signature, 4) == 0)
			break;
	}
	assert_memory_equal(table->signature, signature, 4);
	free(xsdt);
	free(rsdp);
	return table;
}

static void test_rsdp_is_where_a_scan_finds_it(void **state)
{
	struct fixture *fixture = *state;
	struct acpi_rsdp *rsdp;

	assert_int_equal(build(fixture), 0);
	assert_in_range(fixture->rsdp.v, 0xe0000, 0xfffff);
	assert_true(IS_ALIGNED(fixture->rsdp.v, 16));
	rsdp = bytes_at(fixture, fixture->rsdp.v, sizeof(*rsdp));
	assert_memory_equal(rsdp->signature, "RSD PTR ", 8);
	assert_int_equal(sum(rsdp, 20), 0);
	assert_int_equal(sum(rsdp, sizeof(*rsdp)), 0);
	free(rsdp);
}

static void test_madt_lists_vcpus(void **state)
{
	struct fixture *fixture = *state;
	struct acpi_madt *madt;
	uint32_t enabled = 0, capable = 0;
	size_t at = sizeof(*madt);

	assert_int_equal(build(fixture), 0);
	madt = find(fixture, "APIC");
	while (at < le32_get(madt->header.length)) {
		const struct acpi_madt_lapic *entry = (const void *)((const char *)madt + at);

		assert_true(entry->length >= 2);
		if (entry->type == 0 && le32_get(entry->flags) == ACPI_LAPIC_ENABLED)
			assert_int_equal(entry->apic_id, enabled++);
		else if (entry->type == 0 && le32_get(entry->flags) == ACPI_LAPIC_ONLINE_CAPABLE)
			assert_int_equal(entry->apic_id, 2 + capable++);
		at += entry->length;
	}
	assert_int_equal(at, le32_get(madt->header.length));
	assert_int_equal(enabled, 2);
	assert_int_equal(capable, 3);
	free(madt);
}

static void test_fadt_tells_ports(void **state)
{
	struct fixture *fixture = *state;
	struct acpi_fadt *fadt;
	struct acpi_header *dsdt;

	assert_int_equal(build(fixture), 0);
	fadt = find(fixture, "FACP");
	assert_int_equal(le64_get(fadt->x_pm1a_event.address), 0x600);
	assert_int_equal(le64_get(fadt->x_pm1a_control.address), 0x604);
	assert_int_equal(le64_get(fadt->x_pm_timer.address), 0x608);
	assert_int_equal(le64_get(fadt->reset.address), 0xcf9);
	assert_int_equal(fadt->reset_value, 6);
	assert_int_equal(le16_get(fadt->sci_interrupt), 9);
	assert_int_equal(le32_get(fadt->flags) & 1 << 20, 0); /* not hardware-reduced */
	dsdt = table_at(fixture, le64_get(fadt->x_dsdt));
	assert_memory_equal(dsdt->signature, "DSDT", 4);
	free(dsdt);
	free(fadt);
}

static void test_facs_is_aligned(void **state)
{
	struct fixture *fixture = *state;
	struct acpi_fadt *fadt;
	struct acpi_facs *facs;

	assert_int_equal(build(fixture), 0);
	fadt = find(fixture, "FACP");
	assert_true(IS_ALIGNED(le32_get(fadt->firmware_ctrl), 64));
	facs = bytes_at(fixture, le32_get(fadt->firmware_ctrl), sizeof(*facs));
	assert_memory_equal(facs->signature, "FACS", 4);
	assert_int_equal(le32_get(facs->length), 64);
	free(facs);
	free(fadt);
}

static void test_mcfg_covers_ecam(void **state)
{
	struct fixture *fixture = *state;
	struct acpi_mcfg *mcfg;

	fixture->params.ecam_len = MIB(16);
	assert_int_equal(build(fixture), 0);
	mcfg = find(fixture, "MCFG");
	assert_int_equal(le64_get(mcfg->base), 0xb0000000);
	assert_int_equal(mcfg->first_bus, 0);
	assert_int_equal(mcfg->last_bus, 15);
	free(mcfg);
}

static void test_parameter_page(void **state)
{
	struct fixture *fixture = *state;
	struct acpi_parameter_page *page;

	fixture->params.cpus_max = LIMIT_VCPUS;
	assert_int_equal(build(fixture), 0);
	page = bytes_at(fixture, ACPI_AT, sizeof(*page));
	assert_int_equal(le64_get(page->magic), ACPI_PAGE_MAGIC);
	assert_int_equal(le64_get(page->cpus_possible), UINT64_MAX);
	assert_int_equal(le64_get(page->cpus_present), 3);
	assert_int_equal(le64_get(page->pci64_base), GIB(5));
	assert_int_equal(le32_get(page->ged_gsi), 10);
	free(page);
	assert_int_equal(acpi_set_present(fixture->memory, 7), 0);
	page = bytes_at(fixture, ACPI_AT, sizeof(*page));
	assert_int_equal(le64_get(page->cpus_present), 7);
	assert_int_equal(le64_get(page->cpus_possible), UINT64_MAX);
	free(page);
}

static void test_generation_page_is_left_alone(void **state)
{
	struct fixture *fixture = *state;
	static const uint8_t zeroes[4096];
	void *page;

	fixture->params.cpus_max = LIMIT_VCPUS;
	assert_int_equal(build(fixture), 0);
	page = bytes_at(fixture, ACPI_GENERATION_AT, 4096);
	assert_memory_equal(page, zeroes, 4096);
	free(page);
}

static void test_impossible_numbers_are_refused(void **state)
{
	struct fixture *fixture = *state;
	const struct acpi_params good = fixture->params;

	fixture->params.cpus = 0;
	assert_int_equal(build(fixture), -EINVAL);
	fixture->params = good;
	fixture->params.cpus_max = LIMIT_VCPUS + 1;
	assert_int_equal(build(fixture), -EINVAL);
	fixture->params = good;
	fixture->params.cpus = 6;
	assert_int_equal(build(fixture), -EINVAL);
	fixture->params = good;
	fixture->params.ecam_len = MIB(1) + 4096;
	assert_int_equal(build(fixture), -EINVAL);
}

/* True when a file has the text. */
static bool file_has(const char *path, const char *text)
{
	char *line = NULL;
	size_t size = 0;
	bool found = false;
	FILE *file = fopen(path, "r");

	if (!file)
		return false;
	while (!found && getline(&line, &size, file) >= 0)
		found = strstr(line, text);
	free(line);
	fclose(file);
	return found;
}

static void write_table(const char *path, const struct acpi_header *table)
{
	FILE *file = fopen(path, "w");

	assert_non_null(file);
	assert_int_equal(fwrite(table, 1, le32_get(table->length), file), le32_get(table->length));
	assert_int_equal(fclose(file), 0);
}

/* Disassembles a table in `folder` and looks for complaints. */
static void judge(const char *folder, const char *name, const struct acpi_header *table)
{
	char path[128], command[512];

	snprintf(path, sizeof(path), "%s/%s.dat", folder, name);
	write_table(path, table);
	snprintf(command, sizeof(command), "cd %s && iasl -d %s.dat >%s.log 2>&1", folder, name,
		 name);
	assert_int_equal(system(command), 0);
	snprintf(path, sizeof(path), "%s/%s.dsl", folder, name);
	assert_false(file_has(path, "Incorrect checksum"));
	assert_false(file_has(path, "**** "));
	assert_false(file_has(path, "Invalid"));
	assert_false(file_has(path, "Unknown"));
}

static void test_iasl_understands_every_table(void **state)
{
	static const char *const signatures[] = { "APIC", "FACP", "MCFG" };
	struct fixture *fixture = *state;
	char folder[] = "/tmp/test-acpi-XXXXXX", command[64];
	struct acpi_fadt *fadt;
	struct acpi_header *dsdt;

	if (system("command -v iasl >/dev/null") != 0)
		skip();
	assert_non_null(mkdtemp(folder));
	assert_int_equal(build(fixture), 0);
	for (size_t i = 0; i < ARRAY_SIZE(signatures); i++) {
		struct acpi_header *table = find(fixture, signatures[i]);

		judge(folder, signatures[i], table);
		free(table);
	}
	fadt = find(fixture, "FACP");
	dsdt = table_at(fixture, le64_get(fadt->x_dsdt));
	judge(folder, "DSDT", dsdt);
	free(dsdt);
	free(fadt);
	snprintf(command, sizeof(command), "rm -r %s", folder);
	assert_int_equal(system(command), 0);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		TEST(test_rsdp_is_where_a_scan_finds_it),
		TEST(test_madt_lists_vcpus),
		TEST(test_fadt_tells_ports),
		TEST(test_facs_is_aligned),
		TEST(test_mcfg_covers_ecam),
		TEST(test_parameter_page),
		TEST(test_generation_page_is_left_alone),
		TEST(test_impossible_numbers_are_refused),
		TEST(test_iasl_understands_every_table),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
