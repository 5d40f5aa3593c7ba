/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * What a VM's socket understands. One JSON object on each line, both ways:
 *
 *   -> {"command": "stop", "timeout": "30s", "id": "7"}
 *   <- {"ok": true, "id": "7", "button": true}
 *   <- {"error": {"message": "...", "status": 2}, "id": "7"}
 *   <- {"event": "paused"}                                      after the command "events"
 *
 * A request is decoded wholly into a plain struct before anything is done.
 *
 * The mover beside the VM (programs/utsusu-move) asks for its part in a move so (what each means: move/guest/guest.h). Descriptors come
 * with SCM_RIGHTS on the bytes of their line, in the order given here; who sends some has the answers to all lines before. Sizes and
 * times are JSON integers, a token is 32 hexadecimal digits. The mover's connection is the move's owner: its end undoes what
 * can be undone.
 *
 *   command        fields                            descriptors     answer, beside "ok": true
 *   move-facts     -                                 -               name, version, uuid, config {...}, ram_bytes, hugepages "off"|"thp"|"on",
 *                                                                    banks [{start, len, offset}, ...], stage "idle"|"logging"|
 *                                                                    "stopping"|"stopped"|"given"|"arriving"|"ran", lacks (bytes of
 *                                                                    memory that are still to come while it runs), state_min and
 *                                                                    state_max (vm/save.h); RAM's file is the keeper's to give
 *   move-check     -                                 -               problems [{message, status}, ...]
 *   move-begin     token, mark (bool: the second     shared [, mark] -
 *                  descriptor comes)
 *   move-collect   -                                 -               pages
 *   move-log-disk  disk (its number)                 log             -
 *   move-throttle  percent 0..99                     -               -
 *   move-stop      deadline_ms                       -               - at once; later on the same connection, once:
 *                                                                    {"event": "move-stopped", "stopped_ns": N}, or
 *                                                                    {"event": "move-stopped", "error": {message, status}}
 *   move-save      [version: of the state]           -               len
 *   move-cancel    -                                 -               -
 *   move-given     peer, generation                  -               -
 *   move-never     token                             -               -
 *   move-ran       token, where                      -               - and the VM's process ends
 *   arrive-begin   token, mark                       shared [, mark] -
 *   arrive-load    len, stopped_ns, rehearse (bool)  -               -
 *   arrive-renew   -                                 -               -
 *   arrive-announce -                                -               -
 *   arrive-demand  -                                 life (a socket, - the userfaultfd and struct move_demand_message come
 *                                                    SEQPACKET)      over the socket, before the answer
 *   arrive-filled  -                                 -               -
 *   arrive-commit  -                                 -               ran (bool)
 *   arrive-wait    stand (bool)                      -               -
 *
 * Whoever hands the VM to a new version of the program asks its process, and the new one (the rest as above: move-facts, move-save,
 * move-cancel, move-never, move-ran, arrive-load):
 *
 *   upgrade-check  -                                 -               problems
 *   handover-begin token                             shared, succession, heir (host/handed.h)
 *   handover-give  deadline_ms, version              -               - at once; later, once: {"event": "handover-given",
 *                                                                    "len": N, "moment_ns": N, "stopped_at_ns": N} or "error"
 *   inherit-begin  token                             shared, succession
 *   inherit-take   len, moment_ns                    -               ran (bool), ran_ns
 *
 * A VM's protection (what each means: protect/guest/guest.h): of the owner's guard, of the backup's, of the relay to the arbiter, of a user. Ids are 32
 * hexadecimal digits. A record is the object of protect/record.h's text, with "revision". A guard's connection, and a relay's, is what protect-begin,
 * backup-begin and arbiter-attach came over: its end says that it has gone.
 *
 *   protect-facts  -                                 -               role (protect/ownership.h), mode ("none": no record is known), generation, revision, session,
 *                                                                    instance, foreign, gated, cut, acked, released, held_items, held_bytes, hold_p50_ns, hold_p99_ns,
 *                                                                    epochs, pages and state_len of the last, last_pause_ns, pause_p50_ns, pause_p99_ns, relay, guard
 *                                                                    (bools), peer, waits_for ("": nothing), disks (mirrored ones)
 *   protect-check  -                                 -               problems
 *   protect-begin  session, peer, ring (bool: the    shared [, ring] cut, generation, instance
 *                  second descriptor comes)          (protect/shared.h, block/mirror.h)
 *   protect-collect -                                -               pages
 *   protect-gate   -                                 -               -
 *   protect-cut    epoch                             -               pages, state_len, ring_end, released, generation, pause_ns; or later (true): not now
 *   protect-acked  session, epoch, at_ns             -               - over any connection
 *   protect-end    why                               -               -
 *   protect-off    -                                 -               - later, to the guard: {"event": "protect-off", "why": "..."}
 *   protect-failover -                               -               - later, to the guard: {"event": "protect-failover", ...}
 *   backup-begin   session, peer                     -               - after arrive-begin over this connection; later, to it: {"event": "backup-prepare"},
 *                                                                    {"event": "backup-apply"}, {"event": "backup-over", "ran": bool}, each with "why"
 *   backup-whole   epoch                             -               ack (bool)
 *   backup-suspect why                               -               prepare (bool)
 *   backup-prepared -                                -               -
 *   backup-apply   len (of the container at          -               -
 *                  arrive-begin's shared file's
 *                  state), stopped_ns
 *   backup-failed  why                               -               -
 *   arbiter-attach record, or none (true) [, dead]   -               instance; later, to it: {"event": "arbiter-swap", "want": {a record; revision: of the one to replace}}
 *   arbiter-swapped outcome "won"|"lost"|"unknown"   -               -
 *                  [, record: what stands there]
 *   arbiter-stands record                            -               -
 *
 * Where no etcd decides (peer/manual.h) arbiter-attach says "manual": true, arbiter-swapped of an unknown outcome has a line "why" (what it waits for),
 * the answer of protect-cut has "record", and besides:
 *
 *   protect-give   -                                 -               - the VM stands for good, and its process ends
 *   protect-ended  session                           -               - over any connection: the other side of that copy has ended, as it says. Later, to the relay: {"event": "arbiter-ended", "record"}
 *   backup-record  record: as the owner's host has it -              - later, to the relay: {"event": "arbiter-heard", "record"}
 */

