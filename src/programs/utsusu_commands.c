/* SPDX-License-Identifier: Apache-2.0 */
/* THE table of commands and their options. --help, the manual and the completion are made from it.
 */
#include "api/config.h"
#include "host/runtime.h"
#include "programs/utsusu.h"

#include <errno.h>
#include <limits.h>

static int valid_name(const char *text, const char **ret_why)
{
	*ret_why = "is no name of a VM; utsusu list shows those there are";
	return runtime_name_valid(text) ? 0 : -EINVAL;
}

static int valid_host(const char *text, const char **ret_why)
{
	*ret_why = "is no name of a host; utsusu peer list shows those that are known";
	return peer_name_valid(text) ? 0 : -EINVAL;
}

#define ROW(type_, member) .type = type_, .offset = offsetof(struct command_options, member)

#define HELP_ROW                                                                                   \
	{                                                                                          \
		.key = "help", ROW(SCHEMA_BOOL, help), .value = "on",                              \
		.help = "show this and do nothing"                                                 \
	}

#define NAME_ROW                                                                                   \
	{                                                                                          \
		.key = "name", ROW(SCHEMA_CHARS, name),                                            \
		.flags = SCHEMA_POSITIONAL | SCHEMA_REQUIRED, .min = 1, .max = LIMIT_NAME - 1,     \
		.value = "NAME", .valid = valid_name, .help = "the VM's name"                      \
	}

#define JSON_ROW                                                                                   \
	{                                                                                          \
		.key = "json", ROW(SCHEMA_BOOL, json), .value = "on", .help = "answer in JSON"     \
	}

static const struct schema_row plain_rows[] = { HELP_ROW };
static const struct schema_row json_rows[] = { JSON_ROW, HELP_ROW };
static const struct schema_row name_rows[] = { NAME_ROW, HELP_ROW };
static const struct schema_row name_json_rows[] = { NAME_ROW, JSON_ROW, HELP_ROW };

static const struct schema_row run_rows[] = {
	{ .key = "config",
	  ROW(SCHEMA_STRING, config),
	  .min = 1,
	  .max = PATH_MAX - 1,
	  .value = "FILE",
	  .help = "a JSON file with any of these keys; options replace what it says" },
	{ .key = "check",
	  ROW(SCHEMA_BOOL, check),
	  .value = "on",
	  .help = "list all that stands against running it, and run nothing" },
	JSON_ROW,
	HELP_ROW,
};

static const struct schema_row stop_rows[] = {
	NAME_ROW,
	{ .key = "timeout",
	  ROW(SCHEMA_DURATION, timeout),
	  .max = 3600 * 1000,
	  .value = "TIME",
	  .fallback = "30s",
	  .help = "how long the guest may take before it is ended by force" },
	{ .key = "force",
	  ROW(SCHEMA_BOOL, force),
	  .value = "on",
	  .help = "by force at once, like pulling the plug" },
	HELP_ROW,
};

static const struct schema_row baseline_rows[] = {
	{ .key = "show",
	  ROW(SCHEMA_BOOL, show),
	  .value = "on",
	  .help = "print what this machine can give a guest, for use elsewhere" },
	JSON_ROW,
	HELP_ROW,
};

static const char *const compress_modes[] = {
	[MOVE_COMPRESS_AUTO] = "auto",
	[MOVE_COMPRESS_OFF] = "off",
	[MOVE_COMPRESS_ON] = "on",
	NULL,
};

