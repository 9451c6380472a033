// SPDX-License-Identifier: Apache-2.0
// The consistency step and the decoder's input. See ref.h.
#include <math.h>

#include "ref/ref.h"

static double x0_of(const struct l2d_ref_lcm *p, double v, double x0)
{
    return p->c_out * x0 + p->c_skip * v;
}

void l2d_ref_lcm_step(float *x, float *x0, const float *pred, const float *noise, int count,
                      const struct l2d_ref_lcm *p, const float *negative, float *origin)
{
    for (int i = 0; i < count; i++) {
        double v = (double) x[i];
        double done = x0_of(p, v, (v - p->pred_b * (double) pred[i]) / p->pred_a), other = done;
        if (negative && (!origin || p->is_first))
            other = (v - p->pred_b * (double) negative[i]) / p->pred_a;
        if (origin) {
            if (negative && p->is_first)
                origin[i] = (float) other;
            other = (v - p->delta * (v - p->a * (double) origin[i])) / p->a;
        }
        if (negative || origin)
            done = x0_of(p, v, other) + p->guidance * (done - x0_of(p, v, other));
        x0[i] = (float) done;
        x[i] = (float) (p->is_last ? done : p->a_next * done + p->b_next * (double) noise[i]);
    }
}

void l2d_ref_latent_decode(float *y, const float *z, int count, double scale)
{
    for (int i = 0; i < count; i++)
        y[i] = (float) (3 * tanh((double) z[i] / (3 * scale)));
}
