/* SPDX-License-Identifier: Apache-2.0 */
#include "host/sandbox.h"

#include <cap-ng.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/landlock.h>
#include <malloc.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "base/fd.h"
#include "host/namespace.h"

#define NOBODY 65534
#define ALONE_TRIES 2000 /* of 1 ms */

struct step {
	const char *name;
	int (*take)(void);
	/* 0: the step must succeed; else it may be missing (-ENOSYS, -EPERM, -EOPNOTSUPP) and this tells so. */
	enum sandbox_missing may_miss;
};

/* Nothing executed from here on (and nothing can be: execve is not in any filter) gains rights by set-id bits;
 * and without it an unprivileged process may install no filter. */
static int no_new_privileges(void)
{
	return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 ? -errno : 0;
}

/* The process is not to be attached to or dumped by others of its user: its memory is the guest's. */
static int not_dumpable(void)
{
	return prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) < 0 ? -errno : 0;
}

/* An empty, read-only root: a path that leaks out leads nowhere. */
static int empty_root(void)
{
	if (mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0 ||
	    mount("none", "/tmp", "tmpfs", MS_NODEV | MS_NOEXEC | MS_NOSUID, "size=4k,mode=500") <
		    0 ||
	    chdir("/tmp") < 0 || syscall(SYS_pivot_root, ".", ".") < 0 ||
	    umount2(".", MNT_DETACH) < 0 || chdir("/") < 0)
		return -errno;
	return mount(NULL, "/", NULL, MS_REMOUNT | MS_BIND | MS_RDONLY, NULL) < 0 ? -errno : 0;
}

/* No network, no System V IPC, no host name, no files: what the VM uses is open already. */
static int namespaces(void)
{
	int r = namespace_own_user();

	if (r < 0)
		return r;
	if (unshare(CLONE_NEWNS | CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWUTS) < 0)
		return -errno;
	return empty_root();
}

/* Started by root: become nobody, so that a descriptor or a path that leaks has no owner's rights. */
static int change_user(void)
{
	if (getuid() != 0)
		return 0;
	if (setgroups(0, NULL) < 0 || setresgid(NOBODY, NOBODY, NOBODY) < 0 ||
	    setresuid(NOBODY, NOBODY, NOBODY) < 0)
		return -errno;
	return 0;
}

/* No program executed later could gain capabilities again. It takes CAP_SETPCAP, which an ordinary user has
 * in its own user namespace only. */
static int empty_bounding_set(void)
{
	capng_get_caps_process();
	capng_clear(CAPNG_SELECT_BOUNDS);
	return capng_apply(CAPNG_SELECT_BOUNDS) < 0 ? -EPERM : 0;
}

static int drop_capabilities(void)
{
	capng_clear(CAPNG_SELECT_ALL);
	if (capng_apply(CAPNG_SELECT_CAPS) < 0)
		return -EPERM;
	return prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0) < 0 && errno != EINVAL
		       ? -errno
		       : 0;
}

/* Rules for all kinds of access to files that Landlock 1 knows: none is allowed but what is added. */
static int landlock_rules(void)
{
	const struct landlock_ruleset_attr attr = {
		.handled_access_fs = LANDLOCK_ACCESS_FS_EXECUTE | LANDLOCK_ACCESS_FS_WRITE_FILE |
				     LANDLOCK_ACCESS_FS_READ_FILE | LANDLOCK_ACCESS_FS_READ_DIR |
				     LANDLOCK_ACCESS_FS_REMOVE_DIR |
				     LANDLOCK_ACCESS_FS_REMOVE_FILE | LANDLOCK_ACCESS_FS_MAKE_CHAR |
				     LANDLOCK_ACCESS_FS_MAKE_DIR | LANDLOCK_ACCESS_FS_MAKE_REG |
				     LANDLOCK_ACCESS_FS_MAKE_SOCK | LANDLOCK_ACCESS_FS_MAKE_FIFO |
				     LANDLOCK_ACCESS_FS_MAKE_BLOCK | LANDLOCK_ACCESS_FS_MAKE_SYM,
	};
	int rules = (int)syscall(SYS_landlock_create_ruleset, &attr, sizeof(attr), 0);

	return rules < 0 ? -errno : rules;
}