static const struct schema_row move_rows[] = {
	NAME_ROW,
	{ .key = "host",
	  ROW(SCHEMA_CHARS, host),
	  .flags = SCHEMA_POSITIONAL | SCHEMA_REQUIRED,
	  .min = 1,
	  .max = PEER_NAME_MAX - 1,
	  .value = "HOST",
	  .valid = valid_host,
	  .help = "a peer" },
	{ .key = "check",
	  ROW(SCHEMA_BOOL, move.check),
	  .value = "on",
	  .help = "list all that stands against it on both hosts, and move nothing" },
	{ .key = "streams",
	  ROW(SCHEMA_UINT, move.streams),
	  .min = 1,
	  .max = MOVE_STREAMS_MAX,
	  .value = "N",
	  .fallback = "2",
	  .help = "connections for the memory" },
	{ .key = "max-bandwidth",
	  ROW(SCHEMA_SIZE, move.max_bandwidth),
	  .min = KIB(64),
	  .max = GIB(1024),
	  .step = 1,
	  .value = "SIZE",
	  .help = "bytes per second, at most" },
	{ .key = "downtime",
	  ROW(SCHEMA_DURATION, move.downtime_ms),
	  .min = 1,
	  .max = MOVE_DOWNTIME_MAX_MS,
	  .value = "TIME",
	  .fallback = "100ms",
	  .help = "how long the guest may stand still" },
	{ .key = "compress",
	  ROW(SCHEMA_ENUM, move.compress),
	  .names = compress_modes,
	  .value = "MODE",
	  .fallback = "auto",
	  .help = "pack pages; auto: when measuring shows that it helps" },
	{ .key = "copy-disks",
	  ROW(SCHEMA_BOOL, move.copy_disks),
	  .value = "on",
	  .help = "copy local disks: into those of the other host's list that have \"copy\": true" },
	{ .key = "allow-postcopy",
	  ROW(SCHEMA_BOOL, move.allow_postcopy),
	  .value = "on",
	  .help = "when memory is written faster than it can be sent, run there before all of it is there: "
		  "until it is, losing either host loses the VM" },
	{ .key = "plain",
	  ROW(SCHEMA_BOOL, move.plain),
	  .value = "on",
	  .help = "without TLS: whoever is on the wire between reads and can change the guest's memory" },
	{ .key = "detach",
	  ROW(SCHEMA_BOOL, detach),
	  .value = "on",
	  .help = "return once it is under way" },
	JSON_ROW,
	HELP_ROW,
};

#define YES_ROW                                                                                    \
	{                                                                                          \
		.key = "yes", ROW(SCHEMA_BOOL, yes), .value = "on",                                \
		.help = "do not ask whether that word is meant"                                    \
	}

static const struct schema_row failover_rows[] = {
	NAME_ROW,
	{ .key = "owner-is-dead",
	  ROW(SCHEMA_BOOL, owner_is_dead),
	  .value = "on",
	  .help = "without an etcd, on the backup's host: your word that it does not run on the other host any "
		  "more" },
	YES_ROW,
	HELP_ROW,
};

static const struct schema_row protect_rows[] = {
	NAME_ROW,
	{ .key = "host",
	  ROW(SCHEMA_CHARS, host),
	  .flags = SCHEMA_POSITIONAL,
	  .min = 1,
	  .max = PEER_NAME_MAX - 1,
	  .value = "HOST",
	  .valid = valid_host,
	  .help = "a peer" },
	{ .key = "off",
	  ROW(SCHEMA_BOOL, off),
	  .value = "on",
	  .help = "end its protection; it runs on here" },
	{ .key = "backup-is-dead",
	  ROW(SCHEMA_BOOL, backup_is_dead),
	  .value = "on",
	  .help = "with --off, without an etcd: your word that its backup has ended and does not run" },
	YES_ROW,
	{ .key = "check",
	  ROW(SCHEMA_BOOL, move.check),
	  .value = "on",
	  .help = "list all that stands against it on both hosts, and change nothing" },
	{ .key = "latency",
	  ROW(SCHEMA_CHARS, latency),
	  .min = 1,
	  .max = sizeof(((struct command_options *)0)->latency) - 1,
	  .value = "auto|TIME",
	  .fallback = "auto",
	  .help = "how long a reply may be held until the backup has what it is about" },
	{ .key = "detect",
	  ROW(SCHEMA_DURATION, detect),
	  .min = PROTECT_DETECT_MIN_MS,
	  .max = PROTECT_DETECT_MAX_MS,
	  .value = "TIME",
	  .fallback = "500ms",
	  .help = "after so long a silence the other side is taken for lost" },
	{ .key = "plain",
	  ROW(SCHEMA_BOOL, move.plain),
	  .value = "on",
	  .help = "without TLS: whoever is on the wire between reads and can change the guest's memory" },
	{ .key = "detach",
	  ROW(SCHEMA_BOOL, detach),
	  .value = "on",
	  .help = "return once it is under way" },
	JSON_ROW,
	HELP_ROW,
};

