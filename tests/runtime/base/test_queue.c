// SPDX-License-Identifier: Apache-2.0
// The queue's states, one thread at a time where that suffices, two where somebody must wait.
// tests/stress/stress_queue.c is for races.
#include "base/queue.h"

#include <criterion/criterion.h>
#include <stdint.h>

#include "base/thread.h"

static int items[16];
static int num_freed;

static void count_freed(void *item)
{
    (void) item;
    num_freed++;
}

static struct l2d_queue *queue_of(size_t capacity)
{
    struct l2d_queue *q = NULL;
    num_freed = 0;
    cr_assert_eq(l2d_queue_create(&q, capacity, count_freed, NULL), L2D_OK);
    return q;
}

static void expect_pop(struct l2d_queue *q, enum l2d_queue_status status, void *want)
{
    void *got = &num_freed;
    cr_assert_eq(l2d_queue_pop(q, &got), status);
    cr_assert_eq(got, want);
}

Test(queue, keeps_order_around_the_ring)
{
    struct l2d_queue *q = queue_of(3);
    for (int i = 0; i < 10; i++) {
        cr_assert_eq(l2d_queue_push(q, &items[i]), L2D_QUEUE_OK);
        cr_assert_eq(l2d_queue_push(q, &items[i + 1]), L2D_QUEUE_OK);
        cr_assert_eq(l2d_queue_len(q), 2);
        expect_pop(q, L2D_QUEUE_OK, &items[i]);
        expect_pop(q, L2D_QUEUE_OK, &items[i + 1]);
    }
    l2d_queue_destroy(&q);
    cr_assert_null(q);
    l2d_queue_destroy(&q);
    cr_assert_eq(num_freed, 0);
}

Test(queue, newest_pushes_out_the_oldest)
{
    struct l2d_queue *q = queue_of(2);
    void *dropped;
    for (int i = 0; i < 5; i++) {
        cr_assert_eq(l2d_queue_push_newest(q, &items[i], &dropped), L2D_QUEUE_OK);
        cr_assert_eq(dropped, i < 2 ? NULL : (void *) &items[i - 2]);
    }
    expect_pop(q, L2D_QUEUE_OK, &items[3]);
    expect_pop(q, L2D_QUEUE_OK, &items[4]);
    l2d_queue_close(q);
    cr_assert_eq(l2d_queue_push_newest(q, &items[0], &dropped), L2D_QUEUE_CLOSED);
    cr_assert_null(dropped);
    l2d_queue_destroy(&q);
    cr_assert_eq(num_freed, 0);
}

Test(queue, closed_drains_then_refuses)
{
    struct l2d_queue *q = queue_of(4);
    l2d_queue_push(q, &items[0]);
    l2d_queue_push(q, &items[1]);
    l2d_queue_close(q);
    l2d_queue_close(q);
    cr_assert_eq(l2d_queue_push(q, &items[2]), L2D_QUEUE_CLOSED);
    expect_pop(q, L2D_QUEUE_OK, &items[0]);
    expect_pop(q, L2D_QUEUE_OK, &items[1]);
    expect_pop(q, L2D_QUEUE_CLOSED, NULL);
    expect_pop(q, L2D_QUEUE_CLOSED, NULL);
    l2d_queue_destroy(&q);
    cr_assert_eq(num_freed, 0);
}

Test(queue, aborted_frees_what_is_inside)
{
    struct l2d_queue *q = queue_of(4);
    l2d_queue_push(q, &items[0]);
    l2d_queue_push(q, &items[1]);
    l2d_queue_abort(q);
    cr_assert_eq(num_freed, 2);
    expect_pop(q, L2D_QUEUE_ABORTED, NULL);
    cr_assert_eq(l2d_queue_push(q, &items[2]), L2D_QUEUE_ABORTED);
    cr_assert_eq(l2d_queue_len(q), 0);
    l2d_queue_close(q);                             // stays aborted
    expect_pop(q, L2D_QUEUE_ABORTED, NULL);
    l2d_queue_destroy(&q);
    cr_assert_eq(num_freed, 2);
}

Test(queue, destroy_frees_what_is_inside)
{
    struct l2d_queue *q = queue_of(4);
    l2d_queue_push(q, &items[0]);
    l2d_queue_close(q);
    l2d_queue_destroy(&q);
    cr_assert_eq(num_freed, 1);
}

Test(queue, timed_pop)
{
    struct l2d_queue *q = queue_of(1);
    void *got;
    cr_assert_eq(l2d_queue_pop_timed(q, &got, 0), L2D_QUEUE_TIMEOUT);
    cr_assert_null(got);
    cr_assert_eq(l2d_queue_pop_timed(q, &got, 20), L2D_QUEUE_TIMEOUT);
    l2d_queue_push(q, &items[0]);
    cr_assert_eq(l2d_queue_pop_timed(q, &got, 0), L2D_QUEUE_OK);
    cr_assert_eq(got, &items[0]);
    l2d_queue_close(q);
    cr_assert_eq(l2d_queue_pop_timed(q, &got, 1000), L2D_QUEUE_CLOSED);
    l2d_queue_destroy(&q);
}

struct waiter {
    struct l2d_queue *q;
    enum l2d_queue_status status;
    void *item;
};

static void wait_pop(void *arg)
{
    struct waiter *w = arg;
    w->status = l2d_queue_pop(w->q, &w->item);
}

static void wait_push(void *arg)
{
    struct waiter *w = arg;
    w->status = l2d_queue_push(w->q, &items[1]);
}

// Whether the thread waits already or only starts when the queue changes, it must end the same.
Test(queue, waiting_threads_wake, .timeout = 20)
{
    static const struct {
        bool full;                                  // before, so that a push waits
        void (*wait)(void *);
        int change;                                 // 0 push or pop, 1 close, 2 abort
        enum l2d_queue_status want;
    } cases[] = {
        { false, wait_pop, 0, L2D_QUEUE_OK },
        { false, wait_pop, 1, L2D_QUEUE_CLOSED },
        { false, wait_pop, 2, L2D_QUEUE_ABORTED },
        { true, wait_push, 0, L2D_QUEUE_OK },
        { true, wait_push, 1, L2D_QUEUE_CLOSED },
        { true, wait_push, 2, L2D_QUEUE_ABORTED },
    };
    for (int round = 0; round < 50; round++) {
        for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
            struct l2d_queue *q = queue_of(1);
            if (cases[i].full)
                l2d_queue_push(q, &items[0]);
            struct waiter w = { .q = q };
            struct l2d_thread thread = { 0 };
            cr_assert_eq(l2d_thread_start(&thread, "waiter", cases[i].wait, &w, NULL), L2D_OK);
            if (cases[i].change == 1)
                l2d_queue_close(q);
            else if (cases[i].change == 2)
                l2d_queue_abort(q);
            else if (cases[i].full)
                expect_pop(q, L2D_QUEUE_OK, &items[0]);
            else
                l2d_queue_push(q, &items[0]);
            l2d_thread_join(&thread);
            cr_assert_eq(w.status, cases[i].want, "case %zu", i);
            l2d_queue_destroy(&q);
        }
    }
}
