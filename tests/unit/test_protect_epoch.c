/* SPDX-License-Identifier: Apache-2.0 */
/* Epochs carry RAM as it was when they were cut, and nothing of one that is not whole reaches RAM. */
#include "epoch_rig.h"

#include <errno.h>
#include <fcntl.h>

#include "base/endian.h"

#define EPOCHS 60

static uint64_t draw(uint64_t *seed)
{
	*seed = *seed * 6364136223846793005ULL + 1442695040888963407ULL;
	return *seed >> 33;
}

static gpa_t address(uint64_t page)
{
	return gpa(page < EPOCH_HOLE / MEMORY_PAGE_SIZE
			   ? page * MEMORY_PAGE_SIZE
			   : GIB(4) - EPOCH_HOLE + page * MEMORY_PAGE_SIZE);
}

/* As guests do: a few words here, whole pages there, some to zero, many of them again and again. */
static void write_some(struct epoch_rig *rig, uint64_t *seed)
{
	const uint64_t n = draw(seed) % 200;

	for (uint64_t i = 0; i < n; i++) {
		const uint64_t page = draw(seed) % (draw(seed) % 2 ? EPOCH_PAGES : 40);
		uint64_t words[MEMORY_PAGE_SIZE / 8], at = draw(seed) % 500 * 8;

		for (size_t k = 0; k < ARRAY_SIZE(words); k++)
			words[k] = draw(seed);
		switch (draw(seed) % 4) {
		case 0:
			assert_int_equal(
				memory_write(rig->owner, address(page), words, sizeof(words)), 0);
			break;
		case 1:
			assert_int_equal(
				memory_fill(rig->owner, address(page), 0, MEMORY_PAGE_SIZE), 0);
			break;
		default:
			assert_int_equal(
				memory_write(rig->owner, gpa(address(page).v + at), words, 96), 0);
		}
	}
}

static void carry(uint64_t cache_bytes, bool pack, struct epoch_counts *ret_counts)
{
	struct epoch_rig *rig = epoch_rig_new(cache_bytes, pack);
	uint64_t seed = 20 + cache_bytes + pack;
	struct epoch_receiver *receiver;
	struct frame_reader reader;
	struct stream *stream;
	int fds[2];

	/* One receiver hears them all: its serials go on. */
	assert_int_equal(pipe(fds), 0);
	assert_int_equal(stream_plain(fds[0], 1000, &stream), 0);
	frame_reader_init(&reader, stream);
	assert_int_equal(epoch_receiver_new(&reader, rig->backup, &rig->origin, NULL, &receiver),
			 0);
	*ret_counts = (struct epoch_counts){ 0 };
	for (int i = 0; i < EPOCHS; i++) {
		struct epoch_bytes bytes;
		struct error err = { 0 };

		write_some(rig, &seed);
		assert_int_equal(buffer_append(&rig->cut.state, "", 0), 0);
		bytes = epoch_rig_send(rig);
		ret_counts->zero_pages += rig->counts.zero_pages;
		ret_counts->delta_pages += rig->counts.delta_pages;
		ret_counts->same_pages += rig->counts.same_pages;
		ret_counts->wire_bytes += rig->counts.wire_bytes;
		assert_int_equal(rig->counts.wire_bytes, bytes.len);
		assert_true(fcntl(fds[1], F_SETPIPE_SZ, (int)MAX(bytes.len, (size_t)4096)) >= 0);
		assert_int_equal(write(fds[1], bytes.data, bytes.len), bytes.len);
		free(bytes.data);
		epoch_clear(&rig->staged, i % 2 ? 0 : 16);
		if (epoch_receive(receiver, &rig->staged, &err) < 0)
			fail_msg("epoch %d: %s", i + 1, err.message);
		assert_int_equal(rig->staged.number, i + 1);
		assert_int_equal(rig->staged.released, i);
		epoch_apply(&rig->staged, rig->backup);
		assert_true(epoch_rig_same(rig));
	}
	epoch_receiver_free(receiver);
	frame_reader_release(&reader);
	stream_free(stream);
	close(fds[1]);
	epoch_rig_free(rig);
}

