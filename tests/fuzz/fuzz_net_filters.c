/* SPDX-License-Identifier: Apache-2.0 */
/*
 * covers: net/filters/stack.c
 *
 * The text of --net's filters: whatever it says, either a whole stack or an error with a message.
 */
#include <stdlib.h>
#include <string.h>

#include "net/filters/filter.h"
#include "net/pair.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const struct net_pair_params params = { .queue_pairs = 1 };
	char *spec = strndup((const char *)data, size);
	struct error err = { 0 };
	struct net *a, *b, *top = NULL;
	int r;

	if (!spec || net_pair_new(&params, &a, &b) < 0)
		abort();
	r = net_filter_stack(spec, a, &top, &err);
	if ((r == 0) != (top != NULL) || (r < 0) != (err.message[0] != '\0'))
		abort();
	net_free(top ? top : a);
	net_free(b);
	free(spec);
	return 0;
}
