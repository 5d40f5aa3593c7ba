/* SPDX-License-Identifier: Apache-2.0 */
#include "vhost_fake.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/endian.h"
#include "base/fd.h"

/* By descriptor: the interface knows nothing else of its user. */
static struct vhost_fake fakes[VHOST_FAKE_MAX];

struct vhost_fake *vhost_fake_of(int fd)
{
	if (fd < 0 || fd >= VHOST_FAKE_MAX)
		abort();
	return &fakes[fd];
}

int vhost_fake_new(void)
{
	int fd = fd_new_event();

	*vhost_fake_of(fd) = (struct vhost_fake){ 0 };
	return fd;
}

void vhost_fake_work(struct vhost_fake *fake, unsigned int index, uint16_t n)
{
	uint8_t *used = fake->rings[index].used;

	if (!fake->running[index])
		return;
	fake->done[index] = (uint16_t)(fake->done[index] + n);
	le_store(used + 2, 2, (uint16_t)(le_load(used + 2, 2) + n));
	fd_signal_event(fake->rings[index].call);
}

int vhost_open(int *ret_fd, struct error *err _unused_)
{
	*ret_fd = vhost_fake_new();
	return 0;
}

int vhost_own(int fd _unused_, uint64_t *ret_features)
{
	*ret_features = ~0ULL;
	return 0;
}

int vhost_prepare(int fd, uint64_t features _unused_, const struct memory *memory)
{
	vhost_fake_of(fd)->prepared++;
	return memory->n_banks ? 0 : -EINVAL;
}

int vhost_ring_start(int fd, const struct vhost_ring *ring, int tap_fd _unused_)
{
	struct vhost_fake *fake = vhost_fake_of(fd);

	if (fake->refuse)
		return fake->refuse;
	fake->rings[ring->index] = *ring;
	fake->done[ring->index] = 0;
	fake->running[ring->index] = true;
	return 0;
}

int vhost_ring_stop(int fd, unsigned int index, uint16_t *ret_next_avail)
{
	struct vhost_fake *fake = vhost_fake_of(fd);

	if (!fake->running[index])
		abort(); /* a ring is taken back once */
	fake->running[index] = false;
	*ret_next_avail = (uint16_t)(fake->rings[index].next_avail + fake->done[index]);
	return 0;
}
