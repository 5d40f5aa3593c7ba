/* SPDX-License-Identifier: Apache-2.0 */

/* A VM over the fake KVM under a debugger. */

#include "gdb_rig.h"
#include "kvm/fake.h"

#define KERNEL 0xffffffff80000000ULL /* the fake's page tables map it to 0 */
#define CODE_AT 0x2000

static int set_up(void **state)
{
	static uint8_t image[KERNEL_IMAGE_BYTES];

	kernel_image_bzimage(image);
	*state = rig_new(image, sizeof(image));
	return 0;
}

static void script(struct rig *rig, uint32_t vcpu, const struct kvm_fake_exit *exits, size_t count)
{
	kvm_fake_script(vcpu_kvm(rig->vm->vcpus[vcpu]), exits, count);
}

static void until_script_ends(struct rig *rig, uint32_t vcpu)
{
	for (int i = 0; i < PATIENCE; i++) {
		if (kvm_fake_script_done(vcpu_kvm(rig->vm->vcpus[vcpu])))
			return;
		turn(rig);
	}
	fail_msg("vCPU %u did not run its script", vcpu);
}

static uint32_t control_of(struct rig *rig, uint32_t vcpu)
{
	return kvm_fake_guest_debug(vcpu_kvm(rig->vm->vcpus[vcpu]))->control;
}

/* ---- exits ---- */

static void debug_exit(struct kvm_run *run, uint32_t exception, uint64_t pc, uint64_t dr6)
{
	run->exit_reason = KVM_EXIT_DEBUG;
	run->debug.arch =
		(struct kvm_debug_exit_arch){ .exception = exception, .pc = pc, .dr6 = dr6 };
}

static void int3_at_code(struct kvm_run *run, void *ctx _unused_)
{
	debug_exit(run, 3, KERNEL + CODE_AT, 0);
}

static void int3_at_alias(struct kvm_run *run, void *ctx _unused_)
{
	debug_exit(run, 3, CODE_AT, 0);
}

static void int3_elsewhere(struct kvm_run *run, void *ctx _unused_)
{
	debug_exit(run, 3, KERNEL + 0x9000, 0);
}

static void step_done(struct kvm_run *run, void *ctx _unused_)
{
	debug_exit(run, 1, KERNEL + CODE_AT, 0xffff0ff0 | 1 << 14);
}

static void slot0_hit(struct kvm_run *run, void *ctx _unused_)
{
	debug_exit(run, 1, KERNEL + CODE_AT, 0xffff0ff0 | 1);
}

static const struct kvm_fake_exit int3[] = { { .fill = int3_at_code } };
static const struct kvm_fake_exit int3_alias[] = { { .fill = int3_at_alias } };
static const struct kvm_fake_exit int3_own[] = { { .fill = int3_elsewhere } };
static const struct kvm_fake_exit step[] = { { .fill = step_done } };
static const struct kvm_fake_exit hit[] = { { .fill = slot0_hit } };

/* Breakpoints from now on are INT3s. */
static void take_debug_registers(struct rig *rig)
{
	assert_string_equal(ask(rig, "Z1,100,1"), "OK");
	assert_string_equal(ask(rig, "Z1,101,1"), "OK");
	assert_string_equal(ask(rig, "Z1,102,1"), "OK");
	assert_string_equal(ask(rig, "Z1,103,1"), "OK");
}

/* ---- tests ---- */

static void threads_are_vcpus(void **state)
{
	struct rig *rig = *state;

	start(rig);
	assert_string_equal(ask(rig, "qfThreadInfo"), "m1,2");
	assert_string_equal(ask(rig, "qsThreadInfo"), "l");
	assert_string_equal(ask(rig, "qC"), "QC1");
	assert_string_equal(ask(rig, "Hg2"), "OK");
	assert_string_equal(ask(rig, "qC"), "QC2");
	assert_string_equal(ask(rig, "Hg3"), "E16");
	assert_string_equal(ask(rig, "T2"), "OK");
	assert_string_equal(ask(rig, "T3"), "E16");
	assert_string_equal(ask(rig, "qAttached"), "1");
	assert_string_equal(ask(rig, "vMustReplyEmpty"), "");
	assert_string_equal(ask(rig, "qThreadExtraInfo,1"),
			    "7643505520303a2036342d6269742c2072696e672030");
}

