// SPDX-License-Identifier: Apache-2.0
// The range of depth maps and the picture made of them against plain C: one map and all together,
// at once and smoothed, a map without a range.
#include <criterion/criterion.h>
#include <stdlib.h>

#include "kernels/kernels.h"
#include "ref/ref.h"
#include "support/gpu_test.h"

static const struct { int side, h, w; } shapes[] = {
    { 96, 64, 96 }, { 32, 72, 40 }, { 64, 16, 24 }, { 1, 8, 8 }, { 384, 64, 64 },
};

static const struct { float range[4]; float rate; bool all; } modes[] = {
    { { 0, 0, 0, 0 }, 1, false },
    { { 0, 0, 0, 0 }, 1, true },
    { { 0, 0, 0, 0 }, 0.1f, false },            // the first one is taken as it is
    { { -1, 8, 1, 0 }, 0.1f, false },
    { { 1, 2, 1, 0 }, 0.25f, false },           // what is beyond the range is cut off
    { { 5, 6, 1, 0 }, 1, false },
};

static const struct l2d_row_params row = { .ring = 5 };

static void run_case(struct gpu_test *t, unsigned shape, unsigned mode, enum gt_fill fill,
                     enum l2d_dtype type)
{
    int side = shapes[shape].side, h = shapes[shape].h, w = shapes[shape].w;
    size_t one = (size_t) (side * side), out = (size_t) (4 * h * w);
    float *depth = gt_floats(GT_RING * one), *maps = gt_floats(4 * GT_RING * one);
    float *want = gt_floats(out), range[3];
    gt_fill(depth, GT_RING * one, fill, 2, 1000, type, shape + 10 * mode);
    depth[L2D_SINKS * one - 1] *= 16;           // at the very end, where a loop may not come to
    depth[L2D_SINKS * one] *= 64;               // and right behind it
    for (size_t i = 0; i < 4 * GT_RING * one; i++)
        maps[i] = i % 4 == 0 ? depth[i / 4] : -7;
    for (int i = 0; i < 3; i++)
        range[i] = modes[mode].range[i];
    l2d_ref_depth_range(range, modes[mode].all ? depth : depth + row.ring * one,
                        (long) (modes[mode].all ? L2D_SINKS * one : one),
                        (double) modes[mode].rate);

    gt_begin(t, type);
    struct l2d_tensor tm = gt_tensor(t, type, GT_RING, side, side, 4, maps, false);
    struct l2d_tensor rows = gt_bytes(t, &row, sizeof(row), false);
    struct l2d_tensor tr = gt_tensor(t, L2D_F32, 1, 1, 1, 4, modes[mode].range, true);
    l2d_depth_range(t->graph, tm, modes[mode].all ? L2D_NO_TENSOR : rows, tr, modes[mode].rate);
    gt_keep(t, l2d_depth_structure(t->graph, tm, rows, tr, h, w));
    gt_run(t);
    float *got_range = gt_read(t, tr), *got = gt_read_kept(t, out);
    gt_check(range, got_range, 3, (struct gt_tol) { 1e-6, 1e-9, 1e-6 },
             "depth_range shape %u mode %u fill %d", shape, mode, (int) fill);
    // The picture of the range that was got: a depth next to an end of it is not to jump.
    l2d_ref_depth_structure(want, depth + row.ring * one, got_range, side, h, w);
    gt_check(want, got, out, (struct gt_tol) { 1e-5, 1e-5, 1e-5 },
             "depth_structure shape %u mode %u fill %d, %s", shape, mode, (int) fill,
             type == L2D_F16 ? "f16" : "f32");
    gt_end(t);
    void *all[] = { depth, maps, want, got_range, got };
    for (size_t i = 0; i < COUNT(all); i++)
        free(all[i]);
}

static void run_all(enum l2d_tier tier)
{
    struct gpu_test t;
    gt_open(&t, tier);
    for (unsigned i = 0; i < COUNT(shapes); i++)
        for (unsigned m = 0; m < COUNT(modes); m++)
            for (int fill = 0; fill < (shapes[i].side < 384 ? GT_NUM_FILLS : 1); fill++)
                for (int f16 = 0; f16 < 2; f16++)
                    run_case(&t, i, m, (enum gt_fill) fill, f16 ? L2D_F16 : L2D_F32);
    gt_close(&t);
}

Test(depth, tier0) { run_all(L2D_TIER_0); }
Test(depth, tier1) { run_all(L2D_TIER_1); }
