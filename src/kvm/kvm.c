/* SPDX-License-Identifier: Apache-2.0 */
#include "kvm/kvm.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/mman.h>

#include "base/cleanup.h"
#include "base/fd.h"

#define CPUID_ENTRIES_MAX 256
#define MSRS_MAX 1024

struct kvm_system {
	int fd;
	size_t run_size; /* bytes of a vCPU's shared page(s) */
};

struct kvm_vm {
	struct kvm_system *system;
	int fd;
};

struct kvm_vcpu {
	int fd;
	struct kvm_run *run;
	size_t run_size;
	struct kvm_dirty_gfn *ring;
	size_t ring_size;
};

static int call(int fd, unsigned long request, const void *arg)
{
	int r;

	do {
		r = ioctl(fd, request, arg);
	} while (r < 0 && errno == EINTR);
	return r < 0 ? -errno : r;
}

/* For calls whose success has one value only. */
static int call_void(int fd, unsigned long request, const void *arg)
{
	int r = call(fd, request, arg);

	return r < 0 ? r : 0;
}

int kvm_open(int fd, struct kvm_system **ret_system)
{
	_cleanup_(fd_closep) int owned = fd;
	struct kvm_system *system;
	int size;

	if (owned < 0)
		owned = open("/dev/kvm", O_RDWR | O_CLOEXEC);
	if (owned < 0)
		return -errno;
	if (ioctl(owned, KVM_GET_API_VERSION, 0) != KVM_API_VERSION)
		return -ENOTSUP;
	size = ioctl(owned, KVM_GET_VCPU_MMAP_SIZE, 0);
	if (size < (int)sizeof(struct kvm_run))
		return -ENOTSUP;
	system = calloc(1, sizeof(*system));
	if (!system)
		return -ENOMEM;
	system->run_size = (size_t)size;
	system->fd = TAKE_FD(owned);
	*ret_system = system;
	return 0;
}

void kvm_close(struct kvm_system *system)
{
	if (!system)
		return;
	fd_close(system->fd);
	free(system);
}

int kvm_check(struct kvm_system *system, int capability)
{
	int r = ioctl(system->fd, KVM_CHECK_EXTENSION, capability);

	return r < 0 ? 0 : r;
}

int kvm_vm_check(struct kvm_vm *vm, int capability)
{
	int r = ioctl(vm->fd, KVM_CHECK_EXTENSION, capability);

	return r < 0 ? 0 : r;
}

int kvm_supported_cpuid(struct kvm_system *system, struct kvm_cpuid2 **ret)
{
	struct kvm_cpuid2 *cpuid;
	int r;

	cpuid = calloc(1, sizeof(*cpuid) + CPUID_ENTRIES_MAX * sizeof(cpuid->entries[0]));
	if (!cpuid)
		return -ENOMEM;
	cpuid->nent = CPUID_ENTRIES_MAX;
	r = call(system->fd, KVM_GET_SUPPORTED_CPUID, cpuid);
	if (r < 0) {
		free(cpuid);
		return r;
	}
	*ret = cpuid;
	return 0;
}

int kvm_msr_list(struct kvm_system *system, struct kvm_msr_list **ret)
{
	struct kvm_msr_list *list = calloc(1, sizeof(*list) + MSRS_MAX * sizeof(uint32_t));
	int r;

	if (!list)
		return -ENOMEM;
	list->nmsrs = MSRS_MAX;
	r = call(system->fd, KVM_GET_MSR_INDEX_LIST, list);
	if (r < 0) {
		free(list);
		return r;
	}
	*ret = list;
	return 0;
}

union one_msr {
	struct kvm_msrs msrs;
	char bytes[sizeof(struct kvm_msrs) + sizeof(struct kvm_msr_entry)];
};

