/* SPDX-License-Identifier: Apache-2.0 */
#include "peer/daemon.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/fd.h"
#include "base/signals.h"
#include "peer/connect.h"
#include "peer/door.h"
#include "peer/host.h"
#include "peer/incoming.h"
#include "peer/mover.h"
#include "peer/relays.h"
#include "peer/reservation.h"
#include "peer/retire.h"
#include "peer/settle.h"

#define SETTLE_MS 2000			/* between two looks at what is in doubt */
#define RETIRE_NS (3600 * NSEC_PER_SEC) /* between two looks at what may be forgotten */
#define SETTLERS 8			/* hosts that are asked at once */

enum kind { KIND_DOOR, KIND_PEER, KIND_SETTLE, KIND_RETIRE, KINDS };

/* So many of each at once: commands and peers cannot shut each other out. */
static const unsigned int most[KINDS] = {
	[KIND_DOOR] = LIMIT_PEER_HANDLERS,
	[KIND_PEER] = LIMIT_PEER_HANDLERS,
	[KIND_SETTLE] = SETTLERS,
	[KIND_RETIRE] = 1,
};

/* Of the peers' places these stay free while strangers take the others: whoever comes next finds one. */
#define PEER_RESERVE 8

struct child {
	pid_t pid; /* 0: free */
	enum kind kind;
	bool killed; /* its end is on its way: it takes nobody's place */
	uint64_t started_ns;
	struct in6_addr address;  /* whose connection it serves */
	char peer[MARK_PEER_MAX]; /* whom it asks */
};

#define CHILDREN (2 * LIMIT_PEER_HANDLERS + SETTLERS + 1)

struct daemon {
	const struct daemon_options *options;
	const struct log *log;
	int folder_fd, lock_fd, signal_fd;
	int listening[KINDS]; /* -1 for what nobody connects to */
	struct child children[CHILDREN];
	bool *known; /* shared with them, one each: talks with a peer that proved who it is */
	uint64_t settled_ns, retired_ns, complained_ns;
	size_t settle_next; /* of the hosts in doubt: who is asked first, in turn */
	sigset_t old_mask;
	bool ends;
};

static unsigned int count(const struct daemon *daemon, enum kind kind)
{
	unsigned int n = 0;

	for (size_t i = 0; i < ARRAY_SIZE(daemon->children); i++)
		n += daemon->children[i].pid && !daemon->children[i].killed &&
		     daemon->children[i].kind == kind;
	return n;
}

static struct child *free_place(struct daemon *daemon, enum kind kind)
{
	if (count(daemon, kind) >= most[kind])
		return NULL;
	for (size_t i = 0; i < ARRAY_SIZE(daemon->children); i++)
		if (!daemon->children[i].pid)
			return &daemon->children[i];
	return NULL;
}

/* The handler's process. */
static void handle(struct daemon *daemon, const struct child *child, const struct child *what,
		   int client)
{
	struct peer_host host;
	struct error err = { 0 };
	const enum kind kind = what->kind;
	const int kept[] = { client };

	fd_close_others(kept, ARRAY_SIZE(kept));
	sigprocmask(SIG_SETMASK, &daemon->old_mask, NULL);
	if (peer_host_open(&host, daemon->options->port, daemon->log, &err) < 0) {
		log_line(daemon->log, LOG_LEVEL_ERROR, "%s", err.message);
		if (kind == KIND_DOOR)
			door_refuse(client, &err);
		peer_host_release(&host);
		_exit(EXIT_STATUS_FAILED);
	}
	host.known = &daemon->known[child - daemon->children];
	if (kind == KIND_DOOR)
		serve_control(&host, client);
	else if (kind == KIND_PEER)
		serve_peer(&host, client);
	else if (kind == KIND_SETTLE)
		settle_all(&host, what->peer);
	else
		retire_all(&host);
	peer_host_release(&host);
	_exit(EXIT_STATUS_OK);
}

static bool is_same(const struct in6_addr *a, const struct in6_addr *b)
{
	/* Who has one address of a network of IPv6 has them all: its first half counts. */
	const size_t len = IN6_IS_ADDR_V4MAPPED(a) ? sizeof(*a) : sizeof(*a) / 2;

	return memcmp(a, b, len) == 0;
}

/* The first that came of those who have not said yet who they are, at `address` or anywhere (NULL); `*ret_n`: how many there are. */
static const struct child *oldest_unknown(const struct daemon *daemon,
					  const struct in6_addr *address, unsigned int *ret_n)
{
	const struct child *oldest = NULL;

	*ret_n = 0;
	for (size_t i = 0; i < CHILDREN; i++) {
		const struct child *child = &daemon->children[i];

		if (!child->pid || child->killed || child->kind != KIND_PEER ||
		    __atomic_load_n(&daemon->known[i], __ATOMIC_ACQUIRE) ||
		    (address && !is_same(address, &child->address)))
			continue;
		*ret_n += 1;
		if (!oldest || child->started_ns < oldest->started_ns)
			oldest = child;
	}
	return oldest;
}

