/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Accesses to PCI configuration space by both ways, to BARs and to the MSI-X table, with interrupts, resets
 * and damaged saved states between them, and a tap that comes and goes.
 *
 * covers: bus/bus.c bus/pci.c bus/pci_host.c bus/pci_msix.c
 *
 *   input := op*     op := code u8, address u16, data u32 (little-endian)
 *
 * What must hold: nothing crashes; a BAR is mapped only inside a window and never over another; what the card
 * must not change stays; a saved state is one that it accepts; a tap sees the end of all whose begin it saw.
 */

#include <assert.h>
#include <linux/pci_regs.h>
#include <string.h>

#include "base/endian.h"
#include "base/limits.h"
#include "bus/pci.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define ECAM 0xb0000000ULL
#define WINDOW32 0xc0000000ULL
#define WINDOW64 0x100000000ULL
#define IO 0xc000
#define MAX_OPS 4000

struct card {
	struct device device;
	struct pci_state state;
	struct pci_function pci;
};

struct machine {
	struct bus *bus;
	struct pci_host *host;
	struct card cards[2];
	uint64_t messages;
	struct bus_tap tap;
	bool tapped;
	uint64_t begins, ends;
};

static uint64_t card_read(void *ctx, uint64_t offset, unsigned int size)
{
	const struct bus_region *region = ctx;

	assert(range_fits(offset, size, region->len));
	return offset;
}

static void card_write(void *ctx, uint64_t offset, unsigned int size, uint64_t data)
{
	card_read(ctx, offset, size);
}

static const struct bus_ops card_ops = { card_read, card_write };
static const struct device_ops no_ops;

static void config_seen(struct pci_function *function, unsigned int offset, unsigned int size)
{
	assert(range_fits(offset, size, PCI_CONFIG_SIZE));
}

static const struct pci_ops pci_ops = { .config_written = config_seen, .config_read = config_seen };

static void set_bar(struct card *card, unsigned int index, enum bus_space space, uint64_t size,
		    bool wide)
{
	struct bus_region region = { .name = "card", .space = space, .ops = &card_ops };

	region.lock = &card->device.lock;
	pci_set_bar(&card->pci, index, size, wide, &region);
	card->pci.bars[index].region.ctx = &card->pci.bars[index].region;
}

static void make_card(struct machine *m, struct card *card)
{
	const struct pci_identity identity = { .vendor = 0x1af4, .device = 0x1042 };

	device_init(&card->device, &no_ops, "card", &pci_state_table, &card->state);
	pci_function_init(&card->pci, &card->device, &card->state, &identity, &pci_ops);
	set_bar(card, 0, BUS_MMIO, 0x4000, true);
	set_bar(card, 2, BUS_PIO, 0x20, false);
	assert(pci_add_msix(&card->pci, 5, 3) == 0);
	assert(pci_plug(m->host, &card->pci, 0) == 0);
}

static void take_message(void *ctx, const struct msi_message *message)
{
	((struct machine *)ctx)->messages += message->data;
}

/* Answers one in four itself, so that the device does not see it. */
static enum tap_verdict tap_before(struct bus_tap *tap, struct bus_access *access)
{
	struct machine *m = container_of(tap, struct machine, tap);

	return m->begins++ % 4 == 3 ? TAP_DONE : TAP_PASS;
}

static void tap_after(struct bus_tap *tap, struct bus_access *access)
{
	container_of(tap, struct machine, tap)->ends++;
}

static void toggle_tap(struct machine *m)
{
	if (m->tapped)
		bus_remove_tap(m->bus, &m->tap);
	else
		bus_add_tap(m->bus, &m->tap);
	m->tapped = !m->tapped;
}

static void make_machine(struct machine *m)
{
	const struct pci_windows windows = {
		.ecam_base = ECAM,
		.mmio32_base = WINDOW32,
		.mmio32_len = 0x100000,
		.mmio64_base = WINDOW64,
		.mmio64_len = 0x100000,
		.io_base = IO,
		.io_len = 0x1000,
	};
	const struct pci_identity bridge = { .vendor = 0x8086, .device = 0x29c0 };
	const struct msi_sink sink = { take_message, m };

	*m = (struct machine){ .bus = bus_new(),
			       .tap = { .before = tap_before, .after = tap_after } };
	assert(m->bus && pci_host_new(m->bus, &windows, &bridge, &sink, &m->host) == 0);
	make_card(m, &m->cards[0]);
	make_card(m, &m->cards[1]);
}

