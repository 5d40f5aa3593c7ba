/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* A VM of two vCPUs that waits for a debugger, and a debugger that speaks the protocol over a socket. */

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/fd.h"
#include "check.h"
#include "debug/gdb_packet.h"
#include "debug/gdb_registers.h"
#include "debug/gdb_server.h"
#include "kernel_images.h"

#define PATIENCE 5000 /* turns of 1 ms */

struct rig {
	struct vm_config config;
	struct vm_resources resources;
	struct loop *loop;
	struct vm *vm;
	struct gdb_server *server;
	char folder[32], path[64];
	int client;
	bool no_ack;
	struct gdb_framing framing;
	unsigned int killed, went_on, ended;
	const char *refuses; /* NULL: nothing */
};

static inline void on_ended(void *ctx, enum vm_end how _unused_, const char *why _unused_)
{
	((struct rig *)ctx)->ended++;
}

static inline void on_kill(void *ctx)
{
	((struct rig *)ctx)->killed++;
}

static inline void on_go(void *ctx)
{
	((struct rig *)ctx)->went_on++;
}

static inline void make_vm(struct rig *rig, const void *kernel, size_t len)
{
	const struct vm_events events = { .ended = on_ended, .ctx = rig };
	struct error err = { 0 };

	vm_config_init(&rig->config);
	snprintf(rig->config.name, sizeof(rig->config.name), "debugged");
	rig->config.kernel = strdup("kernel");
	rig->config.cpus.count = 2;
	rig->config.memory.size = MIB(64);
	vm_config_complete(&rig->config);
	vm_resources_init(&rig->resources);
	rig->resources.kernel_fd = kernel_image_file(kernel, len);
	rig->loop = loop_new(&clock_host);
	if (vm_new(&rig->config, &rig->resources, rig->loop, NULL, &events, &rig->vm, &err) < 0)
		fail_msg("%s", err.message);
}

static inline const char *on_refuses(void *ctx)
{
	return ((struct rig *)ctx)->refuses;
}

/* The guest waits for the debugger before its first instruction. */
static inline struct rig *rig_new(const void *kernel, size_t len)
{
	struct rig *rig = calloc(1, sizeof(*rig));
	struct gdb_server_params params = {
		.wait = true, .kill = on_kill, .refuses = on_refuses, .ctx = rig
	};
	struct error err = { 0 };

	make_vm(rig, kernel, len);
	rig->client = -1;
	strcpy(rig->folder, "/tmp/test-gdb-XXXXXX");
	assert_non_null(mkdtemp(rig->folder));
	snprintf(rig->path, sizeof(rig->path), "%s/gdb", rig->folder);
	if (gdb_server_listen(rig->path, &params.listen_fd, &err) < 0)
		fail_msg("%s", err.message);
	params.vm = rig->vm;
	params.loop = rig->loop;
	assert_int_equal(gdb_server_new(&params, &rig->server), 0);
	return rig;
}

static inline int tear_down(void **state)
{
	struct rig *rig = *state;

	vm_free(rig->vm);
	gdb_server_free(rig->server);
	vm_resources_close(&rig->resources);
	loop_free(rig->loop);
	vm_config_release(&rig->config);
	fd_close(rig->client);
	unlink(rig->path);
	rmdir(rig->folder);
	free(rig);
	return 0;
}

static inline int connect_to(const char *path)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	strcpy(address.sun_path, path);
	assert_int_equal(connect(fd, (struct sockaddr *)&address, sizeof(address)), 0);
	return fd;
}

static inline void run(struct rig *rig)
{
	const struct vm_thread_entry open_entry = { 0 };
	struct error err = { 0 };

	assert_int_equal(vm_start(rig->vm, &open_entry, &err), 0);
	vm_run(rig->vm);
}

static inline void turn(struct rig *rig)
{
	assert_int_equal(loop_turn(rig->loop, 1), 0);
}

static inline void put(struct rig *rig, const void *bytes, size_t len)
{
	assert_int_equal(send(rig->client, bytes, len, MSG_NOSIGNAL), len);
}

static inline bool has_input(struct rig *rig)
{
	struct pollfd poll_fd = { .fd = rig->client, .events = POLLIN };

	return poll(&poll_fd, 1, 0) == 1;
}

/* The next packet from the server, acknowledged; "" with `ended` when it closed. */
static inline const char *next_packet(struct rig *rig)
{
	for (int i = 0; i < PATIENCE;) {
		enum gdb_event event;
		uint8_t byte;

		if (!has_input(rig)) {
			turn(rig);
			i++;
			continue;
		}
		if (recv(rig->client, &byte, 1, 0) != 1)
			return "closed";
		event = gdb_framing_take(&rig->framing, byte);
		assert_int_not_equal(event, GDB_BAD_SUM);
		if (event != GDB_PACKET)
			continue;
		if (!rig->no_ack) /* it may have closed after this one */
			(void)!send(rig->client, "+", 1, MSG_NOSIGNAL);
		return rig->framing.data;
	}
	return "nothing came";
}

static inline void say(struct rig *rig, const char *packet)
{
	struct buffer out;

	buffer_init(&out, KIB(64));
	assert_int_equal(gdb_packet_append(&out, packet, strlen(packet)), 0);
	put(rig, out.data, out.len);
	buffer_release(&out);
}

static inline const char *ask(struct rig *rig, const char *packet)
{
	say(rig, packet);
	return next_packet(rig);
}

static inline void join(struct rig *rig)
{
	rig->client = connect_to(rig->path);
	memset(&rig->framing, 0, sizeof(rig->framing));
	assert_non_null(strstr(ask(rig, "qSupported:swbreak+;hwbreak+;vContSupported+"),
			       "PacketSize=4000"));
}

/* Started, and connected to before the first instruction. */
static inline void start(struct rig *rig)
{
	run(rig);
	join(rig);
	assert_string_equal(ask(rig, "?"), "T05thread:1;");
}

static inline uint8_t ram(struct rig *rig, uint64_t at)
{
	uint8_t byte;

	assert_int_equal(memory_read(rig->vm->memory, gpa(at), &byte, 1), 0);
	return byte;
}
