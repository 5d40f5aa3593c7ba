/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * A machine around one device: a bus, a loop on a fake clock, interrupt lines that remember, a stream that
 * takes as much as it is told to. For tests and fuzz targets of everything in src/device. The test's thread
 * plays the vCPU and the control loop.
 */

#include "base/buffer.h"
#include "base/loop.h"
#include "bus/bus.h"
#include "bus/device.h"
#include "bus/irq.h"
#include "device/stream.h"

#define RIG_LINES 24
#define RIG_STREAM 4096

struct rig_line {
	bool level;
	unsigned int rises;
};

struct rig_stream {
	struct stream stream;
	size_t room; /* what it takes in all, from now on */
	size_t n;
	uint8_t bytes[RIG_STREAM]; /* the first of what the device sent */
	unsigned int readies;
};

struct device_rig {
	struct bus *bus;
	struct fake_clock clock;
	struct loop *loop;
	struct rig_line lines[RIG_LINES];
	struct rig_stream stream;
	struct device *device;
};

/* The clock starts at `now_ns`, and at 2026-01-01 00:00:00 UTC on the wall. Room in the stream: 1 MiB. */
void rig_init(struct device_rig *rig, uint64_t now_ns);
/* Destroys the device too. */
void rig_release(struct device_rig *rig);

struct irq_line rig_line(struct device_rig *rig, uint32_t gsi);

/* Port accesses. */
uint64_t rig_in(struct device_rig *rig, uint16_t port, unsigned int size);
void rig_out(struct device_rig *rig, uint16_t port, unsigned int size, uint64_t data);
uint64_t rig_access(struct device_rig *rig, enum bus_space space, uint64_t address,
		    unsigned int size, bool write, uint64_t data);

/* Time passes in one leap, and the loop takes its turn. */
void rig_pass(struct device_rig *rig, uint64_t ns);
/* Time passes in steps of at most `step` ns. */
void rig_run(struct device_rig *rig, uint64_t ns, uint64_t step);

/* What the board does to save and load. `rig_load` returns what loading said; on success the lines of `rig`
 * are those of `from`, as the interrupt controllers' own state would have them, and the loop took a turn. */
void rig_save(struct device_rig *rig, struct buffer *out);
int rig_load(struct device_rig *rig, const struct device_rig *from, const struct buffer *in,
	     struct error *err);

/* The whole saved section, clock fields included, equal in both? Fails the program with the name of the field, or
 * returns. */
void rig_expect_equal(struct device_rig *a, struct device_rig *b);

/* The same for the lines: level, and how often each rose. */
void rig_expect_same_lines(const struct device_rig *a, const struct device_rig *b);

/* A small repeatable generator (xorshift); `*state` is not 0. */
uint64_t rig_random(uint64_t *state);

/* A port that random sequences access, with the widths it makes sense to use. */
struct rig_port {
	uint16_t port;
	uint8_t size;
};

/*
 * Random accesses to `a` and `b` alike, time passing between them: what is read (without the bits of
 * `ignore(port)`; may be NULL) and the lines must agree. `b` NULL: only `a` is driven.
 */
void rig_random_run(struct device_rig *a, struct device_rig *b, const struct rig_port *ports,
		    size_t n_ports, unsigned int accesses, uint64_t *seed,
		    uint64_t (*ignore)(uint16_t port));
