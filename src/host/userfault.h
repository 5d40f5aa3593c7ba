/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/macros.h"

/*
 * A userfaultfd of this process, close-on-exec and non-blocking, for missing pages of shared memory and hugetlbfs, that serves the
 * kernel's own accesses too: KVM and io_uring touch guest RAM from there. Made of `device` (an open /dev/userfaultfd, which stays the
 * caller's; -1: none), or else by right of root. Negative errno where the host gives none.
 */
_must_check_ int userfault_make(int device);
/* Who touches a page of [at, at + len) that is missing waits from here on. `*ret_can_zero`: the kernel can put zeroes there itself. -EOPNOTSUPP:
 * the kernel cannot do that for such memory. */
_must_check_ int userfault_register(int fd, const void *at, uint64_t len, bool *ret_can_zero);
