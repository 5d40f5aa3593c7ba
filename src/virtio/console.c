/* SPDX-License-Identifier: Apache-2.0 */
#include "virtio/console.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "bus/request.h"

#define QUEUE_RECEIVE 0
#define QUEUE_TRANSMIT 1
#define N_QUEUES 2
#define QUEUE_SIZE 64
#define CONFIG_LEN 12 /* cols, rows, max_nr_ports, emerg_wr: there whatever is offered */
#define INPUT_MAX 4096
#define PIECE 1024	   /* bytes given to the stream at once */
#define CHAINS_PER_TURN 32 /* then others, and the barrier, have their turn */
#define PATIENCE_NS NSEC_PER_SEC

struct console_state {
	struct virtio_state virtio;
	uint32_t n_input; /* bytes received and not yet in the guest's buffers */
	uint8_t input[INPUT_MAX];
	/* Bytes of the one transmit chain in flight that the stream has taken; worker's. */
	uint64_t sent;
};

struct virtio_console {
	struct virtio_device vdev;
	struct console_state state;
	struct stream *stream;
	bool refused; /* under device.lock: the stream was told that there is no room */
	/* Worker's thread. */
	bool holding;	     /* `chain` is in flight on the transmit queue */
	bool impatient;	     /* the reader does not read: drop what it does not take at once */
	uint64_t blocked_at; /* ns, when the reader last took something */
	struct loop_timer patience;
	struct virtio_chain chain; /* of the transmit queue */
	uint64_t begin;		   /* of `chain`, for who watches: request_begin */
	struct virtio_chain room;  /* of the receive queue, in use inside one call only */
};

static const struct state_field console_fields[] = {
	STATE_FIELD_STRUCT(struct console_state, virtio, &virtio_state_table),
	STATE_FIELD_VARRAY(struct console_state, input, n_input, NULL),
	STATE_FIELD_U64(struct console_state, sent),
};

static int console_check(const void *loaded, struct error *err)
{
	const struct console_state *state = loaded;

	if (state->virtio.queues[QUEUE_RECEIVE].n_inflight > 0 ||
	    state->virtio.queues[QUEUE_TRANSMIT].n_inflight > 1)
		return error_set(err, -EBADMSG, EXIT_STATUS_FAILED,
				 "virtio-console: more requests in flight than it ever has; "
				 "the stream is damaged");
	return virtio_state_check(&state->virtio, err);
}

static const struct state_table console_table = {
	.name = "virtio-console",
	.version = 1,
	.min_version = 1,
	.size = sizeof(struct console_state),
	.fields = console_fields,
	.n_fields = ARRAY_SIZE(console_fields),
	.check = console_check,
};

static struct virtio_console *from_vdev(struct virtio_device *vdev)
{
	return container_of(vdev, struct virtio_console, vdev);
}

/* ---- world to guest ---- */

/* Control loop: takes what fits. */
static size_t console_received(void *ctx, const void *buf, size_t len)
{
	struct virtio_console *console = ctx;
	struct console_state *state = &console->state;
	size_t taken;

	pthread_mutex_lock(&console->vdev.device.lock);
	taken = MIN(len, INPUT_MAX - state->n_input);
	memcpy(state->input + state->n_input, buf, taken);
	state->n_input += (uint32_t)taken;
	console->refused = taken < len;
	pthread_mutex_unlock(&console->vdev.device.lock);
	device_touch(&console->vdev.device);
	virtio_queue_again(&console->vdev.queues[QUEUE_RECEIVE]);
	return taken;
}

/* A copy of the input: guest memory is never touched with the lock held, which the control loop takes. */
static size_t peek_input(struct virtio_console *console, uint8_t *copy)
{
	size_t len;

	pthread_mutex_lock(&console->vdev.device.lock);
	len = console->state.n_input;
	memcpy(copy, console->state.input, len);
	pthread_mutex_unlock(&console->vdev.device.lock);
	return len;
}

