/* SPDX-License-Identifier: Apache-2.0 */
#include "programs/arbiter_host.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "protect/record.h"

int arbiter_host_load(struct arbiter_host *host, struct error *err)
{
	const struct list_arbiter *arbiter;
	int r;

	*host = (struct arbiter_host){ 0 };
	r = lists_load(&host->lists, err);
	if (r < 0)
		return r;
	arbiter = &host->lists->arbiter;
	host->manual = arbiter->manual;
	if (host->manual)
		return 0;
	if (!arbiter->n_endpoints)
		return error_set(err, -ENOENT, EXIT_STATUS_HOST,
				 "%.200s: names no arbiter; add {\"arbiter\": {\"endpoints\": "
				 "[\"https://HOST:2379\", ...], ...}}: docs/protecting.md",
				 lists_path());
	r = list_arbiter_password(arbiter, &host->password, err);
	if (r < 0)
		return r;
	for (uint32_t i = 0; i < arbiter->n_endpoints; i++)
		host->endpoints[i] = (struct arbiter_endpoint){ arbiter->endpoints[i].url,
								arbiter->endpoints[i].address };
	host->config = (struct arbiter_config){
		.endpoints = host->endpoints,
		.n_endpoints = arbiter->n_endpoints,
		.ca = arbiter->ca,
		.certificate = arbiter->certificate,
		.key = arbiter->key,
		.user = arbiter->user,
		.password = host->password,
	};
	return 0;
}

void arbiter_host_release(struct arbiter_host *host)
{
	if (host->password)
		explicit_bzero(host->password, strlen(host->password));
	free(TAKE_PTR(host->password));
	lists_free(TAKE_PTR(host->lists));
}

json_t *arbiter_record_encode(const struct ownership_record *record)
{
	char text[LIMIT_OWNERSHIP_RECORD];
	json_t *json;
	size_t len;

	if (record->revision == 0 || record_encode(record, text, &len) < 0)
		return NULL;
	json = json_loadb(text, len, 0, NULL);
	json_object_set_new(json, "revision", json_integer((json_int_t)record->revision));
	return json;
}

int arbiter_record_decode(const json_t *json, struct ownership_record *ret_record,
			  struct error *err)
{
	json_auto_t *copy = json_copy((json_t *)json); /* its text has no revision */
	const json_t *revision = json_object_get(json, "revision");
	_cleanup_(freep) char *text = NULL;
	struct ownership_record record;
	int r;

	if (!json_is_integer(revision) || json_integer_value(revision) < 0)
		return error_set(err, -EINVAL, EXIT_STATUS_FAILED, "a record without a revision");
	json_object_del(copy, "revision");
	text = json_dumps(copy, JSON_COMPACT);
	r = text ? record_decode(text, strlen(text), &record, err) : -ENOMEM;
	if (r < 0)
		return r;
	record.revision = (uint64_t)json_integer_value(revision);
	*ret_record = record;
	return 0;
}