static void free_machine(struct machine *m)
{
	if (m->tapped)
		toggle_tap(m);
	for (int i = 0; i < 2; i++) {
		pci_unplug(&m->cards[i].pci);
		device_release(&m->cards[i].device);
	}
	pci_host_device(m->host)->ops->destroy(pci_host_device(m->host));
	bus_free(m->bus);
}

static void access_bus(struct machine *m, enum bus_space space, bool write, uint8_t size,
		       uint64_t address, uint64_t data)
{
	struct bus_access access = {
		.space = space,
		.write = write,
		.size = size,
		.address = address,
		.data = data * 0x100000001ULL,
	};

	bus_dispatch(m->bus, &access);
}

static void check_bars(const struct machine *m)
{
	for (int i = 0; i < 2; i++) {
		const struct card *card = &m->cards[i];

		assert(le_load(card->state.config, 4) == 0x10421af4);
		for (int bar = 0; bar < PCI_BARS; bar++) {
			const struct pci_bar *b = &card->pci.bars[bar];

			if (b->mapped)
				assert(bus_find(m->bus, b->region.space, b->region.base) ==
				       &b->region);
		}
	}
}

/* Saves, perhaps damages, loads; what was not damaged must be accepted. */
static void save_and_load(struct machine *m, struct card *card, uint32_t where, uint8_t flip)
{
	struct state_section section;
	struct error err = { 0 };
	struct cursor cursor;
	struct buffer out;
	int r;

	buffer_init(&out, LIMIT_STATE_SECTION);
	assert(state_save(&out, &pci_state_table, "card", &card->state) == 0);
	out.data[where % out.len] ^= flip;
	cursor = (struct cursor){ .data = out.data, .left = out.len };
	r = state_next_section(&cursor, &section);
	if (r == 1)
		r = state_load(&section, &pci_state_table, &card->state, &err);
	if (r == 0)
		r = pci_function_loaded(&card->pci, &err);
	assert(r == 0 || flip);
	if (r < 0)
		pci_function_reset(&card->pci);
	buffer_release(&out);
}

enum op {
	OP_ECAM,
	OP_PORTS,
	OP_CONFIG_DATA,
	OP_BAR32,
	OP_BAR64,
	OP_IO,
	OP_NOTIFY,
	OP_RESET,
	OP_SAVE,
	OP_DAMAGE,
	OP_TAP,
	OP_COUNT,
};

/* The registers of the two cards, densely: function, then the first 128 or the whole 4096 bytes. */
static uint64_t ecam_address(uint16_t address)
{
	uint64_t function = address >> 14 & 3;

	return ECAM + (function << 15) + (address & 0x2000 ? address & 0xfff : address & 0x7f);
}

static void run_op(struct machine *m, uint8_t code, uint16_t address, uint32_t data)
{
	struct card *card = &m->cards[address & 1];
	bool write = code & 0x80;
	uint8_t size = (uint8_t)(1U << (code >> 4 & 3));

	switch (code % 16 % OP_COUNT) {
	case OP_ECAM:
		access_bus(m, BUS_MMIO, write, size, ecam_address(address), data);
		break;
	case OP_PORTS:
		access_bus(m, BUS_PIO, true, 4, 0xcf8, 0x80000000U | (address & 0x18fc));
		break;
	case OP_CONFIG_DATA:
		access_bus(m, BUS_PIO, write, size, 0xcf8 + (address & 7), data);
		break;
	case OP_BAR32:
		access_bus(m, BUS_MMIO, write, size, WINDOW32 + address, data);
		break;
	case OP_BAR64:
		access_bus(m, BUS_MMIO, write, size, WINDOW64 + address, data);
		break;
	case OP_IO:
		access_bus(m, BUS_PIO, write, size, IO + (address & 0xff), data);
		break;
	case OP_NOTIFY:
		pci_msix_notify(&card->pci, address >> 1);
		break;
	case OP_RESET:
		pci_function_reset(&card->pci);
		break;
	case OP_SAVE:
		save_and_load(m, card, 0, 0);
		break;
	case OP_DAMAGE:
		save_and_load(m, card, data, (uint8_t)(address >> 8));
		break;
	case OP_TAP:
		toggle_tap(m);
		break;
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct cursor input = { .data = data, .left = MIN(size, MAX_OPS * 7) };
	struct machine m;

	make_machine(&m);
	while (input.left >= 7) {
		uint8_t code = (uint8_t)cursor_take_le(&input, 1);
		uint16_t address = (uint16_t)cursor_take_le(&input, 2);

		run_op(&m, code, address, (uint32_t)cursor_take_le(&input, 4));
		check_bars(&m);
		assert(m.begins == m.ends);
	}
	free_machine(&m);
	return 0;
}
