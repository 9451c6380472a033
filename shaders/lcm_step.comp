// SPDX-License-Identifier: Apache-2.0
// The consistency step of each active row, in place in the ring, with the noise of its next step.
// Guidance moves x0 away from what the negative prompt or the origin gives. As x0 is affine in the
// prediction and the shares sum to 1, mixing x0 is mixing predictions. A frame that came from the
// latent z is at x = a z + b s: its residual noise is b s = x - a z at every step, whatever noise
// was added on the way, so that nothing but z has to travel with it.
// Sources: Luo et al., "Latent consistency models" (2023); Ho and Salimans, "Classifier-free
// diffusion guidance" (2022); Kodaira et al., "StreamDiffusion" (2023), residual guidance.
#version 460
#extension GL_GOOGLE_include_directive : require
#include "lib/precision.glsl"
#include "lib/flat.glsl"
#include "lib/philox.glsl"
#include "params/latent.h"
#include "params/row.h"

layout(binding = 0, std430) readonly buffer Pred { IN4 pred[]; };
layout(binding = 1, std430) buffer Ring { vec4 ring[]; };
layout(binding = 2, std430) readonly buffer Rows { l2d_row_params rows[]; };
layout(binding = 3, std430) buffer X0 { vec4 out_x0[]; };
layout(binding = 4, std430) readonly buffer Negative { IN4 negative[]; };
layout(binding = 5, std430) buffer Origin { vec4 origin[]; };
layout(constant_id = 1) const uint GUIDE = 0;
layout(push_constant, std430) uniform Push { l2d_latent_params p; };

// delta of the noise that separates x from its origin, taken for a prediction.
vec4 origin_x0(l2d_row_params r, vec4 x, uint at, uint item)
{
    vec4 z;
    if ((GUIDE & L2D_GUIDE_NEGATIVE) != 0u && r.step == 0u) {
        z = (x - r.pred_b * LOAD4(negative[item])) / r.pred_a;
        origin[at] = z;
    } else {
        z = origin[at];
    }
    return r.c_out * ((x - p.delta * (x - r.a * z)) / r.a) + r.c_skip * x;
}

void main()
{
    uint item = flat_invocation();
    uint row = item / p.quads, quad = item % p.quads;
    if (row >= p.num_rows || rows[row].is_active == 0u)
        return;
    l2d_row_params r = rows[row];
    uint at = r.ring * p.quads + quad;
    vec4 x = ring[at];
    vec4 x0 = r.c_out * ((x - r.pred_b * LOAD4(pred[item])) / r.pred_a) + r.c_skip * x;
    if (GUIDE != 0u) {
        vec4 other;
        if (GUIDE == L2D_GUIDE_NEGATIVE)
            other = r.c_out * ((x - r.pred_b * LOAD4(negative[item])) / r.pred_a) + r.c_skip * x;
        else
            other = origin_x0(r, x, at, item);
        x0 = other + p.guidance * (x0 - other);
    }
    if (p.write_x0 != 0u)
        out_x0[item] = x0;
    if (r.is_last == 0u)
        x0 = r.a_next * x0 +
             r.b_next * noise4(uvec2(r.seed_lo, r.seed_hi), r.frame, r.step + 1u, quad);
    ring[at] = x0;
}
