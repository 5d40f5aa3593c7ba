/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Records of a store. A live one is mapped: the keeper's file cannot become shorter. What is left of one is read call by
 * call, and may end anywhere.
 *
 * Merging. Of each ring it is known up to which moment it was read (`seen`): the end of the last record read or, when
 * nothing was left, the time of that look. A record is given when its beginning lies more than the window before the
 * moment up to which all rings were read; until then the ring that is furthest behind is read on.
 */

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <x86intrin.h>

#include "base/cleanup.h"
#include "base/fd.h"
#include "watch/read/follow.h"
#include "watch/read/order.h"
#include "watch/read/source_internal.h"

#define BATCH 64 /* records of one ring before the next is looked at */
#define LOOKS_MAX                                                                                  \
	4096 /* at rings, in one call: a writer that is faster than we are holds nobody forever */
#define HEADROOM 8 /* 1/8 of a ring is left to a writer who has overtaken us */
#define DEFAULT_HZ 1000000000ULL

struct ring_reader {
	uint64_t next;	  /* sequence to be read */
	uint64_t head;	  /* the newest that was seen */
	uint64_t seen;	  /* TSC: read up to there */
	uint64_t dropped; /* as last seen */
	struct follow follow;
	unsigned int misses; /* records in a row that were gone when we came */
	bool ended;	     /* nothing more can come */
};

struct store_source {
	struct watch_source source;
	int fd;
	bool live;
	uint8_t *mapped; /* when it was opened live */
	size_t len;
	uint32_t n_rings, ring_records;
	uint64_t window; /* ticks */
	uint64_t seen;	 /* the least of all rings */
	struct order *order;
	struct ring_reader rings[];
};

/* ---- the store's bytes ---- */

static uint64_t header_offset(uint32_t ring)
{
	return STORE_HEADER + (uint64_t)ring * STORE_RING_HEADER;
}

static uint64_t record_offset(const struct store_source *s, uint32_t ring, uint64_t sequence)
{
	return header_offset(s->n_rings) +
	       ((uint64_t)ring * s->ring_records + ((sequence - 1) & (s->ring_records - 1))) *
		       sizeof(struct watch_record);
}

static struct ring_header *mapped_header(const struct store_source *s, uint32_t ring)
{
	return (void *)(s->mapped + header_offset(ring));
}

/* Word by word, each atomically: the writer may be at it. */
static bool copy_mapped(const struct watch_record *from, uint64_t sequence, struct watch_record *to)
{
	const uint64_t *words = (const uint64_t *)from;
	uint64_t *copy = (uint64_t *)to;

	if (__atomic_load_n(&from->sequence, __ATOMIC_ACQUIRE) != sequence)
		return false;
	for (unsigned int i = 0; i < sizeof(*from) / sizeof(*words); i++)
		copy[i] = __atomic_load_n(&words[i], __ATOMIC_ACQUIRE);
	return __atomic_load_n(&from->sequence, __ATOMIC_ACQUIRE) == sequence;
}

/* False: it is not there any more, or not whole. */
static bool read_record(const struct store_source *s, uint32_t ring, uint64_t sequence,
			struct watch_record *to)
{
	const uint64_t offset = record_offset(s, ring, sequence);

	if (s->mapped)
		return copy_mapped((const void *)(s->mapped + offset), sequence, to);
	return fd_read_at(s->fd, to, sizeof(*to), offset) == 0 && to->sequence == sequence;
}

static void read_counts(const struct store_source *s, uint32_t ring, uint64_t *ret_head,
			uint64_t *ret_dropped)
{
	struct ring_header header = { 0 };

	if (s->mapped) {
		*ret_head = __atomic_load_n(&mapped_header(s, ring)->head, __ATOMIC_ACQUIRE);
		*ret_dropped = __atomic_load_n(&mapped_header(s, ring)->dropped, __ATOMIC_ACQUIRE);
		return;
	}
	if (fd_read_at(s->fd, &header, sizeof(header), header_offset(ring)) < 0)
		header.head = header.dropped = 0;
	*ret_head = header.head;
	*ret_dropped = header.dropped;
}

