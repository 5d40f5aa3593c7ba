/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <string.h>

#include "base/fd.h"
#include "net/iov.h"
#include "virtio/net_internal.h"

/* Commands of the control queue (virtio 1.2, 5.1.6.5): class, command, data; then one byte of answer. */
#define ACK_OK 0
#define ACK_ERROR 1
#define COMMAND_DATA_MAX 8
#define COMMANDS_PER_TURN 16

struct command_head {
	uint8_t class, command;
};

/* 0: done; 1: done once every pair has applied it; -EINVAL: refused. */
struct command_kind {
	uint8_t class, command;
	uint8_t data_len; /* bytes, exactly */
	uint64_t feature;
	int (*run)(struct virtio_net *vn, const uint8_t *data);
};

static int set_mac(struct virtio_net *vn, const uint8_t *data)
{
	virtio_config_update(&vn->vdev, offsetof(struct net_config_space, mac), data, 6);
	return 0;
}

static int acknowledge_announce(struct virtio_net *vn, const uint8_t *data _unused_)
{
	net_status_change(vn, 0, STATUS_ANNOUNCE);
	return 0;
}

static int set_pairs(struct virtio_net *vn, const uint8_t *data)
{
	uint16_t pairs = (uint16_t)le_load(data, 2);

	if (pairs < 1 || pairs > vn->n_pairs)
		return -EINVAL;
	__atomic_store_n(&vn->state.pairs, pairs, __ATOMIC_RELEASE);
	__atomic_add_fetch(&vn->serial, 1, __ATOMIC_RELEASE);
	for (unsigned int i = 0; i < vn->n_pairs; i++)
		fd_signal_event(vn->pairs[i]->poke.fd);
	return 1;
}

static int set_offloads(struct virtio_net *vn, const uint8_t *data)
{
	uint64_t offloads = le_load(data, 8);

	if (offloads & ~(vn->state.virtio.driver_features & NET_F_GUEST_OFFLOADS))
		return -EINVAL;
	/* Segments without checksums make no sense to any back end. */
	if (offloads && !(offloads & NET_F_GUEST_CSUM))
		return -EINVAL;
	__atomic_store_n(&vn->state.guest_offloads, offloads, __ATOMIC_RELAXED);
	return net_offloads_apply(vn);
}

static const struct command_kind kinds[] = {
	{ 1, 1, 6, NET_F_CTRL_MAC_ADDR, set_mac },
	{ 3, 0, 0, NET_F_GUEST_ANNOUNCE, acknowledge_announce },
	{ 4, 0, 2, NET_F_MQ, set_pairs },
	{ 5, 0, 8, NET_F_CTRL_GUEST_OFFLOADS, set_offloads },
};

static const struct command_kind *find_kind(struct virtio_net *vn, const struct command_head *head)
{
	for (size_t i = 0; i < ARRAY_SIZE(kinds); i++)
		if (kinds[i].class == head->class && kinds[i].command == head->command)
			return virtio_has_feature(&vn->vdev, kinds[i].feature) ? &kinds[i] : NULL;
	return NULL;
}

static int run_command(struct virtio_net *vn, const struct virtio_chain *chain)
{
	uint8_t data[COMMAND_DATA_MAX] = { 0 };
	const struct command_kind *kind;
	struct command_head head;

	net_iov_read(chain->iov, chain->n_out, 0, &head, sizeof(head));
	net_iov_read(chain->iov, chain->n_out, sizeof(head), data, sizeof(data));
	kind = find_kind(vn, &head);
	if (!kind || chain->out_len != sizeof(head) + kind->data_len)
		return -EINVAL;
	return kind->run(vn, data);
}

static void answer(struct virtio_vq *vq, struct virtio_chain *chain, uint8_t ack)
{
	net_iov_write(virtio_chain_in(chain), chain->n_in, 0, &ack, sizeof(ack));
	virtio_queue_push(&vq->queue, chain, sizeof(ack));
	virtio_queue_signal(vq);
}

/* -EPROTO when there is no room for a command or its answer. */
static int serve(struct virtio_vq *vq)
{
	struct virtio_net *vn = virtio_net_of(vq->vdev);
	struct virtio_chain *chain = &vn->command;
	int r;

	if (chain->out_len < sizeof(struct command_head) || chain->in_len < 1)
		return -EPROTO;
	r = run_command(vn, chain);
	vn->command_waits = r == 1;
	if (r != 1)
		answer(vq, chain, r < 0 ? ACK_ERROR : ACK_OK);
	return 0;
}

static bool all_applied(struct virtio_net *vn)
{
	uint32_t serial = __atomic_load_n(&vn->serial, __ATOMIC_ACQUIRE);

	for (unsigned int i = 0; i < vn->n_pairs; i++)
		if (__atomic_load_n(&vn->pairs[i]->applied, __ATOMIC_ACQUIRE) != serial)
			return false;
	return true;
}

static int serve_some(struct virtio_vq *vq)
{
	struct virtio_net *vn = virtio_net_of(vq->vdev);

	for (unsigned int i = 0; i < COMMANDS_PER_TURN; i++) {
		int r;

		if (vn->command_waits && !all_applied(vn))
			return 0;
		if (vn->command_waits)
			answer(vq, &vn->command, ACK_OK);
		vn->command_waits = false;
		r = virtio_queue_pop(&vq->queue, &vn->command);
		if (r == 0 && virtio_queue_enable_kicks(&vq->queue))
			continue;
		if (r == 1)
			r = serve(vq);
		else if (r == 0)
			return 0;
		if (r < 0)
			return r;
	}
	virtio_queue_again(vq);
	return 0;
}

static void control_kicked(struct virtio_vq *vq)
{
	if (serve_some(vq) < 0)
		virtio_device_broken(vq->vdev);
}

/* A command that waited when the state was saved runs again: each can be repeated. */
static int control_started(struct virtio_vq *vq)
{
	struct virtio_net *vn = virtio_net_of(vq->vdev);
	int r = 0;

	vn->command_waits = false;
	__atomic_store_n(&vn->control, vq, __ATOMIC_RELEASE);
	if (vq->queue.state->n_inflight > 1)
		return -EPROTO;
	if (vq->queue.state->n_inflight == 1)
		r = virtio_queue_refetch(&vq->queue, 0, &vn->command);
	return r == 0 && vq->queue.state->n_inflight ? serve(vq) : r;
}

static void control_stopping(struct virtio_vq *vq)
{
	struct virtio_net *vn = virtio_net_of(vq->vdev);

	vn->command_waits = false;
	__atomic_store_n(&vn->control, NULL, __ATOMIC_RELEASE);
	virtio_queue_idle(vq);
}

const struct net_role net_control_role = {
	.started = control_started,
	.kicked = control_kicked,
	.stopping = control_stopping,
};
