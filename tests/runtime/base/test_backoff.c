// SPDX-License-Identifier: Apache-2.0
// Waits grow from 2 s to 60 s, differ from each other, and begin anew.
#include <criterion/criterion.h>

#include "base/backoff.h"

Test(backoff, grows_to_a_minute_and_begins_anew)
{
    struct l2d_backoff b = { .random = 7 };
    double plain = 2;
    for (int i = 0; i < 20; i++) {
        double wait = l2d_backoff_next(&b);
        cr_expect(wait >= 0.8 * plain - 1e-9 && wait <= 1.2 * plain + 1e-9, "%d: %f of %f", i,
                  wait, plain);
        plain = plain * 1.5 < 60 ? plain * 1.5 : 60;
    }
    l2d_backoff_reset(&b);
    cr_expect_leq(l2d_backoff_next(&b), 2.4);
}

Test(backoff, two_of_them_do_not_march_in_step)
{
    struct l2d_backoff a = { .random = 1 }, b = { .random = 2 };
    int same = 0;
    for (int i = 0; i < 10; i++) {
        double x = l2d_backoff_next(&a), y = l2d_backoff_next(&b);
        same += x - y < 1e-6 && y - x < 1e-6;
    }
    cr_expect_lt(same, 2);
}
