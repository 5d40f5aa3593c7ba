/* SPDX-License-Identifier: Apache-2.0 */
#include "peer/lists.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <net/if.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "host/state_dir.h"
#include "peer/named.h"
#include "peer/peers.h"

#define DEFAULT_PATH "/etc/utsusu/host.json"
#define FILE_MAX MIB(1)

DEFINE_CLEANUP(struct lists, lists_free, listsp)

static int valid_path(const char *text, const char **ret_why)
{
	*ret_why = "is not an absolute path; give one";
	return text[0] == '/' ? 0 : -EINVAL;
}

static int valid_interface(const char *text, const char **ret_why)
{
	*ret_why = "is no name of an interface; ip link shows those there are";
	return strpbrk(text, "/ \t\n%") || strcmp(text, ".") == 0 || strcmp(text, "..") == 0
		       ? -EINVAL
		       : 0;
}

static const struct schema_row disk_rows[] = {
	{ .key = "path",
	  .type = SCHEMA_STRING,
	  .flags = SCHEMA_REQUIRED,
	  .offset = offsetof(struct list_disk, path),
	  .min = 1,
	  .max = PATH_MAX - 1,
	  .valid = valid_path,
	  .value = "FILE",
	  .help = "a raw file or a block device of this host" },
	{ .key = "copy",
	  .type = SCHEMA_BOOL,
	  .offset = offsetof(struct list_disk, copy),
	  .value = "true",
	  .help = "this host's own: move --copy-disks may copy a disk into it" },
	{ .key = "overwrite",
	  .type = SCHEMA_BOOL,
	  .offset = offsetof(struct list_disk, overwrite),
	  .value = "true",
	  .help = "such a copy may replace what it holds" },
};
static const struct schema disk_schema = { disk_rows, ARRAY_SIZE(disk_rows),
					   sizeof(struct list_disk), 0 };

#define INTERFACE_ROW(member, help_)                                                               \
	{                                                                                          \
		.key = #member, .type = SCHEMA_STRING,                                             \
		.offset = offsetof(struct list_network, member), .min = 1, .max = IFNAMSIZ - 1,    \
		.valid = valid_interface, .value = "NAME", .help = help_                           \
	}
static const struct schema_row network_rows[] = {
	INTERFACE_ROW(tap, "a tap interface of this host, for one VM"),
	INTERFACE_ROW(bridge, "a bridge of this host, in which each VM gets a tap"),
};
static const struct schema network_schema = { network_rows, ARRAY_SIZE(network_rows),
					      sizeof(struct list_network), 0 };

static const char *const plain_names[] = {
	[LIST_PLAIN_REFUSE] = "refuse",
	[LIST_PLAIN_ALLOW] = "allow",
	NULL,
};
static const struct schema_row moves_rows[] = {
	{ .key = "plain",
	  .type = SCHEMA_ENUM,
	  .offset = offsetof(struct list_moves, plain),
	  .names = plain_names,
	  .fallback = "refuse",
	  .value = "refuse|allow",
	  .help = "VMs that come without TLS" },
	{ .key = "kept_files",
	  .type = SCHEMA_SIZE,
	  .offset = offsetof(struct list_moves, kept_files),
	  .max = GIB(1024),
	  .step = 1,
	  .fallback = "4G",
	  .value = "SIZE",
	  .help = "kernels and initial RAM disks that are kept for the next VM" },
};
static const struct schema moves_schema = { moves_rows, ARRAY_SIZE(moves_rows),
					    sizeof(struct list_moves), 0 };

static void add_problem(const struct schema_source *source, const char *message)
{
	struct error err = { 0 };

	(void)error_set(&err, -EINVAL, EXIT_STATUS_USAGE, "%s: %s", source->file, message);
	problems_add(source->problems, &err);
}

static int take_disk(void *ctx, const char *name, const json_t *json,
		     const struct schema_source *source)
{
	struct lists *lists = ctx;
	struct list_disk *disk = &lists->disks[lists->n_disks];

	if (lists->n_disks == LIMIT_PEER_DISKS)
		return -E2BIG;
	schema_init(&disk_schema, disk);
	lists->n_disks++;
	if (!peer_name_valid(name))
		add_problem(source, "is no name; use at most 63 letters, digits, '.', '-' and '_'");
	else
		snprintf(disk->name, sizeof(disk->name), "%s", name);
	(void)schema_decode_json(&disk_schema, disk, json, source);
	return 0;
}

static int take_network(void *ctx, const char *name, const json_t *json,
			const struct schema_source *source)
{
	struct lists *lists = ctx;
	struct list_network *network = &lists->networks[lists->n_networks];

	if (lists->n_networks == LIMIT_PEER_DISKS)
		return -E2BIG;
	schema_init(&network_schema, network);
	lists->n_networks++;
	if (!peer_name_valid(name) || strlen(name) >= LIST_NETWORK_NAME)
		add_problem(source, "is no name; use at most 15 letters, digits, '.', '-' and '_'");
	else
		snprintf(network->name, sizeof(network->name), "%.15s", name);
	if (schema_decode_json(&network_schema, network, json, source) == 0 &&
	    !network->tap == !network->bridge)
		add_problem(source, "give either tap or bridge");
	return 0;
}

