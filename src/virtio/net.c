/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>

#include "base/cleanup.h"
#include "base/fd.h"
#include "virtio/net_internal.h"

#define QUEUE_SIZE 1024

/* ---- state ---- */

static const struct state_field net_fields[] = {
	STATE_FIELD_STRUCT(struct virtio_net_state, virtio, &virtio_state_table),
	STATE_FIELD_U16(struct virtio_net_state, pairs),
	STATE_FIELD_U64(struct virtio_net_state, guest_offloads),
};

static int check_state(const void *untrusted, struct error *err)
{
	const struct virtio_net_state *state = untrusted;
	int r = virtio_state_check(&state->virtio, err);

	if (r < 0)
		return r;
	if (state->pairs < 1 || state->pairs > (state->virtio.n_queues - 1) / 2)
		return error_set(err, -EBADMSG, EXIT_STATUS_FAILED,
				 "virtio-net: %u queue pairs in use; the stream is damaged",
				 state->pairs);
	if (state->guest_offloads & ~(state->virtio.driver_features & NET_F_GUEST_OFFLOADS))
		return error_set(
			err, -EBADMSG, EXIT_STATUS_FAILED,
			"virtio-net: offloads that were not negotiated; the stream is damaged");
	return 0;
}

static const struct state_table net_table = {
	.name = "virtio-net",
	.version = 1,
	.min_version = 1,
	.size = sizeof(struct virtio_net_state),
	.fields = net_fields,
	.n_fields = ARRAY_SIZE(net_fields),
	.check = check_state,
};

/* ---- features ---- */

/* A feature, and those of which at least one must be there too (virtio 1.2, 5.1.3.1). */
static const struct {
	uint64_t feature, any_of;
} requirements[] = {
	{ NET_F_GUEST_TSO4, NET_F_GUEST_CSUM },
	{ NET_F_GUEST_TSO6, NET_F_GUEST_CSUM },
	{ NET_F_GUEST_UFO, NET_F_GUEST_CSUM },
	{ NET_F_GUEST_ECN, NET_F_GUEST_TSO4 | NET_F_GUEST_TSO6 },
	{ NET_F_HOST_TSO4, NET_F_CSUM },
	{ NET_F_HOST_TSO6, NET_F_CSUM },
	{ NET_F_HOST_UFO, NET_F_CSUM },
	{ NET_F_HOST_ECN, NET_F_HOST_TSO4 | NET_F_HOST_TSO6 },
	{ NET_F_GUEST_ANNOUNCE, NET_F_CTRL_VQ },
	{ NET_F_MQ, NET_F_CTRL_VQ },
	{ NET_F_CTRL_MAC_ADDR, NET_F_CTRL_VQ },
	{ NET_F_CTRL_GUEST_OFFLOADS, NET_F_CTRL_VQ },
};

/* What a back end's offload means to the driver, for frames that it sends and that it receives. */
static const struct {
	uint32_t offload;
	uint64_t host, guest;
} offload_features[] = {
	{ NET_OFFLOAD_CSUM, NET_F_CSUM, NET_F_GUEST_CSUM },
	{ NET_OFFLOAD_TSO4, NET_F_HOST_TSO4, NET_F_GUEST_TSO4 },
	{ NET_OFFLOAD_TSO6, NET_F_HOST_TSO6, NET_F_GUEST_TSO6 },
	{ NET_OFFLOAD_ECN, NET_F_HOST_ECN, NET_F_GUEST_ECN },
	{ NET_OFFLOAD_UFO, NET_F_HOST_UFO, NET_F_GUEST_UFO },
};

static uint64_t features_of(const struct net *net)
{
	uint64_t features = NET_F_MAC | NET_F_STATUS | NET_F_MRG_RXBUF | NET_F_CTRL_VQ |
			    NET_F_CTRL_MAC_ADDR | NET_F_GUEST_ANNOUNCE;

	for (size_t i = 0; i < ARRAY_SIZE(offload_features); i++)
		if (net->offloads & offload_features[i].offload)
			features |= offload_features[i].host | offload_features[i].guest;
	if (net->offloads & NET_OFFLOAD_CSUM)
		features |= NET_F_CTRL_GUEST_OFFLOADS;
	if (net->mtu)
		features |= NET_F_MTU;
	if (net->queue_pairs > 1)
		features |= NET_F_MQ;
	return features;
}

