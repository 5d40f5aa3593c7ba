/* SPDX-License-Identifier: Apache-2.0 */
/* The schema's machinery and the table of a VM's configuration: every error has its one line. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <errno.h>

#include <cmocka.h>

#include "api/config.h"
#include "base/cleanup.h"
#include "base/suggest.h"

struct fixture {
	struct vm_config config;
	struct problems problems;
};

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));

	vm_config_init(&f->config);
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	vm_config_release(&f->config);
	free(f);
	return 0;
}

/* `--key text`, as the command line gives it. */
static size_t option(struct fixture *f, const char *key, const char *text)
{
	struct schema_source source = { .problems = &f->problems };
	const struct schema_row *row = schema_find(&config_schema, key);

	assert_non_null(row);
	return schema_decode_text(row, &f->config, text, false, &source);
}

static size_t json(struct fixture *f, const char *text)
{
	return config_decode(&f->config, text, strlen(text), "vm.json", &f->problems);
}

static void expect_line(struct fixture *f, const char *line)
{
	if (f->problems.count != 1)
		for (size_t i = 0; i < f->problems.count; i++)
			print_message("%s\n", f->problems.list[i].message);
	assert_int_equal(f->problems.count, 1);
	assert_string_equal(f->problems.list[0].message, line);
	assert_int_equal(f->problems.list[0].status, EXIT_STATUS_USAGE);
	f->problems.count = 0;
}

struct bad {
	const char *key, *text, *line;
};

static const struct bad bad_options[] = {
	{ "cpus", "0", "--cpus count: '0' is out of range; give a number from 1 to 64" },
	{ "cpus", "65", "--cpus count: '65' is out of range; give a number from 1 to 64" },
	{ "cpus", "99999999999999999999",
	  "--cpus count: '99999999999999999999' is out of range; give a number from 1 to 64" },
	{ "cpus", "many", "--cpus count: 'many' is not understood; give a number from 1 to 64" },
	{ "cpus", "-1", "--cpus count: '-1' is not understood; give a number from 1 to 64" },
	{ "cpus", "", "--cpus: is empty; see --help for what --cpus takes" },
	{ "cpus", "2,max", "--cpus max: has no value; give max=M" },
	{ "cpus", "2,max=3,max=4", "--cpus max: is given twice; keep one" },
	{ "cpus", "2,count=3", "--cpus count: is given twice; keep one" },
	{ "cpus", "2,mx=4", "--cpus: unknown key 'mx'; did you mean 'max'?" },
	{ "cpus", "2,colour=4", "--cpus: unknown key 'colour'; known are count, max and model" },
	{ "cpus", "2,model=v4", "--cpus model: 'v4' is unknown; give host, v2 or v3" },
	{ "memory", "1G,hugepages=yes",
	  "--memory hugepages: 'yes' is unknown; give off, thp or on" },
	{ "memory", "3M",
	  "--memory size: '3M' is out of range; give a size from 32M to 1T, a multiple of 2M" },
	{ "memory", "33M",
	  "--memory size: '33M' does not fit; give a size from 32M to 1T, a multiple of 2M" },
	{ "memory", "99999999T",
	  "--memory size: '99999999T' is out of range; give a size from 32M to 1T, a multiple of 2M" },
	{ "memory", "1X",
	  "--memory size: '1X' is not understood; give a size from 32M to 1T, a multiple of 2M" },
	{ "disk", "readonly=on",
	  "--disk path: is missing; give a raw file or a block device; no format is ever guessed" },
	{ "disk", "path=", "--disk path: is empty; give FILE" },
	{ "disk", "path=a,readonly=yes", "--disk readonly: 'yes' is neither; give on or off" },
	{ "uuid", "0f0e0d0c-0b0a-4908-8706-05040302010",
	  "--uuid: '0f0e0d0c-0b0a-4908-8706-05040302010' is no UUID; write 8-4-4-4-12 "
	  "hexadecimal digits, or leave it out" },
	{ "disk", "path=a,serial=123456789012345678901",
	  "--disk serial: is 21 bytes long; give at most 20 bytes" },
	{ "disk", "path=a,serial=a/b",
	  "--disk serial: 'a/b' is no serial; use letters, digits, '-', '_' and '.'" },
	{ "disk", "path=a,queues=17",
	  "--disk queues: '17' is out of range; give a number from 1 to 16" },
	{ "disk", "path=a\xff", "--disk path: is not UTF-8; use a name in UTF-8" },
	{ "net", "queues=2", "--net: does not say what to use; give one of tap, user, fd" },
	{ "net", "user=off", "--net: does not say what to use; give one of tap, user, fd" },
	{ "net", "tap=t0,user", "--net: more than one is given; keep one of tap, user, fd" },
	{ "net", "tap", "--net tap: has no value; give tap=NAME" },
	{ "net", "usr", "--net: unknown key 'usr'; did you mean 'user'?" },
	{ "net", "fd=2", "--net fd: '2' is out of range; give the number of an open descriptor" },
	{ "net", "user,mac=52:54:00:12:34",
	  "--net mac: '52:54:00:12:34' is not understood; give a unicast MAC address such as 52:54:00:12:34:56" },
	{ "net", "user,mac=53:54:00:12:34:56",
	  "--net mac: '53:54:00:12:34:56' is a group's address or none; give a unicast MAC address such as "
	  "52:54:00:12:34:56" },
	{ "console", "tty", "--console: 'tty' is unknown; give auto, stdio, pty or socket" },
	{ "name", "../etc",
	  "--name: '../etc' is no name of a VM; use a-z, 0-9 and -, beginning with a letter or digit" },
	{ "rng", "1", "--rng: '1' is neither; give on or off" },
};

