// SPDX-License-Identifier: Apache-2.0
// GroupNorm and LayerNorm against plain C.
#include <criterion/criterion.h>
#include <stdlib.h>

#include "kernels/kernels.h"
#include "ref/ref.h"
#include "support/gpu_test.h"

static const struct group_case {
    int rows, h, w, c0, c1, groups;
    float eps;
    enum l2d_act act;
    bool residual;
} group_cases[] = {
    { 2, 32, 32,  64,   0, 32, 1e-5f, L2D_ACT_SILU, false },   // 2 channels a group
    { 1, 16, 16,  96,   0, 32, 1e-6f, L2D_ACT_NONE, false },   // 3, which do not fill a vec4
    { 2,  8,  8,  96,  64, 32, 1e-5f, L2D_ACT_SILU, false },   // 5, and a group across the seam
    { 1,  8,  8, 320,   0, 32, 1e-5f, L2D_ACT_SILU, false },   // SD1.5
    { 1,  5,  7, 640, 320, 32, 1e-5f, L2D_ACT_SILU, false },
    { 3,  1,  1,  32,   0, 32, 1e-5f, L2D_ACT_NONE, false },   // one value: the result is the bias
    { 1, 17,  3,   4,   8,  3, 1e-5f, L2D_ACT_SILU, false },
    { 1, 12, 12, 256,   0, 32, 1e-5f, L2D_ACT_RELU, true },     // DPT's trunk
    { 2,  7,  3,  12,   0,  4, 1e-5f, L2D_ACT_RELU, false },
    { 2,  1,  1,   8,   0,  4, 1e-5f, L2D_ACT_RELU, true },
    { 2, 37, 33, 320, 320, 32, 1e-5f, L2D_ACT_SILU, false },   // more than a workgroup keeps
    { 1, 65, 67,  96,   0, 32, 1e-5f, L2D_ACT_RELU, true },
    // AutoencoderKL's last layers: CPU drivers leave long loops early
    { 1, 256, 256, 4,   0,  1, 1e-6f, L2D_ACT_SILU, false },
    { 1, 256, 192, 24,  0,  4, 1e-5f, L2D_ACT_SILU, false },
    { 1, 512, 256, 8,   0,  1, 1e-6f, L2D_ACT_NONE, false },
};
#define LARGE_CASES 3

static const struct layer_case {
    int rows, tokens, c;
} layer_cases[] = { { 2, 1024, 96 }, { 1, 77, 320 }, { 8, 16, 64 }, { 1, 1, 4 }, { 3, 5, 36 },
                  { 1, 9, 640 }, { 1, 5, 2560 } };

// A constant leaves only the rounding of its mean, times weight / sqrt(eps). Large numbers are as
// good as normal ones; small ones disappear in eps.
static struct gt_tol tolerance(enum l2d_dtype type, enum gt_fill fill)
{
    struct gt_tol tol = type == L2D_F32 ? (struct gt_tol) { 2e-6, 1e-5, 1e-5 }
                                        : (struct gt_tol) { 5e-4, 1e-5, 1.0 / 1024 };
    if (fill == GT_CONSTANT)
        tol.abs = tol.l2 = type == L2D_F32 ? 1e-4 : 1e-3;
    return tol;
}

