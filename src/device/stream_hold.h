/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * A byte stream whose output is held (base/hold.h): it stands between a console device and the world's stream and looks like that one to
 * the device. What is typed passes.
 *
 *   device --write--> hold --[ by epoch ]--control loop--> the world's stream
 *
 * A full hold takes nothing more, as a console whose reader does not read; bytes are never dropped for their age, since a reader may be slow. Its
 * place in the stream is in each section: a reader that knows how far it has read can be attached there, and sees no byte twice.
 *
 * `write` comes on any thread; what leaves goes to the world on the control loop, or, while nothing is held, on the writer's. hold.h's "lane" is
 * who has the lock here. "Still" is needed as said there.
 */

#include "base/hold.h"
#include "base/loop.h"
#include "device/stream.h"

#define STREAM_HOLD_SECTION 2 /* the kind of its sections */

struct stream_hold;

/* `below` and `hold` are borrowed and outlive it; `loop` is the control loop. `size`: bytes of its ring, more than EPOCH_ITEM_OVERHEAD and at most
 * LIMIT_CONSOLE_HOLD. Before the device is made. */
_must_check_ int stream_hold_new(struct hold *hold, struct loop *loop, size_t size,
				 struct stream *below, struct stream_hold **ret_stream_hold);
/* Control, after the device has gone. What is held is lost. */
void stream_hold_free(struct stream_hold *stream_hold);

/* For the device's constructor. */
struct stream *stream_hold_stream(struct stream_hold *stream_hold);

/* Control: how many bytes have left since the VM began, here and at its earlier owners. */
uint64_t stream_hold_offset(struct stream_hold *stream_hold);

/* As net/filters/hold.h's. */
_must_check_ int stream_hold_export(struct stream_hold *stream_hold, uint64_t after, uint64_t up_to,
				    struct buffer *out);
_must_check_ int stream_hold_import(struct stream_hold *stream_hold, const struct iovec *sections,
				    unsigned int n_sections, struct error *err);
void stream_hold_count(const struct stream_hold *stream_hold, struct hold_counts *ret_counts);
