/* SPDX-License-Identifier: Apache-2.0 */
#include "board_rig.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/endian.h"
#include "block/filters/filter.h"
#include "device/power.h"
#include "kernel_images.h"
#include "net/pair.h"
#include "vm/memory_map.h"

#define DISK_BYTES MIB(1)
#define HEAP_START MIB(32)
#define SOON_MS 5000

static void on_ended(void *ctx _unused_, enum vm_end how _unused_, const char *why _unused_)
{
}

static void configure(struct vm_config *config)
{
	vm_config_init(config);
	snprintf(config->name, sizeof(config->name), "board");
	config->kernel = strdup("kernel");
	config->cpus.count = 2;
	config->memory.size = BOARD_RIG_RAM;
	config->n_disks = 1;
	config->disks[0].path = strdup("disk");
	config->disks[0].queues = 1;
	snprintf(config->disks[0].serial, sizeof(config->disks[0].serial), "disk-0");
	config->n_nets = 1;
	config->nets[0].queues = 1;
	vm_config_complete(config);
}

static void open_resources(struct board_rig *rig)
{
	const struct net_pair_params cable = { .queue_pairs = 1 };
	struct error err = { 0 };
	uint8_t image[KERNEL_IMAGE_BYTES];

	vm_resources_init(&rig->resources);
	kernel_image_bzimage(image);
	rig->resources.kernel_fd = kernel_image_file(image, sizeof(image));
	rig->disk = ram_block_new(DISK_BYTES, 512, false);
	assert_non_null(rig->disk);
	rig->block = &rig->disk->block;
	if (block_filter_stack("drop", rig->block, &rig->block, &err) < 0)
		fail_msg("%s", err.message);
	block_drop_hold(rig->block, false);
	rig->resources.blocks[0] = rig->block;
	assert_int_equal(net_pair_new(&cable, &rig->resources.nets[0], &rig->peer), 0);
}

void board_rig_make(struct board_rig *rig, const struct clock *clock)
{
	const struct vm_events events = { .ended = on_ended };
	struct error err = { 0 };

	memset(rig, 0, sizeof(*rig));
	configure(&rig->config);
	open_resources(rig);
	rig->loop = loop_new(clock);
	assert_non_null(rig->loop);
	if (vm_new(&rig->config, &rig->resources, rig->loop, NULL, &events, &rig->vm, &err) < 0)
		fail_msg("%s", err.message);
	rig->machine = (struct vmachine){
		.bus = rig->vm->bus,
		.memory = rig->vm->memory,
		.pci = rig->vm->pci,
		.heap = HEAP_START,
	};
}

void board_rig_free(struct board_rig *rig)
{
	if (!rig->vm)
		return;
	block_drop_hold(rig->block, false);
	vm_end(rig->vm, VM_END_FORCED, "test");
	vm_free(rig->vm);
	net_free(rig->peer);
	vm_resources_close(&rig->resources);
	loop_free(rig->loop);
	vm_config_release(&rig->config);
	memset(rig, 0, sizeof(*rig));
}

void board_rig_start(struct board_rig *rig)
{
	const struct vm_thread_entry open_entry = { 0 };
	struct error err = { 0 };

	if (vm_start(rig->vm, &open_entry, &err) < 0)
		fail_msg("%s", err.message);
	/* Whoever holds the barrier then reaches all of them. */
	for (uint32_t i = 0; i < rig->vm->n_vcpus; i++)
		vcpu_wait_joined(rig->vm->vcpus[i]);
}

uint64_t board_rig_in(struct board_rig *rig, uint16_t port, unsigned int size)
{
	return vmachine_read(&rig->machine, BUS_PIO, port, size);
}

void board_rig_out(struct board_rig *rig, uint16_t port, unsigned int size, uint64_t data)
{
	vmachine_write(&rig->machine, BUS_PIO, port, size, data);
}

/* ---- what keeps each device busy ---- */

static void out8(struct board_rig *rig, uint16_t port, uint8_t data)
{
	board_rig_out(rig, port, 1, data);
}

