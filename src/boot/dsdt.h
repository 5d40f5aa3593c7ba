/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* The compiled DSDT; made from dsdt.asl by the build (scripts/embed). */

#include <stddef.h>
#include <stdint.h>

extern const uint8_t dsdt_aml[];
extern const size_t dsdt_aml_len;
