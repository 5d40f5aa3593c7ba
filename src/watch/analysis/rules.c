/* SPDX-License-Identifier: Apache-2.0 */
/* What is derived when a window ends: shares of time, the period, the hottest instructions, the class. */
#include "watch/analysis/internal.h"

#define IDLE_BELOW 0.05
#define CPU_FROM 0.80
#define DISK_FROM 0.50
#define NET_FROM 0.50
#define CONSOLE_FROM 0.25
#define TOGETHER_FROM 0.80
#define PERIOD_PERMILLE 500 /* from here on a period is named */
#define COVERED_MIN 0.25    /* of a window: less says too little about a vCPU */

static bool is_cpu(const struct analysis_window *window)
{
	return MAX(window->shares.cpu, window->shares.monitor) >= CPU_FROM;
}

static bool is_disk(const struct analysis_window *window)
{
	return window->shares.disk >= DISK_FROM;
}

static bool is_net(const struct analysis_window *window)
{
	return window->shares.net >= NET_FROM;
}

static bool is_console(const struct analysis_window *window)
{
	return window->shares.console >= CONSOLE_FROM;
}

/* One thread that waits for its disk and then computes is held up all the time, by each of them for a part. */
static bool is_mixed(const struct analysis_window *window)
{
	const struct analysis_shares *shares = &window->shares;
	unsigned int n = is_cpu(window) + is_disk(window) + is_net(window);

	return n >= 2 || (!n && MAX(shares->cpu, shares->monitor) + shares->disk + shares->net >=
					TOGETHER_FROM);
}

/* As far as it is known. */
static bool is_quiet(const struct analysis_window *window)
{
	const struct analysis_shares *shares = &window->shares;

	return shares->cpu < IDLE_BELOW && shares->monitor < IDLE_BELOW &&
	       shares->disk < IDLE_BELOW && shares->net < IDLE_BELOW &&
	       shares->console < IDLE_BELOW;
}

static bool is_idle(const struct analysis_window *window)
{
	return window->shares.cpu_known && is_quiet(window);
}

static bool is_any(const struct analysis_window *window _unused_)
{
	return true;
}

const struct analysis_rule analysis_rules[BOUND_N] = {
	{ BOUND_IDLE, "idle", "every share is below 5 %", is_idle },
	{ BOUND_UNKNOWN, "unknown",
	  "every share is below 5 %, but the vCPUs' own time was not recorded", is_quiet },
	{ BOUND_CONSOLE, "console",
	  "a vCPU spends 25 % of the time or more in accesses to a console, or a console's output is "
	  "under way for so long",
	  is_console },
	{ BOUND_MIXED, "mixed",
	  "at least two of cpu, disk and net hold; or none, but their shares together are 80 % or more",
	  is_mixed },
	{ BOUND_CPU, "cpu",
	  "the busiest vCPU is on a processor, or waits for the monitor's answers, 80 % of the time or "
	  "more",
	  is_cpu },
	{ BOUND_DISK, "disk", "the busiest disk has a request under way 50 % of the time or more",
	  is_disk },
	{ BOUND_NET, "net",
	  "of the busiest network device, a frame is under way or less than 1 ms old 50 % of the time "
	  "or more",
	  is_net },
	{ BOUND_LIGHT, "light", "no other rule holds: it works, and nothing holds it up", is_any },
};

const struct analysis_rule *analysis_rule_of(enum analysis_bound bound)
{
	for (size_t i = 0; i < BOUND_N; i++)
		if (analysis_rules[i].bound == bound)
			return &analysis_rules[i];
	return &analysis_rules[BOUND_N - 1];
}

const char *analysis_bound_name(enum analysis_bound bound)
{
	return analysis_rule_of(bound)->name;
}

static double share(uint64_t part, uint64_t whole)
{
	return whole ? MIN((double)part / (double)whole, 1.0) : 0;
}

static void conclude_vcpu(const struct analysis_vcpu *vcpu, uint32_t index,
			  struct analysis_window *window)
{
	uint64_t length = window->end_ns - window->begin_ns;
	struct analysis_shares *shares = &window->shares;
	double requests = share(busy_before(&vcpu->requests, window->end_ns), length);
	double console = share(busy_before(&vcpu->console, window->end_ns), length);

	window->monitor_share[index] = requests;
	shares->monitor = MAX(shares->monitor, requests);
	shares->console = MAX(shares->console, console);
	window->cpu_share[index] = -1;
	if (!vcpu->covered_ns || share(vcpu->covered_ns, length) < COVERED_MIN)
		return;
	window->cpu_share[index] = share(vcpu->cpu_ns, vcpu->covered_ns);
	shares->cpu_known = true;
	shares->cpu = MAX(shares->cpu, window->cpu_share[index]);
}

static void conclude_period(const struct period *period, struct analysis_device *device,
			    struct analysis_window *window)
{
	uint64_t ns;
	uint32_t permille = period_find(period, window->end_ns - window->begin_ns, &ns);

	device->period_permille = permille;
	device->period_ns = permille >= PERIOD_PERMILLE ? ns : 0;
	if (!device->period_ns || permille <= window->period_permille)
		return;
	window->period_ns = ns;
	window->period_permille = permille;
	window->period_device = device->device;
}

static void conclude_device(const struct device_trace *trace, struct analysis_device *device,
			    struct analysis_window *window)
{
	struct analysis_shares *shares = &window->shares;
	double *const of_role[] = {
		[ROLE_OTHER] = NULL,
		[ROLE_DISK] = &shares->disk,
		[ROLE_NET] = &shares->net,
		[ROLE_CONSOLE] = &shares->console,
	};
	double *highest = of_role[device->role % ARRAY_SIZE(of_role)];

	device->busy = share(busy_before(&trace->busy, window->end_ns),
			     window->end_ns - window->begin_ns);
	if (highest)
		*highest = MAX(*highest, device->busy);
	conclude_period(&trace->period, device, window);
}

static void conclude_sites(const struct analysis_tables *tables, struct analysis_window *window)
{
	uint8_t places[ANALYSIS_TOP];

	window->n_sites = tally_top(&tables->sites, places, ANALYSIS_TOP);
	for (uint32_t i = 0; i < window->n_sites; i++) {
		const struct tally_entry *entry = &tables->sites.entries[places[i]];

		window->sites[i] = tables->code[places[i]];
		window->sites[i].count = entry->count;
		window->sites[i].over = entry->over;
	}
}

void analysis_conclude(const struct analysis *analysis, uint64_t end_ns,
		       struct analysis_window *window)
{
	window->end_ns = MAX(end_ns, window->begin_ns);
	for (uint32_t i = 0; i < window->n_vcpus; i++)
		conclude_vcpu(&analysis->vcpus[i], i, window);
	for (uint32_t i = 0; i < window->n_devices; i++)
		conclude_device(&analysis->traces[i], &window->devices[i], window);
	conclude_sites(&analysis->tables, window);
	analysis_find_odd(analysis, window);
	for (size_t i = 0; i < BOUND_N; i++)
		if (analysis_rules[i].holds(window)) {
			window->bound = analysis_rules[i].bound;
			break;
		}
}
