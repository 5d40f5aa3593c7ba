/* SPDX-License-Identifier: Apache-2.0 */
#include "bus/doorbell.h"

#include <stdlib.h>

#include "kvm/kvm.h"

struct doorbells {
	pthread_mutex_t lock; /* a leaf lock: only KVM is called while it is held */
	struct kvm_vm *vm;
	struct list all;
	bool enabled;
};

struct doorbells *doorbells_new(struct kvm_vm *vm)
{
	struct doorbells *doorbells = calloc(1, sizeof(*doorbells));

	if (!doorbells)
		return NULL;
	pthread_mutex_init(&doorbells->lock, NULL);
	list_init(&doorbells->all);
	doorbells->vm = vm;
	doorbells->enabled = true;
	return doorbells;
}

void doorbells_free(struct doorbells *doorbells)
{
	if (!doorbells)
		return;
	pthread_mutex_destroy(&doorbells->lock);
	free(doorbells);
}

static int tell_kvm(struct doorbells *doorbells, const struct doorbell *doorbell, bool arm)
{
	struct kvm_ioeventfd request = {
		.addr = doorbell->address,
		.len = doorbell->size,
		.fd = doorbell->event,
		.datamatch = doorbell->match ? doorbell->value : 0,
		.flags = (doorbell->match ? KVM_IOEVENTFD_FLAG_DATAMATCH : 0U) |
			 (doorbell->space == BUS_PIO ? KVM_IOEVENTFD_FLAG_PIO : 0U) |
			 (arm ? 0U : KVM_IOEVENTFD_FLAG_DEASSIGN),
	};

	return kvm_vm_ioeventfd(doorbells->vm, &request);
}

static void arm_locked(struct doorbells *doorbells, struct doorbell *doorbell)
{
	if (doorbells->vm && !doorbell->armed)
		doorbell->armed = tell_kvm(doorbells, doorbell, true) == 0;
}

static void disarm_locked(struct doorbells *doorbells, struct doorbell *doorbell)
{
	/* Taking away what was added cannot fail; were it to, the doorbell would still ring its eventfd. */
	if (doorbell->armed && tell_kvm(doorbells, doorbell, false) == 0)
		doorbell->armed = false;
}

void doorbell_add(struct doorbells *doorbells, struct doorbell *doorbell)
{
	pthread_mutex_lock(&doorbells->lock);
	doorbell->armed = false;
	list_append(&doorbells->all, &doorbell->link);
	if (doorbells->enabled)
		arm_locked(doorbells, doorbell);
	pthread_mutex_unlock(&doorbells->lock);
}

void doorbell_remove(struct doorbells *doorbells, struct doorbell *doorbell)
{
	pthread_mutex_lock(&doorbells->lock);
	disarm_locked(doorbells, doorbell);
	list_remove(&doorbell->link);
	pthread_mutex_unlock(&doorbells->lock);
}

void doorbells_enable(struct doorbells *doorbells, bool enable)
{
	struct list *item, *next;

	pthread_mutex_lock(&doorbells->lock);
	doorbells->enabled = enable;
	list_for_each(item, next, &doorbells->all) {
		struct doorbell *doorbell = container_of(item, struct doorbell, link);

		if (enable)
			arm_locked(doorbells, doorbell);
		else
			disarm_locked(doorbells, doorbell);
	}
	pthread_mutex_unlock(&doorbells->lock);
}