#define FILE_ROW                                                                                   \
	{                                                                                          \
		.key = "file", ROW(SCHEMA_STRING, file),                                           \
		.flags = SCHEMA_POSITIONAL | SCHEMA_REQUIRED, .min = 1, .max = PATH_MAX - 1,       \
		.value = "FILE", .help = "the saved VM"                                            \
	}

static const struct schema_row save_rows[] = {
	NAME_ROW,
	FILE_ROW,
	{ .key = "force",
	  ROW(SCHEMA_BOOL, force),
	  .value = "on",
	  .help = "replace FILE when it is there" },
	JSON_ROW,
	HELP_ROW,
};

static const struct schema_row restore_rows[] = {
	FILE_ROW,
	{ .key = "name",
	  ROW(SCHEMA_CHARS, name),
	  .flags = SCHEMA_POSITIONAL,
	  .min = 1,
	  .max = LIMIT_NAME - 1,
	  .value = "NAME",
	  .valid = valid_name,
	  .help = "its name from now on; else as it was" },
	{ .key = "clone",
	  ROW(SCHEMA_BOOL, clone),
	  .value = "on",
	  .help = "another VM beside it: FILE stays as it is" },
	{ .key = "load-first",
	  ROW(SCHEMA_BOOL, load_first),
	  .value = "on",
	  .help = "check and load all memory before it runs" },
	JSON_ROW,
	HELP_ROW,
};

static const struct schema_row upgrade_rows[] = {
	NAME_ROW,
	{ .key = "to",
	  ROW(SCHEMA_STRING, to),
	  .min = 1,
	  .max = PATH_MAX - 1,
	  .value = "FILE",
	  .help = "the new version's utsusu-vm; else the one that is installed with this utsusu" },
	{ .key = "check",
	  ROW(SCHEMA_BOOL, check),
	  .value = "on",
	  .help = "do all of it but the last step, and tell what stands against that" },
	JSON_ROW,
	HELP_ROW,
};

static const struct schema_row resolve_rows[] = {
	NAME_ROW,
	{ .key = "declare-lost-here",
	  ROW(SCHEMA_BOOL, lost_here),
	  .value = "on",
	  .help = "your word that it runs on the other host, which cannot be asked; it ends here" },
	{ .key = "force",
	  ROW(SCHEMA_BOOL, force),
	  .value = "on",
	  .help = "with --run-here, of a VM that was protected: also where the arbiter says that it is another "
		  "host's, or cannot be asked" },
	{ .key = "run-here",
	  ROW(SCHEMA_BOOL, run_here),
	  .value = "on",
	  .help = "your word that it does not and will not run on the other host, which cannot be asked; "
		  "it is this host's again" },
	JSON_ROW,
	HELP_ROW,
};

static const struct schema_row peer_rows[] = {
	{ .key = "fingerprint",
	  ROW(SCHEMA_CHARS, fingerprint),
	  .min = 1,
	  .max = PEER_FINGERPRINT_MAX - 1,
	  .value = "FINGERPRINT",
	  .help = "add: the key it must have, as utsusu peer show tells there" },
	{ .key = "ca",
	  ROW(SCHEMA_STRING, ca),
	  .min = 1,
	  .max = PATH_MAX - 1,
	  .value = "FILE",
	  .help = "add: in place of its key, the certificate of who signs for it" },
	{ .key = "identity",
	  ROW(SCHEMA_STRING, identity),
	  .min = 1,
	  .max = PEER_ADDRESS_MAX,
	  .value = "NAME",
	  .help = "add: with --ca, the name that must be signed for" },
	JSON_ROW,
	HELP_ROW,
};

