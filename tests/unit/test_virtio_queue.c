/* SPDX-License-Identifier: Apache-2.0 */

/* The virtqueue alone: what it takes, what it refuses, what it tells the driver. */

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "memory/dirty.h"
#include "virtio_driver.h"

#define SIZE 16
#define F_NEXT 1
#define F_WRITE 2
#define F_INDIRECT 4

struct rig {
	struct vmachine *m;
	struct vdriver driver;
	struct vqueue guest;
	struct virtio_queue_state state;
	struct virtio_queue queue;
	struct virtio_chain chain;
	uint64_t page; /* of guest memory, for buffers */
};

static void begin_with(struct rig *rig, uint64_t features)
{
	rig->driver.features = features;
	assert_int_equal(virtio_queue_start(&rig->queue, rig->m->memory, &rig->state, features), 0);
}

static int make_rig(void **state)
{
	struct rig *rig = calloc(1, sizeof(*rig));

	assert_non_null(rig);
	rig->m = vmachine_new(MIB(8), NULL);
	assert_non_null(rig->m);
	rig->driver.machine = rig->m;
	assert_int_equal(vqueue_place(&rig->driver, 0, SIZE, &rig->guest), 0);
	rig->page = vmachine_alloc(rig->m, MEMORY_PAGE_SIZE, MEMORY_PAGE_SIZE);
	rig->state = (struct virtio_queue_state){
		.size = SIZE,
		.max_size = SIZE,
		.enabled = 1,
		.msix_vector = VIRTIO_NO_VECTOR,
		.desc = rig->guest.desc,
		.driver = rig->guest.avail,
		.device = rig->guest.used,
	};
	begin_with(rig, VIRTIO_F_INDIRECT_DESC);
	*state = rig;
	return 0;
}

static int free_rig(void **state)
{
	struct rig *rig = *state;

	vmachine_free(rig->m);
	free(rig);
	return 0;
}

static int pop(struct rig *rig)
{
	return virtio_queue_pop(&rig->queue, &rig->chain);
}

/* One descriptor with these contents, available. */
static void offer(struct rig *rig, uint64_t address, uint32_t len, uint16_t flags, uint16_t next)
{
	vqueue_write_desc(&rig->guest, 0, address, len, flags, next);
	vqueue_publish(&rig->guest, 0);
}

/* Refused, and refused from then on, with the memory safe. */
static void assert_broken(struct rig *rig)
{
	assert_int_equal(pop(rig), -EPROTO);
	assert_int_equal(pop(rig), -EPROTO);
	assert_false(virtio_queue_has_avail(&rig->queue));
	assert_int_equal(rig->state.n_inflight, 0);
}

static void empty_queue_gives_nothing(void **state)
{
	struct rig *rig = *state;

	assert_int_equal(pop(rig), 0);
	assert_false(virtio_queue_has_avail(&rig->queue));
}

static void pop_gives_buffers_in_order(void **state)
{
	struct rig *rig = *state;
	const struct vbuffer buffers[] = {
		{ rig->page, 16, false },
		{ rig->page + 100, 1, false },
		{ rig->page + 200, 512, true },
	};
	int head = vqueue_add(&rig->guest, buffers, 3);

	assert_true(virtio_queue_has_avail(&rig->queue));
	assert_int_equal(pop(rig), 1);
	assert_int_equal(rig->chain.head, head);
	assert_int_equal(rig->chain.n_out, 2);
	assert_int_equal(rig->chain.n_in, 1);
	assert_int_equal(rig->chain.out_len, 17);
	assert_int_equal(rig->chain.in_len, 512);
	assert_ptr_equal(rig->chain.iov[1].iov_base, vmachine_at(rig->m, rig->page + 100, 1));
	assert_int_equal(virtio_chain_in(&rig->chain)->iov_len, 512);
	assert_int_equal(rig->chain.at[2].v, rig->page + 200);
	assert_int_equal(pop(rig), 0);
}

