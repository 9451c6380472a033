// SPDX-License-Identifier: Apache-2.0
// Luminance pyramids, optical flow and steadied pictures against plain C; and whether motion that
// is known is found, and a moved picture comes out as it was.
#include <criterion/criterion.h>
#include <math.h>
#include <stdlib.h>

#include "kernels/kernels.h"
#include "ref/ref.h"
#include "support/gpu_test.h"

static const struct { int h, w; } shapes[] = {
    { 64, 96 }, { 256, 256 }, { 8, 8 }, { 72, 40 }, { 9, 13 }, { 1, 1 }, { 33, 5 },
};

static const struct { double dx, dy, share, light; } moves[] = {
    { 0, 0, 0.6, 0 }, { 1.3, -0.7, 0.6, 0 }, { -6.5, 4.25, 0.9, 0.1 }, { 2, 3, 0, 0 },
};

// A point of a scene without edges, of all sizes down to 5 pixels, in [-0.8,0.8].
static double scene(double x, double y, int c)
{
    return 0.3 * sin(x / 23 + y / 37 + c) + 0.2 * sin(x / 7.3 - y / 9.1 + 2 * c) +
           0.15 * sin(y / 3.7 + x / 11) + 0.15 * sin(x / 2.9 - y / 17 - c);
}

// The scene moved on by dx, dy, and lit otherwise.
static float *picture(int h, int w, double dx, double dy, double light)
{
    float *p = gt_floats((size_t) (4 * h * w));
    for (int i = 0; i < h * w; i++)
        for (int c = 0; c < 4; c++)
            p[4 * i + c] = c == 3 ? 0 : (float) (light + scene(i % w - dx, i / w - dy, c));
    return p;
}

struct seen {
    float *pyramid, *flow, *steadied, *moved;
};

// Two frames, the older in row 8 and the newer in row 0; `fresh` steadied by `last`; `last` moved.
static struct seen run(struct gpu_test *t, int h, int w, const float *old, const float *new,
                       const float *last, const float *fresh, float share)
{
    struct l2d_tensor shape = l2d_steady_lumas_shape(9, h, w);
    struct l2d_steady_params params[2] = {
        { .incoming = 8 }, { .incoming = 0, .now = 0, .before = 8, .share = share },
    };
    gt_begin(t, L2D_F32);
    struct l2d_tensor lumas = gt_tensor(t, L2D_F32, shape.rows, 1, 1, shape.c, NULL, true);
    struct l2d_tensor flow_out = gt_tensor(t, L2D_F32, 1, (h + 3) / 4, (w + 3) / 4, 4, NULL, true);
    struct l2d_tensor moved = gt_tensor(t, L2D_F32, 1, h, w, 4, NULL, true);
    struct l2d_tensor first = gt_bytes(t, &params[0], sizeof(params[0]), false);
    struct l2d_tensor second = gt_bytes(t, &params[1], sizeof(params[1]), false);
    l2d_steady_track(t->graph, gt_tensor(t, L2D_F32, 1, h, w, 4, old, false), lumas, first);
    l2d_steady_track(t->graph, gt_tensor(t, L2D_F32, 1, h, w, 4, new, false), lumas, second);
    struct l2d_tensor flow = l2d_flow(t->graph, lumas, second, h, w);
    l2d_graph_copy(t->graph, flow_out, flow);
    struct l2d_tensor was = gt_tensor(t, L2D_F32, 1, h, w, 4, last, false);
    l2d_graph_copy(t->graph, moved, l2d_move(t->graph, was, lumas, second, flow));
    gt_keep(t, l2d_steady(t->graph, gt_tensor(t, L2D_F32, 1, h, w, 4, fresh, false), was, lumas,
                          second, flow));
    gt_run(t);
    struct seen seen = { gt_read(t, lumas), gt_read(t, flow_out),
                         gt_read_kept(t, (size_t) (4 * h * w)), gt_read(t, moved) };
    gt_end(t);
    return seen;
}

static void drop(struct seen *s)
{
    free(s->pyramid);
    free(s->flow);
    free(s->steadied);
    free(s->moved);
}

