/* SPDX-License-Identifier: Apache-2.0 */
#include "vm/resources.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>

#include "base/fd.h"
#include "block/filters/filter.h"
#include "block/raw.h"
#include "net/filters/filter.h"
#include "net/passt.h"
#include "net/tap.h"
#include "net/vhost.h"

void vm_resources_init(struct vm_resources *resources)
{
	*resources = (struct vm_resources){
		.kvm_fd = -1,
		.kernel_fd = -1,
		.initrd_fd = -1,
		.memory_fd = -1,
	};
	for (size_t i = 0; i < LIMIT_NETS; i++)
		resources->vhost_fds[i] = resources->tap_fds[i] = -1;
}

static int open_kvm(struct vm_resources *resources, struct error *err)
{
	int fd = open("/dev/kvm", O_RDWR | O_CLOEXEC);

	if (fd >= 0) {
		resources->kvm_fd = fd;
		return 0;
	}
	if (errno == EACCES)
		return error_set(err, -EACCES, EXIT_STATUS_HOST,
				 "/dev/kvm: no permission; add yourself to its group "
				 "(usermod -aG kvm USER) and log in again");
	return error_set(err, -errno, EXIT_STATUS_HOST,
			 "/dev/kvm: %s; load kvm_intel or kvm_amd, or switch virtualisation on in "
			 "the firmware ('utsusu doctor' tells more)",
			 strerror(errno));
}

static int open_image(const char *key, const char *path, int *ret_fd, struct error *err)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);

	if (fd < 0)
		return error_set(err, -errno, EXIT_STATUS_RESOURCE, "--%s: %s: %s", key, path,
				 strerror(errno));
	*ret_fd = fd;
	return 0;
}

static int open_images(const struct vm_config *config, struct vm_resources *resources,
		       struct error *err)
{
	int r = open_image("kernel", config->kernel, &resources->kernel_fd, err);

	if (r == 0 && config->initrd)
		r = open_image("initrd", config->initrd, &resources->initrd_fd, err);
	return r;
}

static int stack_disk(const struct vm_config *config, struct vm_resources *resources, uint32_t i,
		      struct error *err)
{
	resources->raws[i] = resources->blocks[i];
	return config->disks[i].filter
		       ? block_filter_stack(config->disks[i].filter, resources->blocks[i],
					    &resources->blocks[i], err)
		       : 0;
}

static int open_disks(const struct vm_config *config, struct vm_resources *resources,
		      struct error *err)
{
	for (uint32_t i = 0; i < config->n_disks; i++) {
		const struct raw_options options = {
			.path = config->disks[i].path,
			.fd = -1,
			.readonly = config->disks[i].readonly,
			.direct = config->disks[i].direct,
			.elsewhere = resources->arriving,
		};
		int r = raw_open(&options, &resources->blocks[i], err);

		if (r == 0)
			r = stack_disk(config, resources, i, err);
		if (r < 0)
			return r;
	}
	return 0;
}

static int open_user_net(struct net **ret_net, struct error *err)
{
	_cleanup_(fd_closep) int fd = -1;
	int r = passt_start(&fd, err);

	if (r == 0)
		r = passt_net_new(fd, ret_net);
	if (r == 0)
		(void)TAKE_FD(fd);
	return r;
}

static int open_net(const struct net_config *config, struct net **ret_net, struct error *err)
{
	switch (config->kind) {
	case NET_TAP:
		return tap_open(config->tap, config->queues, ret_net, err);
	case NET_FD:
		return tap_from_fd(config->fd, ret_net, err);
	case NET_USER:
		return open_user_net(ret_net, err);
	}
	return -EINVAL;
}

static int open_vhost(const struct net *net, int *ret_vhost, int *ret_tap, struct error *err)
{
	int tap = tap_queue_fd(net, 0);
	int fd, r;

	if (tap < 0)
		return error_set(err, -EINVAL, EXIT_STATUS_USAGE,
				 "--net: vhost=on needs a tap with virtio headers; "
				 "leave vhost out");
	r = vhost_open(&fd, err);
	if (r < 0)
		return r;
	*ret_vhost = fd;
	*ret_tap = tap;
	return 0;
}

static int stack_net(const struct vm_config *config, struct vm_resources *resources, uint32_t i,
		     struct error *err)
{
	resources->taps[i] = config->nets[i].kind == NET_USER ? NULL : resources->nets[i];
	return config->nets[i].filter ? net_filter_stack(config->nets[i].filter, resources->nets[i],
							 &resources->nets[i], err)
				      : 0;
}

static int open_nets(const struct vm_config *config, struct vm_resources *resources,
		     struct error *err)
{
	for (uint32_t i = 0; i < config->n_nets; i++) {
		int r = open_net(&config->nets[i], &resources->nets[i], err);

		if (r == 0)
			r = stack_net(config, resources, i, err);
		if (r == 0 && config->nets[i].vhost)
			r = open_vhost(resources->nets[i], &resources->vhost_fds[i],
				       &resources->tap_fds[i], err);
		if (r < 0)
			return error_set(err, r, EXIT_STATUS_RESOURCE, "--net: %s", strerror(-r));
	}
	return 0;
}

