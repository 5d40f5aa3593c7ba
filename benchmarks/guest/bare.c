/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The least that an exit can cost here: a loop around KVM_RUN that does nothing with it. Prints the
 * microseconds of one read of a port and of one read of a memory address that nobody backs. What a
 * monitor takes beyond this is its own.
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

#define EXITS 20000

/* Real mode at 0: mov ecx, EXITS; read; dec ecx; jnz; hlt. */
#define COUNT 0x66, 0xb9, EXITS & 0xff, EXITS >> 8, 0, 0
#define AGAIN(back) 0x66, 0x49, 0x75, back, 0xf4

static const uint8_t pio_code[] = { 0xba, 0xff, 0x03, COUNT, 0xec, AGAIN(0xfb) };
static const uint8_t mmio_code[] = { 0xb8, 0x00, 0xd0, 0x8e, 0xd8,	 COUNT,
				     0x66, 0xa1, 0x00, 0x00, AGAIN(0xf8) };

static int checked(int result, const char *what)
{
	if (result < 0) {
		perror(what);
		exit(1);
	}
	return result;
}

static double now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static void set_registers(int vcpu)
{
	struct kvm_sregs sregs;
	struct kvm_regs regs = { .rflags = 2 };

	checked(ioctl(vcpu, KVM_GET_SREGS, &sregs), "KVM_GET_SREGS");
	sregs.cs.base = 0;
	sregs.cs.selector = 0;
	checked(ioctl(vcpu, KVM_SET_SREGS, &sregs), "KVM_SET_SREGS");
	checked(ioctl(vcpu, KVM_SET_REGS, &regs), "KVM_SET_REGS");
}

static double microseconds(int vcpu, struct kvm_run *run, unsigned int expected)
{
	double start;
	unsigned int exits = 0;

	set_registers(vcpu);
	start = now();
	for (;;) {
		checked(ioctl(vcpu, KVM_RUN, 0), "KVM_RUN");
		if (run->exit_reason != expected)
			break;
		exits++;
	}
	if (run->exit_reason != KVM_EXIT_HLT || exits != EXITS) {
		fprintf(stderr, "exit %u after %u exits\n", run->exit_reason, exits);
		exit(1);
	}
	return (now() - start) * 1e6 / EXITS;
}

int main(void)
{
	int kvm = checked(open("/dev/kvm", O_RDWR | O_CLOEXEC), "/dev/kvm");
	int vm = checked(ioctl(kvm, KVM_CREATE_VM, 0), "KVM_CREATE_VM");
	size_t run_size = (size_t)checked(ioctl(kvm, KVM_GET_VCPU_MMAP_SIZE, 0), "mmap size");
	uint8_t *memory = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1,
			       0);
	struct kvm_userspace_memory_region region = { .memory_size = 4096,
						      .userspace_addr = (uintptr_t)memory };
	struct kvm_run *run;
	double pio, mmio;
	int vcpu;

	checked(ioctl(vm, KVM_SET_USER_MEMORY_REGION, &region), "memory");
	vcpu = checked(ioctl(vm, KVM_CREATE_VCPU, 0), "KVM_CREATE_VCPU");
	run = mmap(NULL, run_size, PROT_READ | PROT_WRITE, MAP_SHARED, vcpu, 0);
	memcpy(memory, pio_code, sizeof(pio_code));
	pio = microseconds(vcpu, run, KVM_EXIT_IO);
	memcpy(memory, mmio_code, sizeof(mmio_code));
	mmio = microseconds(vcpu, run, KVM_EXIT_MMIO);
	printf("{\"pio\": %.3f, \"mmio\": %.3f}\n", pio, mmio);
	return 0;
}
