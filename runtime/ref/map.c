// SPDX-License-Identifier: Apache-2.0
// Pooling and resizing of maps. See ref.h.
#include <math.h>

#include "ref/ref.h"

void l2d_ref_max_pool(float *y, const float *x, int rows, int h, int w, int c)
{
    for (int row = 0; row < rows; row++, x += (long) h * w * c)
        for (int oy = 0; oy < (h + 1) / 2; oy++)
            for (int ox = 0; ox < (w + 1) / 2; ox++)
                for (int k = 0; k < c; k++) {
                    float most = -INFINITY;
                    for (int iy = 2 * oy - h % 2; iy < 2 * oy - h % 2 + 3; iy++)
                        for (int ix = 2 * ox - w % 2; ix < 2 * ox - w % 2 + 3; ix++)
                            if (iy >= 0 && ix >= 0 && iy < h && ix < w)
                                most = fmaxf(most, x[((long) iy * w + ix) * c + k]);
                    *y++ = most;
                }
}

// Where pixel at of out lies among n.
static double source(int at, int n, int out, bool align_corners)
{
    if (align_corners)
        return out > 1 ? (double) at * (n - 1) / (out - 1) : 0;
    return fmax((at + 0.5) * n / out - 0.5, 0);
}

void l2d_ref_resize(float *y, const float *x, const float *add, int rows, int h, int w, int c,
                    int oh, int ow, bool align_corners)
{
    long i = 0;
    for (int row = 0; row < rows; row++, x += (long) h * w * c)
        for (int oy = 0; oy < oh; oy++)
            for (int ox = 0; ox < ow; ox++)
                for (int k = 0; k < c; k++, i++) {
                    double sy = source(oy, h, oh, align_corners);
                    double sx = source(ox, w, ow, align_corners), sum = 0;
                    for (int t = 0; t < 4; t++) {
                        int iy = (int) sy + t / 2, ix = (int) sx + t % 2;
                        double fy = sy - (int) sy, fx = sx - (int) sx;
                        double weight = (t / 2 ? fy : 1 - fy) * (t % 2 ? fx : 1 - fx);
                        iy = iy < h ? iy : h - 1;
                        ix = ix < w ? ix : w - 1;
                        sum += weight * (double) x[((long) iy * w + ix) * c + k];
                    }
                    y[i] = (float) (sum + (add ? (double) add[i] : 0));
                }
}
