/* SPDX-License-Identifier: Apache-2.0 */
/* utsusu move: asks the daemon, and says at the end what it cost. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "peer/request.h"
#include "programs/json_text.h"
#include "programs/utsusu_errand.h"

static void print_where(const struct errand *errand)
{
	const struct command_options *options = errand->options;
	const char *ended = json_text(errand->end, "ended", "");

	if (ended[0])
		printf("%s ran on %s and has ended there, %s", options->name, options->host, ended);
	else
		printf("%s %s on %s", options->name, errand->paused ? "is paused" : "runs",
		       options->host);
}

static void print_cost(const struct errand *errand)
{
	const json_t *end = errand->end;
	uint64_t total = errand_number(end, "total_ms"), bytes = errand_number(end, "wire_bytes");
	char size[32], time[32];

	print_where(errand);
	if (!total) { /* its mover died, and could not tell */
		putchar('\n');
		return;
	}
	errand_format_bytes(bytes ? bytes : errand_number(end, "bytes"), size, sizeof(size));
	errand_format_time(total, time, sizeof(time));
	printf(": %s in all, %" PRIu64 " ms standing still, %s sent, %" PRIu64 " Mb/s, %" PRIu64
	       " rounds\n",
	       time, errand_number(end, "down_ms"), size,
	       errand_number(end, "wire_bytes") * 8 / total / 1000, errand_number(end, "rounds"));
}

int move_vm(struct invocation *invocation)
{
	const struct command_options *options = &invocation->options;
	struct control_request request = { .command = CONTROL_MOVE, .move = options->move };
	struct errand errand = {
		.options = options,
		.can = "move to",
		.cancelling = "cancelling; the VM stays here unless it was given already",
		.silence = "how its move goes on; see utsusu resolve",
		.report = print_cost,
	};

	if (options->move.plain)
		fprintf(stderr,
			"%s: --plain: whoever is on the wire between can read and change the "
			"guest's memory\n",
			options->name);
	memcpy(request.name, options->name, LIMIT_NAME);
	memcpy(request.host, options->host, sizeof(request.host));
	return errand_run(&errand, control_request_encode(&request));
}
