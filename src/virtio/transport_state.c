/* SPDX-License-Identifier: Apache-2.0 */

/* The transport's state: its description, and the judgement of one that came from a stream. */

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "virtio/transport.h"

#define STATE_MUST_EQUAL(s, m, type_)                                                              \
	{                                                                                          \
		.name = #m, .type = type_, .offset = offsetof(s, m), .size = sizeof(((s *)0)->m),  \
		.count = 1, .since = 1, .must_equal = true                                         \
	}

static const struct state_field virtio_fields[] = {
	STATE_FIELD_STRUCT(struct virtio_state, pci, &pci_state_table),
	STATE_FIELD_KIND(struct virtio_state, device_features, STATE_U64, STATE_LOCAL),
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

/* A driver that has begun to look at what is offered may accept all of it. One that keeps no order may have left out DRIVER. */
static uint64_t used_features(const struct virtio_state *state)
{
	if (state->resetting)
		return 0;
	if (state->status & STATUS_FEATURES_OK)
		return state->driver_features;
	return state->status & STATUS_DRIVER ? state->device_features : 0;
}

static const char *words_of(const struct virtio_feature_words *words, uint64_t feature)
{
	for (; words && words->feature; words++)
		if (words->feature == feature)
			return words->words;
	return NULL;
}

static void add_words(const struct virtio_device *vdev, uint64_t feature, char *text, size_t size)
{
	static const struct virtio_feature_words common[] = {
		{ VIRTIO_F_INDIRECT_DESC, "indirect descriptors" },
		{ VIRTIO_F_EVENT_IDX, "event indices" },
		{ 0, NULL },
	};
	const char *words = words_of(vdev->ops->feature_words, feature);
	size_t len = strlen(text);

	if (!words)
		words = words_of(common, feature);
	if (words)
		snprintf(text + len, size - len, "%s%s", len ? ", " : "", words);
	else
		snprintf(text + len, size - len, "%sfeature %d", len ? ", " : "",
			 __builtin_ctzll(feature));
}

int transport_judge_features(const struct virtio_device *vdev, const struct virtio_state *loaded,
			     struct error *err)
{
	uint64_t missing = used_features(loaded) & ~vdev->offers;
	char text[200] = "";

	if (!missing)
		return 0;
	for (; missing; missing &= missing - 1)
		add_words(vdev, missing & -missing, text, sizeof(text));
	return error_set(err, -EOPNOTSUPP, EXIT_STATUS_RESOURCE,
			 "%s: the guest uses %s, which the device at the destination does not "
			 "offer; %s",
			 vdev->device.name, text,
			 vdev->ops->feature_way_out ? vdev->ops->feature_way_out
						    : "use the same version of the program");
}

static bool is_vector(const struct virtio_state *state, uint16_t vector)
{
	return vector == VIRTIO_NO_VECTOR || vector < state->pci.n_msix;
}

/* The parts of the registers that depend on each other. */
static bool registers_consistent(const struct virtio_state *s)
{
	if (s->n_queues > VIRTIO_QUEUES_MAX || s->config_len > sizeof(s->config) ||
	    !(s->device_features & VIRTIO_F_VERSION_1) || s->resetting > 1 ||
	    s->isr > (ISR_QUEUE | ISR_CONFIG))
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