static void irqchip_busy(struct board_rig *rig)
{
	/* ICW1..4 of both, then masks: the master is in the middle of serving input 4. */
	static const uint8_t words[][2] = {
		{ PORT_PIC1, 0x11 },	 { PORT_PIC1 + 1, 0x30 }, { PORT_PIC1 + 1, 0x04 },
		{ PORT_PIC1 + 1, 0x01 }, { PORT_PIC2, 0x11 },	  { PORT_PIC2 + 1, 0x38 },
		{ PORT_PIC2 + 1, 0x02 }, { PORT_PIC2 + 1, 0x01 }, { PORT_PIC1 + 1, 0xea },
		{ PORT_PIC2 + 1, 0xfe },
	};

	for (size_t i = 0; i < ARRAY_SIZE(words); i++)
		out8(rig, words[i][0], words[i][1]);
	board_rig_out(rig, PORT_ELCR, 2, 0x0200);
	/* The IOAPIC's entry 8, level-triggered to vector 0x51. */
	vmachine_write(&rig->machine, BUS_MMIO, MAP_IOAPIC_BASE, 4, 0x10 + 2 * 8);
	vmachine_write(&rig->machine, BUS_MMIO, MAP_IOAPIC_BASE + 0x10, 4, 0x8051);
}

static void pit_busy(struct board_rig *rig)
{
	out8(rig, PORT_PIT + 3, 0x34); /* counter 0: mode 2 */
	out8(rig, PORT_PIT, 0x9c);
	out8(rig, PORT_PIT, 0x2e);
	out8(rig, PORT_SPEAKER, 0x03);
	out8(rig, PORT_PIT + 3, 0xb6); /* counter 2: mode 3, half of its count written */
	out8(rig, PORT_PIT + 2, 0x11);
	out8(rig, PORT_PIT + 2, 0x22);
	out8(rig, PORT_PIT + 2, 0x77);
	out8(rig, PORT_PIT + 3, 0xc2); /* read-back of counter 0, half of it read */
	board_rig_in(rig, PORT_PIT, 1);
}

static void rtc_busy(struct board_rig *rig)
{
	static const uint8_t values[][2] = {
		{ 0x0a, 0x2a }, { 0x0b, 0x72 }, { 0x01, 0x15 },
		{ 0x05, 0xc0 }, { 0x03, 0xc0 }, { 0x55, 0xa5 },
	};

	for (size_t i = 0; i < ARRAY_SIZE(values); i++) {
		out8(rig, PORT_RTC, values[i][0]);
		out8(rig, PORT_RTC + 1, values[i][1]);
	}
}

static void serial_busy(struct board_rig *rig)
{
	struct stream *line = console_stream(rig->vm->serial_console);

	out8(rig, PORT_SERIAL1 + 1, 0x05); /* received data and line status interrupt */
	out8(rig, PORT_SERIAL1 + 2, 0x81); /* FIFOs, trigger at 8 */
	out8(rig, PORT_SERIAL1 + 3, 0x83); /* divisor latch open */
	out8(rig, PORT_SERIAL1, 0x0c);
	out8(rig, PORT_SERIAL1 + 3, 0x1b);
	out8(rig, PORT_SERIAL1 + 7, 0x5a);
	assert_int_equal(line->received(line->ctx, "typed ahead", 11), 11);
}

static void power_busy(struct board_rig *rig)
{
	board_rig_out(rig, PORT_ACPI_PM + 2, 2, 0x0101); /* timer and power button */
	power_press_button(rig->vm->power);
	power_raise_event(rig->vm->power, GED_GENERATION_CHANGED);
	out8(rig, PORT_RESET, 0x02);
}

/* Waits until the worker of `device` has so many requests of a queue in flight. */
static void wait_in_flight(struct board_rig *rig, const struct vdriver *driver, unsigned int queue,
			   uint32_t n)
{
	for (unsigned int ms = 0; ms < SOON_MS; ms++) {
		struct list *item, *next;
		uint32_t found = 0;

		quiesce_begin(&rig->vm->quiesce);
		list_for_each(item, next, &rig->vm->devices) {
			struct device *device = container_of(item, struct device, link);

			if (strncmp(device->name, "virtio-", 7) == 0) {
				struct virtio_device *vdev =
					container_of(device, struct virtio_device, device);

				if (vdev->pci.bdf == driver->bdf)
					found = vdev->state->queues[queue].n_inflight;
			}
		}
		quiesce_end(&rig->vm->quiesce);
		if (found == n)
			return;
		usleep(1000);
	}
	fail_msg("queue %u does not come to %u requests in flight", queue, n);
}

static uint64_t take_buffer(struct board_rig *rig, uint64_t len)
{
	uint64_t at = vmachine_alloc(&rig->machine, len, 16);

	assert_true(at != UINT64_MAX);
	return at;
}

