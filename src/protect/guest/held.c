/* SPDX-License-Identifier: Apache-2.0 */

/* Held output of a whole VM, as a checkpoint's container has it (protect/shared.h). */

#include <errno.h>

#include "base/endian.h"
#include "device/stream_hold.h"
#include "net/filters/hold.h"
#include "protect/guest/internal.h"

/* One section begins: its length comes when it is known. */
static int begin(struct buffer *out, size_t *ret_at)
{
	*ret_at = out->len;
	return buffer_append_le(out, 0, 8);
}

static void end(struct buffer *out, size_t at)
{
	le_store(out->data + at, 8, out->len - at - 8);
}

static int export_net(const struct net *net, uint64_t after, uint64_t up_to, struct buffer *out)
{
	size_t at;
	int r = begin(out, &at);

	if (r == 0)
		r = net_hold_export(net, after, up_to, out);
	if (r == 0)
		end(out, at);
	return r;
}

static int export_stream(struct stream_hold *stream, uint64_t after, uint64_t up_to,
			 struct buffer *out)
{
	size_t at;
	int r = begin(out, &at);

	if (r == 0)
		r = stream_hold_export(stream, after, up_to, out);
	if (r == 0)
		end(out, at);
	return r;
}

int protect_held_export(struct vm *vm, uint64_t after, uint64_t up_to, struct buffer *out)
{
	int r = 0;

	for (uint32_t i = 0; r == 0 && i < vm->config->n_nets; i++)
		if (vm->net_holds[i])
			r = export_net(vm->net_holds[i], after, up_to, out);
	if (r == 0)
		r = export_stream(vm->serial_hold, after, up_to, out);
	return r < 0 ? r : export_stream(vm->virtio_hold, after, up_to, out);
}

static int bad(struct error *err)
{
	return error_set(err, -EBADMSG, EXIT_STATUS_FAILED,
			 "held output: not what this VM's outputs have; the checkpoint is damaged");
}

static int import_stream(struct stream_hold *stream, struct iovec *held, struct error *err)
{
	struct iovec section;

	return protect_held_next(held, &section) < 0 ? bad(err)
						     : stream_hold_import(stream, &section, 1, err);
}

int protect_held_import(struct vm *vm, const struct iovec *held, struct error *err)
{
	struct iovec left = *held, section;
	int r = 0;

	for (uint32_t i = 0; r == 0 && i < vm->config->n_nets; i++) {
		if (!vm->net_holds[i])
			continue;
		r = protect_held_next(&left, &section) < 0
			    ? bad(err)
			    : net_hold_import(vm->net_holds[i], &section, 1, err);
	}
	if (r == 0)
		r = import_stream(vm->serial_hold, &left, err);
	if (r == 0)
		r = import_stream(vm->virtio_hold, &left, err);
	return r == 0 && left.iov_len ? bad(err) : r;
}

void protect_held_count(struct vm *vm, struct hold_counts *ret_counts)
{
	struct hold_counts sum = { .first_epoch = UINT64_MAX, .first_at_ns = UINT64_MAX }, one;

	for (uint32_t i = 0; i < vm->config->n_nets; i++) {
		if (!vm->net_holds[i])
			continue;
		net_hold_count(vm->net_holds[i], &one);
		hold_counts_add(&sum, &one);
	}
	stream_hold_count(vm->serial_hold, &one);
	hold_counts_add(&sum, &one);
	stream_hold_count(vm->virtio_hold, &one);
	hold_counts_add(&sum, &one);
	*ret_counts = sum;
}
