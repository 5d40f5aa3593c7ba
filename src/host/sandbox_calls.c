/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The system calls that each kind of thread keeps, and why. A call not listed ends the process (SIGSYS): a
 * monitor that does what it never does has been taken over. Each kind is tested with calls inside and
 * outside its list (tests/unit/test_host_sandbox.c).
 *
 * Calls that could open a way out are kept only with the arguments we use: ioctl by request, fcntl by command,
 * mmap and mprotect without PROT_EXEC, tgkill and kill to one process, clone for the mover's threads only.
 */

#include <asm/prctl.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/io_uring.h>
#include <linux/kvm.h>
#include <linux/userfaultfd.h>
#include <linux/vhost.h>
#include <netinet/in.h>
#include <sched.h>
#include <seccomp.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>
#include <linux/if_tun.h>

#include "base/cleanup.h"
#include "host/sandbox.h"

#define C (1U << SANDBOX_CONTROL)
#define V (1U << SANDBOX_VCPU)
#define Q (1U << SANDBOX_QUEUE)
#define K (1U << SANDBOX_KEEPER)
#define M (1U << SANDBOX_MOVER)
#define ALL (C | V | Q)

struct call {
	int number;
	unsigned int kinds;
	const char *reason;
	unsigned int features; /* any of which makes it needed; 0: always */
};

