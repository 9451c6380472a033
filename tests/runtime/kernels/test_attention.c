// SPDX-License-Identifier: Apache-2.0
// Spatial, cross and causal attention against plain C.
#include <criterion/criterion.h>
#include <stdlib.h>

#include "kernels/attention_variant.h"
#include "kernels/kernels.h"
#include "ref/ref.h"
#include "support/gpu_test.h"

static const struct attention_case {
    int rows, h, w, keys, c, heads;
    bool self, shared, causal;          // self: q, k, v interleaved in one tensor
} cases[] = {
    { 1, 32, 32, 1024,  64,  8, true,  false, false },
    { 2, 16, 16,  256,  96,  8, true,  false, false },
    { 2,  8,  8,   32,  96,  8, false, true,  false },  // text, shared by the rows
    { 1,  1, 77,   77,  96,  4, true,  false, true },   // text encoder
    { 1,  4,  5,   77, 320,  8, false, true,  false },  // SD1.5
    { 2,  3,  3,    9, 160,  1, true,  false, false },  // the widest head of the usual kernel
    { 1,  7,  9,   63, 512,  1, true,  false, false },  // AutoencoderKL
    { 2,  5,  4,   20, 164,  1, true,  false, true },
    { 2,  1,  3,   33, 400,  2, false, true,  false },
    { 1,  1,  1,    1, 1024, 1, false, false, false },
    { 1,  1,  1,    1,   4,  1, true,  false, true },
    { 3,  1,  5,   13,  24,  3, false, false, false },
};

static void run_case(struct gpu_test *t, unsigned index, enum gt_fill fill, enum l2d_dtype type)
{
    const struct attention_case *k = &cases[index];
    int queries = k->h * k->w, kv_rows = k->shared ? 1 : k->rows;
    struct l2d_ref_attention ref = {
        .rows = k->rows, .queries = queries, .keys = k->keys, .heads = k->heads, .c = k->c,
        .q_channels = k->self ? 3 * k->c : k->c,
        .kv_channels = k->self ? 3 * k->c : 2 * k->c, .k_first = k->self ? k->c : 0,
        .v_first = k->self ? 2 * k->c : k->c, .kv_shared = k->shared, .causal = k->causal,
    };
    size_t nq = (size_t) (k->rows * queries * ref.q_channels);
    size_t nkv = (size_t) (kv_rows * k->keys * ref.kv_channels);
    size_t n = (size_t) (k->rows * queries * k->c);
    float *q = gt_floats(nq), *kv = gt_floats(nkv), *want = gt_floats(n);
    gt_fill(q, nq, fill, 1.5, 10, type, index);
    gt_fill(kv, nkv, fill, 1.5, 10, type, index + 100);
    ref.q = q;
    ref.kv = k->self ? q : kv;
    l2d_ref_attention(want, &ref);

    gt_begin(t, type);
    struct l2d_tensor tq = gt_tensor(t, type, k->rows, k->h, k->w, ref.q_channels, q, false);
    struct l2d_tensor tkv = k->self ? tq : gt_tensor(t, type, kv_rows, 1, k->keys,
                                                     ref.kv_channels, kv, false);
    gt_keep(t, l2d_attention(t->graph, tq, 0, tkv, ref.k_first, ref.v_first, k->c, k->heads,
                             k->causal));
    gt_run(t);
    float *got = gt_read_kept(t, n);
    // The scores' error is that of a sum of d products: it grows with their size, and exp turns it
    // into a relative error of the weights. Huge fills reach scores of several hundred.
    struct gt_tol tol = type == L2D_F32 ? (struct gt_tol) { 3e-6, 1e-5, 1e-5 }
                                        : (struct gt_tol) { 5e-4, 1e-5, 1.0 / 1024 };
    if (t->tier >= L2D_TIER_2)                          // its weights are halves
        tol = (struct gt_tol) { 5e-4, fill == GT_TINY ? 5e-5 : 5e-4, 1.0 / 1024 };
    if (fill == GT_HUGE)
        tol = type == L2D_F32 ? (struct gt_tol) { 1e-4, 5e-2, 1e-3 }
                              : (struct gt_tol) { 1e-3, 5e-2, 2e-3 };
    gt_check(want, got, n, tol, "attention case %u fill %d, %s", index, (int) fill,
             type == L2D_F16 ? "f16" : "f32");
    gt_end(t);
    void *all[] = { q, kv, want, got };
    for (size_t i = 0; i < COUNT(all); i++)
        free(all[i]);
}

static void run_all(enum l2d_tier tier)
{
    struct gpu_test t;
    gt_open(&t, tier);
    for (unsigned i = 0; i < COUNT(cases); i++)
        for (int fill = 0; fill < GT_NUM_FILLS; fill++)
            for (int f16 = 0; f16 < 2; f16++)
                if ((i > 0 || fill == GT_NORMAL) && (f16 || tier < L2D_TIER_2))
                    run_case(&t, i, (enum gt_fill) fill, f16 ? L2D_F16 : L2D_F32);
    gt_close(&t);
}

// Those that the rule does not take.
static void run_variants(enum l2d_tier tier)
{
    struct gpu_test t;
    unsigned num_run = 0;
    gt_open(&t, tier);
    for (unsigned i = 2; i < COUNT(cases); i++) {           // the small ones
        const struct attention_case *k = &cases[i];
        struct l2d_attention_shape shape = {
            (uint32_t) k->rows, (uint32_t) (k->h * k->w), (uint32_t) k->keys, (uint32_t) k->heads,
            (uint32_t) (k->c / k->heads / 4), k->causal,
        };
        struct l2d_attention_variant v;
        for (uint32_t n = 1; l2d_attention_variant_of(l2d_gpu_caps(t.gpu), L2D_F16, &shape, n, &v);
             n++, num_run++) {
            l2d_choices_force(t.gpu, &(struct l2d_choice) { .family = n, .parts = 1 });
            run_case(&t, i, GT_NORMAL, L2D_F16);
            run_case(&t, i, GT_HUGE, L2D_F16);
        }
    }
    cr_assert(num_run >= COUNT(cases), "%u", num_run);
    gt_close(&t);
}

Test(attention, tier0) { run_all(L2D_TIER_0); }
Test(attention, tier1) { run_all(L2D_TIER_1); }
Test(attention, tier1_variants) { run_variants(L2D_TIER_1); }

Test(attention, tier2)
{
    if (!gt_has_matrix_units())
        cr_skip_test("the device has no matrix units");
    run_all(L2D_TIER_2);
    run_variants(L2D_TIER_2);
}

Test(attention, tier3)
{
    if (!gt_has_matrix2())
        cr_skip_test("the device has no matrices of any size");
    run_all(L2D_TIER_3);
    run_variants(L2D_TIER_3);
}
