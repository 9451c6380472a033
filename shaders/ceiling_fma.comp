// SPDX-License-Identifier: Apache-2.0
// Multiply-adds in registers: how fast arithmetic is for a kernel.
#version 460
#extension GL_GOOGLE_include_directive : require
#include "lib/flat.glsl"
#include "params/ceiling.h"

layout(binding = 0, std430) writeonly buffer Y { vec4 y[]; };
layout(push_constant, std430) uniform Push { l2d_ceiling_params p; };

void main()
{
    uint item = flat_invocation();
    vec4 x[L2D_CEILING_CHAINS];
    for (uint i = 0u; i < L2D_CEILING_CHAINS; i++)
        x[i] = vec4(float(item + i));
    for (uint r = 0u; r < p.rounds; r++)
        for (uint u = 0u; u < L2D_CEILING_UNROLL; u++)
            for (uint i = 0u; i < L2D_CEILING_CHAINS; i++)
                x[i] = x[i] * p.a + p.b;    // fma() is a function call on CPU drivers
    vec4 sum = vec4(0.0);
    for (uint i = 0u; i < L2D_CEILING_CHAINS; i++)
        sum += x[i];
    if (item < p.count)
        y[item] = sum;
}
