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
