/* SPDX-License-Identifier: Apache-2.0 */
/* utsusu run: judge everything, then become the VM's process or start it in the background. */
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "api/check.h"
#include "api/config.h"
#include "api/launch.h"
#include "base/cleanup.h"
#include "peer/arrivals.h"
#include "peer/copies.h"
#include "programs/utsusu.h"

static int print_problems_json(const struct problems *problems)
{
	json_auto_t *list = json_array();
	json_auto_t *answer = NULL;
	_cleanup_(freep) char *text = NULL;

	for (size_t i = 0; i < problems->count; i++)
		json_array_append_new(list,
				      json_pack("{s:s, s:i}", "message", problems->list[i].message,
						"status", (int)problems->list[i].status));
	answer = json_pack("{s:b, s:O}", "ok", problems->count == 0, "problems", list);
	text = answer ? json_dumps(answer, JSON_INDENT(2)) : NULL;
	if (text)
		puts(text);
	return problems->count ? problems->list[0].status : EXIT_STATUS_OK;
}

static void print_summary(const struct vm_config *config)
{
	char memory[32];

	schema_format_size(config->memory.size, memory, sizeof(memory));
	printf("%s: can run: %u vCPU%s, %s of memory, %u disk%s, %u network%s\n",
	       config->name[0] ? config->name : "VM", config->cpus.count,
	       config->cpus.count == 1 ? "" : "s", memory, config->n_disks,
	       config->n_disks == 1 ? "" : "s", config->n_nets, config->n_nets == 1 ? "" : "s");
}

static int check_only(const struct invocation *invocation)
{
	check_host(invocation->config, invocation->problems);
	if (invocation->options.json)
		return print_problems_json(invocation->problems);
	for (size_t i = 0; i < invocation->problems->count; i++)
		tell(&invocation->problems->list[i]);
	if (invocation->problems->count)
		return invocation->problems->list[0].status;
	print_summary(invocation->config);
	return EXIT_STATUS_OK;
}

/* One line, whatever the number of problems. */
static int refuse(const struct problems *problems)
{
	struct error err = problems->list[0];
	size_t len = strlen(err.message);

	if (problems->count > 1)
		snprintf(err.message + len, sizeof(err.message) - len,
			 " (and %zu more: add --check to see all)", problems->count - 1);
	return tell(&err);
}

static void show_progress(unsigned int seconds)
{
	if (seconds == 2 || seconds % 10 == 0)
		fprintf(stderr, "utsusu: waiting for the VM's process to start the guest: %u s\n",
			seconds);
}

static int name_it(struct vm_config *config, struct error *err)
{
	int r = config->uuid[0] ? 0 : uuid_make(config->uuid);

	return r < 0 ? error_set(err, r, EXIT_STATUS_HOST,
				 "uuid: this host has no random numbers yet (%s); give --uuid",
				 strerror(-r))
		     : 0;
}

/* Also for others, from another folder: a VM's paths are told, compared and written down. */
static void make_absolute(char **path)
{
	_cleanup_(freep) char *folder = *path && (*path)[0] != '/' ? getcwd(NULL, 0) : NULL;
	char *whole;

	if (!folder || asprintf(&whole, "%s/%s", folder, *path) < 0)
		return;
	free(*path);
	*path = whole;
}

static void make_paths_absolute(struct vm_config *config)
{
	make_absolute(&config->kernel);
	make_absolute(&config->initrd);
	for (uint32_t i = 0; i < config->n_disks; i++)
		make_absolute(&config->disks[i].path);
}

static int launch(struct vm_config *config)
{
	struct error err = { 0 };
	struct runtime_vm vm;

	make_paths_absolute(config);
	if (name_it(config, &err) < 0)
		return tell(&err);
	if (runtime_claim(config->name, &vm, &err) < 0)
		return tell(&err);
	memcpy(config->name, vm.name, sizeof(config->name));
	/* Since it was judged, the VM of this name may have been moved away and ended: with its name held, nothing changes. */
	if (arrivals_check_start(config->name, NULL, &err) < 0 ||
	    copies_check_start(config, &err) < 0) {
		runtime_release(&vm);
		return tell(&err);
	}
	if (!config->detach) {
		if (launch_exec(config, &vm, &err) < 0)
			return tell(&err);
		return EXIT_STATUS_OK;
	}
	if (launch_detached(config, &vm, false, show_progress, &err) < 0)
		return tell(&err);
	printf("%s\n", config->name);
	return EXIT_STATUS_OK;
}

/* A VM that was given to another host is not this host's to start. */
static void check_marks(const struct vm_config *config, struct problems *problems)
{
	struct error err = { 0 };

	if (config->name[0] && arrivals_check_start(config->name, NULL, &err) < 0)
		problems_add(problems, &err);
	err = (struct error){ 0 };
	if (copies_check_start(config, &err) < 0)
		problems_add(problems, &err);
}

int run_vm(struct invocation *invocation)
{
	struct problems *problems = invocation->problems;

	vm_config_complete(invocation->config);
	vm_config_check(invocation->config, problems);
	check_marks(invocation->config, problems);
	if (invocation->options.check)
		return check_only(invocation);
	if (!problems->count)
		check_host(invocation->config, problems);
	return problems->count ? refuse(problems) : launch(invocation->config);
}
