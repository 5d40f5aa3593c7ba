/* SPDX-License-Identifier: Apache-2.0 */
#include "move/saved/saved.h"

#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>
#include <zlib.h>

#include "base/cleanup.h"
#include "base/endian.h"
#include "base/fd.h"
#include "host/runtime.h"
#include "move/saved/internal.h"

#define CRC_BYTES 4
#define USED_BYTES 512ULL
#define USED_PAYLOAD_MAX (USED_BYTES - FRAME_HEADER_BYTES - CRC_BYTES)
#define HEAD_MAX MIB(1)
#define RAM_MAX (1ULL << 46)
#define INDEX_LIMIT MIB(512) /* of a VM of some terabytes, in chunks of a megabyte and less */

/* ---- one frame ---- */

int saved_damaged(struct error *err, uint64_t at, const char *what)
{
	return error_set(err, -EBADMSG, EXIT_STATUS_FAILED,
			 "file: damaged at byte %llu: %s; take another copy of it",
			 (unsigned long long)at, what);
}

static int cut_off(struct error *err, uint64_t at)
{
	return saved_damaged(err, at, "it ends too early");
}

static int judge_checked(const struct frame *frame, uint64_t at, struct error *err)
{
	return frame->flags & FRAME_CHECKED ? 0
					    : saved_damaged(err, at, "a frame without a checksum");
}

/* The header of the frame at `at`, which ends at `end` or before. */
static int read_header(int fd, uint64_t at, uint64_t end, uint64_t serial, struct frame *ret_frame,
		       struct error *err)
{
	uint8_t header[FRAME_HEADER_BYTES];
	struct error why = { 0 };
	int r;

	if (end < at || end - at < sizeof(header) + CRC_BYTES)
		return cut_off(err, at);
	r = fd_read_at(fd, header, sizeof(header), at);
	if (r < 0)
		return r == -ENODATA ? cut_off(err, at) : r;
	if (frame_parse(header, serial, ret_frame, &why) < 0)
		return saved_damaged(err, at, why.message);
	r = judge_checked(ret_frame, at, err);
	if (r == 0 && end - at - sizeof(header) - CRC_BYTES < ret_frame->len)
		return cut_off(err, at);
	return r;
}

static int reserve(struct buffer *payload, size_t len)
{
	uint8_t *data;

	if (len <= payload->capacity)
		return 0;
	data = realloc(payload->data, len);
	if (!data)
		return -ENOMEM;
	payload->data = data;
	payload->capacity = len;
	return 0;
}

/* `payload` is read with its CRC behind it. */
static int read_payload(int fd, uint64_t at, const struct frame *frame, struct buffer *payload,
			struct error *err)
{
	size_t len = frame->len + CRC_BYTES;
	int r = reserve(payload, len);

	if (r == 0)
		r = fd_read_at(fd, payload->data, len, at + FRAME_HEADER_BYTES);
	if (r < 0)
		return r == -ENODATA ? cut_off(err, at) : r;
	payload->len = frame->len;
	if (crc32_z(0, payload->data, frame->len) != le_load(payload->data + frame->len, CRC_BYTES))
		return saved_damaged(err, at, "a checksum does not fit");
	return 0;
}

int saved_read_frame(int fd, uint64_t at, uint64_t end, uint64_t serial, struct buffer *payload,
		     struct frame *ret_frame, struct error *err)
{
	int r = read_header(fd, at, end, serial, ret_frame, err);

	if (r == 0)
		r = read_payload(fd, at, ret_frame, payload, err);
	/* What damage is was told already. */
	return r < 0 ? error_set(err, r, EXIT_STATUS_FAILED, "file: cannot be read: %s",
				 strerror(-r))
		     : 0;
}

uint64_t saved_frame_bytes(uint64_t len)
{
	return FRAME_HEADER_BYTES + len + CRC_BYTES;
}

