/* SPDX-License-Identifier: Apache-2.0 */

/* Recordings: what comes back, rotation, limits, full disks, and files that were cut off or are none. */

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "check.h"
#include "watch/read/recording.h"
#include "watch_writer.h"

#define RECORDS 8192
#define PATH_LEN 128

/* A store, a source that reads it, and a directory for recordings of that. */
struct rig {
	struct writer writer;
	struct watch_source *source;
	char directory[64];
	char path[PATH_LEN];
	uint64_t n_written;
	struct error err;
};

static const struct recording_limits no_limits = { 0 };

static int setup(void **state)
{
	static const struct source_options options = { .from_oldest = true };
	struct rig *rig = calloc(1, sizeof(*rig));

	writer_open(&rig->writer, 2, RECORDS);
	assert_return_code(source_open_store(rig->writer.fd, false, &options, "testee",
					     &rig->source, &rig->err),
			   0);
	strcpy(rig->directory, "/tmp/test-recording-XXXXXX");
	assert_non_null(mkdtemp(rig->directory));
	snprintf(rig->path, sizeof(rig->path), "%s/night.utsusu", rig->directory);
	*state = rig;
	return 0;
}

static int teardown(void **state)
{
	struct rig *rig = *state;
	char command[PATH_LEN];

	source_free(rig->source);
	writer_close(&rig->writer);
	snprintf(command, sizeof(command), "rm -rf %s", rig->directory);
	assert_int_equal(system(command), 0);
	free(rig);
	return 0;
}

static const char *numbered(const struct rig *rig, unsigned int number)
{
	static char path[PATH_LEN];

	snprintf(path, sizeof(path), "%s/night.%u.utsusu", rig->directory, number);
	return path;
}

static bool exists(const char *path)
{
	return access(path, F_OK) == 0;
}

static struct recording *create(struct rig *rig, const struct recording_limits *limits)
{
	struct recording *recording;

	if (recording_create(rig->path, rig->source, limits, false, &recording, &rig->err) < 0)
		fail_msg("%s", rig->err.message);
	return recording;
}

static int add(struct rig *rig, struct recording *recording, uint64_t n)
{
	struct watch_record record = { .kind = RECORD_DISK, .device = 0 };
	int r = 0;

	while (n-- && r == 0) {
		record.begin = record.data = record.sequence = ++rig->n_written;
		r = recording_add(recording, &record, 1, &rig->err);
	}
	return r;
}

static void record_all(struct rig *rig, const struct recording_limits *limits, uint64_t n)
{
	struct recording *recording = create(rig, limits);

	assert_int_equal(add(rig, recording, n), 0);
	assert_int_equal(recording_close(recording, &rig->err), 0);
}

/* Reads to the end: how many, and (unless NULL) the numbers of the first and the last. */
static uint64_t read_file(const char *path, uint64_t *ret_first, uint64_t *ret_last, int end)
{
	struct watch_source *source;
	struct watch_record record;
	struct error err = { 0 };
	uint64_t n = 0;
	uint32_t ring;
	int r;

	if (source_open_recording(path, &source, &err) < 0)
		fail_msg("%s", err.message);
	while ((r = source_next(source, &record, &ring)) == 1) {
		assert_int_equal(ring, 1);
		if (n++ == 0 && ret_first)
			*ret_first = record.data;
		if (ret_last)
			*ret_last = record.data;
	}
	assert_int_equal(r, end);
	source_free(source);
	return n;
}

static void expect_refused(const char *path, int code, const char *text)
{
	struct watch_source *source;
	struct error err = { 0 };

	assert_int_equal(source_open_recording(path, &source, &err), code);
	assert_non_null(strstr(err.message, text));
}

/* ---- what comes back ---- */