#include "api/schema.h"
#include "move/guest/guest.h"
#include "protect/guest/guest.h"
#include "watch/stop.h"

#define API_REQUEST_ID_MAX 64

enum api_command {
	API_STATUS,
	API_INFO,
	API_PAUSE,
	API_RESUME,
	API_POWER_BUTTON,
	API_RESET,
	API_STOP,
	API_EVENTS,
	API_MEASURE,
	API_WATCH,
	API_STEP_AT,
	API_BREAK,
	API_CONTINUE,
	API_MOVE_FACTS,
	API_MOVE_CHECK,
	API_MOVE_BEGIN,
	API_MOVE_COLLECT,
	API_MOVE_LOG_DISK,
	API_MOVE_THROTTLE,
	API_MOVE_STOP,
	API_MOVE_SAVE,
	API_MOVE_CANCEL,
	API_MOVE_GIVEN,
	API_MOVE_NEVER,
	API_MOVE_RAN,
	API_ARRIVE_BEGIN,
	API_ARRIVE_LOAD,
	API_ARRIVE_RENEW,
	API_ARRIVE_ANNOUNCE,
	API_ARRIVE_DEMAND,
	API_ARRIVE_FILLED,
	API_ARRIVE_COMMIT,
	API_ARRIVE_ABANDON,
	API_ARRIVE_WAIT,
	API_UPGRADE_CHECK,
	API_HANDOVER_BEGIN,
	API_HANDOVER_GIVE,
	API_INHERIT_BEGIN,
	API_INHERIT_TAKE,
	API_PROTECT_FACTS,
	API_PROTECT_CHECK,
	API_PROTECT_BEGIN,
	API_PROTECT_COLLECT,
	API_PROTECT_GATE,
	API_PROTECT_CUT,
	API_PROTECT_ACKED,
	API_PROTECT_END,
	API_PROTECT_OFF,
	API_PROTECT_FAILOVER,
	API_BACKUP_BEGIN,
	API_BACKUP_WHOLE,
	API_BACKUP_SUSPECT,
	API_BACKUP_PREPARED,
	API_BACKUP_APPLY,
	API_BACKUP_FAILED,
	API_ARBITER_ATTACH,
	API_ARBITER_SWAPPED,
	API_ARBITER_STANDS,
	API_PROTECT_GIVE,
	API_PROTECT_ENDED,
	API_BACKUP_RECORD,
	API_COMMANDS,
};

#define API_REQUEST_FDS 3 /* descriptors that a command takes at most */

/* MOVE_*, ARRIVE_*, HANDOVER_*, INHERIT_*: whichever the command has. */
struct api_move_request {
	uint8_t token[MOVE_TOKEN_BYTES];
	bool mark;
	uint32_t percent, deadline_ms, version, disk;
	char peer[MARK_PEER_MAX];
	uint64_t generation;
	uint64_t len, stopped_ns, moment_ns;
	bool rehearse, stand;
};

enum api_swap_outcome { API_SWAP_UNKNOWN, API_SWAP_WON, API_SWAP_LOST };
extern const char *const api_swap_outcomes[]; /* names, NULL behind them */

#define API_WHY_MAX 160

/* PROTECT_*, BACKUP_*, ARBITER_*: whichever the command has. */
struct api_protect_request {
	struct ownership_id session, dead;
	char peer[MARK_PEER_MAX], why[API_WHY_MAX];
	bool ring, none, by_hand;
	uint64_t epoch, at_ns, len, stopped_ns;
	enum api_swap_outcome outcome;
	struct ownership_record record; /* revision 0: none came */
};

struct api_request {
	enum api_command command;
	char id[API_REQUEST_ID_MAX + 1];   /* comes back in the answer; "" when not given */
	uint64_t timeout;		   /* STOP: milliseconds until force */
	bool force;			   /* STOP: at once */
	uint32_t rounds;		   /* MEASURE: checkpoints */
	bool dirty;			   /* MEASURE: with the dirty log */
	bool touched;			   /* MEASURE: only what was touched */
	struct watch_wish watch;	   /* WATCH: from now to the end of the connection */
	uint64_t addresses[MONITOR_STEPS]; /* STEP_AT */
	uint32_t n_addresses;
	struct stop_break stop;	   /* BREAK: the same */
	struct stop_answer answer; /* CONTINUE */
	struct api_move_request move;
	struct api_protect_request protect;
};

/* One row for each command; the table is indexed by enum api_command. */
struct api_command_row {
	const char *name;
	const struct schema *schema; /* its parameters, over struct api_request */
	const char *help;
};

/* Names of enum store_mode (and of enum watch_choice, which is alike), NULL behind them. */
extern const char *const api_watch_modes[];
/* Names of enum stop_action, NULL behind them. */
extern const char *const api_stop_actions[STOP_ACTIONS + 1];

extern const struct api_command_row api_commands[API_COMMANDS];

/* Decodes one line without its newline. 0, or -EINVAL with the first problem in `err`; the id is
 * decoded as far as the line allows, so that an error can carry it. */
_must_check_ int api_request_decode(const char *line, size_t len, struct api_request *ret_request,
				    struct error *err);
