/* SPDX-License-Identifier: Apache-2.0 */
#include "traffic.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#define KERNEL 0xffffffff81000000ULL
#define DISK_RING TRAFFIC_VCPUS
#define NET_RING (TRAFFIC_VCPUS + 1)

/* An instruction, and what it does: operands are in registers as the code wants them. */
static const struct place {
	uint64_t offset; /* from KERNEL */
	uint8_t code[8], length;
	uint8_t kind, flags, size;
	uint64_t address;
	unsigned int weight; /* how often */
	uint64_t least_ns;
} places[] = {
	/* out dx, al; in al, dx: the serial line */
	{ 0x4a1230, { 0xee }, 1, RECORD_PIO, RECORD_WRITE, 1, 0x3f8, 30, 6000 },
	{ 0x4a1258, { 0xec }, 1, RECORD_PIO, 0, 1, 0x3fd, 34, 4000 },
	/* mov word ptr [rdi], ax: the disk's doorbell */
	{ 0x61c0a4, { 0x66, 0x89, 0x07 }, 3, RECORD_MMIO, RECORD_WRITE, 2, 0xfe003000, 16, 9000 },
	/* mov word ptr [rdi], ax: the network's */
	{ 0x61c0d8, { 0x66, 0x89, 0x07 }, 3, RECORD_MMIO, RECORD_WRITE, 2, 0xfe007000, 12, 8000 },
	/* movzx eax, byte ptr [rdi]: an interrupt's cause */
	{ 0x61d51c, { 0x0f, 0xb6, 0x07 }, 3, RECORD_MMIO, 0, 1, 0xfe006000, 6, 7000 },
	/* out dx, eax: a port that nobody has */
	{ 0x0220f1, { 0xef }, 1, RECORD_PIO, RECORD_WRITE, 4, 0x510, 1, 3000 },
};
#define WEIGHTS 99

/* Numbers that look like chance (splitmix64), the same for the same `of`. */
static uint64_t chance(uint64_t of)
{
	of += 0x9e3779b97f4a7c15ULL;
	of = (of ^ (of >> 30)) * 0xbf58476d1ce4e5b9ULL;
	of = (of ^ (of >> 27)) * 0x94d049bb133111ebULL;
	return of ^ (of >> 31);
}

void traffic_begin(struct traffic *traffic, struct store *store, uint64_t begin_tsc,
		   uint64_t interval, uint64_t hz)
{
	char name[STORE_NAME];

	*traffic = (struct traffic){ .begin_tsc = begin_tsc, .interval = interval, .hz = hz };
	for (uint32_t i = 0; i < TRAFFIC_VCPUS; i++) {
		snprintf(name, sizeof(name), "vcpu%u", i);
		traffic->rings[i] = store_ring(store, i, name);
	}
	traffic->rings[DISK_RING] = store_ring(store, DISK_RING, "blk.0:0");
	traffic->rings[NET_RING] = store_ring(store, NET_RING, "net.0:0");
	traffic->serial = store_device(store, "serial");
	traffic->disk = store_device(store, "virtio-blk.0");
	traffic->net = store_device(store, "virtio-net.0");
	/* A name that a page must not take for anything but a name. */
	traffic->odd = store_device(store, "<img src=x onerror=alert(1)>");
}

/* A latency with a long tail, from `least` on; ns. */
static uint64_t latency_of(uint64_t least, uint64_t luck)
{
	uint64_t ns = least + luck % least;

	for (luck >>= 20; (luck & 3) == 0 && ns < NSEC_PER_SEC; luck >>= 2)
		ns *= 2;
	return ns;
}

static const struct place *place_of(uint64_t luck)
{
	unsigned int at = luck % WEIGHTS;
	const struct place *place = places;

	while (at >= place->weight)
		at -= (place++)->weight;
	return place;
}

static uint16_t device_of(const struct traffic *traffic, uint64_t address)
{
	switch (address) {
	case 0x3f8:
	case 0x3fd:
		return traffic->serial;
	case 0xfe003000:
		return traffic->disk;
	case 0x510:
		return STORE_NO_DEVICE;
	case 0xfe006000:
		return traffic->odd;
	default:
		return traffic->net;
	}
}

