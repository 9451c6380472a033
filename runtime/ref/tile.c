// SPDX-License-Identifier: Apache-2.0
// Tiles out of maps and back. See ref.h.
#include "ref/ref.h"

void l2d_ref_tile_cut(float *y, const float *x, int rows, int whole_h, int whole_w, int c,
                      const struct l2d_ref_tile *t)
{
    for (int row = 0; row < rows; row++)
        for (int i = 0; i < t->h; i++)
            for (int j = 0; j < t->w; j++)
                for (int k = 0; k < c; k++)
                    *y++ = x[(((long) row * whole_h + t->top + i) * whole_w + t->left + j) * c + k];
}

static double weight(int at, int n, int fade_before, int fade_behind)
{
    double w = at < fade_before ? (at + 0.5) / fade_before : 1;
    return n - at <= fade_behind ? w * (n - at - 0.5) / fade_behind : w;
}

void l2d_ref_tile_paste(float *y, const float *x, int rows, int whole_h, int whole_w, int c,
                        const struct l2d_ref_tile *t)
{
    for (int row = 0; row < rows; row++)
        for (int i = 0; i < t->h; i++)
            for (int j = 0; j < t->w; j++)
                for (int k = 0; k < c; k++) {
                    long to = (((long) row * whole_h + t->top + i) * whole_w + t->left + j) * c + k;
                    double w = weight(i, t->h, t->fade_top, t->fade_bottom) *
                               weight(j, t->w, t->fade_left, t->fade_right);
                    bool shared = i < t->fade_top || j < t->fade_left;
                    y[to] = (float) (w * (double) *x++ + (shared ? (double) y[to] : 0));
                }
}
