// SPDX-License-Identifier: Apache-2.0
// Patches, the luma structure map and the products of pictures against plain C.
#include <criterion/criterion.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/kernels.h"
#include "ref/ref.h"
#include "support/gpu_test.h"

static const struct { int h, w, patch; enum l2d_range range; } shapes[] = {
    { 64, 96, 2, L2D_RANGE_0_1 }, { 256, 256, 2, L2D_RANGE_0_1 }, { 32, 8, 1, L2D_RANGE_0_1 },
    { 8, 8, 4, L2D_RANGE_0_1 }, { 8, 72, 8, L2D_RANGE_0_1 }, { 48, 64, 1, L2D_RANGE_PM1 },
    { 8, 24, 2, L2D_RANGE_PM1 },
};

static void fill_canvas(float *canvas, size_t pixels, enum gt_fill fill, unsigned seed)
{
    gt_fill(canvas, 4 * pixels, fill, 0.4, 2, L2D_F32, seed);
    for (size_t i = 0; i < 4 * pixels; i++)
        canvas[i] = i % 4 == 3 ? 0 : canvas[i] > 1 ? 1 : canvas[i] < -1 ? -1 : canvas[i];
}

static void run_case(struct gpu_test *t, unsigned index, enum gt_fill fill, enum l2d_dtype type)
{
    int h = shapes[index].h, w = shapes[index].w, patch = shapes[index].patch;
    int channels = (3 * patch * patch + 3) & ~3;
    enum l2d_range range = shapes[index].range;
    bool unit = range == L2D_RANGE_0_1;
    size_t pixels = (size_t) (h * w);
    size_t packed = pixels / (size_t) (patch * patch) * (size_t) channels;
    const char *name = type == L2D_F16 ? "f16" : "f32";
    float *image[2] = { gt_floats(4 * pixels), gt_floats(4 * pixels) };
    float *x = gt_floats(packed), *want = gt_floats(2 * packed + 4 * pixels);
    fill_canvas(image[0], pixels, fill, index);
    fill_canvas(image[1], pixels, fill, index + 50);
    gt_fill(x, packed, fill, 0.6, 2, type, index + 100);
    struct gt_tol exact = { 1e-6, 2e-6, 1e-6 };
    struct gt_tol rounded = type == L2D_F32 ? exact : (struct gt_tol) { 5e-4, 1e-6, 1.0 / 2048 };

    gt_begin(t, type);
    struct l2d_tensor images[2];
    for (int i = 0; i < 2; i++)
        images[i] = gt_tensor(t, L2D_F32, 1, h, w, 4, image[i], false);
    gt_keep(t, l2d_image_pack(t->graph, images, 2, patch, range));
    gt_run(t);
    float *got = gt_read_kept(t, 2 * packed);
    for (int i = 0; i < 2; i++)
        l2d_ref_image_pack(want + (size_t) i * packed, image[i], h, w, patch, channels,
                           unit);
    gt_check(want, got, 2 * packed, rounded, "image_pack case %u fill %d, %s", index, (int) fill,
             name);
    free(got);
    gt_end(t);

    gt_begin(t, type);
    struct l2d_tensor sums = gt_tensor(t, L2D_F32, 1, 1, L2D_SIMILAR_SUMS, 4, NULL, true);
    for (int i = 0; i < 2; i++)
        images[i] = gt_tensor(t, L2D_F32, 1, h, w, 4, image[i], false);
    l2d_similar(t->graph, images[0], images[1], sums);
    gt_run(t);
    got = gt_read(t, sums);
    double wanted[3], added[3] = { 0 };
    l2d_ref_similar(wanted, image[0], image[1], (int) pixels);
    for (int i = 0; i < 4 * L2D_SIMILAR_SUMS; i++)
        if (i % 4 < 3)
            added[i % 4] += (double) got[i];
    for (int i = 0; i < 3; i++)         // of the two norms' product, as <p,x> may cancel
        cr_assert_float_eq(added[i], wanted[i], 2e-6 * sqrt(wanted[1] * wanted[2]) + 1e-12,
                           "similar case %u fill %d: %g, %g", index, (int) fill, added[i],
                           wanted[i]);
    free(got);
    gt_end(t);

    gt_begin(t, type);
    gt_keep(t, l2d_image_unpack(t->graph, gt_tensor(t, type, 1, h / patch, w / patch, channels, x,
                                                    false), patch, range));
    gt_run(t);
    got = gt_read_kept(t, 4 * pixels);
    l2d_ref_image_unpack(want, x, h, w, patch, channels, unit);
    gt_check(want, got, 4 * pixels, exact, "image_unpack case %u fill %d, %s", index, (int) fill,
             name);
    free(got);
    gt_end(t);

    if (type == L2D_F32) {
        gt_begin(t, type);
        gt_keep(t, l2d_luma_structure(t->graph,
                                      gt_tensor(t, L2D_F32, 1, h, w, 4, image[0], false)));
        gt_run(t);
        got = gt_read_kept(t, 4 * pixels);
        l2d_ref_luma_structure(want, image[0], h, w);
        gt_check(want, got, 4 * pixels, (struct gt_tol) { 1e-4, 3e-6, 0 },
                 "luma_structure case %u fill %d", index, (int) fill);
        free(got);
        gt_end(t);
    }
    free(image[0]);
    free(image[1]);
    free(x);
    free(want);
}

static const struct { int h, w, oh, ow; } larger[] = {
    { 64, 96, 128, 192 }, { 64, 96, 64, 96 }, { 33, 17, 50, 26 }, { 1, 1, 4, 3 }, { 7, 5, 28, 6 },
};

static void run_enlarge(struct gpu_test *t, unsigned index)
{
    int h = larger[index].h, w = larger[index].w, oh = larger[index].oh, ow = larger[index].ow;
    size_t n = (size_t) (4 * oh * ow);
    float *picture = gt_floats((size_t) (4 * h * w)), *want = gt_floats(n);
    fill_canvas(picture, (size_t) (h * w), GT_NORMAL, index);
    l2d_ref_enlarge(want, picture, h, w, oh, ow);
    gt_begin(t, L2D_F32);
    gt_keep(t, l2d_enlarge(t->graph, gt_tensor(t, L2D_F32, 1, h, w, 4, picture, false), oh, ow));
    gt_run(t);
    float *got = gt_read_kept(t, n);
    // Places in f32: 1e-6 of the width, times the step from one pixel to the next.
    gt_check(want, got, n, (struct gt_tol) { 2e-5, 2e-5, 0 }, "enlarge case %u", index);
    if (h == oh && w == ow)
        gt_check(picture, got, n, (struct gt_tol) { 1e-6, 1e-6, 0 }, "enlarged to the same size");
    gt_end(t);
    free(picture);
    free(want);
    free(got);
}

static void run_all(enum l2d_tier tier)
{
    struct gpu_test t;
    gt_open(&t, tier);
    for (unsigned i = 0; i < COUNT(shapes); i++)
        for (int fill = 0; fill < GT_NUM_FILLS; fill++)
            for (int f16 = 0; f16 < 2; f16++)
                run_case(&t, i, (enum gt_fill) fill, f16 ? L2D_F16 : L2D_F32);
    for (unsigned i = 0; i < COUNT(larger); i++)
        run_enlarge(&t, i);
    gt_close(&t);
}

Test(picture, tier0) { run_all(L2D_TIER_0); }
Test(picture, tier1) { run_all(L2D_TIER_1); }
