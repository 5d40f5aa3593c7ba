/* SPDX-License-Identifier: Apache-2.0 */

/* The console: bytes both ways, full streams, readers that do not read, and a move in the middle of a line. */

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "virtio/console.h"
#include "virtio_driver.h"

#define SOON 5000
#define RECEIVE 0
#define TRANSMIT 1
#define INPUT_MAX 4096

/* The world's side of the stream. */
struct world {
	struct stream stream;
	pthread_mutex_t lock;
	char got[8192];
	size_t n_got, room;
	uint32_t blocked; /* atomic: writes that did not fit */
	uint32_t readied; /* atomic: the device said that it has room again */
	bool held;	  /* atomic: what did not fit waits for leave */
};

static bool world_waits_for_leave(struct stream *stream)
{
	return __atomic_load_n(&container_of(stream, struct world, stream)->held, __ATOMIC_ACQUIRE);
}

static size_t world_write(struct stream *stream, const void *buf, size_t len)
{
	struct world *world = container_of(stream, struct world, stream);
	size_t n;

	pthread_mutex_lock(&world->lock);
	n = MIN(len, MIN(world->room, sizeof(world->got) - world->n_got));
	memcpy(world->got + world->n_got, buf, n);
	world->n_got += n;
	world->room -= n;
	pthread_mutex_unlock(&world->lock);
	if (n < len)
		__atomic_fetch_add(&world->blocked, 1, __ATOMIC_RELEASE);
	return n;
}

static void world_ready(struct stream *stream)
{
	struct world *world = container_of(stream, struct world, stream);

	__atomic_fetch_add(&world->readied, 1, __ATOMIC_RELEASE);
}

static size_t world_got(struct world *world)
{
	size_t n;

	pthread_mutex_lock(&world->lock);
	n = world->n_got;
	pthread_mutex_unlock(&world->lock);
	return n;
}

static void assert_world_got(struct world *world, const char *text)
{
	size_t len = strlen(text);

	for (unsigned int i = 0; i < SOON && world_got(world) < len; i++)
		usleep(1000);
	assert_int_equal(world_got(world), len);
	assert_memory_equal(world->got, text, len);
}

static void give_room(struct world *world, size_t room)
{
	pthread_mutex_lock(&world->lock);
	world->room = room;
	pthread_mutex_unlock(&world->lock);
	world->stream.writable(world->stream.ctx);
}

static size_t type(struct world *world, const void *bytes, size_t len)
{
	return world->stream.received(world->stream.ctx, bytes, len);
}

struct rig {
	struct fake_clock clock;
	struct world world;
	struct vmachine *m;
	struct device *device;
	struct vdriver driver;
	struct vqueue queues[2];
	uint64_t out, in;
};

static void add_device(struct rig *rig)
{
	fake_clock_init(&rig->clock, NSEC_PER_SEC, 0);
	rig->world = (struct world){
		.stream = { .write = world_write, .ready = world_ready },
		.room = SIZE_MAX,
	};
	pthread_mutex_init(&rig->world.lock, NULL);
	rig->m = vmachine_new(MIB(8), &rig->clock.clock);
	assert_non_null(rig->m);
	assert_int_equal(virtio_console_new(&rig->m->host, &rig->world.stream, &rig->device, NULL),
			 0);
}

static int make_rig(void **state)
{
	struct rig *rig = calloc(1, sizeof(*rig));

	assert_non_null(rig);
	add_device(rig);
	assert_int_equal(vdevice_start(rig->device), 0);
	rig->out = vmachine_alloc(rig->m, 2 * INPUT_MAX, MEMORY_PAGE_SIZE);
	rig->in = vmachine_alloc(rig->m, 2 * INPUT_MAX, MEMORY_PAGE_SIZE);
	*state = rig;
	return 0;
}

static void bring_up(struct rig *rig)
{
	assert_int_equal(vdriver_setup(rig->m, VIRTIO_ID_CONSOLE, VIRTIO_F_EVENT_IDX, &rig->driver,
				       rig->queues, 2),
			 0);
}

static int make_working_rig(void **state)
{
	make_rig(state);
	bring_up(*state);
	return 0;
}

static void free_device(struct rig *rig)
{
	vdevice_destroy(rig->device);
	vmachine_free(rig->m);
	pthread_mutex_destroy(&rig->world.lock);
}

static int free_rig(void **state)
{
	free_device(*state);
	free(*state);
	return 0;
}

