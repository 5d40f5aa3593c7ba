/* SPDX-License-Identifier: Apache-2.0 */
#include "debug/gdb_server.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/fd.h"
#include "debug/gdb_session.h"
#include "debug/gdb_target.h"

#define RETRY_NS NSEC_PER_MSEC /* while the guest is being reset */

enum state { NOBODY, JOINING, SESSION, LEAVING };

struct gdb_server {
	struct gdb_server_params params;
	uid_t owner;
	struct loop_watch listening, client; /* client.fd -1: none */
	struct loop_timer retry;
	enum state state;
	bool asked; /* the client wants the guest to stop */
	struct gdb_session session;
	struct gdb_target target;
};

static void settle(struct gdb_server *server);

/* The socket */

static int bind_to(int fd, const struct sockaddr_un *address)
{
	const struct sockaddr *at = (const struct sockaddr *)address;
	struct stat st;

	if (bind(fd, at, sizeof(*address)) == 0)
		return 0;
	if (errno != EADDRINUSE || lstat(address->sun_path, &st) < 0 || !S_ISSOCK(st.st_mode))
		return -errno;
	/* What an earlier VM left: nobody answers there. */
	if (connect(fd, at, sizeof(*address)) == 0 || errno != ECONNREFUSED)
		return -EADDRINUSE;
	if (unlink(address->sun_path) < 0)
		return -errno;
	return bind(fd, at, sizeof(*address)) < 0 ? -errno : 0;
}

int gdb_server_listen(const char *path, int *ret_fd, struct error *err)
{
	_cleanup_(fd_closep) int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK,
					     0);
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	int r = fd < 0 ? -errno : 0;

	if (r == 0 && strlen(path) >= sizeof(address.sun_path))
		return error_set(
			err, -ENAMETOOLONG, EXIT_STATUS_USAGE,
			"--gdb: %s: a socket's path has at most %zu bytes; give a shorter one",
			path, sizeof(address.sun_path) - 1);
	strncpy(address.sun_path, path, sizeof(address.sun_path) - 1);
	/* The socket's own mode becomes the file's: nobody else can connect, not even for a moment. */
	if (r == 0 && fchmod(fd, 0600) < 0)
		r = -errno;
	if (r == 0)
		r = bind_to(fd, &address);
	if (r == 0 && listen(fd, 1) < 0)
		r = -errno;
	if (r < 0)
		return error_set(err, r, EXIT_STATUS_RESOURCE,
				 "--gdb: cannot listen at %s: %s; give another path", path,
				 strerror(-r));
	*ret_fd = TAKE_FD(fd);
	return 0;
}

/* Sending and receiving */

static void flush(struct gdb_server *server)
{
	struct buffer *output = &server->session.output;

	while (output->len) {
		ssize_t n = send(server->client.fd, output->data, output->len,
				 MSG_NOSIGNAL | MSG_DONTWAIT);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno == EAGAIN)
			return;
		if (n < 0) {
			output->len = 0;
			server->session.ended = true;
			return;
		}
		buffer_consume(output, (size_t)n);
	}
}

/* What the client sends waits until it has read its answers. */
static void wait_for_client(struct gdb_server *server)
{
	uint32_t events = server->session.output.len ? EPOLLOUT : EPOLLIN;

	if (server->client.fd >= 0)
		loop_change(server->params.loop, &server->client,
			    server->state == SESSION ? events : 0);
}

static void close_client(struct gdb_server *server)
{
	loop_remove(server->params.loop, &server->client);
	fd_close(TAKE_FD(server->client.fd));
	gdb_session_end(&server->session);
}

/* Joining, stopping, leaving: each needs the guest to stand still first */

static bool stands_still(struct gdb_server *server)
{
	int r = vm_hold(server->params.vm, VM_HELD_BY_DEBUGGER);

	if (r == -EBUSY)
		loop_timer_arm(server->params.loop, &server->retry,
			       clock_now(loop_clock(server->params.loop)) + RETRY_NS);
	return r == 0 || r == -EALREADY;
}

static void leave(struct gdb_server *server)
{
	struct vm *vm = server->params.vm;
	bool stood = vm->holders & VM_HELD_BY_DEBUGGER;

	server->state = LEAVING;
	if (!stands_still(server))
		return;
	gdb_target_leave(&server->target);
	vm->debugged = false;
	server->state = NOBODY;
	(void)!vm_let_go(vm, VM_HELD_BY_DEBUGGER); /* it is held: above */
	log_line(server->params.log, LOG_LEVEL_INFO, "gdb: the debugger has left%s",
		 stood && vm->status == VM_RUNNING ? "; the guest goes on" : "");
}