static void record_comes_back_as_it_was(void **state)
{
	struct rig *rig = *state;
	struct recording *recording = create(rig, &no_limits);
	struct watch_record wrote = { .kind = RECORD_MMIO, .size = 4 }, got;
	struct watch_source *source;
	uint32_t ring;

	for (unsigned int i = 0; i < sizeof(wrote.raw); i++)
		wrote.raw[i] = (uint8_t)i;
	wrote.access.verdict = RECORD_INSN_BEFORE;
	wrote.access.mode = 64;
	wrote.access.n_before = wrote.access.n_after = 16;
	wrote.access.length = 3;
	wrote.sequence = 77;
	wrote.begin = source_header(rig->source)->anchor_tsc + 5;
	assert_int_equal(recording_add(recording, &wrote, 0, &rig->err), 0);
	assert_int_equal(recording_close(recording, &rig->err), 0);
	assert_int_equal(source_open_recording(rig->path, &source, &rig->err), 0);
	assert_int_equal(source_next(source, &got, &ring), 1);
	assert_memory_equal(&wrote, &got, sizeof(got));
	assert_int_equal(ring, 0);
	assert_string_equal(source_header(source)->vm, "testee");
	assert_string_equal(source_ring_name(source, 0), "ring0");
	assert_string_equal(source_device_name(source, 0), "serial");
	assert_int_equal(source_wall_ns(source, wrote.begin),
			 source_header(rig->source)->anchor_wall_ns + 5);
	assert_int_equal(source_next(source, &got, &ring), -ENODATA);
	assert_false(source_was_expelled(source));
	source_set_ended(source);
	source_free(source);
}

static void name_that_came_late_is_in_the_file(void **state)
{
	struct rig *rig = *state;
	struct recording *recording = create(rig, &no_limits);
	struct watch_record record = { .kind = RECORD_DISK, .device = 1 };
	struct watch_source *source;

	assert_int_equal(store_device(rig->writer.store, "virtio-blk.0"), 1);
	assert_int_equal(recording_add(recording, &record, 0, &rig->err), 0);
	assert_int_equal(recording_close(recording, &rig->err), 0);
	assert_int_equal(source_open_recording(rig->path, &source, &rig->err), 0);
	assert_string_equal(source_device_name(source, 1), "virtio-blk.0");
	source_free(source);
}

static void flush_one(struct rig *rig, struct recording *recording)
{
	assert_int_equal(add(rig, recording, 1), 0);
	assert_int_equal(recording_flush(recording, &rig->err), 0);
	assert_int_equal(recording_flush(recording, &rig->err), 0); /* nothing to write */
}

static void let_lose(struct rig *rig, struct watch_source *source, unsigned int n)
{
	struct watch_record record;
	uint32_t ring;

	while (n--)
		ring_drop(rig->writer.rings[1]);
	assert_int_equal(source_next(source, &record, &ring), 0);
}

static void lost_records_are_told_in_their_place(void **state)
{
	static const struct source_options options = { .from_oldest = true };
	struct rig *rig = *state;
	struct recording *recording;
	struct watch_source *source, *live;
	struct watch_record record;
	uint32_t ring;

	assert_int_equal(
		source_open_store(rig->writer.fd, true, &options, "testee", &live, &rig->err), 0);
	let_lose(rig, live, 3); /* before the recording */
	assert_int_equal(
		recording_create(rig->path, live, &no_limits, false, &recording, &rig->err), 0);
	flush_one(rig, recording);
	let_lose(rig, live, 9);
	flush_one(rig, recording);
	let_lose(rig, live, 1);
	assert_int_equal(recording_close(recording, &rig->err), 0);
	source_free(live);

	assert_int_equal(source_open_recording(rig->path, &source, &rig->err), 0);
	assert_int_equal(source_next(source, &record, &ring), 1);
	assert_int_equal(source_lost(source), 0);
	assert_int_equal(source_next(source, &record, &ring), 1);
	assert_int_equal(source_lost(source), 9);
	assert_int_equal(source_next(source, &record, &ring), -ENODATA);
	assert_int_equal(source_lost(source), 10);
	source_free(source);
}

/* The program in docs/record-format.md, for people with other tools. */
static void documented_program_reads_it(void **state)
{
	static const char line[] = "10 4 serial 0x0 0xa\n";
	struct rig *rig = *state;
	char command[512], output[1024] = { 0 };
	FILE *program;

	if (!getenv("UTSUSU_DOCS") || access("/usr/bin/python3", X_OK) < 0)
		skip();
	record_all(rig, &no_limits, 10);
	snprintf(command, sizeof(command),
		 "sed -n '/^```python/,/^```$/p' %s/record-format.md | sed '1d;$d' "
		 ">%s/read.py; /usr/bin/python3 %s/read.py %s",
		 getenv("UTSUSU_DOCS"), rig->directory, rig->directory, rig->path);
	program = popen(command, "r");
	assert_non_null(program);
	assert_true(fread(output, 1, sizeof(output) - 1, program) > sizeof(line));
	assert_int_equal(pclose(program), 0);
	assert_string_equal(output + strlen(output) - strlen(line), line);
}

