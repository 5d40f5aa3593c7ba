/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * Private to the network device: net.c (features, life), net_rx.c and net_tx.c (packets), net_control.c
 * (commands), net_vhost.c (packets by the kernel).
 *
 * A queue pair belongs to one worker: its receive queue, transmit queue and net_queue are touched there
 * only. The control queue has its own worker (that of a pair); what it changes reaches the pairs by an
 * eventfd each, and they confirm by number, so that no thread waits for another.
 *
 *   control: pairs = n, serial++ --poke--> pair: takes its net_queue in or out of use, applied = serial
 *            all applied: answers the command  <--again--
 */

#include "base/endian.h"
#include "net/header.h"
#include "virtio/net.h"

/* Features (virtio 1.2, 5.1.3). */
#define NET_F_CSUM (1ULL << 0)
#define NET_F_GUEST_CSUM (1ULL << 1)
#define NET_F_CTRL_GUEST_OFFLOADS (1ULL << 2)
#define NET_F_MTU (1ULL << 3)
#define NET_F_MAC (1ULL << 5)
#define NET_F_GUEST_TSO4 (1ULL << 7)
#define NET_F_GUEST_TSO6 (1ULL << 8)
#define NET_F_GUEST_ECN (1ULL << 9)
#define NET_F_GUEST_UFO (1ULL << 10)
#define NET_F_HOST_TSO4 (1ULL << 11)
#define NET_F_HOST_TSO6 (1ULL << 12)
#define NET_F_HOST_ECN (1ULL << 13)
#define NET_F_HOST_UFO (1ULL << 14)
#define NET_F_MRG_RXBUF (1ULL << 15)
#define NET_F_STATUS (1ULL << 16)
#define NET_F_CTRL_VQ (1ULL << 17)
#define NET_F_GUEST_ANNOUNCE (1ULL << 21)
#define NET_F_MQ (1ULL << 22)
#define NET_F_CTRL_MAC_ADDR (1ULL << 23)
/* What received frames may carry; the driver may switch it off while it works (5.1.6.5.6.1). */
#define NET_F_GUEST_OFFLOADS                                                                       \
	(NET_F_GUEST_CSUM | NET_F_GUEST_TSO4 | NET_F_GUEST_TSO6 | NET_F_GUEST_ECN | NET_F_GUEST_UFO)

/* struct virtio_net_config (virtio 1.2, 5.1.4). */
struct net_config_space {
	uint8_t mac[6];
	le16_t status;
	le16_t max_virtqueue_pairs;
	le16_t mtu;
};
#define STATUS_LINK_UP 1
#define STATUS_ANNOUNCE 2

struct virtio_net_state {
	struct virtio_state virtio;
	uint16_t pairs;		 /* atomic: queue pairs that the driver uses */
	uint64_t guest_offloads; /* NET_F_GUEST_...: that received frames may carry now */
};

/* Chains taken from the receive queue, oldest first, for the next frames: what is received goes straight
 * into their buffers. They are in flight: state->inflight lists them in the same order. */
#define RX_CHAINS 128
#define RX_BUFFERS 768
struct net_rx {
	struct {
		uint16_t head;
		uint16_t n; /* buffers */
		uint32_t len;
	} chains[RX_CHAINS];
	unsigned int n_chains;
	unsigned int first, n; /* buffers in use: [first, first + n) */
	size_t bytes;
	struct iovec iov[RX_BUFFERS + 1]; /* one more for `spill` */
	gpa_t at[RX_BUFFERS];
	/* A frame that was received and waits for more buffers: its length, and how many bytes of it lie in
	 * buffers already; the rest is in `spill`. It is lost by save and reset, as on a wire. */
	size_t held, held_direct;
	uint8_t spill[NET_FRAME_MAX];
	uint64_t begin; /* of the frame being received, for who watches: request_begin */
};