static void registers_are_read_and_written(void **state)
{
	struct rig *rig = *state;
	char all[4096], packet[4200];

	start(rig);
	assert_string_equal(ask(rig, "P0=8877665544332211"), "OK");
	assert_string_equal(ask(rig, "p0"), "8877665544332211");
	assert_string_equal(ask(rig, "P28=000102030405060708090a0b0c0d0e0f"), "OK");
	assert_string_equal(ask(rig, "p28"), "000102030405060708090a0b0c0d0e0f");
	memcpy(all, ask(rig, "g"), sizeof(all)); /* less than its buffer */
	assert_memory_equal(all, "8877665544332211", 16);
	memcpy(all, "0000000000000001", 16);
	snprintf(packet, sizeof(packet), "G%s", all);
	assert_string_equal(ask(rig, packet), "OK");
	assert_string_equal(ask(rig, "p0"), "0000000000000001");
	packet[strlen(packet) - 2] = '\0';
	assert_string_equal(ask(rig, packet), "E16");
	/* The other vCPU has its own. */
	assert_string_equal(ask(rig, "Hg2"), "OK");
	assert_string_equal(ask(rig, "p0"), "0000000000000000");
	assert_string_equal(ask(rig, "pff"), "E16");
	assert_string_equal(ask(rig, "P0=00"), "E16");
}

static void a_selector_is_not_changed_in_protected_mode(void **state)
{
	struct rig *rig = *state;
	char value[16];

	start(rig);
	memcpy(value, ask(rig, "p12"), 9);
	assert_int_equal(strlen(value), 8);
	assert_string_equal(ask(rig, "P12=ffff0000"), "E16");
	assert_string_equal(ask(rig, "p12"), value);
}

static void memory_is_seen_through_page_tables(void **state)
{
	struct rig *rig = *state;

	start(rig);
	assert_string_equal(ask(rig, "M2ffe,4:01020304"), "OK");
	assert_string_equal(ask(rig, "mffffffff80002ffe,4"), "01020304");
	assert_int_equal(ram(rig, 0x3001), 4);
	say(rig, "X2000,3:a");
	assert_string_equal(next_packet(rig), "E16");
	assert_string_equal(ask(rig, "X2000,3:abc"), "OK");
	assert_string_equal(ask(rig, "m2000,3"), "616263");
	assert_string_equal(ask(rig, "m100000000,4"), "E0e"); /* not mapped */
	assert_string_equal(ask(rig, "m4000000,4"), "E0e");   /* mapped, no RAM */
	assert_string_equal(ask(rig, "m3fffffe,4"), "0000");  /* as much as there is */
	assert_string_equal(ask(rig, "M3fffffe,4:01020304"), "E0e");
	assert_string_equal(ask(rig, "m0,2001"), "E07");
	assert_string_equal(ask(rig, "mx"), "E16");
}

static void physical_addresses_by_monitor(void **state)
{
	struct rig *rig = *state;

	start(rig);
	assert_string_equal(ask(rig, "M2000,1:77"), "OK");
	assert_string_equal(ask(rig, "mffffffff80002000,1"), "77");
	assert_true(strlen(ask(rig, "qRcmd,706879736963616c206f6e")) > 2);
	assert_string_equal(ask(rig, "mffffffff80002000,1"), "E0e");
	assert_string_equal(ask(rig, "m2000,1"), "77");
	assert_true(strlen(ask(rig, "qRcmd,706879736963616c206f6666")) > 2);
	assert_string_equal(ask(rig, "mffffffff80002000,1"), "77");
	assert_true(strlen(ask(rig, "qRcmd,68656c70")) > 40);
	assert_true(strlen(ask(rig, "qRcmd,696e666f")) > 40);
	assert_true(strlen(ask(rig, "qRcmd,00")) > 10);
}

