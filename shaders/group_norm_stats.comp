// SPDX-License-Identifier: Apache-2.0
// GroupNorm, 1 of 2: mean and 1/deviation of each (group, row), by one workgroup, in two passes.
// Groups of 2, 3 or 5 channels do not align with vec4, so channels are read singly.
#version 460
#extension GL_GOOGLE_include_directive : require
#include "lib/precision.glsl"
#include "params/norm.h"

layout(local_size_x_id = 0) in;             // a power of 2, at most 256
layout(binding = 0, std430) readonly buffer X { T x[]; };
layout(binding = 1, std430) readonly buffer X2 { T x2[]; };
layout(binding = 2, std430) writeonly buffer Stats { vec2 stats[]; };
layout(push_constant, std430) uniform Push { l2d_group_norm_params p; };

shared float part[256];

float total(float value)
{
    uint lane = gl_LocalInvocationID.x;
    part[lane] = value;
    barrier();
    for (uint half_size = gl_WorkGroupSize.x / 2u; half_size > 0u; half_size /= 2u) {
        if (lane < half_size)
            part[lane] += part[lane + half_size];
        barrier();
    }
    float sum = part[0];
    barrier();
    return sum;
}

float load(uint pixel, uint channel)
{
    return channel < p.c0 ? float(x[pixel * p.c0 + channel])
                          : float(x2[pixel * p.c1 + channel - p.c0]);
}

// Of channels first to before end.
vec2 mean_and_scale(uint row, uint first, uint end)
{
    uint lane = gl_LocalInvocationID.x;
    float count = float((end - first) * p.pixels), sum = 0.0;
    for (uint pixel = lane; pixel < p.pixels; pixel += gl_WorkGroupSize.x)
        for (uint c = first; c < end; c++)
            sum += load(row * p.pixels + pixel, c);
    float mean = total(sum) / count;

    // The second pass also gathers what the mean's own rounding left over.
    float squares = 0.0, rest = 0.0;
    for (uint pixel = lane; pixel < p.pixels; pixel += gl_WorkGroupSize.x)
        for (uint c = first; c < end; c++) {
            float d = load(row * p.pixels + pixel, c) - mean;
            squares += d * d;
            rest += d;
        }
    rest = total(rest) / count;
    float variance = max(0.0, total(squares) / count - rest * rest);
    return vec2(mean + rest, 1.0 / sqrt(variance + p.eps));
}

void main()
{
    uint group = gl_WorkGroupID.x, row = gl_WorkGroupID.y, width = (p.c0 + p.c1) / p.groups;
    vec2 found = mean_and_scale(row, group * width, group * width + width);
    if (gl_LocalInvocationID.x == 0u)
        stats[row * p.groups + group] = found;
}
