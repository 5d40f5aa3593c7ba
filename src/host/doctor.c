/* SPDX-License-Identifier: Apache-2.0 */
#include "host/doctor.h"

#include <cpuid.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/io_uring.h>
#include <linux/kvm.h>
#include <linux/userfaultfd.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "base/fd.h"
#include "host/huge_file.h"
#include "host/huge_pages.h"

/* landlock_create_ruleset(NULL, 0, this) tells the version; the header of Debian 12 has it. */
#define LANDLOCK_VERSION 1U

/* The first line of a small file of /proc or /sys, "" when it cannot be read. */
static void read_line(const char *path, char *ret_text, size_t size)
{
	_cleanup_(fd_closep) int fd = open(path, O_RDONLY | O_CLOEXEC);
	size_t len = 0;

	if (fd < 0 || fd_read_all(fd, ret_text, size - 1, &len) < 0)
		len = 0;
	ret_text[len] = '\0';
	ret_text[strcspn(ret_text, "\n")] = '\0';
}

static long read_number(const char *path)
{
	char text[64];

	read_line(path, text, sizeof(text));
	return text[0] ? strtol(text, NULL, 10) : -1;
}

#define found(finding, ...) snprintf((finding)->found, sizeof((finding)->found), __VA_ARGS__)

/* Entries of a directory, without those that begin with a dot. */
static unsigned int count_entries(const char *path)
{
	DIR *dir = opendir(path);
	unsigned int count = 0;
	struct dirent *entry;

	while (dir && (entry = readdir(dir)))
		count += entry->d_name[0] != '.';
	if (dir)
		closedir(dir);
	return count;
}

static enum doctor_verdict device_verdict(struct doctor_finding *finding, const char *path,
					  int flags, enum doctor_verdict otherwise)
{
	_cleanup_(fd_closep) int fd = open(path, flags | O_CLOEXEC);

	if (fd < 0) {
		found(finding, "%s: %s", path, strerror(errno));
		return otherwise;
	}
	found(finding, "%s can be opened", path);
	return DOCTOR_GOOD;
}

enum cpu_virtualisation { CPU_NONE, CPU_VMX, CPU_SVM };

/* Intel SDM 3A, 24.6: CPUID.1:ECX.VMX; AMD APM 2, 15.4: CPUID 8000_0001:ECX.SVM. */
static enum cpu_virtualisation cpu_virtualisation(void)
{
	unsigned int eax, ebx, ecx, edx;

	if (__get_cpuid(1, &eax, &ebx, &ecx, &edx) && (ecx & (1U << 5)))
		return CPU_VMX;
	if (__get_cpuid(0x80000001, &eax, &ebx, &ecx, &edx) && (ecx & (1U << 2)))
		return CPU_SVM;
	return CPU_NONE;
}

static enum doctor_verdict look_cpu(struct doctor_finding *finding)
{
	static const char *const names[] = { "neither VT-x nor SVM", "VT-x", "SVM" };
	enum cpu_virtualisation cpu = cpu_virtualisation();

	found(finding, "%s", names[cpu]);
	return cpu == CPU_NONE ? DOCTOR_LACKS : DOCTOR_GOOD;
}

static enum doctor_verdict look_kvm(struct doctor_finding *finding)
{
	_cleanup_(fd_closep) int fd = open("/dev/kvm", O_RDWR | O_CLOEXEC);
	int version;

	if (fd < 0) {
		found(finding, "/dev/kvm: %s", strerror(errno));
		return DOCTOR_MISSING;
	}
	version = ioctl(fd, KVM_GET_API_VERSION, 0);
	found(finding, "/dev/kvm, version %d", version);
	return version == KVM_API_VERSION ? DOCTOR_GOOD : DOCTOR_MISSING;
}

/* A software KVM answers every question as a real one does: the CPU's flags tell them apart. */
static enum doctor_verdict look_guests(struct doctor_finding *finding)
{
	if (access("/dev/kvm", F_OK) < 0) {
		found(finding, "no KVM");
		return DOCTOR_MISSING;
	}
	if (cpu_virtualisation() == CPU_NONE) {
		found(finding, "a KVM in software: it runs guests of a few instructions only");
		return DOCTOR_MISSING;
	}
	found(finding, "this KVM runs stock kernels");
	return DOCTOR_GOOD;
}

static enum doctor_verdict look_nested(struct doctor_finding *finding)
{
	char intel[8], amd[8];

	read_line("/sys/module/kvm_intel/parameters/nested", intel, sizeof(intel));
	read_line("/sys/module/kvm_amd/parameters/nested", amd, sizeof(amd));
	if (strchr("Y1", intel[0] ? intel[0] : '-') || strchr("Y1", amd[0] ? amd[0] : '-')) {
		found(finding, "guests may run guests of their own");
		return DOCTOR_GOOD;
	}
	found(finding, "off, or no kvm_intel or kvm_amd");
	return DOCTOR_LACKS;
}

static enum doctor_verdict look_iommu(struct doctor_finding *finding)
{
	unsigned int groups = count_entries("/sys/kernel/iommu_groups");

