/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A guest's work that can be checked from outside: a counter that clients increment, kept on disk like a database's; memory
 * and disk with known content, written all the time; clocks that may not go back. One line a command, on TCP port 7000:
 *
 *	count N			counted C N MONOTONIC REALTIME ERRORS	C: one more than before, durable
 *	next N			next S N CHAIN				S: one more than before, in memory only; CHAIN: of this
 *									connection's numbers, so that no reply can be another's
 *	fill MIB		filled MIB				with random bytes
 *	check			checked BYTES				of them that are not as they were
 *	dirty KIB_A_SECOND MIB	dirtying KIB				pages of a buffer of that size, whole, random
 *	disk 0|1		disk 0|1				reads and writes, checked
 *	status			status TICKS GAP_US DIRTIED OPERATIONS ERRORS	since the last one, but for ERRORS
 *
 * ERRORS counts all that was ever wrong: a clock that went back, a page or block that is not what was written last. What
 * comes to UDP port 7000 goes back at once. Disk: /dev/vda, if there is one: 32 blocks for the counter, 256 for the load.
 */

#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define PORT 7000
#define BLOCK 4096u
#define COUNTER_BLOCKS 32u
#define LOAD_BLOCKS 256u
#define MAGIC 0x7573757473756c64u
#define NS 1000000000
#define TICK_NS 10000000
#define DISK_PAUSE_NS 20000000
#define QUANTUM_NS 10000000
#define BUFFER_MAX_MIB 4096u

struct record {
	uint64_t magic, count, client, sum;
};

/* Everything is in one object; its threads live as long as the process. */
struct work {
	int disk;
	atomic_ullong errors, ticks, gap_ns, dirtied, operations;
	atomic_bool disk_load;
	atomic_uint dirty_kib;
	atomic_ullong sequence;

	pthread_mutex_t count_lock;
	uint64_t count;
	uint8_t *count_block;

	pthread_mutex_t fill_lock;
	uint64_t *fill;
	size_t fill_words;

	pthread_mutex_t dirty_lock; /* of the buffer, not of its content */
	uint64_t *dirty;
	uint64_t *dirty_stamps; /* what each page begins and ends with */
	size_t dirty_pages;
};

struct client {
	struct work *work;
	int fd;
	uint64_t chain;
};

static int64_t clock_ns(clockid_t clock)
{
	struct timespec t;

	clock_gettime(clock, &t);
	return (int64_t)t.tv_sec * NS + t.tv_nsec;
}

static void sleep_ns(long ns)
{
	const struct timespec t = { .tv_nsec = ns };

	nanosleep(&t, NULL);
}

static uint64_t next_random(uint64_t *state)
{
	*state ^= *state << 13;
	*state ^= *state >> 7;
	*state ^= *state << 17;
	return *state;
}

/* Timers */

static void *tick_thread(void *ctx)
{
	struct work *work = ctx;
	int64_t last = clock_ns(CLOCK_MONOTONIC), last_real = clock_ns(CLOCK_REALTIME);

	for (;;) {
		int64_t now, real;

		sleep_ns(TICK_NS);
		now = clock_ns(CLOCK_MONOTONIC);
		real = clock_ns(CLOCK_REALTIME);
		if (now < last || real < last_real)
			work->errors++;
		else if ((uint64_t)(now - last) > work->gap_ns)
			work->gap_ns = (uint64_t)(now - last);
		work->ticks++;
		last = now;
		last_real = real;
	}
	return NULL;
}

/* Memory */

static void *map(size_t bytes)
{
	void *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	return p == MAP_FAILED ? NULL : p;
}

static void fill(struct work *work, size_t mib)
{
	uint64_t state = MAGIC;

	pthread_mutex_lock(&work->fill_lock);
	if (work->fill)
		munmap(work->fill, work->fill_words * 8);
	work->fill_words = (mib << 20) / 8;
	work->fill = map(work->fill_words * 8);
	if (!work->fill)
		work->fill_words = 0;
	for (size_t i = 0; i < work->fill_words; i++)
		work->fill[i] = next_random(&state);
	pthread_mutex_unlock(&work->fill_lock);
}

static size_t check(struct work *work)
{
	uint64_t state = MAGIC;
	size_t wrong = 0;

	pthread_mutex_lock(&work->fill_lock);
	for (size_t i = 0; i < work->fill_words; i++)
		wrong += 8 * (work->fill[i] != next_random(&state));
	pthread_mutex_unlock(&work->fill_lock);
	if (wrong)
		work->errors++;
	return wrong;
}

static bool make_dirty_buffer(struct work *work, size_t mib)
{
	size_t pages = (mib << 20) / BLOCK;
	uint64_t *buffer = pages ? map(pages * BLOCK) : NULL, *stamps = calloc(pages + 1, 8);

	pthread_mutex_lock(&work->dirty_lock);
	if (work->dirty)
		munmap(work->dirty, work->dirty_pages * BLOCK);
	free(work->dirty_stamps);
	work->dirty = buffer;
	work->dirty_stamps = stamps;
	work->dirty_pages = buffer && stamps ? pages : 0;
	pthread_mutex_unlock(&work->dirty_lock);
	return !pages || (buffer && stamps);
}

