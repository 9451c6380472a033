// SPDX-License-Identifier: Apache-2.0
// Temporal attention, warm-up and stream, against plain C. Closed slots and rows that are not
// active hold NaN, which must stay where it is.
#include <criterion/criterion.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/kernels.h"
#include "ref/ref.h"
#include "support/gpu_test.h"

#define STEPS 3

static const struct temporal_case {
    int rows, h, w, c, heads;
    bool warmup;
} cases[] = {
    { 2, 16, 16,  64, 8, false },
    { 2,  8,  8,  96, 8, false },
    { 3,  2,  3, 320, 8, false },
    { 1,  1,  1, 160, 1, false },
    { 8,  8,  8,  64, 8, true },
    { 8,  3,  3,  96, 8, true },
};

// While the window fills, when it is full, and in the middle of its ring.
static const struct l2d_row_params stream_rows[][3] = {
    { { .is_active = 1, .step = 0, .kv_slot = 8, .own_pos = 8, .num_open = 9 },
      { .is_active = 0, .step = 1, .kv_slot = 3, .own_pos = 0, .num_open = 0 },
      { .is_active = 1, .step = 2, .kv_slot = 14, .own_pos = 14, .num_open = 15 } },
    { { .is_active = 1, .step = 1, .kv_slot = 15, .own_pos = 15, .num_open = 16 },
      { .is_active = 1, .step = 0, .kv_slot = 11, .own_pos = 15, .num_open = 16 },
      { .is_active = 0, .step = 2 } },
};

static void run_case(struct gpu_test *t, unsigned index, int variant, enum gt_fill fill,
                     enum l2d_dtype type)
{
    const struct temporal_case *k = &cases[index];
    int pixels = k->h * k->w, c = k->c;
    struct l2d_row_params rows[L2D_MAX_ROWS] = { 0 };
    struct l2d_ref_temporal_row ref[L2D_MAX_ROWS];
    for (int r = 0; r < k->rows; r++) {
        rows[r] = k->warmup ? (struct l2d_row_params) {
            .is_active = 1, .step = 1, .kv_slot = (u32) r, .own_pos = (u32) r, .num_open = 8,
        } : stream_rows[variant][r];
        ref[r] = (struct l2d_ref_temporal_row) {
            rows[r].is_active, (int) rows[r].step, (int) rows[r].kv_slot, (int) rows[r].own_pos,
            (int) rows[r].num_open,
        };
    }
    size_t nq = (size_t) (k->rows * pixels * 3 * c), np = (size_t) (16 * 3 * c);
    size_t nc = (size_t) (STEPS * pixels * 16 * 2 * c), n = (size_t) (k->rows * pixels * c);
    float *qkv = gt_floats(nq), *pos = gt_floats(np), *cache = gt_floats(nc), *want = gt_floats(n);
    gt_fill(qkv, nq, fill, 1, 10, type, index);
    gt_fill(pos, np, fill, 0.5, 10, type, index + 100);
    gt_fill(cache, nc, fill, 1, 10, type, index + 200);
    for (int r = 0; r < k->rows; r++)           // closed slots, and all of them in the warm-up
        for (int p = 0; p < pixels; p++)
            for (int s = k->warmup ? 0 : (int) rows[r].num_open; s < 16; s++)
                for (int i = 0; i < 2 * c; i++)
                    cache[(((int) rows[r].step * pixels + p) * 16 + s) * 2 * c + i] = NAN;

    gt_begin(t, type);
    struct l2d_tensor tcache = gt_tensor(t, type, STEPS, pixels, 16, 2 * c, cache, true);
    gt_keep(t, l2d_temporal_attention(t->graph,
                                      gt_tensor(t, type, k->rows, k->h, k->w, 3 * c, qkv, false),
                                      gt_tensor(t, type, 1, 1, 16, 3 * c, pos, false), tcache,
                                      gt_bytes(t, rows, (size_t) k->rows * sizeof(*rows), false),
                                      k->heads, k->warmup));
    gt_run(t);
    l2d_ref_temporal_attention(want, cache, qkv, pos, ref, k->rows, pixels, k->heads, c, k->warmup);
    float *got = gt_read_kept(t, n), *got_cache = gt_read(t, tcache);
    struct gt_tol tol = type == L2D_F32 ? (struct gt_tol) { 2e-6, 1e-5, 1e-5 }
                                        : (struct gt_tol) { 5e-4, 1e-5, 1.0 / 1024 };
    if (fill == GT_HUGE)                        // scores of several hundred, see test_attention.c
        tol = type == L2D_F32 ? (struct gt_tol) { 1e-4, 5e-2, 1e-3 }
                              : (struct gt_tol) { 1e-3, 5e-2, 2e-3 };
    gt_check(want, got, n, tol, "temporal case %u variant %d fill %d, %s", index, variant,
             (int) fill, type == L2D_F16 ? "f16" : "f32");
    for (size_t i = 0; i < nc; i++)             // copied, not computed
        cr_assert((isnan(cache[i]) && isnan(got_cache[i])) || cache[i] == got_cache[i],
                  "temporal case %u: cache element %zu is %g, expected %g", index, i,
                  (double) got_cache[i], (double) cache[i]);
    gt_end(t);
    void *all[] = { qkv, pos, cache, want, got, got_cache };
    for (size_t i = 0; i < COUNT(all); i++)
        free(all[i]);
}

static void run_all(enum l2d_tier tier)
{
    struct gpu_test t;
    gt_open(&t, tier);
    for (unsigned i = 0; i < COUNT(cases); i++)
        for (int variant = 0; variant < (cases[i].warmup ? 1 : 2); variant++)
            for (int fill = 0; fill < GT_NUM_FILLS; fill++)
                for (int f16 = 0; f16 < 2; f16++)
                    run_case(&t, i, variant, (enum gt_fill) fill, f16 ? L2D_F16 : L2D_F32);
    gt_close(&t);
}

Test(temporal, tier0) { run_all(L2D_TIER_0); }
Test(temporal, tier1) { run_all(L2D_TIER_1); }
