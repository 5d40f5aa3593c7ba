/* SPDX-License-Identifier: Apache-2.0 */
/* The marks of a move: durable before they are told of, the first result wins, damage is nobody's leave to run. */
#include "check.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/fd.h"
#include "move/marks.h"

/* What was synced since the last look; a failure that the next ones meet. */
static struct {
	unsigned int files, folders;
	int fail;
} synced;

static int note_sync(int fd, long call)
{
	struct stat st;

	fstat(fd, &st);
	if (synced.fail) {
		errno = synced.fail;
		return -1;
	}
	if (S_ISDIR(st.st_mode))
		synced.folders++;
	else
		synced.files++;
	return (int)syscall(call, fd);
}

/* In place of the C library's. */
int fsync(int fd)
{
	return note_sync(fd, SYS_fsync);
}

int fdatasync(int fd)
{
	return note_sync(fd, SYS_fdatasync);
}

/* What another process does in the moment before a mark is taken away or emptied. */
static struct {
	void (*act)(void);
	int fd, r;
} meanwhile;

static void let_others_act(void)
{
	void (*act)(void) = meanwhile.act;

	meanwhile.act = NULL;
	if (act)
		act();
}

int unlinkat(int folder, const char *name, int flags)
{
	let_others_act();
	return (int)syscall(SYS_unlinkat, folder, name, flags);
}

int ftruncate(int fd, off_t len)
{
	let_others_act();
	return (int)syscall(SYS_ftruncate, fd, len);
}

static const uint8_t token[MARK_TOKEN_BYTES] = { 1, 2,	3,  4,	5,  6,	7,  8,
						 9, 10, 11, 12, 13, 14, 15, 16 };

static struct mark_given given_to(const char *peer)
{
	struct mark_given given = {
		.name = "db",
		.uuid = "0f0e0d0c-0b0a-4908-8706-050403020100",
		.generation = 7,
		.wall_ns = 1700000000000000000,
	};

	memcpy(given.token, token, sizeof(token));
	snprintf(given.peer, sizeof(given.peer), "%s", peer);
	return given;
}

static int setup(void **state)
{
	char template[] = "/tmp/utsusu-test-XXXXXX";
	struct error err = { 0 };
	struct marks *marks;

	memset(&synced, 0, sizeof(synced));
	if (setenv("UTSUSU_STATE_DIR", mkdtemp(template), 1) < 0 || marks_open(&marks, &err) < 0)
		return -1;
	memset(&synced, 0, sizeof(synced));
	*state = marks;
	return 0;
}

static int teardown(void **state)
{
	char command[128];

	marks_close(*state);
	snprintf(command, sizeof(command), "rm -r %s", getenv("UTSUSU_STATE_DIR"));
	return system(command);
}

static void path_of(const char *folder, const char *name, char ret_path[256])
{
	snprintf(ret_path, 256, "%s/%s/%s", getenv("UTSUSU_STATE_DIR"), folder, name);
}

#define TOKEN_NAME "0102030405060708090a0b0c0d0e0f10"

/* A file as another process opens it, with a lock of its own. */
static int open_again(const char *folder, const char *name)
{
	char path[256];
	int fd;

	path_of(folder, name, path);
	fd = open(path, O_RDWR | O_CLOEXEC);
	assert_true(fd >= 0);
	return fd;
}

static void test_folders_are_ours_alone(void **state _unused_)
{
	static const char *const folders[] = { "", "given", "taken" };
	char path[256];
	struct stat st;

	for (size_t i = 0; i < ARRAY_SIZE(folders); i++) {
		path_of(folders[i], "", path);
		assert_int_equal(stat(path, &st), 0);
		assert_int_equal(st.st_mode & 07777, 0700);
	}
}

static void test_a_folder_of_others_is_refused(void **state _unused_)
{
	struct error err = { 0 };
	struct marks *marks;

	assert_int_equal(chmod(getenv("UTSUSU_STATE_DIR"), 0777), 0);
	assert_int_equal(marks_open(&marks, &err), -EPERM);
	assert_non_null(strstr(err.message, "chmod"));
}

static int prepare_given(struct marks *marks)
{
	struct error err = { 0 };
	int fd = marks_prepare_given(marks, "db", &err);

	assert_true(fd >= 0);
	return fd;
}

