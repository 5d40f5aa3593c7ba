/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * The keeper: a tiny process beside each VM's process, its parent. It holds what must outlive the VM's
 * process - the name's lock, the file of guest RAM, an open /dev/userfaultfd, the store of watched requests - and
 * touches no guest data. It cleans up after a VM that crashed and leaves its last requests as a file, gives the terminal
 * back as it was, passes signals on, and hands its descriptors to a mover or a watcher that asks on the `keeper`
 * socket (same user only).
 *
 * A VM that is handed to a new version of the program gets a new keeper, too. That one holds copies of all of it, the socket
 * included, so whichever of both is asked has the same to give. Whose the name is when a keeper ends, host/succession.h says.
 *
 *   utsusu-vm --fork--> VM process
 *       |                 crash, kill -9, exit: status
 *     keeper  <-----------'
 */

#include "host/runtime.h"

#define RUNTIME_KEEPER "keeper"

enum keeper_descriptor { KEEPER_RAM, KEEPER_USERFAULTFD, KEEPER_STORE, KEEPER_DESCRIPTORS };

/* A request on the `keeper` socket (a stream); the answer is an int, 0 with the descriptor attached or a
 * negative errno. Both ends run on one host: host byte order. */
struct keeper_request {
	uint32_t
		descriptor; /* enum keeper_descriptor, or KEEPER_HAND_OVER with a succession attached */
};
#define KEEPER_HAND_OVER 0x10000U

/* What a new keeper needs; in this order in the answer to KEEPER_HAND_OVER. */
enum keeper_legacy {
	KEEPER_LEGACY_ROOT, /* the name: its descriptors of struct runtime_vm */
	KEEPER_LEGACY_DIR,
	KEEPER_LEGACY_LOCK,
	KEEPER_LEGACY_RAM,
	KEEPER_LEGACY_STORE,
	KEEPER_LEGACY_LISTENER,
	KEEPER_LEGACY_REQUESTS,
	KEEPER_LEGACIES
};

struct keeper {
	struct runtime_vm runtime;	     /* the name; owned */
	int descriptors[KEEPER_DESCRIPTORS]; /* owned; -1: not there */
	uint64_t
		store_records; /* offset in the store's file behind which there is data only if requests were recorded */
	int terminal; /* whose settings are given back at the end; borrowed, -1: none */
	/* A new version's, all owned; -1 and `runtime` not borrowed: it is the VM's first. */
	int succession, listener, requests;
};

/*
 * Splits the process: returns 0 in the VM's process, which has copies of all descriptors. The parent
 * becomes the keeper, closes all other descriptors but standard ones, and never returns: it exits with the VM
 * process's status (EXIT_STATUS_FAILED when a signal ended it, told in one line). To be called while there is one
 * thread.
 */
_must_check_ int keeper_split(struct keeper *keeper);

/* The other end: a copy of a living VM's descriptor, the caller's. Errors name the VM: none of this name, one that died,
 * one that has no such thing. May wait some seconds for a keeper that hangs. */
_must_check_ int keeper_fetch(const char *name, enum keeper_descriptor which, int *ret_fd,
			      struct error *err);

/* Prepares a VM's keeper for a new one: from now on it gives the name back only if `succession` is not decided for the new process
 * by then. Copies of all that the new one needs, the caller's, in the order of enum keeper_legacy. An earlier preparation that
 * was not decided is closed. */
_must_check_ int keeper_hand_over(const char *name, int succession, int ret_fds[KEEPER_LEGACIES],
				  struct error *err);

/* /dev/userfaultfd, from which whoever has it makes userfaultfds that serve kernel faults too, each for its own address
 * space (one made here would be the keeper's, of no use to the VM's process); -1 when this host gives us none. */
int keeper_open_userfaultfd(void);
