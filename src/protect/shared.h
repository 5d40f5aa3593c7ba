/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * The file in which an owner's VM leaves what each cut took, for its guard to send while the guest runs. Made by the guard, sealed against
 * shrinking; the VM writes it inside a cut (or a collect), the guard reads it between two.
 *
 *   [bitmap: a bit for each page of RAM, 64-bit words, rounded up to 4 KiB][numbers: u64 * pages, rounded up][content: pages * 4 KiB][state: EPOCH_STATE_MAX]
 *
 * The state of an epoch is a container: PROTECT_STATE_HEAD bytes {"UPST", u16 version, u16 flags, u64 vm_len, u64 held_len}, vm_len bytes of vm/save.h's
 * sections, held_len bytes of held output: for each network device (but vhost's) in the configuration's order, then the serial and the virtio console,
 * {u64 len, a section of base/hold.h}. Little-endian. Flags: bit 0: the guest had switched itself off, or its user wanted its end; who goes on from
 * there does not run it.
 */

#include <sys/uio.h>

#include "protect/epoch.h"

struct protect_shared {
	int fd; /* owned */
	void *map;
	size_t map_len;
	uint64_t n_pages; /* of RAM */
	uint64_t *bitmap; /* both sides change words atomically */
	uint64_t n_words;
	uint64_t *pages;
	uint8_t *content;
	uint8_t *state;
};

/* The guard's end. */
_must_check_ int protect_shared_make(uint64_t ram_bytes, struct protect_shared *ret_shared);
/* The VM's end: takes the descriptor (also on failure); one that could shrink or is too small is -EINVAL. */
_must_check_ int protect_shared_take(int fd, uint64_t ram_bytes, struct protect_shared *ret_shared,
				     struct error *err);
void protect_shared_release(struct protect_shared *shared);
/* Gives the memory of content beyond `keep_pages` back to the host. The guard, after a large epoch was sent. */
void protect_shared_trim(struct protect_shared *shared, uint64_t keep_pages);

#define PROTECT_STATE_HEAD 24
#define PROTECT_STATE_VERSION 1
/* What stands before the parts. */
void protect_state_head(uint8_t head[PROTECT_STATE_HEAD], uint64_t vm_len, uint64_t held_len);
/* The same container, of a guest that is to end. */
#define PROTECT_STATE_OFF 1
/* On the wire: the VM's part has only the sections that differ from those of the whole epoch before (state/merge.h). */
#define PROTECT_STATE_PARTIAL 2
void protect_state_set_flags(uint8_t head[PROTECT_STATE_HEAD], uint16_t flags);
/* Of a container that protect_state_parts took. */
uint16_t protect_state_flags(const void *state);
/* Of a container (a peer's bytes): where its two parts lie. -EBADMSG. */
_must_check_ int protect_state_parts(const void *state, size_t len, struct iovec *ret_vm,
				     struct iovec *ret_held);
/* The next section of held output, and `*held` moves behind it. -EBADMSG: there is none. */
_must_check_ int protect_held_next(struct iovec *held, struct iovec *ret_section);
