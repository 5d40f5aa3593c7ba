/* SPDX-License-Identifier: Apache-2.0 */
#include "move/job.h"

#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "base/cleanup.h"
#include "base/fd.h"
#include "base/hex.h"

#define JOB_MAX KIB(16) /* bytes of its text */

enum field_kind { FIELD_TEXT, FIELD_U64, FIELD_U32, FIELD_BOOL, FIELD_ENUM, FIELD_HEX, FIELD_FD };

struct field {
	const char *key;
	enum field_kind kind;
	bool required;
	size_t offset, size; /* in the struct; of a text, with its NUL */
	uint64_t max;
	const char *const *names; /* of an enum */
	size_t n_names;
};

static const char *const roles[] = { [MOVE_SOURCE] = "source", [MOVE_DESTINATION] = "destination",
				     [MOVE_SAVE] = "save",     [MOVE_RESTORE] = "restore",
				     [MOVE_OWNER] = "owner",   [MOVE_BACKUP] = "backup" };
static const char *const compress[] = {
	[MOVE_COMPRESS_AUTO] = "auto",
	[MOVE_COMPRESS_OFF] = "off",
	[MOVE_COMPRESS_ON] = "on",
};

#define AT(member) offsetof(struct move_job, member), sizeof(((struct move_job *)0)->member)

static const struct field fields[] = {
	{ .key = "role", FIELD_ENUM, true, AT(role), .names = roles, .n_names = ARRAY_SIZE(roles) },
	{ .key = "name", FIELD_TEXT, true, AT(name) },
	{ .key = "peer", FIELD_TEXT, true, AT(peer) },
	{ .key = "generation", FIELD_U64, true, AT(generation), .max = INT64_MAX },
	{ .key = "token", FIELD_HEX, true, AT(token) },
	{ .key = "vm", FIELD_FD, true, AT(vm_fd) },
	{ .key = "ram", FIELD_FD, true, AT(ram_fd) },
	{ .key = "mark", FIELD_FD, false, AT(mark_fd) },
	{ .key = "file", FIELD_FD, false, AT(file_fd) },
	{ .key = "lock", FIELD_FD, false, AT(lock_fd) },
	{ .key = "host", FIELD_TEXT, false, AT(host) },
	{ .key = "clone", FIELD_BOOL, false, AT(clone) },
	{ .key = "told", FIELD_BOOL, false, AT(told) },
	{ .key = "load_first", FIELD_BOOL, false, AT(load_first) },
	{ .key = "known", FIELD_U64, false, AT(known), .max = INT64_MAX },
	{ .key = "tls", FIELD_BOOL, true, AT(tls) },
	{ .key = "key", FIELD_HEX, false, AT(key) },
	{ .key = "progress", FIELD_FD, false, AT(progress_fd) },
	{ .key = "max_bandwidth", FIELD_U64, false, AT(max_bandwidth), .max = INT64_MAX },
	{ .key = "downtime_ms", FIELD_U32, false, AT(downtime_ms), .max = MOVE_DOWNTIME_MAX_MS },
	{ .key = "compress",
	  FIELD_ENUM,
	  false,
	  AT(compress),
	  .names = compress,
	  .n_names = ARRAY_SIZE(compress) },
	{ .key = "journal", FIELD_FD, false, AT(journal_fd) },
	{ .key = "journal_bytes", FIELD_U64, false, AT(journal_bytes), .max = LIMIT_JOURNAL },
	{ .key = "latency_ms", FIELD_U32, false, AT(latency_ms), .max = MOVE_DOWNTIME_MAX_MS },
	{ .key = "detect_ms", FIELD_U32, false, AT(detect_ms), .max = MOVE_DOWNTIME_MAX_MS },
	{ .key = "patience_ms", FIELD_U32, false, AT(patience_ms), .max = MOVE_DOWNTIME_MAX_MS },
	{ .key = "allow_postcopy", FIELD_BOOL, false, AT(allow_postcopy) },
	{ .key = "failpoint", FIELD_TEXT, false, AT(failpoint) },
};

