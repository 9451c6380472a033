// SPDX-License-Identifier: Apache-2.0
// A picture enlarged by cubics: what lies between its pixels is smooth, and its edges stay sharp.
// Beyond its border the outermost pixels repeat.
#version 460
#extension GL_GOOGLE_include_directive : require
#include "lib/flat.glsl"
#include "lib/precision.glsl"
#include "lib/cubic.glsl"
#include "params/image.h"

IN_QUADS_F32(0, picture)
layout(binding = 1, std430) writeonly buffer Enlarged { vec4 enlarged[]; };
layout(push_constant, std430) uniform Push { l2d_enlarge_params p; };

void main()
{
    uint item = flat_invocation();
    if (item >= p.ow * p.oh)
        return;
    ivec2 size = ivec2(p.w, p.h);
    vec2 at = vec2(item % p.ow, item / p.ow) + 0.5;
    vec2 from = at * vec2(size) / vec2(p.ow, p.oh) - 0.5;
    ivec2 lo = ivec2(floor(from));
    vec4 wx = catmull_rom(from.x - float(lo.x)), wy = catmull_rom(from.y - float(lo.y));
    vec4 sum = vec4(0.0);
    for (int i = 0; i < 16; i++) {
        ivec2 tap = clamp(lo + ivec2(i & 3, i >> 2) - 1, ivec2(0), size - 1);
        sum += wx[i & 3] * wy[i >> 2] * FETCH4_F32(picture, tap.y * size.x + tap.x);
    }
    enlarged[item] = vec4(clamp(sum.xyz, -1.0, 1.0), 0.0);
}
