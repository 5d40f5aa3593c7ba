/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* What cmocka needs before it, once. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
