// SPDX-License-Identifier: Apache-2.0
// Each turn once, whatever the number of threads; a thread's own state without a lock; and of
// several errors always the first one.
#include "base/parallel.h"

#include <criterion/criterion.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>

#define COUNT 1000

struct seen {
    atomic_int  times[COUNT];
    uint32_t    turns[L2D_PARALLEL_MAX];        // by thread
    atomic_bool inside[L2D_PARALLEL_MAX];
    uint32_t    fails_from;                     // turns from here on, every third
};

static int look(void *user, uint32_t thread, uint32_t index, struct l2d_error *err)
{
    struct seen *s = user;
    cr_assert_lt(thread, L2D_PARALLEL_MAX);
    cr_assert(!atomic_exchange(&s->inside[thread], true), "a thread in two turns");
    atomic_fetch_add(&s->times[index], 1);
    s->turns[thread]++;
    if (index % 7 == 0)
        sched_yield();
    atomic_store(&s->inside[thread], false);
    if (index >= s->fails_from && index % 3 == 0)
        return l2d_error_set(err, L2D_EFORMAT, "turn %u", index);
    return L2D_OK;
}

Test(parallel, each_turn_once)
{
    static const uint32_t threads[] = { 0, 1, 2, 3, 16, 1000 };
    static const uint32_t counts[] = { 0, 1, 2, 5, COUNT };
    for (size_t t = 0; t < sizeof(threads) / sizeof(*threads); t++)
        for (size_t c = 0; c < sizeof(counts) / sizeof(*counts); c++) {
            struct seen *s = calloc(1, sizeof(*s));
            struct l2d_error err;
            uint32_t sum = 0;
            s->fails_from = COUNT;
            cr_assert_eq(l2d_parallel_for("test", threads[t], counts[c], look, s, &err), L2D_OK);
            for (uint32_t i = 0; i < COUNT; i++)
                cr_assert_eq(atomic_load(&s->times[i]), i < counts[c], "turn %u", i);
            for (uint32_t i = 0; i < L2D_PARALLEL_MAX; i++)
                sum += s->turns[i];
            cr_expect_eq(sum, counts[c]);
            cr_expect(threads[t] > 1 || s->turns[0] == counts[c], "this thread alone");
            free(s);
        }
}

Test(parallel, the_first_error_by_index)
{
    for (uint32_t round = 0; round < 200; round++) {
        struct seen *s = calloc(1, sizeof(*s));
        struct l2d_error err = { 0 };
        s->fails_from = 10 + round;
        uint32_t first = (s->fails_from + 2) / 3 * 3;
        char want[32];
        snprintf(want, sizeof(want), "turn %u", first);
        cr_assert_eq(l2d_parallel_for("test", 8, COUNT, look, s, &err), L2D_EFORMAT);
        cr_assert_str_eq(err.msg, want);
        cr_assert_eq(atomic_load(&s->times[first]), 1);
        cr_assert_eq(atomic_load(&s->times[COUNT - 1]), 0, "an error ends the loop");
        free(s);
    }
}

Test(parallel, threads_that_pay)
{
    uint32_t n = l2d_parallel_threads();
    cr_expect(n >= 1 && n <= L2D_PARALLEL_MAX, "%u", n);
}
