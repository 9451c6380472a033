// SPDX-License-Identifier: Apache-2.0
// A bounded first-in first-out queue of pointers between threads. A full queue either holds its
// producer back (a file) or lets go of its oldest item (live input). It has two ends of life:
// close, after which what is inside can still be popped, and abort, after which nothing can.
// Whoever holds an item owns it: the pusher until OK, then the queue, then the popper.
#ifndef L2D_BASE_QUEUE_H
#define L2D_BASE_QUEUE_H

#include <stddef.h>

#include "base/error.h"

enum l2d_queue_status {
    L2D_QUEUE_OK,
    L2D_QUEUE_TIMEOUT,          // nothing happened in the time given; the item is still yours
    L2D_QUEUE_CLOSED,           // push: refused, the item is still yours. pop: closed and empty
    L2D_QUEUE_ABORTED,          // as CLOSED, but what was inside has been thrown away
};

struct l2d_queue;               // opaque. Thread-safety: everything but create and destroy

/**
 * capacity     items, at least 1.
 * free_item    called for what is left inside at abort and destroy, without the lock held;
 *              NULL: nothing is done with it.
 * returns      L2D_OK or L2D_ENOMEM.
 */
int l2d_queue_create(struct l2d_queue **out, size_t capacity, void (*free_item)(void *item),
                     struct l2d_error *err);

/** No thread may be inside the queue any more. Sets *queue to NULL; accepts NULL. */
void l2d_queue_destroy(struct l2d_queue **queue);

/** Append item (not NULL), waiting for room. returns OK, CLOSED or ABORTED. */
enum l2d_queue_status l2d_queue_push(struct l2d_queue *queue, void *item);

/**
 * Append item without waiting. From a full queue the oldest item is taken out first and handed to
 * the caller in *dropped, who then owns it; otherwise *dropped is NULL.
 * returns  OK, CLOSED or ABORTED.
 */
enum l2d_queue_status l2d_queue_push_newest(struct l2d_queue *queue, void *item, void **dropped);

/** Take the oldest item, waiting for one; *item is NULL unless OK. returns OK, CLOSED, ABORTED. */
enum l2d_queue_status l2d_queue_pop(struct l2d_queue *queue, void **item);

/** The same, for at most timeout_ms (0: only look). returns also TIMEOUT. */
enum l2d_queue_status l2d_queue_pop_timed(struct l2d_queue *queue, void **item, int timeout_ms);

/** No more pushes; what is inside can still be popped. Wakes everybody. May be repeated. */
void l2d_queue_close(struct l2d_queue *queue);

/** No more pushes nor pops; what is inside is freed. Wakes everybody. May be repeated. */
void l2d_queue_abort(struct l2d_queue *queue);

/** Items inside: a number for the log, already old when it is read. */
size_t l2d_queue_len(struct l2d_queue *queue);

#endif
