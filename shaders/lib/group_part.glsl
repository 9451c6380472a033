// SPDX-License-Identifier: Apache-2.0
// Mean and sum of squared differences of a group of channels over some pixels of a row, by one
// workgroup of a GPU. It keeps what it reads in registers, EACH loads an invocation, all on their
// way at once. A load has UNIT channels, as many as always lie in one group.
#extension GL_EXT_control_flow_attributes : require
#extension GL_KHR_shader_subgroup_basic : require
#extension GL_KHR_shader_subgroup_arithmetic : require
#include "lib/precision.glsl"
#include "params/norm.h"

layout(local_size_x_id = 0) in;                 // at most 512
layout(constant_id = 1) const uint UNIT = 4;    // 1, 2 or 4
layout(constant_id = 2) const uint WIDTH = 4;   // channels of a group
layout(constant_id = 3) const uint EACH = 1;
layout(push_constant, std430) uniform Push { l2d_group_norm_params p; };

#if L2D_F16
#define PAIR    uint
#define LOAD2(v) unpackHalf2x16(v)
#define STORE2(v) f16vec2(v)
#define OUT2 f16vec2
#else
#define PAIR    vec2
#define LOAD2(v) (v)
#define STORE2(v) (v)
#define OUT2 vec2
#endif

// The same memory in units of each size.
layout(binding = 0, std430) readonly buffer XQuads { IN4 x_quads[]; };
layout(binding = 0, std430) readonly buffer XPairs { PAIR x_pairs[]; };
layout(binding = 0, std430) readonly buffer X { T x[]; };
layout(binding = 1, std430) readonly buffer X2Quads { IN4 x2_quads[]; };
layout(binding = 1, std430) readonly buffer X2Pairs { PAIR x2_pairs[]; };
layout(binding = 1, std430) readonly buffer X2 { T x2[]; };

const uint UNITS = WIDTH / UNIT;

shared vec2 part[512];                          // of a subgroup each
vec4 kept[EACH];                                // zero beyond UNIT, and beyond the last pixel

vec4 load(uint pixel, uint channel)
{
    bool second = channel >= p.c0;
    uint at = second ? pixel * p.c1 + channel - p.c0 : pixel * p.c0 + channel;
    if (UNIT == 4u)
        return second ? LOAD4(x2_quads[at / 4u]) : LOAD4(x_quads[at / 4u]);
    if (UNIT == 2u)
        return vec4(second ? LOAD2(x2_pairs[at / 2u]) : LOAD2(x_pairs[at / 2u]), 0.0, 0.0);
    return vec4(second ? float(x2[at]) : float(x[at]), 0.0, 0.0, 0.0);
}

float sum_of(vec4 v)
{
    return (v.x + v.y) + (v.z + v.w);
}

vec2 total(vec2 value)
{
    value = subgroupAdd(value);
    if (subgroupElect())
        part[gl_SubgroupID] = value;
    barrier();
    vec2 sum = vec2(0.0);
    for (uint i = 0u; i < gl_NumSubgroups; i++)
        sum += part[i];
    barrier();
    return sum;
}

uint item_of(uint i)
{
    return i * gl_WorkGroupSize.x + gl_LocalInvocationID.x;
}

// Of channels first to first + WIDTH of pixels begin to before end.
vec2 mean_and_squares(uint first, uint begin, uint end)
{
    uint items = (end - begin) * UNITS;
    float count = float((end - begin) * WIDTH);
    vec4 sums = vec4(0.0);
    [[unroll]] for (uint i = 0u; i < EACH; i++) {
        uint item = item_of(i);
        kept[i] = vec4(0.0);
        if (item < items)
            kept[i] = load(begin + item / UNITS, first + item % UNITS * UNIT);
        sums += kept[i];
    }
    float mean = total(vec2(sum_of(sums), 0.0)).x / count;

    // The second pass also gathers what the mean's own rounding left over.
    vec4 squares = vec4(0.0), rests = vec4(0.0);
    vec4 real = vec4(lessThan(uvec4(0u, 1u, 2u, 3u), uvec4(UNIT)));
    [[unroll]] for (uint i = 0u; i < EACH; i++) {
        vec4 d = item_of(i) < items ? (kept[i] - mean) * real : vec4(0.0);
        squares += d * d;
        rests += d;
    }
    vec2 both = total(vec2(sum_of(squares), sum_of(rests)));
    float rest = both.y / count;
    return vec2(mean + rest, max(0.0, both.x - rest * rest * count));
}
