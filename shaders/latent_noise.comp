// SPDX-License-Identifier: Apache-2.0
// A new frame's latent enters the ring with the noise of its first step: a*scale*z + b*noise. The
// origin ring, if there is one, keeps scale*z.
#version 460
#extension GL_GOOGLE_include_directive : require
#include "lib/precision.glsl"
#include "lib/flat.glsl"
#include "lib/philox.glsl"
#include "params/latent.h"
#include "params/row.h"

layout(binding = 0, std430) readonly buffer Z { IN4 z[]; };
layout(binding = 1, std430) buffer Ring { vec4 ring[]; };
layout(binding = 2, std430) readonly buffer Rows { l2d_row_params rows[]; };
layout(binding = 3, std430) buffer Origin { vec4 origin[]; };
layout(push_constant, std430) uniform Push { l2d_latent_params p; };

void main()
{
    uint quad = flat_invocation();
    if (quad >= p.quads || rows[0].is_active == 0u)
        return;
    vec4 n = noise4(uvec2(rows[0].seed_lo, rows[0].seed_hi), rows[0].frame, 0u, quad);
    uint at = rows[0].ring * p.quads + quad;
    ring[at] = rows[0].a * (p.scale * LOAD4(z[quad])) + rows[0].b * n;
    if (p.write_origin != 0u)
        origin[at] = p.scale * LOAD4(z[quad]);
}
