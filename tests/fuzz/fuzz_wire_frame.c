/* SPDX-License-Identifier: Apache-2.0 */
/*
 * covers: wire/frame.c
 *
 * A peer's frames: made as ours are and then damaged, or bytes of its own. What comes through must be what was sent.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/buffer.h"
#include "wire/frame.h"
#include "wire/stream_private.h"

#define WIRE_BYTES KIB(64)

/* A stream in memory: what is sent is what can be received. */
struct memory_stream {
	struct stream stream;
	struct buffer wire;
	size_t read;
};

static struct memory_stream *to_memory(struct stream *stream)
{
	return container_of(stream, struct memory_stream, stream);
}

static int memory_send(struct stream *stream, const struct iovec *iov, unsigned int n_iov,
		       bool more _unused_)
{
	struct buffer *wire = &to_memory(stream)->wire;
	int r = 0;

	for (unsigned int i = 0; i < n_iov && r == 0; i++)
		r = buffer_append(wire, iov[i].iov_base, iov[i].iov_len);
	return r;
}

static int memory_receive(struct stream *stream, void *buf, size_t len, size_t *ret_len)
{
	struct memory_stream *memory = to_memory(stream);

	*ret_len = MIN(len, memory->wire.len - memory->read);
	if (*ret_len)
		memcpy(buf, memory->wire.data + memory->read, *ret_len);
	memory->read += *ret_len;
	return 0;
}

static const struct stream_ops memory_ops = { .send = memory_send, .receive = memory_receive };

static void put_checked(struct frame_writer *writer, struct cursor *in)
{
	const uint16_t kind = (uint16_t)cursor_take_le(in, 1);
	const size_t len = cursor_take_le(in, 1);
	const void *payload = cursor_take(in, len);

	if (payload)
		(void)!frame_send(writer, kind, payload, len);
}

static void put_unchecked(struct frame_writer *writer, struct cursor *in)
{
	const struct frame frame = { 9, (uint16_t)(cursor_take_le(in, 1) & FRAME_KNOWN_FLAGS),
				     (uint32_t)cursor_take_le(in, 1) };
	const void *payload = cursor_take(in, frame.len);
	const struct iovec iov = { (void *)payload, frame.len };

	if (payload && frame_send_header(writer, &frame) == 0)
		(void)!stream_send(writer->stream, &iov, 1, false);
}

/* A header with any length, flags and serial, and a CRC that is right. */
static void put_lie(struct frame_writer *writer, struct cursor *in)
{
	struct frame frame;
	uint8_t bytes[FRAME_HEADER_BYTES];
	const struct iovec iov = { bytes, sizeof(bytes) };

	frame.flags = (uint16_t)cursor_take_le(in, 1);
	frame.len = (uint32_t)cursor_take_le(in, 4);
	frame.kind = 1;
	frame_header(&frame, writer->serial + cursor_take_le(in, 1), bytes);
	(void)!stream_send(writer->stream, &iov, 1, false);
}

static void put_raw(struct frame_writer *writer, struct cursor *in)
{
	const size_t len = cursor_take_le(in, 1);
	const void *bytes = cursor_take(in, len);
	const struct iovec iov = { (void *)bytes, len };

	if (bytes)
		(void)!stream_send(writer->stream, &iov, 1, false);
}

static void damage(struct frame_writer *writer, struct cursor *in)
{
	struct buffer *wire = &to_memory(writer->stream)->wire;
	const size_t at = cursor_take_le(in, 2);

	if (at < wire->len)
		wire->data[at] ^= (uint8_t)cursor_take_le(in, 1);
}

static void (*const actions[])(struct frame_writer *writer, struct cursor *in) = {
	put_checked, put_unchecked, put_lie, put_raw, damage,
};

static void judge(int r, const struct error *err, const struct frame *frame,
		  const struct frame_reader *reader)
{
	if (r == -EBADMSG || r == -EMSGSIZE) {
		if (err->code != r || !err->message[0])
			abort();
	} else if (r == 0) {
		if (frame->len > FRAME_MAX || frame->flags & ~FRAME_KNOWN_FLAGS)
			abort();
		if (frame->flags & FRAME_CHECKED && reader->payload.len != frame->len)
			abort();
	} else if (r != -ENODATA && r != -ECONNRESET) {
		abort();
	}
}

static void read_all(struct frame_reader *reader)
{
	struct error err = { 0 };
	struct frame frame;
	int r;

	do {
		r = frame_receive(reader, &frame, &err);
		judge(r, &err, &frame, reader);
		if (r == 0 && !(frame.flags & FRAME_CHECKED))
			r = frame_receive_rest(reader, &frame);
	} while (r == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct cursor in = { .data = data, .left = size };
	struct memory_stream memory = { .stream.ops = &memory_ops };
	struct frame_writer writer = { .stream = &memory.stream };
	struct frame_reader reader;

	buffer_init(&memory.wire, WIRE_BYTES);
	frame_reader_init(&reader, &memory.stream);
	while (in.left && !in.bad)
		actions[cursor_take_le(&in, 1) % ARRAY_SIZE(actions)](&writer, &in);
	read_all(&reader);
	frame_reader_release(&reader);
	buffer_release(&memory.wire);
	return 0;
}