static void epochs_carry_memory(void **state _unused_)
{
	struct epoch_counts plain, packed, deltas;

	carry(0, false, &plain);
	carry(0, true, &packed);
	carry(MIB(1), false, &deltas);
	assert_true(plain.zero_pages > 0 && plain.delta_pages == 0);
	assert_true(deltas.delta_pages > 0);
	assert_true(packed.wire_bytes < plain.wire_bytes && deltas.wire_bytes < plain.wire_bytes);
	carry(MIB(1), true, &deltas);
}

static void a_page_that_is_as_it_was_does_not_travel(void **state _unused_)
{
	struct epoch_rig *rig = epoch_rig_new(MIB(1), false);
	struct epoch_bytes bytes;

	assert_int_equal(memory_fill(rig->owner, address(3), 1, MEMORY_PAGE_SIZE), 0);
	bytes = epoch_rig_send(rig);
	free(bytes.data);
	assert_int_equal(memory_fill(rig->owner, address(3), 1, MEMORY_PAGE_SIZE), 0);
	bytes = epoch_rig_send(rig);
	assert_int_equal(rig->counts.pages, 1);
	assert_int_equal(rig->counts.same_pages, 1);
	assert_true(bytes.len < 300);
	free(bytes.data);
	epoch_rig_free(rig);
}

/* Of every kind of frame there is one. */
static struct epoch_bytes rich_epoch(struct epoch_rig *rig)
{
	uint64_t seed = 5, words[MEMORY_PAGE_SIZE / 8];

	for (size_t k = 0; k < ARRAY_SIZE(words); k++)
		words[k] = draw(&seed);
	assert_int_equal(memory_write(rig->owner, address(1), words, sizeof(words)), 0);
	assert_int_equal(memory_write(rig->owner, address(EPOCH_PAGES - 1), words, sizeof(words)),
			 0);
	assert_int_equal(memory_fill(rig->owner, address(9), 0, 3 * MEMORY_PAGE_SIZE), 0);
	return epoch_rig_send(rig);
}

static void assert_untouched(const struct epoch_rig *rig)
{
	static const uint8_t zeros[MEMORY_PAGE_SIZE];

	assert_memory_equal(epoch_page(rig->backup, 1), zeros, sizeof(zeros));
	assert_memory_equal(epoch_page(rig->backup, EPOCH_PAGES - 1), zeros, sizeof(zeros));
}

static void what_is_cut_off_is_not_whole(void **state _unused_)
{
	struct epoch_rig *rig = epoch_rig_new(0, false);
	struct epoch_bytes bytes = rich_epoch(rig);
	struct error err = { 0 };

	for (size_t len = 0; len < bytes.len; len += len < 200 || len > bytes.len - 200 ? 1 : 61) {
		assert_true(epoch_rig_hear(rig, bytes.data, len, &err) < 0);
		assert_true(err.message[0]);
		assert_untouched(rig);
	}
	assert_int_equal(epoch_rig_hear(rig, bytes.data, bytes.len, &err), 0);
	assert_int_equal(rig->staged.n_pages, 5);
	free(bytes.data);
	epoch_rig_free(rig);
}

static void a_flipped_bit_is_found(void **state _unused_)
{
	struct epoch_rig *rig = epoch_rig_new(0, false);
	struct epoch_bytes bytes = rich_epoch(rig);
	struct error err = { 0 };

	for (size_t i = 0; i < bytes.len; i += i < 300 || i > bytes.len - 300 ? 1 : 17) {
		bytes.data[i] ^= (uint8_t)(1 << i % 8);
		if (epoch_rig_hear(rig, bytes.data, bytes.len, &err) == 0)
			fail_msg("a bit of byte %zu of %zu", i, bytes.len);
		bytes.data[i] ^= (uint8_t)(1 << i % 8);
	}
	free(bytes.data);
	epoch_rig_free(rig);
}

static void another_session_is_refused(void **state _unused_)
{
	struct epoch_rig *rig = epoch_rig_new(0, false);
	struct epoch_bytes bytes = rich_epoch(rig);
	struct error err = { 0 };

	rig->origin.session.bytes[15]++;
	assert_int_equal(epoch_rig_hear(rig, bytes.data, bytes.len, &err), -ESTALE);
	rig->origin.session.bytes[15]--;
	rig->origin.generation++;
	assert_int_equal(epoch_rig_hear(rig, bytes.data, bytes.len, &err), -ESTALE);
	rig->origin.generation--;
	assert_int_equal(epoch_rig_hear(rig, bytes.data, bytes.len, &err), 0);
	free(bytes.data);
	epoch_rig_free(rig);
}

