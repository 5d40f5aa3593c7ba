/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Requests on a VM's socket, with a VM that only remembers. Input comes in pieces: a byte 0xff ends one piece
 * and lets the server run; 0xfe lets a second of its clock pass; 0xfd reads the answers; 0xfc fills much of
 * a line.
 * covers: api/request.c api/server.c
 */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "api/server.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct rig {
	struct fake_clock clock;
	struct loop *loop;
	struct vm_config config;
	struct sockaddr_un address;
	socklen_t address_len;
	struct api_server *server;
	enum api_vm_state state;
	bool hears;
};

static void op_status(void *vm, struct api_vm_status *ret_status)
{
	*ret_status = (struct api_vm_status){ .state = ((struct rig *)vm)->state };
}

static int op_pause(void *vm, struct error *err _unused_)
{
	struct rig *rig = vm;

	rig->state = API_VM_PAUSED;
	api_server_event(rig->server, API_EVENT_PAUSED, NULL);
	return 0;
}

static int op_resume(void *vm, struct error *err _unused_)
{
	struct rig *rig = vm;

	rig->state = API_VM_RUNNING;
	api_server_event(rig->server, API_EVENT_RESUMED, "again");
	return 0;
}

static bool op_power_button(void *vm)
{
	struct rig *rig = vm;

	rig->hears = !rig->hears;
	return rig->hears;
}

static int op_reset(void *vm _unused_, struct error *err _unused_)
{
	return -EIO;
}

static int op_measure(void *vm, const struct measure_request *request,
		      struct measure_result *ret_result, struct error *err)
{
	if (((struct rig *)vm)->state != API_VM_RUNNING)
		return error_set(err, -ESHUTDOWN, EXIT_STATUS_FAILED,
				 "cannot measure: not running");
	assert(request->rounds >= 1 && request->rounds <= MEASURE_ROUNDS_MAX);
	*ret_result = (struct measure_result){ .state_bytes = request->rounds };
	return 0;
}

static void op_force_stop(void *vm)
{
	((struct rig *)vm)->state = API_VM_STOPPING;
}

static const struct api_vm_ops ops = {
	.status = op_status,
	.pause = op_pause,
	.resume = op_resume,
	.power_button = op_power_button,
	.reset = op_reset,
	.measure = op_measure,
	.force_stop = op_force_stop,
};

/* A name of the kernel's choice: nothing is left in any directory. */
static int listen_somewhere(struct rig *rig)
{
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	rig->address.sun_family = AF_UNIX;
	rig->address_len = sizeof(rig->address);
	assert(fd >= 0);
	assert(bind(fd, (struct sockaddr *)&rig->address, sizeof(sa_family_t)) == 0);
	assert(getsockname(fd, (struct sockaddr *)&rig->address, &rig->address_len) == 0);
	assert(listen(fd, 16) == 0);
	return fd;
}

static void rig_open(struct rig *rig)
{
	memset(rig, 0, sizeof(*rig));
	fake_clock_init(&rig->clock, 1, 1);
	rig->loop = loop_new(&rig->clock.clock);
	vm_config_init(&rig->config);
	strcpy(rig->config.name, "vm");
	rig->state = API_VM_RUNNING;
	rig->server = api_server_new(rig->loop, listen_somewhere(rig), &rig->config, &ops, rig);
	assert(rig->loop && rig->server);
}

static void rig_close(struct rig *rig)
{
	api_server_free(rig->server);
	loop_free(rig->loop);
	vm_config_release(&rig->config);
}

static void turn(struct rig *rig)
{
	for (int i = 0; i < 4; i++)
		assert(loop_turn(rig->loop, 0) == 0);
}

static int connect_client(struct rig *rig)
{
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	assert(fd >= 0);
	assert(connect(fd, (struct sockaddr *)&rig->address, rig->address_len) == 0);
	turn(rig);
	return fd;
}

static void send_piece(int fd, const uint8_t *data, size_t size)
{
	/* A server that hung up, or that waits for us to read, takes no more: that is its right. */
	if (size && send(fd, data, size, MSG_NOSIGNAL | MSG_DONTWAIT) < 0)
		return;
}

static void read_answers(int fd)
{
	char answers[65536];

	while (recv(fd, answers, sizeof(answers), MSG_DONTWAIT) > 0)
		continue;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const uint8_t filler[16384] = { [0 ... 16383] = 'x' };
	int clients[LIMIT_CLIENTS + 1];
	size_t n_clients = 1 + (size ? data[0] % (LIMIT_CLIENTS + 1) : 0);
	struct rig rig;
	size_t start = 0;

	rig_open(&rig);
	for (size_t i = 0; i < n_clients; i++)
		clients[i] = connect_client(&rig);
	for (size_t i = 0; i < size; i++) {
		if (data[i] < 0xfc)
			continue;
		send_piece(clients[0], data + start, i - start);
		start = i + 1;
		if (data[i] == 0xfc)
			send_piece(clients[0], filler, sizeof(filler));
		if (data[i] == 0xfe)
			fake_clock_advance(&rig.clock, NSEC_PER_SEC);
		turn(&rig);
		if (data[i] == 0xfd)
			read_answers(clients[0]);
	}
	send_piece(clients[0], data + start, size - start);
	turn(&rig);
	for (size_t i = 0; i < n_clients; i++)
		close(clients[i]);
	turn(&rig);
	rig_close(&rig);
	return 0;
}