static void push_tells_head_and_length(void **state)
{
	struct rig *rig = *state;
	const struct vbuffer buffer = { rig->page, 512, true };
	int head = vqueue_add(&rig->guest, &buffer, 1);
	uint16_t used;
	uint32_t len;

	assert_int_equal(pop(rig), 1);
	assert_int_equal(vqueue_get(&rig->guest, NULL, NULL), 0);
	virtio_queue_push(&rig->queue, &rig->chain, 77);
	assert_int_equal(vqueue_get(&rig->guest, &used, &len), 1);
	assert_int_equal(used, head);
	assert_int_equal(len, 77);
}

static void push_never_tells_more_than_there_was_room_for(void **state)
{
	struct rig *rig = *state;
	const struct vbuffer buffer = { rig->page, 512, true };
	uint32_t len;

	vqueue_add(&rig->guest, &buffer, 1);
	assert_int_equal(pop(rig), 1);
	virtio_queue_push(&rig->queue, &rig->chain, UINT32_MAX);
	assert_int_equal(vqueue_get(&rig->guest, NULL, &len), 1);
	assert_int_equal(len, 512);
}

static void in_flight_list_keeps_order_of_popping(void **state)
{
	struct rig *rig = *state;
	struct virtio_chain chains[3];
	const struct vbuffer buffer = { rig->page, 8, true };

	for (unsigned int i = 0; i < 3; i++) {
		vqueue_add(&rig->guest, &buffer, 1);
		assert_int_equal(virtio_queue_pop(&rig->queue, &chains[i]), 1);
	}
	virtio_queue_push(&rig->queue, &chains[1], 0);
	assert_int_equal(rig->state.n_inflight, 2);
	assert_int_equal(rig->state.inflight[0], chains[0].head);
	assert_int_equal(rig->state.inflight[1], chains[2].head);
	virtio_queue_push(&rig->queue, &chains[0], 0);
	virtio_queue_push(&rig->queue, &chains[2], 0);
	assert_int_equal(rig->state.n_inflight, 0);
}

static void unpopped_chain_comes_again(void **state)
{
	struct rig *rig = *state;
	const struct vbuffer buffer = { rig->page, 8, true };
	int head = vqueue_add(&rig->guest, &buffer, 1);

	assert_int_equal(pop(rig), 1);
	virtio_queue_unpop(&rig->queue, &rig->chain);
	assert_int_equal(rig->state.n_inflight, 0);
	virtio_queue_unpop(&rig->queue, &rig->chain); /* not the last one popped: nothing */
	assert_int_equal(pop(rig), 1);
	assert_int_equal(rig->chain.head, head);
	assert_int_equal(pop(rig), 0);
}

static void indices_wrap(void **state)
{
	struct rig *rig = *state;
	const struct vbuffer buffer = { rig->page, 8, true };

	for (unsigned int i = 0; i < 70000; i++) {
		uint16_t head;

		assert_true(vqueue_add(&rig->guest, &buffer, 1) >= 0);
		assert_int_equal(pop(rig), 1);
		virtio_queue_push(&rig->queue, &rig->chain, 8);
		assert_int_equal(vqueue_get(&rig->guest, &head, NULL), 1);
		assert_int_equal(head, rig->chain.head);
	}
	assert_int_equal(rig->state.next_used, (uint16_t)70000);
}

static void indirect_table_is_followed(void **state)
{
	struct rig *rig = *state;
	const struct vbuffer buffers[] = { { rig->page, 16, false }, { rig->page + 16, 32, true } };

	vqueue_add_indirect(&rig->guest, buffers, 2);
	assert_int_equal(pop(rig), 1);
	assert_int_equal(rig->chain.out_len, 16);
	assert_int_equal(rig->chain.in_len, 32);
}

