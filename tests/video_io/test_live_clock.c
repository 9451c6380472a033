// SPDX-License-Identifier: Apache-2.0
// One clock over sessions: gaps are as long as they were, jumps are taken out, jitter is left in.
#include <criterion/criterion.h>

#include "video_io/live_clock.h"

#define S(seconds) ((int64_t) ((seconds) * L2D_LIVE_CLOCK_HZ))
#define FRAME S(0.04)

static struct l2d_live_clock t;
static int64_t wall;                // of the next frame

// Frames at their pace, wall by wall; returns how often the session was moved.
static int play(int64_t *raw, int frames, int64_t *last)
{
    int moves = 0;
    for (int i = 0; i < frames; i++) {
        int64_t out;
        moves += l2d_live_clock_map(&t, *raw, wall, &out);
        cr_expect_gt(out, *last, "frame %d: %f after %f", i, (double) out / 90000,
                     (double) *last / 90000);
        *last = out;
        *raw += FRAME;
        wall += FRAME;
    }
    return moves;
}

static void expect_near(int64_t a, int64_t b, double within_s)
{
    cr_expect(a - b <= S(within_s) && b - a <= S(within_s), "%f, not %f", (double) a / 90000,
              (double) b / 90000);
}

Test(live_clock, begins_at_0_and_leaves_times_as_they_are)
{
    int64_t raw = S(1000), last = -1;
    wall = S(5000);
    l2d_live_clock_begin(&t, raw, wall);
    cr_expect_eq(play(&raw, 1000, &last), 0);
    cr_expect_eq(last, 999 * FRAME);
}

Test(live_clock, a_gap_between_sessions_is_as_long_as_it_was)
{
    int64_t raw = S(1000), last = -1;
    wall = S(5000);
    l2d_live_clock_begin(&t, raw, wall);
    play(&raw, 1000, &last);
    wall += S(7);
    raw = S(3);
    l2d_live_clock_begin(&t, raw, wall);
    play(&raw, 1, &last);
    expect_near(last, 1000 * FRAME + S(7), 0.001);
    cr_expect_eq(play(&raw, 500, &last), 0);
}

// A burst: 8 frames at once, as late as the last of them is on time.
Test(live_clock, says_how_late_a_frame_came)
{
    int64_t raw = 0, last = -1, out;
    wall = S(5000);
    l2d_live_clock_begin(&t, raw, wall);
    play(&raw, 100, &last);
    cr_expect_eq(l2d_live_clock_ahead(&t, last, wall - FRAME), 0);
    wall += 7 * FRAME;
    for (int i = 0; i < 8; i++, raw += FRAME) {
        cr_expect(!l2d_live_clock_map(&t, raw, wall, &out));
        cr_expect_eq(l2d_live_clock_ahead(&t, out, wall), -(7 - i) * FRAME, "frame %d", i);
    }
}

Test(live_clock, jumps_ahead_are_taken_out_at_once)
{
    int64_t raw = 0, last = -1;
    wall = S(5000);
    l2d_live_clock_begin(&t, raw, wall);
    play(&raw, 100, &last);
    raw += S(3600);
    cr_expect_eq(play(&raw, 100, &last), 1);
    expect_near(last, 199 * FRAME, 0.05);
}

Test(live_clock, a_pause_with_a_clock_that_stood_still_is_made_up_for)
{
    int64_t raw = 0, last = -1;
    wall = S(5000);
    l2d_live_clock_begin(&t, raw, wall);
    play(&raw, 200, &last);
    wall += S(5);
    cr_expect_eq(play(&raw, 100, &last), 1);
    expect_near(last, 299 * FRAME + S(5), 0.05);
}

Test(live_clock, a_network_that_catches_up_moves_nothing)
{
    int64_t raw = 0, last = -1, out;
    wall = S(5000);
    l2d_live_clock_begin(&t, raw, wall);
    play(&raw, 200, &last);
    wall += S(3);                       // held up; then all of it at once
    for (int i = 0; i < 75; i++, raw += FRAME)
        cr_expect(!l2d_live_clock_map(&t, raw, wall, &out));
    last = out;
    cr_expect_eq(play(&raw, 200, &last), 0);
    cr_expect_eq(last, 474 * FRAME);
}

Test(live_clock, what_was_on_the_way_when_the_network_stood_still_moves_nothing)
{
    int64_t raw = 0, last = -1;
    wall = S(5000);
    l2d_live_clock_begin(&t, raw, wall);
    play(&raw, 200, &last);
    wall += S(0.8);                     // a few late ones, nothing, a few more; the rest was lost
    cr_expect_eq(play(&raw, 3, &last), 0);
    wall += S(1.2);
    cr_expect_eq(play(&raw, 2, &last), 0);
    raw += S(2);
    cr_expect_eq(play(&raw, 200, &last), 0);
    cr_expect_eq(last, 404 * FRAME + S(2));
}

Test(live_clock, a_network_too_slow_is_followed_and_forgotten_when_it_catches_up)
{
    int64_t raw = 0, last = -1, out;
    int moves = 0;
    wall = S(5000);
    l2d_live_clock_begin(&t, raw, wall);
    play(&raw, 200, &last);
    for (int i = 0; i < 250; i++, raw += FRAME, wall += 2 * FRAME)     // half of its pace for 20 s
        moves += l2d_live_clock_map(&t, raw, wall, &last);
    cr_expect(moves >= 2 && moves <= 6, "%d", moves);
    for (int i = 0; i < 250; i++, raw += FRAME, last = out) {          // and then all at once
        moves -= l2d_live_clock_map(&t, raw, wall, &out);
        cr_expect_gt(out, last);
    }
    cr_expect(moves >= 0, "%d", moves);
    cr_expect_eq(play(&raw, 200, &last), 0);
    expect_near(last, wall - S(5000), 1.0);
}

Test(live_clock, a_clock_that_runs_slow_is_followed)
{
    int64_t raw = 0, last = -1, out;
    int moves = 0;
    wall = S(5000);
    l2d_live_clock_begin(&t, raw, wall);
    for (int i = 0; i < 25 * 3600; i++, raw += FRAME, wall += FRAME + FRAME / 1000) {
        moves += l2d_live_clock_map(&t, raw, wall, &out);     // 3.6 s an hour
        cr_expect_gt(out, last);
        last = out;
    }
    cr_expect_eq(moves, 0);
    cr_expect_eq(last, (25 * 3600 - 1) * FRAME);
}
