/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * One error, one line, made where the cause is known: what (the key or the object), why, and the way
 * out. Functions whose failure a person will read take a `struct error *err` and fill it once; all
 * others return a negative errno only.
 */

#include <stdbool.h>
#include <stdio.h>

#include "base/macros.h"

/* Exit statuses of every program here; the manual page repeats this table. */
enum exit_status {
	EXIT_STATUS_OK = 0,
	EXIT_STATUS_FAILED = 1,	  /* something else went wrong while running */
	EXIT_STATUS_USAGE = 2,	  /* command line or configuration: an unknown key, a wrong value */
	EXIT_STATUS_HOST = 3,	  /* the host lacks something: /dev/kvm, a right, memory */
	EXIT_STATUS_RESOURCE = 4, /* a named file, disk, tap or image cannot be used */
	EXIT_STATUS_BUSY = 5,	  /* the name or a disk is in use by another VM */
	EXIT_STATUS_NOT_FOUND = 6, /* no such VM */
	EXIT_STATUS_GUEST = 7,	   /* the guest failed: triple fault, an unbootable kernel */
};

#define ERROR_MESSAGE_MAX 512

struct error {
	int code; /* negative errno, 0 while unset */
	enum exit_status status;
	char message[ERROR_MESSAGE_MAX]; /* one line, no newline */
};

/* Fills `err` unless it is NULL or already filled (the first cause wins), and returns `code`, which is
 * a negative errno. Control characters in the result are replaced: messages quote untrusted text. */
int error_set(struct error *err, int code, enum exit_status status, const char *format, ...)
	_printf_(4, 5);

/* A list of problems for the --check commands: collects several errors, in order, up to a limit. */
#define PROBLEMS_MAX 64

struct problems {
	size_t count;
	struct error list[PROBLEMS_MAX];
};

/* Appends a copy of `err`; a full list keeps its last entry as "and more". */
void problems_add(struct problems *problems, const struct error *err);
