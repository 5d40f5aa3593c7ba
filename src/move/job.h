/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * What a mover (utsusu-move) is started for: one JSON object in a sealed memfd (--job-fd=N), descriptors by their numbers. Whoever
 * starts it (the daemon for a move, `utsusu save` for a file) opened and authenticated everything; the mover opens no path and no
 * connection.
 */

#include "base/failpoint.h"
#include "host/host_id.h"
#include "move/guest/guest.h"
#include "move/protocol.h"
#include "wire/stream.h"

#define PROTECT_DETECT_MS 500
#define MOVE_DOWNTIME_MS 100	   /* the goal when none is given */
#define MOVE_DOWNTIME_MAX_MS 60000 /* for whoever asks for a move, too: longer is no live move */

/* OWNER and BACKUP: the two guards of a protected VM (protect/guard/), whose session is the token. */
enum move_role { MOVE_SOURCE, MOVE_DESTINATION, MOVE_SAVE, MOVE_RESTORE, MOVE_OWNER, MOVE_BACKUP };
enum move_compress { MOVE_COMPRESS_AUTO, MOVE_COMPRESS_OFF, MOVE_COMPRESS_ON };

struct move_disk {
	uint32_t index; /* in the VM's configuration */
	int fd;
};

struct move_job {
	enum move_role role;
	char name[LIMIT_NAME];
	char peer[MARK_PEER_MAX]; /* the other host, for people and for the mark */
	uint64_t generation;	  /* of the ownership that the move makes */
	uint8_t token[MOVE_TOKEN_BYTES];
	int vm_fd; /* connected to the VM's socket */
	int ram_fd;
	int mark_fd; /* goes to the VM's process. -1: none */
	/* Destination: the same file, opened again by move_job_read. Mover and VM exclude each other at it by a lock that belongs to an
	 * opening (marks.h, mark_take); on one opening both would have it. */
	int own_mark_fd;
	int lock_fd; /* source: that the VM moves (peer/mover.h); held until this process ends. -1: none */
	uint64_t
		known; /* destination: the highest generation of this VM that this host has seen; 0: none */
	uint32_t n_streams;
	int streams[MOVE_STREAMS_MAX];
	bool tls;
	uint8_t key[STREAM_KEY_BYTES];
	int progress_fd; /* JSON lines go there (move/mover/progress.h); its end of file cancels a move before the commit. -1: nobody */
	int file_fd;	 /* save, restore */
	char host[HOST_ID_TEXT]; /* save, restore: this one (host/host_id.h) */
	uint64_t max_bandwidth;	 /* bytes per second; 0: no limit */
	uint32_t downtime_ms;	 /* goal; default 100 */
	enum move_compress compress;
	bool allow_postcopy;
	uint32_t
		n_disks; /* that are copied: to be read at the source, to be written at the destination */
	struct move_disk disks[LIMIT_DISKS];
	/* Guards. */
	int journal_fd; /* backup: its file, with journal_bytes allocated; -1: no disk is mirrored */
	uint64_t journal_bytes; /* of the ring in it (journal.h) */
	uint32_t latency_ms;	/* owner: how long a reply may be held; 0: as it turns out */
	uint32_t
		detect_ms; /* so long a silence of the other side makes it suspected; 0: PROTECT_DETECT_MS */
	bool told;	 /* source: whoever started it has told of the phases check and reserve */
	bool clone;	 /* restore */
	bool load_first; /* restore: all memory, before the VM runs */
	uint32_t patience_ms;		    /* with a silent peer; for tests. 0: MOVE_PEER_MS */
	char failpoint[FAILPOINT_TEXT_MAX]; /* "" or name:action, see base/failpoint.h */
};

/* A job with nothing in it but its role. */
void move_job_init(struct move_job *job, enum move_role role);
/* The text alone, for move_job_read and its fuzz target: numbers of descriptors are judged, the descriptors are not touched. -EINVAL. */
_must_check_ int move_job_decode(const char *text, size_t len, struct move_job *ret_job,
				 struct error *err);
/* Untrusted only as far as our own daemon is: everything is judged all the same. Takes the descriptors into close-on-exec. */
_must_check_ int move_job_read(int fd, struct move_job *ret_job, struct error *err);
/* A sealed memfd that move_job_read reads, its descriptors made inheritable. */
_must_check_ int move_job_write(const struct move_job *job, int *ret_fd);
void move_job_release(struct move_job *job); /* closes descriptors, wipes the key */