static int bad(struct error *err, const char *key, const char *why)
{
	return error_set(err, -EINVAL, EXIT_STATUS_USAGE,
			 "job: %.40s %s; start movers with the utsusud that belongs to them", key,
			 why);
}

static bool take_text(const struct field *field, const json_t *value, void *to)
{
	const char *text = json_string_value(value);
	size_t len = json_string_length(value);

	if (!text || len >= field->size || strlen(text) != len)
		return false;
	memcpy(to, text, len + 1);
	return true;
}

static bool take_number(const json_t *value, uint64_t max, uint64_t *ret_number)
{
	json_int_t number = json_integer_value(value);

	if (!json_is_integer(value) || number < 0 || (uint64_t)number > max)
		return false;
	*ret_number = (uint64_t)number;
	return true;
}

static bool take_fd(const json_t *value, void *to)
{
	uint64_t number;

	if (!take_number(value, INT32_MAX, &number))
		return false;
	*(int *)to = (int)number;
	return true;
}

static bool take_enum(const struct field *field, const json_t *value, void *to)
{
	const char *text = json_string_value(value);

	for (size_t i = 0; text && i < field->n_names; i++) {
		if (strcmp(field->names[i], text) != 0)
			continue;
		memcpy(to, &(unsigned int){ (unsigned int)i }, sizeof(unsigned int));
		return true;
	}
	return false;
}

static bool take_number_field(const struct field *field, const json_t *value, void *to)
{
	uint64_t number;

	if (!take_number(value, field->max, &number))
		return false;
	if (field->kind == FIELD_U64)
		*(uint64_t *)to = number;
	else
		*(uint32_t *)to = (uint32_t)number;
	return true;
}

static bool take_value(const struct field *field, const json_t *value, void *to)
{
	switch (field->kind) {
	case FIELD_TEXT:
		return take_text(field, value, to);
	case FIELD_U64:
	case FIELD_U32:
		return take_number_field(field, value, to);
	case FIELD_BOOL:
		*(bool *)to = json_is_true(value);
		return json_is_boolean(value);
	case FIELD_ENUM:
		return take_enum(field, value, to);
	case FIELD_HEX:
		return json_is_string(value) &&
		       hex_decode(json_string_value(value), to, field->size);
	case FIELD_FD:
		return take_fd(value, to);
	}
	return false;
}

static int take_fields(const json_t *json, struct move_job *job, struct error *err)
{
	for (size_t i = 0; i < ARRAY_SIZE(fields); i++) {
		const json_t *value = json_object_get(json, fields[i].key);

		if (!value && fields[i].required)
			return bad(err, fields[i].key, "is missing");
		if (value && !take_value(&fields[i], value, (char *)job + fields[i].offset))
			return bad(err, fields[i].key, "has a value that it cannot have");
	}
	return 0;
}

static bool has_file(const struct move_job *job)
{
	return job->role == MOVE_SAVE || job->role == MOVE_RESTORE;
}

/* A file in the place of streams. */
static int judge_file(const json_t *json, const struct move_job *job, struct error *err)
{
	if (json_array_size(json_object_get(json, "streams")) || job->tls)
		return bad(err, "streams", "are given where a file is");
	if (job->file_fd < 0)
		return bad(err, "file", "is missing");
	if ((job->mark_fd >= 0) != (job->role == MOVE_SAVE))
		return bad(err, "mark", "is the VM's, at a save only");
	return 0;
}

static bool is_guard(const struct move_job *job)
{
	return job->role == MOVE_OWNER || job->role == MOVE_BACKUP;
}

/* The arbiter's record is in the place of marks. */
static int judge_mark(const json_t *json, const struct move_job *job, struct error *err)
{
	if (!is_guard(job))
		return job->mark_fd < 0 ? bad(err, "mark", "is missing") : 0;
	if (job->mark_fd >= 0)
		return bad(err, "mark", "is given to a guard");
	return json_array_size(json_object_get(json, "streams")) > 1
		       ? bad(err, "streams", "are more than a guard has")
		       : 0;
}

