/* SPDX-License-Identifier: Apache-2.0 */
#include "virtio/transport.h"

#include <assert.h>
#include <errno.h>
#include <string.h>
#include <sys/epoll.h>

#include "base/fd.h"

/* The driver is in charge and the device works. */
static bool is_active(const struct virtio_state *s)
{
	return (s->status & STATUS_DRIVER_OK) && !(s->status & STATUS_NEEDS_RESET) && !s->resetting;
}

/* ---- interrupts ---- */

static void interrupt(struct virtio_device *vdev, uint8_t isr, const uint16_t *vector_register)
{
	uint16_t vector = __atomic_load_n(vector_register, __ATOMIC_RELAXED);

	device_touch(&vdev->device);
	/* The register is for drivers without MSI-X, who poll it; others never look. */
	__atomic_fetch_or(&vdev->state->isr, isr, __ATOMIC_RELAXED);
	if (vector != VIRTIO_NO_VECTOR)
		pci_msix_notify(&vdev->pci, vector);
}

void virtio_queue_signal(struct virtio_vq *vq)
{
	struct virtio_device *vdev = vq->vdev;

	device_touch(&vdev->device);
	if (virtio_queue_should_signal(&vq->queue))
		interrupt(vdev, ISR_QUEUE, &vdev->state->queues[vq->index].msix_vector);
}

void virtio_device_broken(struct virtio_device *vdev)
{
	struct virtio_state *s = vdev->state;
	bool news;

	pthread_mutex_lock(&vdev->device.lock);
	/* A reset under way heals it anyway, and a driver not yet in charge is not told. */
	news = is_active(s);
	if (news) {
		s->status |= STATUS_NEEDS_RESET;
		__atomic_store_n(&vdev->broken, true, __ATOMIC_RELAXED);
	}
	pthread_mutex_unlock(&vdev->device.lock);
	if (news)
		interrupt(vdev, ISR_CONFIG, &s->config_msix_vector);
}

void virtio_config_update(struct virtio_device *vdev, unsigned int offset, const void *bytes,
			  size_t len)
{
	struct virtio_state *s = vdev->state;
	bool told;

	pthread_mutex_lock(&vdev->device.lock);
	assert(range_fits(offset, len, s->config_len));
	memcpy(s->config + offset, bytes, len);
	s->config_generation++;
	told = is_active(s);
	pthread_mutex_unlock(&vdev->device.lock);
	if (told)
		interrupt(vdev, ISR_CONFIG, &s->config_msix_vector);
}

/* ---- the life of queues: requests from under device.lock ---- */

void transport_sync_doorbells_locked(struct virtio_device *vdev)
{
	const struct pci_bar *bar = &vdev->pci.bars[TRANSPORT_BAR];

	for (unsigned int i = 0; i < vdev->n_queues; i++) {
		struct virtio_vq *vq = &vdev->queues[i];
		uint64_t address = bar->region.base + TRANSPORT_NOTIFY +
				   (uint64_t)i * TRANSPORT_NOTIFY_MULTIPLIER;
		bool due = vq->wanted && bar->mapped;

		if (vq->rings && (!due || vq->doorbell.address != address)) {
			doorbell_remove(vdev->doorbells, &vq->doorbell);
			vq->rings = false;
		}
		if (due && !vq->rings) {
			vq->doorbell.address = address;
			doorbell_add(vdev->doorbells, &vq->doorbell);
			vq->rings = true;
		}
	}
}

/* Numbers of lives are not 0, which means none. */
static uint32_t new_life(struct virtio_device *vdev)
{
	if (++vdev->lives == 0)
		vdev->lives = 1;
	return vdev->lives;
}

void transport_activate_locked(struct virtio_device *vdev)
{
	if (!vdev->running)
		return;
	for (unsigned int i = 0; i < vdev->n_queues; i++) {
		struct virtio_vq *vq = &vdev->queues[i];

		if (!vdev->state->queues[i].enabled)
			continue;
		vq->wanted = new_life(vdev);
		fd_signal_event(vq->control.fd);
	}
	transport_sync_doorbells_locked(vdev);
}