/* In one piece, so that a frame costs one call. */
static int write_frame(int fd, uint64_t at, uint64_t serial, uint16_t kind, const void *payload,
		       size_t len)
{
	const struct frame frame = { .kind = kind, .flags = FRAME_CHECKED, .len = (uint32_t)len };
	uint8_t header[FRAME_HEADER_BYTES], crc[CRC_BYTES];
	int r;

	frame_header(&frame, serial, header);
	le_store(crc, CRC_BYTES, crc32_z(0, payload, len));
	r = fd_write_at(fd, header, sizeof(header), at);
	if (r == 0)
		r = fd_write_at(fd, payload, len, at + sizeof(header));
	if (r == 0)
		r = fd_write_at(fd, crc, sizeof(crc), at + sizeof(header) + len);
	return r;
}

/* ---- marks ---- */

static int read_given(struct saved *saved, struct error *err)
{
	static const char zeros[MARK_GIVEN_BYTES];
	char text[MARK_GIVEN_BYTES];
	int r = fd_read_at(saved->fd, text, sizeof(text), 0);

	if (r == 0 && memcmp(text, zeros, sizeof(text)) == 0)
		return error_set(err, -EINVAL, EXIT_STATUS_FAILED,
				 "file: its save was not finished, and the VM went on; remove it");
	if (r == 0)
		r = mark_given_decode(text, sizeof(text), &saved->given);
	if (r < 0)
		return error_set(
			err, -EINVAL, EXIT_STATUS_USAGE,
			"file: is not a saved VM, or its first 512 bytes are damaged; give "
			"what utsusu save wrote");
	return saved->given.result != MARK_NEVER
		       ? 0
		       : error_set(
				 err, -EINVAL, EXIT_STATUS_FAILED,
				 "file: its save was not finished, and the VM went on; remove it");
}

static bool is_printable(const char *text, size_t len)
{
	for (size_t i = 0; i < len; i++)
		if (text[i] < ' ' || text[i] > '~')
			return false;
	return true;
}

/* A mark that cannot be read is a mark: nobody may run it twice for that. */
static int read_used(int fd, struct saved_used *ret_used)
{
	static const char zeros[USED_BYTES];
	struct saved_used used = { .used = true, .by = "somebody (the mark is damaged)" };
	_cleanup_(buffer_release) struct buffer payload;
	char bytes[USED_BYTES];
	struct frame frame;
	struct error unheard = { 0 };
	int r = fd_read_at(fd, bytes, sizeof(bytes), SAVED_USED_AT);

	buffer_init(&payload, USED_BYTES);
	if (r < 0)
		return r == -ENODATA ? -EBADMSG : r;
	used.used = memcmp(bytes, zeros, sizeof(bytes)) != 0;
	if (used.used &&
	    saved_read_frame(fd, SAVED_USED_AT, SAVED_USED_AT + USED_BYTES, 0, &payload, &frame,
			     &unheard) == 0 &&
	    frame.kind == SAVED_USED && frame.len > 8 && frame.len < 8 + sizeof(used.by) &&
	    is_printable((char *)payload.data + 8, frame.len - 8)) {
		used.wall_ns = le_load(payload.data, 8);
		snprintf(used.by, sizeof(used.by), "%.*s", (int)frame.len - 8,
			 (char *)payload.data + 8);
	}
	*ret_used = used;
	return 0;
}

int saved_refuse_used(const struct saved_used *used, struct error *err)
{
	time_t seconds = (time_t)(used->wall_ns / 1000000000);
	char when[32] = "?";
	struct tm tm;

	if (gmtime_r(&seconds, &tm))
		strftime(when, sizeof(when), "%Y-%m-%d %H:%M:%S UTC", &tm);
	return error_set(
		err, -EALREADY, EXIT_STATUS_BUSY,
		"file: was restored already, by %s at %s; a saved VM runs once: --clone makes "
		"another one of it",
		used->by, when);
}

static int lock_file(int fd, short type)
{
	struct flock lock = {
		.l_type = type, .l_whence = SEEK_SET, .l_start = SAVED_USED_AT, .l_len = 1
	};

	return fcntl(fd, F_OFD_SETLK, &lock) < 0 ? -errno : 0;
}

