/* SPDX-License-Identifier: Apache-2.0 */

/* Forbidden things, each done in a child of its own that has entered the sandbox, and each refused; and
 * allowed things, so that the refusals mean something. */

#include <errno.h>
#include <fcntl.h>
#include <linux/io_uring.h>
#include <linux/kvm.h>
#include <linux/userfaultfd.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/fd.h"
#include "base/macros.h"
#include "host/sandbox.h"
#include "check.h"

#define ENTERED 0
#define NOT_ENTERED 99

struct deed {
	const char *name;
	int (*act)(void);
};

/* What the keeper's filter takes for its child: the process that enters it. */
static pid_t kept_process;

/* The child's wait status after entering as `kind` and acting. */
static int status_with(enum sandbox_thread kind, unsigned int features, int (*act)(void))
{
	pid_t child = fork();
	int status;

	if (child == 0) {
		const struct rlimit no_core = { 0, 0 };

		setrlimit(RLIMIT_CORE, &no_core);
		prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
		kept_process = getpid();
		if ((kind == SANDBOX_KEEPER ? sandbox_enter_keeper(kept_process)
					    : sandbox_enter_thread(kind, features)) < 0)
			_exit(NOT_ENTERED);
		_exit(act());
	}
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_false(WIFEXITED(status) && WEXITSTATUS(status) == NOT_ENTERED);
	return status;
}

static int status_of(enum sandbox_thread kind, int (*act)(void))
{
	return status_with(kind, SANDBOX_DISK | SANDBOX_TAP, act);
}

static int raw(long number, long a, long b, long c)
{
	return syscall(number, a, b, c, 0, 0, 0) < 0 ? 1 : 0;
}

static int open_file(void)
{
	return raw(SYS_openat, AT_FDCWD, (long)"/etc/passwd", O_RDONLY);
}

static int run_program(void)
{
	char *argv[] = { (char *)"/bin/true", NULL };

	return raw(SYS_execve, (long)argv[0], (long)argv, 0);
}

static int new_process(void)
{
	return raw(SYS_clone, SIGCHLD, 0, 0);
}

static int new_socket(void)
{
	return raw(SYS_socket, AF_INET, SOCK_STREAM, 0);
}

static int connect_out(void)
{
	return raw(SYS_connect, 0, 0, 0);
}

static int new_ring(void)
{
	struct io_uring_params params = { 0 };

	return raw(SYS_io_uring_setup, 4, (long)&params, 0);
}

static int attach_to_parent(void)
{
	return raw(SYS_ptrace, PTRACE_ATTACH, getppid(), 0);
}

static int executable_memory(void)
{
	return syscall(SYS_mmap, 0, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1,
		       0) == -1;
}

static int make_executable(void)
{
	return raw(SYS_mprotect, 0x10000, 4096, PROT_EXEC);
}

static int new_vm(void)
{
	return raw(SYS_ioctl, 0, (long)KVM_CREATE_VM, 0);
}

static int type_into_terminal(void)
{
	return raw(SYS_ioctl, 0, (long)TIOCSTI, (long)"x");
}

static int unload_filter(void)
{
	return raw(SYS_prctl, PR_SET_SECCOMP, 0, 0);
}

static int new_namespace(void)
{
	return raw(SYS_unshare, CLONE_NEWUSER, 0, 0);
}

static int kill_init(void)
{
	return raw(SYS_kill, 1, 0, 0);
}

static int signal_other_thread(void)
{
	return raw(SYS_tgkill, 1, 1, 0);
}

static int signal_own_thread(void)
{
	return raw(SYS_tgkill, getpid(), (long)syscall(SYS_gettid), 0);
}

static int signal_child(void)
{
	return raw(SYS_kill, kept_process, 0, 0);
}

static int bind_socket(void)
{
	return raw(SYS_bind, 0, 0, 0);
}

static int change_flags(void)
{
	return raw(SYS_fcntl, 0, F_SETFL, 0);
}