/* ---- limits ---- */

static void full_file_is_followed_by_another(void **state)
{
	static const struct recording_limits limits = { .file_bytes = RECORDING_FILE_MIN };
	struct rig *rig = *state;
	uint64_t n = 0, first, last, next = 0;

	record_all(rig, &limits, 12000);
	for (unsigned int number = 0; number < 4; number++) {
		const char *path = number ? numbered(rig, number) : rig->path;
		struct stat st;

		assert_return_code(stat(path, &st), errno);
		assert_true((uint64_t)st.st_size <= RECORDING_FILE_MIN);
		n += read_file(path, &first, &last, -ENODATA);
		if (next)
			assert_int_equal(last + 1, next);
		next = first;
	}
	assert_int_equal(n, 12000);
	assert_int_equal(next, 1);
	assert_false(exists(numbered(rig, 4)));
}

static void oldest_files_are_deleted(void **state)
{
	static const struct recording_limits limits = { .file_bytes = RECORDING_FILE_MIN,
							.files = 2 };
	struct rig *rig = *state;
	uint64_t first, last;

	record_all(rig, &limits, 12000);
	assert_false(exists(numbered(rig, 2)));
	read_file(rig->path, &first, &last, -ENODATA);
	assert_int_equal(last, 12000);
	read_file(numbered(rig, 1), NULL, &last, -ENODATA);
	assert_int_equal(last + 1, first);
}

static void one_file_alone_is_begun_anew(void **state)
{
	static const struct recording_limits limits = { .file_bytes = RECORDING_FILE_MIN,
							.files = 1 };
	struct rig *rig = *state;
	uint64_t last;

	record_all(rig, &limits, 12000);
	assert_false(exists(numbered(rig, 1)));
	assert_true(read_file(rig->path, NULL, &last, -ENODATA) < 4000);
	assert_int_equal(last, 12000);
}

static void file_taken_away_meanwhile_is_a_gap(void **state)
{
	static const struct recording_limits limits = { .file_bytes = RECORDING_FILE_MIN };
	struct rig *rig = *state;
	struct recording *recording = create(rig, &limits);

	assert_int_equal(add(rig, recording, 9000), 0);
	assert_return_code(unlink(numbered(rig, 1)), errno);
	assert_int_equal(add(rig, recording, 3000), 0);
	assert_int_equal(recording_close(recording, &rig->err), 0);
	assert_true(exists(numbered(rig, 1)));
	assert_false(exists(numbered(rig, 2)));
	assert_true(exists(numbered(rig, 3)));
}

static void foreign_file_is_not_written_over(void **state)
{
	static const struct recording_limits limits = { .file_bytes = RECORDING_FILE_MIN };
	struct rig *rig = *state;
	struct recording *recording = create(rig, &limits);
	int fd = open(numbered(rig, 1), O_WRONLY | O_CREAT, 0600);
	struct stat st;

	close(fd);
	assert_int_equal(add(rig, recording, 9000), -EEXIST);
	assert_non_null(strstr(rig->err.message, "night.utsusu: cannot write"));
	assert_int_equal(recording_close(recording, NULL), -EEXIST);
	assert_return_code(stat(numbered(rig, 1), &st), errno);
	assert_int_equal(st.st_size, 0);
}

static void recording_ends_at_its_limit(void **state)
{
	static const struct recording_limits limits = { .total_records = 1500 };
	struct rig *rig = *state;
	struct recording *recording = create(rig, &limits);

	assert_int_equal(add(rig, recording, 2000), 1);
	assert_int_equal(rig->n_written, 1500);
	assert_int_equal(add(rig, recording, 1), 1);
	assert_int_equal(recording_close(recording, &rig->err), 0);
	assert_int_equal(read_file(rig->path, NULL, NULL, -ENODATA), 1500);
}