static int sync_file(int fd)
{
	return fdatasync(fd) < 0 ? -errno : 0;
}

static int write_used(int fd, const char *by, uint64_t wall_ns)
{
	uint8_t payload[USED_PAYLOAD_MAX];
	size_t len = strnlen(by, MARK_PEER_MAX - 1);
	int r;

	le_store(payload, 8, wall_ns);
	memcpy(payload + 8, by, len);
	r = write_frame(fd, SAVED_USED_AT, 0, SAVED_USED, payload, 8 + len);
	return r < 0 ? r : sync_file(fd);
}

static int clear_used(int fd)
{
	static const char zeros[USED_BYTES];
	int r = fd_write_at(fd, zeros, sizeof(zeros), SAVED_USED_AT);

	return r < 0 ? r : sync_file(fd);
}

static int use_locked(int fd, const char *by, uint64_t wall_ns, struct error *err)
{
	struct saved_used used;
	int r = read_used(fd, &used);

	if (r == 0 && used.used)
		return saved_refuse_used(&used, err);
	if (r == 0)
		r = write_used(fd, by, wall_ns);
	if (r < 0) {
		(void)!clear_used(fd);
		return error_set(
			err, r, EXIT_STATUS_HOST,
			"file: that it is used cannot be written into it: %s; put it where "
			"it can be written, or use --clone",
			strerror(-r));
	}
	return 0;
}

int saved_use(int fd, const char *by, uint64_t wall_ns, struct error *err)
{
	int r = lock_file(fd, F_WRLCK);

	if (r < 0)
		return error_set(err, r, EXIT_STATUS_BUSY,
				 "file: somebody else restores it just now, or it cannot be locked "
				 "(%s); wait for that",
				 strerror(-r));
	r = use_locked(fd, by, wall_ns, err);
	(void)lock_file(fd, F_UNLCK);
	return r;
}

int saved_unuse(int fd, const char *by, uint64_t wall_ns)
{
	struct saved_used used;
	int r = lock_file(fd, F_WRLCK);

	if (r < 0)
		return r;
	r = read_used(fd, &used);
	if (r == 0 && used.used)
		r = used.wall_ns == wall_ns && strncmp(used.by, by, sizeof(used.by) - 1) == 0
			    ? clear_used(fd)
			    : -EALREADY;
	(void)lock_file(fd, F_UNLCK);
	return r;
}

/* ---- head ---- */

static bool take_text(const json_t *json, const char *key, char *to, size_t size)
{
	const json_t *value = json_object_get(json, key);
	size_t len = json_string_length(value);

	if (!json_is_string(value) || len >= size || strlen(json_string_value(value)) != len)
		return false;
	memcpy(to, json_string_value(value), len + 1);
	return true;
}

static bool take_number(const json_t *json, const char *key, uint64_t *ret_number)
{
	const json_t *value = json_object_get(json, key);

	if (!json_is_integer(value) || json_integer_value(value) < 0)
		return false;
	*ret_number = (uint64_t)json_integer_value(value);
	return true;
}

static bool take_config(const json_t *json, char **ret_config)
{
	const json_t *config = json_object_get(json, "config");

	*ret_config = json_is_object(config) ? json_dumps(config, JSON_COMPACT) : NULL;
	return *ret_config;
}