static void test_each_bad_option_has_its_line(void **state)
{
	struct fixture *f = *state;

	for (size_t i = 0; i < ARRAY_SIZE(bad_options); i++) {
		assert_int_equal(option(f, bad_options[i].key, bad_options[i].text), 1);
		expect_line(f, bad_options[i].line);
		vm_config_release(&f->config);
	}
}

static const struct bad bad_json[] = {
	{ "", "[]", "vm.json: must not be a list; give an object" },
	{ "", "{\"kernl\": \"a\"}", "vm.json: unknown key 'kernl'; did you mean 'kernel'?" },
	{ "", "{\"kernel\": 3}",
	  "vm.json: kernel: must not be a number; give text of 1 to 4095 bytes" },
	{ "", "{\"kernel\": null}",
	  "vm.json: kernel: must not be null; give text of 1 to 4095 bytes" },
	{ "", "{\"cpus\": {\"count\": \"2\"}}",
	  "vm.json: cpus.count: must not be text in quotes; give a number from 1 to 64" },
	{ "", "{\"cpus\": {\"count\": 2.5}}",
	  "vm.json: cpus.count: must not be a number with a fraction; give a number from 1 to 64" },
	{ "", "{\"cpus\": {\"count\": -2}}",
	  "vm.json: cpus.count: is below zero; give zero or more" },
	{ "", "{\"cpus\": {\"max\": 100}}",
	  "vm.json: cpus.max: '100' is out of range; give a number from 1 to 64" },
	{ "", "{\"cpus\": []}", "vm.json: cpus: must not be a list; give an object" },
	{ "", "{\"cpus\": true}",
	  "vm.json: cpus.count: must not be true or false; give a number from 1 to 64" },
	{ "", "{\"rng\": \"on\"}", "vm.json: rng: must not be text in quotes; give true or false" },
	{ "", "{\"rng\": 1}", "vm.json: rng: must not be a number; give true or false" },
	{ "", "{\"disk\": {}}", "vm.json: disk: must not be an object; give a list of at most 24" },
	{ "", "{\"disk\": [7]}", "vm.json: disk[0]: must not be a number; give an object" },
	{ "", "{\"disk\": [{\"path\": \"a\"}, {}]}",
	  "vm.json: disk[1].path: is missing; give a raw file or a block device; no format is ever guessed" },
	{ "", "{\"net\": [{\"user\": false}]}",
	  "vm.json: net[0]: does not say what to use; give one of tap, user, fd" },
	{ "", "{\"net\": [{\"user\": true, \"usr\": 1}]}",
	  "vm.json: net[0]: unknown key 'usr'; did you mean 'user'?" },
	{ "", "{\"net\": [{},{},{},{},{},{},{},{},{}]}",
	  "vm.json: net: has 9 entries; give at most 8" },
	{ "", "{\"rng\": true, \"rng\": false}",
	  "vm.json:1:19: duplicate object key near '\"rng\"'; keep one of them" },
	{ "", "{\n \"rng\": tru\n}",
	  "vm.json:2:11: is no JSON: invalid token near 'tru'; see docs/getting-started.md for an example" },
};

