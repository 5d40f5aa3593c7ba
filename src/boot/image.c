/* SPDX-License-Identifier: Apache-2.0 */
#include "boot/image.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>

#include "base/fd.h"

int image_refuse(const struct image *image, int code, struct error *err, const char *message)
{
	return error_set(err, code, EXIT_STATUS_RESOURCE, "%s %s: %s", image->option, image->path,
			 message);
}

int image_open(const char *option, const char *path, int fd, uint64_t limit,
	       struct image *ret_image, struct error *err)
{
	struct image image = { .option = option, .path = path, .fd = fd };
	struct stat st;

	if (fstat(fd, &st) < 0) {
		int code = -errno;

		return image_refuse(&image, code, err, strerror(-code));
	}
	if (!S_ISREG(st.st_mode))
		return image_refuse(&image, -EINVAL, err,
				    "not a regular file; name the image itself");
	if (st.st_size == 0)
		return image_refuse(&image, -ENODATA, err, "the file is empty");
	if ((uint64_t)st.st_size > limit)
		return error_set(err, -EFBIG, EXIT_STATUS_RESOURCE,
				 "%s %s: larger than %llu MiB, which is the limit", option, path,
				 (unsigned long long)limit >> 20);
	image.size = (uint64_t)st.st_size;
	*ret_image = image;
	return 0;
}

int image_head(const struct image *image, void *buf, size_t len, size_t *ret_len, struct error *err)
{
	size_t want = MIN(len, image->size);
	int r;

	r = fd_read_at(image->fd, buf, want, 0);
	if (r < 0)
		return image_refuse(image, r, err, strerror(-r));
	*ret_len = want;
	return 0;
}

int image_load(const struct image *image, uint64_t offset, uint64_t len, struct memory *memory,
	       gpa_t to, struct error *err)
{
	int r = memory_load_file(memory, to, image->fd, offset, len);

	if (r == -EFAULT)
		return image_refuse(
			image, r, err,
			"does not fit into the guest's memory; give it more with --memory");
	if (r == -ENODATA)
		return image_refuse(image, r, err,
				    "the file ended early: it changes while it is read");
	if (r < 0)
		return image_refuse(image, r, err, strerror(-r));
	return 0;
}