/* virtio 1.2, 2.7.5.3.2: a device must handle it. */
static void indirect_table_may_end_a_direct_chain(void **state)
{
	struct rig *rig = *state;
	uint64_t table = vmachine_alloc(rig->m, 16, 16);

	memset(vmachine_at(rig->m, table, 16), 0, 16);
	*(uint64_t *)vmachine_at(rig->m, table, 8) = rig->page;
	*(uint32_t *)vmachine_at(rig->m, table + 8, 4) = 64;
	vqueue_write_desc(&rig->guest, 3, table, 16, F_INDIRECT | F_WRITE, 0);
	offer(rig, rig->page, 4, F_NEXT, 3);
	assert_int_equal(pop(rig), 1);
	assert_int_equal(rig->chain.n_out, 2);
	assert_int_equal(rig->chain.out_len, 68);
}

static void indirect_must_be_negotiated(void **state)
{
	struct rig *rig = *state;
	const struct vbuffer buffer = { rig->page, 8, true };

	begin_with(rig, 0);
	vqueue_add_indirect(&rig->guest, &buffer, 1);
	assert_broken(rig);
}

static void indirect_never_nests(void **state)
{
	struct rig *rig = *state;

	/* The table's only entry names the table itself. */
	vqueue_write_desc(&rig->guest, 1, rig->guest.desc + 16, 16, F_INDIRECT, 0);
	offer(rig, rig->guest.desc + 16, 16, F_INDIRECT, 0);
	assert_broken(rig);
}

static void indirect_has_no_next(void **state)
{
	struct rig *rig = *state;

	offer(rig, rig->page, 16, F_INDIRECT | F_NEXT, 1);
	assert_broken(rig);
}

static void indirect_lengths_are_judged(void **state)
{
	static const uint32_t lengths[] = { 0, 8, 17, 16 * (LIMIT_QUEUE_SIZE + 1), 0xfffffff0 };
	struct rig *rig = *state;

	for (size_t i = 0; i < ARRAY_SIZE(lengths); i++) {
		offer(rig, rig->page, lengths[i], F_INDIRECT, 0);
		assert_broken(rig);
		rig->state.next_avail++;
		begin_with(rig, VIRTIO_F_INDIRECT_DESC);
	}
}

static void indirect_table_lies_in_ram(void **state)
{
	struct rig *rig = *state;

	offer(rig, MIB(4) + 4096, 16, F_INDIRECT, 0);
	assert_broken(rig);
}

static void indirect_next_stays_in_its_table(void **state)
{
	struct rig *rig = *state;
	uint64_t table = vmachine_alloc(rig->m, 16, 16);

	*(uint64_t *)vmachine_at(rig->m, table, 8) = rig->page;
	*(uint64_t *)vmachine_at(rig->m, table + 8, 8) = 8 | (uint64_t)F_NEXT << 32 | 1ULL << 48;
	offer(rig, table, 16, F_INDIRECT, 0);
	assert_broken(rig);
}

static void cycle_ends(void **state)
{
	struct rig *rig = *state;

	vqueue_write_desc(&rig->guest, 1, rig->page, 0, F_NEXT, 0);
	offer(rig, rig->page, 0, F_NEXT, 1);
	assert_broken(rig);
}

static void self_cycle_in_table_ends(void **state)
{
	struct rig *rig = *state;
	uint64_t table = vmachine_alloc(rig->m, 16, 16);

	*(uint64_t *)vmachine_at(rig->m, table, 8) = rig->page;
	*(uint64_t *)vmachine_at(rig->m, table + 8, 8) = (uint64_t)F_NEXT << 32;
	offer(rig, table, 16, F_INDIRECT, 0);
	assert_broken(rig);
}

static void next_outside_the_queue_is_refused(void **state)
{
	struct rig *rig = *state;

	offer(rig, rig->page, 8, F_NEXT, SIZE);
	assert_broken(rig);
}

static void head_outside_the_queue_is_refused(void **state)
{
	static const uint16_t heads[] = { SIZE, LIMIT_QUEUE_SIZE, UINT16_MAX };
	struct rig *rig = *state;

	for (size_t i = 0; i < ARRAY_SIZE(heads); i++) {
		vqueue_publish(&rig->guest, heads[i]);
		assert_broken(rig);
		rig->state.next_avail++;
		begin_with(rig, 0);
	}
}