static void tiny_files_are_refused(void **state)
{
	static const struct recording_limits limits = { .file_bytes = RECORDING_FILE_MIN - 1 };
	struct rig *rig = *state;
	struct recording *recording;

	assert_int_equal(recording_create(rig->path, rig->source, &limits, false, &recording,
					  &rig->err),
			 -EINVAL);
	assert_non_null(strstr(rig->err.message, "at least 1 MiB"));
	assert_false(exists(rig->path));
}

/* ---- names that are taken ---- */

static int try_create(struct rig *rig, bool replace)
{
	struct recording *recording;
	int r;

	rig->err = (struct error){ 0 };
	r = recording_create(rig->path, rig->source, &no_limits, replace, &recording, &rig->err);
	if (r == 0)
		assert_int_equal(recording_close(recording, &rig->err), 0);
	return r;
}

static void recording_is_replaced_only_when_told(void **state)
{
	static const struct recording_limits limits = { .file_bytes = RECORDING_FILE_MIN };
	struct rig *rig = *state;

	record_all(rig, &limits, 9000);
	assert_int_equal(try_create(rig, false), -EEXIST);
	assert_non_null(strstr(rig->err.message, "there is a recording already"));
	assert_int_equal(try_create(rig, true), 0);
	assert_false(exists(numbered(rig, 1)));
	assert_false(exists(numbered(rig, 2)));
	assert_int_equal(read_file(rig->path, NULL, NULL, -ENODATA), 0);
}

static void other_files_are_never_replaced(void **state)
{
	struct rig *rig = *state;
	int fd = open(rig->path, O_WRONLY | O_CREAT, 0600);

	assert_int_equal(write(fd, "my thesis, all of it", 20), 20);
	close(fd);
	assert_int_equal(try_create(rig, true), -EEXIST);
	assert_non_null(strstr(rig->err.message, "no recording"));
	assert_return_code(unlink(rig->path), errno);
	assert_return_code(symlink("/dev/null", rig->path), errno);
	assert_int_equal(try_create(rig, true), -EEXIST);
	assert_return_code(unlink(rig->path), errno);
	assert_return_code(symlink("/dev/null", numbered(rig, 1)), errno);
	assert_int_equal(try_create(rig, true), -EEXIST);
	assert_false(exists(rig->path));
	snprintf(rig->path, sizeof(rig->path), "%s/none/night.utsusu", rig->directory);
	assert_int_equal(try_create(rig, true), -ENOENT);
}

/* ---- disks that are full ---- */

static void expect_whole(struct rig *rig, struct recording *recording, int code)
{
	uint64_t n;

	assert_int_equal(add(rig, recording, 20000), code);
	assert_int_equal(add(rig, recording, 1), code);
	assert_int_equal(recording_flush(recording, &rig->err), code);
	assert_int_equal(recording_close(recording, NULL), code);
	n = read_file(rig->path, NULL, NULL, -ENODATA);
	assert_true(n > 0 && n < 20000);
	assert_int_equal(n % RECORDING_BLOCK_RECORDS, 0);
}

static void block_that_does_not_fit_is_taken_away(void **state)
{
	const struct rlimit small = { MIB(2), RLIM_INFINITY };
	struct rig *rig = *state;
	struct recording *recording = create(rig, &no_limits);
	struct rlimit before;

	signal(SIGXFSZ, SIG_IGN);
	assert_return_code(getrlimit(RLIMIT_FSIZE, &before), errno);
	assert_return_code(setrlimit(RLIMIT_FSIZE, &small), errno);
	expect_whole(rig, recording, -EFBIG);
	assert_return_code(setrlimit(RLIMIT_FSIZE, &before), errno);
}

/* In a name space of its own: a file system of two MiB. The last test, for the program stays there. */
static void full_disk_is_told_with_a_way_out(void **state)
{
	struct rig *rig = *state;
	struct recording *recording;

	if (unshare(CLONE_NEWNS) < 0 || mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0 ||
	    mount("none", rig->directory, "tmpfs", 0, "size=2m") < 0)
		skip();
	recording = create(rig, &no_limits);
	expect_whole(rig, recording, -ENOSPC);
	assert_non_null(strstr(rig->err.message, "the disk is full"));
	assert_return_code(umount(rig->directory), errno);
}

