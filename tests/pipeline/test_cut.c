// SPDX-License-Identifier: Apache-2.0
// Cuts, and sinks that are of another scene: what is one, what is none, and when it is said.
#include "pipeline/cut.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdlib.h>

#define W 96
#define H 64

static struct l2d_cut cut;
static unsigned looked;                 // frames so far

// A frame of a scene that has moved on by x pixels: gain and offset are of its light.
static struct l2d_frame *scene(int number, double x, double gain, double offset, double noise)
{
    struct l2d_frame *f = NULL;
    struct l2d_pixel_format format = l2d_pixel_format_i420(L2D_MATRIX_BT601, false);
    cr_assert_eq(l2d_frame_create(&f, W, H, &format, NULL), L2D_OK);
    for (unsigned row = 0; row < H; row++)
        for (unsigned col = 0; col < W; col++) {
            double u = col + x, v = row + 40.0 * number;
            double value = 0.5 + 0.2 * sin(u / 9 + v / 31 + number) + 0.2 * sin(v / 7 - u / 23);
            value = gain * value + offset + noise * (rand() % 1000 / 1000.0 - 0.5);
            f->data[f->plane_offset_bytes[0] + row * f->plane_stride_bytes[0] + col] =
                (uint8_t) (255 * fmin(1, fmax(0, value)));
        }
    return f;
}

static enum l2d_sight look(struct l2d_frame *frame)
{
    enum l2d_sight sight = l2d_cut_look(&cut, frame);
    l2d_frame_unref(&frame);
    looked++;
    return sight;
}

static void begin(void)
{
    cut = (struct l2d_cut) { .seen = false };
    looked = 0;
    srand(1);
    for (int i = 0; i < 8; i++)
        cr_assert_eq(look(scene(0, 0, 1, 0, 0.02)), L2D_SIGHT_GOES_ON);
    l2d_cut_anchor(&cut);
}

TestSuite(cut, .init = begin);

Test(cut, another_picture_is_one)
{
    cr_assert_eq(look(scene(3, 50, 1, 0, 0.02)), L2D_SIGHT_CUT);
    l2d_cut_anchor(&cut);
    for (int i = 0; i < 2 * L2D_CUT_AGE; i++)
        cr_assert_eq(look(scene(3, 50, 1, 0, 0.02)), L2D_SIGHT_GOES_ON, "frame %d", i);
}

Test(cut, strobes_are_usual_after_the_first)
{
    int cuts = 0;
    for (int i = 0; i < 40; i++)
        cuts += look(scene(0, 0, i % 2 ? 0.3 : 1, 0, 0)) == L2D_SIGHT_CUT;
    cr_assert(cuts <= 2, "%d", cuts);
}

// Half of one and half of the other, more and more; then it stays.
Test(cut, a_dissolve_leaves_the_sinks_behind)
{
    unsigned stale = 0, at = 0;
    for (int i = 0; i < L2D_CUT_AGE + 100; i++) {
        double part = i < 100 ? 0 : i < 130 ? (i - 100) / 30.0 : 1;
        struct l2d_frame *a = scene(0, 0, 1 - part, 0, 0.01), *b = scene(3, 50, part, 0, 0.01);
        for (uint64_t k = 0; k < a->size_bytes; k++)
            a->data[k] = (uint8_t) (a->data[k] + b->data[k]);
        l2d_frame_unref(&b);
        enum l2d_sight sight = look(a);
        cr_assert_neq(sight, L2D_SIGHT_CUT, "frame %d", i);
        if (sight == L2D_SIGHT_STALE) {
            at = at ? at : looked;
            stale++;
            l2d_cut_anchor(&cut);
        }
    }
    cr_assert(stale == 1 && at == 8 + L2D_CUT_AGE, "%u times, first at %u", stale, at);
}

Test(cut, a_pan_leaves_them_behind_once_in_a_while)
{
    int stale = 0;
    for (int i = 0; i < 4 * L2D_CUT_AGE; i++)
        if (look(scene(0, 0.15 * i, 1, 0, 0.01)) == L2D_SIGHT_STALE) {
            stale++;
            l2d_cut_anchor(&cut);
        }
    cr_assert(stale >= 1 && stale <= 4, "%d", stale);
}

Test(cut, light_does_not)
{
    for (int i = 0; i < 3 * L2D_CUT_AGE; i++) {
        double light = 0.5 + 0.5 * cos(i / 40.0);
        cr_assert_eq(look(scene(0, 0, 0.4 + 0.6 * light, 0.3 * (1 - light), 0.02)),
                     L2D_SIGHT_GOES_ON, "frame %d", i);
    }
}

// Nothing can be said of a picture without a structure; nor before there are sinks.
Test(cut, grey_and_nothing_do_not)
{
    for (int i = 0; i < 2 * L2D_CUT_AGE; i++) {
        double gain = i < 60 ? 1 - i / 60.0 : 0;
        cr_assert_eq(look(scene(0, 0, gain, 0.5 * (1 - gain), 0)), L2D_SIGHT_GOES_ON, "frame %d",
                     i);
    }
    cut = (struct l2d_cut) { .seen = false };
    for (int i = 0; i < 2 * L2D_CUT_AGE; i++)
        cr_assert_eq(look(scene(0, 0.1 * i, 1, 0, 0)), L2D_SIGHT_GOES_ON, "frame %d", i);
}
