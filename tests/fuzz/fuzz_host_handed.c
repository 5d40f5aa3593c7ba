/* SPDX-License-Identifier: Apache-2.0 */
/*
 * covers: host/handed.c
 *
 * What a VM's process that a guest has taken over may send to the one that takes its place: each piece of the input is one
 * message, its first byte says how many descriptors come with it, its second whether it begins as a good one does.
 */
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/fd.h"
#include "host/handed.h"

#define MAGIC 0x75746801U
#define MESSAGES_MAX 64

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

/* Bytes of the input that were used. */
static size_t send_one(int sock, int null, const uint8_t *data, size_t len)
{
	const size_t n_fds = data[0] % (LIMIT_DESCRIPTORS_SENT + 1);
	const size_t head = 2, size = MIN(len - head, sizeof(struct handed_message));
	uint8_t bytes[sizeof(struct handed_message) + 1] = { 0 };
	struct handed_message message = { 0 };
	int fds[LIMIT_DESCRIPTORS_SENT];

	for (size_t i = 0; i < n_fds; i++)
		fds[i] = null;
	memcpy(&message, data + head, size);
	if (data[1] & 1) {
		message.magic = MAGIC;
		message.n_fds = (uint32_t)n_fds;
		message.kind %= HANDED_KINDS + 1;
		message.index %= LIMIT_DISKS + 1;
		message.text[HANDED_TEXT - 1] = '\0';
	}
	memcpy(bytes, &message, sizeof(message));
	(void)!fd_send(sock, bytes, sizeof(message) + (data[1] & 2 ? 1 : 0), fds, n_fds);
	return head + size;
}

/* What came is where it belongs, and every descriptor is one of ours. */
static void judge(struct handed *handed)
{
	static const enum handed_kind single[] = { HANDED_RAM, HANDED_PTY, HANDED_LINK };

	for (size_t i = 0; i < ARRAY_SIZE(single); i++) {
		struct handed_thing *thing = handed_thing(handed, single[i], 0);

		if (thing->n_fds > 2 || strnlen(thing->text, HANDED_TEXT) == HANDED_TEXT)
			abort();
	}
	for (uint32_t i = 0; i < LIMIT_NETS; i++)
		if (handed_thing(handed, HANDED_TAP, i)->n_fds > LIMIT_QUEUES)
			abort();
	for (uint32_t i = 0; i < LIMIT_DISKS; i++) {
		int fd = handed_take(handed, HANDED_DISK, i);

		if (fd >= 0 && fcntl(fd, F_GETFD) != FD_CLOEXEC)
			abort();
		fd_close(fd);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	struct handed *handed = calloc(1, sizeof(*handed));
	int ends[2], null = open("/dev/null", O_RDWR | O_CLOEXEC);
	struct error err = { 0 };

	if (!handed || null < 0 ||
	    socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, ends) < 0)
		abort();
	for (int i = 0; i < MESSAGES_MAX && len > 2; i++) {
		size_t used = send_one(ends[0], null, data, len);

		data += used;
		len -= used;
	}
	if (len == 2)
		(void)!handed_send(ends[0], HANDED_END, 0, NULL, 0, 0, "end");
	if (handed_receive(ends[1], handed, &err) == 0 || err.code)
		judge(handed);
	handed_release(handed);
	free(handed);
	close(ends[0]);
	close(ends[1]);
	close(null);
	return 0;
}