	found(finding, "%u groups", groups);
	return groups ? DOCTOR_GOOD : DOCTOR_LACKS;
}

static enum doctor_verdict look_vfio(struct doctor_finding *finding)
{
	return device_verdict(finding, "/dev/vfio/vfio", O_RDWR, DOCTOR_LACKS);
}

static enum doctor_verdict look_huge_pages(struct doctor_finding *finding)
{
	struct huge_pages pages = { 0 };

	(void)!huge_pages_look(HUGE_PAGES_FOLDER, &pages); /* zeroes then */
	found(finding, "%" PRIu64 " reserved pages of 2 MiB, %" PRIu64 " free", pages.total,
	      pages.free);
	return pages.total ? DOCTOR_GOOD : DOCTOR_LACKS;
}

static enum doctor_verdict look_thp(struct doctor_finding *finding)
{
	int fd = huge_file_make("doctor", MIB(2));
	bool ours = fd >= 0;
	char text[96];

	fd_close(fd);
	read_line(SHMEM_ENABLED, text, sizeof(text));
	found(finding, "%s; shmem_enabled: %s",
	      ours ? "in a file system of a VM's own" : "no file system of a VM's own",
	      text[0] ? text : "not in this kernel");
	return ours || (text[0] && !strstr(text, "[never]") && !strstr(text, "[deny]"))
		       ? DOCTOR_GOOD
		       : DOCTOR_LACKS;
}

static enum doctor_verdict look_tun(struct doctor_finding *finding)
{
	return device_verdict(finding, "/dev/net/tun", O_RDWR, DOCTOR_LACKS);
}

static enum doctor_verdict look_vhost(struct doctor_finding *finding)
{
	return device_verdict(finding, "/dev/vhost-net", O_RDWR, DOCTOR_LACKS);
}

static bool program_exists(const char *name)
{
	static const char *const dirs[] = { "/usr/local/bin", "/usr/bin", "/bin", "/usr/sbin",
					    "/sbin" };

	for (size_t i = 0; i < ARRAY_SIZE(dirs); i++) {
		char path[64];

		snprintf(path, sizeof(path), "%s/%s", dirs[i], name);
		if (access(path, X_OK) == 0)
			return true;
	}
	return false;
}

static enum doctor_verdict look_passt(struct doctor_finding *finding)
{
	bool there = program_exists("passt");

	found(finding, there ? "passt is installed" : "passt is not installed");
	return there ? DOCTOR_GOOD : DOCTOR_LACKS;
}

/* KVM's own faults are kernel faults: a descriptor that may handle only user faults is no use. */
static enum doctor_verdict look_userfaultfd(struct doctor_finding *finding)
{
	_cleanup_(fd_closep) int device = open("/dev/userfaultfd", O_RDWR | O_CLOEXEC);
	_cleanup_(fd_closep) int fd = -1;

	if (device >= 0) {
		found(finding, "/dev/userfaultfd can be opened");
		return DOCTOR_GOOD;
	}
	fd = (int)syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK);
	found(finding, fd >= 0 ? "by system call, for kernel faults too" : "/dev/userfaultfd: %s",
	      strerror(errno));
	return fd >= 0 ? DOCTOR_GOOD : DOCTOR_LACKS;
}

static enum doctor_verdict look_io_uring(struct doctor_finding *finding)
{
	struct io_uring_params params = { 0 };
	_cleanup_(fd_closep) int fd = (int)syscall(SYS_io_uring_setup, 1, &params);

	if (fd < 0) {
		found(finding, "io_uring_setup: %s; kernel.io_uring_disabled is %ld",
		      strerror(errno), read_number("/proc/sys/kernel/io_uring_disabled"));
		return DOCTOR_MISSING;
	}
	found(finding, "works");
	return DOCTOR_GOOD;
}

static enum doctor_verdict look_seccomp(struct doctor_finding *finding)
{
	char text[256];

	read_line("/proc/sys/kernel/seccomp/actions_avail", text, sizeof(text));
	found(finding, text[0] ? "filters work" : "no filters in this kernel");
	return text[0] ? DOCTOR_GOOD : DOCTOR_LACKS;
}

static enum doctor_verdict look_landlock(struct doctor_finding *finding)
{
	long version = syscall(SYS_landlock_create_ruleset, NULL, 0, LANDLOCK_VERSION);

	if (version < 0) {
		found(finding, "not in this kernel, or switched off");
		return DOCTOR_LACKS;
	}
	found(finding, "version %ld", version);
	return DOCTOR_GOOD;
}

static enum doctor_verdict look_namespaces(struct doctor_finding *finding)
{
	long limit = read_number("/proc/sys/user/max_user_namespaces");
	long debian = read_number("/proc/sys/kernel/unprivileged_userns_clone");
	bool there = access("/proc/self/ns/user", F_OK) == 0 && limit != 0;

	found(finding, "%s",
	      !there	    ? "no user namespaces"
	      : debian == 0 ? "user namespaces for root only"
			    : "user namespaces");
	return there && debian != 0 ? DOCTOR_GOOD : DOCTOR_LACKS;
}

