/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A directory in the Common Trace Format 1.8, for babeltrace2 and Trace Compass: `metadata`, and a stream file for each
 * ring ("vcpu0", "blk.0:1"). Packets are made in memory, as their headers tell what is in them.
 *
 *   stream file: | packet header, context | event | event | ... | packet | ...
 *   event:       | id of its kind, time | fields of that kind (ctf_metadata.c) |
 *
 * Times of a stream must not go back, but a request that took long comes late (watch/read/source.h). Its event then has
 * the time of the one before it; its field `begin` always says when it began.
 */
#include "view/export/ctf.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>

#include "base/endian.h"
#include "base/fd.h"
#include "view/export/export.h"

#define PACKET_BYTES 65536
#define EVENT_MAX 1024 /* of one event; the longest has less than half of it */

struct packet {
	uint64_t begin_ns, end_ns, lost; /* `lost` of its stream so far */
	size_t len;
	uint8_t data[PACKET_BYTES];
};

struct ctf_stream {
	struct export_stream *file;
	struct packet packet;
};

struct ctf {
	struct view_context *view;
	int dir_fd;
	uint8_t uuid[CTF_UUID];
	uint64_t lost; /* to be told by the next record's stream */
	struct ctf_stream *streams[STORE_RINGS_MAX];
};

/* Bytes of an event, or of a packet's header; never more than fit. */

static void add(struct packet *packet, uint64_t value, size_t size)
{
	le_store(packet->data + packet->len, size, value);
	packet->len += size;
}

static void add_text(struct packet *packet, const char *text)
{
	size_t len = strlen(text) + 1;

	memcpy(packet->data + packet->len, text, len);
	packet->len += len;
}

static void add_bytes(struct packet *packet, const uint8_t *bytes, size_t len)
{
	if (len)
		memcpy(packet->data + packet->len, bytes, len);
	packet->len += len;
}

/* The packet's header and context, as ctf_metadata.c describes them. */
static void add_header(struct packet *packet, const struct ctf *ctf, uint32_t ring, uint64_t bits)
{
	size_t len = packet->len;

	packet->len = 0;
	add(packet, CTF_MAGIC, 4);
	add_bytes(packet, ctf->uuid, CTF_UUID);
	add(packet, 0, 4); /* stream class */
	add(packet, packet->begin_ns, 8);
	add(packet, packet->end_ns, 8);
	add(packet, bits, 8); /* content */
	add(packet, bits, 8); /* with padding, of which there is none */
	add(packet, packet->lost, 8);
	add(packet, ring, 4);
	packet->len = MAX(len, packet->len);
}

static int write_packet(struct ctf *ctf, uint32_t ring)
{
	struct ctf_stream *stream = ctf->streams[ring];
	struct packet *packet = &stream->packet;
	int r;

	if (!packet->len)
		return 0;
	add_header(packet, ctf, ring, 8 * packet->len);
	r = export_stream_write(stream->file, packet->data, packet->len);
	packet->len = 0;
	return r;
}

/* Events. */

static void add_common(struct packet *packet, struct view_context *view,
		       const struct watch_record *record, uint64_t begin_ns)
{
	char device[64];

	view_format_device(view, record, device, sizeof(device));
	add(packet, begin_ns, 8);
	add(packet, view->times.ticks_ns(view->times.ctx, record->duration), 8);
	add(packet, record->source, 2);
	add(packet, record->flags, 1);
	add_text(packet, device);
}

static void add_access(struct packet *packet, const struct watch_record *record)
{
	const struct record_access *access = &record->access;
	bool is_known = view_has_instruction(record);
	const uint8_t *code = NULL;
	size_t n_code = view_instruction_code(record, &code);

	add(packet, record->address, 8);
	add(packet, record->data, 8);
	add(packet, record->size, 1);
	add(packet, record->repeat, 4);
	add(packet, is_known ? view_instruction_address(record) : 0, 8);
	add(packet, MIN(access->verdict, RECORD_VERDICTS - 1), 1);
	add(packet, access->mode, 1);
	add(packet, n_code, 1);
	add_bytes(packet, code, n_code);
	for (size_t i = 0; i < ARRAY_SIZE(access->registers.general); i++)
		add(packet, access->registers.general[i], 8);
	add(packet, access->registers.rip, 8);
	add(packet, access->registers.rflags, 8);
	add(packet, access->cr3, 8);
}

static void add_request(struct packet *packet, const struct watch_record *record)
{
	if (record->kind == RECORD_DISK) {
		add(packet, MIN(record->operation, RECORD_DISK_OTHER), 1);
		add(packet, record->address, 8);
	}
	add(packet, record->data, 8);
	add(packet, (uint32_t)record->status, 4);
	if (record->kind != RECORD_NET)
		return;
	add(packet, MIN(record->frame.n_bytes, RECORD_FRAME_BYTES), 1);
	add_bytes(packet, record->frame.bytes, MIN(record->frame.n_bytes, RECORD_FRAME_BYTES));
}

static void add_event(struct ctf *ctf, struct packet *packet, const struct watch_record *record)
{
	const struct analysis_times *times = &ctf->view->times;
	uint64_t begin_ns = times->wall_ns(times->ctx, record->begin);

	packet->end_ns = MAX(packet->end_ns, begin_ns);
	if (!packet->len) {
		packet->begin_ns = packet->end_ns;
		packet->len = CTF_PACKET_HEADER;
	}
	packet->lost += ctf->lost;
	ctf->lost = 0;
	add(packet, record->kind, 2);
	add(packet, packet->end_ns, 8);
	add_common(packet, ctf->view, record, begin_ns);
	if (record_is_access(record))
		add_access(packet, record);
	else
		add_request(packet, record);
}

