/* SPDX-License-Identifier: Apache-2.0 */
#include "wire/digest.h"

#include <errno.h>
#include <openssl/crypto.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <stdlib.h>

struct digest {
	EVP_MD *kind; /* fetched once: a look-up for each piece costs more than a small piece */
	EVP_MD_CTX *context;
};

int digest_new(struct digest **ret_digest)
{
	struct digest *digest = calloc(1, sizeof(*digest));

	if (!digest)
		return -ENOMEM;
	if (OPENSSL_init_crypto(OPENSSL_INIT_NO_LOAD_CONFIG, NULL) == 1) {
		digest->kind = EVP_MD_fetch(NULL, "SHA256", NULL);
		digest->context = EVP_MD_CTX_new();
	}
	if (!digest->kind || !digest->context) {
		ERR_clear_error();
		digest_free(digest);
		return -ENOMEM;
	}
	*ret_digest = digest;
	return 0;
}

void digest_free(struct digest *digest)
{
	if (!digest)
		return;
	EVP_MD_CTX_free(digest->context);
	EVP_MD_free(digest->kind);
	free(digest);
}

int digest_run(struct digest *digest, const void *bytes, size_t len, uint8_t ret_hash[DIGEST_BYTES])
{
	if (EVP_DigestInit_ex2(digest->context, digest->kind, NULL) == 1 &&
	    EVP_DigestUpdate(digest->context, bytes, len) == 1 &&
	    EVP_DigestFinal_ex(digest->context, ret_hash, NULL) == 1)
		return 0;
	ERR_clear_error();
	return -ENOMEM;
}
