/* SPDX-License-Identifier: Apache-2.0 */
#include "host/runtime.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/fd.h"

#define LOCK_FILE "lock"
#define CLAIM_TRIES 16	 /* against a VM of the same name that ends just now */
#define NAMES_TRIED 4096 /* vm1 ... */
#define LISTEN_BACKLOG 16
#define CONNECT_SECONDS 5

bool runtime_name_valid(const char *name)
{
	size_t len = strnlen(name, LIMIT_NAME);

	if (len == 0 || len >= LIMIT_NAME || name[0] == '-')
		return false;
	return strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789-") == len;
}

/* Opens below `dir`, never out of it and never through a symbolic link. */
static int open_below(int dir, const char *name, int flags, mode_t mode)
{
	struct open_how how = {
		.flags = (uint64_t)flags | O_CLOEXEC | O_NOFOLLOW,
		.mode = mode,
		.resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS,
	};
	long fd = syscall(SYS_openat2, dir, name, &how, sizeof(how));

	return fd < 0 ? -errno : (int)fd;
}

static int root_path(char *ret_path, size_t size, struct error *err)
{
	const char *own = getenv("UTSUSU_RUNTIME_DIR"), *xdg = getenv("XDG_RUNTIME_DIR");
	int len;

	if (own && own[0])
		len = snprintf(ret_path, size, "%s", own);
	else if (geteuid() == 0)
		len = snprintf(ret_path, size, "/run/utsusu");
	else if (xdg && xdg[0])
		len = snprintf(ret_path, size, "%s/utsusu", xdg);
	else
		return error_set(
			err, -ENOENT, EXIT_STATUS_HOST,
			"runtime directory: XDG_RUNTIME_DIR is not set; log in properly, or set "
			"UTSUSU_RUNTIME_DIR to a directory of yours");
	if (len >= (int)size || ret_path[0] != '/')
		return error_set(err, -EINVAL, EXIT_STATUS_HOST,
				 "runtime directory: %s is not an absolute path; set "
				 "UTSUSU_RUNTIME_DIR to one",
				 ret_path);
	return 0;
}

/* Others must not be able to put sockets or links there. */
static int check_root(int fd, const char *path, struct error *err)
{
	struct stat st;

	if (fstat(fd, &st) < 0)
		return -errno;
	if (st.st_uid == geteuid() && !(st.st_mode & (S_IWGRP | S_IWOTH)))
		return 0;
	return error_set(
		err, -EPERM, EXIT_STATUS_HOST,
		"runtime directory: %s can be written by others; chown it to yourself and chmod "
		"it to 0700, or set UTSUSU_RUNTIME_DIR to another",
		path);
}

static int open_root(bool make, int *ret_fd, struct error *err)
{
	_cleanup_(fd_closep) int fd = -1;
	char path[4096];
	int r = root_path(path, sizeof(path), err);

	if (r < 0)
		return r;
	if (make && mkdir(path, 0700) < 0 && errno != EEXIST)
		return error_set(
			err, -errno, EXIT_STATUS_HOST,
			"runtime directory: %s: %s; make it, or set UTSUSU_RUNTIME_DIR to another",
			path, strerror(errno));
	fd = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0)
		return error_set(
			err, -errno, EXIT_STATUS_HOST,
			"runtime directory: %s: %s; make it, or set UTSUSU_RUNTIME_DIR to another",
			path, strerror(errno));
	r = check_root(fd, path, err);
	if (r < 0)
		return r;
	*ret_fd = TAKE_FD(fd);
	return 0;
}

int runtime_open(int *ret_root_fd, struct error *err)
{
	return open_root(true, ret_root_fd, err);
}

int runtime_open_existing(int *ret_root_fd, struct error *err)
{
	return open_root(false, ret_root_fd, err);
}

/* Whether another open file holds the lock: 1, 0, or a negative errno when that cannot be told. Asking takes nothing, so it disturbs
 * no claim. */
