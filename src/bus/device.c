/* SPDX-License-Identifier: Apache-2.0 */
#include "bus/device.h"

#include <stdio.h>

void device_init(struct device *device, const struct device_ops *ops, const char *name,
		 const struct state_table *table, void *state)
{
	*device = (struct device){ .ops = ops, .table = table, .state = state };
	snprintf(device->name, sizeof(device->name), "%s", name);
	list_init(&device->link);
	pthread_mutex_init(&device->lock, NULL);
}

void device_release(struct device *device)
{
	list_remove(&device->link);
	pthread_mutex_destroy(&device->lock);
}
