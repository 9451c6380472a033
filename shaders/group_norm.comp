// SPDX-License-Identifier: Apache-2.0
// GroupNorm of what is small, in one go: the workgroup that has a group's statistics applies them,
// reading again what its core's cache still holds. See group_norm_apply.comp.
#version 460
#extension GL_GOOGLE_include_directive : require
#include "lib/group_norm.glsl"
#include "lib/math.glsl"

layout(constant_id = 1) const uint ACT = 0;     // enum l2d_act: none, SiLU, ReLU
layout(constant_id = 2) const uint RESIDUAL = 0;
layout(binding = 2, std430) readonly buffer Weight { float weight[]; };
layout(binding = 3, std430) readonly buffer Bias { float bias[]; };
layout(binding = 4, std430) readonly buffer Residual { T residual[]; };
layout(binding = 5, std430) writeonly buffer Y { T y[]; };

void main()
{
    uint channels = p.c0 + p.c1, width = channels / p.groups, row = gl_WorkGroupID.y;
    uint first = gl_WorkGroupID.x * width;
    vec2 found = mean_and_scale(row, first, first + width);
    uint count = width * p.pixels;
    for (uint i = gl_LocalInvocationID.x; i < count; i += gl_WorkGroupSize.x) {
        uint pixel = row * p.pixels + i / width, c = first + i % width;
        float v = (load(pixel, c) - found.x) * (found.y * weight[c]) + bias[c];
        if (RESIDUAL != 0u)
            v += float(residual[pixel * channels + c]);
        v = ACT == 1u ? v / (1.0 + exp1(-v)) : ACT == 2u ? max(v, 0.0) : v;
        y[pixel * channels + c] = T(v);
    }
}
