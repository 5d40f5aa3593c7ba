/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * What a VM shall be: the plain struct that the one schema (api/schema) decodes options,
 * configuration files and JSON into, checked as a whole before anything is created. Strings are
 * owned by the struct.
 */

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"
#include "base/limits.h"
#include "base/uuid.h"
#include "cpu/model.h"
#include "memory/memory.h"

/* AUTO: stdio, or a socket when detached; vm_config_complete() decides. */
enum console_kind { CONSOLE_AUTO, CONSOLE_STDIO, CONSOLE_PTY, CONSOLE_SOCKET };
enum net_kind { NET_TAP, NET_USER, NET_FD };
enum watch_choice { WATCH_OFF, WATCH_NORMAL, WATCH_ALL };
enum dirty_choice { DIRTY_CHOICE_AUTO, DIRTY_CHOICE_BITMAP, DIRTY_CHOICE_RING };

struct cpus_config {
	uint32_t count; /* 1..LIMIT_VCPUS, running from the start */
	uint32_t max; /* count..LIMIT_VCPUS: room for vCPUs that come later; 0: as many as count */
	enum cpu_model model;
};

struct memory_config {
	uint64_t size; /* bytes, a multiple of 2 MiB, 32 MiB..LIMIT_MEMORY */
	enum memory_hugepages hugepages;
	enum dirty_choice dirty;
};

struct disk_config {
	char *path;
	bool readonly;
	char serial[LIMIT_SERIAL + 1];
	uint32_t queues; /* 0: one per vCPU, at most LIMIT_QUEUES */
	bool direct;	 /* O_DIRECT */
	char *filter;	 /* block/filters/filter.h, block_filter_stack; NULL: none */
};

struct net_config {
	enum net_kind kind;
	char *tap;	 /* NET_TAP: interface name */
	bool user;	 /* how the schema says NET_USER; `kind` is what counts */
	int fd;		 /* NET_FD: an open tap descriptor inherited from the caller */
	uint8_t mac[6];	 /* all zero: made from the VM's name and the device's index */
	uint32_t queues; /* queue pairs; 0: 1 */
	bool vhost;
	char *filter; /* net/filters/filter.h, net_filter_stack; NULL: none */
};

struct gdb_config {
	char *path; /* of the socket; NULL: no debugger */
	bool wait;  /* for a debugger, before the first instruction */
};

struct vm_config {
	char name[LIMIT_NAME];
	char uuid[UUID_TEXT]; /* which VM this is, wherever it runs; "": not known yet */
	char *kernel, *initrd, *cmdline;
	struct cpus_config cpus;
	struct memory_config memory;
	uint32_t n_disks, n_nets;
	struct disk_config disks[LIMIT_DISKS];
	struct net_config nets[LIMIT_NETS];
	enum console_kind console;
	enum watch_choice watch; /* record requests from the first instruction on */
	struct gdb_config gdb;
	bool rng;     /* virtio-rng; on by default */
	bool sandbox; /* on by default; off only for debugging */
	bool detach;  /* return once the guest runs */
};

#define VM_CONFIG_DEVICES                                                                          \
	28 /* disks and networks together: PCI slots left by our own functions   \
			      */

void vm_config_init(struct vm_config *config); /* the defaults */
void vm_config_release(struct vm_config *config);

/* Puts values in place of "choose for me": cpus.max, queues, the console. After all decoding. */
void vm_config_complete(struct vm_config *config);

/* Combinations that no single key can judge (too many queues for the vCPUs, initrd without kernel,
 * the same disk twice, ...), on a completed configuration. Appends every problem found. */
void vm_config_check(const struct vm_config *config, struct problems *problems);
