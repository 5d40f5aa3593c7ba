/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * What a VM's process hands to the one that takes its place on the same host: the open files themselves, so that locks stay held, a
 * tap's only queue stays attached and a socket's clients stay in its backlog. One message for each thing, over a SOCK_SEQPACKET
 * pair; whoever receives judges each by the table in handed.c before it is looked at.
 *
 *   old VM's process --> RAM's files but RAM, disks, taps, sockets, pty --.
 *   old keeper -> utsusu upgrade --> name, RAM, store, keeper's socket ----+--> new utsusu-vm, before its sandbox
 */

#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "base/limits.h"

enum handed_kind {
	HANDED_END,	   /* no more comes */
	HANDED_RAM,	   /* its file */
	HANDED_STORE,	   /* of watched requests */
	HANDED_KEEPER,	   /* the keeper's listening socket */
	HANDED_REQUESTS,   /* the file that a dead VM's last requests go to */
	HANDED_SUCCESSION, /* host/succession.h */
	HANDED_LINK, /* a connection, as if it came by the VM's socket: whoever drives the upgrade */
	HANDED_SOCKET, /* the VM's listening socket; number: when the guest first ran (CLOCK_MONOTONIC, ns) */
	HANDED_CONSOLE, /* its console's */
	HANDED_VIRTIO_CONSOLE,
	HANDED_PTY, /* both ends; text: its path */
	HANDED_KERNEL,
	HANDED_INITRD,
	HANDED_DISK, /* one for each of the configuration */
	HANDED_TAP, /* the same; a descriptor for each queue; number: offloads, MTU << 32, bare << 63 */
	HANDED_KINDS,
};

#define HANDED_TEXT 128
/* Places of all kinds and indices. */
#define HANDED_SLOTS (HANDED_DISK + LIMIT_DISKS + LIMIT_NETS)

/* As it is sent; both ends run on one host: host byte order. Of another version of the program, so never changed but by new kinds. */
struct handed_message {
	uint32_t magic;
	uint32_t kind;
	uint32_t index;
	uint32_t n_fds;
	uint64_t number;
	char text[HANDED_TEXT];
};
_Static_assert(sizeof(struct handed_message) == 24 + HANDED_TEXT, "no holes");

struct handed_thing {
	size_t n_fds; /* 0: it did not come */
	int fds[LIMIT_QUEUES];
	uint64_t number;
	char text[HANDED_TEXT];
};

struct handed {
	struct handed_thing things[HANDED_SLOTS];
};

/* Sends one thing; the descriptors stay the caller's. Waits for nobody: -EAGAIN when the socket is full. */
_must_check_ int handed_send(int sock, enum handed_kind kind, uint32_t index, const int *fds,
			     size_t n_fds, uint64_t number, const char *text);

/* 0 when a message of `len` bytes with `n_fds` descriptors is one that a VM's process may send, and is not there yet; -EPROTO. */
_must_check_ int handed_judge(const struct handed *handed, const struct handed_message *message,
			      size_t len, size_t n_fds);
/* Receives until the end, which must have been sent already. What came is released by handed_release, also after an error. */
_must_check_ int handed_receive(int sock, struct handed *handed, struct error *err);
/* All kinds but HANDED_END. */
struct handed_thing *handed_thing(struct handed *handed, enum handed_kind kind, uint32_t index);
/* Its first descriptor, the caller's from now on; -1: it did not come. */
int handed_take(struct handed *handed, enum handed_kind kind, uint32_t index);
void handed_release(struct handed *handed); /* closes what was not taken */
