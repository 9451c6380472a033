// SPDX-License-Identifier: Apache-2.0
// A run of values from one place to another: parts of token lists.
#version 460
#extension GL_GOOGLE_include_directive : require
#include "lib/precision.glsl"
#include "lib/flat.glsl"
#include "params/map.h"

layout(binding = 0, std430) readonly buffer X { IN4 x[]; };
layout(binding = 1, std430) writeonly buffer Y { OUT4 y[]; };
layout(push_constant, std430) uniform Push { l2d_copy_params p; };

void main()
{
    uint item = flat_invocation();
    if (item < p.count)
        y[p.to + item] = STORE4(LOAD4(x[p.from + item]));
}