/* What differs is taken as the difference to what is really there. */
static void a_backup_with_other_memory_finds_out(void **state _unused_)
{
	struct epoch_rig *rig = epoch_rig_new(MIB(1), false);
	struct epoch_bytes bytes;
	struct error err = { 0 };

	assert_int_equal(memory_fill(rig->owner, address(3), 1, MEMORY_PAGE_SIZE), 0);
	bytes = epoch_rig_send(rig);
	assert_int_equal(epoch_rig_hear(rig, bytes.data, bytes.len, &err), 0);
	epoch_apply(&rig->staged, rig->backup);
	free(bytes.data);
	rig->writer.serial = 0; /* a receiver of its own hears it */
	assert_int_equal(memory_fill(rig->owner, address(3), 2, 8), 0);
	bytes = epoch_rig_send(rig);
	assert_int_equal(rig->counts.delta_pages, 1);
	epoch_page(rig->backup, 3)[4000]++;
	assert_int_equal(epoch_rig_hear(rig, bytes.data, bytes.len, &err), -EBADMSG);
	epoch_page(rig->backup, 3)[4000]--;
	assert_int_equal(epoch_rig_hear(rig, bytes.data, bytes.len, &err), 0);
	free(bytes.data);
	epoch_rig_free(rig);
}

/* ---- a peer that says what it likes ---- */

struct says {
	const char *what;
	uint16_t kind;
	uint8_t payload[64];
	size_t len;
	int result;
};

static int hear_frames(struct epoch_rig *rig, const struct says *says, struct error *err)
{
	uint8_t begin[PROTECT_EPOCH_BYTES] = { 0 };
	struct epoch_bytes bytes = { .len = 0 };
	int r;

	le_store(begin, 8, rig->origin.generation);
	memcpy(begin + 8, rig->origin.session.bytes, PROTECT_SESSION_BYTES);
	le_store(begin + 24, 8, 1);
	rig->writer.serial = 0;
	if (says->kind != PROTECT_EPOCH)
		assert_int_equal(frame_send(&rig->writer, PROTECT_EPOCH, begin, sizeof(begin)), 0);
	assert_int_equal(frame_send(&rig->writer, says->kind, says->payload, says->len), 0);
	bytes.len = (size_t)lseek(rig->wire, 0, SEEK_CUR);
	bytes.data = malloc(bytes.len);
	assert_int_equal(pread(rig->wire, bytes.data, bytes.len, 0), bytes.len);
	assert_int_equal(lseek(rig->wire, 0, SEEK_SET), 0);
	r = epoch_rig_hear(rig, bytes.data, bytes.len, err);
	free(bytes.data);
	return r;
}

static void what_cannot_be_is_refused(void **state _unused_)
{
	static const struct says all[] = {
		{ "zeroes of no pages", PROTECT_ZEROES, { 0 }, 12, -EBADMSG },
		{ "zeroes of half a range", PROTECT_ZEROES, { 0 }, 13, -EBADMSG },
		{ "no zeroes", PROTECT_ZEROES, { 0 }, 0, -EBADMSG },
		{ "zeroes beyond RAM", PROTECT_ZEROES, { [4] = 1, [8] = 1 }, 12, -EBADMSG },
		{ "zeroes over RAM's end", PROTECT_ZEROES, { 0xff, 7, [8] = 2 }, 12, -EBADMSG },
		{ "zeroes twice",
		  PROTECT_ZEROES,
		  { 0xff, 6, [8] = 2, [12] = 0, 7, [20] = 1 },
		  24,
		  -EBADMSG },
		{ "pages with a checksum", PROTECT_PAGES, { 1 }, 12, -EBADMSG },
		{ "nothing packed", PROTECT_PACKED, { 1 }, 12, -EBADMSG },
		{ "no difference", PROTECT_DELTAS, { 0 }, 4, -EBADMSG },
		{ "a kind that is not known", 77, { 0 }, 0, -EBADMSG },
		{ "an epoch in an epoch", PROTECT_EPOCH, { 0 }, 8, -EBADMSG },
		{ "an acknowledgement", PROTECT_ACK, { 0 }, PROTECT_ACK_BYTES, -EBADMSG },
		{ "an end without a state", PROTECT_END, { 1 }, PROTECT_END_BYTES, -EBADMSG },
	};
	struct epoch_rig *rig = epoch_rig_new(0, false);

	for (size_t i = 0; i < ARRAY_SIZE(all); i++) {
		struct error err = { 0 };
		int r = hear_frames(rig, &all[i], &err);

		if (r != all[i].result || !err.message[0])
			fail_msg("%s: %d %s", all[i].what, r, err.message);
		assert_untouched(rig);
	}
	epoch_rig_free(rig);
}

