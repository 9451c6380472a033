// SPDX-License-Identifier: Apache-2.0
// Convolutions and linear layers of all tiers against plain C.
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/half.h"
#include "kernels/conv_variant.h"
#include "kernels/kernels.h"
#include "ref/ref.h"
#include "support/gpu_test.h"

enum { BIAS = 1, STEP = 2, RESIDUAL = 4, RING = 8, LAST = 16, OUT_RING = 32, STRIDE = 64, UP = 128,
       PERSISTENT = 256, SAME = 512, RELU_IN = 1024, ONE = 2048 };

struct conv_case {
    int rows, h, w, c0, c1, cout, ksize, act, flags;
};

static const struct conv_case cases[] = {
    // the default model at 256x256: 32x32 latents, 64..96 channels
    { 2, 32, 32,  64,   0,  96, 3, L2D_ACT_NONE, BIAS | STEP },
    { 1, 16, 16,  96,   0,  96, 3, L2D_ACT_NONE, BIAS | RESIDUAL },
    { 2, 16, 16,  96,   0, 288, 1, L2D_ACT_NONE, 0 },
    { 2,  8,  8,  96,   0, 768, 1, L2D_ACT_GEGLU, BIAS },
    { 1, 17, 13,  96,   0,  96, 3, L2D_ACT_NONE, BIAS | STRIDE },
    { 1,  8,  9,  24,   0,  24, 3, L2D_ACT_RELU, BIAS | RESIDUAL | UP },
    { 1, 23,  5,  24,   0,  24, 3, L2D_ACT_RELU, BIAS | RESIDUAL | LAST },
    // SD1.5's width, few pixels
    { 1,  4,  4, 320,   0, 320, 3, L2D_ACT_NONE, BIAS | RESIDUAL },
    { 1,  3,  5, 320, 640, 320, 1, L2D_ACT_NONE, BIAS },
    // text encoder, tokens in a list
    { 1,  1, 77,  96,   0, 384, 1, L2D_ACT_QUICK_GELU, BIAS },
    { 1,  1, 31,  16,   0,  40, 1, L2D_ACT_GELU, BIAS },
    // rings, odd sizes, one pixel, few channels
    { 3,  5,  7,  16,   0,  64, 3, L2D_ACT_SILU, BIAS | RESIDUAL | RING },
    { 2,  6,  3,  32,   0,  64, 3, L2D_ACT_NONE, BIAS | OUT_RING },
    { 5,  1,  1,   4,   0,   4, 1, L2D_ACT_NONE, 0 },
    { 1,  1,  1,   4,   0,  12, 3, L2D_ACT_NONE, BIAS },
    { 2,  2,  2,  16,   4,  36, 3, L2D_ACT_NONE, STRIDE | PERSISTENT },
    // upsampled
    { 2,  5,  3,  16,   0,  40, 3, L2D_ACT_NONE, UP },
    { 3,  1,  2,  12,   4,  12, 3, L2D_ACT_SILU, BIAS | STEP | RESIDUAL | RING | OUT_RING | UP },
    // DPT: stem, stride with padding behind, a shortcut, a unit of the decoder, readout
    { 1, 30, 26,   4,   0,  64, 7, L2D_ACT_NONE, STRIDE | SAME },
    { 1, 16, 12,  64,   0,  64, 3, L2D_ACT_NONE, STRIDE | SAME },
    { 2,  8,  6,  32,   0,  64, 1, L2D_ACT_NONE, STRIDE | SAME },
    { 1,  6,  6,  64,   0,  64, 3, L2D_ACT_RELU, BIAS | RELU_IN },
    { 1,  6,  6, 192, 192, 192, 1, L2D_ACT_GELU, BIAS | ONE },
    { 2,  9,  5,   8,   0,   8, 3, L2D_ACT_NONE, STRIDE | SAME },
    { 2,  5,  7,   4,   0,  12, 7, L2D_ACT_NONE, SAME | BIAS },
    { 3,  1,  1,   4,   0,   8, 7, L2D_ACT_NONE, STRIDE | SAME },
    { 3,  2,  3,   8,   4,   4, 1, L2D_ACT_NONE, ONE | RELU_IN },
    { 2,  7,  3,   8,   0,   4, 1, L2D_ACT_NONE, STRIDE },
    // two inputs that meet within an octet of channels
    { 2,  5,  3,  12,   4,  16, 3, L2D_ACT_SILU, BIAS },
    // enough pixels for the large tiles of tier 2
    { 1, 79, 81,  16,   8, 136, 1, L2D_ACT_NONE, BIAS },
    { 2, 57, 56,   4,   0,  24, 3, L2D_ACT_SILU, BIAS | RESIDUAL },
};

