/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The way of one access, for counting its instructions: a vCPU's thread over a KVM that is a script.
 *
 *   dispatch EXITS none|tap|watch
 *
 * The script makes EXITS reads of a port; among thirty regions one answers with a constant, under its lock; with "tap"
 * an empty tap looks on, with "watch" the Request Monitor, which writes a whole record of each. What callgrind counts, less what it counts inside kvm_vcpu_run, is what an
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
#include "watch/monitor.h"
#include "watch/store.h"

#define REGIONS 30
#define REGION_PORTS 8
#define FIRST_PORT 0x100
#define PORT (FIRST_PORT + 19 * REGION_PORTS)
#define RIP 0xffffffff80100040 /* the fake maps it as a kernel has itself */

/* As much of a VM as an exit needs. */
struct machine {
	struct vm vm;
	struct vm_config config;
	pthread_mutex_t lock;
	struct bus_region regions[REGIONS];
	struct bus_tap tap;
	struct monitor *monitor;
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
		must(bus_add(m->vm.bus, &m->regions[i]), "bus_add");
	}
}

static void failed(void *ctx _unused_, uint32_t index _unused_, int code, const char *what)
{
	must(code < 0 ? code : -EIO, what);
}

static void make_vcpu(struct machine *m)
{
	struct vcpu_host host = {
		.kvm = m->vm.kvm,
		.bus = m->vm.bus,
		.quiesce = &m->vm.quiesce,
		.memory = m->vm.memory,
		.failed = failed,
	};
	/* Code of a 64-bit kernel: long mode, and an address in its half. */
	const struct kvm_sregs sregs = { .efer = 0x500, .cs.l = 1, .cr0 = 0x80000001 };
	struct kvm_cpuid2 *cpuid;
	struct error err = { 0 };

	must(kvm_supported_cpuid(m->vm.kvm_system, &cpuid), "kvm_supported_cpuid");
	must(vcpu_new(&host, 0, cpuid, &m->vm.vcpus[0], &err), err.message);
	must(kvm_vcpu_set_sregs(vcpu_kvm(m->vm.vcpus[0]), &sregs), "kvm_vcpu_set_sregs");
	m->vm.n_vcpus = 1;
	free(cpuid);
}

static void watch(struct machine *m)
{
	const struct watch_wish wish = { .mode = STORE_NORMAL };
	struct error err = { 0 };
	int fd;

	m->config.cpus.count = 1;
	fd = store_make_fd("dispatch", monitor_rings(&m->config), 1, STORE_RING_RECORDS);
	must(fd, "store_make_fd");
	must(monitor_new(&m->vm, fd, &m->monitor, &err), err.message);
	must(monitor_watch(m->monitor, m, &wish, &err), err.message);
	close(fd);
}

static void fill_read(struct kvm_run *run, void *ctx _unused_)
{
	run->exit_reason = KVM_EXIT_IO;
	run->io.direction = KVM_EXIT_IO_IN;
	run->io.size = 1;
	run->io.count = 1;
	run->io.port = PORT;
	run->io.data_offset = sizeof(*run);
	run->s.regs.regs.rip = RIP;
}

int main(int argc, char **argv)
{
	struct machine m = { .lock = PTHREAD_MUTEX_INITIALIZER,
			     .tap = { .before = tap_before, .after = tap_after } };
	struct kvm_fake_exit script = { .fill = fill_read };

	if (argc != 3 || (strcmp(argv[2], "none") != 0 && strcmp(argv[2], "tap") != 0 &&
			  strcmp(argv[2], "watch") != 0)) {
		fprintf(stderr, "usage: dispatch EXITS none|tap|watch\n");
		return 2;
	}
	script.times = strtoull(argv[1], NULL, 10);
	quiesce_init(&m.vm.quiesce);
	list_init(&m.vm.devices);
	m.vm.config = &m.config;
	m.vm.loop = loop_new(&clock_host);
	m.vm.bus = bus_new();
	m.vm.doorbells = doorbells_new(NULL);
	must(m.vm.loop && m.vm.bus && m.vm.doorbells ? 0 : -ENOMEM, "bus_new");
	must(kvm_open(-1, &m.vm.kvm_system), "kvm_open");
	must(kvm_vm_new(m.vm.kvm_system, &m.vm.kvm), "kvm_vm_new");
	must(memory_create(MIB(2), GIB(2), GIB(4), MEMORY_HUGE_OFF, -1, &m.vm.memory, NULL),
	     "memory_create");
	add_regions(&m);
	if (strcmp(argv[2], "tap") == 0)
		bus_add_tap(m.vm.bus, &m.tap);
	make_vcpu(&m);
	if (strcmp(argv[2], "watch") == 0)
		watch(&m);
	kvm_fake_script(vcpu_kvm(m.vm.vcpus[0]), &script, 1);
	must(vcpu_start(m.vm.vcpus[0], NULL), "vcpu_start");
	while (!kvm_fake_script_done(vcpu_kvm(m.vm.vcpus[0])))
		usleep(1000);
	vcpu_stop(m.vm.vcpus[0]);
	printf("%llu exits\n", (unsigned long long)vcpu_exits(m.vm.vcpus[0]));
	monitor_free(m.monitor);
	vcpu_free(m.vm.vcpus[0]);
	memory_free(m.vm.memory);
	doorbells_free(m.vm.doorbells);
	bus_free(m.vm.bus);
	loop_free(m.vm.loop);
	kvm_vm_free(m.vm.kvm);
	kvm_close(m.vm.kvm_system);
	return 0;
}
