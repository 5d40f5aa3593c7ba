/* SPDX-License-Identifier: Apache-2.0 */
#include "peer/machine.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/sockios.h>
#include <net/if.h>
#include <stdarg.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include "api/check.h"
#include "base/cleanup.h"
#include "base/fd.h"
#include "host/runtime.h"
#include "host/state_dir.h"
#include "move/marks.h"
#include "net/interface.h"
#include "peer/copies.h"
#include "peer/disk.h"
#include "peer/disk_copy.h"
#include "peer/files.h"

#define MEMINFO "/proc/meminfo"

void notes_add(struct notes *notes, const char *format, ...)
{
	va_list args;

	if (notes->count == NOTES_MAX)
		return;
	va_start(args, format);
	vsnprintf(notes->list[notes->count++], ERROR_MESSAGE_MAX, format, args);
	va_end(args);
}

_printf_(4, 5) static void add(struct problems *problems, int code, enum exit_status status,
			       const char *format, ...)
{
	char text[ERROR_MESSAGE_MAX];
	struct error err = { 0 };
	va_list args;

	va_start(args, format);
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	(void)error_set(&err, code, status, "%s", text);
	problems_add(problems, &err);
}

/* ---- the source ---- */

static bool rename_text(char **text, const char *name)
{
	char *copy = strdup(name);

	free(*text);
	*text = copy;
	return copy != NULL;
}

static bool describe_disk(const struct lists *lists, struct disk_config *disk, uint32_t index,
			  struct peer_disk *ret_disk, struct problems *problems)
{
	const char *name = disk->path[0] == '/' ? lists_name_of_disk(lists, disk->path) : NULL;
	int r;

	if (!name) {
		add(problems, -ENOENT, EXIT_STATUS_RESOURCE,
		    "disk[%u]: %.200s is not in this host's list; add it to %.100s under the name that "
		    "the other host has for it: {\"disks\": {\"NAME\": {\"path\": \"...\"}}}",
		    index, disk->path, lists_path());
		return false;
	}
	r = disk_look(disk->path, ret_disk);
	if (r == 0 && !rename_text(&disk->path, name))
		r = -ENOMEM;
	if (r < 0)
		add(problems, r, EXIT_STATUS_RESOURCE, "disk[%u]: %s: %s", index, name,
		    strerror(-r));
	return r == 0;
}

/* What has no name that both know is left out of what the other host is asked: its path is nothing to it. */
static void describe_disks(const struct lists *lists, struct peer_machine *machine,
			   struct problems *problems)
{
	struct vm_config *config = &machine->config;
	uint32_t kept = 0;

	for (uint32_t i = 0; i < config->n_disks; i++) {
		struct disk_config disk = config->disks[i];

		if (!describe_disk(lists, &disk, i, &machine->disks[kept], problems)) {
			free(disk.path);
			free(disk.filter);
			continue;
		}
		config->disks[kept++] = disk;
	}
	config->n_disks = machine->n_disks = kept;
}

static bool describe_net(const struct lists *lists, struct net_config *net, uint32_t index,
			 struct problems *problems, struct notes *notes)
{
	const char *name;

	switch (net->kind) {
	case NET_USER:
		notes_add(
			notes,
			"net[%u]: passt is started anew there: the guest keeps its address, its open "
			"connections through passt do not survive",
			index);
		return true;
	case NET_FD:
		add(problems, -EINVAL, EXIT_STATUS_RESOURCE,
		    "net[%u]: came as an open descriptor, which the other host cannot have; run the VM "
		    "with --net tap=NAME",
		    index);
		return false;
	case NET_TAP:
		break;
	}
	name = lists_name_of_tap(lists, net->tap);
	if (!name)
		add(problems, -ENOENT, EXIT_STATUS_RESOURCE,
		    "net[%u]: neither %s nor its bridge is in this host's list; add it to %.100s under "
		    "the name that the other host has for that network: {\"networks\": {\"NAME\": "
		    "{\"bridge\": \"...\"}}}",
		    index, net->tap, lists_path());
	return name && rename_text(&net->tap, name);
}

static void describe_nets(const struct lists *lists, struct vm_config *config,
			  struct problems *problems, struct notes *notes)
{
	uint32_t kept = 0;