static void join(struct gdb_server *server)
{
	if (!stands_still(server))
		return;
	server->state = SESSION;
	log_line(server->params.log, LOG_LEVEL_INFO,
		 "gdb: a debugger has connected; the guest stands still");
}

static void print_request(struct gdb_server *server, uint32_t vcpu)
{
	const struct gdb_request *request = &server->target.requests[vcpu];

	if (request->go_on)
		gdb_session_print(&server->session, request->text);
}

/* A vCPU ran into something, or the client asked. */
static void tell_stop(struct gdb_server *server)
{
	struct gdb_stop stop = { .reason = GDB_STOP_ASKED, .vcpu = server->session.vcpu };

	if (!server->session.running || !stands_still(server))
		return;
	if (gdb_target_take_stop(&server->target, &stop))
		print_request(server, stop.vcpu);
	else if (!server->asked)
		return;
	server->asked = false;
	gdb_session_stopped(&server->session, &stop);
}

static bool wants_stop(const struct gdb_server *server)
{
	return server->asked || __atomic_load_n(&server->target.stopped, __ATOMIC_ACQUIRE);
}

/* Brings the server to where it shall be; called after everything that happens. */
static void settle(struct gdb_server *server)
{
	if (server->state == JOINING)
		join(server);
	if (server->state == SESSION && wants_stop(server))
		tell_stop(server);
	if (server->state == SESSION)
		flush(server);
	if (server->state == SESSION && server->session.ended) {
		close_client(server);
		leave(server);
	} else if (server->state == LEAVING) {
		leave(server);
	}
	wait_for_client(server);
}

static void retry_expired(struct loop_timer *timer)
{
	settle(container_of(timer, struct gdb_server, retry));
}

static void debugger_stopped(void *ctx)
{
	settle(ctx);
}

static bool debugger_hit(void *ctx, struct vcpu *vcpu, const struct kvm_debug_exit_arch *exit)
{
	struct gdb_server *server = ctx;

	return gdb_target_hit(&server->target, vcpu, exit);
}

/* The session's guest */

static uint32_t guest_n_vcpus(void *guest)
{
	return ((struct gdb_server *)guest)->params.vm->n_vcpus;
}

static int guest_get_registers(void *guest, uint32_t vcpu, struct gdb_registers *ret_registers)
{
	return gdb_target_get_registers(&((struct gdb_server *)guest)->target, vcpu, ret_registers);
}

static int guest_set_registers(void *guest, uint32_t vcpu, const struct gdb_registers *registers)
{
	return gdb_target_set_registers(&((struct gdb_server *)guest)->target, vcpu, registers);
}

static ssize_t guest_read(void *guest, const struct gdb_access *access, void *buf)
{
	return gdb_target_read(&((struct gdb_server *)guest)->target, access, buf);
}

static int guest_write(void *guest, const struct gdb_access *access, const void *buf)
{
	return gdb_target_write(&((struct gdb_server *)guest)->target, access, buf);
}

static int guest_breakpoint(void *guest, bool insert, enum gdb_breakpoint type,
			    const struct gdb_access *where)
{
	return gdb_target_breakpoint(&((struct gdb_server *)guest)->target, insert, type, where);
}

static int guest_resume(void *guest, const enum gdb_action *actions)
{
	struct gdb_server *server = guest;

	server->asked = false;
	return gdb_target_resume(&server->target, actions);
}

static void guest_stop(void *guest)
{
	((struct gdb_server *)guest)->asked = true;
}

static void guest_kill(void *guest)
{
	struct gdb_server *server = guest;

	log_line(server->params.log, LOG_LEVEL_INFO, "gdb: the debugger ends the VM");
	server->params.kill(server->params.ctx);
}

static const struct gdb_guest_ops guest_ops = {
	.n_vcpus = guest_n_vcpus,
	.get_registers = guest_get_registers,
	.set_registers = guest_set_registers,
	.read = guest_read,
	.write = guest_write,
	.breakpoint = guest_breakpoint,
	.resume = guest_resume,
	.stop = guest_stop,
	.kill = guest_kill,
};

/* Clients */

