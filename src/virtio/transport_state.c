/* SPDX-License-Identifier: Apache-2.0 */

/* The transport's state: its description, and the judgement of one that came from a stream. */

#include <errno.h>

#include "virtio/transport.h"

#define STATE_MUST_EQUAL(s, m, type_)                                                              \
	{                                                                                          \
		.name = #m, .type = type_, .offset = offsetof(s, m), .size = sizeof(((s *)0)->m),  \
		.count = 1, .since = 1, .must_equal = true                                         \
	}

static const struct state_field virtio_fields[] = {
	STATE_FIELD_STRUCT(struct virtio_state, pci, &pci_state_table),
	STATE_MUST_EQUAL(struct virtio_state, device_features, STATE_U64),
	STATE_FIELD_U64(struct virtio_state, driver_features),
	STATE_FIELD_U32(struct virtio_state, device_feature_select),
	STATE_FIELD_U32(struct virtio_state, driver_feature_select),
	STATE_FIELD_U8(struct virtio_state, status),
	STATE_FIELD_U8(struct virtio_state, resetting),
	STATE_FIELD_U8(struct virtio_state, config_generation),
	STATE_FIELD_U8(struct virtio_state, isr),
	STATE_FIELD_U16(struct virtio_state, config_msix_vector),
	STATE_FIELD_U16(struct virtio_state, queue_select),
	STATE_MUST_EQUAL(struct virtio_state, config_len, STATE_U32),
	STATE_FIELD_BYTES(struct virtio_state, config),
	STATE_MUST_EQUAL(struct virtio_state, n_queues, STATE_U32),
	STATE_FIELD_STRUCTS(struct virtio_state, queues, &virtio_queue_state_table),
};

static int check_table(const void *state, struct error *err)
{
	return virtio_state_check(state, err);
}

const struct state_table virtio_state_table = {
	.name = "virtio",
	.version = 1,
	.min_version = 1,
	.size = sizeof(struct virtio_state),
	.fields = virtio_fields,
	.n_fields = ARRAY_SIZE(virtio_fields),
	.check = check_table,
};

static bool is_vector(const struct virtio_state *state, uint16_t vector)
{
	return vector == VIRTIO_NO_VECTOR || vector < state->pci.n_msix;
}

/* The parts of the registers that depend on each other. */
static bool registers_consistent(const struct virtio_state *s)
{
	if (s->n_queues > VIRTIO_QUEUES_MAX || s->config_len > sizeof(s->config) ||
	    s->resetting > 1 || s->isr > (ISR_QUEUE | ISR_CONFIG))
		return false;
	if (s->pci.n_msix != s->n_queues + 1 || !is_vector(s, s->config_msix_vector))
		return false;
	/* A driver may propose any features; only offered ones are ever accepted. */
	if ((s->status & STATUS_FEATURES_OK) && ((s->driver_features & ~s->device_features) ||
						 !(s->driver_features & VIRTIO_F_VERSION_1)))
		return false;
	return !(s->status & STATUS_DRIVER_OK) || (s->status & STATUS_FEATURES_OK);
}

int virtio_state_check(const struct virtio_state *state, struct error *err)
{
	if (!registers_consistent(state))
		return error_set(err, -EBADMSG, EXIT_STATUS_FAILED,
				 "virtio registers contradict each other; the stream is damaged");
	for (uint32_t i = 0; i < state->n_queues; i++) {
		const struct virtio_queue_state *q = &state->queues[i];
		bool active = q->enabled && (state->status & STATUS_DRIVER_OK);

		if (virtio_queue_state_check(q) < 0 || !is_vector(state, q->msix_vector) ||
		    (q->n_inflight && !active))
			return error_set(err, -EBADMSG, EXIT_STATUS_FAILED,
					 "virtio queue %u cannot be so; the stream is damaged", i);
	}
	return 0;
}