	for (uint32_t i = 0; i < config->n_nets; i++) {
		struct net_config net = config->nets[i];

		if (!describe_net(lists, &net, i, problems, notes)) {
			free(net.tap);
			free(net.filter);
			continue;
		}
		config->nets[kept++] = net;
	}
	config->n_nets = kept;
}

static void describe_file(int state_fd, const char *key, const char *path, uint64_t limit,
			  struct peer_file *ret_file, struct problems *problems)
{
	int r = path ? files_describe(state_fd, path, limit, ret_file) : 0;

	if (r < 0)
		add(problems, r, EXIT_STATUS_RESOURCE,
		    "%s: %.200s: %s; put it back: the VM needs it when its guest resets", key, path,
		    strerror(-r));
}

void machine_describe(int state_fd, const struct lists *lists, const char *text,
		      struct peer_machine *ret_machine, char **ret_kernel, char **ret_initrd,
		      struct problems *problems, struct notes *notes)
{
	struct vm_config *config = &ret_machine->config;

	vm_config_init(config);
	if (config_decode(config, text, strlen(text), "the VM's configuration", problems))
		return;
	vm_config_complete(config);
	*ret_kernel = TAKE_PTR(config->kernel);
	*ret_initrd = TAKE_PTR(config->initrd);
	describe_file(state_fd, "kernel", *ret_kernel, LIMIT_KERNEL, &ret_machine->kernel,
		      problems);
	describe_file(state_fd, "initrd", *ret_initrd, LIMIT_INITRD, &ret_machine->initrd,
		      problems);
	describe_disks(lists, ret_machine, problems);
	describe_nets(lists, config, problems, notes);
	if (config->gdb.path)
		notes_add(notes, "gdb: the debugger's socket stays behind");
	free(TAKE_PTR(config->gdb.path));
	config->gdb.wait = false;
	if (config->console == CONSOLE_STDIO) {
		notes_add(notes, "console: leaves this terminal; there: utsusu console %s",
			  config->name);
		config->console = CONSOLE_SOCKET;
	}
	config->detach = true;
}

/* ---- the destination ---- */

static void check_version(const struct peer_machine *machine, const char *source,
			  struct problems *problems)
{
	if (machine->version < MOVE_VERSION_MIN || machine->version_min > MOVE_VERSION)
		add(problems, -EPROTO, EXIT_STATUS_HOST,
		    "%s speaks the move protocol's versions %u to %u, this host %u to %u; bring the "
		    "older utsusu up to date",
		    source, machine->version_min, machine->version, MOVE_VERSION_MIN, MOVE_VERSION);
}

const struct list_disk *machine_copied_disk(const struct lists *lists,
					    const struct peer_machine *machine, uint32_t index)
{
	const struct list_disk *here = lists_disk(lists, machine->config.disks[index].path);

	return machine->copy_disks && here && here->copy ? here : NULL;
}

/* The rest of a copy that did not come to its end may be written over. */
static bool is_incomplete(const char *path)
{
	_cleanup_(fd_closep) int state_fd = -1;
	struct marks *marks = NULL;
	struct error ignored = { 0 };
	struct stat st;
	bool incomplete = stat(path, &st) == 0 && state_dir_open(&state_fd, &ignored) == 0 &&
			  marks_open(&marks, &ignored) == 0 &&
			  copies_incomplete(state_fd, marks, &st, NULL) == 1;

	marks_close(marks);
	return incomplete;
}

/* A disk that both hosts should have. Where it could be a copy, that is told instead of what differs. */
static int check_shared(const struct peer_machine *machine, const struct list_disk *here,
			const struct peer_disk *theirs, bool readonly, struct error *err)
{
	struct error differs = { 0 };
	int r = disk_compare(here->name, here->path, theirs, readonly, &differs);

	if (r == 0)
		return 0;
	if (here->copy)
		return error_set(err, r, EXIT_STATUS_RESOURCE,
				 "disk %s: is this host's own (\"copy\" in its list); to copy the "
				 "VM's disk into it: utsusu move --copy-disks",
				 here->name);
	if (machine->copy_disks)
		return error_set(
			err, r, EXIT_STATUS_RESOURCE,
			"disk %s: is not the VM's own, and this host's list does not allow copies "
			"into it: add \"copy\": true to it in %.200s",
			here->name, lists_path());
	*err = differs;
	return r;
}