struct net_pair {
	struct virtio_net *vn;
	unsigned int index;
	struct worker *worker; /* borrowed */
	struct net_queue *queue;
	struct virtio_vq *rx_vq, *tx_vq; /* while started */
	struct loop_watch poke;		 /* the number of pairs changed */
	uint32_t applied;		 /* atomic: vn->serial of the last change seen */
	bool active;			 /* the net_queue is in use */
	bool gone;			 /* the attachment vanished */
	bool tx_blocked;		 /* waits for `writable` */
	bool arrived;			 /* atomic: the VM has just come to this host */
	unsigned int arrivals_sent;	 /* frames that tell so */
	struct loop_timer arrival;	 /* the next of them */
	struct virtio_chain chain;	 /* scratch */
	struct net_rx rx;
};

struct virtio_net {
	struct virtio_device vdev;
	struct virtio_net_state state;
	struct net *net;	   /* owned */
	uint8_t mac[6];		   /* as configured */
	uint16_t status;	   /* atomic: what config.status shall be */
	bool gone;		   /* atomic: the attachment vanished */
	uint32_t serial;	   /* atomic: changes of state.pairs */
	struct virtio_vq *control; /* atomic: the control queue while it is started */
	unsigned int n_pairs;
	struct net_pair *pairs[LIMIT_QUEUES];
	int vhost_fd;		 /* owned once made; -1: none */
	struct net_vhost *vhost; /* NULL: packets go through us */
	/* Of each queue in its present life; its own worker only. */
	const struct net_role *roles[VIRTIO_QUEUES_MAX];
	/* The control queue's worker only. */
	struct virtio_chain command;
	bool command_waits; /* `command` is answered when all pairs have applied the change */
};

static inline struct virtio_net *virtio_net_of(struct virtio_device *vdev)
{
	return container_of(vdev, struct virtio_net, vdev);
}

/* Sets and clears bits of config.status and tells the driver. Any thread, device.lock not held. */
void net_status_change(struct virtio_net *vn, uint16_t set, uint16_t clear);

/* The pair's worker: takes its net_queue in or out of use, as state.pairs and its receive queue demand. */
void net_pair_apply(struct net_pair *pair);
/* The pair's worker: the attachment vanished; the link goes down. */
void net_pair_gone(struct net_pair *pair);
/* The first pair's worker: begins to tell that the VM came to this host, if it did; and goes on with it. */
void net_arrival_poked(struct net_pair *pair);
void net_arrival_due(struct loop_timer *timer);
/* The offloads that state.guest_offloads stands for, to the net. A queue's worker. */
_must_check_ int net_offloads_apply(struct virtio_net *vn);

/* The operations by role; all on the queue's worker. */
struct net_role {
	int (*started)(struct virtio_vq *vq);
	void (*kicked)(struct virtio_vq *vq);
	void (*stopping)(struct virtio_vq *vq);
};
extern const struct net_role net_rx_role, net_tx_role, net_control_role, net_vhost_role;

/* The pair's worker: its queue goes to the kernel (net_vhost.c); what it had taken goes back to the driver's ring. */
void net_rx_leave(struct net_pair *pair);
void net_tx_leave(struct net_pair *pair);

/* Frames wait in the net (or may do so): delivers some of them. The pair's worker. */
void net_rx_run(struct net_pair *pair);
/* Sends some of what the driver gave. The pair's worker. */
void net_tx_run(struct net_pair *pair);

/* Judges the header of a frame of `len` bytes (without header) that the guest sends, and clears in it what
 * the negotiated features do not cover. -EINVAL: the frame must not reach the host. */
_must_check_ int net_header_check(struct net_header *header, size_t len, uint64_t features);

/* The kernel's data path (net_vhost.c). Both descriptors stay the caller's. */
_must_check_ int net_vhost_new(struct virtio_net *vn, int vhost_fd, int tap_fd,
			       struct net_vhost **ret_vhost, struct error *err);
/* The features that it can do, of those offered. */
uint64_t net_vhost_features(const struct net_vhost *vhost, uint64_t offered);
void net_vhost_free(struct net_vhost *vhost);
