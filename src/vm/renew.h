/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* A VM that was loaded as a second one of its kind: what must not be the same twice is made new. */

#include "vm/vm.h"

/* A new VM generation ID, which the guest is told of, and the MAC addresses of this VM where its configuration names none. (A guest
 * that runs reads its MAC address again when it sets its network device up anew.) Control thread, after vm_load, before the VM
 * runs. */
_must_check_ int vm_renew(struct vm *vm, struct error *err);