int net_offloads_apply(struct virtio_net *vn)
{
	uint64_t features = __atomic_load_n(&vn->state.guest_offloads, __ATOMIC_RELAXED);
	uint32_t offloads = 0;

	for (size_t i = 0; i < ARRAY_SIZE(offload_features); i++)
		if (features & offload_features[i].guest)
			offloads |= offload_features[i].offload;
	return vn->net->ops->set_offloads(vn->net, offloads);
}

/* One pair, and nothing negotiated. */
static void net_reset(struct virtio_device *vdev)
{
	struct virtio_net *vn = virtio_net_of(vdev);

	__atomic_store_n(&vn->state.pairs, 1, __ATOMIC_RELEASE);
	__atomic_store_n(&vn->state.guest_offloads, 0, __ATOMIC_RELAXED);
}

static int net_negotiated(struct virtio_device *vdev, uint64_t features)
{
	struct virtio_net *vn = virtio_net_of(vdev);

	for (size_t i = 0; i < ARRAY_SIZE(requirements); i++)
		if ((features & requirements[i].feature) && !(features & requirements[i].any_of))
			return -EINVAL;
	/* A new driver begins with all that it negotiated, and the MAC address as configured. */
	__atomic_store_n(&vn->state.guest_offloads, features & NET_F_GUEST_OFFLOADS,
			 __ATOMIC_RELAXED);
	memcpy(vdev->state->config, vn->mac, sizeof(vn->mac));
	return 0;
}

/* ---- configuration space ---- */

void net_status_change(struct virtio_net *vn, uint16_t set, uint16_t clear)
{
	uint16_t status;

	__atomic_fetch_or(&vn->status, set, __ATOMIC_ACQ_REL);
	__atomic_fetch_and(&vn->status, (uint16_t)~clear, __ATOMIC_ACQ_REL);
	/* Of several threads here at once, the last to write has seen all changes. */
	do {
		le16_t wire;

		status = __atomic_load_n(&vn->status, __ATOMIC_ACQUIRE);
		wire = le16_make(status);
		virtio_config_update(&vn->vdev, offsetof(struct net_config_space, status), &wire,
				     sizeof(wire));
	} while (status != __atomic_load_n(&vn->status, __ATOMIC_ACQUIRE));
}

int virtio_net_announce(struct device *device)
{
	struct virtio_net *vn = virtio_net_of(container_of(device, struct virtio_device, device));
	uint64_t needed = NET_F_GUEST_ANNOUNCE | NET_F_STATUS;
	bool able;

	pthread_mutex_lock(&device->lock);
	able = virtio_driver_ok(&vn->vdev) && (vn->state.virtio.driver_features & needed) == needed;
	pthread_mutex_unlock(&device->lock);
	if (!able)
		return -EOPNOTSUPP;
	net_status_change(vn, STATUS_ANNOUNCE, 0);
	return 0;
}

void virtio_net_own_mac(struct device *device)
{
	struct virtio_net *vn = virtio_net_of(container_of(device, struct virtio_device, device));

	virtio_config_update(&vn->vdev, offsetof(struct net_config_space, mac), vn->mac,
			     sizeof(vn->mac));
}

void virtio_net_mac(struct device *device, uint8_t ret_mac[6])
{
	struct virtio_net *vn = virtio_net_of(container_of(device, struct virtio_device, device));

	pthread_mutex_lock(&device->lock);
	memcpy(ret_mac, vn->state.virtio.config, 6);
	pthread_mutex_unlock(&device->lock);
}

/* ---- pairs ---- */

void net_pair_gone(struct net_pair *pair)
{
	if (pair->gone)
		return;
	pair->gone = true;
	__atomic_store_n(&pair->vn->gone, true, __ATOMIC_RELEASE);
	net_want_readable(pair->queue, false);
	net_status_change(pair->vn, 0, STATUS_LINK_UP);
}