static const struct l2d_row_params rows[] = {
    { .step = 2, .ring = 5 }, { .step = 0, .ring = 1 }, { .step = 1, .ring = 7 },
    { .step = 1, .ring = 0 }, { .step = 2, .ring = 3 },
};

static struct l2d_conv upload(struct gpu_test *t, const struct conv_case *c, const float *weight,
                              const float *bias, enum l2d_dtype packed_type)
{
    struct l2d_conv conv = {
        .bias = L2D_NO_TENSOR, .cin = c->c0 + c->c1, .cout = c->cout, .ksize = c->ksize,
        .geglu = c->act == L2D_ACT_GEGLU, .upsample = c->flags & UP,
    };
    int32_t ksize = l2d_conv_packed_ksize(&conv);
    size_t kernels = (size_t) (conv.cin * conv.cout);
    size_t count = kernels * (size_t) (conv.ksize * conv.ksize);
    uint64_t bytes = l2d_conv_packed_bytes(conv.cin, conv.cout, ksize, packed_type);
    float *folded = gt_floats(kernels * (size_t) (ksize * ksize));
    void *packed = malloc(bytes);
    cr_assert(packed != NULL);
    memcpy(folded, weight, count * sizeof(*folded));
    if (conv.upsample)
        l2d_conv_fold(folded, kernels);
    l2d_conv_pack(packed, packed_type, conv.cin, conv.cout, ksize, conv.geglu, folded, conv.cin,
                  conv.cout, 0);
    free(folded);
    conv.weight = l2d_tensor_view(t->arena, gt_bytes(t, packed, bytes, false).offset_bytes,
                                  packed_type, 1, 1, 1,
                                  (int32_t) (bytes / l2d_dtype_bytes(packed_type)));
    if (c->flags & BIAS)
        conv.bias = gt_tensor(t, L2D_F32, 1, 1, 1, c->cout, bias, false);
    free(packed);
    return conv;
}

// How weights are kept, and slices summed up.
enum { IN_BYTES = 1, IN_HALVES = 2 };

