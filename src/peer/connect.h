/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* TCP between hosts. Any thread. */

#include <stdint.h>

#include "base/error.h"

/* Connects to the first of the host's addresses that answers, within some seconds: a blocking, close-on-exec socket. */
_must_check_ int connect_to(const char *address, uint32_t port, int *ret_fd, struct error *err);

/* Listens on `address` (NULL: all of this host's, IPv4 and IPv6). Close-on-exec, non-blocking. */
_must_check_ int connect_listen(const char *address, uint32_t port, int *ret_fd, struct error *err);