static int set_guest_memory(void)
{
	return raw(SYS_ioctl, -1, (long)KVM_SET_USER_MEMORY_REGION, 0);
}

static int make_durable(void)
{
	return raw(SYS_fdatasync, -1, 0, 0);
}

static int lock_file(void)
{
	return raw(SYS_fcntl, -1, F_OFD_SETLK, 0);
}

static int seal_file(void)
{
	return raw(SYS_fcntl, -1, F_ADD_SEALS, 0);
}

static int remove_file(void)
{
	return raw(SYS_unlinkat, AT_FDCWD, (long)"/nonexistent", 0);
}

static int run_guest(void)
{
	return raw(SYS_ioctl, -1, (long)KVM_RUN, 0);
}

static int debug_guest(void)
{
	return raw(SYS_ioctl, -1, (long)KVM_SET_GUEST_DEBUG, 0);
}

static int foreign_io_uring_register(void)
{
	return raw(SYS_io_uring_register, -1, IORING_REGISTER_FILES, 0);
}

static int accept_client(void)
{
	return raw(SYS_accept4, -1, 0, 0);
}

static int thread_in_new_namespace(void)
{
	return raw(SYS_clone, CLONE_THREAD | CLONE_VM | CLONE_SIGHAND | CLONE_NEWNET, 0, 0);
}

static void *take_a_name(void *arg _unused_)
{
	return pthread_setname_np(pthread_self(), "page") ? NULL : (void *)1;
}

static int thread_with_a_name(void)
{
	void *named = NULL;
	pthread_t thread;

	return pthread_create(&thread, NULL, take_a_name, NULL) || pthread_join(thread, &named) ||
	       !named;
}

static const struct deed forbidden_to_all[] = {
	{ "execve", run_program },
	{ "clone", new_process },
	{ "socket", new_socket },
	{ "connect", connect_out },
	{ "io_uring_setup", new_ring },
	{ "ptrace", attach_to_parent },
	{ "mmap PROT_EXEC", executable_memory },
	{ "mprotect PROT_EXEC", make_executable },
	{ "KVM_CREATE_VM", new_vm },
	{ "TIOCSTI", type_into_terminal },
	{ "prctl", unload_filter },
	{ "unshare", new_namespace },
	{ "kill of another process", kill_init },
	{ "tgkill of another process", signal_other_thread },
	{ "bind", bind_socket },
};

static const struct deed forbidden_to_vm[] = {
	{ "openat", open_file },
	{ "unlinkat", remove_file },
	{ "io_uring_register of files", foreign_io_uring_register },
	{ "fcntl F_SETFL", change_flags },
	{ "fcntl F_ADD_SEALS", seal_file },
};

static void assert_refused(enum sandbox_thread kind, const struct deed *deed)
{
	int status = status_of(kind, deed->act);

	if (!WIFSIGNALED(status) || WTERMSIG(status) != SIGSYS)
		fail_msg("thread kind %d did '%s': status 0x%x", (int)kind, deed->name, status);
}

static void forbidden_calls_end_the_process(void **state _unused_)
{
	for (int kind = SANDBOX_CONTROL; kind <= SANDBOX_MOVER; kind++)
		for (size_t i = 0; i < ARRAY_SIZE(forbidden_to_all); i++)
			assert_refused((enum sandbox_thread)kind, &forbidden_to_all[i]);
	for (int kind = SANDBOX_CONTROL; kind <= SANDBOX_QUEUE; kind++)
		for (size_t i = 0; i < ARRAY_SIZE(forbidden_to_vm); i++)
			assert_refused((enum sandbox_thread)kind, &forbidden_to_vm[i]);
}

