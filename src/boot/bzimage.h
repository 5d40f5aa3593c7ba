/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * The header of a Linux bzImage (Linux, Documentation/arch/x86/boot.rst, "The Real-Mode Kernel Header"), judged.
 * A pure function over the first bytes of the file.
 */

#include <asm/bootparam.h>
#include <stdbool.h>

#include "base/error.h"
#include "boot/image.h"

#define BZIMAGE_HEAD 0x290 /* bytes of the file that the header may reach to */

struct bzimage {
	struct setup_header header; /* as in the file; what the file's version lacks is zero */
	uint64_t payload_offset;    /* of the protected-mode code in the file */
	uint64_t payload_len;
	bool entry64; /* has the 64-bit entry at payload + 0x200 */
	bool relocatable;
	uint64_t preferred; /* guest address where it wants to be */
	uint64_t alignment; /* a power of two */
	uint64_t room;	    /* bytes that it uses from its load address on before it knows e820 */
	uint64_t initrd_limit; /* first address that the initrd may not reach */
	uint64_t cmdline_max;  /* bytes without the NUL */
};

/* True when the file calls itself a bzImage. */
bool bzimage_probe(const uint8_t *head, size_t len);

/* `head` has the first `len` bytes of the image. -ENOEXEC with a reason when it cannot be booted. */
_must_check_ int bzimage_parse(const struct image *image, const uint8_t *head, size_t len,
			       struct bzimage *ret, struct error *err);
