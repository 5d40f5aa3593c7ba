/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* THE table of devices: what a VM has, in which order it is made, loaded, and (backwards) taken apart. */

#include "vm/vm.h"

/* Makes every device that the configuration asks for and appends it to vm->devices. */
_must_check_ int board_create(struct vm *vm, struct error *err);
void board_destroy(struct vm *vm);
_must_check_ int board_start(struct vm *vm, const struct thread_entry *enter, struct error *err);
void board_stop(struct vm *vm);
/* Begins the reset of every device; it is over when board_busy says no (queues finish their I/O first). */
void board_reset(struct vm *vm);
bool board_busy(struct vm *vm);
/* Has every device take no new requests and finish, durably, those that it has; or go on. Not with the barrier held. */
void board_drain(struct vm *vm, bool on);
/* 1 when all have, 0 not yet, negative errno with `err`. */
_must_check_ int board_drained(struct vm *vm, struct error *err);
/* Lets what is shared with other hosts go, or takes it: all of it, or on an error nothing. */
_must_check_ int board_own(struct vm *vm, bool own, struct error *err);