static void a_mover_opens_nothing(void **state _unused_)
{
	static const struct deed forbidden[] = {
		{ "openat", open_file },
		{ "unlinkat", remove_file },
		{ "accept4", accept_client },
		{ "KVM_RUN", run_guest },
		{ "clone into a new namespace", thread_in_new_namespace },
	};

	for (size_t i = 0; i < ARRAY_SIZE(forbidden); i++)
		assert_refused(SANDBOX_MOVER, &forbidden[i]);
}

static int register_memory(void)
{
	return raw(SYS_ioctl, -1, UFFDIO_REGISTER, 0);
}

static int fill_memory(void)
{
	return raw(SYS_ioctl, -1, UFFDIO_COPY, 0);
}

/* Who fills a VM's memory does not say which memory that is: it could be the heap of the VM's process. */
static void a_mover_fills_only_what_it_is_given(void **state _unused_)
{
	static const struct {
		unsigned int features;
		int (*act)(void);
		bool allowed;
	} cases[] = {
		{ SANDBOX_FILLS, fill_memory, true },
		{ SANDBOX_FILLS, register_memory, false },
		{ SANDBOX_SCANS, register_memory, true },
		{ SANDBOX_SCANS, fill_memory, false },
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		int status = status_with(SANDBOX_MOVER, cases[i].features, cases[i].act);

		if (cases[i].allowed ? !WIFEXITED(status)
				     : !WIFSIGNALED(status) || WTERMSIG(status) != SIGSYS)
			fail_msg("case %zu: status 0x%x", i, status);
	}
}

static void a_mover_starts_threads(void **state _unused_)
{
	assert_int_equal(status_of(SANDBOX_MOVER, thread_with_a_name), 0);
}

static void only_a_vcpu_runs_the_guest(void **state _unused_)
{
	const struct deed deed = { "KVM_RUN", run_guest };

	assert_refused(SANDBOX_CONTROL, &deed);
	assert_refused(SANDBOX_QUEUE, &deed);
	assert_refused(SANDBOX_KEEPER, &deed);
	/* On a descriptor that is none: the call is let through and fails by itself. */
	assert_int_equal(status_of(SANDBOX_VCPU, run_guest), 1 << 8);
}

static void only_a_vcpu_sets_breakpoints(void **state _unused_)
{
	const struct deed deed = { "KVM_SET_GUEST_DEBUG", debug_guest };

	assert_refused(SANDBOX_CONTROL, &deed);
	assert_refused(SANDBOX_QUEUE, &deed);
	assert_int_equal(status_of(SANDBOX_VCPU, debug_guest), 1 << 8);
}

static void only_the_control_thread_maps_guest_memory(void **state _unused_)
{
	const struct deed deed = { "KVM_SET_USER_MEMORY_REGION", set_guest_memory };

	assert_refused(SANDBOX_VCPU, &deed);
	assert_refused(SANDBOX_QUEUE, &deed);
	assert_refused(SANDBOX_KEEPER, &deed);
	assert_int_equal(status_of(SANDBOX_CONTROL, set_guest_memory), 1 << 8);
}

static void only_the_control_thread_marks_a_move(void **state _unused_)
{
	static const struct deed deeds[] = { { "fdatasync", make_durable },
					     { "fcntl F_OFD_SETLK", lock_file } };

	for (size_t i = 0; i < ARRAY_SIZE(deeds); i++) {
		assert_refused(SANDBOX_VCPU, &deeds[i]);
		assert_refused(SANDBOX_QUEUE, &deeds[i]);
		assert_refused(SANDBOX_KEEPER, &deeds[i]);
		assert_int_equal(status_of(SANDBOX_CONTROL, deeds[i].act), 1 << 8);
	}
}

static void signals_stay_in_the_family(void **state _unused_)
{
	for (int kind = SANDBOX_CONTROL; kind <= SANDBOX_QUEUE; kind++)
		assert_int_equal(status_of((enum sandbox_thread)kind, signal_own_thread), 0);
	assert_int_equal(status_of(SANDBOX_MOVER, signal_own_thread), 0);
	/* The test entered the keeper's with itself as the child. */
	assert_int_equal(status_of(SANDBOX_KEEPER, signal_child), 0);
}

