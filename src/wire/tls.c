/* SPDX-License-Identifier: Apache-2.0 */
#include "wire/tls.h"

#include <errno.h>
#include <string.h>
#include <openssl/crypto.h>
#include <openssl/err.h>
#include <openssl/rand.h>

/*
 * Both suites hash with SHA-256, so the key fits whichever is taken. Each side puts first what its CPU does faster; the accepting
 * one decides by its own order, but lets ChaCha20 win when either side puts that first: the slower CPU bounds the stream.
 */
#define AES "TLS_AES_128_GCM_SHA256"
#define CHACHA "TLS_CHACHA20_POLY1305_SHA256"

static const char *suites_of_this_cpu(void)
{
	return __builtin_cpu_supports("aes") && __builtin_cpu_supports("pclmul") ? AES ":" CHACHA
										 : CHACHA ":" AES;
}

/* Any suite names the hash that the key goes with. */
static SSL_SESSION *session_of(SSL *ssl, const uint8_t secret[STREAM_KEY_BYTES])
{
	static const uint8_t suite[] = { 0x13, 0x01 }; /* TLS_AES_128_GCM_SHA256; RFC 8446, B.4 */
	const SSL_CIPHER *cipher = SSL_CIPHER_find(ssl, suite);
	SSL_SESSION *session = SSL_SESSION_new();

	if (session && cipher && SSL_SESSION_set1_master_key(session, secret, STREAM_KEY_BYTES) &&
	    SSL_SESSION_set_cipher(session, cipher) &&
	    SSL_SESSION_set_protocol_version(session, TLS1_3_VERSION))
		return session;
	SSL_SESSION_free(session);
	return NULL;
}

static int offer_key(SSL *ssl, const EVP_MD *md _unused_, const unsigned char **ret_identity,
		     size_t *ret_len, SSL_SESSION **ret_session)
{
	const struct stream_key *key = SSL_get_app_data(ssl);

	*ret_session = session_of(ssl, key->secret);
	*ret_identity = (const unsigned char *)key->identity;
	*ret_len = strlen(key->identity);
	return *ret_session != NULL;
}

/* An identity that is not ours gets a key that nobody has: the peer sees what it would see had its key been wrong. */
static int find_key(SSL *ssl, const unsigned char *name, size_t len, SSL_SESSION **ret_session)
{
	const struct stream_key *key = SSL_get_app_data(ssl);
	uint8_t nobodys[STREAM_KEY_BYTES];
	const bool ours = len == strlen(key->identity) && memcmp(name, key->identity, len) == 0;

	if (RAND_bytes(nobodys, sizeof(nobodys)) != 1)
		return 0;
	*ret_session = session_of(ssl, ours ? key->secret : nobodys);
	return *ret_session != NULL;
}

static bool restrict_context(SSL_CTX *context)
{
	SSL_CTX_set_options(context, SSL_OP_NO_TICKET | SSL_OP_CIPHER_SERVER_PREFERENCE |
					     SSL_OP_PRIORITIZE_CHACHA | SSL_OP_NO_COMPRESSION);
	SSL_CTX_clear_options(context, SSL_OP_ENABLE_MIDDLEBOX_COMPAT);
	SSL_CTX_set_session_cache_mode(context, SSL_SESS_CACHE_OFF);
	SSL_CTX_set_psk_use_session_callback(context, offer_key);
	SSL_CTX_set_psk_find_session_callback(context, find_key);
	return SSL_CTX_set_min_proto_version(context, TLS1_3_VERSION) &&
	       SSL_CTX_set_max_proto_version(context, TLS1_3_VERSION) &&
	       SSL_CTX_set_ciphersuites(context, suites_of_this_cpu()) &&
	       SSL_CTX_set1_groups_list(context, "X25519") && SSL_CTX_set_num_tickets(context, 0);
}

/* Whole segments of the wire in one call; the records are then decrypted where they lie. */
#define READ_BYTES KIB(128)

static SSL *new_connection(SSL_CTX *context, enum stream_role role, const struct stream_key *key)
{
	SSL *ssl = SSL_new(context);

	if (!ssl)
		return NULL;
	SSL_set_app_data(ssl, (void *)key);
	SSL_set_read_ahead(ssl, 1);
	SSL_set_default_read_buffer_len(ssl, READ_BYTES);
	if (role == STREAM_CONNECTS) {
		/* No certificate can be verified, for there is no authority: one in place of the key fails here. */
		SSL_set_verify(ssl, SSL_VERIFY_PEER, NULL);
		SSL_set_connect_state(ssl);
	} else {
		SSL_set_accept_state(ssl);
	}
	return ssl;
}

int tls_new(enum stream_role role, const struct stream_key *key, SSL **ret_ssl)
{
	SSL_CTX *context;
	SSL *ssl = NULL;

	if (memchr(key->identity, 0, STREAM_IDENTITY_MAX) == NULL)
		return -EINVAL;
	if (OPENSSL_init_ssl(OPENSSL_INIT_NO_LOAD_CONFIG, NULL) != 1)
		return -ENOMEM;
	context = SSL_CTX_new(TLS_method());
	if (context && restrict_context(context))
		ssl = new_connection(context, role, key);
	SSL_CTX_free(context); /* the connection has a reference of its own */
	ERR_clear_error();
	if (!ssl)
		return -ENOMEM;
	*ret_ssl = ssl;
	return 0;
}

bool tls_is_ours(const SSL *ssl)
{
	return SSL_version(ssl) == TLS1_3_VERSION && SSL_session_reused(ssl) == 1;
}