static void close_stranger(struct daemon *daemon, const struct child *child, const char *whence)
{
	kill(child->pid, SIGKILL);
	daemon->children[child - daemon->children].killed = true;
	log_line_limited(
		daemon->log, &daemon->complained_ns, LOG_LEVEL_WARNING,
		"many connections from %s that do not say who they are; the oldest was closed",
		whence);
}

/* One who has not said yet who it is holds nothing but its place; no address has many of these. */
static void make_room_for_peers(struct daemon *daemon, const struct in6_addr *address)
{
	unsigned int n;
	const struct child *oldest = oldest_unknown(daemon, address, &n);

	if (n > LIMIT_PEER_UNKNOWN) {
		close_stranger(daemon, oldest, "one address");
		return;
	}
	if (count(daemon, KIND_PEER) + PEER_RESERVE <= most[KIND_PEER])
		return;
	oldest = oldest_unknown(daemon, NULL, &n);
	if (oldest)
		close_stranger(daemon, oldest, "hosts");
}

/* `what`: its kind, and what it is for. */
static void start_handler(struct daemon *daemon, const struct child *what, int client)
{
	struct child *child = free_place(daemon, what->kind);
	pid_t pid = -1;

	if (child) {
		daemon->known[child - daemon->children] = false;
		pid = fork();
	}
	if (pid == 0)
		handle(daemon, child, what, client);
	if (pid > 0) {
		*child = *what;
		child->pid = pid;
		child->started_ns = clock_now(&clock_host);
	} else {
		log_line_limited(daemon->log, &daemon->complained_ns, LOG_LEVEL_WARNING,
				 child ? "no process can be made for a connection; it was closed"
				       : "as many connections as are allowed; one more was closed");
	}
	if (what->kind == KIND_PEER)
		make_room_for_peers(daemon, &what->address);
}

/* IPv4's as a socket of IPv6 has it. */
static struct in6_addr address_of(const struct sockaddr_storage *from)
{
	struct in6_addr address = { 0 };

	if (from->ss_family == AF_INET6)
		return ((const struct sockaddr_in6 *)from)->sin6_addr;
	if (from->ss_family == AF_INET) {
		memset(address.s6_addr + 10, 0xff, 2);
		memcpy(address.s6_addr + 12, &((const struct sockaddr_in *)from)->sin_addr, 4);
	}
	return address;
}

static void take_connection(struct daemon *daemon, enum kind kind)
{
	struct child what = { .kind = kind };
	struct sockaddr_storage from = { 0 };
	socklen_t len = sizeof(from);
	_cleanup_(fd_closep) int client = accept4(daemon->listening[kind], (struct sockaddr *)&from,
						  &len, SOCK_CLOEXEC);

	if (client < 0 || (kind == KIND_DOOR && !fd_peer_is(client, geteuid())))
		return;
	what.address = address_of(&from);
	start_handler(daemon, &what, client);
}

static void reap(struct daemon *daemon)
{
	pid_t pid;

	while ((pid = waitpid(-1, NULL, WNOHANG)) > 0)
		for (size_t i = 0; i < ARRAY_SIZE(daemon->children); i++)
			if (daemon->children[i].pid == pid)
				daemon->children[i].pid = 0;
}

static void take_signal(struct daemon *daemon)
{
	struct signalfd_siginfo info;

	while (read(daemon->signal_fd, &info, sizeof(info)) == sizeof(info))
		if (info.ssi_signo != SIGCHLD)
			daemon->ends = true;
	reap(daemon);
}

static bool is_asked(const struct daemon *daemon, const char *peer)
{
	for (size_t i = 0; i < CHILDREN; i++)
		if (daemon->children[i].pid && daemon->children[i].kind == KIND_SETTLE &&
		    strcmp(daemon->children[i].peer, peer) == 0)
			return true;
	return false;
}

/* Each host in doubt by a process of its own, so that none that is silent keeps another's VMs waiting; where there are more than
 * processes, they take turns. */
static void settle(struct daemon *daemon)
{
	struct settle_peers peers;

	settle_find_peers(&peers);
	for (size_t i = 0; i < peers.n; i++) {
		const char *peer = peers.names[daemon->settle_next++ % peers.n];
		struct child what = { .kind = KIND_SETTLE };

		if (is_asked(daemon, peer))
			continue;
		if (!free_place(daemon, KIND_SETTLE)) {
			daemon->settle_next--;
			return;
		}
		snprintf(what.peer, sizeof(what.peer), "%s", peer);
		start_handler(daemon, &what, -1);
	}
}

