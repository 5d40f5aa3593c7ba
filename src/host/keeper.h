/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * The keeper: a tiny process beside each VM's process, its parent. It holds what must outlive the VM's
 * process - the name's lock, the memfd of guest RAM, an open /dev/userfaultfd - and touches no guest data. It
 * cleans up after a VM that crashed, gives the terminal back as it was, passes signals on, and hands its
 * descriptors to a successor that asks on the `keeper` socket (same user only).
 *
 *   utsusu-vm --fork--> VM process
 *       |                 crash, kill -9, exit: status
 *     keeper  <-----------'
 */

#include "host/runtime.h"

#define RUNTIME_KEEPER "keeper"

enum keeper_descriptor { KEEPER_RAM, KEEPER_USERFAULTFD, KEEPER_DESCRIPTORS };

/* A request on the `keeper` socket (a stream); the answer is an int, 0 with the descriptor attached or a
 * negative errno. Both ends run on one host: host byte order. */
struct keeper_request {
	uint32_t descriptor; /* enum keeper_descriptor */
};

struct keeper {
	struct runtime_vm runtime;	     /* the name; owned */
	int descriptors[KEEPER_DESCRIPTORS]; /* owned; -1: not there */
	int terminal; /* whose settings are given back at the end; borrowed, -1: none */
};

/*
 * Splits the process: returns 0 in the VM's process, which has copies of all descriptors. The parent
 * becomes the keeper, closes all other descriptors but standard ones, and never returns: it exits with the VM
 * process's status (EXIT_STATUS_FAILED when a signal ended it, told in one line). To be called while there is one
 * thread.
 */
_must_check_ int keeper_split(struct keeper *keeper);

/* /dev/userfaultfd, from which whoever has it makes userfaultfds that serve kernel faults too, each for its own address
 * space (one made here would be the keeper's, of no use to the VM's process); -1 when this host gives us none. */
int keeper_open_userfaultfd(void);
