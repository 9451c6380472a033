// SPDX-License-Identifier: Apache-2.0
// A depth map as the codec takes pictures: its range on [-1,1], enlarged, in three equal channels.
#version 460
#extension GL_GOOGLE_include_directive : require
#include "lib/precision.glsl"
#include "lib/flat.glsl"
#include "lib/bilinear.glsl"
#include "params/depth.h"
#include "params/row.h"

layout(binding = 0, std430) readonly buffer Maps { IN4 maps[]; };
layout(binding = 1, std430) readonly buffer Rows { l2d_row_params rows[]; };
layout(binding = 2, std430) readonly buffer Range { vec4 range; };
layout(binding = 3, std430) writeonly buffer Picture { vec4 picture[]; };
layout(push_constant, std430) uniform Push { l2d_depth_structure_params p; };

float value_at(uint pixel)
{
    float depth = LOAD4(maps[rows[0].ring * p.side * p.side + pixel]).x, width = range.y - range.x;
    float m = width > L2D_DEPTH_NO_RANGE ? (depth - range.x) / width : 0.0;
    return 2.0 * clamp(m, 0.0, 1.0) - 1.0;
}

void main()
{
    uint item = flat_invocation();
    if (item >= p.w * p.h)
        return;
    tap2 tx = bilinear_taps(item % p.w, p.side, p.w, false);
    tap2 ty = bilinear_taps(item / p.w, p.side, p.h, false);
    uint lo = ty.lo * p.side, hi = ty.hi * p.side;
    float v = mix(mix(value_at(lo + tx.lo), value_at(lo + tx.hi), tx.f),
                  mix(value_at(hi + tx.lo), value_at(hi + tx.hi), tx.f), ty.f);
    picture[item] = vec4(vec3(v), 0.0);
}
