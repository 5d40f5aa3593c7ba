/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <linux/pci_regs.h>
#include <string.h>

#include "bus/pci.h"
#include "check.h"

#define ECAM 0xb0000000ULL
#define BAR32 0xc0000000ULL
#define BAR64 0x100000000ULL

/* A function with one small 64-bit BAR and MSI-X in BAR 2. */
struct card {
	struct device device;
	struct pci_state state;
	struct pci_function pci;
	uint64_t reg;
};

struct machine {
	struct bus *bus;
	struct pci_host *host;
	struct msi_message last;
	unsigned int messages;
	struct card card;
};

static void take_message(void *ctx, const struct msi_message *message)
{
	struct machine *machine = ctx;

	machine->last = *message;
	machine->messages++;
}

static uint64_t card_read(void *ctx, uint64_t offset, unsigned int size _unused_)
{
	return ((struct card *)ctx)->reg + offset;
}

static void card_write(void *ctx, uint64_t offset _unused_, unsigned int size _unused_,
		       uint64_t data)
{
	((struct card *)ctx)->reg = data;
}

static const struct bus_ops card_ops = { card_read, card_write };
static const struct device_ops no_ops;

static void make_card(struct card *card)
{
	const struct pci_identity identity = {
		.vendor = 0x1af4,
		.device = 0x1042,
		.class_code = 0x010000,
	};
	struct bus_region region = { .name = "card", .space = BUS_MMIO, .ops = &card_ops };

	device_init(&card->device, &no_ops, "card", &pci_state_table, &card->state);
	pci_function_init(&card->pci, &card->device, &card->state, &identity, NULL);
	region.ctx = card;
	region.lock = &card->device.lock;
	pci_set_bar(&card->pci, 0, 0x4000, true, &region);
	assert_int_equal(pci_add_msix(&card->pci, 3, 2), 0);
}

static int set_up(void **state)
{
	static struct machine machine;
	const struct pci_windows windows = {
		.ecam_base = ECAM,
		.mmio32_base = BAR32,
		.mmio32_len = 0x10000000,
		.mmio64_base = BAR64,
		.mmio64_len = 0x10000000,
		.io_base = 0xc000,
		.io_len = 0x4000,
	};
	const struct pci_identity bridge = { .vendor = 0x8086,
					     .device = 0x29c0,
					     .class_code = 0x060000 };
	const struct msi_sink sink = { take_message, &machine };

	machine = (struct machine){ .bus = bus_new() };
	assert_int_equal(pci_host_new(machine.bus, &windows, &bridge, &sink, &machine.host), 0);
	make_card(&machine.card);
	assert_int_equal(pci_plug(machine.host, &machine.card.pci, 0), 0);
	*state = &machine;
	return 0;
}

static int tear_down(void **state)
{
	struct machine *machine = *state;

	pci_unplug(&machine->card.pci);
	device_release(&machine->card.device);
	pci_host_device(machine->host)->ops->destroy(pci_host_device(machine->host));
	bus_free(machine->bus);
	return 0;
}

static uint64_t load(struct machine *machine, enum bus_space space, uint64_t address, uint8_t size)
{
	struct bus_access access = { .space = space, .size = size, .address = address };

	bus_dispatch(machine->bus, &access);
	return access.data;
}

static void store(struct machine *machine, enum bus_space space, uint64_t address, uint8_t size,
		  uint64_t data)
{
	struct bus_access access = {
		.space = space,
		.write = true,
		.size = size,
		.address = address,
		.data = data,
	};

	bus_dispatch(machine->bus, &access);
}

#define SLOT1 (ECAM + (1 << 15))

static uint64_t config(struct machine *machine, unsigned int reg, uint8_t size)
{
	return load(machine, BUS_MMIO, SLOT1 + reg, size);
}

static void set_config(struct machine *machine, unsigned int reg, uint8_t size, uint64_t data)
{
	store(machine, BUS_MMIO, SLOT1 + reg, size, data);
}

static void both_ways_lead_to_configuration_space(void **state)
{
	struct machine *machine = *state;

	assert_int_equal(load(machine, BUS_MMIO, ECAM, 4), 0x29c08086);
	assert_int_equal(config(machine, PCI_VENDOR_ID, 4), 0x10421af4);
	store(machine, BUS_PIO, 0xcf8, 4, 0x80000800);
	assert_int_equal(load(machine, BUS_PIO, 0xcfc, 4), 0x10421af4);
	assert_int_equal(load(machine, BUS_PIO, 0xcfe, 2), 0x1042);
	assert_int_equal(load(machine, BUS_PIO, 0xcf8, 4), 0x80000800);
	/* No function there, or not enabled: all ones. */
	assert_int_equal(load(machine, BUS_MMIO, ECAM + (2 << 15), 4), 0xffffffff);
	store(machine, BUS_PIO, 0xcf8, 4, 0x00000800);
	assert_int_equal(load(machine, BUS_PIO, 0xcfc, 4), 0xffffffff);
}

