/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Which host this is, as its system knows it: the text of /etc/machine-id. For knowing this host's own files again, not for trust. */

#define HOST_ID_TEXT 33 /* 32 hex digits and the NUL */

/* "" where the system has none. Any thread. */
void host_id_read(char ret_text[HOST_ID_TEXT]);
