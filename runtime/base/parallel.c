// SPDX-License-Identifier: Apache-2.0
// See parallel.h. Turns are handed out in order and one that has begun ends, so of all turns that
// would fail the first is always among those that ran.
#include "base/parallel.h"

#include <sched.h>

#include "base/thread.h"

struct loop {
    l2d_parallel_work *work;
    void *user;
    uint32_t count;
    pthread_mutex_t lock;

    // --- guarded by lock
    uint32_t next;                      // turn to begin
    uint32_t failed;                    // first turn that did; count: none
    struct l2d_error error;             // its
};

struct worker {
    struct loop *loop;
    uint32_t index;
    struct l2d_thread thread;
};

uint32_t l2d_parallel_threads(void)
{
    cpu_set_t set;
    int cores = sched_getaffinity(0, sizeof(set), &set) == 0 ? CPU_COUNT(&set) : 1;
    return cores < 1 ? 1 : cores > L2D_PARALLEL_MAX ? L2D_PARALLEL_MAX : (uint32_t) cores;
}

static void note_failure(struct loop *loop, uint32_t index, const struct l2d_error *err)
{
    pthread_mutex_lock(&loop->lock);
    if (index < loop->failed) {
        loop->failed = index;
        loop->error = *err;
    }
    pthread_mutex_unlock(&loop->lock);
}

static void run(void *arg)
{
    struct worker *w = arg;
    struct loop *loop = w->loop;
    for (;;) {
        pthread_mutex_lock(&loop->lock);
        uint32_t index = loop->failed < loop->count ? loop->count : loop->next;
        loop->next += index < loop->count;
        pthread_mutex_unlock(&loop->lock);
        if (index >= loop->count)
            return;
        struct l2d_error err = { .code = L2D_OK };
        if (loop->work(loop->user, w->index, index, &err) != L2D_OK)
            note_failure(loop, index, &err);
    }
}

int l2d_parallel_for(const char *name, uint32_t num_threads, uint32_t count,
                     l2d_parallel_work *work, void *user, struct l2d_error *err)
{
    struct loop loop = { .work = work, .user = user, .count = count, .failed = count,
                         .lock = PTHREAD_MUTEX_INITIALIZER };
    struct worker worker[L2D_PARALLEL_MAX] = { { .loop = &loop } };
    uint32_t most = num_threads < L2D_PARALLEL_MAX ? num_threads : L2D_PARALLEL_MAX;
    for (uint32_t i = 1; i < most && i < count; i++) {
        worker[i] = (struct worker) { .loop = &loop, .index = i };
        if (l2d_thread_start(&worker[i].thread, name, run, &worker[i], NULL) != L2D_OK)
            break;
    }
    run(&worker[0]);
    for (uint32_t i = 1; i < L2D_PARALLEL_MAX; i++)
        l2d_thread_join(&worker[i].thread);
    pthread_mutex_destroy(&loop.lock);
    return loop.failed == count ? L2D_OK : l2d_error_set(err, loop.error.code, "%s",
                                                         loop.error.msg);
}