static void test_each_bad_file_has_its_line(void **state)
{
	struct fixture *f = *state;

	for (size_t i = 0; i < ARRAY_SIZE(bad_json); i++) {
		assert_int_equal(json(f, bad_json[i].text), 1);
		expect_line(f, bad_json[i].line);
	}
}

static void test_all_problems_of_a_file_are_told_at_once(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(
		json(f,
		     "{\"rng\": 1, \"x\": 2, \"cpus\": {\"count\": 0, \"y\": 1}, \"net\": [{}]}"),
		5);
	assert_int_equal(f->problems.count, 5);
}

static void test_a_refused_value_leaves_the_field(void **state)
{
	struct fixture *f = *state;

	option(f, "memory", "1G");
	option(f, "memory", "1G,hugepages=nonsense");
	assert_int_equal(f->config.memory.size, GIB(1));
	assert_int_equal(f->config.memory.hugepages, MEMORY_HUGE_THP);
}

static void test_grouped_options_are_decoded(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(option(f, "cpus", "2,max=4,model=v3"), 0);
	assert_int_equal(option(f, "memory", "hugepages=on,size=3072MiB"), 0);
	assert_int_equal(option(f, "disk", "path=/a,,b,readonly,serial=x1,queues=2,direct=off"), 0);
	assert_int_equal(option(f, "net", "tap=tap0,mac=52:54:00:AB:cd:01,queues=2,vhost"), 0);
	assert_int_equal(option(f, "net", "user"), 0);
	assert_int_equal(option(f, "net", "fd=7"), 0);
	assert_int_equal(f->config.cpus.count, 2);
	assert_int_equal(f->config.cpus.max, 4);
	assert_int_equal(f->config.cpus.model, CPU_MODEL_V3);
	assert_int_equal(f->config.memory.size, GIB(3));
	assert_int_equal(f->config.memory.hugepages, MEMORY_HUGE_ON);
	assert_string_equal(f->config.disks[0].path, "/a,b");
	assert_true(f->config.disks[0].readonly);
	assert_false(f->config.disks[0].direct);
	assert_string_equal(f->config.disks[0].serial, "x1");
	assert_int_equal(f->config.nets[0].kind, NET_TAP);
	assert_memory_equal(f->config.nets[0].mac, "\x52\x54\x00\xab\xcd\x01", 6);
	assert_true(f->config.nets[0].vhost);
	assert_int_equal(f->config.nets[1].kind, NET_USER);
	assert_int_equal(f->config.nets[2].kind, NET_FD);
	assert_int_equal(f->config.nets[2].fd, 7);
}

static void test_one_disk_too_many_is_refused(void **state)
{
	struct fixture *f = *state;

	for (int i = 0; i < LIMIT_DISKS; i++)
		assert_int_equal(option(f, "disk", "path=a"), 0);
	assert_int_equal(option(f, "disk", "path=a"), 1);
	expect_line(f, "--disk: is given too often; at most 24 fit");
	assert_int_equal(f->config.n_disks, LIMIT_DISKS);
}

static void test_json_short_forms(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(json(f, "{\"cpus\": 4, \"memory\": \"2G\"}"), 0);
	assert_int_equal(f->config.cpus.count, 4);
	assert_int_equal(f->config.memory.size, GIB(2));
	assert_int_equal(json(f, "{\"memory\": 67108864}"), 0);
	assert_int_equal(f->config.memory.size, MIB(64));
}

static void test_a_list_in_a_file_replaces_the_list(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(json(f, "{\"disk\": [{\"path\": \"a\"}, {\"path\": \"b\"}]}"), 0);
	assert_int_equal(json(f, "{\"disk\": [{\"path\": \"c\"}]}"), 0);
	assert_int_equal(f->config.n_disks, 1);
	assert_string_equal(f->config.disks[0].path, "c");
}

static char *encoded(const struct vm_config *config)
{
	json_auto_t *object = schema_encode_json(&config_schema, config);

	return json_dumps(object, JSON_COMPACT);
}

static void test_defaults_of_table_and_struct_are_the_same(void **state)
{
	struct fixture *f = *state;
	struct vm_config *table = test_malloc(sizeof(*table));
	_cleanup_(freep) char *here = encoded(&f->config);
	_cleanup_(freep) char *there = NULL;

	schema_init(&config_schema, table);
	there = encoded(table);
	assert_string_equal(here, there);
	schema_release(&config_schema, table);
	test_free(table);
}

