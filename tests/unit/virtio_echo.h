/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * A virtio device type for tests of the transport, which answers each request with the request's bytes,
 * either at once or when the test lets it (as a disk would); and a rig: machine, device, driver. Failures
 * fail the cmocka test that runs.
 */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "virtio_driver.h"

#define FEATURE_OWN (1ULL << 3)
#define FEATURE_UNWANTED (1ULL << 5) /* offered, but `negotiated` refuses it */
#define QUEUES 2
#define SIZE 16
#define SOON 5000 /* ms: a test that waits longer has failed */

struct echo {
	struct virtio_device vdev;
	struct virtio_state state;
	struct virtio_chain held[QUEUES][SIZE];
	unsigned int n_held[QUEUES];
	bool stopping[QUEUES];
	bool hold;	       /* atomic: keep requests until `release` is signalled */
	uint32_t popped;       /* atomic: requests taken so far */
	uint32_t idled;	       /* atomic: queues that became idle */
	uint32_t config_write; /* last value written by the guest */
	struct loop_watch release;
};

/* Offers `features` and `queues` queues on one worker. */
struct echo *echo_new(struct vmachine *machine, uint64_t features, unsigned int queues);
/* What a type must have, for devices that are never made whole. */
extern const struct virtio_ops echo_ops;
/* Requests wait from here on; until here. */
void echo_hold(struct echo *echo);
void echo_let_go(struct echo *echo);

struct rig {
	struct vmachine *m;
	struct echo *echo;
	struct vdriver driver;
	struct vqueue queues[QUEUES];
	uint64_t out, in; /* pages for requests */
};

/* A machine with the device in it. */
void rig_add_device(struct rig *rig, bool start);
/* cmocka fixtures: a started device that the driver has found; one in use; the end of both. */
int make_rig(void **state);
int make_working_rig(void **state);
int free_rig(void **state);
/* A sane driver's start, whatever was before. */
void rig_bring_up(struct rig *rig);

/* The common configuration. */
uint64_t rig_common(struct rig *rig, unsigned int offset, unsigned int size);
void rig_set_common(struct rig *rig, unsigned int offset, unsigned int size, uint64_t value);
/* 8 bytes from rig->out, to come back at rig->in. */
void rig_request(struct rig *rig, unsigned int queue);
void rig_assert_answered(struct rig *rig, unsigned int queue);
bool rig_wait_for_status(struct rig *rig, uint8_t status);