static void run_case(struct gpu_test *t, unsigned index, enum gt_fill fill, enum l2d_dtype type,
                     int how)
{
    bool bytes = how & IN_BYTES;
    const struct conv_case *c = &cases[index];
    int cin = c->c0 + c->c1, oh, ow, oc;
    struct l2d_ref_conv ref = {
        .rows = c->rows, .h = c->h, .w = c->w, .c0 = c->c0, .c1 = c->c1, .cout = c->cout,
        .ksize = c->ksize, .stride2 = c->flags & STRIDE, .upsample = c->flags & UP,
        .act = (enum l2d_ref_act) c->act, .act_after_residual = c->flags & LAST,
        .pad_same = c->flags & SAME, .relu_in = c->flags & RELU_IN, .x2_one = c->flags & ONE,
    };
    l2d_ref_conv_shape(&ref, &oh, &ow, &oc);
    size_t in = (size_t) (c->rows * c->h * c->w), one = (size_t) (oh * ow * oc);
    size_t out = (size_t) c->rows * one, taps = (size_t) (cin * c->ksize * c->ksize);
    size_t in2 = (c->flags & ONE ? (size_t) c->rows : in) * (size_t) c->c1;
    double huge = type == L2D_F16 ? 1000 : 1e6;

    float *x = gt_floats(in * (size_t) c->c0), *x2 = gt_floats(in2);
    float *weight = gt_floats((size_t) c->cout * taps), *bias = gt_floats((size_t) c->cout);
    float *step = gt_floats((size_t) (3 * oc)), *row_bias = gt_floats((size_t) (c->rows * oc));
    float *ring = gt_floats(GT_RING * one), *residual = gt_floats(out), *want = gt_floats(out);
    gt_fill(x, in * (size_t) c->c0, fill, 1, huge, type, index);
    gt_fill(x2, in2, fill, 1, huge, type, index + 100);
    gt_fill(weight, (size_t) c->cout * taps, GT_NORMAL, 1 / __builtin_sqrt((double) taps), 1, type,
            index + 200);
    for (int n = 0; n < c->cout && bytes; n++)
        gt_round_to_bytes(weight + (size_t) n * taps, taps);
    gt_fill(bias, (size_t) c->cout, fill, 1, huge, L2D_F32, index + 300);
    gt_fill(step, (size_t) (3 * oc), fill, 1, huge, L2D_F32, index + 400);
    gt_fill(ring, GT_RING * one, fill, 1, huge, type, index + 500);
    for (int r = 0; r < c->rows; r++) {
        for (int n = 0; n < oc; n++)
            row_bias[r * oc + n] = step[(int) rows[r].step * oc + n];
        size_t from = c->flags & RING ? rows[r].ring : (size_t) r;
        for (size_t i = 0; i < one; i++)
            residual[(size_t) r * one + i] = ring[from * one + i];
    }
    ref.x = x;
    ref.x2 = x2;
    ref.weight = weight;
    ref.bias = c->flags & BIAS ? bias : NULL;
    ref.row_bias = c->flags & STEP ? row_bias : NULL;
    ref.residual = c->flags & RESIDUAL ? residual : NULL;
    l2d_ref_conv(want, &ref);

    gt_begin(t, type);
    struct l2d_conv conv = upload(t, c, weight, bias, bytes ? L2D_U32 : type);
    struct l2d_conv_desc d =
        L2D_CONV_DESC(&conv, gt_tensor(t, type, c->rows, c->h, c->w, c->c0, x, false));
    if (c->c1)
        d.x2 = gt_tensor(t, type, c->rows, c->flags & ONE ? 1 : c->h, c->flags & ONE ? 1 : c->w,
                         c->c1, x2, false);
    d.pad_same = ref.pad_same;
    d.relu_in = ref.relu_in;
    d.stride2 = ref.stride2;
    d.act = (enum l2d_act) c->act;
    d.act_after_residual = ref.act_after_residual;
    if (c->flags & STEP)
        d.step_bias = gt_tensor(t, L2D_F32, 3, 1, 1, oc, step, false);
    d.residual_ring = c->flags & RING;
    if (c->flags & RESIDUAL)
        d.residual = gt_tensor(t, type, c->flags & RING ? GT_RING : c->rows, oh, ow, oc,
                               c->flags & RING ? ring : residual, false);
    d.out_ring = c->flags & OUT_RING;
    if (c->flags & (OUT_RING | PERSISTENT))
        d.out = gt_tensor(t, type, d.out_ring ? GT_RING : c->rows, oh, ow, oc, NULL, true);
    d.rows = gt_bytes(t, rows, sizeof(rows), false);
    struct l2d_tensor y = l2d_conv2d(t->graph, &d);
    if (!l2d_tensor_exists(&d.out))
        gt_keep(t, y);
    gt_run(t);
    if (l2d_graph_own_bytes(t->graph))          // counters are as they were
        gt_run_again(t);

    float *got = l2d_tensor_exists(&d.out) ? gt_read(t, d.out) : gt_read_kept(t, out);
    // f32: sums of up to 8640 products of rounded terms. Half: the result is rounded once, 2^-11,
    // and the residual may cancel it; below 6e-5 a step of a subnormal.
    double size = fill == GT_HUGE ? huge : fill == GT_TINY ? 1 / huge : 1;
    struct gt_tol tol = type == L2D_F32 ? (struct gt_tol) { 2e-6, 1e-5 * size, 1e-5 }
                                        : (struct gt_tol) { 6e-4, 1e-5 * size + 6e-8, 1.0 / 1024 };
    if (c->flags & UP && type == L2D_F16)
        tol = (struct gt_tol) { 1e-3, 2e-3 * size, 1.0 / 512 };     // sums of weights are rounded
    if (c->flags & UP && bytes)                 // and then rounded to bytes
        tol = (struct gt_tol) { 2e-2, 0.1 * size, 0 };
    if (how & IN_HALVES) {              // rounded with each matrix, or term
        tol.l2 += 1e-3;
        tol.abs += 1e-2 * size;
    }
    if (c->act == L2D_ACT_GEGLU && fill == GT_TINY)
        tol = (struct gt_tol) { 1, 1e-6, 1e-3 };        // products of tiny numbers
    for (int r = 0; r < c->rows; r++)
        gt_check(want + (size_t) r * one, got + (d.out_ring ? rows[r].ring : (size_t) r) * one, one,
                 tol, "case %u fill %d row %d, %s", index, (int) fill, r,
                 type == L2D_F16 ? "f16" : "f32");
    gt_end(t);
    void *all[] = { x, x2, weight, bias, step, row_bias, ring, residual, want, got };
    for (size_t i = 0; i < COUNT(all); i++)
        free(all[i]);
}

