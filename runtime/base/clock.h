// SPDX-License-Identifier: Apache-2.0
// Clocks for durations.
#ifndef L2D_BASE_CLOCK_H
#define L2D_BASE_CLOCK_H

#include <time.h>

static inline double l2d_clock_of(clockid_t id)
{
    struct timespec t;
    clock_gettime(id, &t);
    return (double) t.tv_sec + 1e-9 * (double) t.tv_nsec;
}

/** Seconds since some moment, always forwards. */
static inline double l2d_clock_s(void)
{
    return l2d_clock_of(CLOCK_MONOTONIC);
}

/** A moment of l2d_clock_s(), not before its 0, as pthread_cond_timedwait takes it. */
static inline struct timespec l2d_clock_timespec(double s)
{
    time_t whole = (time_t) s;
    return (struct timespec) { .tv_sec = whole, .tv_nsec = (long) (1e9 * (s - (double) whole)) };
}

/** Seconds that processors worked for this process, on all its threads. */
static inline double l2d_clock_cpu_s(void)
{
    return l2d_clock_of(CLOCK_PROCESS_CPUTIME_ID);
}

#endif