static void client_ready(struct loop_watch *watch, uint32_t events)
{
	struct gdb_server *server = container_of(watch, struct gdb_server, client);
	char bytes[4096];
	ssize_t n;

	if (events & (EPOLLIN | EPOLLHUP | EPOLLERR)) {
		n = recv(watch->fd, bytes, sizeof(bytes), MSG_DONTWAIT);
		if (n > 0 && server->state == SESSION)
			gdb_session_receive(&server->session, bytes, (size_t)n);
		else if (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR))
			server->session.ended = true;
	}
	settle(server);
}

/* A line for people; NULL: it is welcome. */
static const char *why_refused(const struct gdb_server *server, int fd)
{
	const struct gdb_server_params *params = &server->params;

	if (params->vm->stepper.stepped)
		return "a debugger was refused: a watch with --exact has the breakpoints";
	if (server->state != NOBODY || params->vm->status == VM_ENDED ||
	    !fd_peer_is(fd, server->owner))
		return "a second debugger, or another user's, was refused";
	return params->refuses ? params->refuses(params->ctx) : NULL;
}

static void listening_ready(struct loop_watch *watch, uint32_t events _unused_)
{
	struct gdb_server *server = container_of(watch, struct gdb_server, listening);
	_cleanup_(fd_closep) int fd = accept4(watch->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
	const char *why;

	if (fd < 0)
		return;
	if (server->state == SESSION) /* it may have gone just now */
		client_ready(&server->client, EPOLLIN);
	why = why_refused(server, fd);
	if (why) {
		log_line(server->params.log, LOG_LEVEL_WARNING, "gdb: %s", why);
		return;
	}
	gdb_session_begin(&server->session, &guest_ops, server);
	server->asked = false;
	server->client.fd = fd;
	if (loop_add(server->params.loop, &server->client) < 0) {
		server->client.fd = -1;
		gdb_session_end(&server->session);
		return;
	}
	TAKE_FD(fd);
	server->state = JOINING;
	server->params.vm->debugged = true;
	settle(server);
}

/* The server's life */

static int begin(struct gdb_server *server)
{
	struct vm *vm = server->params.vm;
	const struct vm_debugger debugger = { .hit = debugger_hit,
					      .stopped = debugger_stopped,
					      .ctx = server };
	int r = loop_add(server->params.loop, &server->listening);

	if (r == 0 && server->params.wait)
		r = vm_hold(vm, VM_HELD_BY_DEBUGGER);
	if (r < 0)
		return r;
	gdb_target_init(&server->target, vm);
	vm_set_debugger(vm, &debugger);
	return 0;
}

int gdb_server_new(const struct gdb_server_params *params, struct gdb_server **ret_server)
{
	struct gdb_server *server = calloc(1, sizeof(*server));
	int r;

	if (!server) {
		fd_close(params->listen_fd);
		return -ENOMEM;
	}
	server->params = *params;
	server->owner = geteuid();
	server->client = (struct loop_watch){ .fd = -1, .events = EPOLLIN, .ready = client_ready };
	server->listening = (struct loop_watch){
		.fd = params->listen_fd,
		.events = EPOLLIN,
		.ready = listening_ready,
	};
	loop_timer_init(&server->retry, retry_expired);
	r = begin(server);
	if (r < 0)
		gdb_server_free(server);
	else
		*ret_server = server;
	return r;
}

void gdb_server_free(struct gdb_server *server)
{
	if (!server)
		return;
	loop_timer_cancel(&server->retry);
	if (server->client.fd >= 0)
		close_client(server);
	loop_remove(server->params.loop, &server->listening);
	fd_close(server->listening.fd);
	free(server);
}

void gdb_server_ended(struct gdb_server *server)
{
	if (!server)
		return;
	loop_timer_cancel(&server->retry);
	if (server->client.fd >= 0) {
		gdb_session_exited(&server->session);
		flush(server);
		close_client(server);
	}
	server->state = NOBODY;
}

int gdb_stopped_on_request(struct gdb_server *server, uint32_t vcpu, const char *text,
			   void (*go_on)(void *ctx), void *ctx)
{
	if (!server || server->state != SESSION)
		return -ENOTCONN;
	if (server->target.requests[vcpu].go_on)
		return -EBUSY;
	gdb_target_add_request(&server->target, vcpu, text, go_on, ctx);
	settle(server);
	return 0;
}