static void run_group(struct gpu_test *t, unsigned index, enum gt_fill fill, enum l2d_dtype type)
{
    const struct group_case *g = &group_cases[index];
    int c = g->c0 + g->c1, pixels = g->h * g->w;
    size_t n0 = (size_t) (g->rows * pixels * g->c0), n1 = (size_t) (g->rows * pixels * g->c1);
    float *x = gt_floats(n0), *x2 = gt_floats(n1), *want = gt_floats(n0 + n1);
    float *weight = gt_floats((size_t) c), *bias = gt_floats((size_t) c);
    float *residual = gt_floats(n0 + n1);
    gt_fill(residual, n0 + n1, GT_NORMAL, 1, 1, type, index + 400);
    gt_fill(x, n0, fill, 2, 1000, type, index);
    gt_fill(x2, n1, fill, 1, 1000, type, index + 100);
    gt_fill(weight, (size_t) c, GT_NORMAL, 1, 1, L2D_F32, index + 200);
    gt_fill(bias, (size_t) c, GT_NORMAL, 1, 1, L2D_F32, index + 300);
    l2d_ref_group_norm(want, x, x2, weight, bias, g->residual ? residual : NULL, g->rows, pixels,
                       g->c0, g->c1, g->groups, (double) g->eps, (enum l2d_ref_act) g->act);

    gt_begin(t, type);
    struct l2d_norm norm = {
        gt_tensor(t, L2D_F32, 1, 1, 1, c, weight, false),
        gt_tensor(t, L2D_F32, 1, 1, 1, c, bias, false),
    };
    struct l2d_tensor tx = gt_tensor(t, type, g->rows, g->h, g->w, g->c0, x, false);
    struct l2d_tensor tx2 = g->c1 ? gt_tensor(t, type, g->rows, g->h, g->w, g->c1, x2, false)
                                  : L2D_NO_TENSOR;
    gt_keep(t, g->residual
               ? l2d_group_norm_add_relu(t->graph, &norm, tx,
                                         gt_tensor(t, type, g->rows, g->h, g->w, c, residual,
                                                   false), g->groups, g->eps)
               : l2d_group_norm(t->graph, &norm, tx, tx2, g->groups, g->eps, g->act));
    gt_run(t);
    float *got = gt_read_kept(t, n0 + n1);
    gt_check(want, got, n0 + n1, tolerance(type, fill), "group_norm case %u fill %d, %s", index,
             (int) fill, type == L2D_F16 ? "f16" : "f32");
    gt_end(t);
    void *all[] = { x, x2, want, weight, bias, residual, got };
    for (size_t i = 0; i < COUNT(all); i++)
        free(all[i]);
}

static void run_layer(struct gpu_test *t, unsigned index, enum gt_fill fill, enum l2d_dtype type)
{
    const struct layer_case *k = &layer_cases[index];
    size_t n = (size_t) (k->rows * k->tokens * k->c), c = (size_t) k->c;
    float *x = gt_floats(n), *want = gt_floats(n), *weight = gt_floats(c), *bias = gt_floats(c);
    gt_fill(x, n, fill, 2, 1000, type, index);
    gt_fill(weight, c, GT_NORMAL, 1, 1, L2D_F32, index + 200);
    gt_fill(bias, c, GT_NORMAL, 1, 1, L2D_F32, index + 300);
    l2d_ref_layer_norm(want, x, weight, bias, k->rows * k->tokens, k->c, 1e-5);

    gt_begin(t, type);
    struct l2d_norm norm = {
        gt_tensor(t, L2D_F32, 1, 1, 1, k->c, weight, false),
        gt_tensor(t, L2D_F32, 1, 1, 1, k->c, bias, false),
    };
    struct l2d_tensor tx = gt_tensor(t, type, k->rows, 1, k->tokens, k->c, x, false);
    gt_keep(t, l2d_layer_norm(t->graph, &norm, tx, 1e-5f));
    gt_run(t);
    float *got = gt_read_kept(t, n);
    gt_check(want, got, n, tolerance(type, fill), "layer_norm case %u fill %d, %s", index,
             (int) fill, type == L2D_F16 ? "f16" : "f32");
    gt_end(t);
    void *all[] = { x, want, weight, bias, got };
    for (size_t i = 0; i < COUNT(all); i++)
        free(all[i]);
}

static void run_all(enum l2d_tier tier)
{
    struct gpu_test t;
    gt_open(&t, tier);
    for (int fill = 0; fill < GT_NUM_FILLS; fill++)
        for (int f16 = 0; f16 < 2; f16++) {
            for (unsigned i = 0; i < COUNT(group_cases) - (fill ? LARGE_CASES : 0); i++)
                run_group(&t, i, (enum gt_fill) fill, f16 ? L2D_F16 : L2D_F32);
            for (unsigned i = 0; i < COUNT(layer_cases); i++)
                run_layer(&t, i, (enum gt_fill) fill, f16 ? L2D_F16 : L2D_F32);
        }
    gt_close(&t);
}

Test(norm, tier0) { run_all(L2D_TIER_0); }
Test(norm, tier1) { run_all(L2D_TIER_1); }
