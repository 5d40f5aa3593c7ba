/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * What all views of requests share: where the records come from, which ones are asked for, when it ends, and how
 * things are written for people and for programs.
 *
 *   source (watch/read/) --view_next--> line, json, terminal, web, report, export/
 *
 * `utsusu watch` (programs/utsusu-watch.c) makes the context; a view runs until view_next says that it is over. One
 * thread, but for what says otherwise. Records are untrusted; formatting never fails and never leaves its buffer.
 */

#include <signal.h>
#include <stdio.h>

#include "base/error.h"
#include "watch/analysis/analysis.h"
#include "watch/filter/filter.h"
#include "watch/read/source.h"
#include "watch/read/symbols.h"

struct api_connection;
struct exact;
struct json_t;

enum view_origin {
	VIEW_LIVE,	  /* a VM that runs */
	VIEW_POST_MORTEM, /* what is left of one that died */
	VIEW_RECORDING,	  /* a file */
};

enum view_end { /* why view_next said -ENODATA */
		VIEW_RUNS,
		VIEW_END_STOPPED, /* the user: Ctrl-C, or a view that set `stop` */
		VIEW_END_COUNT,	  /* --count records were shown */
		VIEW_END_TIME,	  /* --for is over */
		VIEW_END_VM,	  /* the VM ended; all of its last records were given */
		VIEW_END_DATA,	  /* the end of a recording, or of what a dead VM left */
};

enum view_export { EXPORT_PERFETTO, EXPORT_CTF, EXPORT_PCAPNG, EXPORT_JSON };

/* What the command line asked of a view; each view reads what is about it. */
struct view_options {
	bool registers;		 /* --follow: a second line with the registers */
	bool json;		 /* --json: also of a report */
	uint64_t window_ms;	 /* --report: length of a window; 0: one for all */
	uint32_t port;		 /* --web: 0: any that is free */
	enum view_export format; /* --export */
	const char *output;	 /* --output, a path; "-": standard output; NULL: not given */
	const char *record;	 /* --record, a path; NULL: not given */
	uint64_t rotate;	 /* --rotate: bytes; 0: one file */
	uint32_t files;		 /* --files: how many are kept; 0: all */
	uint64_t count;		 /* end after so many matching records; 0: no limit */
	uint64_t for_ms;	 /* end after so long; 0: no limit */
	const char *action;	 /* --break: "stop", "set", "drop", "fail", "delay", "dump" */
	const char *data;	 /* --set: a value as text; NULL: not given */
	uint64_t delay_ms;	 /* --delay */
};

struct view_context {
	struct watch_source *source; /* borrowed, as all pointers here */
	enum view_origin origin;
	const char *title; /* "vm1", "vm1 (ended)", "night.utsusu" */
	const char *vm; /* the VM's name, as the records' origin tells it; untrusted, printable */
	/* "normal", "all", "normal, exact, lossless": every view shows it, with what is not seen even so:
	 * n_unseen texts, one thing each ("LAPIC accesses, which KVM answers"). */
	const char *mode;
	const char *const *unseen;
	size_t n_unseen;
	/* Live: another watcher came or went, so that more or less is recorded; brings the three above up to date. NULL:
	 * they do not change. */
	void (*refresh_mode)(struct view_context *view);
	void *refresh_ctx;

	const char *filter_text;     /* "" when all are asked for */
	const struct filter *filter; /* compiled; NULL matches all */
	/* For filter_match and for analysis_new, about this source. */
	struct filter_names names;
	struct analysis_times times;
	const struct symbols *symbols; /* NULL: none */

	/* To the VM: live only, otherwise NULL. Closing it ends the watch. What the VM tells of its own accord
	 * ({"event": ...}) is given to `told`, if set by the view, from within view_next and view_wait. */
	struct api_connection *connection;
	struct exact *exact; /* --exact: view/exact.h; otherwise NULL */
	void (*told)(void *ctx, const struct json_t *event);
	void *told_ctx;

	/* Makes `source` give all its records again, from the first; NULL where they are gone (live). A view calls it when it
	 * wants to count them in another way. On failure the source is as it was. */
	int (*read_again)(struct view_context *view, struct error *err);
	void *read_again_ctx;

	struct view_options options;
	volatile sig_atomic_t *stop; /* set by SIGINT and SIGTERM, or by the view itself */

	/* Kept by view_next; views read them. */
	enum view_end end;
	uint64_t n_records;	   /* that matched and were given */
	unsigned int mode_changes; /* how often mode and unseen were brought up to date */

	/* view.c's own. */
	uint64_t begun_ns, gone_ns, mode_ns;
	uint32_t mode_seen;
	unsigned int pause_ms;
};

/* Whether the user wants it to end. A thread that takes signals may say so at any moment (programs/watch_stop.c). */
static inline bool view_stopped(const struct view_context *view)
{
	return view->stop && __atomic_load_n(view->stop, __ATOMIC_RELAXED);
}

/* Sets what follows from `source`: names, times, vm. The rest is the caller's; zero it before. */
void view_init(struct view_context *view, struct watch_source *source);

/* 1: the next request by time that the filter lets through; 0: none now, see view_wait; -ENODATA: it is over, `end` says
 * why; another negative errno: the recording cannot be read. view_next_any gives all that there is, also requests that do
 * not match (n_records counts those that do), and records that are no requests (RECORD_VCPU): for analysis, and for views that filter by themselves. */
_must_check_ int view_next(struct view_context *view, struct watch_record *ret_record,
			   uint32_t *ret_ring);
