/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * A VM against the fake KVM with a disk on a real file, its threads running, and its part in a move; the test is the mover. The
 * guest writes memory all the time by its script's exits; the test's thread plays the disk's driver.
 */

#include "check.h"

#include "block/filters/filter.h"
#include "kvm/fake.h"
#include "move/guest/guest.h"
#include "virtio_driver.h"

#define GUEST_RIG_RAM MIB(64)

/* Which move it is, in all these tests. */
#define GUEST_TOKEN ((const uint8_t[MOVE_TOKEN_BYTES]){ 1 })

/* A disk and the marks' files, for the VMs of one test. */
struct guest_place {
	char disk[64], given[64], taken[64];
};

struct guest_rig {
	struct vm_config config;
	struct vm_resources resources;
	struct loop *loop;
	struct vm *vm;
	struct move_guest *guest;
	struct block *block; /* its disk; with a filter, that */
	struct net *peer;    /* the other end of its network's cable; NULL: it has none */
	void (*take_apart)(
		struct guest_rig *rig); /* what outlives the VM, and not the loop; may be NULL */
	struct vmachine machine;
	struct vdriver driver;
	struct vqueue queue;
	uint64_t buffers;
	/* What was told. */
	unsigned int stops, arrivals, ends, overs;
	struct error stop_error; /* code 0: it stopped */
	uint64_t stopped_ns;
	enum move_exit exit;
	char why[192];
};

void guest_place_make(struct guest_place *place);
void guest_place_remove(struct guest_place *place);
/* The mark's files as the daemon prepares them: a descriptor, the caller's. */
int guest_place_given(const struct guest_place *place);
int guest_place_taken(const struct guest_place *place);
/* As another host's process would find it. */
bool guest_place_disk_is_free(const struct guest_place *place);

struct guest_options {
	const char *filter; /* of the disk; NULL: none */
	bool arriving;
	bool net;
	const struct clock *clock; /* of the loop; NULL: the host's */
	bool record;		   /* what reaches the disk */
	void (*recorded)(void *ctx, const struct block_record *record);
	void *ctx;
};

/* Made, started, run. */
void guest_rig_make(struct guest_rig *rig, const struct guest_place *place,
		    const struct guest_options *options);
void guest_rig_free(struct guest_rig *rig);
/* Turns the loop until `*value` is at least `n`; fails after five seconds. */
void guest_rig_turn_until(struct guest_rig *rig, const unsigned int *value, unsigned int n);
void guest_rig_turn_for(struct guest_rig *rig, unsigned int ms);

/* The disk's driver: sets it up; makes a write of 512 bytes available and kicks; how many were answered so far. */
void guest_rig_drive(struct guest_rig *rig);
void guest_rig_write(struct guest_rig *rig, uint64_t sector);
unsigned int guest_rig_answered(struct guest_rig *rig);
/* Waits (turning the loop) for the next answer. */
void guest_rig_wait_answer(struct guest_rig *rig);

/* Exits of the guest so far: it runs as long as they grow. */
uint64_t guest_rig_exits(const struct guest_rig *rig);
/* Waits for one, up to five seconds: the machine may have much else to do. */
bool guest_rig_runs(struct guest_rig *rig);
/* None comes for 50 ms. */
bool guest_rig_stands(struct guest_rig *rig);
