/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* The command `utsusu`: what its parts share. One row of a table for each command. */

#include "api/schema.h"
#include "peer/request.h"
#include "programs/watch_options.h"
#include "vm/config.h"

/* Every option of every command; each command's schema names the ones it has. */
struct command_options {
	bool help, json, check, force, show, clone, load_first;
	char name[LIMIT_NAME];
	char *config;	  /* --config */
	char *file;	  /* of a saved VM */
	char *to;	  /* the new version's utsusu-vm */
	uint64_t timeout; /* milliseconds */
	/* other hosts */
	char host[PEER_NAME_MAX];
	char fingerprint[PEER_FINGERPRINT_MAX];
	char *ca, *identity;
	bool detach, lost_here, run_here, off;
	bool owner_is_dead, backup_is_dead, yes;
	struct move_wish move;
	char latency[16]; /* of held replies: "auto" or a duration */
	uint64_t detect;  /* milliseconds */
};

struct command;

/* A command line decoded. */
struct invocation {
	const struct command *command;
	struct command_options options;
	struct vm_config *config;   /* for commands that configure a VM; otherwise the defaults */
	struct watch_options watch; /* for the one that watches */
	char **words;		    /* as they were given */
	struct problems *problems; /* of the command line and the file, for `run`, which judges them
				      itself */
	char **rest;		   /* further arguments, NULL-terminated */
};

struct command {
	const char *name;
	const char *arguments; /* how the usage line writes its arguments */
	const char *summary;   /* one line */
	const char *about;     /* what --help and the manual say; paragraphs end with a newline */
	const struct schema *options; /* over struct command_options */
	bool configures;	      /* takes the options of a VM too */
	bool watches;		      /* takes the options of watch_schema too */
	bool takes_rest;
	int (*run)(struct invocation *invocation); /* an exit status */
};

extern const struct command commands[];
extern const size_t n_commands;

/* The further options that a command takes; NULL when it has its own only. */
const struct schema *command_settings(const struct command *command);

/* The row of `name`, or NULL after a line on standard error that suggests another. */
const struct command *command_find(const char *name);

/* One line "utsusu: ..." on standard error; returns its exit status. */
int tell(const struct error *err);

/* utsusu_help.c: standard output. */
int help_overview(void);
int help_command(const struct command *command);
int help_manual(void);
int help_completion(void);

/* One function for each command. */
int run_vm(struct invocation *invocation);
int list_vms(struct invocation *invocation);
int show_info(struct invocation *invocation);
int pause_vm(struct invocation *invocation);
int resume_vm(struct invocation *invocation);
int stop_vm(struct invocation *invocation);
int watch_vm(struct invocation *invocation);
int attach_console(struct invocation *invocation);
int run_doctor(struct invocation *invocation);
int compute_baseline(struct invocation *invocation);
int move_vm(struct invocation *invocation);
int protect_vm(struct invocation *invocation);
int fail_over_vm(struct invocation *invocation);
int show_protection(struct invocation *invocation);
int ask_arbiter(struct invocation *invocation);
int save_vm(struct invocation *invocation);
int restore_vm(struct invocation *invocation);
int resolve_vm(struct invocation *invocation);
int upgrade_vm(struct invocation *invocation);
int manage_peers(struct invocation *invocation);
int show_version(struct invocation *invocation);
int show_help(struct invocation *invocation);
