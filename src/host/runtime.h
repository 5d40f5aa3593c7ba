/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * The runtime directory: which VMs there are on this host, and how to reach them.
 *
 *   $UTSUSU_RUNTIME_DIR, else /run/utsusu for root, else $XDG_RUNTIME_DIR/utsusu     mode 0700
 *     NAME/lock        held (OFD lock) as long as any process of the VM lives: THE test of life
 *          socket      the VM's API
 *          console     the console's byte stream, when it is a socket
 *          log         what a detached VM's process has to say
 *          requests    the last requests of a watched VM that died (watch/record.h)
 *
 * A directory whose lock is free is the rest of a VM that died: the next claim of the name empties
 * it. Names never leave the directory: they are checked, and no symbolic link is followed. Any
 * thread.
 */

#include <stdbool.h>
#include <sys/types.h>

#include "base/error.h"
#include "base/limits.h"

#define RUNTIME_SOCKET "socket"
#define RUNTIME_CONSOLE "console"
#define RUNTIME_LOG "log"
#define RUNTIME_REQUESTS "requests"

/* A claimed name. Both descriptors are close-on-exec; whoever has `lock_fd` open keeps the name. */
struct runtime_vm {
	char name[LIMIT_NAME];
	bool borrowed; /* another process's: giving it back closes descriptors only */
	int root_fd;   /* the runtime directory */
	int dir_fd;    /* NAME/ */
	int lock_fd;
};

/* a-z, 0-9 and -, not beginning with -, at most 63 bytes. */
bool runtime_name_valid(const char *name);

/* Opens the runtime directory, made if need be. It must be ours alone: -EPERM otherwise. */
_must_check_ int runtime_open(int *ret_root_fd, struct error *err);

/* The same, but makes nothing: -ENOENT. */
_must_check_ int runtime_open_existing(int *ret_root_fd, struct error *err);

/* Claims `name`, or the first free of vm1, vm2, ... when it is empty. -EBUSY when a VM of that name
 * runs. `ret_vm` is released by runtime_release. */
_must_check_ int runtime_claim(const char *name, struct runtime_vm *ret_vm, struct error *err);

/* True when runtime_claim would find the name taken; makes nothing. */
bool runtime_is_taken(const char *name);

/* Removes the VM's files and gives the name back. For the last process of a VM. */
void runtime_release(struct runtime_vm *vm);
/* As runtime_release for a VM that failed: when it left a log or its last requests, the directory stays with them, so that
 * list shows the VM as dead and tells why, until the name is used again. */
void runtime_leave(struct runtime_vm *vm);
/* Closes the folders: what the VM listens on is there, and nothing must lead a broken VM to other files. The lock
 * stays. */
void runtime_keep_lock(struct runtime_vm *vm);
/* Closes the descriptors only: another process goes on with the name. */
void runtime_forget(struct runtime_vm *vm);

/* Binds (mode 0600) and listens on a UNIX stream socket in the VM's directory. Close-on-exec,
 * non-blocking. */
_must_check_ int runtime_listen(const struct runtime_vm *vm, const char *file, int *ret_fd);

/* A listening socket that another process made: who connects from now on is told that it is this one's (SO_PEERCRED). */
_must_check_ int runtime_listen_again(int fd);

/* Connects to a VM's socket, blocking; sends give up after 5 s. -ENOENT: no VM of that name;
 * -ECONNREFUSED: it is dead or has no such socket; -EAGAIN: it does not accept. */
_must_check_ int runtime_connect(const char *name, const char *file, int *ret_fd);

/* Opens for reading what a dead VM left (RUNTIME_REQUESTS). -ENOENT: no such VM, or it left none; -EBUSY: it lives. */
_must_check_ int runtime_open_left(const char *name, const char *file, int *ret_fd);

/* One VM as the directory shows it. */
struct runtime_entry {
	char name[LIMIT_NAME];
	bool alive; /* its lock is held */
};

/* Calls `found` for every VM, living or dead, in order of names, until it returns non-zero, which
 * is returned. A runtime directory that is not there holds none. */
_must_check_ int runtime_list(int (*found)(void *ctx, const struct runtime_entry *entry), void *ctx,
			      struct error *err);

/* The last line of an open log (-1: none) or of the log of a dead VM; "" when there is none. */
void runtime_last_words(int log_fd, char *ret_line, size_t size);
void runtime_why_dead(const char *name, char *ret_line, size_t size);

/* 1 when a VM of that name lives, 0 when it is dead or there is none, negative errno. */
int runtime_alive(const char *name);
/* True for a VM of which only its directory is left. */
bool runtime_is_dead(const char *name);