static void a_software_breakpoint_is_hit_and_not_seen(void **state)
{
	struct rig *rig = *state;

	script(rig, 0, int3, 1);
	start(rig);
	take_debug_registers(rig);
	assert_string_equal(ask(rig, "M2000,2:9090"), "OK");
	assert_string_equal(ask(rig, "Z0,ffffffff80002000,1"), "OK");
	assert_string_equal(ask(rig, "Z0,ffffffff80002000,1"), "OK");
	assert_int_equal(ram(rig, CODE_AT), 0xcc);
	assert_string_equal(ask(rig, "m2000,2"), "9090");
	assert_string_equal(ask(rig, "vCont;c"), "T05swbreak:;thread:1;");
	assert_int_equal(control_of(rig, 1),
			 KVM_GUESTDBG_ENABLE | KVM_GUESTDBG_USE_SW_BP | KVM_GUESTDBG_USE_HW_BP);
	/* Code that is written under it is hidden in its turn. */
	assert_string_equal(ask(rig, "M2000,2:c3c3"), "OK");
	assert_int_equal(ram(rig, CODE_AT), 0xcc);
	assert_string_equal(ask(rig, "m2000,2"), "c3c3");
	assert_string_equal(ask(rig, "z0,ffffffff80002000,1"), "OK");
	assert_string_equal(ask(rig, "z0,ffffffff80002000,1"), "OK");
	assert_int_equal(ram(rig, CODE_AT), 0xc3);
	assert_string_equal(ask(rig, "Z0,100000000,1"), "E0e");
}

static void a_breakpoint_is_found_by_any_address_of_its_page(void **state)
{
	struct rig *rig = *state;

	script(rig, 1, int3_alias, 1);
	start(rig);
	take_debug_registers(rig);
	assert_string_equal(ask(rig, "M2000,1:90"), "OK");
	assert_string_equal(ask(rig, "Z0,ffffffff80002000,1"), "OK");
	assert_string_equal(ask(rig, "Z0,fffffffff0002000,1"), "E0e");
	assert_string_equal(ask(rig, "vCont;c"), "T05swbreak:;thread:2;");
	assert_string_equal(ask(rig, "Z0,2000,1"), "OK");
	assert_string_equal(ask(rig, "z0,ffffffff80002000,1"), "OK");
	assert_int_equal(ram(rig, CODE_AT), 0xcc);
	assert_string_equal(ask(rig, "z0,2000,1"), "OK");
	assert_int_equal(ram(rig, CODE_AT), 0x90);
}

static void what_the_guest_overwrote_stays(void **state)
{
	struct rig *rig = *state;
	const uint8_t other = 0x55;

	start(rig);
	take_debug_registers(rig);
	assert_string_equal(ask(rig, "Z0,2000,1"), "OK");
	assert_int_equal(memory_write(rig->vm->memory, gpa(CODE_AT), &other, 1), 0);
	assert_string_equal(ask(rig, "z0,2000,1"), "OK");
	assert_int_equal(ram(rig, CODE_AT), 0x55);
}

static void breakpoints_have_a_limit(void **state)
{
	struct rig *rig = *state;
	char packet[64];

	start(rig);
	take_debug_registers(rig);
	for (unsigned int i = 0; i < LIMIT_BREAKPOINTS; i++) {
		snprintf(packet, sizeof(packet), "Z0,%x,1", 0x2000 + i);
		assert_string_equal(ask(rig, packet), "OK");
	}
	assert_string_equal(ask(rig, "Z0,3000,1"), "E1c");
	fd_close(TAKE_FD(rig->client));
	for (int i = 0; i < PATIENCE && rig->vm->status != VM_RUNNING; i++)
		turn(rig);
	assert_int_equal(ram(rig, 0x2000), 0);
	assert_int_equal(ram(rig, 0x20ff), 0);
}

static void the_guests_own_int3_is_given_back(void **state)
{
	struct rig *rig = *state;

	script(rig, 0, int3_own, 1);
	start(rig);
	take_debug_registers(rig);
	assert_string_equal(ask(rig, "Z0,ffffffff80002000,1"), "OK");
	say(rig, "vCont;c");
	until_script_ends(rig, 0);
	put(rig, "\x03", 1);
	assert_string_equal(next_packet(rig), "T02thread:1;");
	assert_int_equal(control_of(rig, 0), KVM_GUESTDBG_ENABLE | KVM_GUESTDBG_USE_SW_BP |
						     KVM_GUESTDBG_USE_HW_BP |
						     KVM_GUESTDBG_INJECT_BP);
}