static int lock_is_held(int dir_fd)
{
	_cleanup_(fd_closep) int fd = open_below(dir_fd, LOCK_FILE, O_RDWR, 0);
	struct flock lock = { .l_type = F_WRLCK, .l_whence = SEEK_SET };

	if (fd < 0)
		return fd == -ENOENT ? 0 : fd;
	if (fcntl(fd, F_OFD_GETLK, &lock) < 0)
		return -errno;
	return lock.l_type != F_UNLCK;
}

static bool same_file(int dir, const char *name, int fd)
{
	struct stat there, here;

	return fstatat(dir, name, &there, AT_SYMLINK_NOFOLLOW) == 0 && fstat(fd, &here) == 0 &&
	       there.st_dev == here.st_dev && there.st_ino == here.st_ino;
}

/* Everything but the lock and `kept`; a VM's directory holds plain files and sockets only. */
static bool is_kept(int dir_fd, const char *name)
{
	struct stat st;

	return (strcmp(name, RUNTIME_LOG) == 0 || strcmp(name, RUNTIME_REQUESTS) == 0) &&
	       fstatat(dir_fd, name, &st, AT_SYMLINK_NOFOLLOW) == 0 && st.st_size > 0;
}

/* All but the lock; with `keep`, but what a dead VM has to tell as well. How many files are left. */
static unsigned int empty_directory(int dir_fd, bool keep)
{
	int copy = openat(dir_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *dir = copy >= 0 ? fdopendir(copy) : NULL;
	struct dirent *entry;
	unsigned int left = 0;

	if (!dir) {
		fd_close(copy);
		return 0;
	}
	while ((entry = readdir(dir))) {
		if (entry->d_name[0] == '.' || strcmp(entry->d_name, LOCK_FILE) == 0)
			continue;
		if (keep && is_kept(dir_fd, entry->d_name))
			left++;
		else
			unlinkat(dir_fd, entry->d_name, 0);
	}
	closedir(dir);
	return left;
}

/*
 * One try: 0, -EBUSY when a VM holds it, -EAGAIN when the directory went away between opening and
 * locking (a VM that ended removes its directory while it still holds the lock).
 */
static int try_claim(int root_fd, const char *name, struct runtime_vm *ret_vm)
{
	_cleanup_(fd_closep) int dir = -1;
	_cleanup_(fd_closep) int lock_fd = -1;
	int r;

	if (mkdirat(root_fd, name, 0700) < 0 && errno != EEXIST)
		return -errno;
	dir = open_below(root_fd, name, O_RDONLY | O_DIRECTORY, 0);
	if (dir < 0)
		return dir == -ENOENT ? -EAGAIN : dir;
	lock_fd = open_below(dir, LOCK_FILE, O_RDWR | O_CREAT, 0600);
	if (lock_fd < 0)
		return lock_fd == -ENOENT ? -EAGAIN : lock_fd;
	r = fd_lock(lock_fd, F_WRLCK);
	if (r < 0)
		return r;
	if (!same_file(root_fd, name, dir) || !same_file(dir, LOCK_FILE, lock_fd))
		return -EAGAIN;
	(void)empty_directory(dir, false);
	*ret_vm = (struct runtime_vm){
		.root_fd = -1,
		.dir_fd = TAKE_FD(dir),
		.lock_fd = TAKE_FD(lock_fd),
	};
	snprintf(ret_vm->name, sizeof(ret_vm->name), "%s", name);
	return 0;
}

static int claim_name(int root_fd, const char *name, struct runtime_vm *ret_vm)
{
	int r = -EAGAIN;

	for (int i = 0; i < CLAIM_TRIES && r == -EAGAIN; i++)
		r = try_claim(root_fd, name, ret_vm);
	/* Nothing is left behind; a directory in use is not empty, so this leaves it alone. */
	if (r < 0)
		unlinkat(root_fd, name, AT_REMOVEDIR);
	return r;
}

static int claim_free_name(int root_fd, struct runtime_vm *ret_vm)
{
	int r = -EBUSY;

	for (int i = 1; i <= NAMES_TRIED && r == -EBUSY; i++) {
		char name[LIMIT_NAME];

		snprintf(name, sizeof(name), "vm%d", i);
		r = claim_name(root_fd, name, ret_vm);
	}
	return r;
}

static int claim_error(const char *name, int code, struct error *err)
{
	if (code == -EBUSY)
		return error_set(
			err, code, EXIT_STATUS_BUSY,
			"%s: a VM of this name runs; give another name, or stop it: utsusu stop %s",
			name, name);
	return error_set(
		err, code, EXIT_STATUS_HOST,
		"%s: its runtime directory cannot be made (%s); see that it is yours and has room",
		name, strerror(-code));
}

int runtime_claim(const char *name, struct runtime_vm *ret_vm, struct error *err)
{
	_cleanup_(fd_closep) int root = -1;
	int r;

	if (name[0] && !runtime_name_valid(name))
		return error_set(err, -EINVAL, EXIT_STATUS_USAGE,
				 "'%s' is no name of a VM; use a-z, 0-9 and -", name);
	r = open_root(true, &root, err);
	if (r < 0)
		return r;
	r = name[0] ? claim_name(root, name, ret_vm) : claim_free_name(root, ret_vm);
	if (r < 0)
		return claim_error(name[0] ? name : "NAME", r, err);
	ret_vm->root_fd = TAKE_FD(root);
	return 0;
}

/* NAME/ of an existing VM. */
static int open_vm(const char *name, int *ret_dir)
{
	_cleanup_(fd_closep) int root = -1;
	int dir, r;

	if (!runtime_name_valid(name))
		return -ENOENT;
	r = open_root(false, &root, NULL);
	if (r < 0)
		return r;
	dir = open_below(root, name, O_RDONLY | O_DIRECTORY, 0);
	if (dir < 0)
		return dir;
	*ret_dir = dir;
	return 0;
}

int runtime_alive(const char *name)
{
	_cleanup_(fd_closep) int dir = -1;
	int r = open_vm(name, &dir);

	if (r == -ENOENT)
		return 0;
	return r < 0 ? r : lock_is_held(dir);
}

bool runtime_is_dead(const char *name)
{
	_cleanup_(fd_closep) int dir = -1;

	return open_vm(name, &dir) == 0 && lock_is_held(dir) == 0;
}

bool runtime_is_taken(const char *name)
{
	return runtime_alive(name) > 0;
}

void runtime_keep_lock(struct runtime_vm *vm)
{
	fd_close(vm->dir_fd);
	fd_close(vm->root_fd);
	vm->dir_fd = vm->root_fd = -1;
}

void runtime_forget(struct runtime_vm *vm)
{
	runtime_keep_lock(vm);
	fd_close(vm->lock_fd);
	vm->lock_fd = -1;
}

void runtime_release(struct runtime_vm *vm)
{
	if (vm->lock_fd < 0)
		return;
	if (vm->borrowed) {
		runtime_forget(vm);
		return;
	}
	(void)empty_directory(vm->dir_fd, false);
	unlinkat(vm->dir_fd, LOCK_FILE, 0);
	unlinkat(vm->root_fd, vm->name, AT_REMOVEDIR);
	/* The lock goes last: until then no claim of this name succeeds. */
	runtime_forget(vm);
}

void runtime_leave(struct runtime_vm *vm)
{
	if (vm->lock_fd < 0)
		return;
	if (vm->borrowed || empty_directory(vm->dir_fd, true))
		runtime_forget(vm);
	else
		runtime_release(vm);
}

void runtime_last_words(int log_fd, char *ret_line, size_t size)
{
	char tail[512];
	struct stat st;
	uint64_t from;
	size_t len = 0;
	char *start;

	if (log_fd >= 0 && fstat(log_fd, &st) == 0 && st.st_size > 0) {
		from = (uint64_t)st.st_size > sizeof(tail) - 1
			       ? (uint64_t)st.st_size - sizeof(tail) + 1
			       : 0;
		len = (size_t)((uint64_t)st.st_size - from);
		if (fd_read_at(log_fd, tail, len, from) < 0)
			len = 0;
	}
	while (len && tail[len - 1] == '\n')
		len--;
	tail[len] = '\0';
	start = strrchr(tail, '\n');
	snprintf(ret_line, size, "%.*s", (int)size - 1, start ? start + 1 : tail);
}

void runtime_why_dead(const char *name, char *ret_line, size_t size)
{
	_cleanup_(fd_closep) int dir = -1;
	_cleanup_(fd_closep) int log_fd = -1;

	if (open_vm(name, &dir) == 0)
		log_fd = open_below(dir, RUNTIME_LOG, O_RDONLY, 0);
	runtime_last_words(log_fd, ret_line, size);
}

int runtime_open_left(const char *name, const char *file, int *ret_fd)
{
	_cleanup_(fd_closep) int dir = -1;
	int fd, r = open_vm(name, &dir);

	if (r < 0)
		return r;
	r = lock_is_held(dir);
	if (r != 0)
		return r < 0 ? r : -EBUSY;
	fd = open_below(dir, file, O_RDONLY, 0);
	if (fd < 0)
		return fd;
	*ret_fd = fd;
	return 0;
}

/* A UNIX address holds 107 bytes: go by the directory's descriptor, whatever its path. */
static struct sockaddr_un address_of(int dir_fd, const char *file)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };

	snprintf(address.sun_path, sizeof(address.sun_path), "/proc/self/fd/%d/%s", dir_fd, file);
	return address;
}

