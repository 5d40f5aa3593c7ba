/* SPDX-License-Identifier: Apache-2.0 */
#include "guest_rig.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/endian.h"
#include "block/raw.h"
#include "kernel_images.h"
#include "move/marks_internal.h"
#include "net/pair.h"

#define SOON_MS 5000
#define HEAP_START MIB(48)
#define REQUEST_BYTES 1024 /* of guest memory for one */

static int make_file(char *path, size_t size, const char *template)
{
	int fd;

	snprintf(path, size, "%s", template);
	fd = mkstemp(path);
	assert_true(fd >= 0);
	return fd;
}

void guest_place_make(struct guest_place *place)
{
	_cleanup_(fd_closep) int disk = make_file(place->disk, sizeof(place->disk),
						  "/var/tmp/utsusu-disk-XXXXXX");

	assert_int_equal(ftruncate(disk, MIB(1)), 0);
	fd_close(make_file(place->given, sizeof(place->given), "/tmp/utsusu-given-XXXXXX"));
	fd_close(make_file(place->taken, sizeof(place->taken), "/tmp/utsusu-taken-XXXXXX"));
}

void guest_place_remove(struct guest_place *place)
{
	unlink(place->disk);
	unlink(place->given);
	unlink(place->taken);
}

int guest_place_given(const struct guest_place *place)
{
	return open(place->given, O_RDWR | O_CLOEXEC);
}

int guest_place_taken(const struct guest_place *place)
{
	char text[MARK_TAKEN_BYTES + 1];
	int fd = open(place->taken, O_RDWR | O_CLOEXEC);

	mark_taken_new(GUEST_TOKEN, text);
	assert_int_equal(pwrite(fd, text, MARK_TAKEN_BYTES, 0), MARK_TAKEN_BYTES);
	return fd;
}

bool guest_place_disk_is_free(const struct guest_place *place)
{
	_cleanup_(fd_closep) int fd = open(place->disk, O_RDWR | O_CLOEXEC);
	struct flock lock = { .l_type = F_WRLCK, .l_whence = SEEK_SET };

	return fcntl(fd, F_OFD_SETLK, &lock) == 0;
}

/* ---- what the VM tells ---- */

static void on_ended(void *ctx, enum vm_end how _unused_, const char *why _unused_)
{
	((struct guest_rig *)ctx)->ends++;
}

static void on_stopped(void *ctx, const void *owner _unused_, uint64_t stopped_ns,
		       const struct error *error)
{
	struct guest_rig *rig = ctx;

	rig->stops++;
	rig->stopped_ns = stopped_ns;
	rig->stop_error = error ? *error : (struct error){ 0 };
}

static void on_arrived(void *ctx)
{
	((struct guest_rig *)ctx)->arrivals++;
}

static void on_over(void *ctx, enum move_exit how, const char *why)
{
	struct guest_rig *rig = ctx;

	rig->overs++;
	rig->exit = how;
	snprintf(rig->why, sizeof(rig->why), "%s", why);
	vm_end(rig->vm, VM_END_FORCED, why);
}

/* ---- making ---- */

static void configure(struct vm_config *config, const struct guest_place *place)
{
	vm_config_init(config);
	snprintf(config->name, sizeof(config->name), "db");
	snprintf(config->uuid, sizeof(config->uuid), "0f0e0d0c-0b0a-4908-8706-050403020100");
	config->kernel = strdup("kernel");
	config->memory.size = GUEST_RIG_RAM;
	config->memory.dirty = DIRTY_CHOICE_BITMAP;
	config->n_disks = 1;
	config->disks[0].path = strdup(place->disk);
	config->disks[0].queues = 1;
	vm_config_complete(config);
}

static void open_disk(struct guest_rig *rig, const struct guest_place *place,
		      const struct guest_options *options)
{
	const struct raw_options raw = { .path = place->disk,
					 .fd = -1,
					 .elsewhere = options->arriving };
	const struct block_record_params record = { options->recorded, options->ctx };
	struct error err = { 0 };

	if (raw_open(&raw, &rig->block, &err) < 0)
		fail_msg("%s", err.message);
	if (options->record)
		assert_int_equal(block_record_new(&record, rig->block, &rig->block), 0);
	if (options->filter &&
	    block_filter_stack(options->filter, rig->block, &rig->block, &err) < 0)
		fail_msg("%s", err.message);
	rig->resources.blocks[0] = rig->block;
}

static void plug_net(struct guest_rig *rig)
{
	const struct net_pair_params cable = { .queue_pairs = 1 };

	rig->config.n_nets = 1;
	rig->config.nets[0].queues = 1;
	assert_int_equal(net_pair_new(&cable, &rig->resources.nets[0], &rig->peer), 0);
}

static void busy_exit(struct kvm_run *run, void *ctx _unused_)
{
	usleep(50);
	run->exit_reason = KVM_EXIT_INTR;
}

