/* SPDX-License-Identifier: Apache-2.0 */
#include "net/tap_setup.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/ethtool.h>
#include <linux/if_tun.h>
#include <linux/sockios.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/fd.h"
#include "net/interface.h"
#include "net/net.h"

#define TUN_DEVICE "/dev/net/tun"

static int fail_open(const char *name, struct error *err)
{
	int code = -errno;

	if (errno == EACCES || errno == EPERM)
		return error_set(err, code, EXIT_STATUS_HOST,
				 "net tap=%s: no permission on " TUN_DEVICE
				 ": run 'chmod 0666 " TUN_DEVICE "' as root, or use --net user",
				 name);
	if (errno == ENOENT || errno == ENODEV || errno == ENXIO)
		return error_set(err, code, EXIT_STATUS_HOST,
				 "net tap=%s: this host has no " TUN_DEVICE
				 ": run 'modprobe tun' as root, or use --net user",
				 name);
	return error_set(err, code, EXIT_STATUS_HOST, "net tap=%s: " TUN_DEVICE ": %s", name,
			 strerror(-code));
}

/* An ioctl on an interface by name, through any socket. */
static int interface_ioctl(unsigned long number, struct ifreq *request)
{
	_cleanup_(fd_closep) int sock = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	if (sock < 0)
		sock = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (sock < 0 || ioctl(sock, number, request) < 0)
		return -errno;
	return 0;
}

static struct ifreq request_for(const char *name)
{
	struct ifreq request = { 0 };

	strncpy(request.ifr_name, name, sizeof(request.ifr_name) - 1);
	return request;
}

static bool is_tap(const char *name)
{
	struct ethtool_drvinfo info = { .cmd = ETHTOOL_GDRVINFO };
	struct ifreq request = request_for(name);

	request.ifr_data = (void *)&info;
	return interface_ioctl(SIOCETHTOOL, &request) == 0 && strcmp(info.driver, "tun") == 0 &&
	       strcmp(info.bus_info, "tap") == 0;
}

static int fail_attach(const char *name, unsigned int queues, int code, struct error *err)
{
	bool exists = interface_index(name) != 0;
	const char *multi = queues > 1 ? " multi_queue" : "";

	if (code == -EPERM && !exists)
		return error_set(
			err, code, EXIT_STATUS_RESOURCE,
			"net tap=%s: no such interface, and making one needs CAP_NET_ADMIN: run "
			"'ip tuntap add dev %s mode tap user $USER%s' as root, or use --net user",
			name, name, multi);
	if (code == -EPERM)
		return error_set(
			err, code, EXIT_STATUS_RESOURCE,
			"net tap=%s: it belongs to another user, and CAP_NET_ADMIN is missing: run "
			"'ip tuntap add dev NAME mode tap user $USER%s' as root, or use --net user",
			name, multi);
	if (code == -EBUSY)
		return error_set(
			err, code, EXIT_STATUS_BUSY,
			"net tap=%s: another program uses it: end that program, or use another tap",
			name);
	if (code == -EINVAL && exists && !is_tap(name))
		return error_set(err, code, EXIT_STATUS_RESOURCE,
				 "net tap=%s: the interface is not a tap: make one with "
				 "'ip tuntap add dev NAME mode tap user $USER%s'",
				 name, multi);
	if (code == -EINVAL && exists)
		return error_set(
			err, code, EXIT_STATUS_RESOURCE,
			"net tap=%s: it was made %s multi_queue: use queues=%s, or make it anew",
			name, queues > 1 ? "without" : "with", queues > 1 ? "1" : "2 or more");
	return error_set(err, code, EXIT_STATUS_RESOURCE, "net tap=%s: %s", name, strerror(-code));
}

static int attach(int fd, const char *name, unsigned int queues)
{
	struct ifreq request = request_for(name);

	request.ifr_flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR;
	if (queues > 1)
		request.ifr_flags |= IFF_MULTI_QUEUE;
	return ioctl(fd, TUNSETIFF, &request) < 0 ? -errno : 0;
}

/* An interface that we made goes with our descriptor; nobody else would set it up. */
static int bring_up(const char *name)
{
	struct ifreq request = request_for(name);
	int r = interface_ioctl(SIOCGIFFLAGS, &request);

	if (r < 0)
		return r;
	request.ifr_flags |= IFF_UP;
	return interface_ioctl(SIOCSIFFLAGS, &request);
}

