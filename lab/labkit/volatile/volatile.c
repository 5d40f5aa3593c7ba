/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A disk with a volatile write cache, as a plug-in of nbdkit: `nbdkit -f volatile.so file=DISK [keep=SEED] [outlives=yes]`.
 *
 *   write -> cache (this process's memory) -- flush, FUA, cache full --> DISK
 *                        \-- the port is cut: forgotten
 *
 * A machine is a port: the export that it connects to has its name. A connection that ends, however, is that machine's
 * power cut (an emulator that ends in order has flushed before), and what came over it and was not flushed is forgotten; with
 * keep=SEED each such sector is kept or forgotten by a coin, as real caches write back what and when they like.
 *
 * Two machines may have the disk. They see each other's writes at once. A flush counts for the port that it came over only,
 * and the power cut of one machine takes that machine's unflushed writes and nobody else's: as two controllers with a cache each, and
 * stricter than an enclosure with a power supply of its own, so that a flush that somebody owed is missed.
 *
 * On stderr: "A: connected" and "A: gone, N forgotten, M kept" (sectors), which the lab waits for.
 */

#define NBDKIT_API_VERSION 2
#include <nbdkit-plugin.h>

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <unistd.h>

/* open, close and all requests one after the other, whatever connection they come from: nothing here needs a lock. */
#define THREAD_MODEL NBDKIT_THREAD_MODEL_SERIALIZE_ALL_REQUESTS

#define SECTOR 512u
#define BLOCK 4096u
#define BLOCK_SECTORS (BLOCK / SECTOR)
#define CACHE_BLOCKS 16384u /* 64 MiB; a full cache is written back */
#define PORTS_MAX 8u
#define PORT_NAME 32u

/* A part of the disk that is newer here than in the file. */
struct block {
	struct block *next, **link; /* of all */
	uint64_t number;
	uint8_t dirty;		      /* a bit per sector */
	uint8_t owner[BLOCK_SECTORS]; /* port number, where dirty */
	uint8_t data[BLOCK];
};

struct port {
	char name[PORT_NAME];
	unsigned int session; /* of the connection that counts */
	bool connected;
};

/* A connection. */
struct handle {
	unsigned int port, session;
};

/* nbdkit hands no context to a plug-in: there is one disk in a process. */
static struct {
	char *path;
	int fd;
	uint64_t size;
	bool outlives, keeps;
	uint64_t seed;
	unsigned int cuts;
	unsigned int n_ports;
	struct port ports[PORTS_MAX];
	struct block **blocks; /* by number; NULL: as in the file */
	struct block *first;
	unsigned int n_blocks;
} disk = { .fd = -1 };

static int disk_config(const char *key, const char *value)
{
	if (strcmp(key, "file") == 0) {
		free(disk.path);
		disk.path = nbdkit_absolute_path(value);
		return disk.path ? 0 : -1;
	}
	if (strcmp(key, "keep") == 0) {
		disk.keeps = true;
		return nbdkit_parse_uint64_t("keep", value, &disk.seed);
	}
	if (strcmp(key, "outlives") == 0) {
		int r = nbdkit_parse_bool(value);

		disk.outlives = r > 0;
		return r < 0 ? -1 : 0;
	}
	nbdkit_error("%s: no such parameter; there are file, keep and outlives", key);
	return -1;
}

static int disk_config_complete(void)
{
	if (disk.path)
		return 0;
	nbdkit_error("file=DISK is missing");
	return -1;
}

static int disk_get_ready(void)
{
	struct stat st;

	if (disk.outlives)
		prctl(PR_SET_PDEATHSIG, 0);
	disk.fd = open(disk.path, O_RDWR | O_CLOEXEC);
	if (disk.fd < 0 || fstat(disk.fd, &st) < 0) {
		nbdkit_error("%s: %m", disk.path);
		return -1;
	}
	disk.size = (uint64_t)st.st_size;
	if (disk.size == 0 || disk.size % BLOCK != 0) {
		nbdkit_error("%s: its size must be a multiple of %u", disk.path, BLOCK);
		return -1;
	}
	disk.blocks = calloc(disk.size / BLOCK, sizeof(*disk.blocks));
	return disk.blocks ? 0 : -1;
}

static int write_sectors(const struct block *block, unsigned int first, unsigned int count)
{
	size_t len = (size_t)count * SECTOR, done = 0;

	while (done < len) {
		ssize_t n = pwrite(disk.fd, block->data + (size_t)first * SECTOR + done, len - done,
				   (off_t)(block->number * BLOCK + first * SECTOR + done));

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return -1;
		done += (size_t)n;
	}
	return 0;
}

static void block_free(struct block *block)
{
	disk.blocks[block->number] = NULL;
	*block->link = block->next;
	if (block->next)
		block->next->link = block->link;
	free(block);
	disk.n_blocks--;
}

static bool owned(const struct block *block, unsigned int sector, unsigned int port)
{
	return (block->dirty & 1u << sector) && block->owner[sector] == port;
}

/* A sector that is dirty, if it is. */
static int write_back(struct block *block, unsigned int sector)
{
	if (!(block->dirty & 1u << sector))
		return 0;
	if (write_sectors(block, sector, 1) < 0)
		return -1;
	block->dirty &= (uint8_t) ~(1u << sector);
	return 0;
}

/* Writes back what came over the port; PORTS_MAX stands for all ports. */
static int cache_write_back(unsigned int port)
{
	struct block *next;

	for (struct block *block = disk.first; block; block = next) {
		next = block->next;
		for (unsigned int i = 0; i < BLOCK_SECTORS; i++) {
			if (port < PORTS_MAX && block->owner[i] != port)
				continue;
			if (write_back(block, i) < 0)
				return -1;
		}
		if (!block->dirty)
			block_free(block);
	}
	return 0;
}

static struct block *block_get(uint64_t number)
{
	struct block *block = disk.blocks[number];

	if (block)
		return block;
	if (disk.n_blocks == CACHE_BLOCKS && cache_write_back(PORTS_MAX) < 0)
		return NULL;
	block = calloc(1, sizeof(*block));
	if (!block)
		return NULL;
	block->number = number;
	block->next = disk.first;
	block->link = &disk.first;
	if (disk.first)
		disk.first->link = &block->next;
	disk.first = disk.blocks[number] = block;
	disk.n_blocks++;
	return block;
}

/* The same seed, cut and sector give the same side (splitmix64). */
static bool coin(uint64_t sector)
{
	uint64_t z = disk.seed + sector * 0x9e3779b97f4a7c15u + disk.cuts * 0xbf58476d1ce4e5b9u;

	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
	z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
	return (z ^ (z >> 31)) & 1;
}

/* The machine's power is gone. */
static void port_cut(unsigned int port)
{
	unsigned int forgotten = 0, kept = 0;
	struct block *next;

	disk.cuts++;
	for (struct block *block = disk.first; block; block = next) {
		next = block->next;
		for (unsigned int i = 0; i < BLOCK_SECTORS; i++) {
			if (!owned(block, i, port))
				continue;
			block->dirty &= (uint8_t) ~(1u << i);
			if (disk.keeps && coin(block->number * BLOCK_SECTORS + i) &&
			    write_sectors(block, i, 1) == 0)
				kept++;
			else
				forgotten++;
		}
		if (!block->dirty)
			block_free(block);
	}
	fprintf(stderr, "%s: gone, %u forgotten, %u kept\n", disk.ports[port].name, forgotten,
		kept);
}

/* The port of that name, made when it is new; PORTS_MAX: there is no room for another. */
static unsigned int port_find(const char *name)
{
	unsigned int i;

	for (i = 0; i < disk.n_ports; i++)
		if (strcmp(disk.ports[i].name, name) == 0)
			return i;
	if (i == PORTS_MAX || strlen(name) >= PORT_NAME)
		return PORTS_MAX;
	strcpy(disk.ports[i].name, name);
	disk.n_ports++;
	return i;
}

static void *disk_open(int readonly)
{
	const char *name = nbdkit_export_name();
	struct handle *handle = calloc(1, sizeof(*handle));
	unsigned int port = name ? port_find(name) : PORTS_MAX;

	(void)readonly;
	if (!handle || port == PORTS_MAX) {
		nbdkit_error("no port for one more machine");
		free(handle);
		return NULL;
	}
	/* It may come again before its last connection is known to have ended. */
	if (disk.ports[port].connected)
		port_cut(port);
	disk.ports[port].connected = true;
	handle->port = port;
	handle->session = ++disk.ports[port].session;
	fprintf(stderr, "%s: connected\n", name);
	return handle;
}

static bool is_current(const struct handle *handle)
{
	return disk.ports[handle->port].session == handle->session;
}

static void disk_close(void *ctx)
{
	struct handle *handle = ctx;

	if (is_current(handle)) {
		port_cut(handle->port);
		disk.ports[handle->port].connected = false;
	}
	free(handle);
}

static int64_t disk_get_size(void *ctx)
{
	(void)ctx;
	return (int64_t)disk.size;
}

static int disk_block_size(void *ctx, uint32_t *minimum, uint32_t *preferred, uint32_t *maximum)
{
	(void)ctx;
	*minimum = SECTOR;
	*preferred = BLOCK;
	*maximum = 0xffffffff;
	return 0;
}

static int disk_can_fua(void *ctx)
{
	(void)ctx;
	return NBDKIT_FUA_NATIVE;
}

/* What is asked for in whole sectors, by a connection that counts. */
static bool is_valid(const struct handle *handle, uint32_t count, uint64_t offset)
{
	if (count % SECTOR == 0 && offset % SECTOR == 0 && is_current(handle))
		return true;
	nbdkit_set_error(is_current(handle) ? EINVAL : EIO);
	return false;
}

static int read_file(uint8_t *buf, size_t len, uint64_t offset)
{
	while (len > 0) {
		ssize_t n = pread(disk.fd, buf, len, (off_t)offset);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return -1;
		buf += n;
		len -= (size_t)n;
		offset += (size_t)n;
	}
	return 0;
}

static int disk_pread(void *ctx, void *buf, uint32_t count, uint64_t offset, uint32_t flags)
{
	(void)flags;
	if (!is_valid(ctx, count, offset) || read_file(buf, count, offset) < 0)
		return -1;
	for (uint32_t at = 0; at < count; at += SECTOR) {
		const struct block *block = disk.blocks[(offset + at) / BLOCK];
		unsigned int i = (unsigned int)((offset + at) / SECTOR % BLOCK_SECTORS);

		if (block && (block->dirty & 1u << i))
			memcpy((uint8_t *)buf + at, block->data + i * SECTOR, SECTOR);
	}
	return 0;
}

/* One sector into the cache. Another port's version of it is written back first: that port may have flushed by the time
 * that this one's is forgotten. */
static int cache_sector(unsigned int port, uint64_t sector, const uint8_t *data)
{
	struct block *block = block_get(sector / BLOCK_SECTORS);
	unsigned int i = (unsigned int)(sector % BLOCK_SECTORS);

	if (!block)
		return -1;
	if ((block->dirty & 1u << i) && block->owner[i] != port && write_sectors(block, i, 1) < 0)
		return -1;
	memcpy(block->data + i * SECTOR, data, SECTOR);
	block->dirty |= (uint8_t)(1u << i);
	block->owner[i] = (uint8_t)port;
	return 0;
}

/* Writes the cached sectors of this range back, whoever wrote them. */
static int cache_write_range(uint64_t offset, uint32_t count)
{
	for (uint32_t at = 0; at < count; at += SECTOR) {
		struct block *block = disk.blocks[(offset + at) / BLOCK];
		unsigned int i = (unsigned int)((offset + at) / SECTOR % BLOCK_SECTORS);

		if (!block)
			continue;
		if (write_back(block, i) < 0)
			return -1;
		if (!block->dirty)
			block_free(block);
	}
	return 0;
}

static int disk_pwrite(void *ctx, const void *buf, uint32_t count, uint64_t offset, uint32_t flags)
{
	const struct handle *handle = ctx;

	if (!is_valid(handle, count, offset))
		return -1;
	for (uint32_t at = 0; at < count; at += SECTOR)
		if (cache_sector(handle->port, (offset + at) / SECTOR, (const uint8_t *)buf + at) <
		    0)
			return -1;
	return flags & NBDKIT_FLAG_FUA ? cache_write_range(offset, count) : 0;
}

static int disk_flush(void *ctx, uint32_t flags)
{
	const struct handle *handle = ctx;

	(void)flags;
	return is_valid(handle, 0, 0) ? cache_write_back(handle->port) : -1;
}

static void disk_cleanup(void)
{
	if (disk.fd >= 0)
		close(disk.fd);
	free(disk.path);
	free(disk.blocks);
}

static struct nbdkit_plugin plugin = {
	.name = "volatile",
	.longname = "disk with a volatile write cache",
	.config = disk_config,
	.config_complete = disk_config_complete,
	.config_help = "file=DISK   (required) what it keeps\n"
		       "keep=SEED   a cut keeps some unflushed sectors, by a coin\n"
		       "outlives=BOOL  it goes on when its parent ends (nbdkit -f does not)",
	.magic_config_key = "file",
	.get_ready = disk_get_ready,
	.cleanup = disk_cleanup,
	.open = disk_open,
	.close = disk_close,
	.get_size = disk_get_size,
	.block_size = disk_block_size,
	.can_fua = disk_can_fua,
	.pread = disk_pread,
	.pwrite = disk_pwrite,
	.flush = disk_flush,
	.errno_is_preserved = 1,
};

NBDKIT_REGISTER_PLUGIN(plugin)