static void head_in_flight_is_refused(void **state)
{
	struct rig *rig = *state;

	offer(rig, rig->page, 8, F_WRITE, 0);
	assert_int_equal(pop(rig), 1);
	vqueue_publish(&rig->guest, 0);
	assert_int_equal(pop(rig), -EPROTO);
	assert_int_equal(rig->state.n_inflight, 1);
}

static void avail_index_beyond_the_ring_is_refused(void **state)
{
	struct rig *rig = *state;

	rig->guest.avail_idx = SIZE;
	vqueue_publish(&rig->guest, 0);
	assert_true(virtio_queue_has_avail(&rig->queue)); /* pop has news, if bad ones */
	assert_broken(rig);
}

static void readable_after_writable_is_refused(void **state)
{
	struct rig *rig = *state;

	vqueue_write_desc(&rig->guest, 1, rig->page, 8, 0, 0);
	offer(rig, rig->page, 8, F_WRITE | F_NEXT, 1);
	assert_broken(rig);
}

static void buffers_resolve_to_ram_only(void **state)
{
	static const struct {
		uint64_t address;
		uint32_t len;
	} bad[] = {
		{ MIB(4) - 8, 9 },		   /* over the first bank's end */
		{ MIB(4), 1 },			   /* the hole */
		{ MIB(4) + VMACHINE_HOLE - 1, 2 }, /* into the second bank from below */
		{ MIB(8) + VMACHINE_HOLE - 1, 2 }, /* over the end of RAM */
		{ 0xc0000000, 4096 },		   /* a device's registers */
		{ UINT64_MAX - 3, 8 },		   /* around the end of addresses */
		{ 0, UINT32_MAX },
	};
	struct rig *rig = *state;

	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		offer(rig, bad[i].address, bad[i].len, i & 1 ? F_WRITE : 0, 0);
		assert_broken(rig);
		rig->state.next_avail++;
		begin_with(rig, 0);
	}
	offer(rig, MIB(4) + VMACHINE_HOLE, 4096, F_WRITE, 0);
	assert_int_equal(pop(rig), 1);
}

static void chain_has_at_most_256_buffers(void **state)
{
	struct rig *rig = *state;
	struct vbuffer buffers[VIRTIO_CHAIN_MAX + 1];

	for (size_t i = 0; i < ARRAY_SIZE(buffers); i++)
		buffers[i] = (struct vbuffer){ rig->page, 1, true };
	vqueue_add_indirect(&rig->guest, buffers, VIRTIO_CHAIN_MAX);
	assert_int_equal(pop(rig), 1);
	assert_int_equal(rig->chain.n_in, VIRTIO_CHAIN_MAX);
	virtio_queue_push(&rig->queue, &rig->chain, 0);
	vqueue_add_indirect(&rig->guest, buffers, VIRTIO_CHAIN_MAX + 1);
	assert_broken(rig);
}

static void empty_buffers_are_left_out(void **state)
{
	struct rig *rig = *state;
	const struct vbuffer buffers[] = { { 0xc0000000, 0, false }, { rig->page, 8, true } };

	vqueue_add(&rig->guest, buffers, 2);
	assert_int_equal(pop(rig), 1);
	assert_int_equal(rig->chain.n_out, 0);
	assert_int_equal(rig->chain.n_in, 1);
}

static int try_start(struct rig *rig, const struct virtio_queue_state *changed)
{
	struct virtio_queue queue = { 0 };
	struct virtio_queue_state copy = *changed;

	return virtio_queue_start(&queue, rig->m->memory, &copy, 0);
}

