/* SPDX-License-Identifier: Apache-2.0 */
/*
 * make_scenes FILE: the store of a VM that died, as its keeper leaves it, after seven seconds of one scene each:
 *
 *   0 sleeps   1 computes   2 reads a disk   3 sends and receives   4 writes to its serial line   5 polls a register
 *   6 does a little every 10 ms
 *
 * A nanosecond is a tick; tick 0 is 2026-01-02T03:04:05Z.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/macros.h"
#include "watch/store.h"

#define WALL_NS 1767323045000000000ULL
#define MS NSEC_PER_MSEC
#define SCENE(n) (1000 * MS * (n))

enum { RING_VCPU0, RING_VCPU1, RING_DISK, RING_NET, RING_TIMES, RINGS };
enum { SERIAL, DISK, NET, RTC, BRIDGE };

struct scenes {
	struct store *store;
	struct ring *rings[RINGS];
};

static void add(struct scenes *scenes, unsigned int ring, const struct watch_record *record)
{
	struct watch_record *slot = ring_begin(scenes->rings[ring]);
	const size_t skip = sizeof(record->sequence);

	memcpy((char *)slot + skip, (const char *)record + skip, sizeof(*record) - skip);
	ring_commit(scenes->rings[ring]);
}

/* An access of vCPU 0: `in al, dx` or `out dx, al`. */
static struct watch_record access_at(uint64_t begin, uint64_t ns, uint16_t device, uint16_t port,
				     bool write)
{
	struct watch_record record = {
		.kind = RECORD_PIO,
		.begin = begin,
		.duration = ns,
		.device = device,
		.address = port,
		.data = 0x60,
		.size = 1,
		.flags = write ? RECORD_WRITE : 0,
		.access = { .mode = 64, .n_before = 16, .n_after = 16 },
	};

	memset(record.access.code, 0x90, sizeof(record.access.code));
	record.access.code[RECORD_WINDOW] = write ? 0xee : 0xec;
	record.access.registers.rip = 0xffffffff81000000 + port;
	record.access.registers.general[0] = record.data;
	record.access.registers.general[2] = port;
	return record;
}

/* What each vCPU has used so far, ten times a second; vCPU 1 computes in scene 1. */
static void add_times(struct scenes *scenes)
{
	for (uint64_t at = 0; at <= SCENE(7); at += 100 * MS)
		for (uint16_t vcpu = 0; vcpu < 2; vcpu++) {
			uint64_t computed = MIN(at > SCENE(1) ? at - SCENE(1) : 0, SCENE(1));
			const struct watch_record record = {
				.kind = RECORD_VCPU,
				.begin = at,
				.source = vcpu,
				.device = STORE_NO_DEVICE,
				.data = vcpu ? computed / 100 * 95 : at / 100,
			};

			add(scenes, RING_TIMES, &record);
		}
}

/* Four at a time, 5 ms each, one after the other on the disk; number 100 takes long, number 200 fails. */
static void add_disk(struct scenes *scenes)
{
	for (uint64_t i = 0; i < 780; i++) {
		struct watch_record record = {
			.kind = RECORD_DISK,
			.begin = SCENE(2) + i * MS * 5 / 4,
			.duration = 5 * MS,
			.device = DISK,
			.address = i << 16,
			.data = 1 << 16,
			.status = i == 200 ? -EIO : 0,
		};

		if (i == 100)
			record.duration = 30 * MS;
		if (i == 500)
			record.operation = RECORD_DISK_FLUSH;
		add(scenes, RING_DISK, &record);
	}
}

/* An Ethernet frame with a UDP datagram; it says more bytes than are recorded. */
static void fill_frame(struct watch_record *record, uint64_t number)
{
	static const uint8_t head[] = { 0x52, 0x54, 0,	  0,	0,  2, 0x52, 0x54, 0,  0, 0,
					1,    8,    0,	  0x45, 0,  5, 0xdc, 0,	   1,  0, 0,
					64,   17,   0,	  0,	10, 0, 0,    1,	   10, 0, 0,
					2,    0x12, 0x34, 0,	9,  5, 0xc8, 0,	   0 };

	record->frame.n_bytes = RECORD_FRAME_BYTES;
	memcpy(record->frame.bytes, head, sizeof(head));
	record->frame.bytes[sizeof(head)] = (uint8_t)number;
}