int kvm_feature_msr(struct kvm_system *system, uint32_t index, uint64_t *ret_value)
{
	union one_msr request = { .msrs = { .nmsrs = 1 } };
	int r;

	request.msrs.entries[0].index = index;
	r = call(system->fd, KVM_GET_MSRS, &request);
	if (r != 1)
		return r < 0 ? r : -ENOENT;
	*ret_value = request.msrs.entries[0].data;
	return 0;
}

int kvm_vm_new(struct kvm_system *system, struct kvm_vm **ret_vm)
{
	struct kvm_vm *vm = calloc(1, sizeof(*vm));

	if (!vm)
		return -ENOMEM;
	vm->system = system;
	vm->fd = call(system->fd, KVM_CREATE_VM, 0);
	if (vm->fd < 0) {
		int r = vm->fd;

		free(vm);
		return r;
	}
	fcntl(vm->fd, F_SETFD, FD_CLOEXEC);
	*ret_vm = vm;
	return 0;
}

void kvm_vm_free(struct kvm_vm *vm)
{
	if (!vm)
		return;
	fd_close(vm->fd);
	free(vm);
}

int kvm_vm_enable(struct kvm_vm *vm, uint32_t capability, const uint64_t args[4])
{
	struct kvm_enable_cap cap = { .cap = capability };

	for (int i = 0; i < 4; i++)
		cap.args[i] = args[i];
	return call_void(vm->fd, KVM_ENABLE_CAP, &cap);
}

int kvm_vm_set_memory(struct kvm_vm *vm, uint32_t slot, uint32_t flags, uint64_t gpa, uint64_t len,
		      void *host)
{
	struct kvm_userspace_memory_region region = {
		.slot = slot,
		.flags = flags,
		.guest_phys_addr = gpa,
		.memory_size = len,
		.userspace_addr = (uintptr_t)host,
	};

	return call_void(vm->fd, KVM_SET_USER_MEMORY_REGION, &region);
}

int kvm_vm_set_tss(struct kvm_vm *vm, uint32_t gpa)
{
	return call_void(vm->fd, KVM_SET_TSS_ADDR, (void *)(uintptr_t)gpa);
}

int kvm_vm_set_identity_map(struct kvm_vm *vm, uint64_t gpa)
{
	return call_void(vm->fd, KVM_SET_IDENTITY_MAP_ADDR, &gpa);
}

int kvm_vm_get_dirty_log(struct kvm_vm *vm, uint32_t slot, void *bitmap)
{
	struct kvm_dirty_log log = { .slot = slot, .dirty_bitmap = bitmap };

	return call_void(vm->fd, KVM_GET_DIRTY_LOG, &log);
}

int kvm_vm_clear_dirty_log(struct kvm_vm *vm, uint32_t slot, uint64_t first_page, uint32_t n_pages,
			   void *bitmap)
{
	struct kvm_clear_dirty_log log = {
		.slot = slot,
		.first_page = first_page,
		.num_pages = n_pages,
		.dirty_bitmap = bitmap,
	};

	return call_void(vm->fd, KVM_CLEAR_DIRTY_LOG, &log);
}

int kvm_vm_reset_dirty_rings(struct kvm_vm *vm)
{
	return call_void(vm->fd, KVM_RESET_DIRTY_RINGS, 0);
}

int kvm_vm_ioeventfd(struct kvm_vm *vm, const struct kvm_ioeventfd *request)
{
	return call_void(vm->fd, KVM_IOEVENTFD, request);
}

int kvm_vm_signal_msi(struct kvm_vm *vm, const struct kvm_msi *msi)
{
	return call(vm->fd, KVM_SIGNAL_MSI, msi);
}

int kvm_vm_set_routing(struct kvm_vm *vm, const struct kvm_irq_routing *routing)
{
	return call_void(vm->fd, KVM_SET_GSI_ROUTING, routing);
}

int kvm_vm_get_clock(struct kvm_vm *vm, struct kvm_clock_data *ret)
{
	return call_void(vm->fd, KVM_GET_CLOCK, ret);
}

