// SPDX-License-Identifier: Apache-2.0
// When a picture is held, with which times, and when the source has it back. The clock is ours.
#include <criterion/criterion.h>
#include <string.h>

#include "hold.h"

#define TICKS 90000

static struct fate_ledger ledger;
static struct hold hold;

static void open_hold(void)
{
    fate_init(&ledger);
    hold_init(&hold, ON_LOSS_HOLD, &ledger, 0.04);
}

static void close_hold(void)
{
    hold_finish(&hold);
    fate_finish(&ledger);
}

TestSuite(hold, .init = open_hold, .fini = close_hold);

// A frame arrives and comes out of the model at once. returns whether it came in time.
static bool show(double pts_s, double now_s)
{
    struct l2d_frame *f = NULL;
    struct l2d_pixel_format format = l2d_pixel_format_i420(L2D_MATRIX_BT709, false);
    cr_assert_eq(l2d_frame_create(&f, 16, 16, &format, NULL), L2D_OK);
    memset(f->data, 77, f->size_bytes);
    f->pts = (int64_t) (pts_s * TICKS + 0.5);
    f->time_base_den = TICKS;
    fate_begin(&ledger, f->pts, now_s, now_s);
    bool in_time = hold_take(&hold, f, now_s);
    fate_leave(&ledger, f->pts, !in_time, NULL);
    l2d_frame_unref(&f);
    return in_time;
}

// returns the time of the picture that is held now; -1 if none is. Its first byte to *luma.
static double held(double now_s, int *luma)
{
    struct l2d_frame *f = NULL;
    cr_assert_eq(hold_give(&hold, now_s, &f, NULL), L2D_OK);
    if (!f)
        return -1;
    double pts_s = (double) f->pts / TICKS;
    if (luma)
        *luma = f->data[0];
    l2d_frame_unref(&f);
    return pts_s;
}

static double run_steadily(void)
{
    for (int i = 0; i <= 200; i++) {
        cr_assert(show(0.04 * i, 100 + 0.04 * i));
        cr_assert_lt(held(100 + 0.04 * i + 0.03, NULL), 0, "frame %d", i);
    }
    return 108;
}

Test(hold, goes_on_one_frame_time_after_a_frame_is_missed)
{
    double now = run_steadily();
    cr_expect_lt(held(now + 0.06, NULL), 0);
    int luma;
    double at = held(now + 0.081, &luma);
    cr_expect(at > 8.08 && at < 8.082, "%f", at);
    cr_expect_eq(luma, 77);
    int count = 0;
    double last = at;
    for (double t = now + 0.082; t < now + 1.081; t += 0.001) {
        at = held(t, NULL);
        if (at < 0)
            continue;
        cr_expect(at > last && at - last < 0.05, "%f after %f", at, last);
        last = at;
        count++;
    }
    cr_expect(count >= 24 && count <= 26, "%d in a second", count);
    cr_expect(last > 9.0 && last < 9.09, "%f", last);
}

Test(hold, what_comes_later_is_overtaken_until_the_source_is_ahead)
{
    double now = run_steadily();
    for (double t = now; t < now + 2; t += 0.001)
        held(t, NULL);
    cr_expect(!show(8.04, now + 2));            // was on its way when the source went
    cr_expect(show(10.02, now + 2.02));
    cr_expect_lt(held(now + 2.05, NULL), 0);    // and nobody holds any more
}

Test(hold, a_source_that_is_back_but_late_is_seen_again)
{
    double last = run_steadily(), at = last, now = 100 + last, shown = last;
    for (; now < 100 + last + 2; now += 0.01) {             // silent for 2 s
        double pts = held(now, NULL);
        shown = pts > 0 ? pts : shown;
    }
    int seen = 0, given = 0;
    for (int i = 0; i < 200; i++, now += 0.01) {            // then at its pace, 0.3 s late
        if (i % 4 == 0) {
            at = now - 100 - 0.3;
            bool in_time = show(at, now);
            cr_expect(!in_time || at > shown, "%f after %f", at, shown);
            seen += in_time && i >= 100;
            shown = in_time ? at : shown;
        }
        double pts = held(now, NULL);
        cr_expect(pts < 0 || pts > shown, "%f after %f", pts, shown);
        given += pts > 0 && i < 40;
        shown = pts > 0 ? pts : shown;
    }
    cr_expect_eq(seen, 25);
    cr_expect_geq(given, 9);                                // and no gap meanwhile
}

Test(hold, waits_for_a_frame_that_is_on_its_way_through_the_model)
{
    double now = run_steadily();
    for (double t = now; t < now + 1; t += 0.001)
        held(t, NULL);
    fate_begin(&ledger, (int64_t) (9.05 * TICKS), now + 1, now + 1);
    double last = 0;
    for (double t = now + 1; t < now + 1.5; t += 0.001) {
        double at = held(t, NULL);
        last = at > 0 ? at : last;
    }
    cr_expect_lt(last, 9.05);
}

Test(hold, a_jittery_source_is_given_more_time)
{
    double now = 100;
    for (int i = 0; i < 100; i++) {
        now += i % 5 ? 0.01 : 0.16;             // five at once
        cr_assert(show(0.04 * i, now));
    }
    cr_expect_lt(held(now + 0.20, NULL), 0);
    cr_expect_gt(held(now + 0.25, NULL), 0);
}

Test(hold, a_slow_model_is_no_silent_source)
{
    double now = run_steadily();
    fate_begin(&ledger, (int64_t) (8.2 * TICKS), now + 0.2, now + 0.2);
    cr_expect_lt(held(now + 0.21, NULL), 0);
}

// What the model gave out every five seconds is held more often than that.
Test(hold, a_slow_model_makes_no_rare_pictures)
{
    double now = 100;
    for (int i = 0; i < 20; i++)
        cr_assert(show(5 * i, now += 5));
    int count = 0;
    for (double t = now; t < now + 5; t += 0.01)
        count += held(t, NULL) > 0;
    cr_expect(count >= 8 && count <= 10, "%d in 5 s", count);
}

Test(hold, a_slate_is_bars_and_end_is_nothing)
{
    hold.kind = ON_LOSS_SLATE;
    double now = run_steadily();
    int luma = 0;
    cr_expect_gt(held(now + 1, &luma), 0);
    cr_expect_eq(luma, 180);
    hold.kind = ON_LOSS_END;
    cr_expect_lt(held(now + 2, NULL), 0);
}
