/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The relay of one VM: what the VM's process wants at the arbiter is asked there, what stands there is told to it. It decides nothing, and
 * what it did not answer before its end is, to the VM, an outcome that is not known.
 *
 *   VM                          relay                                arbiter
 *     move-facts <---------------
 *                                 read, until there is an answer ------->
 *     arbiter-attach <-----------
 *     event arbiter-swap -------> notes of this host, then the swap ---->
 *     arbiter-swapped <---------- won, lost, unknown <------------------
 *     arbiter-stands <----------- each change <-------------------------
 */
#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include "api/request.h"
#include "base/buffer.h"
#include "base/cleanup.h"
#include "base/fd.h"
#include "base/hex.h"
#include "host/runtime.h"
#include "host/state_dir.h"
#include "peer/copies.h"
#include "peer/door.h"
#include "peer/instances.h"
#include "peer/process.h"
#include "peer/protected.h"
#include "peer/relay.h"
#include "programs/arbiter_manual.h"

#define LINE_MAX_BYTES MIB(2)		 /* the facts hold a configuration */
#define LOOK_NS (3 * NSEC_PER_SEC)	 /* whether an owner that is not us has ended since */
#define AGAIN_NS (2 * NSEC_PER_SEC)	 /* after the VM refused to be attached */
#define AGAIN_MAX_NS (30 * NSEC_PER_SEC) /* each time twice as long, up to this */
#define ID_TEXT (2 * OWNERSHIP_ID_BYTES + 1)

enum stage {
	STAGE_ASKS,	/* the VM who it is */
	STAGE_READS,	/* the arbiter what stands there; or waits to attach again */
	STAGE_ATTACHES, /* the VM was told */
	STAGE_ATTACHED,
};

struct relay {
	const char *name;
	struct arbiter_host host;
	struct loop *loop;
	int state_fd, folder_fd, lock_fd;
	struct loop_watch vm;
	struct loop_timer again;
	uint64_t again_ns;
	struct buffer lines;
	pid_t pid; /* the VM's process */
	uint64_t start;
	char uuid[UUID_TEXT];
	struct arbiter *arbiter;       /* NULL: manual */
	struct manual_arbiter by_hand; /* then this one */
	enum stage stage;
	bool known; /* `record` is what stands there, as far as we heard */
	struct ownership_record record;
	uint64_t told; /* the revision of what the VM was last told */
	uint64_t
		protecting; /* a swap to protected was asked on this revision: at it nothing is forgotten */
	struct ownership_id me;
	json_t *early; /* a swap that was wanted before the VM had said which instance it is; NULL: none */
	bool buried;	 /* the VM knows that the owner's process has ended */
	bool complained; /* of the arbiter, since it last answered */
	int status;
};

_printf_(2, 3) static void say(const struct relay *relay, const char *format, ...)
{
	char text[ERROR_MESSAGE_MAX];
	va_list args;

	va_start(args, format);
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	fprintf(stderr, "utsusu-arbiter: %s: %s\n", relay->name, text);
}

static void end(struct relay *relay, int status)
{
	relay->status = status;
	loop_stop(relay->loop);
}

/* ---- to the VM ---- */

/* The id comes back with the answer. A VM that does not read for long ends this; another begins anew. */
static void tell_vm(struct relay *relay, const char *command, const char *id, json_t *fields)
{
	json_auto_t *line = fields ? fields : json_object();
	_cleanup_(freep) char *text = NULL;
	size_t len;

	json_object_set_new(line, "command", json_string(command));
	json_object_set_new(line, "id", json_string(id));
	text = json_dumps(line, JSON_COMPACT);
	len = text ? strlen(text) : 0;
	if (text)
		text[len] = '\n'; /* in place of the NUL */
	if (!text || fd_write_all(relay->vm.fd, text, len + 1) < 0)
		end(relay, EXIT_STATUS_FAILED);
}

/* {"record": ...} or {"none": true} */
static json_t *what_stands(const struct ownership_record *record)
{
	json_t *encoded = arbiter_record_encode(record);

	return encoded ? json_pack("{s:o}", "record", encoded) : json_pack("{s:b}", "none", 1);
}