static void run_all(enum l2d_tier tier, bool bytes)
{
    struct gpu_test t;
    gt_open(&t, tier);
    for (unsigned i = 0; i < COUNT(cases); i++)
        for (int fill = 0; fill < GT_NUM_FILLS; fill++)
            for (int f16 = 0; f16 < 2; f16++)
                // The large ones once; in f32 tiers 2 and 3 are tier 1.
                if (((i >= 9 && i < COUNT(cases) - 2) || fill == GT_NORMAL) &&
                    (f16 || tier < L2D_TIER_2))
                    run_case(&t, i, (enum gt_fill) fill, f16 ? L2D_F16 : L2D_F32,
                             bytes ? IN_BYTES : 0);
    gt_close(&t);
}

Test(conv, tier0) { run_all(L2D_TIER_0, false); }
Test(conv, tier1) { run_all(L2D_TIER_1, false); }
Test(conv, tier1_bytes) { run_all(L2D_TIER_1, true); }

Test(conv, tier2)
{
    if (!gt_has_matrix_units())
        cr_skip_test("the device has no matrix units");
    run_all(L2D_TIER_2, false);
}

Test(conv, tier2_bytes)
{
    if (!gt_has_matrix_units())
        cr_skip_test("the device has no matrix units");
    run_all(L2D_TIER_2, true);
}

// Every variant, with sums in one to eight parts, some of them empty, and some of the weights in
// bytes; each on some of the cases. Closes it.
static void run_variants(struct gpu_test *t, enum l2d_conv_family family, unsigned every)
{
    static const uint32_t parts[] = { 1, 2, 8, 3, 5 };
    unsigned num_run = 0;
    for (unsigned f16 = 0; f16 < 2; f16++) {
        enum l2d_dtype type = f16 ? L2D_F16 : L2D_F32;
        uint32_t count = l2d_conv_num_variants(l2d_gpu_caps(t->gpu), type, family);
        for (uint32_t v = 0; v < count; v++)
            for (unsigned i = 3; i < COUNT(cases); i++)
                if ((i + v + f16) % every == 0) {
                    struct l2d_choice choice = { family, v, parts[(i + v) % COUNT(parts)] };
                    l2d_choices_force(t->gpu, &choice);
                    run_case(t, i, GT_NORMAL, type,
                             ((i + v / 2) % 3 ? 0 : IN_BYTES) |
                             (family == L2D_CONV_T1_HALVES ||
                              family == L2D_CONV_T2_HALVES ? IN_HALVES : 0));
                    num_run++;
                }
    }
    cr_assert(num_run >= COUNT(cases) - 3, "%u", num_run);
    gt_close(t);
}

Test(conv, tier1_variants)
{
    struct gpu_test t;
    gt_open(&t, L2D_TIER_1);
    run_variants(&t, L2D_CONV_T1, 2);
}

Test(conv, tier1_halves)
{
    struct gpu_test t;
    gt_open(&t, L2D_TIER_1);
    if (!l2d_gpu_caps(t.gpu)->has_half_math) {
        gt_close(&t);
        cr_skip_test("the device does not calculate with halves");
    }
    run_variants(&t, L2D_CONV_T1_HALVES, 2);
}

static void run_tier2_variants(void (*open)(struct gpu_test *t), enum l2d_conv_family family)
{
    struct gpu_test t;
    if (!gt_has_matrix_units())
        cr_skip_test("the device has no matrix units");
    open(&t);
    run_variants(&t, family, 2);
}

