/* SPDX-License-Identifier: Apache-2.0 */
#include "base/clock.h"

#include <time.h>

#include "base/macros.h"

static uint64_t read_clock(clockid_t id)
{
	struct timespec ts;

	clock_gettime(id, &ts);
	return (uint64_t)ts.tv_sec * NSEC_PER_SEC + (uint64_t)ts.tv_nsec;
}

static uint64_t host_now(const struct clock *clock _unused_)
{
	return read_clock(CLOCK_MONOTONIC);
}

static uint64_t host_wall(const struct clock *clock _unused_)
{
	return read_clock(CLOCK_REALTIME);
}

const struct clock clock_host = { .now = host_now, .wall = host_wall };

static uint64_t fake_now(const struct clock *clock)
{
	return __atomic_load_n(&container_of(clock, struct fake_clock, clock)->now_ns,
			       __ATOMIC_ACQUIRE);
}

static uint64_t fake_wall(const struct clock *clock)
{
	return __atomic_load_n(&container_of(clock, struct fake_clock, clock)->wall_ns,
			       __ATOMIC_ACQUIRE);
}

void fake_clock_init(struct fake_clock *fake, uint64_t now_ns, uint64_t wall_ns)
{
	*fake = (struct fake_clock){
		.clock = { .now = fake_now, .wall = fake_wall },
		.now_ns = now_ns,
		.wall_ns = wall_ns,
	};
}

void fake_clock_advance(struct fake_clock *fake, uint64_t ns)
{
	__atomic_add_fetch(&fake->now_ns, ns, __ATOMIC_RELEASE);
	__atomic_add_fetch(&fake->wall_ns, ns, __ATOMIC_RELEASE);
}