static int landlock_allow(int rules, int dir_fd, uint64_t access)
{
	const struct landlock_path_beneath_attr beneath = {
		.allowed_access = access,
		.parent_fd = dir_fd,
	};

	return syscall(SYS_landlock_add_rule, rules, LANDLOCK_RULE_PATH_BENEATH, &beneath, 0) < 0
		       ? -errno
		       : 0;
}

static int landlock_restrict(int rules)
{
	return syscall(SYS_landlock_restrict_self, rules, 0) < 0 ? -errno : 0;
}

/* No file system access at all, whatever namespace or right should be regained. */
static int landlock(void)
{
	_cleanup_(fd_closep) int rules = landlock_rules();

	return rules < 0 ? rules : landlock_restrict(rules);
}

/* No core file of the guest's memory. */
static int no_core_dumps(void)
{
	const struct rlimit none = { 0, 0 };

	return setrlimit(RLIMIT_CORE, &none) < 0 ? -errno : 0;
}

/* A heap made for a thread stays when the thread ends, and is the next one's. */
void sandbox_before_threads(void)
{
	mallopt(M_ARENA_MAX, 1);
}

/* Rights belong to threads: another one would keep them, and a user namespace takes a process of one thread only.
 * A thread that was joined is still counted for a moment. unshare(2): CLONE_THREAD changes nothing, and is refused
 * while there are others. */
static int alone(void)
{
	const struct timespec nap = { .tv_nsec = 1000 * 1000 };
	int tries = ALONE_TRIES;

	while (unshare(CLONE_THREAD) < 0) {
		if (errno != EINVAL)
			return -errno;
		if (!tries--)
			return -EBUSY;
		nanosleep(&nap, NULL);
	}
	return 0;
}

/* In this order: each step uses rights that a later one takes away. */
static const struct step steps[] = {
	{ "alone", alone, 0 },
	{ "no core dumps", no_core_dumps, 0 },
	{ "namespaces", namespaces, SANDBOX_NO_NAMESPACES },
	{ "empty bounding set", empty_bounding_set, SANDBOX_NO_BOUNDING_SET },
	{ "user nobody", change_user, SANDBOX_NO_USER_CHANGE },
	{ "no capabilities", drop_capabilities, 0 },
	{ "no new privileges", no_new_privileges, 0 },
	{ "not dumpable", not_dumpable, 0 },
	{ "landlock", landlock, SANDBOX_NO_LANDLOCK },
};

static bool is_absence(int r)
{
	return r == -ENOSYS || r == -EPERM || r == -EOPNOTSUPP || r == -EACCES || r == -ENOSPC ||
	       r == -EINVAL;
}

int sandbox_enter_process(unsigned int *ret_missing, struct error *err)
{
	unsigned int missing = 0;

	for (size_t i = 0; i < ARRAY_SIZE(steps); i++) {
		int r = steps[i].take();

		if (r < 0 && steps[i].may_miss && is_absence(r))
			missing |= steps[i].may_miss;
		else if (r < 0)
			return error_set(err, r, EXIT_STATUS_HOST,
					 "sandbox: step '%s' failed: %s; sandbox=off runs without, "
					 "for debugging only",
					 steps[i].name, strerror(-r));
	}
	*ret_missing = missing;
	return 0;
}

int sandbox_keep_to(int dir_fd, int root_fd)
{
	_cleanup_(fd_closep) int rules = landlock_rules();
	int r;

	if (rules < 0)
		return rules;
	r = landlock_allow(rules, dir_fd,
			   LANDLOCK_ACCESS_FS_READ_DIR | LANDLOCK_ACCESS_FS_REMOVE_FILE);
	if (r == 0)
		r = landlock_allow(rules, root_fd, LANDLOCK_ACCESS_FS_REMOVE_DIR);
	return r < 0 ? r : landlock_restrict(rules);
}

const char *sandbox_missing_name(enum sandbox_missing bit)
{
	for (size_t i = 0; i < ARRAY_SIZE(steps); i++)
		if (steps[i].may_miss == bit)
			return steps[i].name;
	return "?";
}
