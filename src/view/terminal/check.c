/* SPDX-License-Identifier: Apache-2.0 */
/* Alone, because term.h makes macros of words like "lines" and "columns". */
#include <errno.h>
#include <stdlib.h>
#include <unistd.h>
/* In this order. */
#include <curses.h>
#include <term.h>

#include "view/terminal/check.h"

static int refuse(struct error *err, const char *why)
{
	return error_set(err, -ENOTTY, EXIT_STATUS_USAGE,
			 "watch: %s; give --follow for lines, --json or --web, or set TERM to your "
			 "terminal's name",
			 why);
}

static bool cursor_moves(void)
{
	const char *move = tigetstr("cup");

	return move && move != (char *)-1;
}

/* newterm() would end the process, or write garbage to a terminal whose cursor cannot be moved. */
int terminal_check(struct error *err)
{
	const char *name = getenv("TERM");
	char why[128];
	bool moves;
	int status;

	if (!isatty(STDIN_FILENO) || !isatty(STDOUT_FILENO))
		return error_set(err, -ENOTTY, EXIT_STATUS_USAGE,
				 "watch: this is no terminal; give --follow for lines, or --json");
	if (!name || !name[0])
		return refuse(err, "TERM is not set, so nothing is known of this terminal");
	snprintf(why, sizeof(why), "TERM is '%s', which is not known here", name);
	if (setupterm(name, STDOUT_FILENO, &status) != OK)
		return refuse(err, why);
	moves = cursor_moves();
	del_curterm(cur_term); /* newterm() makes its own */
	snprintf(why, sizeof(why), "TERM is '%s', a terminal whose cursor cannot be moved", name);
	return moves ? 0 : refuse(err, why);
}
