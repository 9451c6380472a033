// SPDX-License-Identifier: Apache-2.0
// GroupNorm for CPU drivers, in one go: the groups that QUADS quads of channels hold, whole ones,
// by one subgroup. Lanes take pixels, a quad at a time: two passes for the statistics of channels,
// which are put together to groups, and one that applies them. See group_norm_apply.comp.
#version 460
#extension GL_GOOGLE_include_directive : require
#extension GL_KHR_shader_subgroup_basic : require
#extension GL_KHR_shader_subgroup_arithmetic : require
#include "lib/precision.glsl"
#include "params/norm.h"

layout(local_size_x_id = 0) in;                 // one subgroup
layout(constant_id = 1) const uint QUADS = 1;
layout(constant_id = 2) const uint WIDTH = 4;   // channels of a group
layout(constant_id = 3) const uint ACT = 0;     // enum l2d_act: none, SiLU, ReLU
layout(constant_id = 4) const uint RESIDUAL = 0;
IN_QUADS(0, x)
IN_QUADS(1, x2)
IN_QUADS_F32(2, weight)
IN_QUADS_F32(3, bias)
IN_QUADS(4, residual)
layout(binding = 5, std430) writeonly buffer Y { OUT4 y[]; };
layout(push_constant, std430) uniform Push { l2d_group_norm_params p; };

#include "lib/activate.glsl"

const uint GROUPS = 4u * QUADS / WIDTH;

shared vec2 found[4 * QUADS];                   // of a channel: mean, sum of squared differences
shared vec2 group[GROUPS];                      // mean, 1/deviation

vec4 input_quad(uint row, uint pixel, uint quad)
{
    uint q0 = p.c0 / 4u, q1 = p.c1 / 4u, at = row * p.pixels + pixel;
    return quad < q0 ? FETCH4(x, at * q0 + quad) : FETCH4(x2, at * q1 + quad - q0);
}

// The second pass also gathers what the mean's own rounding left over.
void see_quad(uint row, uint quad, uint at)
{
    uint lane = gl_LocalInvocationID.x;
    vec4 sum = vec4(0.0), squares = vec4(0.0), rest = vec4(0.0);
    for (uint pixel = lane; pixel < p.pixels; pixel += gl_WorkGroupSize.x)
        sum += input_quad(row, pixel, quad);
    float count = float(p.pixels);
    vec4 mean = subgroupAdd(sum) / count;
    for (uint pixel = lane; pixel < p.pixels; pixel += gl_WorkGroupSize.x) {
        vec4 d = input_quad(row, pixel, quad) - mean;
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

void apply(uint row, uint quad, uint at)
{
    uint quads = (p.c0 + p.c1) / 4u;
    vec4 mean, scale = FETCH4_F32(weight, quad), shift = FETCH4_F32(bias, quad);
    for (uint i = 0u; i < 4u; i++) {
        vec2 g = group[(at + i) / WIDTH];
        mean[i] = g.x;
        scale[i] *= g.y;
    }
    for (uint pixel = gl_LocalInvocationID.x; pixel < p.pixels; pixel += gl_WorkGroupSize.x) {
        uint to = (row * p.pixels + pixel) * quads + quad;
        vec4 v = (input_quad(row, pixel, quad) - mean) * scale + shift;
        if (RESIDUAL != 0u)
            v += FETCH4(residual, to);
        y[to] = STORE4(activate(v));
    }
}

void main()
{
    uint row = gl_WorkGroupID.y, first = gl_WorkGroupID.x * QUADS;
    for (uint i = 0u; i < QUADS; i++)
        see_quad(row, first + i, 4u * i);
    subgroupMemoryBarrierShared();
    subgroupBarrier();
    for (uint g = gl_LocalInvocationID.x; g < GROUPS; g += gl_WorkGroupSize.x)
        group[g] = mean_and_scale(g * WIDTH);
    subgroupMemoryBarrierShared();
    subgroupBarrier();
    for (uint i = 0u; i < QUADS; i++)
        apply(row, first + i, 4u * i);
}
