/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * What a debugger does to a guest: a table of functions between the protocol (gdb_session.h) and the VM (gdb_target.h), so
 * that the protocol can be tested and fuzzed with a guest that only remembers. Control thread.
 */

#include <sys/types.h>

#include "base/limits.h"
#include "debug/gdb_registers.h"

enum gdb_stop_reason {
	GDB_STOP_TRAP,	/* a step, a connection, a request held by a breakpoint of watch/ */
	GDB_STOP_ASKED, /* Ctrl-C */
	GDB_STOP_SOFTWARE_BREAKPOINT, /* RIP is on it */
	GDB_STOP_HARDWARE_BREAKPOINT, /* the same */
	GDB_STOP_WATCHPOINT,	      /* RIP is behind the instruction that accessed `address` */
	GDB_STOP_ACCESS_WATCHPOINT,
};

struct gdb_stop {
	enum gdb_stop_reason reason;
	uint32_t vcpu;
	uint64_t address; /* of the watchpoint */
};

/* Numbers of the protocol's Z packets. */
enum gdb_breakpoint {
	GDB_BREAKPOINT_SOFTWARE,
	GDB_BREAKPOINT_HARDWARE,
	GDB_WATCHPOINT_WRITE,
	GDB_WATCHPOINT_READ, /* x86 has none */
	GDB_WATCHPOINT_ACCESS,
};

struct gdb_access {
	uint32_t vcpu; /* whose page tables */
	bool physical; /* `address` is guest-physical: no page tables */
	uint64_t address;
	size_t len;
};

enum gdb_action { GDB_STAY, GDB_RUN, GDB_STEP };

/* All but n_vcpus, stop and kill only while the guest stands still. */
struct gdb_guest_ops {
	uint32_t (*n_vcpus)(void *guest); /* 1..LIMIT_VCPUS */
	int (*get_registers)(void *guest, uint32_t vcpu, struct gdb_registers *ret_registers);
	/* All that differ are written. */
	int (*set_registers)(void *guest, uint32_t vcpu, const struct gdb_registers *registers);
	/* How many bytes could be read, from the first on; -EFAULT: none. Breakpoints do not show. */
	ssize_t (*read)(void *guest, const struct gdb_access *access, void *buf);
	/* All, or -EFAULT and perhaps some. */
	int (*write)(void *guest, const struct gdb_access *access, const void *buf);
	/* -EOPNOTSUPP: no such kind; -EINVAL: no such length; -ENOSPC: all are taken; -EFAULT: no memory there. Inserting
	 * twice and removing what is not there are no errors. */
	int (*breakpoint)(void *guest, bool insert, enum gdb_breakpoint type,
			  const struct gdb_access *where);
	/* The guest goes on, an action for each vCPU. Its next stop is told after this has returned. */
	int (*resume)(void *guest, const enum gdb_action *actions);
	/* The guest shall stop: gdb_session_stopped is called, perhaps later. */
	void (*stop)(void *guest);
	/* The VM shall end by force, soon. */
	void (*kill)(void *guest);
};
