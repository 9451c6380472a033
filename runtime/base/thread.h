// SPDX-License-Identifier: Apache-2.0
// Named threads. Locks and conditions are plain pthreads where they are used; what this adds is a
// name that debuggers and top show, a start that can fail with a reason, and a condition's clock.
#ifndef L2D_BASE_THREAD_H
#define L2D_BASE_THREAD_H

#include <pthread.h>
#include <stdbool.h>

#include "base/error.h"

struct l2d_thread {             // zeroed: not running
    pthread_t handle;
    bool running;               // started and not yet joined
    void (*main)(void *arg);
    void *arg;
    char name[16];              // what the kernel keeps: 15 characters
};

/**
 * Run main(arg) on a new thread. The struct must stay where it is until the join.
 * Signals are blocked on the new thread, so that they reach the one that main() runs on.
 * returns  L2D_OK, or L2D_ENOMEM if the system refuses; the struct is then not running.
 */
int l2d_thread_start(struct l2d_thread *thread, const char *name, void (*main)(void *arg),
                     void *arg, struct l2d_error *err);

/** Wait for its end. Does nothing if it is not running. */
void l2d_thread_join(struct l2d_thread *thread);

/** A condition whose timed waits go by l2d_clock_s(): see l2d_clock_timespec(). */
void l2d_cond_init(pthread_cond_t *cond);

#endif