int tap_setup_named(const char *name, unsigned int queues, int *fds, struct error *err)
{
	bool existed;
	int r;

	/* '%' would make the kernel number a new interface: not the one that was asked for. */
	if (!*name || strlen(name) >= IFNAMSIZ || strpbrk(name, "/%: "))
		return error_set(err, -EINVAL, EXIT_STATUS_USAGE,
				 "net tap=%s: not a name of an interface (1 to %d characters)",
				 name, IFNAMSIZ - 1);
	existed = interface_index(name) != 0;
	for (unsigned int i = 0; i < queues; i++) {
		fds[i] = open(TUN_DEVICE, O_RDWR | O_NONBLOCK | O_CLOEXEC);
		if (fds[i] < 0)
			return fail_open(name, err);
		r = attach(fds[i], name, queues);
		if (r < 0)
			return fail_attach(name, queues, r, err);
	}
	r = existed ? 0 : bring_up(name);
	if (r < 0)
		return error_set(err, r, EXIT_STATUS_RESOURCE,
				 "net tap=%s: made, but cannot be set up: %s", name, strerror(-r));
	return 0;
}

int tap_setup_inherited(int fd, char name[TAP_NAME_SIZE], struct error *err)
{
	struct ifreq request = { 0 };
	int r;

	if (ioctl(fd, TUNGETIFF, &request) < 0) {
		r = -errno;
		if (r == -EBADF)
			return error_set(err, r, EXIT_STATUS_USAGE,
					 "net fd=%d: no such open descriptor was inherited", fd);
		return error_set(err, r, EXIT_STATUS_RESOURCE,
				 "net fd=%d: not an attached tap: open " TUN_DEVICE
				 ", name an interface with TUNSETIFF, and keep the descriptor open",
				 fd);
	}
	if (!(request.ifr_flags & IFF_TAP) || !(request.ifr_flags & IFF_NO_PI))
		return error_set(
			err, -EINVAL, EXIT_STATUS_RESOURCE,
			"net fd=%d: %s is not in tap mode without packet information: open it with "
			"IFF_TAP | IFF_NO_PI | IFF_VNET_HDR",
			fd, request.ifr_name);
	r = fd_set_nonblocking(fd);
	if (r == 0 && fcntl(fd, F_SETFD, FD_CLOEXEC) < 0)
		r = -errno;
	if (r < 0)
		return error_set(err, r, EXIT_STATUS_RESOURCE, "net fd=%d: %s", fd, strerror(-r));
	memcpy(name, request.ifr_name, TAP_NAME_SIZE);
	name[TAP_NAME_SIZE - 1] = '\0';
	return request.ifr_flags & IFF_VNET_HDR ? 0 : TAP_BARE;
}

unsigned int tap_setup_mtu(const char *name)
{
	struct ifreq request = request_for(name);

	if (interface_ioctl(SIOCGIFMTU, &request) < 0)
		return 0;
	return request.ifr_mtu < 68 || request.ifr_mtu > 65535 ? 0 : (unsigned int)request.ifr_mtu;
}

int tap_setup_offloads(int fd, uint32_t offloads)
{
	static const struct {
		uint32_t ours;
		unsigned int kernel;
	} table[] = {
		{ NET_OFFLOAD_CSUM, TUN_F_CSUM }, { NET_OFFLOAD_TSO4, TUN_F_TSO4 },
		{ NET_OFFLOAD_TSO6, TUN_F_TSO6 }, { NET_OFFLOAD_ECN, TUN_F_TSO_ECN },
		{ NET_OFFLOAD_UFO, TUN_F_UFO },
	};
	unsigned int flags = 0;

	for (size_t i = 0; i < ARRAY_SIZE(table); i++)
		if (offloads & table[i].ours)
			flags |= table[i].kernel;
	return ioctl(fd, TUNSETOFFLOAD, flags) < 0 ? -errno : 0;
}

int tap_setup_probe(const char *name, int fd, uint32_t *ret_offloads, unsigned int *ret_mtu,
		    struct error *err)
{
	static const uint32_t best_first[] = {
		NET_OFFLOAD_CSUM | NET_OFFLOAD_TSO4 | NET_OFFLOAD_TSO6 | NET_OFFLOAD_ECN,
		NET_OFFLOAD_CSUM | NET_OFFLOAD_TSO4 | NET_OFFLOAD_TSO6,
		NET_OFFLOAD_CSUM,
		0,
	};
	int size = NET_HEADER_SIZE;
	size_t i = 0;
	int r;

	if (ioctl(fd, TUNSETVNETHDRSZ, &size) < 0) {
		r = -errno;
		return error_set(err, r, EXIT_STATUS_RESOURCE,
				 "net tap %s: the kernel refuses virtio headers: %s", name,
				 strerror(-r));
	}
	while (i < ARRAY_SIZE(best_first) - 1 && tap_setup_offloads(fd, best_first[i]) < 0)
		i++;
	r = tap_setup_offloads(fd, 0);
	if (r < 0)
		return error_set(err, r, EXIT_STATUS_RESOURCE,
				 "net tap %s: its offloads cannot be set: %s", name, strerror(-r));
	*ret_offloads = best_first[i];
	*ret_mtu = tap_setup_mtu(name);
	return 0;
}