static const struct call calls[] = {
	/* memory of the C library */
	{ SCMP_SYS(brk), ALL | M, "malloc" },
	{ SCMP_SYS(munmap), ALL | M, "malloc, a thread's stack" },
	{ SCMP_SYS(madvise), ALL | M, "free, the end of a thread's stack" },
	{ SCMP_SYS(mremap), ALL | M, "realloc of large blocks" },
	/* threads */
	{ SCMP_SYS(futex), ALL | M, "locks, conditions, joining" },
	{ SCMP_SYS(sched_yield), ALL | M, "locks of the C library" },
	{ SCMP_SYS(rseq), ALL | M, "registered for each thread by the C library" },
	{ SCMP_SYS(set_robust_list), ALL | M, "registered for each thread by the C library" },
	{ SCMP_SYS(rt_sigprocmask), ALL | M, "ending a thread, raising a signal" },
	{ SCMP_SYS(rt_sigreturn), ALL | M, "return from the kick signal" },
	{ SCMP_SYS(restart_syscall), ALL | M, "after a stop and continue" },
	{ SCMP_SYS(exit), ALL | M, "ending a thread" },
	{ SCMP_SYS(exit_group), ALL | M, "ending the process" },
	{ SCMP_SYS(gettid), ALL | M, "abort, kicks" },
	{ SCMP_SYS(getpid), ALL | M, "abort, kicks" },
	/* time, where the vDSO must ask the kernel */
	{ SCMP_SYS(clock_gettime), ALL | M, "clocks" },
	{ SCMP_SYS(clock_nanosleep), ALL | M, "short waits" },
	/* descriptors that are open already */
	{ SCMP_SYS(read), ALL, "eventfds, console, tap, kernel image at reset" },
	{ SCMP_SYS(write), ALL, "eventfds, console, tap, log" },
	{ SCMP_SYS(readv), Q, "a frame into guest buffers", SANDBOX_TAP },
	{ SCMP_SYS(writev), Q, "a frame from guest buffers", SANDBOX_TAP },
	{ SCMP_SYS(pread64), V, "kernel and initrd, loaded again at a reset" },
	{ SCMP_SYS(pwrite64), V, "the same into guest RAM" },
	{ SCMP_SYS(lseek), C | V, "which guest pages are populated; size of a kernel" },
	{ SCMP_SYS(pread64), C,
	  "a move: its state in the file that is shared with the mover; the mark" },
	{ SCMP_SYS(pwrite64), C, "a move: its state, the mark" },
	{ SCMP_SYS(fdatasync), C, "a move: the mark, before anybody is told" },
	{ SCMP_SYS(fadvise64), C, "a disk that comes by a move: what was cached of it is forgotten",
	  SANDBOX_DISK },
	{ SCMP_SYS(fstat), ALL, "kernel and initrd at a reset; stdio" },
	{ SCMP_SYS(newfstatat), ALL, "the C library's fstat" },
	{ SCMP_SYS(close), ALL, "clients that left; devices taken apart" },
	{ SCMP_SYS(recvfrom), C, "API clients" },
	{ SCMP_SYS(recvmsg), C, "API clients, a mover's descriptors with them" },
	{ SCMP_SYS(recvfrom), Q, "frames", SANDBOX_PASST },
	{ SCMP_SYS(recvmsg), Q, "frames", SANDBOX_PASST },
	{ SCMP_SYS(sendto), C, "API clients" },
	{ SCMP_SYS(sendmsg), C,
	  "the userfaultfd, to a mover that loads on demand; open files, to a successor" },
	{ SCMP_SYS(sendto), Q, "frames", SANDBOX_PASST },
	{ SCMP_SYS(sendmsg), Q, "frames", SANDBOX_PASST },
	{ SCMP_SYS(accept4), C, "clients of the VM's own sockets" },
	{ SCMP_SYS(listen), C, "an upgrade: the sockets are this process's from now on" },
	{ SCMP_SYS(getsockopt), C, "who a client is (SO_PEERCRED)" },
	{ SCMP_SYS(shutdown), C, "ending a client" },
	/* waiting */
	{ SCMP_SYS(epoll_wait), ALL, "loops" },
	{ SCMP_SYS(epoll_pwait), ALL, "loops" },
	{ SCMP_SYS(epoll_pwait2), ALL, "loops" },
	{ SCMP_SYS(epoll_ctl), ALL, "loops" },
	{ SCMP_SYS(poll), ALL, "short waits" },
	{ SCMP_SYS(ppoll), ALL, "short waits" },
	/* disks: the ring itself is restricted to reads, writes, flushes and discards of one disk */
	{ SCMP_SYS(io_uring_enter), C | Q, "disk requests", SANDBOX_DISK },
	/* entropy device */
	{ SCMP_SYS(getrandom), ALL, "the entropy device; hash seeds" },
	/* the keeper: waiting for its child, cleaning up after it, handing descriptors on */
	{ SCMP_SYS(read), K, "signals" },
	{ SCMP_SYS(write), K, "one line about how the VM ended" },
	{ SCMP_SYS(poll), K, "waiting" },
	{ SCMP_SYS(accept4), K, "a successor" },
	{ SCMP_SYS(getsockopt), K, "who the successor is" },
	{ SCMP_SYS(recvmsg), K, "its request" },
	{ SCMP_SYS(sendmsg), K, "descriptors for it" },
	{ SCMP_SYS(wait4), K, "the VM's process" },
	{ SCMP_SYS(openat), K, "the name's directory, to list it" },
	{ SCMP_SYS(getdents64), K, "the name's directory" },
	{ SCMP_SYS(unlinkat), K, "files of the name" },
	{ SCMP_SYS(newfstatat), K, "files of the name" },
	{ SCMP_SYS(fstat), K, "files of the name" },
	{ SCMP_SYS(lseek), K, "listing the directory; a dead VM's requests" },
	{ SCMP_SYS(pread64), K, "a dead VM's requests" },
	{ SCMP_SYS(pwrite64), K, "a dead VM's requests" },
	{ SCMP_SYS(close), K, "clients" },
	{ SCMP_SYS(brk), K, "malloc" },
	{ SCMP_SYS(munmap), K, "malloc" },
	{ SCMP_SYS(futex), K, "the C library" },
	{ SCMP_SYS(rt_sigreturn), K, "signals" },
	{ SCMP_SYS(restart_syscall), K, "after a stop and continue" },
	{ SCMP_SYS(exit_group), K, "the end" },
	/* the mover: streams, RAM's file, the VM's socket, the state's shared file; all but that file open already */
	{ SCMP_SYS(sendmsg), M, "streams; requests to the VM" },
	{ SCMP_SYS(sendto), M, "streams, progress, requests to the VM" },
	{ SCMP_SYS(recvmsg), M, "streams; what the kernel has let go of (MSG_ERRQUEUE)" },
	{ SCMP_SYS(recvfrom), M, "streams, answers of the VM, a cancel" },
	{ SCMP_SYS(read), M, "streams that are pipes" },
	{ SCMP_SYS(write), M, "progress into a pipe; stderr" },
	{ SCMP_SYS(readv), M, "streams that are pipes" },
	{ SCMP_SYS(writev), M, "streams that are pipes" },
	{ SCMP_SYS(pread64), M, "the state; RAM of huge pages" },
	{ SCMP_SYS(pwrite64), M, "the state; the mark; pages that came, into RAM's file; disks" },
	{ SCMP_SYS(lseek), M, "which pages are populated, and which of a disk" },
	{ SCMP_SYS(fallocate), M, "what reads as zero becomes a hole" },
	{ SCMP_SYS(memfd_create), M, "the file that is shared with the VM" },
	{ SCMP_SYS(ftruncate), M, "its size" },
	{ SCMP_SYS(fdatasync), M, "the mark; a disk that is copied" },
	{ SCMP_SYS(fadvise64), M, "a disk that is copied: read back from the disk" },
	{ SCMP_SYS(fstat), M, "RAM's file; stdio" },
	{ SCMP_SYS(newfstatat), M, "the C library's fstat" },
	{ SCMP_SYS(fstatfs), M, "whether RAM is hugetlbfs" },
	{ SCMP_SYS(close), M, "streams" },
	{ SCMP_SYS(shutdown), M, "ending a stream" },
	{ SCMP_SYS(poll), M, "waiting" },
	{ SCMP_SYS(ppoll), M, "waiting" },
	{ SCMP_SYS(getrandom), M, "TLS; hash seeds" },
	{ SCMP_SYS(rt_sigaction), M, "the C library, before the first thread" },
	{ SCMP_SYS(eventfd2), M, "a stream can be cancelled" },
	{ SCMP_SYS(userfaultfd), M, "which huge pages are populated", SANDBOX_SCANS },
	{ SCMP_SYS(sched_getaffinity), M, "the C library's count of processors" },
	{ SCMP_SYS(sysinfo), C | M, "the C library's qsort of more than 1 KiB: measure's samples" },
};