static void test_prepared_is_not_given(void **state)
{
	struct mark_given read;
	int fd = prepare_given(*state);

	assert_int_equal(synced.folders, 1);
	assert_int_equal(marks_read_given(*state, "db", &read), 0);
	fd_close(fd);
}

static void test_given_is_durable_and_says_all(void **state)
{
	struct mark_given given = given_to("host-b"), read;
	int fd = prepare_given(*state);

	synced.files = 0;
	assert_int_equal(mark_give(fd, &given), 0);
	assert_int_equal(synced.files, 1);
	assert_int_equal(marks_read_given(*state, "db", &read), 1);
	assert_string_equal(read.name, given.name);
	assert_string_equal(read.uuid, given.uuid);
	assert_string_equal(read.peer, "host-b");
	assert_memory_equal(read.token, token, sizeof(token));
	assert_int_equal(read.generation, 7);
	assert_true(read.wall_ns == given.wall_ns);
	assert_int_equal(read.result, MARK_OPEN);
	fd_close(fd);
}

static void test_a_mark_that_cannot_be_synced_is_an_error(void **state)
{
	struct mark_given given = given_to("host-b");
	int fd = prepare_given(*state);

	synced.fail = EIO;
	assert_int_equal(mark_give(fd, &given), -EIO);
	synced.fail = 0;
	fd_close(fd);
}

static void test_in_doubt_is_not_given_again(void **state)
{
	struct mark_given given = given_to("host-b");
	struct error err = { 0 };
	int fd = prepare_given(*state);

	assert_int_equal(mark_give(fd, &given), 0);
	assert_int_equal(marks_prepare_given(*state, "db", &err), -EEXIST);
	assert_non_null(strstr(err.message, "host-b"));
	assert_non_null(strstr(err.message, "utsusu resolve db"));
	fd_close(fd);
}

static void test_never_means_not_given(void **state)
{
	struct mark_given given = given_to("host-b"), read;
	int fd = prepare_given(*state);

	assert_int_equal(mark_give(fd, &given), 0);
	given.result = MARK_NEVER;
	assert_int_equal(mark_give(fd, &given), 0);
	assert_int_equal(marks_read_given(*state, "db", &read), 0);
	fd_close(fd);
	fd_close(prepare_given(*state));
}

static void test_ran_stays_until_the_next_life(void **state)
{
	struct mark_given given = given_to("host-b"), read;
	int fd = prepare_given(*state);

	assert_int_equal(mark_give(fd, &given), 0);
	assert_int_equal(marks_settle_given(*state, "db", given.token, MARK_RAN), 0);
	assert_int_equal(marks_read_given(*state, "db", &read), 1);
	assert_int_equal(read.result, MARK_RAN);
	fd_close(fd);
	/* It came back, and is given again. */
	fd_close(prepare_given(*state));
	assert_int_equal(marks_read_given(*state, "db", &read), 0);
}

static void test_settled_never_is_gone(void **state)
{
	struct mark_given given = given_to("host-b"), read;
	int fd = prepare_given(*state);

	assert_int_equal(mark_give(fd, &given), 0);
	synced.folders = 0;
	assert_int_equal(marks_settle_given(*state, "db", given.token, MARK_NEVER), 0);
	assert_int_equal(synced.folders, 1);
	assert_int_equal(marks_read_given(*state, "db", &read), 0);
	assert_int_equal(marks_settle_given(*state, "db", given.token, MARK_NEVER), -ENOENT);
	fd_close(fd);
}

/* A late answer about one move does not touch the mark of the next, empty or written. */
static void test_an_older_move_settles_nothing(void **state)
{
	struct mark_given given = given_to("host-b"), read;
	const uint8_t older[MARK_TOKEN_BYTES] = { 1 };
	int fd = prepare_given(*state);

	assert_int_equal(marks_settle_given(*state, "db", older, MARK_NEVER), -ESTALE);
	assert_int_equal(mark_give(fd, &given), 0);
	assert_int_equal(marks_settle_given(*state, "db", older, MARK_NEVER), -ESTALE);
	assert_int_equal(marks_settle_given(*state, "db", older, MARK_RAN), -ESTALE);
	assert_int_equal(marks_read_given(*state, "db", &read), 1);
	assert_int_equal(read.result, MARK_OPEN);
	assert_int_equal(marks_settle_given(*state, "db", NULL, MARK_NEVER), 0);
	assert_int_equal(marks_read_given(*state, "db", &read), 0);
	fd_close(fd);
}

