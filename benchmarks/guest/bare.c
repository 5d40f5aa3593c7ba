/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The least that an exit can cost here: a loop around KVM_RUN that does nothing with it. Prints
 * what a round of reads of a port and one of reads of a memory address that nobody backs takes, the quickest
 * of several, in cycles of the time stamp counter. What a monitor takes beyond this is its own.
 *
 *   bare EXITS ROUNDS
 */
#include <fcntl.h>
#include <linux/kvm.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <time.h>
#include <x86intrin.h>

/* Real mode at 0, with the number of exits in ecx: read; dec ecx; jnz; hlt. */
#define AGAIN(back) 0x66, 0x49, 0x75, back, 0xf4

static const uint8_t pio_code[] = { 0xec, AGAIN(0xfb) };
static const uint8_t mmio_code[] = { 0x66, 0xa1, 0x00, 0x00, AGAIN(0xf8) };

#define PORT 0x3ff
#define UNBACKED 0xd0000

static int checked(int result, const char *what)
{
	if (result < 0) {
		perror(what);
		exit(1);
	}
	return result;
}

static uint64_t now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000 + (uint64_t)t.tv_nsec;
}

static void set_registers(int vcpu, unsigned int exits)
{
	struct kvm_sregs sregs;
	struct kvm_regs regs = { .rflags = 2, .rdx = PORT, .rcx = exits };

	checked(ioctl(vcpu, KVM_GET_SREGS, &sregs), "KVM_GET_SREGS");
	sregs.cs.base = 0;
	sregs.cs.selector = 0;
	sregs.ds.base = UNBACKED;
	sregs.ds.selector = UNBACKED >> 4;
	checked(ioctl(vcpu, KVM_SET_SREGS, &sregs), "KVM_SET_SREGS");
	checked(ioctl(vcpu, KVM_SET_REGS, &regs), "KVM_SET_REGS");
}

static uint64_t one_round(int vcpu, struct kvm_run *run, unsigned int expected, unsigned int exits)
{
	unsigned int seen = 0;
	uint64_t start;

	set_registers(vcpu, exits);
	start = __rdtsc();
	for (;;) {
		checked(ioctl(vcpu, KVM_RUN, 0), "KVM_RUN");
		if (run->exit_reason != expected)
			break;
		seen++;
	}
	if (run->exit_reason != KVM_EXIT_HLT || seen != exits) {
		fprintf(stderr, "bare: exit reason %u after %u exits\n", run->exit_reason, seen);
		exit(1);
	}
	return __rdtsc() - start;
}

static uint64_t quickest(int vcpu, struct kvm_run *run, unsigned int expected, char **argv)
{
	unsigned int exits = (unsigned int)atoi(argv[1]), rounds = (unsigned int)atoi(argv[2]);
	uint64_t best = one_round(vcpu, run, expected, exits);

	for (unsigned int i = 1; i < rounds; i++) {
		uint64_t taken = one_round(vcpu, run, expected, exits);

		best = taken < best ? taken : best;
	}
	return best;
}

int main(int argc, char **argv)
{
	int kvm = checked(open("/dev/kvm", O_RDWR | O_CLOEXEC), "/dev/kvm");
	int vm = checked(ioctl(kvm, KVM_CREATE_VM, 0), "KVM_CREATE_VM");
	size_t run_size = (size_t)checked(ioctl(kvm, KVM_GET_VCPU_MMAP_SIZE, 0), "mmap size");
	uint8_t *memory = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1,
			       0);
	struct kvm_userspace_memory_region region = { .memory_size = 4096,
						      .userspace_addr = (uintptr_t)memory };
	struct kvm_run *run;
	uint64_t pio, mmio, cycles = __rdtsc(), ns = now_ns();
	int vcpu;

	checked(argc == 3 ? 0 : -1, "usage: bare EXITS ROUNDS");
	checked(ioctl(vm, KVM_SET_USER_MEMORY_REGION, &region), "memory");
	vcpu = checked(ioctl(vm, KVM_CREATE_VCPU, 0), "KVM_CREATE_VCPU");
	run = mmap(NULL, run_size, PROT_READ | PROT_WRITE, MAP_SHARED, vcpu, 0);
	memcpy(memory, pio_code, sizeof(pio_code));
	pio = quickest(vcpu, run, KVM_EXIT_IO, argv);
	memcpy(memory, mmio_code, sizeof(mmio_code));
	mmio = quickest(vcpu, run, KVM_EXIT_MMIO, argv);
	cycles = __rdtsc() - cycles;
	ns = now_ns() - ns;
	printf("{\"pio\": %llu, \"mmio\": %llu, \"cycles_per_us\": %.3f}\n",
	       (unsigned long long)pio, (unsigned long long)mmio,
	       (double)cycles * 1000 / (double)ns);
	return 0;
}