static void print(struct rig *rig, const char *text)
{
	const struct vbuffer buffer = { rig->out, (uint32_t)strlen(text), false };

	memcpy(vmachine_at(rig->m, rig->out, buffer.len), text, buffer.len);
	rig->out += buffer.len;
	assert_true(vqueue_add(&rig->queues[TRANSMIT], &buffer, 1) >= 0);
	vqueue_kick(&rig->queues[TRANSMIT]);
}

static void offer(struct rig *rig, uint32_t offset, uint32_t len)
{
	const struct vbuffer buffer = { rig->in + offset, len, true };

	assert_true(vqueue_add(&rig->queues[RECEIVE], &buffer, 1) >= 0);
	vqueue_kick(&rig->queues[RECEIVE]);
}

static void assert_printed(struct rig *rig)
{
	assert_int_equal(vqueue_wait(&rig->queues[TRANSMIT], SOON, NULL, NULL), 1);
}

static void assert_input(struct rig *rig, uint32_t offset, const char *text)
{
	uint32_t len = 0;

	assert_int_equal(vqueue_wait(&rig->queues[RECEIVE], SOON, NULL, &len), 1);
	assert_int_equal(len, strlen(text));
	assert_memory_equal(vmachine_at(rig->m, rig->in + offset, len), text, len);
}

static void pass_time(struct rig *rig, uint64_t ns)
{
	quiesce_begin(&rig->m->quiesce);
	fake_clock_advance(&rig->clock, ns);
	quiesce_end(&rig->m->quiesce);
}

static void output_arrives_in_order(void **state)
{
	struct rig *rig = *state;

	print(rig, "first ");
	print(rig, "second");
	assert_printed(rig);
	assert_printed(rig);
	assert_world_got(&rig->world, "first second");
}

static void long_output_is_cut_into_pieces(void **state)
{
	struct rig *rig = *state;
	char text[5001];

	for (size_t i = 0; i < sizeof(text) - 1; i++)
		text[i] = (char)('a' + i % 23);
	text[sizeof(text) - 1] = 0;
	print(rig, text);
	assert_printed(rig);
	assert_world_got(&rig->world, text);
}

static void input_fills_offered_buffers(void **state)
{
	struct rig *rig = *state;

	offer(rig, 0, 4);
	offer(rig, 4, 64);
	assert_int_equal(type(&rig->world, "abcdefg", 7), 7);
	assert_input(rig, 0, "abcd");
	assert_input(rig, 4, "efg");
	offer(rig, 68, 64);
	assert_int_equal(type(&rig->world, "hi", 2), 2);
	assert_input(rig, 68, "hi");
}

static void input_waits_for_buffers(void **state)
{
	struct rig *rig = *state;

	assert_int_equal(type(&rig->world, "early", 5), 5);
	usleep(10000);
	offer(rig, 0, 64);
	assert_input(rig, 0, "early");
}

/* The driver is asked to tell of the buffer that the rest waits for. */
static void rest_of_input_waits_for_the_next_buffer(void **state)
{
	struct rig *rig = *state;

	offer(rig, 0, 4);
	assert_int_equal(type(&rig->world, "abcdefg", 7), 7);
	assert_input(rig, 0, "abcd");
	usleep(10000);
	offer(rig, 4, 64);
	assert_input(rig, 4, "efg");
}

/* Buffers for input that nobody has typed are no reason to wake the device. */
static void no_input_needs_no_kicks(void **state)
{
	struct rig *rig = *state;
	const uint16_t *flags;

	assert_int_equal(vdriver_setup(rig->m, VIRTIO_ID_CONSOLE, 0, &rig->driver, rig->queues, 2),
			 0);
	flags = vmachine_at(rig->m, rig->queues[RECEIVE].used, 2);
	for (unsigned int i = 0; i < SOON && !__atomic_load_n(flags, __ATOMIC_RELAXED); i++)
		usleep(1000);
	assert_int_equal(__atomic_load_n(flags, __ATOMIC_RELAXED), 1);
	offer(rig, 0, 64);
	assert_int_equal(type(&rig->world, "now", 3), 3);
	assert_input(rig, 0, "now");
}

static void input_waits_for_the_driver(void **state)
{
	struct rig *rig = *state;

	assert_int_equal(type(&rig->world, "boot", 4), 4);
	bring_up(rig);
	offer(rig, 0, 64);
	assert_input(rig, 0, "boot");
}