/* Shared, it would be ahead of what its backup knows when that takes over. */
static int check_mirrored(const struct list_disk *here, struct error *err)
{
	return error_set(
		err, -EINVAL, EXIT_STATUS_RESOURCE,
		"disk %s: a protected VM writes to it, so its backup needs one of its own: add "
		"\"copy\": true to this host's in %.200s",
		here->name, lists_path());
}

static int check_disk(const struct lists *lists, const struct peer_machine *machine, uint32_t i,
		      const struct list_disk *here, struct error *err)
{
	const bool readonly = machine->config.disks[i].readonly;

	if (machine_copied_disk(lists, machine, i))
		return disk_copy_judge(here, &machine->disks[i], is_incomplete(here->path), err);
	if (machine->protect && !readonly)
		return check_mirrored(here, err);
	return check_shared(machine, here, &machine->disks[i], readonly, err);
}

static void check_disks(const struct lists *lists, const struct peer_machine *machine,
			struct problems *problems)
{
	for (uint32_t i = 0; i < machine->config.n_disks; i++) {
		const struct disk_config *disk = &machine->config.disks[i];
		const struct list_disk *here = lists_disk(lists, disk->path);
		struct error err = { 0 };

		if (!here)
			add(problems, -ENOENT, EXIT_STATUS_RESOURCE,
			    "disk %.64s: is not in this host's list; add it to %.200s: {\"disks\": "
			    "{\"%.64s\": {\"path\": \"...\"}}}",
			    disk->path, lists_path(), disk->path);
		else if (check_disk(lists, machine, i, here, &err) < 0)
			problems_add(problems, &err);
	}
}

static void check_network(const struct lists *lists, const struct net_config *net,
			  struct problems *problems)
{
	const struct list_network *here = lists_network(lists, net->tap);

	if (!here)
		add(problems, -ENOENT, EXIT_STATUS_RESOURCE,
		    "network %.15s: is not in this host's list; add it to %.200s: {\"networks\": "
		    "{\"%.15s\": {\"bridge\": \"...\"}}}",
		    net->tap, lists_path(), net->tap);
	else if (here->bridge && !interface_index(here->bridge))
		add(problems, -ENODEV, EXIT_STATUS_RESOURCE,
		    "network %s: there is no bridge %s here; make it, or correct this host's list",
		    here->name, here->bridge);
	else if (here->tap && !interface_index(here->tap))
		add(problems, -ENODEV, EXIT_STATUS_RESOURCE,
		    "network %s: there is no tap %s here; make it: ip tuntap add %s mode tap",
		    here->name, here->tap, here->tap);
}

/* What the kernel would give without swapping: 0 when it does not tell. */
static uint64_t available_memory(void)
{
	FILE *file = fopen(MEMINFO, "re");
	unsigned long long kib = 0;
	char line[128];

	while (file && fgets(line, sizeof(line), file))
		if (sscanf(line, "MemAvailable: %llu kB", &kib) == 1)
			break;
	if (file)
		fclose(file);
	return kib * 1024;
}

static void check_memory(const struct peer_machine *machine, struct problems *problems)
{
	uint64_t available = available_memory();

	/* Huge pages are reserved ones, all of them: check_host counts. */
	if (machine->config.memory.hugepages == MEMORY_HUGE_ON || !available)
		return;
	if (machine->populated > available)
		add(problems, -ENOMEM, EXIT_STATUS_HOST,
		    "memory: the guest uses %llu MiB and this host has %llu MiB available; free some",
		    (unsigned long long)(machine->populated / MIB(1)),
		    (unsigned long long)(available / MIB(1)));
}

/* Its mark would go when this one runs here, and with it the only word here of where it lives. A source that has this name for another
 * VM is the host where it lived: there it has ended. */
static bool is_anothers(const struct mark_given *given, const char *uuid, const char *source)
{
	return given->result == MARK_RAN && strcmp(given->uuid, uuid) != 0 &&
	       strcmp(given->peer, source) != 0;
}