/* Of clone's flags: a thread and nothing else. */
#define CLONE_SHAPE                                                                                \
	(CLONE_THREAD | CLONE_VM | CLONE_NEWNS | CLONE_NEWCGROUP | CLONE_NEWUTS | CLONE_NEWIPC |   \
	 CLONE_NEWUSER | CLONE_NEWPID | CLONE_NEWNET | CLONE_PTRACE | CLONE_PARENT)

/* As a value: the process that the filter was made for (its own for a VM's threads, the child for the keeper). */
#define PROCESS UINT64_MAX

/* A call allowed only with certain values of one argument. */
struct constrained {
	int number;
	unsigned int kinds;
	unsigned int argument;
	uint64_t mask; /* of the bits compared; 0: all */
	uint64_t value;
	const char *reason;
	unsigned int features; /* as above */
};

static const struct constrained constrained_calls[] = {
	{ SCMP_SYS(mmap), ALL, 2, PROT_EXEC, 0, "malloc, stacks; never executable" },
	{ SCMP_SYS(mprotect), ALL, 2, PROT_EXEC, 0, "malloc; never executable" },
	{ SCMP_SYS(tgkill), ALL, 0, 0, PROCESS, "kicking a vCPU out of the guest; abort" },
	{ SCMP_SYS(fcntl), C, 1, 0, F_OFD_SETLK,
	  "a move: the mark's lock; disks' locks go with the ownership" },
	{ SCMP_SYS(fcntl), C, 1, 0, F_GET_SEALS, "a move: the mover's file cannot shrink" },
	{ SCMP_SYS(fcntl), C, 1, 0, F_GETFL, "an upgrade: the successor's socket" },
	{ SCMP_SYS(kill), K, 0, 0, PROCESS, "signals passed on" },
	{ SCMP_SYS(io_uring_register), Q, 1, 0, IORING_REGISTER_ENABLE_RINGS,
	  "a restricted ring is enabled by the thread that uses it", SANDBOX_DISK },
	{ SCMP_SYS(mmap), K, 2, PROT_EXEC, 0, "malloc" },
	{ SCMP_SYS(fcntl), K, 1, 0, F_GETFL, "the name's directory" },
	{ SCMP_SYS(fcntl), K, 1, 0, F_SETFD, "the name's directory" },
	{ SCMP_SYS(fcntl), K, 1, 0, F_GET_SEALS, "an upgrade: whose the name is" },
	{ SCMP_SYS(fcntl), K, 1, 0, F_SETFL,
	  "the terminal's descriptors, given back as they were" },
	{ SCMP_SYS(ioctl), K, 1, 0, TCGETS, "the terminal's settings" },
	{ SCMP_SYS(ioctl), K, 1, 0, TCSETSW, "the terminal's settings, given back" },
	/* the mover */
	{ SCMP_SYS(mmap), M, 2, PROT_EXEC, 0, "malloc, stacks, RAM; never executable" },
	{ SCMP_SYS(mprotect), M, 2, PROT_EXEC, 0, "malloc, stacks; never executable" },
	{ SCMP_SYS(tgkill), M, 0, 0, PROCESS, "abort; failpoints" },
	{ SCMP_SYS(clone), M, 0, CLONE_SHAPE, CLONE_THREAD | CLONE_VM,
	  "threads of its own, in no new namespace" },
	{ SCMP_SYS(prctl), M, 0, 0, PR_SET_NAME, "names of threads" },
	{ SCMP_SYS(fcntl), M, 1, 0, F_GETFL, "streams" },
	{ SCMP_SYS(fcntl), M, 1, 0, F_SETFL, "streams, progress: not to block" },
	{ SCMP_SYS(fcntl), M, 1, 0, F_ADD_SEALS, "the file that is shared with the VM" },
	{ SCMP_SYS(fcntl), M, 1, 0, F_GET_SEALS, "the file that is shared with the VM" },
	{ SCMP_SYS(fcntl), M, 1, 0, F_OFD_SETLK, "the mark" },
	{ SCMP_SYS(getsockopt), M, 1, 0, SOL_SOCKET, "what a stream is" },
	{ SCMP_SYS(getsockopt), M, 1, 0, IPPROTO_TCP, "what a stream is" },
	{ SCMP_SYS(setsockopt), M, 1, 0, SOL_SOCKET, "a stream's buffers; sending without a copy" },
	{ SCMP_SYS(setsockopt), M, 1, 0, IPPROTO_TCP, "a stream sends at once" },
	{ SCMP_SYS(ioctl), M, 1, 0, UFFDIO_API, "which huge pages are populated", SANDBOX_SCANS },
	{ SCMP_SYS(ioctl), M, 1, 0, UFFDIO_REGISTER, "which huge pages are populated",
	  SANDBOX_SCANS },
	{ SCMP_SYS(ioctl), M, 1, 0, UFFDIO_CONTINUE, "which huge pages are populated",
	  SANDBOX_SCANS },
	{ SCMP_SYS(ioctl), M, 1, 0, UFFDIO_UNREGISTER, "the end of either",
	  SANDBOX_SCANS | SANDBOX_FILLS },
	/* Never with UFFDIO_REGISTER: what may be filled the VM's process says. */
	{ SCMP_SYS(ioctl), M, 1, 0, UFFDIO_COPY, "a page for a VM that waits for it",
	  SANDBOX_FILLS },
	{ SCMP_SYS(ioctl), M, 1, 0, UFFDIO_ZEROPAGE, "the same, of zeroes", SANDBOX_FILLS },
	{ SCMP_SYS(ioctl), M, 1, 0, UFFDIO_WAKE, "who waits for a page that is there",
	  SANDBOX_FILLS },
	{ SCMP_SYS(socketpair), M, 0, 0, AF_UNIX, "how the VM's userfaultfd comes", SANDBOX_FILLS },
	/* running the guest */
	{ SCMP_SYS(ioctl), V, 1, 0, KVM_RUN, "the guest runs" },
	{ SCMP_SYS(ioctl), V, 1, 0, KVM_INTERRUPT, "the 8259's interrupts" },
	{ SCMP_SYS(ioctl), ALL, 1, 0, KVM_SIGNAL_MSI, "interrupts" },
	{ SCMP_SYS(ioctl), C | V, 1, 0, KVM_SET_GSI_ROUTING, "level-triggered interrupts" },
	{ SCMP_SYS(ioctl), ALL, 1, 0, KVM_IOEVENTFD, "doorbells move with their BARs" },
	{ SCMP_SYS(ioctl), C | V, 1, 0, KVM_RESET_DIRTY_RINGS, "dirty ring" },
	{ SCMP_SYS(ioctl), C, 1, 0, KVM_GET_DIRTY_LOG, "dirty log" },
	{ SCMP_SYS(ioctl), C, 1, 0, KVM_CLEAR_DIRTY_LOG, "dirty log" },
	{ SCMP_SYS(ioctl), C, 1, 0, KVM_SET_USER_MEMORY_REGION, "dirty log on and off" },
	/* a vCPU's state: each thread its own */
	{ SCMP_SYS(ioctl), V, 1, 0, KVM_GET_REGS, "state" },
	{ SCMP_SYS(ioctl), V, 1, 0, KVM_SET_REGS, "state" },
	{ SCMP_SYS(ioctl), V, 1, 0, KVM_GET_SREGS, "state" },
	{ SCMP_SYS(ioctl), V, 1, 0, KVM_TRANSLATE, "where the code that makes a request is" },
	{ SCMP_SYS(ioctl), V, 1, 0, KVM_SET_SREGS, "state" },
	{ SCMP_SYS(ioctl), V, 1, 0, KVM_GET_XSAVE, "state" },
	{ SCMP_SYS(ioctl), V, 1, 0, KVM_GET_XSAVE2, "state" },
	{ SCMP_SYS(ioctl), V, 1, 0, KVM_SET_XSAVE, "state" },
	{ SCMP_SYS(ioctl), V, 1, 0, KVM_GET_XCRS, "state" },
	{ SCMP_SYS(ioctl), V, 1, 0, KVM_SET_XCRS, "state" },
	{ SCMP_SYS(ioctl), V, 1, 0, KVM_GET_DEBUGREGS, "state" },
	{ SCMP_SYS(ioctl), V, 1, 0, KVM_SET_DEBUGREGS, "state" },
	{ SCMP_SYS(ioctl), V, 1, 0, KVM_GET_LAPIC, "state" },
	{ SCMP_SYS(ioctl), V, 1, 0, KVM_SET_LAPIC, "state" },
	{ SCMP_SYS(ioctl), V, 1, 0, KVM_GET_VCPU_EVENTS, "state" },
	{ SCMP_SYS(ioctl), V, 1, 0, KVM_SET_VCPU_EVENTS, "state" },
	{ SCMP_SYS(ioctl), V, 1, 0, KVM_GET_MP_STATE, "state" },
	{ SCMP_SYS(ioctl), V, 1, 0, KVM_SET_MP_STATE, "state" },
	{ SCMP_SYS(ioctl), C | V, 1, 0, KVM_GET_MSRS, "state; the moment of a state: TSC" },
	{ SCMP_SYS(ioctl), V, 1, 0, KVM_SET_MSRS, "state" },
	{ SCMP_SYS(ioctl), V, 1, 0, KVM_GET_TSC_KHZ, "state" },
	{ SCMP_SYS(ioctl), V, 1, 0, KVM_SET_TSC_KHZ, "state" },
	{ SCMP_SYS(ioctl), C | V, 1, 0, KVM_GET_DEVICE_ATTR, "state and its moment: TSC offset" },
	{ SCMP_SYS(ioctl), V, 1, 0, KVM_SET_DEVICE_ATTR, "state: TSC offset" },
	{ SCMP_SYS(ioctl), V, 1, 0, KVM_KVMCLOCK_CTRL, "a pause is told to the guest's clock" },
	{ SCMP_SYS(ioctl), C, 1, 0, KVM_GET_SUPPORTED_CPUID,
	  "a move: what this host's CPU lacks of what the guest was shown" },
	{ SCMP_SYS(ioctl), V, 1, 0, KVM_SET_CPUID2, "a move: the CPU that the guest was shown" },
	{ SCMP_SYS(ioctl), C, 1, 0, UFFDIO_REGISTER, "RAM is loaded on demand" },
	{ SCMP_SYS(ioctl), C, 1, 0, KVM_GET_CLOCK, "state: kvmclock" },
	{ SCMP_SYS(ioctl), C, 1, 0, KVM_SET_CLOCK, "state: kvmclock" },
	/* a debugger */
	{ SCMP_SYS(ioctl), V, 1, 0, KVM_SET_GUEST_DEBUG, "breakpoints and steps; watch --exact" },
	/* networks */
	{ SCMP_SYS(ioctl), ALL, 1, 0, TUNSETOFFLOAD, "what the guest negotiates", SANDBOX_TAP },
	{ SCMP_SYS(ioctl), ALL, 1, 0, TUNSETQUEUE, "queue pairs on and off", SANDBOX_TAP },
	{ SCMP_SYS(ioctl), Q, 1, 0, VHOST_SET_OWNER, "vhost", SANDBOX_VHOST },
	{ SCMP_SYS(ioctl), Q, 1, 0, VHOST_GET_FEATURES, "vhost", SANDBOX_VHOST },
	{ SCMP_SYS(ioctl), Q, 1, 0, VHOST_SET_FEATURES, "vhost", SANDBOX_VHOST },
	{ SCMP_SYS(ioctl), Q, 1, 0, VHOST_SET_MEM_TABLE, "vhost", SANDBOX_VHOST },
	{ SCMP_SYS(ioctl), Q, 1, 0, VHOST_SET_VRING_NUM, "vhost", SANDBOX_VHOST },
	{ SCMP_SYS(ioctl), Q, 1, 0, VHOST_SET_VRING_ADDR, "vhost", SANDBOX_VHOST },
	{ SCMP_SYS(ioctl), Q, 1, 0, VHOST_SET_VRING_BASE, "vhost", SANDBOX_VHOST },
	{ SCMP_SYS(ioctl), Q, 1, 0, VHOST_GET_VRING_BASE, "vhost", SANDBOX_VHOST },
	{ SCMP_SYS(ioctl), Q, 1, 0, VHOST_SET_VRING_KICK, "vhost", SANDBOX_VHOST },
	{ SCMP_SYS(ioctl), Q, 1, 0, VHOST_SET_VRING_CALL, "vhost", SANDBOX_VHOST },
	{ SCMP_SYS(ioctl), Q, 1, 0, VHOST_NET_SET_BACKEND, "vhost", SANDBOX_VHOST },
	{ SCMP_SYS(ioctl), Q, 1, 0, VHOST_RESET_OWNER, "vhost", SANDBOX_VHOST },
};

