/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * A back end of a network attachment that shows what it is given, and is full or broken when a test wants it; and frames that can be told from
 * each other to the last byte.
 */

#include "base/limits.h"
#include "net/net.h"

struct sink_queue {
	struct net_queue queue;
	struct net_events events;
	unsigned int index;
	bool opened, active, waits; /* who sends was told to wait */
	unsigned int changes;	    /* of `active` */
	unsigned int room;	    /* frames that it still takes */
	int error;		    /* 0, or what it answers to a frame that it takes and loses */
};

struct net_sink {
	struct net net;
	struct sink_queue queues[LIMIT_QUEUES];
	/* Of each frame that is taken, whole and in one piece; on the queue's thread. */
	void (*took)(void *ctx, unsigned int queue, const uint8_t *frame, size_t len);
	void *ctx;
	bool destroyed;
};

/* Belongs to the test, which sets took and ctx. All queues have room without end. */
void net_sink_init(struct net_sink *sink, unsigned int queue_pairs);
/* Room for as many frames more; tells who waits. On the queue's thread. */
void net_sink_room(struct net_sink *sink, unsigned int queue, unsigned int frames);

/* A frame of `len` bytes (SINK_FRAME_MIN or more) that carries a number. */
#define SINK_FRAME_MIN (NET_HEADER_SIZE + 20)
void sink_frame_make(uint64_t number, uint8_t *frame, size_t len);
/* Its number; aborts when a byte is wrong. */
uint64_t sink_frame_number(const uint8_t *frame, size_t len);
