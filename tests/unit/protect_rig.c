/* SPDX-License-Identifier: Apache-2.0 */
#include "protect_rig.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "vm/interrupts.h"

#define FRAME (NET_HEADER_SIZE + 60)
#define SOON_MS 5000

const char protect_guard[] = "guard", protect_relay[] = "relay";

/* ---- what is told ---- */

static void on_swap(void *ctx, const void *owner, const struct ownership_record *want)
{
	struct protect_rig *f = ctx;

	f->swaps++;
	f->swapped_by = owner;
	f->want = *want;
}

static void on_tell_guard(void *ctx, const void *owner, const char *what, bool ran, const char *why)
{
	struct protect_rig *f = ctx;

	assert_ptr_equal(owner, protect_guard);
	f->tellings++;
	snprintf(f->told, sizeof(f->told), "%s", what);
	f->told_ran = ran;
	snprintf(f->told_why, sizeof(f->told_why), "%s", why);
}

static void on_changed(void *ctx, const char *what, const char *why _unused_)
{
	struct protect_rig *f = ctx;

	f->changes++;
	snprintf(f->changed, sizeof(f->changed), "%s", what);
}

static void on_arrived(void *ctx)
{
	((struct protect_rig *)ctx)->arrivals++;
}

static void on_over(void *ctx, bool ran, const char *why)
{
	struct protect_rig *f = ctx;

	f->overs++;
	f->ran = ran;
	snprintf(f->why, sizeof(f->why), "%s", why);
}

static bool on_powered_off(void *ctx)
{
	struct protect_rig *f = container_of(ctx, struct protect_rig, rig);

	return protect_guest_ends(f->guest);
}

static void take_apart(struct guest_rig *rig)
{
	protect_guest_free(container_of(rig, struct protect_rig, rig)->guest);
}

/* ---- making ---- */

void protect_make(struct protect_rig *f, const struct guest_place *place, bool arriving)
{
	const struct guest_options options = { .arriving = arriving, .net = true };
	const struct protect_guest_events events = {
		.swap = on_swap,
		.tell_guard = on_tell_guard,
		.changed = on_changed,
		.arrived = on_arrived,
		.over = on_over,
		.ctx = f,
	};

	memset(f, 0, sizeof(*f));
	guest_rig_make(&f->rig, place, &options);
	assert_int_equal(protect_guest_new(f->rig.vm, f->rig.guest, &events, &f->guest), 0);
	f->rig.take_apart = take_apart;
	f->rig.vm->events.powered_off = on_powered_off;
	assert_int_equal(protect_shared_make(GUEST_RIG_RAM, &f->shared), 0);
	probe_open(&f->wire, f->rig.peer, 0, &clock_host);
	net_want_readable(f->wire.queue, true);
}

void protect_unmake(struct protect_rig *f)
{
	probe_close(&f->wire);
	guest_rig_free(&f->rig);
	protect_shared_release(&f->shared);
}

/* ---- the relay ---- */

void protect_attach(struct protect_rig *f)
{
	assert_int_equal(protect_guest_attach(f->guest, protect_relay, &f->record, &NOBODY, &f->me,
					      &f->err),
			 0);
}

void protect_answer(struct protect_rig *f, enum ownership_event_kind outcome)
{
	if (outcome == WHEN_WON) {
		assert_int_equal(f->want.revision, f->record.revision);
		f->want.revision++;
		f->record = f->want;
	}
	assert_int_equal(
		protect_guest_swapped(f->guest, protect_relay, outcome, &f->record, &f->err), 0);
}

enum ownership_mode protect_next_swap(struct protect_rig *f)
{
	f->swaps = 0;
	guest_rig_turn_until(&f->rig, &f->swaps, 1);
	return f->want.mode;
}

