// SPDX-License-Identifier: Apache-2.0
// Normalisation of depth maps. See ref.h.
#include <math.h>
#include <stdlib.h>

#include "ref/ref.h"

#define NO_RANGE 1e-6

void l2d_ref_depth_range(float range[3], const float *depth, long count, double rate)
{
    double low = INFINITY, high = -INFINITY;
    for (long i = 0; i < count; i++) {
        low = fmin(low, (double) depth[i]);
        high = fmax(high, (double) depth[i]);
    }
    bool follows = rate < 1 && range[2] != 0;
    range[0] = (float) (follows ? (double) range[0] + rate * (low - (double) range[0]) : low);
    range[1] = (float) (follows ? (double) range[1] + rate * (high - (double) range[1]) : high);
    range[2] = 1;
}

void l2d_ref_depth_structure(float *picture, const float *depth, const float range[3], int side,
                             int h, int w)
{
    float *v = malloc((size_t) (side * side) * sizeof(*v));
    float *big = malloc((size_t) (h * w) * sizeof(*big));
    if (!v || !big)
        abort();
    double low = (double) range[0], width = (double) range[1] - low;
    for (int i = 0; i < side * side; i++) {
        double m = width > NO_RANGE ? ((double) depth[i] - low) / width : 0;
        v[i] = (float) (2 * fmin(fmax(m, 0), 1) - 1);
    }
    l2d_ref_resize(big, v, NULL, 1, side, side, 1, h, w, false);
    for (int i = 0; i < 4 * h * w; i++)
        picture[i] = i % 4 < 3 ? big[i / 4] : 0;
    free(big);
    free(v);
}
