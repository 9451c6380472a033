// SPDX-License-Identifier: Apache-2.0
// Gather the rows' latents from the ring into one batch.
#version 460
#extension GL_GOOGLE_include_directive : require
#include "lib/precision.glsl"
#include "lib/flat.glsl"
#include "params/latent.h"
#include "params/row.h"

layout(binding = 0, std430) readonly buffer Ring { vec4 ring[]; };
layout(binding = 1, std430) readonly buffer Rows { l2d_row_params rows[]; };
layout(binding = 2, std430) writeonly buffer X { OUT4 x[]; };
layout(push_constant, std430) uniform Push { l2d_latent_params p; };

void main()
{
    uint item = flat_invocation();
    uint row = item / p.quads;
    if (row >= p.num_rows)
        return;
    x[item] = STORE4(ring[rows[row].ring * p.quads + item % p.quads]);
}
