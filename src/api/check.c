/* SPDX-License-Identifier: Apache-2.0 */
#include "api/check.h"

#include <cap-ng.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysinfo.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/fd.h"
#include "block/filters/filter.h"
#include "block/raw.h"
#include "cpu/model.h"
#include "host/huge_pages.h"
#include "host/runtime.h"
#include "kvm/kvm.h"
#include "net/filters/filter.h"
#include "net/interface.h"
#include "net/pair.h"
#include "net/tap.h"

DEFINE_CLEANUP(struct block, block_free, block_freep)
DEFINE_CLEANUP(struct net, net_free, net_freep)
DEFINE_CLEANUP(struct kvm_system, kvm_close, kvm_closep)

_printf_(4, 5) static void add(struct problems *problems, int code, enum exit_status status,
			       const char *format, ...)
{
	char text[ERROR_MESSAGE_MAX];
	struct error err = { 0 };
	va_list args;

	va_start(args, format);
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	error_set(&err, code, status, "%s", text);
	problems_add(problems, &err);
}

static const char *kvm_way_out(int code)
{
	switch (code) {
	case -ENOENT:
		return "load the module kvm_intel or kvm_amd, after turning virtualisation on in the "
		       "firmware's setup";
	case -EACCES:
	case -EPERM:
		return "join its group: usermod -aG kvm USER, then log in again";
	case -ENOTSUP:
		return "it is no KVM of version 12: use a newer kernel";
	default:
		return "see utsusu doctor";
	}
}

/* The first feature that the model needs and this host's KVM cannot give. */
static void check_model(struct kvm_system *kvm, enum cpu_model model, struct problems *problems)
{
	_cleanup_(freep) struct kvm_cpuid2 *supported = NULL;
	const char *names[CPU_LACKS_MAX];
	size_t count;

	if (model == CPU_MODEL_HOST || kvm_supported_cpuid(kvm, &supported) < 0)
		return;
	count = cpu_model_lacks(model, supported, names, CPU_LACKS_MAX);
	if (count)
		add(problems, -ENOTSUP, EXIT_STATUS_HOST,
		    "cpus: this host lacks %s for the model%s; utsusu cpu-baseline tells what it can run",
		    names[0], count > 1 ? ", and more" : "");
}

static void check_cpus(const struct cpus_config *cpus, struct problems *problems)
{
	_cleanup_(kvm_closep) struct kvm_system *kvm = NULL;
	int most, r = kvm_open(-1, &kvm);

	if (r < 0) {
		add(problems, r, EXIT_STATUS_HOST, "kvm: /dev/kvm: %s; %s", strerror(-r),
		    kvm_way_out(r));
		return;
	}
	most = kvm_check(kvm, KVM_CAP_MAX_VCPUS);
	if (most > 0 && cpus->max > (uint32_t)most)
		add(problems, -E2BIG, EXIT_STATUS_HOST,
		    "cpus: this host's KVM takes at most %d; give max=%d or less", most, most);
	check_model(kvm, cpus->model, problems);
}

/* A regular file that can be read and is not larger than `limit`. */
static void check_file(const char *key, const char *path, uint64_t limit, struct problems *problems)
{
	_cleanup_(fd_closep) int fd = -1;
	struct stat st;

	if (!path)
		return;
	fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
	if (fd < 0 || fstat(fd, &st) < 0)
		add(problems, -errno, EXIT_STATUS_RESOURCE,
		    "%s: %s: %s; give a file that exists and can be read", key, path,
		    strerror(errno));
	else if (!S_ISREG(st.st_mode))
		add(problems, -EINVAL, EXIT_STATUS_RESOURCE, "%s: %s: is no regular file; give one",
		    key, path);
	else if (st.st_size == 0)
		add(problems, -EINVAL, EXIT_STATUS_RESOURCE, "%s: %s: is empty; give another file",
		    key, path);
	else if ((uint64_t)st.st_size > limit)
		add(problems, -EFBIG, EXIT_STATUS_RESOURCE,
		    "%s: %s: is larger than %llu MiB; give a smaller file", key, path,
		    (unsigned long long)(limit >> 20));
}