static int decode_head(struct saved *saved, const struct buffer *payload, struct error *err)
{
	json_auto_t *json = json_loadb((char *)payload->data, payload->len, JSON_REJECT_DUPLICATES,
				       NULL);
	struct saved_head *head = &saved->head;
	uint64_t version;

	if (!take_number(json, "version", &version))
		return saved_damaged(err, SAVED_FRAMES_AT, "its head is not understood");
	if (version != SAVED_VERSION)
		return error_set(
			err, -EPROTONOSUPPORT, EXIT_STATUS_USAGE,
			"file: has version %llu, this utsusu reads %d; use the utsusu that "
			"wrote it, or a later one",
			(unsigned long long)version, SAVED_VERSION);
	if (!take_text(json, "name", head->name, sizeof(head->name)) ||
	    !take_text(json, "uuid", head->uuid, sizeof(head->uuid)) ||
	    !take_number(json, "generation", &head->generation) ||
	    !take_number(json, "ram_bytes", &head->ram_bytes) ||
	    !take_number(json, "wall_ns", &head->wall_ns) ||
	    (json_object_get(json, "host") &&
	     !take_text(json, "host", head->host, sizeof(head->host))) ||
	    !take_config(json, &head->config))
		return saved_damaged(err, SAVED_FRAMES_AT, "its head is not understood");
	if (!head->ram_bytes || head->ram_bytes > RAM_MAX || head->ram_bytes % 4096 ||
	    !uuid_valid(head->uuid) || !runtime_name_valid(head->name))
		return saved_damaged(err, SAVED_FRAMES_AT,
				     "its head names a machine that cannot be");
	if (strcmp(head->name, saved->given.name) != 0 ||
	    strcmp(head->uuid, saved->given.uuid) != 0)
		return saved_damaged(err, SAVED_FRAMES_AT, "its head is another VM's");
	return 0;
}

static int read_head(struct saved *saved, struct error *err)
{
	_cleanup_(buffer_release) struct buffer payload;
	struct frame frame;
	int r;

	buffer_init(&payload, FRAME_MAX);
	saved->at = SAVED_FRAMES_AT;
	r = saved_next(saved, &payload, &frame, err);
	if (r < 0)
		return r;
	if (frame.kind != SAVED_HEAD || frame.len > HEAD_MAX)
		return saved_damaged(err, SAVED_FRAMES_AT, "it does not begin with its head");
	return decode_head(saved, &payload, err);
}

/* ---- foot ---- */

/* Its serial says how many frames stand before it, and so does it: a file that lacks some has another length. */
static int read_foot(struct saved *saved, struct error *err)
{
	_cleanup_(buffer_release) struct buffer payload;
	uint64_t at = saved->size - SAVED_FOOT_BYTES;
	struct error unheard = { 0 };
	uint8_t serial[8];
	struct frame frame;
	int r = fd_read_at(saved->fd, serial, sizeof(serial), at + 8);

	buffer_init(&payload, FRAME_MAX);
	if (r == 0)
		r = saved_read_frame(saved->fd, at, saved->size, le_load(serial, sizeof(serial)),
				     &payload, &frame, &unheard);
	if (r < 0 || frame.kind != SAVED_FOOT || frame.len != 32)
		return error_set(err, -EBADMSG, EXIT_STATUS_FAILED,
				 "file: its end is not there: it was cut off, or is damaged; take "
				 "another copy of it");
	saved->n_frames = le_load(payload.data, 8);
	saved->n_chunks = le_load(payload.data + 8, 8);
	saved->n_pages = le_load(payload.data + 16, 8);
	saved->index_at = le_load(payload.data + 24, 8);
	if (saved->n_frames != le_load(serial, sizeof(serial)) || saved->index_at > at ||
	    saved->n_chunks > saved->n_frames)
		return saved_damaged(err, at, "its end does not fit the rest");
	return 0;
}

static int read_size(struct saved *saved, struct error *err)
{
	struct stat st;

	if (fstat(saved->fd, &st) < 0)
		return error_set(err, -errno, EXIT_STATUS_FAILED, "file: cannot be read: %s",
				 strerror(errno));
	if (!S_ISREG(st.st_mode) || st.st_size < (off_t)(SAVED_FRAMES_AT + SAVED_FOOT_BYTES))
		return error_set(err, -EINVAL, EXIT_STATUS_USAGE,
				 "file: is not a saved VM, or was cut off; give what utsusu save "
				 "wrote");
	saved->size = (uint64_t)st.st_size;
	return 0;
}

