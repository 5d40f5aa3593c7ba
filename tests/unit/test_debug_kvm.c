/* SPDX-License-Identifier: Apache-2.0 */

/* A few instructions on the kernel's KVM under a debugger: INT3s, debug registers and steps as they are. */

#include "gdb_rig.h"

#define ENTRY 0x100010 /* kernel_image_elf's */
#define LOOP 0x100016
#define COUNTER 0x200000

/* 32-bit, no paging; the counter begins at 0, ebx at what the boot protocol says */
static const uint8_t code[] = {
	0x31, 0xdb,			    /* ENTRY      xor ebx, ebx */
	0x31, 0xc0,			    /* ENTRY + 2  xor eax, eax */
	0x90, 0x90,			    /* ENTRY + 4  nop, nop */
	0x43,				    /* LOOP       inc ebx */
	0x40,				    /* LOOP + 1   inc eax */
	0x89, 0x1d, 0x00, 0x00, 0x20, 0x00, /* LOOP + 2   mov [COUNTER], ebx */
	0xeb, 0xf6,			    /* LOOP + 8   jmp LOOP */
};

static int set_up(void **state)
{
	static uint8_t image[KERNEL_IMAGE_ELF_BYTES];

	kernel_image_elf(image);
	memcpy(image + 4096 + 16, code, sizeof(code));
	*state = rig_new(image, sizeof(image));
	start(*state);
	assert_string_equal(ask(*state, "QStartNoAckMode"), "OK");
	((struct rig *)*state)->no_ack = true;
	return 0;
}

static uint64_t value_of(struct rig *rig, const char *packet)
{
	const char *hex = ask(rig, packet);
	uint64_t value = 0;

	for (int i = (int)strlen(hex) - 2; i >= 0; i -= 2) {
		char pair[3] = { hex[i], hex[i + 1] };

		value = value << 8 | strtoull(pair, NULL, 16);
	}
	return value;
}

static uint64_t rip(struct rig *rig)
{
	return value_of(rig, "p10");
}

static void steps_take_one_instruction_each(void **state)
{
	struct rig *rig = *state;
	uint64_t at = LOOP;

	assert_int_equal(rip(rig), ENTRY);
	for (int i = 0; i < 4; i++)
		assert_string_equal(ask(rig, "vCont;s:1"), "T05thread:1;");
	for (int i = 0; i < 100; i++) {
		static const uint8_t lengths[] = { [0] = 1, [1] = 1, [2] = 6 };

		assert_int_equal(rip(rig), at);
		at = at == LOOP + 8 ? LOOP : at + lengths[at - LOOP];
		assert_string_equal(ask(rig, "vCont;s:1"), "T05thread:1;");
	}
	assert_int_equal(value_of(rig, "p1"), 25); /* rbx: four instructions each time round */
	assert_int_equal(value_of(rig, "m200000,4"), 25);
}

/* The stop that the guest is about to run into. Some KVMs without a processor's help (and emulated processors) pass INT3s
 * or watchpoints by, as the counter shows, or cannot run them: the test is skipped then. */
static void continue_to(struct rig *rig, const char *stop)
{
	uint64_t counter = value_of(rig, "m200000,4");

	say(rig, "vCont;c");
	for (int i = 0; i < 1000 && !has_input(rig) && !rig->ended; i++)
		turn(rig);
	if (has_input(rig)) {
		assert_string_equal(next_packet(rig), stop);
		return;
	}
	if (!rig->ended) {
		put(rig, "\x03", 1);
		assert_memory_equal(next_packet(rig), "T02", 3);
		assert_true(value_of(rig, "m200000,4") > counter + 1);
	}
	print_message("this KVM %s\n", rig->ended ? "cannot run an INT3" : "passes it by");
	skip();
}

