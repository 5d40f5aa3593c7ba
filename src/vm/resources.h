/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* What a VM holds of its host, opened and locked before anything of the VM exists: a refusal then leaves
 * nothing behind. */

#include "block/block.h"
#include "host/handed.h"
#include "kvm/kvm.h"
#include "net/net.h"
#include "vm/config.h"

struct vm_resources {
	bool arriving; /* the VM is to be loaded: its kernel is for resets only, its disks are another's until it owns them */
	int kvm_fd;    /* /dev/kvm; -1 once KVM took it */
	int kernel_fd, initrd_fd;	   /* initrd: -1 when there is none */
	int memory_fd;			   /* file of guest RAM, -1: the VM makes a memfd */
	struct block *blocks[LIMIT_DISKS]; /* NULL once a device took it */
	struct net *nets[LIMIT_NETS];
	int vhost_fds[LIMIT_NETS]; /* -1: none */
	int tap_fds[LIMIT_NETS];   /* borrowed from the net; -1: none */
	/* Below all filters, borrowed from whoever has it now; NULL: there is none, or it is not ours to hand on. */
	const struct block *raws[LIMIT_DISKS];
	struct net *taps[LIMIT_NETS];
	bool inherited; /* RAM, disks and taps are in use by the process that they were opened by, until vm_resources_wake */
};

void vm_resources_init(struct vm_resources *resources);
/* Opens all that `config` names (`arriving` is set before); on failure what was opened is closed again. */
_must_check_ int vm_resources_open(const struct vm_config *config, struct vm_resources *resources,
				   struct error *err);
/*
 * The same with what another process of this VM has open (its RAM is in memory_fd already): no path is opened but /dev/kvm, no
 * lock is taken anew. Until vm_resources_wake nothing of a tap is changed, and nothing may run that touches RAM or a disk.
 */
_must_check_ int vm_resources_inherit(const struct vm_config *config,
				      struct vm_resources *resources, struct handed *handed,
				      struct error *err);
void vm_resources_wake(struct vm_resources *resources);
/* The other end: sends what was opened for `config`, while a VM of it runs. */
_must_check_ int vm_resources_hand_over(const struct vm_config *config,
					const struct vm_resources *resources, int sock);
void vm_resources_close(struct vm_resources *resources);