int runtime_listen(const struct runtime_vm *vm, const char *file, int *ret_fd)
{
	struct sockaddr_un address = address_of(vm->dir_fd, file);
	_cleanup_(fd_closep) int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK,
					     0);

	if (fd < 0)
		return -errno;
	if (bind(fd, (struct sockaddr *)&address, sizeof(address)) < 0 ||
	    fchmodat(vm->dir_fd, file, 0600, 0) < 0 || listen(fd, LISTEN_BACKLOG) < 0)
		return -errno;
	*ret_fd = TAKE_FD(fd);
	return 0;
}

int runtime_listen_again(int fd)
{
	return listen(fd, LISTEN_BACKLOG) < 0 ? -errno : 0;
}

int runtime_connect(const char *name, const char *file, int *ret_fd)
{
	_cleanup_(fd_closep) int dir = -1;
	_cleanup_(fd_closep) int fd = -1;
	struct timeval limit = { .tv_sec = CONNECT_SECONDS };
	struct sockaddr_un address;
	int r = open_vm(name, &dir);

	if (r < 0)
		return r;
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return -errno;
	/* A process that hangs lets its backlog fill: then connect would wait for ever. */
	setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof(limit));
	address = address_of(dir, file);
	if (connect(fd, (struct sockaddr *)&address, sizeof(address)) < 0)
		return errno == ENOENT ? -ECONNREFUSED : -errno;
	*ret_fd = TAKE_FD(fd);
	return 0;
}