/* A process of its own, with the next move's token. */
static void give_anew(void)
{
	struct mark_given given = given_to("host-c");
	struct error err = { 0 };
	struct marks *others;

	given.token[0] = 0xff;
	assert_int_equal(marks_open(&others, &err), 0);
	/* Settled by its VM, or a person, while this one stood still. */
	if (marks_settle_given(others, "db", token, MARK_NEVER) == 0) {
		meanwhile.fd = marks_prepare_given(others, "db", &err);
		assert_true(meanwhile.fd >= 0);
		assert_int_equal(mark_give(meanwhile.fd, &given), 0);
		fd_close(meanwhile.fd);
		meanwhile.r = 1;
	}
	marks_close(others);
}

static void test_who_settles_late_takes_no_newer_mark_away(void **state)
{
	struct mark_given given = given_to("host-b"), read;
	int fd = prepare_given(*state);

	assert_int_equal(mark_give(fd, &given), 0);
	meanwhile.act = give_anew;
	meanwhile.r = 0;
	(void)!marks_settle_given(*state, "db", token, MARK_NEVER);
	assert_null(meanwhile.act);
	/* Either nobody could give it anew, or that stands. */
	assert_int_equal(marks_read_given(*state, "db", &read), meanwhile.r);
	fd_close(fd);
}

static void give_now(void)
{
	struct mark_given given = given_to("host-b");

	assert_int_equal(mark_give(meanwhile.fd, &given), 0);
}

static void test_a_second_mover_empties_no_mark_of_the_first(void **state)
{
	struct error err = { 0 };
	struct mark_given read;
	int second;

	meanwhile.fd = prepare_given(*state);
	meanwhile.act = give_now;
	second = marks_prepare_given(*state, "db", &err);
	let_others_act();
	assert_int_equal(marks_read_given(*state, "db", &read), 1);
	assert_int_equal(read.result, MARK_OPEN);
	fd_close(second);
	fd_close(meanwhile.fd);
}

/* Each byte that can be wrong, and each length. */
static void test_damage_is_found(void **state)
{
	struct mark_given given = given_to("host-b"), read;
	char text[MARK_GIVEN_BYTES + 1];
	int fd = prepare_given(*state);

	assert_int_equal(mark_given_encode(&given, text), 0);
	for (size_t i = 0; i < MARK_GIVEN_BYTES; i++) {
		text[i] ^= 1;
		assert_int_equal(mark_given_decode(text, MARK_GIVEN_BYTES, &read), -EBADMSG);
		text[i] ^= 1;
	}
	for (size_t len = 0; len < MARK_GIVEN_BYTES; len++)
		assert_int_equal(mark_given_decode(text, len, &read), -EBADMSG);
	assert_int_equal(fd_write_at(fd, text, 100, 0), 0);
	assert_int_equal(marks_read_given(*state, "db", &read), -EBADMSG);
	fd_close(fd);
}

/* A file copied to another name says nothing about that VM. */
static void test_another_vms_mark_is_damage(void **state)
{
	struct mark_given given = given_to("host-b"), read;
	char from[256], to[256];
	int fd = prepare_given(*state);

	assert_int_equal(mark_give(fd, &given), 0);
	path_of("given", "db", from);
	path_of("given", "web", to);
	assert_int_equal(rename(from, to), 0);
	assert_int_equal(marks_read_given(*state, "web", &read), -EBADMSG);
	fd_close(fd);
}

static void test_a_peer_of_any_length_fits(void **state)
{
	struct mark_given given = given_to(""), read;
	char text[MARK_GIVEN_BYTES + 1];

	assert_int_equal(mark_given_encode(&given, text), -EINVAL);
	memset(given.name, 'n', sizeof(given.name) - 1);
	memset(given.peer, 'p', sizeof(given.peer) - 1);
	given.generation = given.wall_ns = UINT64_MAX;
	given.result = MARK_NEVER;
	assert_int_equal(mark_given_encode(&given, text), 0);
	assert_int_equal(mark_given_decode(text, MARK_GIVEN_BYTES, &read), 0);
	assert_string_equal(read.peer, given.peer);
	given.peer[3] = '\n';
	assert_int_equal(mark_given_encode(&given, text), -EINVAL);
}

