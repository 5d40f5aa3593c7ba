/* SPDX-License-Identifier: Apache-2.0 */
#include "move/mover/convergence.h"

#include <math.h>
#include <stdio.h>

#define GOAL_NS (100 * NSEC_PER_MSEC)
#define RATE_ASSUMED 12.5e6 /* bytes per second, while nothing was sent that could tell: 100 Mb/s */
#define RATE_TELLS 65536.0  /* bytes of a round that tell something */
#define RATE_TELLS_WELL 4e6
#define AGAIN_MAX 5.0	   /* times the shorter of two looks: beyond that nothing can be told */
#define AGAIN_SPREAD 1.25  /* two times must differ by so much to tell it */
#define ROUND_COST_S 0.003 /* of a round beside its bytes: collecting, waking */
#define ROUNDS_AHEAD 64
#define BUDGET_FIRST 1.5 /* first rounds that the others may take together, and */
#define BUDGET_S 2.0
#define BUDGET_MIN_S 1.0
#define STALL_LOOKS 3
#define NEARER 0.95
#define POLISH_ROUNDS 3
#define POLISH_S 0.002 /* less to send is not worth a round */
#define TOLERATED 5.0  /* times the goal, when there is nothing left to try */
#define TOLERATED_S 1.0
#define FIXED_SHARE 0.25 /* of the goal is left to pages when all else takes as much as the goal */
#define STEP_MIN 5

/* One look in seconds and bytes. */
struct view {
	struct convergence *convergence;
	const struct convergence_look *look;
	double left, now_s, trip_s, goal_s;
	double fixed_s;	   /* a stop's cost without pages */
	double goal_bytes; /* of pages that may be left at a stop */
};

static double seconds(uint64_t ns)
{
	return (double)ns / 1e9;
}

static uint64_t whole(double value)
{
	return value >= 9e18 ? UINT64_MAX : value > 0 ? (uint64_t)value : 0;
}

void convergence_init(struct convergence *convergence, const struct convergence_goal *goal)
{
	*convergence = (struct convergence){ .goal = *goal, .best_left = UINT64_MAX };
	if (!convergence->goal.downtime_ns)
		convergence->goal.downtime_ns = GOAL_NS;
}

/* Long rounds tell more than short ones, whose bytes may stand in a socket's buffer. */
static void learn_rate(struct convergence *convergence, const struct convergence_look *look)
{
	double bytes = (double)look->round_bytes, s = seconds(look->round_ns);
	double weight = bytes >= RATE_TELLS_WELL ? 0.75 : 0.25;
	double rate;

	if (bytes < RATE_TELLS || s <= 0)
		return;
	rate = bytes / fmax(s - seconds(look->round_trip_ns), s / 2);
	convergence->rate = convergence->rate > 0 ? weight * rate + (1 - weight) * convergence->rate
						  : rate;
}

/* (1 - exp(-again * long_s)) / (1 - exp(-again * short_s)): from long_s / short_s down to 1 as `again` grows. */
static double dirty_ratio(double again, double long_s, double short_s)
{
	return expm1(-again * long_s) / expm1(-again * short_s);
}

/* The `again` that makes `ratio` of the bytes that became dirty in the longer and in the shorter time. */
static double find_again(double ratio, double long_s, double short_s)
{
	double low = 0, high = AGAIN_MAX / short_s;

	if (ratio >= long_s / short_s)
		return 0;
	for (int i = 0; i < 50; i++) {
		double middle = (low + high) / 2;

		if (dirty_ratio(middle, long_s, short_s) > ratio)
			low = middle;
		else
			high = middle;
	}
	return high;
}

/* Two looks over times of different length show how much is written again. A slowed guest's time is shorter. */
static void learn_dirty(struct convergence *convergence, const struct convergence_look *look)
{
	uint32_t throttle = MIN(look->throttle, CONVERGENCE_THROTTLE_MAX);
	double s = seconds(look->guest_ns ? look->guest_ns : look->round_ns) * (100 - throttle) /
		   100;
	double before_s = convergence->dirty_s, left = fmax((double)look->left_bytes, 1);

	s = fmax(s, 1e-6);
	if (convergence->looks > 0 && s > before_s * AGAIN_SPREAD)
		convergence->again = find_again(left / convergence->dirty, s, before_s);
	else if (convergence->looks > 0 && s * AGAIN_SPREAD < before_s)
		convergence->again = find_again(convergence->dirty / left, before_s, s);
	convergence->dirty = left;
	convergence->dirty_s = s;
}