/* Tells every queue that lives, or was about to, to stop. Afterwards queues_busy says who is not idle. */
static void stop_queues_locked(struct virtio_device *vdev)
{
	for (unsigned int i = 0; i < vdev->n_queues; i++) {
		struct virtio_vq *vq = &vdev->queues[i];

		if (!vq->wanted)
			continue;
		vq->wanted = 0;
		vdev->queues_busy |= 1ULL << i;
		fd_signal_event(vq->control.fd);
	}
	transport_sync_doorbells_locked(vdev);
}

/* Power-on values. What is offered, and config with its generation, stay. */
static void reset_registers_locked(struct virtio_device *vdev)
{
	struct virtio_state *s = vdev->state;

	s->status = 0;
	s->resetting = 0;
	s->driver_features = 0;
	s->device_feature_select = s->driver_feature_select = 0;
	s->queue_select = 0;
	__atomic_store_n(&s->isr, 0, __ATOMIC_RELAXED);
	__atomic_store_n(&s->config_msix_vector, VIRTIO_NO_VECTOR, __ATOMIC_RELAXED);
	for (unsigned int i = 0; i < vdev->n_queues; i++)
		virtio_queue_state_reset(&s->queues[i]);
	__atomic_store_n(&vdev->broken, false, __ATOMIC_RELAXED);
	if (vdev->ops->reset)
		vdev->ops->reset(vdev);
	device_touch(&vdev->device);
}

void transport_reset_locked(struct virtio_device *vdev)
{
	stop_queues_locked(vdev);
	if (vdev->queues_busy)
		vdev->state->resetting = 1;
	else
		reset_registers_locked(vdev);
}

/* ---- the life of queues: on their workers ---- */

void virtio_queue_idle(struct virtio_vq *vq)
{
	struct virtio_device *vdev = vq->vdev;

	vq->life = 0;
	vq->attached = vq->stopping = false;
	pthread_mutex_lock(&vdev->device.lock);
	vdev->queues_busy &= ~(1ULL << vq->index);
	if (!vdev->queues_busy) {
		if (vdev->state->resetting)
			reset_registers_locked(vdev);
		pthread_cond_broadcast(&vdev->idle);
	}
	if (vq->wanted)
		fd_signal_event(vq->control.fd);
	pthread_mutex_unlock(&vdev->device.lock);
}

static void start_queue(struct virtio_vq *vq, uint32_t life)
{
	struct virtio_device *vdev = vq->vdev;
	struct virtio_state *s = vdev->state;
	int r;

	vq->life = life;
	r = virtio_queue_start(&vq->queue, vdev->memory, &s->queues[vq->index], s->driver_features);
	if (r == 0 && vdev->ops->queue_started) {
		vq->attached = true;
		r = vdev->ops->queue_started(vq);
	}
	if (r < 0)
		virtio_device_broken(vdev);
	else
		virtio_queue_again(vq); /* doorbells that rang before, or in the saved machine */
}

static void stop_queue(struct virtio_vq *vq)
{
	const struct virtio_ops *ops = vq->vdev->ops;

	virtio_queue_stop(&vq->queue);
	if (vq->stopping)
		return;
	vq->stopping = true;
	if (vq->attached && ops->queue_stopping)
		ops->queue_stopping(vq);
	else
		virtio_queue_idle(vq);
}

void virtio_queue_drained(struct virtio_vq *vq, int result)
{
	struct virtio_device *vdev = vq->vdev;

	pthread_mutex_lock(&vdev->device.lock);
	if (vq->drain && vq->drain == vdev->drain) {
		vdev->undrained &= ~(1ULL << vq->index);
		if (result < 0 && !vdev->drain_error)
			vdev->drain_error = result;
	}
	pthread_mutex_unlock(&vdev->device.lock);
}

