/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * What host.json (peer/lists.h) says of the arbiter and of VMs that are protected here. The words only: whether a URL can be asked is
 * judged by who asks (arbiter/arbiter.h). Any thread.
 */

#include "api/schema.h"
#include "base/limits.h"

/* One member of the etcd cluster; "url" alone may stand for it. */
struct list_endpoint {
	char *url;
	char *address; /* NULL: the URL's host is a number */
};

struct list_arbiter {
	bool manual;	      /* persons are asked, and no etcd (peer/manual.h) */
	uint32_t n_endpoints; /* 0 and not manual: this host has no arbiter */
	struct list_endpoint endpoints[LIMIT_ARBITER_ENDPOINTS];
	char *ca, *certificate, *key; /* files; NULL: none */
	char *user, *password_file;
};

struct list_protect {
	uint64_t journal; /* bytes that a backup here keeps of the disks' writes */
};

extern const struct schema list_arbiter_schema, list_protect_schema;

/* What one row cannot judge. -EINVAL with `err`; `name` is the file's. */
_must_check_ int list_arbiter_check(const struct list_arbiter *arbiter, const char *name,
				    struct error *err);
/* Reads the password (free() it, wiped); NULL where there is no user. Refuses a file that others may read. */
_must_check_ int list_arbiter_password(const struct list_arbiter *arbiter, char **ret_password,
				       struct error *err);
