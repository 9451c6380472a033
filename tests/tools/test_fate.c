// SPDX-License-Identifier: Apache-2.0
// The ledger: every frame has one fate, and one that has none, or two, is noticed.
#include <criterion/criterion.h>

#include "fate.h"

static struct fate_ledger ledger;

static void open_ledger(void)
{
    fate_init(&ledger);
}

static void close_ledger(void)
{
    fate_finish(&ledger);
}

TestSuite(fate, .init = open_ledger, .fini = close_ledger);

Test(fate, frames_leave_are_late_and_are_stopped)
{
    for (int i = 0; i < 10; i++)
        fate_begin(&ledger, 40 * i, 1 + i, 1.5 + i);
    fate_late(&ledger);                         // 320: the one before the last
    cr_expect_eq(fate_leave(&ledger, 0, false, NULL), 1);
    cr_expect_eq(fate_leave(&ledger, 40, true, NULL), 2);
    double begun_s = -1;
    cr_expect_eq(fate_leave(&ledger, 360, false, &begun_s), 10);
    cr_expect_eq(begun_s, 10.5);
    struct fates f = fate_counts(&ledger, 5);
    cr_expect(fates_add_up(&f));
    cr_expect(f.in == 15 && f.out == 2 && f.late == 1 && f.overtaken == 1 && f.backlog == 5);
    cr_expect_eq(f.in_flight, 6);
    fate_end(&ledger);
    f = fate_counts(&ledger, 5);
    cr_expect(fates_add_up(&f) && f.stopped == 6 && f.in_flight == 0);
}

Test(fate, what_leaves_twice_or_unseen_is_astray)
{
    fate_begin(&ledger, 0, 1, 1);
    fate_leave(&ledger, 0, false, NULL);
    fate_leave(&ledger, 0, false, NULL);
    struct fates f = fate_counts(&ledger, 0);
    cr_expect(!fates_add_up(&f) && f.astray == 1);
}

Test(fate, more_than_it_can_follow_is_astray)
{
    for (int i = 0; i <= FATE_ENTRIES; i++)
        fate_begin(&ledger, i, 1, 1);
    struct fates f = fate_counts(&ledger, 0);
    cr_expect(!fates_add_up(&f) && f.astray == 1);
}

Test(fate, next_is_newer_than_a_moment_and_a_time)
{
    int64_t pts = 100;
    cr_expect(!fate_next(&ledger, 0, &pts));
    fate_begin(&ledger, 80, 1, 1);              // of before the loss
    fate_begin(&ledger, 120, 1, 1);
    fate_begin(&ledger, 90, 3, 3);              // behind what was held
    pts = 100;
    cr_expect(!fate_next(&ledger, 2, &pts));
    fate_begin(&ledger, 140, 3.1, 3.1);
    pts = 100;
    cr_expect(fate_next(&ledger, 2, &pts));
    cr_expect_eq(pts, 140);
}
