/* SPDX-License-Identifier: Apache-2.0 */
#include "vm/config.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

void vm_config_init(struct vm_config *config)
{
	*config = (struct vm_config){
		.cpus = { .count = 1, .model = CPU_MODEL_HOST },
		.memory = { .size = MIB(512), .hugepages = MEMORY_HUGE_THP },
		.rng = true,
		.sandbox = true,
	};
}

void vm_config_release(struct vm_config *config)
{
	free(config->kernel);
	free(config->initrd);
	free(config->cmdline);
	free(config->gdb.path);
	for (uint32_t i = 0; i < config->n_disks; i++) {
		free(config->disks[i].path);
		free(config->disks[i].filter);
	}
	for (uint32_t i = 0; i < config->n_nets; i++) {
		free(config->nets[i].tap);
		free(config->nets[i].filter);
	}
	vm_config_init(config);
}

void vm_config_complete(struct vm_config *config)
{
	uuid_lower(config->uuid);
	if (!config->cpus.max)
		config->cpus.max = config->cpus.count;
	for (uint32_t i = 0; i < config->n_disks; i++)
		if (!config->disks[i].queues)
			config->disks[i].queues = MIN(config->cpus.count, LIMIT_QUEUES);
	for (uint32_t i = 0; i < config->n_nets; i++)
		if (!config->nets[i].queues)
			config->nets[i].queues = 1;
	if (config->console == CONSOLE_AUTO)
		config->console = config->detach ? CONSOLE_SOCKET : CONSOLE_STDIO;
}

#define problem(problems, ...)                                                                     \
	do {                                                                                       \
		struct error err_ = { 0 };                                                         \
		error_set(&err_, -EINVAL, EXIT_STATUS_USAGE, __VA_ARGS__);                         \
		problems_add(problems, &err_);                                                     \
	} while (0)

static void check_boot(const struct vm_config *config, struct problems *problems)
{
	if (!config->kernel)
		problem(problems, "kernel: is missing; give --kernel FILE");
	if (!config->kernel && config->initrd)
		problem(problems, "initrd: needs a kernel; give --kernel FILE too");
	if (!config->kernel && config->cmdline)
		problem(problems, "cmdline: needs a kernel; give --kernel FILE too");
	if (config->detach && config->console == CONSOLE_STDIO)
		problem(problems,
			"console: stdio does not go with detach; give --console socket or pty");
}

static void check_gdb(const struct vm_config *config, struct problems *problems)
{
	if (config->gdb.wait && !config->gdb.path)
		problem(problems, "gdb: wait needs a socket; give --gdb path=SOCKET,wait=on");
}

static void check_cpus(const struct vm_config *config, struct problems *problems)
{
	if (config->cpus.max && config->cpus.max < config->cpus.count)
		problem(problems,
			"cpus: max=%u is less than the %u to start with; give max=%u or more",
			config->cpus.max, config->cpus.count, config->cpus.count);
	if (config->n_disks + config->n_nets > VM_CONFIG_DEVICES)
		problem(problems,
			"disk: %u disks and %u networks are more than fit; give at most %u",
			config->n_disks, config->n_nets, VM_CONFIG_DEVICES);
}

static void check_disk(const struct vm_config *config, uint32_t index, struct problems *problems)
{
	const struct disk_config *disk = &config->disks[index];

	if (disk->queues > config->cpus.count)
		problem(problems,
			"disk[%u]: queues=%u is more than there are vCPUs; give at most %u", index,
			disk->queues, config->cpus.count);
	for (uint32_t i = 0; i < index; i++) {
		const struct disk_config *other = &config->disks[i];

		if (disk->path && other->path && strcmp(disk->path, other->path) == 0 &&
		    !(disk->readonly && other->readonly))
			problem(problems,
				"disk[%u]: %s is disk[%u] too; give it once, or readonly=on", index,
				disk->path, i);
		if (disk->serial[0] && strcmp(disk->serial, other->serial) == 0)
			problem(problems, "disk[%u]: serial=%s is that of disk[%u]; give another",
				index, disk->serial, i);
	}
}

static const char *net_kind_name(enum net_kind kind)
{
	static const char *const names[] = { "tap", "user", "fd" };

	return names[kind];
}

static void check_net_alone(const struct vm_config *config, uint32_t index,
			    struct problems *problems)
{
	const struct net_config *net = &config->nets[index];

	if (net->vhost && net->kind == NET_USER)
		problem(problems, "net[%u]: vhost needs a tap; give tap=NAME, or leave vhost out",
			index);
	if (net->vhost && net->filter)
		problem(problems, "net[%u]: vhost passes filters by; leave one of them out", index);
	if (net->queues > 1 && net->kind != NET_TAP)
		problem(problems, "net[%u]: %s has one queue; give tap=NAME, or leave queues out",
			index, net_kind_name(net->kind));
	if (net->queues > config->cpus.count)
		problem(problems,
			"net[%u]: queues=%u is more than there are vCPUs; give at most %u", index,
			net->queues, config->cpus.count);
}

static bool same_attachment(const struct net_config *a, const struct net_config *b)
{
	if (a->kind != b->kind)
		return false;
	if (a->kind == NET_FD)
		return a->fd == b->fd;
	return a->kind == NET_TAP && a->tap && b->tap && strcmp(a->tap, b->tap) == 0;
}

static void check_net(const struct vm_config *config, uint32_t index, struct problems *problems)
{
	static const uint8_t unset[6];
	const struct net_config *net = &config->nets[index];

	check_net_alone(config, index, problems);
	for (uint32_t i = 0; i < index; i++) {
		const struct net_config *other = &config->nets[i];

		if (same_attachment(net, other))
			problem(problems, "net[%u]: its %s is that of net[%u]; give another", index,
				net_kind_name(net->kind), i);
		if (memcmp(net->mac, unset, 6) != 0 && memcmp(net->mac, other->mac, 6) == 0)
			problem(problems, "net[%u]: its mac is that of net[%u]; give another",
				index, i);
	}
}

void vm_config_check(const struct vm_config *config, struct problems *problems)
{
	check_boot(config, problems);
	check_cpus(config, problems);
	check_gdb(config, problems);
	for (uint32_t i = 0; i < config->n_disks; i++)
		check_disk(config, i, problems);
	for (uint32_t i = 0; i < config->n_nets; i++)
		check_net(config, i, problems);
}
