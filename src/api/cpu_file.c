/* SPDX-License-Identifier: Apache-2.0 */
#include "api/cpu_file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/fd.h"
#include "base/limits.h"
#include "kvm/kvm.h"

#define LEAF_INDEXED KVM_CPUID_FLAG_SIGNIFCANT_INDEX

struct leaf {
	uint32_t leaf, subleaf;
	bool indexed;
	uint32_t registers[4];
};

struct cpu_text {
	char host[CPU_FILE_NAME_MAX + 1];
	uint32_t n_leaves;
	struct leaf leaves[CPUID_ENTRIES_MAX];
};

#define NUMBER(member, key_, help_)                                                                \
	{                                                                                          \
		.key = key_, .type = SCHEMA_UINT, .offset = offsetof(struct leaf, member),         \
		.max = UINT32_MAX, .flags = SCHEMA_REQUIRED, .value = "N", .help = help_           \
	}

static const struct schema_row leaf_rows[] = {
	NUMBER(leaf, "leaf", "CPUID's leaf"),
	NUMBER(subleaf, "subleaf", "CPUID's subleaf"),
	{ .key = "indexed",
	  .type = SCHEMA_BOOL,
	  .offset = offsetof(struct leaf, indexed),
	  .value = "on",
	  .help = "the leaf has subleaves" },
	NUMBER(registers[CPUID_EAX], "eax", "a register's value"),
	NUMBER(registers[CPUID_EBX], "ebx", "a register's value"),
	NUMBER(registers[CPUID_ECX], "ecx", "a register's value"),
	NUMBER(registers[CPUID_EDX], "edx", "a register's value"),
};

static const struct schema leaf_schema = { leaf_rows, ARRAY_SIZE(leaf_rows), sizeof(struct leaf),
					   0 };

static const struct schema_row cpu_rows[] = {
	{ .key = "host",
	  .type = SCHEMA_CHARS,
	  .flags = SCHEMA_REQUIRED,
	  .offset = offsetof(struct cpu_text, host),
	  .min = 1,
	  .max = CPU_FILE_NAME_MAX,
	  .value = "NAME",
	  .help = "the machine's name" },
	{ .key = "cpuid",
	  .type = SCHEMA_LIST,
	  .flags = SCHEMA_REQUIRED,
	  .group = &leaf_schema,
	  .offset = offsetof(struct cpu_text, leaves),
	  .count_offset = offsetof(struct cpu_text, n_leaves),
	  .max = CPUID_ENTRIES_MAX,
	  .help = "what its KVM supports" },
};

static const struct schema cpu_schema = { cpu_rows, ARRAY_SIZE(cpu_rows), sizeof(struct cpu_text),
					  0 };

void cpu_file_release(struct cpu_file *file)
{
	free(file->cpuid);
	file->cpuid = NULL;
}

static int open_kvm(struct kvm_system **ret_kvm, struct error *err)
{
	int r = kvm_open(-1, ret_kvm);

	if (r < 0)
		return error_set(err, r, EXIT_STATUS_HOST, "/dev/kvm: %s; see utsusu doctor",
				 strerror(-r));
	return 0;
}

int cpu_file_here(struct cpu_file *ret_file, struct error *err)
{
	struct cpu_file file = { 0 };
	struct kvm_system *kvm;
	int r = open_kvm(&kvm, err);

	if (r < 0)
		return r;
	if (gethostname(file.host, CPU_FILE_NAME_MAX) < 0 || !file.host[0])
		strcpy(file.host, "this-host");
	r = kvm_supported_cpuid(kvm, &file.cpuid);
	kvm_close(kvm);
	if (r < 0)
		return error_set(err, r, EXIT_STATUS_HOST,
				 "/dev/kvm: tells no CPUID: %s; see utsusu doctor", strerror(-r));
	*ret_file = file;
	return 0;
}

static int convert(const struct cpu_text *text, struct cpu_file *ret_file)
{
	struct kvm_cpuid2 *cpuid = cpuid_new();

	if (!cpuid)
		return -ENOMEM;
	for (uint32_t i = 0; i < text->n_leaves; i++) {
		const struct leaf *leaf = &text->leaves[i];
		int r = cpuid_put(cpuid, leaf->leaf, leaf->subleaf, leaf->indexed, leaf->registers);

		if (r < 0) {
			free(cpuid);
			return r;
		}
	}
	memcpy(ret_file->host, text->host, sizeof(text->host));
	ret_file->cpuid = cpuid;
	return 0;
}

static int decode_json(const json_t *json, const char *name, struct cpu_file *ret_file,
		       struct error *err)
{
	_cleanup_(freep) struct cpu_text *text = malloc(sizeof(*text));
	struct problems problems = { 0 };
	struct schema_source source = { .file = name, .problems = &problems };
	int r = -ENOMEM;

	if (text) {
		schema_init(&cpu_schema, text);
		if (schema_decode_json(&cpu_schema, text, json, &source)) {
			*err = problems.list[0];
			return err->code;
		}
		r = convert(text, ret_file);
	}
	if (r < 0)
		return error_set(err, r, EXIT_STATUS_HOST, "%s: %s; free some memory", name,
				 strerror(-r));
	return 0;
}

int cpu_file_decode(const char *text, size_t len, const char *name, struct cpu_file *ret_file,
		    struct error *err)
{
	json_error_t where;
	json_auto_t *json = json_loadb(text, len, JSON_REJECT_DUPLICATES, &where);

	if (!json)
		return error_set(
			err, -EINVAL, EXIT_STATUS_USAGE,
			"%s:%d:%d: is no JSON: %s; give what utsusu cpu-baseline --show printed",
			name, where.line, where.column, where.text);
	return decode_json(json, name, ret_file, err);
}

int cpu_file_read(const char *path, struct cpu_file *ret_file, struct error *err)
{
	_cleanup_(fd_closep) int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY);
	_cleanup_(freep) char *text = malloc(LIMIT_CONFIG_FILE);
	size_t len = 0;
	int r = fd < 0 ? -errno : !text ? -ENOMEM : fd_read_all(fd, text, LIMIT_CONFIG_FILE, &len);

	if (r < 0)
		return error_set(err, r, EXIT_STATUS_RESOURCE,
				 "%s: %s; give what utsusu cpu-baseline --show printed", path,
				 strerror(-r));
	return cpu_file_decode(text, len, path, ret_file, err);
}

json_t *cpu_file_encode(const struct cpu_file *file)
{
	_cleanup_(freep) struct cpu_text *text = calloc(1, sizeof(*text));

	if (!text)
		return NULL;
	memcpy(text->host, file->host, sizeof(text->host));
	text->n_leaves = MIN(file->cpuid->nent, CPUID_ENTRIES_MAX);
	for (uint32_t i = 0; i < text->n_leaves; i++) {
		const struct kvm_cpuid_entry2 *entry = &file->cpuid->entries[i];

		text->leaves[i] = (struct leaf){
			.leaf = entry->function,
			.subleaf = entry->index,
			.indexed = entry->flags & LEAF_INDEXED,
			.registers = { entry->eax, entry->ebx, entry->ecx, entry->edx },
		};
	}
	return schema_encode_json(&cpu_schema, text);
}