static void consume_input(struct virtio_console *console, size_t len)
{
	struct console_state *state = &console->state;
	bool tell;

	pthread_mutex_lock(&console->vdev.device.lock);
	state->n_input -= (uint32_t)len;
	memmove(state->input, state->input + len, state->n_input);
	tell = console->refused && len;
	if (tell)
		console->refused = false;
	pthread_mutex_unlock(&console->vdev.device.lock);
	if (tell)
		console->stream->ready(console->stream);
}

/* Fills one chain with input. 1 when done, 0 when the driver has none to fill. */
static int fill_chain(struct virtio_console *console, struct virtio_queue *queue,
		      const uint8_t *input, size_t len)
{
	struct virtio_chain *room = &console->room;
	int r = virtio_queue_pop(queue, room);
	uint64_t begin = request_begin(&console->vdev.device);
	size_t n;

	if (r <= 0)
		return r;
	n = iov_from_buf(virtio_chain_in(room), room->n_in, 0, input, len);
	request_moved(&console->vdev.device, QUEUE_RECEIVE, REQUEST_READ, begin, n);
	virtio_queue_push(queue, room, (uint32_t)n);
	consume_input(console, n);
	return 1;
}

/* 1 when there may be more to do, 0 when input or buffers are used up. */
static int deliver(struct virtio_console *console, struct virtio_queue *queue)
{
	uint8_t input[INPUT_MAX];

	for (unsigned int i = 0; i < CHAINS_PER_TURN; i++) {
		size_t len = peek_input(console, input);
		int r;

		if (!len) {
			virtio_queue_disable_kicks(queue);
			return 0;
		}
		r = fill_chain(console, queue, input, len);
		if (r < 0)
			return r;
		if (r == 0 && !virtio_queue_enable_kicks(queue))
			return 0;
	}
	return 1;
}

static void finish_turn(struct virtio_vq *vq, int result)
{
	virtio_queue_signal(vq);
	if (result < 0)
		virtio_device_broken(vq->vdev);
	else if (result > 0)
		virtio_queue_again(vq);
}

/* ---- guest to world ---- */

/* Gives the held chain's bytes to the stream; true when it took them all. */
static bool send_held(struct virtio_console *console)
{
	struct virtio_chain *chain = &console->chain;
	uint64_t *sent = &console->state.sent;
	uint8_t piece[PIECE];

	while (*sent < chain->out_len) {
		size_t len = iov_to_buf(chain->iov, chain->n_out, *sent, piece, sizeof(piece));
		size_t taken = console->stream->write(console->stream, piece, len);

		*sent += taken;
		if (taken)
			console->blocked_at = 0;
		if (taken < len)
			return false;
	}
	console->impatient = false;
	return true;
}

static bool waits_for_leave(struct virtio_console *console)
{
	struct stream *stream = console->stream;

	return stream->waits_for_leave && stream->waits_for_leave(stream);
}

/* The stream is full. True when the rest is to be dropped, else it is tried again when the stream has
 * room, or when patience ends. */
static bool give_up(struct virtio_console *console, struct loop *loop)
{
	uint64_t now = clock_now(loop_clock(loop));

	/* Held output is never dropped; and of the reader nothing is known meanwhile, so it is asked again. */
	if (waits_for_leave(console)) {
		console->blocked_at = 0;
		console->impatient = false;
		loop_timer_arm(loop, &console->patience, now + PATIENCE_NS);
		return false;
	}
	if (!console->blocked_at)
		console->blocked_at = now;
	if (now - console->blocked_at >= PATIENCE_NS)
		console->impatient = true;
	if (console->impatient)
		return true;
	loop_timer_arm(loop, &console->patience, console->blocked_at + PATIENCE_NS);
	return false;
}

static void release_held(struct virtio_console *console, struct virtio_queue *queue)
{
	request_moved(&console->vdev.device, QUEUE_TRANSMIT, REQUEST_WRITE, console->begin,
		      console->chain.out_len);
	virtio_queue_push(queue, &console->chain, 0);
	console->holding = false;
	console->state.sent = 0;
}

