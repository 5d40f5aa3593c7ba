/* SPDX-License-Identifier: Apache-2.0 */
#include "peer/files.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <openssl/evp.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#include "api/client.h"
#include "base/cleanup.h"
#include "base/fd.h"
#include "base/hex.h"
#include "host/runtime.h"
#include "host/state_dir.h"
#include "peer/hashes.h"

#define FOLDER "files"
#define PIECE KIB(64)
#define NEEDED_SECONDS                                                                             \
	600 /* between the question which files are wanted and the VM that is made of them */

DEFINE_CLEANUP(EVP_MD_CTX, EVP_MD_CTX_free, digestp)
DEFINE_CLEANUP(struct api_connection, api_connection_free, connectionp)

static int open_file(const char *path, uint64_t limit, struct stat *ret_stat)
{
	_cleanup_(fd_closep) int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);

	if (fd < 0 || fstat(fd, ret_stat) < 0)
		return -errno;
	if (!S_ISREG(ret_stat->st_mode) || ret_stat->st_size == 0)
		return -EINVAL;
	return (uint64_t)ret_stat->st_size > limit ? -EFBIG : TAKE_FD(fd);
}

static int finish_digest(EVP_MD_CTX *digest, char ret_text[PEER_HASH_TEXT])
{
	uint8_t bytes[EVP_MAX_MD_SIZE];

	if (EVP_DigestFinal_ex(digest, bytes, NULL) != 1)
		return -EIO;
	hex_encode(bytes, 32, ret_text);
	return 0;
}

static int hash_file(int fd, uint64_t size, char ret_text[PEER_HASH_TEXT])
{
	_cleanup_(digestp) EVP_MD_CTX *digest = EVP_MD_CTX_new();
	char piece[PIECE];

	if (!digest || EVP_DigestInit_ex(digest, EVP_sha256(), NULL) != 1)
		return -ENOMEM;
	for (uint64_t at = 0; at < size; at += PIECE) {
		size_t len = MIN(PIECE, size - at);
		int r = fd_read_at(fd, piece, len, at);

		if (r < 0)
			return r;
		EVP_DigestUpdate(digest, piece, len);
	}
	return finish_digest(digest, ret_text);
}

static bool is_unchanged(const struct stat *before, int fd)
{
	struct stat now;

	return fstat(fd, &now) == 0 && now.st_size == before->st_size &&
	       now.st_ctim.tv_sec == before->st_ctim.tv_sec &&
	       now.st_ctim.tv_nsec == before->st_ctim.tv_nsec;
}

int files_describe(int state_fd, const char *path, uint64_t limit, struct peer_file *ret_file)
{
	struct peer_file file = { 0 };
	struct stat st;
	_cleanup_(fd_closep) int fd = open_file(path, limit, &st);
	int r;

	if (fd < 0)
		return fd;
	file.size = (uint64_t)st.st_size;
	if (!hashes_find(state_fd, &st, file.sha256)) {
		r = hash_file(fd, file.size, file.sha256);
		if (r < 0)
			return r;
		if (is_unchanged(&st, fd))
			hashes_keep(state_fd, &st, file.sha256);
	}
	*ret_file = file;
	return 0;
}

bool files_have(int state_fd, const struct peer_file *file, char *ret_path, size_t size)
{
	_cleanup_(fd_closep) int folder = -1;
	char link[64], root[PATH_MAX];
	ssize_t len;

	if (state_dir_folder(state_fd, FOLDER, &folder) < 0)
		return false;
	snprintf(link, sizeof(link), "/proc/self/fd/%d", folder);
	len = readlink(link, root, sizeof(root) - 1);
	if (len <= 0)
		return false;
	root[len] = '\0';
	if (snprintf(ret_path, size, "%s/%s", root, file->sha256) >= (int)size)
		return false;
	/* Asked for: the last that is forgotten. */
	return utimensat(folder, file->sha256, NULL, AT_SYMLINK_NOFOLLOW) == 0;
}

int files_send(struct talk *talk, const char *path, const struct peer_file *file, struct error *err)
{
	struct peer_request request = { .command = PEER_FILE, .file = *file };
	json_auto_t *message = peer_request_encode(&request);
	json_auto_t *answer = NULL;
	struct stat st = { 0 };
	_cleanup_(fd_closep) int fd = open_file(path, LIMIT_INITRD, &st);
	uint64_t size = (uint64_t)st.st_size;
	uint64_t due_ns = talk_due(file->size);
	char piece[PIECE];
	int r = fd < 0 ? fd : 0;

	if (r == 0 && size != file->size)
		r = -ESTALE;
	if (r == 0)
		r = message ? talk_send(talk, message) : -ENOMEM;
	for (uint64_t at = 0; r == 0 && at < size; at += PIECE) {
		size_t len = MIN(PIECE, size - at);

		r = fd_read_at(fd, piece, len, at);
		if (r == 0)
			r = talk_send_bytes(talk, piece, len, due_ns);
	}
	if (r < 0)
		return error_set(err, r, EXIT_STATUS_RESOURCE, "%.200s: cannot be sent: %s", path,
				 strerror(-r));
	return talk_answer(talk, TALK_ANSWER_MS, &answer, err);
}

