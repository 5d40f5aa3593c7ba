/* SPDX-License-Identifier: Apache-2.0 */
#include "move/link.h"

#include <errno.h>
#include <stdlib.h>

#include "base/cleanup.h"

void move_facts_release(struct move_facts *facts)
{
	free(TAKE_PTR(facts->config));
	fd_close(TAKE_FD(facts->ram_fd));
}

void move_demand_release(struct move_demand *demand)
{
	fd_close(TAKE_FD(demand->uffd));
	fd_close(TAKE_FD(demand->life));
}

bool move_link_is_unknown(int error)
{
	return error == -ECONNRESET || error == -ETIMEDOUT || error == -EPROTO;
}
