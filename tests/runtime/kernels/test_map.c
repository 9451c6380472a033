// SPDX-License-Identifier: Apache-2.0
// Pooling, resizing and parts of token lists against plain C.
#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/kernels.h"
#include "ref/ref.h"
#include "support/gpu_test.h"

static const struct { int rows, h, w, c; } pools[] = {
    { 1, 48, 48, 64 }, { 2, 7, 10, 12 }, { 1, 9, 5, 4 }, { 3, 1, 1, 8 }, { 1, 2, 3, 4 },
};

static const struct resize_case {
    int rows, h, w, c, oh, ow;
    bool align, add, from_f32;
} resizes[] = {
    { 1, 12, 12, 64,  24, 24, true,  true,  false },    // DPT's decoder
    { 1, 24, 24, 32,  48, 48, true,  false, false },
    { 1, 64, 96,  4,  96, 96, false, false, true },     // a canvas to DPT's input: both ways
    { 1, 33, 20,  4,  24, 24, false, false, true },
    { 2,  5,  3,  8,  10, 13, false, true,  false },
    { 2,  3,  7,  4,   3,  7, false, false, false },    // the same size
    { 1,  1,  1,  4,   2,  3, true,  false, false },
    { 3,  2,  5, 12,   1,  1, true,  true,  false },
    { 1,  4,  4,  4,   1,  2, false, false, false },
};

static struct gt_tol tolerance(enum l2d_dtype type, enum gt_fill fill)
{
    double size = fill == GT_HUGE ? 1000 : fill == GT_TINY ? 1e-3 : 1;
    return type == L2D_F32 ? (struct gt_tol) { 1e-6, 1e-5 * size, 1e-5 }
                           : (struct gt_tol) { 5e-4, 1e-5 * size + 6e-8, 1.0 / 1024 };
}

static void run_pool(struct gpu_test *t, unsigned index, enum gt_fill fill, enum l2d_dtype type)
{
    int rows = pools[index].rows, h = pools[index].h, w = pools[index].w, c = pools[index].c;
    size_t n = (size_t) (rows * h * w * c);
    size_t out = (size_t) (rows * ((h + 1) / 2) * ((w + 1) / 2) * c);
    float *x = gt_floats(n), *want = gt_floats(out);
    gt_fill(x, n, fill, 1, 1000, type, index);
    l2d_ref_max_pool(want, x, rows, h, w, c);
    gt_begin(t, type);
    gt_keep(t, l2d_max_pool(t->graph, gt_tensor(t, type, rows, h, w, c, x, false)));
    gt_run(t);
    float *got = gt_read_kept(t, out);
    gt_check(want, got, out, (struct gt_tol) { 0, 0, 0 }, "max_pool case %u fill %d", index,
             (int) fill);
    gt_end(t);
    free(x);
    free(want);
    free(got);
}

static void run_resize(struct gpu_test *t, unsigned index, enum gt_fill fill, enum l2d_dtype type)
{
    const struct resize_case *k = &resizes[index];
    enum l2d_dtype from = k->from_f32 ? L2D_F32 : type;
    size_t n = (size_t) (k->rows * k->h * k->w * k->c);
    size_t out = (size_t) (k->rows * k->oh * k->ow * k->c);
    float *x = gt_floats(n), *add = gt_floats(out), *want = gt_floats(out);
    gt_fill(x, n, fill, 1, 1000, from, index);
    gt_fill(add, out, fill, 1, 1000, type, index + 100);
    l2d_ref_resize(want, x, k->add ? add : NULL, k->rows, k->h, k->w, k->c, k->oh, k->ow, k->align);
    gt_begin(t, type);
    struct l2d_tensor tx = gt_tensor(t, from, k->rows, k->h, k->w, k->c, x, false);
    struct l2d_tensor ta = k->add ? gt_tensor(t, type, k->rows, k->oh, k->ow, k->c, add, false)
                                  : L2D_NO_TENSOR;
    gt_keep(t, l2d_resize(t->graph, tx, k->oh, k->ow, k->align, ta));
    gt_run(t);
    float *got = gt_read_kept(t, out);
    gt_check(want, got, out, tolerance(type, fill), "resize case %u fill %d, %s", index, (int) fill,
             type == L2D_F16 ? "f16" : "f32");
    gt_end(t);
    free(x);
    free(add);
    free(want);
    free(got);
}

// Of each row [cls, grid] -> grid and cls, and back; in the end with the first row's cls for all.
static void run_tokens(struct gpu_test *t, int rows, int h, int w, int c, enum l2d_dtype type)
{
    size_t row = (size_t) ((1 + h * w) * c), grid = (size_t) (h * w * c), n = (size_t) rows * row;
    float *x = gt_floats(n), *want = gt_floats(n);
    gt_fill(x, n, GT_NORMAL, 1, 1, type, (unsigned) n);
    for (int back = 0; back < 3; back++) {
        gt_begin(t, type);
        struct l2d_tensor all = gt_tensor(t, type, rows, 1, 1 + h * w, c, x, false);
        struct l2d_tensor y = l2d_token_slice(t->graph, all, 1, h, w);
        cr_assert(y.rows == rows && y.h == h && y.w == w && y.c == c);
        if (back) {
            struct l2d_tensor cls = l2d_token_slice(t->graph, all, 0, 1, 1);
            y = l2d_token_concat(t->graph, back == 1 ? cls : l2d_tensor_rows(cls, 0, 1), y);
        }
        gt_keep(t, y);
        gt_run(t);
        size_t each = back ? row : grid;
        for (size_t r = 0; r < (size_t) rows; r++) {
            memcpy(want + r * each, x + r * row + (back ? 0 : c), each * sizeof(*want));
            if (back == 2)
                memcpy(want + r * each, x, (size_t) c * sizeof(*want));
        }
        float *got = gt_read_kept(t, (size_t) rows * each);
        cr_assert(memcmp(got, want, (size_t) rows * each * sizeof(*got)) == 0, "%d", back);
        free(got);
        gt_end(t);
    }
    free(x);
    free(want);
}

static void run_all(enum l2d_tier tier)
{
    struct gpu_test t;
    gt_open(&t, tier);
    for (int fill = 0; fill < GT_NUM_FILLS; fill++)
        for (int f16 = 0; f16 < 2; f16++) {
            enum l2d_dtype type = f16 ? L2D_F16 : L2D_F32;
            for (unsigned i = 0; i < COUNT(pools); i++)
                run_pool(&t, i, (enum gt_fill) fill, type);
            for (unsigned i = 0; i < COUNT(resizes); i++)
                run_resize(&t, i, (enum gt_fill) fill, type);
        }
    for (int f16 = 0; f16 < 2; f16++) {
        run_tokens(&t, 3, 6, 6, 24, f16 ? L2D_F16 : L2D_F32);
        run_tokens(&t, 1, 24, 24, 64, f16 ? L2D_F16 : L2D_F32);
        run_tokens(&t, 2, 1, 1, 4, f16 ? L2D_F16 : L2D_F32);
    }
    gt_close(&t);
}

Test(map, tier0) { run_all(L2D_TIER_0); }
Test(map, tier1) { run_all(L2D_TIER_1); }
