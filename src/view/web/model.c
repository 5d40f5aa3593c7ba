/* SPDX-License-Identifier: Apache-2.0 */
#include "view/web/model.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

struct web_model *web_model_new(struct view_context *view, size_t history_bytes)
{
	struct web_model *model = calloc(1, sizeof(*model));

	if (!model)
		return NULL;
	model->view = view;
	model->version = 1;
	model->history = history_new(history_bytes);
	model->sites = sites_new();
	if (model->history)
		model->lenses = lenses_new(model->history, &view->names);
	if (!model->lenses || !model->sites) {
		web_model_free(model);
		return NULL;
	}
	return model;
}

void web_model_free(struct web_model *model)
{
	if (!model)
		return;
	lenses_free(model->lenses);
	sites_free(model->sites);
	history_free(model->history);
	free(model);
}

/* Nanoseconds since the first record; a record that began before it counts as its like. */
static uint64_t since_origin(struct web_model *model, uint64_t wall_ns)
{
	if (!model->origin_ns)
		model->origin_ns = MAX(wall_ns, 1);
	if (wall_ns < model->origin_ns)
		return 0;
	return MIN(wall_ns - model->origin_ns, HISTORY_TIME_MAX / 2);
}

static uint8_t flags_of(const struct watch_record *record)
{
	bool failed = record->status || record->flags & RECORD_UNCLAIMED;
	bool out = record->kind == RECORD_DISK ? record->operation != RECORD_DISK_READ
					       : record->flags & RECORD_WRITE;

	return (uint8_t)((out ? HISTORY_WRITE : 0) | (failed ? HISTORY_FAILED : 0));
}

static int add(struct web_model *model, const struct watch_record *record, uint32_t ring)
{
	const struct view_context *view = model->view;
	uint64_t duration = view->times.ticks_ns(view->times.ctx, record->duration);
	struct history_point point = {
		.begin_ns = since_origin(model,
					 view->times.wall_ns(view->times.ctx, record->begin)),
		.duration_ns = MIN(duration, HISTORY_TIME_MAX / 2 - 1),
		.site = sites_number(model->sites, record),
		.device = (uint8_t)MIN(record->device, HISTORY_NO_DEVICE),
		.ring = (uint8_t)ring,
		.flags = flags_of(record),
	};

	model->last_ns = MAX(model->last_ns, point.begin_ns + point.duration_ns);
	return history_add(model->history, record, &point);
}

int web_model_take(struct web_model *model, unsigned int max)
{
	struct watch_record record;
	unsigned int n = 0;
	uint32_t ring;
	int r = 1;

	while (!model->over && n < max && (r = view_next_any(model->view, &record, &ring)) > 0) {
		n++;
		r = record.kind == RECORD_VCPU ? 1 : add(model, &record, ring);
		if (r < 0)
			break;
	}
	if (r < 0)
		model->over = true;
	if (r < 0 && r != -ENODATA)
		model->trouble = strerrordesc_np(-r);
	if (n || r < 0)
		model->version++;
	return r < 0 && r != -ENODATA ? r : (int)n;
}
