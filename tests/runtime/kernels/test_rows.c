// SPDX-License-Identifier: Apache-2.0
// What becomes of a row does not depend on those beside it, to the last bit: so a batch, a sequence
// and chunks draw the same. Each kernel that adds up draws rows together, and each of them alone;
// also for as many cores as a large GPU has, which share the work of a few rows otherwise than of
// many.
#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/kernels.h"
#include "shaders/params/attention.h"
#include "support/gpu_test.h"

#define ROWS 8
#define CORES 132

// A picture of so many channels; of the call's rows the first is number `first`.
struct kernel {
    const char *name;
    int h, w, c, out_c;
    int heads;                          // or groups of a norm
    int ksize;
    struct l2d_tensor (*draw)(struct gpu_test *t, const struct kernel *k, struct l2d_tensor x);
};

static struct l2d_tensor constants(struct gpu_test *t, int count, unsigned seed)
{
    float *value = gt_floats((size_t) count);
    gt_fill(value, (size_t) count, GT_NORMAL, 1, 1, L2D_F32, seed);
    struct l2d_tensor tensor = gt_tensor(t, L2D_F32, 1, 1, 1, count, value, false);
    free(value);
    return tensor;
}

static struct l2d_tensor draw_conv(struct gpu_test *t, const struct kernel *k, struct l2d_tensor x)
{
    size_t count = (size_t) (k->c * k->out_c * k->ksize * k->ksize);
    uint64_t bytes = l2d_conv_packed_bytes(k->c, k->out_c, k->ksize, t->precision);
    float *weight = gt_floats(count);
    void *packed = malloc(bytes);
    cr_assert_not_null(packed);
    gt_fill(weight, count, GT_NORMAL, 0.03, 1, t->precision, 2);
    l2d_conv_pack(packed, t->precision, k->c, k->out_c, k->ksize, false, weight, k->c, k->out_c, 0);
    struct l2d_conv conv = {
        .bias = L2D_NO_TENSOR, .cin = k->c, .cout = k->out_c, .ksize = k->ksize,
        .weight = l2d_tensor_view(t->arena, gt_bytes(t, packed, bytes, false).offset_bytes,
                                  t->precision, 1, 1, 1,
                                  (int32_t) (bytes / l2d_dtype_bytes(t->precision))),
    };
    free(weight);
    free(packed);
    struct l2d_conv_desc d = L2D_CONV_DESC(&conv, x);
    return l2d_conv2d(t->graph, &d);
}

static struct l2d_tensor draw_group_norm(struct gpu_test *t, const struct kernel *k,
                                         struct l2d_tensor x)
{
    struct l2d_norm norm = { constants(t, k->c, 2), constants(t, k->c, 3) };
    return l2d_group_norm(t->graph, &norm, x, L2D_NO_TENSOR, k->heads, 1e-5f, L2D_ACT_SILU);
}

static struct l2d_tensor draw_layer_norm(struct gpu_test *t, const struct kernel *k,
                                         struct l2d_tensor x)
{
    struct l2d_norm norm = { constants(t, k->c, 2), constants(t, k->c, 3) };
    return l2d_layer_norm(t->graph, &norm, x, 1e-5f);
}

static struct l2d_tensor draw_attention(struct gpu_test *t, const struct kernel *k,
                                        struct l2d_tensor x)
{
    return l2d_attention(t->graph, x, 0, x, k->out_c, 2 * k->out_c, k->out_c, k->heads, false);
}

static const struct kernel kernels[] = {
    { "conv", 16, 16, 64, 96, 0, 3, draw_conv },
    { "conv of few pixels", 4, 4, 320, 64, 0, 3, draw_conv },
    { "conv of odd ones", 9, 7, 24, 40, 0, 3, draw_conv },
    { "linear", 8, 8, 640, 320, 0, 1, draw_conv },
    { "linear of one pixel", 1, 1, 64, 320, 0, 1, draw_conv },
    { "group norm", 8, 8, 96, 96, 32, 0, draw_group_norm },
    { "group norm that workgroups share", 48, 48, 20, 20, 2, 0, draw_group_norm },
    { "layer norm", 3, 5, 320, 320, 0, 0, draw_layer_norm },
    { "attention", 8, 8, 3 * 64, 64, 8, 0, draw_attention },
    { "attention of odd ones", 5, 7, 3 * 320, 320, 8, 0, draw_attention },
};