/* Opens and locks as a run would; the lock goes when the disk is freed. */
static void check_disk(const struct disk_config *disk, struct problems *problems)
{
	_cleanup_(block_freep) struct block *block = NULL;
	struct raw_options options = {
		.path = disk->path,
		.fd = -1,
		.readonly = disk->readonly,
		.direct = disk->direct,
	};
	struct error err = { 0 };

	if (disk->path &&
	    (raw_open(&options, &block, &err) < 0 ||
	     (disk->filter && block_filter_stack(disk->filter, block, &block, &err) < 0)))
		problems_add(problems, &err);
}

/* The same disk under two names: what the paths alone do not tell. */
static void check_same_disks(const struct vm_config *config, uint32_t index,
			     struct problems *problems)
{
	const struct disk_config *disk = &config->disks[index];
	struct stat here, there;

	if (!disk->path || stat(disk->path, &here) < 0)
		return;
	for (uint32_t i = 0; i < index; i++) {
		const struct disk_config *other = &config->disks[i];
		bool same;

		if (!other->path || strcmp(disk->path, other->path) == 0 ||
		    stat(other->path, &there) < 0 || (disk->readonly && other->readonly))
			continue;
		same = S_ISBLK(here.st_mode) && S_ISBLK(there.st_mode)
			       ? here.st_rdev == there.st_rdev
			       : here.st_dev == there.st_dev && here.st_ino == there.st_ino;
		if (same)
			add(problems, -EBUSY, EXIT_STATUS_RESOURCE,
			    "disk[%u]: %s is the same disk as disk[%u] (%s); give it once", index,
			    disk->path, i, other->path);
	}
}

/* A tap that is there is attached to and let go; one that is not would be made, with the right to
 * do so. */
static void check_tap(const struct net_config *config, struct problems *problems)
{
	_cleanup_(net_freep) struct net *net = NULL;
	struct error err = { 0 };

	if (interface_index(config->tap)) {
		if (tap_open(config->tap, config->queues, &net, &err) < 0)
			problems_add(problems, &err);
		return;
	}
	if (access("/dev/net/tun", F_OK) < 0)
		add(problems, -errno, EXIT_STATUS_HOST,
		    "net tap=%s: /dev/net/tun: %s; load the module tun, or use --net user",
		    config->tap, strerror(errno));
	else if (!capng_have_capability(CAPNG_EFFECTIVE, CAP_NET_ADMIN))
		add(problems, -EPERM, EXIT_STATUS_RESOURCE,
		    "net tap=%s: there is no such tap, and making one needs CAP_NET_ADMIN; as root: ip "
		    "tuntap add %s mode tap user %u, or use --net user",
		    config->tap, config->tap, geteuid());
}

static void check_net_fd(const struct net_config *config, struct problems *problems)
{
	_cleanup_(net_freep) struct net *net = NULL;
	_cleanup_(fd_closep) int copy = fcntl(config->fd, F_DUPFD_CLOEXEC, 0);
	struct error err = { 0 };

	if (copy < 0) {
		add(problems, -EBADF, EXIT_STATUS_RESOURCE,
		    "net: fd=%d is not open; hand over an open tap descriptor", config->fd);
		return;
	}
	if (tap_from_fd(copy, &net, &err) < 0)
		problems_add(problems, &err);
	else
		copy = -1;
}

/* Built over a cable that ends in the process: the text is judged, nothing is attached. */
static void check_net_filter(const char *spec, struct problems *problems)
{
	static const struct net_pair_params params = { .queue_pairs = 1 };
	_cleanup_(net_freep) struct net *near = NULL;
	_cleanup_(net_freep) struct net *far = NULL;
	struct error err = { 0 };

	if (net_pair_new(&params, &near, &far) < 0)
		return;
	if (net_filter_stack(spec, near, &near, &err) < 0)
		problems_add(problems, &err);
}

static bool find_program(const char *name)
{
	const char *path = getenv("PATH");
	_cleanup_(freep) char *copy = strdup(path ? path : "/usr/bin:/bin");
	char *rest = copy, *dir;

	while (rest && (dir = strsep(&rest, ":"))) {
		char file[4096];

		if (snprintf(file, sizeof(file), "%s/%s", dir, name) < (int)sizeof(file) &&
		    access(file, X_OK) == 0)
			return true;
	}
	return false;
}

/* A line of /proc/net/route whose second column is 0.0.0.0, or one of ipv6_route that begins with ::/0
 * and is no reject route (its interface is not lo). */
static bool is_default_route(const char *line)
{
	const char *tab = strchr(line, '\t');

	if (tab)
		return strncmp(tab + 1, "00000000\t", 9) == 0;
	return strncmp(line, "00000000000000000000000000000000 00 ", 36) == 0 &&
	       !strstr(line, " lo\n");
}

