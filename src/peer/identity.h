/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * Who this host is to others: a key and a certificate in the state directory, made once by `utsusud init`.
 *
 *   STATE/host.key   the private key (Ed25519), mode 0600; no other process of ours gets it
 *   STATE/host.crt   a certificate of its own, or a chain that some authority signed for this key
 *
 * A host is known by its fingerprint: SHA-256 of the certificate's public key (SubjectPublicKeyInfo), written as SSH does. A
 * new certificate for the same key is the same host. Any thread.
 */

#include <openssl/ssl.h>

#include "base/error.h"
#include "peer/peers.h"

struct identity;

/* Makes key and certificate. -EEXIST when there is a key, unless `anew`. */
_must_check_ int identity_make(int state_fd, bool anew, struct error *err);
/* -ENOENT: utsusud init was never run. Freed by identity_free. */
_must_check_ int identity_load(int state_fd, struct identity **ret_identity, struct error *err);
void identity_free(struct identity *identity);

const char *identity_fingerprint(const struct identity *identity);
/* This host's name, as its certificate was made for. */
const char *identity_host(const struct identity *identity);
/* Lets `context` speak as this host. */
_must_check_ int identity_use(const struct identity *identity, SSL_CTX *context);

/* The fingerprint of any certificate. */
_must_check_ int identity_fingerprint_of(const X509 *certificate,
					 char ret_text[PEER_FINGERPRINT_MAX]);
