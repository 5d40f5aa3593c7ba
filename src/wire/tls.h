/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* TLS as streams use it: version 1.3, one external pre-shared key (RFC 8446, 4.2.11), no certificate, no ticket. */

#include <openssl/ssl.h>

#include "wire/stream.h"

/* A connection that has read and written nothing yet. `key` is borrowed until the handshake is over. No file is read: the system's
 * OpenSSL configuration does not reach here. */
_must_check_ int tls_new(enum stream_role role, const struct stream_key *key, SSL **ret_ssl);
/* After the handshake: whether it rests on the pre-shared key and on nothing else. */
bool tls_is_ours(const SSL *ssl);
