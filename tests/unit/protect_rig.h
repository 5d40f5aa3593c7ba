/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * A VM's part in its protection against the fake KVM: the test is the guard and the relay, and so the arbiter. The guest sends frames and prints.
 */

#include "guest_rig.h"
#include "net_probe.h"
#include "protect/guest/guest.h"

#define PROTECT_SESSION ((const struct ownership_id){ { 7 } })
#define NOBODY ((const struct ownership_id){ { 0 } })

struct protect_rig {
	struct guest_rig rig; /* first */
	struct protect_guest *guest;
	struct protect_shared shared; /* the guard's end */
	struct error err;
	struct ownership_id me;
	/* What was told. */
	unsigned int swaps, tellings, overs, arrivals, changes;
	struct ownership_record want;
	const void *swapped_by;
	char told[32], told_why[160], changed[32], why[160];
	bool told_ran, ran;
	/* The arbiter's record. */
	struct ownership_record record;
	/* The other end of the cable, and the guest's driver. */
	struct probe wire;
	struct vdriver net;
	struct vqueue queues[3];
};

extern const char protect_guard[], protect_relay[];

void protect_make(struct protect_rig *f, const struct guest_place *place, bool arriving);
void protect_unmake(struct protect_rig *f);

/* The relay. Comes with what stands there; says `outcome` to the last swap, which is done where it was won. */
void protect_attach(struct protect_rig *f);
void protect_answer(struct protect_rig *f, enum ownership_event_kind outcome);
/* Waits for the next swap; its mode. */
enum ownership_mode protect_next_swap(struct protect_rig *f);
/* Turns until guard or people were told that. */
void protect_wait_told(struct protect_rig *f, const char *what);
void protect_wait_changed(struct protect_rig *f, const char *what);
enum ownership_role protect_role(const struct protect_rig *f);

/* Up to there: it is its record's owner; a copy is being given; gated; protected by epoch 1 of it. */
void protect_come_to_solo(struct protect_rig *f);
int protect_begin(struct protect_rig *f);
void protect_come_to_gated(struct protect_rig *f);
void protect_come_to_protected(struct protect_rig *f);
int protect_cut(struct protect_rig *f, uint64_t epoch, struct protect_cut *ret_cut);
void protect_ack(struct protect_rig *f, uint64_t epoch);

/* The guest's driver sends one frame. What comes out at the cable's other end: its fill, -1: nothing within 50 ms. */
void protect_drive_net(struct protect_rig *f);
void protect_send(struct protect_rig *f, uint8_t fill);
int protect_frame(struct protect_rig *f);