static void input_is_bounded(void **state)
{
	struct rig *rig = *state;
	char many[INPUT_MAX + 100];

	memset(many, 'x', sizeof(many));
	assert_int_equal(type(&rig->world, many, 100), 100);
	assert_int_equal(type(&rig->world, many, sizeof(many)), INPUT_MAX - 100);
	assert_int_equal(type(&rig->world, many, 1), 0);
	assert_int_equal(__atomic_load_n(&rig->world.readied, __ATOMIC_ACQUIRE), 0);
	offer(rig, 0, 64);
	assert_true(wait_for_count(&rig->world.readied, 1, SOON));
	assert_int_equal(type(&rig->world, many, 100), 64);
}

static void full_stream_holds_output(void **state)
{
	struct rig *rig = *state;

	rig->world.room = 3;
	print(rig, "abcdef");
	print(rig, "gh");
	assert_true(wait_for_count(&rig->world.blocked, 1, SOON));
	assert_int_equal(vqueue_get(&rig->queues[TRANSMIT], NULL, NULL), 0);
	give_room(&rig->world, 2);
	assert_true(wait_for_count(&rig->world.blocked, 2, SOON));
	give_room(&rig->world, SIZE_MAX);
	assert_printed(rig);
	assert_printed(rig);
	assert_world_got(&rig->world, "abcdefgh");
}

static void reader_that_does_not_read_loses_output(void **state)
{
	struct rig *rig = *state;

	rig->world.room = 2;
	print(rig, "abcdef");
	assert_true(wait_for_count(&rig->world.blocked, 1, SOON));
	pass_time(rig, 900 * NSEC_PER_MSEC);
	give_room(&rig->world, 0);
	assert_true(wait_for_count(&rig->world.blocked, 2, SOON));
	assert_int_equal(vqueue_get(&rig->queues[TRANSMIT], NULL, NULL), 0);
	pass_time(rig, 100 * NSEC_PER_MSEC);
	give_room(&rig->world, 0);
	assert_printed(rig);
	/* From here on nothing waits, until the reader reads again. */
	print(rig, "lost");
	assert_printed(rig);
	give_room(&rig->world, SIZE_MAX);
	print(rig, "back");
	assert_printed(rig);
	assert_world_got(&rig->world, "abback");
	give_room(&rig->world, 0);
	print(rig, "x");
	assert_true(wait_for_count(&rig->world.blocked, 4, SOON));
	assert_int_equal(vqueue_wait(&rig->queues[TRANSMIT], 20, NULL, NULL), 0);
}

/* Nobody tells of room that never comes: time alone ends the wait. */
static void patience_ends_by_itself(void **state)
{
	struct rig *rig = *state;

	rig->world.room = 0;
	print(rig, "lost");
	assert_true(wait_for_count(&rig->world.blocked, 1, SOON));
	assert_int_equal(vqueue_wait(&rig->queues[TRANSMIT], 20, NULL, NULL), 0);
	pass_time(rig, NSEC_PER_SEC);
	assert_printed(rig);
}

/* Of a protected VM (device/stream_hold.h): it waits as long as it takes, and only then for the reader. */
static void held_output_is_not_dropped(void **state)
{
	struct rig *rig = *state;

	rig->world.room = 0;
	rig->world.stream.waits_for_leave = world_waits_for_leave;
	__atomic_store_n(&rig->world.held, true, __ATOMIC_RELEASE);
	print(rig, "lost");
	for (uint32_t i = 1; i <= 4; i++) {
		assert_true(wait_for_count(&rig->world.blocked, i, SOON));
		assert_int_equal(vqueue_wait(&rig->queues[TRANSMIT], 20, NULL, NULL), 0);
		if (i == 4)
			__atomic_store_n(&rig->world.held, false, __ATOMIC_RELEASE);
		pass_time(rig, NSEC_PER_SEC);
	}
	assert_true(wait_for_count(&rig->world.blocked, 5, SOON));
	assert_int_equal(vqueue_wait(&rig->queues[TRANSMIT], 20, NULL, NULL), 0);
	pass_time(rig, NSEC_PER_SEC);
	assert_printed(rig);
}

static void reset_while_the_stream_is_full(void **state)
{
	struct rig *rig = *state;

	rig->world.room = 1;
	print(rig, "abc");
	assert_true(wait_for_count(&rig->world.blocked, 1, SOON));
	assert_int_equal(vdriver_reset(&rig->driver), 0);
	give_room(&rig->world, SIZE_MAX);
	bring_up(rig);
	print(rig, "new");
	assert_printed(rig);
	assert_world_got(&rig->world, "anew");
}