static void read_only_registers_stay(void **state)
{
	struct machine *machine = *state;

	set_config(machine, PCI_VENDOR_ID, 4, 0);
	set_config(machine, PCI_CAPABILITY_LIST, 1, 0);
	set_config(machine, PCI_STATUS, 2, 0xffff);
	assert_int_equal(config(machine, PCI_VENDOR_ID, 4), 0x10421af4);
	assert_int_equal(config(machine, PCI_CAPABILITY_LIST, 1), 0x40);
	assert_int_equal(config(machine, PCI_STATUS, 2), PCI_STATUS_CAP_LIST);
	set_config(machine, PCI_COMMAND, 2, 0xffff);
	assert_int_equal(config(machine, PCI_COMMAND, 2), 0x0407);
}

static void a_bar_is_sized_placed_and_moved(void **state)
{
	struct machine *machine = *state;
	uint64_t first = config(machine, PCI_BASE_ADDRESS_0, 4) & ~0xfULL;

	assert_int_equal(config(machine, PCI_BASE_ADDRESS_0, 4) & 0xf, 0x4);
	assert_in_range(first, BAR32, BAR32 + 0x10000000);
	/* Decoding is off after power-on. */
	assert_int_equal(load(machine, BUS_MMIO, first, 4), 0xffffffff);
	set_config(machine, PCI_COMMAND, 2, PCI_COMMAND_MEMORY);
	store(machine, BUS_MMIO, first, 4, 100);
	assert_int_equal(load(machine, BUS_MMIO, first + 8, 4), 108);
	/* Sizing: all ones read back as the size; the range is nowhere meanwhile. */
	set_config(machine, PCI_BASE_ADDRESS_0, 4, 0xffffffff);
	set_config(machine, PCI_BASE_ADDRESS_1, 4, 0xffffffff);
	assert_int_equal(config(machine, PCI_BASE_ADDRESS_0, 4), 0xffffc004);
	assert_int_equal(config(machine, PCI_BASE_ADDRESS_1, 4), 0xffffffff);
	assert_null(bus_find(machine->bus, BUS_MMIO, first));
	set_config(machine, PCI_BASE_ADDRESS_0, 4, 0x8000);
	set_config(machine, PCI_BASE_ADDRESS_1, 4, 1);
	assert_int_equal(load(machine, BUS_MMIO, BAR64 + 0x8000, 4), 100);
	/* Outside every window there is nothing, even below 4 GiB where RAM would be. */
	set_config(machine, PCI_BASE_ADDRESS_0, 4, 0x100000);
	set_config(machine, PCI_BASE_ADDRESS_1, 4, 0);
	assert_null(bus_find(machine->bus, BUS_MMIO, 0x100000));
}

static void bars_that_overlap_are_not_mapped_twice(void **state)
{
	struct machine *machine = *state;
	uint64_t other = config(machine, PCI_BASE_ADDRESS_2, 4) & ~0xfULL;

	set_config(machine, PCI_COMMAND, 2, PCI_COMMAND_MEMORY);
	set_config(machine, PCI_BASE_ADDRESS_0, 4, other & ~0x3fffULL);
	set_config(machine, PCI_BASE_ADDRESS_1, 4, 0);
	assert_false(machine->card.pci.bars[0].mapped);
	assert_true(machine->card.pci.bars[2].mapped);
}

static uint64_t msix_table(struct machine *machine)
{
	set_config(machine, PCI_COMMAND, 2, PCI_COMMAND_MEMORY);
	return config(machine, PCI_BASE_ADDRESS_2, 4) & ~0xfULL;
}

static void program_vector(struct machine *machine, uint64_t table, unsigned int vector,
			   uint32_t data, uint32_t control)
{
	store(machine, BUS_MMIO, table + vector * 16, 8, 0xfee00000);
	store(machine, BUS_MMIO, table + vector * 16 + 8, 4, data);
	store(machine, BUS_MMIO, table + vector * 16 + 12, 4, control);
}

static void a_vector_is_sent_when_unmasked(void **state)
{
	struct machine *machine = *state;
	uint64_t table = msix_table(machine);
	unsigned int control = machine->card.pci.msix_cap + 2U;

	pci_msix_notify(&machine->card.pci, 1);
	assert_int_equal(machine->messages, 0); /* not enabled: lost, not pending */
	set_config(machine, control, 2, PCI_MSIX_FLAGS_ENABLE);
	program_vector(machine, table, 1, 0x4041, 0);
	pci_msix_notify(&machine->card.pci, 1);
	assert_int_equal(machine->messages, 1);
	assert_int_equal(machine->last.data, 0x4041);
	assert_int_equal(machine->last.address, 0xfee00000);
	pci_msix_notify(&machine->card.pci, 3); /* there are three: 0, 1, 2 */
	pci_msix_notify(&machine->card.pci, UINT32_MAX);
	assert_int_equal(machine->messages, 1);
}