/* The debug registers are taken: this one is an INT3. */
static void an_int3_stops_on_itself(void **state)
{
	struct rig *rig = *state;

	assert_string_equal(ask(rig, "Z1,300000,1"), "OK");
	assert_string_equal(ask(rig, "Z1,300001,1"), "OK");
	assert_string_equal(ask(rig, "Z1,300002,1"), "OK");
	assert_string_equal(ask(rig, "Z1,300003,1"), "OK");
	assert_string_equal(ask(rig, "Z0,100018,1"), "OK"); /* LOOP + 2 */
	assert_int_equal(ram(rig, LOOP + 2), 0xcc);
	for (unsigned int round = 1; round <= 5; round++) {
		continue_to(rig, "T05swbreak:;thread:1;");
		assert_int_equal(rip(rig), LOOP + 2);
		assert_int_equal(value_of(rig, "p1"), round);
		/* As GDB goes on from a breakpoint. */
		assert_string_equal(ask(rig, "z0,100018,1"), "OK");
		assert_string_equal(ask(rig, "vCont;s:1"), "T05thread:1;");
		assert_int_equal(value_of(rig, "m200000,4"), round);
		assert_string_equal(ask(rig, "Z0,100018,1"), "OK");
	}
}

static void a_debug_register_stops_before_the_instruction(void **state)
{
	struct rig *rig = *state;

	assert_string_equal(ask(rig, "Z1,100017,1"), "OK"); /* LOOP + 1 */
	assert_string_equal(ask(rig, "vCont;c"), "T05hwbreak:;thread:1;");
	assert_int_equal(rip(rig), LOOP + 1);
	assert_int_equal(value_of(rig, "p1"), 1);
	assert_int_equal(value_of(rig, "p0"), 0);
}

static void a_watchpoint_stops_behind_the_write(void **state)
{
	struct rig *rig = *state;

	assert_string_equal(ask(rig, "Z2,200000,4"), "OK");
	for (unsigned int round = 1; round <= 3; round++) {
		continue_to(rig, "T05watch:200000;thread:1;");
		assert_int_equal(rip(rig), LOOP + 8);
		assert_int_equal(value_of(rig, "m200000,4"), round);
	}
}

static void registers_take_effect(void **state)
{
	struct rig *rig = *state;

	assert_string_equal(ask(rig, "P1=0010000000000000"), "OK");
	assert_string_equal(ask(rig, "P10=1600100000000000"), "OK"); /* LOOP */
	assert_string_equal(ask(rig, "Z2,200000,4"), "OK");
	continue_to(rig, "T05watch:200000;thread:1;");
	assert_int_equal(value_of(rig, "m200000,4"), 0x1001);
	/* The x87 and SSE registers stay over a run. */
	assert_string_equal(ask(rig, "P28=000102030405060708090a0b0c0d0e0f"), "OK");
	continue_to(rig, "T05watch:200000;thread:1;");
	assert_string_equal(ask(rig, "p28"), "000102030405060708090a0b0c0d0e0f");
}

static void a_running_guest_is_interrupted(void **state)
{
	struct rig *rig = *state;
	uint64_t at;

	for (int i = 0; i < 3; i++) {
		say(rig, "vCont;c");
		for (int turns = 0; turns < 5; turns++)
			turn(rig);
		put(rig, "\x03", 1);
		assert_string_equal(next_packet(rig), "T02thread:1;");
		at = rip(rig);
		assert_true(at >= LOOP && at <= LOOP + 8);
	}
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
	const struct CMUnitTest tests[] = {
		TEST(steps_take_one_instruction_each),
		TEST(an_int3_stops_on_itself),
		TEST(a_debug_register_stops_before_the_instruction),
		TEST(a_watchpoint_stops_behind_the_write),
		TEST(registers_take_effect),
		TEST(a_running_guest_is_interrupted),
	};
	struct kvm_system *system;

	if (kvm_open(-1, &system) < 0) {
		print_message("no /dev/kvm here\n");
		return 77;
	}
	kvm_close(system);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
