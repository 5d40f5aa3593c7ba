/* SPDX-License-Identifier: Apache-2.0 */
/* The report for people: a line for each window, and all of it at the end. */
#include <inttypes.h>
#include <string.h>
#include <time.h>

#include "view/report/report.h"

#define PERCENT(share) ((int)((share)*100 + 0.5))
#define SHOWN_VCPUS 8
#define LATENCY_TEXT 288

static int begin(struct report *report)
{
	char text[1024];

	view_format_mode(report->view, text, sizeof(text));
	return report_line(report, "%s", text);
}

static void format_clock(uint64_t ns, char *ret_text, size_t size)
{
	time_t seconds = (time_t)(ns / NSEC_PER_SEC);
	struct tm tm = { 0 };

	localtime_r(&seconds, &tm);
	snprintf(ret_text, size, "%02d:%02d:%02d.%03u", tm.tm_hour, tm.tm_min, tm.tm_sec,
		 (unsigned int)(ns % NSEC_PER_SEC / NSEC_PER_MSEC));
}

/* What is odd in a window, by its kinds' names. */
static void format_odd(const struct analysis_window *window, char *ret_text, size_t size)
{
	size_t used = 0;

	ret_text[0] = '\0';
	for (uint32_t i = 0; i < window->n_odd && used < size; i++)
		if (!i || window->odd[i].what != window->odd[i - 1].what)
			used += (size_t)snprintf(ret_text + used, size - used, "%s%s",
						 i ? ", " : "",
						 analysis_oddity_name(window->odd[i].what));
}

static void format_share(double share, bool known, char ret_text[16])
{
	if (known)
		snprintf(ret_text, 16, "%d %%", PERCENT(share));
	else
		snprintf(ret_text, 16, "?");
}

static int show_window(struct report *report, const struct analysis_window *window)
{
	const struct analysis_shares *shares = &window->shares;
	char time[32], odd[160], cpu[16], period[64] = "-";
	int r = 0;

	if (!report->begun)
		r = report_line(report, "%-12s  %-8s %6s %7s %6s %6s %7s %10s %8s %9s  %s",
				"window", "bound by", "cpu", "monitor", "disk", "net", "console",
				"records/s", "lost", "period", "odd");
	report->begun = true;
	format_clock(window->begin_ns, time, sizeof(time));
	format_odd(window, odd, sizeof(odd));
	format_share(shares->cpu, shares->cpu_known, cpu);
	if (window->period_ns)
		view_format_ns(window->period_ns, period, sizeof(period));
	if (r < 0)
		return r;
	return report_line(report,
			   "%-12s  %-8s %6s %5d %% %4d %% %4d %% %5d %% %10.0f %8" PRIu64
			   " %9s  %s",
			   time, analysis_bound_name(window->bound), cpu, PERCENT(shares->monitor),
			   PERCENT(shares->disk), PERCENT(shares->net), PERCENT(shares->console),
			   report_rate(window, window->records), window->lost, period, odd);
}

/* "vcpu0 12 %, vcpu1 3 %, 6 more"; "?" where it is not known. */
static void format_vcpus(const struct analysis_window *window, const double *shares, char *ret_text,
			 size_t size)
{
	size_t used = 0;

	ret_text[0] = '\0';
	for (uint32_t i = 0; i < window->n_vcpus && i < SHOWN_VCPUS && used < size; i++) {
		char share[16];

		format_share(shares[i], shares[i] >= 0, share);
		used += (size_t)snprintf(ret_text + used, size - used, "%svcpu%" PRIu32 " %s",
					 i ? ", " : "", i, share);
	}
	if (window->n_vcpus > SHOWN_VCPUS && used < size)
		snprintf(ret_text + used, size - used, ", %" PRIu32 " more",
			 window->n_vcpus - SHOWN_VCPUS);
}

