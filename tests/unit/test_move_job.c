/* SPDX-License-Identifier: Apache-2.0 */

/* A mover's job as text and back, and what a mover tells while it works. */

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/fd.h"
#include "check.h"
#include "move/job.h"
#include "move/mover/progress.h"

#define JOB                                                                                        \
	"\"role\":\"source\",\"name\":\"guest\",\"peer\":\"there\",\"generation\":3,"              \
	"\"token\":\"00112233445566778899aabbccddeeff\",\"vm\":5,\"ram\":6,\"mark\":7,"            \
	"\"tls\":false,\"streams\":[8]"

static void assert_refused(const char *text, const char *key)
{
	struct move_job job;
	struct error err = { 0 };

	if (move_job_decode(text, strlen(text), &job, &err) != -EINVAL)
		fail_msg("%s was taken", text);
	if (!strstr(err.message, key))
		fail_msg("'%s' does not name %s", err.message, key);
}

static void a_job_is_strict(void **state _unused_)
{
	struct move_job job;
	struct error err = { 0 };

	assert_int_equal(move_job_decode("{" JOB "}", strlen("{" JOB "}"), &job, &err), 0);
	assert_int_equal(job.downtime_ms, MOVE_DOWNTIME_MS);
	assert_int_equal(job.progress_fd, -1);
	assert_refused("[]", "object");
	assert_refused("{" JOB, "JSON");
	assert_refused("{" JOB ",\"vm\":5}", "JSON"); /* doubled */
	assert_refused("{" JOB ",\"speed\":1}", "speed");
	assert_refused("{" JOB ",\"progress\":8}", "twice");
	assert_refused("{" JOB ",\"progress\":-1}", "progress");
	assert_refused("{" JOB ",\"downtime_ms\":60001}", "downtime_ms");
	assert_refused("{" JOB ",\"compress\":\"much\"}", "compress");
	assert_refused("{" JOB ",\"failpoint\":\"nowhere:kill\"}", "failpoint");
	assert_refused("{" JOB ",\"key\":\"00\"}", "key");
	assert_refused("{\"role\":\"upgrade\"}", "role");
	assert_refused("{}", "role");
}

#define GUARD_JOB(role)                                                                            \
	"\"role\":\"" role "\",\"name\":\"guest\",\"peer\":\"there\",\"generation\":3,"            \
	"\"token\":\"00112233445566778899aabbccddeeff\",\"vm\":5,\"ram\":6,\"tls\":false,"

/* A guard has one stream and no mark; a backup's journal comes with the disks that it is for. */
static void a_guards_job_is_strict(void **state _unused_)
{
	static const char owner[] = "{" GUARD_JOB(
		"owner") "\"streams\":[8],\"disks\":[[0,9]],\"latency_ms\":20,\"detect_ms\":300}";
	static const char backup[] = "{" GUARD_JOB(
		"backup") "\"streams\":[8],\"disks\":[[1,9]],\"journal\":10,\"journal_bytes\":65536}";
	struct move_job job;
	struct error err = { 0 };

	assert_int_equal(move_job_decode(owner, strlen(owner), &job, &err), 0);
	assert_int_equal(job.role, MOVE_OWNER);
	assert_int_equal(job.journal_fd, -1);
	assert_int_equal(job.latency_ms, 20);
	assert_int_equal(job.detect_ms, 300);
	assert_int_equal(move_job_decode(backup, strlen(backup), &job, &err), 0);
	assert_int_equal(job.role, MOVE_BACKUP);
	assert_int_equal(job.journal_fd, 10);
	assert_int_equal(job.journal_bytes, 65536);
	assert_refused("{" GUARD_JOB("owner") "\"streams\":[8],\"mark\":9}", "mark");
	assert_refused("{" GUARD_JOB("owner") "\"streams\":[8,9]}", "streams");
	assert_refused("{" GUARD_JOB("owner") "\"streams\":[]}", "streams");
	assert_refused("{" GUARD_JOB("owner") "\"streams\":[8],\"file\":9}", "file");
	assert_refused("{" GUARD_JOB("owner") "\"streams\":[8],\"journal\":9}", "journal");
	assert_refused("{" GUARD_JOB("backup") "\"streams\":[8],\"disks\":[[0,9]]}", "journal");
	assert_refused("{" GUARD_JOB("backup") "\"streams\":[8],\"journal\":9}", "journal");
	assert_refused("{" GUARD_JOB("backup") "\"streams\":[8],\"disks\":[[0,9]],\"journal\":9}",
		       "journal_bytes");
	assert_refused("{" GUARD_JOB("backup") "\"streams\":[8],\"disks\":[[0,9]],\"journal\":8,"
					       "\"journal_bytes\":65536}",
		       "twice");
	assert_refused("{" JOB ",\"journal\":9}", "journal");
}