static int ordinary_work(void)
{
	void *block = malloc(1 << 20);
	int fds[2];

	free(block);
	return read(-1, fds, 1) == -1 && errno == EBADF ? ENTERED : 1;
}

static void ordinary_work_goes_on(void **state _unused_)
{
	for (int kind = SANDBOX_CONTROL; kind <= SANDBOX_MOVER; kind++)
		assert_int_equal(status_of((enum sandbox_thread)kind, ordinary_work), 0);
}

/* The process's own steps, without the filters: what do they leave? */
static int enter_and(int (*act)(void))
{
	pid_t child = fork();
	int status;

	if (child == 0) {
		struct error err = { 0 };
		unsigned int missing;

		if (sandbox_enter_process(&missing, &err) < 0)
			_exit(NOT_ENTERED);
		if (missing & SANDBOX_NO_NAMESPACES)
			_exit(77);
		_exit(act());
	}
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_true(WIFEXITED(status));
	return WEXITSTATUS(status);
}

static int sees_no_files(void)
{
	return open("/etc/passwd", O_RDONLY) < 0 && open("/proc/self/status", O_RDONLY) < 0 &&
			       open("/new", O_CREAT | O_WRONLY, 0600) < 0
		       ? 0
		       : 1;
}

static int has_no_rights(void)
{
	return geteuid() != 0 && setuid(0) < 0 && raw(SYS_mount, 0, 0, 0) ? 0 : 1;
}

static int has_no_network(void)
{
	struct sockaddr_storage loopback = { .ss_family = AF_INET };
	int fd = socket(AF_INET, SOCK_STREAM, 0);

	/* A new network namespace's loopback is down. */
	((uint8_t *)&loopback)[3] = 1;
	((uint8_t *)&loopback)[4] = 127;
	((uint8_t *)&loopback)[7] = 1;
	return fd < 0 || connect(fd, (struct sockaddr *)&loopback, 16) < 0 ? 0 : 1;
}

static void the_process_keeps_nothing(void **state _unused_)
{
	int files = enter_and(sees_no_files);

	if (files == 77)
		skip(); /* no namespaces for this user on this kernel: the log says so too */
	assert_int_equal(files, 0);
	assert_int_equal(enter_and(has_no_rights), 0);
	assert_int_equal(enter_and(has_no_network), 0);
}

static void *naps(void *arg)
{
	usleep(*(const useconds_t *)arg);
	return NULL;
}

/* As an ordinary user, whose namespaces need a process of one thread. Returns 0, NOT_ENTERED or what was missing. */
static int enter_beside_a_thread(useconds_t nap)
{
	pid_t child = fork();
	int status;

	if (child == 0) {
		struct error err = { 0 };
		unsigned int missing;
		pthread_t thread;

		if ((geteuid() == 0 && setresuid(1000, 1000, 1000) < 0) ||
		    pthread_create(&thread, NULL, naps, &nap))
			_exit(NOT_ENTERED + 1);
		_exit(sandbox_enter_process(&missing, &err) < 0 ? NOT_ENTERED : (int)missing);
	}
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_true(WIFEXITED(status));
	return WEXITSTATUS(status);
}

/* A thread that was joined is still one of the process for a moment. */
static void a_thread_that_is_ending_is_waited_for(void **state _unused_)
{
	assert_int_equal(enter_beside_a_thread(100000), enter_beside_a_thread(0));
	assert_int_equal(enter_beside_a_thread(3600U * 1000000), NOT_ENTERED);
}

