/* SPDX-License-Identifier: Apache-2.0 */

/* Who asks the arbiter for this VM. It may go and come again: a swap that it had not sent yet is kept, one that it had is of unknown outcome. */

#include <errno.h>

#include "protect/guest/internal.h"

static uint32_t hear(struct protect_guest *guest, enum ownership_event_kind kind,
		     const struct ownership_record *record)
{
	if (record->revision > guest->heard.revision)
		guest->heard = *record;
	return protect_step(guest, &(struct ownership_event){ .kind = kind, .record = *record });
}

/* A VM that runs: whether the record lets it be its owner. Where it does not, it runs on, as nobody's business. */
static void start(struct protect_guest *guest, const struct ownership_record *record,
		  const struct ownership_id *dead)
{
	const uint32_t actions = ownership_start(&guest->me, record, dead, &guest->ownership);

	guest->known = true;
	guest->foreign = false;
	protect_act(guest, actions);
}

static bool is_to_be_loaded(const struct protect_guest *guest)
{
	return move_guest_stage(guest->move) == MOVE_ARRIVING;
}

int protect_guest_attach(struct protect_guest *guest, const void *owner,
			 const struct ownership_record *record, const struct ownership_id *dead,
			 struct ownership_id *ret_me, struct error *err)
{
	const char *name = guest->vm->config->name;

	if (guest->over)
		return error_set(err, -ESHUTDOWN, EXIT_STATUS_FAILED, "%s: is about to end", name);
	if (guest->relay && guest->relay != owner)
		return error_set(err, -EBUSY, EXIT_STATUS_BUSY,
				 "%s: has a relay to the arbiter already; end that one", name);
	guest->relay = owner;
	guest->was_heard = true;
	if ((guest->known && !guest->foreign) || is_to_be_loaded(guest)) {
		(void)!hear(guest, WHEN_READ, record);
	} else {
		guest->heard = *record;
		start(guest, record, dead);
	}
	protect_tell_relay_soon(guest);
	if (guest->swap_due)
		protect_tell_swap(guest);
	*ret_me = guest->me;
	return 0;
}

static int expect_relay(const struct protect_guest *guest, const void *owner, struct error *err)
{
	if (owner && guest->relay == owner)
		return 0;
	return error_set(err, -ESRCH, EXIT_STATUS_FAILED,
			 "%s: this connection is no relay's; attach first",
			 guest->vm->config->name);
}

int protect_guest_swapped(struct protect_guest *guest, const void *owner,
			  enum ownership_event_kind outcome, const struct ownership_record *record,
			  struct error *err)
{
	int r = expect_relay(guest, owner, err);

	if (r == 0 && !guest->swap_out)
		r = error_set(err, -EINVAL, EXIT_STATUS_FAILED,
			      "%s: asked for no swap that has no answer", guest->vm->config->name);
	if (r < 0)
		return r;
	guest->swap_out = false;
	if (outcome == WHEN_UNKNOWN)
		(void)!protect_step_plain(guest, WHEN_UNKNOWN);
	else
		(void)!hear(guest, outcome, record);
	return 0;
}

int protect_guest_stands(struct protect_guest *guest, const void *owner,
			 const struct ownership_record *record, struct error *err)
{
	int r = expect_relay(guest, owner, err);

	if (r < 0)
		return r;
	/* What was somebody else's may be nobody's by now; and a VM that arrived by a move runs since. */
	if ((guest->foreign && record->revision > guest->heard.revision) ||
	    (!guest->known && !is_to_be_loaded(guest))) {
		guest->heard = *record;
		start(guest, record, &(struct ownership_id){ 0 });
	} else {
		(void)!hear(guest, WHEN_READ, record);
	}
	return 0;
}