void net_pair_apply(struct net_pair *pair)
{
	struct virtio_net *vn = pair->vn;
	uint32_t serial = __atomic_load_n(&vn->serial, __ATOMIC_ACQUIRE);
	bool active = pair->index == 0 ||
		      (pair->rx_vq &&
		       pair->index < __atomic_load_n(&vn->state.pairs, __ATOMIC_ACQUIRE));

	/* The net refuses only when it has vanished: then no frames come either. */
	if (active != pair->active && net_queue_set_active(pair->queue, active) == 0)
		pair->active = active;
	__atomic_store_n(&pair->applied, serial, __ATOMIC_RELEASE);
}

static void pair_readable(void *ctx)
{
	net_rx_run(ctx);
}

static void pair_writable(void *ctx)
{
	struct net_pair *pair = ctx;

	pair->tx_blocked = false;
	net_tx_run(pair);
}

static void pair_gone(void *ctx, int error _unused_)
{
	net_pair_gone(ctx);
}

/* The queue index of the control queue (virtio 1.2, 5.1.2): behind as many pairs as the driver knows of. */
static unsigned int control_index(const struct virtio_net *vn)
{
	return virtio_has_feature(&vn->vdev, NET_F_MQ) ? 2 * vn->n_pairs : 2;
}

static void pair_poked(struct loop_watch *watch, uint32_t events _unused_)
{
	struct net_pair *pair = container_of(watch, struct net_pair, poke);

	struct virtio_vq *control;

	fd_clear_event(watch->fd);
	net_arrival_poked(pair);
	net_pair_apply(pair);
	control = __atomic_load_n(&pair->vn->control, __ATOMIC_ACQUIRE);
	if (control)
		virtio_queue_again(control);
	net_rx_run(pair);
}

struct pair_job {
	struct net_pair *pair;
	int result;
};

static void open_on_worker(void *arg)
{
	struct pair_job *job = arg;
	struct net_pair *pair = job->pair;
	struct net_events events = { pair_readable, pair_writable, pair_gone, pair };
	struct loop *loop = worker_loop(pair->worker);

	job->result = net_queue_open(pair->vn->net, pair->index, loop, &events, &pair->queue);
	if (job->result < 0)
		return;
	pair->active = true;
	net_pair_apply(pair);
	job->result = loop_add(loop, &pair->poke);
}

static void close_on_worker(void *arg)
{
	struct pair_job *job = arg;
	struct net_pair *pair = job->pair;

	loop_timer_cancel(&pair->arrival);
	loop_remove(worker_loop(pair->worker), &pair->poke);
	net_queue_close(TAKE_PTR(pair->queue));
}

static void close_pairs(struct virtio_net *vn)
{
	for (unsigned int i = 0; i < vn->n_pairs; i++) {
		struct pair_job job = { .pair = vn->pairs[i] };

		if (job.pair->queue)
			worker_call(job.pair->worker, close_on_worker, &job);
	}
}

static int net_start(struct virtio_device *vdev, struct error *err)
{
	struct virtio_net *vn = virtio_net_of(vdev);

	for (unsigned int i = 0; i < vn->n_pairs; i++) {
		struct pair_job job = { .pair = vn->pairs[i] };

		worker_call(job.pair->worker, open_on_worker, &job);
		if (job.result < 0)
			return error_set(err, job.result, EXIT_STATUS_HOST,
					 "%s: queue pair %u cannot be opened: %s",
					 vdev->device.name, i, strerror(-job.result));
	}
	return 0;
}

static void net_stop(struct virtio_device *vdev)
{
	close_pairs(virtio_net_of(vdev));
}

/* ---- the queues' life, by role ---- */

static const struct net_role no_role;

static const struct net_role *role_of(struct virtio_vq *vq)
{
	struct virtio_net *vn = virtio_net_of(vq->vdev);
	unsigned int control = control_index(vn);

	if (vq->index == control && virtio_has_feature(vq->vdev, NET_F_CTRL_VQ))
		return &net_control_role;
	if (vq->index >= control)
		return &no_role; /* a queue that the negotiated features do not know */
	if (vn->vhost)
		return &net_vhost_role;
	return vq->index % 2 ? &net_tx_role : &net_rx_role;
}