/* ---- files that are cut off, or none ---- */

static void cut_off_recording_gives_what_is_whole(void **state)
{
	struct rig *rig = *state;
	const off_t whole = RECORDING_HEADER + sizeof(struct recording_block);

	record_all(rig, &no_limits, 10);
	assert_return_code(truncate(rig->path, whole + 7 * 264 + 263), errno);
	assert_int_equal(read_file(rig->path, NULL, NULL, -ENODATA), 7);
	assert_return_code(truncate(rig->path, whole - 1), errno);
	assert_int_equal(read_file(rig->path, NULL, NULL, -ENODATA), 0);
	assert_return_code(truncate(rig->path, RECORDING_HEADER), errno);
	assert_int_equal(read_file(rig->path, NULL, NULL, -ENODATA), 0);
	assert_return_code(truncate(rig->path, 1000), errno);
	expect_refused(rig->path, -EPROTO, "no recording");
}

static void change(const struct rig *rig, off_t offset, uint32_t value)
{
	int fd = open(rig->path, O_WRONLY);

	assert_int_equal(pwrite(fd, &value, sizeof(value), offset), sizeof(value));
	close(fd);
}

static void damaged_block_ends_the_reading(void **state)
{
	const off_t second = RECORDING_HEADER + sizeof(struct recording_block) + 1024 * 264;
	struct rig *rig = *state;

	record_all(rig, &no_limits, 3000);
	change(rig, second + 4, RECORDING_BLOCK_RECORDS + 1);
	assert_int_equal(read_file(rig->path, NULL, NULL, -EPROTO), 1024);
	change(rig, second + 4, 5);
	change(rig, second, 0);
	assert_int_equal(read_file(rig->path, NULL, NULL, -EPROTO), 1024);
}

static void records_that_are_none_are_lost(void **state)
{
	const off_t first = RECORDING_HEADER + sizeof(struct recording_block);
	struct rig *rig = *state;
	struct watch_source *source;
	struct watch_record record;
	uint32_t ring;

	record_all(rig, &no_limits, 3);
	change(rig, first, 2); /* a ring there is not */
	change(rig, first + 264 + 8 + (off_t)offsetof(struct watch_record, kind), 0xff);
	assert_int_equal(source_open_recording(rig->path, &source, &rig->err), 0);
	assert_int_equal(source_next(source, &record, &ring), 1);
	assert_int_equal(record.data, 3);
	assert_int_equal(source_next(source, &record, &ring), -ENODATA);
	assert_int_equal(source_lost(source), 2);
	source_free(source);
}

static void other_files_are_no_recordings(void **state)
{
	struct rig *rig = *state;

	record_all(rig, &no_limits, 3);
	change(rig, offsetof(struct recording_header, store), 0);
	expect_refused(rig->path, -EPROTO, "no recording");
	change(rig, offsetof(struct recording_header, version), 2);
	expect_refused(rig->path, -EPROTONOSUPPORT, "another version");
	change(rig, 0, 0);
	expect_refused(rig->path, -EPROTO, "no recording");
	expect_refused(rig->directory, -EPROTO, "no recording");
	expect_refused("/dev/zero", -EPROTO, "no recording");
	expect_refused("/nowhere/x.utsusu", -ENOENT, "cannot read");
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(record_comes_back_as_it_was),
		TEST(name_that_came_late_is_in_the_file),
		TEST(lost_records_are_told_in_their_place),
		TEST(documented_program_reads_it),
		TEST(full_file_is_followed_by_another),
		TEST(oldest_files_are_deleted),
		TEST(one_file_alone_is_begun_anew),
		TEST(file_taken_away_meanwhile_is_a_gap),
		TEST(foreign_file_is_not_written_over),
		TEST(recording_ends_at_its_limit),
		TEST(tiny_files_are_refused),
		TEST(recording_is_replaced_only_when_told),
		TEST(other_files_are_never_replaced),
		TEST(block_that_does_not_fit_is_taken_away),
		TEST(cut_off_recording_gives_what_is_whole),
		TEST(damaged_block_ends_the_reading),
		TEST(records_that_are_none_are_lost),
		TEST(other_files_are_no_recordings),
		TEST(full_disk_is_told_with_a_way_out),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
