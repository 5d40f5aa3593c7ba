/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * Every limit on what others (a guest, a peer, a file, a person) can make grow. A limit is tested
 * before anything is allocated.
 */

#include "base/macros.h"

#define LIMIT_VCPUS 64	       /* vCPUs of one VM, those that may come later included */
#define LIMIT_MEMORY GIB(1024) /* guest RAM */
#define LIMIT_DISKS 24	       /* of one VM; the PCI bus has 32 slots */
#define LIMIT_NETS 8	       /* network devices of one VM */
#define LIMIT_BLOCK_FILTERS 8  /* filters on one disk */
#define LIMIT_NET_FILTERS 8    /* filters on one network attachment */
#define LIMIT_NET_HELD 1024    /* frames that a delaying filter holds, each way and queue */
#define LIMIT_NET_HOLD                                                                             \
	MIB(16) /* bytes that wait for a backup, each queue, 24 more for each frame included */
#define LIMIT_CONSOLE_HOLD KIB(256) /* the same of a console's output */
#define LIMIT_QUEUES 16		 /* queues of one block device, queue pairs of one network device */
#define LIMIT_QUEUE_SIZE 1024	 /* descriptors in a virtqueue; virtio 1.2, 2.7: at most 32768 */
#define LIMIT_NAME 64		 /* bytes of a VM's name with the NUL */
#define LIMIT_SERIAL 20		 /* bytes of a disk's serial; virtio 1.2, 5.2.6 */
#define LIMIT_CONFIG_FILE MIB(1) /* bytes of a configuration file */
#define LIMIT_CMDLINE 4096	 /* bytes of a kernel command line with the NUL */
#define LIMIT_KERNEL GIB(1)	 /* bytes of a kernel image */
#define LIMIT_INITRD GIB(2)	 /* bytes of an initial RAM disk */
#define LIMIT_REQUEST KIB(64)	 /* bytes of one JSON request line on the VM's socket */
#define LIMIT_CLIENTS 16	 /* clients at once on the VM's socket */
#define LIMIT_STATE_SECTION MIB(16) /* bytes of one device's saved state */
#define LIMIT_STATE_NAME 64	    /* bytes of a section's or field's name */
#define LIMIT_DEVICES 64	    /* on one board */
#define LIMIT_BUS_REGIONS 512	    /* address ranges claimed by devices */
#define LIMIT_GDB_PACKET KIB(16)    /* bytes of a packet from a debugger */
#define LIMIT_BREAKPOINTS 256	    /* software breakpoints of a debugger */
#define LIMIT_DELTA_CACHE MIB(64)   /* bytes that a mover keeps of the pages that it sent */
#define LIMIT_DESCRIPTORS_SENT 16   /* descriptors in one message between our processes */
#define LIMIT_SYMBOLS 2097152	    /* of one file; a kernel with all its modules has 200,000 */
#define LIMIT_SYMBOL_NAME 256	    /* bytes that are kept of a symbol's name with the NUL */
#define LIMIT_SYMBOL_NAMES MIB(256) /* bytes of all names of one file */
#define LIMIT_SYMBOL_MAP MIB(256)   /* bytes of a System.map or kallsyms */
#define LIMIT_PEERS 256		    /* other hosts that this one knows */
#define LIMIT_PEER_LINE KIB(256)    /* bytes of one JSON line between two daemons */
#define LIMIT_PEER_HANDLERS 64	    /* connections that a daemon serves at once */
#define LIMIT_PEER_UNKNOWN                                                                         \
	32 /* of these from one address that have not proved who they are; a move begins 16 */
#define LIMIT_PEER_DISKS 256	       /* disks, and networks, in this host's own list */
#define LIMIT_OWNERSHIP_RECORD 512     /* bytes of a VM's ownership record as text, with the NUL */
#define LIMIT_ARBITER_ANSWER KIB(64)   /* bytes of one answer of the arbiter */
#define LIMIT_ARBITER_TOKEN 4096       /* bytes of a token of its, with the NUL */
#define LIMIT_ARBITER_ENDPOINTS 9      /* members of its cluster; etcd advises at most 7 */
#define LIMIT_JOURNAL GIB(64)	       /* bytes of writes that a backup keeps */
#define LIMIT_MIRRORED_DISK GIB(16384) /* bytes of a protected VM's disk: a map of it is 2 MiB */
