// SPDX-License-Identifier: Apache-2.0
// GroupNorm and LayerNorm, two passes in double. See ref.h.
#include <math.h>

#include "ref/ref.h"

void l2d_ref_group_norm(float *y, const float *x, const float *x2, const float *weight,
                        const float *bias, const float *residual, int rows, int pixels, int c0,
                        int c1, int groups, double eps, enum l2d_ref_act act)
{
    int c = c0 + c1, width = c / groups;
    for (int r = 0; r < rows; r++)
        for (int g = 0; g < groups; g++) {
            double sum = 0, squares = 0, count = (double) pixels * width;
            for (int pass = 0; pass < 3; pass++)
                for (int i = 0; i < pixels; i++)
                    for (int n = g * width; n < (g + 1) * width; n++) {
                        long at = (long) r * pixels + i;
                        double v = (double) (n < c0 ? x[at * c0 + n] : x2[at * c1 + n - c0]);
                        double d = v - sum / count;
                        if (pass == 0)
                            sum += v;
                        else if (pass == 1)
                            squares += d * d;
                        else {
                            v = d / sqrt(squares / count + eps) * (double) weight[n] +
                                (double) bias[n] + (residual ? (double) residual[at * c + n] : 0);
                            y[at * c + n] = (float) l2d_ref_activate(v, act);
                        }
                    }
        }
}

void l2d_ref_layer_norm(float *y, const float *x, const float *weight, const float *bias,
                        int tokens, int c, double eps)
{
    for (int t = 0; t < tokens; t++, x += c, y += c) {
        double sum = 0, squares = 0;
        for (int n = 0; n < c; n++)
            sum += (double) x[n];
        for (int n = 0; n < c; n++)
            squares += ((double) x[n] - sum / c) * ((double) x[n] - sum / c);
        for (int n = 0; n < c; n++)
            y[n] = (float) (((double) x[n] - sum / c) / sqrt(squares / c + eps) *
                            (double) weight[n] + (double) bias[n]);
    }
}
