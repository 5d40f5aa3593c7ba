/* SPDX-License-Identifier: Apache-2.0 */
#include "api/config.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stddef.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "api/request.h"
#include "base/cleanup.h"
#include "base/fd.h"
#include "host/runtime.h"

#define SOCKET_PATH_MAX (sizeof(((struct sockaddr_un *)NULL)->sun_path) - 1)

static int valid_name(const char *text, const char **ret_why)
{
	*ret_why = "is no name of a VM; use a-z, 0-9 and -, beginning with a letter or digit";
	return runtime_name_valid(text) ? 0 : -EINVAL;
}

static int valid_uuid(const char *text, const char **ret_why)
{
	*ret_why = "is no UUID; write 8-4-4-4-12 hexadecimal digits, or leave it out";
	return uuid_valid(text) ? 0 : -EINVAL;
}

/* virtio 1.2, 5.2.6: the serial is ASCII; udev makes file names of it. */
static int valid_serial(const char *text, const char **ret_why)
{
	*ret_why = "is no serial; use letters, digits, '-', '_' and '.'";
	for (; *text; text++)
		if (!isalnum((unsigned char)*text) && !strchr("-_.", *text))
			return -EINVAL;
	return 0;
}

static const char *const cpu_models[] = { "host", "v2", "v3", NULL };
static const char *const hugepages[] = { "off", "thp", "on", NULL };
static const char *const dirty_choices[] = { "auto", "bitmap", "ring", NULL };
static const char *const consoles[] = { "auto", "stdio", "pty", "socket", NULL };

#define ROW(type_, member, key_)                                                                   \
	.key = key_, .type = type_, .offset = offsetof(type_of_rows, member)

#define type_of_rows struct cpus_config
static const struct schema_row cpus_rows[] = {
	{ ROW(SCHEMA_UINT, count, "count"), .flags = SCHEMA_FIRST, .min = 1, .max = LIMIT_VCPUS,
	  .value = "N", .fallback = "1", .help = "vCPUs that run from the start" },
	{ ROW(SCHEMA_UINT, max, "max"), .min = 1, .max = LIMIT_VCPUS, .value = "M",
	  .help = "room for vCPUs that come later; as many as run from the start when not given" },
	{ ROW(SCHEMA_ENUM, model, "model"), .names = cpu_models, .value = "MODEL",
	  .fallback = "host",
	  .help = "what the guest sees: this host's CPU, or an x86-64 level that hosts have in common" },
};
#undef type_of_rows
static const struct schema cpus_schema = { cpus_rows, ARRAY_SIZE(cpus_rows),
					   sizeof(struct cpus_config) };

#define type_of_rows struct memory_config
static const struct schema_row memory_rows[] = {
	{ ROW(SCHEMA_SIZE, size, "size"), .flags = SCHEMA_FIRST, .min = MIB(32),
	  .max = LIMIT_MEMORY, .step = MIB(2), .value = "SIZE", .fallback = "512M",
	  .help = "RAM of the guest" },
	{ ROW(SCHEMA_ENUM, hugepages, "hugepages"), .names = hugepages, .value = "MODE",
	  .fallback = "thp",
	  .help = "thp: huge pages where the host finds them; on: reserved ones; off: pages of 4 KiB" },
	{ ROW(SCHEMA_ENUM, dirty, "dirty"), .names = dirty_choices, .value = "LOGGER",
	  .fallback = "auto",
	  .help = "how written pages are found later: KVM's bitmap or its ring" },
};
#undef type_of_rows
static const struct schema memory_schema = { memory_rows, ARRAY_SIZE(memory_rows),
					     sizeof(struct memory_config) };

#define type_of_rows struct disk_config
static const struct schema_row disk_rows[] = {
	{ ROW(SCHEMA_STRING, path, "path"), .flags = SCHEMA_REQUIRED, .min = 1, .max = PATH_MAX - 1,
	  .value = "FILE", .help = "a raw file or a block device; no format is ever guessed" },
	{ ROW(SCHEMA_BOOL, readonly, "readonly"), .value = "on", .fallback = "off",
	  .help = "the guest cannot write; several VMs may share such a disk" },
	{ ROW(SCHEMA_CHARS, serial, "serial"), .min = 1, .max = LIMIT_SERIAL, .value = "TEXT",
	  .valid = valid_serial, .help = "the serial that the guest reads" },
	{ ROW(SCHEMA_UINT, queues, "queues"), .min = 1, .max = LIMIT_QUEUES, .value = "N",
	  .help = "queues of the device; one for each vCPU when not given" },
	{ ROW(SCHEMA_BOOL, direct, "direct"), .value = "on", .fallback = "on",
	  .help = "past the host's page cache, where its file system allows it" },
	{ ROW(SCHEMA_STRING, filter, "filter"), .min = 1, .max = 255, .value = "FILTER",
	  .help = "for tests, delay:ms=5 or fail:every=100 or drop, joined by +: what a bad disk does" },
};
#undef type_of_rows
static const struct schema disk_schema = { disk_rows, ARRAY_SIZE(disk_rows),
					   sizeof(struct disk_config) };

