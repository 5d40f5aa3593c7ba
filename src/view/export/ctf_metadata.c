/* SPDX-License-Identifier: Apache-2.0 */
/* TSDL (CTF 1.8.3, chapter 7): the layout of what ctf.c writes, field by field in the same order. */
#include "view/export/ctf.h"

#include <errno.h>
#include <stdarg.h>
#include <string.h>

#define LINE_MAX_BYTES 512

_printf_(2, 3) static int line(struct export_stream *file, const char *format, ...)
{
	char text[LINE_MAX_BYTES];
	va_list args;
	int len;

	va_start(args, format);
	len = vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	if (len < 0)
		return -EINVAL;
	return export_stream_write(file, text, MIN((size_t)len, sizeof(text) - 1));
}

/* A string literal without what would end it. */
static void quote(const char *text, char *ret_text, size_t size)
{
	view_copy_text(text, ret_text, size);
	for (char *c = ret_text; *c; c++)
		if (*c == '"' || *c == '\\')
			*c = '?';
}

static const char types[] =
	"/* CTF 1.8 */\n"
	"typealias integer { size = 8; align = 8; signed = false; } := u8;\n"
	"typealias integer { size = 8; align = 8; signed = false; base = 16; } := x8;\n"
	"typealias integer { size = 16; align = 8; signed = false; } := u16;\n"
	"typealias integer { size = 32; align = 8; signed = false; } := u32;\n"
	"typealias integer { size = 32; align = 8; signed = true; } := s32;\n"
	"typealias integer { size = 64; align = 8; signed = false; } := u64;\n"
	"typealias integer { size = 64; align = 8; signed = false; base = 16; } := x64;\n\n";

static int write_trace(struct export_stream *file, const uint8_t u[CTF_UUID])
{
	return line(
		file,
		"trace {\n\tmajor = 1;\n\tminor = 8;\n"
		"\tuuid = \"%02x%02x%02x%02x-%02x%02x-%02x%02x-%02x%02x-%02x%02x%02x%02x%02x%02x\";\n"
		"\tbyte_order = le;\n"
		"\tpacket.header := struct { u32 magic; u8 uuid[16]; u32 stream_id; };\n};\n\n",
		u[0], u[1], u[2], u[3], u[4], u[5], u[6], u[7], u[8], u[9], u[10], u[11], u[12],
		u[13], u[14], u[15]);
}

static int write_environment(struct export_stream *file, const struct view_context *view)
{
	char vm[128], mode[128];

	quote(view->vm, vm, sizeof(vm));
	quote(view->mode, mode, sizeof(mode));
	return line(file,
		    "env {\n\ttracer_name = \"utsusu\";\n\tvm = \"%s\";\n\tmode = \"%s\";\n};\n\n",
		    vm, mode);
}

static const char stream[] =
	"clock {\n\tname = wall;\n\tdescription = \"nanoseconds since 1970, UTC\";\n"
	"\tfreq = 1000000000;\n\toffset = 0;\n\tabsolute = true;\n};\n\n"
	"typealias integer { size = 64; align = 8; signed = false; map = clock.wall.value; } := "
	"wall_ns;\n\n"
	"stream {\n\tid = 0;\n"
	"\tpacket.context := struct {\n"
	"\t\twall_ns timestamp_begin; wall_ns timestamp_end;\n"
	"\t\tu64 content_size; u64 packet_size; u64 events_discarded; u32 ring;\n\t};\n"
	"\tevent.header := struct { u16 id; wall_ns timestamp; };\n};\n\n";

/* What all events begin with; flags are those of enum record_flags. */
#define COMMON(source) "\t\tu64 begin; u64 latency_ns; u16 " source "; x8 flags; string device;\n"

#define ACCESS                                                                                     \
	COMMON("vcpu")                                                                             \
	"\t\tx64 address; x64 data; u8 size; u32 element; x64 instruction;\n"                      \
	"\t\tenum : u8 { not_judged, unknown, on, before, paired, stepped, ambiguous } verdict;\n" \
	"\t\tu8 mode; u8 n_code; x8 code[n_code];\n"                                               \
	"\t\tx64 rax; x64 rcx; x64 rdx; x64 rbx; x64 rsp; x64 rbp; x64 rsi; x64 rdi;\n"            \
	"\t\tx64 r8; x64 r9; x64 r10; x64 r11; x64 r12; x64 r13; x64 r14; x64 r15;\n"              \
	"\t\tx64 rip; x64 rflags; x64 cr3;\n"

static const struct {
	uint8_t kind;
	const char *name, *fields;
} events[] = {
	{ RECORD_PIO, "pio", ACCESS },
	{ RECORD_MMIO, "mmio", ACCESS },
	{ RECORD_PCI, "pci", ACCESS },
	{ RECORD_DISK, "disk",
	  COMMON("queue") "\t\tenum : u8 { read, write, flush, discard, write_zeroes, other } operation;\n"
			  "\t\tu64 offset; u64 length; s32 status;\n" },
	{ RECORD_NET, "net",
	  COMMON("queue") "\t\tu64 length; s32 status; u8 n_bytes; x8 bytes[n_bytes];\n" },
	{ RECORD_QUEUE, "queue", COMMON("queue") "\t\tu64 length; s32 status;\n" },
};

static int write_event(struct export_stream *file, size_t index)
{
	int r = line(
		file,
		"event {\n\tid = %u;\n\tname = \"%s\";\n\tstream_id = 0;\n\tfields := struct {\n",
		events[index].kind, events[index].name);

	if (r >= 0)
		r = export_stream_write(file, events[index].fields, strlen(events[index].fields));
	return r < 0 ? r : line(file, "\t};\n};\n\n");
}

int ctf_write_metadata(struct export_stream *file, const struct view_context *view,
		       const uint8_t uuid[CTF_UUID])
{
	int r = export_stream_write(file, types, strlen(types));

	if (r >= 0)
		r = write_trace(file, uuid);
	if (r >= 0)
		r = write_environment(file, view);
	if (r >= 0)
		r = export_stream_write(file, stream, strlen(stream));
	for (size_t i = 0; i < ARRAY_SIZE(events) && r >= 0; i++)
		r = write_event(file, i);
	return r;
}
