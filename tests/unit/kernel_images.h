/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Kernel files made for tests: the least that a boot loader looks at. */

#include <stddef.h>
#include <stdint.h>

#define KERNEL_IMAGE_PAYLOAD 8192

/* A relocatable 64-bit bzImage (boot protocol 2.15) that prefers 16 MiB, wants 32 MiB to unpack itself and takes
 * 2047 bytes of command line. Tests change fields of the header at KERNEL_IMAGE_HEADER before they write it. */
#define KERNEL_IMAGE_HEADER 0x1f1
#define KERNEL_IMAGE_BYTES (1024 + KERNEL_IMAGE_PAYLOAD)
void kernel_image_bzimage(uint8_t image[KERNEL_IMAGE_BYTES]);

/* A 64-bit ELF kernel with a PVH entry: one segment of 4 KiB in the file and 8 KiB in memory at 1 MiB, entry 16
 * bytes into it. */
#define KERNEL_IMAGE_ELF_BYTES (4096 + 4096)
#define KERNEL_IMAGE_ELF_NOTE 0x200
void kernel_image_elf(uint8_t image[KERNEL_IMAGE_ELF_BYTES]);

/* A memfd with these bytes; the caller's. */
int kernel_image_file(const void *bytes, size_t len);