static void follow_drain(struct virtio_vq *vq, uint32_t wanted)
{
	const struct virtio_ops *ops = vq->vdev->ops;

	if (vq->drain == wanted)
		return;
	vq->drain = wanted;
	if (!wanted)
		virtio_queue_again(vq); /* what the driver gave meanwhile */
	else if (ops->queue_drain)
		ops->queue_drain(vq);
	else
		virtio_queue_drained(vq, 0);
}

/* Brings the queue nearer to the life that is wanted, and to the rest. */
void transport_control_ready(struct loop_watch *watch, uint32_t events _unused_)
{
	struct virtio_vq *vq = container_of(watch, struct virtio_vq, control);
	struct virtio_device *vdev = vq->vdev;
	uint32_t wanted, drain;

	fd_clear_event(watch->fd);
	pthread_mutex_lock(&vdev->device.lock);
	wanted = vq->wanted;
	drain = vdev->drain;
	pthread_mutex_unlock(&vdev->device.lock);
	if (vq->life && vq->life != wanted)
		stop_queue(vq);
	else if (!vq->life && wanted)
		start_queue(vq, wanted);
	else if (!vq->life)
		virtio_queue_idle(vq); /* told to stop before it had started */
	follow_drain(vq, drain);
}

void transport_kick_ready(struct loop_watch *watch, uint32_t events _unused_)
{
	struct virtio_vq *vq = container_of(watch, struct virtio_vq, kick);
	struct virtio_device *vdev = vq->vdev;

	if (!vq->queue.started || !vdev->ops->queue_kicked ||
	    __atomic_load_n(&vdev->broken, __ATOMIC_RELAXED))
		return;
	device_touch(&vdev->device);
	vdev->ops->queue_kicked(vq);
}

void virtio_queue_again(struct virtio_vq *vq)
{
	fd_signal_event(vq->kick.fd);
}

/* ---- device_ops ---- */

static struct virtio_device *from_device(struct device *device)
{
	return container_of(device, struct virtio_device, device);
}

static int transport_start(struct device *device, const struct thread_entry *enter,
			   struct error *err)
{
	struct virtio_device *vdev = from_device(device);
	int r = 0;

	for (unsigned int i = 0; i < vdev->n_workers; i++) {
		r = worker_start(vdev->workers[i], enter);
		if (r < 0)
			return error_set(err, r, EXIT_STATUS_HOST,
					 "%s: cannot start a thread: %s; raise the limit on "
					 "processes (ulimit -u)",
					 device->name, strerror(-r));
	}
	if (vdev->ops->start)
		r = vdev->ops->start(vdev, err);
	if (r < 0)
		return r;
	pthread_mutex_lock(&device->lock);
	vdev->running = true;
	if (is_active(vdev->state))
		transport_activate_locked(vdev);
	pthread_mutex_unlock(&device->lock);
	return 0;
}

void transport_end_workers(struct virtio_device *vdev)
{
	for (unsigned int i = 0; i < vdev->n_workers; i++)
		worker_free(TAKE_PTR(vdev->workers[i]));
}

static void transport_stop(struct device *device)
{
	struct virtio_device *vdev = from_device(device);

	pthread_mutex_lock(&device->lock);
	vdev->running = false;
	stop_queues_locked(vdev);
	while (vdev->queues_busy)
		pthread_cond_wait(&vdev->idle, &device->lock);
	pthread_mutex_unlock(&device->lock);
	if (vdev->ops->stop)
		vdev->ops->stop(vdev);
	transport_end_workers(vdev);
}

static void transport_reset(struct device *device)
{
	struct virtio_device *vdev = from_device(device);

	pci_function_reset(&vdev->pci);
	transport_reset_locked(vdev);
}

static bool transport_resetting(struct device *device)
{
	struct virtio_device *vdev = from_device(device);
	bool busy;

	pthread_mutex_lock(&device->lock);
	busy = vdev->queues_busy != 0;
	pthread_mutex_unlock(&device->lock);
	return busy;
}