/* Into `fd`, hashed on the way. */
static int receive_into(struct talk *talk, int fd, uint64_t size, char ret_hash[PEER_HASH_TEXT])
{
	_cleanup_(digestp) EVP_MD_CTX *digest = EVP_MD_CTX_new();
	uint64_t due_ns = talk_due(size);
	char piece[PIECE];
	int r;

	if (!digest || EVP_DigestInit_ex(digest, EVP_sha256(), NULL) != 1)
		return -ENOMEM;
	for (uint64_t at = 0; at < size; at += PIECE) {
		size_t len = MIN(PIECE, size - at);

		r = talk_receive_bytes(talk, piece, len, due_ns);
		if (r == 0)
			r = fd_write_at(fd, piece, len, at);
		if (r < 0)
			return r;
		EVP_DigestUpdate(digest, piece, len);
	}
	r = finish_digest(digest, ret_hash);
	if (r == 0 && fsync(fd) < 0)
		r = -errno;
	return r;
}

static int receive(struct talk *talk, int folder, const struct peer_file *file)
{
	_cleanup_(fd_closep) int fd = openat(folder, ".", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
	char hash[PEER_HASH_TEXT], link[64];
	int r = fd < 0 ? -errno : receive_into(talk, fd, file->size, hash);

	if (r < 0)
		return r;
	if (strcasecmp(hash, file->sha256) != 0)
		return -EBADMSG;
	snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
	if (linkat(AT_FDCWD, link, folder, hash, AT_SYMLINK_FOLLOW) < 0 && errno != EEXIST)
		return -errno;
	return fsync(folder) < 0 ? -errno : 0;
}

int files_receive(struct talk *talk, int state_fd, const struct peer_file *file, struct error *err)
{
	_cleanup_(fd_closep) int folder = -1;
	int r = state_dir_folder(state_fd, FOLDER, &folder);

	if (r == 0)
		r = receive(talk, folder, file);
	if (r < 0)
		return error_set(
			err, r, EXIT_STATUS_HOST,
			"the VM's kernel cannot be kept in the state directory: %s; see that it "
			"has room",
			r == -EBADMSG ? "it changed on its way" : strerror(-r));
	return 0;
}

struct hunt {
	const char *hash;
	bool found;
};

static bool names(const json_t *config, const char *key, const char *hash)
{
	const char *path = json_string_value(json_object_get(config, key));
	const char *slash = path ? strrchr(path, '/') : NULL;

	return slash && strcmp(slash + 1, hash) == 0;
}

static int look_at_vm(void *ctx, const struct runtime_entry *entry)
{
	_cleanup_(connectionp) struct api_connection *connection = NULL;
	struct hunt *hunt = ctx;
	json_auto_t *answer = NULL;
	const json_t *config;

	if (!entry->alive)
		return 0;
	if (api_connect(entry->name, &connection, NULL) < 0 ||
	    api_call(connection, json_pack("{s:s}", "command", "info"), &answer, NULL) < 0) {
		hunt->found = true; /* it may: whoever does not say keeps all */
		return 1;
	}
	config = json_object_get(answer, "config");
	hunt->found = names(config, "kernel", hunt->hash) || names(config, "initrd", hunt->hash);
	return hunt->found;
}

static bool is_used(const char *hash)
{
	struct hunt hunt = { .hash = hash };

	return runtime_list(look_at_vm, &hunt, NULL) < 0 || hunt.found;
}

struct kept {
	char name[PEER_HASH_TEXT];
	time_t used;
	uint64_t size;
};

static int by_use(const void *a, const void *b)
{
	const struct kept *x = a, *y = b;

	return x->used < y->used ? 1 : x->used > y->used ? -1 : 0;
}

/* The files of the folder, the last used first; free() them. How many there are. */
static size_t list_kept(int folder, DIR *dir, struct kept **ret_list)
{
	const struct dirent *entry;
	struct kept *list = NULL;
	size_t n = 0, room = 0;

	while ((entry = readdir(dir))) {
		struct stat st;

		if (strlen(entry->d_name) >= PEER_HASH_TEXT || entry->d_name[0] == '.' ||
		    fstatat(folder, entry->d_name, &st, AT_SYMLINK_NOFOLLOW) < 0)
			continue;
		if (n == room) {
			struct kept *more = realloc(list, (room + 64) * sizeof(*list));

			if (!more)
				break;
			list = more;
			room += 64;
		}
		list[n] = (struct kept){ .used = st.st_mtime, .size = (uint64_t)st.st_size };
		snprintf(list[n++].name, PEER_HASH_TEXT, "%.64s", entry->d_name);
	}
	if (n)
		qsort(list, n, sizeof(*list), by_use);
	*ret_list = list;
	return n;
}

void files_forget(int state_fd, uint64_t keep)
{
	_cleanup_(freep) struct kept *list = NULL;
	int folder = -1;
	uint64_t bytes = 0;
	size_t n;
	DIR *dir;

	if (state_dir_folder(state_fd, FOLDER, &folder) < 0)
		return;
	dir = fdopendir(folder);
	if (!dir) {
		fd_close(folder);
		return;
	}
	n = list_kept(folder, dir, &list);
	for (size_t i = 0; i < n; i++) {
		bytes += list[i].size;
		if (bytes <= keep || time(NULL) - list[i].used < NEEDED_SECONDS ||
		    is_used(list[i].name))
			continue;
		unlinkat(folder, list[i].name, 0);
		bytes -= list[i].size;
	}
	closedir(dir);
}