_must_check_ int view_next_any(struct view_context *view, struct watch_record *ret_record,
			       uint32_t *ret_ring);
/* After a 0 of view_next: waits 1 to 20 ms, longer the longer nothing came, and hears the VM. */
void view_wait(struct view_context *view);
/* For views with a loop of their own, instead of view_wait: how long to wait (0..20 ms), and what the VM tells meanwhile
 * - a VM's end is noticed here only, so this is to be called now and then. Waits at least 1 ms when nothing is told. */
unsigned int view_pause_ms(struct view_context *view);
void view_hear(struct view_context *view, unsigned int timeout_ms);
/* "the VM ended", "that is all there is": one line for people; "" while it runs. */
const char *view_end_text(enum view_end end);

/* A view that writes to standard output ends with `r`: fills `err`. `what` did not work. Returns r. */
int view_fail(const struct view_context *view, int r, const char *what, struct error *err);

/* What a program shows on one line about how it watches: "vm1: mode normal; not seen: ..." */
void view_format_mode(const struct view_context *view, char *ret_text, size_t size);

/*
 * Text of parts of a record. All write a terminated string; 64 bytes are enough for each, but for instruction (256),
 * registers (1024) and mode (1024). Control characters and what is not ASCII in names of others become '?'.
 */
/* Local time of day: "14:03:07.123456". */
void view_format_time(const struct view_context *view, uint64_t tsc, char *ret_text, size_t size);
/* UTC, "2026-11-21T14:03:07.123456789Z". */
void view_format_utc(const struct view_context *view, uint64_t tsc, char *ret_text, size_t size);
/* "serial", "virtio-blk.0", "-". */
void view_format_device(const struct view_context *view, const struct watch_record *record,
			char *ret_text, size_t size);
/* Who made the request: the ring's name, "vcpu0", "blk.0:1". */
void view_format_ring(const struct view_context *view, uint32_t ring, char *ret_text, size_t size);
/* "port 0x3f8", "mmio 0xfee00000", "pci 00:02.0+0x10", "sector 2048", "-". */
void view_format_address(const struct watch_record *record, char *ret_text, size_t size);
/* A register access: "0x41", as wide as it is; disk, net and queues: "4096 bytes". */
void view_format_data(const struct watch_record *record, char *ret_text, size_t size);
/* "950 ns", "12.3 us", "4.56 ms", "1.20 s". */
void view_format_ns(uint64_t ns, char *ret_text, size_t size);
void view_format_latency(const struct view_context *view, const struct watch_record *record,
			 char *ret_text, size_t size);
/* "pio", "mmio", "pci", "disk", "net", "queue"; "?" for a kind not known. */
const char *view_kind_name(uint8_t kind);
/* "in" or "out" of accesses, frames and queues; of disks the operation: "read", "write", "flush", ... */
const char *view_operation_name(const struct watch_record *record);
/* "ok", "EIO", ... */
const char *view_status_name(const struct watch_record *record);
/* "on", "before", "paired", "stepped", "ambiguous", "unknown", "not-judged". */
const char *view_verdict_name(uint8_t verdict);
/* Whether the record has an instruction and registers (an access of a vCPU whose mode is known). */
bool view_has_instruction(const struct watch_record *record);
/* Whether it is known which instruction it was; otherwise the functions below tell of what stands at RIP. */
bool view_is_sure(const struct watch_record *record);
/* Its linear address; its bytes (0: not known), inside the record. */
uint64_t view_instruction_address(const struct watch_record *record);
size_t view_instruction_code(const struct watch_record *record, const uint8_t **ret_code);
/* "0xffffffff81234567 serial8250_start_tx+0x12: out dx, al"; with '~' first when it is not sure. "" when there is none. */
void view_format_instruction(const struct view_context *view, const struct watch_record *record,
			     char *ret_text, size_t size);
/* Only the disassembly, only the symbol; "" when not known. */
void view_format_disassembly(const struct watch_record *record, char *ret_text, size_t size);
void view_format_symbol(const struct view_context *view, const struct watch_record *record,
			char *ret_text, size_t size);
/* Registers by name with their values: calls `each` for rax ... rflags, cr3 in modes of 64 bits, for eax ... and the
 * segments' bases otherwise. */
void view_each_register(const struct watch_record *record,
			void (*each)(void *ctx, const char *name, uint64_t value), void *ctx);
/* "rax=0 rcx=12 ..." on one line. */
void view_format_registers(const struct watch_record *record, char *ret_text, size_t size);
/* Copies text of others: what is not printable ASCII becomes '?'. */
void view_copy_text(const char *text, char *ret_text, size_t size);

/* view/json.h has the JSON object of a record. */

/*
 * The views. Each runs until view_next says that it is over (or its user leaves), and fills `err` on failure: 0 or a
 * negative errno. A closed pipe on standard output is an end like another: 0.
 */
int recorder_run(struct view_context *view, struct error *err);	     /* --record */
int line_view_run(struct view_context *view, struct error *err);     /* --follow */
int json_view_run(struct view_context *view, struct error *err);     /* --json */
int terminal_view_run(struct view_context *view, struct error *err); /* on a terminal */
int web_view_run(struct view_context *view, struct error *err);	     /* --web */
int report_run(struct view_context *view, struct error *err);	     /* --report */
int export_run(struct view_context *view, struct error *err);	     /* --export */
int stops_run(struct view_context *view, struct error *err);	     /* --break: live only */
