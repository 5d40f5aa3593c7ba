/* SPDX-License-Identifier: Apache-2.0 */
#include "arbiter/seen.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "host/state_dir.h"

#define FOLDER "arbiter"
#define FORM                                                                                       \
	"{\"version\":1,\"cluster\":\"%" PRIu64 "\",\"revision\":\"%" PRIu64 "\","                 \
	"\"record\":\"%" PRIu64 "\",\"generation\":\"%" PRIu64 "\"}\n"
#define SCAN_FORM                                                                                  \
	"{\"version\":1,\"cluster\":\"%" SCNu64 "\",\"revision\":\"%" SCNu64 "\","                 \
	"\"record\":\"%" SCNu64 "\",\"generation\":\"%" SCNu64 "\"}"

void seen_encode(const struct seen *seen, char ret_text[SEEN_TEXT])
{
	/* Four numbers of at most 20 digits. */
	snprintf(ret_text, SEEN_TEXT, FORM, seen->cluster, seen->revision, seen->record,
		 seen->generation);
}

/* What is read is compared with what would be written: there is one spelling, and nobody else writes here. */
int seen_decode(const char *text, size_t len, struct seen *ret_seen)
{
	char copy[SEEN_TEXT], again[SEEN_TEXT];
	struct seen seen;

	if (len >= SEEN_TEXT)
		return -EBADMSG;
	memcpy(copy, text, len);
	copy[len] = '\0';
	if (sscanf(copy, SCAN_FORM, &seen.cluster, &seen.revision, &seen.record,
		   &seen.generation) != 4)
		return -EBADMSG;
	seen_encode(&seen, again);
	if (strcmp(copy, again) != 0 || strlen(copy) != len || seen.record > seen.revision ||
	    !seen.record != !seen.generation)
		return -EBADMSG;
	*ret_seen = seen;
	return 0;
}

int seen_read(int state_fd, const char uuid[UUID_TEXT], struct seen *ret_seen, struct error *err)
{
	_cleanup_(fd_closep) int folder = -1;
	_cleanup_(freep) char *text = NULL;
	size_t len;
	int r = uuid_valid(uuid) ? state_dir_folder(state_fd, FOLDER, &folder) : -EINVAL;

	if (r == 0)
		r = state_dir_read(folder, uuid, SEEN_TEXT - 1, &text, &len);
	if (r == -ENOENT) {
		*ret_seen = (struct seen){ 0 };
		return 0;
	}
	if (r == 0)
		r = seen_decode(text, len, ret_seen);
	if (r == -EFBIG)
		r = -EBADMSG;
	if (r < 0)
		return error_set(err, r, EXIT_STATUS_HOST,
				 "what this host saw of the arbiter cannot be read: " FOLDER
				 "/%s in the state directory: %s; remove it when the arbiter was "
				 "never restored from a copy",
				 uuid, r == -EBADMSG ? "damaged" : strerror(-r));
	return 0;
}

#define WAY_OUT                                                                                    \
	"; when that is meant, and the VM runs on no other host: remove " FOLDER                   \
	"/%s from the state directory"

static int refuse(struct error *err, const char *why)
{
	return error_set(err, -ESTALE, EXIT_STATUS_HOST, "%s", why);
}

static int judge(const struct seen *seen, const char *uuid, const char *endpoint,
		 const struct gateway_header *header, const struct ownership_record *record,
		 struct error *err)
{
	char why[ERROR_MESSAGE_MAX];

	if (seen->revision == 0)
		return 0;
	if (header->cluster != seen->cluster)
		snprintf(why, sizeof(why),
			 "arbiter: %.100s belongs to the etcd cluster %" PRIx64
			 ", and this VM's record was in cluster %" PRIx64
			 ": see which is the right one" WAY_OUT,
			 endpoint, header->cluster, seen->cluster, uuid);
	else if (header->revision < seen->revision || record->revision < seen->record)
		snprintf(why, sizeof(why),
			 "arbiter: %.100s %s: etcd was restored from a copy, or somebody removed "
			 "the record; see what others did since then" WAY_OUT,
			 endpoint,
			 record->revision ? "is at an older revision than it was"
					  : "does not have this VM's record any more",
			 uuid);
	else if (record->revision == seen->record ? record->generation != seen->generation
						  : record->generation <= seen->generation)
		snprintf(why, sizeof(why),
			 "arbiter: %.100s has a record of this VM that does not follow the last "
			 "one (generation %" PRIu64 " after %" PRIu64
			 "): see who else writes there" WAY_OUT,
			 endpoint, record->generation, seen->generation, uuid);
	else
		return 0;
	return refuse(err, why);
}

static int note(const struct seen *seen, int state_fd, const char *uuid, struct error *err)
{
	_cleanup_(fd_closep) int folder = -1;
	char text[SEEN_TEXT];
	int r = state_dir_folder(state_fd, FOLDER, &folder);

	seen_encode(seen, text);
	if (r == 0)
		r = state_dir_write(folder, uuid, text, strlen(text), 0600);
	if (r < 0)
		return error_set(err, r, EXIT_STATUS_HOST,
				 "arbiter: its answer cannot be noted in the state directory: %s; "
				 "see that it has room",
				 strerror(-r));
	return 0;
}

int seen_take(struct seen *seen, const struct seen *before, int state_fd,
	      const char uuid[UUID_TEXT], const char *endpoint, const struct gateway_header *header,
	      const struct ownership_record *record, struct error *err)
{
	const struct seen now = { header->cluster, header->revision, record->revision,
				  record->generation };
	bool is_old = header->revision < seen->revision;
	int r = judge(is_old ? before : seen, uuid, endpoint, header, record, err);

	if (r < 0 || is_old || memcmp(&now, seen, sizeof(now)) == 0)
		return r;
	r = note(&now, state_fd, uuid, err);
	if (r == 0)
		*seen = now;
	return r;
}
