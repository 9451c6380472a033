// SPDX-License-Identifier: Apache-2.0
// One level of the luminance pyramid of the frame that comes in: of the canvas, or the means of
// 2x2 pixels of the finer level, whose edges repeat.
#version 460
#extension GL_GOOGLE_include_directive : require
#include "lib/flat.glsl"
#include "lib/luma.glsl"
#include "params/steady.h"

layout(binding = 0, std430) readonly buffer Canvas { vec4 canvas[]; };
layout(binding = 1, std430) readonly buffer Params { l2d_steady_params s; };
layout(binding = 2, std430) buffer Lumas { float luma[]; };
layout(push_constant, std430) uniform Push { l2d_pyramid_params p; };

#include "lib/pyramid.glsl"

void main()
{
    uint item = flat_invocation(), row = s.incoming * p.row;
    if (item >= p.w * p.h)
        return;
    if (p.from_w == 0u) {
        luma[row + item] = 255.0 * luma_of(canvas[item]);
        return;
    }
    ivec2 size = ivec2(p.from_w, p.from_h), at = 2 * ivec2(item % p.w, item / p.w);
    float sum = 0.0;
    for (int i = 0; i < 4; i++)
        sum += luma_at(row + p.from, size, at + ivec2(i & 1, i >> 1));
    luma[row + p.first + item] = 0.25 * sum;
}
