/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * The guest's kernel into its RAM. At the start this takes as long as all the rest, and KVM's part of the rest is
 * mostly waiting: so a thread of its own reads the files while the VM is being made.
 */

#include "vm/vm.h"

/* Needs vm->memory and vm->acpi. On a vCPU's thread, or before there are any. */
_must_check_ int kernel_load(struct vm *vm, struct boot_entry *ret_entry, struct error *err);

/* The same in the background; one at a time. After a begin that succeeded there must be one finish. */
_must_check_ int kernel_load_begin(struct vm *vm);
/* Waits for it. -EALREADY when none was begun, or its end was already waited for. */
_must_check_ int kernel_load_finish(struct vm *vm, struct boot_entry *ret_entry, struct error *err);