static void a_masked_vector_is_kept_pending(void **state)
{
	struct machine *machine = *state;
	uint64_t table = msix_table(machine);
	unsigned int control = machine->card.pci.msix_cap + 2U;

	set_config(machine, control, 2, PCI_MSIX_FLAGS_ENABLE | PCI_MSIX_FLAGS_MASKALL);
	program_vector(machine, table, 0, 0x31, 0);
	program_vector(machine, table, 2, 0x32, 1);
	pci_msix_notify(&machine->card.pci, 0);
	pci_msix_notify(&machine->card.pci, 2);
	assert_int_equal(machine->messages, 0);
	assert_int_equal(load(machine, BUS_MMIO, table + 0x800, 4), 0x5);
	set_config(machine, control, 2, PCI_MSIX_FLAGS_ENABLE);
	assert_int_equal(machine->messages, 1);
	assert_int_equal(machine->last.data, 0x31);
	program_vector(machine, table, 2, 0x33, 0);
	assert_int_equal(machine->messages, 2);
	assert_int_equal(machine->last.data, 0x33);
	assert_int_equal(load(machine, BUS_MMIO, table + 0x800, 8), 0);
}

static void strange_table_accesses_do_nothing(void **state)
{
	struct machine *machine = *state;
	uint64_t table = msix_table(machine);

	store(machine, BUS_MMIO, table + 1, 4, 0xffffffff);
	store(machine, BUS_MMIO, table + 4, 8, UINT64_MAX);
	store(machine, BUS_MMIO, table, 1, 0xff);
	store(machine, BUS_MMIO, table + 3 * 16, 4, 0xffffffff);
	store(machine, BUS_MMIO, table + 0x800, 8, UINT64_MAX);
	for (unsigned int i = 0; i < 0x1000; i += 8)
		if (i % 16 == 0 || i >= 3 * 16)
			assert_int_equal(load(machine, BUS_MMIO, table + i, 8), 0);
}

static void reset_returns_to_power_on(void **state)
{
	struct machine *machine = *state;
	struct pci_state before = machine->card.state;

	msix_table(machine);
	set_config(machine, PCI_BASE_ADDRESS_0, 4, 0xc8000000);
	set_config(machine, PCI_INTERRUPT_LINE, 1, 7);
	pci_function_reset(&machine->card.pci);
	assert_null(state_compare(&pci_state_table, &before, &machine->card.state));
	assert_false(machine->card.pci.bars[0].mapped);
}

static void loaded_state_maps_bars_and_is_judged(void **state)
{
	struct machine *machine = *state;
	struct error err = { 0 };

	msix_table(machine);
	machine->card.state.config[PCI_BASE_ADDRESS_0 + 3] = 0xc8;
	machine->card.state.config[PCI_BASE_ADDRESS_0 + 2] = 0;
	machine->card.state.config[PCI_BASE_ADDRESS_0 + 1] = 0;
	assert_int_equal(pci_function_loaded(&machine->card.pci, &err), 0);
	assert_ptr_equal(bus_find(machine->bus, BUS_MMIO, 0xc8000000),
			 &machine->card.pci.bars[0].region);
	machine->card.state.config[PCI_DEVICE_ID] ^= 1;
	assert_int_equal(pci_function_loaded(&machine->card.pci, &err), -EINVAL);
	assert_non_null(strstr(err.message, "0x2"));
	machine->card.state.config[PCI_DEVICE_ID] ^= 1; /* as it was */
	err = (struct error){ 0 };
	machine->card.state.n_msix++;
	assert_int_equal(pci_function_loaded(&machine->card.pci, &err), -EINVAL);
	assert_non_null(strstr(err.message, "MSI-X"));
	machine->card.state.n_msix--;
}

static void slots_run_out(void **state)
{
	static struct card cards[31];
	struct machine *machine = *state;

	for (int i = 0; i < 30; i++) {
		make_card(&cards[i]);
		assert_int_equal(pci_plug(machine->host, &cards[i].pci, 0), 0);
	}
	make_card(&cards[30]);
	assert_int_equal(pci_plug(machine->host, &cards[30].pci, 0), -ENOSPC);
	assert_int_equal(pci_plug(machine->host, &cards[30].pci, 1), -ENOSPC);
	for (int i = 0; i < 30; i++)
		pci_unplug(&cards[i].pci);
	assert_int_equal(pci_plug(machine->host, &cards[30].pci, 9), 0);
	pci_unplug(&cards[30].pci);
	for (int i = 0; i < 31; i++)
		device_release(&cards[i].device);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
	const struct CMUnitTest tests[] = {
		TEST(both_ways_lead_to_configuration_space),
		TEST(read_only_registers_stay),
		TEST(a_bar_is_sized_placed_and_moved),
		TEST(bars_that_overlap_are_not_mapped_twice),
		TEST(a_vector_is_sent_when_unmasked),
		TEST(a_masked_vector_is_kept_pending),
		TEST(strange_table_accesses_do_nothing),
		TEST(reset_returns_to_power_on),
		TEST(loaded_state_maps_bars_and_is_judged),
		TEST(slots_run_out),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
