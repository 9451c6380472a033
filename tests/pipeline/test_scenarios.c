// SPDX-License-Identifier: Apache-2.0
// Whatever changes, and whenever: a batch, a sequence and chunks draw the same, and say the same of
// it. Scenarios are drawn by lot; L2D_TEST_SCENARIOS=100 tries so many, and names what fails.
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "gpu/device.h"
#include "pipeline/engine.h"
#include "support/engine_run.h"
#include "support/golden_model.h"
#include "support/watched_gpu.h"

#define COUNT(a) (sizeof(a) / sizeof(*(a)))
#define W 64
#define H 32
#define MAX_CHANGES 12
#define MAX_SCENES 3

static struct golden_model model;
static struct l2d_gpu *gpu, *swapped_gpu;
static struct l2d_error err;

static void close_all(void)
{
    golden_model_remove(&model);
    watched_gpu_close(&gpu);
    watched_gpu_close(&swapped_gpu);
}

static void open_all(void)
{
    struct l2d_gpu_params p = watched_gpu_params();
    cr_assert_eq(l2d_gpu_create(&gpu, &p, &err), L2D_OK, "%s", err.msg);
    p.lanes = L2D_LANES_SWAPPED;
    cr_assert_eq(l2d_gpu_create(&swapped_gpu, &p, &err), L2D_OK, "%s", err.msg);
}

TestSuite(scenarios, .init = open_all, .fini = close_all);

// ---- by lot

static uint64_t lot;

static unsigned draw(unsigned below)
{
    lot = lot * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return (unsigned) (lot >> 33) % below;
}

struct scenario {
    struct l2d_engine_params params;
    struct run_step step[MAX_CHANGES];
    unsigned num_steps, num_frames, chunk;
    unsigned scene[MAX_SCENES], num_scenes;     // frames with which another one begins
    bool resized;                               // five frames of one size, five of another
    unsigned alike;                             // so many frames are the same
};

static struct l2d_change draw_change(const struct l2d_engine_params *p)
{
    static const enum l2d_change_kind kinds[] = {
        L2D_CHANGE_PROMPT, L2D_CHANGE_PROMPT, L2D_CHANGE_NEGATIVE, L2D_CHANGE_STEPS,
        L2D_CHANGE_STEPS, L2D_CHANGE_SEED, L2D_CHANGE_NOISE, L2D_CHANGE_SHOW, L2D_CHANGE_SHOW,
        L2D_CHANGE_STEADY, L2D_CHANGE_MIX, L2D_CHANGE_REWARM,
    };
    static const char *const texts[] = { "ink drawing of a street", "a bird", "a (cat:1.2)",
                                         "a cat :0.7 | ink :0.3" };
    struct l2d_change c = {
        .kind = kinds[draw(COUNT(kinds))], .text = texts[draw(COUNT(texts))],
        .fade_frames = draw(3) ? draw(9) : 0, .step_set = draw(2), .seed = draw(100),
        .noise = (enum l2d_noise_choice) draw(3), .show = (enum l2d_show) draw(3),
        .steady = 0.3f * (float) draw(4), .mix = 0.25f * (float) draw(5),
    };
    bool negative = p->guidance_mode == L2D_GUIDANCE_FULL ||
                    p->guidance_mode == L2D_GUIDANCE_INITIALIZE;
    if (c.kind == L2D_CHANGE_NEGATIVE && !negative)
        c.kind = L2D_CHANGE_PROMPT;
    return c;
}

static struct scenario draw_scenario(void)
{
    static const char *const steps[] = { "25/50", "25,37/50", "25,30,37/50", "10,20,30,40/50" };
    struct scenario s = {
        .params = {
            .model = model.dir, .width = W, .height = H, .fit = L2D_FIT_STRETCH, .seed = 5,
            .prompt = "a bird", .steps = steps[draw(COUNT(steps))], .rgba = true,
            .more_steps = { steps[draw(COUNT(steps))] }, .precision = L2D_PRECISION_FP32,
            .guidance_mode = (enum l2d_guidance_mode) draw(4), .guidance = 2,
            .steady = draw(3) ? 0.6 : -1, .skip_similar = draw(4) ? 0 : 0.9,
            .can_mix = true, .mix = draw(3) ? 0 : 0.3,
            .rewarm = draw(5) ? L2D_REWARM_AUTO : L2D_REWARM_NEVER,
            .rewarm_seconds = draw(4) ? 0 : 0.2 + 0.04 * draw(10),
            .noise = draw(2) ? L2D_NOISE_ALL_FRESH : L2D_NOISE_BY_MODEL,
        },
        .num_frames = draw(2) ? 25 + draw(16) : 1 + draw(40), .chunk = 2 + draw(7),
        .num_scenes = draw(MAX_SCENES + 1), .num_steps = draw(MAX_CHANGES + 1),
        .resized = draw(4) == 0,
    };
    s.alike = s.params.skip_similar > 0 ? 3 : 1;
    s.params.enlarge = draw(3) ? 0 : 1 + 0.25 * draw(5);
    s.params.draw_every = s.params.skip_similar > 0 || draw(3) == 0 ? 1 : 1 + draw(4);
    for (unsigned i = 0; i < s.num_scenes; i++)
        s.scene[i] = 1 + draw(39);
    for (unsigned i = 0; i < s.num_steps; i++) {
        s.step[i].frame = draw(3) || i == 0 ? draw(36) : s.step[i - 1].frame;
        s.step[i].change = draw_change(&s.params);
    }
    return s;
}