static int count_given(void *ctx, const struct mark_given *given)
{
	unsigned int *count = ctx;

	(*count)++;
	assert_string_equal(given->name, given->peer[0] ? "db" : "web");
	return 0;
}

static void test_the_list_has_damaged_ones_too(void **state)
{
	struct mark_given given = given_to("host-b");
	unsigned int count = 0;
	char path[256];
	int fd = prepare_given(*state);

	assert_int_equal(mark_give(fd, &given), 0);
	fd_close(fd);
	path_of("given", "web", path);
	fd = open(path, O_RDWR | O_CREAT, 0600);
	assert_int_equal(write(fd, "what?", 5), 5);
	fd_close(fd);
	assert_int_equal(marks_list_given(*state, count_given, &count), 0);
	assert_int_equal(count, 2);
}

static int prepare_taken(struct marks *marks)
{
	struct error err = { 0 };
	int fd = marks_prepare_taken(marks, token, &err);

	assert_true(fd >= 0);
	return fd;
}

static void test_a_token_is_prepared_once(void **state)
{
	struct error err = { 0 };
	enum mark_result result;
	int fd = prepare_taken(*state);

	assert_int_equal(synced.folders, 1);
	assert_int_equal(synced.files, 1);
	assert_int_equal(marks_prepare_taken(*state, token, &err), -EEXIST);
	assert_int_equal(marks_read_taken(*state, token, false, &result), 0);
	assert_int_equal(result, MARK_OPEN);
	fd_close(fd);
}

static void test_the_first_result_wins(void **state)
{
	enum mark_result result;
	int fd = prepare_taken(*state), other = open_again("taken", TOKEN_NAME);

	synced.files = 0;
	assert_int_equal(mark_take(fd, MARK_RAN), MARK_RAN);
	assert_int_equal(synced.files, 1);
	assert_int_equal(mark_take(other, MARK_NEVER), MARK_RAN);
	assert_int_equal(marks_read_taken(*state, token, true, &result), 0);
	assert_int_equal(result, MARK_RAN);
	fd_close(fd);
	fd_close(other);
}

static void test_never_first_forbids_the_run(void **state)
{
	enum mark_result result;
	int fd = prepare_taken(*state);

	assert_int_equal(marks_read_taken(*state, token, true, &result), 0);
	assert_int_equal(result, MARK_NEVER);
	assert_int_equal(mark_take(fd, MARK_RAN), MARK_NEVER);
	fd_close(fd);
}

static void test_an_unknown_token_is_closed_for_good(void **state)
{
	struct error err = { 0 };
	enum mark_result result;

	assert_int_equal(marks_read_taken(*state, token, false, &result), -ENOENT);
	assert_int_equal(marks_read_taken(*state, token, true, &result), 0);
	assert_int_equal(result, MARK_NEVER);
	assert_int_equal(marks_prepare_taken(*state, token, &err), -EEXIST);
}

/* Another has it on the disk soon or not at all: who reads waits for the disk. */
static void test_what_is_read_is_durable(void **state)
{
	enum mark_result result;
	int fd = prepare_taken(*state);

	assert_int_equal(mark_take(fd, MARK_RAN), MARK_RAN);
	synced.files = 0;
	assert_int_equal(marks_read_taken(*state, token, false, &result), 0);
	assert_int_equal(synced.files, 1);
	synced.fail = EIO;
	assert_int_equal(marks_read_taken(*state, token, false, &result), -EIO);
	synced.fail = 0;
	fd_close(fd);
}

static void test_a_result_that_was_not_synced_is_no_result(void **state)
{
	int fd = prepare_taken(*state);

	synced.fail = EIO;
	assert_int_equal(mark_take(fd, MARK_RAN), -EIO);
	synced.fail = 0;
	synced.files = 0;
	/* Asked again, it goes to the disk again, whatever the page cache has. */
	assert_int_equal(mark_take(fd, MARK_RAN), MARK_RAN);
	assert_int_equal(synced.files, 1);
	fd_close(fd);
}

