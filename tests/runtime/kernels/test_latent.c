// SPDX-License-Identifier: Apache-2.0
// Latents: the GPU's noise against base/philox, the consistency step, gather, decoder input.
#include <criterion/criterion.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/philox.h"
#include "kernels/kernels.h"
#include "ref/ref.h"
#include "support/gpu_test.h"

#define SEED 0x123456789abcdef0u

static const struct l2d_row_params rows[] = {
    { .is_active = 1, .frame = 7, .step = 0, .ring = 3, .a = 0.4022588f, .b = 0.9155260f,
      .pred_a = 0.4022588f, .pred_b = 0.9155260f, .c_skip = 1.004e-8f, .c_out = 1, .a_next = 0.7f,
      .b_next = 0.71f },
    { .is_active = 0, .frame = 6, .step = 1, .ring = 2 },
    { .is_active = 1, .frame = 4000000000u, .step = 2, .ring = 6, .a = 0.8923482f, .b = 0.4513476f,
      .pred_a = 1.1206387f, .pred_b = 0.5057976f, .c_skip = 1.294e-7f,
      .c_out = 0.9999999f, .is_last = 1 },           // predicts v
};

static const struct { int h, w, c; } shapes[] = { { 32, 32, 16 }, { 5, 7, 4 }, { 1, 1, 16 } };

static void run_case(struct gpu_test *t, unsigned index, enum gt_fill fill, enum l2d_dtype type)
{
    enum { ROWS = COUNT(rows) };
    int h = shapes[index].h, w = shapes[index].w, c = shapes[index].c;
    size_t n = (size_t) (h * w * c);
    const char *name = type == L2D_F16 ? "f16" : "f32";
    struct l2d_row_params row[ROWS];
    memcpy(row, rows, sizeof(row));
    for (int r = 0; r < ROWS; r++) {
        row[r].seed_lo = (u32) SEED;
        row[r].seed_hi = (u32) (SEED >> 32);
    }
    double huge = 100, size = fill == GT_HUGE ? huge : 1;
    float *ring = gt_floats(L2D_RING * n), *eps = gt_floats(ROWS * n), *z = gt_floats(n);
    float *noise = gt_floats(n), *want = gt_floats(n), *x0 = gt_floats(n);
    gt_fill(ring, L2D_RING * n, fill, 1, huge, L2D_F32, index);
    gt_fill(eps, ROWS * n, fill, 1, huge, type, index + 100);
    gt_fill(z, n, fill, 1, huge, type, index + 200);
    // The noise differs from double precision by up to 2e-6: f32 logarithm, sine and cosine.
    struct gt_tol exact = { 2e-6, 4e-6 * size, 2e-6 };
    struct gt_tol rounded = type == L2D_F32 ? exact
                                            : (struct gt_tol) { 5e-4, 1e-5 * size, 1.0 / 1024 };

    // the step, of all rows, with its x0
    gt_begin(t, type);
    struct l2d_tensor trows = gt_bytes(t, row, sizeof(row), false);
    struct l2d_tensor tring = gt_tensor(t, L2D_F32, L2D_RING, h, w, c, ring, true);
    struct l2d_tensor tx0 = gt_tensor(t, L2D_F32, ROWS, h, w, c, NULL, true);
    l2d_lcm_step(t->graph, gt_tensor(t, type, ROWS, h, w, c, eps, false), tring, trows, tx0);
    gt_run(t);
    float *got = gt_read(t, tring), *got_x0 = gt_read(t, tx0);
    for (int slot = 0; slot < L2D_RING; slot++) {
        memcpy(want, ring + (size_t) slot * n, n * sizeof(*want));
        for (size_t r = 0; r < ROWS; r++)
            if (row[r].is_active && (int) row[r].ring == slot) {
                l2d_noise_fill(noise, n, SEED, row[r].frame, row[r].step + 1);
                l2d_ref_lcm_step(want, x0, eps + r * n, noise, (int) n, &(struct l2d_ref_lcm) {
                    (double) row[r].pred_a, (double) row[r].pred_b, (double) row[r].c_skip,
                    (double) row[r].c_out, (double) row[r].a_next, (double) row[r].b_next,
                    row[r].is_last,
                });
                gt_check(x0, got_x0 + r * n, n, exact, "x0 case %u fill %d, %s", index, (int) fill,
                         name);
            }
        gt_check(want, got + (size_t) slot * n, n, exact, "lcm_step case %u fill %d slot %d, %s",
                 index, (int) fill, slot, name);
    }
    free(got);
    free(got_x0);
    gt_end(t);

    // a new frame, without x0 as an operand
    gt_begin(t, type);
    trows = gt_bytes(t, row, sizeof(row), false);
    tring = gt_tensor(t, L2D_F32, L2D_RING, h, w, c, NULL, true);
    l2d_latent_noise(t->graph, gt_tensor(t, type, 1, h, w, c, z, false), 0.5f, tring, trows);
    gt_run(t);
    got = gt_read(t, tring);
    l2d_noise_fill(noise, n, SEED, row[0].frame, 0);
    for (size_t i = 0; i < n; i++)
        want[i] = row[0].a * 0.5f * z[i] + row[0].b * noise[i];
    gt_check(want, got + row[0].ring * n, n, exact, "latent_noise case %u fill %d, %s", index,
             (int) fill, name);
    for (size_t i = 0; i < L2D_RING * n; i++)
        cr_assert(i / n == row[0].ring || isnan(got[i]), "latent_noise wrote to slot %zu", i / n);
    free(got);
    gt_end(t);

    // gather, and the decoder's input
    for (int decode = 0; decode < 2; decode++) {
        gt_begin(t, type);
        trows = gt_bytes(t, row, sizeof(row), false);
        tring = gt_tensor(t, L2D_F32, L2D_RING, h, w, c, ring, false);
        gt_keep(t, decode ? l2d_latent_decode(t->graph, tring, trows, 0.8f)
                          : l2d_latent_load(t->graph, tring, trows, ROWS));
        gt_run(t);
        got = gt_read_kept(t, decode ? n : ROWS * n);
        for (size_t r = 0; r < (decode ? 1 : ROWS); r++) {
            if (decode)
                l2d_ref_latent_decode(want, ring + row[r].ring * n, (int) n, (double) 0.8f);
            else
                memcpy(want, ring + row[r].ring * n, n * sizeof(*want));
            gt_check(want, got + r * n, n, rounded, "%s case %u fill %d, %s",
                     decode ? "latent_decode" : "latent_load", index, (int) fill, name);
        }
        free(got);
        gt_end(t);
    }
    void *all[] = { ring, eps, z, noise, want, x0 };
    for (size_t i = 0; i < COUNT(all); i++)
        free(all[i]);
}

static void run_all(enum l2d_tier tier)
{
    struct gpu_test t;
    gt_open(&t, tier);
    for (unsigned i = 0; i < COUNT(shapes); i++)
        for (int fill = 0; fill < GT_NUM_FILLS; fill++)
            for (int f16 = 0; f16 < 2; f16++)
                run_case(&t, i, (enum gt_fill) fill, f16 ? L2D_F16 : L2D_F32);
    gt_close(&t);
}

Test(latent, tier0) { run_all(L2D_TIER_0); }
Test(latent, tier1) { run_all(L2D_TIER_1); }
