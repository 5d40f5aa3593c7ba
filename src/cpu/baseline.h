/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * Which CPU model every host of a list can run, so that a VM may move between them, and what stands in the way of a
 * better one. A pure function over what each host's KVM supports.
 */

#include "cpu/cpuid.h"
#include "cpu/model.h"

#define BASELINE_HOSTS_MAX 64
#define BASELINE_NOTES_MAX 256

struct baseline_host {
	const char *name;
	const struct kvm_cpuid2 *supported; /* borrowed */
};

/* One thing that one host lacks. */
struct baseline_note {
	size_t host;	      /* index into the list */
	enum cpu_model model; /* what it lacks it for; HOST for a mitigation that others have */
	const char *what;     /* a static string */
};

struct baseline {
	bool vendors_differ;   /* no VM can move between all of them, whatever its model */
	enum cpu_model model;  /* the best model for all; HOST: none is fixed for all of them */
	uint32_t address_bits; /* of the narrowest host */
	size_t n_notes;
	bool notes_cut; /* there were more */
	struct baseline_note notes[BASELINE_NOTES_MAX];
};

/* -EINVAL for an empty list, -E2BIG past BASELINE_HOSTS_MAX. */
_must_check_ int cpu_baseline(const struct baseline_host *hosts, size_t n_hosts,
			      struct baseline *ret_baseline);