static void init(struct lists *lists)
{
	schema_init(&moves_schema, &lists->moves);
	schema_init(&list_arbiter_schema, &lists->arbiter);
	schema_init(&list_protect_schema, &lists->protect);
}

int lists_decode(const char *text, size_t len, const char *name, struct lists *lists,
		 struct error *err)
{
	const struct named_group groups[] = {
		{ "disks", .take = take_disk, .ctx = lists },
		{ "networks", .take = take_network, .ctx = lists },
		{ "moves", .schema = &moves_schema, .ctx = &lists->moves },
		{ "arbiter", .schema = &list_arbiter_schema, .ctx = &lists->arbiter,
		  .word = "manual", .is_word = &lists->arbiter.manual },
		{ "protect", .schema = &list_protect_schema, .ctx = &lists->protect },
	};
	int r;

	init(lists);
	r = named_decode(text, len, name, groups, ARRAY_SIZE(groups), err);
	return r < 0 ? r : list_arbiter_check(&lists->arbiter, name, err);
}

const char *lists_path(void)
{
	const char *own = getenv("UTSUSU_HOST_CONFIG");

	return own && own[0] ? own : DEFAULT_PATH;
}

int lists_load(struct lists **ret_lists, struct error *err)
{
	_cleanup_(listsp) struct lists *lists = calloc(1, sizeof(*lists));
	_cleanup_(freep) char *text = NULL;
	size_t len;
	int r = lists ? state_dir_read(AT_FDCWD, lists_path(), FILE_MAX, &text, &len) : -ENOMEM;

	if (lists)
		init(lists);
	if (r == 0)
		r = lists_decode(text, len, lists_path(), lists, err);
	if (r < 0 && r != -ENOENT)
		return error_set(err, r, EXIT_STATUS_HOST, "%.200s: %s; see that it can be read",
				 lists_path(), strerror(-r));
	*ret_lists = TAKE_PTR(lists);
	return 0;
}

void lists_free(struct lists *lists)
{
	if (!lists)
		return;
	for (uint32_t i = 0; i < lists->n_disks; i++)
		schema_release(&disk_schema, &lists->disks[i]);
	for (uint32_t i = 0; i < lists->n_networks; i++)
		schema_release(&network_schema, &lists->networks[i]);
	schema_release(&list_arbiter_schema, &lists->arbiter);
	free(lists);
}

const struct list_disk *lists_disk(const struct lists *lists, const char *name)
{
	for (uint32_t i = 0; i < lists->n_disks; i++)
		if (strcmp(lists->disks[i].name, name) == 0)
			return &lists->disks[i];
	return NULL;
}

const struct list_network *lists_network(const struct lists *lists, const char *name)
{
	for (uint32_t i = 0; i < lists->n_networks; i++)
		if (strcmp(lists->networks[i].name, name) == 0)
			return &lists->networks[i];
	return NULL;
}

static bool same(const struct stat *a, const struct stat *b)
{
	if (S_ISBLK(a->st_mode) && S_ISBLK(b->st_mode))
		return a->st_rdev == b->st_rdev;
	return a->st_dev == b->st_dev && a->st_ino == b->st_ino;
}

const char *lists_name_of_disk(const struct lists *lists, const char *path)
{
	struct stat wanted, st;

	if (stat(path, &wanted) < 0)
		return NULL;
	for (uint32_t i = 0; i < lists->n_disks; i++)
		if (stat(lists->disks[i].path, &st) == 0 && same(&wanted, &st))
			return lists->disks[i].name;
	return NULL;
}

/* The bridge that an interface is in; "" when it is in none. */
static void bridge_of(const char *interface, char ret_bridge[IFNAMSIZ])
{
	char path[64], target[PATH_MAX];
	ssize_t len;
	const char *slash;

	ret_bridge[0] = '\0';
	snprintf(path, sizeof(path), "/sys/class/net/%.15s/master", interface);
	len = readlink(path, target, sizeof(target) - 1);
	if (len <= 0)
		return;
	target[len] = '\0';
	slash = strrchr(target, '/');
	snprintf(ret_bridge, IFNAMSIZ, "%.15s", slash ? slash + 1 : target);
}

const char *lists_name_of_tap(const struct lists *lists, const char *tap)
{
	char bridge[IFNAMSIZ];

	for (uint32_t i = 0; i < lists->n_networks; i++)
		if (lists->networks[i].tap && strcmp(lists->networks[i].tap, tap) == 0)
			return lists->networks[i].name;
	bridge_of(tap, bridge);
	for (uint32_t i = 0; bridge[0] && i < lists->n_networks; i++)
		if (lists->networks[i].bridge && strcmp(lists->networks[i].bridge, bridge) == 0)
			return lists->networks[i].name;
	return NULL;
}
