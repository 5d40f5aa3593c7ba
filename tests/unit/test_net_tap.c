/* SPDX-License-Identifier: Apache-2.0 */
/* Taps of a network namespace of our own: needs root, is skipped otherwise. */
#include "net_probe.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/if_packet.h>
#include <linux/if_tun.h>
#include <net/ethernet.h>
#include <net/if.h>
#include <sched.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/fd.h"
#include "net/interface.h"
#include "net/tap.h"

#define PROTOCOL 0x88b5 /* for local experiments, IEEE 802 */

/* A socket that sees and makes frames of our protocol at the kernel's side of the tap. */
static int wire_open(const char *name)
{
	struct sockaddr_ll address = { .sll_family = AF_PACKET, .sll_protocol = htons(PROTOCOL) };
	int fd = socket(AF_PACKET, SOCK_RAW | SOCK_NONBLOCK, htons(PROTOCOL));

	assert_true(fd >= 0);
	address.sll_ifindex = (int)if_nametoindex(name);
	assert_int_equal(bind(fd, (struct sockaddr *)&address, sizeof(address)), 0);
	return fd;
}

static void make_frame(uint8_t frame[NET_HEADER_SIZE + 60])
{
	memset(frame, 0, NET_HEADER_SIZE + 60);
	memset(frame + NET_HEADER_SIZE, 0xff, 6);
	frame[NET_HEADER_SIZE + 6] = 0x52;
	frame[NET_HEADER_SIZE + 12] = PROTOCOL >> 8;
	frame[NET_HEADER_SIZE + 13] = PROTOCOL & 0xff;
	memset(frame + NET_HEADER_SIZE + 14, 0x77, 46);
}

static bool is_ours(const uint8_t *frame)
{
	return frame[NET_HEADER_SIZE + 12] == PROTOCOL >> 8 &&
	       frame[NET_HEADER_SIZE + 13] == (PROTOCOL & 0xff);
}

/* Receives until our frame comes: the kernel multicasts on a new interface by itself. */
static ssize_t receive_ours(struct probe *probe, uint8_t frame[2048])
{
	struct iovec iov = { frame, 2048 };

	for (int i = 0; i < 100; i++) {
		ssize_t n = net_receive(probe->queue, &iov, 1);

		if (n > NET_HEADER_SIZE + 14 && is_ours(frame))
			return n;
		if (n == 0)
			probe_turn(probe, 20);
	}
	return 0;
}

static void exchange(struct net *net, const char *name)
{
	uint8_t frame[NET_HEADER_SIZE + 60], got[2048];
	struct iovec iov[2] = { { frame, NET_HEADER_SIZE + 5 },
				{ frame + NET_HEADER_SIZE + 5, 55 } };
	struct probe probe;
	int wire = wire_open(name);

	probe_open(&probe, net, 0, &clock_host);
	net_want_readable(probe.queue, true);
	make_frame(frame);
	assert_int_equal(net_send(probe.queue, iov, 2), 0);
	assert_int_equal(recv(wire, got, sizeof(got), 0), 60);
	assert_memory_equal(got, frame + NET_HEADER_SIZE, 60);
	assert_int_equal(send(wire, frame + NET_HEADER_SIZE, 60, 0), 60);
	assert_int_equal(receive_ours(&probe, got), NET_HEADER_SIZE + 60);
	assert_memory_equal(got, frame, sizeof(frame));
	probe_close(&probe);
	fd_close(wire);
}

static void new_tap_carries_frames(void **state)
{
	struct error err = { 0 };
	struct net *net;

	(void)state;
	assert_int_equal(tap_open("utap0", 1, &net, &err), 0);
	assert_true(net->offloads & NET_OFFLOAD_CSUM);
	assert_true(net->offloads & NET_OFFLOAD_TSO4);
	assert_int_equal(net->mtu, 1500);
	assert_int_equal(net->ops->set_offloads(net, net->offloads), 0);
	assert_int_equal(net->ops->set_offloads(net, NET_OFFLOAD_UFO), -EOPNOTSUPP);
	exchange(net, "utap0");
	net_free(net);
	assert_int_equal(if_nametoindex("utap0"), 0);
}

