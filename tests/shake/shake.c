/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Preloaded into a test (scripts/shake): now and then a thread gives way, or sleeps up to 25 ms, where it meets others - at locks,
 * descriptors, starts of threads. What happens on a busy computer once in a thousand runs happens here in some.
 */

#include <dlfcn.h>
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "base/macros.h"

/* The next definition of a function that this file replaces. */
#define NEXT(name) __typeof__(name) *next_##name = (__typeof__(name) *)dlsym(RTLD_NEXT, #name)

static __thread uint64_t state; /* of this thread's random numbers; 0: not begun */

/* Programs that the test starts run without us: their sandboxes know nothing of naps. */
__attribute__((constructor)) static void begin(void)
{
	unsetenv("LD_PRELOAD");
}

static uint64_t next_random(void)
{
	const char *seed = getenv("UTSUSU_SHAKE");

	if (!state)
		state = (seed ? strtoull(seed, NULL, 10) : 0) * 0x9e3779b97f4a7c15ULL ^
			(uint64_t)gettid() << 32 ^ (uintptr_t)&state ^ 1;
	state ^= state >> 12;
	state ^= state << 25;
	state ^= state >> 27;
	return (state * 0x2545f4914f6cdd1dULL) >> 16;
}

/* Without the C library's function, which others may replace too. */
static void nap(uint64_t us)
{
	const struct timespec length = { .tv_nsec = (long)(us * NSEC_PER_USEC) };
	int saved = errno;

	syscall(SYS_clock_nanosleep, CLOCK_MONOTONIC, 0, &length, NULL);
	errno = saved;
}

static void shake(void)
{
	uint64_t random = next_random(), kind = random % 512;

	random /= 512;
	if (kind < 64)
		syscall(SYS_sched_yield);
	else if (kind < 96)
		nap(random % 100);
	else if (kind < 112)
		nap(random % 1500);
	else if (kind < 114)
		nap(random % 25000);
}

int pthread_mutex_lock(pthread_mutex_t *mutex)
{
	NEXT(pthread_mutex_lock);

	shake();
	return next_pthread_mutex_lock(mutex);
}

int pthread_mutex_unlock(pthread_mutex_t *mutex)
{
	NEXT(pthread_mutex_unlock);
	int r = next_pthread_mutex_unlock(mutex);

	shake();
	return r;
}

ssize_t read(int fd, void *buf, size_t len)
{
	NEXT(read);

	shake();
	return next_read(fd, buf, len);
}

ssize_t write(int fd, const void *buf, size_t len)
{
	NEXT(write);
	ssize_t n;

	shake();
	n = next_write(fd, buf, len);
	shake();
	return n;
}

ssize_t send(int fd, const void *buf, size_t len, int flags)
{
	NEXT(send);

	shake();
	return next_send(fd, buf, len, flags);
}

ssize_t recv(int fd, void *buf, size_t len, int flags)
{
	NEXT(recv);
	ssize_t n = next_recv(fd, buf, len, flags);

	shake();
	return n;
}

int epoll_wait(int fd, struct epoll_event *events, int n, int timeout)
{
	NEXT(epoll_wait);
	int r = next_epoll_wait(fd, events, n, timeout);

	shake();
	return r;
}

int poll(struct pollfd *fds, nfds_t n, int timeout)
{
	NEXT(poll);
	int r = next_poll(fds, n, timeout);

	shake();
	return r;
}

int usleep(useconds_t us)
{
	NEXT(usleep);
	int r = next_usleep(us);

	shake();
	return r;
}

struct entry {
	void *(*run)(void *arg);
	void *arg;
};

static void *enter(void *arg)
{
	struct entry entry = *(struct entry *)arg;

	free(arg);
	if (next_random() % 2)
		nap(next_random() % 5000);
	return entry.run(entry.arg);
}

int pthread_create(pthread_t *thread, const pthread_attr_t *attributes, void *(*run)(void *),
		   void *arg)
{
	NEXT(pthread_create);
	struct entry *entry = malloc(sizeof(*entry));
	int r;

	if (!entry)
		return EAGAIN;
	*entry = (struct entry){ run, arg };
	r = next_pthread_create(thread, attributes, enter, entry);
	if (r)
		free(entry);
	shake();
	return r;
}
