// SPDX-License-Identifier: Apache-2.0
// Maximum over 3x3 with stride 2, padded as TensorFlow's SAME: with an even side 0 in front and 1
// behind, with an odd one 1 and 1. The centre of a window is always inside.
#version 460
#extension GL_GOOGLE_include_directive : require
#include "lib/precision.glsl"
#include "lib/flat.glsl"
#include "params/map.h"

layout(binding = 0, std430) readonly buffer X { IN4 x[]; };
layout(binding = 1, std430) writeonly buffer Y { OUT4 y[]; };
layout(push_constant, std430) uniform Push { l2d_map_params p; };

void main()
{
    uint item = flat_invocation();
    if (item >= p.num_rows * p.oh * p.ow * p.quads)
        return;
    uint quad = item % p.quads, pixel = item / p.quads;
    uint first = pixel / (p.oh * p.ow) * p.h * p.w;
    ivec2 size = ivec2(p.w, p.h);
    ivec2 from = 2 * ivec2(pixel % p.ow, pixel / p.ow % p.oh) - (size & 1);
    vec4 most = vec4(-3.40282347e38);
    for (int dy = 0; dy < 3; dy++)
        for (int dx = 0; dx < 3; dx++) {
            ivec2 at = clamp(from + ivec2(dx, dy), ivec2(0), size - 1);     // repeats, no more
            most = max(most, LOAD4(x[(first + uint(at.y) * p.w + uint(at.x)) * p.quads + quad]));
        }
    y[item] = STORE4(most);
}