static double rate_of(const struct convergence *convergence)
{
	return convergence->rate > 0 ? fmax(convergence->rate, 1) : RATE_ASSUMED;
}

/* Bytes dirty after the guest ran for `s`. */
static double dirty_after(const struct convergence *convergence, double s)
{
	double again = convergence->again;

	if (s <= 0)
		return 0;
	if (again * MAX(s, convergence->dirty_s) < 1e-6)
		return convergence->dirty * s / convergence->dirty_s;
	return convergence->dirty * dirty_ratio(again, s, convergence->dirty_s);
}

static double round_s(const struct view *view, double left)
{
	return left / rate_of(view->convergence) + view->trip_s + ROUND_COST_S;
}

/* How long until few enough pages are left, the guest slowed by `throttle`. INFINITY: never. */
static double time_to_goal(const struct view *view, uint32_t throttle)
{
	double left = view->left, s = 0;

	for (int i = 0; i < ROUNDS_AHEAD; i++) {
		double round = round_s(view, left);

		if (left <= view->goal_bytes)
			return s;
		s += round;
		left = dirty_after(view->convergence, round * (100 - throttle) / 100);
	}
	return INFINITY;
}

static struct view view_of(struct convergence *convergence, const struct convergence_look *look)
{
	struct view view = {
		.convergence = convergence,
		.look = look,
		.left = (double)look->left_bytes,
		.now_s = seconds(look->now_ns),
		.trip_s = seconds(look->round_trip_ns),
		.goal_s = seconds(convergence->goal.downtime_ns),
	};
	double rate = rate_of(convergence);

	view.fixed_s = seconds(look->fixed_ns) + 2 * view.trip_s + (double)look->state_bytes / rate;
	view.goal_bytes = rate * fmax(view.goal_s - view.fixed_s, view.goal_s * FIXED_SHARE);
	return view;
}

static double down_s(const struct view *view)
{
	return view->fixed_s + view->left / rate_of(view->convergence);
}

static void learn(struct convergence *convergence, const struct convergence_look *look)
{
	learn_rate(convergence, look);
	learn_dirty(convergence, look);
	if (convergence->looks++ == 0) {
		convergence->first_s = seconds(look->round_ns);
		convergence->deadline_s = seconds(look->now_ns) +
					  convergence->first_s * BUDGET_FIRST + BUDGET_S;
	}
	if ((double)look->left_bytes < (double)convergence->best_left * NEARER) {
		convergence->best_left = look->left_bytes;
		convergence->stalls = convergence->capped = 0;
	} else {
		convergence->stalls++;
		convergence->capped += look->throttle >= CONVERGENCE_THROTTLE_MAX;
	}
}

static double budget_s(const struct view *view)
{
	const struct convergence *convergence = view->convergence;

	return fmax(convergence->deadline_s - view->now_s, BUDGET_MIN_S + convergence->first_s / 4);
}

/* The least that makes it in time, but at most half of what the guest still has: what that brings is then measured. When
 * nothing got nearer, whatever was expected, some more: so each move ends. */
static uint32_t throttle_for(const struct view *view)
{
	uint32_t now = MIN(view->look->throttle, CONVERGENCE_THROTTLE_MAX), wanted = now;
	uint32_t most = 100 - (100 - now) / 2;

	if (view->convergence->stalls >= STALL_LOOKS)
		wanted++;
	while (wanted < CONVERGENCE_THROTTLE_MAX && time_to_goal(view, wanted) > budget_s(view))
		wanted++;
	if (wanted == now || now == CONVERGENCE_THROTTLE_MAX)
		return now;
	return MIN(MIN(MAX(wanted, now + STEP_MIN), most), CONVERGENCE_THROTTLE_MAX);
}

static void stop(const struct view *view, struct convergence_decision *decision)
{
	decision->choice = CONVERGENCE_STOP;
	if (view->fixed_s > view->goal_s)
		snprintf(
			decision->why, sizeof(decision->why),
			"saving and loading alone take %.0f ms, more than the goal of %.0f ms: stops at %.0f ms",
			view->fixed_s * 1e3, view->goal_s * 1e3, down_s(view) * 1e3);
	else
		snprintf(decision->why, sizeof(decision->why),
			 "the rest takes %.0f ms, within the goal of %.0f ms", down_s(view) * 1e3,
			 view->goal_s * 1e3);
}

