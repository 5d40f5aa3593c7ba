/* SPDX-License-Identifier: Apache-2.0 */
/*
 * covers: watch/read/source_recording.c
 *
 * A recording that somebody sent: the input is the file, or (first byte odd) what follows a good header, which takes
 * blocks without their searching for sixteen KiB.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/fd.h"
#include "watch/read/recording.h"

static struct recording_header good_header(void)
{
	struct recording_header header = {
		.magic = RECORDING_MAGIC,
		.version = RECORDING_VERSION,
		.store = {
			.magic = STORE_MAGIC,
			.version = STORE_VERSION,
			.record_size = sizeof(struct watch_record),
			.n_rings = 3,
			.ring_records = 16,
			.n_devices = 1,
			.devices = { "serial" },
		},
		.rings = { "vcpu0" },
	};

	return header;
}

static void write_file(int fd, const uint8_t *data, size_t size)
{
	const struct recording_header header = good_header();
	uint64_t offset = 0;

	if (size && (data[0] & 1)) {
		if (fd_write_at(fd, &header, sizeof(header), 0) < 0)
			abort();
		offset = RECORDING_HEADER;
	}
	if (size && fd_write_at(fd, data + 1, size - 1, offset) < 0)
		abort();
}

static void read_all(struct watch_source *source, size_t size)
{
	struct watch_record record;
	size_t n = 0;
	uint32_t ring;
	int r;

	while ((r = source_next(source, &record, &ring)) == 1) {
		if (ring >= source_header(source)->n_rings || !record.kind ||
		    ++n > size / sizeof(record))
			abort();
		(void)source_device_name(source, record.device);
		(void)source_ring_name(source, ring);
	}
	if (r != -ENODATA && r != -EPROTO)
		abort();
	(void)source_lost(source);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	int fd = memfd_create("recording", MFD_CLOEXEC);
	struct watch_source *source;
	struct error err = { 0 };
	char path[64];

	if (fd < 0)
		abort();
	write_file(fd, data, size);
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	if (source_open_recording(path, &source, &err) == 0) {
		read_all(source, size);
		source_free(source);
	} else if (!err.message[0]) {
		abort();
	}
	close(fd);
	return 0;
}