// Rows `first` and so on; the caller frees what becomes of them.
static float *draw(struct gpu_test *t, const struct kernel *k, const float *x, int first, int rows,
                   enum l2d_dtype type)
{
    int in = k->h * k->w * k->c, out = k->h * k->w * k->out_c;
    gt_begin(t, type);
    gt_keep(t, k->draw(t, k, gt_tensor(t, type, rows, k->h, k->w, k->c, x + first * in, false)));
    gt_run(t);
    float *y = gt_read_kept(t, (size_t) (rows * out));
    gt_end(t);
    return y;
}

static void check_kernel(struct gpu_test *t, const struct kernel *k, enum l2d_dtype type)
{
    static const struct { int first, rows; } some[] = { { 0, 1 }, { 5, 1 }, { 2, 2 }, { 4, 4 } };
    int in = ROWS * k->h * k->w * k->c, out = k->h * k->w * k->out_c;
    float *x = gt_floats((size_t) in);
    gt_fill(x, (size_t) in, GT_NORMAL, 1, 1, type, 1);
    float *all = draw(t, k, x, 0, ROWS, type);
    for (size_t i = 0; i < COUNT(some); i++) {
        float *y = draw(t, k, x, some[i].first, some[i].rows, type);
        cr_assert(memcmp(all + some[i].first * out, y,
                         (size_t) (some[i].rows * out) * sizeof(*y)) == 0,
                  "%s, %s: %d rows from %d", k->name, type == L2D_F16 ? "f16" : "f32", some[i].rows,
                  some[i].first);
        free(y);
    }
    free(all);
    free(x);
}

static void check_kernels(enum l2d_tier tier)
{
    for (unsigned cores = 0; cores <= CORES; cores += CORES) {
        struct gpu_test t;
        gt_open_cores(&t, tier, cores);
        for (size_t i = 0; i < COUNT(kernels); i++) {
            if (tier < L2D_TIER_2)      // in f32 the others are tier 1
                check_kernel(&t, &kernels[i], L2D_F32);
            check_kernel(&t, &kernels[i], L2D_F16);
        }
        gt_close(&t);
    }
}

Test(rows, tier0) { check_kernels(L2D_TIER_0); }
Test(rows, tier1) { check_kernels(L2D_TIER_1); }

Test(rows, tier2)
{
    if (!gt_has_matrix_units())
        cr_skip_test("the device has no matrix units");
    check_kernels(L2D_TIER_2);
}

Test(rows, tier3)
{
    if (!gt_has_matrix2())
        cr_skip_test("the device has no matrices of any size");
    check_kernels(L2D_TIER_3);
}

// ---- temporal attention: frames that follow each other, in one call and each in its own

static const struct stream {
    int h, w, c, heads;
} streams[] = { { 8, 4, 64, 8 }, { 2, 1, 96, 8 }, { 3, 3, 320, 8 }, { 5, 7, 320, 2 } };

// Frame f of a stream, at the only step.
static struct l2d_row_params row_of(unsigned f)
{
    return (struct l2d_row_params) {
        .is_active = 1, .kv_slot = L2D_SINKS + (f - L2D_SINKS) % 8,
        .own_pos = f < L2D_WINDOW ? f : L2D_WINDOW - 1,
        .num_open = f < L2D_WINDOW ? f + 1 : L2D_WINDOW,
    };
}

