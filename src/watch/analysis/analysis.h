/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * What requests tell about a VM: by window of time, what it is bound by, its mix of requests, how long they take, what is
 * odd. The classes are rules in one table (analysis_rules). The same numbers go to views, to `utsusu watch --report`,
 * and to the arbiter of CPUs, which takes a struct analysis_window by the interface here.
 *
 *   records --analysis_add--> [counters, histograms, tables] --at the window's end: shares, rules--> analysis_take
 *
 * Feeding costs little: histograms and counters, nothing that grows with the number of records. Records are untrusted:
 * whatever they say, the result is bounded and its numbers are finite. One thread for each struct analysis.
 */

#include <stdbool.h>

#include "base/macros.h"
#include "watch/record.h"

/* Latencies, in ns: steps of 2^(1/4) up to 18 minutes; a percentile is exact to 19 %. */
#define LATENCY_BINS 160
struct latency {
	uint64_t count, sum_ns, max_ns;
	uint64_t bins[LATENCY_BINS];
};
void latency_add(struct latency *latency, uint64_t ns);
/* `permille` 0..1000: 500 is the median. 0 when there is nothing. */
uint64_t latency_percentile(const struct latency *latency, unsigned int permille);

enum analysis_bound {
	BOUND_IDLE,    /* asks for nothing and sleeps */
	BOUND_CPU,     /* more or faster CPUs would help */
	BOUND_DISK,    /* faster disks would help */
	BOUND_NET,     /* waits for the network, or fills it */
	BOUND_CONSOLE, /* waits for a serial line or console */
	BOUND_MIXED,   /* several of them */
	BOUND_LIGHT,   /* works, but nothing holds it up */
	BOUND_UNKNOWN, /* asks for nothing, and nothing told whether it computes or sleeps */
	BOUND_N
};

#define ANALYSIS_VCPUS 64
#define ANALYSIS_DEVICES 64
#define ANALYSIS_TOP 16

enum analysis_role { ROLE_OTHER, ROLE_DISK, ROLE_NET, ROLE_CONSOLE };

struct analysis_device {
	uint16_t
		device; /* STORE_NO_DEVICE: accesses that none answers, and devices beyond the table */
	uint8_t role;				  /* enum analysis_role, by its name */
	uint64_t accesses, reads, writes, bytes;  /* register accesses, and bytes of them */
	uint64_t requests, request_bytes, failed; /* behind doorbells */
	uint64_t sent, received; /* of a net: frames; of others: requests of queues */
	uint64_t operations[RECORD_DISK_OTHER + 1]; /* of a disk, by enum record_operation */
	uint64_t moves; /* of a disk: reads and writes, which may be sequential */
	uint64_t
		sequential; /* of those: began where an earlier one of the last few ended, or the reverse */
	double busy;	    /* part of the window in which a request of it was under way, 0..1 */
	uint64_t period_ns; /* it is used at this interval; 0: no regularity seen */
	uint32_t period_permille; /* how regular; see period_ns of the window */
	struct latency access_latency, request_latency;
};

struct analysis_site { /* an instruction */
	uint64_t instruction;
	uint16_t device;
	uint8_t mode, length,
		verdict; /* as in struct record_access; length 0: `code` begins at RIP */
	uint8_t n_code;	 /* bytes of `code` */
	uint8_t code[16];
	uint64_t count, ticks;
	uint64_t over; /* at most so many of `count` were another's, which this one displaced */
};

enum analysis_oddity {
	ODD_POLLING, /* one instruction reads one register over and over and gets the same answer */
	ODD_STORM,   /* one register is written at a rate that stands out */
	ODD_UNCLAIMED, /* accesses that no device answers */
	ODD_ERRORS,    /* failed requests */
	ODD_SLOW,      /* a device whose p99 is far from its median */
	ODD_KINDS,
};

struct analysis_odd {
	enum analysis_oddity what;
	uint16_t device;
	uint8_t kind; /* enum record_kind of the accesses, for their address; SLOW: of the device's requests */
	bool write;
	uint64_t address;	 /* POLLING, STORM, UNCLAIMED */
	uint64_t instruction;	 /* POLLING; 0: not known */
	uint64_t data;		 /* POLLING: the answer */
	uint64_t count;		 /* how often; SLOW: requests in all */
	uint64_t p50_ns, p99_ns; /* SLOW */
	int32_t status;		 /* ERRORS: the last one's negative errno */
};

