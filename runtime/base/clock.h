// SPDX-License-Identifier: Apache-2.0
// A clock for durations.
#ifndef L2D_BASE_CLOCK_H
#define L2D_BASE_CLOCK_H

#include <time.h>

/** Seconds since some moment, always forwards. */
static inline double l2d_clock_s(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double) t.tv_sec + 1e-9 * (double) t.tv_nsec;
}

#endif
