/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* What the parts of the rig share: guard_guest.c, guard_copy.c, guard_rig.c. */

#include "guard_rig.h"

#define GUARD_JOURNAL_RING MIB(96)

void guard_words_init(struct guard_words *words);
void guard_words_release(struct guard_words *words);
enum protect_word guard_words_hear(struct guard_words *words, int timeout_ms, char ret_why[160]);
/* A process in its sandbox has no dup. */
int guard_copy_fd(struct guard_rig *rig, int fd);
int guard_make_file(uint64_t bytes);
uint8_t *guard_map(int fd, uint64_t bytes);
int guard_facts(struct protect_link *link, struct move_facts *ret_facts, struct error *err);
void guard_make_guest(struct guard_rig *rig);
void guard_release_guest(struct guard_guest *guest);
void guard_make_copy(struct guard_rig *rig);
void guard_release_copy(struct guard_copy *copy);
