/* SPDX-License-Identifier: Apache-2.0 */
#include "wire/frame.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <zlib.h>

#include "base/endian.h"

#define CRC_BYTES 4

static const uint8_t magic[4] = { 'U', 'F', 'R', 'M' };

/* Where the header's fields stand. */
enum { AT_MAGIC = 0, AT_KIND = 4, AT_FLAGS = 6, AT_SERIAL = 8, AT_LENGTH = 16, AT_CRC = 20 };
static_assert(AT_CRC + CRC_BYTES == FRAME_HEADER_BYTES, "a header ends with its CRC");

static uint32_t crc_of(const void *bytes, size_t len)
{
	return (uint32_t)crc32_z(0, bytes, len);
}

static uint32_t trailer_bytes(const struct frame *frame)
{
	return frame->flags & FRAME_CHECKED ? CRC_BYTES : 0;
}

void frame_header(const struct frame *frame, uint64_t serial, uint8_t ret_bytes[FRAME_HEADER_BYTES])
{
	memcpy(ret_bytes + AT_MAGIC, magic, sizeof(magic));
	le_store(ret_bytes + AT_KIND, 2, frame->kind);
	le_store(ret_bytes + AT_FLAGS, 2, frame->flags);
	le_store(ret_bytes + AT_SERIAL, 8, serial);
	le_store(ret_bytes + AT_LENGTH, 4, frame->len + trailer_bytes(frame));
	le_store(ret_bytes + AT_CRC, CRC_BYTES, crc_of(ret_bytes, AT_CRC));
}

static int damaged(struct error *err, const char *what)
{
	return error_set(err, -EBADMSG, EXIT_STATUS_FAILED,
			 "stream: %s: its bytes were damaged on the way, or are not utsusu's",
			 what);
}

static int judge_length(const struct frame *frame, uint64_t length, struct error *err)
{
	if (length < trailer_bytes(frame))
		return damaged(err, "a frame is too short for its checksum");
	if (length - trailer_bytes(frame) > FRAME_MAX)
		return error_set(err, -EMSGSIZE, EXIT_STATUS_FAILED,
				 "stream: a frame of %llu bytes; at most %u are taken",
				 (unsigned long long)length, FRAME_MAX);
	return 0;
}

int frame_parse(const uint8_t bytes[FRAME_HEADER_BYTES], uint64_t serial, struct frame *ret_frame,
		struct error *err)
{
	const uint64_t length = le_load(bytes + AT_LENGTH, 4);
	struct frame frame = {
		.kind = (uint16_t)le_load(bytes + AT_KIND, 2),
		.flags = (uint16_t)le_load(bytes + AT_FLAGS, 2),
	};
	int r;

	if (memcmp(bytes + AT_MAGIC, magic, sizeof(magic)) != 0)
		return damaged(err, "no frame begins where one should");
	if (le_load(bytes + AT_CRC, CRC_BYTES) != crc_of(bytes, AT_CRC))
		return damaged(err, "a frame's header does not agree with its checksum");
	if (le_load(bytes + AT_SERIAL, 8) != serial)
		return damaged(err, "a frame is missing, doubled or out of order");
	if (frame.flags & ~FRAME_KNOWN_FLAGS)
		return damaged(err, "a frame has flags that nobody agreed on");
	r = judge_length(&frame, length, err);
	if (r < 0)
		return r;
	frame.len = (uint32_t)length - trailer_bytes(&frame);
	*ret_frame = frame;
	return 0;
}

int frame_send(struct frame_writer *writer, uint16_t kind, const void *payload, size_t len)
{
	const struct frame frame = { kind, FRAME_CHECKED, (uint32_t)len };
	uint8_t header[FRAME_HEADER_BYTES], crc[CRC_BYTES];
	const struct iovec iov[] = {
		{ header, sizeof(header) },
		{ (void *)payload, len },
		{ crc, sizeof(crc) },
	};

	if (len > FRAME_MAX)
		return -EMSGSIZE;
	frame_header(&frame, writer->serial++, header);
	le_store(crc, CRC_BYTES, crc_of(payload, len));
	return stream_send(writer->stream, iov, ARRAY_SIZE(iov), false);
}

int frame_send_header(struct frame_writer *writer, const struct frame *frame)
{
	uint8_t header[FRAME_HEADER_BYTES];
	const struct iovec iov = { header, sizeof(header) };

	if (frame->len > FRAME_MAX)
		return -EMSGSIZE;
	if (frame->flags & FRAME_CHECKED)
		return -EINVAL;
	frame_header(frame, writer->serial++, header);
	return stream_send(writer->stream, &iov, 1, frame->len > 0);
}

/* `len` is at most FRAME_MAX and a CRC. What was there before is gone. */
static int reserve_payload(struct buffer *payload, size_t len)
{
	payload->len = 0;
	if (len <= payload->capacity)
		return 0;
	free(payload->data);
	payload->capacity = 0;
	payload->data = malloc(len);
	if (!payload->data)
		return -ENOMEM;
	payload->capacity = len;
	return 0;
}

/* Past its first byte a frame that ends is a peer that has gone. */
static int receive_inside(struct stream *stream, void *buf, size_t len)
{
	int r = stream_receive(stream, buf, len);

	return r == -ENODATA ? -ECONNRESET : r;
}

static int receive_payload(struct frame_reader *reader, size_t len)
{
	int r = reserve_payload(&reader->payload, len);

	if (r < 0)
		return r;
	r = receive_inside(reader->stream, reader->payload.data, len);
	if (r == 0)
		reader->payload.len = len;
	return r;
}

static int receive_checked(struct frame_reader *reader, const struct frame *frame,
			   struct error *err)
{
	struct buffer *payload = &reader->payload;
	int r = receive_payload(reader, (size_t)frame->len + CRC_BYTES);

	if (r < 0)
		return r;
	payload->len = frame->len;
	if (le_load(payload->data + frame->len, CRC_BYTES) != crc_of(payload->data, frame->len)) {
		payload->len = 0;
		return damaged(err, "a frame does not agree with its checksum");
	}
	return 0;
}

int frame_receive(struct frame_reader *reader, struct frame *ret_frame, struct error *err)
{
	uint8_t header[FRAME_HEADER_BYTES];
	struct frame frame;
	int r;

	reader->payload.len = 0;
	stream_expect(reader->stream, sizeof(header));
	r = stream_receive(reader->stream, header, sizeof(header));
	if (r < 0)
		return r;
	r = frame_parse(header, reader->serial, &frame, err);
	if (r < 0)
		return r;
	reader->serial++;
	stream_expect(reader->stream, (uint64_t)frame.len + CRC_BYTES);
	if (frame.flags & FRAME_CHECKED)
		r = receive_checked(reader, &frame, err);
	if (r == 0)
		*ret_frame = frame;
	return r;
}

int frame_receive_rest(struct frame_reader *reader, const struct frame *frame)
{
	return receive_payload(reader, frame->len);
}

void frame_reader_init(struct frame_reader *reader, struct stream *stream)
{
	*reader = (struct frame_reader){ .stream = stream };
	buffer_init(&reader->payload, FRAME_MAX + CRC_BYTES);
}

void frame_reader_release(struct frame_reader *reader)
{
	buffer_release(&reader->payload);
}
