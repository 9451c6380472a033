// SPDX-License-Identifier: Apache-2.0
// The consistency step of each active row, in place in the ring, with the noise of its next step.
// Source: Luo et al., "Latent consistency models" (2023).
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
layout(push_constant, std430) uniform Push { l2d_latent_params p; };

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
    if (p.write_x0 != 0u)
        out_x0[item] = x0;
    if (r.is_last == 0u)
        x0 = r.a_next * x0 +
             r.b_next * noise4(uvec2(r.seed_lo, r.seed_hi), r.frame, r.step + 1u, quad);
    ring[at] = x0;
}