int vm_resources_open(const struct vm_config *config, struct vm_resources *resources,
		      struct error *err)
{
	int r = open_kvm(resources, err);

	if (r == 0)
		r = open_images(config, resources, err);
	if (r == 0)
		r = open_disks(config, resources, err);
	if (r == 0)
		r = open_nets(config, resources, err);
	if (r < 0)
		vm_resources_close(resources);
	return r;
}

/* ---- from one process to the next ---- */

#define TAP_MTU_SHIFT 32
#define TAP_BARE (1ULL << 63)

int vm_resources_hand_over(const struct vm_config *config, const struct vm_resources *resources,
			   int sock)
{
	int r = handed_send(sock, HANDED_KERNEL, 0, &resources->kernel_fd, 1, 0, NULL);

	if (r == 0 && resources->initrd_fd >= 0)
		r = handed_send(sock, HANDED_INITRD, 0, &resources->initrd_fd, 1, 0, NULL);
	for (uint32_t i = 0; r == 0 && i < config->n_disks; i++) {
		int fd = raw_fd(resources->raws[i]);

		r = handed_send(sock, HANDED_DISK, i, &fd, 1, 0, NULL);
	}
	for (uint32_t i = 0; r == 0 && i < config->n_nets; i++) {
		struct tap_facts tap;

		if (!resources->taps[i] || !tap_describe(resources->taps[i], &tap))
			return -EOPNOTSUPP;
		r = handed_send(sock, HANDED_TAP, i, tap.fds, tap.queues,
				tap.offloads | (uint64_t)tap.mtu << TAP_MTU_SHIFT |
					(tap.bare ? TAP_BARE : 0),
				NULL);
	}
	return r;
}

static int missing(const char *what, uint32_t index, struct error *err)
{
	return error_set(err, -EPROTO, EXIT_STATUS_FAILED,
			 "the process that runs the VM did not hand over its %s %u; utsusu upgrade "
			 "is too far from the version that runs it",
			 what, index);
}

static int inherit_disk(const struct vm_config *config, struct vm_resources *resources,
			struct handed *handed, uint32_t i, struct error *err)
{
	const struct raw_options options = {
		.path = config->disks[i].path,
		.fd = handed_take(handed, HANDED_DISK, i),
		.readonly = config->disks[i].readonly,
		.direct = config->disks[i].direct,
	};
	int r;

	if (options.fd < 0)
		return missing("disk", i, err);
	r = raw_open(&options, &resources->blocks[i], err);
	if (r < 0)
		fd_close(options.fd);
	return r < 0 ? r : stack_disk(config, resources, i, err);
}

static int inherit_net(const struct vm_config *config, struct vm_resources *resources,
		       struct handed *handed, uint32_t i, struct error *err)
{
	struct handed_thing *thing = handed_thing(handed, HANDED_TAP, i);
	struct tap_facts tap = {
		.queues = (unsigned int)thing->n_fds,
		.offloads = (uint32_t)thing->number,
		.mtu = (thing->number & ~TAP_BARE) >> TAP_MTU_SHIFT,
		.bare = thing->number & TAP_BARE,
	};
	int r;

	if (!thing->n_fds ||
	    (config->nets[i].kind == NET_TAP && thing->n_fds != MAX(config->nets[i].queues, 1U)))
		return missing("network", i, err);
	memcpy(tap.fds, thing->fds, thing->n_fds * sizeof(int));
	r = tap_adopt(&tap, &resources->nets[i]);
	if (r < 0)
		return r;
	thing->n_fds = 0; /* they are the net's */
	return stack_net(config, resources, i, err);
}

int vm_resources_inherit(const struct vm_config *config, struct vm_resources *resources,
			 struct handed *handed, struct error *err)
{
	int r = open_kvm(resources, err);

	resources->inherited = true;
	resources->kernel_fd = handed_take(handed, HANDED_KERNEL, 0);
	resources->initrd_fd = handed_take(handed, HANDED_INITRD, 0);
	if (r == 0 && (resources->kernel_fd < 0 || (config->initrd && resources->initrd_fd < 0)))
		r = missing("kernel", 0, err);
	for (uint32_t i = 0; r == 0 && i < config->n_disks; i++)
		r = inherit_disk(config, resources, handed, i, err);
	for (uint32_t i = 0; r == 0 && i < config->n_nets; i++)
		r = inherit_net(config, resources, handed, i, err);
	if (r < 0)
		vm_resources_close(resources);
	return r;
}

void vm_resources_wake(struct vm_resources *resources)
{
	for (size_t i = 0; i < LIMIT_NETS; i++)
		if (resources->taps[i])
			tap_wake(resources->taps[i]);
	resources->inherited = false;
}

void vm_resources_close(struct vm_resources *resources)
{
	fd_close(resources->kvm_fd);
	fd_close(resources->kernel_fd);
	fd_close(resources->initrd_fd);
	fd_close(resources->memory_fd);
	for (size_t i = 0; i < LIMIT_DISKS; i++)
		block_free(resources->blocks[i]);
	for (size_t i = 0; i < LIMIT_NETS; i++) {
		net_free(resources->nets[i]);
		fd_close(resources->vhost_fds[i]);
	}
	vm_resources_init(resources);
}
