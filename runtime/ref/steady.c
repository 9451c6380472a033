// SPDX-License-Identifier: Apache-2.0
// Luminance pyramids, optical flow, and pictures steadied along it. See ref.h.
#include <math.h>
#include <stdlib.h>

#include "ref/ref.h"

#define LEVELS 6
#define LEAST 16
#define STEPS 2
#define PIXELS 32

struct plane {
    const float *x;
    int w, h;
};

static int clamp(int v, int lo, int hi)
{
    return v < lo ? lo : v > hi ? hi : v;
}

static double clamp1(double v, double lo, double hi)
{
    return v < lo ? lo : v > hi ? hi : v;
}

static double at(const struct plane *p, int x, int y)
{
    return (double) p->x[(long) clamp(y, 0, p->h - 1) * p->w + clamp(x, 0, p->w - 1)];
}

static double between(const struct plane *p, double x, double y)
{
    x = clamp1(x, 0, p->w - 1);
    y = clamp1(y, 0, p->h - 1);
    int ix = (int) x, iy = (int) y;
    double fx = x - ix, fy = y - iy;
    return (1 - fy) * ((1 - fx) * at(p, ix, iy) + fx * at(p, ix + 1, iy)) +
           fy * ((1 - fx) * at(p, ix, iy + 1) + fx * at(p, ix + 1, iy + 1));
}

static int levels(struct plane level[LEVELS], const float *x, int h, int w)
{
    int n = 0;
    do {
        level[n++] = (struct plane) { x, w, h };
        x += (long) w * h;
        w = (w + 1) / 2;
        h = (h + 1) / 2;
    } while (n < LEVELS && w >= LEAST && h >= LEAST);
    return n;
}

long l2d_ref_pyramid(float *luma, const float *rgb, int h, int w)
{
    struct plane level[LEVELS];
    int n = levels(level, luma, h, w);
    float *to = luma;
    for (int i = 0; i < h * w; i++, rgb += 4)
        *to++ = (float) (127.5 * (0.299 * (double) rgb[0] + 0.587 * (double) rgb[1] +
                                  0.114 * (double) rgb[2] + 1));
    for (int l = 1; l < n; l++)
        for (int y = 0; y < level[l].h; y++)
            for (int x = 0; x < level[l].w; x++) {
                const struct plane *fine = &level[l - 1];
                *to++ = (float) ((at(fine, 2 * x, 2 * y) + at(fine, 2 * x + 1, 2 * y) +
                                  at(fine, 2 * x, 2 * y + 1) + at(fine, 2 * x + 1, 2 * y + 1)) / 4);
            }
    return (long) (to - luma);
}

// ---- flow

struct patch {
    double now[PIXELS], gx[PIXELS], gy[PIXELS];     // means taken out
    int x[PIXELS], y[PIXELS];
};

static void take_mean_out(double x[PIXELS])
{
    double mean = 0;
    for (int i = 0; i < PIXELS; i++)
        mean += x[i] / PIXELS;
    for (int i = 0; i < PIXELS; i++)
        x[i] -= mean;
}

static void cut_patch(struct patch *k, const struct plane *now, int cell_x, int cell_y)
{
    for (int i = 0; i < PIXELS; i++) {
        int row = i / 4, column = 2 * (i % 4) + row % 2;        // every second one of 8x8
        int x = k->x[i] = clamp(4 * cell_x - 2 + column, 0, now->w - 1);
        int y = k->y[i] = clamp(4 * cell_y - 2 + row, 0, now->h - 1);
        k->now[i] = at(now, x, y);
        k->gx[i] = (at(now, x + 1, y) - at(now, x - 1, y)) / 2;
        k->gy[i] = (at(now, x, y + 1) - at(now, x, y - 1)) / 2;
    }
    take_mean_out(k->now);
    take_mean_out(k->gx);
    take_mean_out(k->gy);
}

// What is left where the patch would have been. returns the sum of its squares.
static double miss(double left[PIXELS], const struct patch *k, const struct plane *before,
                   double dx, double dy)
{
    double squares = 0;
    for (int i = 0; i < PIXELS; i++)
        left[i] = between(before, k->x[i] + dx, k->y[i] + dy);
    take_mean_out(left);
    for (int i = 0; i < PIXELS; i++) {
        left[i] -= k->now[i];
        squares += left[i] * left[i];
    }
    return squares;
}

static void find(float flow[4], const struct patch *k, const struct plane *before, double dx,
                 double dy)
{
    double left[PIXELS], xx = 4, xy = 0, yy = 4;
    for (int i = 0; i < PIXELS; i++) {
        xx += k->gx[i] * k->gx[i];
        xy += k->gx[i] * k->gy[i];
        yy += k->gy[i] * k->gy[i];
    }
    if (miss(left, k, before, 0, 0) <= miss(left, k, before, dx, dy))
        dx = dy = 0;
    double least = miss(left, k, before, dx, dy), best_x = dx, best_y = dy;
    for (int step = 0; step < STEPS; step++) {
        double px = 0, py = 0, det = xx * yy - xy * xy;
        for (int i = 0; i < PIXELS; i++) {
            px += k->gx[i] * left[i];
            py += k->gy[i] * left[i];
        }
        dx -= clamp1((yy * px - xy * py) / det, -2, 2);
        dy -= clamp1((xx * py - xy * px) / det, -2, 2);
        double here = miss(left, k, before, dx, dy);
        if (here < least) {
            least = here;
            best_x = dx;
            best_y = dy;
        }
    }
    flow[0] = (float) best_x;
    flow[1] = (float) best_y;
    flow[2] = (float) least;
    flow[3] = 0;
}

