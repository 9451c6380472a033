// SPDX-License-Identifier: Apache-2.0
// The consistency step and the decoder's input. See ref.h.
#include <math.h>

#include "ref/ref.h"

void l2d_ref_lcm_step(float *x, float *x0, const float *pred, const float *noise, int count,
                      const struct l2d_ref_lcm *p)
{
    for (int i = 0; i < count; i++) {
        double v = (double) x[i];
        double done = p->c_out * (v - p->pred_b * (double) pred[i]) / p->pred_a + p->c_skip * v;
        x0[i] = (float) done;
        x[i] = (float) (p->is_last ? done : p->a_next * done + p->b_next * (double) noise[i]);
    }
}

void l2d_ref_latent_decode(float *y, const float *z, int count, double scale)
{
    for (int i = 0; i < count; i++)
        y[i] = (float) (3 * tanh((double) z[i] / (3 * scale)));
}