/* A page that was lost or is old shows by its stamps. */
static void dirty_page(struct work *work, size_t number, uint64_t *random)
{
	const size_t words = BLOCK / 8;
	uint64_t *page = work->dirty + number * words;

	if (page[0] != work->dirty_stamps[number] || page[words - 1] != work->dirty_stamps[number])
		work->errors++;
	for (size_t i = 1; i < words - 1; i++)
		page[i] = next_random(random);
	page[0] = page[words - 1] = work->dirty_stamps[number] = next_random(random);
	work->dirtied += BLOCK;
}

static void *dirty_thread(void *ctx)
{
	struct work *work = ctx;
	uint64_t random = MAGIC;
	size_t at = 0;

	for (;;) {
		uint64_t left = (uint64_t)work->dirty_kib * 1024 / (NS / QUANTUM_NS) / BLOCK;
		int64_t began = clock_ns(CLOCK_MONOTONIC), rest;

		pthread_mutex_lock(&work->dirty_lock);
		for (; left > 0 && work->dirty_pages; left--) {
			at = (at + 1) % work->dirty_pages;
			dirty_page(work, at, &random);
		}
		pthread_mutex_unlock(&work->dirty_lock);
		rest = QUANTUM_NS - (clock_ns(CLOCK_MONOTONIC) - began);
		if (rest > 0)
			sleep_ns((long)rest);
	}
	return NULL;
}

/* Disk */

static uint64_t sum_of(const struct record *record)
{
	return record->magic ^ (record->count * 0x9e3779b97f4a7c15u) ^ (record->client << 1);
}

static uint8_t *aligned_block(void)
{
	void *block = NULL;

	return posix_memalign(&block, BLOCK, BLOCK) == 0 ? block : NULL;
}

/* The database's start: the newest whole record counts. */
static uint64_t counter_load(int disk, uint8_t *block)
{
	uint64_t newest = 0;

	for (unsigned int i = 0; disk >= 0 && i < COUNTER_BLOCKS; i++) {
		struct record record;

		if (pread(disk, block, BLOCK, (off_t)i * BLOCK) != BLOCK)
			continue;
		memcpy(&record, block, sizeof(record));
		if (record.magic == MAGIC && record.sum == sum_of(&record) && record.count > newest)
			newest = record.count;
	}
	return newest;
}

static bool counter_store(struct work *work, uint64_t client)
{
	struct record record = { .magic = MAGIC, .count = work->count, .client = client };

	if (work->disk < 0)
		return true;
	record.sum = sum_of(&record);
	memset(work->count_block, 0, BLOCK);
	memcpy(work->count_block, &record, sizeof(record));
	return pwrite(work->disk, work->count_block, BLOCK,
		      (off_t)(work->count % COUNTER_BLOCKS) * BLOCK) == BLOCK &&
	       fdatasync(work->disk) == 0;
}

static uint64_t count(struct work *work, uint64_t client)
{
	uint64_t now;

	pthread_mutex_lock(&work->count_lock);
	now = ++work->count;
	if (!counter_store(work, client))
		work->errors++;
	pthread_mutex_unlock(&work->count_lock);
	return now;
}

static bool block_move(struct work *work, uint64_t *block, unsigned int number, bool write)
{
	off_t at = (off_t)(COUNTER_BLOCKS + number) * BLOCK;
	ssize_t n = write ? pwrite(work->disk, block, BLOCK, at)
			  : pread(work->disk, block, BLOCK, at);

	work->operations++;
	return n == BLOCK;
}

static void *disk_thread(void *ctx)
{
	struct work *work = ctx;
	uint64_t versions[LOAD_BLOCKS] = { 0 }, random = MAGIC;
	uint64_t *block = (uint64_t *)(void *)aligned_block();

	while (block) {
		unsigned int i = (unsigned int)(next_random(&random) % LOAD_BLOCKS);

		sleep_ns(DISK_PAUSE_NS);
		if (!work->disk_load || work->disk < 0)
			continue;
		if (versions[i] && (!block_move(work, block, i, false) || block[0] != versions[i] ||
				    block[BLOCK / 8 - 1] != versions[i]))
			work->errors++;
		versions[i] = next_random(&random);
		for (unsigned int word = 0; word < BLOCK / 8; word++)
			block[word] = versions[i];
		if (!block_move(work, block, i, true))
			work->errors++;
	}
	return NULL;
}

/* Clients */

static int answer_status(struct work *work, char *answer, size_t size)
{
	return snprintf(answer, size, "status %llu %llu %llu %llu %llu\n",
			atomic_exchange(&work->ticks, 0), atomic_exchange(&work->gap_ns, 0) / 1000,
			atomic_exchange(&work->dirtied, 0), atomic_exchange(&work->operations, 0),
			atomic_load(&work->errors));
}

