/* SPDX-License-Identifier: Apache-2.0 */
#include "blk_rig.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/endian.h"
#include "base/fd.h"

#define SLOT_BYTES 64
#define SLOT_STATUS 48
#define RAM MIB(8)

static void open_block(struct blk_rig *rig, const struct blk_rig_options *options)
{
	const struct raw_options raw = {
		.path = rig->path,
		.fd = -1,
		.readonly = options->readonly,
		.direct = true,
	};
	struct error err = { 0 };

	if (raw_open(&raw, &rig->block, &err) < 0)
		fail_msg("%s", err.message);
	if (options->record)
		assert_int_equal(block_record_new(options->record, rig->block, &rig->block), 0);
	if (options->filters &&
	    block_filter_stack(options->filters, rig->block, &rig->block, &err) < 0)
		fail_msg("%s", err.message);
}

static void make_device(struct blk_rig *rig, const struct blk_rig_options *options)
{
	struct virtio_blk_params params = { .serial = "serial-of-20-bytes-x" };
	struct error err = { 0 };

	rig->machine = vmachine_new(RAM, NULL);
	assert_non_null(rig->machine);
	open_block(rig, options);
	rig->n_queues = MAX(options->queues, 1);
	params.block = rig->block;
	params.queues = rig->n_queues;
	if (virtio_blk_new(&rig->machine->host, &params, &rig->device, &err) < 0)
		fail_msg("%s", err.message);
}

static int make_file(struct blk_rig *rig, uint64_t size)
{
	int fd;

	snprintf(rig->path, sizeof(rig->path), "/var/tmp/utsusu-blk-XXXXXX");
	fd = mkstemp(rig->path);
	assert_true(fd >= 0);
	assert_int_equal(ftruncate(fd, (off_t)size), 0);
	return fd;
}

void blk_rig_make(struct blk_rig *rig, const struct blk_rig_options *options)
{
	memset(rig, 0, sizeof(*rig));
	fd_close(make_file(rig, options->size ? options->size : MIB(4)));
	make_device(rig, options);
	assert_int_equal(vdevice_start(rig->device), 0);
	rig->slots = vmachine_alloc(rig->machine, BLK_RIG_SLOTS * SLOT_BYTES, 4096);
	rig->data = vmachine_alloc(rig->machine, BLK_RIG_DATA, 4096);
	assert_true(rig->data != UINT64_MAX);
}

void blk_rig_drive(struct blk_rig *rig, const struct blk_rig_options *options)
{
	assert_int_equal(vdriver_setup(rig->machine, VIRTIO_ID_BLOCK, ~options->refuse,
				       &rig->driver, rig->queues, rig->n_queues),
			 0);
}

void blk_rig_free(struct blk_rig *rig)
{
	vdevice_destroy(rig->device);
	vmachine_free(rig->machine);
	unlink(rig->path);
}

static void copy_file(int to, const char *path)
{
	_cleanup_(fd_closep) int from = open(path, O_RDONLY | O_CLOEXEC);
	_cleanup_(freep) void *buf = malloc(MIB(1));
	ssize_t n;

	assert_true(from >= 0 && buf);
	while ((n = read(from, buf, MIB(1))) > 0)
		assert_int_equal(write(to, buf, (size_t)n), n);
	assert_int_equal(n, 0);
}

void blk_rig_copy(struct blk_rig *to, const struct blk_rig *from,
		  const struct blk_rig_options *options)
{
	_cleanup_(fd_closep) int fd = -1;

	memset(to, 0, sizeof(*to));
	fd = make_file(to, from->block->geometry.size);
	copy_file(fd, from->path);
	make_device(to, options);
}

/* The driver in the copied guest memory: the same rings, seen through another machine. */
static void take_driver(struct blk_rig *to, const struct blk_rig *from)
{
	to->driver = from->driver;
	to->driver.machine = to->machine;
	memcpy(to->queues, from->queues, sizeof(to->queues));
	for (unsigned int i = 0; i < BLK_RIG_QUEUES; i++)
		to->queues[i].driver = &to->driver;
	to->slots = from->slots;
	to->data = from->data;
}

void blk_rig_move(struct blk_rig *to, struct blk_rig *from)
{
	struct buffer saved;
	struct error err = { 0 };
	const char *differs;

	buffer_init(&saved, LIMIT_STATE_SECTION);
	quiesce_begin(&from->machine->quiesce);
	assert_int_equal(vdevice_save(from->machine, from->device, &saved), 0);
	vmachine_copy_memory(to->machine, from->machine);
	take_driver(to, from);
	if (vdevice_load(to->machine, to->device, &saved, &err) < 0)
		fail_msg("%s", err.message);
	differs = state_compare(from->device->table, from->device->state, to->device->state);
	quiesce_end(&from->machine->quiesce);
	buffer_release(&saved);
	if (differs)
		fail_msg("field %s differs after the load", differs);
	assert_int_equal(vdevice_start(to->device), 0);
}