static void one_vcpu_steps_while_the_other_stands(void **state)
{
	struct rig *rig = *state;
	uint64_t exits;

	script(rig, 0, int3_own, 1); /* would run if it were let */
	script(rig, 1, step, 1);
	start(rig);
	exits = vcpu_exits(rig->vm->vcpus[0]);
	assert_string_equal(ask(rig, "vCont;s:2"), "T05thread:2;");
	assert_int_equal(vcpu_exits(rig->vm->vcpus[0]), exits);
	assert_true(control_of(rig, 1) & KVM_GUESTDBG_SINGLESTEP);
	assert_int_equal(control_of(rig, 0), 0);
}

static void a_step_from_another_address(void **state)
{
	struct rig *rig = *state;

	script(rig, 0, step, 1);
	start(rig);
	assert_string_equal(ask(rig, "s5000"), "T05thread:1;");
	assert_string_equal(ask(rig, "p10"), "0050000000000000");
	assert_string_equal(ask(rig, "s5000x"), "E16");
}

static void hardware_breakpoints_fill_the_debug_registers(void **state)
{
	const struct kvm_guest_debug *debug;
	struct rig *rig = *state;

	script(rig, 1, hit, 1);
	start(rig);
	assert_string_equal(ask(rig, "Z2,2000,4"), "OK");
	assert_string_equal(ask(rig, "Z1,3000,1"), "OK");
	assert_string_equal(ask(rig, "Z4,4000,8"), "OK");
	assert_string_equal(ask(rig, "Z4,4001,2"), "E16");
	assert_string_equal(ask(rig, "Z2,4000,3"), "E16");
	assert_string_equal(ask(rig, "Z3,4000,4"), "");
	assert_string_equal(ask(rig, "Z2,5000,2"), "OK");
	assert_string_equal(ask(rig, "Z2,6000,1"), "E1c");
	assert_string_equal(ask(rig, "vCont;c"), "T05watch:2000;thread:2;");
	debug = kvm_fake_guest_debug(vcpu_kvm(rig->vm->vcpus[0]));
	assert_int_equal(debug->control, KVM_GUESTDBG_ENABLE | KVM_GUESTDBG_USE_HW_BP);
	assert_int_equal(debug->arch.debugreg[2], 0x4000);
	/* write of 4; instruction; access of 8; write of 2 */
	assert_int_equal(debug->arch.debugreg[7],
			 0x400 | 0xaa | 0xdU << 16 | 0xbU << 24 | 0x5U << 28);
	assert_string_equal(ask(rig, "z2,2000,4"), "OK");
	assert_string_equal(ask(rig, "Z1,6000,1"), "OK");
}

static void breakpoints_take_debug_registers_while_they_are_free(void **state)
{
	const struct kvm_guest_debug *debug;
	struct rig *rig = *state;

	script(rig, 0, hit, 1);
	start(rig);
	assert_string_equal(ask(rig, "M2000,4:90909090"), "OK");
	assert_string_equal(ask(rig, "Z0,ffffffff80002000,1"), "OK");
	assert_string_equal(ask(rig, "Z0,ffffffff80002000,1"), "OK");
	assert_string_equal(ask(rig, "Z0,ffff000000000000,1"), "OK"); /* no page is there yet */
	assert_string_equal(ask(rig, "Z0,ffffffff80002001,1"), "OK");
	assert_string_equal(ask(rig, "Z0,ffffffff80002002,1"), "OK");
	assert_int_equal(ram(rig, CODE_AT), 0x90);
	assert_string_equal(ask(rig, "vCont;c"), "T05swbreak:;thread:1;");
	debug = kvm_fake_guest_debug(vcpu_kvm(rig->vm->vcpus[1]));
	assert_int_equal(debug->control, KVM_GUESTDBG_ENABLE | KVM_GUESTDBG_USE_HW_BP);
	assert_true(debug->arch.debugreg[1] == 0xffff000000000000);
	assert_int_equal(debug->arch.debugreg[7], 0x400 | 0xaa);
	/* What needs a register gets one from a breakpoint that can do without. */
	assert_string_equal(ask(rig, "Z2,3000,4"), "OK");
	assert_int_equal(ram(rig, CODE_AT), 0xcc);
	assert_string_equal(ask(rig, "Z2,3004,4"), "OK");
	assert_int_equal(ram(rig, CODE_AT + 1), 0xcc);
	assert_string_equal(ask(rig, "Z2,3008,4"), "OK");
	assert_string_equal(ask(rig, "Z2,300c,4"), "E1c");
	assert_string_equal(ask(rig, "z0,ffffffff80002000,1"), "OK");
	assert_string_equal(ask(rig, "z0,ffff000000000000,1"), "OK");
	assert_int_equal(ram(rig, CODE_AT), 0x90);
	assert_string_equal(ask(rig, "Z2,300c,4"), "OK");
}