static void geometry_is_judged_at_start(void **state)
{
	struct rig *rig = *state;
	struct virtio_queue_state s = rig->state;

#define REFUSED(field, value)                                                                      \
	do {                                                                                       \
		s = rig->state;                                                                    \
		s.field = (value);                                                                 \
		assert_int_equal(try_start(rig, &s), -EINVAL);                                     \
	} while (0)
	assert_int_equal(try_start(rig, &s), 0);
	REFUSED(size, 0);
	REFUSED(size, 12);
	REFUSED(size, 2 * LIMIT_QUEUE_SIZE);
	REFUSED(desc, s.desc + 8);
	REFUSED(driver, s.driver + 1);
	REFUSED(device, s.device + 2);
	REFUSED(desc, 0xc0000000);
	REFUSED(driver, MIB(4) - 4);
	REFUSED(device, MIB(4) - 4);
	REFUSED(device, UINT64_MAX - 3);
	REFUSED(n_inflight, SIZE + 1);
#undef REFUSED
}

static void loaded_in_flight_heads_are_judged(void **state)
{
	struct rig *rig = *state;
	struct virtio_queue_state s = rig->state;

	s.n_inflight = 2;
	s.inflight[0] = 3;
	s.inflight[1] = 4;
	assert_int_equal(virtio_queue_state_check(&s), 0);
	s.inflight[1] = 3;
	assert_int_equal(virtio_queue_state_check(&s), -EINVAL);
	assert_int_equal(try_start(rig, &s), -EINVAL);
	s.inflight[1] = SIZE;
	assert_int_equal(virtio_queue_state_check(&s), -EINVAL);
}

static void loaded_sizes_are_judged(void **state)
{
	struct rig *rig = *state;
	struct virtio_queue_state s = rig->state;

	s.size = 2 * SIZE;
	assert_int_equal(virtio_queue_state_check(&s), -EINVAL);
	s = rig->state;
	s.max_size = 0;
	assert_int_equal(virtio_queue_state_check(&s), -EINVAL);
	s = rig->state;
	s.enabled = 2;
	assert_int_equal(virtio_queue_state_check(&s), -EINVAL);
}

static void refetch_reads_the_chain_in_flight(void **state)
{
	struct rig *rig = *state;
	const struct vbuffer buffers[] = { { rig->page, 16, false }, { rig->page + 16, 32, true } };
	struct virtio_chain again;
	struct virtio_queue second = { 0 };
	struct virtio_queue_state loaded;

	vqueue_add(&rig->guest, buffers, 2);
	assert_int_equal(pop(rig), 1);
	loaded = rig->state;
	assert_int_equal(virtio_queue_start(&second, rig->m->memory, &loaded, 0), 0);
	assert_int_equal(virtio_queue_refetch(&second, 0, &again), 0);
	assert_int_equal(again.head, rig->chain.head);
	assert_int_equal(again.in_len, 32);
	assert_int_equal(virtio_queue_refetch(&second, 1, &again), -EPROTO);
	assert_int_equal(virtio_queue_pop(&second, &again), 0);
}

static void refetch_of_a_spoilt_chain_breaks_the_queue(void **state)
{
	struct rig *rig = *state;

	offer(rig, rig->page, 8, F_WRITE, 0);
	assert_int_equal(pop(rig), 1);
	vqueue_write_desc(&rig->guest, 0, 0xc0000000, 8, F_WRITE, 0);
	assert_int_equal(virtio_queue_refetch(&rig->queue, 0, &rig->chain), -EPROTO);
	assert_int_equal(pop(rig), -EPROTO);
}

static void stopped_queue_is_silent(void **state)
{
	struct rig *rig = *state;
	const struct vbuffer buffer = { rig->page, 8, true };
	struct virtio_queue_state before;

	vqueue_add(&rig->guest, &buffer, 1);
	vqueue_add(&rig->guest, &buffer, 1);
	assert_int_equal(pop(rig), 1);
	before = rig->state;
	virtio_queue_stop(&rig->queue);
	virtio_queue_push(&rig->queue, &rig->chain, 8);
	virtio_queue_unpop(&rig->queue, &rig->chain);
	assert_int_equal(pop(rig), 0);
	assert_false(virtio_queue_should_signal(&rig->queue));
	assert_false(virtio_queue_enable_kicks(&rig->queue));
	assert_int_equal(vqueue_get(&rig->guest, NULL, NULL), 0);
	assert_null(state_compare(&virtio_queue_state_table, &before, &rig->state));
}

