/* SPDX-License-Identifier: Apache-2.0 */
#include "move/marks.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/hex.h"
#include "host/runtime.h"
#include "host/state_dir.h"
#include "move/marks_internal.h"

#define LOCK_TRIES 100 /* of 10 ms each */
#define LOCK_NAP_NS (10 * NSEC_PER_MSEC)

struct marks {
	int given_fd, taken_fd; /* folders */
};

int marks_open(struct marks **ret_marks, struct error *err)
{
	_cleanup_(fd_closep) int state = -1;
	struct marks *marks = calloc(1, sizeof(*marks));
	int r;

	if (!marks)
		return -ENOMEM;
	marks->given_fd = marks->taken_fd = -1;
	r = state_dir_open(&state, err);
	if (r == 0)
		r = state_dir_folder(state, "given", &marks->given_fd);
	if (r == 0)
		r = state_dir_folder(state, "taken", &marks->taken_fd);
	if (r < 0) {
		marks_close(marks);
		return error_set(err, r, EXIT_STATUS_HOST,
				 "marks of moves: %s; see that the state directory has room",
				 strerror(-r));
	}
	*ret_marks = marks;
	return 0;
}

void marks_close(struct marks *marks)
{
	if (!marks)
		return;
	fd_close(marks->given_fd);
	fd_close(marks->taken_fd);
	free(marks);
}

static int open_mark(int folder, const char *name, int flags)
{
	int fd = openat(folder, name, O_RDWR | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC | flags, 0600);

	return fd < 0 ? -errno : fd;
}

static int sync_entry(int folder)
{
	return fsync(folder) < 0 ? -errno : 0;
}

static int write_durably(int fd, const char *text, size_t len, uint64_t offset)
{
	int r = fd_write_at(fd, text, len, offset);

	if (r == 0 && fdatasync(fd) < 0)
		r = -errno;
	return r;
}

/* ---- given ---- */

int mark_give(int fd, const struct mark_given *given)
{
	char text[MARK_GIVEN_BYTES + 1];
	int r = mark_given_encode(given, text);

	return r < 0 ? r : write_durably(fd, text, MARK_GIVEN_BYTES, 0);
}

/* 1, 0 or negative, as marks_read_given. */
static int read_given(int fd, const char *name, struct mark_given *ret_given)
{
	char text[MARK_GIVEN_BYTES];
	struct stat st;
	int r;

	if (fstat(fd, &st) < 0)
		return -errno;
	if (st.st_size == 0)
		return 0;
	if (!S_ISREG(st.st_mode) || st.st_size != MARK_GIVEN_BYTES)
		return -EBADMSG;
	r = fd_read_at(fd, text, sizeof(text), 0);
	if (r == 0)
		r = mark_given_decode(text, sizeof(text), ret_given);
	if (r == 0 && strcmp(ret_given->name, name) != 0)
		r = -EBADMSG;
	return r < 0 ? r : ret_given->result != MARK_NEVER;
}

int marks_read_given(struct marks *marks, const char *name, struct mark_given *ret_given)
{
	_cleanup_(fd_closep) int fd = -1;
	struct mark_given given;
	int r;

	if (!runtime_name_valid(name))
		return 0;
	fd = open_mark(marks->given_fd, name, 0);
	if (fd < 0)
		return fd == -ENOENT ? 0 : fd;
	r = read_given(fd, name, &given);
	if (r == 1)
		*ret_given = given;
	return r;
}

static int refuse_given(const char *name, const struct mark_given *given, int damaged,
			struct error *err)
{
	if (damaged)
		return error_set(err, -EEXIST, EXIT_STATUS_BUSY,
				 "%s: there is a mark that it was given away, which cannot be read "
				 "(%s); utsusu resolve %s tells more",
				 name, strerror(-damaged), name);
	return error_set(err, -EEXIST, EXIT_STATUS_BUSY,
			 "%s: was given to %s, and it is not known here whether it runs there; "
			 "utsusu resolve %s tells more",
			 name, given->peer, name);
}

/* Whoever makes or takes away a mark looks at what stands there first: nothing may come between. Not a wait without end: whoever
 * has the lock may be frozen. */
static int lock_given(struct marks *marks)
{
	const struct timespec nap = { .tv_nsec = LOCK_NAP_NS };

	for (int i = 0; i < LOCK_TRIES; i++) {
		if (flock(marks->given_fd, LOCK_EX | LOCK_NB) == 0)
			return 0;
		if (errno != EWOULDBLOCK)
			return -errno;
		nanosleep(&nap, NULL);
	}
	return -EBUSY;
}

static void unlock_given(struct marks *marks)
{
	(void)flock(marks->given_fd, LOCK_UN);
}

static bool is_empty(int fd)
{
	struct stat st;

	return fstat(fd, &st) == 0 && st.st_size == 0;
}

