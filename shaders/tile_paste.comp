// SPDX-License-Identifier: Apache-2.0
// A tile into each row of y. What it shares with the tiles left of and above it, which are there
// already, is added to them, with weights that fade linearly and are 1 together.
#version 460
#extension GL_GOOGLE_include_directive : require
#include "lib/precision.glsl"
#include "lib/flat.glsl"
#include "params/tile.h"

layout(binding = 0, std430) readonly buffer X { IN4 x[]; };
layout(binding = 1, std430) buffer Y { OUT4 y[]; };
layout(push_constant, std430) uniform Push { l2d_tile_params p; };

// Of pixel at of n.
float weight(uint at, uint n, uint fade_before, uint fade_behind)
{
    float w = at < fade_before ? (float(at) + 0.5) / float(fade_before) : 1.0;
    uint left = n - at;
    return left <= fade_behind ? w * (float(left) - 0.5) / float(fade_behind) : w;
}

void main()
{
    uint item = flat_invocation();
    if (item >= p.num_rows * p.h * p.w * p.quads)
        return;
    uint quad = item % p.quads, pixel = item / p.quads;
    uint row = pixel / (p.w * p.h), at_x = pixel % p.w, at_y = pixel / p.w % p.h;
    uint to = ((row * p.whole_h + p.top + at_y) * p.whole_w + p.left + at_x) * p.quads + quad;
    vec4 v = LOAD4(x[item]) * (weight(at_x, p.w, p.fade_left, p.fade_right) *
                               weight(at_y, p.h, p.fade_top, p.fade_bottom));
    if (at_x < p.fade_left || at_y < p.fade_top)
        v += STORED4(y[to]);
    y[to] = STORE4(v);
}