/* Few enough are left. A short round more is worth it where it takes much off the stop. */
static bool decide_goal(const struct view *view, struct convergence_decision *decision)
{
	struct convergence *convergence = view->convergence;
	double send_s = view->left / rate_of(convergence);

	if (view->left > view->goal_bytes)
		return false;
	if (convergence->polish < POLISH_ROUNDS && send_s > fmax(POLISH_S, view->fixed_s / 5) &&
	    dirty_after(convergence, round_s(view, view->left)) < view->left / 2) {
		convergence->polish++;
		decision->choice = CONVERGENCE_GO_ON;
		snprintf(decision->why, sizeof(decision->why),
			 "a short round more makes the stop of %.0f ms shorter",
			 down_s(view) * 1e3);
		return true;
	}
	stop(view, decision);
	return true;
}

/* Slowed as far as can be, and still no nearer. */
static bool decide_end(const struct view *view, struct convergence_decision *decision)
{
	const struct convergence *convergence = view->convergence;
	double down = down_s(view);

	if (convergence->capped < STALL_LOOKS)
		return false;
	if (convergence->goal.allow_postcopy) {
		decision->choice = CONVERGENCE_POSTCOPY;
		snprintf(decision->why, sizeof(decision->why),
			 "no nearer for %u rounds, slowed by %u %%: post-copy, as allowed",
			 convergence->stalls, view->look->throttle);
	} else if (down <= fmax(view->goal_s * TOLERATED, TOLERATED_S)) {
		decision->choice = CONVERGENCE_STOP;
		snprintf(
			decision->why, sizeof(decision->why),
			"no nearer for %u rounds, slowed by %u %%: stops for %.0f ms, the goal was %.0f ms",
			convergence->stalls, view->look->throttle, down * 1e3, view->goal_s * 1e3);
	} else {
		decision->choice = CONVERGENCE_GIVE_UP;
		snprintf(
			decision->why, sizeof(decision->why),
			"slowed by %u %% it would still stop for %.1f s: allow that by --downtime %.0fs, or take a faster wire",
			view->look->throttle, down, ceil(down * 1.5));
	}
	return true;
}

static void decide_pace(const struct view *view, struct convergence_decision *decision)
{
	struct convergence *convergence = view->convergence;
	uint32_t throttle = MIN(view->look->throttle, CONVERGENCE_THROTTLE_MAX);
	double next = dirty_after(convergence, round_s(view, view->left) * (100 - throttle) / 100);
	double percent = next / fmax(view->left, 1) * 100;

	/* After one round only one point of the curve is known: the second tells how it grows. */
	if (convergence->looks > 1)
		throttle = throttle_for(view);
	if (throttle > view->look->throttle && convergence->goal.allow_postcopy) {
		decision->choice = CONVERGENCE_POSTCOPY;
		snprintf(decision->why, sizeof(decision->why),
			 "a round leaves %.0f %% of the one before: post-copy, as allowed",
			 percent);
	} else if (throttle > view->look->throttle) {
		decision->choice = CONVERGENCE_THROTTLE;
		decision->throttle = throttle;
		snprintf(decision->why, sizeof(decision->why),
			 "%sa round leaves %.0f %% of the one before: the VM is slowed by %u %%",
			 decision->stalled ? "no nearer; " : "", percent, throttle);
	} else {
		decision->choice = CONVERGENCE_GO_ON;
		snprintf(decision->why, sizeof(decision->why),
			 "%s%.0f MiB left, %.0f MiB after the next round",
			 decision->stalled ? "no nearer; " : "", view->left / 1048576,
			 next / 1048576);
	}
}

void convergence_decide(struct convergence *convergence, const struct convergence_look *look,
			struct convergence_decision *ret_decision)
{
	struct convergence_decision decision = { .throttle = look->throttle };
	struct view view;
	double eta;

	learn(convergence, look);
	view = view_of(convergence, look);
	decision.stalled = convergence->stalls >= STALL_LOOKS;
	if (!decide_goal(&view, &decision) && !decide_end(&view, &decision))
		decide_pace(&view, &decision);
	eta = time_to_goal(&view, decision.throttle);
	decision.rate = whole(rate_of(convergence));
	decision.dirty_rate = whole(convergence->dirty / convergence->dirty_s *
				    (100 - MIN(look->throttle, 100U)) / 100);
	decision.down_ns = whole(down_s(&view) * 1e9);
	decision.eta_ns = isfinite(eta) ? whole((eta + fmin(down_s(&view), view.goal_s)) * 1e9) : 0;
	*ret_decision = decision;
}
