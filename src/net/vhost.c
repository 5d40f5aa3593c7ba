/* SPDX-License-Identifier: Apache-2.0 */
#include "net/vhost.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/vhost.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>

#include "base/cleanup.h"

#define VHOST_DEVICE "/dev/vhost-net"

int vhost_open(int *ret_fd, struct error *err)
{
	int fd = open(VHOST_DEVICE, O_RDWR | O_CLOEXEC);
	int code = -errno;

	if (fd >= 0) {
		*ret_fd = fd;
		return 0;
	}
	if (code == -ENOENT || code == -ENODEV || code == -ENXIO)
		return error_set(err, code, EXIT_STATUS_HOST,
				 "net vhost=on: this host has no " VHOST_DEVICE
				 ": run 'modprobe vhost_net' as root, or use vhost=off");
	if (code == -EACCES || code == -EPERM)
		return error_set(err, code, EXIT_STATUS_HOST,
				 "net vhost=on: no permission on " VHOST_DEVICE
				 ": become a member of its group (kvm), or use vhost=off");
	return error_set(err, code, EXIT_STATUS_HOST, "net vhost=on: " VHOST_DEVICE ": %s",
			 strerror(-code));
}

static int call(int fd, unsigned long number, const void *arg)
{
	return ioctl(fd, number, arg) < 0 ? -errno : 0;
}

int vhost_own(int fd, uint64_t *ret_features)
{
	int r = call(fd, VHOST_SET_OWNER, NULL);

	return r < 0 ? r : call(fd, VHOST_GET_FEATURES, ret_features);
}

static int set_memory(int fd, const struct memory *memory)
{
	struct {
		struct vhost_memory head;
		struct vhost_memory_region regions[MEMORY_BANKS_MAX];
	} table = { .head.nregions = (uint32_t)memory->n_banks };

	for (size_t i = 0; i < memory->n_banks; i++)
		table.regions[i] = (struct vhost_memory_region){
			.guest_phys_addr = memory->banks[i].start.v,
			.memory_size = memory->banks[i].len,
			.userspace_addr = (uintptr_t)memory->banks[i].host,
		};
	return call(fd, VHOST_SET_MEM_TABLE, &table);
}

int vhost_prepare(int fd, uint64_t features, const struct memory *memory)
{
	int r = call(fd, VHOST_SET_FEATURES, &features);

	return r < 0 ? r : set_memory(fd, memory);
}

static int set_addresses(int fd, const struct vhost_ring *ring)
{
	struct vhost_vring_addr address = {
		.index = ring->index,
		.desc_user_addr = (uintptr_t)ring->desc,
		.avail_user_addr = (uintptr_t)ring->avail,
		.used_user_addr = (uintptr_t)ring->used,
	};

	return call(fd, VHOST_SET_VRING_ADDR, &address);
}

int vhost_ring_start(int fd, const struct vhost_ring *ring, int tap_fd)
{
	struct vhost_vring_state size = { ring->index, ring->size };
	struct vhost_vring_state base = { ring->index, ring->next_avail };
	struct vhost_vring_file kick = { ring->index, ring->kick };
	struct vhost_vring_file signal = { ring->index, ring->call };
	struct vhost_vring_file backend = { ring->index, tap_fd };
	int r = call(fd, VHOST_SET_VRING_NUM, &size);

	if (r == 0)
		r = call(fd, VHOST_SET_VRING_BASE, &base);
	if (r == 0)
		r = set_addresses(fd, ring);
	if (r == 0)
		r = call(fd, VHOST_SET_VRING_KICK, &kick);
	if (r == 0)
		r = call(fd, VHOST_SET_VRING_CALL, &signal);
	return r == 0 ? call(fd, VHOST_NET_SET_BACKEND, &backend) : r;
}

int vhost_ring_stop(int fd, unsigned int index, uint16_t *ret_next_avail)
{
	struct vhost_vring_file backend = { index, -1 };
	struct vhost_vring_file nothing = { index, -1 };
	struct vhost_vring_state base = { index, 0 };
	int r = call(fd, VHOST_NET_SET_BACKEND, &backend);

	if (r == 0)
		r = call(fd, VHOST_GET_VRING_BASE, &base);
	if (r == 0)
		r = call(fd, VHOST_SET_VRING_KICK, &nothing);
	if (r == 0)
		r = call(fd, VHOST_SET_VRING_CALL, &nothing);
	if (r < 0)
		return r;
	*ret_next_avail = (uint16_t)base.num;
	return 0;
}