static void wait_for(struct protect_rig *f, const char *said, const char *what)
{
	const uint64_t due = clock_now(&clock_host) + SOON_MS * NSEC_PER_MSEC;

	while (strcmp(said, what) != 0) {
		guest_rig_turn_for(&f->rig, 1);
		if (clock_now(&clock_host) > due)
			fail_msg("'%s' is not told, but '%s'", what, said);
	}
}

void protect_wait_told(struct protect_rig *f, const char *what)
{
	wait_for(f, f->told, what);
}

void protect_wait_changed(struct protect_rig *f, const char *what)
{
	wait_for(f, f->changed, what);
}

enum ownership_role protect_role(const struct protect_rig *f)
{
	struct protect_facts facts;

	protect_guest_facts(f->guest, &facts);
	return facts.ownership ? facts.ownership->role : OWNERSHIP_ROLES;
}

/* ---- up to there ---- */

void protect_come_to_solo(struct protect_rig *f)
{
	protect_attach(f);
	assert_int_equal(protect_next_swap(f), OWNERSHIP_SOLO);
	protect_answer(f, WHEN_WON);
	assert_int_equal(protect_role(f), OWNERSHIP_IS_SOLO);
}

int protect_begin(struct protect_rig *f)
{
	uint64_t cut;

	f->err = (struct error){ 0 };
	return protect_guest_begin(f->guest, protect_guard, &PROTECT_SESSION, "b",
				   dup(f->shared.fd), -1, &cut, &f->err);
}

void protect_come_to_gated(struct protect_rig *f)
{
	protect_come_to_solo(f);
	if (protect_begin(f) < 0)
		fail_msg("%s", f->err.message);
	assert_int_equal(protect_guest_gate(f->guest, protect_guard, &f->err), 0);
}

int protect_cut(struct protect_rig *f, uint64_t epoch, struct protect_cut *ret_cut)
{
	f->err = (struct error){ 0 };
	return protect_guest_cut(f->guest, protect_guard, epoch, ret_cut, &f->err);
}

void protect_ack(struct protect_rig *f, uint64_t epoch)
{
	assert_int_equal(protect_guest_acked(f->guest, &PROTECT_SESSION, epoch,
					     clock_now(&clock_host), &f->err),
			 0);
}

void protect_come_to_protected(struct protect_rig *f)
{
	struct protect_cut cut;

	protect_come_to_gated(f);
	assert_int_equal(protect_cut(f, 1, &cut), 0);
	protect_ack(f, 1);
	assert_int_equal(protect_next_swap(f), OWNERSHIP_PROTECTED);
	protect_answer(f, WHEN_WON);
	protect_wait_changed(f, "protected");
}

/* ---- frames ---- */

void protect_drive_net(struct protect_rig *f)
{
	assert_int_equal(
		vdriver_setup(&f->rig.machine, VIRTIO_ID_NET, ~0ULL, &f->net, f->queues, 3), 0);
}

void protect_send(struct protect_rig *f, uint8_t fill)
{
	const struct vbuffer buffer = { vmachine_alloc(&f->rig.machine, FRAME, 16), FRAME, false };
	uint8_t *bytes = vmachine_at(&f->rig.machine, buffer.address, FRAME);

	memset(bytes, 0, NET_HEADER_SIZE);
	memset(bytes + NET_HEADER_SIZE, fill, FRAME - NET_HEADER_SIZE);
	assert_true(vqueue_add(&f->queues[1], &buffer, 1) >= 0);
	vqueue_kick_anyway(&f->queues[1]);
	assert_int_equal(vqueue_wait(&f->queues[1], SOON_MS, NULL, NULL), 1);
}

/* Reverse ARP, by which the VM announces itself, is not the guest's. */
int protect_frame(struct protect_rig *f)
{
	for (unsigned int ms = 0; ms < 50; ms++) {
		uint8_t fill = 0;

		if (probe_receive(&f->wire, &fill) > 0 && fill != 0xff)
			return fill;
		guest_rig_turn_for(&f->rig, 1);
	}
	return -1;
}