/* ---- one ring ---- */

/* What the writer counted since the last look. A count that went back is a lie, and counts anew. */
static void count_dropped(struct store_source *s, struct ring_reader *ring, uint64_t dropped)
{
	if (dropped > ring->dropped)
		source_lose(&s->source, dropped - ring->dropped);
	ring->dropped = dropped;
}

/* Goes on with `sequence`; what is between is lost. */
static void skip_to(struct store_source *s, struct ring_reader *ring, uint64_t sequence)
{
	if (sequence <= ring->next)
		return;
	source_lose(&s->source, sequence - ring->next);
	ring->next = sequence;
}

static uint64_t oldest(const struct store_source *s, uint64_t head)
{
	return head > s->ring_records ? head - s->ring_records + 1 : 1;
}

/* Sees what the writer has done since. A head that went back, or cannot be, is no news. */
static void look(struct store_source *s, uint32_t index)
{
	struct ring_reader *ring = &s->rings[index];
	uint64_t head, dropped;

	read_counts(s, index, &head, &dropped);
	count_dropped(s, ring, dropped);
	if (head > ring->head && head <= STORE_SEQUENCE_MAX)
		ring->head = head;
	skip_to(s, ring, oldest(s, ring->head));
}

/* The record was overwritten before we came. One whose writer is that close a second time leaves it some way. */
static void lose_record(struct store_source *s, uint32_t index)
{
	struct ring_reader *ring = &s->rings[index];

	skip_to(s, ring, ring->next + 1);
	if (!s->mapped)
		return;
	look(s, index);
	if (++ring->misses > 1)
		skip_to(s, ring, oldest(s, ring->head) + s->ring_records / HEADROOM);
}

static uint64_t add_ticks(uint64_t tsc, uint64_t ticks)
{
	return tsc > UINT64_MAX - ticks ? UINT64_MAX : tsc + ticks;
}

/* What is read has been, whatever it says of itself: times after that are those of reading. */
static uint64_t latest(const struct store_source *s, uint64_t tsc, uint64_t now)
{
	return s->live && tsc > now ? __rdtsc() : now;
}

static void keep(struct store_source *s, uint32_t index, struct watch_record *record, uint64_t now)
{
	struct ring_reader *ring = &s->rings[index];
	const uint64_t end = add_ticks(record->begin, record->duration);

	now = latest(s, end, now);
	ring->seen = MAX(ring->seen, MIN(end, now));
	if (!source_check_record(record)) {
		source_lose(&s->source, 1);
		return;
	}
	source_judge(&s->source, record, index);
	order_add(s->order, index, MIN(record->begin, now));
}

static void tell_writer(struct store_source *s, struct ring_reader *ring)
{
	if (ring->follow.slot && !follow_advance(&ring->follow, ring->next - 1))
		s->source.expelled = true;
}

/* Reads on in a ring; there is room to hold at least one record. `now` was taken before. */
static void read_ring(struct store_source *s, uint32_t index, uint64_t now)
{
	struct ring_reader *ring = &s->rings[index];
	struct watch_record *slot;

	for (unsigned int i = 0; i < BATCH && (slot = order_slot(s->order)); i++) {
		if (ring->next > ring->head)
			look(s, index);
		if (ring->next > ring->head) {
			ring->seen = MAX(ring->seen, now);
			ring->ended = !s->live;
			break;
		}
		if (read_record(s, index, ring->next, slot)) {
			ring->next++;
			ring->misses = 0;
			keep(s, index, slot, now);
		} else {
			lose_record(s, index);
		}
	}
	tell_writer(s, ring);
}

/* ---- all rings ---- */

/* The ring that is furthest behind; n_rings when all have ended. Notes up to when all were read. */
static uint32_t find_behind(struct store_source *s)
{
	uint32_t found = s->n_rings;

	s->seen = UINT64_MAX;
	for (uint32_t i = 0; i < s->n_rings; i++)
		if (!s->rings[i].ended && (found == s->n_rings || s->rings[i].seen < s->seen)) {
			s->seen = s->rings[i].seen;
			found = i;
		}
	return found;
}