/* splitmix64's step: history.py has the same. */
static uint64_t mix(uint64_t x)
{
	x += 0x9e3779b97f4a7c15u;
	x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9u;
	x = (x ^ x >> 27) * 0x94d049bb133111ebu;
	return x ^ x >> 31;
}

static int answer_next(struct client *client, uint64_t number, char *answer, size_t size)
{
	client->chain = mix(client->chain ^ number);
	return snprintf(answer, size, "next %llu %" PRIu64 " %016" PRIx64 "\n",
			atomic_fetch_add(&client->work->sequence, 1) + 1, number, client->chain);
}

static int do_command(struct client *client, const char *line, char *answer, size_t size)
{
	struct work *work = client->work;
	uint64_t a, b;

	if (sscanf(line, "count %" SCNu64, &a) == 1) {
		uint64_t now = count(work, a);

		return snprintf(answer, size,
				"counted %" PRIu64 " %" PRIu64 " %" PRId64 " %" PRId64 " %llu\n",
				now, a, clock_ns(CLOCK_MONOTONIC), clock_ns(CLOCK_REALTIME),
				atomic_load(&work->errors));
	}
	if (sscanf(line, "next %" SCNu64, &a) == 1)
		return answer_next(client, a, answer, size);
	if (sscanf(line, "fill %" SCNu64, &a) == 1 && a <= BUFFER_MAX_MIB) {
		fill(work, a);
		return snprintf(answer, size, "filled %zu\n", work->fill_words * 8 >> 20);
	}
	if (strcmp(line, "check") == 0)
		return snprintf(answer, size, "checked %zu\n", check(work));
	if (sscanf(line, "dirty %" SCNu64 " %" SCNu64, &a, &b) == 2 && b <= BUFFER_MAX_MIB) {
		work->dirty_kib = make_dirty_buffer(work, b) ? (unsigned int)a : 0;
		return snprintf(answer, size, "dirtying %u\n", work->dirty_kib);
	}
	if (sscanf(line, "disk %" SCNu64, &a) == 1) {
		work->disk_load = a != 0;
		return snprintf(answer, size, "disk %d\n", a && work->disk >= 0);
	}
	if (strcmp(line, "status") == 0)
		return answer_status(work, answer, size);
	return snprintf(answer, size, "no such command\n");
}

static void *client_thread(void *ctx)
{
	struct client *client = ctx;
	FILE *lines = fdopen(client->fd, "r");
	char line[256], answer[256];
	const int on = 1;

	setsockopt(client->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
	while (lines && fgets(line, sizeof(line), lines)) {
		int len;

		line[strcspn(line, "\r\n")] = 0;
		len = do_command(client, line, answer, sizeof(answer));
		if (send(client->fd, answer, (size_t)len, MSG_NOSIGNAL) != len)
			break;
	}
	if (lines)
		fclose(lines);
	free(client);
	return NULL;
}

static void start(void *(*thread)(void *), void *ctx)
{
	pthread_t id;

	if (pthread_create(&id, NULL, thread, ctx) == 0)
		pthread_detach(id);
}

static int bound(int type)
{
	const struct sockaddr_in address = { .sin_family = AF_INET, .sin_port = htons(PORT) };
	int fd = socket(AF_INET, type | SOCK_CLOEXEC, 0);
	const int on = 1;

	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
	if (bind(fd, (const struct sockaddr *)&address, sizeof(address)) < 0) {
		perror("load: bind");
		exit(1);
	}
	return fd;
}

static void *echo_thread(void *ctx)
{
	int fd = bound(SOCK_DGRAM);
	char packet[2048];

	(void)ctx;
	for (;;) {
		struct sockaddr_in from;
		socklen_t len = sizeof(from);
		ssize_t n = recvfrom(fd, packet, sizeof(packet), 0, (struct sockaddr *)&from, &len);

		if (n >= 0)
			sendto(fd, packet, (size_t)n, 0, (struct sockaddr *)&from, len);
	}
	return NULL;
}

int main(void)
{
	struct work *work = calloc(1, sizeof(*work));
	int listener = bound(SOCK_STREAM);

	if (!work || !(work->count_block = aligned_block()) || listen(listener, 16) < 0)
		return 1;
	pthread_mutex_init(&work->count_lock, NULL);
	pthread_mutex_init(&work->fill_lock, NULL);
	pthread_mutex_init(&work->dirty_lock, NULL);
	work->disk = open("/dev/vda", O_RDWR | O_DIRECT | O_CLOEXEC);
	work->count = counter_load(work->disk, work->count_block);
	start(tick_thread, work);
	start(dirty_thread, work);
	start(disk_thread, work);
	start(echo_thread, work);
	printf("load: serves, counted %" PRIu64 "\n", work->count);
	fflush(stdout);
	for (;;) {
		struct client *client = malloc(sizeof(*client));

		if (!client)
			return 1;
		client->work = work;
		client->chain = 0;
		client->fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
		start(client_thread, client);
	}
}
