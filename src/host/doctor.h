/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* What this host can do for VMs. Looks only: makes nothing, changes nothing. Takes milliseconds;
 * any thread. */

#include <stdbool.h>
#include <stddef.h>

enum doctor_verdict {
	DOCTOR_GOOD,
	DOCTOR_LACKS,	/* something optional is missing */
	DOCTOR_MISSING, /* no VM runs without it */
};

struct doctor_finding {
	const char *name; /* of the thing: "kvm" */
	enum doctor_verdict verdict;
	char found[160];     /* what is there */
	const char *follows; /* what follows when it is not good */
	const char *way_out; /* how to get it */
};

#define DOCTOR_FINDINGS_MAX 32

/* Fills at most DOCTOR_FINDINGS_MAX findings, in the order of their table; returns how many. */
size_t doctor_look(struct doctor_finding *ret_findings);

const char *doctor_verdict_name(enum doctor_verdict verdict);
