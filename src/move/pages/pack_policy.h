/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * Whether packing pages pays now: pure, from what was measured while sending. It pays when the wire is what is waited for, the
 * pages get small enough, and the CPU that packs them is really there: a thread that packs longer by the clock than by its own
 * CPU time takes that CPU from somebody, and that may be the guest.
 *
 *   off --wire waits, gain >= 1/4, CPU free--> on --gain < 1/20 or CPU short, twice--> off
 *   on, and the wire no longer waits: every some seconds one look without packing tells how fast the wire is by now
 */

#include <stdbool.h>
#include <stdint.h>

#include "base/macros.h"

#define PACK_LOOK_NS (60 * NSEC_PER_MSEC) /* between two looks */
#define PACK_PROBE_NS                                                                              \
	(4 * NSEC_PER_SEC) /* packing unlimited by the wire so long: look at the wire again */

/* Sums over all sender threads since the look before. */
struct pack_look {
	uint64_t ns;		    /* of the clock */
	uint32_t threads;	    /* senders */
	uint64_t send_ns;	    /* of their time in sending */
	uint64_t wire_bytes;	    /* given to the streams */
	uint64_t pack_ns;	    /* of their time in packing, by the clock */
	uint64_t pack_cpu_ns;	    /* and by their CPU time */
	uint64_t pack_in, pack_out; /* bytes packed, and what became of them */
};

enum pack_reason {
	PACK_NOT_MEASURED,
	PACK_WIRE_FASTER, /* off: the senders do not wait for the wire */
	PACK_NO_GAIN,	  /* off: pages do not get small enough for what it costs */
	PACK_CPU_SHORT,	  /* off: others want the CPU */
	PACK_PAYS,	  /* on */
	PACK_PROBES,	  /* off for one look */
};

struct pack_policy {
	bool on;
	bool limited; /* senders wait for the wire */
	enum pack_reason reason;
	uint64_t wire_rate; /* bytes per second, while it was what limits; 0: not known */
	uint64_t pack_rate; /* bytes per second in, of all threads */
	uint32_t ratio;	    /* out per 1000 in; 1000 and more: no gain. 0: not known */
	uint32_t stolen;    /* clock per CPU time while packing, in percent; 100: all ours */
	uint32_t doubts;    /* looks in a row against it */
	uint64_t probe_ns;  /* packing without a limited wire for so long */
};

void pack_policy_init(struct pack_policy *policy);
/* Judges a look; policy->on and ->limited say what to do until the next. */
void pack_policy_judge(struct pack_policy *policy, const struct pack_look *look);
const char *pack_reason_text(enum pack_reason reason); /* static */
