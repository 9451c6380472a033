// SPDX-License-Identifier: Apache-2.0
// GroupNorm, 2 of 2: scale and shift of each channel, a residual, then the activation. An
// invocation keeps the factors of four channels and walks through some pixels.
#version 460
#extension GL_GOOGLE_include_directive : require
#include "lib/precision.glsl"
#include "params/norm.h"

layout(local_size_x_id = 0) in;
layout(constant_id = 1) const uint ACT = 0;     // enum l2d_act: none, SiLU, ReLU
layout(constant_id = 2) const uint RESIDUAL = 0;
layout(constant_id = 3) const uint PARTS = 0;   // that a group's statistics come in; 0: finished
IN_QUADS(0, x)
IN_QUADS(1, x2)
layout(binding = 2, std430) readonly buffer Stats { vec2 stats[]; };
IN_QUADS_F32(3, weight)
IN_QUADS_F32(4, bias)
IN_QUADS(5, residual)
layout(binding = 6, std430) writeonly buffer Y { OUT4 y[]; };
layout(push_constant, std430) uniform Push { l2d_group_norm_params p; };

#include "lib/activate.glsl"

// Mean and 1/deviation. The squares of parts are of differences from their own means. Means are
// added up as differences from the first, which rounds less.
vec2 group_stats(uint row, uint group, uint width)
{
    if (PARTS == 0u)
        return stats[row * p.groups + group];
    uint first = row * PARTS * p.groups + group, last = p.pixels - (PARTS - 1u) * p.part_pixels;
    float base = stats[first].x, sum = 0.0, squares = 0.0;
    for (uint i = 1u; i < PARTS; i++)
        sum += (stats[first + i * p.groups].x - base) *
               float(i + 1u < PARTS ? p.part_pixels : last);
    float mean = base + sum / float(p.pixels);
    for (uint i = 0u; i < PARTS; i++) {
        vec2 part = stats[first + i * p.groups];
        float d = part.x - mean, pixels = float(i + 1u < PARTS ? p.part_pixels : last);
        squares += part.y + d * d * pixels * float(width);
    }
    return vec2(mean, 1.0 / sqrt(squares / float(p.pixels * width) + p.eps));
}

void main()
{
    uint q0 = p.c0 / 4u, q1 = p.c1 / 4u, quads = q0 + q1;
    uint item = gl_GlobalInvocationID.x, row = gl_WorkGroupID.y;
    uint quad = item % quads, pixel = item / quads * p.pixels_per_item;
    if (pixel >= p.pixels)
        return;

    uint width = (p.c0 + p.c1) / p.groups;
    uvec4 group = (quad * 4u + uvec4(0u, 1u, 2u, 3u)) / width;
    vec2 s0 = group_stats(row, group.x, width), s1 = s0, s2 = s0, s3 = s0;
    if (PARTS == 0u || group.x != group.w) {
        s3 = group_stats(row, group.w, width);
        s1 = s2 = s3;
        if (PARTS == 0u || group.y != group.w)
            s1 = PARTS != 0u && group.y == group.x ? s0 : group_stats(row, group.y, width);
        if (PARTS == 0u || group.z != group.w)
            s2 = PARTS != 0u && group.z == group.x ? s0 : group_stats(row, group.z, width);
    }
    vec4 mean = vec4(s0.x, s1.x, s2.x, s3.x);
    vec4 scale = vec4(s0.y, s1.y, s2.y, s3.y) * FETCH4_F32(weight, quad);
    vec4 shift = FETCH4_F32(bias, quad);

    uint end = row * p.pixels + min(pixel + p.pixels_per_item, p.pixels);
    for (pixel += row * p.pixels; pixel < end; pixel++) {
        vec4 v;
        if (quad < q0)
            v = FETCH4(x, pixel * q0 + quad);
        else
            v = FETCH4(x2, pixel * q1 + quad - q0);
        v = (v - mean) * scale + shift;
        if (RESIDUAL != 0u)
            v += FETCH4(residual, pixel * quads + quad);
        y[pixel * quads + quad] = STORE4(activate(v));
    }
}