/* What is written to disks of a backup goes through its journal. */
static int judge_journal(const struct move_job *job, struct error *err)
{
	const bool needed = job->role == MOVE_BACKUP && job->n_disks;

	if ((job->journal_fd >= 0) != needed)
		return bad(err, "journal", needed ? "is missing" : "is given without use for it");
	if (needed != (job->journal_bytes > 0))
		return bad(err, "journal_bytes", "belongs to a journal");
	return 0;
}

static int take_streams(const json_t *json, struct move_job *job, struct error *err)
{
	const json_t *streams = json_object_get(json, "streams"), *value;
	size_t i;
	int r;

	if (has_file(job))
		return judge_file(json, job, err);
	r = judge_mark(json, job, err);
	if (r < 0)
		return r;
	if (job->file_fd >= 0 || job->clone || job->load_first)
		return bad(err, "file", "is given where streams are");
	if (!json_is_array(streams) || json_array_size(streams) < 1 ||
	    json_array_size(streams) > MOVE_STREAMS_MAX)
		return bad(err, "streams", "is no list of 1 to 16 descriptors");
	json_array_foreach(streams, i, value) if (!take_fd(value, &job->streams[i])) return bad(
		err, "streams", "holds what is no descriptor");
	job->n_streams = (uint32_t)json_array_size(streams);
	return 0;
}

/* [[index, descriptor], ...] */
static int take_disks(const json_t *json, struct move_job *job, struct error *err)
{
	const json_t *disks = json_object_get(json, "disks"), *disk;
	uint64_t index;
	size_t i;

	if (!disks)
		return 0;
	if (has_file(job) || !json_is_array(disks) || json_array_size(disks) > LIMIT_DISKS)
		return bad(err, "disks", "are no list of what a move copies");
	json_array_foreach(disks, i, disk)
	{
		struct move_disk *to = &job->disks[i];

		if (json_array_size(disk) != 2 ||
		    !take_number(json_array_get(disk, 0), LIMIT_DISKS - 1, &index) ||
		    !take_fd(json_array_get(disk, 1), &to->fd))
			return bad(err, "disks", "hold what is no disk");
		to->index = (uint32_t)index;
		for (size_t k = 0; k < i; k++)
			if (job->disks[k].index == index)
				return bad(err, "disks", "hold one twice");
	}
	job->n_disks = (uint32_t)json_array_size(disks);
	return 0;
}

static bool is_known(const char *key)
{
	for (size_t i = 0; i < ARRAY_SIZE(fields); i++)
		if (strcmp(fields[i].key, key) == 0)
			return true;
	return strcmp(key, "streams") == 0 || strcmp(key, "disks") == 0;
}

static int refuse_unknown(json_t *json, struct error *err)
{
	const char *key;
	json_t *value;

	json_object_foreach(json, key, value) if (!is_known(key)) return bad(err, key,
									     "is unknown");
	return 0;
}

/* All of the job's, -1 where it has none: at most DESCRIPTORS_MAX. */
static size_t list_descriptors(struct move_job *job, int **ret_list)
{
	size_t n = 0;

	ret_list[n++] = &job->vm_fd;
	ret_list[n++] = &job->ram_fd;
	ret_list[n++] = &job->mark_fd;
	ret_list[n++] = &job->own_mark_fd;
	ret_list[n++] = &job->file_fd;
	ret_list[n++] = &job->progress_fd;
	ret_list[n++] = &job->lock_fd;
	ret_list[n++] = &job->journal_fd;
	for (uint32_t i = 0; i < job->n_streams; i++)
		ret_list[n++] = &job->streams[i];
	for (uint32_t i = 0; i < job->n_disks; i++)
		ret_list[n++] = &job->disks[i].fd;
	return n;
}

#define DESCRIPTORS_MAX (MOVE_STREAMS_MAX + LIMIT_DISKS + 8)

/* One that came twice would be closed twice. */
static int refuse_doubles(struct move_job *job, struct error *err)
{
	int *list[DESCRIPTORS_MAX];
	size_t n = list_descriptors(job, list);

	for (size_t i = 0; i < n; i++)
		for (size_t k = 0; k < i; k++)
			if (*list[i] >= 0 && *list[i] == *list[k])
				return bad(err, "a descriptor", "was given twice");
	return 0;
}