int kvm_vm_set_clock(struct kvm_vm *vm, const struct kvm_clock_data *clock)
{
	return call_void(vm->fd, KVM_SET_CLOCK, clock);
}

int kvm_vcpu_new(struct kvm_vm *vm, uint32_t id, struct kvm_vcpu **ret_vcpu)
{
	struct kvm_vcpu *vcpu = calloc(1, sizeof(*vcpu));
	int r;

	if (!vcpu)
		return -ENOMEM;
	vcpu->run_size = vm->system->run_size;
	vcpu->fd = call(vm->fd, KVM_CREATE_VCPU, (void *)(uintptr_t)id);
	if (vcpu->fd < 0) {
		r = vcpu->fd;
		free(vcpu);
		return r;
	}
	fcntl(vcpu->fd, F_SETFD, FD_CLOEXEC);
	vcpu->run = mmap(NULL, vcpu->run_size, PROT_READ | PROT_WRITE, MAP_SHARED, vcpu->fd, 0);
	if (vcpu->run == MAP_FAILED) {
		r = -errno;
		vcpu->run = NULL;
		kvm_vcpu_free(vcpu);
		return r;
	}
	*ret_vcpu = vcpu;
	return 0;
}

void kvm_vcpu_free(struct kvm_vcpu *vcpu)
{
	if (!vcpu)
		return;
	if (vcpu->ring)
		munmap(vcpu->ring, vcpu->ring_size);
	if (vcpu->run)
		munmap(vcpu->run, vcpu->run_size);
	fd_close(vcpu->fd);
	free(vcpu);
}

struct kvm_run *kvm_vcpu_run_page(struct kvm_vcpu *vcpu)
{
	return vcpu->run;
}

int kvm_vcpu_run(struct kvm_vcpu *vcpu)
{
	return ioctl(vcpu->fd, KVM_RUN, 0) < 0 ? -errno : 0;
}

int kvm_vcpu_map_dirty_ring(struct kvm_vcpu *vcpu, size_t bytes, struct kvm_dirty_gfn **ret_ring)
{
	void *ring = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, vcpu->fd,
			  (off_t)KVM_DIRTY_LOG_PAGE_OFFSET * 4096);

	if (ring == MAP_FAILED)
		return -errno;
	vcpu->ring = ring;
	vcpu->ring_size = bytes;
	*ret_ring = ring;
	return 0;
}

/* Each of these is one call with one struct. */
#define VCPU_GET(name, type, request)                                                              \
	int kvm_vcpu_get_##name(struct kvm_vcpu *vcpu, type *ret)                                  \
	{                                                                                          \
		return call_void(vcpu->fd, request, ret);                                          \
	}
#define VCPU_SET(name, type, request)                                                              \
	int kvm_vcpu_set_##name(struct kvm_vcpu *vcpu, const type *value)                          \
	{                                                                                          \
		return call_void(vcpu->fd, request, value);                                        \
	}

VCPU_SET(cpuid, struct kvm_cpuid2, KVM_SET_CPUID2)
VCPU_GET(regs, struct kvm_regs, KVM_GET_REGS)
VCPU_SET(regs, struct kvm_regs, KVM_SET_REGS)
VCPU_GET(sregs, struct kvm_sregs, KVM_GET_SREGS)
VCPU_SET(sregs, struct kvm_sregs, KVM_SET_SREGS)
VCPU_GET(xcrs, struct kvm_xcrs, KVM_GET_XCRS)
VCPU_SET(xcrs, struct kvm_xcrs, KVM_SET_XCRS)
VCPU_GET(debugregs, struct kvm_debugregs, KVM_GET_DEBUGREGS)
VCPU_SET(debugregs, struct kvm_debugregs, KVM_SET_DEBUGREGS)
VCPU_GET(lapic, struct kvm_lapic_state, KVM_GET_LAPIC)
VCPU_SET(lapic, struct kvm_lapic_state, KVM_SET_LAPIC)
VCPU_GET(events, struct kvm_vcpu_events, KVM_GET_VCPU_EVENTS)
VCPU_SET(events, struct kvm_vcpu_events, KVM_SET_VCPU_EVENTS)
VCPU_GET(mp_state, struct kvm_mp_state, KVM_GET_MP_STATE)
VCPU_SET(mp_state, struct kvm_mp_state, KVM_SET_MP_STATE)