static void two_vcpus_hit_at_once(void **state)
{
	struct rig *rig = *state;
	char first[64], other[64];

	script(rig, 0, hit, 1);
	script(rig, 1, hit, 1);
	start(rig);
	assert_string_equal(ask(rig, "Z4,2000,1"), "OK");
	memcpy(first, ask(rig, "vCont;c"), sizeof(first)); /* less than its buffer */
	/* The other one's access is not forgotten, whether it came in time or not. */
	memcpy(other, ask(rig, "vCont;c"), sizeof(other));
	assert_string_not_equal(first, other);
	assert_memory_equal(first, "T05awatch:2000;thread:", 22);
	assert_memory_equal(other, "T05awatch:2000;thread:", 22);
}

static void a_breakpoint_that_comes_again_is_not_told_twice(void **state)
{
	struct rig *rig = *state;

	script(rig, 0, int3, 1);
	script(rig, 1, int3, 1);
	start(rig);
	take_debug_registers(rig);
	assert_string_equal(ask(rig, "Z0,ffffffff80002000,1"), "OK");
	assert_non_null(strstr(ask(rig, "vCont;c"), "swbreak:;thread:"));
	assert_string_equal(ask(rig, "z0,ffffffff80002000,1"), "OK");
	say(rig, "vCont;c");
	for (int i = 0; i < 50; i++)
		turn(rig);
	put(rig, "\x03", 1);
	assert_memory_equal(next_packet(rig), "T02", 3);
}

static void a_client_that_dies_lets_the_guest_go_on(void **state)
{
	struct rig *rig = *state;

	script(rig, 0, int3, 1);
	start(rig);
	take_debug_registers(rig);
	assert_string_equal(ask(rig, "M2000,1:90"), "OK");
	assert_string_equal(ask(rig, "Z0,ffffffff80002000,1"), "OK");
	assert_string_equal(ask(rig, "vCont;c"), "T05swbreak:;thread:1;");
	assert_int_equal(rig->vm->status, VM_PAUSED);
	fd_close(TAKE_FD(rig->client));
	for (int i = 0; i < PATIENCE && rig->vm->status != VM_RUNNING; i++)
		turn(rig);
	assert_int_equal(rig->vm->status, VM_RUNNING);
	assert_int_equal(ram(rig, CODE_AT), 0x90);
	assert_int_equal(vm_pause(rig->vm), 0);
	assert_int_equal(control_of(rig, 0), 0);
	assert_int_equal(control_of(rig, 1), 0);
	assert_int_equal(vm_resume(rig->vm), 0);
	until_script_ends(rig, 0);
	/* And another may come. */
	rig->client = connect_to(rig->path);
	assert_string_equal(ask(rig, "?"), "T05thread:1;");
}

static void detach_is_answered(void **state)
{
	struct rig *rig = *state;

	start(rig);
	assert_string_equal(ask(rig, "D"), "OK");
	assert_string_equal(next_packet(rig), "closed");
	assert_int_equal(rig->vm->status, VM_RUNNING);
}

