/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * A look at a VM's memory from outside its process, through the file of RAM that the keeper holds: to translate an
 * instruction's operand to the guest-physical address that it means. Read only; the guest writes it meanwhile, and page
 * tables are untrusted.
 */

#include "base/error.h"
#include "base/macros.h"

struct guest_view;

/* `fd` (borrowed) is the file of guest RAM, laid out as memory_create does with the memory map of vm/memory_map.h. */
_must_check_ int guest_view_open(int fd, struct guest_view **ret_view);
void guest_view_free(struct guest_view *view);

/* -EFAULT: not all of it is RAM. An insn_read_fn when `ctx` is the view. */
int guest_view_read(void *ctx, uint64_t physical, void *buf, size_t len);

/* Walks 64-bit page tables of 4 levels at `cr3`: 1 and the address, 0: not mapped, -EFAULT: tables outside RAM.
 * An insn_translate_fn when `ctx` is the view. */
int guest_view_translate(void *ctx, uint64_t cr3, uint64_t linear, uint64_t *ret_physical);
