/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The way of one access, for counting its instructions: a vCPU's thread over a KVM that is a script.
 *
 *   dispatch EXITS none|tap
 *
 * The script makes EXITS reads of a port; among thirty regions one answers with a constant, under its lock,
 * and with "tap" one tap looks on. What callgrind counts, less what it counts inside kvm_vcpu_run, is what an
 * exit costs here whatever the processor.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "bus/bus.h"
#include "cpu/vcpu.h"
#include "kvm/fake.h"
#include "memory/dirty.h"
#include "memory/memory.h"

#define REGIONS 30
#define REGION_PORTS 8
#define FIRST_PORT 0x100
#define PORT (FIRST_PORT + 19 * REGION_PORTS)

struct machine {
	struct kvm_system *system;
	struct kvm_vm *kvm;
	struct memory *memory;
	struct bus *bus;
	struct quiesce quiesce;
	pthread_mutex_t lock;
	struct bus_region regions[REGIONS];
	struct bus_tap tap;
	struct vcpu *vcpu;
};

static void must(int result, const char *what)
{
	if (result < 0) {
		fprintf(stderr, "dispatch: %s: %s\n", what, strerror(-result));
		exit(1);
	}
}

static uint64_t read_constant(void *ctx _unused_, uint64_t offset _unused_,
			      unsigned int size _unused_)
{
	return 0x5a;
}

static void write_nothing(void *ctx _unused_, uint64_t offset _unused_, unsigned int size _unused_,
			  uint64_t data _unused_)
{
}

static const struct bus_ops constant_ops = { .read = read_constant, .write = write_nothing };

static enum tap_verdict tap_before(struct bus_tap *tap _unused_, struct bus_access *access _unused_)
{
	return TAP_PASS;
}

static void tap_after(struct bus_tap *tap _unused_, struct bus_access *access _unused_)
{
}

static void add_regions(struct machine *m)
{
	for (unsigned int i = 0; i < REGIONS; i++) {
		m->regions[i] = (struct bus_region){
			.name = "constant",
			.space = BUS_PIO,
			.base = FIRST_PORT + i * REGION_PORTS,
			.len = REGION_PORTS,
			.ops = &constant_ops,
			.lock = &m->lock,
		};
		must(bus_add(m->bus, &m->regions[i]), "bus_add");
	}
}

static void failed(void *ctx _unused_, uint32_t index _unused_, int code, const char *what)
{
	must(code < 0 ? code : -EIO, what);
}

static void make_vcpu(struct machine *m)
{
	struct vcpu_host host = {
		.kvm = m->kvm,
		.bus = m->bus,
		.quiesce = &m->quiesce,
		.memory = m->memory,
		.failed = failed,
	};
	struct kvm_cpuid2 *cpuid;
	struct error err = { 0 };

	must(kvm_supported_cpuid(m->system, &cpuid), "kvm_supported_cpuid");
	must(vcpu_new(&host, 0, cpuid, &m->vcpu, &err), err.message);
	free(cpuid);
}

static void fill_read(struct kvm_run *run, void *ctx _unused_)
{
	run->exit_reason = KVM_EXIT_IO;
	run->io.direction = KVM_EXIT_IO_IN;
	run->io.size = 1;
	run->io.count = 1;
	run->io.port = PORT;
	run->io.data_offset = sizeof(*run);
}

int main(int argc, char **argv)
{
	struct machine m = { .lock = PTHREAD_MUTEX_INITIALIZER,
			     .tap = { .before = tap_before, .after = tap_after } };
	struct kvm_fake_exit script = { .fill = fill_read };

	if (argc != 3 || (strcmp(argv[2], "none") != 0 && strcmp(argv[2], "tap") != 0)) {
		fprintf(stderr, "usage: dispatch EXITS none|tap\n");
		return 2;
	}
	script.times = strtoull(argv[1], NULL, 10);
	quiesce_init(&m.quiesce);
	m.bus = bus_new();
	must(m.bus ? 0 : -ENOMEM, "bus_new");
	must(kvm_open(-1, &m.system), "kvm_open");
	must(kvm_vm_new(m.system, &m.kvm), "kvm_vm_new");
	must(memory_create(MIB(2), GIB(2), GIB(4), MEMORY_HUGE_OFF, -1, &m.memory, NULL),
	     "memory_create");
	add_regions(&m);
	if (strcmp(argv[2], "tap") == 0)
		bus_add_tap(m.bus, &m.tap);
	make_vcpu(&m);
	kvm_fake_script(vcpu_kvm(m.vcpu), &script, 1);
	must(vcpu_start(m.vcpu, NULL), "vcpu_start");
	while (!kvm_fake_script_done(vcpu_kvm(m.vcpu)))
		usleep(1000);
	vcpu_stop(m.vcpu);
	printf("%llu exits\n", (unsigned long long)vcpu_exits(m.vcpu));
	vcpu_free(m.vcpu);
	memory_free(m.memory);
	bus_free(m.bus);
	kvm_vm_free(m.kvm);
	kvm_close(m.system);
	return 0;
}