static void an_interface_is_found_by_its_name(void **state)
{
	struct error err = { 0 };
	struct net *net;

	(void)state;
	assert_int_equal(interface_index("lo"), if_nametoindex("lo"));
	assert_int_equal(tap_open("utap0", 1, &net, &err), 0);
	assert_int_not_equal(interface_index("utap0"), 0);
	assert_int_equal(interface_index("utap0"), if_nametoindex("utap0"));
	assert_int_equal(interface_index("utap"), 0);
	net_free(net);
	assert_int_equal(interface_index("utap0"), 0);
	assert_int_equal(interface_index(""), 0);
	assert_int_equal(interface_index("a-name-of-sixteen"), 0);
}

static void second_user_finds_it_busy(void **state)
{
	struct error err = { 0 };
	struct net *net, *second;

	(void)state;
	assert_int_equal(tap_open("utap0", 1, &net, &err), 0);
	assert_int_equal(tap_open("utap0", 1, &second, &err), -EBUSY);
	assert_int_equal(err.status, EXIT_STATUS_BUSY);
	assert_non_null(strstr(err.message, "tap=utap0"));
	net_free(net);
}

static void queues_are_taken_out_and_in(void **state)
{
	struct error err = { 0 };
	struct probe probes[2];
	uint8_t frame[NET_HEADER_SIZE + 60], got[2048];
	struct net *net;
	int wire;

	(void)state;
	assert_int_equal(tap_open("utap0", 2, &net, &err), 0);
	assert_int_equal(net->queue_pairs, 2);
	wire = wire_open("utap0");
	for (unsigned int i = 0; i < 2; i++) {
		probe_open(&probes[i], net, i, &clock_host);
		net_want_readable(probes[i].queue, true);
	}
	/* With the second out of use every frame comes to the first, and the second's loop is silent. */
	assert_int_equal(net_queue_set_active(probes[1].queue, false), 0);
	make_frame(frame);
	for (unsigned int i = 0; i < 8; i++) {
		frame[NET_HEADER_SIZE + 11] = (uint8_t)i;
		assert_int_equal(send(wire, frame + NET_HEADER_SIZE, 60, 0), 60);
		assert_int_equal(receive_ours(&probes[0], got), NET_HEADER_SIZE + 60);
	}
	probe_turn(&probes[1], 0);
	assert_int_equal(probes[1].readable, 0);
	assert_int_equal(probes[1].gone, 0);
	assert_int_equal(net_queue_set_active(probes[1].queue, true), 0);
	make_frame(frame);
	assert_int_equal(net_send(probes[1].queue, &(struct iovec){ frame, sizeof(frame) }, 1), 0);
	assert_int_equal(recv(wire, got, sizeof(got), 0), 60);
	for (unsigned int i = 0; i < 2; i++)
		probe_close(&probes[i]);
	fd_close(wire);
	net_free(net);
}

static void wrong_interfaces_are_named(void **state)
{
	struct error err = { 0 };
	struct net *net;

	(void)state;
	assert_int_equal(tap_open("lo", 1, &net, &err), -EINVAL);
	assert_non_null(strstr(err.message, "not a tap"));
	err = (struct error){ 0 };
	assert_int_equal(tap_open("a-name-that-is-too-long", 1, &net, &err), -EINVAL);
	assert_non_null(strstr(err.message, "not a name"));
	err = (struct error){ 0 };
	assert_int_equal(tap_open("tap%d", 1, &net, &err), -EINVAL);
	assert_int_equal(err.status, EXIT_STATUS_USAGE);
}

static int open_raw(const char *name, short flags)
{
	struct ifreq request = { .ifr_flags = flags };
	int fd = open("/dev/net/tun", O_RDWR);

	assert_true(fd >= 0);
	strncpy(request.ifr_name, name, IFNAMSIZ - 1);
	assert_int_equal(ioctl(fd, TUNSETIFF, &request), 0);
	return fd;
}

static void interface_flag(const char *name, bool up)
{
	struct ifreq request = { 0 };
	int sock = socket(AF_INET, SOCK_DGRAM, 0);

	strncpy(request.ifr_name, name, IFNAMSIZ - 1);
	request.ifr_flags = up ? IFF_UP : 0;
	assert_int_equal(ioctl(sock, SIOCSIFFLAGS, &request), 0);
	fd_close(sock);
}

static void inherited_tap_carries_frames(void **state)
{
	struct error err = { 0 };
	struct net *net;
	int fd = open_raw("utap1", IFF_TAP | IFF_NO_PI | IFF_VNET_HDR);

	(void)state;
	interface_flag("utap1", true);
	assert_int_equal(tap_from_fd(fd, &net, &err), 0);
	assert_int_equal(tap_queue_fd(net, 0), fd);
	exchange(net, "utap1");
	net_free(net);
}

