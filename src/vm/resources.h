/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* What a VM holds of its host, opened and locked before anything of the VM exists: a refusal then leaves
 * nothing behind. */

#include "block/block.h"
#include "kvm/kvm.h"
#include "net/net.h"
#include "vm/config.h"

struct vm_resources {
	int kvm_fd;			   /* /dev/kvm; -1 once KVM took it */
	int kernel_fd, initrd_fd;	   /* initrd: -1 when there is none */
	int memory_fd;			   /* memfd of guest RAM, -1: the VM makes one */
	struct block *blocks[LIMIT_DISKS]; /* NULL once a device took it */
	struct net *nets[LIMIT_NETS];
	int vhost_fds[LIMIT_NETS]; /* -1: none */
	int tap_fds[LIMIT_NETS];   /* borrowed from the net; -1: none */
};

void vm_resources_init(struct vm_resources *resources);
/* Opens all that `config` names; on failure what was opened is closed again. */
_must_check_ int vm_resources_open(const struct vm_config *config, struct vm_resources *resources,
				   struct error *err);
void vm_resources_close(struct vm_resources *resources);
