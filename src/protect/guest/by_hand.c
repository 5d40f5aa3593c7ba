/* SPDX-License-Identifier: Apache-2.0 */

/* Where no etcd decides but persons and what each side says of itself (peer/manual.h): the VM passes on what its guard hears, and ends for good when its
 * backup shall go on. */

#include <errno.h>
#include <string.h>

#include "protect/guest/internal.h"

void protect_guest_by_hand(struct protect_guest *guest, const void *owner, bool by_hand,
			   const char *waits)
{
	if (!owner || guest->relay != owner)
		return;
	guest->by_hand = by_hand;
	snprintf(guest->hand_waits, sizeof(guest->hand_waits), "%s", waits);
	guest->hand_waits_at = guest->ownership.record.revision;
	/* A guest that switched itself off: its backup is told so by its guard, and ends. */
	if (waits[0] && guest->off && guest->side == SIDE_OWNER) {
		struct error unheard = { 0 };

		(void)!protect_guest_off(guest, &unheard);
	}
}

const char *protect_hand_waits(const struct protect_guest *guest)
{
	return guest->by_hand && guest->hand_waits_at == guest->ownership.record.revision
		       ? guest->hand_waits
		       : "";
}

/* What a guard heard, to the relay: now, and to each that attaches later as long as it matters. */
void protect_tell_heard(struct protect_guest *guest)
{
	const struct ownership_record *record = &guest->ownership.record;

	if (!guest->relay || !guest->by_hand || !guest->events.tell_relay)
		return;
	if (guest->copied.revision > record->revision)
		guest->events.tell_relay(guest->events.ctx, guest->relay, "arbiter-heard",
					 &guest->copied);
	if (guest->other_ended && record->mode == OWNERSHIP_PROTECTED &&
	    ownership_id_equal(&record->backup, &guest->other_session))
		guest->events.tell_relay(guest->events.ctx, guest->relay, "arbiter-ended", record);
}

int protect_guest_record(struct protect_guest *guest, const void *owner,
			 const struct ownership_record *record, struct error *err)
{
	int r = protect_expect(guest, owner, SIDE_BACKUP, err);

	if (r < 0)
		return r;
	if (record->mode != OWNERSHIP_PROTECTED ||
	    !ownership_id_equal(&record->backup, &guest->ownership.session))
		return error_set(err, -ESTALE, EXIT_STATUS_FAILED,
				 "%s: its owner tells of a record that does not name this copy",
				 guest->vm->config->name);
	guest->copied = *record;
	guest->copied.revision = record->generation;
	protect_tell_relay_soon(guest);
	return 0;
}

int protect_guest_ended(struct protect_guest *guest, const struct ownership_id *session,
			struct error *err)
{
	if (!guest->known || !guest->by_hand || protect_is_nobody(session) ||
	    !ownership_id_equal(session, &guest->ownership.session))
		return error_set(err, -ESTALE, EXIT_STATUS_FAILED,
				 "%s: no copy of this session is kept any more",
				 guest->vm->config->name);
	guest->other_ended = true;
	guest->other_session = *session;
	protect_tell_relay_soon(guest);
	return 0;
}

int protect_guest_give(struct protect_guest *guest, const void *owner, struct error *err)
{
	int r = protect_expect(guest, owner, SIDE_OWNER, err);

	if (r < 0)
		return r;
	if (!guest->by_hand || guest->ownership.role != OWNERSHIP_IS_PROTECTED ||
	    guest->ownership.acked < guest->ownership.cut || guest->ownership.give_up)
		return error_set(err, -EBUSY, EXIT_STATUS_BUSY, "%s: its backup has not all of it",
				 guest->vm->config->name);
	/* Nothing that comes later brings it back. */
	guest->ownership.role = OWNERSHIP_HAS_ENDED;
	protect_act(guest, THEN_STOP_VM);
	return 0;
}