static void filter_freep(scmp_filter_ctx *filter)
{
	if (*filter)
		seccomp_release(*filter);
}

static bool needed(unsigned int kinds, unsigned int for_features, enum sandbox_thread kind,
		   unsigned int features)
{
	return (kinds >> kind & 1) && (!for_features || (for_features & features));
}

static int add_plain(scmp_filter_ctx filter, enum sandbox_thread kind, unsigned int features)
{
	for (size_t i = 0; i < ARRAY_SIZE(calls); i++) {
		int r;

		if (!needed(calls[i].kinds, calls[i].features, kind, features))
			continue;
		r = seccomp_rule_add(filter, SCMP_ACT_ALLOW, calls[i].number, 0);
		if (r < 0)
			return r;
	}
	return 0;
}

static int add_constrained(scmp_filter_ctx filter, enum sandbox_thread kind, unsigned int features,
			   pid_t process)
{
	for (size_t i = 0; i < ARRAY_SIZE(constrained_calls); i++) {
		const struct constrained *c = &constrained_calls[i];
		const uint64_t value = c->value == PROCESS ? (uint64_t)process : c->value;
		/* The kernel looks at the low 32 bits of ioctl requests, flags and process ids; so do we. */
		const struct scmp_arg_cmp test = SCMP_CMP(c->argument, SCMP_CMP_MASKED_EQ,
							  c->mask ? c->mask : 0xffffffffU,
							  value & 0xffffffffU);
		int r;

		if (!needed(c->kinds, c->features, kind, features))
			continue;
		r = seccomp_rule_add_array(filter, SCMP_ACT_ALLOW, c->number, 1, &test);
		if (r < 0)
			return r;
	}
	return 0;
}

static int enter(enum sandbox_thread kind, unsigned int features, pid_t process)
{
	_cleanup_(filter_freep) scmp_filter_ctx filter = seccomp_init(SCMP_ACT_KILL_PROCESS);
	int r;

	if (!filter)
		return -ENOMEM;
	/* A binary search tree instead of a list: a vCPU makes system calls at every exit. */
	r = seccomp_attr_set(filter, SCMP_FLTATR_CTL_OPTIMIZE, 2);
	if (r == 0)
		r = add_plain(filter, kind, features);
	if (r == 0)
		r = add_constrained(filter, kind, features, process);
	/* Its flags are in memory, where no filter sees them: the C library then uses clone. */
	if (r == 0 && kind == SANDBOX_MOVER)
		r = seccomp_rule_add(filter, SCMP_ACT_ERRNO(ENOSYS), SCMP_SYS(clone3), 0);
	return r < 0 ? r : seccomp_load(filter);
}

int sandbox_enter_thread(enum sandbox_thread kind, unsigned int features)
{
	return enter(kind, features, getpid());
}

int sandbox_enter_keeper(pid_t child)
{
	return enter(SANDBOX_KEEPER, 0, child);
}
