/* SPDX-License-Identifier: Apache-2.0 */
#include "peer/identity.h"

#include <errno.h>
#include <fcntl.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/rand.h>
#include <openssl/x509v3.h>
#include <string.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "host/state_dir.h"

#define KEY_FILE "host.key"
#define CERTIFICATE_FILE "host.crt"
#define FILE_MAX KIB(64)
/* Pinned by its key, a certificate never ends; the field must hold something: RFC 5280, 4.1.2.5, "no well-defined end". */
#define NO_END "99991231235959Z"

struct identity {
	EVP_PKEY *key;
	STACK_OF(X509) * chain; /* the host's own first */
	char fingerprint[PEER_FINGERPRINT_MAX];
	char host[PEER_NAME_MAX];
};

DEFINE_CLEANUP(EVP_PKEY, EVP_PKEY_free, keyp)
DEFINE_CLEANUP(X509, X509_free, certificatep)
DEFINE_CLEANUP(BIO, BIO_free_all, biop)
DEFINE_CLEANUP(struct identity, identity_free, identityp)

static void host_name(char ret_name[PEER_NAME_MAX])
{
	struct utsname host;

	if (uname(&host) < 0 || !peer_name_valid(host.nodename))
		snprintf(ret_name, PEER_NAME_MAX, "host");
	else
		snprintf(ret_name, PEER_NAME_MAX, "%.63s", host.nodename);
}

int identity_fingerprint_of(const X509 *certificate, char ret_text[PEER_FINGERPRINT_MAX])
{
	unsigned char digest[EVP_MAX_MD_SIZE], base64[EVP_MAX_MD_SIZE * 2];
	_cleanup_(freep) unsigned char *der = NULL;
	int len = i2d_X509_PUBKEY(X509_get_X509_PUBKEY(certificate), &der);
	unsigned int digest_len;

	if (len <= 0 || !EVP_Digest(der, (size_t)len, digest, &digest_len, EVP_sha256(), NULL))
		return -EINVAL;
	EVP_EncodeBlock(base64, digest, (int)digest_len);
	/* 32 bytes are 43 digits and one '=' that says nothing. */
	snprintf(ret_text, PEER_FINGERPRINT_MAX, PEER_FINGERPRINT_PREFIX "%.43s", base64);
	return 0;
}

static int set_names(X509 *certificate, const char *host)
{
	X509_NAME *name = X509_get_subject_name(certificate);
	_cleanup_(freep) char *alternative = NULL;
	X509_EXTENSION *extension;
	int ok;

	if (!X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_ASC, (const unsigned char *)host, -1,
					-1, 0) ||
	    !X509_set_issuer_name(certificate, name) || asprintf(&alternative, "DNS:%s", host) < 0)
		return -ENOMEM;
	extension = X509V3_EXT_conf_nid(NULL, NULL, NID_subject_alt_name, alternative);
	ok = extension && X509_add_ext(certificate, extension, -1);
	X509_EXTENSION_free(extension);
	return ok ? 0 : -ENOMEM;
}

static int set_serial(X509 *certificate)
{
	uint64_t serial;

	if (RAND_bytes((unsigned char *)&serial, sizeof(serial)) != 1)
		return -EIO;
	/* Positive: RFC 5280, 4.1.2.2. */
	return ASN1_INTEGER_set_uint64(X509_get_serialNumber(certificate), serial >> 1 | 1)
		       ? 0
		       : -ENOMEM;
}

static int make_certificate(EVP_PKEY *key, const char *host, X509 **ret_certificate)
{
	_cleanup_(certificatep) X509 *certificate = X509_new();

	if (!certificate || !X509_set_version(certificate, X509_VERSION_3) ||
	    set_serial(certificate) < 0 ||
	    !X509_gmtime_adj(X509_getm_notBefore(certificate), -24 * 3600) ||
	    !ASN1_TIME_set_string_X509(X509_getm_notAfter(certificate), NO_END) ||
	    set_names(certificate, host) < 0 || !X509_set_pubkey(certificate, key) ||
	    !X509_sign(certificate, key, NULL)) /* Ed25519 has its own digest */
		return -EIO;
	*ret_certificate = TAKE_PTR(certificate);
	return 0;
}

static int write_pem(int state_fd, const char *name, BIO *pem)
{
	char *text;
	long len = BIO_get_mem_data(pem, &text);

	return len > 0 ? state_dir_write(state_fd, name, text, (size_t)len, 0600) : -EIO;
}

/* The certificate first: a key without one would look made. */
static int write_identity(int state_fd, EVP_PKEY *key, X509 *certificate)
{
	_cleanup_(biop) BIO *key_pem = BIO_new(BIO_s_secmem());
	_cleanup_(biop) BIO *certificate_pem = BIO_new(BIO_s_mem());
	int r;

	if (!key_pem || !certificate_pem || !PEM_write_bio_X509(certificate_pem, certificate) ||
	    !PEM_write_bio_PrivateKey(key_pem, key, NULL, NULL, 0, NULL, NULL))
		return -ENOMEM;
	r = write_pem(state_fd, CERTIFICATE_FILE, certificate_pem);
	return r < 0 ? r : write_pem(state_fd, KEY_FILE, key_pem);
}