/* 1 when there may be more to do, 0 when the queue is empty or the stream full. */
static int transmit(struct virtio_console *console, struct virtio_vq *vq)
{
	for (unsigned int i = 0; i < CHAINS_PER_TURN; i++) {
		int r = console->holding ? 1 : virtio_queue_pop(&vq->queue, &console->chain);

		if (r < 0)
			return r;
		if (r == 0 && !virtio_queue_enable_kicks(&vq->queue))
			return 0;
		if (r == 0)
			continue;
		if (!console->holding)
			console->begin = request_begin(&console->vdev.device);
		console->holding = true;
		if (!send_held(console) && !give_up(console, worker_loop(vq->worker)))
			return 0;
		release_held(console, &vq->queue);
	}
	return 1;
}

static void patience_ended(struct loop_timer *timer)
{
	struct virtio_console *console = container_of(timer, struct virtio_console, patience);

	virtio_queue_again(&console->vdev.queues[QUEUE_TRANSMIT]);
}

/* Control loop: the stream has room again. */
static void console_writable(void *ctx)
{
	struct virtio_console *console = ctx;

	virtio_queue_again(&console->vdev.queues[QUEUE_TRANSMIT]);
}

/* ---- the device ---- */

static void console_kicked(struct virtio_vq *vq)
{
	struct virtio_console *console = from_vdev(vq->vdev);

	finish_turn(vq, vq->index == QUEUE_TRANSMIT ? transmit(console, vq)
						    : deliver(console, &vq->queue));
}

static int console_started(struct virtio_vq *vq)
{
	struct virtio_console *console = from_vdev(vq->vdev);
	int r;

	if (vq->index != QUEUE_TRANSMIT)
		return 0;
	if (vq->queue.state->n_inflight == 0) {
		console->state.sent = 0;
		return 0;
	}
	/* What the saved machine's stream has taken is not sent again. */
	r = virtio_queue_refetch(&vq->queue, 0, &console->chain);
	console->holding = r == 0;
	return r;
}

static void console_stopping(struct virtio_vq *vq)
{
	struct virtio_console *console = from_vdev(vq->vdev);

	if (vq->index == QUEUE_TRANSMIT) {
		loop_timer_cancel(&console->patience);
		console->holding = false;
	}
	virtio_queue_idle(vq);
}

static void console_destroy(struct virtio_device *vdev)
{
	struct virtio_console *console = from_vdev(vdev);

	console->stream->received = NULL;
	console->stream->writable = NULL;
	virtio_device_release(vdev);
	free(console);
}

static const struct virtio_ops console_ops = {
	.queue_started = console_started,
	.queue_kicked = console_kicked,
	.queue_stopping = console_stopping,
	.destroy = console_destroy,
};

static int init_device(struct virtio_console *console, const struct virtio_host *host,
		       struct error *err)
{
	static const uint8_t config[CONFIG_LEN];
	const struct virtio_params params = {
		.name = "virtio-console",
		.id = VIRTIO_ID_CONSOLE,
		.config = config,
		.config_len = sizeof(config),
		.n_queues = N_QUEUES,
		.queue_size = QUEUE_SIZE,
		.n_workers = 1,
		.ops = &console_ops,
		.table = &console_table,
		.table_state = &console->state,
	};

	return virtio_device_init(&console->vdev, &console->state.virtio, &params, host, err);
}

int virtio_console_new(const struct virtio_host *host, struct stream *stream,
		       struct device **ret_device, struct error *err)
{
	struct virtio_console *console = calloc(1, sizeof(*console));
	int r;

	if (!console)
		return error_set(err, -ENOMEM, EXIT_STATUS_HOST, "virtio-console: out of memory");
	console->stream = stream;
	loop_timer_init(&console->patience, patience_ended);
	r = init_device(console, host, err);
	if (r < 0) {
		free(console);
		return r;
	}
	stream->received = console_received;
	stream->writable = console_writable;
	stream->ctx = console;
	*ret_device = &console->vdev.device;
	return 0;
}