/* A file name of the ring's name, which is another's text. */
static void name_stream(const struct ctf *ctf, uint32_t ring, char *ret_name, size_t size)
{
	char name[64];

	view_format_ring(ctf->view, ring, name, sizeof(name));
	for (char *c = name; *c; c++)
		if (*c == '/' || *c == ' ' || *c == '?')
			*c = '_';
	snprintf(ret_name, size, "stream_%u_%s", (unsigned int)ring, name);
}

static int open_stream(struct ctf *ctf, uint32_t ring)
{
	_cleanup_(freep) struct ctf_stream *stream = calloc(1, sizeof(*stream));
	char name[128];
	int r;

	if (!stream)
		return -ENOMEM;
	name_stream(ctf, ring, name, sizeof(name));
	r = export_stream_open_at(ctf->dir_fd, name, &stream->file);
	if (r < 0)
		return r;
	ctf->streams[ring] = TAKE_PTR(stream);
	return 0;
}

static int ctf_record(void *state, const struct watch_record *record, uint32_t ring)
{
	struct ctf *ctf = state;
	int r = 0;

	if (ring >= STORE_RINGS_MAX)
		return 0;
	if (!ctf->streams[ring])
		r = open_stream(ctf, ring);
	if (r == 0 && ctf->streams[ring]->packet.len > PACKET_BYTES - EVENT_MAX)
		r = write_packet(ctf, ring);
	if (r < 0)
		return r;
	add_event(ctf, &ctf->streams[ring]->packet, record);
	return 1;
}

static int ctf_lost(void *state, uint64_t records)
{
	((struct ctf *)state)->lost += records;
	return 0;
}

static int ctf_flush(void *state)
{
	struct ctf *ctf = state;
	int r = 0;

	for (uint32_t i = 0; i < STORE_RINGS_MAX && r >= 0; i++) {
		if (!ctf->streams[i])
			continue;
		r = write_packet(ctf, i);
		if (r >= 0)
			r = export_stream_flush(ctf->streams[i]->file);
	}
	return r;
}

static int ctf_close(void *state)
{
	struct ctf *ctf = state;
	int r = ctf_flush(ctf);

	for (uint32_t i = 0; i < STORE_RINGS_MAX; i++) {
		int closed = ctf->streams[i] ? export_stream_close(ctf->streams[i]->file) : 0;

		r = r < 0 ? r : closed;
		free(ctf->streams[i]);
	}
	fd_close(ctf->dir_fd);
	free(ctf);
	return r;
}

/* A directory that is new, or has nothing in it. */
static int open_directory(const char *path)
{
	_cleanup_(fd_closep) int fd = -1;
	struct dirent *entry;
	unsigned int n = 0;
	DIR *dir;

	if (mkdir(path, 0700) < 0 && errno != EEXIST)
		return -errno;
	fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	dir = opendir(path);
	if (fd < 0 || !dir) {
		int r = -errno;

		if (dir)
			closedir(dir);
		return r;
	}
	while ((entry = readdir(dir)))
		n += strcmp(entry->d_name, ".") && strcmp(entry->d_name, "..");
	closedir(dir);
	return n ? -EEXIST : TAKE_FD(fd);
}

static int fail_open(const char *path, int r, struct error *err)
{
	if (r == -EEXIST || r == -ENOTDIR)
		return error_set(err, r, EXIT_STATUS_RESOURCE,
				 "%s: there is something already, and an export replaces nothing; "
				 "name a directory that is new or empty",
				 path);
	return error_set(err, r, EXIT_STATUS_RESOURCE,
			 "%s: the directory cannot be made or written: %s; name another one", path,
			 strerror(-r));
}

static int write_metadata(struct ctf *ctf)
{
	struct export_stream *file = NULL;
	int r = export_stream_open_at(ctf->dir_fd, "metadata", &file);

	if (r < 0)
		return r;
	r = ctf_write_metadata(file, ctf->view, ctf->uuid);
	if (r < 0) {
		export_stream_close(file);
		return r;
	}
	return export_stream_close(file);
}

static int ctf_open(struct view_context *view, void **ret_state, struct error *err)
{
	_cleanup_(freep) struct ctf *ctf = calloc(1, sizeof(*ctf));
	_cleanup_(fd_closep) int dir_fd = -1;
	const char *path = view->options.output;
	int r;

	if (!ctf)
		return error_set(err, -ENOMEM, EXIT_STATUS_HOST,
				 "%s: out of memory; free some and try again", view->title);
	dir_fd = r = open_directory(path);
	if (r >= 0 && getrandom(ctf->uuid, sizeof(ctf->uuid), 0) != sizeof(ctf->uuid))
		r = -EIO;
	if (r >= 0) {
		ctf->view = view;
		ctf->dir_fd = dir_fd;
		r = write_metadata(ctf);
	}
	if (r < 0)
		return fail_open(path, r, err);
	ctf->dir_fd = TAKE_FD(dir_fd);
	*ret_state = TAKE_PTR(ctf);
	return 0;
}

const struct export_format export_ctf = {
	.open = ctf_open,
	.record = ctf_record,
	.lost = ctf_lost,
	.flush = ctf_flush,
	.close = ctf_close,
};