static int net_queue_started(struct virtio_vq *vq)
{
	struct virtio_net *vn = virtio_net_of(vq->vdev);
	const struct net_role *role = role_of(vq);

	/* It plays this role until it is idle, also when a load changes the features under it. */
	vn->roles[vq->index] = role;
	vq->owner = vq->index / 2 < vn->n_pairs ? vn->pairs[vq->index / 2] : NULL;
	return role->started ? role->started(vq) : 0;
}

static void net_queue_kicked(struct virtio_vq *vq)
{
	const struct net_role *role = virtio_net_of(vq->vdev)->roles[vq->index];

	if (role->kicked)
		role->kicked(vq);
}

static void net_queue_stopping(struct virtio_vq *vq)
{
	const struct net_role *role = virtio_net_of(vq->vdev)->roles[vq->index];

	if (role->stopping)
		role->stopping(vq);
	else
		virtio_queue_idle(vq);
}

/* Longer frames than the network here takes would be lost, one by one and silently. */
static int net_judge(struct virtio_device *vdev, const struct virtio_state *loaded,
		     struct error *err)
{
	const struct net *net = virtio_net_of(vdev)->net;
	unsigned int told =
		(unsigned int)le_load(loaded->config + offsetof(struct net_config_space, mtu), 2);

	if (!(vdev->offers & loaded->device_features & NET_F_MTU) || net->mtu >= told)
		return 0;
	return error_set(
		err, -EINVAL, EXIT_STATUS_RESOURCE,
		"%s: the guest was told that the network takes packets of %u bytes, at the "
		"destination it takes %u; set the MTU of both taps alike (ip link set mtu)",
		vdev->device.name, told, net->mtu);
}

static int net_after_load(struct virtio_device *vdev, struct error *err _unused_)
{
	struct virtio_net *vn = virtio_net_of(vdev);
	uint16_t loaded = (uint16_t)le_load(
		vdev->state->config + offsetof(struct net_config_space, status), 2);
	bool gone = __atomic_load_n(&vn->gone, __ATOMIC_ACQUIRE);

	__atomic_store_n(&vn->status, loaded, __ATOMIC_RELEASE);
	/* The link is our own attachment's, not the saved machine's. */
	if (gone == ((loaded & STATUS_LINK_UP) != 0))
		net_status_change(vn, gone ? 0 : STATUS_LINK_UP, gone ? STATUS_LINK_UP : 0);
	return 0;
}

/* ---- making ---- */

static void vn_free(struct virtio_net *vn)
{
	for (unsigned int i = 0; i < vn->n_pairs; i++) {
		if (vn->pairs[i])
			fd_close(vn->pairs[i]->poke.fd);
		free(vn->pairs[i]);
	}
	net_vhost_free(vn->vhost);
	free(vn);
}

static void net_destroy(struct virtio_device *vdev)
{
	struct virtio_net *vn = virtio_net_of(vdev);

	close_pairs(vn); /* those of a start that failed half way */
	virtio_device_release(vdev);
	fd_close(vn->vhost_fd);
	net_free(vn->net);
	vn_free(vn);
}

static const struct virtio_feature_words feature_words[] = {
	{ NET_F_CSUM, "checksums by the device" },
	{ NET_F_GUEST_CSUM, "guest checksum offload" },
	{ NET_F_CTRL_GUEST_OFFLOADS, "the switch of guest offloads" },
	{ NET_F_MTU, "the network's MTU" },
	{ NET_F_MAC, "a given MAC address" },
	{ NET_F_GUEST_TSO4, "guest TSO" },
	{ NET_F_GUEST_TSO6, "guest TSO of IPv6" },
	{ NET_F_GUEST_ECN, "guest TSO with ECN" },
	{ NET_F_GUEST_UFO, "guest UFO" },
	{ NET_F_HOST_TSO4, "TSO" },
	{ NET_F_HOST_TSO6, "TSO of IPv6" },
	{ NET_F_HOST_ECN, "TSO with ECN" },
	{ NET_F_HOST_UFO, "UFO" },
	{ NET_F_MRG_RXBUF, "mergeable receive buffers" },
	{ NET_F_STATUS, "the state of the link" },
	{ NET_F_CTRL_VQ, "the control queue" },
	{ NET_F_GUEST_ANNOUNCE, "announcements by the guest" },
	{ NET_F_MQ, "several queues" },
	{ NET_F_CTRL_MAC_ADDR, "changes of its MAC address" },
	{ 0, NULL },
};