static void test_what_is_encoded_decodes_to_the_same(void **state)
{
	struct fixture *f = *state;
	struct vm_config *copy = test_malloc(sizeof(*copy));
	struct error err = { 0 };
	int fd;

	option(f, "name", "db-1");
	option(f, "kernel", "/boot/vmlinuz");
	option(f, "cmdline", "console=ttyS0 quiet \"x\" \xc3\xa9");
	option(f, "cpus", "2,max=4,model=v2");
	option(f, "memory", "1026M,dirty=ring");
	option(f, "disk", "path=/a,serial=s,filter=delay:ms=1,,op=read");
	option(f, "disk", "path=/b,readonly=on");
	option(f, "net", "tap=t0,mac=52:54:00:12:34:56,queues=2");
	option(f, "net", "user");
	option(f, "console", "pty");
	option(f, "rng", "off");
	assert_int_equal(f->problems.count, 0);
	vm_config_complete(&f->config);
	assert_int_equal(config_to_fd(&f->config, &fd), 0);
	assert_int_equal(config_from_fd(fd, copy, &err), 0);
	assert_int_equal(write(fd, "x", 1), -1);
	close(fd);
	_cleanup_(freep) char *here = encoded(&f->config);
	_cleanup_(freep) char *there = encoded(copy);
	assert_string_equal(here, there);
	assert_int_equal(copy->memory.size, MIB(1026));
	assert_int_equal(copy->nets[1].kind, NET_USER);
	vm_config_release(copy);
	test_free(copy);
}

static void test_a_configuration_from_a_descriptor_is_checked_again(void **state)
{
	struct fixture *f = *state;
	struct vm_config *copy = test_malloc(sizeof(*copy));
	struct error err = { 0 };
	int fd;

	option(f, "cpus", "2,max=1");
	assert_int_equal(config_to_fd(&f->config, &fd), 0);
	assert_int_equal(config_from_fd(fd, copy, &err), -EINVAL);
	assert_string_equal(err.message, "kernel: is missing; give --kernel FILE");
	close(fd);
	vm_config_release(copy);
	test_free(copy);
}

/* Option texts on an otherwise good configuration, and the line about their combination. */
static const struct {
	const char *options[2][2];
	const char *line;
} bad_combinations[] = {
	{ { { "cpus", "4,max=2" } },
	  "cpus: max=2 is less than the 4 to start with; give max=4 or more" },
	{ { { "detach", "on" }, { "console", "stdio" } },
	  "console: stdio does not go with detach; give --console socket or pty" },
	{ { { "disk", "path=a,queues=2" } },
	  "disk[0]: queues=2 is more than there are vCPUs; give at most 1" },
	{ { { "disk", "path=a" }, { "disk", "path=a,readonly=on" } },
	  "disk[1]: a is disk[0] too; give it once, or readonly=on" },
	{ { { "disk", "path=a,serial=x" }, { "disk", "path=b,serial=x" } },
	  "disk[1]: serial=x is that of disk[0]; give another" },
	{ { { "net", "user,vhost" } },
	  "net[0]: vhost needs a tap; give tap=NAME, or leave vhost out" },
	{ { { "cpus", "2" }, { "net", "user,queues=2" } },
	  "net[0]: user has one queue; give tap=NAME, or leave queues out" },
	{ { { "net", "tap=a,queues=2" } },
	  "net[0]: queues=2 is more than there are vCPUs; give at most 1" },
	{ { { "net", "tap=a" }, { "net", "tap=a" } },
	  "net[1]: its tap is that of net[0]; give another" },
	{ { { "net", "fd=5" }, { "net", "fd=5" } },
	  "net[1]: its fd is that of net[0]; give another" },
	{ { { "net", "user,mac=52:54:00:12:34:56" }, { "net", "user,mac=52:54:00:12:34:56" } },
	  "net[1]: its mac is that of net[0]; give another" },
};

static void test_each_bad_combination_has_its_line(void **state)
{
	for (size_t i = 0; i < ARRAY_SIZE(bad_combinations); i++) {
		struct fixture *f;

		setup(state);
		f = *state;
		option(f, "kernel", "k");
		for (int j = 0; j < 2 && bad_combinations[i].options[j][0]; j++)
			assert_int_equal(option(f, bad_combinations[i].options[j][0],
						bad_combinations[i].options[j][1]),
					 0);
		vm_config_complete(&f->config);
		vm_config_check(&f->config, &f->problems);
		expect_line(f, bad_combinations[i].line);
		teardown(state);
	}
	setup(state);
}

