/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* What analysis*.c share. Times are ns since 1970. */

#include "watch/analysis/analysis.h"
#include "watch/analysis/busy.h"
#include "watch/analysis/period.h"
#include "watch/analysis/tally.h"

/* A vCPU: its time, and its access before. */
struct analysis_vcpu {
	struct busy requests, console; /* in accesses: of all devices, of consoles */
	uint64_t sample_ns,
		sample_cpu_ns;	     /* the last RECORD_VCPU: when, and what it said; 0: none */
	uint64_t cpu_ns, covered_ns; /* of the window: on a processor, of how much that is known */
	bool has_last;
	uint8_t last_size;
	struct tally_key last;
	uint64_t last_data;
};

#define STREAMS 16    /* sequences of requests that are followed at once */
#define STREAM_NEAR 8 /* in lengths of the request */

/* Beside each struct analysis_device. */
struct device_trace {
	struct busy busy;
	struct period period;
	uint64_t stream_ends[STREAMS]; /* the one used last first */
	int32_t status;		       /* of the last failed request */
};

struct analysis_tables {
	struct tally sites, polls, writes, unclaimed;
	struct analysis_site
		code[TALLY_KEYS];     /* beside `sites`: what is known of the instruction */
	uint64_t answers[TALLY_KEYS]; /* beside `polls`: the answer */
};

struct analysis {
	uint64_t window_ns;
	struct analysis_times times;
	uint64_t now_ns;
	bool begun, complete;
	uint8_t roles[STORE_DEVICES_MAX]; /* enum analysis_role, by the device's index */
	int8_t places[STORE_DEVICES_MAX]; /* in window.devices; -1: not there yet */
	int8_t nobody;			  /* the place of STORE_NO_DEVICE */
	struct analysis_vcpu vcpus[ANALYSIS_VCPUS];
	struct device_trace traces[ANALYSIS_DEVICES];
	struct analysis_tables tables;
	struct analysis_window window, done;
};

/* Fills what is derived - shares, periods, sites, oddities, class - for a window that ends at `end_ns`. */
void analysis_conclude(const struct analysis *analysis, uint64_t end_ns,
		       struct analysis_window *window);
void analysis_find_odd(const struct analysis *analysis, struct analysis_window *window);
/* An access of a vCPU: instructions, polling, storms, unclaimed ones. */
void analysis_tally_access(struct analysis *analysis, const struct watch_record *record);
