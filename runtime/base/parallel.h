// SPDX-License-Identifier: Apache-2.0
// One loop on several threads, for loading: from the call to its return nothing stays running.
#ifndef L2D_BASE_PARALLEL_H
#define L2D_BASE_PARALLEL_H

#include <stdint.h>

#include "base/error.h"

#define L2D_PARALLEL_MAX 16

/** Threads that pay: one for each core that this process may use, at most L2D_PARALLEL_MAX. */
uint32_t l2d_parallel_threads(void);

/**
 * One turn of the loop. Several run at the same time, but each thread's one after the other, so
 * that what belongs to a thread needs no lock.
 * thread   0 to num_threads - 1
 */
typedef int l2d_parallel_work(void *user, uint32_t thread, uint32_t index, struct l2d_error *err);

/**
 * work(0), work(1), ... work(count - 1), begun in that order on num_threads threads, this one among
 * them; on fewer if the system has no more. After an error no further turn begins.
 * name     of the threads
 * returns  L2D_OK, or the error of the first turn, by index, that had one: always the same
 */
int l2d_parallel_for(const char *name, uint32_t num_threads, uint32_t count,
                     l2d_parallel_work *work, void *user, struct l2d_error *err);

#endif