static int check(struct move_job *job, bool has_key, struct error *err)
{
	struct failpoint unused;

	if (job->tls != has_key)
		return bad(err, "key", job->tls ? "is missing" : "is given for a plain stream");
	if (!job->name[0])
		return bad(err, "name", "is empty");
	if (failpoint_parse(job->failpoint, &unused, err) < 0 || judge_journal(job, err) < 0)
		return -EINVAL;
	return refuse_doubles(job, err);
}

void move_job_init(struct move_job *job, enum move_role role)
{
	*job = (struct move_job){
		.role = role,
		.vm_fd = -1,
		.ram_fd = -1,
		.mark_fd = -1,
		.own_mark_fd = -1,
		.file_fd = -1,
		.progress_fd = -1,
		.lock_fd = -1,
		.journal_fd = -1,
		.downtime_ms = MOVE_DOWNTIME_MS,
	};
	for (size_t i = 0; i < ARRAY_SIZE(job->streams); i++)
		job->streams[i] = -1;
}

/* The text of the key, where the JSON library keeps it. */
static void wipe_key(const json_t *json)
{
	const json_t *key = json_object_get(json, "key");

	if (json_is_string(key))
		explicit_bzero((char *)json_string_value(key), json_string_length(key));
}

static int decode(json_t *json, struct move_job *job, struct error *err)
{
	bool has_key = json_object_get(json, "key") != NULL;
	int r = json_is_object(json) ? refuse_unknown(json, err) : bad(err, "it", "is no object");

	if (r == 0)
		r = take_fields(json, job, err);
	if (r == 0)
		r = take_streams(json, job, err);
	if (r == 0)
		r = take_disks(json, job, err);
	if (r == 0)
		r = check(job, has_key, err);
	wipe_key(json);
	return r;
}

int move_job_decode(const char *text, size_t len, struct move_job *ret_job, struct error *err)
{
	json_auto_t *json = json_loadb(text, len, JSON_REJECT_DUPLICATES, NULL);
	struct move_job job;
	int r;

	move_job_init(&job, MOVE_SOURCE); /* its role is among what must be told */
	r = json ? decode(json, &job, err) : bad(err, "it", "is no JSON");
	if (r == 0)
		*ret_job = job;
	explicit_bzero(job.key, sizeof(job.key));
	return r;
}

/* From here on they are ours, and no child's. */
static int claim_descriptors(struct move_job *job, struct error *err)
{
	int *list[DESCRIPTORS_MAX];
	size_t n = list_descriptors(job, list);

	for (size_t i = 0; i < n; i++)
		if (*list[i] >= 0 && fcntl(*list[i], F_GETFD) < 0)
			return bad(err, "a descriptor", "is not open");
	for (size_t i = 0; i < n; i++)
		if (*list[i] >= 0)
			fcntl(*list[i], F_SETFD, FD_CLOEXEC);
	return 0;
}

/* Not a path of somebody's: the kernel's name for what we hold. */
static int open_again(int fd, int *ret_fd)
{
	char path[32];
	int again;

	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	again = open(path, O_RDWR | O_CLOEXEC);
	if (again < 0)
		return -errno;
	*ret_fd = again;
	return 0;
}

static int claim(struct move_job *job, struct error *err)
{
	int r = claim_descriptors(job, err);

	if (r < 0 || job->role != MOVE_DESTINATION)
		return r;
	r = open_again(job->mark_fd, &job->own_mark_fd);
	return r < 0 ? bad(err, "mark", "cannot be opened again") : 0;
}

int move_job_read(int fd, struct move_job *ret_job, struct error *err)
{
	struct move_job job = { 0 };
	char text[JOB_MAX];
	struct stat st;
	int r = fstat(fd, &st) < 0 ? -errno : 0;

	if (r < 0 || st.st_size < 1 || st.st_size > (off_t)sizeof(text))
		return bad(err, "its file", "cannot be read");
	r = fd_read_at(fd, text, (size_t)st.st_size, 0);
	if (r == 0)
		r = move_job_decode(text, (size_t)st.st_size, &job, err);
	else
		r = bad(err, "its file", "cannot be read");
	explicit_bzero(text, sizeof(text));
	if (r == 0)
		r = claim(&job, err);
	if (r == 0)
		*ret_job = job;
	explicit_bzero(job.key, sizeof(job.key));
	return r;
}

