// SPDX-License-Identifier: Apache-2.0
// When live frames go to the GPU, with an engine and a clock that are imitated: time passes where
// the engine says so.
#include <criterion/criterion.h>
#include <time.h>

#include "pipeline/pace.h"

#define MS 1e-3
#define FRAMES 60

// ---- an engine whose frames take known times

struct l2d_engine {
    struct l2d_engine_info info;        // works_ahead: what is ahead has a queue of its own
    struct l2d_engine_stats stats;
    double push_s, ahead_s, main_s;     // of a frame: the processor's, and the GPU's
    double ahead_free_s, main_free_s;   // when the queues have done all
    double pushed_s[FRAMES], done_s[FRAMES], out_s[FRAMES];
    unsigned pushed, out;
};

static double now_s;

int __wrap_clock_gettime(clockid_t id, struct timespec *t);
int __wrap_clock_gettime(clockid_t id, struct timespec *t)
{
    (void) id;
    t->tv_sec = (time_t) now_s;
    t->tv_nsec = (long) (1e9 * (now_s - (double) t->tv_sec));
    return 0;
}

static double later(double a, double b)
{
    return a > b ? a : b;
}

int l2d_engine_push(struct l2d_engine *e, const struct l2d_frame *frame, struct l2d_error *err)
{
    (void) frame;
    (void) err;
    cr_assert(e->pushed < FRAMES && e->pushed - e->out < 2);
    e->pushed_s[e->pushed] = now_s;
    now_s += e->push_s;
    double *ahead = e->info.works_ahead ? &e->ahead_free_s : &e->main_free_s;
    *ahead = later(now_s, *ahead) + e->ahead_s;
    e->main_free_s = later(*ahead, e->main_free_s) + e->main_s;
    e->done_s[e->pushed++] = e->main_free_s;
    return L2D_OK;
}

int l2d_engine_collect(struct l2d_engine *e, uint32_t keep, struct l2d_error *err)
{
    (void) err;
    for (; e->out + keep < e->pushed; e->out++) {
        now_s = later(now_s, e->done_s[e->out]);
        e->out_s[e->out] = now_s;
        e->stats.frames_out++;
        e->stats.timed++;
        e->stats.stage_ms[L2D_STAGE_ENCODE] += 1e3 * e->ahead_s;
    }
    return L2D_OK;
}

int l2d_engine_wait_for(struct l2d_engine *e, double seconds, bool *done, struct l2d_error *err)
{
    (void) err;
    double end_s = now_s + later(seconds, 0), done_s = e->done_s[e->pushed - 1];
    *done = done_s <= end_s;
    now_s = *done ? later(now_s, done_s) : end_s;
    return L2D_OK;
}

const struct l2d_engine_info *l2d_engine_info(const struct l2d_engine *e)
{
    return &e->info;
}

struct l2d_engine_stats l2d_engine_stats(const struct l2d_engine *e)
{
    return e->stats;
}

// ---- a camera, and what becomes of its frames

// From begin on a new frame is there every so many seconds, of which the newest is taken.
static void run(struct l2d_engine *e, struct l2d_pace *pace, unsigned frames, double every_s)
{
    struct l2d_error err;
    double next_s = now_s;
    for (unsigned i = 0; i < frames; i++) {
        if (pace->in_flight && next_s > now_s)
            cr_assert_eq(l2d_pace_collect(pace, e, &err), L2D_OK);
        now_s = later(now_s, next_s);
        cr_assert_eq(l2d_pace_push(pace, e, NULL, &err), L2D_OK);
        while (next_s <= e->pushed_s[e->pushed - 1])
            next_s += every_s;
    }
    if (pace->in_flight)
        cr_assert_eq(l2d_pace_collect(pace, e, &err), L2D_OK);
    cr_assert_eq(e->out, e->pushed);
}

static struct l2d_engine an_engine(bool works_ahead)
{
    now_s = 1;
    return (struct l2d_engine) {
        .info.works_ahead = works_ahead, .push_s = 1 * MS, .ahead_s = 6 * MS, .main_s = 19 * MS,
    };
}

// Of the last ten frames.
static double mean_interval(const struct l2d_engine *e)
{
    return (e->out_s[e->out - 1] - e->out_s[e->out - 11]) / 10;
}

static double longest_latency(const struct l2d_engine *e)
{
    double longest = 0;
    for (unsigned i = e->out - 10; i < e->out; i++)
        longest = later(longest, e->out_s[i] - e->pushed_s[i]);
    return longest;
}

// With a second queue frames follow each other as fast as steps and decoder alone, where one after
// the other takes 26 ms; and no picture is older than then, but for the time of waking up.
Test(pace, a_fast_camera_keeps_both_queues_busy)
{
    struct l2d_engine e = an_engine(true);
    struct l2d_pace pace = { 0 };
    run(&e, &pace, FRAMES, 1 * MS);
    cr_expect_lt(mean_interval(&e), 19.1 * MS, "%g", mean_interval(&e));
    cr_expect_lt(longest_latency(&e), (26 + 1) * MS, "%g", longest_latency(&e));
}

// With one queue there is nothing beside: one after the other.
Test(pace, one_queue_has_one_frame)
{
    struct l2d_engine e = an_engine(false);
    struct l2d_pace pace = { 0 };
    run(&e, &pace, FRAMES, 1 * MS);
    cr_expect_float_eq(mean_interval(&e), 26 * MS, 1e-6);
    cr_expect_float_eq(longest_latency(&e), 26 * MS, 1e-6);
}

// Each picture comes out when it is drawn, whether the next frame comes or not.
Test(pace, a_slow_camera_waits_for_nothing)
{
    struct l2d_engine e = an_engine(true);
    struct l2d_pace pace = { 0 };
    run(&e, &pace, FRAMES, 40 * MS);
    for (unsigned i = 0; i < FRAMES; i++)
        cr_expect_float_eq(e.out_s[i], e.done_s[i], 1e-6, "frame %u", i);
    cr_expect_float_eq(longest_latency(&e), 26 * MS, 1e-6);
    cr_expect_float_eq(mean_interval(&e), 40 * MS, 1e-6);
}

// Frames that become faster to draw are soon as young as others.
Test(pace, it_follows_other_steps)
{
    struct l2d_engine e = an_engine(true);
    struct l2d_pace pace = { 0 };
    run(&e, &pace, 20, 1 * MS);
    e.main_s = 9 * MS;
    run(&e, &pace, FRAMES - 20, 1 * MS);
    cr_expect_lt(mean_interval(&e), 9.1 * MS, "%g", mean_interval(&e));
    cr_expect_lt(longest_latency(&e), (16 + 1) * MS, "%g", longest_latency(&e));
}
