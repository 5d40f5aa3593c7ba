/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* A kernel or initrd file: its size judged once, its bytes read straight into guest RAM. */

#include "base/error.h"
#include "memory/memory.h"

struct image {
	const char *option; /* "--kernel" or "--initrd", for messages */
	const char *path;   /* borrowed */
	int fd;		    /* borrowed */
	uint64_t size;	    /* bytes, 1..the limit */
};

/* Judges an open file: regular, not empty, at most `limit` bytes. */
_must_check_ int image_open(const char *option, const char *path, int fd, uint64_t limit,
			    struct image *ret_image, struct error *err);

/* Copies at most `len` bytes from the start; `*ret_len` says how many there were. */
_must_check_ int image_head(const struct image *image, void *buf, size_t len, size_t *ret_len,
			    struct error *err);

/* Reads [offset, offset + len) of the file into guest RAM at `to`, which must be RAM. */
_must_check_ int image_load(const struct image *image, uint64_t offset, uint64_t len,
			    struct memory *memory, gpa_t to, struct error *err);

/* -code with "OPTION PATH: message". */
int image_refuse(const struct image *image, int code, struct error *err, const char *message);