#define type_of_rows struct net_config
static const struct schema_row net_rows[] = {
	{ ROW(SCHEMA_STRING, tap, "tap"), .flags = SCHEMA_CHOICE, .choice = NET_TAP, .min = 1,
	  .max = 15, /* IFNAMSIZ */
	  .value = "NAME", .help = "a tap interface of this host" },
	{ ROW(SCHEMA_BOOL, user, "user"), .flags = SCHEMA_CHOICE, .choice = NET_USER, .value = "on",
	  .help = "a network without privileges, through passt" },
	{ ROW(SCHEMA_FD, fd, "fd"), .flags = SCHEMA_CHOICE, .choice = NET_FD, .min = 3,
	  .max = INT_MAX, .value = "N",
	  .help = "an open tap descriptor that the caller hands over" },
	{ ROW(SCHEMA_MAC, mac, "mac"), .value = "ADDRESS",
	  .help = "the guest's address; made from the VM's name when not given" },
	{ ROW(SCHEMA_UINT, queues, "queues"), .min = 1, .max = LIMIT_QUEUES, .value = "N",
	  .help = "queue pairs; one when not given" },
	{ ROW(SCHEMA_BOOL, vhost, "vhost"), .value = "on", .fallback = "off",
	  .help = "the host's kernel moves the packets (needs a tap)" },
	{ ROW(SCHEMA_STRING, filter, "filter"), .min = 1, .max = 255, .value = "FILTER",
	  .help = "for tests, delay:ms=5 or drop:nth=100, joined by +: what a bad wire does" },
};
#undef type_of_rows
static const struct schema net_schema = { net_rows, ARRAY_SIZE(net_rows), sizeof(struct net_config),
					  offsetof(struct net_config, kind) };

#define type_of_rows struct gdb_config
static const struct schema_row gdb_rows[] = {
	{ ROW(SCHEMA_STRING, path, "path"), .flags = SCHEMA_FIRST, .min = 1, .max = SOCKET_PATH_MAX,
	  .value = "SOCKET",
	  .help = "where GDB finds the guest: (gdb) target remote SOCKET; only this user can connect" },
	{ ROW(SCHEMA_BOOL, wait, "wait"), .value = "on", .fallback = "off",
	  .help = "the guest stands before its first instruction until GDB lets it go on" },
};
#undef type_of_rows
static const struct schema gdb_schema = { gdb_rows, ARRAY_SIZE(gdb_rows),
					  sizeof(struct gdb_config) };

#define type_of_rows struct vm_config
static const struct schema_row config_rows[] = {
	{ ROW(SCHEMA_CHARS, name, "name"), .flags = SCHEMA_POSITIONAL, .min = 1,
	  .max = LIMIT_NAME - 1, .value = "NAME", .valid = valid_name,
	  .help = "what the VM is called on this host; vm1, vm2, ... when not given" },
	{ ROW(SCHEMA_CHARS, uuid, "uuid"), .min = 1, .max = UUID_TEXT - 1, .value = "UUID",
	  .valid = valid_uuid,
	  .help = "which VM this is, on whatever host it runs; made at random when not given" },
	{ ROW(SCHEMA_STRING, kernel, "kernel"), .min = 1, .max = PATH_MAX - 1, .value = "FILE",
	  .help = "a Linux kernel (bzImage) or an ELF image with a PVH entry" },
	{ ROW(SCHEMA_STRING, initrd, "initrd"), .min = 1, .max = PATH_MAX - 1, .value = "FILE",
	  .help = "the initial RAM disk" },
	{ ROW(SCHEMA_STRING, cmdline, "cmdline"), .max = LIMIT_CMDLINE - 1, .value = "TEXT",
	  .help = "the kernel's command line" },
	{ ROW(SCHEMA_GROUP, cpus, "cpus"), .group = &cpus_schema,
	  .help = "the guest's processors" },
	{ ROW(SCHEMA_GROUP, memory, "memory"), .group = &memory_schema,
	  .help = "the guest's memory" },
	{ ROW(SCHEMA_LIST, disks, "disk"), .group = &disk_schema, .max = LIMIT_DISKS,
	  .count_offset = offsetof(struct vm_config, n_disks),
	  .help = "a disk; may be given several times" },
	{ ROW(SCHEMA_LIST, nets, "net"), .group = &net_schema, .max = LIMIT_NETS,
	  .count_offset = offsetof(struct vm_config, n_nets),
	  .help = "a network device; may be given several times" },
	{ ROW(SCHEMA_ENUM, console, "console"), .names = consoles, .value = "KIND",
	  .fallback = "auto",
	  .help = "where the console goes; auto is stdio, or a socket for `utsusu console` when detached" },
	{ ROW(SCHEMA_ENUM, watch, "watch"), .names = api_watch_modes, .value = "MODE",
	  .fallback = "off",
	  .help = "record requests from the first instruction on, for `utsusu watch --history`; all: doorbells too" },
	{ ROW(SCHEMA_GROUP, gdb, "gdb"), .group = &gdb_schema, .help = "a debugger for the guest" },
	{ ROW(SCHEMA_BOOL, rng, "rng"), .value = "on", .fallback = "on",
	  .help = "a source of random numbers for the guest" },
	{ ROW(SCHEMA_BOOL, sandbox, "sandbox"), .value = "on", .fallback = "on",
	  .help = "confine the VM's process; off only to debug it" },
	{ ROW(SCHEMA_BOOL, detach, "detach"), .value = "on", .fallback = "off",
	  .help = "return once the guest runs, and leave it running" },
};
#undef type_of_rows