static void attach(struct relay *relay)
{
	json_t *fields = what_stands(&relay->record);
	enum instance_state state = INSTANCE_UNKNOWN;
	char owner[ID_TEXT];

	if (relay->record.revision &&
	    instances_look(relay->state_fd, relay->uuid, &relay->record.owner, &state) < 0)
		say(relay, "this host's notes of its instances cannot be read");
	if (state == INSTANCE_DEAD) {
		hex_encode(relay->record.owner.bytes, OWNERSHIP_ID_BYTES, owner);
		json_object_set_new(fields, "dead", json_string(owner));
	}
	if (relay->host.manual)
		json_object_set_new(fields, "manual", json_true());
	relay->buried = state == INSTANCE_DEAD;
	relay->stage = STAGE_ATTACHES;
	relay->told = relay->record.revision;
	tell_vm(relay, "arbiter-attach", "attach", fields);
}

static void tell_stands(struct relay *relay)
{
	if (relay->record.revision <= relay->told)
		return;
	relay->told = relay->record.revision;
	tell_vm(relay, "arbiter-stands", "stands", what_stands(&relay->record));
}

/* ---- what this host keeps of it ---- */

static bool is_mine(const struct relay *relay, const struct ownership_record *record)
{
	return ownership_id_equal(&record->owner, &relay->me);
}

/* It has it alone, or nobody: it may be started here again, and the disks here are the VM's. */
static void forget_protection(struct relay *relay)
{
	struct relay_note note;
	int r = protected_drop(relay->state_fd, relay->name);

	if (relay_read(relay->folder_fd, relay->name, &note) == 0 && r == 0)
		r = copies_forget(relay->state_fd, note.session.bytes);
	if (r < 0)
		say(relay, "this host's notes cannot be brought up to date: %s", strerror(-r));
}

static void take_record(struct relay *relay, const struct ownership_record *record)
{
	if (relay->known && record->revision <= relay->record.revision)
		return;
	relay->known = true;
	relay->record = *record;
	if (!record->revision)
		return;
	say(relay, "%s, generation %" PRIu64 "%s", ownership_mode_name(record->mode),
	    record->generation, is_mine(relay, record) ? "" : ", another instance's");
	if (is_mine(relay, record) && record->revision > relay->protecting &&
	    (record->mode == OWNERSHIP_SOLO || record->mode == OWNERSHIP_STOPPED))
		forget_protection(relay);
}

static int note_protection(struct relay *relay, const struct ownership_record *want)
{
	struct protected_note note = { .session = want->backup };
	struct relay_note pair;

	memcpy(note.uuid, relay->uuid, sizeof(note.uuid));
	if (relay_read(relay->folder_fd, relay->name, &pair) == 0)
		memcpy(note.peer, pair.peer, sizeof(note.peer));
	relay->protecting = want->revision;
	return protected_note(relay->state_fd, relay->name, &note);
}

/* Before the record may say so. */
static int note_wish(struct relay *relay, const struct ownership_record *want)
{
	int r = 0;

	if (is_mine(relay, want))
		r = instances_note(relay->state_fd, relay->uuid, &relay->me, relay->pid,
				   relay->start);
	if (r == 0 && is_mine(relay, want) && want->mode == OWNERSHIP_PROTECTED)
		r = note_protection(relay, want);
	if (r < 0)
		say(relay, "nothing is asked while this host cannot note it: %s", strerror(-r));
	return r;
}

/* ---- the arbiter ---- */

static void tell_swapped(struct relay *relay, enum arbiter_outcome outcome,
			 const struct ownership_record *record, const char *why)
{
	json_t *encoded = outcome == ARBITER_UNKNOWN ? NULL : arbiter_record_encode(record);
	json_t *fields = json_pack("{s:s}", "outcome", arbiter_outcome_name(outcome));

	if (encoded)
		json_object_set_new(fields, "record", encoded);
	if (why)
		json_object_set_new(fields, "why",
				    json_stringn(why, strnlen(why, API_WHY_MAX - 1)));
	tell_vm(relay, "arbiter-swapped", "swapped", fields);
}

