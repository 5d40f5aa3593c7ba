/* SPDX-License-Identifier: Apache-2.0 */
#include "peer/door.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include "base/buffer.h"
#include "base/cleanup.h"
#include "base/clock.h"
#include "base/fd.h"
#include "host/runtime.h"

#define FOLDER ".utsusud"
#define REQUEST_MS 5000
#define BACKLOG 16
#define ANSWER_MAX MIB(2)

int door_open_folder(int *ret_fd, struct error *err)
{
	_cleanup_(fd_closep) int root = -1;
	_cleanup_(fd_closep) int fd = -1;
	int r = runtime_open(&root, err);

	if (r < 0)
		return r;
	if (mkdirat(root, FOLDER, 0700) < 0 && errno != EEXIST)
		return error_set(err, -errno, EXIT_STATUS_HOST,
				 "runtime directory: %s; see that it is yours", strerror(errno));
	fd = openat(root, FOLDER, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0)
		return error_set(err, -errno, EXIT_STATUS_HOST,
				 "runtime directory: %s; see that it is yours", strerror(errno));
	*ret_fd = TAKE_FD(fd);
	return 0;
}

/* A UNIX address holds 107 bytes: go by the directory's descriptor, whatever its path. */
static struct sockaddr_un address_in(int folder_fd)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };

	snprintf(address.sun_path, sizeof(address.sun_path), "/proc/self/fd/%d/" DOOR_SOCKET,
		 folder_fd);
	return address;
}

int door_listen(int folder_fd, int *ret_fd, struct error *err)
{
	struct sockaddr_un address = address_in(folder_fd);
	_cleanup_(fd_closep) int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK,
					     0);

	/* Whoever has the lock knows that the socket of before is nobody's. */
	unlinkat(folder_fd, DOOR_SOCKET, 0);
	if (fd < 0 || bind(fd, (struct sockaddr *)&address, sizeof(address)) < 0 ||
	    fchmodat(folder_fd, DOOR_SOCKET, 0600, 0) < 0 || listen(fd, BACKLOG) < 0)
		return error_set(err, -errno, EXIT_STATUS_HOST,
				 "the daemon's socket cannot be made: %s; see that the runtime "
				 "directory is yours",
				 strerror(errno));
	*ret_fd = TAKE_FD(fd);
	return 0;
}

/* Bytes up to the newline, and a descriptor that comes with them. */
static int receive_line(int fd, struct buffer *line, uint64_t due_ns, int *passed)
{
	for (;;) {
		char bytes[4096];
		size_t len, n_fds = 0;
		int got, r = fd_wait_readable(fd, due_ns);

		if (r < 0)
			return r;
		if (r == 0)
			continue;
		r = fd_receive(fd, bytes, sizeof(bytes), &len, &got, 1, &n_fds);
		if (r < 0)
			return r;
		if (n_fds) {
			fd_close(*passed);
			*passed = got;
		}
		r = buffer_append(line, bytes, len);
		if (r < 0)
			return r;
		if (line->data[line->len - 1] == '\n')
			return 0;
	}
}

static int receive_object(int fd, size_t limit, int timeout_ms, json_t **ret_json, int *passed)
{
	uint64_t due_ns = timeout_ms < 0
				  ? UINT64_MAX
				  : clock_now(&clock_host) + (uint64_t)timeout_ms * NSEC_PER_MSEC;
	struct buffer line;
	json_t *json = NULL;
	int r;

	buffer_init(&line, limit);
	r = receive_line(fd, &line, due_ns, passed);
	if (r == 0)
		json = json_loadb((char *)line.data, line.len, JSON_REJECT_DUPLICATES, NULL);
	buffer_release(&line);
	if (r == 0 && !json_is_object(json)) {
		json_decref(json);
		r = -EPROTO;
	}
	if (r == 0)
		*ret_json = json;
	return r;
}

int door_receive(int client, json_t **ret_request, int *ret_passed)
{
	_cleanup_(fd_closep) int passed = -1;
	int r = receive_object(client, LIMIT_REQUEST, REQUEST_MS, ret_request, &passed);

	if (r == 0)
		*ret_passed = TAKE_FD(passed);
	return r;
}

