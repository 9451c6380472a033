// SPDX-License-Identifier: Apache-2.0
// A finished latent as the tiny decoder wants it: 3 tanh(z / (3 scale)).
#version 460
#extension GL_GOOGLE_include_directive : require
#include "lib/precision.glsl"
#include "lib/flat.glsl"
#include "lib/math.glsl"
#include "params/latent.h"
#include "params/row.h"

layout(binding = 0, std430) readonly buffer Ring { vec4 ring[]; };
layout(binding = 1, std430) readonly buffer Rows { l2d_row_params rows[]; };
layout(binding = 2, std430) writeonly buffer X { OUT4 x[]; };
layout(push_constant, std430) uniform Push { l2d_latent_params p; };

void main()
{
    uint quad = flat_invocation();
    if (quad >= p.quads)
        return;
    vec4 z = ring[rows[0].ring * p.quads + quad];
    x[quad] = STORE4(3.0 * tanh4(z / (3.0 * p.scale)));
}