static void complain(struct relay *relay, const struct error *why)
{
	if (!relay->complained)
		say(relay, "%s", why->message);
	relay->complained = true;
}

static void heard_swapped(void *ctx, const struct arbiter_swapped *swapped)
{
	struct relay *relay = ctx;

	if (swapped->outcome == ARBITER_UNKNOWN) {
		complain(relay, &swapped->why);
	} else {
		relay->complained = false;
		take_record(relay, &swapped->record);
		relay->told = MAX(relay->told, swapped->record.revision);
	}
	tell_swapped(relay, swapped->outcome, &swapped->record,
		     relay->host.manual && swapped->outcome == ARBITER_UNKNOWN
			     ? swapped->why.message
			     : NULL);
}

static void heard_stands(void *ctx, const struct ownership_record *record, const struct error *err)
{
	struct relay *relay = ctx;

	if (!record) {
		complain(relay, err);
		return;
	}
	relay->complained = false;
	take_record(relay, record);
	if (relay->stage == STAGE_READS)
		attach(relay);
	else if (relay->stage == STAGE_ATTACHED)
		tell_stands(relay);
}

/* ---- without etcd ---- */

static void swap_by_hand(struct relay *relay, const struct ownership_record *want)
{
	struct arbiter_swapped swapped;

	manual_arbiter_swap(&relay->by_hand, relay->name, want, &swapped);
	heard_swapped(relay, &swapped);
}

/* Of the VM: what its owner's host says stands there; or that the other side has ended. */
static void hear_of_the_other(struct relay *relay, const char *event, const json_t *line)
{
	struct ownership_record record;
	struct relay_note note;
	struct error err = { 0 };
	int r = arbiter_record_decode(json_object_get(line, "record"), &record, &err);

	if (!relay->host.manual ||
	    (relay->stage != STAGE_ATTACHED && relay->stage != STAGE_ATTACHES))
		return;
	if (r == 0 && strcmp(event, "arbiter-ended") == 0) {
		r = manual_arbiter_heard_end(&relay->by_hand, &record, is_mine(relay, &record));
		if (r > 0)
			say(relay, "the other side says that it has ended");
	} else if (r == 0) {
		r = relay_read(relay->folder_fd, relay->name, &note);
		if (r == 0)
			r = manual_arbiter_follow(&relay->by_hand, &record, &note.session);
		if (r > 0) {
			record = manual_last(&relay->by_hand.records);
			take_record(relay, &record);
		}
		if (r > 0 && relay->stage == STAGE_ATTACHED)
			tell_stands(relay);
	}
	if (r < 0)
		say(relay, "%s: %s", event, err.code ? err.message : strerror(-r));
}

static void swap(struct relay *relay, const json_t *event)
{
	struct ownership_record want;
	struct error err = { 0 };
	int r = arbiter_record_decode(json_object_get(event, "want"), &want, &err);

	if (r == 0 && relay->stage != STAGE_ATTACHED)
		r = -EPROTO;
	if (r == 0)
		r = note_wish(relay, &want);
	if (r == 0 && relay->host.manual) {
		swap_by_hand(relay, &want);
		return;
	}
	if (r == 0)
		r = arbiter_swap(relay->arbiter, &want);
	if (r == 0 || r == -EBUSY) /* the outcome of the one under way is still told, and once */
		return;
	say(relay, "a swap was not asked: %s", err.code ? err.message : strerror(-r));
	tell_swapped(relay, ARBITER_UNKNOWN, NULL, NULL);
}

/* ---- from the VM ---- */