static int show_bound(struct report *report, const struct analysis_window *window)
{
	const struct analysis_rule *rule = analysis_rule_of(window->bound);
	char text[256];
	int r;

	r = report_line(report, "\nBound by: %s (%s)", rule->name, rule->when);
	format_vcpus(window, window->cpu_share, text, sizeof(text));
	if (r >= 0)
		r = report_line(report, "  on a processor  %s", text);
	format_vcpus(window, window->monitor_share, text, sizeof(text));
	if (r >= 0)
		r = report_line(report, "  in requests     %s", text);
	if (r < 0)
		return r;
	return report_line(report, "  under way       disk %d %%, net %d %%, console %d %%",
			   PERCENT(window->shares.disk), PERCENT(window->shares.net),
			   PERCENT(window->shares.console));
}

static int show_period(struct report *report, const struct analysis_window *window)
{
	char period[64], device[64];

	if (!window->period_ns)
		return report_line(report, "\nPeriod: none seen");
	view_format_ns(window->period_ns, period, sizeof(period));
	view_copy_text(report_device_name(report, window->period_device), device, sizeof(device));
	return report_line(report,
			   "\nPeriod: %s is used every %s (for %u of 1000 parts of the time)",
			   device, period, window->period_permille);
}

static void format_latency(const struct latency *latency, char *ret_text, size_t size)
{
	char p50[64], p90[64], p99[64], most[64];

	view_format_ns(latency_percentile(latency, 500), p50, sizeof(p50));
	view_format_ns(latency_percentile(latency, 900), p90, sizeof(p90));
	view_format_ns(latency_percentile(latency, 990), p99, sizeof(p99));
	view_format_ns(latency->max_ns, most, sizeof(most));
	snprintf(ret_text, size, "%9s %9s %9s %9s", p50, p90, p99, most);
}

/* "read 70 %, write 28 %, flush 2 %" of a disk; "in 50 %, out 50 %" of others. */
static void format_mix(const struct analysis_device *device, char *ret_text, size_t size)
{
	const double all = (double)device->requests / 100;
	size_t used = 0;

	if (device->role != ROLE_DISK) {
		snprintf(ret_text, size, "in %.0f %%, out %.0f %%", (double)device->received / all,
			 (double)device->sent / all);
		return;
	}
	ret_text[0] = '\0';
	for (uint8_t i = 0; i <= RECORD_DISK_OTHER && used < size; i++) {
		const struct watch_record record = { .kind = RECORD_DISK, .operation = i };

		if (device->operations[i])
			used += (size_t)snprintf(ret_text + used, size - used, "%s%s %.0f %%",
						 used ? ", " : "", view_operation_name(&record),
						 (double)device->operations[i] / all);
	}
}

static void format_sequential(const struct analysis_device *device, char ret_text[16])
{
	ret_text[0] = '\0';
	if (device->moves)
		format_share((double)device->sequential / (double)device->moves, true, ret_text);
}

static int show_requests(struct report *report, const struct analysis_window *window)
{
	bool any = false;
	int r = 0;

	for (uint32_t i = 0; i < window->n_devices && r >= 0; i++) {
		const struct analysis_device *device = &window->devices[i];
		char name[64], latency[LATENCY_TEXT], mix[96], sequential[16];

		if (!device->requests)
			continue;
		if (!any)
			r = report_line(report,
					"\n%-16s %9s %9s %9s %6s %6s %7s %9s %9s %9s %9s  %s",
					"Requests of", "number", "per s", "MB/s", "in use", "seq.",
					"failed", "p50", "p90", "p99", "max", "mix");
		any = true;
		view_copy_text(report_device_name(report, device->device), name, sizeof(name));
		format_latency(&device->request_latency, latency, sizeof(latency));
		format_mix(device, mix, sizeof(mix));
		format_sequential(device, sequential);
		if (r >= 0)
			r = report_line(
				report,
				"%-16s %9" PRIu64 " %9.0f %9.2f %4d %% %6s %7" PRIu64 " %s  %s",
				name, device->requests, report_rate(window, device->requests),
				report_rate(window, device->request_bytes) / 1e6,
				PERCENT(device->busy), sequential, device->failed, latency, mix);
	}
	return r;
}

