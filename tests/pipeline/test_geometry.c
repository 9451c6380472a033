// SPDX-License-Identifier: Apache-2.0
// Sizes, fits and crops, as numbers.
#include <criterion/criterion.h>
#include <math.h>
#include <string.h>

#include "kernels/color.h"
#include "pipeline/geometry.h"

#define NEAR(a, b) cr_expect(fabs((double) (a) - (b)) < 1e-3, "%s = %g, expected %g", #a, \
                             (double) (a), (double) (b))

static const struct size_case {
    double w, h, area;
    int32_t align, want_w, want_h;
} sizes[] = {
    { 512, 288, 256 * 256, 32, 352, 192 },
    { 256, 256, 256 * 256, 32, 256, 256 },
    { 1080, 1920, 256 * 256, 32, 192, 352 },
    { 2, 2, 256 * 256, 32, 256, 256 },
    { 7680, 4320, 512 * 512, 64, 704, 384 },
    { 16384, 1, 256 * 256, 32, 16384, 32 },     // never more than a frame may have
};

Test(geometry, default_size_keeps_the_shape)
{
    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        const struct size_case *c = &sizes[i];
        int32_t w, h;
        l2d_geometry_choose_size(c->w, c->h, c->area, c->align, &w, &h);
        cr_expect_eq(w, c->want_w, "case %zu: %d", i, w);
        cr_expect_eq(h, c->want_h, "case %zu: %d", i, h);
    }
}

Test(geometry, canvas_is_the_next_multiple)
{
    struct l2d_geometry g = l2d_geometry_make(100, 64, 32, 1);
    cr_expect_eq(g.canvas_width, 128);
    cr_expect_eq(g.canvas_height, 64);
    cr_expect_eq(g.width, 100);
}

Test(geometry, shown_size_knows_rotation_and_aspect)
{
    struct l2d_frame f = { .width = 720, .height = 576, .sar_num = 16, .sar_den = 15 };
    double w, h;
    l2d_geometry_shown(&f, &w, &h);
    NEAR(w, 768);
    NEAR(h, 576);
    f.rotation = 90;
    l2d_geometry_shown(&f, &w, &h);
    NEAR(w, 576);
    NEAR(h, 768);
    f.sar_num = 0;
    l2d_geometry_shown(&f, &w, &h);
    NEAR(h, 720);
}

static const struct place_case {
    enum l2d_fit fit;
    int32_t in_w, in_h, rotation, sar_num, out_w, out_h;
    float x, y, w, h;                   // of the source that the canvas shows
    int32_t x0, y0, x1, y1;
} places[] = {
    // Same size: the canvas is the picture.
    { L2D_FIT_COVER, 64, 64, 0, 1, 64, 64, 0, 0, 64, 64, 0, 0, 64, 64 },
    // Twice as wide as the output: its middle half.
    { L2D_FIT_COVER, 128, 64, 0, 1, 64, 64, 32, 0, 64, 64, 0, 0, 64, 64 },
    // The same, letterboxed: bars above and below, beyond the picture's edge.
    { L2D_FIT_CONTAIN, 128, 64, 0, 1, 64, 64, 0, -32, 128, 128, 0, 16, 64, 48 },
    { L2D_FIT_STRETCH, 128, 64, 0, 1, 64, 64, 0, 0, 128, 64, 0, 0, 64, 64 },
    // On its side: 64 wide and 128 high once it is upright.
    { L2D_FIT_COVER, 128, 64, 90, 1, 64, 64, 0, 32, 64, 64, 0, 0, 64, 64 },
    // Pixels twice as wide as high: 64x64 is shown as 128x64.
    { L2D_FIT_COVER, 64, 64, 0, 2, 64, 64, 16, 0, 32, 64, 0, 0, 64, 64 },
    // An output that is no multiple: 14 canvas pixels more on either side, repeating the edge.
    { L2D_FIT_COVER, 36, 64, 0, 1, 36, 64, -14, 0, 64, 64, 0, 0, 36, 64 },
};

Test(geometry, placement)
{
    for (size_t i = 0; i < sizeof(places) / sizeof(places[0]); i++) {
        const struct place_case *c = &places[i];
        struct l2d_frame f = {
            .width = c->in_w, .height = c->in_h, .rotation = c->rotation,
            .sar_num = c->sar_num, .sar_den = 1,
        };
        struct l2d_geometry g = l2d_geometry_make(c->out_w, c->out_h, 32, 1);
        struct l2d_color_rect source;
        struct l2d_color_out_fit out;
        l2d_geometry_place(&g, c->fit, &f, &source, &out);
        NEAR(source.x, c->x);
        NEAR(source.y, c->y);
        NEAR(source.w, c->w);
        NEAR(source.h, c->h);
        cr_expect(out.x0 == c->x0 && out.y0 == c->y0 && out.x1 == c->x1 && out.y1 == c->y1,
                  "case %zu: %d %d %d %d", i, out.x0, out.y0, out.x1, out.y1);
        cr_expect_eq(out.crop_x, (g.canvas_width - g.width) / 2);
    }
}

Test(geometry, enlarged)
{
    struct l2d_frame f = { .width = 128, .height = 64 };
    struct l2d_geometry g = l2d_geometry_make(36, 64, 32, 1.5);
    cr_expect(g.out_width == 54 && g.out_height == 96);
    cr_expect(g.out_canvas_width == 96 && g.out_canvas_height == 96);
    struct l2d_color_rect source, same;
    struct l2d_color_out_fit out, plain;
    l2d_geometry_place(&g, L2D_FIT_CONTAIN, &f, &source, &out);
    g = l2d_geometry_make(36, 64, 32, 1);
    l2d_geometry_place(&g, L2D_FIT_CONTAIN, &f, &same, &plain);
    cr_expect(!memcmp(&source, &same, sizeof(same)), "what is drawn does not change");
    cr_expect_eq(out.crop_x, 21);
    cr_expect(plain.y0 == 23 && plain.y1 == 41 && plain.x1 == 36, "%d %d %d", plain.y0, plain.y1,
              plain.x1);
    cr_expect(out.x0 == 0 && out.y0 == 35 && out.x1 == 54 && out.y1 == 62, "%d %d %d %d", out.x0,
              out.y0, out.x1, out.y1);
    g = l2d_geometry_make(2, 2, 2, 1.2);        // sides are even
    cr_expect(g.out_width == 2 && g.out_height == 2);
    g = l2d_geometry_make(2, 2, 2, 4);
    cr_expect(g.out_width == 8 && g.out_canvas_width == 8);
}