static void find(struct board_rig *rig, uint16_t id, uint64_t features, struct vdriver *driver)
{
	assert_int_equal(vdriver_find(&rig->machine, id, driver), 0);
	assert_int_equal(vdriver_reset(driver), 0);
	assert_int_equal(vdriver_negotiate(driver, features), 0);
	vdriver_enable_msix(driver);
}

/* Three requests that the disk holds back. */
static void blk_busy(struct board_rig *rig)
{
	block_drop_hold(rig->block, true);
	find(rig, VIRTIO_ID_BLOCK, ~0ULL, &rig->blk);
	assert_int_equal(vqueue_setup(&rig->blk, 0, 0, &rig->blk_queue), 0);
	vdriver_go(&rig->blk);
	for (uint64_t i = 0; i < 3; i++) {
		uint64_t at = take_buffer(rig, 16 + 512 + 1);
		uint8_t *p = vmachine_at(&rig->machine, at, 16 + 512 + 1);
		const struct vbuffer buffers[] = {
			{ at, 16, false },
			{ at + 16, 512, i == 2 },
			{ at + 16 + 512, 1, true },
		};

		le_store(p, 4, i == 2 ? 0 : 1); /* two writes, a read */
		le_store(p + 4, 4, 0);
		le_store(p + 8, 8, i);
		memset(p + 16, 'a' + (int)i, 512);
		assert_true(vqueue_add(&rig->blk_queue, buffers, ARRAY_SIZE(buffers)) >= 0);
	}
	vqueue_kick_anyway(&rig->blk_queue);
	wait_in_flight(rig, &rig->blk, 0, 3);
}

void board_rig_add_buffer(struct board_rig *rig, struct vqueue *queue, uint32_t len, bool in)
{
	const struct vbuffer buffer = { take_buffer(rig, len), len, in };

	memset(vmachine_at(&rig->machine, buffer.address, len), 0, len);
	assert_true(vqueue_add(queue, &buffer, 1) >= 0);
}

/* Receive buffers are taken and wait for frames; more is sent than the cable holds. */
static void net_busy(struct board_rig *rig)
{
	find(rig, VIRTIO_ID_NET, ~0ULL, &rig->net);
	assert_int_equal(vqueue_setup(&rig->net, 0, 64, &rig->rx), 0);
	assert_int_equal(vqueue_setup(&rig->net, 1, 128, &rig->tx), 0);
	assert_int_equal(vqueue_setup(&rig->net, 2, 16, &rig->control), 0);
	vdriver_go(&rig->net);
	for (unsigned int i = 0; i < 3; i++) /* too small for one frame of the usual size */
		board_rig_add_buffer(rig, &rig->rx, 256, true);
	for (unsigned int i = 0; i < NET_PAIR_FRAMES + NET_FRAMES_WAITING; i++)
		board_rig_add_buffer(rig, &rig->tx, 12 + 60, false);
	vqueue_kick_anyway(&rig->rx);
	vqueue_kick_anyway(&rig->tx);
	wait_in_flight(rig, &rig->net, 0, 3);
}

/* Typed bytes wait for a buffer of the guest's. */
static void console_busy(struct board_rig *rig)
{
	struct stream *line = console_stream(rig->vm->virtio_console);

	find(rig, VIRTIO_ID_CONSOLE, ~0ULL, &rig->console);
	assert_int_equal(vqueue_setup(&rig->console, 0, 16, &rig->console_in), 0);
	assert_int_equal(vqueue_setup(&rig->console, 1, 16, &rig->console_out), 0);
	vdriver_go(&rig->console);
	assert_int_equal(line->received(line->ctx, "hello", 5), 5);
}

/* More is asked for than this moment's share. */
static void rng_busy(struct board_rig *rig)
{
	find(rig, VIRTIO_ID_RNG, ~0ULL, &rig->rng);
	assert_int_equal(vqueue_setup(&rig->rng, 0, 32, &rig->rng_queue), 0);
	vdriver_go(&rig->rng);
	for (unsigned int i = 0; i < 20; i++)
		board_rig_add_buffer(rig, &rig->rng_queue, 4096, true);
	vqueue_kick_anyway(&rig->rng_queue);
	for (unsigned int i = 0; i < 16; i++)
		assert_int_equal(vqueue_wait(&rig->rng_queue, SOON_MS, NULL, NULL), 1);
}