static void pass_one(struct rig *rig)
{
	const struct vbuffer buffer = { rig->page, 8, true };

	assert_true(vqueue_add(&rig->guest, &buffer, 1) >= 0);
	assert_int_equal(pop(rig), 1);
	virtio_queue_push(&rig->queue, &rig->chain, 8);
}

static void interrupt_flag_is_honoured(void **state)
{
	struct rig *rig = *state;

	pass_one(rig);
	assert_true(virtio_queue_should_signal(&rig->queue));
	*(uint16_t *)vmachine_at(rig->m, rig->guest.avail, 2) = 1;
	pass_one(rig);
	assert_false(virtio_queue_should_signal(&rig->queue));
}

static void set_used_event(struct rig *rig, uint16_t position)
{
	*(uint16_t *)vmachine_at(rig->m, rig->guest.avail + 4 + 2 * SIZE, 2) = position;
}

static void interrupt_comes_when_the_event_index_is_passed(void **state)
{
	struct rig *rig = *state;

	begin_with(rig, VIRTIO_F_EVENT_IDX);
	pass_one(rig);
	assert_true(virtio_queue_should_signal(&rig->queue)); /* the first is always told */
	set_used_event(rig, 3);
	pass_one(rig);
	assert_false(virtio_queue_should_signal(&rig->queue));
	pass_one(rig);
	assert_false(virtio_queue_should_signal(&rig->queue));
	pass_one(rig);
	assert_true(virtio_queue_should_signal(&rig->queue));
	assert_false(virtio_queue_should_signal(&rig->queue));
}

static void event_index_passed_long_ago_is_no_reason(void **state)
{
	struct rig *rig = *state;

	begin_with(rig, VIRTIO_F_EVENT_IDX);
	pass_one(rig);
	assert_true(virtio_queue_should_signal(&rig->queue)); /* the driver leaves its index at 0 */
	pass_one(rig);
	assert_false(virtio_queue_should_signal(&rig->queue));
}

static void no_push_is_no_reason_for_an_interrupt(void **state)
{
	struct rig *rig = *state;

	assert_false(virtio_queue_should_signal(&rig->queue));
	pass_one(rig);
	assert_true(virtio_queue_should_signal(&rig->queue));
	assert_false(virtio_queue_should_signal(&rig->queue));
}

/* Pushed, saved, loaded: the interrupt that the first machine had not sent is the second one's to send. */
static void interrupt_owed_before_a_save_is_sent_after(void **state)
{
	struct rig *rig = *state;

	pass_one(rig);
	begin_with(rig, 0);
	assert_true(virtio_queue_should_signal(&rig->queue));
}

static void event_index_wraps(void **state)
{
	struct rig *rig = *state;

	rig->state.next_used = rig->state.signalled_used = 65534;
	rig->state.signalled_valid = 1;
	begin_with(rig, VIRTIO_F_EVENT_IDX);
	set_used_event(rig, 0);
	pass_one(rig);
	pass_one(rig);
	assert_false(virtio_queue_should_signal(&rig->queue));
	pass_one(rig);
	assert_true(virtio_queue_should_signal(&rig->queue));
}

static void kicks_are_asked_for_by_flag(void **state)
{
	struct rig *rig = *state;
	const struct vbuffer buffer = { rig->page, 8, true };
	const uint16_t *flags = vmachine_at(rig->m, rig->guest.used, 2);

	virtio_queue_disable_kicks(&rig->queue);
	assert_int_equal(*flags, 1);
	assert_false(virtio_queue_enable_kicks(&rig->queue));
	assert_int_equal(*flags, 0);
	vqueue_add(&rig->guest, &buffer, 1);
	assert_true(virtio_queue_enable_kicks(&rig->queue)); /* came in meanwhile */
}

