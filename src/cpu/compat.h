/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * Whether a KVM can go on giving a guest the CPU that it was given elsewhere: what the guest may use must be there, and lie
 * where it did. A guest that has less than this host could give keeps what it has: the model follows the VM.
 */

#include "base/error.h"
#include "cpu/cpuid.h"

struct cpu_lack {
	char what[56]; /* "avx512f", "vendor GenuineIntel (AuthenticAMD here)" */
};

/* What stands in the way of giving CPUID table `guest` (untrusted; any vCPU's: topology is not looked at) by a KVM that
 * supports `supported`: how many things, and the first `max` of them. 0: it can. Pure; any thread. */
size_t cpu_compat_lacks(const struct kvm_cpuid2 *guest, const struct kvm_cpuid2 *supported,
			struct cpu_lack ret_lacks[], size_t max);

/* The same as one error, all of it named as far as a line reaches: -ENOTSUP. */
_must_check_ int cpu_compat_check(const struct kvm_cpuid2 *guest,
				  const struct kvm_cpuid2 *supported, struct error *err);