void l2d_ref_flow(float *flow, const float *now, const float *before, int h, int w)
{
    struct plane a[LEVELS], b[LEVELS];
    int n = levels(a, now, h, w), most = (w + 3) / 4 * ((h + 3) / 4);
    levels(b, before, h, w);
    float *coarse = calloc((size_t) most, 2 * sizeof(*coarse));     // all dx, then all dy
    if (!coarse)
        abort();
    struct plane dx = { coarse, 1, 1 }, dy = { coarse + most, 1, 1 };   // no motion yet
    for (int l = n - 1; l >= 0; l--) {
        int cells_w = (a[l].w + 3) / 4, cells_h = (a[l].h + 3) / 4;
        for (int i = 0; i < cells_w * cells_h; i++) {
            int x = i % cells_w, y = i / cells_w;
            struct patch patch;
            cut_patch(&patch, &a[l], x, y);
            find(flow + 4 * i, &patch, &b[l], 2 * between(&dx, x / 2.0 - 0.25, y / 2.0 - 0.25),
                 2 * between(&dy, x / 2.0 - 0.25, y / 2.0 - 0.25));
        }
        for (int i = 0; i < cells_w * cells_h; i++) {
            coarse[i] = flow[4 * i];
            coarse[most + i] = flow[4 * i + 1];
        }
        dx.w = dy.w = cells_w;
        dx.h = dy.h = cells_h;
    }
    free(coarse);
}

// ---- steady

static void motion(double *dx, double *dy, const struct plane *now, const struct plane *before,
                   const float *flow, int x, int y)
{
    int cells_w = (now->w + 3) / 4, cells_h = (now->h + 3) / 4;
    double cx = (x - 1.5) / 4, cy = (y - 1.5) / 4, weights = 0;
    *dx = *dy = 0;
    for (int i = 0; i < 4; i++) {
        int ix = (int) floor(cx) + i % 2, iy = (int) floor(cy) + i / 2;
        const float *u = flow + 4 * (clamp(iy, 0, cells_h - 1) * cells_w +
                                     clamp(ix, 0, cells_w - 1));
        double miss = fabs(between(before, x + (double) u[0], y + (double) u[1]) - at(now, x, y));
        double weight = fmax(1 - fabs(cx - ix), 0.05) * fmax(1 - fabs(cy - iy), 0.05) /
                        fmax(miss, 1);
        *dx += weight * (double) u[0];
        *dy += weight * (double) u[1];
        weights += weight;
    }
    *dx /= weights;
    *dy /= weights;
}

static double trust(const struct plane *now, const struct plane *before, int x, int y, double px,
                    double py)
{
    double inside = fmin(fmin(px, now->w - 1 - px), fmin(py, now->h - 1 - py)), miss = 0;
    for (int dy = -1; dy <= 1; dy++)
        for (int dx = -1; dx <= 1; dx++)
            miss += fabs(between(before, px + dx, py + dy) - at(now, x + dx, y + dy)) / 9;
    return clamp1(1 + inside, 0, 1) * exp(-(miss / 12) * (miss / 12));
}

double l2d_ref_catmull_rom(double d)
{
    d = fabs(d);
    return d < 1 ? (1.5 * d - 2.5) * d * d + 1 : d < 2 ? ((-0.5 * d + 2.5) * d - 4) * d + 2 : 0;
}

// What was at a place between pixels.
static double last_at(const float *last, int h, int w, double x, double y, int c)
{
    double sum = 0;
    for (int t = 0; t < 16; t++) {
        int ix = (int) floor(x) - 1 + t % 4, iy = (int) floor(y) - 1 + t / 4;
        sum += l2d_ref_catmull_rom(x - ix) * l2d_ref_catmull_rom(y - iy) *
               (double) last[4 * (clamp(iy, 0, h - 1) * w + clamp(ix, 0, w - 1)) + c];
    }
    return sum;
}

void l2d_ref_steady(float *out, const float *picture, const float *last, const float *now,
                    const float *before, const float *flow, int h, int w, double share)
{
    struct plane a = { now, w, h }, b = { before, w, h };
    for (int i = 0; i < h * w; i++)
        for (int c = 0; c < 4; c++) {
            int x = i % w, y = i / w;
            double fresh = (double) picture[4 * i + c], dx, dy, mean = 0, squares = 0;
            motion(&dx, &dy, &a, &b, flow, x, y);
            double part = share * trust(&a, &b, x, y, x + dx, y + dy);
            double kept = last_at(last, h, w, x + dx, y + dy, c);
            for (int t = 0; t < 9; t++) {
                int ix = clamp(x - 1 + t % 3, 0, w - 1), iy = clamp(y - 1 + t / 3, 0, h - 1);
                double v = (double) picture[4 * (iy * w + ix) + c];
                mean += v / 9;
                squares += v * v / 9;
            }
            double reach = sqrt(fmax(squares - mean * mean, 0)) + 6 / 127.5;
            if (isnan(kept))
                part = 0;
            kept = part > 0 ? clamp1(kept, mean - reach, mean + reach) : 0;
            out[4 * i + c] = c == 3 ? 0 : (float) clamp1((1 - part) * fresh + part * kept, -1, 1);
        }
}

void l2d_ref_move(float *out, const float *last, const float *now, const float *before,
                  const float *flow, int h, int w)
{
    struct plane a = { now, w, h }, b = { before, w, h };
    for (int i = 0; i < h * w; i++) {
        double dx, dy;
        motion(&dx, &dy, &a, &b, flow, i % w, i / w);
        for (int c = 0; c < 4; c++)
            out[4 * i + c] = c == 3 ? 0 : (float) clamp1(last_at(last, h, w, i % w + dx, i / w + dy,
                                                                 c), -1, 1);
    }
}