// Some frames; cache holds what it held before, and then what it holds behind them.
static float *attend(struct gpu_test *t, const struct stream *s, const float *qkv, unsigned first,
                     int rows, enum l2d_row_order order, enum l2d_dtype cache_type,
                     unsigned char **cache)
{
    enum l2d_dtype type = t->precision;
    struct l2d_row_params row[ROWS] = { 0 };
    int pixels = s->h * s->w, np = L2D_WINDOW * 3 * s->c;
    float *pos = gt_floats((size_t) np);
    gt_fill(pos, (size_t) np, GT_NORMAL, 0.5, 1, type, 7);
    for (int r = 0; r < rows; r++)
        row[r] = row_of(first + (unsigned) r);
    gt_begin(t, type);
    struct l2d_tensor kv = l2d_kv_cache_shape(cache_type, 1, pixels, s->c, s->heads);
    kv.offset_bytes = gt_bytes(t, *cache, l2d_tensor_bytes(&kv), true).offset_bytes;
    kv.buf = t->arena;
    gt_keep(t, l2d_temporal_attention(t->graph,
                                      gt_tensor(t, type, rows, s->h, s->w, 3 * s->c, qkv, false),
                                      gt_tensor(t, type, 1, 1, L2D_WINDOW, 3 * s->c, pos, false),
                                      kv, gt_bytes(t, row, (size_t) rows * sizeof(*row), false),
                                      s->heads, order));
    gt_run(t);
    float *y = gt_read_kept(t, (size_t) (rows * pixels * s->c));
    free(*cache);
    *cache = gt_read_bytes(t, kv);
    gt_end(t);
    free(pos);
    return y;
}

static unsigned char *empty_cache(size_t bytes)
{
    unsigned char *cache = calloc(bytes, 1);    // sinks that are 0
    cr_assert_not_null(cache);
    return cache;
}

static void check_stream(struct gpu_test *t, const struct stream *s, enum l2d_dtype type, bool int8)
{
    enum { FRAMES = 3 * ROWS };
    enum l2d_dtype cache_type = int8 ? L2D_U32 : type;
    int in = s->h * s->w * 3 * s->c, out = s->h * s->w * s->c;
    struct l2d_tensor kv = l2d_kv_cache_shape(cache_type, 1, s->h * s->w, s->c, s->heads);
    unsigned char *together = empty_cache(l2d_tensor_bytes(&kv));
    unsigned char *alone = empty_cache(l2d_tensor_bytes(&kv));
    float *qkv = gt_floats((size_t) (FRAMES * in));
    gt_fill(qkv, (size_t) (FRAMES * in), GT_NORMAL, 1, 1, type, 1);
    t->precision = type;
    for (int f = 0; f < FRAMES; f += ROWS) {
        unsigned first = L2D_SINKS + (unsigned) f;
        float *all = attend(t, s, qkv + f * in, first, ROWS, L2D_ROWS_IN_TURN, cache_type,
                            &together);
        for (int r = 0; r < ROWS; r++) {
            float *y = attend(t, s, qkv + (f + r) * in, first + (unsigned) r, 1, L2D_ROWS_APART,
                              cache_type, &alone);
            cr_assert(memcmp(all + r * out, y, (size_t) out * sizeof(*y)) == 0,
                      "%d heads of %d channels, %s, cache of %s: frame %d", s->heads, s->c,
                      type == L2D_F16 ? "f16" : "f32", int8 ? "bytes" : "T", f + r);
            free(y);
        }
        cr_assert(memcmp(together, alone, l2d_tensor_bytes(&kv)) == 0);
        free(all);
    }
    free(qkv);
    free(together);
    free(alone);
}

static void check_streams(enum l2d_tier tier)
{
    struct gpu_test t;
    gt_open(&t, tier);
    for (size_t i = 0; i < COUNT(streams); i++)
        for (int way = 0; way < 4; way++)
            check_stream(&t, &streams[i], way % 2 ? L2D_F16 : L2D_F32, way > 1);
    gt_close(&t);
}

Test(rows, in_turn_by_tier0) { check_streams(L2D_TIER_0); }
Test(rows, in_turn_by_tier1) { check_streams(L2D_TIER_1); }
