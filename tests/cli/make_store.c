/* SPDX-License-Identifier: Apache-2.0 */
/* make_store FILE [RECORDS]: the store of a VM that died, as its keeper leaves it, with requests that the tests know: two
 * vCPUs take turns at a serial line, and every tenth request is one of a disk. A nanosecond is a tick; tick 0 is
 * 2026-01-02T03:04:05Z. With 40 requests, number 7 is an access that no device answers and number 9 failed. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <unistd.h>

#include "watch/store.h"

#define WALL_NS 1767323045000000000ULL
#define STEP_NS 1000000 /* between requests */

static void fill_access(struct watch_record *record, uint16_t vcpu, uint64_t number)
{
	record->kind = RECORD_PIO;
	record->flags = number % 3 ? RECORD_WRITE : 0;
	record->size = 1;
	record->address = number % 3 ? 0x3f8 : 0x3fd;
	record->data = number % 3 ? 'A' + number % 26 : 0x60;
	record->duration = 10000 + number;
	record->source = vcpu;
	record->access.mode = 64;
	record->access.n_after = 16;
	record->access.n_before = 16;
	record->access.registers.rip = 0xffffffff81000000 + 16 * (number % 3);
	record->access.registers.general[0] = record->data;
	record->access.registers.general[2] = record->address;
	memset(record->access.code, 0x90, sizeof(record->access.code)); /* nop */
	record->access.code[RECORD_WINDOW] = number % 3 ? 0xee : 0xec;	/* out dx, al; in al, dx */
	if (number == 7) {
		record->device = STORE_NO_DEVICE;
		record->flags |= RECORD_UNCLAIMED;
	}
}

static void fill_disk(struct watch_record *record, uint64_t number)
{
	record->kind = RECORD_DISK;
	record->operation = number % 4 ? RECORD_DISK_WRITE : RECORD_DISK_READ;
	record->flags = number % 4 ? RECORD_WRITE : 0;
	record->address = number * 4096;
	record->data = 4096;
	record->duration = 300000;
	record->status = number == 9 ? -EIO : 0;
	record->device = 1;
}

static void write_records(struct store *store, uint64_t n_records)
{
	struct ring *rings[] = { store_ring(store, 0, "vcpu0"), store_ring(store, 1, "vcpu1"),
				 store_ring(store, 2, "disk:0") };

	for (uint64_t number = 0; number < n_records; number++) {
		unsigned int ring = number % 10 == 9 ? 2 : number % 2;
		struct watch_record *record = ring_begin(rings[ring]);

		memset((char *)record + sizeof(record->sequence), 0,
		       sizeof(*record) - sizeof(record->sequence));
		record->begin = (number + 1) * STEP_NS;
		if (ring == 2)
			fill_disk(record, number);
		else
			fill_access(record, (uint16_t)ring, number);
		ring_commit(rings[ring]);
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

int main(int argc, char **argv)
{
	int fd = store_make_fd("vm1", 3, 2, 1024);
	struct store_header *header;
	struct store *store;

	if (argc < 2 || fd < 0 || store_open(fd, &store) < 0)
		return 1;
	header = store_header(store);
	store_set_clock(store, 1000000000);
	header->anchor_tsc = 0;
	header->anchor_wall_ns = WALL_NS;
	header->mode = STORE_NORMAL;
	store_device(store, "serial");
	store_device(store, "disk");
	write_records(store, argc > 2 ? strtoull(argv[2], NULL, 0) : 40);
	store_free(store);
	return copy(fd, argv[1]) < 0;
}
