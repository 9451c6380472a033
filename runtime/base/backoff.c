// SPDX-License-Identifier: Apache-2.0
// See backoff.h.
#include "base/backoff.h"

#include <time.h>

#define FIRST_S 2.0
#define FACTOR  1.5
#define MOST_S  60.0
#define JITTER  0.2

// xorshift64*, 0 to 1.
static double by_chance(struct l2d_backoff *b)
{
    if (b->random == 0) {
        struct timespec t;
        clock_gettime(CLOCK_MONOTONIC, &t);
        b->random = (uint64_t) t.tv_nsec ^ (uint64_t) (uintptr_t) b ^ UINT64_C(0x9e3779b97f4a7c15);
    }
    b->random ^= b->random >> 12;
    b->random ^= b->random << 25;
    b->random ^= b->random >> 27;
    return (double) ((b->random * UINT64_C(0x2545f4914f6cdd1d)) >> 11) / 9007199254740992.0;
}

double l2d_backoff_next(struct l2d_backoff *backoff)
{
    double wait = backoff->wait_s > 0 ? backoff->wait_s * FACTOR : FIRST_S;
    backoff->wait_s = wait < MOST_S ? wait : MOST_S;
    return backoff->wait_s * (1 - JITTER + 2 * JITTER * by_chance(backoff));
}

void l2d_backoff_reset(struct l2d_backoff *backoff)
{
    backoff->wait_s = 0;
}