static void open_tier2(struct gpu_test *t)
{
    gt_open(t, L2D_TIER_2);
}

Test(conv, tier2_variants) { run_tier2_variants(open_tier2, L2D_CONV_T2); }
Test(conv, tier2_rows) { run_tier2_variants(gt_open_matrix_rows, L2D_CONV_T2); }
Test(conv, tier2_halves) { run_tier2_variants(open_tier2, L2D_CONV_T2_HALVES); }

// ---- what is chosen

// What a profile says of it, also where parts of sums are written beside the result.
static void check_profile(struct gpu_test *t, int n, int h, int w, int cin, int cout)
{
    struct l2d_profile_row row[2];
    struct l2d_error err = { 0 };
    uint32_t count = 0;
    char want[sizeof(row->shape)];
    cr_assert_eq(l2d_graph_profile(t->graph, row, COUNT(row), &count, &err), L2D_OK, "%s", err.msg);
    snprintf(want, sizeof(want), "[%d,%d,%d,%d] [%d,%d,%d,%d]", n, h, w, cin, n, h, w, cout);
    cr_assert_eq(count, 1);
    cr_assert_str_eq(row[0].shape, want);
}

// The first `count` rows of a convolution of three; the caller frees it.
static float *convolve(struct gpu_test *t, enum l2d_dtype type, int count,
                       const struct l2d_choice *choice)
{
    enum { H = 5, W = 7, CIN = 64, COUT = 72, IN = 3 * H * W * CIN };
    static float x[IN], weight[COUT * CIN * 9], bias[COUT];
    struct conv_case c = { count, H, W, CIN, 0, COUT, 3, L2D_ACT_SILU, BIAS };
    gt_fill(x, IN, GT_NORMAL, 1, 1, type, 1);
    gt_fill(weight, COUNT(weight), GT_NORMAL, 0.04, 1, type, 2);
    gt_fill(bias, COUT, GT_NORMAL, 1, 1, L2D_F32, 3);
    l2d_choices_force(t->gpu, choice);
    gt_begin(t, type);
    struct l2d_conv conv = upload(t, &c, weight, bias, type);
    struct l2d_conv_desc d = L2D_CONV_DESC(&conv, gt_tensor(t, type, count, H, W, CIN, x, false));
    d.act = L2D_ACT_SILU;
    gt_keep(t, l2d_conv2d(t->graph, &d));
    gt_run(t);
    float *y = gt_read_kept(t, (size_t) (count * H * W * COUT));
    check_profile(t, count, H, W, CIN, COUT);
    gt_end(t);
    return y;
}

// The variants of a family differ in speed alone: another number of rows may have another one.
static void check_rows(enum l2d_tier tier, enum l2d_dtype type, enum l2d_conv_family family)
{
    struct gpu_test t;
    const size_t row = 5 * 7 * 72;
    gt_open(&t, tier);
    uint32_t count = l2d_conv_num_variants(l2d_gpu_caps(t.gpu), type, family);
    bool halves = family == L2D_CONV_T1_HALVES || family == L2D_CONV_T2_HALVES;
    cr_assert(halves || count > 2);
    for (uint32_t parts = 1; count && parts <= 4; parts += 3) {
        float *want = convolve(&t, type, 3, &(struct l2d_choice) { family, 0, parts });
        for (uint32_t v = 0; v < count; v++)
            for (int n = 1; n <= 3; n += 2) {
                float *got = convolve(&t, type, n, &(struct l2d_choice) { family, v, parts });
                cr_assert(memcmp(want, got, (size_t) n * row * sizeof(*got)) == 0,
                          "variant %u, %u parts, %d rows", v, parts, n);
                free(got);
            }
        free(want);
    }
    gt_close(&t);
}

Test(conv, tier1_tiles_are_alike)
{
    check_rows(L2D_TIER_1, L2D_F32, L2D_CONV_T1);
    check_rows(L2D_TIER_1, L2D_F16, L2D_CONV_T1);
    check_rows(L2D_TIER_1, L2D_F16, L2D_CONV_T1_HALVES);
}

Test(conv, tier2_tiles_are_alike)
{
    if (!gt_has_matrix_units())
        cr_skip_test("the device has no matrix units");
    check_rows(L2D_TIER_2, L2D_F16, L2D_CONV_T2);
    check_rows(L2D_TIER_2, L2D_F16, L2D_CONV_T2_HALVES);
}