static void kicks_are_asked_for_by_index(void **state)
{
	struct rig *rig = *state;
	const uint16_t *event = vmachine_at(rig->m, rig->guest.used + 4 + 8 * SIZE, 2);
	const uint16_t *flags = vmachine_at(rig->m, rig->guest.used, 2);

	begin_with(rig, VIRTIO_F_EVENT_IDX);
	pass_one(rig);
	virtio_queue_disable_kicks(&rig->queue);
	assert_int_equal(*flags, 0);
	assert_int_equal(*event, 0);
	assert_false(virtio_queue_enable_kicks(&rig->queue));
	assert_int_equal(*event, 1);
}

static bool is_dirty(const struct dirty_bitmap *bitmap, uint64_t address)
{
	uint64_t page = address / MEMORY_PAGE_SIZE;

	return bitmap->words[page / 64] >> (page % 64) & 1;
}

static void collect(struct rig *rig, struct dirty_bitmap *bitmap)
{
	assert_int_equal(dirty_bitmap_init(bitmap, rig->m->memory), 0);
	assert_int_equal(memory_dirty_collect(rig->m->memory, bitmap), 0);
}

/* A write of ours that is not in the dirty log is lost by a move. */
static void push_marks_what_was_written(void **state)
{
	struct rig *rig = *state;
	uint64_t data = vmachine_alloc(rig->m, 4 * MEMORY_PAGE_SIZE, MEMORY_PAGE_SIZE);
	const struct vbuffer buffers[] = {
		{ data, 4096, false },
		{ data + 4096, 4096, true },
		{ data + 8192, 4096, true },
		{ data + 12288, 4096, true },
	};
	struct dirty_bitmap bitmap;

	vqueue_add(&rig->guest, buffers, 4);
	assert_int_equal(pop(rig), 1);
	assert_int_equal(memory_dirty_start(rig->m->memory), 0);
	virtio_queue_push(&rig->queue, &rig->chain, 4097);
	collect(rig, &bitmap);
	assert_false(is_dirty(&bitmap, data));
	assert_true(is_dirty(&bitmap, data + 4096));
	assert_true(is_dirty(&bitmap, data + 8192));
	assert_false(is_dirty(&bitmap, data + 12288));
	assert_true(is_dirty(&bitmap, rig->guest.used));
	assert_int_equal(dirty_bitmap_count(&bitmap), 3);
	dirty_bitmap_release(&bitmap);
	memory_dirty_stop(rig->m->memory);
}

/* In a large used ring the element and the index lie on different pages. */
static void push_marks_the_used_ring(void **state)
{
	struct rig *rig = *state;
	const struct vbuffer buffer = { rig->page, 1, false };
	struct dirty_bitmap bitmap;

	assert_int_equal(vqueue_place(&rig->driver, 0, LIMIT_QUEUE_SIZE, &rig->guest), 0);
	rig->state.size = LIMIT_QUEUE_SIZE;
	rig->state.desc = rig->guest.desc;
	rig->state.driver = rig->guest.avail;
	rig->state.device = rig->guest.used = vmachine_alloc(rig->m, 3 * MEMORY_PAGE_SIZE,
							     MEMORY_PAGE_SIZE);
	rig->state.next_used = 600;
	begin_with(rig, 0);
	assert_int_equal(memory_dirty_start(rig->m->memory), 0);
	vqueue_add(&rig->guest, &buffer, 1);
	assert_int_equal(pop(rig), 1);
	virtio_queue_push(&rig->queue, &rig->chain, 0);
	collect(rig, &bitmap);
	assert_true(is_dirty(&bitmap, rig->guest.used));
	assert_true(is_dirty(&bitmap, rig->guest.used + 600 * 8 + 4));
	assert_int_equal(dirty_bitmap_count(&bitmap), 2);
	dirty_bitmap_release(&bitmap);
	memory_dirty_stop(rig->m->memory);
}