const struct schema config_schema = { config_rows, ARRAY_SIZE(config_rows),
				      sizeof(struct vm_config) };

/* The parser's words are for programmers; the place is what a person needs. */
static size_t syntax_problem(const char *name, const json_error_t *json, struct problems *problems)
{
	struct error err = { 0 };

	if (json_error_code(json) == json_error_duplicate_key)
		error_set(&err, -EINVAL, EXIT_STATUS_USAGE, "%s:%d:%d: %s; keep one of them", name,
			  json->line, json->column, json->text);
	else
		error_set(&err, -EINVAL, EXIT_STATUS_USAGE,
			  "%s:%d:%d: is no JSON: %s; see docs/getting-started.md for an example",
			  name, json->line, json->column, json->text);
	problems_add(problems, &err);
	return 1;
}

size_t config_decode(struct vm_config *config, const char *text, size_t len, const char *name,
		     struct problems *problems)
{
	struct schema_source source = { .file = name, .problems = problems };
	json_error_t where;
	json_auto_t *json = json_loadb(text, len, JSON_REJECT_DUPLICATES, &where);

	if (!json)
		return syntax_problem(name, &where, problems);
	return schema_decode_json(&config_schema, config, json, &source);
}

static size_t file_problem(const char *path, int code, const char *way_out,
			   struct problems *problems)
{
	struct error err = { 0 };

	error_set(&err, code, EXIT_STATUS_RESOURCE, "--config: %s: %s; %s", path, strerror(-code),
		  way_out);
	problems_add(problems, &err);
	return 1;
}

/* Regular files only (a FIFO would hang us), within the limit; the text is the caller's to free. */
static int read_text(int fd, char **ret_text, size_t *ret_len)
{
	_cleanup_(freep) char *text = NULL;
	struct stat st;
	int r;

	if (fstat(fd, &st) < 0)
		return -errno;
	if (!S_ISREG(st.st_mode))
		return -EINVAL;
	if ((uint64_t)st.st_size > LIMIT_CONFIG_FILE)
		return -EFBIG;
	text = malloc((size_t)st.st_size + 1);
	if (!text)
		return -ENOMEM;
	r = fd_read_at(fd, text, (size_t)st.st_size, 0);
	if (r < 0)
		return r;
	*ret_text = TAKE_PTR(text);
	*ret_len = (size_t)st.st_size;
	return 0;
}

size_t config_read_file(struct vm_config *config, const char *path, struct problems *problems)
{
	_cleanup_(fd_closep) int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
	_cleanup_(freep) char *text = NULL;
	size_t len;
	int r;

	if (fd < 0)
		return file_problem(path, -errno, "give a file that can be read", problems);
	r = read_text(fd, &text, &len);
	if (r < 0)
		return file_problem(path, r, "give a JSON file of at most 1M", problems);
	return config_decode(config, text, len, path, problems);
}

int config_to_fd(const struct vm_config *config, int *ret_fd)
{
	json_auto_t *json = schema_encode_json(&config_schema, config);
	_cleanup_(freep) char *text = json ? json_dumps(json, JSON_COMPACT) : NULL;
	_cleanup_(fd_closep) int fd = -1;
	int r;

	if (!text)
		return -ENOMEM;
	fd = memfd_create("configuration", MFD_ALLOW_SEALING);
	if (fd < 0)
		return -errno;
	r = fd_write_all(fd, text, strlen(text));
	if (r < 0)
		return r;
	if (fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE | F_SEAL_SEAL) < 0)
		return -errno;
	*ret_fd = TAKE_FD(fd);
	return 0;
}

int config_from_fd(int fd, struct vm_config *config, struct error *err)
{
	struct problems problems = { 0 };
	_cleanup_(freep) char *text = NULL;
	size_t len;
	int r;

	vm_config_init(config);
	r = read_text(fd, &text, &len);
	if (r < 0)
		return error_set(err, r, EXIT_STATUS_USAGE,
				 "configuration: cannot be read (%s); start VMs with utsusu run",
				 strerror(-r));
	config_decode(config, text, len, "configuration", &problems);
	vm_config_complete(config);
	vm_config_check(config, &problems);
	if (!problems.count)
		return 0;
	*err = problems.list[0];
	return err->code;
}
