/* SPDX-License-Identifier: Apache-2.0 */
#include "peer/arbiter_config.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/cleanup.h"
#include "base/fd.h"
#include "protect/journal.h"

#define URL_MAX 300
#define USER_MAX 255
#define PASSWORD_MAX 1024 /* bytes of the file */

static int valid_url(const char *text, const char **ret_why)
{
	*ret_why = "is no address of an etcd; give https://HOST:PORT";
	return strncmp(text, "https://", 8) == 0 || strncmp(text, "http://", 7) == 0 ? 0 : -EINVAL;
}

static int valid_path(const char *text, const char **ret_why)
{
	*ret_why = "is not an absolute path; give one";
	return text[0] == '/' ? 0 : -EINVAL;
}

static const struct schema_row endpoint_rows[] = {
	{ .key = "url",
	  .type = SCHEMA_STRING,
	  .flags = SCHEMA_FIRST | SCHEMA_REQUIRED,
	  .offset = offsetof(struct list_endpoint, url),
	  .min = 1,
	  .max = URL_MAX,
	  .valid = valid_url,
	  .value = "URL",
	  .help = "https://HOST:PORT of a member of the etcd cluster" },
	{ .key = "address",
	  .type = SCHEMA_STRING,
	  .offset = offsetof(struct list_endpoint, address),
	  .min = 1,
	  .max = URL_MAX,
	  .value = "ADDRESS",
	  .help = "its number, where HOST is a name: name servers are not asked" },
};
static const struct schema endpoint_schema = { endpoint_rows, ARRAY_SIZE(endpoint_rows),
					       sizeof(struct list_endpoint), 0 };

#define FILE_ROW(member, help_)                                                                    \
	{                                                                                          \
		.key = #member, .type = SCHEMA_STRING,                                             \
		.offset = offsetof(struct list_arbiter, member), .min = 1, .max = PATH_MAX - 1,    \
		.valid = valid_path, .value = "FILE", .help = help_                                \
	}
static const struct schema_row arbiter_rows[] = {
	{ .key = "endpoints",
	  .type = SCHEMA_LIST,
	  .flags = SCHEMA_REQUIRED,
	  .offset = offsetof(struct list_arbiter, endpoints),
	  .group = &endpoint_schema,
	  .max = LIMIT_ARBITER_ENDPOINTS,
	  .count_offset = offsetof(struct list_arbiter, n_endpoints),
	  .help = "the members of the etcd cluster" },
	FILE_ROW(ca, "the certificate of who signs for the members"),
	FILE_ROW(certificate, "this host's own, where etcd asks for one"),
	FILE_ROW(key, "of that certificate"),
	{ .key = "user",
	  .type = SCHEMA_STRING,
	  .offset = offsetof(struct list_arbiter, user),
	  .min = 1,
	  .max = USER_MAX,
	  .value = "NAME",
	  .help = "of etcd, where its authentication is on" },
	FILE_ROW(password_file, "the user's password, which only this user may read"),
};
const struct schema list_arbiter_schema = { arbiter_rows, ARRAY_SIZE(arbiter_rows),
					    sizeof(struct list_arbiter), 0 };

static const struct schema_row protect_rows[] = {
	{ .key = "journal",
	  .type = SCHEMA_SIZE,
	  .offset = offsetof(struct list_protect, journal),
	  .min = MIB(16),
	  .max = LIMIT_JOURNAL,
	  .step = JOURNAL_BLOCK,
	  .fallback = "256M",
	  .value = "SIZE",
	  .help = "of the journal that a backup here keeps for each VM with disks" },
};
const struct schema list_protect_schema = { protect_rows, ARRAY_SIZE(protect_rows),
					    sizeof(struct list_protect), 0 };

static bool has_tls(const struct list_arbiter *arbiter)
{
	for (uint32_t i = 0; i < arbiter->n_endpoints; i++)
		if (arbiter->endpoints[i].url &&
		    strncmp(arbiter->endpoints[i].url, "https://", 8) == 0)
			return true;
	return false;
}

int list_arbiter_check(const struct list_arbiter *arbiter, const char *name, struct error *err)
{
	const char *why = NULL;

	if (!arbiter->certificate != !arbiter->key)
		why = "give certificate and key together";
	else if (!arbiter->user != !arbiter->password_file)
		why = "give user and password_file together";
	else if (has_tls(arbiter) && !arbiter->ca)
		why = "https:// needs ca: the file of the authority that signs for etcd's members";
	else if (!arbiter->n_endpoints && (arbiter->ca || arbiter->user || arbiter->certificate))
		why = "endpoints: is empty; name etcd's members: [\"https://HOST:2379\", ...]";
	return why ? error_set(err, -EINVAL, EXIT_STATUS_USAGE, "%s: arbiter: %s", name, why) : 0;
}

/* In one go, so that what was judged is what is read. */
static int read_password(const char *path, char *text, size_t size)
{
	_cleanup_(fd_closep) int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
	struct stat st;
	size_t len;
	int r = fd < 0 || fstat(fd, &st) < 0 ? -errno : 0;

	if (r == 0 && st.st_mode & 077)
		r = -EPERM;
	if (r == 0)
		r = fd_read_all(fd, text, size, &len);
	if (r == 0 && len == size)
		r = -EFBIG;
	if (r < 0)
		return r;
	text[len] = '\0';
	text[strcspn(text, "\r\n")] = '\0';
	return text[0] ? 0 : -ENODATA;
}

int list_arbiter_password(const struct list_arbiter *arbiter, char **ret_password,
			  struct error *err)
{
	char text[PASSWORD_MAX];
	int r;

	*ret_password = NULL;
	if (!arbiter->user)
		return 0;
	r = read_password(arbiter->password_file, text, sizeof(text));
	if (r == 0) {
		*ret_password = strdup(text);
		r = *ret_password ? 0 : -ENOMEM;
	}
	explicit_bzero(text, sizeof(text));
	if (r == -EPERM)
		return error_set(err, r, EXIT_STATUS_HOST,
				 "arbiter: %.200s: others may read this password: chmod 600 %.200s",
				 arbiter->password_file, arbiter->password_file);
	return r < 0 ? error_set(err, r, EXIT_STATUS_HOST,
				 "arbiter: password_file %.200s: cannot be read: %s",
				 arbiter->password_file,
				 r == -ENODATA ? "it is empty" : strerror(-r))
		     : 0;
}