static void broken_queue_needs_a_reset(void **state)
{
	static const unsigned int queues[] = { RECEIVE, TRANSMIT };
	struct rig *rig = *state;

	for (size_t i = 0; i < ARRAY_SIZE(queues); i++) {
		bring_up(rig);
		assert_int_equal(type(&rig->world, "x", 1), 1);
		vqueue_publish(&rig->queues[queues[i]], 60000);
		vqueue_kick_anyway(&rig->queues[queues[i]]);
		for (unsigned int ms = 0; ms < SOON && vdriver_status(&rig->driver) == VSTATUS_OK;
		     ms++)
			usleep(1000);
		assert_int_equal(vdriver_status(&rig->driver), VSTATUS_OK | VSTATUS_NEEDS_RESET);
	}
}

/* The rest of the rig, once a second device has the first one's state and memory. */
static void follow(struct rig *to, const struct rig *from)
{
	to->driver = from->driver;
	to->driver.machine = to->m;
	for (unsigned int i = 0; i < 2; i++) {
		to->queues[i] = from->queues[i];
		to->queues[i].driver = &to->driver;
	}
	to->in = from->in;
	to->out = from->out;
}

/* Half a line is out, more waits, and input waits the other way: all of it goes on in the second machine. */
static void busy_console_goes_on_elsewhere(void **state)
{
	struct rig *rig = *state;
	struct rig to = { 0 };
	struct buffer stream;
	struct error err = { 0 };

	buffer_init(&stream, MIB(1));
	rig->world.room = 3;
	print(rig, "abcdef");
	print(rig, "gh");
	assert_true(wait_for_count(&rig->world.blocked, 1, SOON));
	assert_int_equal(type(&rig->world, "typed", 5), 5);
	quiesce_begin(&rig->m->quiesce);
	assert_int_equal(vdevice_save(rig->m, rig->device, &stream), 0);
	add_device(&to);
	vmachine_copy_memory(to.m, rig->m);
	assert_int_equal(vdevice_load(to.m, to.device, &stream, &err), 0);
	assert_null(state_compare(to.device->table, rig->device->state, to.device->state));
	quiesce_end(&rig->m->quiesce);
	follow(&to, rig);
	assert_int_equal(vdevice_start(to.device), 0);
	assert_printed(&to);
	assert_printed(&to);
	assert_world_got(&to.world, "defgh");
	offer(&to, 0, 64);
	assert_input(&to, 0, "typed");
	assert_int_equal(vqueue_get(&rig->queues[TRANSMIT], NULL, NULL), 0);
	buffer_release(&stream);
	free_device(&to);
}

static void impossible_state_is_refused(void **state)
{
	struct rig *rig = *state;
	const struct state_table *table = rig->device->table;
	struct virtio_state *virtio = rig->device->state;
	struct virtio_queue_state *q;

	assert_int_equal(table->check(rig->device->state, NULL), 0);
	for (unsigned int queue = RECEIVE; queue <= TRANSMIT; queue++) {
		q = &virtio->queues[queue];
		q->inflight[0] = 1;
		q->inflight[1] = 2;
		q->n_inflight = 2;
		assert_true(table->check(rig->device->state, NULL) < 0);
		q->n_inflight = 0;
	}
}

#define FRESH(name) cmocka_unit_test_setup_teardown(name, make_rig, free_rig)
#define WORKING(name) cmocka_unit_test_setup_teardown(name, make_working_rig, free_rig)

int main(void)
{
	const struct CMUnitTest tests[] = {
		WORKING(output_arrives_in_order),
		WORKING(long_output_is_cut_into_pieces),
		WORKING(input_fills_offered_buffers),
		WORKING(input_waits_for_buffers),
		WORKING(rest_of_input_waits_for_the_next_buffer),
		FRESH(no_input_needs_no_kicks),
		FRESH(input_waits_for_the_driver),
		WORKING(input_is_bounded),
		WORKING(full_stream_holds_output),
		WORKING(reader_that_does_not_read_loses_output),
		WORKING(patience_ends_by_itself),
		WORKING(held_output_is_not_dropped),
		WORKING(reset_while_the_stream_is_full),
		FRESH(broken_queue_needs_a_reset),
		WORKING(busy_console_goes_on_elsewhere),
		FRESH(impossible_state_is_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