static void vcpu_busy(void *owner, void *arg _unused_)
{
	struct kvm_vcpu *vcpu = vcpu_kvm(owner);
	uint64_t i = vcpu_index(owner) + 1;
	struct kvm_regs regs = { .rip = 0x1000 * i, .rsp = 0x8000 * i, .r15 = i, .rflags = 2 };
	struct kvm_sregs sregs;
	struct kvm_lapic_state lapic = { 0 };
	struct kvm_vcpu_events events = { .interrupt = { .injected = 1, .nr = 0x30 } };
	const struct kvm_mp_state running = { .mp_state = KVM_MP_STATE_RUNNABLE };

	assert_int_equal(kvm_vcpu_get_sregs(vcpu, &sregs), 0);
	sregs.cr3 = 0x9000 * i;
	assert_int_equal(kvm_vcpu_set_regs(vcpu, &regs), 0);
	assert_int_equal(kvm_vcpu_set_sregs(vcpu, &sregs), 0);
	le_store(lapic.regs + 0x320, 4, 0x200ec); /* LVT timer: periodic */
	le_store(lapic.regs + 0x380, 4, 1000000); /* initial count */
	le_store(lapic.regs + 0x390, 4, 600000);  /* current count */
	le_store(lapic.regs + 0x3e0, 4, 0xb);	  /* divided by 1 */
	assert_int_equal(kvm_vcpu_set_lapic(vcpu, &lapic), 0);
	assert_int_equal(kvm_vcpu_set_events(vcpu, &events), 0);
	assert_int_equal(kvm_vcpu_set_mp_state(vcpu, &running), 0);
}

static void vcpus_busy(struct board_rig *rig)
{
	quiesce_begin(&rig->vm->quiesce);
	quiesce_run(&rig->vm->quiesce, QUIESCE_VCPU, vcpu_busy, NULL);
	quiesce_end(&rig->vm->quiesce);
}

void board_rig_busy(struct board_rig *rig)
{
	for (uint32_t i = 0; i < rig->vm->n_vcpus; i++)
		vcpu_wait_joined(rig->vm->vcpus[i]);
	irqchip_busy(rig);
	pit_busy(rig);
	rtc_busy(rig);
	serial_busy(rig);
	power_busy(rig);
	blk_busy(rig);
	net_busy(rig);
	console_busy(rig);
	rng_busy(rig);
	board_rig_out(rig, PORT_PCI_CONFIG, 4, 0x80000804);
	vcpus_busy(rig);
}

/* ---- another VM ---- */

void board_rig_take_memory(struct board_rig *to, struct board_rig *from)
{
	struct vdriver *drivers[] = { &to->blk, &to->net, &to->console, &to->rng };
	const struct vdriver *old[] = { &from->blk, &from->net, &from->console, &from->rng };
	struct vqueue *queues[] = { &to->blk_queue,  &to->rx,	       &to->tx,	      &to->control,
				    &to->console_in, &to->console_out, &to->rng_queue };
	const struct vqueue *old_queues[] = { &from->blk_queue,	 &from->rx,
					      &from->tx,	 &from->control,
					      &from->console_in, &from->console_out,
					      &from->rng_queue };

	vmachine_copy_memory(&to->machine, &from->machine);
	for (size_t i = 0; i < ARRAY_SIZE(drivers); i++) {
		*drivers[i] = *old[i];
		drivers[i]->machine = &to->machine;
	}
	for (size_t i = 0; i < ARRAY_SIZE(queues); i++) {
		size_t owner = (size_t)((const char *)old_queues[i]->driver - (const char *)from);

		*queues[i] = *old_queues[i];
		queues[i]->driver = (struct vdriver *)((char *)to + owner);
	}
}

void board_rig_save(struct board_rig *rig, struct buffer *ret_stream)
{
	struct error err = { 0 };
	int r;

	buffer_init(ret_stream, MIB(64));
	quiesce_begin(&rig->vm->quiesce);
	r = vm_save(rig->vm, VM_SAVE_ALL, ret_stream, &err);
	quiesce_end(&rig->vm->quiesce);
	if (r < 0)
		fail_msg("save: %s", err.message);
}

int board_rig_load(struct board_rig *rig, const struct buffer *stream, uint64_t stopped_ns,
		   enum vm_load_mode mode, struct error *err)
{
	int r;

	quiesce_begin(&rig->vm->quiesce);
	r = vm_load(rig->vm, stream->data, stream->len, stopped_ns, mode, err);
	quiesce_end(&rig->vm->quiesce);
	return r;
}