static void the_users_pause_outlives_a_continue(void **state)
{
	struct rig *rig = *state;

	start(rig);
	assert_int_equal(vm_resume(rig->vm), -EBUSY);
	assert_int_equal(vm_pause(rig->vm), 0);
	say(rig, "vCont;c");
	for (int i = 0; i < 50; i++)
		turn(rig);
	assert_int_equal(rig->vm->status, VM_PAUSED);
	put(rig, "\x03", 1);
	assert_string_equal(next_packet(rig), "T02thread:1;");
	assert_int_equal(vm_resume(rig->vm),
			 -EBUSY); /* the user's hold is gone, the debugger's not */
	assert_string_equal(ask(rig, "D"), "OK");
	turn(rig);
	assert_int_equal(rig->vm->status, VM_RUNNING);
}

static void a_client_waits_for_the_end_of_a_reset(void **state)
{
	struct rig *rig = *state;

	start(rig);
	assert_string_equal(ask(rig, "D"), "OK");
	fd_close(TAKE_FD(rig->client));
	for (int i = 0; i < 5; i++)
		turn(rig);
	rig->vm->status = VM_RESETTING;
	rig->client = connect_to(rig->path);
	say(rig, "?");
	for (int i = 0; i < 20; i++)
		turn(rig);
	assert_int_equal(recv(rig->client, &(char){ 0 }, 1, MSG_DONTWAIT), -1);
	rig->vm->status = VM_RUNNING;
	assert_string_equal(next_packet(rig), "T05thread:1;");
}

static void kill_asks_for_the_end(void **state)
{
	struct rig *rig = *state;

	start(rig);
	say(rig, "k");
	assert_string_equal(next_packet(rig), "closed");
	assert_int_equal(rig->killed, 1);
}

static void the_end_is_told(void **state)
{
	struct rig *rig = *state;

	start(rig);
	say(rig, "vCont;c");
	for (int i = 0; i < 20; i++)
		turn(rig);
	vm_end(rig->vm, VM_END_FORCED, "test");
	assert_int_equal(rig->ended, 1);
	gdb_server_ended(rig->server);
	assert_string_equal(next_packet(rig), "W00");
	assert_string_equal(next_packet(rig), "closed");
}

static void a_vm_that_stands_can_be_ended(void **state)
{
	struct rig *rig = *state;

	start(rig);
	vm_end(rig->vm, VM_END_FORCED, "test");
	gdb_server_ended(rig->server);
	assert_int_equal(rig->ended, 1);
	assert_string_equal(next_packet(rig), "closed");
}

static void none_may_come_to_a_vm_that_is_protected(void **state)
{
	struct rig *rig = *state;
	char byte;

	run(rig);
	rig->refuses = "a debugger was refused: the VM is protected";
	rig->client = connect_to(rig->path);
	for (int i = 0; i < PATIENCE && !has_input(rig); i++)
		turn(rig);
	assert_int_equal(recv(rig->client, &byte, 1, MSG_DONTWAIT), 0);
	assert_false(rig->vm->debugged);
	fd_close(rig->client);
	rig->refuses = NULL;
	join(rig);
}

static void a_second_client_is_refused(void **state)
{
	struct rig *rig = *state;
	int other;
	char byte;

	start(rig);
	other = connect_to(rig->path);
	for (int i = 0; i < 10; i++)
		turn(rig);
	assert_int_equal(recv(other, &byte, 1, MSG_DONTWAIT), 0);
	close(other);
	assert_string_equal(ask(rig, "qC"), "QC1");
}

static void stepped(void *ctx _unused_, struct vcpu *vcpu _unused_,
		    const struct kvm_debug_exit_arch *exit _unused_)
{
}

static void a_watch_that_steps_keeps_debuggers_away(void **state)
{
	struct rig *rig = *state;

	run(rig);
	rig->vm->stepper.stepped = stepped;
	rig->client = connect_to(rig->path);
	assert_string_equal(next_packet(rig), "closed");
	fd_close(TAKE_FD(rig->client));
	rig->vm->stepper.stepped = NULL;
	join(rig);
	assert_true(rig->vm->debugged);
	assert_string_equal(ask(rig, "D"), "OK");
	assert_false(rig->vm->debugged);
}

