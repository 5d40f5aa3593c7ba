/* SPDX-License-Identifier: Apache-2.0 */
#include "host/succession.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/fd.h"

#define FILE_BYTES 4096

struct succession {
	uint32_t word; /* atomic: enum succession_verdict */
};

int succession_make(void)
{
	_cleanup_(fd_closep) int fd = memfd_create("succession", MFD_CLOEXEC | MFD_ALLOW_SEALING);

	if (fd < 0 || ftruncate(fd, FILE_BYTES) < 0 ||
	    fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) < 0)
		return -errno;
	return TAKE_FD(fd);
}

int succession_map(int fd, struct succession **ret_succession)
{
	const int seals = fcntl(fd, F_GET_SEALS);
	struct stat st;
	void *map;

	if (seals < 0 || !(seals & F_SEAL_SHRINK) || fstat(fd, &st) < 0 || st.st_size != FILE_BYTES)
		return -EINVAL;
	map = mmap(NULL, FILE_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (map == MAP_FAILED)
		return -errno;
	*ret_succession = map;
	return 0;
}

void succession_unmap(struct succession *succession)
{
	if (succession)
		munmap(succession, FILE_BYTES);
}

/* The file is others' to write, too: a word that is none of ours passes nothing on. */
static enum succession_verdict verdict_of(uint32_t word)
{
	if (word == SUCCESSION_OPEN || word == SUCCESSION_PASSED)
		return (enum succession_verdict)word;
	return SUCCESSION_KEPT;
}

enum succession_verdict succession_decide(struct succession *succession,
					  enum succession_verdict wanted)
{
	uint32_t word = SUCCESSION_OPEN;

	if (__atomic_compare_exchange_n(&succession->word, &word, wanted, false, __ATOMIC_SEQ_CST,
					__ATOMIC_SEQ_CST))
		return wanted;
	return verdict_of(word);
}

enum succession_verdict succession_read(const struct succession *succession)
{
	return verdict_of(__atomic_load_n(&succession->word, __ATOMIC_SEQ_CST));
}