static void check_name(const char *name, const char *uuid, const char *source,
		       struct problems *problems)
{
	struct marks *marks = NULL;
	struct mark_given given;
	struct error err = { 0 };
	int r = marks_open(&marks, &err);

	if (r < 0) {
		problems_add(problems, &err);
		return;
	}
	r = marks_read_given(marks, name, &given);
	if (r < 0 || (r == 1 && given.result == MARK_OPEN))
		add(problems, -EBUSY, EXIT_STATUS_BUSY,
		    "%s: a VM of this name was given away by this host and it is not known whether it "
		    "ran; first, here: utsusu resolve %s",
		    name, name);
	else if (r == 1 && is_anothers(&given, uuid, source))
		add(problems, -EEXIST, EXIT_STATUS_BUSY,
		    "%s: another VM of this name moved from this host to %s and lives there; run this "
		    "one under another name, or, when that one is gone for good, here: utsusu resolve "
		    "%s --run-here",
		    name, given.peer, name);
	marks_close(marks);
}

/* How this host guards itself is not the peer's to say. */
static void check_sandbox(const struct vm_config *config, struct problems *problems)
{
	if (!config->sandbox)
		add(problems, -EPERM, EXIT_STATUS_USAGE,
		    "sandbox: is off, and no VM that comes from another host goes without; run it "
		    "without --no-sandbox to move it");
}

/* Nor is it whether this host lets others on the wire between read and write a guest's memory: both sides' people say so. */
static void check_plain(const struct lists *lists, const struct peer_machine *machine,
			struct problems *problems)
{
	if (machine->plain && lists->moves.plain == LIST_PLAIN_REFUSE)
		add(problems, -EPERM, EXIT_STATUS_USAGE,
		    "plain: this host takes no VM without TLS; leave --plain out, or allow it in "
		    "%.200s: {\"moves\": {\"plain\": \"allow\"}}",
		    lists_path());
}

/* What has no name of ours, a peer may not name. */
static void check_paths(const struct vm_config *config, struct problems *problems)
{
	if (config->kernel || config->initrd || config->gdb.path)
		add(problems, -EINVAL, EXIT_STATUS_USAGE,
		    "the request names paths of this host; use the same version of utsusu on both hosts");
	for (uint32_t i = 0; i < config->n_nets; i++)
		if (config->nets[i].kind == NET_FD)
			add(problems, -EINVAL, EXIT_STATUS_USAGE,
			    "net[%u]: names a descriptor of this host; use the same version of utsusu "
			    "on both hosts",
			    i);
}

/* Eight of the token's digits tell moves apart; an interface has fifteen letters. */
static void tap_name(const char *token, uint32_t index, char ret_name[IFNAMSIZ])
{
	snprintf(ret_name, IFNAMSIZ, "ut%.8s.%u", token, index);
}

static int localise_net(const struct lists *lists, struct net_config *net, const char *token,
			uint32_t index)
{
	const struct list_network *here;
	char name[IFNAMSIZ];

	if (net->kind != NET_TAP)
		return 0;
	here = lists_network(lists, net->tap);
	if (!here)
		return -ENOENT;
	tap_name(token, index, name);
	return rename_text(&net->tap, here->tap ? here->tap : name) ? 0 : -ENOMEM;
}

/* Networks that this host has not are told already; disks are not its own yet. */
static void keep_own_nets(const struct lists *lists, struct vm_config *config)
{
	uint32_t kept = 0;

	for (uint32_t i = 0; i < config->n_nets; i++) {
		struct net_config net = config->nets[i];

		if (localise_net(lists, &net, "0", i) < 0) {
			free(net.tap);
			free(net.filter);
			continue;
		}
		config->nets[kept++] = net;
	}
	config->n_nets = kept;
}

static void drop_disks(struct vm_config *config)
{
	while (config->n_disks) {
		const struct disk_config *disk = &config->disks[--config->n_disks];

		free(disk->path);
		free(disk->filter);
	}
}

/* The rest as `utsusu run` judges it. */
static void check_rest(const struct lists *lists, const struct peer_machine *machine,
		       struct problems *problems)
{
	_cleanup_(freep) struct vm_config *config = calloc(1, sizeof(*config));
	json_auto_t *json = schema_encode_json(&config_schema, &machine->config);
	struct schema_source source = { .file = "request", .problems = problems };