static int prepare_given_locked(struct marks *marks, const char *name, struct error *err)
{
	_cleanup_(fd_closep) int fd = open_mark(marks->given_fd, name, O_CREAT);
	struct mark_given given;
	int r;

	if (fd < 0)
		return fd;
	r = read_given(fd, name, &given);
	if (r < 0 || (r == 1 && given.result == MARK_OPEN))
		return refuse_given(name, &given, MIN(r, 0), err);
	/* What stood there is of an earlier life of this VM elsewhere, from which it came back. One that is empty may be another
	 * mover's, whose VM writes it now. */
	if (!is_empty(fd) && (ftruncate(fd, 0) < 0 || fdatasync(fd) < 0))
		return -errno;
	r = sync_entry(marks->given_fd);
	return r < 0 ? r : TAKE_FD(fd);
}

int marks_prepare_given(struct marks *marks, const char *name, struct error *err)
{
	int r = runtime_name_valid(name) ? lock_given(marks) : -EINVAL;

	if (r == -EBUSY)
		return error_set(
			err, r, EXIT_STATUS_BUSY,
			"marks of moves: another process has held their lock for a second; "
			"see whether one of utsusud hangs, then try again");
	if (r < 0)
		return r;
	r = prepare_given_locked(marks, name, err);
	unlock_given(marks);
	return r;
}

/* An answer may come so late that the VM has been given anew, or is being: an empty mark is that one's. */
static int expect_given(int fd, const char *name, const uint8_t *token,
			struct mark_given *ret_given)
{
	int r = read_given(fd, name, ret_given);

	if (!token)
		return 0;
	if (r < 0)
		return r;
	return r == 1 && memcmp(ret_given->token, token, MARK_TOKEN_BYTES) == 0 ? 0 : -ESTALE;
}

static int settle_given_locked(struct marks *marks, const char *name, const uint8_t *token,
			       enum mark_result result)
{
	_cleanup_(fd_closep) int fd = open_mark(marks->given_fd, name, 0);
	struct mark_given given = { 0 };
	int r;

	if (fd < 0)
		return fd;
	r = expect_given(fd, name, token, &given);
	if (r < 0)
		return r;
	if (result == MARK_RAN) {
		given.result = result;
		return mark_give(fd, &given);
	}
	if (unlinkat(marks->given_fd, name, 0) < 0)
		return -errno;
	return sync_entry(marks->given_fd);
}

int marks_settle_given(struct marks *marks, const char *name, const uint8_t token[MARK_TOKEN_BYTES],
		       enum mark_result result)
{
	int r;

	if (!runtime_name_valid(name) || result == MARK_OPEN || (!token && result != MARK_NEVER))
		return -EINVAL;
	r = lock_given(marks);
	if (r < 0)
		return r;
	r = settle_given_locked(marks, name, token, result);
	unlock_given(marks);
	return r;
}

static int list_entry(struct marks *marks, const char *name,
		      int (*found)(void *ctx, const struct mark_given *given), void *ctx)
{
	struct mark_given given;
	int r = marks_read_given(marks, name, &given);

	if (r == 0)
		return 0;
	if (r < 0) {
		given = (struct mark_given){ 0 };
		snprintf(given.name, sizeof(given.name), "%.*s", LIMIT_NAME - 1, name);
	}
	return found(ctx, &given);
}