/* ---- writes to disks ---- */

#define DISK_BYTES MIB(4)

struct disk_sink {
	struct epoch_sink sink;
	uint8_t *disk;
	unsigned int writes;
	int answer;
};

static int take_write(void *ctx, uint64_t epoch, const struct journal_write *write,
		      struct error *err)
{
	struct disk_sink *sink = ctx;

	assert_int_equal(epoch, 1);
	assert_int_equal(write->disk, 0);
	assert_true(write->offset + write->len <= DISK_BYTES);
	sink->writes++;
	if (write->kind == JOURNAL_WRITE)
		memcpy(sink->disk + write->offset, write->data, write->len);
	else
		memset(sink->disk + write->offset, 0, write->len);
	return sink->answer ? error_set(err, sink->answer, EXIT_STATUS_FAILED, "no") : 0;
}

static int hear_writes(struct epoch_rig *rig, struct disk_sink *sink, struct error *err)
{
	struct epoch_receiver *receiver;
	struct frame_reader reader;
	struct stream *stream;
	int r;

	assert_int_equal(stream_flush(rig->writer.stream), 0);
	assert_int_equal(lseek(rig->wire, 0, SEEK_SET), 0);
	assert_int_equal(stream_plain(dup(rig->wire), 1000, &stream), 0);
	frame_reader_init(&reader, stream);
	assert_int_equal(
		epoch_receiver_new(&reader, rig->backup, &rig->origin, &sink->sink, &receiver), 0);
	epoch_clear(&rig->staged, EPOCH_PAGES);
	r = epoch_receive(receiver, &rig->staged, err);
	epoch_receiver_free(receiver);
	frame_reader_release(&reader);
	stream_free(stream);
	assert_int_equal(lseek(rig->wire, 0, SEEK_SET), 0);
	assert_int_equal(ftruncate(rig->wire, 0), 0);
	rig->writer.serial = 0;
	return r;
}

static int carry_writes(struct epoch_rig *rig, const struct journal_write *writes, size_t n,
			struct disk_sink *sink, struct error *err)
{
	*err = (struct error){ 0 };
	rig->cut.number = 1;
	assert_int_equal(epoch_send_begin(rig->sender, &rig->cut, &rig->origin), 0);
	for (size_t i = 0; i < n; i++)
		assert_int_equal(epoch_send_write(rig->sender, &writes[i]), 0);
	assert_int_equal(epoch_send_end(rig->sender, &rig->cut, &rig->counts), 0);
	return hear_writes(rig, sink, err);
}

static void writes_come_in_their_order(void **state _unused_)
{
	struct disk_sink sink = { .sink = { 1, { DISK_BYTES }, take_write, &sink },
				  .disk = calloc(1, DISK_BYTES) };
	uint8_t *data = malloc(3 * PROTECT_WRITE_MAX), *want = calloc(1, DISK_BYTES);
	const struct journal_write writes[] = {
		{ JOURNAL_WRITE, 0, 512, 2 * PROTECT_WRITE_MAX + 512, data },
		{ JOURNAL_ZEROES, 0, 1024, 4096, NULL },
		{ JOURNAL_WRITE, 0, 2048, 512, data + 7 },
		{ JOURNAL_DISCARD, 0, 0, DISK_BYTES / 2, NULL },
		{ JOURNAL_WRITE, 0, DISK_BYTES - 512, 512, data + 99 },
	};
	struct epoch_rig *rig = epoch_rig_new(0, false);
	struct error err;
	uint64_t seed = 3;

	for (size_t i = 0; i < 3 * PROTECT_WRITE_MAX; i++)
		data[i] = (uint8_t)draw(&seed);
	assert_int_equal(carry_writes(rig, writes, 3, &sink, &err), 0);
	memcpy(want + 512, data, 2 * PROTECT_WRITE_MAX + 512);
	memset(want + 1024, 0, 4096);
	memcpy(want + 2048, data + 7, 512);
	assert_memory_equal(sink.disk, want, DISK_BYTES);
	assert_int_equal(sink.writes, 5); /* the first goes in three frames */
	assert_int_equal(rig->staged.state.len, 0);
	assert_int_equal(rig->counts.writes, 3);
	assert_int_equal(carry_writes(rig, writes + 3, 2, &sink, &err), 0);
	memset(want, 0, DISK_BYTES / 2);
	memcpy(want + DISK_BYTES - 512, data + 99, 512);
	assert_memory_equal(sink.disk, want, DISK_BYTES);
	sink.answer = -ENOSPC;
	assert_int_equal(carry_writes(rig, writes, 1, &sink, &err), -ENOSPC);
	assert_string_equal(err.message, "no");
	free(data);
	free(want);
	free(sink.disk);
	epoch_rig_free(rig);
}

