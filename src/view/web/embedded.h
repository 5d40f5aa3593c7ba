/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* What the build makes of the files in web/ (scripts/embed), one pair for each. */

#include <stddef.h>
#include <stdint.h>

#define WEB_EMBEDDED(name)                                                                         \
	extern const uint8_t name[];                                                               \
	extern const size_t name##_len

WEB_EMBEDDED(web_index_html);
WEB_EMBEDDED(web_style_css);
WEB_EMBEDDED(web_icon_svg);
WEB_EMBEDDED(web_app_js);
WEB_EMBEDDED(web_data_js);
WEB_EMBEDDED(web_detail_js);
WEB_EMBEDDED(web_format_js);
WEB_EMBEDDED(web_heatmap_js);
WEB_EMBEDDED(web_sites_js);
WEB_EMBEDDED(web_table_js);
WEB_EMBEDDED(web_timeline_js);
WEB_EMBEDDED(web_window_js);