static void make_vm(struct guest_rig *rig, const struct guest_options *options)
{
	static const struct kvm_fake_exit script[] = { { .fill = busy_exit, .times = UINT64_MAX } };
	const struct vm_events events = { .ended = on_ended, .ctx = rig };
	const struct move_guest_events moves = {
		.stopped = on_stopped, .arrived = on_arrived, .over = on_over, .ctx = rig
	};
	struct error err = { 0 };

	if (vm_new(&rig->config, &rig->resources, rig->loop, NULL, &events, &rig->vm, &err) < 0)
		fail_msg("%s", err.message);
	kvm_fake_script(vcpu_kvm(rig->vm->vcpus[0]), script, ARRAY_SIZE(script));
	rig->machine = (struct vmachine){
		.bus = rig->vm->bus,
		.memory = rig->vm->memory,
		.pci = rig->vm->pci,
		.heap = HEAP_START,
	};
	assert_int_equal(move_guest_new(rig->vm, options->arriving, &moves, &rig->guest), 0);
}

void guest_rig_make(struct guest_rig *rig, const struct guest_place *place,
		    const struct guest_options *options)
{
	const struct vm_thread_entry open_entry = { 0 };
	uint8_t image[KERNEL_IMAGE_BYTES];
	struct error err = { 0 };

	memset(rig, 0, sizeof(*rig));
	configure(&rig->config, place);
	vm_resources_init(&rig->resources);
	rig->resources.arriving = options->arriving;
	kernel_image_bzimage(image);
	rig->resources.kernel_fd = kernel_image_file(image, sizeof(image));
	open_disk(rig, place, options);
	if (options->net)
		plug_net(rig);
	rig->loop = loop_new(options->clock ? options->clock : &clock_host);
	make_vm(rig, options);
	if (vm_start(rig->vm, &open_entry, &err) < 0)
		fail_msg("%s", err.message);
	vm_run(rig->vm);
}

void guest_rig_free(struct guest_rig *rig)
{
	vm_end(rig->vm, VM_END_FORCED, "test");
	move_guest_free(rig->guest);
	vm_free(rig->vm);
	if (rig->take_apart)
		rig->take_apart(rig);
	net_free(rig->peer);
	vm_resources_close(&rig->resources);
	loop_free(rig->loop);
	vm_config_release(&rig->config);
}

/* ---- time ---- */

void guest_rig_turn_for(struct guest_rig *rig, unsigned int ms)
{
	const uint64_t due = clock_now(&clock_host) + ms * NSEC_PER_MSEC;

	do
		assert_int_equal(loop_turn(rig->loop, 1), 0);
	while (clock_now(&clock_host) < due);
}

void guest_rig_turn_until(struct guest_rig *rig, const unsigned int *value, unsigned int n)
{
	const uint64_t due = clock_now(&clock_host) + SOON_MS * NSEC_PER_MSEC;

	while (*value < n) {
		assert_int_equal(loop_turn(rig->loop, 1), 0);
		if (clock_now(&clock_host) > due)
			fail_msg("it does not come to %u", n);
	}
}

uint64_t guest_rig_exits(const struct guest_rig *rig)
{
	return vcpu_exits(rig->vm->vcpus[0]);
}

static bool exits_within(struct guest_rig *rig, int ms)
{
	const uint64_t before = guest_rig_exits(rig);

	for (; ms > 0; ms--) {
		if (guest_rig_exits(rig) != before)
			return true;
		usleep(1000);
	}
	return false;
}

bool guest_rig_runs(struct guest_rig *rig)
{
	return exits_within(rig, SOON_MS);
}

bool guest_rig_stands(struct guest_rig *rig)
{
	return !exits_within(rig, 50);
}

/* ---- the disk's driver ---- */

void guest_rig_drive(struct guest_rig *rig)
{
	assert_int_equal(vdriver_setup(&rig->machine, VIRTIO_ID_BLOCK, ~0ULL, &rig->driver,
				       &rig->queue, 1),
			 0);
}

void guest_rig_write(struct guest_rig *rig, uint64_t sector)
{
	uint64_t at = vmachine_alloc(&rig->machine, REQUEST_BYTES, 16);
	uint8_t *p = vmachine_at(&rig->machine, at, REQUEST_BYTES);
	const struct vbuffer buffers[] = {
		{ at, 16, false },
		{ at + 16, 512, false },
		{ at + 16 + 512, 1, true },
	};

	le_store(p, 4, 1); /* VIRTIO_BLK_T_OUT */
	le_store(p + 4, 4, 0);
	le_store(p + 8, 8, sector);
	memset(p + 16, 'a' + (int)sector, 512);
	assert_true(vqueue_add(&rig->queue, buffers, ARRAY_SIZE(buffers)) >= 0);
	vqueue_kick_anyway(&rig->queue);
}

unsigned int guest_rig_answered(struct guest_rig *rig)
{
	unsigned int n = 0;
	uint32_t len;
	uint16_t head;

	while (vqueue_get(&rig->queue, &head, &len) == 1)
		n++;
	return n;
}

void guest_rig_wait_answer(struct guest_rig *rig)
{
	uint32_t len;
	uint16_t head;

	assert_int_equal(vqueue_wait(&rig->queue, SOON_MS, &head, &len), 1);
}