static void writes_that_fit_no_disk_are_refused(void **state _unused_)
{
	static const uint8_t data[1024];
	static const struct journal_write all[] = {
		{ JOURNAL_WRITE, 1, 0, 512, data },
		{ JOURNAL_WRITE, 0, DISK_BYTES - 512, 1024, data },
		{ JOURNAL_ZEROES, 0, 512, DISK_BYTES, NULL },
		{ JOURNAL_DISCARD, 0, UINT64_MAX - 511, 512, NULL },
		{ JOURNAL_WRITE, 0, 1, 512, data },
		{ JOURNAL_WRITE, 0, 0, 511, data },
		{ (enum journal_kind)0, 0, 0, 512, NULL },
		{ (enum journal_kind)4, 0, 0, 512, NULL },
	};
	struct disk_sink sink = { .sink = { 1, { DISK_BYTES }, take_write, &sink } };
	struct epoch_rig *rig = epoch_rig_new(0, false);
	struct error err;

	for (size_t i = 0; i < ARRAY_SIZE(all); i++) {
		if (carry_writes(rig, &all[i], 1, &sink, &err) != -EBADMSG || !err.message[0])
			fail_msg("write %zu: %s", i, err.message);
	}
	assert_int_equal(sink.writes, 0);
	epoch_rig_free(rig);
}

static void a_state_is_limited(void **state _unused_)
{
	struct epoch_rig *rig = epoch_rig_new(0, false);
	uint8_t *piece = calloc(1, MIB(1));
	struct epoch_bytes bytes;
	struct error err = { 0 };

	rig->staged.state.limit = MIB(4);
	for (int i = 0; i < 4; i++)
		assert_int_equal(buffer_append(&rig->cut.state, piece, MIB(1)), 0);
	/* The rig's sending empties it: said by hand. */
	rig->cut.number = 1;
	assert_int_equal(epoch_send(rig->sender, &rig->cut, &rig->origin, &rig->counts), 0);
	assert_int_equal(buffer_append(&rig->cut.state, piece, 1), 0);
	assert_int_equal(stream_flush(rig->writer.stream), 0);
	bytes.len = (size_t)lseek(rig->wire, 0, SEEK_CUR);
	bytes.data = malloc(bytes.len);
	assert_int_equal(pread(rig->wire, bytes.data, bytes.len, 0), bytes.len);
	assert_int_equal(epoch_rig_hear(rig, bytes.data, bytes.len, &err), 0);
	assert_int_equal(rig->staged.state.len, MIB(4));
	rig->staged.state.limit = MIB(4) - 1;
	assert_int_equal(epoch_rig_hear(rig, bytes.data, bytes.len, &err), -E2BIG);
	free(bytes.data);
	free(piece);
	epoch_rig_free(rig);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(epochs_carry_memory),
		cmocka_unit_test(a_page_that_is_as_it_was_does_not_travel),
		cmocka_unit_test(what_is_cut_off_is_not_whole),
		cmocka_unit_test(a_flipped_bit_is_found),
		cmocka_unit_test(another_session_is_refused),
		cmocka_unit_test(a_backup_with_other_memory_finds_out),
		cmocka_unit_test(what_cannot_be_is_refused),
		cmocka_unit_test(writes_come_in_their_order),
		cmocka_unit_test(writes_that_fit_no_disk_are_refused),
		cmocka_unit_test(a_state_is_limited),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
