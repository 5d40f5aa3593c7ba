/* SPDX-License-Identifier: Apache-2.0 */
/* utsusu console: this terminal and a VM's console, until the detach key or the end of the VM. */
#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <termios.h>
#include <unistd.h>

#include "api/client.h"
#include "base/cleanup.h"
#include "base/fd.h"
#include "base/signals.h"
#include "host/runtime.h"
#include "programs/utsusu.h"

#define DETACH_KEY 0x1d /* Ctrl-] */

DEFINE_CLEANUP(struct api_connection, api_connection_free, connection_freep)

enum relay_end { RELAY_DETACHED, RELAY_CLOSED };

static int open_pty(const char *path, int *ret_fd)
{
	int fd = open(path, O_RDWR | O_NOCTTY | O_CLOEXEC);

	if (fd < 0)
		return -errno;
	*ret_fd = fd;
	return 0;
}

/* A VM without a console socket says where its console is. */
static int find_console(const char *name, int *ret_fd, struct error *err)
{
	_cleanup_(connection_freep) struct api_connection *connection = NULL;
	json_auto_t *answer = NULL;
	const char *pty;
	int r = api_connect(name, &connection, err);

	if (r == 0)
		r = api_call(connection, json_pack("{s:s}", "command", "status"), &answer, err);
	if (r < 0)
		return r;
	pty = json_string_value(json_object_get(answer, "console"));
	if (!pty)
		return error_set(
			err, -ENOTTY, EXIT_STATUS_RESOURCE,
			"%s: its console is the terminal that it was started from; run it with "
			"--console socket to attach from elsewhere",
			name);
	r = open_pty(pty, ret_fd);
	if (r < 0)
		return error_set(err, r, EXIT_STATUS_RESOURCE,
				 "%s: its console %s: %s; be the user who runs it", name, pty,
				 strerror(-r));
	return 0;
}

static int open_console(const char *name, int *ret_fd, struct error *err)
{
	int r = runtime_connect(name, RUNTIME_CONSOLE, ret_fd);

	return r < 0 ? find_console(name, ret_fd, err) : 0;
}

/* Passes keys on until the detach key: 1 go on, 0 no more input, -1 detach. */
static int pass_input(int console)
{
	char bytes[512];
	ssize_t n = read(STDIN_FILENO, bytes, sizeof(bytes));
	const char *key;

	if (n < 0 && (errno == EINTR || errno == EAGAIN))
		return 1;
	if (n <= 0)
		return 0;
	key = memchr(bytes, DETACH_KEY, (size_t)n);
	if (fd_write_all(console, bytes, key ? (size_t)(key - bytes) : (size_t)n) < 0)
		return 0;
	return key ? -1 : 1;
}

static bool pass_output(int console)
{
	char bytes[4096];
	ssize_t n = read(console, bytes, sizeof(bytes));

	if (n < 0 && (errno == EINTR || errno == EAGAIN))
		return true;
	return n > 0 && fd_write_all(STDOUT_FILENO, bytes, (size_t)n) == 0;
}

/* Input that ends (a file, a closed pipe) does not detach: the output may still be wanted. */
static enum relay_end relay(int console, int signals)
{
	struct pollfd fds[] = {
		{ .fd = console, .events = POLLIN },
		{ .fd = STDIN_FILENO, .events = POLLIN },
		{ .fd = signals, .events = POLLIN },
	};

	for (;;) {
		int input = 1;

		if (poll(fds, ARRAY_SIZE(fds), -1) < 0 && errno != EINTR)
			return RELAY_CLOSED;
		if (fds[2].revents)
			return RELAY_DETACHED;
		if (fds[0].revents && !pass_output(console))
			return RELAY_CLOSED;
		if (fds[1].revents)
			input = pass_input(console);
		if (input < 0)
			return RELAY_DETACHED;
		if (input == 0)
			fds[1].fd = -1;
	}
}

static bool make_raw(struct termios *ret_saved)
{
	struct termios raw;

	if (!isatty(STDIN_FILENO) || tcgetattr(STDIN_FILENO, ret_saved) < 0)
		return false;
	raw = *ret_saved;
	cfmakeraw(&raw);
	return tcsetattr(STDIN_FILENO, TCSANOW, &raw) == 0;
}

int attach_console(struct invocation *invocation)
{
	const char *name = invocation->options.name;
	_cleanup_(fd_closep) int console = -1;
	/* Not ended by a signal at once: the terminal must get its settings back first. */
	_cleanup_(fd_closep) int signals = signals_open_ending(NULL);
	struct error err = { 0 };
	struct termios saved;
	enum relay_end end;
	bool raw;

	signal(SIGPIPE, SIG_IGN);
	if (open_console(name, &console, &err) < 0)
		return tell(&err);
	fprintf(stderr, "%s: attached; Ctrl-] detaches\n", name);
	raw = make_raw(&saved);
	end = relay(console, signals);
	if (raw)
		tcsetattr(STDIN_FILENO, TCSANOW, &saved);
	fprintf(stderr,
		end == RELAY_DETACHED ? "\n%s: detached; the VM goes on\n"
				      : "\n%s: the console was closed\n",
		name);
	return EXIT_STATUS_OK;
}