static int only_names(const struct dirent *entry)
{
	return runtime_name_valid(entry->d_name);
}

static int report_entry(int root_fd, const char *name,
			int (*found)(void *ctx, const struct runtime_entry *entry), void *ctx)
{
	_cleanup_(fd_closep) int dir = open_below(root_fd, name, O_RDONLY | O_DIRECTORY, 0);
	struct runtime_entry entry = { 0 };

	/* It ended meanwhile, or is none of ours. */
	if (dir < 0)
		return 0;
	snprintf(entry.name, sizeof(entry.name), "%.*s", LIMIT_NAME - 1, name);
	/* One of which it cannot be told is not called dead. */
	entry.alive = lock_is_held(dir) != 0;
	return found(ctx, &entry);
}

int runtime_list(int (*found)(void *ctx, const struct runtime_entry *entry), void *ctx,
		 struct error *err)
{
	_cleanup_(fd_closep) int root = -1;
	struct dirent **entries;
	int n, r = open_root(false, &root, err);

	if (r < 0)
		return r == -ENOENT ? 0 : r;
	n = scandirat(root, ".", &entries, only_names, versionsort);
	if (n < 0)
		return error_set(err, -errno, EXIT_STATUS_HOST,
				 "runtime directory: %s; see that it can be read", strerror(errno));
	for (int i = 0; i < n; i++) {
		if (r == 0)
			r = report_entry(root, entries[i]->d_name, found, ctx);
		free(entries[i]);
	}
	free(entries);
	return r;
}