/* What part of the window went where, 0..1: what the rules look at. */
struct analysis_shares {
	bool cpu_known; /* vCPU times were recorded (RECORD_VCPU) */
	double cpu;	/* on a processor, requests included: of the busiest vCPU */
	double monitor; /* waiting for answers of the monitor: of the vCPU that does so most */
	double console; /* in accesses to consoles, as `monitor`; or a console's output under way */
	double disk;	/* requests under way: of the busiest disk */
	double net;	/* a frame went within the last millisecond: of the busiest net */
};

/* One window. Plain data: may be copied, compared, sent. Large: keep it off the stack. */
struct analysis_window {
	uint64_t begin_ns, end_ns; /* since 1970 */
	uint64_t records, lost;
	uint64_t kinds[RECORD_KINDS]; /* records of each kind */
	enum analysis_bound bound;
	struct analysis_shares shares;
	double monitor_share[ANALYSIS_VCPUS]; /* of each vCPU's time: spent in requests */
	double cpu_share[ANALYSIS_VCPUS];     /* and on a processor, with those; -1: not known */
	uint32_t n_vcpus;
	uint64_t period_ns;	  /* a real-time load's period; 0: none seen */
	uint32_t period_permille; /* how regular: 1000 is a clock, below 250 chance */
	uint16_t period_device;	  /* which device is used so */
	uint32_t n_devices;
	/* In the order of their first records; those of earlier windows stay, perhaps with nothing in this one. */
	struct analysis_device devices[ANALYSIS_DEVICES];
	uint32_t n_sites;
	struct analysis_site sites[ANALYSIS_TOP]; /* hottest first */
	uint32_t n_odd;
	struct analysis_odd odd[ANALYSIS_TOP]; /* by kind, then the most frequent first */
};

struct analysis;

struct analysis_times { /* how TSC becomes time; as in watch/read/source.h */
	uint64_t (*wall_ns)(void *ctx, uint64_t tsc);
	uint64_t (*ticks_ns)(void *ctx, uint64_t ticks);
	void *ctx;
};

/* `window_ns` 0: one window from the first record to the last. `times` is copied. `n_vcpus` beyond ANALYSIS_VCPUS is cut.
 * NULL when out of memory. */
struct analysis *analysis_new(uint64_t window_ns, uint32_t n_vcpus,
			      const struct analysis_times *times);
void analysis_free(struct analysis *analysis);
/* What the names of devices tell: "virtio-blk.0" is a disk, "serial" a console. */
void analysis_name_device(struct analysis *analysis, uint16_t device, const char *name);
/* About in order of time. 1 when a window is complete: take it before the next call, or it is lost. */
int analysis_add(struct analysis *analysis, const struct watch_record *record);
/* It is now `now_ns` since 1970, though no record came: 1 when that completes a window, as above. */
int analysis_pass(struct analysis *analysis, uint64_t now_ns);
/* Records that are missing before the next one. */
void analysis_lost(struct analysis *analysis, uint64_t records);
/* The complete window, once; or with `now` a look at the one that is under way up to now. False: there is none. */
_must_check_ bool analysis_take(struct analysis *analysis, bool now,
				struct analysis_window *ret_window);

/* THE table: how a window gets its class, in order; the first that holds. The last always does. Documented in
 * docs/watching.md, with the same words (tests/unit/test_watch_rules.c). */
struct analysis_rule {
	enum analysis_bound bound;
	const char *name, *when; /* for people */
	bool (*holds)(const struct analysis_window *window);
};
extern const struct analysis_rule analysis_rules[BOUND_N];
const char *analysis_bound_name(enum analysis_bound bound);
/* The rule that gave a window its class. */
const struct analysis_rule *analysis_rule_of(enum analysis_bound bound);

/* What counts as odd, in the order of enum analysis_oddity. Documented as the rules are. */
struct analysis_oddity_text {
	const char *name, *when;
};
extern const struct analysis_oddity_text analysis_oddities[ODD_KINDS];
const char *analysis_oddity_name(enum analysis_oddity odd);
