// SPDX-License-Identifier: Apache-2.0
// See delay.h.
#include "delay.h"

#include <pthread.h>
#include <stdlib.h>

#include "base/clock.h"
#include "base/thread.h"

struct waiting {
    struct l2d_frame *frame;
    double arrival_s, due_s;
};

struct delay {
    unsigned capacity;
    delay_give_fn *give;
    void *user;
    struct l2d_thread thread;

    pthread_mutex_t lock;
    pthread_cond_t changed;             // on the monotonic clock; every change of what follows
    // --- guarded by lock
    struct waiting *slot;               // a ring of capacity, the oldest at head
    unsigned head, len;
    bool giving, stopped;
};

static void run(void *arg)
{
    struct delay *d = arg;
    pthread_mutex_lock(&d->lock);
    while (!d->stopped) {
        struct waiting next = d->slot[d->head];
        if (d->len == 0) {
            pthread_cond_wait(&d->changed, &d->lock);
        } else if (l2d_clock_s() < next.due_s) {
            struct timespec due = l2d_clock_timespec(next.due_s);
            pthread_cond_timedwait(&d->changed, &d->lock, &due);
        } else {
            d->head = (d->head + 1) % d->capacity;
            d->len--;
            d->giving = true;
            pthread_mutex_unlock(&d->lock);
            bool goes_on = d->give(d->user, &next.frame, next.arrival_s);
            l2d_frame_unref(&next.frame);
            pthread_mutex_lock(&d->lock);
            d->giving = false;
            d->stopped |= !goes_on;
            pthread_cond_broadcast(&d->changed);
        }
    }
    pthread_mutex_unlock(&d->lock);
}

int delay_create(struct delay **out, unsigned capacity, delay_give_fn *give, void *user,
                 struct l2d_error *err)
{
    struct delay *d = calloc(1, sizeof(*d));
    struct waiting *slot = calloc(capacity, sizeof(*slot));
    if (!d || !slot) {
        free(slot);
        free(d);
        return l2d_error_set(err, L2D_ENOMEM, "a buffer of %u frames: out of memory", capacity);
    }
    *d = (struct delay) { .capacity = capacity, .give = give, .user = user, .slot = slot };
    pthread_mutex_init(&d->lock, NULL);     // on Linux it cannot fail
    l2d_cond_init(&d->changed);
    int rc = l2d_thread_start(&d->thread, "delay", run, d, err);
    if (rc != L2D_OK) {
        delay_destroy(&d);
        return rc;
    }
    *out = d;
    return L2D_OK;
}

int delay_put(struct delay *d, struct l2d_frame **frame, double arrival_s, double due_s)
{
    pthread_mutex_lock(&d->lock);
    while (!d->stopped && d->len == d->capacity)
        pthread_cond_wait(&d->changed, &d->lock);
    bool taken = !d->stopped;
    if (taken) {
        d->slot[(d->head + d->len++) % d->capacity] =
            (struct waiting) { *frame, arrival_s, due_s };
        *frame = NULL;
        pthread_cond_broadcast(&d->changed);
    }
    pthread_mutex_unlock(&d->lock);
    return taken ? L2D_OK : L2D_ECLOSED;
}

void delay_drain(struct delay *d)
{
    pthread_mutex_lock(&d->lock);
    while (!d->stopped && (d->len > 0 || d->giving))
        pthread_cond_wait(&d->changed, &d->lock);
    pthread_mutex_unlock(&d->lock);
}

void delay_stop(struct delay *d)
{
    pthread_mutex_lock(&d->lock);
    d->stopped = true;
    pthread_cond_broadcast(&d->changed);
    pthread_mutex_unlock(&d->lock);
}

unsigned delay_destroy(struct delay **delay)
{
    struct delay *d = *delay;
    *delay = NULL;
    if (!d)
        return 0;
    delay_stop(d);
    l2d_thread_join(&d->thread);
    unsigned left = d->len;
    for (unsigned i = 0; i < left; i++)
        l2d_frame_unref(&d->slot[(d->head + i) % d->capacity].frame);
    pthread_cond_destroy(&d->changed);
    pthread_mutex_destroy(&d->lock);
    free(d->slot);
    free(d);
    return left;
}
