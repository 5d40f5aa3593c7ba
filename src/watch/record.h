/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * The record format, version 1: what is kept of each request, and how the store that holds the records is laid
 * out. This header is the format's one definition; docs/record-format.md is for those who read it with other tools.
 *
 *   store:  | struct store_header | struct ring_header x n_rings | ring 0's records | ring 1's records | ...
 *             one STORE_HEADER      one STORE_RING_HEADER each     ring_records x 256 bytes each
 *
 * One ring per thread that makes requests (a vCPU, a queue's worker): one writer, any number of readers, in
 * shared memory. Numbers are little-endian, times are the host's TSC. Readers trust nothing of it: the writer may
 * be anybody, may be gone, and overwrites what they read.
 *
 * Version rule: a reader refuses another `version`; what was reserved may get a meaning when 0 means "as before".
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define STORE_MAGIC 0x6863746177757475ULL /* "utuwatch" in the file */
#define STORE_VERSION 1
#define STORE_RINGS_MAX 256	 /* LIMIT_VCPUS, and workers */
#define STORE_DEVICES_MAX 128	 /* devices and other names of regions */
#define STORE_NAME 32		 /* bytes of a name with its NUL */
#define STORE_HEADER 16384	 /* bytes */
#define STORE_RING_HEADER 4096	 /* bytes */
#define STORE_RING_RECORDS 16384 /* what a VM makes; a power of two */
#define STORE_RING_RECORDS_MAX (1U << 20)
#define STORE_SEQUENCE_MAX (1ULL << 62) /* a head beyond it is a lie */
#define STORE_FOLLOWERS 8		/* readers of one store that must not lose a record */

enum record_kind {
	RECORD_PIO = 1,	  /* access to a port */
	RECORD_MMIO = 2,  /* access to a guest-physical address */
	RECORD_PCI = 3,	  /* access to PCI configuration; it also has a record as PIO or MMIO */
	RECORD_DISK = 4,  /* request of a block device, when it was answered */
	RECORD_NET = 5,	  /* frame */
	RECORD_QUEUE = 6, /* request of another device with queues (entropy, console) */
	/* No request, views pass over it: vCPU `source` has used `data` ns of a processor since its thread began. While
	 * somebody watches, every 100 ms for each vCPU: it tells a guest that computes from one that sleeps. */
	RECORD_VCPU = 7,
	RECORD_KINDS,
};

enum record_flags {
	RECORD_WRITE = 1 << 0,	/* guest to device; net: the guest sends; disk: by `operation` */
	RECORD_NESTED = 1 << 1, /* caused by the handling of another access, whose record follows */
	RECORD_ALTERED = 1 << 2,   /* `data` was changed by a breakpoint */
	RECORD_DROPPED = 1 << 3,   /* the device did not see it */
	RECORD_UNCLAIMED = 1 << 4, /* no device answers at that address */
};

enum record_operation { /* of a disk */
			RECORD_DISK_READ,
			RECORD_DISK_WRITE,
			RECORD_DISK_FLUSH,
			RECORD_DISK_DISCARD,
			RECORD_DISK_WRITE_ZEROES,
			RECORD_DISK_OTHER, /* answered without the disk: serial number, refused */
};

/* How sure `access.instruction` is. The writer leaves NOT_JUDGED or STEPPED; readers judge (watch/read/instruction.h), and
 * recordings hold what they found. */
enum record_verdict {
	RECORD_INSN_NOT_JUDGED,
	RECORD_INSN_UNKNOWN,   /* the code could not be read, or nothing in it fits */
	RECORD_INSN_ON,	       /* the exit stood on it, and it fits in address, width and data */
	RECORD_INSN_BEFORE,    /* the only instruction that ends where the exit stood and fits */
	RECORD_INSN_PAIRED,    /* second half of an access whose first half stood on it */
	RECORD_INSN_STEPPED,   /* seen by single-stepping (--exact) */
	RECORD_INSN_AMBIGUOUS, /* several fit: `instruction` is where the exit stood */
	RECORD_VERDICTS,
};

/* The vCPU's registers at the exit. */
struct record_registers {
	/* rax rcx rdx rbx rsp rbp rsi rdi r8-r15, the order of the instruction set's encoding. In modes 16 and 32,
	 * which have no r8-r15, there stand the bases of ES CS SS DS FS GS, CR0, and 0. */
	uint64_t general[16];
	uint64_t rip; /* where the exit stood, in CS; see verdict for which instruction it was */
	uint64_t rflags;
};

#define RECORD_ES_BASE 8 /* in general[], in modes 16 and 32 */
#define RECORD_CS_BASE 9
#define RECORD_WINDOW 16

struct record_access {
	uint64_t instruction; /* linear address of the instruction; see verdict */
	uint8_t verdict;      /* enum record_verdict */
	uint8_t mode; /* 16, 32 or 64: how the code is decoded; 0: not known, no code, no registers */
	uint8_t n_before; /* bytes of code known before RIP (0..16), the last ones of code[0..15] */
	uint8_t n_after;  /* and from RIP on, the first ones of code[16..31] */
	uint8_t length;	  /* of the instruction, once it is known: 1..15 */
	uint8_t reserved[3];
	uint8_t code[2 * RECORD_WINDOW];
	struct record_registers registers;
	uint64_t
		cr3; /* page tables that map the code (in the kernel's half perhaps another process's) */
};

/* Where the exit stood, as a linear address. */
static inline uint64_t record_linear_rip(const struct record_access *access)
{
	const struct record_registers *registers = &access->registers;

	if (access->mode == 64)
		return registers->rip;
	return (uint32_t)(registers->general[RECORD_CS_BASE] + registers->rip);
}

#define RECORD_FRAME_BYTES 192

struct record_frame {
	uint16_t n_bytes; /* of `bytes`: the frame's first ones, from its Ethernet header */
	uint8_t reserved[6];
	uint8_t bytes[RECORD_FRAME_BYTES];
};

struct watch_record {
	/* The record's number in its ring, counted from 1; 0 while it is being written. A reader compares it before
	 * and after it copies. */
	uint64_t sequence;
	uint64_t begin;	   /* TSC when the request came */
	uint64_t duration; /* TSC ticks until it was answered */
	uint64_t
		address; /* port, guest-physical address, bdf << 12 | register; disk: byte offset */
	uint64_t data;	 /* value (the low `size` bytes); disk and net: length in bytes */
	uint8_t kind;	 /* enum record_kind */
	uint8_t flags;	 /* enum record_flags */
	uint8_t size;	 /* access: 1, 2, 4, 8 bytes; otherwise 0 */
	uint8_t operation; /* enum record_operation */
	uint16_t source;   /* vCPU's index; requests of queues: the queue's index */
	uint16_t device;   /* index in the store's devices; STORE_NO_DEVICE */
	uint32_t repeat;   /* element of a string access, from 0 */
	int32_t status;	   /* 0, or a negative errno: disk, net */
	union {
		struct record_access access; /* PIO, MMIO, PCI */
		struct record_frame frame;   /* NET */
		uint8_t raw[200];
	};
};
#define STORE_NO_DEVICE UINT16_MAX

_Static_assert(sizeof(struct record_access) == 200, "record format 1");
_Static_assert(sizeof(struct record_frame) == 200, "record format 1");
_Static_assert(sizeof(struct watch_record) == 256, "record format 1");
_Static_assert(offsetof(struct watch_record, access) == 56, "record format 1");

/* Whether it is an access of a vCPU, whose `access` counts. */
static inline bool record_is_access(const struct watch_record *record)
{
	return record->kind >= RECORD_PIO && record->kind <= RECORD_PCI;
}

/* Which requests there are records of. */
enum store_mode {
	STORE_OFF,    /* nobody watches: old records may be there */
	STORE_NORMAL, /* requests that reach the monitor */
	STORE_ALL,    /* doorbells that KVM would take reach it as well */
};

enum store_flags {
	STORE_LOSSLESS = 1 << 0, /* writers wait for followers */
	STORE_EXACT = 1 << 1,	 /* instructions are single-stepped */
};

struct store_header {
	uint64_t magic;
	uint32_t version;
	uint32_t record_size; /* 256 */
	uint32_t n_rings;
	uint32_t ring_records; /* a power of two */
	uint32_t n_devices;    /* grows; a name is there before it counts */
	uint32_t mode;	       /* enum store_mode */
	uint32_t flags;	       /* enum store_flags */
	uint32_t n_vcpus;      /* the first rings are theirs */
	uint64_t tsc_hz;
	uint64_t anchor_tsc; /* one moment, three clocks */
	uint64_t anchor_monotonic_ns;
	uint64_t anchor_wall_ns; /* since 1970, UTC */
	char vm[64];
	uint8_t reserved[128];
	char devices[STORE_DEVICES_MAX][STORE_NAME];
};
_Static_assert(sizeof(struct store_header) <= STORE_HEADER, "the header fits");

/* A reader for whom the ring's writer waits. It takes a free slot by a compare-and-exchange of `owner` from 0 to a random
 * token, and writes `tail` while `owner` is its token; a writer that waited too long sets `owner` to 0. */
struct ring_follower {
	uint64_t owner; /* 0: free; otherwise the reader's token */
	uint64_t
		tail; /* sequence of the last record that it has read; UINT64_MAX holds nobody up */
};

struct ring_header {
	char name[STORE_NAME]; /* the thread's: "vcpu0", "blk.0:1" */
	uint64_t head;	       /* sequence of the newest whole record; 0: none yet */
	uint64_t dropped;      /* records that a writer gave up on: a follower took too long */
	uint8_t reserved[80];
	struct ring_follower followers[STORE_FOLLOWERS];
};
_Static_assert(sizeof(struct ring_header) <= STORE_RING_HEADER, "the header fits");