static enum doctor_verdict look_memlock(struct doctor_finding *finding)
{
	struct rlimit limit = { 0 };

	getrlimit(RLIMIT_MEMLOCK, &limit);
	if (limit.rlim_cur == RLIM_INFINITY || geteuid() == 0)
		found(finding, "no limit");
	else
		found(finding, "%llu MiB", (unsigned long long)(limit.rlim_cur >> 20));
	return limit.rlim_cur == RLIM_INFINITY || geteuid() == 0 ? DOCTOR_GOOD : DOCTOR_LACKS;
}

static enum doctor_verdict look_memory(struct doctor_finding *finding)
{
	long pages = sysconf(_SC_AVPHYS_PAGES);

	found(finding, "%ld MiB free, %ld processors", pages / 256, sysconf(_SC_NPROCESSORS_ONLN));
	return pages >= 64 * 256 ? DOCTOR_GOOD : DOCTOR_LACKS;
}

struct doctor_check {
	const char *name;
	enum doctor_verdict (*look)(struct doctor_finding *finding);
	const char *follows;
	const char *way_out;
};

/* THE table, the necessary first. */
static const struct doctor_check checks[] = {
	{ "cpu", look_cpu, "KVM cannot use this processor's virtualisation",
	  "turn VT-x or SVM on in the firmware's setup; inside a VM, have its host turn nesting on" },
	{ "kvm", look_kvm, "no VM can run",
	  "modprobe kvm_intel or kvm_amd; for permission: usermod -aG kvm USER, then log in again" },
	{ "stock-kernels", look_guests,
	  "no Debian, no other real system runs here: only the unit tests do",
	  "use a machine with VT-x or SVM, or the lab: it emulates one (lab/lab up)" },
	{ "io_uring", look_io_uring, "disks cannot be used",
	  "sysctl kernel.io_uring_disabled=0; in a container, let its seccomp profile allow io_uring" },
	{ "memory", look_memory, "even a small guest may not fit",
	  "end other programs, or add memory" },
	{ "tun", look_tun,
	  "no --net tap=", "modprobe tun; or use --net user, which needs no device" },
	{ "passt", look_passt, "no --net user", "apt-get install passt" },
	{ "vhost-net", look_vhost,
	  "no --net ...,vhost=on: packets take the way through our process",
	  "modprobe vhost_net; for permission: usermod -aG kvm USER" },
	{ "huge-pages", look_huge_pages, "no --memory ...,hugepages=on",
	  "sysctl vm.nr_hugepages=N (2 MiB each)" },
	{ "thp", look_thp,
	  "guest memory is of 4 KiB pages, which makes guests slower, unless --memory ...,hugepages=on",
	  "sysctl kernel.unprivileged_userns_clone=1 user.max_user_namespaces=10000; "
	  "or echo advise > " SHMEM_ENABLED },
	{ "userfaultfd", look_userfaultfd,
	  "memory cannot be filled on demand: no post-copy moves to here, and a restore loads all memory first",
	  "give the user /dev/userfaultfd (Linux 6.1), or sysctl vm.unprivileged_userfaultfd=1" },
	{ "seccomp", look_seccomp, "a VM's process is not confined in its system calls",
	  "use a kernel with CONFIG_SECCOMP_FILTER" },
	{ "landlock", look_landlock, "a VM's process is not confined by Landlock",
	  "use a kernel with it, and lsm=...,landlock on its command line" },
	{ "namespaces", look_namespaces, "a VM's process is not put into namespaces of its own",
	  "sysctl kernel.unprivileged_userns_clone=1 user.max_user_namespaces=10000" },
	{ "nested", look_nested, "guests cannot run VMs themselves",
	  "modprobe kvm_intel nested=1 (or kvm_amd)" },
	{ "iommu", look_iommu, "no device can be given to a guest",
	  "turn VT-d or AMD-Vi on in the firmware's setup, and intel_iommu=on on the kernel's command line" },
	{ "vfio", look_vfio, "no device can be given to a guest", "modprobe vfio-pci" },
	{ "memlock", look_memlock, "a guest that owns a device may not be larger than this",
	  "ulimit -l unlimited, by /etc/security/limits.conf" },
};

size_t doctor_look(struct doctor_finding *ret_findings)
{
	_Static_assert(ARRAY_SIZE(checks) <= DOCTOR_FINDINGS_MAX,
		       "the caller's array is too small");

	for (size_t i = 0; i < ARRAY_SIZE(checks); i++) {
		struct doctor_finding *finding = &ret_findings[i];

		*finding = (struct doctor_finding){
			.name = checks[i].name,
			.follows = checks[i].follows,
			.way_out = checks[i].way_out,
		};
		finding->verdict = checks[i].look(finding);
	}
	return ARRAY_SIZE(checks);
}

const char *doctor_verdict_name(enum doctor_verdict verdict)
{
	static const char *const names[] = { "ok", "lacks", "missing" };

	return names[verdict];
}