// ---- and run

static struct l2d_frame *input(const void *user, unsigned f)
{
    const struct scenario *s = user;
    bool other = s->resized && f / 5 % 2;
    struct l2d_frame *frame = golden_frame(f / s->alike, other ? 96 : W, other ? 64 : H);
    unsigned scene = 0;
    for (unsigned i = 0; i < s->num_scenes; i++)
        scene += f >= s->scene[i];
    golden_frame_set_scene(frame, scene % 2);
    frame->pts = 1000 + 40 * (int64_t) f;
    frame->time_base_num = 1;
    frame->time_base_den = 1000;
    return frame;
}

static void check_stats(const struct l2d_engine_stats *a, const struct l2d_engine_stats *b,
                        const char *what)
{
    cr_assert(a->rewarms == b->rewarms && a->refreshes == b->refreshes && a->cuts == b->cuts &&
              a->stales == b->stales && a->changes == b->changes &&
              a->frames_skipped == b->frames_skipped && a->frames_frozen == b->frames_frozen &&
              a->frames_moved == b->frames_moved,
              "%s: re-warms %d, %d, refreshes %d, %d, skipped %d, %d, frozen %d, %d, moved %d, %d",
              what, (int) a->rewarms, (int) b->rewarms, (int) a->refreshes, (int) b->refreshes,
              (int) a->frames_skipped, (int) b->frames_skipped, (int) a->frames_frozen,
              (int) b->frames_frozen, (int) a->frames_moved, (int) b->frames_moved);
}

static void check(struct scenario *s, const char *name)
{
    const struct { enum l2d_batching batching; uint32_t chunk; bool swapped; } ways[] = {
        { L2D_BATCH, 1, false }, { L2D_SEQUENTIAL, 1, true }, { L2D_BATCH, s->chunk, true },
    };
    struct run_output first = { .count = 0 }, other = { .count = 0 };
    uint64_t firsts[2][MAX_CHANGES] = { { 0 } };
    for (size_t i = 0; i < COUNT(ways); i++) {
        char what[80];
        struct run_output *out = i ? &other : &first;
        struct run_plan plan = { s->step, s->num_steps, s->num_frames, input, s,
                                 firsts[i > 0] };
        s->params.batching = ways[i].batching;
        s->params.chunk = ways[i].chunk;
        snprintf(what, sizeof(what), "%s, way %zu, chunks of %u", name, i, ways[i].chunk);
        run_engine(ways[i].swapped ? swapped_gpu : gpu, s->params, &plan, out);
        for (unsigned f = 0; f < out->count; f++)
            cr_assert_eq(out->frame[f]->pts, 1000 + 40 * (int64_t) f, "%s, frame %u", what, f);
        if (i == 0)
            continue;
        run_check_same(&first, &other, 0, s->num_frames, what);
        check_stats(&first.stats, &other.stats, what);
        cr_assert(memcmp(firsts[0], firsts[1], sizeof(firsts[0])) == 0, "%s", what);
        run_drop(&other);
    }
    run_drop(&first);
}

static void check_some(const char *name, unsigned count)
{
    const char *asked = getenv("L2D_TEST_SCENARIOS");
    golden_model_make(&model, name);
    if (asked && atoi(asked) > 0)
        count = (unsigned) atoi(asked);
    for (unsigned i = 0; i < count; i++) {
        char what[40];
        lot = 7919 * i + 17;
        for (int k = 0; k < 5; k++)     // numbers that begin alike grow apart
            draw(2);
        struct scenario s = draw_scenario();
        if (i % 3 == 1)                 // whose cache is of bytes
            s.params.precision = L2D_PRECISION_FP16;
        snprintf(what, sizeof(what), "%s, scenario %u", name, i);
        check(&s, what);
    }
}

Test(scenarios, every_way_draws_the_same, .timeout = 3600)
{
    check_some("tiny3", 6);
}

Test(scenarios, every_way_draws_the_same_with_depths, .timeout = 3600)
{
    check_some("narrowd", 4);
}