static void take_facts(struct relay *relay, const json_t *facts)
{
	const struct arbiter_events events = { heard_swapped, heard_stands, relay };
	const char *uuid = json_string_value(json_object_get(facts, "uuid"));
	struct ownership_record stands;
	struct relay_note note;
	struct error err = { 0 };
	int r = uuid && uuid_valid(uuid) ? 0 : -EPROTO;

	if (r == 0 && relay_read(relay->folder_fd, relay->name, &note) == 0 &&
	    strcmp(note.uuid, uuid) != 0) {
		/* Another VM took the name: nobody wanted one for it. */
		relay_forget(relay->folder_fd, relay->name);
		end(relay, EXIT_STATUS_OK);
		return;
	}
	if (r == 0) {
		snprintf(relay->uuid, sizeof(relay->uuid), "%s", uuid);
		r = relay->host.manual
			    ? manual_arbiter_open(&relay->by_hand, relay->state_fd, relay->uuid,
						  &err)
			    : arbiter_open(relay->loop, &relay->host.config, relay->state_fd,
					   relay->uuid, &events, &relay->arbiter, &err);
	}
	if (r < 0) {
		say(relay, "%s", err.code ? err.message : "its facts are not understood");
		end(relay, err.code ? (int)err.status : EXIT_STATUS_FAILED);
		return;
	}
	relay->stage = STAGE_READS;
	if (relay->arbiter) {
		arbiter_watch(relay->arbiter);
		return;
	}
	stands = manual_last(&relay->by_hand.records);
	heard_stands(relay, &stands, NULL);
}

/* One of this host that is there no more: by its own end, or by a person's word (utsusu resolve). */
static bool has_ended_since(const struct relay *relay)
{
	enum instance_state state;

	return !relay->buried && relay->record.revision && !is_mine(relay, &relay->record) &&
	       instances_look(relay->state_fd, relay->uuid, &relay->record.owner, &state) == 0 &&
	       state == INSTANCE_DEAD;
}

static void attach_again(struct loop_timer *timer)
{
	struct relay *relay = container_of(timer, struct relay, again);

	if ((relay->stage == STAGE_READS && relay->known) ||
	    (relay->stage == STAGE_ATTACHED && has_ended_since(relay)))
		attach(relay);
	else
		loop_timer_arm(relay->loop, &relay->again, clock_now(&clock_host) + LOOK_NS);
}

/* Refused: by what stands there, or since another relay is attached. */
static void back_off(struct relay *relay, const json_t *answer)
{
	const json_t *error = json_object_get(answer, "error");
	const char *why = json_string_value(json_object_get(error, "message"));

	if (!relay->again_ns)
		say(relay, "the VM takes no arbiter now: %s", why ? why : "it does not say why");
	relay->again_ns = relay->again_ns ? MIN(2 * relay->again_ns, AGAIN_MAX_NS) : AGAIN_NS;
	relay->stage = STAGE_READS;
	loop_timer_arm(relay->loop, &relay->again, clock_now(&clock_host) + relay->again_ns);
}

static void take_attached(struct relay *relay, const json_t *answer)
{
	const char *instance = json_string_value(json_object_get(answer, "instance"));
	json_t *early;

	if (!json_is_true(json_object_get(answer, "ok"))) {
		back_off(relay, answer);
		return;
	}
	if (!instance || !hex_decode(instance, relay->me.bytes, OWNERSHIP_ID_BYTES)) {
		say(relay, "the VM does not say which instance it is");
		end(relay, EXIT_STATUS_FAILED);
		return;
	}
	relay->again_ns = 0;
	relay->stage = STAGE_ATTACHED;
	loop_timer_arm(relay->loop, &relay->again, clock_now(&clock_host) + LOOK_NS);
	tell_stands(relay); /* what came meanwhile */
	early = TAKE_PTR(relay->early);
	if (early)
		swap(relay, early);
	json_decref(early);
}

/* One at a time is under way. The VM may want it in the moment in which it is attached. */
static void hear_swap(struct relay *relay, json_t *event)
{
	if (relay->stage != STAGE_ATTACHES) {
		swap(relay, event);
		return;
	}
	json_decref(relay->early);
	relay->early = json_incref(event);
}

