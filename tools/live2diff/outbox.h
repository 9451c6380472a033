// SPDX-License-Identifier: Apache-2.0
// What waits for one output, in order. For a file run it holds its producer back when it is full;
// in a live run it never does: it lets go of the oldest picture, or the oldest packet of sound.
// Pictures wait here before they are encoded, so what is let go leaves no hole in the coded stream,
// and the next one can be written at once.
#ifndef L2D_PROGRAM_OUTBOX_H
#define L2D_PROGRAM_OUTBOX_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/queue.h"
#include "shared_item.h"

#define OUTBOX_PICTURES 8       // that wait at most
#define OUTBOX_PACKETS  256     // of sound, in a live run: some 5 s

struct outbox_counts {          // of pictures
    uint64_t given;             // pushed
    uint64_t stalled;           // let go because the output was slow
    uint64_t lost;              // let go because the output was not there
    unsigned waiting;
};

struct outbox {                 // zeroed: nothing may be called but finish
    bool ready, live;           // set by init
    pthread_mutex_t lock;
    pthread_cond_t changed;

    // --- guarded by lock
    struct shared_item *slot[OUTBOX_PICTURES + OUTBOX_PACKETS];
    unsigned len, packets;
    struct outbox_counts counts;
    bool there;                 // else what is let go counts as lost
    bool closed, aborted;
};

void outbox_init(struct outbox *box, bool live);
/** No thread may be inside any more. Accepts a zeroed struct. */
void outbox_finish(struct outbox *box);

/** One more reference goes in. After close or abort nothing happens. */
void outbox_push(struct outbox *box, struct shared_item *shared);

/**
 * The oldest item, which the caller then owns, waiting for at most timeout_ms; -1: for ever.
 * returns  OK; CLOSED: closed and empty; ABORTED; TIMEOUT.
 */
enum l2d_queue_status outbox_pop(struct outbox *box, struct shared_item **shared, int timeout_ms);

/** Let go of all that waits, counted as lost. */
void outbox_lose(struct outbox *box);

/** Whether the output is there: see counts. At first it is not. */
void outbox_set_there(struct outbox *box, bool there);

/** No more pushes; what is inside can be popped. */
void outbox_close(struct outbox *box);
/** No more pushes nor pops. */
void outbox_abort(struct outbox *box);

bool outbox_is_closed(struct outbox *box);
struct outbox_counts outbox_counts(struct outbox *box);

#endif
