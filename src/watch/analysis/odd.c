/* SPDX-License-Identifier: Apache-2.0 */
/* What a person should look at: thresholds on tallies and histograms. Rates are by the window's length. */
#include "watch/analysis/internal.h"

#define ODD_OF_A_KIND 3
#define POLL_RATE 100 /* repeated reads in a second */
#define POLL_MIN 64   /* in the window */
#define STORM_RATE 5000
#define STORM_MIN 1000
#define SLOW_TIMES 10
#define SLOW_NS NSEC_PER_MSEC
#define SLOW_MIN 100

_Static_assert(ODD_KINDS *ODD_OF_A_KIND <= ANALYSIS_TOP, "all fit");

const struct analysis_oddity_text analysis_oddities[ODD_KINDS] = {
	[ODD_POLLING] = { "polling",
			  "a vCPU reads one register again, with the same answer and nothing "
			  "between, 100 times a second or more" },
	[ODD_STORM] = { "storm",
			"one register is written 5000 times a second or more, and more than "
			"twice for each request of its device" },
	[ODD_UNCLAIMED] = { "unclaimed", "an access to an address where no device answers" },
	[ODD_ERRORS] = { "errors", "a request that failed" },
	[ODD_SLOW] = { "slow tail", "of 100 requests or more, one in 100 takes 10 times the median "
				    "or longer, and 1 ms or longer" },
};

const char *analysis_oddity_name(enum analysis_oddity odd)
{
	return (unsigned int)odd < ODD_KINDS ? analysis_oddities[odd].name : "?";
}

static void add(struct analysis_window *window, const struct analysis_odd *odd)
{
	if (window->n_odd < ANALYSIS_TOP)
		window->odd[window->n_odd++] = *odd;
}

static bool at_rate(const struct analysis_window *window, uint64_t count, uint64_t rate,
		    uint64_t least)
{
	double seconds = (double)(window->end_ns - window->begin_ns) / NSEC_PER_SEC;

	return count >= least && (double)count >= (double)rate * seconds;
}

static struct analysis_odd from_entry(enum analysis_oddity what, const struct tally_entry *entry)
{
	return (struct analysis_odd){
		.what = what,
		.device = entry->key.device,
		.kind = entry->key.kind,
		.address = entry->key.address,
		.instruction = entry->key.instruction,
		.count = tally_sure(entry),
	};
}

static void find_polling(const struct analysis *analysis, struct analysis_window *window)
{
	const struct tally *polls = &analysis->tables.polls;
	uint8_t places[ODD_OF_A_KIND];
	uint32_t n = tally_top(polls, places, ODD_OF_A_KIND);

	for (uint32_t i = 0; i < n; i++) {
		struct analysis_odd odd = from_entry(ODD_POLLING, &polls->entries[places[i]]);

		odd.data = analysis->tables.answers[places[i]];
		if (at_rate(window, odd.count, POLL_RATE, POLL_MIN))
			add(window, &odd);
	}
}

static uint64_t requests_of(const struct analysis_window *window, uint16_t device)
{
	for (uint32_t i = 0; i < window->n_devices; i++)
		if (window->devices[i].device == device)
			return window->devices[i].requests;
	return 0;
}

static void find_storms(const struct analysis *analysis, struct analysis_window *window)
{
	const struct tally *writes = &analysis->tables.writes;
	uint8_t places[ODD_OF_A_KIND];
	uint32_t n = tally_top(writes, places, ODD_OF_A_KIND);

	for (uint32_t i = 0; i < n; i++) {
		struct analysis_odd odd = from_entry(ODD_STORM, &writes->entries[places[i]]);

		odd.write = true;
		/* A doorbell is rung for requests: that is its use. */
		if (at_rate(window, odd.count, STORM_RATE, STORM_MIN) &&
		    odd.count / 2 > requests_of(window, odd.device))
			add(window, &odd);
	}
}

static void find_unclaimed(const struct analysis *analysis, struct analysis_window *window)
{
	const struct tally *unclaimed = &analysis->tables.unclaimed;
	uint8_t places[ODD_OF_A_KIND];
	uint32_t n = tally_top(unclaimed, places, ODD_OF_A_KIND);

	for (uint32_t i = 0; i < n; i++) {
		struct analysis_odd odd = from_entry(ODD_UNCLAIMED, &unclaimed->entries[places[i]]);

		if (odd.count)
			add(window, &odd);
	}
}

/* What a device's requests are recorded as. */
static uint8_t request_kind(const struct analysis_device *device)
{
	static const uint8_t kinds[] = {
		[ROLE_OTHER] = RECORD_QUEUE,
		[ROLE_DISK] = RECORD_DISK,
		[ROLE_NET] = RECORD_NET,
		[ROLE_CONSOLE] = RECORD_QUEUE,
	};

	return kinds[device->role % ARRAY_SIZE(kinds)];
}

static void find_errors(const struct analysis *analysis, struct analysis_window *window)
{
	for (uint32_t i = 0, found = 0; i < window->n_devices && found < ODD_OF_A_KIND; i++) {
		const struct analysis_device *device = &window->devices[i];
		const struct analysis_odd odd = {
			.what = ODD_ERRORS,
			.device = device->device,
			.kind = request_kind(device),
			.count = device->failed,
			.status = analysis->traces[i].status,
		};

		if (!device->failed)
			continue;
		add(window, &odd);
		found++;
	}
}

/* Whether it is slow; `what`'s histogram. */
static bool check_slow(struct analysis_window *window, const struct analysis_device *device,
		       uint8_t kind, const struct latency *latency)
{
	const struct analysis_odd odd = {
		.what = ODD_SLOW,
		.device = device->device,
		.kind = kind,
		.count = latency->count,
		.p50_ns = latency_percentile(latency, 500),
		.p99_ns = latency_percentile(latency, 990),
	};

	if (odd.count < SLOW_MIN || odd.p99_ns < SLOW_NS || odd.p99_ns / SLOW_TIMES < odd.p50_ns)
		return false;
	add(window, &odd);
	return true;
}

static void find_slow(struct analysis_window *window)
{
	uint32_t found = 0;

	for (uint32_t i = 0; i < window->n_devices && found < ODD_OF_A_KIND; i++) {
		const struct analysis_device *device = &window->devices[i];

		/* What waits in a queue until there is a frame or a key says nothing of speed. */
		if (device->role != ROLE_CONSOLE)
			found += check_slow(window, device, request_kind(device),
					    &device->request_latency);
		if (found < ODD_OF_A_KIND)
			found += check_slow(window, device, RECORD_PIO, &device->access_latency);
	}
}

void analysis_find_odd(const struct analysis *analysis, struct analysis_window *window)
{
	window->n_odd = 0;
	find_polling(analysis, window);
	find_storms(analysis, window);
	find_unclaimed(analysis, window);
	find_errors(analysis, window);
	find_slow(window);
}
