// SPDX-License-Identifier: Apache-2.0
// Frames that wait until they are due: in order, none early, none lost, at the end and after a
// stop.
#include <criterion/criterion.h>
#include <stdatomic.h>

#include "base/clock.h"
#include "delay.h"

#define MOST 64

static struct l2d_error err;

struct given {
    double at_s[MOST], arrival_s[MOST];
    int64_t pts[MOST];
    atomic_uint count;
    unsigned stop_at;                   // after so many; 0: never
};

static bool give(void *user, struct l2d_frame **frame, double arrival_s)
{
    struct given *g = user;
    unsigned n = atomic_load(&g->count);
    cr_assert(n < MOST);
    g->at_s[n] = l2d_clock_s();
    g->arrival_s[n] = arrival_s;
    g->pts[n] = (*frame)->pts;
    if (n % 2)                          // taken, or left to the line
        l2d_frame_unref(frame);
    atomic_store(&g->count, n + 1);
    return g->stop_at == 0 || n + 1 < g->stop_at;
}

static struct l2d_frame *frame(int64_t pts)
{
    struct l2d_frame *f = NULL;
    struct l2d_pixel_format format = l2d_pixel_format_i420(L2D_MATRIX_BT709, false);
    cr_assert_eq(l2d_frame_create(&f, 16, 16, &format, &err), L2D_OK);
    f->pts = pts;
    return f;
}

// Bursts of five, due 10 ms after another.
Test(delay, bursts_go_on_evenly)
{
    struct given g = { .count = 0 };
    struct delay *delay = NULL;
    double due_s[20];
    cr_assert_eq(delay_create(&delay, 8, give, &g, &err), L2D_OK, "%s", err.msg);
    double begin_s = l2d_clock_s() + 0.05;
    for (int i = 0; i < 20; i++) {
        struct l2d_frame *f = frame(i);
        due_s[i] = begin_s + 0.01 * i;
        cr_assert_eq(delay_put(delay, &f, 100 + i, due_s[i]), L2D_OK);
        cr_assert_null(f);
    }
    cr_assert(l2d_clock_s() >= due_s[10], "a full line lets who puts in wait");
    delay_drain(delay);
    cr_assert_eq(atomic_load(&g.count), 20);
    for (int i = 0; i < 20; i++)
        cr_expect(g.pts[i] == i && g.at_s[i] >= due_s[i] && g.arrival_s[i] == 100 + i, "%d", i);
    cr_assert_eq(delay_destroy(&delay), 0);
    cr_assert_null(delay);
}

// What is due already does not wait, but for what is before it.
Test(delay, order_comes_first)
{
    struct given g = { .count = 0 };
    struct delay *delay = NULL;
    cr_assert_eq(delay_create(&delay, 8, give, &g, &err), L2D_OK);
    double now_s = l2d_clock_s();
    struct l2d_frame *f[] = { frame(0), frame(1), frame(2) };
    const double due_s[] = { now_s - 1, now_s + 0.03, now_s - 1 };
    for (int i = 0; i < 3; i++)
        cr_assert_eq(delay_put(delay, &f[i], 0, due_s[i]), L2D_OK);
    delay_drain(delay);
    cr_expect(g.pts[0] == 0 && g.pts[1] == 1 && g.pts[2] == 2);
    cr_expect(g.at_s[2] >= due_s[1]);
    delay_destroy(&delay);
}

Test(delay, a_stop_throws_away)
{
    struct given g = { .count = 0 };
    struct delay *delay = NULL;
    cr_assert_eq(delay_create(&delay, 8, give, &g, &err), L2D_OK);
    for (int i = 0; i < 3; i++) {
        struct l2d_frame *f = frame(i);
        cr_assert_eq(delay_put(delay, &f, 0, l2d_clock_s() + 3600), L2D_OK);
    }
    delay_stop(delay);
    delay_drain(delay);                 // does not wait
    struct l2d_frame *f = frame(3);
    cr_assert_eq(delay_put(delay, &f, 0, 0), L2D_ECLOSED);
    cr_assert_not_null(f);
    l2d_frame_unref(&f);
    cr_assert_eq(delay_destroy(&delay), 3);
    cr_assert_eq(atomic_load(&g.count), 0);
    cr_assert_eq(delay_destroy(&delay), 0);
}

Test(delay, who_is_given_to_can_stop)
{
    struct given g = { .count = 0, .stop_at = 2 };
    struct delay *delay = NULL;
    cr_assert_eq(delay_create(&delay, 2, give, &g, &err), L2D_OK);
    int rc = L2D_OK, put = 0;
    for (; rc == L2D_OK && put < 10; put++) {
        struct l2d_frame *f = frame(put);
        rc = delay_put(delay, &f, 0, 0);
        l2d_frame_unref(&f);
    }
    cr_assert(rc == L2D_ECLOSED && put <= 5, "%d", put);
    cr_assert_eq(atomic_load(&g.count), 2);
    delay_destroy(&delay);
}
