// SPDX-License-Identifier: Apache-2.0
// Tiles of maps against plain C; and all tiles of a map, pasted again, are the map.
#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/kernels.h"
#include "ref/ref.h"
#include "support/gpu_test.h"

#define MAX_TILES 3

struct axis {                           // ends of tiles: [from, to) of each
    int count, from[MAX_TILES], to[MAX_TILES];
};

static const struct tile_case {
    int rows, c;
    struct axis y, x;
} cases[] = {
    { 1,  4, { 2, { 0, 26 }, { 38, 64 } }, { 2, { 0, 26 }, { 38, 64 } } },
    { 2, 12, { 1, { 0 }, { 7 } },          { 3, { 0, 9, 19 }, { 12, 21, 31 } } },
    { 1,  8, { 3, { 0, 5, 9 }, { 7, 12, 15 } }, { 2, { 0, 3 }, { 4, 5 } } },
    { 3,  4, { 2, { 0, 4 }, { 5, 9 } },    { 1, { 0 }, { 1 } } },
    { 1, 16, { 2, { 0, 3 }, { 3, 6 } },    { 2, { 0, 2 }, { 2, 4 } } },     // nothing shared
};

static int length(const struct axis *a)
{
    return a->to[a->count - 1];
}

static struct l2d_tile tile_at(const struct tile_case *k, int i, int j)
{
    const struct axis *y = &k->y, *x = &k->x;
    return (struct l2d_tile) {
        .left = x->from[j], .top = y->from[i],
        .w = x->to[j] - x->from[j], .h = y->to[i] - y->from[i],
        .fade_left = j > 0 ? x->to[j - 1] - x->from[j] : 0,
        .fade_right = j + 1 < x->count ? x->to[j] - x->from[j + 1] : 0,
        .fade_top = i > 0 ? y->to[i - 1] - y->from[i] : 0,
        .fade_bottom = i + 1 < y->count ? y->to[i] - y->from[i + 1] : 0,
    };
}

static struct l2d_ref_tile ref_tile(const struct l2d_tile *t)
{
    return (struct l2d_ref_tile) { t->left, t->top, t->w, t->h, t->fade_left, t->fade_right,
                                   t->fade_top, t->fade_bottom };
}

static struct gt_tol tolerance(enum l2d_dtype type, enum gt_fill fill)
{
    double size = fill == GT_HUGE ? 1000 : fill == GT_TINY ? 1e-3 : 1;
    return type == L2D_F32 ? (struct gt_tol) { 1e-6, 1e-6 * size, 1e-6 }
                           : (struct gt_tol) { 1e-3, 4e-3 * size, 0 };
}

static void run_cut(struct gpu_test *t, const struct tile_case *k, const float *x,
                    enum l2d_dtype type)
{
    int h = length(&k->y), w = length(&k->x);
    struct l2d_tile tile = tile_at(k, k->y.count - 1, k->x.count - 1);
    struct l2d_ref_tile ref = ref_tile(&tile);
    size_t n = (size_t) (k->rows * tile.h * tile.w * k->c);
    float *want = gt_floats(n);
    l2d_ref_tile_cut(want, x, k->rows, h, w, k->c, &ref);
    gt_begin(t, type);
    gt_keep(t, l2d_tile_cut(t->graph, gt_tensor(t, type, k->rows, h, w, k->c, x, false), &tile));
    gt_run(t);
    float *got = gt_read_kept(t, n);
    cr_assert(memcmp(got, want, n * sizeof(*got)) == 0);
    gt_end(t);
    free(want);
    free(got);
}

// Each tile has its own values, or the map's: then the result is the map.
static void run_paste(struct gpu_test *t, const struct tile_case *k, const float *x, bool own,
                      enum gt_fill fill, enum l2d_dtype type)
{
    int h = length(&k->y), w = length(&k->x);
    size_t n = (size_t) (k->rows * h * w * k->c);
    float *want = gt_floats(n), *part = gt_floats(n);
    gt_begin(t, type);
    struct l2d_tensor y = gt_tensor(t, type, k->rows, h, w, k->c, NULL, true);
    for (int i = 0; i < k->y.count; i++)
        for (int j = 0; j < k->x.count; j++) {
            struct l2d_tile tile = tile_at(k, i, j);
            struct l2d_ref_tile ref = ref_tile(&tile);
            if (own)
                gt_fill(part, (size_t) (k->rows * tile.h * tile.w * k->c), fill, 1, 1000, type,
                        (unsigned) (10 * i + j));
            else
                l2d_ref_tile_cut(part, x, k->rows, h, w, k->c, &ref);
            l2d_ref_tile_paste(want, part, k->rows, h, w, k->c, &ref);
            l2d_tile_paste(t->graph, y, gt_tensor(t, type, k->rows, tile.h, tile.w, k->c, part,
                                                  false), &tile);
        }
    gt_run(t);
    float *got = gt_read(t, y);
    gt_check(own ? want : x, got, n, tolerance(type, fill), "tile_paste case %d fill %d %s, %s",
             (int) (k - cases), (int) fill, own ? "own" : "the map's",
             type == L2D_F16 ? "f16" : "f32");
    gt_end(t);
    free(want);
    free(part);
    free(got);
}

static void run_all(enum l2d_tier tier)
{
    struct gpu_test t;
    gt_open(&t, tier);
    for (int fill = 0; fill < GT_NUM_FILLS; fill++)
        for (int f16 = 0; f16 < 2; f16++)
            for (unsigned i = 0; i < COUNT(cases); i++) {
                const struct tile_case *k = &cases[i];
                enum l2d_dtype type = f16 ? L2D_F16 : L2D_F32;
                size_t n = (size_t) (k->rows * length(&k->y) * length(&k->x) * k->c);
                float *x = gt_floats(n);
                gt_fill(x, n, (enum gt_fill) fill, 1, 1000, type, i);
                run_cut(&t, k, x, type);
                run_paste(&t, k, x, true, (enum gt_fill) fill, type);
                run_paste(&t, k, x, false, (enum gt_fill) fill, type);
                free(x);
            }
    gt_close(&t);
}

Test(tile, tier0) { run_all(L2D_TIER_0); }
Test(tile, tier1) { run_all(L2D_TIER_1); }

Test(tile, outside_is_refused)
{
    static const struct l2d_tile wrong[] = {
        { .left = -1, .w = 2, .h = 2 }, { .top = 7, .w = 2, .h = 2 }, { .left = 5, .w = 4, .h = 2 },
        { .w = 4, .h = 4, .fade_left = 3, .fade_right = 2 },
    };
    struct gpu_test t;
    gt_open(&t, L2D_TIER_0);
    for (size_t i = 0; i < COUNT(wrong); i++) {
        struct l2d_error err = { 0 };
        uint64_t size;
        gt_begin(&t, L2D_F32);
        l2d_tile_cut(t.graph, gt_tensor(&t, L2D_F32, 1, 8, 8, 4, NULL, false), &wrong[i]);
        cr_assert_eq(l2d_graph_plan(t.graph, &size, &err), L2D_EINVAL, "tile %d", (int) i);
        gt_end(&t);
    }
    gt_close(&t);
}
