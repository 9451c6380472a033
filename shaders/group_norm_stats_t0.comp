// SPDX-License-Identifier: Apache-2.0
// GroupNorm, 1 of 2, for CPU drivers: mean and 1/deviation of the groups that QUADS quads of
// channels hold, whole ones, by one subgroup. Lanes take pixels, a quad at a time, in two passes;
// channels are put together to groups in the end.
#version 460
#extension GL_GOOGLE_include_directive : require
#extension GL_KHR_shader_subgroup_basic : require
#extension GL_KHR_shader_subgroup_arithmetic : require
#include "lib/precision.glsl"
#include "params/norm.h"

layout(local_size_x_id = 0) in;                 // one subgroup
layout(constant_id = 1) const uint QUADS = 1;
layout(constant_id = 2) const uint WIDTH = 4;   // channels of a group
IN_QUADS(0, x)
IN_QUADS(1, x2)
layout(binding = 2, std430) writeonly buffer Stats { vec2 stats[]; };
layout(push_constant, std430) uniform Push { l2d_group_norm_params p; };

shared vec2 found[4 * QUADS];                   // of a channel: mean, sum of squared differences

// The second pass also gathers what the mean's own rounding left over.
void see_quad(uint row, uint quad, uint at)
{
    uint lane = gl_LocalInvocationID.x, q0 = p.c0 / 4u, q1 = p.c1 / 4u;
    bool second = quad >= q0;
    uint step = second ? q1 : q0, first = row * p.pixels * step + (second ? quad - q0 : quad);
    vec4 sum = vec4(0.0), squares = vec4(0.0), rest = vec4(0.0);
    for (uint pixel = lane; pixel < p.pixels; pixel += gl_WorkGroupSize.x)
        sum += second ? FETCH4(x2, first + pixel * step) : FETCH4(x, first + pixel * step);
    float count = float(p.pixels);
    vec4 mean = subgroupAdd(sum) / count;
    for (uint pixel = lane; pixel < p.pixels; pixel += gl_WorkGroupSize.x) {
        vec4 d = second ? FETCH4(x2, first + pixel * step) : FETCH4(x, first + pixel * step);
        d -= mean;
        squares += d * d;
        rest += d;
    }
    rest = subgroupAdd(rest) / count;
    squares = max(vec4(0.0), subgroupAdd(squares) - rest * rest * count);
    if (lane == 0u)
        for (uint i = 0u; i < 4u; i++)
            found[at + i] = vec2(mean[i] + rest[i], squares[i]);
}

// Channels of a group, as differences from the first one's mean, which rounds less.
vec2 mean_and_scale(uint first)
{
    float base = found[first].x, sum = 0.0, squares = 0.0, count = float(p.pixels);
    for (uint i = 1u; i < WIDTH; i++)
        sum += found[first + i].x - base;
    float mean = base + sum / float(WIDTH);
    for (uint i = 0u; i < WIDTH; i++) {
        float d = found[first + i].x - mean;
        squares += found[first + i].y + d * d * count;
    }
    return vec2(mean, 1.0 / sqrt(squares / (count * float(WIDTH)) + p.eps));
}

void main()
{
    const uint GROUPS = 4u * QUADS / WIDTH;
    uint row = gl_WorkGroupID.y;
    for (uint i = 0u; i < QUADS; i++)
        see_quad(row, gl_WorkGroupID.x * QUADS + i, 4u * i);
    subgroupMemoryBarrierShared();
    subgroupBarrier();
    for (uint g = gl_LocalInvocationID.x; g < GROUPS; g += gl_WorkGroupSize.x)
        stats[row * p.groups + gl_WorkGroupID.x * GROUPS + g] = mean_and_scale(g * WIDTH);
}
