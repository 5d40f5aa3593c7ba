/* SPDX-License-Identifier: Apache-2.0 */

/*
 * A whole VM's state from a peer, loaded into a VM with every device of the board and the fake KVM.
 *
 * covers: vm/load.c vm/machine.c cpu/compat.c
 *
 * Input: a byte; 0: the rest is a stream. Else the rest is a list of edits (six bytes each) of a valid stream: so deep
 * fields are reached with every length and name around them right.
 *
 * What must hold: nothing crashes; a refusal says why; a rehearsal changes nothing; what was accepted can be saved, and is
 * accepted again. After all of that the valid stream still loads.
 */

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../unit/kernel_images.h"
#include "../unit/ram_block.h"
#include "base/endian.h"
#include "base/loop.h"
#include "kvm/fake.h"
#include "net/pair.h"
#include "vm/cpus.h"
#include "vm/machine.h"
#include "vm/save.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define STREAM_MAX MIB(1)
#define EDITS_MAX 64
#define STOPPED_NS 1000000

struct target {
	struct fake_clock clock;
	struct loop *loop;
	struct vm_config config;
	struct vm_resources resources;
	struct vm *vm;
	struct buffer valid;
};

static void on_ended(void *ctx _unused_, enum vm_end how _unused_, const char *why _unused_)
{
}

static void configure(struct vm_config *config)
{
	vm_config_init(config);
	snprintf(config->name, sizeof(config->name), "fuzz");
	config->kernel = strdup("kernel");
	config->cpus.count = 2;
	config->memory.size = MIB(64);
	config->n_disks = config->n_nets = 1;
	config->disks[0].path = strdup("disk");
	config->disks[0].queues = config->nets[0].queues = 1;
	vm_config_complete(config);
}

static void open_resources(struct vm_resources *resources)
{
	const struct net_pair_params cable = { .queue_pairs = 1 };
	static uint8_t image[KERNEL_IMAGE_BYTES];
	struct net *peer;

	vm_resources_init(resources);
	kernel_image_bzimage(image);
	resources->kernel_fd = kernel_image_file(image, sizeof(image));
	resources->blocks[0] = &ram_block_new(MIB(1), 512, false)->block;
	assert(net_pair_new(&cable, &resources->nets[0], &peer) == 0);
	net_free(peer);
}

static void save(struct target *t, struct buffer *ret_stream)
{
	buffer_init(ret_stream, STREAM_MAX);
	assert(vm_save(t->vm, VM_SAVE_ALL, ret_stream, NULL) == 0);
}

static int load(struct target *t, const struct buffer *stream, enum vm_load_mode mode)
{
	struct error err = { 0 };
	int r = vm_load(t->vm, stream->data, stream->len, STOPPED_NS, mode, &err);

	assert(r == 0 || err.message[0]);
	return r;
}

/* A processor with parts that the fake's own lacks, so that they can be judged. */
static void enrich(struct target *t)
{
	static const struct kvm_cpuid_entry2 more[] = {
		{ .function = 7, .flags = KVM_CPUID_FLAG_SIGNIFCANT_INDEX, .ebx = 0xd19f07ab },
		{ .function = 0xa, .eax = 0x07300402 },
		{ .function = 0xd, .flags = KVM_CPUID_FLAG_SIGNIFCANT_INDEX, .eax = 7 },
		{ .function = 0xd,
		  .index = 2,
		  .flags = KVM_CPUID_FLAG_SIGNIFCANT_INDEX,
		  .eax = 256,
		  .ebx = 576 },
	};
	struct kvm_cpuid2 *supported, *rich = calloc(1, sizeof(*rich) + 64 * sizeof(more[0]));

	assert(rich && kvm_supported_cpuid(t->vm->kvm_system, &supported) == 0);
	rich->nent = supported->nent;
	memcpy(rich->entries, supported->entries, rich->nent * sizeof(more[0]));
	memcpy(rich->entries + rich->nent, more, sizeof(more));
	rich->nent += ARRAY_SIZE(more);
	kvm_fake_set_supported(t->vm->kvm_system, rich);
	assert(cpus_show(t->vm, rich, NULL) == 0);
	free(supported);
	free(rich);
}

/* One for all inputs: a VM is long in the making. */
static struct target *the_target(void)
{
	static struct target *t;
	const struct vm_events events = { .ended = on_ended };

	if (t)
		return t;
	t = calloc(1, sizeof(*t));
	assert(t);
	fake_clock_init(&t->clock, NSEC_PER_SEC, 1700000000 * NSEC_PER_SEC);
	configure(&t->config);
	open_resources(&t->resources);
	t->loop = loop_new(&t->clock.clock);
	assert(vm_new(&t->config, &t->resources, t->loop, NULL, &events, &t->vm, NULL) == 0);
	enrich(t);
	save(t, &t->valid);
	return t;
}

/* ---- edits ---- */

enum edit { SET_BYTE, SET_WORD, SET_VERSION, CUT_BODY, GROW_BODY, DROP, TWICE, RENAME, CUT, EDITS };

struct range {
	size_t start, end;   /* of the section */
	size_t body, length; /* places of its body and of the body's length */
};