static void take_line(struct relay *relay, const char *text, size_t len)
{
	json_auto_t *line = json_loadb(text, len, JSON_REJECT_DUPLICATES, NULL);
	const char *event = json_string_value(json_object_get(line, "event"));
	const char *id = json_string_value(json_object_get(line, "id"));
	const json_t *error = json_object_get(line, "error");

	if (!line || (!event && !id)) {
		say(relay, "the VM said what is not understood; use one version of utsusu");
		end(relay, EXIT_STATUS_FAILED);
	} else if (event) {
		if (strcmp(event, "arbiter-swap") == 0)
			hear_swap(relay, line);
		else if (strcmp(event, "arbiter-heard") == 0 || strcmp(event, "arbiter-ended") == 0)
			hear_of_the_other(relay, event, line);
	} else if (strcmp(id, "facts") == 0 && relay->stage == STAGE_ASKS) {
		take_facts(relay, line);
	} else if (strcmp(id, "attach") == 0 && relay->stage == STAGE_ATTACHES) {
		take_attached(relay, line);
	} else if (error) {
		say(relay, "the VM: %s: %s", id,
		    json_is_string(json_object_get(error, "message"))
			    ? json_string_value(json_object_get(error, "message"))
			    : "refused");
	}
}

static void heard_vm(struct loop_watch *watch, uint32_t events _unused_)
{
	struct relay *relay = container_of(watch, struct relay, vm);
	char bytes[4096];
	ssize_t n = recv(watch->fd, bytes, sizeof(bytes), MSG_DONTWAIT);
	const char *line;
	size_t len;

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n <= 0 || buffer_append(&relay->lines, bytes, (size_t)n) < 0) {
		end(relay, n <= 0 ? EXIT_STATUS_OK : EXIT_STATUS_FAILED);
		return;
	}
	while ((line = buffer_line(&relay->lines, &len))) {
		take_line(relay, line, len);
		buffer_consume(&relay->lines, len + 1);
	}
}

/* ---- its life ---- */

static int open_host(struct relay *relay, struct error *err)
{
	int r = door_open_folder(&relay->folder_fd, err);

	if (r == 0)
		r = relay_lock(relay->folder_fd, relay->name, &relay->lock_fd);
	if (r == 0)
		r = state_dir_open(&relay->state_fd, err);
	return r < 0 ? r : arbiter_host_load(&relay->host, err);
}

static int open_vm(struct relay *relay)
{
	int r = runtime_connect(relay->name, RUNTIME_SOCKET, &relay->vm.fd);

	if (r == 0)
		r = process_at(relay->vm.fd, &relay->pid, &relay->start);
	relay->loop = loop_new(&clock_host);
	if (r == 0 && !relay->loop)
		r = -ENOMEM;
	return r < 0 ? r : loop_add(relay->loop, &relay->vm);
}

static int begin(struct relay *relay, struct error *err)
{
	int r = open_host(relay, err);

	if (r == 0)
		r = open_vm(relay);
	if (r < 0)
		return error_set(err, r, EXIT_STATUS_FAILED, "%s: %s", relay->name, strerror(-r));
	loop_timer_init(&relay->again, attach_again);
	tell_vm(relay, "move-facts", "facts", NULL);
	return 0;
}

static void release(struct relay *relay)
{
	arbiter_free(relay->arbiter);
	manual_arbiter_release(&relay->by_hand);
	if (relay->loop) {
		loop_timer_cancel(&relay->again);
		loop_free(relay->loop);
	}
	buffer_release(&relay->lines);
	json_decref(relay->early);
	arbiter_host_release(&relay->host);
	fd_close(relay->vm.fd);
	fd_close(relay->state_fd);
	fd_close(relay->folder_fd);
	fd_close(relay->lock_fd);
}

int arbiter_relay(const char *name)
{
	struct relay relay = {
		.name = name,
		.state_fd = -1,
		.folder_fd = -1,
		.lock_fd = -1,
		.by_hand = { .lock_fd = -1 },
		.vm = { .fd = -1, .events = EPOLLIN, .ready = heard_vm },
	};
	struct error err = { 0 };
	int r;

	buffer_init(&relay.lines, LINE_MAX_BYTES);
	r = begin(&relay, &err);
	if (r == 0)
		r = loop_run(relay.loop);
	else if (r == -EBUSY || r == -ENOENT)
		relay.status = EXIT_STATUS_OK; /* there is one, or none is wanted */
	if (r < 0 && r != -EBUSY) {
		fprintf(stderr, "utsusu-arbiter: %s\n", err.code ? err.message : strerror(-r));
		relay.status = err.code ? (int)err.status : EXIT_STATUS_FAILED;
	}
	release(&relay);
	return relay.status;
}