static void test_two_readonly_users_of_a_disk_are_fine(void **state)
{
	struct fixture *f = *state;

	option(f, "kernel", "k");
	option(f, "disk", "path=a,readonly");
	option(f, "disk", "path=a,readonly");
	vm_config_complete(&f->config);
	vm_config_check(&f->config, &f->problems);
	assert_int_equal(f->problems.count, 0);
}

static void test_missing_kernel_is_told_with_what_needs_it(void **state)
{
	struct fixture *f = *state;

	option(f, "initrd", "i");
	option(f, "cmdline", "");
	vm_config_complete(&f->config);
	vm_config_check(&f->config, &f->problems);
	assert_int_equal(f->problems.count, 3);
}

static void test_a_detached_vm_has_its_console_on_a_socket(void **state)
{
	struct fixture *f = *state;

	option(f, "detach", "on");
	vm_config_complete(&f->config);
	assert_int_equal(f->config.console, CONSOLE_SOCKET);
}

static void expect_usage(const char *key, const char *expected)
{
	char text[200];

	schema_usage(schema_find(&config_schema, key), text, sizeof(text));
	assert_string_equal(text, expected);
}

static void test_usage_comes_from_the_table(void **state _unused_)
{
	expect_usage("cpus", "N[,max=M][,model=host|v2|v3]");
	expect_usage("disk", "path=FILE[,readonly=on|off][,serial=TEXT][,queues=N][,direct=on|off]"
			     "[,filter=FILTER]");
	expect_usage("net",
		     "tap=NAME|user|fd=N[,mac=ADDRESS][,queues=N][,vhost=on|off][,filter=FILTER]");
	expect_usage("kernel", "FILE");
	expect_usage("console", "auto|stdio|pty|socket");
}

static const char *nearest(const char *wanted)
{
	static const char *const names[] = { "kernel", "memory", "net", "disk" };
	struct suggest suggest;

	suggest_init(&suggest, wanted);
	for (size_t i = 0; i < ARRAY_SIZE(names); i++)
		suggest_offer(&suggest, names[i]);
	return suggest.best;
}

static void test_suggestions_are_near_or_none(void **state _unused_)
{
	assert_string_equal(nearest("kenrel"), "kernel");
	assert_string_equal(nearest("memry"), "memory");
	assert_string_equal(nearest("nets"), "net");
	assert_null(nearest("xyz"));
	assert_null(nearest(""));
	assert_null(nearest("a-name-that-is-much-longer-than-any-that-we-know"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_each_bad_option_has_its_line, setup, teardown),
		cmocka_unit_test_setup_teardown(test_each_bad_file_has_its_line, setup, teardown),
		cmocka_unit_test_setup_teardown(test_all_problems_of_a_file_are_told_at_once, setup,
						teardown),
		cmocka_unit_test_setup_teardown(test_a_refused_value_leaves_the_field, setup,
						teardown),
		cmocka_unit_test_setup_teardown(test_grouped_options_are_decoded, setup, teardown),
		cmocka_unit_test_setup_teardown(test_one_disk_too_many_is_refused, setup, teardown),
		cmocka_unit_test_setup_teardown(test_json_short_forms, setup, teardown),
		cmocka_unit_test_setup_teardown(test_a_list_in_a_file_replaces_the_list, setup,
						teardown),
		cmocka_unit_test_setup_teardown(test_defaults_of_table_and_struct_are_the_same,
						setup, teardown),
		cmocka_unit_test_setup_teardown(test_what_is_encoded_decodes_to_the_same, setup,
						teardown),
		cmocka_unit_test_setup_teardown(
			test_a_configuration_from_a_descriptor_is_checked_again, setup, teardown),
		cmocka_unit_test_teardown(test_each_bad_combination_has_its_line, teardown),
		cmocka_unit_test_setup_teardown(test_two_readonly_users_of_a_disk_are_fine, setup,
						teardown),
		cmocka_unit_test_setup_teardown(test_missing_kernel_is_told_with_what_needs_it,
						setup, teardown),
		cmocka_unit_test_setup_teardown(test_a_detached_vm_has_its_console_on_a_socket,
						setup, teardown),
		cmocka_unit_test(test_usage_comes_from_the_table),
		cmocka_unit_test(test_suggestions_are_near_or_none),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
