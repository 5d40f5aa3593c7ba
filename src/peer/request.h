/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * Between versions: a program takes what the one before it sends, so what a request lacks has a default, and a default never changes.
 * It sends nothing that has its default, so one of an older version, which refuses what it does not know, is asked in its own
 * words unless something new is wanted of it. tests/data/peer-requests keeps requests of former versions.
 *
 * Requests of a daemon: what another daemon asks (peer_requests), and what a command of this host asks (control_requests). Each
 * is one JSON object with "command"; the rest is decoded by the row's schema, wholly, before anything is done. Untrusted. Any
 * thread.
 *
 *   another daemon, in this order for a move, and for a backup:
 *     check    {machine}            what stands against it here; nothing is made
 *     reserve  {machine}            the same, and if there is nothing: token, reservation, files that are wanted
 *     file     {sha256, size}       then that many bytes
 *     launch                        the VM's process is there, to be loaded
 *     start                         the streams are there (peer/reservation.h); this side's mover runs
 *   and at any time:
 *     outcome  {token}              how that move ended; an open one is closed first: "ran" or "never", for good
 *     look     {token, name}        the same without closing anything
 *     has      {name}               whether a process of that VM is there
 *     still    {token, name}        whether that host, the source, may still ask what became of a token
 */

#include "api/config.h"
#include "move/job.h"
#include "peer/manual.h"
#include "peer/peers.h"
#include "protect/ownership.h"

#define PEER_HASH_TEXT 65      /* SHA-256 as text with the NUL */
#define PEER_TOKEN_TEXT 33     /* a token as text with the NUL */
#define PEER_DISK_IDENTITY 256 /* bytes of a WWN, NGUID or serial with the NUL */

/* A file that the VM needs at a reset of its guest: its kernel, its initial RAM disk. Known by content. */
struct peer_file {
	char sha256[PEER_HASH_TEXT]; /* "": none */
	uint64_t size;
};

#define PEER_INSTANCE_TEXT (2 * OWNERSHIP_ID_BYTES + 1)

/* A disk as the other side sees it; its name in both lists is its path in the configuration. */
struct peer_disk {
	uint64_t size;
	uint64_t allocated;		   /* bytes that are no holes */
	bool device;			   /* a block device, no file */
	char identity[PEER_DISK_IDENTITY]; /* "": it has none */
};

/* A VM that is to come. Its configuration's paths are names of lists; it has no kernel, no initrd, no descriptors. */
struct peer_machine {
	struct vm_config config;
	struct peer_file kernel, initrd;
	uint32_t n_disks; /* as many as config has */
	struct peer_disk disks[LIMIT_DISKS];
	uint64_t generation;	       /* of the ownership that the move makes */
	uint64_t populated;	       /* bytes of RAM that the guest has touched */
	uint32_t version_min, version; /* of the movers' protocol */
	uint32_t streams;
	bool plain; /* no TLS */
	bool copy_disks; /* into those disks of this host's list that may be written so; the others are shared */
	bool postcopy; /* it may have to run before all of its memory is there */
	bool paused; /* by its user, and so it must be there: who does not know the word would let it run */
	bool protect; /* it stays where it is: what comes is its backup, which keeps up with it */
	char owner
		[PEER_INSTANCE_TEXT]; /* of a move: the instance that gives it away, in whose place a record may name another; "": it has no record */
	uint32_t detect_ms; /* protect: so long a silence makes the other side suspected */
	char manual
		[MANUAL_TEXT]; /* protect: "": its arbiter is an etcd; else what its host keeps of the record */
};

enum peer_command {
	PEER_CHECK,
	PEER_RESERVE,
	PEER_FILE,
	PEER_LAUNCH,
	PEER_START,
	PEER_OUTCOME,
	PEER_LOOK,
	PEER_HAS,
	PEER_STILL,
	PEER_COMMANDS,
};

struct peer_request {
	enum peer_command command;
	struct peer_machine machine;
	struct peer_file file;
	char token[PEER_TOKEN_TEXT];
	char name[LIMIT_NAME];
};

/* What `utsusu move` wishes. */
struct move_wish {
	uint32_t streams;
	uint64_t max_bandwidth; /* bytes per second; 0: none */
	uint64_t downtime_ms;
	enum move_compress compress;
	bool plain, check, copy_disks, allow_postcopy;
};

/* What `utsusu protect` wishes beside these of struct move_wish: plain, check. */
struct protect_wish {
	uint64_t latency_ms; /* how long a reply may be held; 0: as it turns out */
	uint64_t detect_ms;
};
#define PROTECT_LATENCY_MAX_MS 10000
#define PROTECT_DETECT_MIN_MS 50
#define PROTECT_DETECT_MAX_MS 60000

/* A person's word on who has ended, of a record of exactly this generation (peer/manual.h). */
struct word_wish {
	enum manual_says says;
	uint64_t generation;
};

enum resolve_word { RESOLVE_SHOW, RESOLVE_LOST_HERE, RESOLVE_RUN_HERE };

enum control_command {
	CONTROL_STATUS,
	CONTROL_PEERS,
	CONTROL_PROBE,
	CONTROL_ADD,
	CONTROL_REMOVE,
	CONTROL_MOVE,
	CONTROL_PROTECT,
	CONTROL_RESOLVE,
	CONTROL_WORD,
	CONTROL_COMMANDS,
};

struct control_request {
	enum control_command command;
	char name[PEER_NAME_MAX]; /* of a VM or of a peer */
	char host[PEER_NAME_MAX];
	struct peer peer; /* PROBE, ADD */
	struct move_wish move;
	struct protect_wish protect;
	enum resolve_word word;
	struct word_wish said;
};

/* Decode an object, which loses its "command". 0, or -EINVAL with the first problem in `err`. Released whatever is returned. */
_must_check_ int peer_request_decode(json_t *json, struct peer_request *ret_request,
				     struct error *err);
void peer_request_release(struct peer_request *request);
_must_check_ int control_request_decode(json_t *json, struct control_request *ret_request,
					struct error *err);
void control_request_release(struct control_request *request);

/* New JSON objects with "command"; NULL when out of memory. */
json_t *peer_request_encode(const struct peer_request *request);
json_t *control_request_encode(const struct control_request *request);
