/* SPDX-License-Identifier: Apache-2.0 */
#include "peer/host.h"

#include "base/cleanup.h"
#include "host/state_dir.h"
#include "peer/door.h"

int peer_host_open(struct peer_host *host, uint32_t port, const struct log *log, struct error *err)
{
	int r;

	*host = (struct peer_host){ .state_fd = -1, .folder_fd = -1, .port = port, .log = log };
	r = state_dir_open(&host->state_fd, err);
	if (r == 0)
		r = door_open_folder(&host->folder_fd, err);
	if (r == 0)
		r = identity_load(host->state_fd, &host->identity, err);
	if (r == 0)
		r = peers_load(host->state_fd, &host->peers, err);
	return r;
}

void peer_host_release(struct peer_host *host)
{
	fd_close(TAKE_FD(host->state_fd));
	fd_close(TAKE_FD(host->folder_fd));
	identity_free(TAKE_PTR(host->identity));
	peers_free(TAKE_PTR(host->peers));
}
