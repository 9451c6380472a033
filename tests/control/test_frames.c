// SPDX-License-Identifier: Apache-2.0
// The newest pictures: pairs of one moment, bounded memory, and no frame left behind.
#include <criterion/criterion.h>

#include "frames.h"

// References that frames of this test have, by pts.
static struct l2d_frame *made[400];

static struct l2d_frame *frame(int64_t pts)
{
    struct l2d_pixel_format format = l2d_pixel_format_rgba8();
    struct l2d_frame *f = NULL;
    cr_assert_eq(l2d_frame_create(&f, 2, 2, &format, NULL), L2D_OK);
    f->pts = pts;
    return f;
}

static void in(struct control_frames *f, int64_t pts)
{
    made[pts] = frame(pts);
    control_frames_source(f, made[pts]);
}

static void out(struct control_frames *f, int64_t pts)
{
    struct l2d_frame *result = frame(pts);
    control_frames_result(f, result);
    l2d_frame_unref(&result);
}

static int held(int from, int to)
{
    int n = 0;
    for (int i = from; i < to; i++)
        n += atomic_load(&made[i]->refs) > 1;
    return n;
}

static void drop_all(int count)
{
    for (int i = 0; i < count; i++)
        l2d_frame_unref(&made[i]);
}

Test(frames, pairs_are_of_one_moment)
{
    struct control_frames *f = NULL;
    cr_assert_eq(control_frames_create(&f, NULL), L2D_OK);
    struct control_pair pair = control_frames_newest(f);
    cr_assert(!pair.result && !pair.source && pair.number == 0);
    control_frames_keep_sources(f, CONTROL_PAGE, true);
    for (int i = 0; i < 6; i++)
        in(f, i);
    out(f, 0);
    out(f, 3);                  // 1 and 2 were dropped on the way
    pair = control_frames_newest(f);
    cr_assert_eq(pair.number, 2);
    cr_assert_eq(pair.result->pts, 3);
    cr_assert_eq(pair.source, made[3]);
    control_pair_finish(&pair);
    cr_assert_eq(held(0, 3), 0, "sources of old results are kept");
    cr_assert_eq(held(3, 6), 3);
    control_frames_keep_sources(f, CONTROL_PAGE, false);
    cr_assert_eq(held(4, 6), 0, "sources are kept though nobody looks");
    in(f, 6);
    pair = control_frames_newest(f);
    cr_assert_eq(pair.source, made[6], "without a watcher, the newest");
    control_pair_finish(&pair);
    control_frames_destroy(&f);
    cr_assert_eq(held(0, 7), 0);
    drop_all(7);
}

Test(frames, memory_is_bounded_when_nothing_comes_out)
{
    for (int keep = 0; keep < 2; keep++) {
        struct control_frames *f = NULL;
        cr_assert_eq(control_frames_create(&f, NULL), L2D_OK);
        control_frames_keep_sources(f, CONTROL_PAGE, keep);
        for (int i = 0; i < 300; i++)
            in(f, i);
        cr_assert_leq(held(0, 300), keep ? 17 : 1, "%d frames kept", held(0, 300));
        control_frames_destroy(&f);
        cr_assert_eq(held(0, 300), 0);
        drop_all(300);
    }
}

Test(frames, measures)
{
    struct control_frames *f = NULL;
    struct control_state state = { 0 };
    cr_assert_eq(control_frames_create(&f, NULL), L2D_OK);
    control_frames_measure(f, &state);
    cr_assert(state.latency.count == 0 && state.latency.p99 == 0 && state.fps == 0);
    for (int i = 0; i < 300; i++) {
        in(f, i);
        out(f, i);
    }
    control_frames_measure(f, &state);
    cr_assert_eq(state.latency.count, 300);
    cr_assert_eq(state.interval.count, 299);
    cr_assert(state.latency.p50 >= 0 && state.latency.p50 <= state.latency.p99);
    cr_assert(state.latency.sum_ms > 0 && state.latency.p99 < 5000);
    cr_assert_gt(state.fps, 10);
    control_frames_destroy(&f);
    drop_all(300);
}

Test(frames, waiting_ends)
{
    struct control_frames *f = NULL;
    cr_assert_eq(control_frames_create(&f, NULL), L2D_OK);
    control_frames_wait(f, 0, 10);          // by time
    control_frames_wake(f);
    control_frames_wait(f, 0, 60000);       // by the call before it
    in(f, 0);
    out(f, 0);
    control_frames_wait(f, 0, 60000);       // by a result that is there
    control_frames_destroy(&f);
    drop_all(1);
}

Test(frames, sources_of_the_last_results)
{
    struct control_frames *f = NULL;
    cr_assert_eq(control_frames_create(&f, NULL), L2D_OK);
    control_frames_keep_sources(f, CONTROL_WINDOW, true);
    control_frames_keep_sources(f, CONTROL_PAGE, true);
    control_frames_keep_sources(f, CONTROL_PAGE, false);        // the window still looks
    for (int i = 0; i < 40; i++) {
        in(f, i);
        if (i != 38)
            out(f, i);
    }
    struct l2d_frame *source = control_frames_source_of(f, 39);
    cr_expect_eq(source, made[39]);
    l2d_frame_unref(&source);
    source = control_frames_source_of(f, 30);
    cr_expect_eq(source, made[30]);
    l2d_frame_unref(&source);
    cr_expect_null(control_frames_source_of(f, 38), "it never came out");
    cr_expect_null(control_frames_source_of(f, 2), "it is long ago");
    cr_expect_leq(held(0, 40), 11);
    control_frames_keep_sources(f, CONTROL_WINDOW, false);
    cr_expect_null(control_frames_source_of(f, 39));
    cr_expect_leq(held(0, 40), 1);
    control_frames_destroy(&f);
    drop_all(40);
}
