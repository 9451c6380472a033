// SPDX-License-Identifier: Apache-2.0
// See thread.h.
#include "base/thread.h"

#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

static void *run(void *user)
{
    struct l2d_thread *t = user;
    pthread_setname_np(pthread_self(), t->name);
    t->main(t->arg);
    return NULL;
}

int l2d_thread_start(struct l2d_thread *thread, const char *name, void (*main)(void *arg),
                     void *arg, struct l2d_error *err)
{
    thread->main = main;
    thread->arg = arg;
    snprintf(thread->name, sizeof(thread->name), "%s", name);

    sigset_t all, before;       // a new thread inherits the mask
    sigfillset(&all);
    pthread_sigmask(SIG_BLOCK, &all, &before);
    int rc = pthread_create(&thread->handle, NULL, run, thread);
    pthread_sigmask(SIG_SETMASK, &before, NULL);

    thread->running = rc == 0;
    if (rc != 0)
        return l2d_error_set(err, L2D_ENOMEM, "starting thread %s: %s", name, strerror(rc));
    return L2D_OK;
}

void l2d_thread_join(struct l2d_thread *thread)
{
    if (!thread->running)
        return;
    pthread_join(thread->handle, NULL);
    thread->running = false;
}

void l2d_cond_init(pthread_cond_t *cond)
{
    pthread_condattr_t attr;            // on Linux none of these can fail
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(cond, &attr);
    pthread_condattr_destroy(&attr);
}