Test(conv, parts_by_rule)
{
    // SD1.5 at 512x512: pixels of a side, channels, sum; its parts in tiers 1 and 2, on devices of
    // 132 and of 16 cores.
    static const struct { uint32_t side, cout, cin, ksize, large[2], small[2]; } want[] = {
        {  8, 1280, 1280, 3, { 8, 8 }, { 2, 2 } }, {  8, 1280, 2560, 3, { 8, 8 }, { 2, 4 } },
        { 16, 1280, 1280, 3, { 4, 4 }, { 1, 1 } }, { 32,  640,  640, 3, { 2, 2 }, { 1, 1 } },
        { 64,  320,  320, 3, { 1, 1 }, { 1, 1 } }, {  8, 1280, 1280, 1, { 2, 1 }, { 2, 1 } },
        {  8, 1280, 5120, 1, { 8, 8 }, { 2, 2 } }, {  8, 10240, 1280, 1, { 2, 1 }, { 1, 1 } },
        { 64,    4,  320, 3, { 2, 1 }, { 1, 1 } }, {  8,    4, 2560, 3, { 8, 8 }, { 8, 8 } },
    };
    for (size_t i = 0; i < COUNT(want); i++)
        for (uint32_t n = 1; n <= 8; n++)
            for (uint32_t tier = L2D_TIER_1; tier <= L2D_TIER_2; tier++)
                for (uint32_t cores = 0; cores <= 132; cores = cores ? 8 * cores + 4 : 16) {
                    struct l2d_gpu_caps caps = {
                        .tier = (enum l2d_tier) tier, .num_cores = cores, .subgroup_size = 32,
                        .matrix = { 16, 16, 16 }, .matrix_halves = true, .has_half_math = true,
                        .max_range_bytes = 128u << 20,
                        .max_shared_bytes = 49152, .max_invocations = 1024,
                        .max_groups = { 65535, 65535, 65535 },
                    };
                    struct l2d_conv_shape shape = {
                        .rows = n, .out_h = want[i].side, .out_w = want[i].side,
                        .quads = want[i].cout / 4, .cin = want[i].cin, .ksize = want[i].ksize,
                        .stride = 1,
                    };
                    struct l2d_choice c = l2d_conv_default(&caps, L2D_F16, &shape);
                    uint32_t t = tier - L2D_TIER_1;
                    cr_expect_eq(c.parts, cores == 0 ? 1 : cores == 16 ? want[i].small[t]
                                                                       : want[i].large[t],
                                 "case %zu, %u cores: %u", i, cores, c.parts);
                    cr_expect_eq(c.family, tier == L2D_TIER_1 ? L2D_CONV_T1 : L2D_CONV_T2);
                    struct l2d_choice halves = l2d_conv_in_halves(&caps, L2D_F16, &shape, &c);
                    struct l2d_conv_variant v;
                    cr_expect_eq(halves.family, c.family == L2D_CONV_T2 ? L2D_CONV_T2_HALVES
                                                                        : L2D_CONV_T1_HALVES);
                    cr_expect_eq(halves.parts, c.parts);
                    cr_expect(l2d_conv_variant_of(&caps, L2D_F16, &shape, &halves, &v));
                }
}

// ---- few registers

// An Intel device of the Xe2 generation, but for its registers.
static struct l2d_gpu_caps caps_of_xe2(uint32_t lane_registers)
{
    return (struct l2d_gpu_caps) {
        .tier = L2D_TIER_2, .num_cores = 20, .subgroup_size = 16, .lane_registers = lane_registers,
        .matrix = { 8, 16, 16 }, .matrix_columns = true, .max_range_bytes = 1u << 30,
        .max_shared_bytes = 65536, .max_invocations = 1024,
        .max_groups = { 65535, 65535, 65535 },
    };
}