static void a_request_is_seen_as_a_stop(void **state)
{
	struct rig *rig = *state;

	start(rig);
	assert_int_equal(gdb_stopped_on_request(NULL, 0, "", on_go, rig), -ENOTCONN);
	say(rig, "vCont;c");
	for (int i = 0; i < 10; i++)
		turn(rig);
	assert_int_equal(gdb_stopped_on_request(rig->server, 1, "hi", on_go, rig), 0);
	assert_int_equal(gdb_stopped_on_request(rig->server, 1, "hi", on_go, rig), -EBUSY);
	assert_string_equal(next_packet(rig), "O68690a");
	assert_string_equal(next_packet(rig), "T05thread:2;");
	assert_int_equal(rig->went_on, 0);
	say(rig, "vCont;s:1"); /* the vCPU with the request stays */
	for (int i = 0; i < 10; i++)
		turn(rig);
	assert_int_equal(rig->went_on, 0);
	put(rig, "\x03", 1);
	assert_memory_equal(next_packet(rig), "T02", 3);
	say(rig, "vCont;c");
	for (int i = 0; i < 10; i++)
		turn(rig);
	assert_int_equal(rig->went_on, 1);
	assert_int_equal(gdb_stopped_on_request(rig->server, 0, "hi", on_go, rig), 0);
	fd_close(TAKE_FD(rig->client));
	for (int i = 0; i < 10; i++)
		turn(rig);
	assert_int_equal(rig->went_on, 2);
	assert_int_equal(gdb_stopped_on_request(rig->server, 0, "hi", on_go, rig), -ENOTCONN);
}

static void a_running_guest_answers_nothing_else(void **state)
{
	struct rig *rig = *state;

	start(rig);
	say(rig, "vCont;c");
	assert_string_equal(ask(rig, "g"), "E10");
	put(rig, "\x03", 1);
	assert_string_equal(next_packet(rig), "T02thread:1;");
}

static void acknowledgements_end_when_both_agree(void **state)
{
	struct rig *rig = *state;
	char byte;

	start(rig);
	put(rig, "-", 1); /* the last answer again */
	assert_string_equal(next_packet(rig), "T05thread:1;");
	put(rig, "$qC#00", 6);
	for (int i = 0; i < 10; i++)
		turn(rig);
	assert_int_equal(recv(rig->client, &byte, 1, MSG_DONTWAIT), 1);
	assert_int_equal(byte, '-');
	assert_string_equal(ask(rig, "QStartNoAckMode"), "OK");
	rig->no_ack = true;
	say(rig, "qC");
	for (int i = 0; i < 10; i++)
		turn(rig);
	assert_int_equal(recv(rig->client, &byte, 1, MSG_DONTWAIT), 1);
	assert_int_equal(byte, '$');
	put(rig, "$qC#00", 6);
	while (recv(rig->client, &byte, 1, MSG_DONTWAIT) == 1)
		;
	assert_string_equal(next_packet(rig), "closed");
}

static void the_description_lists_every_register(void **state)
{
	struct rig *rig = *state;
	char xml[16384] = "", packet[64];
	unsigned int count = 0;
	const char *piece;

	start(rig);
	do {
		snprintf(packet, sizeof(packet), "qXfer:features:read:target.xml:%zx,ff0",
			 strlen(xml));
		piece = ask(rig, packet);
		strncat(xml, piece + 1, sizeof(xml) - strlen(xml) - 1);
	} while (piece[0] == 'm');
	assert_int_equal(piece[0], 'l');
	for (const char *at = xml; (at = strstr(at, "<reg name=")); at++)
		count++;
	assert_int_equal(count, gdb_registers_count());
	assert_non_null(strstr(xml, "i386:x86-64"));
	assert_non_null(strstr(xml, "</target>"));
	assert_string_equal(ask(rig, "qXfer:features:read:target.xml:fffff,10"), "l");
	assert_string_equal(ask(rig, "qXfer:features:read:other.xml:0,10"), "E02");
	assert_string_equal(ask(rig, "qXfer:features:read:target.xml:0"), "E16");
}

