// SPDX-License-Identifier: Apache-2.0
// Least and greatest depth of one map, or of the warm-up's, by one workgroup; then the range that
// is kept follows it.
#version 460
#extension GL_GOOGLE_include_directive : require
#include "lib/precision.glsl"
#include "params/depth.h"
#include "params/row.h"

layout(local_size_x_id = 0) in;             // a power of 2, at most 256
layout(binding = 0, std430) readonly buffer Maps { IN4 maps[]; };
layout(binding = 1, std430) readonly buffer Rows { l2d_row_params rows[]; };
layout(binding = 2, std430) buffer Range { vec4 range; };
layout(push_constant, std430) uniform Push { l2d_depth_range_params p; };

shared vec2 part[256];

void main()
{
    uint lane = gl_LocalInvocationID.x;
    uint first = p.all != 0u ? 0u : rows[0].ring * p.pixels;
    uint end = p.all != 0u ? uint(L2D_SINKS) * p.pixels : first + p.pixels;
    vec2 mine = vec2(3.40282347e38, -3.40282347e38);
    for (uint i = first + lane; i < end; i += gl_WorkGroupSize.x) {
        float depth = LOAD4(maps[i]).x;
        mine = vec2(min(mine.x, depth), max(mine.y, depth));
    }
    part[lane] = mine;
    barrier();
    for (uint half_size = gl_WorkGroupSize.x / 2u; half_size > 0u; half_size /= 2u) {
        if (lane < half_size) {
            vec2 other = part[lane + half_size];
            part[lane] = vec2(min(part[lane].x, other.x), max(part[lane].y, other.y));
        }
        barrier();
    }
    if (lane != 0u)
        return;
    vec4 old = range;
    bool follows = p.rate < 1.0 && old.z != 0.0;
    range = vec4(follows ? old.xy + p.rate * (part[0] - old.xy) : part[0], 1.0, 0.0);
}
