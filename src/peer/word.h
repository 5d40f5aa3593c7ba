/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * A person's word that the other side of a protected VM has ended, where no etcd decides (peer/manual.h). It is noted only while this side waits for it:
 * as long as the other side is heard, nobody needs to say that it is dead. One thread, a handler's.
 */

#include "peer/host.h"
#include "peer/request.h"

void word(struct peer_host *host, const struct control_request *request, int client);