#define FILE_JOB(role)                                                                             \
	"\"role\":\"" role "\",\"name\":\"guest\",\"peer\":\"a file\",\"generation\":1,"           \
	"\"token\":\"00112233445566778899aabbccddeeff\",\"vm\":5,\"ram\":6,\"tls\":false,"         \
	"\"streams\":[]"

/* A file in the place of streams, and never both. */
static void a_job_with_a_file_is_strict(void **state _unused_)
{
	static const char save[] = "{" FILE_JOB("save") ",\"file\":8,\"mark\":9}";
	static const char clone[] = "{" FILE_JOB("restore") ",\"file\":8,\"clone\":true}";
	struct move_job job;
	struct error err = { 0 };

	assert_int_equal(move_job_decode(save, strlen(save), &job, &err), 0);
	assert_int_equal(job.file_fd, 8);
	assert_int_equal(job.n_streams, 0);
	assert_int_equal(move_job_decode(clone, strlen(clone), &job, &err), 0);
	assert_true(job.clone);
	assert_refused("{" FILE_JOB("save") ",\"mark\":9}", "file");
	assert_refused("{" FILE_JOB("save") ",\"file\":8}", "mark");
	assert_refused("{" FILE_JOB("restore") ",\"file\":8,\"mark\":9}", "mark");
	assert_refused("{" FILE_JOB("restore") ",\"file\":6}", "twice");
	assert_refused("{" JOB ",\"file\":9}", "file");
	assert_refused("{" JOB ",\"clone\":true}", "file");
}

static int new_file(void)
{
	int fd = memfd_create("test", 0);

	assert_true(fd >= 0);
	return fd;
}

static void a_job_crosses_to_a_child(void **state _unused_)
{
	struct move_job job = {
		.role = MOVE_DESTINATION,
		.name = "guest",
		.peer = "here",
		.generation = 9,
		.known = 8,
		.vm_fd = new_file(),
		.ram_fd = new_file(),
		.mark_fd = new_file(),
		.own_mark_fd = -1,
		.file_fd = -1,
		.lock_fd = -1,
		.journal_fd = -1,
		.n_streams = 2,
		.streams = { new_file(), new_file() },
		.tls = true,
		.key = { 1, 2, 3 },
		.progress_fd = -1,
		.downtime_ms = 30,
	};
	struct move_job read;
	struct error err = { 0 };
	int fd;

	assert_int_equal(move_job_write(&job, &fd), 0);
	assert_int_equal(fcntl(job.streams[1], F_GETFD), 0);
	assert_int_equal(write(fd, "x", 1), -1);
	if (move_job_read(fd, &read, &err) < 0)
		fail_msg("%s", err.message);
	assert_int_equal(read.role, MOVE_DESTINATION);
	assert_int_equal(read.generation, 9);
	assert_int_equal(read.known, 8);
	assert_int_equal(read.downtime_ms, 30);
	assert_int_equal(read.streams[1], job.streams[1]);
	assert_memory_equal(read.key, job.key, sizeof(job.key));
	assert_int_equal(fcntl(read.streams[1], F_GETFD), FD_CLOEXEC);
	/* An opening of its own of the same file. */
	assert_true(read.own_mark_fd >= 0 && read.own_mark_fd != read.mark_fd);
	assert_int_equal(pwrite(read.mark_fd, "m", 1, 0), 1);
	assert_int_equal(lseek(read.own_mark_fd, 0, SEEK_END), 1);
	close(fd);
	move_job_release(&read);
	for (size_t i = 0; i < sizeof(read.key); i++)
		assert_int_equal(read.key[i], 0);
}

static void a_descriptor_that_is_not_open_is_refused(void **state _unused_)
{
	static const char text[] = "{" JOB "}";
	struct move_job job;
	struct error err = { 0 };
	int fd = new_file();

	for (int i = 5; i <= 8; i++)
		if (i != fd)
			close(i);
	assert_int_equal(fd_write_at(fd, text, strlen(text), 0), 0);
	assert_int_equal(move_job_read(fd, &job, &err), -EINVAL);
	assert_non_null(strstr(err.message, "not open"));
	close(fd);
}

/* ---- progress ---- */

struct reader {
	struct fake_clock clock;
	struct progress progress;
	int fd, other;
	char text[8192];
};

static void reader_open(struct reader *reader)
{
	int pair[2];

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
	fake_clock_init(&reader->clock, NSEC_PER_SEC, 0);
	progress_init(&reader->progress, pair[0], &reader->clock.clock);
	reader->fd = pair[1];
	reader->other = pair[0];
}