int identity_make(int state_fd, bool anew, struct error *err)
{
	_cleanup_(keyp) EVP_PKEY *key = NULL;
	_cleanup_(certificatep) X509 *certificate = NULL;
	char host[PEER_NAME_MAX];
	int r;

	if (!anew && faccessat(state_fd, KEY_FILE, F_OK, AT_SYMLINK_NOFOLLOW) == 0)
		return error_set(
			err, -EEXIST, EXIT_STATUS_BUSY,
			"init: this host has a key already, by which others know it; --anew makes "
			"another, and each of them must then add this host again");
	host_name(host);
	key = EVP_PKEY_Q_keygen(NULL, NULL, "ED25519");
	r = key ? make_certificate(key, host, &certificate) : -EIO;
	if (r == 0)
		r = write_identity(state_fd, key, certificate);
	if (r < 0)
		return error_set(
			err, r, EXIT_STATUS_HOST,
			"init: the host's key cannot be made: %s; see that the state directory "
			"has room",
			strerror(-r));
	return 0;
}

static int read_pem(int state_fd, const char *name, BIO **ret_pem, struct error *err)
{
	_cleanup_(freep) char *text = NULL;
	size_t len;
	int r = state_dir_read(state_fd, name, FILE_MAX, &text, &len);

	if (r == -ENOENT)
		return error_set(
			err, r, EXIT_STATUS_HOST,
			"this host has no key yet, by which others could know it; as the user of "
			"the daemon: utsusud init");
	if (r < 0)
		return error_set(err, r, EXIT_STATUS_HOST, "%s in the state directory: %s", name,
				 strerror(-r));
	*ret_pem = BIO_new(BIO_s_mem());
	if (*ret_pem && BIO_write(*ret_pem, text, (int)len) == (int)len)
		r = 0;
	else
		r = -ENOMEM;
	OPENSSL_cleanse(text, len);
	return r;
}

static int load_chain(struct identity *identity, BIO *pem)
{
	X509 *certificate;

	identity->chain = sk_X509_new_null();
	while (identity->chain && (certificate = PEM_read_bio_X509(pem, NULL, NULL, NULL)))
		if (!sk_X509_push(identity->chain, certificate)) {
			X509_free(certificate);
			return -ENOMEM;
		}
	if (sk_X509_num(identity->chain) < 1)
		return -EINVAL;
	return identity_fingerprint_of(sk_X509_value(identity->chain, 0), identity->fingerprint);
}

static int load(struct identity *identity, int state_fd, struct error *err)
{
	_cleanup_(biop) BIO *key = NULL;
	_cleanup_(biop) BIO *chain = NULL;
	int r = read_pem(state_fd, KEY_FILE, &key, err);

	if (r == 0)
		r = read_pem(state_fd, CERTIFICATE_FILE, &chain, err);
	if (r < 0)
		return r;
	identity->key = PEM_read_bio_PrivateKey(key, NULL, NULL, NULL);
	if (!identity->key || load_chain(identity, chain) < 0 ||
	    !X509_check_private_key(sk_X509_value(identity->chain, 0), identity->key))
		return error_set(
			err, -EINVAL, EXIT_STATUS_HOST,
			KEY_FILE
			" and " CERTIFICATE_FILE " in the state directory do not belong "
			"together or are damaged; put back what was there, or make new ones: "
			"utsusud init --anew");
	return 0;
}

int identity_load(int state_fd, struct identity **ret_identity, struct error *err)
{
	_cleanup_(identityp) struct identity *identity = calloc(1, sizeof(*identity));
	int r = identity ? load(identity, state_fd, err) : -ENOMEM;

	if (r < 0)
		return error_set(err, r, EXIT_STATUS_HOST, "the host's key cannot be read: %s",
				 strerror(-r));
	host_name(identity->host);
	*ret_identity = TAKE_PTR(identity);
	return 0;
}

void identity_free(struct identity *identity)
{
	if (!identity)
		return;
	EVP_PKEY_free(identity->key);
	sk_X509_pop_free(identity->chain, X509_free);
	free(identity);
}

const char *identity_fingerprint(const struct identity *identity)
{
	return identity->fingerprint;
}

const char *identity_host(const struct identity *identity)
{
	return identity->host;
}

int identity_use(const struct identity *identity, SSL_CTX *context)
{
	if (SSL_CTX_use_certificate(context, sk_X509_value(identity->chain, 0)) != 1 ||
	    SSL_CTX_use_PrivateKey(context, identity->key) != 1)
		return -EINVAL;
	for (int i = 1; i < sk_X509_num(identity->chain); i++)
		if (SSL_CTX_add1_chain_cert(context, sk_X509_value(identity->chain, i)) != 1)
			return -ENOMEM;
	return 0;
}
