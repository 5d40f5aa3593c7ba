/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* KVM sees a private copy of guest RAM for a while. */

#include "vm/vm.h"

struct vm_apart {
	void *hosts[MEMORY_BANKS_MAX]; /* private maps of the banks; NULL: none */
};

/*
 * Some registers of a vCPU name memory that KVM writes when they are set (the wall clock, stolen time, the end of an interrupt). While
 * RAM is another process's, whose guest runs, such a write would reach that guest. Between these two calls whatever KVM writes stays
 * in pages of our own, which are dropped. Control thread, with the barrier held, before the VM ran.
 */
_must_check_ int vm_apart_begin(struct vm *vm, struct vm_apart *apart);
_must_check_ int vm_apart_end(struct vm *vm, struct vm_apart *apart);
