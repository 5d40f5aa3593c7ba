/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* A machine with one virtio block device on a real file, and a guest's driver for it. */

#include "check.h"

#include "block/filters/filter.h"
#include "block/raw.h"
#include "virtio/blk.h"
#include "virtio_driver.h"

/* Types of requests, status, feature bits (virtio 1.2, 5.2). */
enum {
	VBLK_IN = 0,
	VBLK_OUT = 1,
	VBLK_FLUSH = 4,
	VBLK_GET_ID = 8,
	VBLK_DISCARD = 11,
	VBLK_ZEROES = 13
};
enum { VBLK_OK = 0, VBLK_IOERR = 1, VBLK_UNSUPP = 2, VBLK_NOT_YET = 0xff };
#define VBLK_F_RO (1ULL << 5)
#define VBLK_F_FLUSH (1ULL << 9)
#define VBLK_F_CONFIG_WCE (1ULL << 11)
#define VBLK_F_MQ (1ULL << 12)
#define VBLK_F_DISCARD (1ULL << 13)
#define VBLK_F_WRITE_ZEROES (1ULL << 14)

#define BLK_RIG_QUEUES 4
#define BLK_RIG_SLOTS 256 /* requests of the driver at once */
#define BLK_RIG_SECTOR 512
#define BLK_RIG_SOON 5000 /* ms */

struct blk_rig_options {
	const char *filters;			  /* for block_filter_stack; NULL: none */
	const struct block_record_params *record; /* below the filters; NULL: none */
	unsigned int queues;			  /* 0: 1 */
	bool readonly;
	uint64_t refuse; /* features that the driver does not take */
	uint64_t size;	 /* bytes of the disk; 0: 4 MiB */
};

struct blk_rig {
	char path[64];
	struct vmachine *machine;
	struct block *block; /* the uppermost filter; the device's */
	struct device *device;
	struct vdriver driver;
	unsigned int n_queues;
	struct vqueue queues[BLK_RIG_QUEUES];
	uint64_t slots; /* 64 bytes each: header, range, status */
	uint64_t data;	/* BLK_RIG_DATA bytes for tests, page-aligned */
};
#define BLK_RIG_DATA MIB(1)

/* Makes the disk file, the machine and the started device; blk_rig_drive then plays the driver's part. */
void blk_rig_make(struct blk_rig *rig, const struct blk_rig_options *options);
void blk_rig_drive(struct blk_rig *rig, const struct blk_rig_options *options);
void blk_rig_free(struct blk_rig *rig);
/* A second machine with a copy of the disk as the file is now, and a device that waits for a load. */
void blk_rig_copy(struct blk_rig *to, const struct blk_rig *from,
		  const struct blk_rig_options *options);
/* Saves `from` while it works, loads into `to` made by blk_rig_copy, which continues with its driver. */
void blk_rig_move(struct blk_rig *to, struct blk_rig *from);

/* Guest memory behind an address. */
uint8_t *blk_rig_at(struct blk_rig *rig, uint64_t address, uint64_t len);

/* Makes a request available in slot `slot` (0..BLK_RIG_SLOTS - 1), without a kick. `in`: the data is for
 * the device to write. len 0: no data. The head. */
int blk_rig_add(struct blk_rig *rig, unsigned int queue, unsigned int slot, uint32_t type,
		uint64_t sector, uint64_t data, uint32_t len, bool in);
/* The same with data in `n` (0..BLK_RIG_PIECES) pieces. */
#define BLK_RIG_PIECES 4
int blk_rig_add_pieces(struct blk_rig *rig, unsigned int queue, unsigned int slot, uint32_t type,
		       uint64_t sector, const struct vbuffer *pieces, unsigned int n);
/* DISCARD and WRITE_ZEROES. */
int blk_rig_add_range(struct blk_rig *rig, unsigned int queue, unsigned int slot, uint32_t type,
		      uint64_t sector, uint32_t sectors, uint32_t flags);
void blk_rig_kick(struct blk_rig *rig, unsigned int queue);
/* The status byte of a slot: VBLK_NOT_YET until it is answered. */
uint8_t blk_rig_status(struct blk_rig *rig, unsigned int slot);
/* Waits for `n` used elements. */
void blk_rig_wait(struct blk_rig *rig, unsigned int queue, unsigned int n);

/* One request on queue 0, slot 0, to its end: the status. */
uint8_t blk_rig_do(struct blk_rig *rig, uint32_t type, uint64_t sector, uint64_t data,
		   uint32_t len);
uint8_t blk_rig_do_range(struct blk_rig *rig, uint32_t type, uint64_t sector, uint32_t sectors,
			 uint32_t flags);

/* Fills guest memory with bytes that tell where they are. */
void blk_rig_fill(struct blk_rig *rig, uint64_t address, uint64_t len, unsigned int seed);
/* Reads the disk's file from the host. */
void blk_rig_read_file(const struct blk_rig *rig, uint64_t offset, void *buf, size_t len);
/* Waits until `n` requests are held by the drop filter on top. */
void blk_rig_wait_held(struct blk_rig *rig, uint32_t n);