static json_t *encode_value(const struct field *field, const void *from)
{
	char hex[2 * STREAM_KEY_BYTES + 1];
	json_t *value;

	switch (field->kind) {
	case FIELD_TEXT:
		return json_string(from);
	case FIELD_U64:
		return json_integer((json_int_t) * (const uint64_t *)from);
	case FIELD_U32:
		return json_integer(*(const uint32_t *)from);
	case FIELD_BOOL:
		return json_boolean(*(const bool *)from);
	case FIELD_ENUM:
		return json_string(field->names[*(const unsigned int *)from]);
	case FIELD_HEX:
		hex_encode(from, field->size, hex);
		value = json_string(hex);
		explicit_bzero(hex, sizeof(hex));
		return value;
	case FIELD_FD:
		return json_integer(*(const int *)from);
	}
	return NULL;
}

static bool is_absent(const struct move_job *job, const struct field *field)
{
	if (field->kind == FIELD_FD)
		return *(const int *)((const char *)job + field->offset) < 0;
	return field->offset == offsetof(struct move_job, key) && !job->tls;
}

static json_t *encode_disks(const struct move_job *job)
{
	json_t *disks = json_array();

	for (uint32_t i = 0; i < job->n_disks; i++)
		json_array_append_new(disks, json_pack("[i, i]", (int)job->disks[i].index,
						       job->disks[i].fd));
	return disks;
}

static json_t *encode(const struct move_job *job)
{
	json_t *json = json_object(), *streams = json_array();

	for (size_t i = 0; i < ARRAY_SIZE(fields); i++)
		if (!is_absent(job, &fields[i]))
			json_object_set_new(json, fields[i].key,
					    encode_value(&fields[i],
							 (const char *)job + fields[i].offset));
	for (uint32_t i = 0; i < job->n_streams; i++)
		json_array_append_new(streams, json_integer(job->streams[i]));
	json_object_set_new(json, "streams", streams);
	if (job->n_disks)
		json_object_set_new(json, "disks", encode_disks(job));
	return json;
}

static int make_inheritable(const struct move_job *job)
{
	struct move_job copy = *job;
	int *list[DESCRIPTORS_MAX];
	size_t n = list_descriptors(&copy, list);
	int r = 0;

	for (size_t i = 0; r == 0 && i < n; i++)
		if (*list[i] >= 0 && fcntl(*list[i], F_SETFD, 0) < 0)
			r = -errno;
	explicit_bzero(copy.key, sizeof(copy.key));
	return r;
}

static int write_sealed(const char *text, int *ret_fd)
{
	_cleanup_(fd_closep) int fd = memfd_create("utsusu-move-job", MFD_ALLOW_SEALING);
	int r = fd < 0 ? -errno : fd_write_at(fd, text, strlen(text), 0);

	if (r == 0 &&
	    fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE | F_SEAL_GROW | F_SEAL_SHRINK | F_SEAL_SEAL) < 0)
		r = -errno;
	if (r == 0)
		*ret_fd = TAKE_FD(fd);
	return r;
}

int move_job_write(const struct move_job *job, int *ret_fd)
{
	json_auto_t *json = encode(job);
	char *text = json ? json_dumps(json, JSON_COMPACT) : NULL;
	int r = text ? make_inheritable(job) : -ENOMEM;

	if (r == 0)
		r = write_sealed(text, ret_fd);
	wipe_key(json);
	if (text)
		explicit_bzero(text, strlen(text));
	free(text);
	return r;
}

void move_job_release(struct move_job *job)
{
	int *list[DESCRIPTORS_MAX];
	size_t n = list_descriptors(job, list);

	for (size_t i = 0; i < n; i++)
		fd_close(TAKE_FD(*list[i]));
	explicit_bzero(job->key, sizeof(job->key));
}