static bool is_ready(const struct store_source *s)
{
	return order_count(s->order) &&
	       (order_is_full(s->order) || add_ticks(order_first(s->order), s->window) <= s->seen);
}

static int give(struct store_source *s, struct watch_record *ret_record, uint32_t *ret_ring)
{
	order_take(s->order, ret_record, ret_ring);
	return 1;
}

static void read_header(struct store_source *s);

/* Nothing is ready, and all rings were read up to `now` (live) or to their ends. */
static int wait_or_end(struct store_source *s, struct watch_record *ret_record, uint32_t *ret_ring)
{
	if (s->live) {
		read_header(s);
		return 0;
	}
	return order_count(s->order) ? give(s, ret_record, ret_ring) : -ENODATA;
}

static int store_next(struct watch_source *source, struct watch_record *ret_record,
		      uint32_t *ret_ring)
{
	struct store_source *s = container_of(source, struct store_source, source);
	uint64_t now = 0;

	for (unsigned int looks = 0; !is_ready(s); looks++) {
		uint32_t behind;

		if (!now)
			now = s->live ? __rdtsc() : UINT64_MAX;
		behind = find_behind(s);
		if (is_ready(s))
			break;
		if (behind == s->n_rings || (s->live && s->seen >= now))
			return wait_or_end(s, ret_record, ret_ring);
		if (s->mapped && looks == LOOKS_MAX)
			return 0;
		read_ring(s, behind, now);
	}
	return give(s, ret_record, ret_ring);
}

/* ---- header and names ---- */

static void read_ring_names(struct store_source *s)
{
	for (uint32_t i = 0; i < s->n_rings; i++) {
		char name[STORE_NAME];

		if (s->source.rings[i][0] ||
		    fd_read_at(s->fd, name, sizeof(name), header_offset(i)) < 0)
			continue;
		source_clean_text(name, sizeof(name));
		memcpy(s->source.rings[i], name, sizeof(name));
	}
}

/* The rings' shape stays as it was checked; the clock, once it is set, too. */
static void read_header(struct store_source *s)
{
	struct store_header *old = &s->source.header, header;

	if (fd_read_at(s->fd, &header, sizeof(header), 0) < 0 || source_check_header(&header) < 0)
		return;
	old->mode = header.mode;
	old->flags = header.flags;
	if (!old->tsc_hz) {
		old->anchor_tsc = header.anchor_tsc;
		old->anchor_monotonic_ns = header.anchor_monotonic_ns;
		old->anchor_wall_ns = header.anchor_wall_ns;
		old->tsc_hz = header.tsc_hz;
		s->window = (header.tsc_hz ? header.tsc_hz : DEFAULT_HZ) / 1000 * SOURCE_WINDOW_MS;
	}
	if (header.n_devices > old->n_devices) {
		memcpy(old->devices, header.devices, sizeof(old->devices));
		old->n_devices = header.n_devices;
	}
}

static void store_refresh(struct watch_source *source)
{
	struct store_source *s = container_of(source, struct store_source, source);

	read_header(s);
	read_ring_names(s);
}

/* ---- life ---- */

static void store_set_ended(struct watch_source *source)
{
	container_of(source, struct store_source, source)->live = false;
}

static void store_free_source(struct watch_source *source)
{
	struct store_source *s = container_of(source, struct store_source, source);

	for (uint32_t i = 0; i < s->n_rings; i++)
		follow_end(&s->rings[i].follow);
	source_release(source);
	if (s->mapped)
		munmap(s->mapped, s->len);
	fd_close(s->fd);
	order_free(s->order);
	free(s);
}
DEFINE_CLEANUP(struct watch_source, source_free, source_freep)

static const struct source_ops store_ops = {
	.next = store_next,
	.refresh = store_refresh,
	.set_ended = store_set_ended,
	.free = store_free_source,
};

