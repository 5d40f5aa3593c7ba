/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "base/macros.h"

/*
 * For a user without rights: puts the calling process, of one thread, into a user namespace of its own, where it
 * is itself and has every capability: namespaces(7) of other kinds can be made there. Nothing for root.
 * Negative errno; -EPERM or -ENOSPC where the host does not allow it.
 */
_must_check_ int namespace_own_user(void);
