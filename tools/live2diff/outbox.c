// SPDX-License-Identifier: Apache-2.0
// See outbox.h. The list is short, so that taking one out of its middle may move the rest.
#include "outbox.h"

#include <errno.h>
#include <string.h>

#include "base/clock.h"
#include "base/thread.h"

void outbox_init(struct outbox *box, bool live)
{
    memset(box, 0, sizeof(*box));
    box->live = live;
    pthread_mutex_init(&box->lock, NULL);
    l2d_cond_init(&box->changed);
    box->ready = true;
}

static bool is_picture(const struct shared_item *shared)
{
    return shared->item.kind == L2D_ITEM_VIDEO;
}

static struct shared_item *take(struct outbox *box, unsigned at)
{
    struct shared_item *shared = box->slot[at];
    memmove(&box->slot[at], &box->slot[at + 1], (--box->len - at) * sizeof(box->slot[0]));
    box->packets -= !is_picture(shared);
    pthread_cond_broadcast(&box->changed);
    return shared;
}

static struct shared_item *let_go(struct outbox *box, unsigned at)
{
    struct shared_item *shared = take(box, at);
    if (is_picture(shared) && box->there)
        box->counts.stalled++;
    else if (is_picture(shared))
        box->counts.lost++;
    return shared;
}

static bool is_full(const struct outbox *box, const struct shared_item *next)
{
    if (!box->live)
        return box->len >= OUTBOX_PICTURES;
    return is_picture(next) ? box->len - box->packets >= OUTBOX_PICTURES
                            : box->packets >= OUTBOX_PACKETS;
}

static unsigned oldest_like(const struct outbox *box, const struct shared_item *next)
{
    unsigned at = 0;
    while (is_picture(box->slot[at]) != is_picture(next))
        at++;
    return at;
}

void outbox_push(struct outbox *box, struct shared_item *shared)
{
    struct shared_item *dropped = NULL;
    pthread_mutex_lock(&box->lock);
    while (!box->live && !box->closed && is_full(box, shared))
        pthread_cond_wait(&box->changed, &box->lock);
    if (!box->closed) {
        if (is_full(box, shared))
            dropped = let_go(box, oldest_like(box, shared));
        box->slot[box->len++] = shared_item_ref(shared);
        box->packets += !is_picture(shared);
        box->counts.given += is_picture(shared);
        pthread_cond_broadcast(&box->changed);
    }
    pthread_mutex_unlock(&box->lock);
    shared_item_unref(dropped);
}

enum l2d_queue_status outbox_pop(struct outbox *box, struct shared_item **shared, int timeout_ms)
{
    struct timespec deadline = l2d_clock_timespec(l2d_clock_s() + 1e-3 * timeout_ms);
    enum l2d_queue_status status = L2D_QUEUE_OK;
    int rc = 0;
    *shared = NULL;
    pthread_mutex_lock(&box->lock);
    while (!box->closed && box->len == 0 && rc != ETIMEDOUT)
        rc = timeout_ms < 0 ? pthread_cond_wait(&box->changed, &box->lock)
                            : pthread_cond_timedwait(&box->changed, &box->lock, &deadline);
    if (box->len > 0)
        *shared = take(box, 0);
    else
        status = box->aborted ? L2D_QUEUE_ABORTED : box->closed ? L2D_QUEUE_CLOSED
                                                                : L2D_QUEUE_TIMEOUT;
    pthread_mutex_unlock(&box->lock);
    return status;
}

static void empty(struct outbox *box)
{
    for (;;) {
        pthread_mutex_lock(&box->lock);
        struct shared_item *shared = box->len > 0 ? let_go(box, 0) : NULL;
        pthread_mutex_unlock(&box->lock);
        if (!shared)
            return;
        shared_item_unref(shared);
    }
}

void outbox_lose(struct outbox *box)
{
    outbox_set_there(box, false);
    empty(box);
}

void outbox_set_there(struct outbox *box, bool there)
{
    pthread_mutex_lock(&box->lock);
    box->there = there;
    pthread_mutex_unlock(&box->lock);
}

void outbox_close(struct outbox *box)
{
    pthread_mutex_lock(&box->lock);
    box->closed = true;
    pthread_cond_broadcast(&box->changed);
    pthread_mutex_unlock(&box->lock);
}

void outbox_abort(struct outbox *box)
{
    pthread_mutex_lock(&box->lock);
    box->closed = box->aborted = true;
    pthread_cond_broadcast(&box->changed);
    pthread_mutex_unlock(&box->lock);
    outbox_lose(box);
}

bool outbox_is_closed(struct outbox *box)
{
    pthread_mutex_lock(&box->lock);
    bool closed = box->closed;
    pthread_mutex_unlock(&box->lock);
    return closed;
}

struct outbox_counts outbox_counts(struct outbox *box)
{
    pthread_mutex_lock(&box->lock);
    struct outbox_counts counts = box->counts;
    counts.waiting = box->len - box->packets;
    pthread_mutex_unlock(&box->lock);
    return counts;
}

void outbox_finish(struct outbox *box)
{
    if (!box->ready)
        return;
    outbox_abort(box);
    pthread_cond_destroy(&box->changed);
    pthread_mutex_destroy(&box->lock);
    box->ready = false;
}
