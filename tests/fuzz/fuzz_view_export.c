/* SPDX-License-Identifier: Apache-2.0 */
/*
 * covers: view/report/text.c view/report/json.c view/report/odd.c view/export/ctf.c view/export/ctf_metadata.c
 * covers: view/export/lanes.c view/export/lines.c view/export/pcapng.c view/export/perfetto.c
 *
 * Requests as anybody may have written them, through the report and every export. The first byte is the view, the
 * next the length of a window; then records: how many bytes of each come from the input, its ring, its number of copies; without any, one is lost.
 * What is written is thrown away: that it can be opened, tests/cli/test_watch_export.py tells.
 */
#include <errno.h>
#include <dirent.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/buffer.h"
#include "view/view.h"
#include "watch/store.h"

#define RINGS 4
#define RING_RECORDS 256
#define COPIES_MAX 64

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Where views write; libFuzzer has taken its own standard error by now. */
int LLVMFuzzerInitialize(int *argc, char ***argv)
{
	int fd = open("/dev/null", O_WRONLY);

	stderr = fopen("/dev/null", "w");
	return dup2(fd, STDOUT_FILENO) < 0;
}

static void add_record(struct ring *ring, const struct watch_record *record)
{
	struct watch_record *slot = ring_begin(ring);
	const size_t skip = sizeof(record->sequence);

	memcpy((char *)slot + skip, (const char *)record + skip, sizeof(*record) - skip);
	ring_commit(ring);
}

static void add_records(struct store *store, struct cursor *in)
{
	struct watch_record record = { .kind = RECORD_PIO };

	while (in->left && !in->bad) {
		size_t len = cursor_take_le(in, 1);
		uint64_t ring = cursor_take_le(in, 1), copies = cursor_take_le(in, 1) % COPIES_MAX;
		uint64_t step = cursor_take_le(in, 3);
		const void *bytes;

		len = MIN(MIN(len, in->left),
			  sizeof(record) - offsetof(struct watch_record, begin));
		bytes = cursor_take(in, len);
		if (bytes)
			memcpy(&record.begin, bytes, len);
		for (uint64_t i = 0; i < copies; i++) {
			record.begin += step;
			add_record(store_ring(store, ring % RINGS, "vcpu0/\"\\"), &record);
		}
		if (!copies)
			ring_drop(store_ring(store, ring % RINGS, "vcpu0"));
	}
}

/* What is left of a VM whose requests these were. */
static int make_store(struct cursor *in)
{
	static const char *const devices[] = { "serial", "virtio-blk.0", "virtio-net.0",
					       "a/b \"\\\x01" };
	int fd = store_make_fd("vm\"1\\", RINGS, 2, RING_RECORDS);
	struct store *store;

	if (fd < 0 || store_open(fd, &store) < 0)
		abort();
	store_header(store)->tsc_hz = 1000000000;
	store_header(store)->anchor_wall_ns = 1767323045000000000;
	for (size_t i = 0; i < ARRAY_SIZE(devices); i++)
		store_device(store, devices[i]);
	add_records(store, in);
	store_free(store);
	return fd;
}

static void remove_tree(const char *path)
{
	DIR *dir = opendir(path);
	struct dirent *entry;

	while (dir && (entry = readdir(dir)))
		unlinkat(dirfd(dir), entry->d_name, 0);
	if (dir)
		closedir(dir);
	rmdir(path);
}

/* `output` NULL: a new directory. Whether it failed is looked at, and that it said why. */
static void export(struct view_context *view, enum view_export format, const char *output,
		   bool may_fail)
{
	char directory[] = "/tmp/fuzz-view-export-XXXXXX";
	struct error err = { 0 };
	int r;

	view->options.format = format;
	view->options.output = output ? output : mkdtemp(directory);
	r = export_run(view, &err);
	if ((r < 0 && (!may_fail || !err.message[0])) || r > 0)
		abort();
	if (!output)
		remove_tree(directory);
}

static void report(struct view_context *view, bool json)
{
	struct error err = { 0 };

	view->options.json = json;
	if (report_run(view, &err) != 0)
		abort();
}

static void look(struct view_context *view, unsigned int how)
{
	static const struct {
		enum view_export format;
		const char *output;
		bool may_fail;
	} exports[] = {
		{ EXPORT_PERFETTO, "/dev/null", false }, { EXPORT_CTF, NULL, false },
		{ EXPORT_PCAPNG, "/dev/null", false },	 { EXPORT_JSON, "/dev/null", false },
		{ EXPORT_CTF, "/dev/null", true },	 { EXPORT_JSON, "/dev/full", true },
		{ EXPORT_PERFETTO, "/dev/full", true },	 { EXPORT_PCAPNG, "/dev", true },
	};

	if (how < 2)
		report(view, how);
	else
		export(view, exports[how - 2].format, exports[how - 2].output,
		       exports[how - 2].may_fail);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const struct source_options options = { .from_oldest = true };
	struct cursor in = { .data = data, .left = size };
	unsigned int what = (unsigned int)cursor_take_le(&in, 1) % 10;
	uint64_t window_ms = cursor_take_le(&in, 1);
	struct view_context view = { .title = "vm", .mode = "normal\"\\", .filter_text = "" };
	struct watch_source *source;
	struct error err = { 0 };
	int fd = make_store(&in);

	if (source_open_store(fd, false, &options, "vm", &source, &err) < 0)
		abort();
	view_init(&view, source);
	view.origin = VIEW_POST_MORTEM;
	view.options.window_ms = window_ms;
	look(&view, what);
	source_free(source);
	close(fd);
	return 0;
}