static void retire_now_and_then(struct daemon *daemon)
{
	const struct child what = { .kind = KIND_RETIRE };
	uint64_t now = clock_now(&clock_host);

	if (daemon->retired_ns && now < daemon->retired_ns + RETIRE_NS)
		return;
	daemon->retired_ns = now;
	if (free_place(daemon, KIND_RETIRE))
		start_handler(daemon, &what, -1);
}

static void settle_now_and_then(struct daemon *daemon)
{
	uint64_t now = clock_now(&clock_host);

	if (daemon->settled_ns && now < daemon->settled_ns + SETTLE_MS * NSEC_PER_MSEC)
		return;
	daemon->settled_ns = now;
	incoming_forget(daemon->folder_fd);
	mover_forget_locks(daemon->folder_fd);
	relay_tend(daemon->folder_fd, daemon->log);
	settle(daemon);
}

static int turn(struct daemon *daemon)
{
	struct pollfd fds[] = {
		{ .fd = daemon->signal_fd, .events = POLLIN },
		{ .fd = daemon->listening[KIND_DOOR], .events = POLLIN },
		{ .fd = daemon->listening[KIND_PEER], .events = POLLIN },
	};

	if (poll(fds, ARRAY_SIZE(fds), SETTLE_MS) < 0 && errno != EINTR)
		return -errno;
	if (fds[0].revents)
		take_signal(daemon);
	if (fds[1].revents)
		take_connection(daemon, KIND_DOOR);
	if (fds[2].revents)
		take_connection(daemon, KIND_PEER);
	settle_now_and_then(daemon);
	retire_now_and_then(daemon);
	return 0;
}

/* One daemon for each runtime directory. */
static int take_lock(int folder_fd, int *ret_fd, struct error *err)
{
	_cleanup_(fd_closep) int fd = openat(folder_fd, DOOR_LOCK,
					     O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);

	if (fd < 0)
		return error_set(err, -errno, EXIT_STATUS_HOST, "the daemon's lock: %s",
				 strerror(errno));
	if (fd_lock(fd, F_WRLCK) < 0)
		return error_set(err, -EBUSY, EXIT_STATUS_BUSY,
				 "utsusud runs already; stop it first: systemctl stop utsusud");
	*ret_fd = TAKE_FD(fd);
	return 0;
}

static int share_known(struct daemon *daemon)
{
	void *known = mmap(NULL, CHILDREN * sizeof(*daemon->known), PROT_READ | PROT_WRITE,
			   MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	if (known == MAP_FAILED)
		return -errno;
	daemon->known = known;
	return 0;
}

static int open_signals(struct daemon *daemon)
{
	static const int heard[] = { SIGTERM, SIGINT, SIGCHLD };

	daemon->signal_fd = signals_open(heard, ARRAY_SIZE(heard), &daemon->old_mask);
	return MIN(daemon->signal_fd, 0);
}

static int open_all(struct daemon *daemon, struct error *err)
{
	struct peer_host host;
	int r = peer_host_open(&host, daemon->options->port, daemon->log, err);

	if (r == 0)
		r = take_lock(host.folder_fd, &daemon->lock_fd, err);
	if (r == 0)
		r = door_listen(host.folder_fd, &daemon->listening[KIND_DOOR], err);
	if (r == 0)
		r = connect_listen(daemon->options->listen, daemon->options->port,
				   &daemon->listening[KIND_PEER], err);
	if (r == 0)
		log_line(daemon->log, LOG_LEVEL_INFO, "listens on port %u as %s",
			 daemon->options->port, identity_fingerprint(host.identity));
	if (r == 0)
		reservation_forget(host.folder_fd);
	daemon->folder_fd = TAKE_FD(host.folder_fd);
	peer_host_release(&host);
	return r;
}

int daemon_run(const struct daemon_options *options, const struct log *log, struct error *err)
{
	struct daemon daemon = {
		.options = options,
		.log = log,
		.folder_fd = -1,
		.lock_fd = -1,
		.signal_fd = -1,
		.listening = { -1, -1, -1, -1 },
	};
	int r = open_all(&daemon, err);

	if (r == 0)
		r = share_known(&daemon);
	if (r == 0)
		r = open_signals(&daemon);
	while (r == 0 && !daemon.ends)
		r = turn(&daemon);
	for (size_t i = 0; i < KINDS; i++)
		fd_close(daemon.listening[i]);
	if (daemon.known)
		munmap(daemon.known, CHILDREN * sizeof(*daemon.known));
	fd_close(daemon.signal_fd);
	fd_close(daemon.lock_fd);
	fd_close(daemon.folder_fd);
	return r < 0 ? error_set(err, r, EXIT_STATUS_HOST, "utsusud: %s", strerror(-r)) : 0;
}