static void tap_without_header_gets_one_of_zeros(void **state)
{
	struct error err = { 0 };
	struct net *net;
	int fd = open_raw("utap1", IFF_TAP | IFF_NO_PI);

	(void)state;
	interface_flag("utap1", true);
	assert_int_equal(tap_from_fd(fd, &net, &err), 0);
	assert_int_equal(net->offloads, 0);
	assert_int_equal(tap_queue_fd(net, 0), -1);
	exchange(net, "utap1");
	net_free(net);
}

static void other_descriptors_are_refused(void **state)
{
	struct error err = { 0 };
	struct net *net;
	int fd = open("/dev/null", O_RDWR);

	(void)state;
	assert_true(tap_from_fd(fd, &net, &err) < 0);
	assert_non_null(strstr(err.message, "not an attached tap"));
	fd_close(fd);
	err = (struct error){ 0 };
	assert_int_equal(tap_from_fd(fd, &net, &err), -EBADF);
	fd = open_raw("utun0", IFF_TUN | IFF_NO_PI);
	err = (struct error){ 0 };
	assert_int_equal(tap_from_fd(fd, &net, &err), -EINVAL);
	assert_non_null(strstr(err.message, "utun0"));
	fd_close(fd);
}

static void interface_down_loses_frames_only(void **state)
{
	struct error err = { 0 };
	struct probe probe;
	struct net *net;

	(void)state;
	assert_int_equal(tap_open("utap0", 1, &net, &err), 0);
	probe_open(&probe, net, 0, &clock_host);
	interface_flag("utap0", false);
	assert_int_equal(probe_send(&probe, 0, 72), -EIO);
	interface_flag("utap0", true);
	assert_int_equal(probe_send(&probe, 0, 72), 0);
	probe_close(&probe);
	net_free(net);
}

static void deleted_tap_is_gone(void **state)
{
	struct error err = { 0 };
	struct probe probe;
	struct net *net;

	(void)state;
	assert_int_equal(tap_open("utap0", 1, &net, &err), 0);
	probe_open(&probe, net, 0, &clock_host);
	net_want_readable(probe.queue, true);
	if (system("ip link delete utap0 2>/dev/null") != 0)
		skip();
	for (int i = 0; i < 100 && !probe.gone; i++)
		probe_turn(&probe, 20);
	assert_int_equal(probe.gone, -ENODEV);
	probe.gone = 0;
	probe_turn(&probe, 0);
	assert_int_equal(probe.gone, 0);
	probe_close(&probe);
	net_free(net);
}

/* Runs tap_open as an ordinary user and checks the word in its message. */
static void as_user(const char *name, const char *word)
{
	pid_t pid = fork();
	int status;

	assert_true(pid >= 0);
	if (pid == 0) {
		struct error err = { 0 };
		struct net *net;

		if (setgid(65534) || setuid(65534))
			_exit(2);
		_exit(tap_open(name, 1, &net, &err) < 0 && strstr(err.message, word) &&
				      strstr(err.message, "--net user")
			      ? 0
			      : 1);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), 0);
}

static void missing_rights_are_explained(void **state)
{
	struct stat node;

	(void)state;
	assert_int_equal(stat("/dev/net/tun", &node), 0);
	as_user("utap9", node.st_mode & S_IWOTH ? "CAP_NET_ADMIN" : "/dev/net/tun");
}

/* A namespace of our own: nothing here can reach or disturb the host's network. */
static int own_namespace(void **state)
{
	(void)state;
	if (geteuid() != 0 || unshare(CLONE_NEWNET) < 0 || access("/dev/net/tun", W_OK) < 0) {
		print_message("skipped: needs root and /dev/net/tun\n");
		exit(77);
	}
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(new_tap_carries_frames),
		cmocka_unit_test(an_interface_is_found_by_its_name),
		cmocka_unit_test(second_user_finds_it_busy),
		cmocka_unit_test(queues_are_taken_out_and_in),
		cmocka_unit_test(wrong_interfaces_are_named),
		cmocka_unit_test(inherited_tap_carries_frames),
		cmocka_unit_test(tap_without_header_gets_one_of_zeros),
		cmocka_unit_test(other_descriptors_are_refused),
		cmocka_unit_test(interface_down_loses_frames_only),
		cmocka_unit_test(deleted_tap_is_gone),
		cmocka_unit_test(missing_rights_are_explained),
	};

	return cmocka_run_group_tests(tests, own_namespace, NULL);
}
