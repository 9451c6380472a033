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
    float *ring = gt_floats(GT_RING * n), *eps = gt_floats(ROWS * n), *z = gt_floats(n);
    float *negative = gt_floats(ROWS * n), *origin = gt_floats(GT_RING * n);
    float *noise = gt_floats(n), *want = gt_floats(n), *x0 = gt_floats(n);
    gt_fill(ring, GT_RING * n, fill, 1, huge, L2D_F32, index);
    gt_fill(eps, ROWS * n, fill, 1, huge, type, index + 100);
    gt_fill(z, n, fill, 1, huge, type, index + 200);
    gt_fill(negative, ROWS * n, fill, 1, huge, type, index + 300);
    gt_fill(origin, GT_RING * n, fill, 1, huge, L2D_F32, index + 400);
    // The noise differs from double precision by up to 2e-6: f32 logarithm, sine and cosine.
    struct gt_tol exact = { 2e-6, 4e-6 * size, 2e-6 };
    struct gt_tol rounded = type == L2D_F32 ? exact
                                            : (struct gt_tol) { 5e-4, 1e-5 * size, 1.0 / 1024 };

    // the step, of all rows, with its x0: without guidance, and with all that it may have, where
    // large terms cancel
    struct gt_tol tol[] = { exact, { 4e-5, 1e-5 * size, 4e-5 } };
    for (int guided = 0; guided < 4; guided++) {
        bool use_negative = guided & 1, use_origin = guided & 2;
        float *moved = use_origin ? gt_floats(GT_RING * n) : NULL;
        if (moved)
            memcpy(moved, origin, GT_RING * n * sizeof(*moved));
        gt_begin(t, type);
        struct l2d_tensor trows = gt_bytes(t, row, sizeof(row), false);
        struct l2d_tensor tring = gt_tensor(t, L2D_F32, GT_RING, h, w, c, ring, true);
        struct l2d_tensor tx0 = gt_tensor(t, L2D_F32, ROWS, h, w, c, NULL, true);
        struct l2d_guide guide = { 1.5f, 0.8f, L2D_NO_TENSOR, L2D_NO_TENSOR };
        if (use_negative)       // with an origin only rows of step 0 need it
            guide.negative = gt_tensor(t, type, use_origin ? 1 : ROWS, h, w, c, negative, false);
        if (use_origin)
            guide.origin = gt_tensor(t, L2D_F32, GT_RING, h, w, c, origin, true);
        l2d_lcm_step(t->graph, gt_tensor(t, type, ROWS, h, w, c, eps, false), tring, trows, tx0,
                     guided ? &guide : NULL);
        gt_run(t);
        float *got = gt_read(t, tring), *got_x0 = gt_read(t, tx0);
        for (int slot = 0; slot < GT_RING; slot++) {
            memcpy(want, ring + (size_t) slot * n, n * sizeof(*want));
            for (size_t r = 0; r < ROWS; r++)
                if (row[r].is_active && (int) row[r].ring == slot) {
                    struct l2d_ref_lcm p = {
                        (double) row[r].pred_a, (double) row[r].pred_b, (double) row[r].c_skip,
                        (double) row[r].c_out, (double) row[r].a_next, (double) row[r].b_next,
                        row[r].is_last, (double) row[r].a, (double) guide.scale,
                        (double) guide.delta, row[r].step == 0,
                    };
                    l2d_noise_fill(noise, n, SEED, row[r].frame, row[r].step + 1);
                    l2d_ref_lcm_step(want, x0, eps + r * n, noise, (int) n, &p,
                                     use_negative ? negative + r * n : NULL,
                                     moved ? moved + row[r].ring * n : NULL);
                    gt_check(x0, got_x0 + r * n, n, tol[guided > 0], "x0 case %u fill %d, guided "
                             "%d, %s", index, (int) fill, guided, name);
                }
            gt_check(want, got + (size_t) slot * n, n, tol[guided > 0],
                     "lcm_step case %u fill %d slot %d, guided %d, %s", index, (int) fill, slot,
                     guided, name);
        }
        if (use_origin) {
            float *got_origin = gt_read(t, guide.origin);
            gt_check(moved, got_origin, GT_RING * n, exact, "origin case %u fill %d, %s", index,
                     (int) fill, name);
            free(got_origin);
        }
        free(got);
        free(got_x0);
        free(moved);
        gt_end(t);
    }

    // a new frame, with an origin to keep
    gt_begin(t, type);
    struct l2d_tensor trows = gt_bytes(t, row, sizeof(row), false);
    struct l2d_tensor tring = gt_tensor(t, L2D_F32, GT_RING, h, w, c, NULL, true);
    struct l2d_tensor torigin = gt_tensor(t, L2D_F32, GT_RING, h, w, c, NULL, true);
    l2d_latent_noise(t->graph, gt_tensor(t, type, 1, h, w, c, z, false), 0.5f, tring, trows,
                     torigin);
    gt_run(t);
    float *got = gt_read(t, tring), *got_origin = gt_read(t, torigin);
    l2d_noise_fill(noise, n, SEED, row[0].frame, 0);
    for (size_t i = 0; i < n; i++)
        want[i] = row[0].a * 0.5f * z[i] + row[0].b * noise[i];
    gt_check(want, got + row[0].ring * n, n, exact, "latent_noise case %u fill %d, %s", index,
             (int) fill, name);
    for (size_t i = 0; i < GT_RING * n; i++)
        cr_assert(i / n == row[0].ring || (isnan(got[i]) && isnan(got_origin[i])),
                  "latent_noise wrote to slot %zu", i / n);
    for (size_t i = 0; i < n; i++)
        cr_assert_float_eq((double) got_origin[row[0].ring * n + i], 0.5 * (double) z[i], 0);
    free(got_origin);
    free(got);
    gt_end(t);

    // gather, and the decoder's input
    for (int decode = 0; decode < 2; decode++) {
        gt_begin(t, type);
        trows = gt_bytes(t, row, sizeof(row), false);
        tring = gt_tensor(t, L2D_F32, GT_RING, h, w, c, ring, false);
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
    void *all[] = { ring, eps, z, negative, origin, noise, want, x0 };
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
