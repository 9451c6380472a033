// SPDX-License-Identifier: Apache-2.0
// The parts of a convolution's sum, which a workgroup each has computed, are added up in their
// order and finished. An invocation has two neighbouring quads of weight columns.
#version 460
#extension GL_GOOGLE_include_directive : require
#include "lib/conv.glsl"

void main()
{
    uint group = gl_WorkGroupID.y * gl_NumWorkGroups.x + gl_WorkGroupID.x;
    uint item = group * gl_WorkGroupSize.x + gl_LocalInvocationID.x;
    uint pixels = p.ow * p.oh, num_pixels = p.num_rows * pixels, pairs = (p.out_quads + 1u) / 2u;
    uint column = item % pairs * 2u, m = item / pairs;
    if (m >= num_pixels)
        return;
    uint at = m * p.out_quads + column, second = min(1u, p.out_quads - 1u - column), part = 0u;
    vec4 v0 = vec4(0.0), v1 = vec4(0.0);
    do {
        v0 += parts[at];
        v1 += parts[at + second];
        at += num_pixels * p.out_quads;
    } while (++part < p.parts);
    finish2(m / pixels, m % pixels, column, v0, v1);
}