static void test_a_lock_that_stays_is_no_hang(void **state)
{
	struct flock lock = { .l_type = F_WRLCK, .l_whence = SEEK_SET };
	int fd = prepare_taken(*state), other = open_again("taken", TOKEN_NAME);

	assert_int_equal(fcntl(other, F_OFD_SETLK, &lock), 0);
	assert_int_equal(mark_take(fd, MARK_RAN), -EBUSY);
	fd_close(other);
	assert_int_equal(mark_take(fd, MARK_RAN), MARK_RAN);
	fd_close(fd);
}

static void test_a_damaged_token_has_no_result(void **state)
{
	uint8_t other[MARK_TOKEN_BYTES] = { 9 };
	enum mark_result result;
	int fd = prepare_taken(*state);

	assert_int_equal(mark_take(fd, MARK_RAN), MARK_RAN);
	assert_int_equal(fd_write_at(fd, "x", 1, 70), 0);
	assert_int_equal(mark_take(fd, MARK_RAN), -EBADMSG);
	assert_int_equal(marks_read_taken(*state, token, true, &result), -EBADMSG);
	assert_int_equal(ftruncate(fd, 20), 0);
	assert_int_equal(mark_take(fd, MARK_RAN), -EBADMSG);
	assert_int_equal(marks_read_taken(*state, other, false, &result), -ENOENT);
	fd_close(fd);
}

static void test_no_name_leads_out(void **state)
{
	struct error err = { 0 };
	struct mark_given read;

	assert_int_equal(marks_prepare_given(*state, "../taken", &err), -EINVAL);
	assert_int_equal(marks_read_given(*state, "../taken", &read), 0);
	assert_int_equal(marks_settle_given(*state, "..", NULL, MARK_NEVER), -EINVAL);
}

static void test_uuids(void **state _unused_)
{
	char a[UUID_TEXT], b[UUID_TEXT], upper[UUID_TEXT] = "0F0E0D0C-0B0A-4908-8706-050403020100";

	assert_int_equal(uuid_make(a), 0);
	assert_int_equal(uuid_make(b), 0);
	assert_true(uuid_valid(a));
	assert_string_not_equal(a, b);
	assert_true(uuid_valid(upper));
	uuid_lower(upper);
	assert_string_equal(upper, "0f0e0d0c-0b0a-4908-8706-050403020100");
	assert_false(uuid_valid(""));
	assert_false(uuid_valid("0f0e0d0c-0b0a-4908-8706-05040302010"));
	assert_false(uuid_valid("0f0e0d0c-0b0a-4908-8706-0504030201000"));
	assert_false(uuid_valid("0f0e0d0c+0b0a-4908-8706-050403020100"));
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_folders_are_ours_alone),
		TEST(test_a_folder_of_others_is_refused),
		TEST(test_prepared_is_not_given),
		TEST(test_given_is_durable_and_says_all),
		TEST(test_a_mark_that_cannot_be_synced_is_an_error),
		TEST(test_in_doubt_is_not_given_again),
		TEST(test_never_means_not_given),
		TEST(test_ran_stays_until_the_next_life),
		TEST(test_settled_never_is_gone),
		TEST(test_an_older_move_settles_nothing),
		TEST(test_who_settles_late_takes_no_newer_mark_away),
		TEST(test_a_second_mover_empties_no_mark_of_the_first),
		TEST(test_damage_is_found),
		TEST(test_another_vms_mark_is_damage),
		TEST(test_a_peer_of_any_length_fits),
		TEST(test_the_list_has_damaged_ones_too),
		TEST(test_a_token_is_prepared_once),
		TEST(test_the_first_result_wins),
		TEST(test_never_first_forbids_the_run),
		TEST(test_an_unknown_token_is_closed_for_good),
		TEST(test_what_is_read_is_durable),
		TEST(test_a_result_that_was_not_synced_is_no_result),
		TEST(test_a_lock_that_stays_is_no_hang),
		TEST(test_a_damaged_token_has_no_result),
		TEST(test_no_name_leads_out),
		TEST(test_uuids),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