static int map_live(struct store_source *s, bool writable)
{
	const uint64_t len = record_offset(s, s->n_rings, 1);
	const int seals = fcntl(s->fd, F_GET_SEALS);
	struct stat st;
	void *mapped;

	if (fstat(s->fd, &st) < 0)
		return -errno;
	if (seals < 0 || !(seals & F_SEAL_SHRINK) || (uint64_t)st.st_size < len)
		return -EPROTO;
	mapped = mmap(NULL, len, PROT_READ | (writable ? PROT_WRITE : 0), MAP_SHARED, s->fd, 0);
	if (mapped == MAP_FAILED)
		return -errno;
	s->mapped = mapped;
	s->len = len;
	return 0;
}

/* Where a ring's reading begins, and from where on its writer waits. */
static int begin_ring(struct store_source *s, uint32_t index, const struct source_options *options,
		      uint64_t token)
{
	struct ring_reader *ring = &s->rings[index];
	uint64_t head;
	int r = 0;

	if (options->lossless)
		r = follow_begin(mapped_header(s, index), token, &ring->follow);
	if (r < 0)
		return r;
	read_counts(s, index, &head, &ring->dropped);
	if (head > STORE_SEQUENCE_MAX)
		head = 0;
	ring->head = head;
	ring->next = !s->live || options->from_oldest ? oldest(s, head) : head + 1;
	tell_writer(s, ring);
	return 0;
}

/* The process ended between a record and the head that tells of it, or while it wrote the oldest: what is whole counts, the
 * torn one was lost before we came. */
static void begin_left(struct store_source *s, uint32_t index)
{
	struct ring_reader *ring = &s->rings[index];
	struct watch_record record;

	ring->dropped = 0;
	if (read_record(s, index, ring->head + 1, &record))
		ring->head++;
	ring->next = oldest(s, ring->head);
}

static int begin(struct store_source *s, const struct source_options *options)
{
	const uint64_t token = follow_new_token();
	int r = 0;

	for (uint32_t i = 0; i < s->n_rings && r == 0; i++) {
		r = begin_ring(s, i, options, token);
		if (!s->live)
			begin_left(s, i);
	}
	return r;
}

static int store_source_new(int fd, bool live, const struct store_header *header,
			    struct store_source **ret_source)
{
	struct store_source *s = calloc(1,
					sizeof(*s) + header->n_rings * sizeof(struct ring_reader));

	if (!s)
		return -ENOMEM;
	s->source.ops = &store_ops;
	s->source.header = *header;
	s->n_rings = header->n_rings;
	s->ring_records = header->ring_records;
	s->live = live;
	s->window = (header->tsc_hz ? header->tsc_hz : DEFAULT_HZ) / 1000 * SOURCE_WINDOW_MS;
	s->order = order_new(SOURCE_HELD_MAX);
	s->fd = fcntl(fd, F_DUPFD_CLOEXEC, 0);
	*ret_source = s;
	if (s->fd < 0)
		return -errno;
	return s->order ? 0 : -ENOMEM;
}

int source_open_store(int fd, bool live, const struct source_options *options, const char *what,
		      struct watch_source **ret_source, struct error *err)
{
	const struct source_options wanted = { options->from_oldest, live && options->lossless };
	_cleanup_(source_freep) struct watch_source *source = NULL;
	struct store_source *s = NULL;
	struct store_header header;
	int r = fd_read_at(fd, &header, sizeof(header), 0);

	if (r == 0)
		r = source_check_header(&header);
	if (r == 0)
		r = store_source_new(fd, live, &header, &s);
	source = s ? &s->source : NULL;
	if (r == 0 && live)
		r = map_live(s, wanted.lossless);
	if (r == 0)
		r = begin(s, &wanted);
	if (r == -EBUSY)
		return error_set(err, r, EXIT_STATUS_BUSY,
				 "%s: %d lossless watchers are there already; end one, or watch "
				 "without --lossless",
				 what, STORE_FOLLOWERS);
	if (r < 0)
		return source_refuse(r, what, "store of requests", err);
	read_ring_names(s);
	*ret_source = TAKE_PTR(source);
	return 0;
}
