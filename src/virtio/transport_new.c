/* SPDX-License-Identifier: Apache-2.0 */

/* How a virtio device is put together: its state, its workers with the doorbells of their queues, its place on the PCI bus. */

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>

#include "base/fd.h"
#include "virtio/transport.h"

#define PCI_VENDOR_VIRTIO 0x1af4
#define PCI_DEVICE_MODERN 0x1040  /* + device type (virtio 1.2, 4.1.2.1) */
#define PCI_SUBSYSTEM_MODERN 0x40 /* at least this where no legacy driver may bind */

/* Class codes by device type (PCI Code and ID Assignment Specification 1.11). */
static uint32_t class_of(uint16_t id)
{
	static const struct {
		uint16_t id;
		uint32_t class_code;
	} classes[] = {
		{ VIRTIO_ID_NET, 0x020000 },	 /* network controller, Ethernet */
		{ VIRTIO_ID_BLOCK, 0x010000 },	 /* mass storage, SCSI as its relatives say */
		{ VIRTIO_ID_CONSOLE, 0x078000 }, /* communication, other */
	};

	for (size_t i = 0; i < ARRAY_SIZE(classes); i++)
		if (classes[i].id == id)
			return classes[i].class_code;
	return 0xff0000; /* fits no class */
}

static void init_state(struct virtio_state *state, const struct virtio_params *params)
{
	*state = (struct virtio_state){
		.device_features = params->features | VIRTIO_F_VERSION_1 | VIRTIO_F_EVENT_IDX |
				   VIRTIO_F_INDIRECT_DESC,
		.config_msix_vector = VIRTIO_NO_VECTOR,
		.config_len = (uint32_t)params->config_len,
		.n_queues = params->n_queues,
	};
	if (params->config_len)
		memcpy(state->config, params->config, params->config_len);
	for (unsigned int i = 0; i < params->n_queues; i++) {
		state->queues[i].max_size = params->queue_size;
		virtio_queue_state_reset(&state->queues[i]);
	}
}

static int init_queue(struct virtio_device *vdev, unsigned int index, struct worker *worker)
{
	struct virtio_vq *vq = &vdev->queues[index];
	int r;

	vq->vdev = vdev;
	vq->index = index;
	vq->worker = worker;
	vq->kick.fd = fd_new_event();
	vq->control.fd = fd_new_event();
	if (vq->kick.fd < 0 || vq->control.fd < 0)
		return MIN(vq->kick.fd, vq->control.fd);
	vq->doorbell = (struct doorbell){ .space = BUS_MMIO, .size = 2, .event = vq->kick.fd };
	r = loop_add(worker_loop(worker), &vq->control);
	return r < 0 ? r : loop_add(worker_loop(worker), &vq->kick);
}

static int init_workers(struct virtio_device *vdev, const struct virtio_params *params,
			const struct virtio_host *host)
{
	/* A thread's name has 15 bytes: "virtio-" tells nothing new. */
	const char *short_name = strncmp(params->name, "virtio-", 7) ? params->name
								     : params->name + 7;
	char name[16];

	for (unsigned int i = 0; i < params->n_workers; i++) {
		snprintf(name, sizeof(name), "%.10s:%u", short_name, i);
		vdev->workers[i] = worker_new(name, host->clock, host->quiesce);
		if (!vdev->workers[i])
			return -ENOMEM;
		vdev->n_workers++;
	}
	return 0;
}

static int init_queues(struct virtio_device *vdev, const struct virtio_params *params)
{
	for (unsigned int i = 0; i < vdev->n_queues; i++) {
		unsigned int worker = params->worker_of ? params->worker_of(i) : i;
		int r = init_queue(vdev, i, vdev->workers[worker % vdev->n_workers]);

		if (r < 0)
			return r;
	}
	return 0;
}

static int init_pci(struct virtio_device *vdev, const struct virtio_params *params,
		    struct pci_host *pci)
{
	struct pci_identity identity = {
		.vendor = PCI_VENDOR_VIRTIO,
		.device = PCI_DEVICE_MODERN + params->id,
		.subsystem_vendor = PCI_VENDOR_VIRTIO,
		.subsystem = PCI_SUBSYSTEM_MODERN + params->id,
		.class_code = class_of(params->id),
		.revision = 1,
	};
	int r;

	pci_function_init(&vdev->pci, &vdev->device, &vdev->state->pci, &identity,
			  &registers_pci_ops);
	r = registers_init(vdev);
	if (r == 0) /* one vector for each queue, and one for changes of configuration */
		r = pci_add_msix(&vdev->pci, vdev->n_queues + 1, TRANSPORT_MSIX_BAR);
	if (r == 0)
		r = pci_plug(pci, &vdev->pci, 0);
	vdev->plugged = r == 0;
	return r;
}

static int init_parts(struct virtio_device *vdev, const struct virtio_params *params,
		      const struct virtio_host *host)
{
	int r = init_workers(vdev, params, host);

	if (r == 0)
		r = init_queues(vdev, params);
	return r == 0 ? init_pci(vdev, params, host->pci) : r;
}

int virtio_device_init(struct virtio_device *vdev, struct virtio_state *state,
		       const struct virtio_params *params, const struct virtio_host *host,
		       struct error *err)
{
	const struct state_table *table = params->table ? params->table : &virtio_state_table;
	int r;

	assert(params->n_queues <= VIRTIO_QUEUES_MAX && params->n_workers <= VIRTIO_QUEUES_MAX);
	assert(params->config_len <= sizeof(state->config));
	*vdev = (struct virtio_device){
		.state = state,
		.ops = params->ops,
		.memory = host->memory,
		.doorbells = host->doorbells,
		.n_queues = params->n_queues,
	};
	for (unsigned int i = 0; i < vdev->n_queues; i++) {
		/* Edge-triggered: a doorbell need not be read to be cleared, which saves a system call each. */
		vdev->queues[i].kick = (struct loop_watch){ -1, EPOLLIN | EPOLLET,
							    transport_kick_ready };
		vdev->queues[i].control = (struct loop_watch){ -1, EPOLLIN,
							       transport_control_ready };
	}
	init_state(state, params);
	vdev->offers = state->device_features;
	device_init(&vdev->device, &transport_ops, params->name, table,
		    params->table ? params->table_state : state);
	pthread_cond_init(&vdev->idle, NULL);
	r = init_parts(vdev, params, host);
	if (r < 0) {
		virtio_device_release(vdev);
		return error_set(err, r, r == -ENOSPC ? EXIT_STATUS_USAGE : EXIT_STATUS_HOST,
				 "%s: %s", params->name,
				 r == -ENOSPC ? "no free PCI slot or address left; "
						"give the machine fewer devices"
					      : "no memory or descriptors left on this host; "
						"raise its limits (ulimit -n)");
	}
	return 0;
}

void virtio_device_release(struct virtio_device *vdev)
{
	transport_end_workers(vdev);
	for (unsigned int i = 0; i < vdev->n_queues; i++) {
		struct virtio_vq *vq = &vdev->queues[i];

		if (vq->rings)
			doorbell_remove(vdev->doorbells, &vq->doorbell);
		fd_close(vq->kick.fd);
		fd_close(vq->control.fd);
	}
	if (vdev->plugged)
		pci_unplug(&vdev->pci);
	pthread_cond_destroy(&vdev->idle);
	device_release(&vdev->device);
}
