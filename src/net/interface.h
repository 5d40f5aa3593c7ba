/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * The index of the network interface `name`, or 0 when there is none (or it cannot be asked). As if_nametoindex(3); but that one's
 * ioctl has the kernel start modprobe, twice, for each name that it does not know (dev_load), which takes longer than all else
 * that a VM's start asks of the network. Any thread.
 */
unsigned int interface_index(const char *name);
