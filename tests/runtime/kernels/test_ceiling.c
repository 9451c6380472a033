// SPDX-License-Identifier: Apache-2.0
// What benchmarks compare with does all of its work: every quad is copied, and sums converge only
// if the rounds are done.
#include <criterion/criterion.h>
#include <stdlib.h>

#include "kernels/ceiling.h"
#include "shaders/params/ceiling.h"
#include "support/gpu_test.h"

static void check_copy(struct gpu_test *t, int rows, int h, int w, int c)
{
    size_t n = (size_t) (rows * h * w * c);
    float *x = gt_floats(n);
    gt_fill(x, n, GT_NORMAL, 1, 10, L2D_F32, (unsigned) n);
    gt_begin(t, L2D_F32);
    struct l2d_tensor src = gt_tensor(t, L2D_F32, rows, h, w, c, x, false);
    struct l2d_tensor dst = gt_tensor(t, L2D_F32, rows, h, w, c, NULL, true);
    l2d_ceiling_copy(t->graph, dst, src);
    gt_run(t);
    float *got = gt_read(t, dst);
    gt_check(x, got, n, (struct gt_tol) { 0, 0, 0 }, "copy of %zu", n);
    gt_end(t);
    free(x);
    free(got);
}

static void check_fma(struct gpu_test *t, int quads, uint32_t rounds)
{
    size_t n = 4 * (size_t) quads;
    float *want = gt_floats(n);
    for (size_t i = 0; i < n; i++) {
        want[i] = 0;
        for (int chain = 0; chain < L2D_CEILING_CHAINS; chain++) {
            float x = (float) ((int) i / 4 + chain);
            for (uint32_t r = 0; r < L2D_CEILING_UNROLL * rounds; r++)
                x = 0.75f * x + 1;
            want[i] += x;
        }
    }
    gt_begin(t, L2D_F32);
    struct l2d_tensor y = gt_tensor(t, L2D_F32, 1, 1, quads, 4, NULL, true);
    l2d_ceiling_fma(t->graph, y, rounds, 0.75f, 1);
    gt_run(t);
    float *got = gt_read(t, y);
    gt_check(want, got, n, (struct gt_tol) { 1e-6, 1e-4, 1e-5 }, "%u rounds on %d", rounds, quads);
    gt_end(t);
    free(want);
    free(got);
}

static void run_all(enum l2d_tier tier)
{
    struct gpu_test t;
    gt_open(&t, tier);
    check_copy(&t, 1, 1, 1, 4);
    check_copy(&t, 2, 37, 41, 12);
    check_copy(&t, 1, 1, 1024, 64);
    check_fma(&t, 1, 1);
    check_fma(&t, 333, 3);
    check_fma(&t, 64, 7000);
    gt_close(&t);
}

Test(ceiling, tier0) { run_all(L2D_TIER_0); }
Test(ceiling, tier1) { run_all(L2D_TIER_1); }
