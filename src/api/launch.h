/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * How `utsusu run` becomes a VM. The command checks everything and claims the name, then either
 * turns into utsusu-vm or, detached, starts it and waits for its first word:
 *
 *   utsusu run --exec--> utsusu-vm NAME --config-fd=A --root-fd=B --dir-fd=C --lock-fd=D
 *                                       [--ready-fd=E] [--incoming] [--heir-fd=F]
 *
 * A is a sealed memfd with the configuration as JSON; B, C and D are the claimed name
 * (host/runtime.h): the lock is held without a gap. On E, a pipe, the VM's process says that the
 * guest runs - or, incoming, that it stands and waits for its mover -, or why not. On F comes what another process of
 * this VM has open (host/handed.h): then nothing is opened anew, and B, C and D are copies of that one's.
 */

#include "host/runtime.h"
#include "vm/config.h"

/* What utsusu-vm was started with. */
struct launch {
	struct vm_config config;
	struct runtime_vm vm;
	int ready_fd;  /* -1: nobody waits */
	int heir_fd;   /* -1: it takes no other process's place */
	bool detached; /* nobody's terminal or service ends with this process */
	bool incoming; /* the VM comes by a move: it is loaded, and does not begin */
};

/* Where one of our other programs is: beside this one, as in a build directory, else where packages put them. -ENOENT,
 * -EACCES: nowhere. */
_must_check_ int launch_find_program(const char *name, char *ret_path, size_t size);

/* utsusu-vm's first step: decodes the arguments and the configuration, checks them, and makes the
 * descriptors close-on-exec. Released by launch_release, which gives the name back. */
_must_check_ int launch_receive(char **argv, struct launch *ret_launch, struct error *err);
void launch_release(struct launch *launch);

/* Tells whoever waits that the guest runs (`err` NULL) or why it does not; once, later calls do
 * nothing. True when somebody was told: then the error need not be printed here too. */
bool launch_report(struct launch *launch, const struct error *err);

/* Turns this process into utsusu-vm. Returns only on failure; then the name is given back. */
_must_check_ int launch_exec(const struct vm_config *config, struct runtime_vm *vm,
			     struct error *err);

/* A new version of the program beside the process that runs the VM: `program` (NULL: the one installed with this) is started as above,
 * incoming, with the socket `heir_fd` (borrowed). *ret_process: a pidfd of its keeper, which ends when it does. `vm` is borrowed. */
_must_check_ int launch_heir(const struct vm_config *config, struct runtime_vm *vm,
			     const char *program, int heir_fd, int *ret_process, struct error *err);

/* Starts utsusu-vm in a session of its own, its output in the VM's log, and waits until the guest
 * runs or, `incoming`, stands. `progress` (may be NULL) is called once a second with the seconds waited. On failure
 * nothing is left. */
_must_check_ int launch_detached(const struct vm_config *config, struct runtime_vm *vm,
				 bool incoming, void (*progress)(unsigned int seconds),
				 struct error *err);
