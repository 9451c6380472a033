// SPDX-License-Identifier: Apache-2.0
// GroupNorm, 1 of 2, for GPUs: mean and sum of squared differences of each part of a group.
#version 460
#extension GL_GOOGLE_include_directive : require
#include "lib/group_part.glsl"

layout(binding = 2, std430) writeonly buffer Stats { vec2 stats[]; };

void main()
{
    uint group = gl_WorkGroupID.x, row = gl_WorkGroupID.y, index = gl_WorkGroupID.z;
    uint begin = index * p.part_pixels, end = min(begin + p.part_pixels, p.pixels);
    vec2 found = mean_and_squares(group * WIDTH, row * p.pixels + begin, row * p.pixels + end);
    if (gl_LocalInvocationID.x == 0u)
        stats[(row * gl_NumWorkGroups.z + index) * p.groups + group] = found;
}
