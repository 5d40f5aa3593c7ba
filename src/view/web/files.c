/* SPDX-License-Identifier: Apache-2.0 */
#include "view/web/files.h"

#include <string.h>

#include "base/macros.h"
#include "view/web/embedded.h"

#define FILE_AT(path, type, name)                                                                  \
	{                                                                                          \
		path, type, name, &name##_len                                                      \
	}
#define SCRIPT "text/javascript; charset=utf-8"

/* THE table: paths, and what is there. */
static const struct web_file web_files[] = {
	FILE_AT("/", "text/html; charset=utf-8", web_index_html),
	FILE_AT("/style.css", "text/css; charset=utf-8", web_style_css),
	FILE_AT("/icon.svg", "image/svg+xml", web_icon_svg),
	FILE_AT("/app.js", SCRIPT, web_app_js),
	FILE_AT("/data.js", SCRIPT, web_data_js),
	FILE_AT("/detail.js", SCRIPT, web_detail_js),
	FILE_AT("/format.js", SCRIPT, web_format_js),
	FILE_AT("/heatmap.js", SCRIPT, web_heatmap_js),
	FILE_AT("/sites.js", SCRIPT, web_sites_js),
	FILE_AT("/table.js", SCRIPT, web_table_js),
	FILE_AT("/timeline.js", SCRIPT, web_timeline_js),
	FILE_AT("/window.js", SCRIPT, web_window_js),
};

const struct web_file *web_file_find(const char *path)
{
	for (size_t i = 0; i < ARRAY_SIZE(web_files); i++)
		if (!strcmp(web_files[i].path, path))
			return &web_files[i];
	return NULL;
}