static void asking_for_kicks_marks_the_used_ring(void **state)
{
	static const uint64_t features[] = { 0, VIRTIO_F_EVENT_IDX };
	struct rig *rig = *state;

	for (size_t i = 0; i < ARRAY_SIZE(features); i++) {
		struct dirty_bitmap bitmap;

		begin_with(rig, features[i]);
		virtio_queue_disable_kicks(&rig->queue);
		assert_int_equal(memory_dirty_start(rig->m->memory), 0);
		virtio_queue_enable_kicks(&rig->queue);
		collect(rig, &bitmap);
		assert_true(is_dirty(&bitmap, rig->guest.used));
		assert_int_equal(dirty_bitmap_count(&bitmap), 1);
		dirty_bitmap_release(&bitmap);
		memory_dirty_stop(rig->m->memory);
	}
}

static void iov_copies_find_their_offset(void **state _unused_)
{
	char a[4] = "abc", b[1], c[5] = "defg", out[8] = { 0 };
	const struct iovec iov[] = { { a, 3 }, { b, 0 }, { c, 4 } };

	assert_int_equal(iov_to_buf(iov, 3, 2, out, sizeof(out)), 5);
	assert_string_equal(out, "cdefg");
	assert_int_equal(iov_to_buf(iov, 3, 7, out, 1), 0);
	assert_int_equal(iov_to_buf(iov, 3, SIZE_MAX, out, 1), 0);
	assert_int_equal(iov_from_buf(iov, 3, 1, "XYZ", 3), 3);
	assert_string_equal(a, "aXY");
	assert_string_equal(c, "Zefg");
	assert_int_equal(iov_from_buf(iov, 3, 5, "1234", 4), 2);
	assert_string_equal(c, "Ze12");
}

#define CASE(name) cmocka_unit_test_setup_teardown(name, make_rig, free_rig)

int main(void)
{
	const struct CMUnitTest tests[] = {
		CASE(empty_queue_gives_nothing),
		CASE(pop_gives_buffers_in_order),
		CASE(push_tells_head_and_length),
		CASE(push_never_tells_more_than_there_was_room_for),
		CASE(in_flight_list_keeps_order_of_popping),
		CASE(unpopped_chain_comes_again),
		CASE(indices_wrap),
		CASE(indirect_table_is_followed),
		CASE(indirect_table_may_end_a_direct_chain),
		CASE(indirect_must_be_negotiated),
		CASE(indirect_never_nests),
		CASE(indirect_has_no_next),
		CASE(indirect_lengths_are_judged),
		CASE(indirect_table_lies_in_ram),
		CASE(indirect_next_stays_in_its_table),
		CASE(cycle_ends),
		CASE(self_cycle_in_table_ends),
		CASE(next_outside_the_queue_is_refused),
		CASE(head_outside_the_queue_is_refused),
		CASE(head_in_flight_is_refused),
		CASE(avail_index_beyond_the_ring_is_refused),
		CASE(readable_after_writable_is_refused),
		CASE(buffers_resolve_to_ram_only),
		CASE(chain_has_at_most_256_buffers),
		CASE(empty_buffers_are_left_out),
		CASE(geometry_is_judged_at_start),
		CASE(loaded_in_flight_heads_are_judged),
		CASE(loaded_sizes_are_judged),
		CASE(refetch_reads_the_chain_in_flight),
		CASE(refetch_of_a_spoilt_chain_breaks_the_queue),
		CASE(stopped_queue_is_silent),
		CASE(interrupt_flag_is_honoured),
		CASE(interrupt_comes_when_the_event_index_is_passed),
		CASE(event_index_passed_long_ago_is_no_reason),
		CASE(no_push_is_no_reason_for_an_interrupt),
		CASE(interrupt_owed_before_a_save_is_sent_after),
		CASE(event_index_wraps),
		CASE(kicks_are_asked_for_by_flag),
		CASE(kicks_are_asked_for_by_index),
		CASE(push_marks_what_was_written),
		CASE(push_marks_the_used_ring),
		CASE(asking_for_kicks_marks_the_used_ring),
		cmocka_unit_test(iov_copies_find_their_offset),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
