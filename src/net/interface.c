/* SPDX-License-Identifier: Apache-2.0 */
#include "net/interface.h"

#include <errno.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <string.h>
#include <sys/socket.h>

#include "base/cleanup.h"
#include "base/macros.h"

struct question {
	struct nlmsghdr header;
	struct ifinfomsg link;
	struct rtattr name;
	char text[IFNAMSIZ];
};

/* rtnetlink(7), RTM_GETLINK by IFLA_IFNAME. */
static int ask(int sock, const char *name)
{
	const size_t len = strlen(name) + 1;
	struct question question = {
		.header = {
			.nlmsg_len = (uint32_t)(offsetof(struct question, text) + len),
			.nlmsg_type = RTM_GETLINK,
			.nlmsg_flags = NLM_F_REQUEST,
		},
		.link.ifi_family = AF_UNSPEC,
		.name = { .rta_len = (unsigned short)RTA_LENGTH(len), .rta_type = IFLA_IFNAME },
	};

	memcpy(question.text, name, len);
	return send(sock, &question, question.header.nlmsg_len, 0) < 0 ? -errno : 0;
}

/* The kernel's one answer begins so, or is an error. */
struct answer {
	struct nlmsghdr header;
	struct ifinfomsg link;
};

static unsigned int hear(int sock)
{
	struct answer answer;
	ssize_t len;

	do {
		len = recv(sock, &answer, sizeof(answer), 0);
	} while (len < 0 && errno == EINTR);
	if (len != sizeof(answer) || answer.header.nlmsg_type != RTM_NEWLINK)
		return 0;
	return (unsigned int)answer.link.ifi_index;
}

unsigned int interface_index(const char *name)
{
	_cleanup_(fd_closep) int sock = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE);

	if (sock < 0 || !*name || strlen(name) >= IFNAMSIZ || ask(sock, name) < 0)
		return 0;
	return hear(sock);
}