static int send_object(int fd, json_t *json, int passed)
{
	_cleanup_(freep) char *text = json ? json_dumps(json, JSON_COMPACT) : NULL;
	size_t len = text ? strlen(text) : 0;
	int r;

	if (!text)
		return -ENOMEM;
	text[len] = '\n'; /* in place of the NUL */
	r = fd_send(fd, text, 1, &passed, passed >= 0);
	return r < 0 ? r : fd_write_all(fd, text + 1, len);
}

void door_answer(int client, json_t *answer)
{
	(void)!send_object(client, answer, -1);
}

void door_refuse(int client, const struct error *err)
{
	json_auto_t *answer = json_pack("{s:{s:s, s:i}}", "error", "message", err->message,
					"status", (int)err->status);

	door_answer(client, answer);
}

/* Makes nothing. */
static int connect_door(void)
{
	_cleanup_(fd_closep) int root = -1;
	_cleanup_(fd_closep) int folder = -1;
	_cleanup_(fd_closep) int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	struct sockaddr_un address;
	int r = runtime_open_existing(&root, NULL);

	if (r < 0)
		return r;
	folder = openat(root, FOLDER, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (folder < 0 || fd < 0)
		return -errno;
	address = address_in(folder);
	if (connect(fd, (struct sockaddr *)&address, sizeof(address)) < 0)
		return -errno;
	return TAKE_FD(fd);
}

static int open_client(struct error *err)
{
	int fd = connect_door();

	if (fd < 0)
		return error_set(
			err, fd, EXIT_STATUS_HOST,
			"utsusud, the daemon for what concerns other hosts, does not run here "
			"(%s); as root: utsusud init, then systemctl enable --now utsusud",
			strerror(-fd));
	return fd;
}

bool door_is_open(void)
{
	int fd = connect_door();

	fd_close(fd);
	return fd >= 0;
}

static int judge(json_t *answer, struct error *err)
{
	const json_t *error = json_object_get(answer, "error");
	const char *message = json_string_value(json_object_get(error, "message"));
	json_int_t status = json_integer_value(json_object_get(error, "status"));

	if (json_is_true(json_object_get(answer, "ok")))
		return 0;
	if (!message || status < EXIT_STATUS_FAILED || status > EXIT_STATUS_GUEST)
		return error_set(err, -EPROTO, EXIT_STATUS_FAILED,
				 "utsusud: gave an answer that is not understood; restart it: "
				 "systemctl restart utsusud");
	return error_set(err, -EREMOTEIO, (enum exit_status)status, "%s", message);
}

static int silent(int code, struct error *err)
{
	return error_set(err, code, EXIT_STATUS_FAILED,
			 "utsusud: does not answer: %s; see its log: journalctl -u utsusud",
			 strerror(-code));
}

int door_ask(json_t *request, int passed, int *ret_fd, struct error *err)
{
	json_auto_t *owned = request;
	_cleanup_(fd_closep) int fd = open_client(err);
	int r;

	if (fd < 0)
		return fd;
	r = send_object(fd, owned, passed);
	if (r < 0)
		return silent(r, err);
	*ret_fd = TAKE_FD(fd);
	return 0;
}

int door_hear(int fd, int timeout_ms, json_t **ret_answer, struct error *err)
{
	json_auto_t *answer = NULL;
	int unasked = -1;
	int r = receive_object(fd, ANSWER_MAX, timeout_ms, &answer, &unasked);

	fd_close(unasked);
	if (r < 0)
		return silent(r, err);
	r = judge(answer, err);
	if (r == 0)
		*ret_answer = json_incref(answer);
	return r;
}

int door_call(json_t *request, int passed, int timeout_ms, json_t **ret_answer, struct error *err)
{
	_cleanup_(fd_closep) int fd = -1;
	int r = door_ask(request, passed, &fd, err);

	return r < 0 ? r : door_hear(fd, timeout_ms, ret_answer, err);
}