/* Numbers of drains, as those of lives, are not 0. */
static uint32_t new_drain(struct virtio_device *vdev)
{
	if (++vdev->drains == 0)
		vdev->drains = 1;
	return vdev->drains;
}

static void transport_drain(struct device *device, bool on)
{
	struct virtio_device *vdev = from_device(device);

	pthread_mutex_lock(&device->lock);
	vdev->drain = on ? new_drain(vdev) : 0;
	vdev->drain_error = 0;
	vdev->undrained = 0;
	for (unsigned int i = 0; vdev->running && i < vdev->n_queues; i++) {
		vdev->undrained |= on ? 1ULL << i : 0;
		fd_signal_event(vdev->queues[i].control.fd);
	}
	pthread_mutex_unlock(&device->lock);
}

static int transport_drained(struct device *device)
{
	struct virtio_device *vdev = from_device(device);
	int r;

	pthread_mutex_lock(&device->lock);
	r = vdev->drain_error ? vdev->drain_error : !vdev->undrained;
	pthread_mutex_unlock(&device->lock);
	return r;
}

static int transport_own(struct device *device, bool own, struct error *err)
{
	struct virtio_device *vdev = from_device(device);

	return vdev->ops->own ? vdev->ops->own(vdev, own, err) : 0;
}

/* The barrier is held: workers are parked (or not started yet), so their side may be touched here. What an
 * old life still has in flight is dropped when it completes. */
static void abandon_lives_locked(struct virtio_device *vdev)
{
	for (unsigned int i = 0; i < vdev->n_queues; i++)
		if (vdev->queues[i].life)
			virtio_queue_stop(&vdev->queues[i].queue);
	stop_queues_locked(vdev);
}

static int loaded_locked(struct virtio_device *vdev, struct error *err)
{
	struct virtio_state *s = vdev->state;
	int r;

	abandon_lives_locked(vdev);
	r = pci_function_loaded(&vdev->pci, err);
	if (r < 0)
		return r;
	if (s->resetting)
		reset_registers_locked(vdev);
	/* The next driver must not be given what this host does not have. */
	s->device_features &= vdev->offers;
	__atomic_store_n(&vdev->broken, s->status & STATUS_NEEDS_RESET, __ATOMIC_RELAXED);
	return 0;
}

/* The transport's part lies at the same place in what was loaded as in the device's own state. */
static int transport_judge(struct device *device, const void *loaded, struct error *err)
{
	struct virtio_device *vdev = from_device(device);
	size_t at = (size_t)((const char *)vdev->state - (const char *)device->state);
	const struct virtio_state *state = (const struct virtio_state *)((const char *)loaded + at);
	int r = pci_function_judge(&vdev->pci, &state->pci, err);

	if (r == 0 && vdev->ops->judge)
		r = vdev->ops->judge(vdev, state, err);
	return r == 0 ? transport_judge_features(vdev, state, err) : r;
}

static int transport_after_load(struct device *device, struct error *err)
{
	struct virtio_device *vdev = from_device(device);
	int r;

	pthread_mutex_lock(&device->lock);
	r = loaded_locked(vdev, err);
	pthread_mutex_unlock(&device->lock);
	if (r == 0 && vdev->ops->after_load)
		r = vdev->ops->after_load(vdev, err);
	if (r < 0)
		return r;
	pthread_mutex_lock(&device->lock);
	if (is_active(vdev->state))
		transport_activate_locked(vdev);
	pthread_mutex_unlock(&device->lock);
	return 0;
}

static void transport_destroy(struct device *device)
{
	struct virtio_device *vdev = from_device(device);

	vdev->ops->destroy(vdev);
}

const struct device_ops transport_ops = {
	.start = transport_start,
	.stop = transport_stop,
	.reset = transport_reset,
	.resetting = transport_resetting,
	.drain = transport_drain,
	.drained = transport_drained,
	.own = transport_own,
	.judge = transport_judge,
	.after_load = transport_after_load,
	.destroy = transport_destroy,
};
