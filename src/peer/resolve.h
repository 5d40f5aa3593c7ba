/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* `utsusu resolve`: what both hosts know of a VM, and the operator's word where one of them is gone for good. One thread. */

#include "peer/host.h"
#include "peer/request.h"

/*
 * Answers CONTROL_RESOLVE:
 *   {"ok": true, "name": NAME, "state": "here"|"there"|"doubt"|"not-taken"|"none", "peer": HOST, "message": "...",
 *    "here": {"vm": bool, "given": "open"|"ran"|"never", "generation": N},
 *    "there": {"vm": bool, "result": "open"|"ran"|"never"} or {"error": "..."}}
 * A word is obeyed only while the other host cannot be asked: its own answer goes before anybody's word.
 */
void resolve(struct peer_host *host, const struct control_request *request, int client);
