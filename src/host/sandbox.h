/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * How the VM's process gives up what it no longer needs, before the guest's first instruction. The steps and
 * their reasons stand in sandbox.c, the system calls in sandbox_calls.c, each in one table.
 *
 *   sandbox_before_threads -> open everything -> sandbox_enter_process -> threads start, each sandbox_enter_thread
 *                   -> control thread's sandbox_enter_thread -> guest runs
 *
 * What comes later (a disk, a tap, a socket) is opened by the caller and sent as a descriptor.
 */

#include <sys/types.h>

#include "base/error.h"

/* SANDBOX_MOVER: all threads of utsusu-move; it may start more, which are in the same sandbox from their first instruction. */
enum sandbox_thread { SANDBOX_CONTROL, SANDBOX_VCPU, SANDBOX_QUEUE, SANDBOX_KEEPER, SANDBOX_MOVER };

/* What a VM uses: system calls that only one of these needs are in no filter without it. Beside each, the
 * descriptors that its threads hold then; every VM holds KVM's, guest RAM's, its sockets and its eventfds. */
enum sandbox_feature {
	SANDBOX_DISK = 1,  /* rings that are restricted to one disk each, and that disk */
	SANDBOX_TAP = 2,   /* a tap's queues */
	SANDBOX_PASST = 4, /* a connected stream socket */
	SANDBOX_VHOST = 8, /* vhost-net, with a tap */
	/* A mover's. */
	SANDBOX_SCANS = 16, /* a userfaultfd of its own, to see which huge pages there are */
	SANDBOX_FILLS = 32, /* the VM's userfaultfd, to fill its memory while it runs */
};

/* What the host could not give, for the log and for `info`: each bit is a step that was left out because
 * the kernel or our rights lack it. */
enum sandbox_missing {
	SANDBOX_NO_NAMESPACES = 1,
	SANDBOX_NO_LANDLOCK = 2,
	SANDBOX_NO_USER_CHANGE = 4,
	SANDBOX_NO_BOUNDING_SET = 8,
};

/* Before the process starts its first thread, even one that ends before the sandbox: from then on all threads share one
 * heap. A thread with a heap of its own opens a file of /proc when it gives memory back (the C library looks at the
 * kernel's overcommit mode), and in a sandbox that would end the VM. */
void sandbox_before_threads(void);

/* Main thread, the only one yet. Steps that the host lacks are told in `*ret_missing`; a step that is there and
 * fails is an error. */
_must_check_ int sandbox_enter_process(unsigned int *ret_missing, struct error *err);

/* The calling thread, for good: only the system calls of its kind and of `features` (enum sandbox_feature, ORed)
 * from now on; anything else ends the process with SIGSYS. */
_must_check_ int sandbox_enter_thread(enum sandbox_thread kind, unsigned int features);
/* The keeper's paths, with no new privileges set: it may list `dir_fd` and remove files in it, remove empty directories in
 * `root_fd`, and nothing else anywhere. A kernel without Landlock answers -ENOSYS or -EOPNOTSUPP. */
_must_check_ int sandbox_keep_to(int dir_fd, int root_fd);
/* The keeper's: of all processes it may signal `child` only. */
_must_check_ int sandbox_enter_keeper(pid_t child);
/* The name of a step's bit, for people. */
const char *sandbox_missing_name(enum sandbox_missing bit);
