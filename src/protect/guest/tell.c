/* SPDX-License-Identifier: Apache-2.0 */

/* What relay, guard and people are told: never from inside what they asked, but at the loop's next turn. */

#include <string.h>

#include "base/cleanup.h"
#include "protect/guest/internal.h"

static const char *const telling_names[] = {
	"backup-prepare", "backup-apply", "protect-off", "protect-failover", "backup-over",
};

static void tell_the_relay(struct protect_guest *guest)
{
	if (!guest->swap_due || !guest->relay)
		return;
	guest->swap_due = false;
	guest->swap_out = true;
	guest->events.swap(guest->events.ctx, guest->relay, &guest->ownership.want);
}

static void tell_what_was_heard(struct protect_guest *guest)
{
	if (!guest->heard_due)
		return;
	guest->heard_due = false;
	protect_tell_heard(guest);
}

static void tell_people(struct protect_guest *guest)
{
	while (guest->news_told < guest->news_come) {
		const struct protect_notice news = guest->news[guest->news_told++ % NEWS];

		if (guest->events.changed)
			guest->events.changed(guest->events.ctx, news.what, news.why);
	}
	if (!guest->arrived_due)
		return;
	guest->arrived_due = false;
	if (guest->events.arrived)
		guest->events.arrived(guest->events.ctx);
}

static void tell_the_guard(struct protect_guest *guest)
{
	const uint32_t tellings = guest->tellings;

	guest->tellings = 0;
	for (unsigned int i = 0; i < ARRAY_SIZE(telling_names) && guest->told; i++)
		if (tellings & 1U << i)
			guest->events.tell_guard(guest->events.ctx, guest->told, telling_names[i],
						 guest->took_over, guest->telling_why);
}

static void later_expired(struct loop_timer *timer)
{
	struct protect_guest *guest = container_of(timer, struct protect_guest, later);

	tell_what_was_heard(guest);
	tell_the_relay(guest);
	tell_people(guest);
	tell_the_guard(guest);
	if (!guest->over_due)
		return;
	guest->over_due = false;
	guest->events.over(guest->events.ctx, guest->ran, guest->over_why);
}

static void soon(struct protect_guest *guest)
{
	loop_timer_arm(guest->vm->loop, &guest->later, 0);
}

void protect_tell_init(struct protect_guest *guest)
{
	loop_timer_init(&guest->later, later_expired);
}

void protect_tell_release(struct protect_guest *guest)
{
	loop_timer_cancel(&guest->later);
}

void protect_tell_swap(struct protect_guest *guest)
{
	guest->swap_due = true;
	soon(guest);
}

void protect_tell_relay_soon(struct protect_guest *guest)
{
	guest->heard_due = true;
	soon(guest);
}

void protect_tell_guard(struct protect_guest *guest, enum protect_telling telling, const char *why)
{
	guest->told = guest->guard;
	guest->tellings |= telling;
	snprintf(guest->telling_why, sizeof(guest->telling_why), "%s", why);
	soon(guest);
}

void protect_tell_changed(struct protect_guest *guest, const char *what, const char *why)
{
	struct protect_notice *news = &guest->news[guest->news_come++ % NEWS];

	/* Of too many in one turn the oldest is not told. */
	if (guest->news_come - guest->news_told > NEWS)
		guest->news_told++;
	news->what = what;
	snprintf(news->why, sizeof(news->why), "%s", why);
	soon(guest);
}

void protect_tell_arrived(struct protect_guest *guest)
{
	guest->arrived_due = true;
	soon(guest);
}

void protect_tell_over(struct protect_guest *guest, bool ran, const char *why)
{
	if (guest->over)
		return;
	guest->over = guest->over_due = true;
	guest->ran = ran;
	snprintf(guest->over_why, sizeof(guest->over_why), "%s", why);
	soon(guest);
}
