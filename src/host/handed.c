/* SPDX-License-Identifier: Apache-2.0 */
#include "host/handed.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#include "base/fd.h"

#define MAGIC 0x75746801U /* "uth", 1 */

struct kind_row {
	uint32_t slot;	/* of its index 0 */
	uint32_t count; /* indices */
	size_t min_fds, max_fds;
};

static const struct kind_row kinds[HANDED_KINDS] = {
	[HANDED_END] = { 0, 0, 0, 0 },
	[HANDED_RAM] = { HANDED_RAM - 1, 1, 1, 1 },
	[HANDED_STORE] = { HANDED_STORE - 1, 1, 1, 1 },
	[HANDED_KEEPER] = { HANDED_KEEPER - 1, 1, 1, 1 },
	[HANDED_REQUESTS] = { HANDED_REQUESTS - 1, 1, 1, 1 },
	[HANDED_SUCCESSION] = { HANDED_SUCCESSION - 1, 1, 1, 1 },
	[HANDED_LINK] = { HANDED_LINK - 1, 1, 1, 1 },
	[HANDED_SOCKET] = { HANDED_SOCKET - 1, 1, 1, 1 },
	[HANDED_CONSOLE] = { HANDED_CONSOLE - 1, 1, 1, 1 },
	[HANDED_VIRTIO_CONSOLE] = { HANDED_VIRTIO_CONSOLE - 1, 1, 1, 1 },
	[HANDED_PTY] = { HANDED_PTY - 1, 1, 2, 2 },
	[HANDED_KERNEL] = { HANDED_KERNEL - 1, 1, 1, 1 },
	[HANDED_INITRD] = { HANDED_INITRD - 1, 1, 1, 1 },
	[HANDED_DISK] = { HANDED_DISK - 1, LIMIT_DISKS, 1, 1 },
	[HANDED_TAP] = { HANDED_DISK - 1 + LIMIT_DISKS, LIMIT_NETS, 1, LIMIT_QUEUES },
};

_Static_assert(LIMIT_QUEUES <= LIMIT_DESCRIPTORS_SENT, "a tap goes into one message");

int handed_send(int sock, enum handed_kind kind, uint32_t index, const int *fds, size_t n_fds,
		uint64_t number, const char *text)
{
	struct handed_message message = {
		.magic = MAGIC,
		.kind = kind,
		.index = index,
		.n_fds = (uint32_t)n_fds,
		.number = number,
	};

	if (text)
		snprintf(message.text, sizeof(message.text), "%s", text);
	return fd_send(sock, &message, sizeof(message), fds, n_fds);
}

int handed_judge(const struct handed *handed, const struct handed_message *message, size_t len,
		 size_t n_fds)
{
	const struct kind_row *row;

	if (len != sizeof(*message) || message->magic != MAGIC || message->kind >= HANDED_KINDS ||
	    message->n_fds != n_fds || message->text[HANDED_TEXT - 1])
		return -EPROTO;
	row = &kinds[message->kind];
	if (message->kind == HANDED_END)
		return n_fds ? -EPROTO : 0;
	if (message->index >= row->count || n_fds < row->min_fds || n_fds > row->max_fds ||
	    handed->things[row->slot + message->index].n_fds)
		return -EPROTO;
	return 0;
}

/* 1: the end. */
static int receive_one(int sock, struct handed *handed)
{
	struct handed_message message = { 0 };
	int fds[LIMIT_DESCRIPTORS_SENT];
	struct handed_thing *thing;
	size_t len = 0, n_fds = 0;
	int r = fd_receive(sock, &message, sizeof(message), &len, fds, ARRAY_SIZE(fds), &n_fds);

	if (r < 0)
		return r;
	r = handed_judge(handed, &message, len, n_fds);
	if (r < 0 || message.kind == HANDED_END) {
		while (n_fds)
			fd_close(fds[--n_fds]);
		return r < 0 ? r : 1;
	}
	thing = &handed->things[kinds[message.kind].slot + message.index];
	thing->n_fds = n_fds;
	thing->number = message.number;
	memcpy(thing->fds, fds, n_fds * sizeof(int));
	memcpy(thing->text, message.text, sizeof(thing->text));
	return 0;
}

int handed_receive(int sock, struct handed *handed, struct error *err)
{
	int r = fd_set_nonblocking(sock);

	/* Each place is filled once, so this ends. */
	while (r == 0)
		r = receive_one(sock, handed);
	if (r == 1)
		return 0;
	return error_set(err, r, EXIT_STATUS_FAILED,
			 "what the VM's process hands over cannot be used (%s); utsusu upgrade is "
			 "too far from the version that runs it",
			 strerror(-r));
}

struct handed_thing *handed_thing(struct handed *handed, enum handed_kind kind, uint32_t index)
{
	return &handed->things[kinds[kind].slot + index];
}

int handed_take(struct handed *handed, enum handed_kind kind, uint32_t index)
{
	struct handed_thing *thing = handed_thing(handed, kind, index);

	return thing->n_fds ? TAKE_FD(thing->fds[0]) : -1;
}

void handed_release(struct handed *handed)
{
	for (size_t i = 0; i < HANDED_SLOTS; i++) {
		struct handed_thing *thing = &handed->things[i];

		while (thing->n_fds)
			fd_close(thing->fds[--thing->n_fds]);
	}
}