int saved_open(int fd, struct saved *ret_saved, struct error *err)
{
	int r;

	*ret_saved = (struct saved){ .fd = fd };
	r = read_size(ret_saved, err);
	if (r == 0)
		r = read_given(ret_saved, err);
	if (r == 0 && read_used(fd, &ret_saved->used) < 0)
		r = saved_damaged(err, SAVED_USED_AT, "it cannot be read");
	if (r == 0)
		r = read_foot(ret_saved, err);
	return r < 0 ? r : read_head(ret_saved, err);
}

void saved_release(struct saved *saved)
{
	free(saved->head.config);
	saved->head.config = NULL;
}

int saved_next(struct saved *saved, struct buffer *payload, struct frame *ret_frame,
	       struct error *err)
{
	int r = saved_read_frame(saved->fd, saved->at, saved->size, saved->serial, payload,
				 ret_frame, err);

	if (r < 0)
		return r;
	saved->at += saved_frame_bytes(ret_frame->len);
	saved->serial++;
	return 0;
}

/* ---- writing ---- */

int saved_writer_init(struct saved_writer *writer, int fd)
{
	*writer = (struct saved_writer){ .fd = fd, .at = SAVED_FRAMES_AT };
	buffer_init(&writer->index, INDEX_LIMIT);
	return ftruncate(fd, SAVED_FRAMES_AT) < 0 ? -errno : 0;
}

void saved_writer_release(struct saved_writer *writer)
{
	buffer_release(&writer->index);
}

int saved_write(struct saved_writer *writer, uint16_t kind, const void *payload, size_t len)
{
	int r = len > FRAME_MAX
			? -EMSGSIZE
			: write_frame(writer->fd, writer->at, writer->serial, kind, payload, len);

	if (r < 0)
		return r;
	writer->at += saved_frame_bytes(len);
	writer->serial++;
	return 0;
}

int saved_write_head(struct saved_writer *writer, const struct saved_head *head)
{
	json_t *config = json_loads(head->config, JSON_REJECT_DUPLICATES, NULL);
	json_auto_t *json = json_pack("{s:i, s:s, s:s, s:I, s:I, s:I, s:s, s:o}", "version",
				      SAVED_VERSION, "name", head->name, "uuid", head->uuid,
				      "generation", (json_int_t)head->generation, "ram_bytes",
				      (json_int_t)head->ram_bytes, "wall_ns",
				      (json_int_t)head->wall_ns, "host", head->host, "config",
				      config);
	_cleanup_(freep) char *text = json ? json_dumps(json, JSON_COMPACT) : NULL;

	return text ? saved_write(writer, SAVED_HEAD, text, strlen(text)) : -ENOMEM;
}

int saved_write_chunk(struct saved_writer *writer, uint64_t first, uint32_t n_pages,
		      const void *payload, size_t len)
{
	int r = buffer_append_le(&writer->index, first, 8);

	if (r == 0)
		r = buffer_append_le(&writer->index, n_pages, 4);
	if (r == 0)
		r = buffer_append_le(&writer->index, writer->at, 8);
	if (r == 0)
		r = saved_write(writer, MOVE_PACKED, payload, len);
	writer->n_chunks++;
	writer->n_pages += n_pages;
	return r;
}

static int write_index(struct saved_writer *writer)
{
	const struct buffer *index = &writer->index;
	int r = 0;

	for (size_t at = 0, n; r == 0 && at < index->len; at += n) {
		n = MIN(index->len - at, (size_t)SAVED_INDEX_MAX * SAVED_INDEX_ENTRY);
		r = saved_write(writer, SAVED_INDEX, index->data + at, n);
	}
	return r;
}

int saved_finish(struct saved_writer *writer)
{
	uint64_t index_at = writer->at;
	uint8_t foot[32];
	int r = write_index(writer);

	le_store(foot, 8, writer->serial);
	le_store(foot + 8, 8, writer->n_chunks);
	le_store(foot + 16, 8, writer->n_pages);
	le_store(foot + 24, 8, index_at);
	if (r == 0)
		r = saved_write(writer, SAVED_FOOT, foot, sizeof(foot));
	return r < 0 ? r : sync_file(writer->fd);
}
