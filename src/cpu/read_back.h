/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Whether KVM holds what it was given: a rehearsal reads back what it has set, while the source can still go on. */

#include "cpu/state.h"

/* Registers that nothing but the guest changes: general, segment, control and debug registers, and the MSRs that an operating system
 * lives by. What time, the LAPIC or the processor's own liberty may change is left out. `set` was loaded, `read` read back
 * (it is changed). NULL: the same; else the name of the first that differs, static text. */
const char *vcpu_read_back_differs(const struct vcpu_state *set, struct vcpu_state *read);