/* In a child: what of a directory with the file "own" beside the file "other" can be touched. */
static int kept_to(const char *root)
{
	_cleanup_(fd_closep) int root_fd = open(root, O_RDONLY | O_DIRECTORY);
	_cleanup_(fd_closep) int dir_fd = openat(root_fd, "vm", O_RDONLY | O_DIRECTORY);
	int r;

	prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
	r = sandbox_keep_to(dir_fd, root_fd);
	if (r == -ENOSYS || r == -EOPNOTSUPP)
		return 77;
	if (r < 0 || openat(dir_fd, "own", O_RDONLY) >= 0 || open("/etc/passwd", O_RDONLY) >= 0 ||
	    openat(dir_fd, "new", O_CREAT | O_WRONLY, 0600) >= 0)
		return 1;
	if (unlinkat(root_fd, "other", 0) == 0 || unlinkat(dir_fd, "own", 0) < 0 ||
	    unlinkat(root_fd, "vm", AT_REMOVEDIR) < 0)
		return 2;
	return 0;
}

static void the_keeper_is_kept_to_its_name(void **state _unused_)
{
	char root[] = "/tmp/utsusu-sandbox-XXXXXX", path[64];
	int status;
	pid_t child;

	assert_non_null(mkdtemp(root));
	snprintf(path, sizeof(path), "%s/vm", root);
	assert_int_equal(mkdir(path, 0700), 0);
	snprintf(path, sizeof(path), "%s/vm/own", root);
	close(creat(path, 0600));
	snprintf(path, sizeof(path), "%s/other", root);
	close(creat(path, 0600));
	child = fork();
	if (child == 0)
		_exit(kept_to(root));
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_true(WIFEXITED(status));
	if (WEXITSTATUS(status) == 77)
		skip(); /* this kernel has no Landlock */
	assert_int_equal(WEXITSTATUS(status), 0);
	assert_int_equal(unlink(path), 0);
	assert_int_equal(rmdir(root), 0);
}

#define BLOCKS 256

static void *use_a_little(void *arg _unused_)
{
	void *volatile block = malloc(1000);

	free(block);
	return NULL;
}

static void *use_memory_confined(void *arg _unused_)
{
	void *blocks[BLOCKS];

	if (sandbox_enter_thread(SANDBOX_VCPU, 0) < 0)
		_exit(NOT_ENTERED);
	for (size_t i = 0; i < BLOCKS; i++) {
		blocks[i] = malloc(KIB(64));
		if (!blocks[i])
			_exit(1);
		*(volatile char *)blocks[i] = 1;
	}
	for (size_t i = BLOCKS; i--;)
		free(blocks[i]);
	return NULL;
}

/* The second thread takes over whatever heap the first one had. */
static int free_memory_after_another_thread(void)
{
	pthread_t thread;

	sandbox_before_threads();
	if (pthread_create(&thread, NULL, use_a_little, NULL) || pthread_join(thread, NULL) ||
	    pthread_create(&thread, NULL, use_memory_confined, NULL) || pthread_join(thread, NULL))
		return 1;
	return ENTERED;
}

static void a_confined_thread_gives_memory_back(void **state _unused_)
{
	pid_t child = fork();
	int status;

	if (child == 0) {
		prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
		_exit(free_memory_after_another_thread());
	}
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_int_equal(status, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(forbidden_calls_end_the_process),
		cmocka_unit_test(a_mover_opens_nothing),
		cmocka_unit_test(a_mover_starts_threads),
		cmocka_unit_test(a_mover_fills_only_what_it_is_given),
		cmocka_unit_test(only_a_vcpu_runs_the_guest),
		cmocka_unit_test(only_a_vcpu_sets_breakpoints),
		cmocka_unit_test(only_the_control_thread_maps_guest_memory),
		cmocka_unit_test(only_the_control_thread_marks_a_move),
		cmocka_unit_test(signals_stay_in_the_family),
		cmocka_unit_test(ordinary_work_goes_on),
		cmocka_unit_test(the_process_keeps_nothing),
		cmocka_unit_test(the_keeper_is_kept_to_its_name),
		cmocka_unit_test(a_thread_that_is_ending_is_waited_for),
		cmocka_unit_test(a_confined_thread_gives_memory_back),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