static const struct virtio_ops net_ops = {
	.queue_started = net_queue_started,
	.queue_kicked = net_queue_kicked,
	.queue_stopping = net_queue_stopping,
	.negotiated = net_negotiated,
	.reset = net_reset,
	.start = net_start,
	.stop = net_stop,
	.judge = net_judge,
	.after_load = net_after_load,
	.destroy = net_destroy,
	.feature_words = feature_words,
	.feature_way_out = "connect it alike on both hosts (tap or passt, vhost=off), with kernels "
			   "that can do the same",
};

static int make_pairs(struct virtio_net *vn)
{
	for (unsigned int i = 0; i < vn->n_pairs; i++) {
		struct net_pair *pair = malloc(sizeof(*pair));

		if (!pair)
			return -ENOMEM;
		/* Its last member is a buffer that needs no zeros, and no memory until it is used. */
		memset(pair, 0, offsetof(struct net_pair, rx) + offsetof(struct net_rx, spill));
		vn->pairs[i] = pair;
		pair->vn = vn;
		pair->index = i;
		loop_timer_init(&pair->arrival, net_arrival_due);
		pair->poke = (struct loop_watch){ fd_new_event(), EPOLLIN, pair_poked };
		if (pair->poke.fd < 0)
			return pair->poke.fd;
	}
	return 0;
}

static unsigned int worker_of(unsigned int queue)
{
	return queue / 2;
}

static int init_device(struct virtio_net *vn, const struct virtio_host *host,
		       const struct virtio_net_params *params, struct error *err)
{
	struct net_config_space config = {
		.status = le16_make(STATUS_LINK_UP),
		.max_virtqueue_pairs = le16_make((uint16_t)vn->n_pairs),
		.mtu = le16_make((uint16_t)vn->net->mtu),
	};
	uint64_t features = features_of(vn->net);
	char name[32];
	struct virtio_params device = {
		.name = name,
		.id = VIRTIO_ID_NET,
		.config = &config,
		.config_len = sizeof(config),
		.n_queues = 2 * vn->n_pairs + 1,
		.queue_size = QUEUE_SIZE,
		.n_workers = vn->n_pairs,
		.worker_of = worker_of,
		.ops = &net_ops,
		.table = &net_table,
		.table_state = &vn->state,
	};
	int r;

	memcpy(config.mac, vn->mac, sizeof(vn->mac));
	snprintf(name, sizeof(name), "virtio-net.%u", params->index);
	device.features = vn->vhost ? net_vhost_features(vn->vhost, features) : features;
	r = virtio_device_init(&vn->vdev, &vn->state.virtio, &device, host, err);
	if (r < 0)
		return r;
	for (unsigned int i = 0; i < vn->n_pairs; i++)
		vn->pairs[i]->worker = vn->vdev.workers[i];
	return 0;
}

int virtio_net_new(const struct virtio_host *host, const struct virtio_net_params *params,
		   struct device **ret_device, struct error *err)
{
	struct virtio_net *vn = calloc(1, sizeof(*vn));
	int r;

	if (!vn)
		return error_set(err, -ENOMEM, EXIT_STATUS_HOST, "virtio-net: out of memory");
	vn->net = params->net;
	vn->n_pairs = params->net->queue_pairs;
	vn->status = STATUS_LINK_UP;
	vn->vhost_fd = params->vhost_fd;
	vn->state.pairs = 1;
	memcpy(vn->mac, params->mac, sizeof(vn->mac));
	r = make_pairs(vn);
	if (r < 0)
		error_set(err, r, EXIT_STATUS_HOST, "virtio-net: %s", strerror(-r));
	if (r == 0 && params->vhost_fd >= 0)
		r = net_vhost_new(vn, params->vhost_fd, params->tap_fd, &vn->vhost, err);
	if (r == 0)
		r = init_device(vn, host, params, err);
	if (r < 0) {
		vn_free(vn);
		return r;
	}
	*ret_device = &vn->vdev.device;
	return 0;
}
