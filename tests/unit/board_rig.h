/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * A whole VM against the fake KVM - every device of board.c, two vCPUs, a disk in memory, a network cable - and what keeps
 * all of them busy at once: requests in flight, bytes pending, timers counting, interrupts asked for. For tests of whole states.
 */

#include "check.h"

#include "kvm/fake.h"
#include "net/net.h"
#include "ram_block.h"
#include "virtio_driver.h"
#include "vm/save.h"

#define BOARD_RIG_RAM MIB(64)
#define NET_FRAMES_WAITING 5 /* that the cable of a busy one has no room for */

struct board_rig {
	struct vm_config config;
	struct vm_resources resources;
	struct loop *loop;
	struct vm *vm;
	struct ram_block *disk; /* its bytes */
	struct block *block;	/* the device's; holds requests back while busy */
	struct net *peer;	/* the other end of the VM's network */
	/* A guest's drivers, once board_rig_drive was called. */
	struct vmachine machine; /* the VM as they see it */
	struct vdriver blk, net, console, rng;
	struct vqueue blk_queue, rx, tx, control, console_in, console_out, rng_queue;
	uint64_t buffers;
};

/* `clock` outlives it. The threads of devices and vCPUs do not run yet. */
void board_rig_make(struct board_rig *rig, const struct clock *clock);
/* Ends the threads and frees all. A zeroed rig is accepted. */
void board_rig_free(struct board_rig *rig);

/* Starts the threads; the vCPUs stay parked. */
void board_rig_start(struct board_rig *rig);
/* Has every device in the middle of something. After board_rig_start. */
void board_rig_busy(struct board_rig *rig);
/* The same guest on another VM: its memory, and its drivers' view. */
void board_rig_take_memory(struct board_rig *to, struct board_rig *from);

/* Inside the barrier: vm_save, vm_load. The stream is the caller's to release. */
void board_rig_save(struct board_rig *rig, struct buffer *ret_stream);
_must_check_ int board_rig_load(struct board_rig *rig, const struct buffer *stream,
				uint64_t stopped_ns, enum vm_load_mode mode, struct error *err);

/* Gives the device a zeroed buffer of so many bytes; tells it nothing. */
void board_rig_add_buffer(struct board_rig *rig, struct vqueue *queue, uint32_t len, bool in);

uint64_t board_rig_in(struct board_rig *rig, uint16_t port, unsigned int size);
void board_rig_out(struct board_rig *rig, uint16_t port, unsigned int size, uint64_t data);
