/* SPDX-License-Identifier: Apache-2.0 */
#include "wire/compress.h"

#include <errno.h>
#include <stdlib.h>
#include <zstd.h>
#include <zstd_errors.h>

#include "base/endian.h"

#define LEVEL_MIN -7
#define LEVEL_MAX 19

/* The contexts by the names that they have in this tree. */
static ZSTD_CCtx *to_zstd(struct compressor *compressor)
{
	return (ZSTD_CCtx *)compressor;
}

static ZSTD_DCtx *to_unzstd(struct expander *expander)
{
	return (ZSTD_DCtx *)expander;
}

static int set(ZSTD_CCtx *context, ZSTD_cParameter parameter, int value)
{
	return ZSTD_isError(ZSTD_CCtx_setParameter(context, parameter, value)) ? -EINVAL : 0;
}

int compressor_set_level(struct compressor *compressor, int level)
{
	if (level < LEVEL_MIN || level > LEVEL_MAX)
		return -EINVAL;
	return set(to_zstd(compressor), ZSTD_c_compressionLevel, level);
}

int compressor_new(int level, struct compressor **ret_compressor)
{
	struct compressor *compressor = (struct compressor *)ZSTD_createCCtx();
	int r;

	if (!compressor)
		return -ENOMEM;
	r = compressor_set_level(compressor, level);
	if (r == 0)
		r = set(to_zstd(compressor), ZSTD_c_contentSizeFlag, 1);
	if (r < 0) {
		compressor_free(compressor);
		return r;
	}
	*ret_compressor = compressor;
	return 0;
}

void compressor_free(struct compressor *compressor)
{
	ZSTD_freeCCtx(to_zstd(compressor));
}

int compressor_run(struct compressor *compressor, const void *bytes, size_t len, void *buf,
		   size_t room, size_t *ret_len)
{
	size_t n;

	if (len == 0 || len > COMPRESS_MAX)
		return -EINVAL;
	n = ZSTD_compress2(to_zstd(compressor), buf, room, bytes, len);
	if (ZSTD_isError(n))
		return ZSTD_getErrorCode(n) == ZSTD_error_dstSize_tooSmall ? -ENOSPC : -ENOMEM;
	*ret_len = n;
	return 0;
}

int expander_new(struct expander **ret_expander)
{
	struct expander *expander = (struct expander *)ZSTD_createDCtx();

	if (!expander)
		return -ENOMEM;
	*ret_expander = expander;
	return 0;
}

void expander_free(struct expander *expander)
{
	ZSTD_freeDCtx(to_unzstd(expander));
}

int expander_run(struct expander *expander, const void *bytes, size_t len, void *buf,
		 size_t expected)
{
	if (expected == 0 || expected > COMPRESS_MAX)
		return -EBADMSG;
	/* The library may know formats of its youth, whose decoders nobody looks after. */
	if (len < 4 || le_load(bytes, 4) != ZSTD_MAGICNUMBER)
		return -EBADMSG;
	/* Neither an unknown length nor one of the errors equals what is expected. */
	if (ZSTD_getFrameContentSize(bytes, len) != expected ||
	    ZSTD_findFrameCompressedSize(bytes, len) != len)
		return -EBADMSG;
	if (ZSTD_decompressDCtx(to_unzstd(expander), buf, expected, bytes, len) != expected)
		return -EBADMSG;
	return 0;
}
