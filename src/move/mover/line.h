/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * Whose turn it is on a stream that several threads send on. Those in a hurry go before those who are not, however often these
 * come back.
 */

#include <pthread.h>
#include <stdbool.h>

struct line {
	pthread_mutex_t lock;
	pthread_cond_t calm;
	unsigned int urgent; /* atomic: who waits or sends in a hurry */
};

void line_init(struct line *line);
void line_release(struct line *line);
void line_take(struct line *line, bool urgent);
void line_give(struct line *line, bool urgent);
