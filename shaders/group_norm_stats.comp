// SPDX-License-Identifier: Apache-2.0
// GroupNorm, 1 of 2: mean and 1/deviation of each (group, row).
#version 460
#extension GL_GOOGLE_include_directive : require
#include "lib/group_norm.glsl"

layout(binding = 2, std430) writeonly buffer Stats { vec2 stats[]; };

void main()
{
    uint group = gl_WorkGroupID.x, row = gl_WorkGroupID.y, width = (p.c0 + p.c1) / p.groups;
    vec2 found = mean_and_scale(row, group * width, group * width + width);
    if (gl_LocalInvocationID.x == 0u)
        stats[row * p.groups + group] = found;
}
