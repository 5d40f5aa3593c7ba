/* SPDX-License-Identifier: Apache-2.0 */

/* What joins a source and a guest's memory; apart, so that reading alone needs no memory. */

#include "watch/read/guest_view.h"
#include "watch/read/source_internal.h"

void source_set_memory(struct watch_source *source, const struct guest_view *view)
{
	source->translate = view ? guest_view_translate : NULL;
	source->read = view ? guest_view_read : NULL;
	source->memory = (void *)view;
}
