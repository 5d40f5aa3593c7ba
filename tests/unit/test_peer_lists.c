/* SPDX-License-Identifier: Apache-2.0 */
/* host.json: what it says of the arbiter and of protected VMs. */
#include "check.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/fd.h"
#include "peer/lists.h"

static struct lists *decode(const char *text, struct error *err)
{
	struct lists *lists = calloc(1, sizeof(*lists));

	assert_non_null(lists);
	if (lists_decode(text, strlen(text), "host.json", lists, err) == 0)
		return lists;
	lists_free(lists);
	return NULL;
}

static void an_arbiter_is_read(void **state _unused_)
{
	struct error err = { 0 };
	struct lists *lists = decode(
		"{\"arbiter\": {\"endpoints\": [\"https://10.0.0.1:2379\","
		" {\"url\": \"https://etcd-2:2379\", \"address\": \"10.0.0.2\"}],"
		" \"ca\": \"/ca\", \"certificate\": \"/crt\", \"key\": \"/key\", \"user\": \"u\","
		" \"password_file\": \"/p\"}, \"protect\": {\"journal\": \"1G\"}}",
		&err);

	if (!lists)
		fail_msg("%s", err.message);
	assert_int_equal(lists->arbiter.n_endpoints, 2);
	assert_string_equal(lists->arbiter.endpoints[0].url, "https://10.0.0.1:2379");
	assert_null(lists->arbiter.endpoints[0].address);
	assert_string_equal(lists->arbiter.endpoints[1].url, "https://etcd-2:2379");
	assert_string_equal(lists->arbiter.endpoints[1].address, "10.0.0.2");
	assert_string_equal(lists->arbiter.ca, "/ca");
	assert_string_equal(lists->arbiter.certificate, "/crt");
	assert_string_equal(lists->arbiter.key, "/key");
	assert_string_equal(lists->arbiter.user, "u");
	assert_string_equal(lists->arbiter.password_file, "/p");
	assert_int_equal(lists->protect.journal, GIB(1));
	lists_free(lists);
}

static void none_is_none(void **state _unused_)
{
	struct error err = { 0 };
	struct lists *lists = decode("{}", &err);

	assert_non_null(lists);
	assert_int_equal(lists->arbiter.n_endpoints, 0);
	assert_int_equal(lists->protect.journal, MIB(256));
	lists_free(lists);
}

#define ARBITER(rest) "{\"arbiter\": {\"endpoints\": [\"https://10.0.0.1:2379\"]" rest "}}"
#define TEN                                                                                          \
	"\"http://a:1\",\"http://a:1\",\"http://a:1\",\"http://a:1\",\"http://a:1\",\"http://a:1\"," \
	"\"http://a:1\",\"http://a:1\",\"http://a:1\",\"http://a:1\""

static void what_is_wrong_is_told_by_name(void **state _unused_)
{
	static const struct {
		const char *text, *why;
	} cases[] = {
		{ ARBITER(""), "needs ca" },
		{ ARBITER(", \"ca\": \"ca.pem\""), "absolute path" },
		{ ARBITER(", \"ca\": \"/ca\", \"key\": \"/k\""), "certificate and key together" },
		{ ARBITER(", \"ca\": \"/ca\", \"user\": \"u\""),
		  "user and password_file together" },
		{ ARBITER(", \"ca\": \"/ca\", \"word\": 1"), "unknown key 'word'" },
		{ "{\"arbiter\": {}}", "endpoints" },
		{ "{\"arbiter\": {\"endpoints\": [\"10.0.0.1:2379\"]}}", "https://HOST:PORT" },
		{ "{\"arbiter\": {\"endpoints\": [1]}}", "url" },
		{ "{\"arbiter\": {\"endpoints\": [{\"address\": \"10.0.0.1\"}]}}", "url" },
		{ "{\"arbiter\": {\"endpoints\": \"https://10.0.0.1:2379\"}}", "endpoints" },
		{ "{\"arbiter\": {\"endpoints\": [" TEN "]}}", "at most 9" },
		{ "{\"arbiter\": []}", "arbiter" },
		{ "{\"protect\": {\"journal\": \"1M\"}}", "journal" },
		{ "{\"protect\": {\"journal\": \"65G\"}}", "journal" },
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct error err = { 0 };

		if (decode(cases[i].text, &err))
			fail_msg("was taken: %s", cases[i].text);
		if (!strstr(err.message, cases[i].why))
			fail_msg("%s: '%s' lacks '%s'", cases[i].text, err.message, cases[i].why);
	}
}

static void write_password(const char *path, const char *text, mode_t mode)
{
	_cleanup_(fd_closep) int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

	assert_return_code(fd, errno);
	assert_int_equal(fd_write_all(fd, text, strlen(text)), 0);
	assert_int_equal(fchmod(fd, mode), 0);
}

static void a_password_is_its_files_first_line(void **state _unused_)
{
	char path[] = "/tmp/utsusu-password-XXXXXX";
	struct list_arbiter arbiter = { .user = (char *)"u", .password_file = path };
	struct error err = { 0 };
	char *password;

	fd_close(mkstemp(path));
	write_password(path, "secret\nmore\n", 0600);
	assert_int_equal(list_arbiter_password(&arbiter, &password, &err), 0);
	assert_string_equal(password, "secret");
	free(password);
	write_password(path, "secret", 0640);
	assert_int_equal(list_arbiter_password(&arbiter, &password, &err), -EPERM);
	assert_non_null(strstr(err.message, "chmod 600"));
	err = (struct error){ 0 };
	write_password(path, "\n", 0600);
	assert_int_equal(list_arbiter_password(&arbiter, &password, &err), -ENODATA);
	unlink(path);
	err = (struct error){ 0 };
	assert_int_equal(list_arbiter_password(&arbiter, &password, &err), -ENOENT);
	arbiter.user = NULL;
	assert_int_equal(list_arbiter_password(&arbiter, &password, &err), 0);
	assert_null(password);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(an_arbiter_is_read),
		cmocka_unit_test(none_is_none),
		cmocka_unit_test(what_is_wrong_is_told_by_name),
		cmocka_unit_test(a_password_is_its_files_first_line),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
