/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * This host's lists: what it calls the disks and networks that VMs may come with. /etc/utsusu/host.json, or $UTSUSU_HOST_CONFIG:
 *
 *   {"disks":    {"data": {"path": "/dev/disk/by-id/wwn-0x5000c500a1b2c3d4"},
 *                 "own":  {"path": "/srv/vm/own.img", "copy": true, "overwrite": true}},
 *    "networks": {"lan": {"bridge": "br0"}, "lab": {"tap": "tap0"}},
 *    "moves":    {"plain": "refuse", "kept_files": "4G"},
 *    "arbiter":  {"endpoints": ["https://10.0.0.1:2379", {"url": "https://etcd-2:2379", "address": "10.0.0.2"}],
 *                 "ca": "/etc/utsusu/etcd-ca.pem", "user": "utsusu", "password_file": "/etc/utsusu/etcd-password"},
 *    "protect":  {"journal": "256M"}}
 *
 * Without etcd it is "arbiter": "manual" (peer/manual.h).
 *
 * A peer names these names and never a path, an interface or a bridge: the source's daemon finds the name of what its VM has,
 * the destination's daemon finds what it calls so itself. Any thread.
 */

#include "base/error.h"
#include "base/limits.h"
#include "peer/arbiter_config.h"

#define LIST_DISK_NAME 64    /* bytes with the NUL */
#define LIST_NETWORK_NAME 16 /* the same; it stands where a tap's name stands */

struct list_disk {
	char name[LIST_DISK_NAME];
	char *path;
	bool copy;	/* another host's disk may be copied into it */
	bool overwrite; /* and what it holds then may be lost */
};

struct list_network {
	char name[LIST_NETWORK_NAME];
	char *tap;    /* a tap that is there; or */
	char *bridge; /* one for which a tap is made */
};

/* What this host does with VMs that come. */
enum list_plain { LIST_PLAIN_REFUSE, LIST_PLAIN_ALLOW };
struct list_moves {
	enum list_plain plain; /* streams without TLS */
	uint64_t kept_files;   /* bytes of kernels and RAM disks that are kept for the next VM */
};

struct lists {
	struct list_moves moves;
	struct list_arbiter arbiter;
	struct list_protect protect;
	uint32_t n_disks, n_networks;
	struct list_disk disks[LIMIT_PEER_DISKS];
	struct list_network networks[LIMIT_PEER_DISKS];
};

/* A missing file holds none. Allocated; freed by lists_free. */
_must_check_ int lists_load(struct lists **ret_lists, struct error *err);
/* Decodes a text over empty lists. `name` stands in messages. */
_must_check_ int lists_decode(const char *text, size_t len, const char *name, struct lists *lists,
			      struct error *err);
void lists_free(struct lists *lists);
/* The file that lists_load reads, for messages. */
const char *lists_path(void);

/* NULL: there is none. */
const struct list_disk *lists_disk(const struct lists *lists, const char *name);
const struct list_network *lists_network(const struct lists *lists, const char *name);

/* The name of the disk that is the same file or device as `path`, whatever it is called there. NULL: none. */
const char *lists_name_of_disk(const struct lists *lists, const char *path);
/* The name of the network that has this tap: itself, or by the bridge that the tap is in. NULL: none. */
const char *lists_name_of_tap(const struct lists *lists, const char *tap);
