/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* The configuration of a VM: its one table, and reading it from files and descriptors. */

#include "api/schema.h"
#include "vm/config.h"

/* For struct vm_config. THE list of what `utsusu run` and a configuration file know. */
extern const struct schema config_schema;

/* Decodes a JSON text over `config`. `name` stands in messages. Syntax errors tell line and column.
 * Returns the number of problems added. */
size_t config_decode(struct vm_config *config, const char *text, size_t len, const char *name,
		     struct problems *problems);

/* Reads a configuration file (at most LIMIT_CONFIG_FILE) over `config`. */
size_t config_read_file(struct vm_config *config, const char *path, struct problems *problems);

/* Hands a configuration to another program: a sealed memfd (not close-on-exec) that holds it as
 * JSON. */
_must_check_ int config_to_fd(const struct vm_config *config, int *ret_fd);
/* The other end: decodes, completes and checks again, for what comes through a descriptor is
 * untrusted too. `config` is initialised here; 0, or -EINVAL with the first problem in `err`. */
_must_check_ int config_from_fd(int fd, struct vm_config *config, struct error *err);