static const char *heard(struct reader *reader)
{
	ssize_t n = recv(reader->fd, reader->text, sizeof(reader->text) - 1, MSG_DONTWAIT);

	reader->text[n > 0 ? n : 0] = '\0';
	return reader->text;
}

static void reader_close(struct reader *reader)
{
	close(reader->fd);
	close(reader->other);
}

static void numbers_come_ten_times_a_second(void **state _unused_)
{
	struct move_numbers numbers = { .sent = 4096, .round = 1 };
	struct reader reader;
	int lines = 0;

	reader_open(&reader);
	progress_phase(&reader.progress, PHASE_MEMORY, "little is left");
	assert_string_equal(heard(&reader), "{\"phase\":\"memory\",\"why\":\"little is left\"}\n");
	for (int i = 0; i < 1000; i++) {
		progress_numbers(&reader.progress, &numbers, false);
		lines += heard(&reader)[0] != '\0';
		fake_clock_advance(&reader.clock, NSEC_PER_MSEC);
	}
	assert_in_range(lines, 9, 11);
	progress_numbers(&reader.progress, &numbers, true);
	assert_non_null(strstr(heard(&reader), "\"sent\":4096"));
	reader_close(&reader);
}

static void the_end_tells_what_it_cost(void **state _unused_)
{
	struct move_numbers numbers = { .down_ns = 41 * NSEC_PER_MSEC, .streams = 2 };
	struct error err = { 0 };
	struct reader reader;

	reader_open(&reader);
	progress_end(&reader.progress, MOVE_END_RAN, &numbers, NULL);
	assert_non_null(strstr(heard(&reader), "\"down_ms\":41"));
	assert_non_null(strstr(reader.text, "\"streams\":2"));
	error_set(&err, -EBUSY, EXIT_STATUS_BUSY, "a \"reason\"");
	progress_end(&reader.progress, MOVE_END_REFUSED, &numbers, &err);
	assert_non_null(strstr(heard(&reader), "\"message\":\"a \\\"reason\\\"\""));
	assert_non_null(strstr(reader.text, "\"status\":5"));
	reader_close(&reader);
}

static void a_reader_can_cancel_or_leave(void **state _unused_)
{
	struct reader reader;

	reader_open(&reader);
	assert_false(progress_cancelled(&reader.progress));
	assert_int_equal(fd_write_all(reader.fd, "{\"other\":1}\n{\"can", 17), 0);
	assert_false(progress_cancelled(&reader.progress));
	assert_int_equal(fd_write_all(reader.fd, "cel\":true}\n", 11), 0);
	assert_true(progress_cancelled(&reader.progress));
	assert_true(progress_cancelled(&reader.progress));
	reader_close(&reader);
	reader_open(&reader);
	close(reader.fd);
	assert_true(progress_cancelled(&reader.progress));
	close(reader.other);
}

/* Nobody waits for who does not read, and no line comes in parts. */
static void a_reader_that_sleeps_holds_nobody_up(void **state _unused_)
{
	struct move_numbers numbers = { 0 };
	struct reader reader;
	const char *text;

	reader_open(&reader);
	for (int i = 0; i < 20000; i++)
		progress_numbers(&reader.progress, &numbers, true);
	text = heard(&reader);
	assert_int_equal(text[0], '{');
	while (heard(&reader)[0])
		continue;
	progress_phase(&reader.progress, PHASE_STOP, NULL);
	assert_non_null(strstr(heard(&reader), "stop"));
	reader_close(&reader);
}

static void nobody_can_look(void **state _unused_)
{
	struct move_numbers numbers = { 0 };
	struct progress progress;

	progress_init(&progress, -1, &clock_host);
	progress_phase(&progress, PHASE_CHECK, NULL);
	progress_numbers(&progress, &numbers, true);
	progress_warning(&progress, "unheard");
	progress_end(&progress, MOVE_END_RAN, &numbers, NULL);
	assert_false(progress_cancelled(&progress));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_job_is_strict),
		cmocka_unit_test(a_guards_job_is_strict),
		cmocka_unit_test(a_job_with_a_file_is_strict),
		cmocka_unit_test(a_job_crosses_to_a_child),
		cmocka_unit_test(a_descriptor_that_is_not_open_is_refused),
		cmocka_unit_test(numbers_come_ten_times_a_second),
		cmocka_unit_test(the_end_tells_what_it_cost),
		cmocka_unit_test(a_reader_can_cancel_or_leave),
		cmocka_unit_test(a_reader_that_sleeps_holds_nobody_up),
		cmocka_unit_test(nobody_can_look),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
