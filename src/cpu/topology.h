/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "cpu/cpuid.h"

/*
 * Makes the leaves that tell topology agree: one package, `max_count` cores of one thread each, APIC id =
 * index. Leaves 1, 4, 0xb (0x1f is left out: 0xb says it all), 0x80000001, 0x80000008, 0x8000001d, 0x8000001e.
 * -ENOSPC when the table is full.
 */
_must_check_ int topology_apply(struct kvm_cpuid2 *cpuid, uint32_t index, uint32_t max_count);
