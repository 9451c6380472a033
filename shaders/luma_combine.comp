// SPDX-License-Identifier: Apache-2.0
// Luma structure, 3 of 3: local contrast against the bilinearly enlarged blur, on a fixed range.
#version 460
#extension GL_GOOGLE_include_directive : require
#include "lib/flat.glsl"
#include "lib/luma.glsl"
#include "params/luma.h"

layout(binding = 0, std430) readonly buffer Image { vec4 image[]; };
layout(binding = 1, std430) readonly buffer Blurred { float blurred[]; };
layout(binding = 2, std430) writeonly buffer Map { vec4 map[]; };
layout(push_constant, std430) uniform Push { l2d_luma_params p; };

void main()
{
    uint item = flat_invocation();
    if (item >= p.w * p.h)
        return;
    ivec2 last = ivec2(p.w, p.h) / L2D_LUMA_BLOCK - 1;
    vec2 at = (vec2(item % p.w, item / p.w) + 0.5) / float(L2D_LUMA_BLOCK) - 0.5;
    vec2 base = floor(at), f = at - base;
    ivec2 lo = clamp(ivec2(base), ivec2(0), last), hi = clamp(ivec2(base) + 1, ivec2(0), last);
    int bw = last.x + 1;
    float around = mix(mix(blurred[lo.y * bw + lo.x], blurred[lo.y * bw + hi.x], f.x),
                       mix(blurred[hi.y * bw + lo.x], blurred[hi.y * bw + hi.x], f.x), f.y);
    float y = luma_of(image[item]);
    float s = clamp(0.8 * (y - around) + 0.5 * y + 48.0 / 255.0, 0.0, 1.0);
    map[item] = vec4(vec3(2.0 * s - 1.0), 0.0);
}