static int show_accesses(struct report *report, const struct analysis_window *window)
{
	bool any = false;
	int r = 0;

	for (uint32_t i = 0; i < window->n_devices && r >= 0; i++) {
		const struct analysis_device *device = &window->devices[i];
		char name[64], latency[LATENCY_TEXT];

		if (!device->accesses)
			continue;
		if (!any)
			r = report_line(report, "\n%-16s %9s %9s %9s %9s %9s %9s %9s %9s",
					"Registers of", "accesses", "per s", "reads", "writes",
					"p50", "p90", "p99", "max");
		any = true;
		view_copy_text(report_device_name(report, device->device), name, sizeof(name));
		format_latency(&device->access_latency, latency, sizeof(latency));
		if (r >= 0)
			r = report_line(report,
					"%-16s %9" PRIu64 " %9.0f %9" PRIu64 " %9" PRIu64 " %s",
					name, device->accesses,
					report_rate(window, device->accesses), device->reads,
					device->writes, latency);
	}
	return r;
}

static uint64_t accesses_of(const struct analysis_window *window)
{
	uint64_t sum = 0;

	for (uint32_t i = 0; i < window->n_devices; i++)
		sum += window->devices[i].accesses;
	return MAX(sum, 1);
}

static int show_site(struct report *report, const struct analysis_window *window,
		     const struct analysis_site *site)
{
	const struct analysis_times *times = &report->view->times;
	uint64_t own = site->count - site->over;
	char device[64], where[256], code[128], average[64];

	view_copy_text(report_device_name(report, site->device), device, sizeof(device));
	report_instruction(report, site->instruction, where, sizeof(where));
	report_disassembly(site, code, sizeof(code));
	view_format_ns(times->ticks_ns(times->ctx, site->ticks / MAX(own, 1)), average,
		       sizeof(average));
	return report_line(report, "%9" PRIu64 " %6.1f %% %9s  %-16s %s%s%s%s", own,
			   (double)own * 100 / (double)accesses_of(window), average, device,
			   report_is_sure(site) ? "" : "~", where, code[0] ? ": " : "", code);
}

static int show_sites(struct report *report, const struct analysis_window *window)
{
	int r = 0;

	if (window->n_sites)
		r = report_line(report, "\n%9s %8s %9s  %-16s %s", "Accesses", "of all", "average",
				"device", "instruction ('~': not certain)");
	for (uint32_t i = 0; i < window->n_sites && r >= 0; i++)
		r = show_site(report, window, &window->sites[i]);
	return r;
}

static int show_odd(struct report *report, const struct analysis_window *window)
{
	int r = report_line(report, window->n_odd ? "\nOdd:" : "\nOdd: nothing");

	for (uint32_t i = 0; i < window->n_odd && r >= 0; i++) {
		char text[512], filter[512];

		report_odd(report, &window->odd[i], text, sizeof(text));
		report_filter(report, &window->odd[i], filter, sizeof(filter));
		r = report_line(report, "  %s: %s", analysis_oddity_name(window->odd[i].what),
				text);
		if (r >= 0)
			r = report_line(report, "    look closer: --filter '%s'", filter);
	}
	return r;
}

static int show_total(struct report *report, const struct analysis_window *window)
{
	static int (*const parts[])(struct report *, const struct analysis_window *) = {
		show_bound, show_period, show_requests, show_accesses, show_sites, show_odd,
	};
	char begin_text[32], end_text[32];
	int r;

	if (!window->end_ns)
		return report_line(report, "no requests (%s)", view_end_text(report->view->end));
	format_clock(window->begin_ns, begin_text, sizeof(begin_text));
	format_clock(window->end_ns, end_text, sizeof(end_text));
	r = report_line(report, "%s%s to %s, %.3f s: %" PRIu64 " records, %" PRIu64 " lost (%s)",
			report->begun ? "\n" : "", begin_text, end_text, report_seconds(window),
			window->records, window->lost, view_end_text(report->view->end));
	for (size_t i = 0; i < ARRAY_SIZE(parts) && r >= 0; i++)
		r = parts[i](report, window);
	return r;
}

const struct report_format report_text = { begin, show_window, show_total };
