// SPDX-License-Identifier: Apache-2.0
// Temporal attention, warm-up and stream, with a cache of T and one of bytes, against plain C.
// Closed slots and rows that are not active hold NaN, which must stay where it is.
#include <criterion/criterion.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/kernels.h"
#include "ref/ref.h"
#include "shaders/params/attention.h"
#include "support/gpu_test.h"

#define STEPS 3

static const struct temporal_case {
    int rows, h, w, c, heads;
    enum l2d_row_order order;
} cases[] = {
    { 2, 16, 16,  64, 8, L2D_ROWS_APART },
    { 2,  8,  8,  96, 8, L2D_ROWS_APART },
    { 3,  2,  3, 320, 8, L2D_ROWS_APART },
    { 1,  1,  1, 160, 1, L2D_ROWS_APART },
    { 8,  8,  8,  64, 8, L2D_ROWS_WARMUP },
    { 8,  3,  3,  96, 8, L2D_ROWS_WARMUP },
    { 2,  5,  7, 640, 8, L2D_ROWS_APART },           // SD1.5, deeper: heads of 80
    { 8,  1,  1,  12, 3, L2D_ROWS_WARMUP },
    { 2,  1,  1,  12, 3, L2D_ROWS_APART },
    { 4,  8,  8,  64, 8, L2D_ROWS_IN_TURN },
    { 8,  3,  3, 320, 8, L2D_ROWS_IN_TURN },
    { 2,  1,  1,  12, 3, L2D_ROWS_IN_TURN },
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

static struct l2d_row_params row_of(const struct temporal_case *k, int variant, int r)
{
    // Of frames that follow each other: while the window fills up, and in the middle of its ring.
    u32 frame = (variant ? 21 : 12) + (u32) r, since = frame - L2D_SINKS;
    switch (k->order) {
    case L2D_ROWS_APART:
        break;
    case L2D_ROWS_IN_TURN:
        return (struct l2d_row_params) {
            .is_active = 1, .step = 1, .kv_slot = L2D_SINKS + since % 8,
            .own_pos = frame < L2D_WINDOW ? frame : L2D_WINDOW - 1,
            .num_open = frame < L2D_WINDOW ? frame + 1 : L2D_WINDOW,
        };
    case L2D_ROWS_WARMUP:
        return (struct l2d_row_params) {
            .is_active = 1, .step = 1, .kv_slot = (u32) r, .own_pos = (u32) r, .num_open = 8,
        };
    }
    return stream_rows[variant][r];
}

// ---- caches of bytes

static uint32_t step_bits(float step)
{
    uint32_t bits;
    memcpy(&bits, &step, sizeof(bits));
    return bits >> 16;
}

static float step_of(uint32_t bits)
{
    float step;
    bits <<= 16;
    memcpy(&step, &bits, sizeof(step));
    return step;
}

// cache [slots][2c] as words; it then holds what these stand for. Slots of NaN become all bits.
static uint32_t *pack(float *cache, size_t slots, int c, int heads)
{
    int d = c / heads;
    size_t each = (size_t) (heads * L2D_KV_HEAD_WORDS(d));
    uint32_t *words = malloc(slots * each * sizeof(*words)), *w = words;
    int8_t byte[160];
    cr_assert_not_null(words);
    memset(words, 0xff, slots * each * sizeof(*words));
    for (size_t s = 0; s < slots; s++, cache += 2 * c)
        for (int h = 0; h < heads; h++, w += L2D_KV_HEAD_WORDS(d)) {
            if (isnan(cache[0]))
                continue;
            uint32_t steps = 0;
            for (int kv = 0; kv < 2; kv++) {
                float *x = cache + kv * c + h * d, step = l2d_ref_quantize(byte, x, d);
                steps |= step_bits(step) << 16 * kv;
                memcpy(w + kv * d / 4, byte, (size_t) d);
                for (int i = 0; i < d; i++)
                    x[i] = step * (float) byte[i];
            }
            w[d / 2] = steps;
        }
    return words;
}

// A head that was written: from x [d], key or value. Where x lies between two bytes, either is
// right; the step is the reference's, or the next one if that is a rounding away.
static void check_head(const uint32_t *w, int kv, const float *x, int d, const char *what)
{
    int8_t byte[160];
    float want = l2d_ref_quantize(byte, x, d), step = step_of(w[d / 2] >> 16 * kv & 0xffff);
    cr_assert(fabsf(step - want) <= want / 128, "%s: step %g, expected %g", what, (double) step,
              (double) want);
    memcpy(byte, w + kv * d / 4, (size_t) d);
    for (int i = 0; i < d; i++)
        cr_assert(fabsf(step * (float) byte[i] - x[i]) <= 0.501f * step,
                  "%s: %g is kept as %d times %g", what, (double) x[i], byte[i], (double) step);
}

// What a cache of bytes holds after the call: before, but for the slots of the active rows.
static void check_bytes(const uint32_t *before, const uint32_t *after, const float *qkv,
                        const struct l2d_row_params *rows, const struct temporal_case *k)
{
    int d = k->c / k->heads, pixels = k->h * k->w, words = L2D_KV_HEAD_WORDS(d);
    for (int step = 0; step < STEPS; step++)
        for (int p = 0; p < pixels; p++)
            for (int s = 0; s < 16; s++) {
                int writer = -1;
                for (int r = 0; r < k->rows; r++)
                    if (rows[r].is_active && (int) rows[r].step == step &&
                        (int) rows[r].kv_slot == s)
                        writer = r;
                size_t at = (size_t) (((step * pixels + p) * 16 + s) * k->heads * words);
                if (writer < 0) {
                    cr_assert_arr_eq(before + at, after + at, (size_t) (k->heads * words) * 4);
                    continue;
                }
                for (int h = 0; h < 2 * k->heads; h++)
                    check_head(after + at + h % k->heads * words, h / k->heads,
                               qkv + (writer * pixels + p) * 3 * k->c + k->c + h * d, d,
                               h < k->heads ? "key" : "value");
            }
}

// What a row's slot holds, of two bytes that are both right the one that was taken.
static void see_bytes(float *cache, const float *got, const struct l2d_row_params *row,
                      const struct temporal_case *k)
{
    size_t words = (size_t) (k->heads * L2D_KV_HEAD_WORDS(k->c / k->heads));
    for (int p = 0; p < k->h * k->w; p++) {
        size_t slot = (size_t) (((int) row->step * k->h * k->w + p) * 16 + (int) row->kv_slot);
        l2d_kv_cache_unpack(cache + slot * 2 * (size_t) k->c,
                            (const uint32_t *) (const void *) got + slot * words, 1, k->c,
                            k->heads);
    }
}

// ---- cases

static void check_floats(const float *want, const float *got, size_t count, unsigned index)
{
    for (size_t i = 0; i < count; i++)          // copied, not computed
        cr_assert((isnan(want[i]) && isnan(got[i])) || want[i] == got[i],
                  "temporal case %u: cache element %zu is %g, expected %g", index, i,
                  (double) got[i], (double) want[i]);
}

static void run_case(struct gpu_test *t, unsigned index, int variant, enum gt_fill fill,
                     enum l2d_dtype type, bool int8)
{
    const struct temporal_case *k = &cases[index];
    int pixels = k->h * k->w, c = k->c;
    bool warmup = k->order == L2D_ROWS_WARMUP;
    struct l2d_row_params rows[L2D_MAX_ROWS] = { 0 };
    struct l2d_ref_temporal_row ref[L2D_MAX_ROWS];
    for (int r = 0; r < k->rows; r++) {
        rows[r] = row_of(k, variant, r);
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
            for (int s = warmup ? 0 : (int) rows[r].num_open; s < 16; s++)
                for (int i = 0; i < 2 * c; i++)
                    cache[(((int) rows[r].step * pixels + p) * 16 + s) * 2 * c + i] = NAN;

    uint32_t *words = int8 ? pack(cache, nc / (size_t) (2 * c), c, k->heads) : NULL;
    gt_begin(t, type);
    struct l2d_tensor tcache = l2d_kv_cache_shape(int8 ? L2D_U32 : type, STEPS, pixels, c,
                                                  k->heads);
    if (int8) {
        tcache.offset_bytes = gt_bytes(t, words, l2d_tensor_bytes(&tcache), true).offset_bytes;
        tcache.buf = t->arena;
    } else
        tcache = gt_tensor(t, type, STEPS, pixels, 16, 2 * c, cache, true);
    gt_keep(t, l2d_temporal_attention(t->graph,
                                      gt_tensor(t, type, k->rows, k->h, k->w, 3 * c, qkv, false),
                                      gt_tensor(t, type, 1, 1, 16, 3 * c, pos, false), tcache,
                                      gt_bytes(t, rows, (size_t) k->rows * sizeof(*rows), false),
                                      k->heads, k->order));
    gt_run(t);
    float *got = gt_read_kept(t, n), *got_cache = gt_read(t, tcache);
    int at_once = k->order == L2D_ROWS_IN_TURN ? 1 : k->rows;
    for (int r = 0; r < k->rows; r += at_once) {
        l2d_ref_temporal_attention(want + r * pixels * c, cache, qkv + 3 * r * pixels * c, pos,
                                   ref + r, at_once, pixels, k->heads, c, warmup, int8);
        if (int8 && at_once < k->rows)
            see_bytes(cache, got_cache, &rows[r], k);
    }
    struct gt_tol tol = type == L2D_F32 ? (struct gt_tol) { 2e-6, 1e-5, 1e-5 }
                                        : (struct gt_tol) { 5e-4, 1e-5, 1.0 / 1024 };
    if (fill == GT_HUGE)                        // scores of several hundred, see test_attention.c
        tol = type == L2D_F32 ? (struct gt_tol) { 1e-4, 5e-2, 1e-3 }
                              : (struct gt_tol) { 1e-3, 5e-2, 2e-3 };
    gt_check(want, got, n, tol, "temporal case %u variant %d fill %d, %s, cache of %s", index,
             variant, (int) fill, type == L2D_F16 ? "f16" : "f32", int8 ? "bytes" : "T");
    if (int8)
        check_bytes(words, (const uint32_t *) (const void *) got_cache, qkv, rows, k);
    else
        check_floats(cache, got_cache, nc, index);
    gt_end(t);
    void *all[] = { qkv, pos, cache, words, want, got, got_cache };
    for (size_t i = 0; i < COUNT(all); i++)
        free(all[i]);
}

static void run_all(enum l2d_tier tier)
{
    struct gpu_test t;
    gt_open(&t, tier);
    for (unsigned i = 0; i < COUNT(cases); i++)
        for (int variant = 0; variant < (cases[i].order == L2D_ROWS_WARMUP ? 1 : 2); variant++)
            for (int fill = 0; fill < GT_NUM_FILLS; fill++)
                for (int way = 0; way < 4; way++)
                    run_case(&t, i, variant, (enum gt_fill) fill, way % 2 ? L2D_F16 : L2D_F32,
                             way > 1);
    gt_close(&t);
}

Test(temporal, tier0) { run_all(L2D_TIER_0); }
Test(temporal, tier1) { run_all(L2D_TIER_1); }

// What the engine's tests read: packed by hand, unpacked by the library.
Test(temporal, unpacks)
{
    enum { SLOTS = 3, C = 24, HEADS = 3 };
    float cache[SLOTS * 2 * C], out[SLOTS * 2 * C];
    gt_fill(cache, SLOTS * 2 * C, GT_NORMAL, 1, 10, L2D_F32, 1);
    memset(cache + 2 * C, 0, sizeof(*cache) * C / HEADS);       // a head of nothing
    uint32_t *words = pack(cache, SLOTS, C, HEADS);
    l2d_kv_cache_unpack(out, words, SLOTS, C, HEADS);
    check_floats(cache, out, SLOTS * 2 * C, 0);
    free(words);
}