static void add_net(struct scenes *scenes)
{
	for (uint64_t i = 0; i < 2000; i++) {
		struct watch_record record = {
			.kind = RECORD_NET,
			.begin = SCENE(3) + i * MS / 2,
			.duration = 20000,
			.flags = i % 4 ? RECORD_WRITE : 0,
			.source = i % 4 ? 1 : 0,
			.device = NET,
			.data = 1514,
			.status = i == 7 ? -EIO : 0,
		};

		fill_frame(&record, i);
		add(scenes, RING_NET, &record);
	}
}

/* The access to the bridge's data port is one to the disk's PCI configuration. */
static void add_pci(struct scenes *scenes)
{
	struct watch_record outer = access_at(SCENE(2), 20000, BRIDGE, 0xcfc, false), inner = outer;

	inner.kind = RECORD_PCI;
	inner.flags |= RECORD_NESTED;
	inner.begin += 2000;
	inner.duration = 10000;
	inner.device = DISK;
	inner.address = 0x8000; /* 00:01.0 */
	add(scenes, RING_VCPU0, &inner);
	add(scenes, RING_VCPU0, &outer);
}

static void add_accesses(struct scenes *scenes)
{
	struct watch_record record;

	add_pci(scenes);
	for (uint64_t i = 0; i < 1000; i++) {
		record = access_at(SCENE(4) + i * MS, 300000, SERIAL, 0x3f8, true);
		add(scenes, RING_VCPU0, &record);
	}
	for (uint64_t i = 0; i < 3; i++) {
		record = access_at(SCENE(5) + i * 10000, 5000, STORE_NO_DEVICE, 0x80, true);
		record.flags |= RECORD_UNCLAIMED;
		add(scenes, RING_VCPU0, &record);
	}
	for (uint64_t i = 0; i < 1900; i++) {
		record = access_at(SCENE(5) + MS + i * MS / 2, 10000, SERIAL, 0x3fd, false);
		add(scenes, RING_VCPU0, &record);
	}
	for (uint64_t i = 0; i < 100; i++) {
		record = access_at(SCENE(6) + i * 10 * MS, 5000, RTC, 0x70, true);
		record.data = i & 0x7f;
		record.access.registers.general[0] = record.data;
		add(scenes, RING_VCPU0, &record);
	}
}

static int copy(int from, const char *path)
{
	int to = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	struct stat st;
	off_t at = 0;

	if (to < 0 || fstat(from, &st) < 0)
		return -errno;
	while (at < st.st_size)
		if (sendfile(to, from, &at, (size_t)(st.st_size - at)) <= 0)
			return -EIO;
	return close(to) < 0 ? -errno : 0;
}

static void set_header(struct store *store)
{
	static const char *const devices[] = { "serial", "virtio-blk.0", "virtio-net.0", "rtc",
					       "pci-data" };
	struct store_header *header = store_header(store);

	store_set_clock(store, 1000000000);
	header->anchor_tsc = 0;
	header->anchor_wall_ns = WALL_NS;
	header->mode = STORE_NORMAL;
	for (size_t i = 0; i < ARRAY_SIZE(devices); i++)
		store_device(store, devices[i]);
}

int main(int argc, char **argv)
{
	static const char *const names[RINGS] = { "vcpu0", "vcpu1", "blk.0:0", "net.0:1", "times" };
	int fd = store_make_fd("vm1", RINGS, 2, 4096);
	struct scenes scenes = { 0 };

	if (argc != 2 || fd < 0 || store_open(fd, &scenes.store) < 0)
		return 1;
	set_header(scenes.store);
	for (uint32_t i = 0; i < RINGS; i++)
		scenes.rings[i] = store_ring(scenes.store, i, names[i]);
	add_times(&scenes);
	add_disk(&scenes);
	add_net(&scenes);
	add_accesses(&scenes);
	store_free(scenes.store);
	return copy(fd, argv[1]) < 0;
}