/* What a vCPU's registers are when it stands on the instruction. */
static void fill_access(struct record_access *access, const struct place *place, uint64_t data,
			uint64_t luck)
{
	/* push rbp; mov rbp, rsp; nop ... | the instruction | pop rbp; ret; nop ... */
	static const uint8_t before[RECORD_WINDOW] = {
		0x55, 0x48, 0x89, 0xe5, 0x0f, 0x1f, 0x84, 0, 0, 0, 0, 0, 0x0f, 0x1f, 0x40, 0
	};
	static const uint8_t after[RECORD_WINDOW] = { 0x5d, 0xc3, 0x66, 0x90, 0x66, 0x90,
						      0x66, 0x90, 0x66, 0x90, 0x66, 0x90,
						      0x66, 0x90, 0x66, 0x90 };
	struct record_registers *registers = &access->registers;

	access->mode = 64;
	access->n_before = access->n_after = RECORD_WINDOW;
	memcpy(access->code, before, sizeof(before));
	memcpy(access->code + RECORD_WINDOW, place->code, place->length);
	memcpy(access->code + RECORD_WINDOW + place->length, after,
	       (size_t)(RECORD_WINDOW - place->length));
	access->cr3 = 0x2a44000;
	registers->rip = KERNEL + place->offset;
	registers->rflags = 0x246;
	registers->general[0] = data;
	registers->general[1] = luck % 64;
	registers->general[2] = place->address;
	registers->general[4] = 0xffffc90000013e00 + (luck % 8) * 16;
	registers->general[7] = 0xffffc90000200000 + (place->address & 0xfff);
}

static void fill_place(const struct traffic *traffic, struct watch_record *record, uint64_t luck)
{
	const struct place *place = place_of(luck);
	uint64_t data = place->size == 1 ? 0x20 + luck % 95 : luck % 16;

	record->kind = place->kind;
	record->flags = place->flags;
	record->size = place->size;
	record->address = place->address;
	record->data = data;
	record->device = device_of(traffic, place->address);
	if (record->device == STORE_NO_DEVICE)
		record->flags |= RECORD_UNCLAIMED;
	record->duration = latency_of(place->least_ns, luck >> 8);
	fill_access(&record->access, place, data, luck);
}

/* Between the fourth and the sixth second the disk is slow. */
static void fill_disk(const struct traffic *traffic, struct watch_record *record, uint64_t luck)
{
	uint64_t seconds = traffic->n * traffic->interval / traffic->hz;

	record->kind = RECORD_DISK;
	record->operation = luck % 3 ? RECORD_DISK_READ : RECORD_DISK_WRITE;
	record->flags = luck % 3 ? 0 : RECORD_WRITE;
	record->address = (luck >> 10) % 100000 * 4096;
	record->data = 4096 << (luck % 5);
	record->device = traffic->disk;
	record->status = luck % 5003 ? 0 : -EIO;
	record->duration = latency_of(seconds >= 4 && seconds < 6 ? 9000000 : 90000, luck >> 8);
}

static void fill_frame(const struct traffic *traffic, struct watch_record *record, uint64_t luck)
{
	record->kind = RECORD_NET;
	record->flags = luck & 1 ? RECORD_WRITE : 0;
	record->data = 60 + luck % 1455;
	record->device = traffic->net;
	record->duration = latency_of(15000, luck >> 8);
	record->frame.n_bytes = 60;
	for (unsigned int i = 0; i < 60; i++)
		record->frame.bytes[i] = (uint8_t)(i * 7 + luck % 16);
}

static unsigned int ring_of(uint64_t luck)
{
	unsigned int share = luck % 100;

	if (share < 8)
		return DISK_RING;
	return share < 14 ? NET_RING : (unsigned int)(luck >> 32) % TRAFFIC_VCPUS;
}

void traffic_next(struct traffic *traffic)
{
	uint64_t luck = chance(traffic->n);
	unsigned int index = ring_of(chance(luck));
	struct ring *ring = traffic->rings[index];
	struct watch_record *record = ring_begin(ring);
	struct watch_record made = {
		.source = (uint16_t)(index < TRAFFIC_VCPUS ? index : 0),
	};

	if (index == DISK_RING)
		fill_disk(traffic, &made, luck);
	else if (index == NET_RING)
		fill_frame(traffic, &made, luck);
	else
		fill_place(traffic, &made, luck);
	made.duration = (uint64_t)((double)made.duration * (double)traffic->hz / NSEC_PER_SEC);
	made.begin = traffic->begin_tsc + traffic->n * traffic->interval;
	if (!traffic->by_beginning)
		made.begin -= made.duration;
	*record = made;
	ring_commit(ring);
	traffic->n++;
}
