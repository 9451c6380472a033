// SPDX-License-Identifier: Apache-2.0
// Frames that are encoded ahead, while the one before is still drawn, are those that are encoded in
// their turn: swapped lanes encode each before all that the frame before has left to do, and here
// give it to the device in small pieces. More such streams, with all that can change on the way:
// test_live.c.
#include <criterion/criterion.h>
#include <stdio.h>

#include "gpu/device.h"
#include "pipeline/engine.h"
#include "support/engine_run.h"
#include "support/golden_model.h"
#include "support/watched_gpu.h"

#define COUNT(a) (sizeof(a) / sizeof(*(a)))
#define NUM_FRAMES 20
#define W 96
#define H 64

static struct golden_model model;
static struct l2d_error err;

// Larger ones among them; each is there twice, for those that skip what is alike.
static struct l2d_frame *input(const void *user, unsigned f)
{
    (void) user;
    return f % 5 == 4 ? golden_frame(f / 2, 2 * W, 3 * H) : golden_frame(f / 2, W, H);
}

static void run(enum l2d_lanes lanes, struct l2d_engine_params p, struct run_output *out)
{
    struct l2d_gpu_params g = watched_gpu_params();
    struct l2d_gpu *gpu = NULL;
    g.lanes = lanes;
    g.piece_flops = lanes == L2D_LANES_SWAPPED ? 1e6 : 0;       // graphs in many pieces
    cr_assert_eq(l2d_gpu_create(&gpu, &g, &err), L2D_OK, "%s", err.msg);
    run_engine(gpu, p, &(struct run_plan) { .num_frames = NUM_FRAMES, .input = input }, out);
    l2d_gpu_destroy(&gpu);
}

// How many lanes the device has by itself.
static uint32_t num_lanes(void)
{
    static uint32_t n;                  // asked once: some drivers make few devices in a process
    struct l2d_gpu_params g = watched_gpu_params();
    struct l2d_gpu *gpu = NULL;
    if (n)
        return n;
    cr_assert_eq(l2d_gpu_create(&gpu, &g, &err), L2D_OK, "%s", err.msg);
    n = l2d_gpu_caps(gpu)->num_lanes;
    l2d_gpu_destroy(&gpu);
    return n;
}

static void check(const char *name, struct l2d_engine_params p, const char *what)
{
    struct run_output one, swapped, two;
    char both[64];
    snprintf(both, sizeof(both), "%s, %s", name, what);
    golden_model_make(&model, name);
    p.model = model.dir;
    p.width = W;
    p.height = H;
    p.rgba = true;
    run(L2D_LANES_ONE, p, &one);
    run(L2D_LANES_SWAPPED, p, &swapped);
    run_check_same(&one, &swapped, 0, NUM_FRAMES, both);
    run_drop(&swapped);
    if (num_lanes() > 1) {
        run(L2D_LANES_AUTO, p, &two);
        run_check_same(&one, &two, 0, NUM_FRAMES, both);
        run_drop(&two);
    }
    run_drop(&one);
    golden_model_remove(&model);
    watched_gpu_check();
}

// narrowd has a depth network, whose maps and range are made ahead.
Test(lanes, same_pictures)
{
    static const char *const models[] = { "tiny3", "narrowd" };
    for (size_t i = 0; i < COUNT(models); i++) {
        struct l2d_engine_params p = { .seed = 5, .steps = "25,30,37/50" };
        check(models[i], p, "batch");
        p.steady = 0.5;
        check(models[i], p, "steadied");
        p.mix = 0.3;
        check(models[i], p, "the source mixed in");
        p.mix = 0;
        p.skip_similar = 0.98;
        check(models[i], p, "similar ones skipped");
        p.batching = L2D_SEQUENTIAL;
        check(models[i], p, "one after the other");
        p.chunk = 4;
        check(models[i], p, "similar ones skipped, in chunks");
        p.skip_similar = 0;
        check(models[i], p, "in chunks");
        p.draw_every = 2;
        check(models[i], p, "every second drawn, in chunks");
        p.chunk = 0;
        p.batching = L2D_BATCH;
        check(models[i], p, "every second drawn, batch");
    }
}

Test(lanes, same_pictures_with_guidance)
{
    static const enum l2d_guidance_mode modes[] = {
        L2D_GUIDANCE_FULL, L2D_GUIDANCE_SELF, L2D_GUIDANCE_INITIALIZE,
    };
    for (size_t i = 0; i < COUNT(modes); i++)
        check("tiny3", (struct l2d_engine_params) {
            .seed = 5, .steps = "25,37/50", .guidance_mode = modes[i], .guidance = 2,
            .guidance_delta = 0.5, .rewarm_seconds = 0.2,
        }, l2d_guidance_mode_str(modes[i]));
}

// Beside frames in flight what is prepared for the next one needs memory of its own.
Test(lanes, memory_is_counted)
{
    struct l2d_engine_info info[2], filtered;
    golden_model_make(&model, "tiny3");
    for (int i = 0; i < 2; i++) {
        struct l2d_gpu_params g = watched_gpu_params();
        struct l2d_gpu *gpu = NULL;
        g.lanes = i ? L2D_LANES_SWAPPED : L2D_LANES_ONE;
        cr_assert_eq(l2d_gpu_create(&gpu, &g, &err), L2D_OK, "%s", err.msg);
        struct l2d_engine_params p = { .model = model.dir, .width = W, .height = H };
        cr_assert_eq(l2d_engine_plan(&info[i], gpu, &p, &err), L2D_OK, "%s", err.msg);
        p.skip_similar = 0.98;          // to compare a frame, all before it is waited for
        cr_assert_eq(l2d_engine_plan(&filtered, gpu, &p, &err), L2D_OK, "%s", err.msg);
        cr_expect(!filtered.works_ahead);
        l2d_gpu_destroy(&gpu);
    }
    golden_model_remove(&model);
    cr_expect(!info[0].works_ahead && info[1].works_ahead);
    cr_expect_gt(info[1].memory.activations, info[0].memory.activations);
    cr_expect_eq(info[1].memory.peak - info[0].memory.peak,
                 info[1].memory.activations - info[0].memory.activations);
}