Test(conv, tiles_fit_registers)
{
    static const char *const want[] = { "64x64x32", "128x64x32", "128x128x32", "128x128x64",
                                        "256x64x32" };
    const struct l2d_conv_shape shape = { .rows = 2, .out_h = 64, .out_w = 64, .quads = 80,
                                          .cin = 320, .ksize = 3, .stride = 1 };
    struct l2d_gpu_caps caps = caps_of_xe2(128);
    struct l2d_conv_variant v;
    cr_assert_eq(l2d_conv_num_variants(&caps, L2D_F16, L2D_CONV_T2), COUNT(want));
    for (uint32_t i = 0; i < COUNT(want); i++) {
        struct l2d_choice c = { L2D_CONV_T2, i, 1 };
        cr_assert(l2d_conv_variant_of(&caps, L2D_F16, &shape, &c, &v));
        cr_expect_str_eq(v.name, want[i]);
    }
    cr_expect_eq(l2d_conv_default(&caps, L2D_F16, &shape).family, L2D_CONV_T2);

    // Where no tile fits, tier 1 has some that compilers keep small.
    caps = caps_of_xe2(32);
    cr_expect_eq(l2d_conv_num_variants(&caps, L2D_F16, L2D_CONV_T2), 0);
    cr_expect_eq(l2d_conv_default(&caps, L2D_F16, &shape).family, L2D_CONV_T1);

    // Where registers are enough, there are none of these.
    caps = caps_of_xe2(0);
    cr_expect_eq(l2d_conv_num_variants(&caps, L2D_F16, L2D_CONV_T2), 10);
}

// More tiles of the usual size than one dispatch can have.
Test(conv, large_pictures_take_large_tiles)
{
    struct l2d_gpu_caps caps = caps_of_xe2(128);
    struct l2d_conv_shape s = { .rows = 1, .out_h = 2048, .out_w = 2047, .quads = 16, .cin = 64,
                                .ksize = 3, .stride = 1 };
    for (enum l2d_tier tier = L2D_TIER_1; tier <= L2D_TIER_2; tier++)
        for (s.out_w = 2047; s.out_w <= 2048; s.out_w++) {
            struct l2d_conv_variant v;
            caps.tier = tier;
            struct l2d_choice c = l2d_conv_default(&caps, L2D_F16, &s);
            cr_assert(l2d_conv_variant_of(&caps, L2D_F16, &s, &c, &v));
            if (tier == L2D_TIER_1)
                cr_expect_eq(v.pixels, s.out_w < 2048 ? 64 : 128);
            c.variant = 0;
            cr_expect_eq(l2d_conv_variant_of(&caps, L2D_F16, &s, &c, &v), s.out_w < 2048);
        }
}

Test(conv, pack_by_parts)
{
    // q, k and v packed one after the other are what they are when packed together.
    enum { CIN = 8, COUT = 48 };
    float weight[COUT * CIN];
    static float whole[64 * CIN], parts[64 * CIN];
    cr_assert(l2d_conv_packed_bytes(CIN, COUT, 1, L2D_F32) == sizeof(whole));
    gt_fill(weight, COUNT(weight), GT_NORMAL, 1, 1, L2D_F32, 1);
    l2d_conv_pack(whole, L2D_F32, CIN, COUT, 1, false, weight, CIN, COUT, 0);
    for (int i = 0; i < 3; i++)
        l2d_conv_pack(parts, L2D_F32, CIN, COUT, 1, false, weight + i * 16 * CIN, CIN, 16, i * 16);
    for (size_t i = 0; i < COUNT(whole); i++)
        cr_assert(whole[i] == parts[i]);
}