static bool find_section(const struct buffer *stream, unsigned int which, struct range *ret_range)
{
	struct cursor at = { .data = stream->data, .left = stream->len };
	struct state_section section;
	size_t start = 0;

	while (state_next_section(&at, &section) == 1) {
		size_t end = stream->len - at.left;

		if (which-- == 0) {
			*ret_range = (struct range){ .start = start, .end = end };
			ret_range->body = (size_t)(section.body.data - stream->data);
			ret_range->length = ret_range->body - 4;
			return true;
		}
		start = end;
	}
	return false;
}

/* Replaces [start, end) by `len` bytes. */
static void splice(struct buffer *stream, size_t start, size_t end, const void *bytes, size_t len)
{
	struct buffer copy;

	buffer_init(&copy, STREAM_MAX);
	assert(buffer_append(&copy, stream->data, start) == 0);
	assert(buffer_append(&copy, bytes, len) == 0);
	assert(buffer_append(&copy, stream->data + end, stream->len - end) == 0);
	buffer_release(stream);
	*stream = copy;
}

static void edit_body(struct buffer *stream, const struct range *range, enum edit edit,
		      size_t offset, uint32_t value)
{
	size_t len = range->end - range->body;
	size_t at = range->body + (len ? offset % len : 0);
	size_t n = MIN(edit == SET_WORD ? 4 : 1, range->end - at);

	if (edit == SET_BYTE || edit == SET_WORD) {
		le_store(stream->data + at, n, value);
	} else if (edit == CUT_BODY) {
		le_store(stream->data + range->length, 4, at - range->body);
		splice(stream, at, range->end, "", 0);
	} else {
		uint8_t more[64];

		memset(more, (int)value, sizeof(more));
		le_store(stream->data + range->length, 4, len + sizeof(more));
		splice(stream, at, at, more, sizeof(more));
	}
}

static void apply(struct buffer *stream, const uint8_t edit[6])
{
	size_t offset = (size_t)le_load(edit + 2, 2);
	uint32_t value = (uint32_t)le_load(edit + 4, 2);
	struct range range;

	if (!find_section(stream, edit[1], &range) || stream->len > STREAM_MAX / 2)
		return;
	/* Small numbers and those next to the largest are where the edges are. */
	if (value & 0x8000)
		value |= 0xffff0000;
	switch (edit[0] % EDITS) {
	case SET_VERSION:
		le_store(stream->data + range.length - 2, 2, value);
		break;
	case DROP:
		splice(stream, range.start, range.end, "", 0);
		break;
	case TWICE: {
		struct buffer copy;

		buffer_init(&copy, STREAM_MAX);
		assert(buffer_append(&copy, stream->data + range.start, range.end - range.start) ==
		       0);
		splice(stream, range.start, range.start, copy.data, copy.len);
		buffer_release(&copy);
		break;
	}
	case RENAME:
		stream->data[range.start + 5 + offset % (range.length - 2 - range.start - 5)] =
			(uint8_t)value;
		break;
	case CUT:
		stream->len = MIN(stream->len, range.start + offset);
		break;
	default:
		edit_body(stream, &range, edit[0] % EDITS, offset, value);
	}
}

static void make_stream(const struct target *t, const uint8_t *data, size_t size,
			struct buffer *ret_stream)
{
	buffer_init(ret_stream, STREAM_MAX);
	if (size && data[0] == 0) {
		assert(buffer_append(ret_stream, data + 1, MIN(size - 1, STREAM_MAX)) == 0);
		return;
	}
	assert(buffer_append(ret_stream, t->valid.data, t->valid.len) == 0);
	for (size_t at = 1, n = 0; at + 6 <= size && n < EDITS_MAX; at += 6, n++)
		apply(ret_stream, data + at);
}

/* ---- what must hold ---- */

/* Devices' sections of two streams; a rehearsal leaves the vCPUs at power-on, whatever they were, and may leave the
 * CPUID shown. */
static void assert_same_devices(const struct buffer *x, const struct buffer *y)
{
	struct cursor a = { .data = x->data, .left = x->len },
		      b = { .data = y->data, .left = y->len };
	struct state_section in_a, in_b;

	while (state_next_section(&a, &in_a) == 1) {
		assert(state_next_section(&b, &in_b) == 1);
		if (strcmp(in_a.instance, "machine") == 0 ||
		    strncmp(in_a.instance, "vcpu.", 5) == 0)
			continue;
		assert(in_a.body.left == in_b.body.left &&
		       memcmp(in_a.body.data, in_b.body.data, in_a.body.left) == 0);
	}
}

static void rehearse(struct target *t, const struct buffer *stream)
{
	struct buffer before, after;

	save(t, &before);
	(void)load(t, stream, VM_LOAD_REHEARSAL);
	save(t, &after);
	assert_same_devices(&before, &after);
	buffer_release(&before);
	buffer_release(&after);
}

static void take(struct target *t, const struct buffer *stream, enum vm_load_mode mode)
{
	struct buffer again;

	if (load(t, stream, mode) < 0)
		return;
	save(t, &again);
	assert(load(t, &again, VM_LOAD_WHOLE) == 0);
	buffer_release(&again);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct target *t = the_target();
	struct buffer stream;

	make_stream(t, data, size, &stream);
	rehearse(t, &stream);
	take(t, &stream, size % 2 ? VM_LOAD_WHOLE : VM_LOAD_PARTIAL);
	assert(load(t, &t->valid, VM_LOAD_WHOLE) == 0);
	buffer_release(&stream);
	return 0;
}