uint8_t *blk_rig_at(struct blk_rig *rig, uint64_t address, uint64_t len)
{
	uint8_t *p = vmachine_at(rig->machine, address, len);

	assert_non_null(p);
	return p;
}

int blk_rig_add_pieces(struct blk_rig *rig, unsigned int queue, unsigned int slot, uint32_t type,
		       uint64_t sector, const struct vbuffer *pieces, unsigned int n)
{
	uint64_t at = rig->slots + slot * SLOT_BYTES;
	uint8_t *p = blk_rig_at(rig, at, SLOT_BYTES);
	struct vbuffer buffers[BLK_RIG_PIECES + 2] = { { at, 16, false } };
	int head;

	le_store(p, 4, type);
	le_store(p + 4, 4, 0);
	le_store(p + 8, 8, sector);
	p[SLOT_STATUS] = VBLK_NOT_YET;
	assert_true(n <= BLK_RIG_PIECES);
	for (unsigned int i = 0; i < n; i++)
		buffers[1 + i] = pieces[i];
	buffers[1 + n] = (struct vbuffer){ at + SLOT_STATUS, 1, true };
	head = vqueue_add(&rig->queues[queue], buffers, n + 2);
	assert_true(head >= 0);
	return head;
}

int blk_rig_add(struct blk_rig *rig, unsigned int queue, unsigned int slot, uint32_t type,
		uint64_t sector, uint64_t data, uint32_t len, bool in)
{
	const struct vbuffer piece = { data, len, in };

	return blk_rig_add_pieces(rig, queue, slot, type, sector, &piece, len ? 1 : 0);
}

int blk_rig_add_range(struct blk_rig *rig, unsigned int queue, unsigned int slot, uint32_t type,
		      uint64_t sector, uint32_t sectors, uint32_t flags)
{
	uint64_t at = rig->slots + slot * SLOT_BYTES + 16;
	uint8_t *p = blk_rig_at(rig, at, 16);

	le_store(p, 8, sector);
	le_store(p + 8, 4, sectors);
	le_store(p + 12, 4, flags);
	return blk_rig_add_pieces(rig, queue, slot, type, 0, &(struct vbuffer){ at, 16, false }, 1);
}

void blk_rig_kick(struct blk_rig *rig, unsigned int queue)
{
	vqueue_kick(&rig->queues[queue]);
}

uint8_t blk_rig_status(struct blk_rig *rig, unsigned int slot)
{
	return *blk_rig_at(rig, rig->slots + slot * SLOT_BYTES + SLOT_STATUS, 1);
}

void blk_rig_wait(struct blk_rig *rig, unsigned int queue, unsigned int n)
{
	while (n--)
		assert_int_equal(vqueue_wait(&rig->queues[queue], BLK_RIG_SOON, NULL, NULL), 1);
}

uint8_t blk_rig_do(struct blk_rig *rig, uint32_t type, uint64_t sector, uint64_t data, uint32_t len)
{
	bool in = type == VBLK_IN || type == VBLK_GET_ID;

	blk_rig_add(rig, 0, 0, type, sector, data, len, in);
	blk_rig_kick(rig, 0);
	blk_rig_wait(rig, 0, 1);
	return blk_rig_status(rig, 0);
}

uint8_t blk_rig_do_range(struct blk_rig *rig, uint32_t type, uint64_t sector, uint32_t sectors,
			 uint32_t flags)
{
	blk_rig_add_range(rig, 0, 0, type, sector, sectors, flags);
	blk_rig_kick(rig, 0);
	blk_rig_wait(rig, 0, 1);
	return blk_rig_status(rig, 0);
}

void blk_rig_fill(struct blk_rig *rig, uint64_t address, uint64_t len, unsigned int seed)
{
	uint8_t *p = blk_rig_at(rig, address, len);

	for (uint64_t i = 0; i < len; i++)
		p[i] = (uint8_t)(seed + i + (i >> 8) * 7);
}

void blk_rig_read_file(const struct blk_rig *rig, uint64_t offset, void *buf, size_t len)
{
	_cleanup_(fd_closep) int fd = open(rig->path, O_RDONLY | O_CLOEXEC);

	assert_true(fd >= 0);
	assert_int_equal(fd_read_at(fd, buf, len, offset), 0);
}

void blk_rig_wait_held(struct blk_rig *rig, uint32_t n)
{
	for (unsigned int i = 0; block_drop_held(rig->block) != n; i++) {
		assert_true(i < BLK_RIG_SOON);
		usleep(1000);
	}
}
