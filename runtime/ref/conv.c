// SPDX-License-Identifier: Apache-2.0
// Convolution with the epilogue of our networks. See ref.h.
#include <math.h>

#include "ref/ref.h"

double l2d_ref_activate(double x, enum l2d_ref_act act)
{
    switch (act) {
    case L2D_REF_NONE:       return x;
    case L2D_REF_SILU:       return x / (1 + exp(-x));
    case L2D_REF_RELU:       return x > 0 ? x : 0;
    case L2D_REF_GELU:
    case L2D_REF_GEGLU:      return 0.5 * x * (1 + erf(x / sqrt(2)));
    case L2D_REF_QUICK_GELU: return x / (1 + exp(-1.702 * x));
    }
    return x;
}

void l2d_ref_conv_shape(const struct l2d_ref_conv *p, int *oh, int *ow, int *c)
{
    *oh = p->stride2 ? (p->h + 1) / 2 : p->upsample ? 2 * p->h : p->h;
    *ow = p->stride2 ? (p->w + 1) / 2 : p->upsample ? 2 * p->w : p->w;
    *c = p->act == L2D_REF_GEGLU ? p->cout / 2 : p->cout;
}

// Padding in front of n pixels.
static int pad_before(const struct l2d_ref_conv *p, int n)
{
    int stride = p->stride2 ? 2 : 1, out = (n + stride - 1) / stride;
    int total = (out - 1) * stride + p->ksize - n;
    return !p->pad_same ? p->ksize / 2 : total > 0 ? total / 2 : 0;
}

// Weight channel n at output pixel (y, x), with the bias.
static double at(const struct l2d_ref_conv *p, int row, int y, int x, int n)
{
    int scale = p->upsample ? 2 : 1, cin = p->c0 + p->c1;
    double sum = p->bias ? (double) p->bias[n] : 0;
    for (int ky = 0; ky < p->ksize; ky++)
        for (int kx = 0; kx < p->ksize; kx++) {
            int iy = y * (p->stride2 ? 2 : 1) + ky - pad_before(p, p->h);
            int ix = x * (p->stride2 ? 2 : 1) + kx - pad_before(p, p->w);
            if (iy < 0 || ix < 0 || iy >= p->h * scale || ix >= p->w * scale)
                continue;
            long pixel = ((long) row * p->h + iy / scale) * p->w + ix / scale;
            long pixel2 = p->x2_one ? row : pixel;
            const float *w = p->weight + ((long) n * cin * p->ksize + ky) * p->ksize + kx;
            for (int k = 0; k < cin; k++) {
                float v = k < p->c0 ? p->x[pixel * p->c0 + k] : p->x2[pixel2 * p->c1 + k - p->c0];
                v = p->relu_in && v < 0 ? 0 : v;
                sum += (double) v * (double) w[(long) k * p->ksize * p->ksize];
            }
        }
    return sum;
}

void l2d_ref_conv(float *out, const struct l2d_ref_conv *p)
{
    int oh, ow, c;
    l2d_ref_conv_shape(p, &oh, &ow, &c);
    long i = 0;
    for (int row = 0; row < p->rows; row++)
        for (int y = 0; y < oh; y++)
            for (int x = 0; x < ow; x++)
                for (int n = 0; n < c; n++, i++) {
                    double v = at(p, row, y, x, n);
                    double added = p->residual ? (double) p->residual[i] : 0;
                    if (p->row_bias)
                        v += (double) p->row_bias[row * c + n];
                    if (p->act == L2D_REF_GEGLU)
                        v *= l2d_ref_activate(at(p, row, y, x, c + n), L2D_REF_GEGLU);
                    else if (p->act_after_residual)
                        v = l2d_ref_activate(v + added, p->act) - added;
                    else
                        v = l2d_ref_activate(v, p->act);
                    out[i] = (float) (v + added);
                }
}