int kvm_vcpu_get_xsave(struct kvm_vcpu *vcpu, void *area, size_t size)
{
	unsigned long request = size > sizeof(struct kvm_xsave) ? KVM_GET_XSAVE2 : KVM_GET_XSAVE;

	return call_void(vcpu->fd, request, area);
}

int kvm_vcpu_set_xsave(struct kvm_vcpu *vcpu, const void *area, size_t size _unused_)
{
	return call_void(vcpu->fd, KVM_SET_XSAVE, area);
}

int kvm_vcpu_get_msrs(struct kvm_vcpu *vcpu, struct kvm_msrs *msrs)
{
	return call(vcpu->fd, KVM_GET_MSRS, msrs);
}

int kvm_vcpu_set_msrs(struct kvm_vcpu *vcpu, const struct kvm_msrs *msrs)
{
	return call(vcpu->fd, KVM_SET_MSRS, msrs);
}

int kvm_vcpu_get_tsc_khz(struct kvm_vcpu *vcpu, uint32_t *ret_khz)
{
	int r = call(vcpu->fd, KVM_GET_TSC_KHZ, 0);

	if (r < 0)
		return r;
	*ret_khz = (uint32_t)r;
	return 0;
}

int kvm_vcpu_set_tsc_khz(struct kvm_vcpu *vcpu, uint32_t khz)
{
	return call_void(vcpu->fd, KVM_SET_TSC_KHZ, (void *)(uintptr_t)khz);
}

static struct kvm_device_attr tsc_offset_attr(uint64_t *value)
{
	return (struct kvm_device_attr){
		.group = KVM_VCPU_TSC_CTRL,
		.attr = KVM_VCPU_TSC_OFFSET,
		.addr = (uintptr_t)value,
	};
}

int kvm_vcpu_get_tsc_offset(struct kvm_vcpu *vcpu, uint64_t *ret_offset)
{
	struct kvm_device_attr attr = tsc_offset_attr(ret_offset);

	return call_void(vcpu->fd, KVM_GET_DEVICE_ATTR, &attr);
}

int kvm_vcpu_set_tsc_offset(struct kvm_vcpu *vcpu, uint64_t offset)
{
	struct kvm_device_attr attr = tsc_offset_attr(&offset);

	return call_void(vcpu->fd, KVM_SET_DEVICE_ATTR, &attr);
}

int kvm_vcpu_kvmclock_ctrl(struct kvm_vcpu *vcpu)
{
	return call_void(vcpu->fd, KVM_KVMCLOCK_CTRL, 0);
}

int kvm_vcpu_set_guest_debug(struct kvm_vcpu *vcpu, const struct kvm_guest_debug *debug)
{
	return call_void(vcpu->fd, KVM_SET_GUEST_DEBUG, debug);
}

int kvm_vcpu_translate(struct kvm_vcpu *vcpu, uint64_t linear, uint64_t *ret_physical)
{
	struct kvm_translation translation = { .linear_address = linear };
	int r = call_void(vcpu->fd, KVM_TRANSLATE, &translation);

	if (r < 0)
		return r;
	if (!translation.valid)
		return -EFAULT;
	*ret_physical = translation.physical_address;
	return 0;
}

int kvm_vcpu_interrupt(struct kvm_vcpu *vcpu, uint32_t vector)
{
	struct kvm_interrupt interrupt = { .irq = vector };

	return call_void(vcpu->fd, KVM_INTERRUPT, &interrupt);
}
