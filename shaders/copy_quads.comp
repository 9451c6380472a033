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
    uint item = flat_invocation(), row = item / p.count, i = item % p.count;
    if (row < p.num_rows)
        y[row * p.to_row + p.to + i] = STORE4(LOAD4(x[row * p.from_row + p.from + i]));
}