static void what_resumes_is_checked(void **state)
{
	struct rig *rig = *state;

	start(rig);
	assert_string_equal(ask(rig, "vCont?"), "vCont;c;C;s;S");
	assert_string_equal(ask(rig, "vCont"), "E16");
	assert_string_equal(ask(rig, "vCont;t"), "E16");
	assert_string_equal(ask(rig, "vCont;c:9"), "E16");
	assert_string_equal(ask(rig, "vCont;C"), "E16");
	assert_string_equal(ask(rig, "vCont;c:1x"), "E16");
	assert_int_equal(rig->vm->status, VM_PAUSED);
	say(rig, "vCont;C05:1;s:2;c:-1");
	for (int i = 0; i < 10; i++)
		turn(rig);
	put(rig, "\x03", 1);
	assert_memory_equal(next_packet(rig), "T02", 3);
	assert_int_equal(control_of(rig, 0), 0);
	assert_true(control_of(rig, 1) & KVM_GUESTDBG_SINGLESTEP);
}

/* ---- the socket ---- */

static void the_socket_is_ours_alone_and_a_stale_one_is_replaced(void **state)
{
	struct rig *rig = *state;
	struct error err = { 0 };
	struct stat st;
	char path[200];
	int fd;

	assert_int_equal(stat(rig->path, &st), 0);
	assert_int_equal(st.st_mode & 0777, 0600);
	assert_int_equal(gdb_server_listen(rig->path, &fd, &err), -EADDRINUSE);
	assert_non_null(strstr(err.message, rig->path));
	snprintf(path, sizeof(path), "%s/stale", rig->folder);
	assert_int_equal(gdb_server_listen(path, &fd, &err), 0);
	close(fd);
	assert_int_equal(gdb_server_listen(path, &fd, &err), 0);
	close(fd);
	unlink(path);
	/* Nothing but a socket is removed. */
	fd = open(path, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
	close(fd);
	assert_int_equal(gdb_server_listen(path, &fd, &err), -EADDRINUSE);
	assert_int_equal(unlink(path), 0);
	memset(path, 'x', sizeof(path) - 1);
	path[sizeof(path) - 1] = '\0';
	assert_int_equal(gdb_server_listen(path, &fd, &err), -ENAMETOOLONG);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
	const struct CMUnitTest tests[] = {
		TEST(threads_are_vcpus),
		TEST(registers_are_read_and_written),
		TEST(a_selector_is_not_changed_in_protected_mode),
		TEST(memory_is_seen_through_page_tables),
		TEST(physical_addresses_by_monitor),
		TEST(a_software_breakpoint_is_hit_and_not_seen),
		TEST(a_breakpoint_is_found_by_any_address_of_its_page),
		TEST(what_the_guest_overwrote_stays),
		TEST(breakpoints_have_a_limit),
		TEST(the_guests_own_int3_is_given_back),
		TEST(one_vcpu_steps_while_the_other_stands),
		TEST(a_step_from_another_address),
		TEST(hardware_breakpoints_fill_the_debug_registers),
		TEST(breakpoints_take_debug_registers_while_they_are_free),
		TEST(two_vcpus_hit_at_once),
		TEST(a_breakpoint_that_comes_again_is_not_told_twice),
		TEST(a_client_that_dies_lets_the_guest_go_on),
		TEST(detach_is_answered),
		TEST(the_users_pause_outlives_a_continue),
		TEST(a_client_waits_for_the_end_of_a_reset),
		TEST(kill_asks_for_the_end),
		TEST(the_end_is_told),
		TEST(a_vm_that_stands_can_be_ended),
		TEST(none_may_come_to_a_vm_that_is_protected),
		TEST(a_second_client_is_refused),
		TEST(a_watch_that_steps_keeps_debuggers_away),
		TEST(a_request_is_seen_as_a_stop),
		TEST(a_running_guest_answers_nothing_else),
		TEST(acknowledgements_end_when_both_agree),
		TEST(the_description_lists_every_register),
		TEST(what_resumes_is_checked),
		TEST(the_socket_is_ours_alone_and_a_stale_one_is_replaced),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
