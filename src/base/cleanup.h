/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * Ownership that can be seen in the declaration: a variable marked _cleanup_(fn) is released when
 * its scope ends, and TAKE_PTR/TAKE_FD hand it on.
 */

#include <stdlib.h>
#include <unistd.h>

#define _cleanup_(fn) __attribute__((cleanup(fn)))

#define TAKE_PTR(p)                                                                                \
	({                                                                                         \
		__typeof__(p) *take_ = &(p);                                                       \
		__typeof__(p) taken_ = *take_;                                                     \
		*take_ = NULL;                                                                     \
		taken_;                                                                            \
	})

#define TAKE_FD(fd)                                                                                \
	({                                                                                         \
		int *take_ = &(fd);                                                                \
		int taken_ = *take_;                                                               \
		*take_ = -1;                                                                       \
		taken_;                                                                            \
	})

/* Defines `name`, usable with _cleanup_, from a release function that accepts NULL. */
#define DEFINE_CLEANUP(type, release, name)                                                        \
	static inline void name(type **p)                                                          \
	{                                                                                          \
		release(*p);                                                                       \
	}

static inline void freep(void *p)
{
	free(*(void **)p);
}

/* Closes a descriptor that may be -1, and keeps errno: safe on error paths. */
void fd_close(int fd);

static inline void fd_closep(int *fd)
{
	fd_close(*fd);
}