static bool has_default_route(void)
{
	static const char *const tables[] = { "/proc/net/route", "/proc/net/ipv6_route" };
	bool found = false;

	for (size_t i = 0; i < ARRAY_SIZE(tables) && !found; i++) {
		FILE *file = fopen(tables[i], "re");
		char line[512];

		while (file && !found && fgets(line, sizeof(line), file))
			found = is_default_route(line);
		if (file)
			fclose(file);
	}
	return found;
}

static void check_user_net(struct problems *problems)
{
	if (!find_program("passt"))
		add(problems, -ENOENT, EXIT_STATUS_HOST,
		    "net user: passt is not installed; apt-get install passt, or use --net tap=NAME");
	else if (!has_default_route())
		add(problems, -ENETUNREACH, EXIT_STATUS_HOST,
		    "net user: this host has no default route for passt to use; add one, or use --net "
		    "tap=NAME");
}

static void check_net(const struct net_config *config, struct problems *problems)
{
	if (config->kind == NET_TAP && config->tap)
		check_tap(config, problems);
	if (config->kind == NET_FD)
		check_net_fd(config, problems);
	if (config->kind == NET_USER)
		check_user_net(problems);
	if (config->filter)
		check_net_filter(config->filter, problems);
	if (config->vhost && access("/dev/vhost-net", R_OK | W_OK) < 0)
		add(problems, -errno, EXIT_STATUS_HOST,
		    "net: vhost needs /dev/vhost-net: %s; load the module vhost_net and join its "
		    "group, or leave vhost out",
		    strerror(errno));
}

/* Several VMs may promise more than there is; one alone could never keep it. */
static void check_memory_fits(const struct memory_config *memory, struct problems *problems)
{
	struct sysinfo host;
	uint64_t most;

	if (sysinfo(&host) < 0)
		return;
	most = ((uint64_t)host.totalram + host.totalswap) * host.mem_unit;
	if (memory->size > most)
		add(problems, -ENOMEM, EXIT_STATUS_HOST,
		    "memory: %llu MiB are more than this machine has with its swap, %llu MiB; give less",
		    (unsigned long long)(memory->size / MIB(1)),
		    (unsigned long long)(most / MIB(1)));
}

static void check_memory(const struct memory_config *memory, struct problems *problems)
{
	struct error err = { 0 };

	check_memory_fits(memory, problems);
	if (memory->hugepages == MEMORY_HUGE_ON &&
	    huge_pages_judge(HUGE_PAGES_FOLDER, memory->size, &err) < 0)
		problems_add(problems, &err);
}

/* As far as it can be told without making it. */
static void check_gdb(const char *path, struct problems *problems)
{
	_cleanup_(freep) char *folder = path ? strdup(path) : NULL;
	char *slash = folder ? strrchr(folder, '/') : NULL;
	struct stat st;

	if (!folder)
		return;
	if (lstat(path, &st) == 0) {
		if (!S_ISSOCK(st.st_mode))
			add(problems, -EEXIST, EXIT_STATUS_RESOURCE,
			    "gdb: %s is there and is no socket; give another path", path);
		return;
	}
	if (slash)
		slash[slash == folder] = '\0';
	if (access(slash ? folder : ".", W_OK | X_OK) < 0)
		add(problems, -errno, EXIT_STATUS_RESOURCE,
		    "gdb: no socket can be made at %s: %s; give another path", path,
		    strerror(errno));
}

void check_host(const struct vm_config *config, struct problems *problems)
{
	if (config->name[0] && runtime_is_taken(config->name))
		add(problems, -EBUSY, EXIT_STATUS_BUSY,
		    "%s: a VM of this name runs; give another name, or stop it: utsusu stop %s",
		    config->name, config->name);
	check_cpus(&config->cpus, problems);
	check_memory(&config->memory, problems);
	check_file("kernel", config->kernel, LIMIT_KERNEL, problems);
	check_file("initrd", config->initrd, LIMIT_INITRD, problems);
	for (uint32_t i = 0; i < config->n_disks; i++) {
		check_disk(&config->disks[i], problems);
		check_same_disks(config, i, problems);
	}
	for (uint32_t i = 0; i < config->n_nets; i++)
		check_net(&config->nets[i], problems);
	check_gdb(config->gdb.path, problems);
}
