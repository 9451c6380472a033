// SPDX-License-Identifier: Apache-2.0
// Several producers and consumers on one small queue, to be run under ThreadSanitizer. Every item
// must be accounted for exactly once: popped, dropped, refused or freed by the queue.
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/queue.h"
#include "base/thread.h"

enum { NUM_PRODUCERS = 3, NUM_CONSUMERS = 3, NUM_ITEMS = 4000, NUM_ROUNDS = 12 };

struct run {
    struct l2d_queue *queue;
    bool newest;                        // producers drop the oldest instead of waiting
    int end_at;                         // this item of a producer ends the queue; -1: nobody does
    bool abort;                         // by abort, not close
    atomic_int num_made, num_popped, num_dropped, num_refused;
};

static atomic_int num_freed;

static void free_item(void *item)
{
    free(item);
    atomic_fetch_add(&num_freed, 1);
}

static void produce(void *arg)
{
    struct run *r = arg;
    for (int i = 0; i < NUM_ITEMS; i++) {
        int *item = malloc(sizeof(*item));
        if (!item)
            abort();
        *item = i;
        atomic_fetch_add(&r->num_made, 1);
        void *dropped = NULL;
        enum l2d_queue_status status = r->newest ? l2d_queue_push_newest(r->queue, item, &dropped)
                                                 : l2d_queue_push(r->queue, item);
        if (dropped) {
            free(dropped);
            atomic_fetch_add(&r->num_dropped, 1);
        }
        if (status != L2D_QUEUE_OK) {
            free(item);
            atomic_fetch_add(&r->num_refused, 1);
            return;
        }
        if (i == r->end_at)
            (r->abort ? l2d_queue_abort : l2d_queue_close)(r->queue);
    }
}

static void consume(void *arg)
{
    struct run *r = arg;
    for (;;) {
        void *item;
        enum l2d_queue_status status = l2d_queue_pop_timed(r->queue, &item, 5);
        if (status == L2D_QUEUE_TIMEOUT)
            status = l2d_queue_pop(r->queue, &item);
        if (status != L2D_QUEUE_OK)
            return;
        free(item);
        atomic_fetch_add(&r->num_popped, 1);
    }
}

static void start(struct l2d_thread *thread, const char *name, void (*body)(void *), struct run *r)
{
    struct l2d_error err;
    if (l2d_thread_start(thread, name, body, r, &err) != L2D_OK) {
        fprintf(stderr, "%s\n", err.msg);
        exit(1);
    }
}

static bool run_once(int round)
{
    struct run r = {
        .newest = round & 1,
        .abort = round & 2,
        .end_at = round % 3 == 0 ? -1 : NUM_ITEMS / 2,
    };
    struct l2d_thread producer[NUM_PRODUCERS] = { 0 }, consumer[NUM_CONSUMERS] = { 0 };
    atomic_store(&num_freed, 0);
    if (l2d_queue_create(&r.queue, 1 + (size_t) round % 4, free_item, NULL) != L2D_OK)
        return false;
    for (int i = 0; i < NUM_CONSUMERS; i++)
        start(&consumer[i], "consumer", consume, &r);
    for (int i = 0; i < NUM_PRODUCERS; i++)
        start(&producer[i], "producer", produce, &r);
    for (int i = 0; i < NUM_PRODUCERS; i++)
        l2d_thread_join(&producer[i]);
    l2d_queue_close(r.queue);
    for (int i = 0; i < NUM_CONSUMERS; i++)
        l2d_thread_join(&consumer[i]);
    l2d_queue_destroy(&r.queue);

    int made = atomic_load(&r.num_made), popped = atomic_load(&r.num_popped);
    int dropped = atomic_load(&r.num_dropped), refused = atomic_load(&r.num_refused);
    int freed = atomic_load(&num_freed);
    printf("round %d: %d made = %d popped + %d dropped + %d refused + %d freed\n", round, made,
           popped, dropped, refused, freed);
    return made == popped + dropped + refused + freed;
}

int main(void)
{
    for (int round = 0; round < NUM_ROUNDS; round++) {
        if (!run_once(round)) {
            fprintf(stderr, "round %d: items lost or doubled\n", round);
            return 1;
        }
    }
    return 0;
}