	if (!config)
		return;
	vm_config_init(config);
	if (schema_decode_json(&config_schema, config, json, &source) == 0) {
		vm_config_complete(config);
		if (machine->kernel.sha256[0])
			config->kernel = strdup("kernel");
		if (machine->initrd.sha256[0])
			config->initrd = strdup("initrd");
		vm_config_check(config, problems);
		free(TAKE_PTR(config->kernel));
		free(TAKE_PTR(config->initrd));
		drop_disks(config);
		keep_own_nets(lists, config);
		check_host(config, problems);
	}
	vm_config_release(config);
}

void machine_check(const struct lists *lists, const struct peer_machine *machine,
		   const char *source, struct problems *problems)
{
	const struct vm_config *config = &machine->config;
	size_t before = problems->count;

	check_version(machine, source, problems);
	if (!config->name[0] || !config->uuid[0] || machine->n_disks != config->n_disks)
		add(problems, -EINVAL, EXIT_STATUS_USAGE,
		    "the request is not whole; use the same version of utsusu on both hosts");
	check_paths(config, problems);
	if (problems->count != before)
		return;
	check_sandbox(config, problems);
	check_plain(lists, machine, problems);
	check_name(config->name, config->uuid, source, problems);
	check_disks(lists, machine, problems);
	for (uint32_t i = 0; i < config->n_nets; i++)
		if (config->nets[i].kind == NET_TAP)
			check_network(lists, &config->nets[i], problems);
	check_memory(machine, problems);
	check_rest(lists, machine, problems);
}

int machine_localise(const struct lists *lists, struct vm_config *config, const char *token,
		     const char *kernel, const char *initrd)
{
	int r = 0;

	for (uint32_t i = 0; r == 0 && i < config->n_disks; i++) {
		const struct list_disk *here = lists_disk(lists, config->disks[i].path);

		if (!here)
			return -ENOENT;
		r = rename_text(&config->disks[i].path, here->path) ? 0 : -ENOMEM;
	}
	for (uint32_t i = 0; r == 0 && i < config->n_nets; i++)
		r = localise_net(lists, &config->nets[i], token, i);
	if (r == 0 && kernel && !rename_text(&config->kernel, kernel))
		r = -ENOMEM;
	if (r == 0 && initrd && !rename_text(&config->initrd, initrd))
		r = -ENOMEM;
	vm_config_complete(config);
	return r;
}

static int join(int sock, const char *tap, const char *bridge)
{
	struct ifreq request = { 0 };

	request.ifr_ifindex = (int)interface_index(tap);
	snprintf(request.ifr_name, sizeof(request.ifr_name), "%s", bridge);
	if (!request.ifr_ifindex || (ioctl(sock, SIOCBRADDIF, &request) < 0 && errno != EBUSY))
		return request.ifr_ifindex ? -errno : -ENODEV;
	request = (struct ifreq){ 0 };
	snprintf(request.ifr_name, sizeof(request.ifr_name), "%s", tap);
	if (ioctl(sock, SIOCGIFFLAGS, &request) < 0)
		return -errno;
	request.ifr_flags |= IFF_UP;
	return ioctl(sock, SIOCSIFFLAGS, &request) < 0 ? -errno : 0;
}

int machine_join_bridges(const struct lists *lists, const struct peer_machine *machine,
			 const char *token, struct error *err)
{
	_cleanup_(fd_closep) int sock = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	for (uint32_t i = 0; i < machine->config.n_nets; i++) {
		const struct net_config *net = &machine->config.nets[i];
		const struct list_network *here = net->kind == NET_TAP
							  ? lists_network(lists, net->tap)
							  : NULL;
		char tap[IFNAMSIZ];
		int r;

		if (!here || !here->bridge)
			continue;
		tap_name(token, i, tap);
		r = join(sock, tap, here->bridge);
		if (r < 0)
			return error_set(
				err, r, EXIT_STATUS_RESOURCE,
				"network %s: the tap %s cannot join the bridge %s: %s; see ip -d "
				"link show %s",
				here->name, tap, here->bridge, strerror(-r), here->bridge);
	}
	return 0;
}
