/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* What one host's KVM can give a guest, as a JSON file: made there, compared elsewhere, so not
 * trusted. */

#include "api/schema.h"
#include "cpu/cpuid.h"

#define CPU_FILE_NAME_MAX 64

struct cpu_file {
	char host[CPU_FILE_NAME_MAX + 1];
	struct kvm_cpuid2 *cpuid; /* owned */
};

/* Asks this host's KVM. Errors name /dev/kvm. Released by cpu_file_release. */
_must_check_ int cpu_file_here(struct cpu_file *ret_file, struct error *err);
/* Reads what cpu_file_encode made. Errors name the file and the key. */
_must_check_ int cpu_file_read(const char *path, struct cpu_file *ret_file, struct error *err);
/* Decodes a text; `name` stands in messages. */
_must_check_ int cpu_file_decode(const char *text, size_t len, const char *name,
				 struct cpu_file *ret_file, struct error *err);
/* A new JSON object; NULL when out of memory. */
json_t *cpu_file_encode(const struct cpu_file *file);
void cpu_file_release(struct cpu_file *file);