#define SCHEMA(rows)                                                                               \
	{                                                                                          \
		rows, ARRAY_SIZE(rows), sizeof(struct command_options), 0                          \
	}

static const struct schema plain_schema = SCHEMA(plain_rows);
static const struct schema json_schema = SCHEMA(json_rows);
static const struct schema name_schema = SCHEMA(name_rows);
static const struct schema name_json_schema = SCHEMA(name_json_rows);
static const struct schema run_schema = SCHEMA(run_rows);
static const struct schema baseline_schema = SCHEMA(baseline_rows);
static const struct schema stop_schema = SCHEMA(stop_rows);
static const struct schema move_schema = SCHEMA(move_rows);
static const struct schema protect_schema = SCHEMA(protect_rows);
static const struct schema failover_schema = SCHEMA(failover_rows);
static const struct schema save_schema = SCHEMA(save_rows);
static const struct schema restore_schema = SCHEMA(restore_rows);
static const struct schema upgrade_schema = SCHEMA(upgrade_rows);
static const struct schema resolve_schema = SCHEMA(resolve_rows);
static const struct schema peers_schema = SCHEMA(peer_rows);

const struct command commands[] = {
	{ .name = "run",
	  .arguments = "[NAME]",
	  .summary = "run a VM",
	  .about =
		  "Checks everything first: what is wrong is told in one line, and nothing is made. The VM "
		  "then runs in the foreground, its console on the terminal (Ctrl-] ends it), or with --detach "
		  "in the background.\n"
		  "Grouped values are written KEY=VALUE with commas between them; a comma inside a value is "
		  "doubled. A switch inside a group may be given alone: readonly is readonly=on. Options "
		  "replace what --config FILE says, key by key; --disk and --net replace its whole list. In the "
		  "file, keys are those of the options: {\"kernel\": \"vmlinuz\", \"cpus\": {\"count\": 2}, "
		  "\"memory\": \"1G\", \"disk\": [{\"path\": \"root.img\"}], \"net\": [{\"user\": true}]}.\n",
	  .options = &run_schema,
	  .configures = true,
	  .run = run_vm },
	{ .name = "list",
	  .arguments = "",
	  .summary = "show the VMs of this user on this machine",
	  .about =
		  "A VM that failed is shown as dead until its name is used again or it is stopped; one "
		  "that does not answer as silent.\n",
	  .options = &json_schema,
	  .run = list_vms },
	{ .name = "info",
	  .arguments = "NAME",
	  .summary = "show one VM: its state and what it was made of",
	  .about = "",
	  .options = &name_json_schema,
	  .run = show_info },
	{ .name = "console",
	  .arguments = "NAME",
	  .summary = "attach this terminal to a VM's console",
	  .about =
		  "Shows what was printed last, then passes all keys to the guest but Ctrl-], which detaches. "
		  "The VM goes on.\n",
	  .options = &name_schema,
	  .run = attach_console },
	{ .name = "pause",
	  .arguments = "NAME",
	  .summary = "stop a VM's processors for a while",
	  .about =
		  "The guest does not notice, except by clocks outside of it. A VM that is moved, saved or upgraded "
		  "stays paused.\n",
	  .options = &name_schema,
	  .run = pause_vm },
	{ .name = "resume",
	  .arguments = "NAME",
	  .summary = "let a paused VM go on",
	  .about = "",
	  .options = &name_schema,
	  .run = resume_vm },
	{ .name = "stop",
	  .arguments = "NAME",
	  .summary = "press a VM's power button, and end it by force if that does not help",
	  .about =
		  "Shows how long it still waits. A guest that is starting may not listen to its power button "
		  "yet: it is then pressed again each second. The deadline holds even when this command is "
		  "interrupted.\n",
	  .options = &stop_schema,
	  .run = stop_vm },
	{ .name = "watch",
	  .arguments = "[NAME]",
	  .summary = "show every request that a guest makes",
	  .about =
		  "Shows, live and without any change to the guest, each access to a device and each request behind "
		  "it: who made it, by which instruction, what was answered and how long that took. On a terminal "
		  "as a table to look around in; otherwise, or with --follow, --json, --web, --report, --export or "
		  "--record, as these say. Ctrl-C ends it; the guest goes on. A VM that ends while it is watched "
		  "ends this too, with exit status 0.\n",
	  .options = &plain_schema,
	  .watches = true,
	  .run = watch_vm },
	{ .name = "move",
	  .arguments = "NAME HOST",
	  .summary = "move a running VM to another host",
	  .about =
		  "Both hosts run utsusud and know each other (utsusu peer add). The VM runs on while its memory is "
		  "sent; then it stands still for a moment and goes on there, its clients' connections open. One "
		  "line tells what is happening, why, and when it will be done; at the end, what it cost. Until "
		  "the VM is given, whatever fails leaves it running here, and Ctrl-C cancels. Disks must be "
		  "seen by both hosts, or are copied with --copy-disks; disks and networks must have names that "
		  "both know: /etc/utsusu/host.json.\n"
		  "Exit statuses: 0 it runs there; 1 it runs here as before, is in doubt, or, with "
		  "--allow-postcopy, was lost (the last line says which); others when something stands against "
		  "it.\n",
	  .options = &move_schema,
	  .run = move_vm },
	{ .name = "protect",
	  .arguments = "NAME HOST",
	  .summary = "keep a backup of a running VM on another host",
	  .about =
		  "The backup has the guest's memory, devices and disks as of some milliseconds ago, and goes on from "
		  "there when this host is lost; replies of the guest are held until it has what they are about, so "
		  "no client ever saw what is not there. Both hosts run utsusud, know each other, and name one arbiter, "
		  "an etcd on three machines, in /etc/utsusu/host.json; disks are copied into the other host's own. "
		  "Until the command says that the VM is protected, Ctrl-C ends it and leaves the VM as it was. See "
		  "docs/protecting.md.\n",
	  .options = &protect_schema,
	  .run = protect_vm },
	{ .name = "failover",
	  .arguments = "NAME",
	  .summary = "let a VM's backup take over, as for service of its host",
	  .about =
		  "On either host. The VM goes on there with all that it did; it is unprotected until it is protected "
		  "again. Where no etcd decides it is asked for on the VM's own host; when that is lost, on the "
		  "backup's with --owner-is-dead.\n",
	  .options = &failover_schema,
	  .run = fail_over_vm },
	{ .name = "status",
	  .arguments = "NAME",
	  .summary = "show how a VM's protection goes",
	  .about =
		  "Whose it is, how far its backup is behind, how long replies are held and the guest stands still, "
		  "and what is waited for.\n",
	  .options = &name_json_schema,
	  .run = show_protection },
	{ .name = "arbiter",
	  .arguments = "check",
	  .summary = "tell whether the arbiter of protected VMs can be asked",
	  .about =
		  "Asks each member that /etc/utsusu/host.json names. The exit status is 0 when one answers, which it "
		  "does only with a majority behind it.\n",
	  .options = &json_schema,
	  .takes_rest = true,
	  .run = ask_arbiter },
	{ .name = "save",
	  .arguments = "NAME FILE",
	  .summary = "put a running VM into a file",
	  .about =
		  "The VM stands still while its memory is written; then its process ends, and FILE is the VM. Until "
		  "then whatever fails, Ctrl-C too, leaves it running and makes no FILE. What it had on its disks "
		  "stays there and must not change until it is restored. Needs no utsusud.\n",
	  .options = &save_schema,
	  .run = save_vm },
	{ .name = "restore",
	  .arguments = "FILE [NAME]",
	  .summary = "run a saved VM again",
	  .about =
		  "The guest goes on where it stood; its clock has gone on too. A file runs once: the first restore "
		  "marks it used, and takes that back when it fails before the VM runs. With --clone it stays as it "
		  "is, and another VM called NAME is made of it, with an identity, a generation ID and network "
		  "addresses of its own.\n"
		  "It runs at once, and its memory is loaded while it does: FILE is needed until the command says that "
		  "all is there. Ctrl-C leaves the rest to utsusu-move. With --load-first a damaged FILE is found before "
		  "the guest runs, and not while it does, which is its end.\n",
	  .options = &restore_schema,
	  .run = restore_vm },
	{ .name = "upgrade",
	  .arguments = "NAME",
	  .summary = "let a running VM go on in a new version of utsusu",
	  .about =
		  "Install the new version, then upgrade each VM that runs. A process of the new version is made "
		  "beside the old one; it is given the VM's memory, disks, networks and sockets as they are open, "
		  "and the VM stands still for some milliseconds while its state is handed over, however much "
		  "memory it has. Whatever fails before that, Ctrl-C too, leaves it running in the old version. "
		  "Clients of its socket connect again. Needs no utsusud.\n",
	  .options = &upgrade_schema,
	  .run = upgrade_vm },
	{ .name = "resolve",
	  .arguments = "NAME",
	  .summary = "show what both hosts know of a VM that moved",
	  .about =
		  "When a host or a wire breaks in the very moment in which a VM is handed over, it stands still until "
		  "the other host says whether it runs there; this host keeps asking by itself. If that host is gone "
		  "for good, only a person can say how it ended. Be sure: with --run-here while the VM runs there, "
		  "there are two, and both write to its disks. A word is obeyed only while the other host does not "
		  "answer. Of a VM that was protected it is the arbiter that is asked.\n",
	  .options = &resolve_schema,
	  .run = resolve_vm },
	{ .name = "peer",
	  .arguments = "ACTION",
	  .summary = "tell which hosts this one knows",
	  .about =
		  "peer show: this host's name and the fingerprint of its key. peer add NAME ADDRESS[:PORT]: shows the "
		  "key of the host there and, once you say that it is right, knows it as NAME; that host must add this "
		  "one too. peer list. peer remove NAME. Needs utsusud on this host.\n",
	  .options = &peers_schema,
	  .takes_rest = true,
	  .run = manage_peers },
	{ .name = "doctor",
	  .arguments = "",
	  .summary = "tell what this machine can do for VMs",
	  .about =
		  "For each thing that is missing: what follows from it, and how to get it. The exit status is 3 "
		  "when no VM could run.\n",
	  .options = &json_schema,
	  .run = run_doctor },
	{ .name = "cpu-baseline",
	  .arguments = "[FILE...]",
	  .summary = "find the CPU model that several machines have in common",
	  .about =
		  "Each FILE is what `utsusu cpu-baseline --show` printed on one machine; without any, this machine "
		  "alone is judged. Says which --cpus model runs on all of them, and what each lacks for a better "
		  "one.\n",
	  .options = &baseline_schema,
	  .takes_rest = true,
	  .run = compute_baseline },
	{ .name = "version",
	  .arguments = "",
	  .summary = "print the version",
	  .about = "",
	  .options = &plain_schema,
	  .run = show_version },
	{ .name = "help",
	  .arguments = "[COMMAND]",
	  .summary = "explain a command",
	  .about = "",
	  .options = &plain_schema,
	  .takes_rest = true,
	  .run = show_help },
};

const size_t n_commands = ARRAY_SIZE(commands);
