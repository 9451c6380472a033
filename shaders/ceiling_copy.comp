// SPDX-License-Identifier: Apache-2.0
// Copies f32 quads: how fast memory is for a kernel. Neighbours copy neighbouring quads.
#version 460
#extension GL_GOOGLE_include_directive : require
#include "lib/flat.glsl"
#include "params/ceiling.h"

layout(binding = 0, std430) readonly buffer X { vec4 x[]; };
layout(binding = 1, std430) writeonly buffer Y { vec4 y[]; };
layout(push_constant, std430) uniform Push { l2d_ceiling_params p; };

void main()
{
    uint i = flat_group() * gl_WorkGroupSize.x * p.rounds + gl_LocalInvocationID.x;
    for (uint r = 0u; r < p.rounds; r++, i += gl_WorkGroupSize.x)
        if (i < p.count)
            y[i] = x[i];
}
