/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* A VM that is saved into a file and restored from it, in one process (near_link.h). */

#include "move/saved/save.h"
#include "move/saved/saved.h"
#include "near_link.h"

#define FILLED_AT MIB(8)
#define FILLED_PAGES 700 /* every second page from there; a sixth of them of zeroes */

struct rig {
	struct near_vm from, to;
	int fd;
	struct error err;
	struct move_numbers numbers;
	uint64_t told_stopped_ns; /* what the VM was told of the time that it lay in the file */
	/* Of the run that is under way. */
	const struct wish *wish;
	const struct move_link_ops *near_ops;
	struct move_link_ops noted;
};

struct wish {
	const char *fails, *deaf;
	const char *host; /* NULL: not known */
	bool clone, cancel, load_first;
	/* In the place of the link's; may be NULL. */
	int (*demand)(struct move_link *link, struct move_demand *ret_demand, struct error *err);
	void (*ran)(
		struct
		rig *rig); /* after the commit of a restore, on the mover's thread; may be NULL */
};

/* The source runs, and has pages filled. */
struct rig *rig_new(void);
/* `to`: there was a restore. */
void rig_free(struct rig *rig, bool to);
int open_again(int fd);
void fill_page(uint8_t *page, uint64_t i);
enum move_end rig_run(struct rig *rig, struct near_vm *near, enum move_role role,
		      const struct wish *wish);
enum move_end save(struct rig *rig, const struct wish *wish);
/* Makes `to`, which runs afterwards if it could be restored. */
enum move_end restore(struct rig *rig, const struct wish *wish);
void assert_saved(struct rig *rig);
bool is_used(struct rig *rig);
/* For near_vm_do: all of its filled pages are as they were. */
void assert_ram(void *near);
