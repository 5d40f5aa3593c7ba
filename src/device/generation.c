/* SPDX-License-Identifier: Apache-2.0 */
#include "device/generation.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define ID_SIZE 16

struct generation_state {
	uint64_t at;
	uint8_t id[ID_SIZE];
};

struct generation {
	struct device device;
	struct memory *memory;
	struct generation_state state; /* under device.lock */
};

static const struct state_field generation_fields[] = {
	{ .name = "at",
	  .type = STATE_U64,
	  .offset = offsetof(struct generation_state, at),
	  .size = sizeof(uint64_t),
	  .count = 1,
	  .since = 1,
	  .must_equal = true },
	STATE_FIELD_BYTES(struct generation_state, id),
};

static const struct state_table generation_table = {
	.name = "generation",
	.version = 1,
	.min_version = 1,
	.size = sizeof(struct generation_state),
	.fields = generation_fields,
	.n_fields = ARRAY_SIZE(generation_fields),
};

int generation_publish(struct device *device, struct error *err)
{
	const struct generation *generation = container_of(device, struct generation, device);
	int r = memory_write(generation->memory, gpa(generation->state.at), generation->state.id,
			     ID_SIZE);

	if (r < 0)
		return error_set(err, r, EXIT_STATUS_FAILED,
				 "generation: its 16 bytes at guest address 0x%llx are not RAM",
				 (unsigned long long)generation->state.at);
	return 0;
}

static void destroy(struct device *device)
{
	device_release(device);
	free(container_of(device, struct generation, device));
}

/* Nothing that the control thread calls writes the bytes: they are guest RAM. */
static const struct device_ops generation_ops = {
	.destroy = destroy,
};

int generation_renew(struct device *device, const uint8_t id[16], struct error *err)
{
	struct generation *generation = container_of(device, struct generation, device);

	memcpy(generation->state.id, id, ID_SIZE);
	device_touch(device);
	return generation_publish(device, err);
}

int generation_new(struct memory *memory, gpa_t at, const uint8_t id[16],
		   struct device **ret_device)
{
	struct generation *generation;

	/* Virtual Machine Generation ID, 3: aligned to 8 bytes, in RAM. */
	if (!IS_ALIGNED(at.v, 8) || !memory_contains(memory, at, ID_SIZE))
		return -EFAULT;
	generation = calloc(1, sizeof(*generation));
	if (!generation)
		return -ENOMEM;
	device_init(&generation->device, &generation_ops, "generation", &generation_table,
		    &generation->state);
	generation->memory = memory;
	generation->state.at = at.v;
	memcpy(generation->state.id, id, ID_SIZE);
	*ret_device = &generation->device;
	return 0;
}
