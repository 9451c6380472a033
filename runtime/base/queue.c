// SPDX-License-Identifier: Apache-2.0
// A ring of pointers under one lock and one condition. See queue.h.
#include "base/queue.h"

#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>

#include "base/clock.h"
#include "base/thread.h"

struct l2d_queue {
    size_t capacity;            // set at create, never changes
    void (*free_item)(void *item);
    pthread_mutex_t lock;
    pthread_cond_t changed;     // on the monotonic clock; every change of the fields below

    // --- guarded by lock
    void **slot;                // ring of capacity items, the oldest at head
    size_t head, len;
    bool closed;                // push refuses; pop drains what is left, then refuses
    bool aborted;               // closed, and len stays 0
};

int l2d_queue_create(struct l2d_queue **out, size_t capacity, void (*free_item)(void *item),
                     struct l2d_error *err)
{
    assert(capacity > 0);
    struct l2d_queue *q = calloc(1, sizeof(*q));
    void **slot = calloc(capacity, sizeof(*slot));
    if (!q || !slot) {
        free(slot);
        free(q);
        return l2d_error_set(err, L2D_ENOMEM, "queue of %zu items: out of memory", capacity);
    }
    q->capacity = capacity;
    q->free_item = free_item;
    q->slot = slot;
    pthread_mutex_init(&q->lock, NULL);     // on Linux it cannot fail
    l2d_cond_init(&q->changed);
    *out = q;
    return L2D_OK;
}

void l2d_queue_destroy(struct l2d_queue **queue)
{
    struct l2d_queue *q = *queue;
    if (!q)
        return;
    l2d_queue_abort(q);
    pthread_cond_destroy(&q->changed);
    pthread_mutex_destroy(&q->lock);
    free(q->slot);
    free(q);
    *queue = NULL;
}

static void put(struct l2d_queue *q, void *item)
{
    q->slot[(q->head + q->len++) % q->capacity] = item;
    pthread_cond_broadcast(&q->changed);
}

static void *take(struct l2d_queue *q)
{
    void *item = q->slot[q->head];
    q->head = (q->head + 1) % q->capacity;
    q->len--;
    pthread_cond_broadcast(&q->changed);
    return item;
}

static enum l2d_queue_status ended(const struct l2d_queue *q)
{
    return q->aborted ? L2D_QUEUE_ABORTED : L2D_QUEUE_CLOSED;
}

enum l2d_queue_status l2d_queue_push(struct l2d_queue *q, void *item)
{
    assert(item);
    enum l2d_queue_status status = L2D_QUEUE_OK;
    pthread_mutex_lock(&q->lock);
    while (!q->closed && q->len == q->capacity)
        pthread_cond_wait(&q->changed, &q->lock);
    if (q->closed)
        status = ended(q);
    else
        put(q, item);
    pthread_mutex_unlock(&q->lock);
    return status;
}

enum l2d_queue_status l2d_queue_push_newest(struct l2d_queue *q, void *item, void **dropped)
{
    assert(item);
    enum l2d_queue_status status = L2D_QUEUE_OK;
    *dropped = NULL;
    pthread_mutex_lock(&q->lock);
    if (q->closed) {
        status = ended(q);
    } else {
        if (q->len == q->capacity)
            *dropped = take(q);
        put(q, item);
    }
    pthread_mutex_unlock(&q->lock);
    return status;
}

// deadline: on the monotonic clock; NULL waits for ever.
static enum l2d_queue_status pop(struct l2d_queue *q, void **item, const struct timespec *deadline)
{
    enum l2d_queue_status status = L2D_QUEUE_OK;
    int rc = 0;
    *item = NULL;
    pthread_mutex_lock(&q->lock);
    while (!q->closed && q->len == 0 && rc != ETIMEDOUT)
        rc = deadline ? pthread_cond_timedwait(&q->changed, &q->lock, deadline)
                      : pthread_cond_wait(&q->changed, &q->lock);
    if (q->len > 0)
        *item = take(q);
    else
        status = q->closed ? ended(q) : L2D_QUEUE_TIMEOUT;
    pthread_mutex_unlock(&q->lock);
    return status;
}

enum l2d_queue_status l2d_queue_pop(struct l2d_queue *q, void **item)
{
    return pop(q, item, NULL);
}

enum l2d_queue_status l2d_queue_pop_timed(struct l2d_queue *q, void **item, int timeout_ms)
{
    assert(timeout_ms >= 0);
    struct timespec deadline = l2d_clock_timespec(l2d_clock_s() + 1e-3 * timeout_ms);
    return pop(q, item, &deadline);
}

void l2d_queue_close(struct l2d_queue *q)
{
    pthread_mutex_lock(&q->lock);
    q->closed = true;
    pthread_cond_broadcast(&q->changed);
    pthread_mutex_unlock(&q->lock);
}

void l2d_queue_abort(struct l2d_queue *q)
{
    pthread_mutex_lock(&q->lock);
    q->closed = q->aborted = true;          // from here on nobody else touches the ring
    size_t len = q->len;
    q->len = 0;
    pthread_cond_broadcast(&q->changed);
    pthread_mutex_unlock(&q->lock);
    for (size_t i = 0; i < len && q->free_item; i++)
        q->free_item(q->slot[(q->head + i) % q->capacity]);
}

size_t l2d_queue_len(struct l2d_queue *q)
{
    pthread_mutex_lock(&q->lock);
    size_t len = q->len;
    pthread_mutex_unlock(&q->lock);
    return len;
}
