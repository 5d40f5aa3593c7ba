/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A debugger's packets, with a guest that only remembers. Each line of the input is a payload, which gets its frame here;
 * a line that begins with 0xff is sent as it is, one with 0xfe lets the guest stop for the reason in its next bytes, one
 * with 0xfd prints a line, one with 0xfc takes what was answered, one with 0xfb ends the VM.
 * covers: debug/gdb_packet.c debug/gdb_session.c debug/gdb_commands.c debug/gdb_query.c
 * covers: debug/gdb_resume.c debug/gdb_registers.c
 */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "debug/gdb_session.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define VCPUS 3
#define RAM_BYTES 4096

struct guest {
	struct gdb_registers registers[VCPUS];
	uint8_t ram[RAM_BYTES];
	bool running, killed, asked;
};

static uint32_t guest_n_vcpus(void *guest _unused_)
{
	return VCPUS;
}

/* Whatever comes in, the protocol asks only for what there is, and only while the guest stands still. */
static struct guest *standing(void *ctx, uint32_t vcpu)
{
	struct guest *guest = ctx;

	assert(vcpu < VCPUS && !guest->running);
	return guest;
}

static int guest_get_registers(void *ctx, uint32_t vcpu, struct gdb_registers *ret_registers)
{
	struct guest *guest = standing(ctx, vcpu);

	*ret_registers = guest->registers[vcpu];
	return ret_registers->regs.r15 == 0xbad ? -EIO : 0;
}

static int guest_set_registers(void *ctx, uint32_t vcpu, const struct gdb_registers *registers)
{
	struct guest *guest = standing(ctx, vcpu);

	guest->registers[vcpu] = *registers;
	return registers->sregs.cr0 == 0xbad ? -EINVAL : 0;
}

static ssize_t guest_read(void *ctx, const struct gdb_access *access, void *buf)
{
	struct guest *guest = standing(ctx, access->vcpu);
	size_t len;

	assert(access->len <= LIMIT_GDB_PACKET / 2);
	if (access->address >= RAM_BYTES)
		return -EFAULT;
	len = MIN(access->len, RAM_BYTES - access->address);
	memcpy(buf, guest->ram + access->address, len);
	return (ssize_t)len;
}

static int guest_write(void *ctx, const struct gdb_access *access, const void *buf)
{
	struct guest *guest = standing(ctx, access->vcpu);

	assert(access->len <= LIMIT_GDB_PACKET / 2);
	if (!range_fits(access->address, access->len, RAM_BYTES))
		return -EFAULT;
	memcpy(guest->ram + access->address, buf, access->len);
	return 0;
}

static int guest_breakpoint(void *ctx, bool insert _unused_, enum gdb_breakpoint type,
			    const struct gdb_access *where)
{
	standing(ctx, where->vcpu);
	assert(type <= GDB_WATCHPOINT_ACCESS && !where->physical);
	if (type == GDB_WATCHPOINT_READ)
		return -EOPNOTSUPP;
	return where->address > 0x1000 ? -ENOSPC : 0;
}

static int guest_resume(void *ctx, const enum gdb_action *actions)
{
	struct guest *guest = standing(ctx, 0);

	for (int i = 0; i < VCPUS; i++)
		assert(actions[i] == GDB_STAY || actions[i] == GDB_RUN || actions[i] == GDB_STEP);
	if (guest->registers[0].regs.rax == 0xbad)
		return -EIO;
	guest->running = true;
	return 0;
}

static void guest_stop(void *ctx)
{
	struct guest *guest = ctx;

	assert(guest->running);
	guest->asked = true;
}

static void guest_kill(void *ctx)
{
	struct guest *guest = ctx;

	assert(!guest->killed);
	guest->killed = true;
}

static const struct gdb_guest_ops ops = {
	.n_vcpus = guest_n_vcpus,
	.get_registers = guest_get_registers,
	.set_registers = guest_set_registers,
	.read = guest_read,
	.write = guest_write,
	.breakpoint = guest_breakpoint,
	.resume = guest_resume,
	.stop = guest_stop,
	.kill = guest_kill,
};

static void stop(struct gdb_session *session, struct guest *guest, const uint8_t *p, size_t len)
{
	const struct gdb_stop reason = {
		.reason = len > 0 ? p[0] % (GDB_STOP_ACCESS_WATCHPOINT + 1) : GDB_STOP_TRAP,
		.vcpu = len > 1 ? p[1] % VCPUS : 0,
		.address = len > 2 ? p[2] : 0,
	};

	guest->running = false;
	gdb_session_stopped(session, &reason);
	assert(!session->running);
}

/* What is sent is packets and acknowledgements, whole and with the right sum. */
static void take_output(struct gdb_session *session)
{
	static struct gdb_framing framing;
	struct buffer *output = &session->output;

	memset(&framing, 0, sizeof(framing));
	for (size_t i = 0; i < output->len && !session->ended; i++) {
		enum gdb_event event = gdb_framing_take(&framing, output->data[i]);

		assert(event != GDB_BAD_SUM && event != GDB_INTERRUPT);
	}
	assert(session->ended || framing.state == GDB_OUTSIDE);
	output->len = 0;
}

static void send_framed(struct gdb_session *session, const uint8_t *payload, size_t len)
{
	struct buffer frame;

	buffer_init(&frame, 4 * LIMIT_GDB_PACKET);
	if (gdb_packet_append(&frame, payload, len) == 0)
		gdb_session_receive(session, frame.data, frame.len);
	buffer_release(&frame);
}

static void act(struct gdb_session *session, struct guest *guest, const uint8_t *line, size_t len)
{
	switch (len ? line[0] : 0) {
	case 0xff:
		gdb_session_receive(session, line + 1, len - 1);
		break;
	case 0xfe:
		stop(session, guest, line + 1, len - 1);
		break;
	case 0xfd:
		gdb_session_print(session, "a request");
		break;
	case 0xfc:
		take_output(session);
		break;
	case 0xfb:
		gdb_session_exited(session);
		break;
	default:
		send_framed(session, line, len);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct gdb_session *session = malloc(sizeof(*session));
	struct guest *guest = calloc(1, sizeof(*guest));
	const uint8_t *end = data + size;

	guest->registers[1].sregs.cr0 = 1; /* in long mode */
	guest->registers[1].sregs.efer = 1 << 10;
	guest->registers[1].sregs.cs.l = 1;
	guest->registers[2].mp_state = KVM_MP_STATE_UNINITIALIZED;
	gdb_session_begin(session, &ops, guest);
	while (data < end) {
		const uint8_t *newline = memchr(data, '\n', (size_t)(end - data));
		const uint8_t *line_end = newline ? newline : end;

		act(session, guest, data, (size_t)(line_end - data));
		data = line_end + 1;
	}
	take_output(session);
	gdb_session_end(session);
	free(session);
	free(guest);
	return 0;
}
