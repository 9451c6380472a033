// SPDX-License-Identifier: Apache-2.0
// Seconds of the monotonic clock, for rates and durations; and of the processor, of all threads.
#ifndef L2D_PROGRAM_WALLCLOCK_H
#define L2D_PROGRAM_WALLCLOCK_H

#include <time.h>

static inline double wallclock_s(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double) t.tv_sec + 1e-9 * (double) t.tv_nsec;
}

static inline double cpu_clock_s(void)
{
    struct timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (double) t.tv_sec + 1e-9 * (double) t.tv_nsec;
}

#endif