static void run_case(struct gpu_test *t, unsigned shape, unsigned move)
{
    int h = shapes[shape].h, w = shapes[shape].w;
    size_t pixels = (size_t) (h * w), cells = (size_t) ((h + 3) / 4 * ((w + 3) / 4));
    double dx = moves[move].dx, dy = moves[move].dy;
    float *old = picture(h, w, 0, 0, 0), *new = picture(h, w, dx, dy, moves[move].light);
    float *last = gt_floats(4 * pixels), *fresh = gt_floats(4 * pixels);
    gt_fill(last, 4 * pixels, GT_NORMAL, 0.3, 1, L2D_F32, shape);
    gt_fill(fresh, 4 * pixels, GT_NORMAL, 0.3, 1, L2D_F32, shape + 100);
    for (size_t i = 0; i < 4 * pixels; i++) {
        last[i] = i % 4 == 3 ? 0 : fmaxf(-1, fminf(1, last[i]));
        fresh[i] = i % 4 == 3 ? 0 : fmaxf(-1, fminf(1, fresh[i]));
    }
    struct seen got = run(t, h, w, old, new, last, fresh, (float) moves[move].share);

    struct l2d_tensor lumas = l2d_steady_lumas_shape(9, h, w);
    float *pyramid[2] = { gt_floats((size_t) lumas.c), gt_floats((size_t) lumas.c) };
    float *flow = gt_floats(4 * cells), *steadied = gt_floats(4 * pixels);
    size_t floats = (size_t) l2d_ref_pyramid(pyramid[0], new, h, w);
    l2d_ref_pyramid(pyramid[1], old, h, w);
    gt_check(pyramid[0], got.pyramid, floats, (struct gt_tol) { 1e-6, 1e-4, 0 },
             "pyramid %dx%d, move %u, the newer frame", w, h, move);
    gt_check(pyramid[1], got.pyramid + 8 * (size_t) lumas.c, floats,
             (struct gt_tol) { 1e-6, 1e-4, 0 }, "pyramid %dx%d, move %u, the older", w, h, move);
    // What is nearly undecided, rounding decides: which of two guesses fits better.
    l2d_ref_flow(flow, pyramid[0], pyramid[1], h, w);
    size_t off = 0;
    for (size_t i = 0; i < cells; i++)
        off += hypotf(flow[4 * i] - got.flow[4 * i], flow[4 * i + 1] - got.flow[4 * i + 1]) > 0.01f;
    cr_assert(off <= cells / 50, "flow %dx%d, move %u: %zu of %zu cells differ", w, h, move, off,
              cells);
    // Along the flow that was got. A deviation of 0 is the root of what rounding leaves.
    l2d_ref_steady(steadied, fresh, last, pyramid[0], pyramid[1], got.flow, h, w,
                   moves[move].share);
    gt_check(steadied, got.steadied, 4 * pixels, (struct gt_tol) { 5e-4, 1e-3, 0 },
             "steady %dx%d, move %u", w, h, move);
    l2d_ref_move(steadied, last, pyramid[0], pyramid[1], got.flow, h, w);
    gt_check(steadied, got.moved, 4 * pixels, (struct gt_tol) { 5e-4, 1e-3, 0 },
             "move %dx%d, move %u", w, h, move);
    void *all[] = { old, new, last, fresh, pyramid[0], pyramid[1], flow, steadied };
    for (size_t i = 0; i < COUNT(all); i++)
        free(all[i]);
    drop(&got);
}

// Away from the border the motion is found, and what came out before is moved along with it.
static void run_known(struct gpu_test *t)
{
    const int h = 128, w = 160, border = 24;
    for (unsigned m = 0; m < COUNT(moves); m++) {
        double dx = moves[m].dx, dy = moves[m].dy, worst = 0, kept = 0;
        float *old = picture(h, w, 0, 0, 0), *new = picture(h, w, dx, dy, moves[m].light);
        float *last = picture(h, w, 40, 17, 0), *there = picture(h, w, 40 + dx, 17 + dy, 0);
        struct seen got = run(t, h, w, old, new, last, there, 0.9f);
        for (int y = border; y < h - border; y++)
            for (int x = border; x < w - border; x++) {
                const float *u = got.flow + 4 * (y / 4 * (w / 4) + x / 4);
                worst = fmax(worst, hypot((double) u[0] + dx, (double) u[1] + dy));
                for (int c = 0; c < 3; c++) {
                    int i = 4 * (y * w + x) + c;
                    kept = fmax(kept, fabs((double) (got.steadied[i] - there[i])));
                    kept = fmax(kept, fabs((double) (got.moved[i] - there[i])));
                }
            }
        cr_assert(worst < 0.15, "move %u: the motion is %.2f pixels off", m, worst);
        cr_assert(kept < 0.04, "move %u: the picture that moved is %.3f off", m, kept);
        free(old);
        free(new);
        free(last);
        free(there);
        drop(&got);
    }
}

// Another scene, and pictures from outside: nothing of the last picture is left.
static void run_unlike(struct gpu_test *t)
{
    const int h = 64, w = 64;
    float *old = picture(h, w, 0, 0, 0), *new = gt_floats(4 * 64 * 64);
    float *last = picture(h, w, 5, 9, 0), *fresh = picture(h, w, 31, 12, 0);
    for (int i = 0; i < 4 * h * w; i++)         // stripes of black and white
        new[i] = i % 4 == 3 ? 0 : i / 4 % w / 3 % 2 ? 1 : -1;
    struct seen got = run(t, h, w, old, new, last, fresh, 0.9f);
    for (int i = 0; i < 4 * h * w; i++)
        cr_assert_float_eq(got.steadied[i], fresh[i], 2e-3, "%d: %g, fresh %g", i,
                           (double) got.steadied[i], (double) fresh[i]);
    free(old);
    free(new);
    free(last);
    free(fresh);
    drop(&got);
}

// A picture that was not of numbers is gone with the next.
static void run_unsound(struct gpu_test *t)
{
    const int h = 32, w = 48;
    float *source = picture(h, w, 0, 0, 0), *last = picture(h, w, 0, 0, 0);
    float *fresh = picture(h, w, 1, 2, 0);
    for (int i = 0; i < 4 * h * w; i++)
        last[i] = i % 4 == 3 ? 0 : i / 4 % w < 16 ? NAN : i / 4 % w < 24 ? INFINITY : last[i];
    struct seen got = run(t, h, w, source, source, last, fresh, 0.9f);
    for (int i = 0; i < 4 * h * w; i++) {
        cr_assert(isfinite(got.steadied[i]), "%d: %g", i, (double) got.steadied[i]);
        if (i / 4 % w < 22)
            cr_assert_eq(got.steadied[i], fresh[i], "%d: %g, fresh %g", i,
                         (double) got.steadied[i], (double) fresh[i]);
    }
    free(source);
    free(last);
    free(fresh);
    drop(&got);
}

static void run_all(enum l2d_tier tier)
{
    struct gpu_test t;
    gt_open(&t, tier);
    for (unsigned i = 0; i < COUNT(shapes); i++)
        for (unsigned m = 0; m < COUNT(moves); m++)
            run_case(&t, i, m);
    run_known(&t);
    run_unlike(&t);
    run_unsound(&t);
    gt_close(&t);
}

Test(steady, tier0) { run_all(L2D_TIER_0); }
Test(steady, tier1) { run_all(L2D_TIER_1); }
