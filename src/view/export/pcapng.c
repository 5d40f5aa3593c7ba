/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The network side as pcapng (draft-ietf-opsawg-pcapng), for Wireshark: one interface for each network device, the
 * frames' first bytes with their whole length, their direction as the guest sees it, times in nanoseconds.
 *
 *   section header | interface of the device seen first | its frame | ... | interface | frame | ...
 *
 * A frame that failed has a comment with its error.
 */
#include "view/export/export.h"

#include <errno.h>
#include <string.h>

#include "base/endian.h"

enum block_type {
	BLOCK_SECTION = 0x0a0d0d0a,
	BLOCK_INTERFACE = 1,
	BLOCK_FRAME = 6, /* "enhanced packet" */
};

enum option {
	OPTION_END = 0,
	OPTION_COMMENT = 1,
	OPTION_SECTION_HARDWARE = 2,
	OPTION_SECTION_APPLICATION = 4,
	OPTION_INTERFACE_NAME = 2,
	OPTION_INTERFACE_DESCRIPTION = 3,
	OPTION_INTERFACE_RESOLUTION = 9,
	OPTION_FRAME_FLAGS = 2,
};

#define BYTE_ORDER_MAGIC 0x1a2b3c4d
#define LINK_ETHERNET 1
#define NANOSECONDS 9 /* 10^-9 */
#define FLAG_INBOUND 1
#define FLAG_OUTBOUND 2
#define BLOCK_MAX 1024
#define NO_INTERFACE UINT32_MAX

struct pcapng {
	struct view_context *view;
	struct export_stream *stream;
	uint32_t n_interfaces;
	uint32_t interfaces[STORE_DEVICES_MAX + 1]; /* by device; the last for those without */
};

/* A block in the making: all of ours are far smaller than its room. */
struct block {
	size_t len;
	uint8_t data[BLOCK_MAX];
};

static void add(struct block *block, uint64_t value, size_t size)
{
	if (block->len + size > sizeof(block->data))
		return;
	le_store(block->data + block->len, size, value);
	block->len += size;
}

static void add_padded(struct block *block, const void *bytes, size_t len)
{
	size_t padded = ALIGN_UP(len, 4);

	if (block->len + padded > sizeof(block->data))
		return;
	memset(block->data + block->len, 0, padded);
	memcpy(block->data + block->len, bytes, len);
	block->len += padded;
}

static void add_option(struct block *block, enum option option, const void *value, size_t len)
{
	add(block, option, 2);
	add(block, len, 2);
	add_padded(block, value, len);
}

static void add_text(struct block *block, enum option option, const char *text)
{
	add_option(block, option, text, strlen(text));
}

static void block_begin(struct block *block, enum block_type type)
{
	block->len = 0;
	add(block, type, 4);
	add(block, 0, 4); /* its length: block_end */
}

static int block_end(struct pcapng *pcapng, struct block *block)
{
	add(block, OPTION_END, 4);
	add(block, block->len + 4, 4);
	le_store(block->data + 4, 4, block->len);
	return export_stream_write(pcapng->stream, block->data, block->len);
}

static int write_section(struct pcapng *pcapng)
{
	struct block block;
	char text[160];

	block_begin(&block, BLOCK_SECTION);
	add(&block, BYTE_ORDER_MAGIC, 4);
	add(&block, 1, 2); /* version 1.0 */
	add(&block, 0, 2);
	add(&block, UINT64_MAX, 8); /* its length: not known */
	snprintf(text, sizeof(text), "utsusu VM %s", pcapng->view->vm);
	add_text(&block, OPTION_SECTION_HARDWARE, text);
	add_text(&block, OPTION_SECTION_APPLICATION, "utsusu watch " UTSUSU_VERSION);
	return block_end(pcapng, &block);
}

static int write_interface(struct pcapng *pcapng, const struct watch_record *record)
{
	const uint8_t resolution = NANOSECONDS;
	struct block block;
	char name[64], text[160];

	view_format_device(pcapng->view, record, name, sizeof(name));
	snprintf(text, sizeof(text), "%s of VM %s; in and out as the guest sees it", name,
		 pcapng->view->vm);
	block_begin(&block, BLOCK_INTERFACE);
	add(&block, LINK_ETHERNET, 2);
	add(&block, 0, 2);
	add(&block, RECORD_FRAME_BYTES, 4);
	add_text(&block, OPTION_INTERFACE_NAME, name);
	add_text(&block, OPTION_INTERFACE_DESCRIPTION, text);
	add_option(&block, OPTION_INTERFACE_RESOLUTION, &resolution, 1);
	return block_end(pcapng, &block);
}

static int write_frame(struct pcapng *pcapng, uint32_t interface, const struct watch_record *record)
{
	const struct record_frame *frame = &record->frame;
	const struct analysis_times *times = &pcapng->view->times;
	uint64_t ns = times->wall_ns(times->ctx, record->begin);
	uint32_t n_bytes = MIN(frame->n_bytes, RECORD_FRAME_BYTES);
	uint8_t flags[4] = { record->flags & RECORD_WRITE ? FLAG_OUTBOUND : FLAG_INBOUND };
	struct block block;

	block_begin(&block, BLOCK_FRAME);
	add(&block, interface, 4);
	add(&block, ns >> 32, 4);
	add(&block, ns, 4);
	add(&block, n_bytes, 4);
	add(&block, MIN(MAX(record->data, n_bytes), INT32_MAX), 4);
	add_padded(&block, frame->bytes, n_bytes);
	add_option(&block, OPTION_FRAME_FLAGS, flags, sizeof(flags));
	if (record->status)
		add_text(&block, OPTION_COMMENT, view_status_name(record));
	return block_end(pcapng, &block);
}

static int pcapng_record(void *state, const struct watch_record *record, uint32_t ring _unused_)
{
	struct pcapng *pcapng = state;
	uint32_t *interface = &pcapng->interfaces[MIN(record->device, STORE_DEVICES_MAX)];
	int r = 0;

	if (record->kind != RECORD_NET)
		return 0;
	if (*interface == NO_INTERFACE) {
		*interface = pcapng->n_interfaces++;
		r = write_interface(pcapng, record);
	}
	if (r >= 0)
		r = write_frame(pcapng, *interface, record);
	return r < 0 ? r : 1;
}

static int pcapng_open(struct view_context *view, void **ret_state, struct error *err)
{
	_cleanup_(freep) struct pcapng *pcapng = calloc(1, sizeof(*pcapng));
	int r;

	if (!pcapng)
		return error_set(err, -ENOMEM, EXIT_STATUS_HOST,
				 "%s: out of memory; free some and try again", view->title);
	r = export_stream_open(view->options.output, &pcapng->stream, err);
	if (r < 0)
		return r;
	pcapng->view = view;
	memset(pcapng->interfaces, 0xff, sizeof(pcapng->interfaces));
	/* A failure comes again with the first frame, or at the end. */
	(void)!write_section(pcapng);
	*ret_state = TAKE_PTR(pcapng);
	return 0;
}

static int pcapng_flush(void *state)
{
	return export_stream_flush(((struct pcapng *)state)->stream);
}

static int pcapng_close(void *state)
{
	_cleanup_(freep) struct pcapng *pcapng = state;

	return export_stream_close(pcapng->stream);
}

const struct export_format export_pcapng = {
	.open = pcapng_open,
	.record = pcapng_record,
	.flush = pcapng_flush,
	.close = pcapng_close,
};