int marks_list_given(struct marks *marks, int (*found)(void *ctx, const struct mark_given *given),
		     void *ctx)
{
	int copy = openat(marks->given_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *dir = copy >= 0 ? fdopendir(copy) : NULL;
	const struct dirent *entry;
	int r = 0;

	if (!dir) {
		r = -errno;
		fd_close(copy);
		return r;
	}
	while (r == 0 && (entry = readdir(dir)))
		if (runtime_name_valid(entry->d_name))
			r = list_entry(marks, entry->d_name, found, ctx);
	closedir(dir);
	return r;
}

/* What another wrote counts once it is on the disk: after a power cut the mark is not to be open again. */
static int is_settled(int fd, const char *name, const uint8_t token[MARK_TOKEN_BYTES])
{
	struct mark_given given;
	int r = fdatasync(fd) < 0 ? -errno : read_given(fd, name, &given);

	if (r <= 0)
		return r < 0 ? r : 1;
	return given.result != MARK_OPEN || memcmp(given.token, token, MARK_TOKEN_BYTES) != 0;
}

int marks_is_settled(struct marks *marks, const char *name, const uint8_t token[MARK_TOKEN_BYTES])
{
	_cleanup_(fd_closep) int fd = -1;
	int r;

	if (!runtime_name_valid(name))
		return -EINVAL;
	fd = open_mark(marks->given_fd, name, 0);
	r = fd < 0 ? fd : is_settled(fd, name, token);
	if (r == -ENOENT)
		r = 1;
	if (r == 1 && sync_entry(marks->given_fd) < 0)
		r = -EIO;
	return r;
}

/* ---- taken ---- */

static void token_name(const uint8_t token[MARK_TOKEN_BYTES],
		       char ret_name[2 * MARK_TOKEN_BYTES + 1])
{
	hex_encode(token, MARK_TOKEN_BYTES, ret_name);
}

/* At once whole under its name, or not there: what a crash leaves is a file that nobody looks for. */
static int make_taken(struct marks *marks, const uint8_t token[MARK_TOKEN_BYTES])
{
	char name[2 * MARK_TOKEN_BYTES + 1], new[sizeof(name) + 16], text[MARK_TAKEN_BYTES + 1];
	_cleanup_(fd_closep) int fd = -1;
	int r;

	token_name(token, name);
	snprintf(new, sizeof(new), ".%s.%d", name, (int)getpid());
	unlinkat(marks->taken_fd, new, 0);
	fd = open_mark(marks->taken_fd, new, O_CREAT | O_EXCL);
	if (fd < 0)
		return fd;
	mark_taken_new(token, text);
	r = write_durably(fd, text, MARK_TAKEN_BYTES, 0);
	if (r == 0 && linkat(marks->taken_fd, new, marks->taken_fd, name, 0) < 0)
		r = -errno;
	unlinkat(marks->taken_fd, new, 0);
	if (r == 0)
		r = sync_entry(marks->taken_fd);
	return r < 0 ? r : TAKE_FD(fd);
}

int marks_prepare_taken(struct marks *marks, const uint8_t token[MARK_TOKEN_BYTES],
			struct error *err)
{
	int fd = make_taken(marks, token);

	if (fd == -EEXIST)
		return error_set(err, fd, EXIT_STATUS_FAILED,
				 "this move's token was used before; begin the move anew");
	if (fd < 0)
		return error_set(err, fd, EXIT_STATUS_HOST,
				 "marks of moves: %s; see that the state directory can be written",
				 strerror(-fd));
	return fd;
}

/* Not a wait without end: whoever has it may be frozen. */
static int lock_mark(int fd)
{
	const struct timespec nap = { .tv_nsec = LOCK_NAP_NS };
	int r = fd_lock(fd, F_WRLCK);

	for (int i = 1; i < LOCK_TRIES && r == -EBUSY; i++) {
		nanosleep(&nap, NULL);
		r = fd_lock(fd, F_WRLCK);
	}
	return r;
}

static void unlock_mark(int fd)
{
	(void)!fd_lock(fd, F_UNLCK);
}

static int read_taken(int fd, uint8_t ret_token[MARK_TOKEN_BYTES], enum mark_result *ret_result)
{
	char text[MARK_TAKEN_BYTES];
	int r = fd_read_at(fd, text, sizeof(text), 0);

	if (r == -ENODATA)
		return -EBADMSG;
	return r < 0 ? r : mark_taken_decode(text, sizeof(text), ret_token, ret_result);
}

/* What stands is written again: it may be another's that is not on the disk yet, or one whose sync failed, after which the kernel
 * takes the page for clean. */
static int take_locked(int fd, enum mark_result result)
{
	uint8_t token[MARK_TOKEN_BYTES];
	char record[MARK_RECORD_BYTES + 1];
	enum mark_result stands;
	int r = read_taken(fd, token, &stands);

	if (r < 0)
		return r;
	if (stands == MARK_OPEN)
		stands = result;
	mark_record(token, stands, record);
	r = write_durably(fd, record, MARK_RECORD_BYTES, MARK_RECORD_BYTES);
	return r < 0 ? r : (int)stands;
}

int mark_take(int fd, enum mark_result result)
{
	int r;

	if (result == MARK_OPEN)
		return -EINVAL;
	r = lock_mark(fd);
	if (r < 0)
		return r;
	r = take_locked(fd, result);
	unlock_mark(fd);
	return r;
}

/* The token's file, made when there is none and `make` says so. */
static int open_taken(struct marks *marks, const uint8_t token[MARK_TOKEN_BYTES], bool make)
{
	char name[2 * MARK_TOKEN_BYTES + 1];
	int fd;

	token_name(token, name);
	fd = open_mark(marks->taken_fd, name, 0);
	if (fd == -ENOENT && make)
		fd = make_taken(marks, token);
	return fd == -EEXIST ? open_mark(marks->taken_fd, name, 0) : fd;
}

int marks_read_taken(struct marks *marks, const uint8_t token[MARK_TOKEN_BYTES], bool close,
		     enum mark_result *ret_result)
{
	_cleanup_(fd_closep) int fd = open_taken(marks, token, close);
	uint8_t found[MARK_TOKEN_BYTES];
	enum mark_result stands;
	int r;

	if (fd < 0)
		return fd;
	r = read_taken(fd, found, &stands);
	if (r == 0 && memcmp(found, token, MARK_TOKEN_BYTES) != 0)
		r = -EBADMSG;
	if (r == 0 && (close || stands != MARK_OPEN)) {
		r = mark_take(fd, stands == MARK_OPEN ? MARK_NEVER : stands);
		stands = r < 0 ? stands : (enum mark_result)r;
	}
	if (r < 0)
		return r;
	*ret_result = stands;
	return 0;
}

int marks_forget_taken(struct marks *marks, const uint8_t token[MARK_TOKEN_BYTES])
{
	char name[2 * MARK_TOKEN_BYTES + 1];

	token_name(token, name);
	if (unlinkat(marks->taken_fd, name, 0) < 0 && errno != ENOENT)
		return -errno;
	return sync_entry(marks->taken_fd);
}
