// SPDX-License-Identifier: Apache-2.0
// How long to wait before the next try at something that failed: 2 s, then half as much again each
// time, at most 60 s; and each wait up to a fifth shorter or longer by chance, so that many who
// lost the same server do not come back to it all at once.
#ifndef L2D_BASE_BACKOFF_H
#define L2D_BASE_BACKOFF_H

#include <stdint.h>

struct l2d_backoff {            // zeroed: nothing has failed yet
    double wait_s;              // the last one, without its part by chance
    uint64_t random;            // a seed, if it shall be a certain one
};

/** It failed. returns the seconds to wait. */
double l2d_backoff_next(struct l2d_backoff *backoff);

/** It worked: the next failure begins with the shortest wait. */
void l2d_backoff_reset(struct l2d_backoff *backoff);

#endif
