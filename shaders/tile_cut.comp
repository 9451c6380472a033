// SPDX-License-Identifier: Apache-2.0
// A tile of each row of x.
#version 460
#extension GL_GOOGLE_include_directive : require
#include "lib/precision.glsl"
#include "lib/flat.glsl"
#include "params/tile.h"

layout(binding = 0, std430) readonly buffer X { IN4 x[]; };
layout(binding = 1, std430) writeonly buffer Y { OUT4 y[]; };
layout(push_constant, std430) uniform Push { l2d_tile_params p; };

void main()
{
    uint item = flat_invocation();
    if (item >= p.num_rows * p.h * p.w * p.quads)
        return;
    uint quad = item % p.quads, pixel = item / p.quads;
    uint row = pixel / (p.w * p.h), at_x = p.left + pixel % p.w, at_y = p.top + pixel / p.w % p.h;
    y[item] = STORE4(LOAD4(x[((row * p.whole_h + at_y) * p.whole_w + at_x) * p.quads + quad]));
}