// By the formula: [panel][tap][cin][32], the rest zero; from f32, and from halves where they fit.
static void check_panels(enum l2d_dtype type, enum l2d_dtype row_type, int32_t cin, int32_t src_cin,
                         int32_t cout, int32_t src_cout, int32_t ksize, bool geglu)
{
    size_t taps = (size_t) (ksize * ksize), each = (size_t) src_cin * taps;
    size_t panel = l2d_conv_panel_bytes(cin, ksize, type);
    size_t bytes = l2d_conv_num_panels(cout) * panel;
    float *weight = gt_floats((size_t) src_cout * each);
    uint16_t *half = malloc((size_t) src_cout * each * sizeof(*half));
    unsigned char *want = calloc(1, bytes), *got = malloc(bytes), *whole = malloc(bytes);
    cr_assert(half && want && got && whole);
    cr_assert_eq(bytes, l2d_conv_packed_bytes(cin, cout, ksize, type));
    gt_fill(weight, (size_t) src_cout * each, GT_NORMAL, 1, 1, L2D_F16, 7);
    for (size_t i = 0; i < (size_t) src_cout * each; i++)
        half[i] = l2d_half_from_f32(weight[i]);
    for (size_t n = 0; n < (size_t) src_cout; n++) {
        size_t h = (size_t) cout / 2, value = n % h;
        size_t column = !geglu ? n : value / 4 * 8 + value % 4 + (n < h ? 0 : 4);
        cr_assert_eq(l2d_conv_channel_of((int32_t) column, cout, geglu), (int32_t) n);
        for (size_t k = 0; k < (size_t) src_cin; k++)
            for (size_t tap = 0; tap < taps; tap++) {
                size_t from = n * each + k * taps + tap;
                size_t to = ((column / 32 * taps + tap) * (size_t) cin + k) * 32 + column % 32;
                if (type == L2D_F16)
                    ((uint16_t *) (void *) want)[to] = half[from];
                else
                    ((float *) (void *) want)[to] = weight[from];
            }
    }
    memset(got, 0xff, bytes);
    for (uint32_t p = 0; p < l2d_conv_num_panels(cout); p++) {
        const void *lane[32] = { NULL };
        for (uint32_t i = 0; i < 32; i++) {
            int32_t n = l2d_conv_channel_of((int32_t) (32 * p + i), cout, geglu);
            size_t at = (size_t) n * each;
            if (n >= 0 && n < src_cout)
                lane[i] = row_type == L2D_F16 ? (void *) (half + at) : (void *) (weight + at);
        }
        l2d_conv_pack_panel(got + p * panel, type, cin, ksize, lane, row_type, src_cin);
    }
    cr_expect_eq(memcmp(got, want, bytes), 0, "panels: %d -> %d, kernel %d", cin, cout, ksize);
    l2d_conv_pack(whole, type, cin, cout, ksize, geglu, weight, src_cin, src_cout, 0);
    cr_expect_eq(memcmp(whole, want, bytes), 0, "whole: %d -> %d, kernel %d", cin, cout, ksize);
    free(weight);
    free(half);
    free(want);
    free(got);
    free(whole);
}

Test(conv, pack_by_panels)
{
    static const struct { int32_t cin, src_cin, cout, src_cout, ksize; bool geglu; } packs[] = {
        { 8, 8, 32, 32, 1, false }, { 4, 3, 64, 64, 3, false }, { 12, 12, 40, 40, 3, false },
        { 4, 4, 4, 3, 7, false }, { 8, 8, 256, 256, 1, true }, { 8, 7, 40, 40, 1, true },
    };
    for (size_t i = 0; i < COUNT(packs); i++)
        for (int types = 0; types < 3; types++)
            check_panels(types == 0 ? L2D_F32 : L2D_F16, types == 2 ? L2D_F16 : L2D_F32,
                         packs[i].cin, packs[i].src_cin, packs[i].cout, packs[i].src_cout,
                         packs[i].ksize, packs[i].geglu);
}

static void refuse(struct gpu_test *t, int c, struct l2d_tensor weight)
{
    gt_begin(t, L2D_F32);
    struct l2d_conv conv = { .weight = weight, .bias = L2D_NO_TENSOR, .cin = 8, .cout = 16,
                             .ksize = 1 };
    struct l2d_conv_desc d = L2D_CONV_DESC(&conv, gt_tensor(t, L2D_F32, 1, 2, 2, c, NULL, false));
    struct l2d_tensor y = l2d_conv2d(t->graph, &d);
    cr_assert(!l2d_tensor_exists(&y) && l2d_graph_failed(t->graph));
    uint64_t size;
    struct l2d_error err;
    cr_assert(l2d_graph_plan(t->graph, &size, &err) == L2D_EINVAL);
    gt_end(t);
}

Test(conv, refuses)
{
    struct gpu_test t;
    gt_open(&t, L2D_TIER_0);
    refuse(&t, 12, gt_tensor(&t, L2D_F32, 1, 1, 1, 32 * 8, NULL, false));   // channels of x
    refuse(&t, 8, gt_tensor(&t, L2D_F16, 1, 1, 1, 64 * 8, NULL, false));    // type of weights
    gt_close(&t);
}
